/* SPDX-License-Identifier: MIT */
/*
 * holder.h - private to runner/: which process has a lock of flock(2), where /proc/locks is silent.
 *
 * The kernel shows a lock with the process that took it, and leaves out one whose process has no number in the reader's PID
 * namespace (locks_translate_pid() of fs/locks.c). A lock of flock(2) outlives who took it: in `exec 9<f; flock 9` that is a
 * command that ends at once. In the first PID namespace it is shown all the same, in a container it is not. What the
 * descriptors of the processes hold can be read in each.
 */
#ifndef MLFS_HOLDER_H
#define MLFS_HOLDER_H

#include <sys/types.h>

#include "ranges.h"

/* A descriptor that was seen to hold a lock; all 0: none. */
struct holder {
	pid_t pid;
	int fd;
};

/* Does /proc/locks show locks of processes that have ended? */
bool holder_all_listed(void);
/* How the file of that device and number is held by flock(2), by any process that may be looked at. *h, where it was seen the
 * last time, is looked at first, and is where it was seen now. Else all processes are looked at: milliseconds. */
enum hold holder_find(dev_t dev, ino_t ino, struct holder *h);

#endif
