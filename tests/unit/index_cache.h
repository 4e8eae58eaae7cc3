/* SPDX-License-Identifier: MIT */
/* index_cache.h - for tests whose every function has a new cache of its own: setup and teardown, for one source file. */
#ifndef MLFS_TEST_INDEX_CACHE_H
#define MLFS_TEST_INDEX_CACHE_H

#include "index_util.h"

static char *dir, *cache; /* a scratch directory, and the cache's in it */
static struct idx *x;

static int setup(void **state)
{
	(void)state;
	dir = scratch_new();
	cache = in(dir, "cache");
	assert_ok(idx_open(cache, false, &x, &the_err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	idx_close(x);
	free(cache);
	scratch_free(dir);
	return 0;
}

#endif
