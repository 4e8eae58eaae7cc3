/* SPDX-License-Identifier: MIT */
/* target.h - private to runner/: what /proc tells of a thread of the step whose system call is held
 * up. */
#ifndef MLFS_TARGET_H
#define MLFS_TARGET_H

#include <dirent.h>
#include <sys/types.h>

#include "ranges.h"

/* The next process of /proc, thread or descriptor in a directory of those; -1: that was all, or d is NULL. */
int target_next(DIR *d);
/* Copy n bytes at `addr` of the process; 0, or -errno: -EFAULT when the call itself will fail for
 * it, -ESRCH when the process is gone, else it may not be looked into. */
int target_read(pid_t pid, uint64_t addr, void *p, size_t n) must_check;
int target_write(pid_t pid, uint64_t addr, const void *p, size_t n) must_check;
/* The process that thread `tid` belongs to; tid itself when it cannot be told. */
pid_t target_process(pid_t tid);

/* Who owns a lock: a process, or an open file. FLOCK locks do not meet the others. */
enum lock_kind { LOCK_FLOCK, LOCK_POSIX, LOCK_OFD };

/* A line of /proc/locks, or of "lock:" in fdinfo. */
struct lock_line {
	enum lock_kind kind;
	enum hold hold;
	pid_t pid;
	dev_t dev;
	ino_t ino;
	int64_t start, end;
};
/* False: not a lock that is held, or none of the three kinds. */
bool lock_line_parse(const char *line, struct lock_line *ret);

/* A descriptor of the target. */
struct target_file {
	ino_t ino; /* as the view shows it */
	int mnt_id;
	unsigned flags;
	int64_t pos;
	struct ranges held[3]; /* what this open file holds, by enum lock_kind */
};
int target_file_get(pid_t tid, int fd, struct target_file *ret) must_check;
void target_file_free(struct target_file *f);
/* How this descriptor's open file holds the file of that device and number by flock(2). */
enum hold target_flock(pid_t pid, int fd, dev_t dev, ino_t ino);
#define auto_target_file __attribute__((cleanup(target_file_free)))
/* Device of the mount that the descriptor's file lies on. Asks no file server. */
int target_device(pid_t tid, int fd, dev_t *ret) must_check;
/* Is the mount the root of a view of mlfs (this one or one inside it)? */
bool target_mount_is_view(pid_t tid, int mnt_id);
/* Open the file below the view that the descriptor stands for; flags O_RDONLY or O_RDWR. -ESTALE
 * when what has its path here is another file, -ENOENT when it has none. */
int target_open(pid_t tid, int fd, ino_t shown, int flags) must_check;

/* Has the thread left the system call `nr`(arg0, arg1, ...) that it was let into? *seen is for the
 * caller to keep from one question to the next; 0 at first. */
bool target_has_left(pid_t tid, int nr, uint64_t arg0, uint64_t arg1, uint64_t *seen);

/* Does a signal wait for the thread that would interrupt what it waits in? */
enum signals { SIGNAL_NONE, SIGNAL_SHARED /* another thread may take it */, SIGNAL_OWN };
enum signals target_signals(pid_t tid, pid_t process);
/* Does a signal do something to the thread: neither blocked nor ignored? */
bool target_would_heed(pid_t tid, int sig);

#endif
