/* SPDX-License-Identifier: MIT */
/*
 * verdict.h - what --verify found: made by the supervisor (verify.c), carried to the front through a descriptor, told
 * there.
 */
#ifndef MLFS_VERDICT_H
#define MLFS_VERDICT_H

#include "json.h"

/* So many are listed; the rest is counted. */
#define VERDICT_MAX_LISTED 10000

struct difference {
	char *path;	/* absolute; NULL: not of a file */
	char *what;	/* "content", "mode", "stdout", …: mlfs-exec(1) has the list */
	char *text;	/* how it differs, for people, without the path */
	char *cause;	/* the guess in it, or NULL */
	int64_t offset; /* the first differing one; -1: none */
};
struct verdict {
	struct difference *v;
	size_t n, cap;
	uint64_t total; /* differences, listed or not */
	bool dropped;	/* the cached result was damaged and is gone */
	char *unsure;	/* why it proves nothing that none was found, or NULL */
	struct strlist notes;
	/* Of the outputs of the cached result that are files, links and fifos: how many there are, and how many of
	 * them the step wrote anew, while the others stood there already. */
	uint64_t outputs, written;
};

/* cause: NULL allowed. */
void verdict_add(struct verdict *v, const char *path, const char *what, int64_t offset,
		 const char *cause, const char *text);
void verdict_note(struct verdict *v, const char *fmt, ...) printf_like(2, 3);
void verdict_free(struct verdict *v);

/* Replace what is in fd (a memfd); read it back. -EBADMSG: it is not whole. */
int verdict_write(const struct verdict *v, int fd, struct err *e) must_check;
int verdict_read(int fd, struct verdict *ret, struct err *e) must_check;

/* "out.txt: at offset 17: …", paths below cwd relative to it; nothing a terminal acts on. Caller frees. */
char *difference_line(const struct difference *d, const char *cwd);
/* For the report: why it is not verified, in a sentence; NULL when it is. Caller frees. */
char *verdict_reason(const struct verdict *v, const char *cwd);
/* The lines on stderr, the last one about the run as a whole. Differences are told at any verbosity; what the run does not
 * prove unless quiet; that all is well as report_line tells of a hit. */
void verdict_tell(const struct verdict *v, const struct report *r, int verbosity);
/* The members verified, outputs_written, differences and notes; v NULL: nothing was compared. */
void verdict_json(const struct verdict *v, struct json *j);

#endif
