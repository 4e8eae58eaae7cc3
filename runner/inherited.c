/* SPDX-License-Identifier: MIT */
#include "inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

/*
 * What the command can know of: a single digit is what shells redirect; beyond that somebody must tell it the number, as
 * process substitution does by an argument. Others have leaked from some launcher, and nobody looks at them.
 */
struct known {
	int *v; /* ascending once all are there, some of them twice */
	size_t n, cap;
};

static void know(struct known *k, int fd)
{
	if (k->n == k->cap) {
		k->cap = k->cap ? k->cap * 2 : 16;
		k->v = xrealloc(k->v, k->cap * sizeof(*k->v));
	}
	k->v[k->n++] = fd;
}

/* The number at p, as printf("%d") writes it, and what follows it; -1: there is none. */
static int number(const char *p, const char **ret_end)
{
	char *end;
	long n;

	if (*p < '1' || *p > '9')
		return -1;
	n = strtol(p, &end, 10);
	*ret_end = end;
	return n > INT_MAX ? -1 : (int)n;
}

/* Those that the text names: "/dev/fd/63", "/proc/self/fd/63", or as the bare number. */
static void know_named(struct known *k, const char *text)
{
	const char *p = text, *end;
	int fd = number(p, &end);

	if (fd >= 0 && !*end)
		know(k, fd);
	while ((p = strstr(p, "/fd/"))) {
		p += 4;
		fd = number(p, &end);
		if (fd >= 0)
			know(k, fd);
	}
}

static int ascending(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static void know_all(struct known *k, char *const *argv)
{
	for (int fd = 3; fd <= 9; fd++)
		know(k, fd);
	for (; *argv; argv++)
		know_named(k, *argv);
	for (char **v = environ; *v; v++) {
		const char *value = strchr(*v, '=');

		if (value)
			know_named(k, value + 1);
	}
	qsort(k->v, k->n, sizeof(*k->v), ascending);
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

static int look(struct inherited *h, int fd, struct buf *key, struct err *e)
{
	int flags = fcntl(fd, F_GETFD);
	struct stat st;

	if (flags < 0 || (flags & FD_CLOEXEC) || fstat(fd, &st) < 0)
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
	struct known k = {0};
	int r = 0;

	know_all(&k, argv);
	for (size_t i = 0; r == 0 && i < k.n; i++)
		if (k.v[i] > 2 && (i == 0 || k.v[i] != k.v[i - 1]))
			r = look(h, k.v[i], key, e);
	free(k.v);
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
