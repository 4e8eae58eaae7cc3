/* SPDX-License-Identifier: MIT */
/*
 * lazy_step.h - private to runner/: what a step has to do with outputs in persistent mounts that are not real yet: its hit leaves
 * some, its lookup takes them for files, and where its run meets one that is made real.
 */
#ifndef MLFS_LAZY_STEP_H
#define MLFS_LAZY_STEP_H

#include "mounted.h"

struct lazy_step {
	const struct mounteds *mounts; /* borrowed */
	char **src;		 /* one for each; NULL: this step may leave no placeholder there */
	int cache;		 /* its directory: for where no server answers any more */
	struct lazy_trees trees; /* for everybody who looks on behalf of the step */
};
/* After mounted_enter: x is the cache of the step, which takes them for files from now on. no_lazy: it is to leave none. */
void lazy_step_begin(struct lazy_step *l, const struct mounteds *m, struct idx *x, bool no_lazy);
void lazy_step_end(struct lazy_step *l);

/* May the output at path be a placeholder? Then what its record is to say (caller frees), else NULL. */
char *lazy_step_may(const struct lazy_step *l, const char *path);
/* What no mount shows any more, because its server was killed, is made real where the cache x knows of it: how many. */
int lazy_step_orphans(const struct lazy_step *l, struct idx *x);

#endif
