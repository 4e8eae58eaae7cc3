/* SPDX-License-Identifier: MIT */
/*
 * early.c - an object of a file that is still being written.
 *
 * Copying gigabytes into the store after the step takes as long as writing them took the step. So what it has written,
 * and does not write again, is copied and hashed beside it; at the end little is left to do. The object is named by
 * the bytes that went into it; whoever uses it says whether these are still the file's.
 *
 * It is written past the page cache (O_DIRECT) where the file system can, and as long as that keeps up with the step: the step has use
 * for the memory, and may leave as much unwritten as it could without us before the kernel makes it wait for the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "copy.h"
#include "store.h"

#define ROOM_LOOK (64u << 20) /* bytes between looks at the free space */
#define LAG \
	(256u << 20)  /* bytes that the step may be ahead of what is written past the page cache */
#define ALIGNED 4096u /* what O_DIRECT wants of sizes and offsets, at most */

struct early {
	struct idx *x;
	struct temp temp;
	int from;
	struct hasher *h;
	char *chunk;
	uint64_t at, looked_at;
	bool direct; /* temp.fd has O_DIRECT */
};

static void set_direct(struct early *t, bool direct)
{
	int flags;

	if (t->direct == direct)
		return;
	flags = fcntl(t->temp.fd, F_GETFL);
	flags = direct ? flags | O_DIRECT : flags & ~O_DIRECT;
	if (fcntl(t->temp.fd, F_SETFL, flags) == 0) /* EINVAL: it has none */
		t->direct = direct;
}

/* The step may need the space for itself: a tenth of the file system, and as much again as this takes, stay free. */
static bool has_room(const struct early *t)
{
	struct statvfs v;

	if (fstatvfs(t->temp.fd, &v) < 0)
		return false;
	return (uint64_t)v.f_bavail * v.f_frsize > (uint64_t)v.f_blocks * v.f_frsize / 10 + t->at;
}

int early_begin(struct idx *x, int fd, struct early **ret, struct err *e)
{
	struct early *t = xcalloc(1, sizeof(*t));
	int r;

	t->x = x;
	t->temp = (struct temp){.x = x, .fd = -1};
	t->from = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	t->chunk = io_alloc(HASH_CHUNK);
	r = t->from < 0 ? -errno : t->chunk ? 0 : -ENOMEM;
	if (r < 0)
		(void)err_set(e, r, "cannot begin an object");
	if (r == 0)
		r = temp_open(x, &t->temp, e);
	if (r == 0 && ioctl(t->temp.fd, FICLONE, t->from) == 0)
		r = err_text(e, EOPNOTSUPP, "the file's blocks can be shared at the end");
	if (r == 0 && !has_room(t))
		r = err_text(e, ENOSPC, "there is little room in %s", x->dir);
	if (r == 0 && (r = hasher_begin(true, true, &t->h)) < 0)
		(void)err_set(e, r, "cannot hash");
	if (r < 0) {
		early_free(t);
		return r;
	}
	set_direct(t, true);
	*ret = t;
	return 0;
}

static int store_chunk(struct early *t, size_t n)
{
	int r;

	if ((t->at | n) % ALIGNED)
		set_direct(t, false);
	r = pwrite_all(t->temp.fd, t->chunk, n, t->at);
	if (r != -EINVAL || !t->direct)
		return r;
	set_direct(t, false); /* it wants more */
	return pwrite_all(t->temp.fd, t->chunk, n, t->at);
}

/* One chunk, of at most n bytes. The bytes taken, 0 at the end of the file; -errno. */
static ssize_t take_chunk(struct early *t, uint64_t n)
{
	ssize_t k = pread_full(t->from, t->chunk, n < HASH_CHUNK ? (size_t)n : HASH_CHUNK,
			       (off_t)t->at);
	int r;

	if (k <= 0)
		return k;
	r = hasher_update(t->h, t->chunk, (size_t)k);
	if (r == 0)
		r = store_chunk(t, (size_t)k);
	if (r < 0)
		return r;
	t->at += (uint64_t)k;
	return k;
}

int early_take_in(struct early *t, uint64_t upto, uint64_t written)
{
	if (written - t->at > LAG)
		set_direct(t, false);
	while (t->at < upto) {
		ssize_t k = take_chunk(t, upto - t->at);

		if (k <= 0)
			return k < 0 ? (int)k : -ESTALE; /* it was cut off */
		if (t->at - t->looked_at < ROOM_LOOK)
			continue;
		t->looked_at = t->at;
		if (!has_room(t))
			return -ENOSPC;
	}
	return 0;
}

/* The bytes taken in are the file's, unless somebody changed them within a tick of the clock. */
static int check_same(const struct early *t, const struct fp *fp)
{
	struct stat st;
	struct fp now;
	int r;

	if (fstat(t->from, &st) < 0)
		return -errno;
	if (times_are_exact(t->x, &st))
		return 0;
	r = hash_fd(t->from, 0, -1, &now, NULL);
	return r < 0 ? r : fp_eq(&now, fp) ? 0 : -ESTALE;
}

int early_finish(struct early *t, struct oid *ret_oid, struct fp *ret_fp, uint64_t *ret_size,
		 struct err *e)
{
	struct oid oid;
	struct fp fp;
	ssize_t k;
	int r;

	do
		k = take_chunk(t, HASH_CHUNK);
	while (k > 0);
	set_direct(t, false);
	r = k < 0 ? (int)k : hasher_end(t->h, &fp, &oid);
	if (r == 0)
		r = check_same(t, &fp);
	if (r < 0)
		return err_set(e, r, "cannot end an object");
	r = temp_commit(&t->temp, &oid, t->at, e);
	if (r < 0)
		return r;
	temp_remember(&t->temp, &oid);
	*ret_oid = oid;
	*ret_fp = fp;
	*ret_size = t->at;
	return 0;
}

void early_free(struct early *t)
{
	if (!t)
		return;
	temp_close(&t->temp);
	base_close(&t->from);
	hasher_free(t->h);
	free(t->chunk);
	free(t);
}
