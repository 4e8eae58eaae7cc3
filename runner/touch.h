/* SPDX-License-Identifier: MIT */
/*
 * touch.h - private to runner/: did the step use one of its mounts at all?
 *
 * umount2(2) with MNT_EXPIRE marks a mount that nobody uses at the moment; any use takes the mark away, be it a look
 * for a name that is not there; the same call again unmounts it if the mark is still there. The mounts of a view are
 * its own, so that nobody else uses them.
 */
#ifndef MLFS_TOUCH_H
#define MLFS_TOUCH_H

#include <sys/types.h>

#include "../index/index.h"

/* The namespaces of the step, kept beyond its end. While they are, its mounts are. */
struct touch {
	int user, mounts; /* -1: not to be had; user also when it is our own */
};
/* pid: a process in them. */
void touch_open(pid_t pid, bool own_user, struct touch *ret);
void touch_close(struct touch *t);
/* The same, for when nobody else is in them: their mounts go by that. The kernel then ends the view's server first, and after
 * that drops all that it has cached of the view, which takes as long as freeing that memory does (20 ms for 64 MB): in
 * a thread of its own, which ends before the process does. */
void touch_leave(struct touch *t);
/* Was the mount at the path used since it was marked? It is asked once; true when it cannot be told. */
bool touch_was_used(const struct touch *t, const char *path);

#endif
