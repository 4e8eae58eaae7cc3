/* SPDX-License-Identifier: MIT */
/* lineage.h - private to runner/: which recorded steps made a file, from what, and so on back. */
#ifndef MLFS_LINEAGE_H
#define MLFS_LINEAGE_H

#include "decide.h"

#define LIN_NONE  SIZE_MAX
#define LIN_STDIN "/dev/stdin"

/* Whence a file came. */
enum lin_origin {
	LIN_MADE,   /* a step left just this content here */
	LIN_COPY,   /* a step left this content at another path */
	LIN_STDOUT, /* a step wrote this to its standard output, which the shell put here */
	LIN_SOURCE, /* no recorded step made it */
	LIN_EDITED, /* a step left something else here: what is between is not recorded */
	LIN_LOST,   /* a step made it, but its result is no longer in the cache */
};
/* Is what stands at its path still this? */
enum lin_now { LIN_SAME, LIN_CHANGED, LIN_GONE, LIN_UNREADABLE };

/* A content at a path. */
struct lin_file {
	char *path;
	struct fp content;
	uint64_t size;
	mode_t mode;
	bool is_stdin;	 /* what a step read from standard input; path is LIN_STDIN */
	bool no_content; /* nothing stands at the path; only what a step left there may be known */
	bool has_oid;
	struct oid oid;
	enum lin_origin origin;
	enum lin_now now;
	size_t maker; /* the step it came from; LIN_EDITED: that left something else here; LIN_NONE */
	size_t copy_of; /* LIN_COPY: the file that its maker left, of the same content */
	size_t *also;	/* other steps that made the same content, at this path or others */
	size_t n_also;
};
struct lin_step {
	struct fp key;
	char *name, *cwd;
	char **argv;
	size_t n_argv;
	int64_t started_ns, wall_ns;
	bool inputs_known;
	size_t *inputs; /* files */
	size_t n_inputs;
	size_t n_system; /* inputs that are left out */
	bool followed; /* else it is only one that also made something: its inputs were not looked at */
};
struct lineage {
	struct lin_file *files;
	size_t n_files;
	struct lin_step *steps;
	size_t n_steps;
	size_t *roots; /* the files asked about */
	size_t n_roots;
	size_t n_unmade; /* files of a directory that was asked about which no recorded step made; they are no roots */
};
/*
 * path: absolute, of a file or directory, or of what is gone. all: inputs of the system, too. -ENOENT: nothing is there, and no
 * step left anything there.
 */
int lineage_of(struct idx *x, const char *path, bool all, struct lineage *ret,
	       struct err *e) must_check;
void lineage_free(struct lineage *l);

/* ---- lineage_print.c ---- */

struct lin_output {
	const char *format; /* "text", "json", "dot", "prov" */
	const char *file;   /* as asked for, absolute */
	const char *cwd;    /* or NULL */
};
/* To standard output. The exit status. */
int lineage_print(const struct lineage *l, const struct lin_output *o, int status);
/* lineage_graph.c */
void lineage_dot(const struct lineage *l, const struct lin_output *o);
void lineage_prov(const struct lineage *l);

#endif
