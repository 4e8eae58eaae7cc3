/* SPDX-License-Identifier: MIT */
/* mount_attr.c - a persistent mount: attributes, extended attributes, questions, the file system's figures. */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mount_file.h"

static struct timespec time_of(struct statx_timestamp t)
{
	return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

void stat_of(const struct fs_mount *m, const struct statx *x, struct stat *ret)
{
	dev_t dev = makedev(x->stx_dev_major, x->stx_dev_minor);

	*ret = (struct stat){.st_ino = ino_shown(m->nodes.root.dev, dev, x->stx_ino),
			     .st_mode = x->stx_mode,
			     .st_nlink = x->stx_nlink,
			     .st_uid = x->stx_uid,
			     .st_gid = x->stx_gid,
			     .st_rdev = makedev(x->stx_rdev_major, x->stx_rdev_minor),
			     .st_size = (off_t)x->stx_size,
			     .st_blksize = (blksize_t)x->stx_blksize,
			     .st_blocks = (blkcnt_t)x->stx_blocks,
			     .st_atim = time_of(x->stx_atime),
			     .st_mtim = time_of(x->stx_mtime),
			     .st_ctim = time_of(x->stx_ctime)};
}

int stat_shown(const struct fs_mount *m, int fd, struct stat *ret)
{
	struct statx x;
	int r = statx_fd(fd, &x);

	if (r == 0) {
		stat_of(m, &x, ret);
		(void)lazy_stat(m, fd, ret);
	}
	return r;
}

static void reply_attr(fuse_req_t req, struct held *h)
{
	struct fs_mount *m = mount_of(req);
	struct stat st;
	int r = stat_shown(m, h->fd, &st);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	node_told(h->n);
	fuse_reply_attr(req, &st, MOUNT_VALID_S);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	auto_held struct held h = hold(mount_of(req), ino);

	(void)fi;
	if (h.fd < 0)
		fuse_reply_err(req, -h.fd);
	else
		reply_attr(req, &h);
}

static int set_size(fuse_req_t req, int fd, const struct fuse_file_info *fi, off_t size)
{
	int r;

	if (mount_worker()->kill_suid)
		kill_suid(req, fd);
	if (fi && open_file(fi)->fd >= 0)
		r = ftruncate(open_file(fi)->fd, size);
	else
		r = truncate(proc_path(fd).s, size);
	return r < 0 ? -errno : 0;
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
static int touch_ctime(fuse_req_t req, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) && (st.st_mode & (S_ISUID | S_ISGID)) &&
	    fuse_req_ctx(req)->uid != st.st_uid && !wire_capable(req, CAP_FOWNER))
		return 0;
	return fchownat(fd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int set_attr(fuse_req_t req, int fd, const struct fuse_file_info *fi,
		    const struct stat *attr, int to_set)
{
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
			  FUSE_SET_ATTR_MTIME_NOW;
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	struct timespec tv[2];
	int r = 0;

	if (!to_set)
		return touch_ctime(req, fd);
	if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) &&
	    fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(req, fd, fi, attr->st_size);
	if (r == 0 && (to_set & FUSE_SET_ATTR_MODE))
		r = chmod(proc_path(fd).s, attr->st_mode & 07777) < 0 ? -errno : 0;
	if (r == 0 && (to_set & times)) {
		times_of(attr, to_set, tv);
		r = utimensat(AT_FDCWD, proc_path(fd).s, tv, 0) < 0 ? -errno : 0;
	}
	return r;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	auto_held struct held h = hold_real(mount_of(req), ino);
	int r = h.fd;

	/* What was opened to read is the object, which is nobody's to change. */
	if (r >= 0)
		r = set_attr(req, h.fd, atomic_load(&h.n->real) ? NULL : fi, attr, to_set);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_attr(req, &h);
}

/* ---- extended attributes; by /proc, since there is no call for O_PATH descriptors ---- */

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

static void reply_xattr(fuse_req_t req, const char *p, ssize_t n, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, errno);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else if ((size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, p, (size_t)n);
}

static bool is_question(const char *name)
{
	return strncmp(name, FS_ASK_PREFIX, sizeof(FS_ASK_PREFIX) - 1) == 0 ||
	       strcmp(name, FS_ASK_MET) == 0;
}

struct fs_request mount_request(fuse_req_t req, struct held *h, char **ret_path)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);

	*ret_path = node_path(&mount_of(req)->nodes, h->n);
	return (struct fs_request){.path = *ret_path ? *ret_path : "",
				   .fd = h->fd,
				   .pid = c->pid,
				   .uid = c->uid,
				   .gid = c->gid};
}

/* An mlfs in the mount remembers digests by what the files really are. */
static char *below(int fd, bool reading)
{
	char text[IDX_BELOW_SIZE];
	struct stat st;
	auto_close int rfd = -1;

	if (fstat(fd, &st) < 0 || lazy_may_be(st.st_mode, st.st_size))
		return NULL;
	if (S_ISREG(st.st_mode))
		rfd = open(proc_path(fd).s, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	idx_below_tell(proc_path(fd).s, &st, reading, rfd >= 0 && fd_has_writer(rfd), text);
	return xstrdup(text);
}

static char *make_real(struct fs_mount *m, struct held *h)
{
	struct stat st;
	bool was = !atomic_load(&h->n->real) && stat_shown(m, h->fd, &st) == 0 &&
		   h->n->type == S_IFLNK && S_ISREG(st.st_mode);
	int r = lazy_make_real(m, h);

	return xasprintf("%d", r < 0 ? r : was);
}

static char *met(struct fs_mount *m, struct held *h)
{
	int r;

	if (h->n->type == S_IFDIR) {
		fs_mount_refresh(m);
		return xstrdup("0");
	}
	r = lazy_met(m, h);
	return r > 0 ? xstrdup(FS_REMOVED) : xasprintf("%d", r);
}

static void answer(fuse_req_t req, struct held *h, const char *name, size_t size)
{
	struct fs_mount *m = mount_of(req);
	bool reading = strcmp(name, IDX_READ_XATTR) == 0;
	auto_free char *path = NULL, *text = NULL;
	struct fs_request q;

	mount_let_others();
	if (reading || strcmp(name, IDX_BELOW_XATTR) == 0) {
		text = below(h->fd, reading);
	} else if (strcmp(name, FS_ASK_REAL) == 0) {
		text = make_real(m, h);
	} else if (strcmp(name, FS_ASK_MET) == 0) {
		text = met(m, h);
	} else if (strcmp(name, FS_ASK_REFRESH) == 0) {
		fs_mount_refresh(m);
		text = xstrdup("");
	} else if (m->o.answer) {
		q = mount_request(req, h, &path);
		text = m->o.answer(m->o.arg, &q, name);
	}
	errno = ENODATA;
	reply_xattr(req, text, text ? (ssize_t)strlen(text) : -1, size);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	auto_held struct held h = hold(mount_of(req), ino);
	char *io = mount_worker()->io;
	ssize_t n;

	if (h.fd < 0) {
		fuse_reply_err(req, -h.fd);
	} else if (is_question(name)) {
		answer(req, &h, name, size);
	} else {
		if (size > MOUNT_IO_MAX)
			size = MOUNT_IO_MAX;
		n = getxattr(proc_path(h.fd).s, name, io, size);
		/* What is not real yet is a link below, which can have no ACL. */
		if (n < 0 && errno == EOPNOTSUPP && h.n->type == S_IFLNK)
			errno = ENODATA;
		reply_xattr(req, io, n, size);
	}
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	auto_held struct held h = hold(mount_of(req), ino);
	char *io = mount_worker()->io;
	ssize_t n;

	if (h.fd < 0) {
		fuse_reply_err(req, -h.fd);
		return;
	}
	n = listxattr(proc_path(h.fd).s, io, MOUNT_IO_MAX);
	if (n > 0)
		n = (ssize_t)hide_trusted(req, io, (size_t)n);
	reply_xattr(req, io, n, size);
}

/* As the kernel does for a caller of its own who sets the mode by way of an ACL (posix_acl_update_mode). */
static void drop_sgid_by_acl(fuse_req_t req, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !(st.st_mode & S_ISGID) || wire_in_group(req, st.st_gid) ||
	    wire_capable(req, CAP_FSETID))
		return;
	if (chmod(proc_path(fd).s, st.st_mode & 07777 & ~(mode_t)S_ISGID) < 0)
		log_debug("cannot drop the set-group-id bit: %s", strerror(errno));
}

static int tell(fuse_req_t req, struct held *h, const char *name, const char *value, size_t size)
{
	struct fs_mount *m = mount_of(req);
	auto_free char *path = NULL;
	struct fs_request q;

	if (!m->o.told)
		return -EOPNOTSUPP;
	mount_let_others();
	q = mount_request(req, h, &path);
	return m->o.told(m->o.arg, &q, name, value, size);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	auto_held struct held h =
		is_question(name) ? hold(mount_of(req), ino) : hold_real(mount_of(req), ino);
	int r = h.fd;

	if (r >= 0 && is_question(name))
		r = tell(req, &h, name, value, size);
	else if (r >= 0)
		r = setxattr(proc_path(h.fd).s, name, value, size, flags) < 0 ? -errno : 0;
	if (r >= 0 && strcmp(name, "system.posix_acl_access") == 0)
		drop_sgid_by_acl(req, h.fd);
	fuse_reply_err(req, r < 0 ? -r : 0);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	auto_held struct held h = hold_real(mount_of(req), ino);
	int r = h.fd;

	if (r >= 0)
		r = removexattr(proc_path(h.fd).s, name) < 0 ? -errno : 0;
	fuse_reply_err(req, r < 0 ? -r : 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	auto_held struct held h = hold(mount_of(req), ino ? ino : FUSE_ROOT_ID);
	struct statvfs sv;
	int r = h.fd;

	if (r >= 0)
		r = fstatvfs(h.fd, &sv) < 0 ? -errno : 0;
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
	bool known = cmd == FS_IOC_GETFLAGS || cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSGETXATTR ||
		     cmd == FS_IOC_FSSETXATTR;
	auto_held struct held h = known ? hold_real(mount_of(req), ino) : hold(mount_of(req), ino);
	auto_close int fd = -1;
	char data[256] = {0};
	int r;

	(void)arg;
	(void)fi;
	(void)flags;
	if (!known || in_size > sizeof(data) || out_size > sizeof(data)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	fd = h.fd < 0 ? -1 : open(proc_path(h.fd).s, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		fuse_reply_err(req, h.fd < 0 ? -h.fd : errno);
		return;
	}
	if (in_size)
		memcpy(data, in, in_size);
	r = ioctl(fd, cmd, data);
	if (r < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_ioctl(req, r, data, out_size);
}

void mount_attr_ops(struct fuse_lowlevel_ops *o)
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
