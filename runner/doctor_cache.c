/* SPDX-License-Identifier: MIT */
/* doctor_cache.c - the cache's directory: can it be used, does its file system share blocks, are its times those of the clock. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "doctor.h"
#include "options.h"

#define SCRATCH	     "doctor-"
#define LOW_BYTES    (UINT64_C(1) << 30) /* free: so little is worth a word */
#define LOW_FILES    10000
#define CLOCK_OFF_NS 2000000000 /* coarse times of files are not off by so much */

/* ---- the scratch directory ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)at;
	(void)(type == FTW_DP ? rmdir(path)
			      : unlink(path)); /* what stays is found by the next doctor */
	return 0;
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* What doctors that were killed left behind. */
static void remove_stale(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		auto_free char *path = xasprintf("%s/%s", dir, de->d_name);
		struct stat st;

		if (strncmp(de->d_name, SCRATCH, strlen(SCRATCH)) == 0 && lstat(path, &st) == 0 &&
		    idx_left_behind(&st, de->d_name + strlen(SCRATCH)))
			remove_tree(path);
	}
	if (d)
		(void)closedir(d); /* only read from */
}

/* The nearest directory of the way to path that is there; caller frees. */
static char *nearest_there(const char *path)
{
	char *dir = xstrdup(path), *slash;
	struct stat st;

	while (stat(dir, &st) < 0 && (slash = strrchr(dir, '/')) && dir[1])
		slash[slash == dir] = '\0';
	return dir;
}

static int make_scratch(struct doctor *d, const char *dir)
{
	d->scratch = xasprintf("%s/" SCRATCH "%d-XXXXXX", strcmp(dir, "/") == 0 ? "" : dir,
			       (int)getpid());
	if (mkdtemp(d->scratch))
		return 0;
	free(take(d->scratch));
	return -errno;
}

void doctor_clean(struct doctor *d)
{
	if (d->scratch)
		remove_tree(d->scratch);
	free(take(d->scratch));
}

/* ---- the cache ---- */

static void look_at_space(struct doctor *d, const char *dir)
{
	struct statvfs v;
	char size[32];

	if (statvfs(dir, &v) < 0)
		return; /* what it is worth is seen when a file is made */
	if ((uint64_t)v.f_bavail * v.f_frsize < LOW_BYTES)
		doctor_add(
			d, FINDING_NOTE, "space",
			xasprintf("only %s are free at %s",
				  human_size((uint64_t)v.f_bavail * v.f_frsize, size, sizeof(size)),
				  dir),
			xstrdup("make room, or set MLFS_CACHE to another file system"));
	else if (v.f_files && v.f_favail < LOW_FILES)
		doctor_add(d, FINDING_NOTE, "space",
			   xasprintf("only %llu more files can be made at %s",
				     (unsigned long long)v.f_favail, dir),
			   xstrdup("make room, or set MLFS_CACHE to another file system"));
}

/* As a step would. */
static bool opens(struct doctor *d)
{
	struct err e = {0};
	struct idx *x;
	int r = idx_open(d->cache, false, &x, &e);

	if (r == 0) {
		idx_close(x);
		return true;
	}
	doctor_add_err(d, FINDING_BAD, "cache", e.msg,
		       r == -EUCLEAN   ? "mlfs fsck --repair"
		       : r == -ENOTSUP ? "a newer mlfs, or another directory in MLFS_CACHE"
		       : r == -EREMOTE
			       ? "export MLFS_CACHE=/var/tmp/mlfs-$USER"
			       : "chown or chmod it, or set MLFS_CACHE to a directory of yours");
	return false;
}

void doctor_cache(struct doctor *d)
{
	auto_free char *tmp = xasprintf("%s/tmp", d->cache), *near = nearest_there(d->cache);
	bool there = strcmp(near, d->cache) == 0 && access(tmp, F_OK) == 0;
	struct err e = {0};
	int r;

	if (there && !opens(d))
		return;
	if (there)
		remove_stale(tmp);
	r = make_scratch(d, there ? tmp : near);
	if (r < 0) {
		(void)err_set(&e, r, "cannot make a directory in %s", there ? tmp : near);
		doctor_add(d, FINDING_BAD, "cache", xstrdup(e.msg),
			   xstrdup("set MLFS_CACHE to a directory of yours"));
		return;
	}
	doctor_add(d, FINDING_OK, "cache",
		   there ? xasprintf("%s can be used", d->cache)
			 : xasprintf("%s is not there yet; it can be made", d->cache),
		   NULL);
	look_at_space(d, there ? d->cache : near);
}

void doctor_settings(struct doctor *d)
{
	const char *variable = getenv("MLFS_CONFIG"), *named = d->q->config ? d->q->config
							       : variable && *variable ? variable
										       : NULL;
	auto_free char *path = named ? xstrdup(named) : xasprintf("%s/mlfs.conf", d->cache);
	struct exec_opts o;
	struct err e = {0};
	int r;

	exec_opts_init(&o);
	r = config_apply(path, NULL, &(struct config_to){.exec = &o}, &e);
	exec_opts_free(&o);
	if (r >= 0)
		doctor_add(d, FINDING_OK, "settings", xasprintf("%s can be read", path), NULL);
	else if (named || (r != -ENOENT && r != -ENOTDIR))
		doctor_add(d, FINDING_BAD, "settings", xstrdup(e.msg),
			   r == -EINVAL ? xstrdup("correct this line; see mlfs.conf(5)")
					: xasprintf("chmod u+r %s", path));
	else
		doctor_add(d, FINDING_OK, "settings", xasprintf("none: there is no %s", path),
			   NULL);
}

/* ---- reflinks ---- */

static int scratch_file(const struct doctor *d, const char *name)
{
	auto_free char *path = xasprintf("%s/%s", d->scratch, name);

	return open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

/* 1: they share blocks; 0: they are copied; -errno: it could not be tried. */
static int try_clone(int from, int to)
{
	char block[4096] = "mlfs";

	if (from < 0 || to < 0)
		return -EBADF;
	if (write_all(from, block, sizeof(block)) < 0)
		return -EIO;
	return ioctl(to, FICLONE, from) == 0;
}

void doctor_reflinks(struct doctor *d)
{
	auto_close int from = -1, to = -1, here = -1;
	int in_cache, across;

	if (!d->scratch)
		return;
	from = scratch_file(d, "from");
	to = scratch_file(d, "to");
	here = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	in_cache = try_clone(from, to);
	across = try_clone(here, to);
	if (in_cache < 0)
		doctor_add(d, FINDING_BAD, "reflinks", xstrdup("cannot write a file in the cache"),
			   xstrdup("make room, or set MLFS_CACHE to another file system"));
	else if (!in_cache)
		doctor_add(
			d, FINDING_NOTE, "reflinks",
			xstrdup("the cache's file system has none: outputs are copied"),
			xstrdup("put the cache and the work on one file system with reflinks (XFS, Btrfs): "
				"set MLFS_CACHE"));
	else if (across == 0)
		doctor_add(
			d, FINDING_NOTE, "reflinks",
			xstrdup("this directory lies on another file system than the cache: outputs are "
				"copied"),
			xstrdup("put the cache on this one: set MLFS_CACHE"));
	else
		doctor_add(d, FINDING_OK, "reflinks",
			   xstrdup("outputs share their blocks with the cache"), NULL);
}

/* ---- the clock ---- */

void doctor_clock(struct doctor *d)
{
	auto_close int fd = d->scratch ? scratch_file(d, "clock") : -1;
	auto_free char *version = xasprintf("%s/version", d->cache);
	int64_t now = now_ns(), file = now;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		file = timespec_ns(st.st_mtim);
	if (now < INT64_C(1700000000) * 1000000000)
		doctor_add(d, FINDING_NOTE, "clock", xstrdup("the clock is not set"),
			   xstrdup("as root: timedatectl set-ntp true"));
	else if (file > now + CLOCK_OFF_NS || file < now - CLOCK_OFF_NS)
		doctor_add(
			d, FINDING_NOTE, "clock",
			xasprintf(
				"a new file of the cache is %lld s away from the clock: digests are not "
				"remembered",
				(long long)((file - now) / 1000000000)),
			xstrdup("set the clock of the host whose disk this is, or MLFS_CACHE to a local "
				"disk"));
	else if (stat(version, &st) == 0 && st.st_mtim.tv_sec > now / 1000000000 + 60)
		doctor_add(
			d, FINDING_NOTE, "clock",
			xstrdup("the clock was set back since the cache was made: results may expire too "
				"late"),
			xstrdup("as root: timedatectl set-ntp true"));
	else
		doctor_add(d, FINDING_OK, "clock", xstrdup("as the times of files"), NULL);
}
