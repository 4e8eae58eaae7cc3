/* SPDX-License-Identifier: MIT */
/*
 * probe.h - private to runner/: wait for a lock on a real file among all the others who wait for
 * it.
 *
 * Who only looks every few milliseconds whether a lock is free never gets one that others hand to
 * each other. So a thread waits for it as anybody does, on an open file of its own, and says when
 * it has it.
 */
#ifndef MLFS_PROBE_H
#define MLFS_PROBE_H

#include "lock_call.h"

struct probe;
/*
 * Wait for what q wants on the file behind fd (borrowed during this call). got(arg) is called in
 * the thread, with the lock held: it is to call probe_release, and returns false when the wait is
 * to begin again. NULL: no thread can be had.
 */
struct probe *probe_start(int fd, const struct lock_call *q, bool (*got)(void *arg), void *arg);
void probe_release(struct probe *p);
/* Make it end, without waiting for that. True: it has ended and p is freed; else ask again. */
bool probe_stop(struct probe *p);

#endif
