/* SPDX-License-Identifier: MIT */
/*
 * ids.c - inode numbers, owners and groups as the view shows them.
 *
 * As root everything is shown as it is. For an ordinary user the view lies in a user namespace in which only
 * that user's own ids exist. The kernel refuses every write to an inode whose owner does not exist in the
 * namespace, and every removal or renaming of it, and judges access by the ids it was told. So a file of
 * somebody else's that this user may write (/tmp), or remove, is shown as the user's own, and one that is readable
 * through a supplementary group as the user's own group's; everything else appears as nobody's, as in every rootless
 * sandbox. What is really allowed is decided by the file system below, which the server asks as this user: to open a
 * file that is shown as one's own may succeed and the first read or write of it fail. (Its mode is not shown smaller
 * to prevent that: a copy with its mode would be one that its owner cannot write.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"

#define NOBODY 65534

void ids_init(struct fs *fs)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};

	fs->uid = geteuid();
	fs->gid = getegid();
	fs->umask = umask(022);
	umask(fs->umask);
	fs->n_groups = getgroups(0, NULL);
	if (fs->n_groups > 0) {
		fs->groups = xcalloc((size_t)fs->n_groups, sizeof(gid_t));
		fs->n_groups = getgroups(fs->n_groups, fs->groups);
	}
	if (fs->n_groups < 0)
		fs->n_groups = 0;
	if (syscall(SYS_capget, &h, fs->caps) < 0)
		log_debug("cannot read this process' capabilities: %s", strerror(errno));
}

/* The number below, as long as the file is on the root's file system; others get their device mixed in above the
 * bits that file systems use, the same way every time. */
ino_t ino_shown(dev_t root, dev_t dev, ino_t ino)
{
	uint64_t h = (uint64_t)dev * 0x9e3779b97f4a7c15u;

	if (dev == root || ino >> 48)
		return ino;
	return ino | ((h >> 48) | 1) << 48;
}

ino_t ids_ino(const struct fs *fs, dev_t dev, ino_t ino)
{
	return ino_shown(fs->inodes.root.dev, dev, ino);
}

static bool in_groups(const struct fs *fs, gid_t gid)
{
	for (int k = 0; k < fs->n_groups; k++)
		if (fs->groups[k] == gid)
			return true;
	return false;
}

static bool may_write(const struct at *a, const struct stat *st)
{
	return (st->st_mode & 022) && !S_ISLNK(st->st_mode) &&
	       faccessat(a->dirfd, a->name, W_OK, AT_EACCESS) == 0;
}

/* May this user remove somebody else's file from where it is? */
static bool may_remove(const struct fs *fs, const struct at *a)
{
	auto_free char *dir = NULL;
	const char *slash = strrchr(a->name, '/');
	struct stat st;

	if (!slash)
		dir = xstrdup("."); /* a piece of a very long path */
	else
		dir = slash == a->name ? xstrdup("/")
				       : xstrndup(a->name, (size_t)(slash - a->name));
	if (faccessat(a->dirfd, dir, W_OK | X_OK, AT_EACCESS) < 0 ||
	    fstatat(a->dirfd, dir, &st, 0) < 0)
		return false;
	return !(st.st_mode & S_ISVTX) || st.st_uid == fs->uid;
}

void ids_show(const struct fs *fs, struct inode *i, const struct inode *dir, const struct at *a,
	      struct stat *st)
{
	bool mine = st->st_uid == fs->uid;

	st->st_ino = ids_ino(fs, st->st_dev, st->st_ino);
	if (!fs->own_ids_only)
		return;
	/* A directory that is not shown as one's own lets nobody remove anything: it need not be asked. */
	i->own = mine || (a && (may_write(a, st) || (dir && dir->own && may_remove(fs, a))));
	if (st->st_gid != fs->gid)
		st->st_gid = i->own || in_groups(fs, st->st_gid) ? fs->gid : NOBODY;
	st->st_uid = i->own ? fs->uid : NOBODY;
}

void ids_assume(struct fs *fs, const struct fuse_ctx *c)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};

	if (fs->own_ids_only || (c->uid == fs->uid && c->gid == fs->gid))
		return;
	/* setfsuid(2) says nothing of failure; it has none for who may set ids. */
	(void)setfsgid(c->gid);
	(void)setfsuid(c->uid);
	if (syscall(SYS_capset, &h, fs->caps) < 0)
		log_debug("cannot keep the rights to files: %s", strerror(errno));
	fs->assumed = true;
}

void ids_resume(struct fs *fs)
{
	if (!fs->assumed)
		return;
	(void)setfsuid(fs->uid); /* brings the rights to files back with it */
	(void)setfsgid(fs->gid);
	fs->assumed = false;
}

void ids_umask(struct fs *fs, const struct fuse_ctx *c)
{
	if (c->umask != fs->umask) {
		fs->umask = c->umask;
		umask(fs->umask);
	}
}
