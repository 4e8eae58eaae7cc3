/* SPDX-License-Identifier: MIT */
/* record.h - private to index/: pieces that the records' encoders share. */
#ifndef MLFS_INDEX_RECORD_H
#define MLFS_INDEX_RECORD_H

#include "index.h"

/* A path that shares its beginning with the one before it. */
void put_path(struct buf *out, const char *prev, const char *path);
/* A string that may be NULL. */
void put_opt_str(struct buf *out, const char *s);
char *get_opt_str(struct cur *c);		 /* NULL also when bad */
void get_raw(struct cur *c, void *to, size_t n); /* zeros when bad */
/* A count of things that take at least `min` bytes each: more than could follow is bad, and gives
 * 0. */
size_t get_count(struct cur *c, size_t min);

/* Is it a result as an earlier mlfs wrote it? It is not there for this one. */
bool result_is_earlier(const void *p, size_t n);

/* The beginning of a result's record; what it points to is in p. -EBADMSG. */
int result_head(const void *p, size_t n, struct idx_head *ret) must_check;

/* left.c: canonical bytes of what stands at a path. */
void left_encode(const struct left *l, struct buf *out);
void left_decode(struct cur *c, struct left *ret);

/* A decoder may make at most so many bytes of paths out of n bytes (prefixes that lie are found
 * so). */
static inline size_t path_budget(size_t n)
{
	return n > (SIZE_MAX >> 10) ? SIZE_MAX : 65536 + n * 256;
}
/* The next path, malloc'ed; NULL when bad. Takes from *budget. */
char *get_path(struct cur *c, const char *prev, size_t *budget);

#endif
