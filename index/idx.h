/* SPDX-License-Identifier: MIT */
/* idx.h - private to index/: what an open cache consists of. */
#ifndef MLFS_INDEX_IDX_H
#define MLFS_INDEX_IDX_H

#include <stdatomic.h>

#include "env.h"

struct objects; /* objects.h: small objects not yet written */
struct digests; /* digest.c: digests not yet written */

struct idx {
	char *dir;
	int dirfd; /* all but LMDB's files is reached through it, whatever happens to the path */
	bool read_only;
	unsigned how;		       /* enum kv_how */
	unsigned version;	       /* of the cache's format, as it was found */
	bool in_view;		       /* this process lives in the view of an mlfs */
	const struct lazy_trees *lazy; /* idx_lazy_trees */
	atomic_bool held;	       /* nothing that can wait is written; see idx_open_for_job */
	struct kv *kv;
	struct objects *objects;
	struct digests *digests;
	atomic_uint temp_counter;
	atomic_uint_least64_t put_bytes, new_bytes; /* of objects, since it was opened */
};

/* dir.c: a name under tmp/ that no one else takes: "tmp/<pid>-<counter>-<random>". */
#define TEMP_NAME_SIZE 64
void idx_temp_name(struct idx *x, char name[TEMP_NAME_SIZE]);

/* Has a process that is gone left this behind? tmp: its directory. */
bool idx_temp_is_stale(int tmp, const char *name);
/* 0: the version is one this mlfs knows. -EUCLEAN: there is a cache, but the file makes no sense. Else e says why. */
int idx_version_check(int dirfd_, const char *dir, struct err *e) must_check;
int idx_version_write(int dirfd_, const char *dir, struct err *e) must_check;
/* dir.c: as idx_open, for who has locked dir/index for itself alone (env.h). */
int idx_open_held(const char *dir, struct idx **ret, struct err *e) must_check;

/* lock.c: the keys that somebody holds now, malloc'ed; how many. */
size_t locks_held(struct idx *x, struct fp **ret);

/* placing.c: if name, in the directory tmp, is of a restore that was killed, tidy up after it. */
void placing_tidy(int tmp, const char *name);

/* digest.c */
struct digests *digests_new(void);
void digests_free(struct digests *d);
/* Write what idx_digest_add has gathered. */
int digests_flush(struct idx *x, struct err *e) must_check;
/* Does every change of the file show in its times, to one who has asked for them before? */
bool times_are_exact(struct idx *x, const struct stat *st);

/* uses.c: hits noted in a journal, moved into LMDB by the next writer. */
int uses_add(struct idx *x, const struct result *r, struct err *e) must_check;
/* Take the journal over; what a caller that is then killed has taken is lost, and only that. */
void uses_take(struct idx *x, struct buf *ret);
int uses_move(struct idx *x, struct err *e) must_check; /* both, in a transaction of their own */
int uses_apply(const struct buf *taken, struct kv_txn *t, struct err *e) must_check;

/* uses.c: length of the whole record at p, 0 when there is none. stamps.c: is this slot as it was written? */
size_t uses_record_at(const uint8_t *p, size_t left);
#define STAMP_SLOT_SIZE 128
bool stamps_slot_whole(const uint8_t *b);

/* state.c: fingerprint of a listing ("tname", sorted) without the excluded names (sorted); and the walk through both: is this
 * name excluded? *at is 0 at first. */
struct fp list_fp(char *const *list, size_t n, char *const *excluded, size_t n_excluded);
bool list_skips(char *const *excluded, size_t n, size_t *at, const char *name);

/* results.c: put id first in the step's list of path sets; add: also when it is not in it yet. */
int step_promote(struct kv_txn *t, const struct fp *step_key, const struct fp *id, bool add,
		 struct err *e) must_check;
/* Is this key in TAB_STEP that of a step? (There are keys of other lists.) */
bool is_step(struct kv_txn *t, const struct fp *key);

#endif
