/* SPDX-License-Identifier: MIT */
/* diff.h - private to runner/: what differs between what was recorded and another time, in words. */
#ifndef MLFS_DIFF_H
#define MLFS_DIFF_H

#include "runner.h"

enum diff_kind {
	/* of the step itself */
	DIFF_ARGUMENT,
	DIFF_ENVIRONMENT,
	DIFF_DIRECTORY, /* it is run in */
	DIFF_USER,	/* ids, groups, umask */
	DIFF_STREAM,	/* what standard input, output, error or another descriptor is */
	DIFF_OPTION,	/* --salt, --strict, --ignore, --no-cache, --refresh */
	DIFF_MACHINE,
	/* of a path */
	DIFF_CONTENT,
	DIFF_APPEARED,
	DIFF_GONE,
	DIFF_TYPE,
	DIFF_LINK,
	DIFF_TIME, /* size or time of modification of a file that was only looked at */
	DIFF_MODE,
	DIFF_OWNER,
	DIFF_XATTRS,
	DIFF_LISTING,
	DIFF_UNKNOWN, /* it cannot be looked at, or what of it differs cannot be told */
	/* of a result */
	DIFF_OUTPUT,
	DIFF_STDIN, /* what is read from it */
	DIFF_TERMS, /* expired, failed, … */
};
struct diff {
	enum diff_kind kind;
	char *about; /* the path, or the variable; NULL: neither */
	char *text;  /* "data/raw.csv: content changed (2.1 MB → 2.3 MB, modified 10:42)" */
};
struct diffs {
	struct diff *v;
	size_t n;
};
/* about is copied; takes text. */
void diffs_add(struct diffs *d, enum diff_kind kind, const char *about, char *text);
/* The most telling ones first; else as they came. */
void diffs_sort(struct diffs *d);
void diffs_free(struct diffs *d); /* what is in it; it is empty then */
/* For programs: "content", "environment", … */
const char *diff_kind_word(enum diff_kind kind);

/* One state of a path. */
struct path_state {
	const void *state; /* its bytes, as results have them */
	size_t n;
	unsigned kinds;		    /* what was asked of it (enum obs) */
	const struct stat_kept *st; /* of what is there now; NULL: it is of a record */
	char *const *names;	    /* "tname", sorted, as its listing has them; NULL: not known */
	size_t n_names;
};
/* "content changed (…)": what differs between two states of a path, with its kind. NULL: nothing that both of them tell of. */
char *state_diff(const struct path_state *was, const struct path_state *now,
		 enum diff_kind *ret_kind);

/* ---- step_told.c: what a step key was made of ---- */

struct step_told {
	struct strlist argv, env, ignore;
	char *cwd, *machine, *salt; /* salt NULL: none */
	uint32_t umask, euid, egid, uid, gid;
	uint32_t *groups;
	size_t n_groups;
	uint8_t out, err; /* enum stream of step.c */
	bool strict;
	enum stdin_type in;
	struct fp in_fp; /* IN_FILE */
	uint64_t in_off;
	uint64_t in_device;
	struct buf passed;
	size_t command; /* so many bytes of the description are `passed`, the words and the directory */
};
/* From a description (struct step). -EBADMSG: it is of another version. */
int step_told(const struct buf *description, struct step_told *ret) must_check;
void step_told_free(struct step_told *t);
/* What differs between two steps, added to ret. */
void step_diff(const struct step_told *was, const struct step_told *now, struct diffs *ret);

#endif
