/* SPDX-License-Identifier: MIT */
/*
 * mount_steps.h - private to runner/: which programs of a persistent mount are steps, and what becomes of them.
 *
 * Whoever executes a step is given a line instead that makes the kernel run `mlfs --mounted` in its place (mounted.h).
 * Patterns are those of the mount and of the files `.mlfs.conf` in its tree, of which the nearest that says something of a
 * program holds. A pattern with a slash means a path from where it stands, one without means a name anywhere below.
 */
#ifndef MLFS_MOUNT_STEPS_H
#define MLFS_MOUNT_STEPS_H

#include "runner.h"
#include "mount_tree.h"
#include "../fs/fs.h"

#define TREE_SETTINGS ".mlfs.conf"

/* All borrowed by mount_steps_new, but for the time of the call. */
struct mount_steps_options {
	const char *source, *mountpoint; /* absolute */
	int root;			 /* the source, O_PATH */
	const struct strlist *steps, *not_steps;
	const struct strlist
		*commands; /* of interpreters outside of the tree: "python3 train.py*" */
	const struct strlist *settings; /* "name=value", of all steps */
	const struct tree_share *share;
	const char *share_socket; /* where results of others are to be had (share.h), or NULL */
	const char *cache;	  /* or NULL: everybody's own */
	bool cache_of_each;	  /* `cache` holds one for each user, below CACHE_USERS */
};
struct mount_steps;
int mount_steps_new(const struct mount_steps_options *o, struct mount_steps **ret,
		    struct err *e) must_check;
void mount_steps_free(struct mount_steps *m);

/* The callbacks of struct fs_mount_options; arg is the struct mount_steps. Any thread. */
bool mount_steps_may_intercept(void *arg, const struct fs_request *q);
char *mount_steps_intercept(void *arg, const struct fs_request *q, const struct stat *st,
			    size_t *ret_size);
char *mount_steps_answer(void *arg, const struct fs_request *q, const char *question);

/* What became of the steps so far. */
struct mount_step {
	pid_t pid;
	uid_t uid;
	char *path;	  /* from the root of the mount */
	int64_t begun_ns; /* CLOCK_REALTIME */
	int64_t took_ns;  /* when it was run last in this mount; 0: not known */
};
struct mount_steps_status {
	uint64_t hits, misses, uncached;
	size_t unreal; /* outputs that are not real yet, and their bytes; not set by mount_steps_status */
	uint64_t unreal_bytes;
	uint64_t shared_hits; /* of the hits: by results of other users */
	double saved_seconds;
	struct mount_step *v; /* that run now, the oldest first */
	size_t n;
	char **ignored; /* files of settings that do not hold: what and why; NULL-terminated, or NULL */
};
void mount_steps_status(struct mount_steps *m, struct mount_steps_status *ret);
void mount_steps_status_free(struct mount_steps_status *s);

#endif
