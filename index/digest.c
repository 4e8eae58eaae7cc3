/* SPDX-License-Identifier: MIT */
/*
 * digest.c - file digests remembered under device and inode, valid while size, mtime and ctime stay
 * the same.
 *
 * One record a file, so that a changed file replaces its old digest. What idx_digest_file computes
 * is gathered and written many at a time: a commit costs an fdatasync.
 *
 * The racy rule (git's Documentation/technical/racy-git.txt): a file written after it was hashed,
 * yet within the same tick of the file system's clock, keeps its times. So a digest is remembered
 * only when the times were older than the tick at the moment the hashing began. The tick is a jiffy
 * (10 ms at most) on the local file systems named below, up to 2 s on others (FAT). Linux 6.13's
 * multigrain times make the former finer still. It is the ctime that shows a change, since nobody can
 * set it; a file system that keeps none (FAT) is never believed, and one not known only when the mtime
 * is old as well. What somebody has open for writing is not remembered: see writers.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "idx.h"

#define COARSE_NS   INT64_C(2000000000)
#define FINE_NS	    INT64_C(20000000)
#define MAX_PENDING 8192u
#define BUCKETS	    4096u
#define MAX_DEVICES 32u
#define KEY_SIZE    16
#define VALUE_SIZE  48

/* What a change leaves in the times of a file. */
enum times {
	TIMES_EXACT, /* whoever has asked for them sees every later change: Linux 6.13's multigrain times */
	TIMES_FINE,   /* a ctime that moves with every jiffy */
	TIMES_COARSE, /* not known: at worst every two seconds */
	TIMES_NONE,   /* no ctime: nothing, when the mtime is set back */
};
struct device {
	dev_t dev;
	enum times times;
};

/* Gathered digests, found by hash chains of positions + 1. */
struct digests {
	pthread_mutex_t mu;
	atomic_uint n;
	struct idx_digest *v; /* MAX_PENDING, once there is one */
	uint16_t *next;
	uint16_t bucket[BUCKETS];
	struct device devices[MAX_DEVICES];
	unsigned n_devices;
};

struct digests *digests_new(void)
{
	struct digests *d = xcalloc(1, sizeof(*d));

	(void)pthread_mutex_init(&d->mu, NULL); /* cannot fail on Linux */
	return d;
}

void digests_free(struct digests *d)
{
	if (!d)
		return;
	(void)pthread_mutex_destroy(&d->mu);
	free(d->v);
	free(d->next);
	free(d);
}

/* ---- how fine are a file system's times? ---- */

static bool is_multigrain(void)
{
	struct utsname u;
	unsigned major, minor;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 13));
}

static enum times times_of_type(const char *type)
{
	static const char *const exact[] = {"ext4", "xfs", "btrfs", "tmpfs", NULL};
	static const char *const fine[] = {"f2fs", "zfs", "bcachefs", NULL};
	static const char *const none[] = {"vfat", "msdos", "exfat", NULL};

	for (const char *const *t = exact; *t; t++)
		if (strcmp(*t, type) == 0)
			return is_multigrain() ? TIMES_EXACT : TIMES_FINE;
	for (const char *const *t = fine; *t; t++)
		if (strcmp(*t, type) == 0)
			return TIMES_FINE;
	for (const char *const *t = none; *t; t++)
		if (strcmp(*t, type) == 0)
			return TIMES_NONE;
	return TIMES_COARSE;
}

static enum times device_times(dev_t dev)
{
	auto_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	size_t cap = 0;

	while (f && getline(&line, &cap, f) > 0) {
		const char *dash = strstr(line, " - ");
		char type[32];
		unsigned ma, mi;

		if (dash && sscanf(line, "%*u %*u %u:%u", &ma, &mi) == 2 && makedev(ma, mi) == dev)
			return sscanf(dash, " - %31s", type) == 1 ? times_of_type(type)
								  : TIMES_COARSE;
	}
	return TIMES_COARSE;
}

static enum times device_times_cached(struct digests *d, dev_t dev)
{
	enum times times;

	(void)pthread_mutex_lock(&d->mu);
	for (unsigned i = 0; i < d->n_devices; i++)
		if (d->devices[i].dev == dev) {
			times = d->devices[i].times;
			(void)pthread_mutex_unlock(&d->mu);
			return times;
		}
	times = device_times(dev);
	if (d->n_devices < MAX_DEVICES)
		d->devices[d->n_devices++] = (struct device){dev, times};
	(void)pthread_mutex_unlock(&d->mu);
	return times;
}

static bool settled(enum times times, const struct stat *st, int64_t at)
{
	int64_t mtime = timespec_ns(st->st_mtim), ctime = timespec_ns(st->st_ctim);

	switch (times) {
	case TIMES_NONE:
		return false;
	case TIMES_EXACT:
	case TIMES_FINE:
		/* Whole seconds: an old ext4 with small inodes. */
		return ctime <= at - (st->st_ctim.tv_nsec ? FINE_NS : COARSE_NS);
	case TIMES_COARSE:
		break;
	}
	return ctime <= at - COARSE_NS && mtime <= at - COARSE_NS;
}

bool idx_times_settled(struct idx *x, const struct stat *st, int64_t at)
{
	return settled(x ? device_times_cached(x->digests, st->st_dev) : TIMES_COARSE, st, at);
}

bool idx_times_settled_on(const char *type, const struct stat *st, int64_t at)
{
	return settled(times_of_type(type), st, at);
}

bool times_are_exact(struct idx *x, const struct stat *st)
{
	return device_times_cached(x->digests, st->st_dev) == TIMES_EXACT && st->st_ctim.tv_nsec;
}

static bool may_remember(struct idx *x, const struct idx_digest *d)
{
	return S_ISREG(d->st.st_mode) && idx_times_settled(x, &d->st, d->hashed_at);
}

/* ---- bytes ---- */

/* Big-endian, so that files made together lie together. */
static void key_of(const struct stat *st, uint8_t key[KEY_SIZE])
{
	for (unsigned i = 0; i < 8; i++) {
		key[i] = (uint8_t)((uint64_t)st->st_dev >> (56 - 8 * i));
		key[8 + i] = (uint8_t)((uint64_t)st->st_ino >> (56 - 8 * i));
	}
}

static void value_of(const struct idx_digest *d, struct buf *out)
{
	buf_u64(out, (uint64_t)d->st.st_size);
	buf_u64(out, (uint64_t)timespec_ns(d->st.st_mtim));
	buf_u64(out, (uint64_t)timespec_ns(d->st.st_ctim));
	buf_u64(out, (uint64_t)d->hashed_at);
	buf_add(out, d->fp.b, sizeof(d->fp.b));
}

static bool value_matches(struct kv_val v, const struct stat *st, struct fp *ret)
{
	struct cur c = {v.p, (const uint8_t *)v.p + v.n, false};

	if (v.n != VALUE_SIZE || cur_u64(&c) != (uint64_t)st->st_size ||
	    cur_u64(&c) != (uint64_t)timespec_ns(st->st_mtim) ||
	    cur_u64(&c) != (uint64_t)timespec_ns(st->st_ctim))
		return false;
	(void)cur_u64(&c); /* hashed_at, for gc */
	memcpy(ret->b, c.p, sizeof(ret->b));
	return true;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       timespec_ns(a->st_mtim) == timespec_ns(b->st_mtim) &&
	       timespec_ns(a->st_ctim) == timespec_ns(b->st_ctim);
}

/* ---- gathered ones ---- */

static uint16_t *bucket_of(struct digests *d, const struct stat *st)
{
	uint64_t h =
		((uint64_t)st->st_ino ^ (uint64_t)st->st_dev << 32) * UINT64_C(0x9e3779b97f4a7c15);

	return &d->bucket[h >> 52];
}

static bool pending_get(struct digests *d, const struct stat *st, struct fp *ret)
{
	bool found = false;

	if (atomic_load(&d->n) == 0)
		return false;
	(void)pthread_mutex_lock(&d->mu);
	for (unsigned i = *bucket_of(d, st); i && !found; i = d->next[i - 1])
		if (same_file(&d->v[i - 1].st, st)) {
			*ret = d->v[i - 1].fp;
			found = true;
		}
	(void)pthread_mutex_unlock(&d->mu);
	return found;
}

/* True when there is enough for a transaction. */
static bool pending_add(struct digests *d, const struct idx_digest *new)
{
	uint16_t *bucket;
	unsigned n;

	(void)pthread_mutex_lock(&d->mu);
	if (!d->v) {
		d->v = xcalloc(MAX_PENDING, sizeof(*d->v));
		d->next = xcalloc(MAX_PENDING, sizeof(*d->next));
	}
	n = atomic_load(&d->n);
	if (n < MAX_PENDING) { /* when full and not to be written: computed again another time */
		bucket = bucket_of(d, &new->st);
		d->v[n] = *new;
		d->next[n] = *bucket;
		*bucket = (uint16_t)++n;
		atomic_store(&d->n, n);
	}
	(void)pthread_mutex_unlock(&d->mu);
	return n == MAX_PENDING;
}

/* ---- LMDB ---- */

struct batch {
	struct idx *x;
	const struct idx_digest *v;
	size_t n;
};

static int put_batch(void *arg, struct kv_txn *t, struct err *e)
{
	const struct batch *b = arg;
	auto_buf struct buf value = {0};
	uint8_t key[KEY_SIZE];
	int r = 0;

	for (size_t i = 0; r >= 0 && i < b->n; i++) {
		if (!may_remember(b->x, &b->v[i]))
			continue;
		value.len = 0;
		key_of(&b->v[i].st, key);
		value_of(&b->v[i], &value);
		r = kv_put(t, TAB_DIGEST, key, sizeof(key), value.data, value.len, e);
	}
	return r;
}

int idx_digest_put(struct idx *x, const struct idx_digest *d, size_t n, struct err *e)
{
	struct batch b = {x, d, n};
	bool any = false;

	for (size_t i = 0; i < n && !any; i++)
		any = may_remember(x, &d[i]);
	if (!any || x->read_only)
		return 0; /* no transaction for nothing */
	return kv_write(x->kv, put_batch, &b, e);
}

int digests_flush(struct idx *x, struct err *e)
{
	struct digests *d = x->digests;
	auto_free struct idx_digest *v = NULL;
	auto_free uint16_t *next = NULL;
	size_t n;

	(void)pthread_mutex_lock(&d->mu);
	n = atomic_load(&d->n);
	v = take(d->v);
	next = take(d->next);
	atomic_store(&d->n, 0);
	memset(d->bucket, 0, sizeof(d->bucket));
	(void)pthread_mutex_unlock(&d->mu);
	return n ? idx_digest_put(x, v, n, e) : 0;
}

int idx_digest_get(struct idx *x, const struct stat *st, struct fp *ret)
{
	uint8_t key[KEY_SIZE];
	struct kv_txn *t;
	struct kv_val v;
	int found;

	if (!S_ISREG(st->st_mode))
		return 0;
	if (pending_get(x->digests, st, ret))
		return 1;
	if (kv_begin(x->kv, &t, NULL) < 0)
		return 0; /* trouble with the index costs the hashing, nothing else */
	key_of(st, key);
	found = kv_get(t, TAB_DIGEST, key, sizeof(key), &v, NULL) > 0 && value_matches(v, st, ret);
	kv_end(x->kv);
	return found;
}

/* ---- files ---- */

static int hash_path(const char *path, const struct stat *st, struct idx_digest *ret,
		     bool *ret_writer)
{
	/* O_NONBLOCK: what stands there now may be a fifo. */
	auto_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat before, after;
	int r;

	if (fd < 0)
		return errno == ELOOP || errno == ENOENT || errno == ENXIO ? -ESTALE : -errno;
	ret->hashed_at = now_ns();
	if (fstat(fd, &before) < 0)
		return -errno;
	if (!S_ISREG(before.st_mode) || !same_file(&before, st))
		return -ESTALE;
	*ret_writer = fd_has_writer(fd); /* before the first byte is read */
	r = hash_fd(fd, 0, -1, &ret->fp, NULL);
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0)
		return -errno;
	ret->st = after;
	return same_file(&after, st) ? 0 : -ESTALE;
}

int idx_digest_file(struct idx *x, const char *path, const struct stat *st, struct fp *ret)
{
	struct stat below = *st;
	struct idx_digest d;
	struct err e;
	bool writer = false;
	int r = idx_below(x, path, true, &below);

	if (r < 0)
		return r;
	if (idx_digest_get(x, &below, ret) > 0)
		return 0;
	r = hash_path(path, st, &d, &writer);
	if (r < 0)
		return r;
	*ret = d.fp;
	if (writer)
		return 1;
	d.st = below;
	if (!x->read_only && may_remember(x, &d) && pending_add(x->digests, &d) &&
	    digests_flush(x, &e) < 0)
		log_debug("%s", e.msg); /* they will be computed again */
	return 0;
}
