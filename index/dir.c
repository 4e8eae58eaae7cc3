/* SPDX-License-Identifier: MIT */
/* dir.c - the cache directory: its layout, its version, and opening and closing what is in it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "check.h"
#include "idx.h"
#include "objects.h"
#include "refs.h"

#define VERSION_PREFIX "mlfs cache "
#define STALE_SECONDS  3600

static const char *const layout[] = {"index", "cas", "tmp", "lock"};

/* ---- is this a place for a cache? ---- */

/* File systems of many hosts: LMDB's locks and map are this host's only (statfs(2)). */
static const char *network_name(int fd)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} known[] = {
		{0x6969, "NFS"},	{0x517b, "SMB"},      {0xff534d42, "CIFS"},
		{0xfe534d42, "SMB"},	{0x5346414f, "AFS"},  {0x00c36400, "Ceph"},
		{0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"},
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if ((uint32_t)fs.f_type == known[i].magic)
			return known[i].name;
	return NULL;
}

/* Names that a directory may have before it is a cache. */
static bool expected_name(const char *name)
{
	for (size_t i = 0; i < sizeof(layout) / sizeof(*layout); i++)
		if (strcmp(name, layout[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "version") == 0 ||
	       strcmp(name, "mlfs.conf") == 0 || strcmp(name, "lost+found") == 0 ||
	       strcmp(name, "lazy") == 0;
}

/* Making a cache of somebody's home directory would be a poor answer to a typing mistake. */
static int check_unused(const struct idx *x, struct err *e)
{
	int fd = openat(x->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	int r = 0;

	if (!d) {
		r = err_set(e, errno, "cannot read directory %s", x->dir);
		base_close(&fd);
		return r;
	}
	while (r == 0 && (de = readdir(d)))
		if (!expected_name(de->d_name))
			r = err_text(
				e, EUCLEAN,
				"%s is not an mlfs cache (it has no file \"version\", but \"%s\"); name "
				"an empty directory, or remove it",
				x->dir, de->d_name);
	(void)closedir(d); /* only read from */
	return r;
}

/* ---- version ---- */

static int read_version(const struct idx *x, unsigned *ret, struct err *e)
{
	auto_close int fd = openat(x->dirfd, "version", O_RDONLY | O_CLOEXEC);
	char text[64], *end;
	unsigned long v;
	ssize_t n;

	if (fd < 0 && errno == ENOENT) {
		*ret = 0;
		return 0;
	}
	if (fd < 0)
		return err_set(e, errno, "cannot open %s/version", x->dir);
	n = read_full(fd, text, sizeof(text) - 1);
	if (n < 0)
		return err_set(e, (int)n, "cannot read %s/version", x->dir);
	text[n] = '\0';
	errno = 0;
	v = strtoul(text + sizeof(VERSION_PREFIX) - 1, &end, 10);
	if (strncmp(text, VERSION_PREFIX, sizeof(VERSION_PREFIX) - 1) != 0 || *end != '\n' ||
	    errno || v == 0 || v > 1000000)
		return err_text(
			e, EUCLEAN,
			"%s is not an mlfs cache, or damaged (its file \"version\" makes no sense); "
			"remove %s or run `mlfs fsck --repair`",
			x->dir, x->dir);
	*ret = (unsigned)v;
	return 0;
}

static int too_new(const struct idx *x, unsigned v, struct err *e)
{
	return err_text(
		e, ENOTSUP,
		"the cache %s has format %u, made by a newer mlfs; this one knows formats up "
		"to %d: upgrade mlfs, or use another --cache",
		x->dir, v, IDX_SCHEMA);
}

static int write_version(struct idx *x, struct err *e)
{
	char name[TEMP_NAME_SIZE], text[32];
	auto_close int fd = -1;
	int n, r;

	idx_temp_name(x, name);
	fd = openat(x->dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, errno, "cannot make %s/%s", x->dir, name);
	n = snprintf(text, sizeof(text), VERSION_PREFIX "%d\n", IDX_SCHEMA);
	r = (int)write_all(fd, text, (size_t)n);
	if (r >= 0 && renameat(x->dirfd, name, x->dirfd, "version") < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(x->dirfd, name, 0); /* else a stale one is cleaned up later */
		return err_set(e, r, "cannot write %s/version", x->dir);
	}
	return 0;
}

/* The other files of a cache are there. */
static bool looks_like_cache(int dirfd_)
{
	struct stat st;

	return fstatat(dirfd_, "index", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	       fstatat(dirfd_, "cas", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

int idx_version_check(int dirfd_, const char *dir, struct err *e)
{
	const struct idx x = {.dirfd = dirfd_, .dir = (char *)dir};
	unsigned v = 0;
	int r = read_version(&x, &v, e);

	if (r < 0 && r != -EUCLEAN)
		return r;
	if (r == 0 && v > IDX_SCHEMA)
		return too_new(&x, v, e);
	if (r == 0 && v > 0)
		return 0;
	return looks_like_cache(dirfd_) ? -EUCLEAN
					: err_text(e, ENOENT, "there is no cache in %s", dir);
}

int idx_version_write(int dirfd_, const char *dir, struct err *e)
{
	struct idx x = {.dirfd = dirfd_, .dir = (char *)dir};

	return write_version(&x, e);
}

static int make_layout(struct idx *x, struct err *e)
{
	for (size_t i = 0; i < sizeof(layout) / sizeof(*layout); i++)
		if (mkdirat(x->dirfd, layout[i], 0700) < 0 && errno != EEXIST)
			return err_set(e, errno, "cannot make directory %s/%s", x->dir, layout[i]);
	return 0;
}

/* The version is written last: a cache with one has the rest, too. */
static int settle_version(struct idx *x, struct err *e)
{
	unsigned v = 0;
	int r = read_version(x, &v, e);

	if (r < 0)
		return r;
	if (v > IDX_SCHEMA)
		return too_new(x, v, e);
	x->version = v;
	if (v == 0 && x->read_only)
		return err_text(e, ENOENT, "there is no cache in %s", x->dir);
	if (v == 0)
		r = check_unused(x, e);
	if (r == 0 && !x->read_only)
		r = make_layout(x, e); /* also what a person removed */
	/* Which one was it? What the index has tells, and counting anew does no harm. */
	if (v == 0)
		x->version = faccessat(x->dirfd, "index/data.mdb", F_OK, 0) == 0 ? 1 : IDX_SCHEMA;
	if (r == 0 && v == 0)
		r = write_version(x, e);
	return r;
}

/* ---- a cache of an earlier version ---- */

static int upgrade_in(void *arg, struct kv_txn *t, struct err *e)
{
	return refs_rebuild(arg, t, e);
}

/* 1 -> 2: what refers to what is counted. Killed on the way, it is done again by the next to open the cache. */
static int upgrade(struct idx *x, struct err *e)
{
	int r = x->version < 2 ? kv_write(x->kv, upgrade_in, x, e) : 0;

	if (r == 0)
		r = write_version(x, e);
	if (r == 0)
		x->version = IDX_SCHEMA;
	return r;
}

/* ---- temporary files ---- */

void idx_temp_name(struct idx *x, char name[TEMP_NAME_SIZE])
{
	/* The time keeps apart processes with one number: in containers, or one after the other. */
	(void)snprintf(name, TEMP_NAME_SIZE, "tmp/%ld-%u-%llx", (long)getpid(),
		       atomic_fetch_add(&x->temp_counter, 1),
		       (unsigned long long)now_ns()); /* fits */
}

char *idx_temp_path(struct idx *x)
{
	char name[TEMP_NAME_SIZE];

	idx_temp_name(x, name);
	return xasprintf("%s/%s", x->dir, name);
}

bool idx_left_behind(const struct stat *st, const char *name)
{
	char *end;
	long pid = strtol(name, &end, 10);

	/* A process that cannot be seen may live in another container: its files are young, then. */
	return pid > 0 && *end == '-' &&
	       now_ns() / 1000000000 - st->st_mtim.tv_sec > STALE_SECONDS &&
	       kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

bool idx_temp_is_stale(int tmp, const char *name)
{
	struct stat st;

	return fstatat(tmp, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       idx_left_behind(&st, name);
}

/* What killed processes left behind. Best effort. */
static void remove_stale_temps(struct idx *x)
{
	int fd = openat(x->dirfd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		base_close(&fd);
		return;
	}
	while ((de = readdir(d))) {
		placing_tidy(fd, de->d_name);
		if (idx_temp_is_stale(fd, de->d_name) && unlinkat(fd, de->d_name, 0) < 0)
			log_debug("cannot remove %s/tmp/%s", x->dir, de->d_name);
	}
	(void)closedir(d); /* only read from */
}

/* ---- open, close ---- */

static int open_dir(struct idx *x, struct err *e)
{
	const char *network;
	int r;

	r = x->read_only ? 0 : mkdir_p(x->dir, 0700, e);
	if (r < 0) {
		(void)err_prefix(e, "cannot open the cache"); /* the code is r */
		return r;
	}
	x->dirfd = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->dirfd < 0)
		return err_set(e, errno, "cannot open the cache %s", x->dir);
	network = network_name(x->dirfd);
	if (network)
		return err_text(
			e, EREMOTE,
			"the cache %s lies on a network file system (%s), where LMDB cannot work; use a "
			"local directory with --cache",
			x->dir, network);
	return settle_version(x, e);
}

static int open_as(const char *dir, unsigned how, struct idx **ret, struct err *e)
{
	struct idx *x = xcalloc(1, sizeof(*x));
	auto_free char *index_dir = xasprintf("%s/index", dir);
	char keys[4096];
	int r;

	x->dir = xstrdup(dir);
	x->dirfd = -1;
	x->read_only = how & KV_READ_ONLY;
	x->how = how;
	x->objects = objects_new();
	x->digests = digests_new();
	x->in_view = idx_ask_view(IDX_KEYS_XATTR, keys, sizeof(keys)) != -ENODATA;
	r = open_dir(x, e);
	if (r == 0)
		r = kv_open(index_dir, how, &x->kv, e);
	if (r == 0 && x->version < IDX_SCHEMA && !x->read_only)
		r = upgrade(x, e);
	if (r < 0) {
		idx_close(x);
		return r;
	}
	if (!x->read_only)
		remove_stale_temps(x);
	*ret = x;
	return 0;
}

int idx_open(const char *dir, bool read_only, struct idx **ret, struct err *e)
{
	return open_as(dir, read_only ? KV_READ_ONLY : 0, ret, e);
}

int idx_open_few(const char *dir, struct idx **ret, struct err *e)
{
	return open_as(dir, KV_READ_ONLY | KV_FEW, ret, e);
}

int idx_open_held(const char *dir, struct idx **ret, struct err *e)
{
	return open_as(dir, KV_HELD, ret, e);
}

int idx_open_for_job(const char *dir, bool apart, struct idx **ret, struct err *e)
{
	int r = open_as(dir, KV_FEW | (apart ? KV_APART : KV_QUIET), ret, e);

	if (r == 0)
		atomic_store(&(*ret)->held, !apart);
	return r;
}

void idx_release(struct idx *x)
{
	atomic_store(&x->held, false);
}

void idx_distrust(const char *dir)
{
	auto_free char *index_dir = xasprintf("%s/index", dir);
	auto_close int fd = open(index_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		check_distrust(fd);
}

void idx_close(struct idx *x)
{
	struct err e;

	if (!x)
		return;
	if (x->kv && store_flush(x, &e) < 0)
		log_debug("%s",
			  e.msg); /* whoever needs these objects has asked for a flush before */
	if (x->kv && digests_flush(x, &e) < 0)
		log_debug("%s", e.msg); /* they will be computed again */
	kv_close(x->kv);
	objects_free(x->objects);
	digests_free(x->digests);
	base_close(&x->dirfd);
	free(x->dir);
	free(x);
}

const char *idx_dir(const struct idx *x)
{
	return x->dir;
}

int idx_begin_read(struct idx *x, struct err *e)
{
	struct kv_txn *t;

	return kv_begin(x->kv, &t, e);
}

void idx_end_read(struct idx *x)
{
	kv_end(x->kv);
}
