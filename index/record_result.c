/* SPDX-License-Identifier: MIT */
/*
 * record_result.c - results and their bytes.
 *
 * The fields in the order of struct result; lists with their count in front; outputs' paths
 * prefix-compressed; 64-bit times as u64, small numbers as LEB128, booleans gathered in one byte
 * (docs/format.md).
 */
#include <errno.h>
#include <string.h>

#include "record.h"

#define RESULT_VERSION 3 /* see docs/format.md */

enum { R_STRICT = 1, R_MERGED = 2, R_STDIN_EOF = 4, R_ALL = 7 };
enum {
	O_OWN = 1,
	O_MTIME_SET = 2,
	O_XATTRS = 4,
	O_IN_PLACE = 8,
	O_UNTOUCHED = 16,
	O_LISTED = 32,
	O_SPILLED = 64,
	O_AS_BEFORE = 128,
	O_ALL = 255
};

static void output_free(struct output *o)
{
	free(o->path);
	left_free(&o->now);
	left_free(&o->before);
	free(o->xattrs);
}

static int by_path(const void *path, const void *output)
{
	return strcmp(path, ((const struct output *)output)->path);
}

const struct output *result_output(const struct result *r, const char *path)
{
	return r->n_outputs ? bsearch(path, r->outputs, r->n_outputs, sizeof(*r->outputs), by_path)
			    : NULL;
}

void result_free(struct result *r)
{
	if (!r)
		return;
	free(r->name);
	strv_free(r->argv, r->argv ? r->n_argv : 0);
	free(r->cwd);
	free(r->env_note);
	free(r->chunks);
	for (size_t i = 0; r->outputs && i < r->n_outputs; i++)
		output_free(&r->outputs[i]);
	free(r->outputs);
	for (size_t i = 0; r->states && i < r->n_states; i++)
		buf_free(&r->states[i]);
	free(r->states);
	free(r->same);
	for (size_t i = 0; i < r->n_listings; i++)
		buf_free(&r->listings[i].names);
	free(r->listings);
	buf_free(&r->description);
	free(r);
}

/* ---- encode ---- */

static void encode_head(const struct result *r, struct buf *out)
{
	buf_u8(out, RESULT_VERSION);
	buf_add(out, r->input_key.b, sizeof(r->input_key.b));
	buf_add(out, r->step_key.b, sizeof(r->step_key.b));
	buf_add(out, r->path_set_id.b, sizeof(r->path_set_id.b));
	buf_u8(out, (uint8_t)((r->strict ? R_STRICT : 0) | (r->console_merged ? R_MERGED : 0) |
			      (r->stdin_eof ? R_STDIN_EOF : 0)));
	put_opt_str(out, r->name);
	buf_varint(out, r->n_argv);
	for (size_t i = 0; i < r->n_argv; i++)
		buf_str(out, r->argv[i]);
	put_opt_str(out, r->cwd);
	put_opt_str(out, r->env_note);
	buf_varint(out, (uint64_t)r->exit_status);
	buf_u64(out, (uint64_t)r->started_ns);
	buf_u64(out, (uint64_t)r->wall_ns);
	buf_u64(out, (uint64_t)r->stored_ns);
	buf_varint(out, r->n_inputs);
}

static void encode_streams(const struct result *r, struct buf *out)
{
	buf_add(out, r->console_oid.b, sizeof(r->console_oid.b));
	buf_varint(out, r->console_len);
	buf_varint(out, r->n_chunks);
	for (size_t i = 0; i < r->n_chunks; i++) {
		buf_u8(out, r->chunks[i].fd);
		buf_varint(out, r->chunks[i].len);
	}
	buf_u8(out, (uint8_t)r->stdin_kind);
	buf_varint(out, r->stdin_len);
	buf_add(out, r->stdin_fp.b, sizeof(r->stdin_fp.b));
	buf_add(out, r->stdin_oid.b, sizeof(r->stdin_oid.b));
}

const struct oid *result_stdin(const struct result *r)
{
	static const struct oid none;

	return r->stdin_kind == STDIN_UNUSED || !r->stdin_len || oid_eq(&r->stdin_oid, &none)
		       ? NULL
		       : &r->stdin_oid;
}

static void encode_output(const struct output *o, const char *prev, struct buf *out)
{
	put_path(out, prev, o->path);
	buf_u8(out, (uint8_t)((o->own ? O_OWN : 0) | (o->mtime_set ? O_MTIME_SET : 0) |
			      (o->xattrs ? O_XATTRS : 0) | (o->in_place ? O_IN_PLACE : 0) |
			      (o->untouched ? O_UNTOUCHED : 0) | (o->listed ? O_LISTED : 0) |
			      (o->spilled ? O_SPILLED : 0) | (o->as_before ? O_AS_BEFORE : 0)));
	left_encode(&o->now, out);
	left_encode(&o->before, out);
	if (o->now.type == OUT_FILE)
		buf_add(out, o->oid.b, sizeof(o->oid.b));
	buf_varint(out, o->uid);
	buf_varint(out, o->gid);
	buf_u64(out, (uint64_t)o->mtime_ns);
	buf_varint(out, o->link_group);
	buf_varint(out, o->linked_before);
	if (o->xattrs)
		buf_bytes(out, o->xattrs, o->n_xattrs);
}

static void encode_same(const struct result *r, struct buf *out)
{
	buf_varint(out, r->n_same);
	for (size_t i = 0; i < r->n_same; i++) {
		buf_varint(out, r->same[i].a);
		buf_varint(out, r->same[i].b);
	}
}

void result_encode(const struct result *r, struct buf *out)
{
	encode_head(r, out);
	encode_streams(r, out);
	buf_varint(out, r->n_outputs);
	for (size_t i = 0; i < r->n_outputs; i++)
		encode_output(&r->outputs[i], i ? r->outputs[i - 1].path : NULL, out);
	encode_same(r, out);
	buf_varint(out, r->n_states);
	for (size_t i = 0; i < r->n_states; i++)
		buf_bytes(out, r->states[i].data, r->states[i].len);
}

struct fp input_key_own(const struct fp *key, const struct result *r)
{
	auto_buf struct buf b = {0};

	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *o = &r->outputs[i];

		if (!o->linked_before && (!o->own || o->before.type == OUT_ABSENT))
			continue;
		buf_str(&b, o->path);
		left_encode(&o->before, &b);
		buf_varint(&b, o->linked_before);
	}
	if (r->n_same)
		encode_same(r, &b);
	if (!b.len)
		return *key;
	buf_add(&b, key->b, sizeof(key->b));
	return fp_of(b.data, b.len);
}

/* ---- decode ---- */

static uint32_t get_u32(struct cur *c)
{
	uint64_t v = cur_varint(c);

	if (v > UINT32_MAX)
		c->bad = true;
	return (uint32_t)v;
}

static uint8_t get_flags(struct cur *c, uint8_t all)
{
	uint8_t v = cur_u8(c);

	if (v & ~all)
		c->bad = true;
	return v;
}

static void decode_head(struct cur *c, struct result *r)
{
	uint8_t flags;
	size_t n;

	get_raw(c, r->input_key.b, sizeof(r->input_key.b));
	get_raw(c, r->step_key.b, sizeof(r->step_key.b));
	get_raw(c, r->path_set_id.b, sizeof(r->path_set_id.b));
	flags = get_flags(c, R_ALL);
	r->strict = flags & R_STRICT;
	r->console_merged = flags & R_MERGED;
	r->stdin_eof = flags & R_STDIN_EOF;
	r->name = get_opt_str(c);
	n = get_count(c, 1);
	r->argv = xcalloc(n + 1, sizeof(*r->argv)); /* NULL at its end, as exec wants it */
	for (r->n_argv = 0; !c->bad && r->n_argv < n; r->n_argv++)
		r->argv[r->n_argv] = cur_str(c);
	r->cwd = get_opt_str(c);
	r->env_note = get_opt_str(c);
	n = cur_varint(c);
	if (n > 255)
		c->bad = true;
	r->exit_status = (int)(n & 255);
	r->started_ns = (int64_t)cur_u64(c);
	r->wall_ns = (int64_t)cur_u64(c);
	r->stored_ns = (int64_t)cur_u64(c);
	r->n_inputs = cur_varint(c);
}

static void decode_streams(struct cur *c, struct result *r)
{
	uint64_t sum = 0;
	uint8_t kind;
	size_t n;

	get_raw(c, r->console_oid.b, sizeof(r->console_oid.b));
	r->console_len = cur_varint(c);
	n = get_count(c, 2);
	r->chunks = n ? xcalloc(n, sizeof(*r->chunks)) : NULL;
	for (r->n_chunks = 0; !c->bad && r->n_chunks < n; r->n_chunks++) {
		struct console_chunk *chunk = &r->chunks[r->n_chunks];

		chunk->fd = cur_u8(c);
		chunk->len = get_u32(c);
		sum += chunk->len;
		if (chunk->fd != 1 && chunk->fd != 2)
			c->bad = true;
	}
	/* Who replays the chunks goes through the object by these lengths. */
	if (sum != r->console_len)
		c->bad = true;
	kind = cur_u8(c);
	if (kind > STDIN_BYTES)
		c->bad = true;
	r->stdin_kind = kind == STDIN_BYTES ? STDIN_BYTES : STDIN_UNUSED;
	r->stdin_len = cur_varint(c);
	get_raw(c, r->stdin_fp.b, sizeof(r->stdin_fp.b));
	get_raw(c, r->stdin_oid.b, sizeof(r->stdin_oid.b));
}

static void decode_output(struct cur *c, const char *prev, size_t *budget, struct output *o)
{
	const void *xattrs;
	uint8_t flags;

	o->path = get_path(c, prev, budget);
	flags = get_flags(c, O_ALL);
	o->own = flags & O_OWN;
	o->mtime_set = flags & O_MTIME_SET;
	o->in_place = flags & O_IN_PLACE;
	o->untouched = flags & O_UNTOUCHED;
	o->listed = flags & O_LISTED;
	o->spilled = flags & O_SPILLED;
	o->as_before = flags & O_AS_BEFORE;
	left_decode(c, &o->now);
	left_decode(c, &o->before);
	if (o->now.type == OUT_FILE)
		get_raw(c, o->oid.b, sizeof(o->oid.b));
	o->uid = get_u32(c);
	o->gid = get_u32(c);
	o->mtime_ns = (int64_t)cur_u64(c);
	o->link_group = get_u32(c);
	o->linked_before = get_u32(c);
	if (!(flags & O_XATTRS))
		return;
	xattrs = cur_bytes(c, &o->n_xattrs);
	o->xattrs = xmalloc(o->n_xattrs);
	if (o->n_xattrs)
		memcpy(o->xattrs, xattrs, o->n_xattrs);
}

static void decode_outputs(struct cur *c, size_t *budget, struct result *r)
{
	size_t n = get_count(c, 17); /* an absent one at its smallest */

	r->outputs = n ? xcalloc(n, sizeof(*r->outputs)) : NULL;
	while (!c->bad && r->n_outputs < n) {
		const char *prev = r->n_outputs ? r->outputs[r->n_outputs - 1].path : NULL;

		decode_output(c, prev, budget, &r->outputs[r->n_outputs++]);
	}
}

static void decode_same(struct cur *c, struct result *r)
{
	size_t n = get_count(c, 2);

	r->same = n ? xcalloc(n, sizeof(*r->same)) : NULL;
	for (r->n_same = 0; !c->bad && r->n_same < n; r->n_same++) {
		struct same_file *s = &r->same[r->n_same];

		s->a = get_u32(c);
		s->b = get_u32(c);
		if (s->a >= s->b)
			c->bad = true;
	}
}

static void decode_states(struct cur *c, bool brief, struct result *r)
{
	size_t n = get_count(c, 1);

	if (brief) {
		for (size_t len; !c->bad && n > 0; n--)
			(void)cur_bytes(c, &len);
		return;
	}
	r->states = n ? xcalloc(n, sizeof(*r->states)) : NULL;
	for (r->n_states = 0; !c->bad && r->n_states < n; r->n_states++) {
		size_t len;
		const void *p = cur_bytes(c, &len);

		if (len)
			buf_add(&r->states[r->n_states], p, len);
		buf_shrink(&r->states[r->n_states]); /* there may be very many */
	}
}

bool result_is_earlier(const void *p, size_t n)
{
	const uint8_t *b = p;

	return n && b[0] > 0 && b[0] < RESULT_VERSION;
}

static int decode(const void *p, size_t n, bool brief, struct result **ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	size_t budget = path_budget(n);
	struct result *r;

	if (cur_u8(&c) != RESULT_VERSION)
		return -EBADMSG;
	r = xcalloc(1, sizeof(*r));
	decode_head(&c, r);
	if (!c.bad)
		decode_streams(&c, r);
	if (!c.bad)
		decode_outputs(&c, &budget, r);
	if (!c.bad)
		decode_same(&c, r);
	if (!c.bad)
		decode_states(&c, brief, r);
	if (c.bad || c.p != c.end) {
		result_free(r);
		return -EBADMSG;
	}
	*ret = r;
	return 0;
}

int result_decode(const void *p, size_t n, struct result **ret)
{
	return decode(p, n, false, ret);
}

int result_decode_brief(const void *p, size_t n, struct result **ret)
{
	return decode(p, n, true, ret);
}

/* ---- parts alone ---- */

static const void *see_opt(struct cur *c, size_t *ret_n)
{
	uint8_t there = cur_u8(c);

	if (there > 1)
		c->bad = true;
	*ret_n = 0;
	return there == 1 ? cur_bytes(c, ret_n) : "";
}

static void see_head(struct cur *c, struct idx_head *h)
{
	size_t len;

	if (cur_u8(c) != RESULT_VERSION)
		c->bad = true;
	get_raw(c, h->input_key.b, sizeof(h->input_key.b));
	get_raw(c, h->step_key.b, sizeof(h->step_key.b));
	get_raw(c, h->path_set_id.b, sizeof(h->path_set_id.b));
	(void)get_flags(c, R_ALL);
	h->name = see_opt(c, &h->n_name);
	for (size_t k = get_count(c, 1); !c->bad && k; k--)
		(void)cur_bytes(c, &len);
	(void)see_opt(c, &len); /* directory, environment */
	(void)see_opt(c, &len);
	h->exit_status = (int)(cur_varint(c) & 255);
	h->started_ns = (int64_t)cur_u64(c);
	h->wall_ns = (int64_t)cur_u64(c);
	h->stored_ns = (int64_t)cur_u64(c);
}

int result_head(const void *p, size_t n, struct idx_head *ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	struct idx_head h = {0};

	see_head(&c, &h);
	if (c.bad)
		return -EBADMSG;
	*ret = h;
	return 0;
}

static void skip(struct cur *c, size_t n)
{
	if (c->bad || (size_t)(c->end - c->p) < n)
		c->bad = true;
	else
		c->p += n;
}

static void skip_streams(struct cur *c)
{
	skip(c, sizeof(struct oid));
	(void)cur_varint(c);
	for (size_t k = get_count(c, 2); !c->bad && k; k--) {
		skip(c, 1);
		(void)cur_varint(c);
	}
	skip(c, 1);
	(void)cur_varint(c);
	skip(c, sizeof(struct fp) + sizeof(struct oid));
}

static void skip_outputs(struct cur *c)
{
	struct left now, before;
	size_t len;

	for (size_t k = get_count(c, 17); !c->bad && k; k--) {
		uint8_t flags;

		(void)cur_varint(c); /* path */
		(void)cur_bytes(c, &len);
		flags = cur_u8(c);
		left_decode(c, &now);
		left_decode(c, &before);
		skip(c, now.type == OUT_FILE ? sizeof(struct oid) : 0);
		left_free(&now);
		left_free(&before);
		(void)cur_varint(c); /* owner */
		(void)cur_varint(c);
		skip(c, 8);
		(void)cur_varint(c); /* links */
		(void)cur_varint(c);
		if (flags & O_XATTRS)
			(void)cur_bytes(c, &len);
	}
}

int result_states(const void *p, size_t n, struct result_states *ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false}, to;
	struct idx_head h = {0};
	size_t len;

	see_head(&c, &h);
	(void)cur_varint(&c); /* inputs */
	skip_streams(&c);
	skip_outputs(&c);
	for (size_t k = get_count(&c, 2); !c.bad && k; k--) { /* that are one file */
		(void)cur_varint(&c);
		(void)cur_varint(&c);
	}
	*ret = (struct result_states){h.path_set_id, h.stored_ns, get_count(&c, 1), c};
	to = c;
	for (size_t k = ret->n; !to.bad && k; k--)
		(void)cur_bytes(&to, &len);
	return to.bad || to.p != to.end ? -EBADMSG : 0;
}
