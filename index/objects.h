/* SPDX-License-Identifier: MIT */
/* objects.h - private to index/: objects small enough to live in LMDB, gathered so that many share
 * a commit. */
#ifndef MLFS_INDEX_OBJECTS_H
#define MLFS_INDEX_OBJECTS_H

#include "idx.h"

struct objects *objects_new(void);
void objects_free(struct objects *o);

/* Keep n <= STORE_INLINE_MAX bytes whose name is oid; written when enough are gathered. */
int objects_put(struct idx *x, const struct oid *oid, const void *p, size_t n,
		struct err *e) must_check;
/* 1 and a malloc'ed copy (not yet compared with its name), or 0. */
int objects_get(struct idx *x, const struct oid *oid, void **ret, size_t *ret_n,
		struct err *e) must_check;
int objects_drop(struct idx *x, const struct oid *oid, struct err *e) must_check;

/* To write what is gathered within another transaction: lock, write in it, unlock saying whether it
 * came to be. */
void objects_lock(struct idx *x);
int objects_write(struct idx *x, struct kv_txn *t, struct err *e) must_check;
void objects_unlock(struct idx *x, bool written);

#endif
