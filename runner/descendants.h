/* SPDX-License-Identifier: MIT */
/* descendants.h - private to runner/: the processes of a step, all descendants of its supervisor (their subreaper). */
#ifndef MLFS_DESCENDANTS_H
#define MLFS_DESCENDANTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* fn(pid) for the direct children of this process. Returns how many. */
int each_child(void (*fn)(pid_t pid, void *arg), void *arg);
/* End every descendant of this process; returns when none is left. */
void kill_descendants(void);

/*
 * After the command: are they, or the threads of this process that serve them, about to do something? They are as long as one
 * is found running, waiting for a processor, or waiting for a disk at one of the last looks; but not for ever (GRACE_* in the
 * source).
 */
struct grace {
	int64_t begun_ns; /* 0: not yet */
	uint64_t ticks;	  /* of processor time used then */
	unsigned quiet;	  /* looks in a row that found nobody */
};
#define GRACE_LOOK_MS 20 /* between looks */
/* Look again. False: enough. */
bool grace_goes_on(struct grace *g);
/* One look. ret_ticks: the processor time all of them have used since they were started (sysconf(_SC_CLK_TCK)). */
bool descendants_busy(uint64_t *ret_ticks);

#endif
