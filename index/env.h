/* SPDX-License-Identifier: MIT */
/*
 * env.h - private to index/: guarded records in LMDB, without LMDB's names.
 *
 * Every value ends with the XXH3-64 of its key and bytes. One whose guard fails is "not there".
 *
 * Locks: `map` (a rwlock of this process) is held for reading while any transaction is live, and
 * for writing while the map grows. A thread that writes gives up its own read view for that time,
 * so it never waits for itself. Lock order: the mutex of objects.c, then `map`, then LMDB's writer
 * lock, then that of digest.c.
 */
#ifndef MLFS_INDEX_ENV_H
#define MLFS_INDEX_ENV_H

#include "index.h"

enum tab {
	TAB_OBJECT,   /* oid -> bytes */
	TAB_RESULT,   /* input key -> result */
	TAB_PATH_SET, /* path set id -> path set */
	TAB_STEP, /* step key -> path set ids, most recently useful first; docs/format.md has the others */
	TAB_LEFT,   /* what a recorded step left at a path -> when */
	TAB_DIGEST, /* device, inode -> size, times, fingerprint */
	TAB_USED,   /* input key -> when it was last used */
	/* Not in caches of the first mlfs; no lookup needs them. */
	TAB_IO,	  /* input key -> path set id, hashes of its outputs (io.c) */
	TAB_NOTE, /* what explains: names of listings, descriptions of steps, filters (notes.c) */
	TAB_LRU,  /* when, input key -> nothing: TAB_USED in the order of time */
	TAB_REF, /* object, path set, path set of a step -> how many results refer to it (refs.c) */
	TAB_DOOMED, /* when, object -> size: no result refers to it any more */
	TAB_TALLY,  /* name -> sums and places, for gc */
	TAB_COUNT
};

struct kv_val {
	const void *p;
	size_t n;
};

struct kv;     /* one open environment */
struct kv_txn; /* a read view or a write transaction */

enum kv_how { /* flags */
	      KV_READ_ONLY = 1,
	      KV_HELD = 2, /* the caller has locked the directory for itself alone */
	      KV_APART =
		      4, /* each write transaction is made in a process of its own (idx_open_for_job) */
	      KV_QUIET = 8, /* who dies in a write transaction says nothing */
	      KV_FEW =
		      16, /* few records are wanted: those around them are not read from the disk */
};
/* dir: the directory of data.mdb and lock.mdb. Errors as idx_open. While it is open that directory is locked, shared
 * (flock), unless KV_HELD: then nobody else has it open. -EBUSY: somebody else has. */
int kv_open(const char *dir, unsigned how, struct kv **ret, struct err *e) must_check;
void kv_close(struct kv *k);

/* This thread's read view; nests. Values from kv_get are borrowed until kv_end or this thread's
 * next write. */
int kv_begin(struct kv *k, struct kv_txn **ret, struct err *e) must_check;
void kv_end(struct kv *k);

/* Which of the index's states the view is of: two with one number see the same. */
uint64_t kv_snapshot(struct kv_txn *t);

/* Give up this thread's view, as before waiting for a lock whose holder may be growing the map;
 * take it again. */
void kv_pause(struct kv *k);
void kv_resume(struct kv *k);

/* 1: found. 0: there is none, or it is damaged. */
int kv_get(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, struct kv_val *ret,
	   struct err *e) must_check;
/* In a write transaction. An error must be handed on by the callback of kv_write. */
int kv_put(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, const void *p, size_t n,
	   struct err *e) must_check;
/* 1: it was there. */
int kv_del(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, struct err *e) must_check;

/* Records in key order from the first key >= start; damaged ones come with value.p NULL. Stops when
 * fn returns non-zero and returns that. */
int kv_each(struct kv_txn *t, enum tab tab, const void *start, size_t nstart,
	    int (*fn)(void *arg, struct kv_val key, struct kv_val value), void *arg,
	    struct err *e) must_check;

/* How many records a table has. */
uint64_t kv_count(struct kv_txn *t, enum tab tab);
/* Everything in a table is deleted. */
int kv_clear(struct kv_txn *t, enum tab tab, struct err *e) must_check;
/* How many records a table has, and the bytes of its pages; known without looking at them. */
int kv_size(struct kv_txn *t, enum tab tab, uint64_t *ret_n, uint64_t *ret_bytes,
	    struct err *e) must_check;
/* The bytes of data.mdb that are or were in use. */
int kv_file_size(struct kv *k, uint64_t *ret, struct err *e) must_check;
/* May a process other than this one know of what was in the tables before now? Each that has read from them counts
 * until it closes the cache. */
bool kv_others(struct kv *k);
/* A copy of data.mdb without its free pages, in the directory dir (which has none). */
int kv_copy(struct kv *k, const char *dir, struct err *e) must_check;

/* Are the tables those that there should be, by their names? */
bool kv_tables_whole(struct kv_txn *t);
/* A value with its guard: is it whole? Then *ret is without. */
bool kv_unguard(struct kv_val key, struct kv_val raw, struct kv_val *ret);
/* The table of this name; TAB_COUNT: there is none. */
enum tab kv_table(struct kv_val name);

/* One write transaction: committed when fn returns >= 0, else undone. fn may be called again from
 * the start when the map had to grow, or in another process, so it changes nothing but the transaction. Where LMDB meets
 * damage that it does not see, the process ends with status KV_DIED (KV_APART: -EUCLEAN). */
#define KV_DIED 1
int kv_write(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e), void *arg,
	     struct err *e) must_check;

#endif
