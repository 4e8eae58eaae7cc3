/* SPDX-License-Identifier: MIT */
/*
 * lock.c - one lock a key: flock(2) on dir/lock/<hex>, so that the kernel releases it when its
 * holder dies.
 *
 * The holder removes the file before it lets go. Whoever was waiting then holds the lock of a file
 * that is no longer there, sees that, and begins again with the one that is: there are never two
 * holders of one name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "idx.h"

#define NAME_SIZE 48 /* "lock/" and 32 digits */
#define YOUNG_S	  10

struct idx_lock {
	int dirfd; /* of the cache, its own: a lock outlives the struct idx it was taken through */
	int fd;
	char name[NAME_SIZE];
};

/* Is what we have locked still what the name means? */
static bool still_named(const struct idx_lock *l)
{
	struct stat held, named;

	return fstat(l->fd, &held) == 0 &&
	       fstatat(l->dirfd, l->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

static int lock_once(const struct idx *x, struct idx_lock *l, bool wait, struct err *e)
{
	l->fd = openat(l->dirfd, l->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (l->fd < 0)
		return err_set(e, errno, "cannot open %s/%s", x->dir, l->name);
	if (flock(l->fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) == 0)
		return 0;
	return err_set(e, errno, "cannot lock %s/%s", x->dir, l->name);
}

int idx_lock(struct idx *x, const struct fp *key, bool wait, struct idx_lock **ret, struct err *e)
{
	struct idx_lock *l = xcalloc(1, sizeof(*l));
	char digits[2 * sizeof(key->b) + 1];
	int r;

	l->fd = -1;
	l->dirfd = fcntl(x->dirfd, F_DUPFD_CLOEXEC, 3);
	if (l->dirfd < 0) {
		r = err_set(e, errno, "cannot keep %s open", x->dir);
		free(l);
		return r;
	}
	hex(key->b, sizeof(key->b), digits);
	(void)snprintf(l->name, sizeof(l->name), "lock/%s", digits); /* fits */
	for (;;) {
		r = lock_once(x, l, wait, e);
		if (r < 0 || still_named(l))
			break;
		base_close(&l->fd);
	}
	if (r < 0) {
		base_close(&l->fd);
		base_close(&l->dirfd);
		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void idx_unlock(struct idx_lock *l)
{
	if (!l)
		return;
	if (unlinkat(l->dirfd, l->name, 0) < 0)
		log_debug("cannot remove %s: %s", l->name,
			  strerror(errno)); /* an empty file stays; it still works */
	/* Said aloud, since a forked child may have the descriptor, too. */
	(void)flock(l->fd, LOCK_UN); /* closing does it otherwise */
	base_close(&l->fd);
	base_close(&l->dirfd);
	free(l);
}

/* ---- who holds any? ---- */

/* A file that is new may be about to be locked, by one who would not wait: it is left alone. One left by a process that
 * was killed is locked for an instant. */
static bool is_held(int dir, const char *name)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false; /* gone meanwhile */
	if (now_ns() - (int64_t)st.st_mtim.tv_sec * 1000000000 < YOUNG_S * INT64_C(1000000000))
		return true;
	return flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

size_t locks_held(struct idx *x, struct fp **ret)
{
	int fd = openat(x->dirfd, "lock", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct buf keys = {0};
	struct dirent *de;
	struct fp key;

	*ret = NULL;
	if (!d) {
		base_close(&fd);
		return 0;
	}
	while ((de = readdir(d)))
		if (unhex(de->d_name, key.b, sizeof(key.b)) && is_held(dirfd(d), de->d_name))
			buf_add(&keys, &key, sizeof(key));
	(void)closedir(d); /* only read from */
	*ret = (struct fp *)(void *)keys.data;
	return keys.len / sizeof(key);
}
