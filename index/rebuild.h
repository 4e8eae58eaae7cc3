/* SPDX-License-Identifier: MIT */
/* rebuild.h - private to index/: another data.mdb in place of the one that is there. */
#ifndef MLFS_INDEX_REBUILD_H
#define MLFS_INDEX_REBUILD_H

#include "idx.h"

#define REBUILD "index/rebuild"

/* Make the directory REBUILD, empty; remove it and what is in it. */
int rebuild_begin(int dirfd_, const char *dir, struct err *e) must_check;
void rebuild_end(int dirfd_);
/* REBUILD/data.mdb takes the place of index/data.mdb. Only by who holds index/ for itself alone, with it closed. */
int rebuild_put(int dirfd_, const char *dir, struct err *e) must_check;

/* Copy the index without its free pages, when nobody else has it open; else nothing is done. x is closed and opened
 * again meanwhile. An error other than of copying leaves x without an index: close it. */
int idx_shrink(struct idx *x, struct err *e) must_check;

#endif
