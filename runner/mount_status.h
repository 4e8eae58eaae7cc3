/* SPDX-License-Identifier: MIT */
/* mount_status.h - private to runner/: what the server of a mount answers about itself. */
#ifndef MLFS_MOUNT_STATUS_H
#define MLFS_MOUNT_STATUS_H

#include "mount_steps.h"

/* Questions; extended attributes of any file of the mount. */
#define MOUNT_ASK_ABOUT	  "user.mlfs.about"  /* lines "name=value" */
#define MOUNT_ASK_STATUS  "user.mlfs.status" /* a JSON object */
#define MOUNT_ASK_TEXT	  "user.mlfs.status.text"
#define MOUNT_ASK_RUNNING "user.mlfs.running" /* how many steps, in decimal */
#define MOUNT_ASK_SETTLE  "user.mlfs.settle"  /* see mount_lazy_settling */

/* What does not change. */
struct mount_told {
	bool browse;
	const char *src, *mnt;
	const char *cache;  /* NULL: each user's own */
	int64_t began_ns;   /* CLOCK_REALTIME */
	const char *shared; /* how users share the cache; NULL: they do not */
};
/* The answer (caller frees), or NULL: it is another question. status: NULL where there are no steps. requests: "LOOKUP=12 … total=15". */
char *mount_answer(const struct mount_told *t, const struct mount_steps_status *s,
		   const char *requests, const char *question);

#endif
