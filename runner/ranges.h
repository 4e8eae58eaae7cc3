/* SPDX-License-Identifier: MIT */
/* ranges.h - private to runner/: which bytes of a file are locked, and how. */
#ifndef MLFS_RANGES_H
#define MLFS_RANGES_H

#include "../index/index.h"

/* Stronger ones are greater. */
enum hold { HOLD_NONE, HOLD_READ, HOLD_WRITE };

struct range {
	int64_t start, end; /* both belong to it; INT64_MAX: to the end, however far */
	enum hold hold;	    /* never HOLD_NONE */
};
/* {0} is an empty map. */
struct ranges {
	struct range *v; /* sorted, disjoint */
	size_t n, cap;
};

/* What is held at `at`; *ret_end is the last byte for which the same is true (of one range, or one
 * gap). */
enum hold ranges_at(const struct ranges *r, int64_t at, int64_t *ret_end);
/* From now on `hold` there, whatever it was. */
void ranges_set(struct ranges *r, int64_t start, int64_t end, enum hold hold);
/* At least `hold` there. */
void ranges_raise(struct ranges *r, int64_t start, int64_t end, enum hold hold);
/* Is at least `hold` held everywhere there? */
bool ranges_cover(const struct ranges *r, int64_t start, int64_t end, enum hold hold);
void ranges_free(struct ranges *r);
#define auto_ranges __attribute__((cleanup(ranges_free)))

#endif
