/* SPDX-License-Identifier: MIT */
/*
 * runs_record.c - the bytes of one run in the journal.
 *
 * record: "RUN1", length of payload (u32), XXH3-64 of payload (u64), payload (docs/format.md)
 */
#include <errno.h>
#include <string.h>

#include "record.h"
#include "runs.h"

#define MAGIC	 "RUN1"
#define MAX_TEXT 4096 /* of one field, and of all words of the command: it is for people */
#define VERSION	 2

/* ---- writing ---- */

static void put_text(struct buf *out, const char *s)
{
	auto_free char *cut = s ? xstrndup(s, MAX_TEXT) : NULL;

	put_opt_str(out, cut);
}

/* Words as long as there is room, the last of them cut. True: some of it is missing. */
static bool put_argv(struct buf *out, const struct run *r)
{
	auto_buf struct buf words = {0};
	size_t n = 0;
	bool cut = false;

	for (; n < r->n_argv && words.len < MAX_TEXT; n++) {
		size_t len = strlen(r->argv[n]), room = MAX_TEXT - words.len;

		cut = len > room;
		buf_bytes(&words, r->argv[n], cut ? room : len);
	}
	buf_varint(out, r->n_argv);
	buf_varint(out, n);
	buf_add(out, words.data, words.len);
	return cut;
}

static void put_payload(const struct run *r, struct buf *out)
{
	bool known = r->exit_status >= 0, cut;

	buf_u8(out, VERSION);
	buf_u64(out, (uint64_t)r->started_ns);
	buf_varint(out, r->wall_ns < 0 ? 0 : (uint64_t)r->wall_ns + 1);
	buf_varint(out, (uint64_t)r->saved_ns);
	put_text(out, r->name);
	put_text(out, r->reason);
	put_text(out, r->cwd);
	cut = put_argv(out, r);
	buf_u8(out, r->result);
	buf_u8(out, (uint8_t)((r->stored ? RUN_STORED : 0) | (known ? RUN_STATUS_KNOWN : 0) |
			      (cut ? RUN_ARGV_CUT : 0)));
	buf_u8(out, known ? (uint8_t)r->exit_status : 0);
	buf_varint(out, r->inputs);
	buf_varint(out, r->outputs);
	buf_varint(out, r->output_bytes);
	buf_varint(out, r->put_bytes);
	buf_varint(out, r->new_bytes);
	buf_add(out, r->step_key.b, sizeof(r->step_key.b));
	buf_add(out, r->input_key.b, sizeof(r->input_key.b));
}

void runs_encode(const struct run *r, struct buf *out)
{
	auto_buf struct buf payload = {0};

	put_payload(r, &payload);
	buf_add(out, MAGIC, 4);
	buf_u32(out, (uint32_t)payload.len);
	buf_u64(out, xxh64_of(payload.data, payload.len));
	buf_add(out, payload.data, payload.len);
}

/* ---- reading ---- */

size_t runs_record_at(const uint8_t *p, size_t left)
{
	struct cur c = {p + 4, p + left, false};
	uint32_t n;
	uint64_t guard;

	if (left < RUNS_HEAD_SIZE || memcmp(p, MAGIC, 4) != 0)
		return 0;
	n = cur_u32(&c);
	guard = cur_u64(&c);
	if (n > left - RUNS_HEAD_SIZE || xxh64_of(p + RUNS_HEAD_SIZE, n) != guard)
		return 0;
	return RUNS_HEAD_SIZE + n;
}

size_t runs_resync(const uint8_t *p, size_t n, size_t at)
{
	const uint8_t *next = at < n ? memchr(p + at, MAGIC[0], n - at) : NULL;

	return next ? (size_t)(next - p) : n;
}

static void view_bytes(struct cur *c, struct run_text *ret)
{
	ret->p = cur_bytes(c, &ret->n);
	if (ret->p && memchr(ret->p, '\0', ret->n))
		c->bad = true;
}

static void view_text(struct cur *c, struct run_text *ret)
{
	uint8_t there = cur_u8(c);

	*ret = (struct run_text){0};
	if (there > 1)
		c->bad = true;
	else if (there)
		view_bytes(c, ret);
}

/* Written by mlfs before it was released. */
static void view_v1(struct cur *c, struct run_view *v)
{
	v->wall_ns = (int64_t)cur_u64(c);
	v->saved_ns = (int64_t)cur_u64(c);
	view_text(c, &v->name);
	view_text(c, &v->reason);
	view_text(c, &v->command);
	v->result = cur_u8(c);
	v->flags = (cur_u8(c) ? RUN_STORED : 0) | RUN_STATUS_KNOWN;
	v->exit_status = (uint8_t)cur_varint(c);
}

static void view_v2(struct cur *c, struct run_view *v)
{
	struct run_text word;
	uint64_t wall = cur_varint(c);

	v->wall_ns = (int64_t)wall - 1;
	v->saved_ns = (int64_t)cur_varint(c);
	view_text(c, &v->name);
	view_text(c, &v->reason);
	view_text(c, &v->cwd);
	v->argc = cur_varint(c);
	v->n_argv = get_count(c, 1);
	v->argv = *c;
	for (size_t i = 0; i < v->n_argv; i++)
		view_bytes(c, &word);
	v->argv.end = c->p;
	v->result = cur_u8(c);
	v->flags = cur_u8(c);
	v->exit_status = cur_u8(c);
	v->inputs = cur_varint(c);
	v->outputs = cur_varint(c);
	v->output_bytes = cur_varint(c);
	v->put_bytes = cur_varint(c);
	v->new_bytes = cur_varint(c);
	if (v->flags & ~RUN_FLAGS || v->n_argv > v->argc)
		c->bad = true;
}

bool runs_view(const uint8_t *record, size_t n, struct run_view *ret)
{
	struct cur c = {record + RUNS_HEAD_SIZE, record + n, false};
	uint8_t version = cur_u8(&c);
	struct run_view v = {.started_ns = (int64_t)cur_u64(&c)};

	if (version == 1)
		view_v1(&c, &v);
	else if (version == VERSION)
		view_v2(&c, &v);
	else
		return false;
	get_raw(&c, v.step_key.b, sizeof(v.step_key.b));
	get_raw(&c, v.input_key.b, sizeof(v.input_key.b));
	if (c.bad || c.p != c.end || v.result > RUN_UNCACHED)
		return false;
	*ret = v;
	return true;
}
