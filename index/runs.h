/* SPDX-License-Identifier: MIT */
/*
 * runs.h - private to index/: the journal of runs, and what is made of it for reading (docs/format.md).
 *
 *   index/runs      where runs are added; when it is long it becomes the next segment
 *   index/runs.N    segments, closed; N counts up
 *   index/rows.N    what can be known of a segment without reading it: made from it, and can be made again
 */
#ifndef MLFS_INDEX_RUNS_H
#define MLFS_INDEX_RUNS_H

#include "idx.h"

#define RUNS_ACTIVE	 "index/runs"
#define RUNS_SEGMENT	 "index/runs.%u"
#define RUNS_ROWS	 "index/rows.%u"
#define RUNS_NAME_SIZE	 32
#define RUNS_SEGMENT_MAX (4u << 20) /* longer, and the journal becomes a segment */
#define RUNS_HEAD_SIZE	 16
#define RUNS_PAYLOAD_MAX (1 << 16) /* of what we write: less than 20 KB */

/* ---- runs_record.c: one record ---- */

struct run_text {
	const char *p; /* not NUL-terminated; NULL: none */
	size_t n;
};
/* A record as it lies in memory. */
struct run_view {
	int64_t started_ns, wall_ns, saved_ns;
	struct run_text name, reason, cwd;
	struct run_text command; /* version 1: the words with blanks between */
	uint64_t argc;		 /* version 2 */
	struct cur argv;	 /* version 2: n_argv strings */
	size_t n_argv;
	uint8_t result, flags, exit_status;
	uint64_t inputs, outputs, output_bytes, put_bytes, new_bytes;
	struct fp step_key, input_key;
};
#define RUN_STORED	 1 /* flags */
#define RUN_STATUS_KNOWN 2
#define RUN_ARGV_CUT	 4 /* the last word that is there */
#define RUN_FLAGS	 7

/* The whole record, ready to be written. */
void runs_encode(const struct run *r, struct buf *out);
/* Length of the whole record at p, 0 when there is none. */
size_t runs_record_at(const uint8_t *p, size_t left);
/* Of a whole record. False: of a later version, or it makes no sense. */
bool runs_view(const uint8_t *record, size_t n, struct run_view *ret);
/* The next offset >= at where a whole record may begin; n when there is none. */
size_t runs_resync(const uint8_t *p, size_t n, size_t at);

/* ---- runs_rows.c: a segment as rows of one size ---- */

#define ROWS_NONE UINT32_MAX

/* Little-endian; see docs/format.md. */
struct rows_head {
	char magic[8];
	uint64_t guard;		    /* XXH3-64 of all that follows */
	uint64_t covered;	    /* bytes of the segment that are in the rows */
	uint64_t first_ns, last_ns; /* the least and the greatest `started` */
	uint32_t n_rows, n_texts;
	uint64_t text_bytes, zero;
};
struct rows_row {
	uint64_t started_ns;
	uint64_t wall_ns; /* UINT64_MAX: not known */
	uint64_t saved_ns;
	uint64_t bytes; /* of a hit: of its outputs; else those put into the store */
	uint64_t new_bytes;
	uint32_t name, reason; /* texts; or ROWS_NONE */
	uint32_t at;	       /* where the record begins in the segment */
	uint8_t step_key[RUN_KEY_BYTES], input_key[RUN_KEY_BYTES];
	uint8_t result, flags, exit_status, zero;
};
struct rows_text {
	uint64_t hash;	/* XXH3-64 */
	uint32_t at, n; /* among the texts; a NUL follows */
};

/* Rows of the bytes [0, n) of a segment, of which p holds those from `from` on. ret->covered: up to the end of its last
 * whole record. */
void rows_make(const uint8_t *p, size_t n, uint64_t from, struct buf *ret);
/* Are these bytes rows, whole? */
bool rows_whole(const void *p, size_t n);
/* Make rows.N of a segment, unless there are some or (anew) in their place. */
int rows_write(struct idx *x, unsigned segment, bool anew, struct err *e) must_check;
const struct rows_row *rows_first(const struct rows_head *h);
/* A text by its number: NUL-terminated, *ret_hash may be NULL. NULL: there is none. */
const char *rows_text(const struct rows_head *h, uint32_t n, uint64_t *ret_hash);

/* ---- runs.c: segments ---- */

/* The numbers of the segments that there are, ascending; malloc'ed. all: also those of which there are only rows. */
int runs_segments(int dirfd_, bool all, unsigned **ret, size_t *ret_n);
void runs_segment_name(char name[RUNS_NAME_SIZE], const char *format, unsigned n);

#endif
