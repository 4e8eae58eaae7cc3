/* SPDX-License-Identifier: MIT */
#include "inherited.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct passed {
	int fd;
	struct stat st;
};
struct inherited {
	struct passed *files;
	size_t n;
	char *spoiled;
};

/* --jobserver-auth=R,W (GNU make before 4.4, and with pipes after): tokens, not data. */
static bool is_jobserver(int fd)
{
	const char *flags = getenv("MAKEFLAGS"), *p = flags ? strstr(flags, "--jobserver-") : NULL;
	int r, w;

	p = p ? strchr(p, '=') : NULL;
	return p && sscanf(p + 1, "%d,%d", &r, &w) == 2 && (fd == r || fd == w);
}

/* Does text name the descriptor: "/dev/fd/63", "/proc/self/fd/63", or the bare number? */
static bool names_fd(const char *text, int fd)
{
	char path[24];
	const char *p = text;
	int n = snprintf(path, sizeof(path), "/fd/%d", fd);

	while ((p = strstr(p, path))) {
		if (p[n] < '0' || p[n] > '9')
			return true;
		p += n;
	}
	return strcmp(text, path + 4) == 0;
}

/*
 * Can the command know of it? A single digit is what shells redirect; beyond that somebody must tell it the number,
 * as process substitution does by an argument. Others have leaked from some launcher, and nobody looks at them.
 */
static bool is_known(int fd, char *const *argv)
{
	if (fd <= 9)
		return true;
	for (; *argv; argv++)
		if (names_fd(*argv, fd))
			return true;
	for (char **v = environ; *v; v++) {
		const char *value = strchr(*v, '=');

		if (value && names_fd(value + 1, fd))
			return true;
	}
	return false;
}

static int add_file(struct inherited *h, int fd, const struct stat *st, struct buf *key,
		    struct err *e)
{
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
	off_t off = lseek(fd, 0, SEEK_CUR);
	struct fp fp = {0};
	int r;

	h->files = xrealloc(h->files, (h->n + 1) * sizeof(*h->files));
	h->files[h->n++] = (struct passed){fd, *st};
	if (mode != O_WRONLY) {
		r = hash_fd(fd, 0, -1, &fp, NULL);
		if (r < 0)
			return err_set(e, r, "cannot read descriptor %d", fd);
	}
	buf_u32(key, (uint32_t)fd);
	buf_u32(key, (uint32_t)mode);
	buf_u64(key, (uint64_t)off);
	buf_add(key, &fp, sizeof(fp));
	return 0;
}

static void spoil(struct inherited *h, int fd, mode_t mode)
{
	const char *what = S_ISFIFO(mode)   ? "a pipe"
			   : S_ISSOCK(mode) ? "a socket"
			   : S_ISDIR(mode)  ? "a directory"
					    : "a device";

	if (!h->spoiled)
		h->spoiled = xasprintf(
			"descriptor %d (%s) was passed to the command, and what goes through "
			"it is not seen; close it with %d>&-",
			fd, what, fd);
}

static int look(struct inherited *h, int fd, char *const *argv, struct buf *key, struct err *e)
{
	int flags = fcntl(fd, F_GETFD);
	struct stat st;

	if (flags < 0 || (flags & FD_CLOEXEC) || !is_known(fd, argv) || fstat(fd, &st) < 0)
		return 0;
	if (S_ISREG(st.st_mode))
		return add_file(h, fd, &st, key, e);
	if (S_ISCHR(st.st_mode) && (isatty(fd) || st.st_rdev >> 8 == 1))
		return 0;
	if (S_ISFIFO(st.st_mode) && is_jobserver(fd))
		return 0;
	/* eventfd, epoll, memfd's like: no type at all. Nothing that a command could know of. */
	if ((st.st_mode & S_IFMT) == 0)
		return 0;
	spoil(h, fd, st.st_mode);
	return 0;
}

int inherited_open(char *const *argv, struct inherited **ret, struct buf *key, struct err *e)
{
	struct inherited *h = xcalloc(1, sizeof(*h));
	DIR *d = opendir("/proc/self/fd");
	struct dirent *de;
	int r = 0;

	if (!d)
		h->spoiled = xstrdup(
			"without /proc the descriptors passed to the command are not known");
	while (d && r == 0 && (de = readdir(d))) {
		int fd = atoi(de->d_name);

		if (fd > 2 && fd != dirfd(d))
			r = look(h, fd, argv, key, e);
	}
	if (d)
		closedir(d);
	if (r < 0)
		inherited_free(h);
	else
		*ret = h;
	return r;
}

const char *inherited_spoiled(struct inherited *h)
{
	for (size_t k = 0; k < h->n && !h->spoiled; k++) {
		const struct stat *a = &h->files[k].st;
		struct stat b;

		if (fstat(h->files[k].fd, &b) < 0 || a->st_size != b.st_size ||
		    a->st_mtim.tv_sec != b.st_mtim.tv_sec ||
		    a->st_mtim.tv_nsec != b.st_mtim.tv_nsec ||
		    a->st_ctim.tv_sec != b.st_ctim.tv_sec ||
		    a->st_ctim.tv_nsec != b.st_ctim.tv_nsec)
			h->spoiled = xasprintf("a file passed as descriptor %d was written to",
					       h->files[k].fd);
	}
	return h->spoiled;
}

void inherited_free(struct inherited *h)
{
	if (!h)
		return;
	free(h->files);
	free(h->spoiled);
	free(h);
}
