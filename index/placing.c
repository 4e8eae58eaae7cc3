/* SPDX-License-Identifier: MIT */
/*
 * placing.c - the temporary names that a restore has in people's directories, in case it is killed.
 *
 * They are written to a file in dir/tmp before they are made, and its lock (flock) is held meanwhile. Whoever
 * opens the cache and gets such a lock knows that its holder is dead, and tidies up after it.
 *
 * file: { temporary name, NUL, the path whose file lies there, or nothing, NUL }*
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "idx.h"

#define SUFFIX	  ".placing"
#define MAX_DEPTH 4096 /* more names do not fit in a path */

struct idx_placing {
	int dirfd, fd;
	char name[TEMP_NAME_SIZE + sizeof(SUFFIX)];
};

static bool still_named(int dirfd_, const char *name, int fd)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && fstatat(dirfd_, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == named.st_ino;
}

int idx_placing_begin(struct idx *x, struct idx_placing **ret, struct err *e)
{
	struct idx_placing *p = xcalloc(1, sizeof(*p));
	char tmp[TEMP_NAME_SIZE];

	p->dirfd = fcntl(x->dirfd, F_DUPFD_CLOEXEC, 3);
	p->fd = -1;
	/* Between making and locking it somebody may take it for a dead one's. */
	do {
		base_close(&p->fd);
		idx_temp_name(x, tmp);
		(void)snprintf(p->name, sizeof(p->name), "%s" SUFFIX, tmp); /* fits */
		p->fd = openat(p->dirfd, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (p->fd < 0 || flock(p->fd, LOCK_EX) < 0) {
			int r = err_set(e, errno, "cannot make %s/%s", x->dir, p->name);

			idx_placing_end(p);
			return r;
		}
	} while (!still_named(p->dirfd, p->name, p->fd));
	*ret = p;
	return 0;
}

int idx_placing_note(struct idx_placing *p, const char *temp, const char *path, struct err *e)
{
	auto_buf struct buf b = {0};
	ssize_t n;

	buf_add(&b, temp, strlen(temp) + 1);
	buf_add(&b, path ? path : "", path ? strlen(path) + 1 : 1);
	n = write_all(p->fd, b.data, b.len);
	return n < 0 ? err_set(e, (int)n, "cannot note the name of a file to be placed") : 0;
}

void idx_placing_end(struct idx_placing *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		(void)unlinkat(p->dirfd, p->name, 0); /* else the next to open the cache does it */
	base_close(&p->fd);
	base_close(&p->dirfd);
	free(p);
}

/* ---- after a dead one ---- */

/* ".mlfs-" and six letters: nothing else is ever touched, whatever the file says. */
static bool is_temporary(const char *path)
{
	const char *slash = strrchr(path, '/');

	return path[0] == '/' && strncmp(slash + 1, ".mlfs-", 6) == 0 && strlen(slash + 1) == 12;
}

/* A directory that things were made in: all in it, following no link. -1 and errno. */
static int remove_dir(int in, const char *name, unsigned depth)
{
	int fd = openat(in, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 || depth == 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		base_close(&fd);
		return unlinkat(in, name, AT_REMOVEDIR);
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
		    unlinkat(fd, de->d_name, 0) < 0 && errno == EISDIR)
			(void)remove_dir(fd, de->d_name,
					 depth - 1); /* else it is not empty below */
	(void)closedir(d);			     /* only read from */
	return unlinkat(in, name, AT_REMOVEDIR);
}

static void tidy_one(const char *temp, const char *path)
{
	struct stat st;
	int r;

	if (!is_temporary(temp))
		return;
	/* Killed between moving away what was there and putting the other in its place. */
	if (*path && lstat(path, &st) < 0 && errno == ENOENT)
		r = renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE);
	else if ((r = unlink(temp)) < 0 && errno == EISDIR)
		r = remove_dir(AT_FDCWD, temp, MAX_DEPTH);
	if (r < 0 && errno != ENOENT)
		log_debug("cannot tidy up %s: %s", temp, strerror(errno));
}

static void tidy(int fd)
{
	auto_buf struct buf b = {0};
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return;
	buf_reserve(&b, (size_t)st.st_size + 2);
	n = pread_full(fd, b.data, (size_t)st.st_size, 0);
	if (n <= 0)
		return;
	b.len = (size_t)n;
	buf_add(&b, "\0", 2); /* the last may be cut short: then it was not made */
	for (const char *p = (const char *)b.data; p < (const char *)b.data + n;) {
		const char *path = p + strlen(p) + 1;

		tidy_one(p, path);
		p = path + strlen(path) + 1;
	}
}

void placing_tidy(int tmp, const char *name)
{
	size_t n = strlen(name), k = strlen(SUFFIX);
	auto_close int fd = -1;

	if (n < k || strcmp(name + n - k, SUFFIX) != 0)
		return;
	fd = openat(tmp, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !still_named(tmp, name, fd))
		return;
	tidy(fd);
	(void)unlinkat(tmp, name, 0); /* else the next one does it */
}
