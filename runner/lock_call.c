/* SPDX-License-Identifier: MIT */
/* lock_call.c - flock(2), and fcntl(2) about locks, as the caller meant them. */
#include "lock_call.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static bool read_flock_call(const struct seccomp_notif *n, struct lock_call *q)
{
	int op = (int)n->data.args[1];

	q->kind = LOCK_FLOCK;
	q->wait = !(op & LOCK_NB);
	q->start = 0;
	q->end = INT64_MAX;
	switch (op & ~LOCK_NB) {
	case LOCK_SH:
		q->hold = HOLD_READ;
		return true;
	case LOCK_EX:
		q->hold = HOLD_WRITE;
		return true;
	case LOCK_UN:
		q->hold = HOLD_NONE;
		return true;
	}
	return false;
}

/* Where the bytes lie, as fcntl(2) counts. */
static bool place(const struct flock *f, int64_t pos, int64_t size, struct lock_call *q)
{
	int64_t base = f->l_whence == SEEK_CUR ? pos : f->l_whence == SEEK_END ? size : 0;

	if (__builtin_add_overflow(base, (int64_t)f->l_start, &q->start))
		return false;
	if (f->l_len == 0)
		q->end = INT64_MAX;
	else if (__builtin_add_overflow(q->start, (int64_t)f->l_len - (f->l_len > 0), &q->end))
		return false;
	if (f->l_len < 0) {
		int64_t start = q->end;

		q->end = q->start - 1;
		q->start = start;
	}
	return q->start >= 0 && q->end >= q->start;
}

/* The file's size matters for SEEK_END only. */
static int64_t size_of(const struct lock_call *q, const struct target_file *f)
{
	auto_close int fd = target_open(q->tid, q->fd, f->ino, O_RDONLY);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : -1;
}

static bool read_fcntl_call(const struct seccomp_notif *n, const struct target_file *file,
			    struct lock_call *q)
{
	unsigned cmd = (unsigned)n->data.args[1];
	int64_t size = 0;
	struct flock f;

	q->kind = cmd == F_GETLK || cmd == F_SETLK || cmd == F_SETLKW ? LOCK_POSIX : LOCK_OFD;
	q->ask = cmd == F_GETLK || cmd == F_OFD_GETLK;
	q->wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
	if (target_read(q->tid, n->data.args[2], &f, sizeof(f)) < 0)
		return false;
	q->hold = f.l_type == F_WRLCK ? HOLD_WRITE : f.l_type == F_RDLCK ? HOLD_READ : HOLD_NONE;
	if (q->hold == HOLD_NONE && (f.l_type != F_UNLCK || q->ask))
		return false;
	if (q->kind == LOCK_OFD && f.l_pid != 0)
		return false;
	if (f.l_whence == SEEK_END)
		size = size_of(q, file);
	return size >= 0 && place(&f, file->pos, size, q);
}

/* Would the kernel take it at all? */
static bool may_lock(const struct target_file *f, const struct lock_call *q)
{
	unsigned mode = f->flags & O_ACCMODE;

	if (f->flags & O_PATH)
		return false;
	if (q->kind == LOCK_FLOCK || q->ask || q->hold == HOLD_NONE)
		return true;
	return mode == O_RDWR || mode == (q->hold == HOLD_READ ? O_RDONLY : O_WRONLY);
}

bool lock_call_read(const struct seccomp_notif *n, const struct target_file *f, struct lock_call *q)
{
	const struct ranges *own;

	*q = (struct lock_call){.tid = (pid_t)n->pid,
				.fd = (int)n->data.args[0],
				.nr = n->data.nr,
				.arg0 = n->data.args[0],
				.arg1 = n->data.args[1]};
	if (n->data.nr == __NR_flock ? !read_flock_call(n, q) : !read_fcntl_call(n, f, q))
		return false;
	own = &f->held[q->kind];
	q->own_write = ranges_cover(own, q->start, q->end, HOLD_WRITE);
	q->own_same =
		q->own_write ? q->hold == HOLD_WRITE : ranges_cover(own, q->start, q->end, q->hold);
	for (size_t k = 0; k < own->n; k++)
		q->own_any |= own->v[k].start <= q->end && own->v[k].end >= q->start;
	return may_lock(f, q);
}
