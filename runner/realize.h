/* SPDX-License-Identifier: MIT */
/* realize.h - private to runner/: make all outputs below a directory real that are not yet, by the records of caches. */
#ifndef MLFS_REALIZE_H
#define MLFS_REALIZE_H

#include "runner.h"

/* A record says "SRC//PATH". */
#define RECORD_SEPARATOR "//"

struct realize {
	int root;	  /* of the tree, borrowed */
	const char *src;  /* its name in records, borrowed */
	struct unreal *v; /* what there is to do */
	size_t n;
	/* What was done: */
	size_t made, failed;
	uint64_t bytes;
};
/* Add what the cache open as `cache` (a directory, borrowed until realize_free) has of user `owner` in the tree. */
void realize_add(struct realize *r, int cache, uid_t owner);
/* How many bytes those that are where they were put stand for; they are counted in *ret_files. */
uint64_t realize_size(const struct realize *r, size_t *ret_files);
/* Do it. What was moved is looked for in the whole tree; records of what is not there any more go. */
void realize_all(struct realize *r);
void realize_free(struct realize *r);
#define auto_realize __attribute__((cleanup(realize_free)))

struct realized {
	size_t made, failed;
	uint64_t bytes;
	struct strlist
		mounted; /* directories over which a mount lies: nothing was done there. Caller frees */
};
/* fn(arg, UID) for each user who has a cache in the directory of all users' caches; false: there is no such directory. */
bool realize_users(const char *users, void (*fn)(void *arg, uid_t owner), void *arg);
/* All that the cache open as `cache` has of user `owner`, in whatever directories but these (NULL: in all). Adds to *ret. */
void realize_cache(int cache, uid_t owner, const struct strlist *but, struct realized *ret);

#endif
