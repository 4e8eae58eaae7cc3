/* SPDX-License-Identifier: MIT */
/*
 * refs.h - private to index/: how many results refer to what, in which order results were used, and the sums that
 * say how large the cache is.
 *
 * An object is removed in a write transaction in which nothing refers to it, and idx_result_put looks in its own
 * whether each object that nothing referred to before is there. So no result that can be found lacks an object
 * because of gc, whatever else runs meanwhile; nobody takes a lock for that.
 *
 * Between "nothing refers to it" (doomed) and "removed" lies the time in which others, who found a result before it
 * was dropped, still read its objects: see gc.c.
 */
#ifndef MLFS_INDEX_REFS_H
#define MLFS_INDEX_REFS_H

#include "idx.h"

/* A record of TAB_REF; its key is an object's name, or a struct fp: a path set's id, refs_pair, a step key, the fingerprint
 * of a listing. */
struct ref {
	uint64_t count;
	uint64_t size; /* of an object, a path set */
	uint64_t
		doomed; /* since when nothing refers to it (CLOCK_REALTIME ns); 0: something does */
};
/* 1: there is one; 0: none. */
int ref_get(struct kv_txn *t, const void *key, size_t nkey, struct ref *ret,
	    struct err *e) must_check;

/* Sums, read at the beginning of a write transaction and written at its end. */
struct tally {
	uint64_t object_bytes; /* of files in cas/ that something refers to, or did */
	uint64_t record_bytes; /* of results, path sets and small objects, likewise */
	uint64_t doomed_bytes; /* of both, what nothing refers to any more */
	bool stale; /* not to be believed: what a damaged record referred to is not known */
};
int tally_load(struct kv_txn *t, struct tally *ret, struct err *e) must_check;
int tally_save(struct kv_txn *t, const struct tally *y, struct err *e) must_check;
/* What results take: the sum that a limit is about. */
uint64_t tally_bytes(const struct tally *y);

/* All that r refers to has one reference more; n: length of its record. Its path set is there. checked: an object that
 * had no reference must be there (-ESTALE: it is not). */
int refs_add(struct idx *x, struct kv_txn *t, struct tally *y, const struct result *r, size_t n,
	     bool checked, struct err *e) must_check;
/* One less. Objects are doomed when they have none left; path sets, what is kept of steps and listings go, and leave the
 * lists that they are in. */
int refs_del(struct kv_txn *t, struct tally *y, const struct result *r, size_t n,
	     struct err *e) must_check;
/* A doomed object is gone. */
void refs_gone(struct tally *y, const struct ref *f);

/* Result key was used at `when`; in both tables. */
int used_set(struct kv_txn *t, const uint8_t *key, uint64_t when, struct err *e) must_check;
int used_del(struct kv_txn *t, const uint8_t *key, struct err *e) must_check;
/* A key of TAB_LRU. */
#define LRU_KEY_SIZE 24
void lru_key(uint64_t when, const uint8_t *key, uint8_t ret[LRU_KEY_SIZE]);
/* A key of TAB_DOOMED. */
#define DOOMED_KEY_SIZE 40
void doomed_key(uint64_t when, const struct oid *o, uint8_t ret[DOOMED_KEY_SIZE]);
/* The time that such a key begins with. */
uint64_t key_time(const void *key);

/* Make TAB_REF, TAB_DOOMED, TAB_LRU and the tally anew from TAB_RESULT and TAB_USED. Results that make no sense go. */
int refs_rebuild(struct idx *x, struct kv_txn *t, struct err *e) must_check;

/* The key of a path set of a step in TAB_REF. */
struct fp refs_pair(const struct fp *step_key, const struct fp *path_set_id);
/* Each object that r refers to, as often as it does; the empty one, which is not kept, is left out. */
int each_object(const struct result *r, int (*fn)(void *arg, const struct oid *o, uint64_t size),
		void *arg) must_check;

/* results.c: the result under key with everything that hangs on it goes. 1: it was there; *ret (may be NULL) then says
 * what it was. */
struct removed {
	char *name;	/* malloc'ed; NULL: it made no sense */
	uint64_t bytes; /* that nothing else needs */
};
int result_remove(struct kv_txn *t, struct tally *y, const struct fp *key, struct removed *ret,
		  struct err *e) must_check;
/* results.c: id is no longer in the list under key (TAB_STEP). */
int list_remove(struct kv_txn *t, const struct fp *key, const struct fp *id,
		struct err *e) must_check;

#endif
