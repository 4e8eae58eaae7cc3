/* SPDX-License-Identifier: MIT */
/* lazy_step.c - a step in a persistent mount and outputs that are not real yet; see lazy_step.h. */
#include "lazy_step.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../fs/fs.h"
#include "options.h"
#include "realize.h"

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

void lazy_step_begin(struct lazy_step *l, const struct mounteds *m, struct idx *x, bool no_lazy)
{
	bool known = false;

	*l = (struct lazy_step){.mounts = m, .v = xcalloc(m->n, sizeof(*l->v))};
	for (size_t k = 0; k < m->n; k++) {
		char *src = ask_source(&m->v[k], idx_dirfd(x));

		known |= src != NULL;
		l->v[k] = (struct lazy_mount){.src = src, .token = -1, .run = -1, .tree = -1};
		if (no_lazy)
			free(take(l->v[k].src));
	}
	/* There may be some also where this step is to leave none. */
	idx_lazy_known(x, known);
}

void lazy_step_end(struct lazy_step *l)
{
	for (size_t k = 0; l->v && k < l->mounts->n; k++) {
		free(l->v[k].src);
		base_close(&l->v[k].token);
		base_close(&l->v[k].run);
		base_close(&l->v[k].tree);
	}
	free(take(l->v));
}

/* A directory of the mount, open, whose closing ends what is asked for. */
static int ask(const struct mounted *m, unsigned long what, int *ret)
{
	auto_close int fd =
		m->dir < 0 ? -1 : openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*ret = fd < 0 ? -1 : ioctl(fd, what, NULL);
	if (*ret < 0)
		*ret = -errno;
	return *ret < 0 ? -1 : take_fd(&fd);
}

/* The same by another process: the answer may take as long as copying does, and who waits for a server cannot even be killed. */
static int ask_apart(const struct mounted *m, unsigned long what, int *ret)
{
	auto_close int fd =
		m->dir < 0 ? -1 : openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum { NONE, SOME, IO_ERROR, FAILED };
	int status, r;
	pid_t child;

	*ret = -errno;
	if (fd < 0)
		return -1;
	child = fork();
	if (child == 0) {
		r = ioctl(fd, what, NULL);
		_exit(r > 0 ? SOME : r == 0 ? NONE : errno == EIO ? IO_ERROR : FAILED);
	}
	*ret = -errno;
	if (child < 0)
		return -1;
	while ((r = waitpid(child, &status, 0)) < 0 && errno == EINTR)
		;
	if (r < 0 || !WIFEXITED(status) || WEXITSTATUS(status) >= IO_ERROR) {
		*ret = r > 0 && WIFEXITED(status) && WEXITSTATUS(status) == IO_ERROR ? -EIO
										     : -ENOTTY;
		return -1;
	}
	*ret = WEXITSTATUS(status);
	return take_fd(&fd);
}

static bool is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

char *lazy_step_may(struct lazy_step *l, const char *path)
{
	struct lazy_mount *in = NULL;
	const struct mounted *m = NULL;
	int may;

	for (size_t k = 0; l && l->v && k < l->mounts->n; k++)
		if (is_in(path, l->mounts->v[k].path) &&
		    (!m || strlen(l->mounts->v[k].path) >= strlen(m->path))) {
			m = &l->mounts->v[k];
			in = &l->v[k];
		}
	if (!m || !in->src)
		return NULL;
	if (!in->asked) {
		in->asked = true;
		in->token = ask(m, FS_LAZY_PLACE, &may);
		if (in->token >= 0 && !may)
			base_close(&in->token);
	}
	return in->token < 0
		       ? NULL
		       : xasprintf("%s" RECORD_SEPARATOR "%s", in->src, path + strlen(m->path) + 1);
}

void lazy_step_placed(struct lazy_step *l)
{
	for (size_t k = 0; l->v && k < l->mounts->n; k++) {
		base_close(&l->v[k].token);
		l->v[k].asked = false;
	}
}

/* Should the server be killed meanwhile, the next one sees by this that a step runs. (It looks for a moment only.) */
static int lock_tree(const struct mounted *m)
{
	auto_close int fd = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int k = 0; fd >= 0 && k < 100; k++) {
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			return take_fd(&fd);
		(void)poll(NULL, 0, 1);
	}
	return -1;
}

int lazy_step_runs(struct lazy_step *l)
{
	int made = 0, n;

	for (size_t k = 0; l->v && k < l->mounts->n; k++) {
		if (l->v[k].run >= 0)
			continue;
		l->v[k].tree = lock_tree(&l->mounts->v[k]);
		l->v[k].run = ask_apart(&l->mounts->v[k], FS_LAZY_RUN, &n);
		/* One that knows nothing of them, or cannot be asked, has none. */
		if (n == -EIO)
			return n;
		made += n > 0 ? n : 0;
	}
	return made;
}

int lazy_step_orphans(struct idx *x)
{
	struct realized n = {0};

	if (faccessat(idx_dirfd(x), "lazy", F_OK, AT_SYMLINK_NOFOLLOW) < 0 || idx_in_view(x))
		return 0;
	realize_cache(idx_dirfd(x), geteuid(), &n);
	strlist_free(&n.mounted); /* its server has done it */
	return (int)n.made;
}
