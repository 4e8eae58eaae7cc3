/* SPDX-License-Identifier: MIT */
/*
 * store.c - objects: the bytes of outputs under their SHA-256, in dir/cas/xx/<62 hex>, small ones
 * in LMDB.
 *
 * A file is made under dir/tmp and renamed, so one under cas/ is whole unless the machine went down
 * (nothing is fsync'ed) or the disk failed. That is why whatever is read is compared with its name,
 * and why a damaged one is removed at once: the next put of the same bytes then writes it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "copy.h"
#include "objects.h"
#include "store.h"

#define NAME_SIZE 80 /* "cas/xx/" and 62 digits */

static void object_name(const struct oid *o, char name[NAME_SIZE])
{
	char digits[2 * sizeof(o->b) + 1];

	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(name, NAME_SIZE, "cas/%.2s/%s", digits, digits + 2); /* fits */
}

/* Sets *ret_size; -ENOENT when there is none. */
static int open_object(struct idx *x, const struct oid *o, uint64_t *ret_size, struct err *e)
{
	char name[NAME_SIZE];
	struct stat st;
	int fd;

	object_name(o, name);
	fd = openat(x->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, errno, "cannot open object %s/%s", x->dir, name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd); /* only looked at */
		return err_text(e, EUCLEAN, "object %s/%s is not a file", x->dir, name);
	}
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

static void drop_object(struct idx *x, const struct oid *o)
{
	char name[NAME_SIZE];

	object_name(o, name);
	log_debug("object %s/%s is damaged%s", x->dir, name, x->read_only ? "" : ", removing it");
	if (!x->read_only && unlinkat(x->dirfd, name, 0) < 0)
		log_debug("cannot remove %s/%s", x->dir, name);
}

/* ---- copying ---- */

/* Share the blocks when the file system can. */
static bool cloned(int from, int to)
{
	return ioctl(to, FICLONE, from) == 0;
}

/* ---- put ---- */

void temp_close(struct temp *t)
{
	base_close(&t->fd);
	if (t->name[0] && unlinkat(t->x->dirfd, t->name, 0) < 0)
		log_debug("cannot remove %s/%s", t->x->dir, t->name); /* it is cleaned up later */
}

int temp_open(struct idx *x, struct temp *t, struct err *e)
{
	if (x->read_only)
		return err_text(e, EROFS, "cannot store: the cache %s was opened to read only",
				x->dir);
	idx_temp_name(x, t->name);
	t->fd = openat(x->dirfd, t->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (t->fd < 0) {
		int r = err_set(e, errno, "cannot make %s/%s", x->dir, t->name);

		t->name[0] = '\0';
		return r;
	}
	return 0;
}

/* An object of this length counts as there; its time is renewed so that gc, which spares the young,
 * spares it. */
static bool already_there(struct idx *x, const char *name, uint64_t size)
{
	struct stat st;

	return fstatat(x->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size == size && utimensat(x->dirfd, name, NULL, 0) == 0;
}

static int rename_into_place(struct temp *t, const char *name)
{
	char parent[NAME_SIZE];

	if (renameat(t->x->dirfd, t->name, t->x->dirfd, name) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	(void)snprintf(parent, sizeof(parent), "%.6s", name); /* "cas/xx" */
	if (mkdirat(t->x->dirfd, parent, 0700) < 0 && errno != EEXIST)
		return -errno;
	return renameat(t->x->dirfd, t->name, t->x->dirfd, name) < 0 ? -errno : 0;
}

int temp_commit(struct temp *t, const struct oid *oid, uint64_t size, struct err *e)
{
	char name[NAME_SIZE];
	int r;

	object_name(oid, name);
	if (already_there(t->x, name, size))
		return 0;
	/* What was copied while the step wrote it may be older than what gc spares. */
	r = futimens(t->fd, NULL) < 0 || fchmod(t->fd, 0444) < 0 ? -errno
								 : rename_into_place(t, name);
	if (r < 0)
		return err_set(e, r, "cannot store object %s/%s", t->x->dir, name);
	t->name[0] = '\0';
	atomic_fetch_add(&t->x->new_bytes, size);
	return 0;
}

/*
 * What is remembered of an object's file that was compared with its name, in the place of a digest. It is of this start of
 * the machine: objects are not forced to the disk, so after a power cut one may be another than the index says.
 */
static char boot[36]; /* a UUID; empty: it is not known */

static void get_boot(void)
{
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read_full(fd, boot, sizeof(boot)) != sizeof(boot))
		boot[0] = '\0';
}

static bool vouch(const struct oid *o, struct fp *ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char text[sizeof(*o) + sizeof(boot)];

	(void)pthread_once(&once, get_boot); /* fails for misuse only */
	if (!boot[0])
		return false;
	memcpy(text, o, sizeof(*o));
	memcpy(text + sizeof(*o), boot, sizeof(boot));
	*ret = fp_of(text, sizeof(text));
	return true;
}

void temp_remember(const struct temp *t, const struct oid *oid)
{
	struct idx_digest d = {.hashed_at = now_ns()};

	/* Not a temporary file that was not needed. */
	if (!t->name[0] && vouch(oid, &d.fp) && fstat(t->fd, &d.st) == 0)
		idx_digest_written(t->x, &d);
}

/* The fingerprint is left out when ret_fp is NULL. */
static int fill_from_fd(const struct temp *t, int fd, struct oid *oid, struct fp *ret_fp,
			uint64_t *size)
{
	auto_hasher struct hasher *h = NULL;
	int r;

	if (cloned(fd, t->fd))
		return hash_fd_both(t->fd, ret_fp, oid, size);
	r = hasher_begin(ret_fp, true, &h);
	if (r == 0)
		r = copy_hashed(fd, t->fd, h, size);
	return r < 0 ? r : hasher_end(h, ret_fp, oid);
}

static int put_big_fd(struct idx *x, int fd, struct oid *ret_oid, struct fp *ret_fp,
		      uint64_t *ret_size, struct err *e)
{
	auto_temp struct temp t = {.x = x, .fd = -1};
	struct oid oid;
	struct fp fp;
	uint64_t size;
	int r = temp_open(x, &t, e);

	if (r < 0)
		return r;
	r = fill_from_fd(&t, fd, &oid, ret_fp ? &fp : NULL, &size);
	if (r < 0)
		return err_set(e, r, "cannot copy into the cache %s", x->dir);
	r = temp_commit(&t, &oid, size, e);
	if (r < 0)
		return r;
	temp_remember(&t, &oid);
	atomic_fetch_add(&x->put_bytes, size);
	if (ret_oid)
		*ret_oid = oid;
	if (ret_fp)
		*ret_fp = fp;
	if (ret_size)
		*ret_size = size;
	return 0;
}

int store_put_fd(struct idx *x, int fd, struct oid *ret_oid, struct fp *ret_fp, uint64_t *ret_size,
		 struct err *e)
{
	char small[STORE_INLINE_MAX + 1];
	struct stat st;
	ssize_t n;
	int r;

	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot store a file");
	if (!S_ISREG(st.st_mode))
		return err_text(e, EINVAL, "cannot store: not a regular file");
	if (st.st_size > STORE_INLINE_MAX)
		return put_big_fd(x, fd, ret_oid, ret_fp, ret_size, e);
	n = pread_full(fd, small, sizeof(small), 0);
	if (n < 0)
		return err_set(e, (int)n, "cannot read the file to be stored");
	if (n > STORE_INLINE_MAX)
		return put_big_fd(x, fd, ret_oid, ret_fp, ret_size, e); /* it has just grown */
	r = store_put_mem(x, small, (size_t)n, ret_oid, e);
	if (r == 0 && ret_fp)
		*ret_fp = fp_of(small, (size_t)n);
	if (r == 0 && ret_size)
		*ret_size = (uint64_t)n;
	return r;
}

static int put_big_mem(struct idx *x, const void *p, size_t n, const struct oid *oid, struct err *e)
{
	auto_temp struct temp t = {.x = x, .fd = -1};
	char name[NAME_SIZE];
	int r;

	object_name(oid, name);
	if (!x->read_only && already_there(x, name, n))
		return 0;
	r = temp_open(x, &t, e);
	if (r < 0)
		return r;
	r = pwrite_all(t.fd, p, n, 0);
	if (r < 0)
		return err_set(e, r, "cannot write into the cache %s", x->dir);
	return temp_commit(&t, oid, n, e);
}

int store_put_mem(struct idx *x, const void *p, size_t n, struct oid *ret_oid, struct err *e)
{
	struct oid oid;
	int r = oid_of(p, n, &oid);

	if (r < 0)
		return err_set(e, r, "cannot compute a SHA-256");
	if (x->read_only)
		r = err_text(e, EROFS, "cannot store: the cache %s was opened to read only",
			     x->dir);
	else if (n > STORE_INLINE_MAX)
		r = put_big_mem(x, p, n, &oid, e);
	else if (n)
		r = objects_put(x, &oid, p, n, e);
	if (r == 0)
		atomic_fetch_add(&x->put_bytes, n);
	if (r == 0 && ret_oid)
		*ret_oid = oid;
	return r;
}

void store_counts(const struct idx *x, uint64_t *ret_put, uint64_t *ret_new)
{
	*ret_put = atomic_load(&x->put_bytes);
	*ret_new = atomic_load(&x->new_bytes);
}

/* ---- get ---- */

static bool named_so(const void *p, size_t n, const struct oid *o)
{
	struct oid now;

	return oid_of(p, n, &now) == 0 && oid_eq(&now, o);
}

/* The name of no bytes at all; tests/unit/test_index_store.c computes it. */
static const struct oid empty = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
				  0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
				  0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

/* 1 and the bytes when it is a small one, compared with its name; 0 when it is not; -EUCLEAN,
 * -errno. */
static int get_small(struct idx *x, const struct oid *o, void **ret, size_t *ret_n, struct err *e)
{
	auto_free void *p = NULL;
	size_t n = 0;
	int r;

	if (oid_eq(o, &empty)) { /* there without being kept */
		*ret = xmalloc(1);
		*ret_n = 0;
		return 1;
	}
	r = objects_get(x, o, &p, &n, e);
	if (r <= 0)
		return r;
	if (named_so(p, n, o)) {
		*ret = take(p);
		*ret_n = n;
		return 1;
	}
	if (!x->read_only && objects_drop(x, o, e) < 0)
		log_debug("cannot remove a damaged object");
	return err_text(e, EUCLEAN, "an object in the index of %s is damaged", x->dir);
}

static int check_big(struct idx *x, const struct oid *o, uint64_t size, struct err *e)
{
	uint64_t there, read = 0;
	auto_close int fd = open_object(x, o, &there, e);
	struct oid now;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (hash_fd_both(fd, NULL, &now, &read) < 0 || !oid_eq(&now, o)) {
		drop_object(x, o);
		return 0;
	}
	return read == size;
}

int store_check(struct idx *x, const struct oid *o, uint64_t size)
{
	auto_free void *p = NULL;
	size_t n = 0;
	int r = get_small(x, o, &p, &n, NULL);

	if (r > 0)
		return n == size;
	if (r == 0)
		r = check_big(x, o, size, NULL);
	return r == -EUCLEAN ? 0 : r;
}

/* Have the bytes of this object's file, as it was opened, been compared with its name since they were last changed? */
static bool is_known(struct idx *x, const struct idx_digest *d)
{
	struct fp known;

	return idx_digest_get(x, &d->st, &known) > 0 && fp_eq(&known, &d->fp);
}

/* 1; 0: the bytes are not those of o. */
static int copy_checked(const struct oid *o, int fd, int out, uint64_t *ret_size)
{
	auto_hasher struct hasher *h = NULL;
	struct oid now = {{0}};
	int r = hasher_begin(false, true, &h);

	if (r == 0 && cloned(fd, out))
		r = hash_fd_both(fd, NULL, &now, ret_size);
	else if (r == 0 && (r = copy_hashed(fd, out, h, ret_size)) == 0)
		r = hasher_end(h, NULL, &now);
	return r < 0 ? r : oid_eq(&now, o);
}

static int get_big_fd(struct idx *x, const struct oid *o, uint64_t size, int out, struct err *e)
{
	uint64_t there, read = 0;
	auto_close int fd = open_object(x, o, &there, e);
	struct idx_digest d = {.hashed_at = now_ns()};
	struct stat after;
	bool can_know;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &d.st) < 0)
		return err_set(e, errno, "cannot look at an object of the cache %s", x->dir);
	can_know = (uint64_t)d.st.st_size == size && vouch(o, &d.fp);
	if (can_know && is_known(x, &d)) {
		r = cloned(fd, out) ? 0 : copy_whole(fd, out, &read);
		return r < 0 ? err_set(e, r, "cannot copy out of the cache %s", x->dir) : 0;
	}
	r = copy_checked(o, fd, out, &read);
	if (r < 0)
		return err_set(e, r, "cannot copy out of the cache %s", x->dir);
	if (r > 0 && read == size) {
		if (can_know && fstat(fd, &after) == 0 &&
		    memcmp(&after.st_ctim, &d.st.st_ctim, sizeof(after.st_ctim)) == 0)
			idx_digest_add(x, &d);
		return 0;
	}
	if (r == 0)
		drop_object(x, o);
	if (ftruncate(out, 0) < 0)
		log_debug("cannot empty the file again"); /* the caller removes it */
	return err_text(e, EUCLEAN, "an object of the cache %s is damaged", x->dir);
}

int store_get_fd(struct idx *x, const struct oid *o, uint64_t size, int out, struct err *e)
{
	auto_free void *p = NULL;
	size_t n = 0;
	int r = get_small(x, o, &p, &n, e);

	if (r < 0)
		return r;
	if (r == 0)
		return get_big_fd(x, o, size, out, e);
	if (n != size)
		return err_text(e, EUCLEAN, "an object of the cache %s is not as long as recorded",
				x->dir);
	r = pwrite_all(out, p, n, 0);
	return r < 0 ? err_set(e, r, "cannot copy out of the cache %s", x->dir) : 0;
}

static int get_big_mem(struct idx *x, const struct oid *o, void **ret, size_t *ret_n, struct err *e)
{
	uint64_t size;
	auto_close int fd = open_object(x, o, &size, e);
	auto_free char *p = NULL;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (size >= SIZE_MAX / 2 || !(p = io_alloc((size_t)size + 1)))
		return err_set(e, ENOMEM, "cannot read an object of the cache %s", x->dir);
	n = pread_full(fd, p, (size_t)size, 0);
	if (n < 0)
		return err_set(e, (int)n, "cannot read an object of the cache %s", x->dir);
	if (!named_so(p, (size_t)n, o)) {
		drop_object(x, o);
		return err_text(e, EUCLEAN, "an object of the cache %s is damaged", x->dir);
	}
	p[n] = '\0';
	*ret = take(p);
	*ret_n = (size_t)n;
	return 0;
}

int store_get_mem(struct idx *x, const struct oid *o, void **ret, size_t *ret_n, struct err *e)
{
	int r = get_small(x, o, ret, ret_n, e);

	if (r != 0)
		return r < 0 ? r : 0;
	return get_big_mem(x, o, ret, ret_n, e);
}

/* ---- open ---- */

static int open_small(struct idx *x, const void *p, size_t n, struct err *e)
{
	auto_close int fd = memfd_create("mlfs-object", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : pwrite_all(fd, p, n, 0);

	return r < 0 ? err_set(e, r, "cannot read an object of the cache %s", x->dir)
		     : take_fd(&fd);
}

int store_open(struct idx *x, const struct oid *o, uint64_t size, struct err *e)
{
	auto_free void *p = NULL;
	auto_close int fd = -1;
	uint64_t there = 0;
	size_t n = 0;
	int r = get_small(x, o, &p, &n, e);

	if (r < 0)
		return r;
	if (r == 0) {
		fd = open_object(x, o, &there, e);
		if (fd < 0)
			return fd;
	}
	if ((r > 0 ? n : there) != size)
		return err_text(e, EUCLEAN, "an object of the cache %s is not as long as recorded",
				x->dir);
	return r > 0 ? open_small(x, p, n, e) : take_fd(&fd);
}
