/* SPDX-License-Identifier: MIT */
/*
 * latest.c - what the step changed is nobody else's while it runs.
 *
 * Two steps that append to one log, or write to one database, leave what neither of them would have
 * left alone: no result of either may be stored. So it is kept how the step's latest change left a
 * path (trace.c), and compared before its next one, when it looks there, and at the end.
 *
 * Every request that changes bytes or names passes through here, before it is handled and before it
 * is answered: from then on the step may tell others to go on. What changes neither size nor time of
 * modification nor names need not.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* File systems whose times of modification are settled later, or by a server: they prove nothing. A file server in
 * this machine is one of them, but for the view that this mlfs itself is in. */
static bool times_hold(struct fs *fs, dev_t dev, const char *path)
{
	static const uint32_t others[] = {
		NFS_SUPER_MAGIC,	 SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,
		CIFS_SUPER_MAGIC,	 V9FS_MAGIC,	   CEPH_SUPER_MAGIC,
		AFS_SUPER_MAGIC,	 CODA_SUPER_MAGIC, 0x0BD00BD0 /* Lustre */,
		0x786f4256 /* vboxsf */,
	};
	struct latest *l = &fs->latest;
	auto_close int fd = -1;
	struct statfs sf;
	bool hold = true;

	for (size_t k = 0; k < l->n; k++)
		if (l->devices[k].dev == dev)
			return l->devices[k].hold;
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &sf) < 0)
		return false;
	for (size_t k = 0; k < sizeof(others) / sizeof(*others); k++)
		hold &= (uint32_t)sf.f_type != others[k];
	if (sf.f_type == FUSE_SUPER_MAGIC)
		hold = dev == fs->inodes.root.dev && getxattr("/", FS_ASK_NETWORK, NULL, 0) >= 0;
	if (l->n == LATEST_DEVICES)
		l->n = 0;
	l->devices[l->n].dev = dev;
	l->devices[l->n++].hold = hold;
	return hold;
}

/* ---- a file that is written ---- */

static int stat_written(struct fs *fs, struct inode *i, struct stat *st)
{
	if (i->wfd >= 0)
		return fstat(i->wfd, st) < 0 ? -errno : 0;
	return inode_stat(&fs->inodes, i, st);
}

static void check_file(struct fs *fs, struct inode *i)
{
	struct stat st;
	int r = 1;

	for (struct dentry *d = i->names; d; d = d->next_of_inode) {
		struct trace_path *p = dentry_trace(fs, d);

		if (!p || !p->latest)
			continue;
		r = r > 0 ? stat_written(fs, i, &st) : r;
		if (r == 0)
			trace_latest_check(fs->trace, p, &st, 0);
	}
}

static void keep_file(struct fs *fs, struct inode *i)
{
	struct stat st;
	int r = 1;

	for (struct dentry *d = i->names; d; d = d->next_of_inode) {
		struct trace_path *p = dentry_trace(fs, d);

		if (!p || !p->changed)
			continue;
		r = r > 0 ? stat_written(fs, i, &st) : r;
		if (r == 0 && times_hold(fs, st.st_dev, p->path))
			trace_latest(p, &st, 0);
		else
			trace_latest_unknown(p);
	}
}

/* ---- a name ---- */

/* The record of name in the directory, when it has been changed and can be looked at by its path. */
static struct trace_path *changed_name(struct fs *fs, uint64_t dir, const char *name)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct trace_path *p;

	if (at_child(&fs->inodes, inode_of(fs, dir), name, &a) < 0 || a.dirfd != AT_FDCWD)
		return NULL;
	p = trace_at(fs, &a);
	return p && p->changed ? p : NULL;
}

static void check_name(struct fs *fs, uint64_t dir, const char *name)
{
	struct trace_path *p = changed_name(fs, dir, name);
	struct stat st;
	int r;

	if (!p || !p->latest)
		return;
	r = lstat(p->path, &st) < 0 ? errno : 0;
	trace_latest_check(fs->trace, p, &st, r);
}

static void keep_name(struct fs *fs, uint64_t dir, const char *name)
{
	struct trace_path *p = changed_name(fs, dir, name);
	struct stat st;
	int r;

	if (!p)
		return;
	r = lstat(p->path, &st) < 0 ? errno : 0;
	if (r == ENOENT || (r == 0 && times_hold(fs, st.st_dev, p->path)))
		trace_latest(p, &st, r);
	else
		trace_latest_unknown(p);
}

/* ---- requests ---- */

/* The names that a request changes: one, or a rename's two. */
struct names {
	uint64_t dir[2];
	const char *name[2];
	int n;
};

static bool takes_name(struct names *v, uint64_t dir, const char *body, size_t size, size_t at)
{
	if (at >= size || !memchr(body + at, '\0', size - at))
		return false;
	v->dir[v->n] = dir;
	v->name[v->n++] = body + at;
	return true;
}

static void names_of(const struct fuse_in_header *h, const char *body, size_t size, struct names *v)
{
	size_t at = 0;
	uint64_t newdir;

	v->n = 0;
	switch (h->opcode) {
	case FUSE_MKNOD:
		at = sizeof(struct fuse_mknod_in);
		break;
	case FUSE_MKDIR:
		at = sizeof(struct fuse_mkdir_in);
		break;
	case FUSE_LINK:
		at = sizeof(struct fuse_link_in);
		break;
	case FUSE_CREATE:
		at = sizeof(struct fuse_create_in);
		break;
	case FUSE_RENAME:
		at = sizeof(struct fuse_rename_in);
		break;
	case FUSE_RENAME2:
		at = sizeof(struct fuse_rename2_in);
		break;
	}
	if (!takes_name(v, h->nodeid, body, size, at))
		return;
	if (h->opcode != FUSE_RENAME && h->opcode != FUSE_RENAME2)
		return;
	memcpy(&newdir, body, sizeof(newdir));
	(void)takes_name(v, newdir, body, size, at + strlen(v->name[0]) + 1); /* or there is none */
}

static bool writes(uint32_t opcode)
{
	return opcode == FUSE_WRITE || opcode == FUSE_SETATTR || opcode == FUSE_FALLOCATE ||
	       opcode == FUSE_COPY_FILE_RANGE;
}

static bool names(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return true;
	}
	return false;
}

/* A copy is written to the file that its body names. */
static struct inode *written(struct fs *fs, const struct fuse_in_header *h, const char *body,
			     size_t size)
{
	struct fuse_copy_file_range_in in;

	if (h->opcode != FUSE_COPY_FILE_RANGE)
		return inode_of(fs, h->nodeid);
	if (size < sizeof(in))
		return &fs->inodes.root;
	memcpy(&in, body, sizeof(in));
	return inode_of(fs, in.nodeid_out);
}

void latest_begin(struct fs *fs, const struct fuse_in_header *h, const char *body, size_t size)
{
	struct names v;

	if (writes(h->opcode)) {
		check_file(fs, written(fs, h, body, size));
	} else if (names(h->opcode)) {
		names_of(h, body, size, &v);
		for (int k = 0; k < v.n; k++)
			check_name(fs, v.dir[k], v.name[k]);
	} else {
		return;
	}
	fs->latest.request = h;
	fs->latest.body = body;
	fs->latest.size = size;
}

void latest_end(struct fs *fs)
{
	const struct fuse_in_header *h = fs->latest.request;
	struct names v;

	if (!h)
		return;
	fs->latest.request = NULL;
	if (writes(h->opcode)) {
		keep_file(fs, written(fs, h, fs->latest.body, fs->latest.size));
		return;
	}
	names_of(h, fs->latest.body, fs->latest.size, &v);
	for (int k = 0; k < v.n; k++)
		keep_name(fs, v.dir[k], v.name[k]);
}
