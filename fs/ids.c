/* SPDX-License-Identifier: MIT */
/*
 * ids.c - inode numbers, owners and groups as the view shows them.
 *
 * As root everything is shown as it is. For an ordinary user the view lies in a user namespace in which only
 * that user's own ids exist. The kernel refuses every write to an inode whose owner does not exist in the
 * namespace, and judges access by the ids it was told. So a file of somebody else's that this user may write
 * (/tmp) is shown as the user's own, and one that is readable through a supplementary group as the user's
 * own group's; everything else appears as nobody's, as in every rootless sandbox. What is really allowed is
 * decided by the file system below, which the server asks as this user.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

#define NOBODY 65534

void ids_init(struct fs *fs)
{
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
}

/* The number below, as long as the file is on the root's file system; others get their device mixed in above the
 * bits that file systems use, the same way every time. */
ino_t ids_ino(const struct fs *fs, dev_t dev, ino_t ino)
{
	uint64_t h = (uint64_t)dev * 0x9e3779b97f4a7c15u;

	if (dev == fs->inodes.root.dev || ino >> 48)
		return ino;
	return ino | ((h >> 48) | 1) << 48;
}

static bool in_groups(const struct fs *fs, gid_t gid)
{
	for (int k = 0; k < fs->n_groups; k++)
		if (fs->groups[k] == gid)
			return true;
	return false;
}

void ids_show(const struct fs *fs, const struct at *a, struct stat *st)
{
	bool mine = st->st_uid == fs->uid, writable;

	st->st_ino = ids_ino(fs, st->st_dev, st->st_ino);
	if (!fs->own_ids_only)
		return;
	writable = !mine && (st->st_mode & 022) && !S_ISLNK(st->st_mode) && a &&
		   faccessat(a->dirfd, a->name, W_OK, AT_EACCESS) == 0;
	if (writable)
		st->st_uid = fs->uid;
	else if (!mine)
		st->st_uid = NOBODY;
	if (st->st_gid != fs->gid)
		st->st_gid = writable || mine || in_groups(fs, st->st_gid) ? fs->gid : NOBODY;
}

int ids_give(struct fs *fs, const struct fuse_ctx *c, const struct at *a)
{
	struct stat dir;
	gid_t gid = c->gid;
	auto_free char *parent = NULL;
	char *slash;

	if (c->uid == fs->uid && c->gid == fs->gid)
		return 0;
	if (fs->own_ids_only)
		return 0;
	parent = xstrdup(a->name);
	slash = strrchr(parent, '/');
	if (slash == parent)
		slash[1] = '\0';
	else if (slash)
		*slash = '\0';
	if (fstatat(a->dirfd, slash ? parent : ".", &dir, 0) == 0 && (dir.st_mode & S_ISGID))
		gid = (gid_t)-1;
	if (fchownat(a->dirfd, a->name, c->uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

void ids_umask(struct fs *fs, const struct fuse_ctx *c)
{
	if (c->umask != fs->umask) {
		fs->umask = c->umask;
		umask(fs->umask);
	}
}
