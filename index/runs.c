/* SPDX-License-Identifier: MIT */
/*
 * runs.c - one record a run, appended to dir/index/runs; when that is long it becomes a segment, and old segments go.
 *
 * Not in LMDB, because every run adds one, and a run must neither wait for a writer nor for the
 * disk. A record is one write to a file opened for appending, which the kernel keeps apart from
 * those of others; one that is torn by a full disk or a power cut is skipped.
 *
 * Killed at any point: what was written is there, once. A segment without rows gets them from the next to look, or from
 * the next that closes one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "runs.h"

/* ---- segments ---- */

void runs_segment_name(char name[RUNS_NAME_SIZE], const char *format, unsigned n)
{
	(void)snprintf(name, RUNS_NAME_SIZE,
		       strcmp(format, RUNS_ROWS) == 0 ? RUNS_ROWS : RUNS_SEGMENT, n); /* fits */
}

/* "runs.12" or "rows.12", spelled as we spell it. */
static bool segment_number(const char *name, bool rows_too, unsigned *ret)
{
	char again[RUNS_NAME_SIZE];
	bool rows = strncmp(name, "rows.", 5) == 0;
	char *end;
	unsigned long n;

	if ((!rows && strncmp(name, "runs.", 5) != 0) || (rows && !rows_too))
		return false;
	n = strtoul(name + 5, &end, 10);
	if (*end || n < 1 || n >= UINT32_MAX)
		return false;
	(void)snprintf(again, sizeof(again), "%.5s%lu", name, n);
	*ret = (unsigned)n;
	return strcmp(again, name) == 0;
}

static int by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

int runs_segments(int dirfd_, bool all, unsigned **ret, size_t *ret_n)
{
	int fd = openat(dirfd_, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	unsigned *v = NULL, number;
	size_t n = 0, kept = 0;
	struct dirent *de;

	if (!d) {
		int code = errno;

		base_close(&fd);
		return -code;
	}
	while ((de = readdir(d))) {
		if (!segment_number(de->d_name, all, &number))
			continue;
		if (n % 64 == 0)
			v = xrealloc(v, (n + 64) * sizeof(*v));
		v[n++] = number;
	}
	(void)closedir(d); /* only read from */
	if (n)
		qsort(v, n, sizeof(*v), by_number);
	for (size_t i = 0; i < n; i++)
		if (!i || v[i] != v[i - 1])
			v[kept++] = v[i];
	*ret = v;
	*ret_n = kept;
	return 0;
}

/* ---- closing one, and pruning ---- */

/* The rows go first: left alone they would be taken for those of a later segment of that number. */
static void drop_segment(struct idx *x, unsigned n)
{
	char name[RUNS_NAME_SIZE];

	runs_segment_name(name, RUNS_ROWS, n);
	if (unlinkat(x->dirfd, name, 0) < 0 && errno != ENOENT) {
		log_debug("cannot remove %s/%s", x->dir, name);
		return;
	}
	runs_segment_name(name, RUNS_SEGMENT, n);
	if (unlinkat(x->dirfd, name, 0) < 0 && errno != ENOENT)
		log_debug("cannot remove %s/%s", x->dir, name);
}

/* Bytes of a segment with its rows; *ret_last: when it was written to last (ns); long ago when there are only rows. */
static uint64_t segment_size(struct idx *x, unsigned n, int64_t *ret_last)
{
	char name[RUNS_NAME_SIZE];
	struct stat st;
	uint64_t size = 0;

	*ret_last = INT64_MIN;
	runs_segment_name(name, RUNS_SEGMENT, n);
	if (fstatat(x->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		size += (uint64_t)st.st_size;
		*ret_last = timespec_ns(st.st_mtim);
	}
	runs_segment_name(name, RUNS_ROWS, n);
	if (fstatat(x->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		size += (uint64_t)st.st_size;
	return size;
}

/* The oldest go while there is too much, and those in which nothing young enough is. */
static void prune(struct idx *x, const struct runs_keep *keep, const unsigned *v, size_t n)
{
	auto_free uint64_t *sizes = xcalloc(n + 1, sizeof(*sizes));
	auto_free int64_t *last = xcalloc(n + 1, sizeof(*last));
	uint64_t all = 0;
	int64_t now = now_ns();

	for (size_t i = 0; i < n; i++)
		all += sizes[i] = segment_size(x, v[i], &last[i]);
	for (size_t i = 0; i < n; i++) {
		bool old =
			last[i] == INT64_MIN || (keep->age_ns > 0 && last[i] < now - keep->age_ns);

		if (!old && (!keep->bytes || all <= keep->bytes))
			break;
		drop_segment(x, v[i]);
		all -= sizes[i];
	}
}

/*
 * The journal that fd is open on becomes the next segment. The lock is on the file that is moved, and looked at again
 * when held: one of many does it, once. The number is one that no rows have either. 1: done.
 */
static int close_active(struct idx *x, int fd, unsigned **v, size_t *n)
{
	char name[RUNS_NAME_SIZE];
	struct stat held, named;
	unsigned next;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &held) < 0 ||
	    fstatat(x->dirfd, RUNS_ACTIVE, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    held.st_ino != named.st_ino || runs_segments(x->dirfd, true, v, n) < 0)
		return 0;
	next = *n ? (*v)[*n - 1] + 1 : 1;
	runs_segment_name(name, RUNS_SEGMENT, next);
	if (renameat2(x->dirfd, RUNS_ACTIVE, x->dirfd, name, RENAME_NOREPLACE) < 0 &&
	    ((errno != EINVAL && errno != ENOSYS) || /* a file system that knows no flags */
	     renameat(x->dirfd, RUNS_ACTIVE, x->dirfd, name) < 0)) {
		log_debug("cannot rename %s/" RUNS_ACTIVE,
			  x->dir); /* it grows on, until the next try */
		return 0;
	}
	*v = xrealloc(*v, (*n + 1) * sizeof(**v));
	(*v)[(*n)++] = next;
	return 1;
}

static void tidy(struct idx *x, const struct runs_keep *keep, const unsigned *v, size_t n)
{
	struct err e;

	for (size_t i = 0; i < n; i++)
		if (rows_write(x, v[i], false, &e) < 0)
			log_debug("%s", e.msg);
	prune(x, keep, v, n);
}

static void rotate(struct idx *x, int fd, const struct runs_keep *keep)
{
	auto_free unsigned *v = NULL;
	size_t n = 0;

	if (close_active(x, fd, &v, &n))
		tidy(x, keep, v, n);
}

int idx_runs_prune(const char *dir, const struct runs_keep *keep, struct err *e)
{
	struct idx x = {.dir = (char *)dir};
	auto_close int dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	auto_free unsigned *v = NULL;
	struct stat st;
	size_t n = 0;
	int r;

	if (dirfd_ < 0)
		return err_set(e, errno, "cannot open the cache %s", dir);
	x.dirfd = dirfd_;
	fd = openat(dirfd_, RUNS_ACTIVE, O_WRONLY | O_APPEND | O_CLOEXEC);
	/* Nobody has run anything for so long. */
	if (fd >= 0 && keep->age_ns > 0 && fstat(fd, &st) == 0 &&
	    (int64_t)st.st_mtim.tv_sec * 1000000000 < now_ns() - keep->age_ns &&
	    close_active(&x, fd, &v, &n))
		free(take(v));
	r = runs_segments(dirfd_, false, &v, &n);
	if (r < 0)
		return err_set(e, r, "cannot read %s/index", dir);
	prune(&x, keep, v, n);
	return 0;
}

/* ---- adding ---- */

static int add(struct idx *x, const struct run *r, const struct runs_keep *keep, struct err *e)
{
	auto_close int fd =
		openat(x->dirfd, RUNS_ACTIVE, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	auto_buf struct buf b = {0};
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return err_set(e, errno, "cannot open %s/" RUNS_ACTIVE, x->dir);
	runs_encode(r, &b);
	n = write_all(fd, b.data, b.len);
	if (n < 0)
		return err_set(e, (int)n, "cannot write %s/" RUNS_ACTIVE, x->dir);
	if (fstat(fd, &st) == 0 && st.st_size > RUNS_SEGMENT_MAX)
		rotate(x, fd, keep);
	return 0;
}

int idx_run_add(struct idx *x, const struct run *r, const struct runs_keep *keep, struct err *e)
{
	return x->read_only ? 0 : add(x, r, keep, e);
}

int idx_run_note(const char *dir, const struct run *r, const struct runs_keep *keep, struct err *e)
{
	auto_close int dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1;
	struct idx x = {.dir = (char *)dir, .dirfd = dirfd_};
	int k;

	if (dirfd_ < 0)
		return err_set(e, errno, "cannot open the cache %s", dir);
	k = idx_version_check(dirfd_, dir, e); /* no cache, or not one of ours: hands off */
	if (k < 0)
		return k;
	lock = openat(dirfd_, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* As whoever opens the index: fsck may be mending what we would add to (env.c). */
	if (lock < 0 || flock(lock, LOCK_SH | LOCK_NB) < 0)
		return err_set(e, errno, "cannot note the run in %s", dir);
	return add(&x, r, keep, e);
}
