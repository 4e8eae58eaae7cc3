/* SPDX-License-Identifier: MIT */
/* salvage.h - private to index/: what can be read of a damaged data.mdb. */
#ifndef MLFS_INDEX_SALVAGE_H
#define MLFS_INDEX_SALVAGE_H

#include "env.h"

/* Every record that can be reached in the file (of so many bytes): the name of its table, its key, its value with its guard,
 * none of them to be believed. Stops when fn returns non-zero, and returns that; -ENOMEM. */
int salvage_each(int data_fd, uint64_t bytes,
		 int (*fn)(void *arg, struct kv_val table, struct kv_val key, struct kv_val raw),
		 void *arg) must_check;

#endif
