/* SPDX-License-Identifier: MIT */
/* replay_times.h - private to runner/: the modification times that the outputs of a hit get. */
#ifndef MLFS_REPLAY_TIMES_H
#define MLFS_REPLAY_TIMES_H

#include "runner.h"

/* Into ret, one for each output of r: the time to give it. Meaningful for files, and for what the
 * step chose the time of. Called before anything is placed; now_ns: CLOCK_REALTIME. */
void replay_times(struct idx *x, const struct result *r, const struct place *places, int64_t now_ns,
		  struct timespec *ret);

#endif
