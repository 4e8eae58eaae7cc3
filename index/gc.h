/* SPDX-License-Identifier: MIT */
/* gc.h - private to index/gc*.c: one run of the collector. */
#ifndef MLFS_INDEX_GC_H
#define MLFS_INDEX_GC_H

#include "refs.h"

/* What no result refers to any more is kept so long while others have the cache open: they may have found a result
 * before it was dropped, or an object before its last result was. */
#define GC_GRACE_NS (INT64_C(600) * 1000000000)

/* Bound of TAB_LEFT and of TAB_DIGEST: some 4 million records. */
#define GC_TABLE_BYTES (UINT64_C(256) << 20)

struct gc {
	struct idx *x;
	const struct idx_gc_options *o;
	struct idx_gc_counts *n;
	int64_t begun, end; /* mono_ns; end 0: no limit */
	struct err *e;
};
bool gc_time_is_up(struct gc *g);

/* gc_doomed.c. Move the file of an object out of the way, in a write transaction; gc_unlink removes it when that is over.
 * 1, 0: it stays. */
int gc_move_away(struct gc *g, struct buf *names, const struct oid *o);
void gc_unlink(struct gc *g, struct buf *names);

/* gc_doomed.c: objects that no result refers to any more go, when nobody can be using them. */
int gc_remove_doomed(struct gc *g) must_check;
/* Since when (CLOCK_REALTIME ns) the first of them waits; 0: there is none. */
int gc_first_doomed(struct idx *x, uint64_t *ret, struct err *e) must_check;

/* gc_sweep.c: objects that no result ever referred to. all: not only the next slice of them. */
int gc_sweep_objects(struct gc *g, bool all) must_check;
/* TAB_LEFT and TAB_DIGEST within bounds. */
int gc_trim(struct gc *g, bool all) must_check;

#endif
