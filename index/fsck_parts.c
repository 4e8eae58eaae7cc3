/* SPDX-License-Identifier: MIT */
/*
 * fsck_parts.c - the records of all tables, cut into ranges of keys that several threads look at.
 *
 * All must see the index in the same state. LMDB has one read view a thread, so each thread takes its own and compares the
 * numbers: one that came after somebody's commit goes again, and the others do its work.
 *
 * Where the tree is out of order a range does not end at the first key beyond it, but at the first that is found by
 * itself. All that lies between where the next range begins (by LMDB's search for its first key) and there is not found by
 * its key: the search for it goes the same way. So no record is passed over.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "fsck.h"

#define RANGES	   16 /* of a table whose keys are fingerprints */
#define TELL_BYTES (1u << 18)

struct task {
	enum tab tab;
	uint8_t first, last; /* the first byte of its keys */
	struct fsck part;
	struct fsck_counts counts;
};
struct shared {
	struct fsck *f;
	int (*look)(struct fsck_at *at, struct kv_val key, struct kv_val v);
	uint64_t snapshot, all;
	struct task tasks[TAB_COUNT * RANGES];
	size_t n;
	atomic_size_t next;
	_Atomic uint64_t done; /* bytes */
};
struct worker {
	struct shared *s;
	struct fsck_at at;
	struct task *task;
	bool tells; /* the thread that called idx_fsck */
	uint64_t untold;
	int r;
	struct err e;
};

static void told(struct worker *w)
{
	uint64_t done = atomic_fetch_add(&w->s->done, w->untold) + w->untold;

	w->untold = 0;
	if (w->tells)
		fsck_tell(w->s->f, "records", done, w->s->all);
}

static int look_one(void *arg, struct kv_val key, struct kv_val v)
{
	struct worker *w = arg;
	const struct task *k = w->task;

	if (key.n && *(const uint8_t *)key.p > k->last && fsck_is_found(w->at.t, k->tab, key, v))
		return 1;
	w->untold += key.n + v.n;
	if (w->untold >= TELL_BYTES)
		told(w);
	return w->s->look(&w->at, key, v);
}

static void work(struct worker *w)
{
	struct shared *s = w->s;
	size_t i;

	while (w->r == 0 && (i = atomic_fetch_add(&s->next, 1)) < s->n) {
		struct task *k = &s->tasks[i];
		int r;

		w->task = k;
		w->at.tab = k->tab;
		w->at.f = &k->part;
		r = kv_each(w->at.t, k->tab, &k->first, k->first ? 1 : 0, look_one, w, &w->e);
		w->r = r < 0 ? r : 0;
		told(w);
	}
}

static void *work_too(void *arg)
{
	struct worker *w = arg;

	w->r = kv_begin(w->s->f->x->kv, &w->at.t, &w->e);
	if (w->r == 0 && kv_snapshot(w->at.t) == w->s->snapshot)
		work(w);
	if (w->at.t)
		kv_end(w->s->f->x->kv);
	return NULL;
}

/* ---- what they found ---- */

static void *joined(void *to, size_t n, const void *more, size_t n_more, size_t size, size_t *cap)
{
	uint8_t *p = to;

	if (!n_more)
		return to;
	if (n + n_more > *cap) {
		*cap = n + n_more > 2 * *cap ? n + n_more : 2 * *cap;
		p = xrealloc(to, *cap * size);
	}
	memcpy(p + n * size, more, n_more * size);
	return p;
}

#define JOIN(f, part, v, n, cap)                                                                   \
	do {                                                                                       \
		(f)->v = joined((f)->v, (f)->n, (part)->v, (part)->n, sizeof(*(f)->v), &(f)->cap); \
		(f)->n += (part)->n;                                                               \
		free((part)->v);                                                                   \
	} while (0)

static void join_buf(struct buf *to, struct buf *part)
{
	if (part->len)
		buf_add(to, part->data, part->len);
	buf_free(part);
}

static void join(struct fsck *f, struct task *k)
{
	struct fsck *p = &k->part;

	for (size_t i = 0; i < p->n_results; i++)
		p->results[i].first += f->n_wanted;
	JOIN(f, p, problems, n_problems, cap_problems);
	JOIN(f, p, objects, n_objects, cap_objects);
	JOIN(f, p, wanted, n_wanted, cap_wanted);
	JOIN(f, p, results, n_results, cap_results);
	JOIN(f, p, sets, n_sets, cap_sets);
	JOIN(f, p, notes, n_notes, cap_notes);
	join_buf(&f->used, &p->used);
	join_buf(&f->io, &p->io);
	join_buf(&f->listings, &p->listings);
	join_buf(&f->steps, &p->steps);
	join_buf(&f->used_lru, &p->used_lru);
	join_buf(&f->lru, &p->lru);
	join_buf(&f->refs, &p->refs);
	join_buf(&f->doomed, &p->doomed);
	if (k->tab == TAB_TALLY)
		f->tally = p->tally;
	f->disordered |= p->disordered;
	f->n->object_bytes += k->counts.object_bytes;
	f->n->digests += k->counts.digests;
}

/* ---- all of it ---- */

static void add_tasks(struct shared *s, enum tab tab, unsigned ranges)
{
	for (unsigned i = 0; i < ranges; i++) {
		struct task *k = &s->tasks[s->n++];

		k->tab = tab;
		k->first = (uint8_t)(i * 256 / ranges);
		k->last = (uint8_t)((i + 1) * 256 / ranges - 1);
		k->part = (struct fsck){.o = s->f->o, .n = &k->counts, .x = s->f->x, .e = s->f->e};
	}
}

static int plan(struct shared *s, struct kv_txn *t)
{
	int r = 0;

	s->snapshot = kv_snapshot(t);
	for (int tab = 0; r == 0 && tab < TAB_COUNT; tab++) {
		bool by_time = tab == TAB_LRU || tab == TAB_DOOMED || tab == TAB_TALLY ||
			       tab == TAB_NOTE || tab == TAB_DIGEST;
		uint64_t n, bytes;

		r = kv_size(t, (enum tab)tab, &n, &bytes, s->f->e);
		s->all += r == 0 ? bytes : 0;
		add_tasks(s, (enum tab)tab, by_time ? 1 : RANGES);
	}
	return r;
}

int fsck_each_record(struct fsck *f, struct kv_txn *t,
		     int (*look)(struct fsck_at *at, struct kv_val key, struct kv_val v))
{
	auto_free struct shared *s = xcalloc(1, sizeof(*s));
	struct worker workers[FSCK_MAX_THREADS] = {{.s = s, .at = {.t = t}, .tells = true}};
	pthread_t threads[FSCK_MAX_THREADS];
	unsigned n, started = 1;
	int r;

	s->f = f;
	s->look = look;
	r = plan(s, t);
	if (r < 0)
		return r;
	n = fsck_threads(f, s->n);
	for (; started < n; started++) {
		workers[started].s = s;
		if (pthread_create(&threads[started], NULL, work_too, &workers[started]) != 0)
			break; /* the others do it */
	}
	work(&workers[0]);
	for (unsigned i = 1; i < started; i++)
		(void)pthread_join(threads[i], NULL); /* cannot fail */
	for (size_t i = 0; i < s->n; i++)
		join(f, &s->tasks[i]);
	/* Who could not even take a view has done nothing that is missing. */
	for (unsigned i = 0; r == 0 && i < started; i++)
		if (workers[i].r < 0 && workers[i].task) {
			*f->e = workers[i].e;
			r = workers[i].r;
		}
	return r;
}
