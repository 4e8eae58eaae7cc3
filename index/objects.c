/* SPDX-License-Identifier: MIT */
/* objects.c - small objects: gathered in memory, found there by hash chains, written in one
 * transaction. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "objects.h"
#include "refs.h"

#define MAX_PENDING (4u << 20)
#define BUCKETS	    4096u

struct pending {
	struct oid oid;
	size_t off, n;
	uint32_t next; /* position + 1 of the next one in the chain */
};

struct objects {
	pthread_mutex_t mu; /* taken before any lock of env.c */
	struct buf bytes;
	struct pending *v;
	size_t n, cap;
	uint32_t bucket[BUCKETS];
};

struct objects *objects_new(void)
{
	struct objects *o = xcalloc(1, sizeof(*o));

	(void)pthread_mutex_init(&o->mu, NULL); /* cannot fail on Linux */
	return o;
}

void objects_free(struct objects *o)
{
	if (!o)
		return;
	(void)pthread_mutex_destroy(&o->mu);
	buf_free(&o->bytes);
	free(o->v);
	free(o);
}

/* ---- in memory; mu is held ---- */

static uint32_t *bucket_of(struct objects *o, const struct oid *oid)
{
	return &o->bucket[(oid->b[0] | (unsigned)oid->b[1] << 8) % BUCKETS];
}

static const struct pending *find(struct objects *o, const struct oid *oid)
{
	for (uint32_t i = *bucket_of(o, oid); i; i = o->v[i - 1].next)
		if (oid_eq(&o->v[i - 1].oid, oid))
			return &o->v[i - 1];
	return NULL;
}

static void add(struct objects *o, const struct oid *oid, const void *p, size_t n)
{
	uint32_t *bucket = bucket_of(o, oid);

	if (o->n == o->cap) {
		o->cap = o->cap ? o->cap * 2 : 256;
		o->v = xrealloc(o->v, o->cap * sizeof(*o->v));
	}
	o->v[o->n] = (struct pending){*oid, o->bytes.len, n, *bucket};
	*bucket = (uint32_t)++o->n;
	buf_add(&o->bytes, p, n);
}

static void clear(struct objects *o)
{
	o->bytes.len = 0;
	o->n = 0;
	memset(o->bucket, 0, sizeof(o->bucket));
}

static size_t weight(const struct objects *o)
{
	return o->bytes.len + o->n * sizeof(*o->v);
}

static int by_oid(const void *a, const void *b)
{
	const struct pending *const *pa = a, *const *pb = b;

	return memcmp((*pa)->oid.b, (*pb)->oid.b, sizeof((*pa)->oid.b));
}

/* ---- writing ---- */

void objects_lock(struct idx *x)
{
	kv_pause(x->kv); /* the holder may be growing the map, which waits for every view */
	(void)pthread_mutex_lock(&x->objects->mu); /* fails for misuse only */
}

int objects_write(struct idx *x, struct kv_txn *t, struct err *e)
{
	struct objects *o = x->objects;
	auto_free const struct pending **order = NULL;
	int r = 0;

	if (!o->n)
		return 0;
	/* In the order of the tree every page is written but once. */
	order = malloc(o->n * sizeof(*order));
	if (!order)
		return err_set(e, ENOMEM, "cannot store objects");
	for (size_t i = 0; i < o->n; i++)
		order[i] = &o->v[i];
	qsort(order, o->n, sizeof(*order), by_oid);
	for (size_t i = 0; r >= 0 && i < o->n; i++)
		r = kv_put(t, TAB_OBJECT, order[i]->oid.b, sizeof(order[i]->oid.b),
			   o->bytes.data + order[i]->off, order[i]->n, e);
	return r;
}

void objects_unlock(struct idx *x, bool written)
{
	if (written)
		clear(x->objects);
	(void)pthread_mutex_unlock(&x->objects->mu); /* as above */
	kv_resume(x->kv);
}

static int write_all_of(void *arg, struct kv_txn *t, struct err *e)
{
	return objects_write(arg, t, e);
}

int store_flush(struct idx *x, struct err *e)
{
	int r = 0;

	objects_lock(x);
	if (x->objects->n)
		r = kv_write(x->kv, write_all_of, x, e);
	objects_unlock(x, r == 0);
	return r;
}

/* ---- put, get ---- */

static int get_kept(struct idx *x, const struct oid *oid, void **ret, size_t *ret_n, struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_OBJECT, oid->b, sizeof(oid->b), &v, e);
	if (r > 0) {
		*ret = xmalloc(v.n);
		*ret_n = v.n;
		memcpy(*ret, v.p, v.n);
	}
	kv_end(x->kv);
	return r;
}

/* 1: it is in the index, and some result refers to it. Else gc may be about to remove it. */
static int is_kept(struct idx *x, const struct oid *oid, struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	struct ref f = {0};
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_OBJECT, oid->b, sizeof(oid->b), &v, e);
	if (r > 0)
		r = ref_get(t, oid->b, sizeof(oid->b), &f, e);
	kv_end(x->kv);
	return r < 0 ? r : f.count > 0;
}

int objects_put(struct idx *x, const struct oid *oid, const void *p, size_t n, struct err *e)
{
	struct objects *o = x->objects;
	int r = is_kept(x, oid, e);

	if (r != 0)
		return r < 0 ? r : 0;
	objects_lock(x);
	/* Full means that an earlier flush failed: no more is taken on. */
	if (weight(o) >= MAX_PENDING) {
		r = kv_write(x->kv, write_all_of, x, e);
		if (r == 0)
			clear(o);
	}
	if (r == 0 && !find(o, oid)) {
		add(o, oid, p, n);
		atomic_fetch_add(&x->new_bytes, n);
	}
	objects_unlock(x, false);
	return r;
}

int objects_get(struct idx *x, const struct oid *oid, void **ret, size_t *ret_n, struct err *e)
{
	struct objects *o = x->objects;
	const struct pending *found;

	objects_lock(x);
	found = find(o, oid);
	if (found) {
		*ret = xmalloc(found->n);
		*ret_n = found->n;
		memcpy(*ret, o->bytes.data + found->off, found->n);
	}
	objects_unlock(x, false);
	return found ? 1 : get_kept(x, oid, ret, ret_n, e);
}

static int drop_in(void *arg, struct kv_txn *t, struct err *e)
{
	const struct oid *oid = arg;

	return kv_del(t, TAB_OBJECT, oid->b, sizeof(oid->b), e);
}

int objects_drop(struct idx *x, const struct oid *oid, struct err *e)
{
	struct oid copy = *oid;

	return kv_write(x->kv, drop_in, &copy, e);
}
