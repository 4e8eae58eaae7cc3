/* SPDX-License-Identifier: MIT */
/* capture.h - private to capture*.c: one run on its way to a result. */
#ifndef MLFS_CAPTURE_H
#define MLFS_CAPTURE_H

#include "supervise.h"

/* A name that the step itself makes in a directory. */
struct made {
	const char *path;
	size_t dir_len; /* of the directory's part of path */
	bool temporary; /* gone again at the end */
};

struct work {
	const struct capture *c;
	struct outcome *ret;
	struct trace_path **v;
	struct stat_kept *now; /* as it is after the step */
	int *now_err;
	size_t n;
	struct made *made;
	size_t n_made;
	struct path_set set;
	struct result *r;
	struct idx_digest *digests; /* of captured outputs */
	size_t n_digests;
	char cannot[512]; /* why it is not stored */
};

/* Note why the result is not stored (the first reason stays). Returns -ECANCELED. */
int capture_refuse(struct work *w, const char *fmt, ...) printf_like(2, 3);
/* The cache, not the step, is the reason: the user is told in any case. */
#define cache_trouble(w, ...) ((w)->ret->cache_trouble = true, capture_refuse(w, __VA_ARGS__))

static inline struct stat now_of(const struct work *w, size_t k)
{
	return stat_again(&w->now[k]);
}

static inline bool was_there(const struct trace_path *p)
{
	return p->err == 0;
}

/* The step made what is here without having learned the content of what was here before (design 4). */
bool capture_is_own(const struct trace_path *p);
/* Its place among the sorted paths; w->n when it is none of them. */
size_t capture_find(const struct work *w, const char *path);

/* Open an output to read it; one that its owner may not read is made readable for an instant. -1 and errno. */
int capture_open(const char *path, const struct stat *st) must_check;
/* What stands at a path, for idx_left_add. False: it cannot be told. The caller frees it by left_free. */
bool capture_describe_left(struct idx *x, const char *path, const struct stat *st,
			   struct left *ret);

/* verify.c: compare the run with c->expected and write the verdict to c->verdict_fd. w->cannot: why the run could not
 * have been stored. */
enum verify_what {
	VERIFY_ALL,
	VERIFY_OUTPUTS, /* its inputs are not known in full */
	VERIFY_RUNNING, /* processes of it are alive: neither its console nor what it wrote elsewhere */
};
void verify_run(struct work *w, enum verify_what what);

/* capture_inputs.c: the path set and the state of each path in it. 0, or -ECANCELED. */
int capture_inputs(struct work *w) must_check;
/* Which of them were names of one file. */
void capture_same(struct work *w);
/* capture_outputs.c: what was left, into the store. 0, or -ECANCELED. */
int capture_outputs(struct work *w) must_check;
/* The objects of its outputs, once more. 0, or -ECANCELED. */
int capture_objects(struct work *w) must_check;

#endif
