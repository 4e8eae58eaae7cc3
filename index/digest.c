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
#define MAX_PENDING 8192u      /* are written */
#define MAX_HELD    (1u << 20) /* more are computed again another time */
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

/* A digest not yet written; times in ns. */
struct pending {
	uint64_t dev, ino, size;
	int64_t mtime, ctime, hashed_at;
	struct fp fp;
};
/* Gathered ones, found by hash chains of positions + 1; as many buckets as there is room for digests. */
struct digests {
	pthread_mutex_t mu;
	atomic_uint n;
	unsigned cap; /* a power of two, or 0 */
	struct pending *v;
	uint32_t *next, *bucket;
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
	free(d->bucket);
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

static struct pending pending_of(const struct stat *st)
{
	return (struct pending){.dev = st->st_dev,
				.ino = st->st_ino,
				.size = (uint64_t)st->st_size,
				.mtime = timespec_ns(st->st_mtim),
				.ctime = timespec_ns(st->st_ctim)};
}

/* Big-endian, so that files made together lie together. */
static void key_of(const struct pending *d, uint8_t key[KEY_SIZE])
{
	for (unsigned i = 0; i < 8; i++) {
		key[i] = (uint8_t)(d->dev >> (56 - 8 * i));
		key[8 + i] = (uint8_t)(d->ino >> (56 - 8 * i));
	}
}

static void value_of(const struct pending *d, struct buf *out)
{
	buf_u64(out, d->size);
	buf_u64(out, (uint64_t)d->mtime);
	buf_u64(out, (uint64_t)d->ctime);
	buf_u64(out, (uint64_t)d->hashed_at);
	buf_add(out, d->fp.b, sizeof(d->fp.b));
}

static bool value_matches(struct kv_val v, const struct pending *d, struct fp *ret)
{
	struct cur c = {v.p, (const uint8_t *)v.p + v.n, false};

	if (v.n != VALUE_SIZE || cur_u64(&c) != d->size || cur_u64(&c) != (uint64_t)d->mtime ||
	    cur_u64(&c) != (uint64_t)d->ctime)
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

static uint32_t *bucket_of(struct digests *d, const struct pending *p)
{
	uint64_t h = (p->ino ^ p->dev << 32) * UINT64_C(0x9e3779b97f4a7c15);

	return &d->bucket[h >> 32 & (d->cap - 1)];
}

static bool pending_get(struct digests *d, const struct pending *p, struct fp *ret)
{
	bool found = false;

	if (atomic_load(&d->n) == 0)
		return false;
	(void)pthread_mutex_lock(&d->mu);
	for (uint32_t i = d->cap ? *bucket_of(d, p) : 0; i && !found; i = d->next[i - 1]) {
		const struct pending *k = &d->v[i - 1];

		found = k->dev == p->dev && k->ino == p->ino && k->size == p->size &&
			k->mtime == p->mtime && k->ctime == p->ctime;
		if (found)
			*ret = k->fp;
	}
	(void)pthread_mutex_unlock(&d->mu);
	return found;
}

static void link_one(struct digests *d, uint32_t i)
{
	uint32_t *bucket = bucket_of(d, &d->v[i]);

	d->next[i] = *bucket;
	*bucket = i + 1;
}

static void grow(struct digests *d, uint32_t n)
{
	d->cap = d->cap ? d->cap * 2 : 256;
	d->v = xrealloc(d->v, d->cap * sizeof(*d->v));
	d->next = xrealloc(d->next, d->cap * sizeof(*d->next));
	free(d->bucket);
	d->bucket = xcalloc(d->cap, sizeof(*d->bucket));
	for (uint32_t i = 0; i < n; i++)
		link_one(d, i);
}

/* How many there are now. */
static unsigned pending_add(struct digests *d, const struct idx_digest *new)
{
	unsigned n;

	(void)pthread_mutex_lock(&d->mu);
	n = atomic_load(&d->n);
	if (n == d->cap && n < MAX_HELD)
		grow(d, n);
	if (n < d->cap) {
		d->v[n] = pending_of(&new->st);
		d->v[n].hashed_at = new->hashed_at;
		d->v[n].fp = new->fp;
		link_one(d, n);
		atomic_store(&d->n, ++n);
	}
	(void)pthread_mutex_unlock(&d->mu);
	return n;
}

/* ---- LMDB ---- */

struct batch {
	const struct pending *v;
	size_t n;
};

static int put_batch(void *arg, struct kv_txn *t, struct err *e)
{
	const struct batch *b = arg;
	auto_buf struct buf value = {0};
	uint8_t key[KEY_SIZE];
	int r = 0;

	for (size_t i = 0; r >= 0 && i < b->n; i++) {
		value.len = 0;
		key_of(&b->v[i], key);
		value_of(&b->v[i], &value);
		r = kv_put(t, TAB_DIGEST, key, sizeof(key), value.data, value.len, e);
	}
	return r;
}

int digests_flush(struct idx *x, struct err *e)
{
	struct digests *d = x->digests;
	auto_free struct pending *v = NULL;
	size_t n;
	int r = 0;

	(void)pthread_mutex_lock(&d->mu);
	n = atomic_load(&d->n);
	v = take(d->v);
	free(take(d->next));
	free(take(d->bucket));
	d->cap = 0;
	atomic_store(&d->n, 0);
	(void)pthread_mutex_unlock(&d->mu);
	/* LMDB keeps the pages of its largest transaction until it is closed. */
	for (size_t at = 0; at < n && !x->read_only && r >= 0; at += MAX_PENDING) {
		struct batch b = {v + at, n - at < MAX_PENDING ? n - at : MAX_PENDING};

		r = kv_write(x->kv, put_batch, &b, e);
	}
	return r;
}

void idx_digest_add(struct idx *x, const struct idx_digest *d)
{
	struct err e;

	if (!x->read_only && may_remember(x, d) && pending_add(x->digests, d) >= MAX_PENDING &&
	    !atomic_load(&x->held) && digests_flush(x, &e) < 0)
		log_debug("%s", e.msg); /* they will be computed again */
}

void idx_digest_written(struct idx *x, const struct idx_digest *d)
{
	if (!x->read_only && S_ISREG(d->st.st_mode) && times_are_exact(x, &d->st))
		(void)pending_add(x->digests, d); /* written by idx_close */
}

int idx_digest_put(struct idx *x, const struct idx_digest *d, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (!x->read_only && may_remember(x, &d[i]))
			(void)pending_add(x->digests, &d[i]); /* all are written below */
	return atomic_load(&x->held) ? 0 : digests_flush(x, e);
}

int idx_digest_get(struct idx *x, const struct stat *st, struct fp *ret)
{
	const struct pending d = pending_of(st);
	uint8_t key[KEY_SIZE];
	struct kv_txn *t;
	struct kv_val v;
	int found;

	if (!S_ISREG(st->st_mode))
		return 0;
	if (pending_get(x->digests, &d, ret))
		return 1;
	if (kv_begin(x->kv, &t, NULL) < 0)
		return 0; /* trouble with the index costs the hashing, nothing else */
	key_of(&d, key);
	found = kv_get(t, TAB_DIGEST, key, sizeof(key), &v, NULL) > 0 && value_matches(v, &d, ret);
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
	idx_digest_add(x, &d);
	return 0;
}
