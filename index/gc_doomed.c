/* SPDX-License-Identifier: MIT */
/* gc_doomed.c - objects that no result refers to any more are removed when nobody can be using them; see gc.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gc.h"

#define OBJECTS 512 /* removed in one transaction */

static void object_name(const struct oid *o, char name[80])
{
	char digits[2 * sizeof(o->b) + 1];

	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(name, 80, "cas/%.2s/%s", digits, digits + 2); /* fits */
}

int gc_move_away(struct gc *g, struct buf *names, const struct oid *o)
{
	char from[80], to[TEMP_NAME_SIZE];

	if (lazy_pinned(g->x->dirfd, o))
		return 0;
	object_name(o, from);
	idx_temp_name(g->x, to);
	if (renameat(g->x->dirfd, from, g->x->dirfd, to) < 0)
		return errno == ENOENT;
	/* Who makes a placeholder notes it first, and then looks whether the object is there. */
	if (lazy_pinned(g->x->dirfd, o) &&
	    renameat2(g->x->dirfd, to, g->x->dirfd, from, RENAME_NOREPLACE) == 0)
		return 0;
	buf_add(names, to, sizeof(to));
	return 1;
}

void gc_unlink(struct gc *g, struct buf *names)
{
	for (size_t i = 0; i < names->len; i += TEMP_NAME_SIZE) {
		const char *name = (const char *)names->data + i;

		if (unlinkat(g->x->dirfd, name, 0) < 0)
			log_debug("cannot remove %s/%s", g->x->dir, name); /* cleaned up later */
	}
	names->len = 0;
}

struct removal {
	struct gc *g;
	uint64_t cutoff; /* doomed before this */
	bool alone;
	uint8_t from[DOOMED_KEY_SIZE]; /* where the next transaction goes on */
	size_t nfrom;
	struct buf keys;  /* of TAB_DOOMED, at most OBJECTS */
	struct buf names; /* of files moved away */
	uint64_t objects, bytes;
};

static int collect_doomed(void *arg, struct kv_val key, struct kv_val value)
{
	struct removal *m = arg;

	(void)value;
	if (key.n != DOOMED_KEY_SIZE || key_time(key.p) > m->cutoff)
		return 1;
	buf_add(&m->keys, key.p, key.n);
	return m->keys.len >= (size_t)OBJECTS * DOOMED_KEY_SIZE;
}

/* Has a store found it there a moment ago, for a result that is about to come? */
static bool is_young(const struct removal *m, const struct oid *o)
{
	char name[80];
	struct stat st;

	object_name(o, name);
	return !m->alone && fstatat(m->g->x->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       now_ns() - (int64_t)st.st_mtim.tv_sec * 1000000000 < GC_GRACE_NS;
}

static int remove_one(struct removal *m, struct kv_txn *t, struct tally *y, const uint8_t *at,
		      struct err *e)
{
	struct oid o;
	struct ref f;
	int r;

	memcpy(o.b, at + 8, sizeof(o.b));
	r = ref_get(t, o.b, sizeof(o.b), &f, e);
	if (r < 0)
		return r;
	if (r > 0 && !f.count && f.doomed == key_time(at)) {
		if (f.size > STORE_INLINE_MAX &&
		    (is_young(m, &o) || !gc_move_away(m->g, &m->names, &o)))
			return 0;
		if (f.size <= STORE_INLINE_MAX)
			r = kv_del(t, TAB_OBJECT, o.b, sizeof(o.b), e);
		if (r >= 0)
			r = kv_del(t, TAB_REF, o.b, sizeof(o.b), e);
		refs_gone(y, &f);
		m->objects++;
		m->bytes += f.size;
	}
	return r < 0 ? r : kv_del(t, TAB_DOOMED, at, DOOMED_KEY_SIZE, e);
}

static int remove_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct removal *m = arg;
	struct tally y;
	int r = tally_load(t, &y, e);

	m->keys.len = 0;
	m->objects = m->bytes = 0;
	if (r >= 0)
		r = kv_each(t, TAB_DOOMED, m->from, m->nfrom, collect_doomed, m, e);
	for (size_t i = 0; r >= 0 && i < m->keys.len; i += DOOMED_KEY_SIZE)
		r = remove_one(m, t, &y, m->keys.data + i, e);
	return r < 0 ? r : tally_save(t, &y, e);
}

/* The smallest key behind the last one looked at. */
static void go_on(struct removal *m)
{
	memcpy(m->from, m->keys.data + m->keys.len - DOOMED_KEY_SIZE, DOOMED_KEY_SIZE);
	m->nfrom = DOOMED_KEY_SIZE;
	for (size_t i = DOOMED_KEY_SIZE; i-- > 0 && ++m->from[i] == 0;)
		;
}

static int any_doomed(void *arg, struct kv_val key, struct kv_val value)
{
	(void)value;
	*(uint64_t *)arg = key.n == DOOMED_KEY_SIZE ? key_time(key.p) : 0;
	return 1;
}

int gc_first_doomed(struct idx *x, uint64_t *ret, struct err *e)
{
	struct kv_txn *t;
	int r = kv_begin(x->kv, &t, e);

	*ret = 0;
	if (r < 0)
		return r;
	r = kv_each(t, TAB_DOOMED, NULL, 0, any_doomed, ret, e);
	kv_end(x->kv);
	return r < 0 ? r : 0;
}

int gc_remove_doomed(struct gc *g)
{
	struct removal m = {.g = g};
	uint64_t first;
	int r = gc_first_doomed(g->x, &first, g->e);

	if (r < 0 || !first)
		return r;
	/* In this order: who opens the cache after that moment finds no result that was dropped before. */
	m.cutoff = (uint64_t)now_ns();
	m.alone = !kv_others(g->x->kv);
	if (!m.alone)
		m.cutoff -= GC_GRACE_NS;
	do {
		r = kv_write(g->x->kv, remove_in, &m, g->e);
		gc_unlink(g, &m.names);
		if (r < 0 || !m.keys.len)
			break;
		g->n->objects += m.objects;
		g->n->freed += m.bytes;
		go_on(&m);
	} while (m.keys.len == (size_t)OBJECTS * DOOMED_KEY_SIZE && !gc_time_is_up(g));
	buf_free(&m.keys);
	buf_free(&m.names);
	return r;
}
