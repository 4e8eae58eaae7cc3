/* SPDX-License-Identifier: MIT */
/* keep.h - private to runner/: what `mlfs gc`, `mlfs forget` and the end of a recorded step have in common. */
#ifndef MLFS_KEEP_H
#define MLFS_KEEP_H

#include "json.h"
#include "words.h"

/* The setting of max-size in bytes: MAX_SIZE_DEFAULT is what the file system makes of it. */
uint64_t keep_max_size(const struct idx *x, uint64_t setting);
/* max-age in seconds (< 0: never) as idx_gc wants it. */
int64_t keep_max_age(double seconds);

/* Results as they go. */
struct going {
	const struct query *q;
	bool dry_run, list; /* list: each is named */
	struct json json;   /* an array of them, when --json */
	bool bar;	    /* there is a line of progress on the terminal */
	int64_t begun;
	uint64_t results, bytes;
};
void going_begin(struct going *g, const struct query *q, bool dry_run, bool list);
void going_gone(void *arg, const struct idx_gc_gone *gone);
/* Draws once it has taken a while. */
void going_progress(void *arg, uint64_t done, uint64_t of);
void going_end_bar(struct going *g);

#endif
