/* SPDX-License-Identifier: MIT */
/*
 * record.c - path sets and their bytes, input keys, and the pieces every record is made of.
 *
 * path set: version (u8), count, { shared prefix length, rest of path, kinds, count, { name }* }*
 * Numbers are LEB128 with one spelling each, strings have their length in front (docs/format.md).
 */
#include <errno.h>
#include <string.h>

#include "record.h"

#define PATH_SET_VERSION 1
#define INPUT_KEY_DOMAIN "mlfs input key 1"
#define PATH_ROOM	 256 /* for most paths */

/* ---- pieces ---- */

void put_path(struct buf *out, const char *prev, const char *path)
{
	size_t shared = 0;

	while (prev && prev[shared] && prev[shared] == path[shared])
		shared++;
	buf_varint(out, shared);
	buf_str(out, path + shared);
}

char *get_path(struct cur *c, const char *prev, size_t *budget)
{
	uint64_t shared = cur_varint(c);
	size_t n;
	const void *rest = cur_bytes(c, &n);
	char *path;

	if (c->bad || shared > (prev ? strlen(prev) : 0) || shared + n >= *budget ||
	    memchr(rest, '\0', n)) {
		c->bad = true;
		return NULL;
	}
	*budget -= (size_t)shared + n + 1;
	path = xmalloc((size_t)shared + n + 1);
	if (shared)
		memcpy(path, prev, (size_t)shared);
	memcpy(path + shared, rest, n);
	path[shared + n] = '\0';
	return path;
}

void put_opt_str(struct buf *out, const char *s)
{
	buf_u8(out, s != NULL);
	if (s)
		buf_str(out, s);
}

char *get_opt_str(struct cur *c)
{
	uint8_t there = cur_u8(c);

	if (there > 1)
		c->bad = true;
	return there == 1 ? cur_str(c) : NULL;
}

void get_raw(struct cur *c, void *to, size_t n)
{
	if (c->bad || (size_t)(c->end - c->p) < n) {
		c->bad = true;
		memset(to, 0, n);
		return;
	}
	memcpy(to, c->p, n);
	c->p += n;
}

size_t get_count(struct cur *c, size_t min)
{
	uint64_t n = cur_varint(c);

	if (c->bad || n > (size_t)(c->end - c->p) / min) {
		c->bad = true;
		return 0;
	}
	return (size_t)n;
}

/* ---- path sets ---- */

static void entry_free(struct path_entry *p)
{
	free(p->path);
	strv_free(p->excluded, p->n_excluded);
}

void path_set_free(struct path_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->paths_borrowed)
			s->v[i].path = NULL;
		entry_free(&s->v[i]);
	}
	free(s->v);
	*s = (struct path_set){0};
}

void path_set_encode(const struct path_set *s, struct buf *out)
{
	const char *prev = NULL;

	buf_u8(out, PATH_SET_VERSION);
	buf_varint(out, s->n);
	for (size_t i = 0; i < s->n; i++) {
		const struct path_entry *p = &s->v[i];

		put_path(out, prev, p->path);
		buf_varint(out, p->kinds);
		buf_varint(out, p->n_excluded);
		for (size_t j = 0; j < p->n_excluded; j++)
			buf_str(out, p->excluded[j]);
		prev = p->path;
	}
}

static void decode_entry(struct cur *c, const char *prev, size_t *budget, struct path_entry *ret)
{
	uint64_t kinds;

	ret->path = get_path(c, prev, budget);
	kinds = cur_varint(c);
	if (kinds > UINT32_MAX || (prev && ret->path && strcmp(prev, ret->path) >= 0))
		c->bad = true;
	ret->kinds = (unsigned)kinds;
	ret->n_excluded = get_count(c, 1);
	if (!ret->n_excluded)
		return;
	ret->excluded = xcalloc(ret->n_excluded, sizeof(*ret->excluded));
	for (size_t j = 0; j < ret->n_excluded; j++)
		ret->excluded[j] = cur_str(c);
}

int path_set_check(const void *p, size_t n)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	size_t budget = path_budget(n), count;
	struct path_entry entry, prev = {0};

	if (cur_u8(&c) != PATH_SET_VERSION)
		return -EBADMSG;
	for (count = get_count(&c, 4); !c.bad && count; count--) {
		entry = (struct path_entry){0};
		decode_entry(&c, prev.path, &budget, &entry);
		entry_free(&prev);
		prev = entry;
	}
	entry_free(&prev);
	return c.bad || c.p != c.end ? -EBADMSG : 0;
}

int path_set_decode(const void *p, size_t n, struct path_set *ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	size_t budget = path_budget(n), count;
	struct path_set s = {0};

	if (cur_u8(&c) != PATH_SET_VERSION)
		return -EBADMSG;
	count = get_count(&c, 4);
	if (count)
		s.v = xcalloc(count, sizeof(*s.v));
	while (!c.bad && s.n < count) {
		const char *prev = s.n ? s.v[s.n - 1].path : NULL;

		decode_entry(&c, prev, &budget, &s.v[s.n++]);
	}
	if (c.bad || c.p != c.end) {
		path_set_free(&s);
		return -EBADMSG;
	}
	*ret = s;
	return 0;
}

int path_iter_begin(const void *p, size_t n, struct path_iter *ret)
{
	struct path_iter i = {.at = {p, (const uint8_t *)p + n, false}};

	if (cur_u8(&i.at) != PATH_SET_VERSION)
		return -EBADMSG;
	i.left = get_count(&i.at, 4);
	if (i.at.bad || (!i.left && i.at.p != i.at.end))
		return -EBADMSG;
	buf_reserve(&i.path, PATH_ROOM);
	buf_u8(&i.path, 0);
	*ret = i;
	return 0;
}

/* The path's beginning is that of the one before it. */
static void next_path(struct cur *c, struct buf *path)
{
	uint64_t shared = cur_varint(c);
	size_t n;
	const void *rest = cur_bytes(c, &n);

	if (c->bad || shared >= path->len || memchr(rest, '\0', n)) {
		c->bad = true;
		return;
	}
	path->len = (size_t)shared;
	buf_add(path, rest, n);
	buf_u8(path, 0);
}

int path_iter_next(struct path_iter *i)
{
	struct cur *c = &i->at;
	uint64_t kinds;
	size_t len;

	if (!i->left)
		return 0;
	next_path(c, &i->path);
	kinds = cur_varint(c);
	for (size_t k = get_count(c, 1); !c->bad && k > 0; k--)
		(void)cur_bytes(c, &len);
	i->left--;
	if (c->bad || kinds > UINT32_MAX || (!i->left && c->p != c->end))
		return -EBADMSG;
	i->kinds = (unsigned)kinds;
	return 1;
}

void path_iter_end(struct path_iter *i)
{
	buf_free(&i->path);
}

int path_iter_each(struct path_iter *i, int (*fn)(void *arg, const char *path, unsigned kinds),
		   void *arg)
{
	int r;

	while ((r = path_iter_next(i)) > 0) {
		r = fn(arg, (const char *)i->path.data, i->kinds);
		if (r != 0)
			return r;
	}
	return r;
}

int path_set_each(const void *p, size_t n, int (*fn)(void *arg, const char *path, unsigned kinds),
		  void *arg)
{
	struct path_iter i = {0};
	int r = path_iter_begin(p, n, &i);

	if (r == 0)
		r = path_iter_each(&i, fn, arg);
	path_iter_end(&i);
	return r;
}

/* ---- input keys ---- */

struct key_state {
	struct fp_state *fp;
};

struct key_state *input_key_begin(const struct fp *step_key, const struct fp *path_set_id)
{
	struct key_state *k = xcalloc(1, sizeof(*k));

	k->fp = fp_begin();
	fp_update(k->fp, INPUT_KEY_DOMAIN, sizeof(INPUT_KEY_DOMAIN));
	fp_update(k->fp, step_key->b, sizeof(step_key->b));
	fp_update(k->fp, path_set_id->b, sizeof(path_set_id->b));
	return k;
}

void input_key_add(struct key_state *k, const void *state, size_t n)
{
	uint8_t length[8];

	/* In front, so that no two lists of states run together into the same bytes. */
	for (unsigned i = 0; i < sizeof(length); i++)
		length[i] = (uint8_t)((uint64_t)n >> (8 * i));
	fp_update(k->fp, length, sizeof(length));
	fp_update(k->fp, state, n);
}

struct fp input_key_end(struct key_state *k)
{
	struct fp fp = fp_end(k->fp);

	free(k);
	return fp;
}

struct fp input_key_base(const struct result *r)
{
	struct key_state *k = input_key_begin(&r->step_key, &r->path_set_id);

	for (size_t i = 0; i < r->n_states; i++)
		input_key_add(k, r->states[i].data, r->states[i].len);
	return input_key_end(k);
}

void input_key_set_base(struct result *r, const struct path_set *s)
{
	auto_buf struct buf b = {0};

	path_set_encode(s, &b);
	r->path_set_id = fp_of(b.data, b.len);
	r->base_key = input_key_base(r);
}
