/* SPDX-License-Identifier: MIT */
/* view_flags.c - mounts below a view that forbid something; see view.h. */
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mountinfo.h"

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000
#endif

#define ALL_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)

static bool may_hang(const char *type)
{
	static const char *const types[] = {"autofs", "nfs",	 "nfs4", "cifs",   "smb3",
					    "ceph",   "afs",	 "9p",	 "lustre", "glusterfs",
					    "fuse",   "fuseblk", "gpfs", "beegfs"};

	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++)
		if (strcmp(type, types[k]) == 0)
			return true;
	/* Of a view around this one: as if it were local. */
	return strncmp(type, "fuse.", 5) == 0 && strcmp(type, "fuse.mlfs") != 0;
}

/* Is this what its path leads to, nothing being mounted over it? */
static bool is_on_top(const struct mountinfo *m)
{
	struct statx st;

	return statx(AT_FDCWD, m->path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) ==
		       0 &&
	       (st.stx_mask & STATX_MNT_ID) && st.stx_mnt_id == (uint64_t)m->id;
}

static uint64_t attrs_of(unsigned long flags)
{
	return (flags & MS_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
	       (flags & MS_NODEV ? MOUNT_ATTR_NODEV : 0) |
	       (flags & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0) |
	       (flags & MS_RDONLY ? MOUNT_ATTR_RDONLY : 0);
}

static int set_attrs(int fd, struct mount_attr *attr, const char *path, struct err *e)
{
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, attr, sizeof(*attr)) < 0)
		return err_set(e, errno, "cannot give %s its flags in the view", path);
	return 0;
}

static bool is_native(const char *path, const char *const *native)
{
	for (; *native; native++)
		if (path_is_in(path, *native))
			return true;
	return false;
}

/* The path is walked once: nothing of it is kept by the kernel yet. */
static int take_flags(const char *mountpoint, const struct mountinfo *m, unsigned long base,
		      struct err *e)
{
	const char *below = strcmp(m->path, "/") == 0 ? "" : m->path;
	auto_free char *to = xasprintf("%s%s", mountpoint, below);
	struct mount_attr attr = {.attr_set = attrs_of(m->flags | base),
				  .attr_clr = attrs_of(ALL_FLAGS & ~(m->flags | base))};
	auto_close int at = open(to, O_PATH | O_CLOEXEC), tree = -1;

	if (at < 0)
		return err_set(e, errno, "cannot open %s in the view", m->path);
	if (!*below) /* a mount already */
		return set_attrs(at, &attr, m->path, e);
	tree = (int)syscall(SYS_open_tree, at, "",
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return err_set(e, errno, "cannot bind %s in the view", m->path);
	if (set_attrs(tree, &attr, m->path, e) < 0)
		return -e->code;
	if (syscall(SYS_move_mount, tree, "", at, "",
		    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_set(e, errno, "cannot bind %s in the view", m->path);
	return 0;
}

int view_take_flags(const char *mountpoint, const char *const *native, unsigned long base,
		    struct err *e)
{
	auto_mountinfos struct mountinfos all = {0};
	int r = 0;

	mountinfo_read(&all);
	for (size_t k = 0; k < all.n && r == 0; k++) {
		struct mountinfo *m = &all.v[k];
		const struct mountinfo *around = NULL;

		if (is_native(m->path, native) || may_hang(m->type)) {
			m->path[0] = '\0'; /* around nothing */
			continue;
		}
		for (size_t i = 0; i < k; i++)
			if (all.v[i].path[0] && path_is_in(m->path, all.v[i].path) &&
			    (!around || strlen(all.v[i].path) >= strlen(around->path)))
				around = &all.v[i];
		if ((around ? around->flags : 0) == m->flags)
			continue;
		if (is_on_top(m))
			r = take_flags(mountpoint, m, base, e);
		else
			m->path[0] = '\0';
	}
	return r;
}
