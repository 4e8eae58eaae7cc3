/* SPDX-License-Identifier: MIT */
/*
 * rebuild.c - another data.mdb in place of the one that is there: what could be rescued of it (fsck.c), or the same
 * without its free pages (LMDB never gives any back to the file system).
 */
#include "rebuild.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void rebuild_end(int dirfd_)
{
	static const char *const names[] = {REBUILD "/data.mdb", REBUILD "/lock.mdb",
					    REBUILD "/checked"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		(void)unlinkat(dirfd_, names[i], 0); /* there or not */
	(void)unlinkat(dirfd_, REBUILD, AT_REMOVEDIR);
}

int rebuild_begin(int dirfd_, const char *dir, struct err *e)
{
	rebuild_end(dirfd_);
	return mkdirat(dirfd_, REBUILD, 0700) < 0
		       ? err_set(e, errno, "cannot make %s/" REBUILD, dir)
		       : 0;
}

static int put(int dirfd_)
{
	auto_close int fd = openat(dirfd_, REBUILD "/data.mdb", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	/* A lock file belongs to the file that its transaction number is of. */
	if (unlinkat(dirfd_, "index/lock.mdb", 0) < 0 && errno != ENOENT)
		return -errno;
	if (unlinkat(dirfd_, "index/checked", 0) < 0 && errno != ENOENT)
		return -errno;
	return renameat(dirfd_, REBUILD "/data.mdb", dirfd_, "index/data.mdb") < 0 ? -errno : 0;
}

int rebuild_put(int dirfd_, const char *dir, struct err *e)
{
	int r = put(dirfd_);

	return r < 0 ? err_set(e, r, "cannot put the new index of %s in place", dir) : 0;
}

/* Nobody else has it open; x itself is closed. */
static int shrink_alone(struct idx *x, const char *index_dir, struct err *e)
{
	auto_free char *to = xasprintf("%s/" REBUILD, x->dir);
	struct kv *kv = NULL;
	int r = rebuild_begin(x->dirfd, x->dir, e);

	if (r == 0)
		r = kv_open(index_dir, KV_HELD, &kv, e);
	if (r == 0)
		r = kv_copy(kv, to, e);
	kv_close(kv);
	if (r == 0)
		r = rebuild_put(x->dirfd, x->dir, e);
	rebuild_end(x->dirfd);
	return r;
}

int idx_shrink(struct idx *x, struct err *e)
{
	auto_free char *index_dir = xasprintf("%s/index", x->dir);
	auto_close int lock = openat(x->dirfd, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err why;
	int r = store_flush(x, e);

	if (r < 0 || lock < 0 || kv_others(x->kv))
		return r; /* another time */
	r = digests_flush(x, e);
	if (r < 0)
		return r;
	kv_close(take(x->kv)); /* its own lock would be in the way */
	if (flock(lock, LOCK_EX | LOCK_NB) == 0 && shrink_alone(x, index_dir, &why) < 0)
		log_debug("%s", why.msg); /* it stays as large as it was */
	(void)flock(lock, LOCK_UN);
	return kv_open(index_dir, x->how, &x->kv, e);
}
