/* SPDX-License-Identifier: MIT */
/* hash.h - private to index/: both digests of a stream of bytes at once. */
#ifndef MLFS_INDEX_HASH_H
#define MLFS_INDEX_HASH_H

#include "index.h"

/* Bytes that one read of a file asks for: in the second-level cache, and few system calls. */
#define HASH_CHUNK (256u << 10)

struct hasher;
/* want_fp / want_oid: what hasher_end is to give. -ENOMEM, or -EIO when OpenSSL has no SHA-256. */
int hasher_begin(bool want_fp, bool want_oid, struct hasher **ret) must_check;
int hasher_update(struct hasher *h, const void *p, size_t n) must_check;
/* Either may be NULL; one that was not wanted must be. The hasher remains to be freed. */
int hasher_end(struct hasher *h, struct fp *ret_fp, struct oid *ret_oid) must_check;
void hasher_free(struct hasher *h);

static inline void hasher_freep(struct hasher **h)
{
	hasher_free(*h);
}
#define auto_hasher __attribute__((cleanup(hasher_freep)))

#endif
