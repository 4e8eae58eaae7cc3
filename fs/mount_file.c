/* SPDX-License-Identifier: MIT */
/* mount_file.c - a persistent mount: open files and their bytes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mount_file.h"

/* From this size on a read is spliced, not copied through the server. */
#define SPLICE_MIN (128u << 10)
/* __FMODE_EXEC: somebody is about to execute it */
#define OPEN_EXEC  0x20
/* What the server's own descriptor is opened with as well. (O_APPEND is looked at with each write, O_DIRECT asks something of
 * buffers that are not the caller's.) */
#define OPEN_FLAGS (O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME | O_LARGEFILE)

void open_file_free(struct open_file *f)
{
	if (!f)
		return;
	base_close(&f->fd);
	free(f->bytes);
	free(f->entries);
	free(f);
}

/* ---- opening ---- */

static int open_real(struct fs_mount *m, int path_fd, int flags)
{
	int fd;

	flags = (flags & OPEN_FLAGS) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	for (;;) {
		fd = open(proc_path(path_fd).s, flags);
		if (fd >= 0)
			return fd;
		if (errno == EPERM && (flags & O_NOATIME))
			flags &= ~O_NOATIME; /* the file's owner may, the server may not */
		else if (errno != EMFILE || !nodes_shrink(&m->nodes))
			return -errno;
	}
}

/* 1: other bytes are served for this execution. 0: the file. -errno: it is not to be. */
static int intercept(fuse_req_t req, struct held *h, bool exec, struct open_file *f)
{
	struct fs_mount *m = mount_of(req);
	auto_free char *path = NULL;
	struct fs_request q;
	struct statvfs sv;
	struct stat st;

	/* Of a file system below that forbids it, though the whole mount does not. */
	if (exec && fstatvfs(h->fd, &sv) == 0 && (sv.f_flag & ST_NOEXEC))
		return -EACCES;
	if (!m->o.intercept)
		return 0;
	if (fstat(h->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	q = mount_request(req, h, &path);
	if (!path)
		return 0;
	q.exec = exec;
	if (!exec && !m->o.may_intercept(m->o.arg, &q))
		return 0;
	mount_let_others();
	f->bytes = m->o.intercept(m->o.arg, &q, &st, &f->n_bytes);
	return f->bytes != NULL;
}

/* A placeholder: to read it, its object. For all else it is made real, and what has the name then is looked up anew. */
static int open_lazy(struct fs_mount *m, struct held *h, int flags, bool exec)
{
	int r = -ESTALE;

	if (atomic_load(&h->n->real))
		return r;
	if (!exec && (flags & O_ACCMODE) == O_RDONLY)
		return lazy_bytes(m, h);
	r = lazy_make_real(m, h);
	return r < 0 ? r : -ESTALE;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held h = hold(m, ino);
	struct open_file *f;
	int r = 0;
	bool exec;

	if (h.fd < 0) {
		fuse_reply_err(req, -h.fd);
		return;
	}
	f = xcalloc(1, sizeof(*f));
	f->fd = -1;
	exec = fi->flags & OPEN_EXEC;
	if (m->o.lazy_cache && h.n->type == S_IFLNK) {
		r = f->fd = open_lazy(m, &h, fi->flags, exec);
		fi->noflush = 1;
	} else if (exec || (m->o.may_intercept && (fi->flags & O_ACCMODE) == O_RDONLY))
		r = intercept(req, &h, exec, f);
	if (f->fd >= 0) {
		r = 0;
	} else if (r > 0) {
		fi->direct_io = fi->keep_cache = fi->noflush = 1; /* others go on */
	} else if (r == 0) {
		r = f->fd = open_real(m, h.fd, fi->flags);
		fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY && !atomic_load(&h.n->locked);
	}
	if (r < 0) {
		open_file_free(f);
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)f;
	mount_worker()->backing = passthrough_open(m, h.n, f, fi);
	if (fuse_reply_open(req, fi) == -ENOENT) {
		passthrough_close(m, h.n, f);
		open_file_free(f);
	}
}

/* Open for a create. *ret_made: it was not there. */
static int open_new(int dir, const char *name, mode_t mode, int flags, bool *ret_made)
{
	int keep = (flags & (O_SYNC | O_DSYNC | O_NOATIME)) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
		   O_NONBLOCK;
	int fd = openat(dir, name, (flags & O_ACCMODE) | keep | O_CREAT | O_EXCL, mode);

	*ret_made = fd >= 0;
	if (fd >= 0 || errno != EEXIST || (flags & O_EXCL))
		return fd < 0 ? -errno : fd;
	/* Somebody else made it since the kernel looked. */
	fd = openat(dir, name, (flags & (O_ACCMODE | O_TRUNC)) | keep);
	return fd < 0 ? -errno : fd;
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held dir = hold(m, parent);
	auto_close int fd = -1;
	struct fuse_entry_param e;
	struct open_file *f;
	struct node *n;
	bool made;
	int path_fd, err;

	if (dir.fd < 0) {
		fuse_reply_err(req, -dir.fd);
		return;
	}
	as_caller(mount_worker(), fuse_req_ctx(req));
	do
		fd = open_new(dir.fd, name, mode, fi->flags, &made);
	while (fd == -EMFILE && nodes_shrink(&m->nodes));
	own_rights(mount_worker());
	path_fd = fd < 0 ? fd : open(proc_path(fd).s, O_PATH | O_CLOEXEC);
	if (path_fd < 0) {
		fuse_reply_err(req, fd < 0 ? -fd : errno);
		return;
	}
	n = mount_entry(m, dir.n, name, path_fd, &e, &err);
	if (!n) {
		fuse_reply_err(req, err);
		return;
	}
	f = xcalloc(1, sizeof(*f));
	f->fd = take_fd(&fd);
	fi->fh = (uintptr_t)f;
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
	mount_worker()->backing = passthrough_open(m, n, f, fi);
	if (fuse_reply_create(req, &e, fi) == -ENOENT) {
		passthrough_close(m, n, f);
		open_file_free(f);
		node_forget(&m->nodes, n, 1);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);

	if (open_file(fi)->locked)
		locks_drop(m, node_of(m, ino), open_file(fi)->lock_owner);
	passthrough_close(m, node_of(m, ino), open_file(fi));
	open_file_free(open_file(fi));
	fuse_reply_err(req, 0);
}

/* What closing it would say. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);
	int fd = open_file(fi)->fd, copy;

	locks_drop(m, node_of(m, ino), fi->lock_owner);
	copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	fuse_reply_err(req, copy >= 0 && close(copy) < 0 ? errno : 0);
}

/* ---- bytes ---- */

static void read_bytes(fuse_req_t req, const struct open_file *f, size_t size, off_t off)
{
	size_t left = (size_t)off < f->n_bytes ? f->n_bytes - (size_t)off : 0;
	size_t n = left < size ? left : size;
	char *io = mount_worker()->io;

	/* As soon as the kernel has the answer another thread may be told to close the file. */
	n = n < MOUNT_IO_MAX ? n : MOUNT_IO_MAX;
	if (n)
		memcpy(io, f->bytes + off, n);
	fuse_reply_buf(req, io, n);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct open_file *f = open_file(fi);
	struct fuse_bufvec bv = FUSE_BUFVEC_INIT(size);
	char *io = mount_worker()->io;
	ssize_t n;

	(void)ino;
	if (f->fd < 0) {
		read_bytes(req, f, size, off);
		return;
	}
	if (size >= SPLICE_MIN) {
		bv.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		bv.buf[0].fd = f->fd;
		bv.buf[0].pos = off;
		fuse_reply_data(req, &bv, 0);
		return;
	}
	n = pread(f->fd, io, size, off);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, io, (size_t)n);
}

/* What a mapping left in the page cache comes by any file that is open for writing, and by root: a server without the right to
 * keep set-id bits loses them by its write. */
static ssize_t write_mapped(int fd, const char *buf, size_t size, off_t off)
{
	struct stat st;
	bool suid = geteuid() != 0 && fstat(fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID));
	ssize_t n = pwrite(fd, buf, size, off);

	if (n < 0)
		return -errno;
	if (suid && fchmod(fd, st.st_mode & 07777) < 0)
		log_debug("cannot keep set-id bits: %s", strerror(errno));
	return n;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct iovec v = {(void *)buf, size};
	int fd = open_file(fi)->fd;
	ssize_t n;

	(void)ino;
	if (mount_worker()->kill_suid)
		kill_suid(req, fd);
	if (fi->writepage) {
		n = write_mapped(fd, buf, size, off);
	} else {
		/* The kernel's idea of the end may be old where others append as well. */
		n = pwritev2(fd, &v, 1, off, fi->flags & O_APPEND ? RWF_APPEND : 0);
		n = n < 0 ? -errno : n;
	}
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

/* The kernel does not say with these requests whether the bits are to go. */
static void kill_suid_unless_capable(fuse_req_t req, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) &&
	    !wire_capable(req, CAP_FSETID))
		kill_suid(req, fd);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	int to = open_file(fi_out)->fd;
	ssize_t n;

	(void)in;
	(void)out;
	kill_suid_unless_capable(req, to);
	n = copy_file_range(open_file(fi_in)->fd, &off_in, to, &off_out, len, (unsigned)flags);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_write(req, (size_t)n);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	int fd = open_file(fi)->fd;

	(void)ino;
	if (fallocate(fd, mode, off, len) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	kill_suid_unless_capable(req, fd);
	fuse_reply_err(req, 0);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	off_t r;

	(void)ino;
	r = lseek(open_file(fi)->fd, off, whence);
	if (r < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, r);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	int fd = open_file(fi)->fd;

	(void)ino;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? errno : 0);
}

void mount_file_ops(struct fuse_lowlevel_ops *o)
{
	o->open = op_open;
	o->create = op_create;
	o->release = op_release;
	o->flush = op_flush;
	o->read = op_read;
	o->write = op_write;
	o->copy_file_range = op_copy_file_range;
	o->fallocate = op_fallocate;
	o->lseek = op_lseek;
	o->fsync = op_fsync;
}
