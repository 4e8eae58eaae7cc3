/* SPDX-License-Identifier: MIT */
/*
 * ops_lazy.c - outputs of hits that are not real yet, where the step meets them; see "Lazy outputs" in docs/design.md.
 *
 * The step is never shown one: a lookup that finds it is answered when it is real, which may take as long as a copy does. So it is a
 * thread that waits for that, and others' requests are served meanwhile; who waits can be killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

/* Somebody makes it a placeholder again and again: that is no file. */
#define MAX_TRIES 10

struct lazy_wait {
	struct lazy_wait *next;
	struct fs *fs;
	fuse_req_t req;
	fuse_ino_t parent;
	char *name, *path;
	unsigned tries;
	pid_t caller; /* a thread; 0: not known here */
	pthread_t thread;
	int r;
	bool done;
};

static void wait_free(struct lazy_wait *w)
{
	free(w->name);
	free(w->path);
	free(w);
}

/* The kernel waits for the answer before it ends a thread that is killed, and says no more than that a signal came: most signals are to
 * change nothing. See proc_pid_status(5). */
static bool is_killed(pid_t thread)
{
	char path[32], text[4096], *pending;
	auto_close int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", thread); /* fits */
	fd = thread ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	pending = strstr(text, "\nSigPnd:");
	return pending && (strtoull(pending + 8, NULL, 16) & (1ull << (SIGKILL - 1)));
}

static bool given_up(void *arg)
{
	const struct lazy_wait *w = arg;

	return atomic_load(&w->fs->aborted) || is_killed(w->caller);
}

static void *make_real(void *arg)
{
	struct lazy_wait *w = arg;
	struct fs *fs = w->fs;
	int r = fs->lazy->real(fs->lazy->arg, w->path, given_up, w);

	pthread_mutex_lock(&fs->waits.mutex);
	w->r = r;
	w->done = true;
	pthread_mutex_unlock(&fs->waits.mutex);
	atomic_store_explicit(&fs->waits.any_done, true, memory_order_release);
	session_wake(fs);
	return NULL;
}

/* The step is told that it cannot be had. */
static void refuse(struct fs *fs, fuse_req_t req, const char *path, int r)
{
	bool plain = r == -EINTR || r == -ENOSPC || r == -EDQUOT || r == -EROFS;

	trace_spoil(fs->trace, "%s could not be made real: %s", path, strerror(-r));
	fuse_reply_err(req, plain ? -r : EIO);
}

bool lazy_meet(fuse_req_t req, fuse_ino_t parent, const char *name, const struct at *a,
	       const struct stat *st, unsigned tries)
{
	struct fs *fs = fs_of(req);
	struct lazy_wait *w;
	struct lazy lazy;

	if (!lazy_stands(fs->lazy, a->full, a->dirfd, a->name, st, &lazy))
		return false;
	if (tries == MAX_TRIES) {
		refuse(fs, req, a->full, -EIO);
		return true;
	}
	w = xcalloc(1, sizeof(*w));
	*w = (struct lazy_wait){.fs = fs,
				.req = req,
				.parent = parent,
				.name = xstrdup(name),
				.path = xstrdup(a->full),
				.tries = tries + 1,
				.caller = fuse_req_ctx(req)->pid};
	if (pthread_create(&w->thread, NULL, make_real, w) != 0) {
		refuse(fs, req, a->full, -EAGAIN);
		wait_free(w);
		return true;
	}
	w->next = fs->waits.first;
	fs->waits.first = w;
	return true;
}

static struct lazy_wait *take_done(struct fs *fs)
{
	struct lazy_wait **at, *w = NULL;

	pthread_mutex_lock(&fs->waits.mutex);
	for (at = &fs->waits.first; *at && !(*at)->done; at = &(*at)->next)
		;
	if (*at) {
		w = *at;
		*at = w->next;
	}
	pthread_mutex_unlock(&fs->waits.mutex);
	return w;
}

void lazy_answer(struct fs *fs)
{
	struct lazy_wait *w;

	atomic_store(&fs->waits.any_done, false);
	while ((w = take_done(fs))) {
		(void)pthread_join(w->thread, NULL); /* cannot fail */
		if (w->r < 0)
			refuse(fs, w->req, w->path, w->r);
		else
			look_up(w->req, w->parent, w->name, w->tries);
		wait_free(w);
	}
}

void lazy_end(struct fs *fs)
{
	struct lazy_wait *w;

	atomic_store(&fs->aborted, true); /* so that they end */
	while ((w = take(fs->waits.first))) {
		fs->waits.first = w->next;
		(void)pthread_join(w->thread, NULL); /* cannot fail */
		fuse_reply_err(w->req, EIO);
		wait_free(w);
	}
}

static bool is_aborted(void *arg)
{
	return atomic_load(&((struct fs *)arg)->aborted);
}

void lazy_meet_now(struct fs *fs, const char *path)
{
	struct lazy lazy;
	struct stat st;
	int r;

	if (!fs->lazy || lstat(path, &st) < 0 ||
	    !lazy_stands(fs->lazy, path, AT_FDCWD, path, &st, &lazy))
		return;
	r = fs->lazy->real(fs->lazy->arg, path, is_aborted, fs);
	if (r < 0)
		trace_spoil(fs->trace, "%s could not be made real: %s", path, strerror(-r));
}

bool lazy_is_below(struct fs *fs, struct inode *dir)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};

	return fs->lazy && at_inode(&fs->inodes, dir, &a) == 0 && lazy_is_in(fs->lazy, a.full);
}
