/* SPDX-License-Identifier: MIT */
/* lock_call.h - private to runner/: what a call about a lock asks for. */
#ifndef MLFS_LOCK_CALL_H
#define MLFS_LOCK_CALL_H

#include <linux/seccomp.h>

#include "target.h"

struct lock_call {
	pid_t tid, process;
	int fd, nr;
	uint64_t arg0, arg1;
	enum lock_kind kind;
	enum hold hold; /* HOLD_NONE: unlock */
	bool ask, wait; /* F_GETLK; F_SETLKW or flock without LOCK_NB */
	bool own_write; /* this very open file holds all of it for writing already */
	bool own_same;	/* … just so */
	bool own_any;	/* … holds something of it */
	int64_t start, end;
};

/* The call that was caught, of a descriptor that is f. False: it asks for nothing, or the kernel
 * will say what is wrong with it. */
bool lock_call_read(const struct seccomp_notif *n, const struct target_file *f,
		    struct lock_call *ret);

#endif
