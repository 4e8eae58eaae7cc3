/* SPDX-License-Identifier: MIT */
/* decide.h - private to decide*.c: one lookup. */
#ifndef MLFS_DECIDE_H
#define MLFS_DECIDE_H

#include "diff.h"

/* One way of looking at a path, and what was seen. */
struct view {
	struct view *next;
	unsigned kinds;
	char *const *excluded; /* borrowed from the path set */
	size_t n_excluded;
	int err; /* 0, or -errno: the state could not be determined */
	struct buf state;
};

/* One path, looked at at most once. */
struct node {
	const char *path; /* borrowed from a path set or result, or the node's own (own_path) */
	char *own_path;
	struct stat_kept st;
	int st_err; /* errno of lstat, 0: st is valid */
	bool digested;
	int digest_err;
	struct fp digest;
	struct view *views;
};

struct look {
	struct idx *x;
	const struct exec_opts *o;
	const struct step *s;
	struct node **slots; /* open addressing, linear probing; cap is a power of two */
	size_t cap, n;
	struct arena nodes; /* and their views */
	struct path_set_list
		sets; /* of a lookup: those that were tried; the nodes borrow from them */
	const struct view ***views; /* for each of these, of each of its paths */
	const struct node *dir;	    /* looked up last by dir_of */
	char *reason; /* why a result that was found could not be used; the first is kept */
	/* NULL: the first difference ends the looking at a result. Else all are put here, and none is kept as the reason. */
	struct diffs *all;
	enum diff_kind kind; /* of what is refused now, for `all` */
	const char *about;   /* the path that it is about, or NULL */
	bool reading;	     /* one snapshot of the index for the whole lookup */
	bool passing; /* the outcome depends on something that may change with no change in its times */
	int64_t begun; /* CLOCK_REALTIME, before anything was looked at */
};

/* ---- decide_look.c: what is there now, each path looked at once ---- */

/* The node of a path, looked at when it is new. copy: `path` does not live as long as the lookup. A path in a
 * directory that is none, or reached through a symbolic link, is absent: the paths of records have no links in them. */
struct node *node_get(struct look *l, const char *path, bool copy);
bool node_absent(const struct node *n);
/* The digest of a regular file, computed once. 0 or -errno. */
int node_digest(struct look *l, struct node *n);
/*
 * What stands at a path now, in the words of a result. 1, or 0 when it is nothing a result can
 * describe (a socket or device), or -errno.
 */
int node_left(struct look *l, struct node *n, struct left *ret);
bool node_is_type(const struct node *n, enum out_type type);
/* The present state of a path as one path set wants it. */
const struct view *view_get(struct look *l, const struct path_entry *p);
void end_read(struct look *l);
void look_free(struct look *l);
/* Paths below the working directory are said relative to it. */
const char *shown(const struct look *l, const char *path);
/* Keeps the first reason: path sets come with the most recently useful one first. Takes `text`. False. */
bool refuse(struct look *l, char *text);
/* Is there a reason to look further at a result, of which all was good so far, or not? */
static inline bool look_on(const struct look *l, bool good)
{
	return good || l->all;
}

/* ---- decide.c ---- */

/* May this result be used at all: its age, status, console? False: refused. */
bool check_terms(struct look *l, const struct result *r);
bool check_stdin(struct look *l, const struct result *r, struct stdin_src *in);

/* ---- decide_outputs.c: may the outputs of a result be put in place? ---- */

/* Does what stands where its own outputs go stand as it did when the result was recorded? */
bool outputs_as_recorded(struct look *l, const struct result *r);
/* What is to be done to each output; false: it may not be, the reason is kept. set: what r was found by. */
bool check_outputs(struct look *l, const struct result *r, const struct path_set *set,
		   struct place *places);

/* ---- decide_why.c: why is it none? ---- */

/* Calls fn for each path whose state now is not the recorded one. How many there are. */
size_t each_difference(struct look *l, const struct path_set *set, const struct result *r,
		       void (*fn)(void *arg, const struct path_entry *p, const struct buf *was,
				  const struct view *now),
		       void *arg);
/* Of a lookup that tried all path sets: a sentence; caller frees. */
char *explain(struct look *l);
/* The same where nothing was recorded of the step: what differs from one of the same name and command. */
char *explain_new(struct look *l);

#endif
