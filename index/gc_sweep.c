/* SPDX-License-Identifier: MIT */
/*
 * gc_sweep.c - what hangs on no result: objects that a killed process has put, digests, what steps left long ago.
 *
 * These take a walk, so each run after a store does a slice and notes where it ended (TAB_TALLY); `mlfs gc` does all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gc.h"

#define LEFT_OVER_NS (INT64_C(3600) * 1000000000)	 /* as fsck has it */
#define TOO_OLD_NS   (INT64_C(365) * 86400 * 1000000000) /* of lefts and digests */
#define SLICE	     4096				 /* records looked at at a time */
#define MAX_KEY	     40

/* ---- where we were ---- */

static int place_get(struct idx *x, const char *name, uint8_t ret[MAX_KEY], size_t *ret_n,
		     struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	*ret_n = 0;
	if (r < 0)
		return r;
	r = kv_get(t, TAB_TALLY, name, strlen(name), &v, e);
	if (r > 0 && v.n <= MAX_KEY) {
		memcpy(ret, v.p, v.n);
		*ret_n = v.n;
	}
	kv_end(x->kv);
	return r < 0 ? r : 0;
}

/* ---- objects ---- */

struct leftovers {
	struct gc *g;
	struct buf oids;  /* that may be some */
	struct buf sizes; /* uint64_t each; of those in cas/ */
	bool small;
	unsigned next; /* prefix to go on with */
	struct buf names;
	uint64_t objects, bytes;
};

static int remove_leftovers_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct leftovers *l = arg;
	uint8_t next = (uint8_t)l->next;
	int r = 0;

	l->objects = l->bytes = 0;
	for (size_t i = 0; r >= 0 && i < l->oids.len / sizeof(struct oid); i++) {
		const struct oid *o = (const struct oid *)(const void *)l->oids.data + i;
		struct ref f;

		r = ref_get(t, o->b, sizeof(o->b), &f, e);
		if (r != 0)
			continue;
		if (l->small)
			r = kv_del(t, TAB_OBJECT, o->b, sizeof(o->b), e);
		else
			r = gc_move_away(l->g, &l->names, o);
		if (r <= 0)
			continue;
		l->objects++;
		l->bytes += ((const uint64_t *)(const void *)l->sizes.data)[i];
	}
	return r < 0 ? r : kv_put(t, TAB_TALLY, "sweep", 5, &next, 1, e);
}

static int remove_leftovers(struct leftovers *l)
{
	int r = kv_write(l->g->x->kv, remove_leftovers_in, l, l->g->e);

	gc_unlink(l->g, &l->names);
	if (r >= 0) {
		l->g->n->objects += l->objects;
		l->g->n->freed += l->bytes;
	}
	l->oids.len = l->sizes.len = 0;
	return r;
}

static void add_leftover(struct leftovers *l, const struct oid *o, uint64_t size)
{
	buf_add(&l->oids, o, sizeof(*o));
	buf_add(&l->sizes, &size, sizeof(size));
}

static bool parse_oid(unsigned prefix, const char *name, struct oid *ret)
{
	ret->b[0] = (uint8_t)prefix;
	return unhex(name, ret->b + 1, sizeof(ret->b) - 1);
}

/* Files of cas/xx that have been there for a while; the transaction tells those that something refers to. */
static void list_prefix(struct leftovers *l, unsigned prefix)
{
	struct idx *x = l->g->x;
	char name[16];
	struct dirent *de;
	struct stat st;
	struct oid o;
	DIR *d;
	int fd;

	(void)snprintf(name, sizeof(name), "cas/%02x", prefix);
	fd = openat(x->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		base_close(&fd);
		return;
	}
	while ((de = readdir(d)))
		if (parse_oid(prefix, de->d_name, &o) &&
		    fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    now_ns() - (int64_t)st.st_mtim.tv_sec * 1000000000 > LEFT_OVER_NS)
			add_leftover(l, &o, (uint64_t)st.st_size);
	(void)closedir(d); /* only read from */
}

/* Most have results; one read view finds out which do, so that no transaction is made for nothing. */
static int keep_unreferred(struct leftovers *l)
{
	struct oid *v = (struct oid *)(void *)l->oids.data;
	uint64_t *sizes = (uint64_t *)(void *)l->sizes.data;
	size_t n = l->oids.len / sizeof(*v), kept = 0;
	struct kv_txn *t;
	struct ref f;
	int r = kv_begin(l->g->x->kv, &t, l->g->e);

	if (r < 0)
		return r;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		r = ref_get(t, v[i].b, sizeof(v[i].b), &f, l->g->e);
		if (r != 0)
			continue;
		v[kept] = v[i];
		sizes[kept++] = sizes[i];
	}
	kv_end(l->g->x->kv);
	l->oids.len = kept * sizeof(*v);
	l->sizes.len = kept * sizeof(*sizes);
	return r < 0 ? r : 0;
}

static int sweep_prefix(struct leftovers *l, bool note)
{
	int r;

	list_prefix(l, l->next);
	l->next = (l->next + 1) % 256;
	r = keep_unreferred(l);
	return r < 0 || (!l->oids.len && !note) ? r : remove_leftovers(l);
}

static int collect_small(void *arg, struct kv_val key, struct kv_val value)
{
	struct leftovers *l = arg;
	struct oid o;

	if (key.n == sizeof(o.b)) {
		memcpy(o.b, key.p, sizeof(o.b));
		add_leftover(l, &o, value.n);
	}
	return 0;
}

/* Of small ones it is not known how old they are: only when nobody can be about to refer to them. */
static int sweep_small(struct leftovers *l)
{
	struct kv_txn *t;
	int r;

	if (kv_others(l->g->x->kv))
		return 0;
	r = kv_begin(l->g->x->kv, &t, l->g->e);
	if (r < 0)
		return r;
	r = kv_each(t, TAB_OBJECT, NULL, 0, collect_small, l, l->g->e);
	kv_end(l->g->x->kv);
	l->small = true;
	if (r >= 0)
		r = keep_unreferred(l);
	return r < 0 || !l->oids.len ? r : remove_leftovers(l);
}

int gc_sweep_objects(struct gc *g, bool all)
{
	struct leftovers l = {.g = g};
	uint8_t place[MAX_KEY];
	size_t n;
	int r = place_get(g->x, "sweep", place, &n, g->e);

	if (r >= 0 && n == 1)
		l.next = place[0];
	for (int i = 0; r >= 0 && i < (all ? 256 : 1); i++)
		r = sweep_prefix(&l, !all);
	if (r >= 0 && all)
		r = sweep_small(&l);
	buf_free(&l.oids);
	buf_free(&l.sizes);
	buf_free(&l.names);
	return r;
}

/* ---- lefts and digests ---- */

struct slice {
	enum tab tab;
	const char *place; /* its name in TAB_TALLY */
	size_t at;	   /* of the time in a value */
	uint8_t from[MAX_KEY];
	size_t nfrom;
	struct record {
		uint8_t key[MAX_KEY];
		size_t n;
		int64_t when;
	} * v;
	size_t n, drop;
	bool ended; /* that was the end of the table */
};

static int collect_slice(void *arg, struct kv_val key, struct kv_val value)
{
	struct slice *s = arg;
	struct record *to = &s->v[s->n];
	struct cur c;

	if (s->n == SLICE) {
		memcpy(s->from, key.p, key.n);
		s->nfrom = key.n;
		return 1;
	}
	if (!value.p || key.n > MAX_KEY || value.n < s->at + 8)
		return 0; /* for fsck */
	memcpy(to->key, key.p, key.n);
	to->n = key.n;
	c = (struct cur){(const uint8_t *)value.p + s->at, (const uint8_t *)value.p + value.n,
			 false};
	to->when = (int64_t)cur_u64(&c);
	s->n++;
	return 0;
}

static int older_first(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	return (x->when > y->when) - (x->when < y->when);
}

static int drop_slice_in(void *arg, struct kv_txn *t, struct err *e)
{
	const struct slice *s = arg;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->drop; i++)
		r = kv_del(t, s->tab, s->v[i].key, s->v[i].n, e);
	if (r >= 0)
		r = kv_put(t, TAB_TALLY, s->place, strlen(s->place), s->from, s->nfrom, e);
	return r;
}

/* The share of a slice that is to go: its oldest records. keys are spread by hashes or places, so that a slice stands for
 * the whole. */
static void choose(struct slice *s, double share)
{
	int64_t too_old = now_ns() - TOO_OLD_NS;

	qsort(s->v, s->n, sizeof(*s->v), older_first);
	s->drop = (size_t)((double)s->n * share);
	while (s->drop < s->n && s->v[s->drop].when < too_old)
		s->drop++;
}

/* 1: go on. */
static int trim_slice(struct gc *g, struct slice *s, double share)
{
	struct kv_txn *t;
	int r = kv_begin(g->x->kv, &t, g->e);

	if (r < 0)
		return r;
	s->n = 0;
	r = kv_each(t, s->tab, s->from, s->nfrom, collect_slice, s, g->e);
	kv_end(g->x->kv);
	if (r < 0)
		return r;
	s->ended = r == 0;
	if (s->ended)
		s->nfrom = 0;
	choose(s, share);
	/* A run after a store notes where it was. */
	r = s->drop || !g->o->all ? kv_write(g->x->kv, drop_slice_in, s, g->e) : 0;
	*(s->tab == TAB_LEFT ? &g->n->lefts : &g->n->digests) += s->drop;
	return r < 0 ? r : !s->ended;
}

static int trim_table(struct gc *g, enum tab tab, const char *place, size_t at, bool all)
{
	uint64_t bound = g->o->table_bytes ? g->o->table_bytes : GC_TABLE_BYTES, n, bytes;
	auto_free struct record *v = xcalloc(SLICE, sizeof(*v));
	struct slice s = {.tab = tab, .place = place, .at = at, .v = v};
	double share = 0;
	struct kv_txn *t;
	int r = kv_begin(g->x->kv, &t, g->e);

	if (r < 0)
		return r;
	r = kv_size(t, tab, &n, &bytes, g->e);
	kv_end(g->x->kv);
	if (r < 0 || !n || (!all && bytes <= bound))
		return r;
	if (bytes > bound) /* some way below it */
		share = 1 - 0.8 * (double)bound / (double)bytes;
	if (!all)
		r = place_get(g->x, place, s.from, &s.nfrom, g->e);
	if (r >= 0)
		do
			r = trim_slice(g, &s, share);
		while (r > 0 && all);
	return r < 0 ? r : 0;
}

int gc_trim(struct gc *g, bool all)
{
	int r = trim_table(g, TAB_LEFT, "left", 0, all);

	/* size, mtime, ctime, and when it was hashed */
	return r < 0 ? r : trim_table(g, TAB_DIGEST, "digest", 24, all);
}
