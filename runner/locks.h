/* SPDX-License-Identifier: MIT */
/*
 * locks.h - private to runner/: advisory locks of the step are seen outside its view, and those
 * outside in it.
 *
 * The kernel keeps the locks of files in the view within the view, where they work as everywhere.
 * So each is mirrored by one on the real file. watch.c's filter stops a call that would lock before
 * it happens; here the mirror is taken, and the call goes on. When somebody outside has the file
 * locked, it waits or fails.
 */
#ifndef MLFS_LOCKS_H
#define MLFS_LOCKS_H

#include <linux/seccomp.h>
#include <sys/types.h>

#include "../fs/fs.h"

struct locks;

/* command: a process in the view. listener: where calls that wait are answered; fs: told when a
 * file may have been changed outside while it was not locked; both borrowed. NULL: it cannot be
 * done here, locks are then only kept within the view. */
struct locks *locks_new(int listener, pid_t command, struct fs *fs);
void locks_free(struct locks *l);

enum locks_answer {
	LOCKS_CONTINUE, /* let the call happen */
	LOCKS_ERROR,	/* it fails with *ret_error (positive) */
	LOCKS_DONE,	/* it has succeeded */
	LOCKS_LATER,	/* locks_retry answers it */
};
/* A call that was caught: flock, or fcntl about a lock. */
enum locks_answer locks_ask(struct locks *l, const struct seccomp_notif *req, int *ret_error);
/* Look again whether calls that wait may go on. Milliseconds until it is to be called next, -1:
 * none waits. */
int locks_retry(struct locks *l);

#endif
