/* SPDX-License-Identifier: MIT */
/*
 * mirror.h - private to runner/: one mirror, which stands for all locks of one file in the view;
 * see locks.c. Those of flock(2) and those of fcntl(2) have one each.
 */
#ifndef MLFS_MIRROR_H
#define MLFS_MIRROR_H

#include <fcntl.h>
#include <sys/stat.h>

#include "holder.h"
#include "lock_call.h"

/* A lock in the view, or one about to be there. */
struct claim {
	enum lock_kind kind;
	enum hold hold;
	int64_t start, end;
	pid_t process; /* that took it; 0: one that has ended */
	/* The thread that was let go on to take it, and the call it was in; 0: it has done so. */
	pid_t tid;
	int nr;
	uint64_t arg0, arg1, seen;
};

struct mirror {
	dev_t dev; /* of the view; with ino as the view shows it */
	ino_t ino;
	bool flock;
	bool writable;
	int fd;
	struct ranges held;
	struct claim *claims;
	size_t n, cap;
	struct holder holder; /* of what has no line in /proc/locks */
	unsigned waiters;
	int64_t used_ns;
	/* The real file when the view's idea of it was last thrown away. */
	struct stat at_refresh;
	int64_t refresh_ns;
	struct mirror *next; /* for the owner */
};

struct flock as_flock(int64_t start, int64_t end, enum hold hold);
/* Strengthen the lock so that it covers what is asked for. 0, -EAGAIN when somebody outside has a
 * lock in the way, or -errno. *ret_new: something of it had not been locked at all. */
int mirror_raise(struct mirror *m, const struct lock_call *q, bool *ret_new) must_check;
/* Weaken it to what is claimed; never strengthen it. */
void mirror_lower(struct mirror *m);
void mirror_free(struct mirror *m);

void claim_add(struct mirror *m, const struct claim *c);
void claim_remove(struct mirror *m, size_t k);
/* Who unlocks, or only keeps a weaker lock, has no claim there any more. own: what the open file held before. */
void claim_forget(struct mirror *m, const struct lock_call *q, const struct ranges *own);
/* The calls that were let go on and are through by now, as far as that can be told. */
void claim_settle(struct mirror *m);

#endif
