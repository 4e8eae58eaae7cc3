/* SPDX-License-Identifier: MIT */
/* lazy_step.c - a step in a persistent mount and outputs that are not real yet; see lazy_step.h. */
#include "lazy_step.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../fs/fs.h"
#include "options.h"
#include "realize.h"
#include "view.h"

/* How often who waits looks whether it still should. */
#define LOOK_MS	  50
/* What the kernel remembers of the mount can be a second old: then it is told to forget that. */
#define MAX_TRIES 3

/* ---- leaving some ---- */

/* "CACHE\nSRC": is it the cache that this step uses? */
static char *ask_source(const struct mounted *m, int cache)
{
	char proc[32], text[2 * 4096];
	struct stat here, there;
	ssize_t n;
	char *src;

	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", m->dir); /* fits */
	n = m->dir < 0 ? -1 : getxattr(proc, MOUNT_ASK_LAZY, text, sizeof(text) - 1);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	src = strchr(text, '\n');
	if (!src)
		return NULL;
	*src++ = '\0';
	return stat(text, &there) == 0 && fstat(cache, &here) == 0 && here.st_dev == there.st_dev &&
			       here.st_ino == there.st_ino
		       ? xstrdup(src)
		       : NULL;
}

/* A view shows that natively: a step would meet the links. */
static bool is_native(const char *path)
{
	for (const char *const *p = view_native(); *p; p++)
		if (path_is_in(path, *p))
			return true;
	return false;
}

static int make_real(void *arg, const char *path, bool (*given_up)(void *arg), void *given_arg);

void lazy_step_begin(struct lazy_step *l, const struct mounteds *m, struct idx *x, bool no_lazy)
{
	*l = (struct lazy_step){.mounts = m,
				.src = xcalloc(m->n, sizeof(*l->src)),
				.cache = fcntl(idx_dirfd(x), F_DUPFD_CLOEXEC, 3),
				.trees = {.dirs = xcalloc(2 * m->n, sizeof(*l->trees.dirs)),
					  .real = make_real,
					  .arg = l}};
	for (size_t k = 0; k < m->n; k++) {
		l->trees.dirs[l->trees.n++] = m->v[k].path;
		l->trees.dirs[l->trees.n++] = m->v[k].source;
		if (!no_lazy && !is_native(m->v[k].path) && !is_native(m->v[k].source))
			l->src[k] = ask_source(&m->v[k], l->cache);
	}
	idx_lazy_trees(x, &l->trees);
}

void lazy_step_end(struct lazy_step *l)
{
	for (size_t k = 0; l->src && k < l->mounts->n; k++)
		free(l->src[k]);
	if (l->src)
		base_close(&l->cache);
	free(take(l->src));
	free(take(l->trees.dirs));
}

/* Path is in dir: what follows dir, "" for dir itself; else NULL. */
static const char *below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	if (!path_is_in(path, dir))
		return NULL;
	while (path[n] == '/')
		n++;
	return path + n;
}

/*
 * The deepest of the trees that path lies in: its number, or -1. Each mount has two: what it shows, by its own path and then by its
 * directory's. step 2: only the first of them.
 */
static ssize_t tree_of(const struct lazy_step *l, const char *path, size_t step,
		       const char **ret_rest)
{
	ssize_t in = -1;
	size_t best = 0;

	for (size_t k = 0; k < l->trees.n; k += step) {
		const char *dir = l->trees.dirs[k], *rest = below(path, dir);

		if (rest && *rest && strlen(dir) >= best) {
			best = strlen(dir);
			in = (ssize_t)k;
			*ret_rest = rest;
		}
	}
	return in;
}

char *lazy_step_may(const struct lazy_step *l, const char *path)
{
	const char *rest = NULL, *src;
	ssize_t k = l ? tree_of(l, path, 2, &rest) : -1;

	src = k < 0 ? NULL : l->src[k / 2];
	return src ? xasprintf("%s" RECORD_SEPARATOR "%s", src, rest) : NULL;
}

/* ---- making one real ---- */

enum { MADE, REMOVED = 254, NOT_ANSWERED = 255 }; /* or an errno */

/* Is there a placeholder still? */
static bool is_there(const char *path)
{
	struct lazy_link k;

	return lazy_at(AT_FDCWD, path, &k) > 0;
}

/* The answer to FS_ASK_MET of rest in the mount. */
static int ask_once(int mount, const char *rest)
{
	char proc[32], text[16] = "";
	int fd = openat(mount, rest, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? MADE : NOT_ANSWERED;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* fits */
	n = getxattr(proc, FS_ASK_MET, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return NOT_ANSWERED;
	if (strcmp(text, FS_REMOVED) == 0)
		return REMOVED;
	return atoi(text) == -ESTALE ? MADE : -atoi(text); /* it went: it is looked for again */
}

/* By a process of its own that shares nothing with this one, which may have threads: no memory is allocated, nothing is locked. */
static int ask(int mount, const char *rest, const char *path)
{
	int r;

	for (int k = 0; k < MAX_TRIES; k++) {
		r = ask_once(mount, rest);
		if (r != MADE || !is_there(path))
			return r;
		(void)ask_once(mount, "."); /* a directory: what is remembered goes */
	}
	return NOT_ANSWERED;
}

/* Waits for the child, which wait(2) does not tell others of. Its exit status; -EINTR: it is left alone. */
static int await_child(pid_t child, bool (*given_up)(void *arg), void *given_arg)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int status;

	while (fd >= 0 && given_up && poll(&p, 1, LOOK_MS) <= 0)
		if (given_up(given_arg)) {
			(void)kill(child, SIGKILL); /* as soon as it is answered */
			return -EINTR;
		}
	while (waitpid(child, &status, __WCLONE) < 0)
		if (errno != EINTR)
			return NOT_ANSWERED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : NOT_ANSWERED;
}

/* Who waits for an answer of a file server that takes long cannot even be killed: so that is not this process. */
static int ask_apart(int mount, const char *rest, const char *path, bool (*given_up)(void *arg),
		     void *given_arg)
{
	/* Without a signal at its end: it is no child to those who wait for those of the step. */
	pid_t child = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);

	if (child < 0)
		return NOT_ANSWERED;
	if (child == 0) {
		/* The view's server may go before it, and its descriptor is what keeps the view. */
		mount = dup2(mount, 0);
		(void)close_range(1, ~0u, 0);
		_exit(ask(mount, rest, path));
	}
	return await_child(child, given_up, given_arg);
}

/* No server answers, or one of an earlier version: this user's own can be made real all the same. */
static int make_own(const struct lazy_step *l, const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *name = xstrndup(path, (size_t)(slash - path));
	auto_close int dir = open(*name ? name : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct lazy_link k;
	int r = dir < 0 ? -errno : lazy_at(dir, slash + 1, &k);

	if (r <= 0)
		return r == -ENOENT ? 0 : r;
	if (k.st.st_uid != geteuid())
		return err_text(e, EIO, "the server of its mount does not answer");
	r = lazy_realize(dir, slash + 1, &k, l->cache, NULL, e);
	if (r < 0 && lazy_lost(dir, slash + 1, &k, l->cache, r)) {
		log_warn("removed %s, which was not real yet: %s", path, e->msg);
		return 0;
	}
	return r == -ESTALE ? 0 : r;
}

static int make_real(void *arg, const char *path, bool (*given_up)(void *arg), void *given_arg)
{
	const struct lazy_step *l = arg;
	const char *rest = NULL;
	ssize_t k = tree_of(l, path, 1, &rest);
	int mount = k < 0 ? -1 : l->mounts->v[k / 2].dir;
	struct err e = {0};
	int r = mount < 0 ? NOT_ANSWERED : ask_apart(mount, rest, path, given_up, given_arg);

	if (r == -EINTR)
		return r;
	if (r == REMOVED)
		log_warn("removed %s, which was not real yet: its object is lost", path);
	if (r == MADE || r == REMOVED)
		return 0;
	r = r == NOT_ANSWERED ? make_own(l, path, &e) : -r;
	if (r < 0)
		log_warn("cannot make %s real: %s", path, e.msg[0] ? e.msg : strerror(-r));
	return r;
}

/* ---- where there is no mount ---- */

int lazy_step_orphans(const struct lazy_step *l, struct idx *x)
{
	struct strlist served = {0};
	struct realized n = {0};

	if (faccessat(idx_dirfd(x), "lazy", F_OK, AT_SYMLINK_NOFOLLOW) < 0 || idx_in_view(x))
		return 0;
	for (size_t k = 0; l->src && k < l->mounts->n; k++)
		strlist_add(&served, xstrdup(l->mounts->v[k].source));
	realize_cache(idx_dirfd(x), geteuid(), &served, &n);
	strlist_free(&served);
	strlist_free(&n.mounted);
	return (int)n.made;
}
