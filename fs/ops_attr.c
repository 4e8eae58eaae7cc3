/* SPDX-License-Identifier: MIT */
/* ops_attr.c - attributes, extended attributes, the file system's figures. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <linux/fs.h>
#include <unistd.h>

#include "session.h"

static void reply_attr(fuse_req_t req, struct inode *i)
{
	struct fs *fs = fs_of(req);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct stat st;
	int r = inode_stat(&fs->inodes, i, &st);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	for (struct dentry *d = i->names; d && fs->begun; d = d->next_of_inode)
		trace_shown(fs->trace, dentry_trace(fs, d), &st);
	r = fs->own_ids_only ? at_inode(&fs->inodes, i, &a) : -1;
	ids_show(fs, i, i->names ? i->names->parent : NULL, r == 0 ? &a : NULL, &st);
	if (fs->begun)
		fresh_told(fs, NULL, NULL, i, &st);
	fuse_reply_attr(req, &st, timeout_of(i));
}

/* Whoever walks from it does so by its mode. */
static void note_root(struct fs *fs)
{
	int64_t at = now_ns();
	struct stat st;

	if (lstat("/", &st) == 0)
		trace_looked(fs->trace, trace_get(fs->trace, "/", 1), &st, 0, at);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);

	(void)fi;
	if (i == &fs->inodes.root)
		note_root(fs);
	reply_attr(req, i);
}

/* A truncation to nothing leaves nothing of what was there; every other change keeps a part. */
static enum change change_of(const struct stat *attr, int to_set)
{
	return (to_set & FUSE_SET_ATTR_SIZE) && attr->st_size == 0 ? CHANGE_TRUNC : CHANGE_PART;
}

static int set_size(fuse_req_t req, struct inode *i, off_t size)
{
	struct fs *fs = fs_of(req);
	int fd = inode_wfd(&fs->inodes, i);

	if (fd < 0)
		return fd;
	note_truncation(fs, i, (uint64_t)size);
	if (ftruncate(fd, size) < 0)
		return -errno;
	if (fs->kill_suid)
		drop_suid(req, i, fd);
	return 0;
}

static void times_of(const struct stat *attr, int to_set, struct timespec tv[2])
{
	tv[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	tv[1] = (struct timespec){.tv_nsec = UTIME_OMIT};
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		tv[0].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		tv[0] = attr->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		tv[1].tv_nsec = UTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		tv[1] = attr->st_mtim;
}

/* A request to set nothing: chown to -1, -1, or the kernel is about to send a write and wants set-id bits gone, which it
 * says again with that. chown moves ctime and drops the bits; a write by somebody else must not fail. */
static int touch_ctime(fuse_req_t req, struct inode *i, const char *path, int follow)
{
	struct stat st;

	if (fstatat(AT_FDCWD, path, &st, follow) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) && (st.st_mode & (S_ISUID | S_ISGID)) &&
	    fuse_req_ctx(req)->uid != st.st_uid && !wire_capable(req, CAP_FOWNER))
		return 0;
	i->suid_checked = false;
	return fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)-1, follow) < 0 ? -errno : 0;
}

static int set_attr(fuse_req_t req, struct inode *i, const char *path, bool proc,
		    const struct stat *attr, int to_set)
{
	const int ids = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
			  FUSE_SET_ATTR_MTIME_NOW;
	int follow = proc ? 0 : AT_SYMLINK_NOFOLLOW, r = 0;
	struct fs *fs = fs_of(req);
	struct timespec tv[2];

	if (!to_set)
		return touch_ctime(req, i, path, follow);
	if (to_set & ids) {
		uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
		gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;

		if (fchownat(AT_FDCWD, path, uid, gid, follow) < 0)
			return -errno;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(req, i, attr->st_size);
	if (r == 0 && (to_set & FUSE_SET_ATTR_MODE))
		r = chmod(path, attr->st_mode & 07777) < 0 ? -errno : 0;
	if (to_set & FUSE_SET_ATTR_MODE)
		i->suid_checked = false;
	/* An executable that is ready must not be found open for writing by who executes it. */
	if (r == 0 && (to_set & FUSE_SET_ATTR_MODE) && (attr->st_mode & 0111))
		inode_close_wfd(&fs->inodes, i);
	if (r == 0 && (to_set & times)) {
		times_of(attr, to_set, tv);
		if (utimensat(AT_FDCWD, path, tv, follow) < 0)
			r = -errno;
	}
	return r;
}

/* Was the modification time chosen by the step? Any later write makes it "now" again. */
static void note_times(struct fs *fs, struct inode *i, int to_set)
{
	const int mtime = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_SIZE;
	bool chosen = (to_set & FUSE_SET_ATTR_MTIME) && !(to_set & FUSE_SET_ATTR_MTIME_NOW);

	if (!(to_set & mtime))
		return;
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_mtime_set(dentry_trace(fs, d), chosen);
	i->mtime_set = chosen;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path;
	char proc[32];
	int r = inode_path(&fs->inodes, i, &a, proc, &path);

	(void)fi;
	if (r == 0) {
		note_change(fs, i, change_of(attr, to_set));
		note_times(fs, i, to_set);
		r = set_attr(req, i, path, path == proc, attr, to_set);
	}
	if (r < 0) {
		note_kept(fs, i);
		fuse_reply_err(req, -r);
	} else {
		reply_attr(req, i);
	}
}

/* ---- extended attributes ---- */

/* Asked for by the kernel for its own decisions, not by the step. */
static bool kernels_own(const char *name)
{
	return strncmp(name, "security.", 9) == 0;
}

static void note_xattr(struct fs *fs, struct inode *i)
{
	i->xattr_noted = true;
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_xattr(fs->trace, dentry_trace(fs, d));
}

static void note_xattr_set(struct fs *fs, struct inode *i, bool asks)
{
	i->xattr_noted |= asks;
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_xattr_set(fs->trace, dentry_trace(fs, d), asks);
}

/* Of a nameless file reached by /proc/self/fd/N the link is to be followed. */
static ssize_t get_xattr(const char *path, bool follow, const char *name, void *p, size_t size)
{
	ssize_t n;

	if (name)
		n = follow ? getxattr(path, name, p, size) : lgetxattr(path, name, p, size);
	else
		n = follow ? listxattr(path, p, size) : llistxattr(path, p, size);
	return n < 0 ? -errno : n;
}

static ssize_t held_xattr(int fd, const char *name, void *p, size_t size)
{
	ssize_t n = fgetxattr(fd, name, p, size);

	return n < 0 ? -errno : n;
}

/* The kernel names trusted attributes only to who may read them; to the server it names them all. Returns what is left
 * of the n bytes. */
static size_t hide_trusted(fuse_req_t req, char *list, size_t n)
{
	size_t kept = 0, len;

	for (size_t at = 0; at < n; at += len) {
		len = strnlen(list + at, n - at - 1) + 1;
		if (strncmp(list + at, "trusted.", 8) == 0 && !wire_capable(req, CAP_SYS_ADMIN))
			continue;
		memmove(list + kept, list + at, len);
		kept += len;
	}
	return kept;
}

static ssize_t list_xattr(fuse_req_t req, const char *path, bool follow, size_t size)
{
	struct fs *fs = fs_of(req);
	ssize_t n = get_xattr(path, follow, NULL, fs->io, IO_MAX);

	if (n > 0)
		n = (ssize_t)hide_trusted(req, fs->io, (size_t)n);
	return n > 0 && size && (size_t)n > size ? -ERANGE : n;
}

static void reply_xattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path = NULL;
	char proc[32];
	ssize_t n;
	int held = i->wfd >= 0 ? i->wfd : i->rfd;
	int r = name && held >= 0 ? 0 : inode_path(&fs->inodes, i, &a, proc, &path);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (!name || !kernels_own(name))
		note_xattr(fs, i);
	if (size > IO_MAX)
		size = IO_MAX;
	if (!name)
		n = list_xattr(req, path, path == proc, size);
	else if (held >= 0) /* the kernel's own question before each first write */
		n = held_xattr(held, name, fs->io, size);
	else
		n = get_xattr(path, path == proc, name, fs->io, size);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, fs->io, (size_t)n);
}

static void reply_text(fuse_req_t req, const char *text, size_t size)
{
	size_t n = strlen(text);

	if (size == 0)
		fuse_reply_xattr(req, n);
	else if (size < n)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, text, n);
}

/* What this file is below the view. reading: an mlfs inside it is about to go by what it remembers of the content. */
static void reply_below(fuse_req_t req, struct fs *fs, struct inode *i, bool reading, size_t size)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path;
	char proc[32], text[IDX_BELOW_SIZE];
	struct stat st;
	int fd, r = inode_path(&fs->inodes, i, &a, proc, &path);

	if (r == 0)
		r = inode_stat(&fs->inodes, i, &st);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fd = S_ISREG(st.st_mode) ? inode_rfd(&fs->inodes, i) : -1;
	if (reading && fd >= 0)
		note_writers(fs, i, fd);
	if (reading)
		note_read(fs, i);
	idx_below_tell(path, &st, reading, fd >= 0 && i->wfd < 0 && fd_has_writer(fd), text);
	reply_text(req, text, size);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	const char *text = NULL;

	if (strncmp(name, FS_ASK_PREFIX, sizeof(FS_ASK_PREFIX) - 1) == 0) {
		bool reading = strcmp(name, IDX_READ_XATTR) == 0;

		if (reading || strcmp(name, IDX_BELOW_XATTR) == 0) {
			reply_below(req, fs, inode_of(fs, ino), reading, size);
			return;
		}
		if (strcmp(name, FS_BEGIN) == 0) {
			fs->begun = true;
			reply_text(req, "", size);
			return;
		}
		if (strcmp(name, IDX_LOOKED_XATTR) == 0)
			trace_spoil(
				fs->trace,
				"what an mlfs in it told depends on its cache: --verify or --only-if-cached");
		text = fs->answer ? fs->answer(fs->answer_arg, name) : NULL;
	}
	if (text)
		reply_text(req, text, size);
	else
		reply_xattr(req, ino, name, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	reply_xattr(req, ino, NULL, size);
}

/* As the kernel does for a caller of its own who sets the mode by way of an ACL (posix_acl_update_mode). */
static void drop_sgid_by_acl(fuse_req_t req, const char *path, int follow)
{
	struct stat st;

	if (fstatat(AT_FDCWD, path, &st, follow) < 0 || !(st.st_mode & S_ISGID) ||
	    wire_in_group(req, st.st_gid) || wire_capable(req, CAP_FSETID))
		return;
	if (chmod(path, st.st_mode & 07777 & ~(mode_t)S_ISGID) < 0)
		log_debug("cannot drop the set-group-id bit of %s: %s", path, strerror(errno));
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path;
	char proc[32];
	int r = inode_path(&fs->inodes, i, &a, proc, &path);

	if (r == 0) {
		note_xattr_set(fs, i, flags != 0);
		note_change(fs, i, CHANGE_PART);
		r = path == proc ? setxattr(path, name, value, size, flags)
				 : lsetxattr(path, name, value, size, flags);
		if (r < 0)
			r = -errno;
		else if (strcmp(name, "system.posix_acl_access") == 0)
			drop_sgid_by_acl(req, path, path == proc ? 0 : AT_SYMLINK_NOFOLLOW);
	}
	fuse_reply_err(req, -r);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path;
	char proc[32];
	int r = inode_path(&fs->inodes, i, &a, proc, &path);

	if (r == 0) {
		note_xattr_set(fs, i, true);
		note_change(fs, i, CHANGE_PART);
		r = path == proc ? removexattr(path, name) : lremovexattr(path, name);
		if (r < 0)
			r = -errno;
	}
	fuse_reply_err(req, -r);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct statvfs sv;
	const char *path;
	char proc[32];
	int r = inode_path(&fs->inodes, inode_of(fs, ino), &a, proc, &path);

	if (r == 0 && statvfs(path, &sv) < 0)
		r = -errno;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_statfs(req, &sv);
}

/* File attributes (lsattr, chattr); no other request passes through FUSE. */
static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		     struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
		     size_t out_size)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	char data[256] = {0};
	int fd, r;

	(void)arg;
	(void)fi;
	(void)flags;
	if ((cmd != FS_IOC_GETFLAGS && cmd != FS_IOC_SETFLAGS && cmd != FS_IOC_FSGETXATTR &&
	     cmd != FS_IOC_FSSETXATTR) ||
	    in_size > sizeof(data) || out_size > sizeof(data)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	fd = inode_rfd(&fs->inodes, i);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	if (cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR) {
		note_change(fs, i, CHANGE_PART);
		trace_spoil(fs->trace, "file attributes were set (chattr)");
	}
	if (in_size)
		memcpy(data, in, in_size);
	r = ioctl(fd, cmd, data);
	if (r < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_ioctl(req, r, data, out_size);
}

void ops_attr_init(struct fuse_lowlevel_ops *o)
{
	o->getattr = op_getattr;
	o->setattr = op_setattr;
	o->getxattr = op_getxattr;
	o->listxattr = op_listxattr;
	o->setxattr = op_setxattr;
	o->removexattr = op_removexattr;
	o->statfs = op_statfs;
	o->ioctl = op_ioctl;
}
