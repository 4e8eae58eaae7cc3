/* SPDX-License-Identifier: MIT */
/* sha256.h - private to index/: SHA-256 of a stream of bytes, by OpenSSL. */
#ifndef MLFS_INDEX_SHA256_H
#define MLFS_INDEX_SHA256_H

#include "index.h"

struct sha256;
/* -ELIBACC: libcrypto cannot be loaded; -ENOMEM; -EIO: it has no SHA-256. */
int sha256_begin(struct sha256 **ret) must_check;
int sha256_update(struct sha256 *s, const void *p, size_t n) must_check; /* -EIO */
/* s remains to be freed. */
int sha256_end(struct sha256 *s, struct oid *ret) must_check; /* -EIO */
void sha256_free(struct sha256 *s);			      /* NULL is fine */
/* Of few bytes without libcrypto. */
int sha256_of(const void *p, size_t n, struct oid *ret) must_check;

#endif
