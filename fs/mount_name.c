/* SPDX-License-Identifier: MIT */
/* mount_name.c - a persistent mount: looking up, making, renaming and removing names. */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct node *mount_entry(struct fs_mount *m, struct node *parent, const char *name, int fd,
			 struct fuse_entry_param *ret, int *ret_err)
{
	struct statx x;
	struct stat st;
	struct node *n;
	int r = statx_fd(fd, &x);

	if (r < 0) {
		close(fd);
		*ret_err = -r;
		return NULL;
	}
	stat_of(m, &x, &st);
	(void)lazy_stat(m, fd, &st);
	n = node_looked_up(&m->nodes, parent, name, fd, &x);
	*ret = (struct fuse_entry_param){.ino = node_id(m, n),
					 .attr_timeout = MOUNT_VALID_S,
					 .entry_timeout = MOUNT_VALID_S,
					 .attr = st};
	return n;
}

/* That name in parent is the file open as fd (O_PATH; taken). */
static void reply_entry(fuse_req_t req, struct node *parent, const char *name, int fd)
{
	struct fs_mount *m = mount_of(req);
	struct fuse_entry_param e;
	int err;
	struct node *n = mount_entry(m, parent, name, fd, &e, &err);

	if (!n)
		fuse_reply_err(req, err);
	else if (fuse_reply_entry(req, &e) == -ENOENT) /* the kernel holds no reference then */
		node_forget(&m->nodes, n, 1);
}

static int open_path(int dirfd, const char *name)
{
	struct fs_mount *m = mount_worker()->m;
	int fd;

	do
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	while (fd < 0 && errno == EMFILE && nodes_shrink(&m->nodes));
	return fd < 0 ? -errno : fd;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held dir = hold(m, parent);
	struct fuse_entry_param none = {.entry_timeout = MOUNT_VALID_S};
	int fd;

	if (dir.fd < 0) {
		fuse_reply_err(req, -dir.fd);
		return;
	}
	fd = open_path(dir.fd, name);
	if (fd >= 0) {
		reply_entry(req, dir.n, name, fd);
	} else if (fd == -ENOENT) {
		mount_told_absent(m, dir.n, name);
		fuse_reply_entry(req, &none);
	} else {
		fuse_reply_err(req, -fd);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fs_mount *m = mount_of(req);

	node_forget(&m->nodes, node_of(m, ino), n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	struct fs_mount *m = mount_of(req);

	for (size_t k = 0; k < count; k++)
		node_forget(&m->nodes, node_of(m, f[k].ino), f[k].nlookup);
	fuse_reply_none(req);
}

/* ---- making ---- */

/* What was made in dir, with the result of that. */
static void reply_made(fuse_req_t req, struct held *dir, const char *name, int r)
{
	int fd = r < 0 ? r : open_path(dir->fd, name);

	if (fd < 0)
		fuse_reply_err(req, -fd);
	else
		reply_entry(req, dir->n, name, fd);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	auto_held struct held dir = hold(mount_of(req), parent);
	int r = dir.fd;

	if (r >= 0) {
		as_caller(mount_worker(), fuse_req_ctx(req));
		r = mkdirat(dir.fd, name, mode) < 0 ? -errno : 0;
		own_rights(mount_worker());
	}
	reply_made(req, &dir, name, r);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	auto_held struct held dir = hold(mount_of(req), parent);
	int r = dir.fd;

	if (r >= 0) {
		as_caller(mount_worker(), fuse_req_ctx(req));
		r = mknodat(dir.fd, name, mode, rdev) < 0 ? -errno : 0;
		own_rights(mount_worker());
	}
	reply_made(req, &dir, name, r);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held dir = hold(m, parent);
	struct lazy lazy;
	int r = dir.fd;

	/* It would be shown as a file. */
	if (r >= 0 && m->o.lazy_cache && lazy_parse(target, &lazy))
		r = -EPERM;
	if (r >= 0) {
		as_caller(mount_worker(), fuse_req_ctx(req));
		r = symlinkat(target, dir.fd, name) < 0 ? -errno : 0;
		own_rights(mount_worker());
	}
	reply_made(req, &dir, name, r);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held file = hold_real(m, ino);
	auto_held struct held dir = hold(m, newparent);
	int r = file.fd < 0 ? file.fd : dir.fd;

	if (r >= 0)
		r = linkat(AT_FDCWD, proc_path(file.fd).s, dir.fd, newname, AT_SYMLINK_FOLLOW) < 0
			    ? -errno
			    : 0;
	reply_made(req, &dir, newname, r);
}

/* ---- removing, renaming ---- */

/* The name that a node was known by is gone: whoever has the file open still reaches it. */
static void part(struct fs_mount *m, struct node *n, const struct node *dir, const char *name)
{
	if (node_is_named(&m->nodes, n, dir, name))
		node_renamed(&m->nodes, n, NULL, NULL);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held dir = hold(m, parent);
	struct lazy_link k;
	struct node *n;
	int r = dir.fd;
	bool lazy;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	n = node_find(&m->nodes, dir.fd, name);
	lazy = lazy_look(m, dir.fd, name, &k);
	r = unlinkat(dir.fd, name, flags) < 0 ? errno : 0;
	if (lazy && r == 0)
		lazy_gone(m, &k);
	if (n && r == 0)
		part(m, n, dir.n, name);
	if (n)
		node_release(&m->nodes, n);
	fuse_reply_err(req, r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, AT_REMOVEDIR);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held from = hold(m, parent);
	auto_held struct held to = hold(m, newparent);
	struct lazy_link k;
	struct node *a, *b;
	bool lazy;
	int r = from.fd < 0 ? from.fd : to.fd;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	a = node_find(&m->nodes, from.fd, name);
	b = node_find(&m->nodes, to.fd, newname);
	lazy = !(flags & RENAME_EXCHANGE) && lazy_look(m, to.fd, newname, &k);
	if (flags & RENAME_WHITEOUT) /* which is a new file */
		as_caller(mount_worker(), fuse_req_ctx(req));
	r = syscall(SYS_renameat2, from.fd, name, to.fd, newname, flags) < 0 ? errno : 0;
	own_rights(mount_worker());
	if (r == 0 && lazy && a != b)
		lazy_gone(m, &k);
	if (r == 0 && a != b) { /* names of one file: nothing happens */
		if (b && (flags & RENAME_EXCHANGE))
			node_renamed(&m->nodes, b, from.n, name);
		else if (b)
			part(m, b, to.n, newname);
		if (a)
			node_renamed(&m->nodes, a, to.n, newname);
	}
	if (a)
		node_release(&m->nodes, a);
	if (b)
		node_release(&m->nodes, b);
	fuse_reply_err(req, r);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	auto_held struct held link = hold(mount_of(req), ino);
	char target[PATH_MAX + 1];
	ssize_t n;

	if (link.fd < 0) {
		fuse_reply_err(req, -link.fd);
		return;
	}
	n = readlinkat(link.fd, "", target, sizeof(target) - 1);
	if (n < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

void mount_name_ops(struct fuse_lowlevel_ops *o)
{
	o->lookup = op_lookup;
	o->forget = op_forget;
	o->forget_multi = op_forget_multi;
	o->mkdir = op_mkdir;
	o->mknod = op_mknod;
	o->symlink = op_symlink;
	o->link = op_link;
	o->unlink = op_unlink;
	o->rmdir = op_rmdir;
	o->rename = op_rename;
	o->readlink = op_readlink;
}
