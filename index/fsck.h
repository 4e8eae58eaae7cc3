/* SPDX-License-Identifier: MIT */
/* fsck.h - private to index/fsck*.c: one check of a cache. */
#ifndef MLFS_INDEX_FSCK_H
#define MLFS_INDEX_FSCK_H

#include "refs.h"

/* An object that no result refers to is left alone for so long, when others have the cache open. */
#define FSCK_YOUNG_NS (INT64_C(3600) * 1000000000)

/* How a problem is mended. */
enum mend {
	MEND_NOT,
	MEND_DONE,   /* already */
	MEND_RECORD, /* delete it from a table of the index */
	MEND_INDEX,  /* make the index anew, without it; only alone */
	MEND_OBJECT, /* unlink it, if it still is what it was */
	MEND_FILE,   /* unlink it; only alone */
	MEND_LOCK,   /* unlink it, when nobody holds it */
	MEND_REFS,   /* count anew what refers to what */
};
struct problem {
	bool broken;
	const char *what; /* literal */
	char *name;
	char *detail;
	enum mend mend;
	bool mended;
	/* MEND_RECORD */
	enum tab tab;
	uint8_t key[40];
	size_t nkey;
	uint64_t guard; /* XXH3-64 of the value that was judged; 0: whatever is there now */
	struct oid oid; /* MEND_OBJECT */
	uint64_t bytes; /* that it takes */
};

/* An object that is there. */
struct known {
	struct oid oid;
	uint64_t size;
	bool small; /* in LMDB */
	bool good;
	bool wanted;
	int64_t mtime_ns;
};
struct wanted {
	struct oid oid;
	uint64_t size;
	const char *as; /* literal: "its console" */
};
struct judged { /* a result */
	struct fp key, step_key, path_set;
	size_t bytes; /* of its record */
	char *name;
	size_t first, n; /* of the wanted ones */
	size_t n_states;
	uint64_t guard;
};
struct set { /* a path set */
	struct fp id;
	size_t n;
	bool used;
};

struct note { /* in TAB_NOTE */
	uint8_t kind;
	struct fp of;
	uint64_t bytes;
};

struct fsck {
	const char *dir;
	const struct fsck_options *o;
	struct fsck_counts *n;
	struct err *e;
	int dirfd;
	int lock;   /* index/, locked for us alone; -1: not */
	bool alone; /* then this is the second look: `seen` has what the first found of objects */
	const struct known *seen; /* sorted by oid; borrowed */
	size_t n_seen;
	struct idx *x;
	bool no_version; /* it makes no sense, and is not mended */
	bool missing;	 /* there is no index */
	bool damaged;	 /* pages of it are */
	bool disordered; /* records that are damaged, or are not found by their keys */
	int64_t begun_ns;
	struct problem *problems;
	size_t n_problems, cap_problems;
	struct known *objects; /* sorted by oid, once all are there */
	size_t n_objects, cap_objects;
	struct wanted *wanted;
	size_t n_wanted, cap_wanted;
	struct judged *results;
	size_t n_results, cap_results;
	struct set *sets;
	size_t n_sets, cap_sets;
	struct buf used, io; /* input keys of TAB_USED and TAB_IO */
	struct note *notes;
	size_t n_notes, cap_notes;
	struct buf listings, steps; /* fingerprints that results refer to */
	struct buf used_lru, lru;   /* keys that TAB_LRU should have, and that it has */
	struct buf refs;	    /* struct counted, each record of TAB_REF */
	struct buf doomed;	    /* keys of TAB_DOOMED */
	struct tally tally;
	int64_t told_ns; /* when progress was told last */
};

/* Grow a vector for one more. */
#define fsck_grow(v, n, cap)                                       \
	do {                                                       \
		if ((n) == (cap)) {                                \
			(cap) = (cap) ? (cap)*2 : 64;              \
			(v) = xrealloc((v), (cap) * sizeof(*(v))); \
		}                                                  \
	} while (0)

/* Note a problem; name and detail are copied. The problem noted, for what else is to be set; good until the next. */
struct problem *fsck_note(struct fsck *f, bool broken, enum mend mend, const char *what,
			  const char *name, const char *detail);

/* How many threads for n things. */
#define FSCK_MAX_THREADS 16
unsigned fsck_threads(const struct fsck *f, size_t n);
/* By the thread that called idx_fsck, as often as it likes. */
void fsck_tell(struct fsck *f, const char *what, uint64_t done, uint64_t all);

/* fsck_parts.c: all records of the tables, by several threads. look: as kv_each's callback, with the place. What it notes in
 * at->f is all in f in the end, in the order of tables and keys. */
struct fsck_at {
	struct fsck *f; /* what one thread finds */
	struct kv_txn *t;
	enum tab tab;
};
int fsck_each_record(struct fsck *f, struct kv_txn *t,
		     int (*look)(struct fsck_at *at, struct kv_val key,
				 struct kv_val v)) must_check;
/* fsck_records.c: is a record found by its key, in a tree that is in order? */
bool fsck_is_found(struct kv_txn *t, enum tab tab, struct kv_val key, struct kv_val v);
/* fsck_records.c: could this be a key of that table? A page of one may have come into the tree of another. */
bool fsck_fits(enum tab tab, struct kv_val key);
/* All that is in LMDB; then what refers to what. Needs f->x. */
int fsck_records(struct fsck *f) must_check;
void fsck_references(struct fsck *f);
/* fsck_refs.c: note a record of TAB_LRU, TAB_REF, TAB_DOOMED or TAB_TALLY; then whether they are what the results say.
 * NULL: well. */
const char *fsck_look_at_refs(struct fsck *f, enum tab tab, struct kv_val key, struct kv_val v);
void fsck_refs(struct fsck *f);
/* fsck_files.c: objects under cas/, what lies in tmp/ and lock/, the journals. */
int fsck_objects(struct fsck *f) must_check;
int fsck_files(struct fsck *f) must_check;
int fsck_journals(struct fsck *f) must_check;
/* Would the object's file hash to its name now? */
bool fsck_object_good(int dirfd_, const struct oid *o, uint64_t *ret_size);
void fsck_object_name(const struct oid *o, char name[80]);

#endif
