/* SPDX-License-Identifier: MIT */
/*
 * lazy_step.h - private to runner/: what a step in a persistent mount has to do with outputs that are not real yet: its hit
 * leaves some, and its run must not meet any; see mount_lazy.h.
 */
#ifndef MLFS_LAZY_STEP_H
#define MLFS_LAZY_STEP_H

#include "mounted.h"

struct lazy_step {
	const struct mounteds *mounts; /* borrowed; all below is one for each */
	struct lazy_mount {
		char *src; /* NULL: this step may leave no placeholder there */
		int token; /* open while it places some; -1: not, or it may not */
		bool asked;
		int run;  /* open while it runs: a directory of the mount, */
		int tree; /* ... and the directory that it shows, locked */
	} * v;
};
/* After mounted_enter: x is the cache of the step. no_lazy: it is to leave no placeholders. */
void lazy_step_begin(struct lazy_step *l, const struct mounteds *m, struct idx *x, bool no_lazy);
void lazy_step_end(struct lazy_step *l);

/* May the output at path be a placeholder? Then what its record is to say (caller frees), else NULL. It holds until lazy_placed. */
char *lazy_step_may(struct lazy_step *l, const char *path);
void lazy_step_placed(struct lazy_step *l);
/* What no mount shows any more, because its server was killed, is made real where the cache x knows of it: how many. */
int lazy_step_orphans(struct idx *x);
/* The step is about to run, until this process and its children have ended: > 0 when outputs had to be made real. -EIO: not all could
 * be, and only the mount shows those as what they are. */
int lazy_step_runs(struct lazy_step *l) must_check;

#endif
