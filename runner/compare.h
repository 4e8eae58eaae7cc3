/* SPDX-License-Identifier: MIT */
/*
 * compare.h - where two streams first differ, and a guess why. Streams may be of any size: a few blocks of them are in
 * memory at a time.
 */
#ifndef MLFS_COMPARE_H
#define MLFS_COMPARE_H

#include "guess.h"

/* Beyond so many bytes it is not looked whether the same came in another order, nor which line it is. */
#define COMPARE_ORDER_MAX (32u << 20)

/* Bytes that can be read at any place: a file, or one stream of a console's record. */
struct source {
	int fd;				    /* borrowed */
	bool console;			    /* the pieces below make up the record; else a file */
	const struct console_chunk *chunks; /* borrowed */
	size_t n_chunks;
	uint8_t stream; /* 1, 2; 0: both in their order */
	/* where the last read ended, so that the next one need not count from the beginning */
	size_t chunk;
	uint64_t chunk_off, chunk_pos; /* the chunk's beginning in the stream and in fd */
};
struct source source_file(int fd);
struct source source_console(int fd, const struct console_chunk *chunks, size_t n_chunks,
			     uint8_t stream);
/* Fewer than n bytes only at the end; -errno. */
ssize_t source_read(struct source *s, void *p, size_t n, uint64_t off) must_check;

struct comparison {
	bool same;
	uint64_t size_then, size_now;
	uint64_t at;   /* the first offset with another byte, or where the shorter one ends */
	uint64_t line; /* the line it is in, from 1 on; 0: not text, or not counted */
	struct guess guess;
	bool order_unknown; /* too large to look for another order */
};
/*
 * context: what is known of the two runs besides their bytes (guess.h); its windows are filled in here. guess: say
 * why, which costs another reading of streams up to COMPARE_ORDER_MAX.
 */
int compare_streams(struct source *then, struct source *now, const struct guess_in *context,
		    bool guess, struct comparison *ret) must_check;
/* "at offset 17 (line 2): a timestamp ("…" then, "…" now)" appended to out. */
void compare_describe(const struct comparison *c, struct buf *out);

#endif
