/* SPDX-License-Identifier: MIT */
/* copy.h - private to index/: copying files while their bytes are hashed. */
#ifndef MLFS_INDEX_COPY_H
#define MLFS_INDEX_COPY_H

#include "hash.h"

/* 0 or -errno. */
int pwrite_all(int fd, const char *p, size_t n, uint64_t at) must_check;
/* Copy all of `from`, from offset 0, to the empty file `to`, and hash what goes through (h is borrowed, and
 * remains to be ended; NULL: it is only copied); holes stay holes. 0 or -errno. */
int copy_hashed(int from, int to, struct hasher *h, uint64_t *ret_size) must_check;
/* Likewise without looking at the bytes, by the kernel where it can. */
int copy_whole(int from, int to, uint64_t *ret_size) must_check;

#endif
