/* SPDX-License-Identifier: MIT */
/*
 * gc.c - the cache within its limits: results go, least recently used first, then what nothing refers to.
 *
 * Results are dropped in small transactions, so that nobody waits long for LMDB's lock. What they alone referred to is
 * doomed then: named in TAB_DOOMED with the time. Its bytes are removed in a second transaction, which looks again
 * that nothing refers to it, and not before nobody can be using it any more: when no other process has read from the
 * cache and still has it open (LMDB's table of readers tells: a hit pays nothing for that), or after GC_GRACE_NS.
 * A process that takes longer finds an object missing: its lookup is a miss then, and a store puts the object again.
 * A result that somebody has locked (idx_lock; it is to be compared with what a step leaves in the end) is not dropped.
 *
 * A file is moved to tmp/ within the transaction and unlinked after it, since unlinking a large one takes time.
 */
#include "gc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "rebuild.h"

#define ID_SIZE	     16
#define BATCH	     64 /* results dropped in one transaction, the first */
#define MAX_BATCH    4096
#define BUDGET_NS    20000000 /* of a run after a store */
#define WORTH_SHRINK (UINT64_C(16) << 20)

/* ---- how large is it? ---- */

int idx_size(struct idx *x, struct idx_size *ret, struct err *e)
{
	struct idx_size s = {0};
	struct kv_txn *t;
	struct tally y;
	uint64_t n, bytes;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = tally_load(t, &y, e);
	for (int tab = 0; r >= 0 && tab < TAB_COUNT; tab++) {
		r = kv_size(t, (enum tab)tab, &n, &bytes, e);
		if (r >= 0)
			s.index_in_use += bytes;
		if (tab == TAB_RESULT)
			s.results = n;
	}
	kv_end(x->kv);
	if (r >= 0)
		r = kv_file_size(x->kv, &s.index_bytes, e);
	if (r < 0)
		return r;
	s.bytes = tally_bytes(&y);
	s.doomed_bytes = y.doomed_bytes;
	*ret = s;
	return 0;
}

uint64_t idx_default_max_size(const struct idx *x)
{
	struct statvfs fs;
	uint64_t fifth;

	if (fstatvfs(x->dirfd, &fs) < 0 || !fs.f_blocks)
		return IDX_DEFAULT_SIZE;
	fifth = (uint64_t)fs.f_blocks * fs.f_frsize / 5;
	return fifth < IDX_DEFAULT_SIZE ? fifth : IDX_DEFAULT_SIZE;
}

int idx_result_used(struct idx *x, const struct fp *input_key, int64_t *ret, struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_USED, input_key->b, ID_SIZE, &v, e);
	if (r > 0) {
		struct cur c = {v.p, (const uint8_t *)v.p + v.n, false};

		*ret = (int64_t)cur_u64(&c);
	}
	kv_end(x->kv);
	return r;
}

bool gc_time_is_up(struct gc *g)
{
	if (!g->end || mono_ns() < g->end)
		return false;
	g->n->unfinished = true;
	return true;
}

/* ---- results ---- */

struct batch {
	struct gc *g;
	const struct fp *keys; /* these; NULL: by age and size */
	size_t n_keys;
	bool dry_run;
	size_t most; /* so many at once */
	uint64_t max_size;
	uint64_t cutoff; /* used before this: too old */
	bool finished;
	const struct fp *held; /* results that somebody has locked: they stay */
	size_t n_held;
	uint8_t from[LRU_KEY_SIZE]; /* where the next transaction goes on */
	uint8_t next[LRU_KEY_SIZE]; /* and the one after it, when it comes to be */
	struct buf gone;	    /* struct idx_gc_gone, names malloc'ed */
	uint64_t bytes;
};

static void batch_clear(struct batch *b)
{
	struct idx_gc_gone *v = (struct idx_gc_gone *)(void *)b->gone.data;

	for (size_t i = 0; i < b->gone.len / sizeof(*v); i++)
		free((char *)(uintptr_t)v[i].name);
	b->gone.len = 0;
	b->bytes = 0;
	b->finished = false;
}

static void batch_free(struct batch *b)
{
	batch_clear(b);
	buf_free(&b->gone);
}
#define auto_batch __attribute__((cleanup(batch_free)))

static int drop_one(struct batch *b, struct kv_txn *t, struct tally *y, const struct fp *key,
		    int64_t used, struct err *e)
{
	struct idx_gc_gone gone = {.key = *key, .used_ns = used};
	struct removed was = {NULL, 0};
	int r = result_remove(t, y, key, &was, e);

	if (r <= 0)
		return r;
	gone.name = was.name;
	gone.bytes = was.bytes;
	b->bytes += was.bytes;
	buf_add(&b->gone, &gone, sizeof(gone));
	return 1;
}

static bool is_held(const struct batch *b, const struct fp *key)
{
	for (size_t i = 0; i < b->n_held; i++)
		if (fp_eq(&b->held[i], key))
			return true;
	return false;
}

struct oldest {
	struct buf keys;
	size_t most;
};

static int collect_oldest(void *arg, struct kv_val key, struct kv_val value)
{
	struct oldest *o = arg;

	(void)value;
	if (key.n == LRU_KEY_SIZE)
		buf_add(&o->keys, key.p, key.n);
	return o->keys.len >= o->most * LRU_KEY_SIZE;
}

static bool past(const struct batch *b, const struct tally *y, uint64_t when)
{
	return tally_bytes(y) > b->max_size || when < b->cutoff;
}

static int drop_oldest(struct batch *b, struct kv_txn *t, struct tally *y, struct err *e)
{
	struct oldest o = {.most = b->most};
	int r = kv_each(t, TAB_LRU, b->from, sizeof(b->from), collect_oldest, &o, e);
	size_t n = o.keys.len / LRU_KEY_SIZE, i;

	for (i = 0; r >= 0 && i < n; i++) {
		const uint8_t *at = o.keys.data + i * LRU_KEY_SIZE;
		uint64_t when = key_time(at);
		struct fp key;

		if (!past(b, y, when))
			break;
		memcpy(key.b, at + 8, ID_SIZE);
		memcpy(b->next, at, LRU_KEY_SIZE);
		if (is_held(b, &key))
			continue;
		r = drop_one(b, t, y, &key, (int64_t)when, e);
		if (r == 0) /* there is none: fsck would say so */
			r = kv_del(t, TAB_LRU, at, LRU_KEY_SIZE, e);
	}
	b->finished = i < n || n < b->most;
	buf_free(&o.keys);
	return r;
}

static int drop_these(struct batch *b, struct kv_txn *t, struct tally *y, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < b->n_keys; i++)
		r = drop_one(b, t, y, &b->keys[i], 0, e);
	b->finished = true;
	return r;
}

static int drop_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct batch *b = arg;
	struct tally y;
	int r = tally_load(t, &y, e);

	batch_clear(b); /* it may be a second try */
	memcpy(b->next, b->from, sizeof(b->next));
	if (r >= 0)
		r = b->keys ? drop_these(b, t, &y, e) : drop_oldest(b, t, &y, e);
	if (r >= 0)
		r = tally_save(t, &y, e);
	return r < 0 ? r : b->dry_run ? -ECANCELED : 0;
}

static int drop_batch(struct idx *x, struct batch *b, struct err *e)
{
	int r = kv_write(x->kv, drop_in, b, e);

	return r == -ECANCELED && b->dry_run ? 0 : r;
}

static void tell(const struct batch *b, void (*gone)(void *arg, const struct idx_gc_gone *g),
		 void *arg)
{
	const struct idx_gc_gone *v = (const struct idx_gc_gone *)(const void *)b->gone.data;

	for (size_t i = 0; gone && i < b->gone.len / sizeof(*v); i++)
		gone(arg, &v[i]);
}

int idx_results_drop(struct idx *x, const struct fp *keys, size_t n, bool dry_run,
		     void (*gone)(void *arg, const struct idx_gc_gone *g), void *arg, struct err *e)
{
	/* Dry, all are looked at together: what two of them share would otherwise be freed by neither. */
	size_t step = dry_run ? n : BATCH;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i += step) {
		auto_batch struct batch b = {.keys = keys + i,
					     .n_keys = n - i < step ? n - i : step,
					     .dry_run = dry_run};

		r = drop_batch(x, &b, e);
		if (r >= 0)
			tell(&b, gone, arg);
	}
	return r < 0 ? r : 0;
}

/* A commit waits for the disk, and who stores waits for it: as many results as take some 50 ms together. */
static size_t next_batch(size_t n, int64_t took_ns)
{
	if (took_ns < 50000000 && n < MAX_BATCH)
		return n * 2;
	return took_ns > 200000000 && n > BATCH ? n / 2 : n;
}

static int drop_results(struct gc *g)
{
	const struct idx_gc_options *o = g->o;
	uint64_t now = (uint64_t)now_ns(), of = g->n->before;
	auto_batch struct batch b = {.g = g,
				     .dry_run = o->dry_run,
				     .most = o->dry_run ? SIZE_MAX / LRU_KEY_SIZE : BATCH,
				     .max_size = o->max_size};
	struct fp *held = NULL;
	int r;

	if (!o->locked_too)
		b.n_held = locks_held(g->x, &held);
	b.held = held;
	of = of > o->max_size ? of - o->max_size : 0;
	if (o->max_age_ns >= 0 && now > (uint64_t)o->max_age_ns)
		b.cutoff = now - (uint64_t)o->max_age_ns;
	do {
		int64_t begun = mono_ns();

		r = drop_batch(g->x, &b, g->e);
		if (r < 0)
			break;
		if (!o->dry_run && !g->end)
			b.most = next_batch(b.most, mono_ns() - begun);
		memcpy(b.from, b.next, sizeof(b.from));
		tell(&b, o->gone, o->arg);
		g->n->results += b.gone.len / sizeof(struct idx_gc_gone);
		g->n->bytes += b.bytes;
		if (o->progress)
			o->progress(o->arg, g->n->bytes < of ? g->n->bytes : of, of);
	} while (!b.finished && !gc_time_is_up(g));
	free(held);
	return r < 0 ? r : 0;
}

/* ---- all of it ---- */

static int recount_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct tally y;
	int r = tally_load(t, &y, e);

	return r < 0 ? r : y.stale ? refs_rebuild(arg, t, e) : 0;
}

/* A damaged result was dropped: what it referred to is found by counting anew. */
static int recount_if_stale(struct gc *g)
{
	struct kv_txn *t;
	struct tally y;
	int r = kv_begin(g->x->kv, &t, g->e);

	if (r < 0)
		return r;
	r = tally_load(t, &y, g->e);
	kv_end(g->x->kv);
	return r < 0 || !y.stale ? r : kv_write(g->x->kv, recount_in, g->x, g->e);
}

static int collect_garbage(struct gc *g)
{
	bool all = g->o->all;
	int r = recount_if_stale(g);

	if (r >= 0)
		r = drop_results(g);
	if (r < 0 || g->o->dry_run)
		return r;
	r = gc_remove_doomed(g);
	if (r >= 0 && !gc_time_is_up(g))
		r = gc_trim(g, all);
	if (r >= 0 && !gc_time_is_up(g))
		r = gc_sweep_objects(g, all);
	return r;
}

int idx_gc(struct idx *x, const struct idx_gc_options *o, struct idx_gc_counts *ret, struct err *e)
{
	struct idx_gc_counts n = {0};
	struct gc g = {.x = x, .o = o, .n = &n, .begun = mono_ns(), .e = e};
	struct idx_size s;
	int r = uses_move(x, e); /* the latest hits count */

	if (o->budget_ns)
		g.end = g.begun + o->budget_ns;
	if (r >= 0)
		r = idx_size(x, &s, e);
	if (r < 0)
		return r;
	n.before = s.bytes;
	n.index_before = s.index_bytes;
	r = collect_garbage(&g);
	if (r >= 0)
		r = idx_size(x, &s, e);
	if (r >= 0 && o->all && !o->dry_run && s.index_bytes >= WORTH_SHRINK &&
	    s.index_in_use < s.index_bytes / 2) {
		r = idx_shrink(x, e);
		if (r >= 0)
			r = idx_size(x, &s, e);
	}
	if (r < 0)
		return r;
	n.after = o->dry_run ? n.before - n.bytes : s.bytes;
	n.waiting = s.doomed_bytes;
	n.index_after = s.index_bytes;
	*ret = n;
	return 0;
}

static int any_oldest(void *arg, struct kv_val key, struct kv_val value)
{
	(void)value;
	if (key.n == LRU_KEY_SIZE)
		*(uint64_t *)arg = key_time(key.p);
	return 1;
}

/* Is there anything to do? Nothing but records that are in memory anyway is looked at. */
static int is_due(struct idx *x, uint64_t max_size, int64_t max_age_ns, bool *ret, struct err *e)
{
	uint64_t now = (uint64_t)now_ns(), oldest = now, doomed, n, bytes;
	struct kv_txn *t;
	struct tally y;
	int r = gc_first_doomed(x, &doomed, e);

	if (r >= 0)
		r = kv_begin(x->kv, &t, e);
	if (r < 0)
		return r;
	r = tally_load(t, &y, e);
	*ret = r >= 0 && (y.stale || tally_bytes(&y) > max_size);
	if (r >= 0 && max_age_ns >= 0)
		r = kv_each(t, TAB_LRU, NULL, 0, any_oldest, &oldest, e);
	*ret |= max_age_ns >= 0 && now > (uint64_t)max_age_ns &&
		oldest < now - (uint64_t)max_age_ns;
	*ret |= doomed && doomed < now - GC_GRACE_NS;
	for (int i = 0; r >= 0 && i < 2; i++) {
		r = kv_size(t, i ? TAB_LEFT : TAB_DIGEST, &n, &bytes, e);
		*ret |= r >= 0 && bytes > GC_TABLE_BYTES;
	}
	kv_end(x->kv);
	return r < 0 ? r : 0;
}

int idx_gc_past_limit(struct idx *x, uint64_t max_size, int64_t max_age_ns, struct err *e)
{
	struct idx_gc_options o = {
		.max_size = max_size, .max_age_ns = max_age_ns, .budget_ns = BUDGET_NS};
	struct idx_gc_counts n;
	bool due;
	int r;

	if (x->read_only)
		return 0;
	r = is_due(x, max_size, max_age_ns, &due, e);
	if (r < 0 || !due)
		return r;
	/* Further down than need be, so that the next stores have nothing to do. */
	if (max_size != IDX_NO_LIMIT)
		o.max_size = max_size - max_size / 10;
	return idx_gc(x, &o, &n, e);
}
