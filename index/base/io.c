/* SPDX-License-Identifier: MIT */
/* io.c - clocks, reads and writes that finish what they begin, whole files, directories with their
 * parents. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

static int64_t clock_ns(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) < 0)
		return 0; /* both clocks always exist on Linux */
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

ssize_t write_all(int fd, const void *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t k = write(fd, (const char *)p + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			return -EIO; /* would go round for ever */
		done += (size_t)k;
	}
	return (ssize_t)done;
}

ssize_t read_full(int fd, void *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t k = read(fd, (char *)p + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		done += (size_t)k;
	}
	return (ssize_t)done;
}

ssize_t pread_full(int fd, void *p, size_t n, off_t off)
{
	size_t done = 0;

	while (done < n) {
		ssize_t k = pread(fd, (char *)p + done, n - done, off + (off_t)done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		done += (size_t)k;
	}
	return (ssize_t)done;
}

/* Read fd to its end. The size is a hint only: files under /proc say 0. */
static int slurp(int fd, size_t hint, char **ret, size_t *ret_n)
{
	size_t cap = hint + 1, n = 0;
	auto_free char *data = malloc(cap + 1);

	if (!data)
		return -ENOMEM;
	for (;;) {
		ssize_t k = read_full(fd, data + n, cap - n);
		char *bigger;

		if (k < 0)
			return (int)k;
		n += (size_t)k;
		if (n < cap)
			break;
		if (cap > SIZE_MAX / 2 - 1 || !(bigger = realloc(data, cap * 2 + 1)))
			return -ENOMEM;
		data = bigger;
		cap *= 2;
	}
	data[n] = '\0';
	*ret = take(data);
	*ret_n = n;
	return 0;
}

int read_opened(int fd, const char *path, char **ret, size_t *ret_n, struct err *e)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot look at %s", path);
	r = slurp(fd, st.st_size > 0 ? (size_t)st.st_size : 4095, ret, ret_n);
	return r < 0 ? err_set(e, r, "cannot read %s", path) : 0;
}

int read_file(const char *path, char **ret, size_t *ret_n, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_set(e, errno, "cannot open %s", path)
		      : read_opened(fd, path, ret, ret_n, e);
}

static int mkdir_one(const char *path, mode_t mode, struct err *e)
{
	struct stat st;
	int code;

	if (mkdir(path, mode) == 0)
		return 0;
	code = errno;
	/* An existing one may also show as EROFS or EACCES of its parent: what counts is what is
	 * there. */
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		code = ENOTDIR;
	}
	return err_set(e, code, "cannot make directory %s", path);
}

int mkdir_p(const char *path, mode_t mode, struct err *e)
{
	auto_free char *copy = NULL;
	struct stat st;
	int r;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0; /* nearly always */
	copy = strdup(path);
	if (!copy)
		return err_set(e, ENOMEM, "cannot make directory %s", path);
	for (char *s = copy; *s; s++) {
		if (*s != '/' || s == copy)
			continue;
		*s = '\0';
		r = mkdir_one(copy, mode, e);
		*s = '/';
		if (r < 0)
			return r;
	}
	return mkdir_one(copy, mode, e);
}

void signals_all(sigset_t *ret)
{
	(void)sigfillset(ret);
	(void)sigdelset(ret, SIGSEGV);
	(void)sigdelset(ret, SIGBUS);
}

uint64_t raise_open_files(void)
{
	struct rlimit l = {0};

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l); /* else it is what it was */
	}
	return l.rlim_cur;
}
