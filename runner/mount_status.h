/* SPDX-License-Identifier: MIT */
/* mount_status.h - private to runner/: what the server of a mount answers about itself. */
#ifndef MLFS_MOUNT_STATUS_H
#define MLFS_MOUNT_STATUS_H

#include "../index/index.h"

/* Questions; extended attributes of any file of the mount. */
#define MOUNT_ASK_ABOUT	  "user.mlfs.about"  /* lines "name=value" */
#define MOUNT_ASK_STATUS  "user.mlfs.status" /* a JSON object */
#define MOUNT_ASK_TEXT	  "user.mlfs.status.text"
#define MOUNT_ASK_RUNNING "user.mlfs.running" /* how many steps, in decimal */

/* A step that is running in the mount. */
struct mount_step_now {
	const char *name; /* borrowed */
	pid_t pid;
	uid_t uid;
	int64_t started_ns;  /* CLOCK_REALTIME */
	int64_t expected_ns; /* how long it took last time; 0: not known */
};
/* What steps did in the mount since it was made. */
struct mount_status {
	struct mount_step_now *steps; /* the oldest first */
	size_t n_steps;
	uint64_t hits, misses, uncached;
	int64_t saved_ns;
	char *const *
		ignored; /* files of settings that do not hold: what and why; NULL-terminated, or NULL; borrowed */
};
/* What does not change. */
struct mount_told {
	bool browse;
	const char *src, *mnt;
	const char *cache;  /* NULL: each user's own */
	int64_t began_ns;   /* CLOCK_REALTIME */
	const char *shared; /* how users share the cache; NULL: they do not */
};
/* The answer (caller frees), or NULL: it is another question. status: NULL where there are no steps. requests: "LOOKUP=12 … total=15". */
char *mount_answer(const struct mount_told *t, const struct mount_status *s, const char *requests,
		   const char *question);

#endif
