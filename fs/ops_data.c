/* SPDX-License-Identifier: MIT */
/* ops_data.c - the bytes of files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "session.h"

/* From this size on a read is spliced, not copied through the server. */
#define SPLICE_MIN (128u << 10)

/* We are writing where the step has written. */
void note_writers(struct fs *fs, struct inode *i, int fd)
{
	struct trace_path *p;
	int writer = i->wfd >= 0 || i->read_noted ? 0 : -1; /* not known yet */

	for (struct dentry *d = i->names; d && writer; d = d->next_of_inode) {
		p = dentry_trace(fs, d);
		if (!p || p->changed)
			continue;
		if (writer < 0)
			writer = fd_has_writer(fd);
		if (writer)
			trace_written(fs->trace, p);
	}
}

/* O_DIRECT as the step has it, for one call: what it asks of offset and size is the file system's affair. A file system
 * that has none of it is used without. fs->io is the buffer. */
static ssize_t direct_io(struct fs *fs, int fd, bool write, size_t size, off_t off, int rwf)
{
	struct iovec v = {fs->io, size};
	int flags = fcntl(fd, F_GETFL);
	ssize_t n;

	(void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* EINVAL: without */
	n = write ? pwritev2(fd, &v, 1, off, rwf) : pread(fd, fs->io, size, off);
	if (n < 0)
		n = -errno;
	(void)fcntl(fd, F_SETFL, flags); /* as it was: nothing to refuse */
	return n;
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	struct fuse_bufvec bv = FUSE_BUFVEC_INIT(size);
	ssize_t n;
	int fd = inode_rfd(&fs->inodes, i);

	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	note_writers(fs, i, fd);
	note_read(fs, i);
	if ((fi->flags & O_DIRECT) && size <= IO_MAX) {
		n = direct_io(fs, fd, false, size, off, 0);
		if (n < 0)
			fuse_reply_err(req, (int)-n);
		else
			fuse_reply_buf(req, fs->io, (size_t)n);
		return;
	}
	if (size >= SPLICE_MIN) {
		bv.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
		bv.buf[0].fd = fd;
		bv.buf[0].pos = off;
		fuse_reply_data(req, &bv, 0);
		return;
	}
	n = pread(fd, fs->io, size, off);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, fs->io, (size_t)n);
}

/* Seldom has a file any, and then nothing more is to be asked. */
static bool has_suid(struct inode *i, int fd, struct stat *st)
{
	if (i->suid_checked)
		return false;
	i->suid_checked = fstat(fd, st) == 0 && !(st->st_mode & (S_ISUID | S_ISGID));
	return !i->suid_checked;
}

/* What the kernel below does for a caller of its own; setattr_should_drop_suidgid there. */
void drop_suid(fuse_req_t req, struct inode *i, int fd)
{
	struct stat st;
	mode_t gone;

	if (!has_suid(i, fd, &st))
		return;
	gone = st.st_mode & S_ISUID;
	if ((st.st_mode & S_IXGRP) || !wire_in_group(req, st.st_gid))
		gone |= st.st_mode & S_ISGID;
	if (gone && fchmod(fd, st.st_mode & 07777 & ~gone) < 0)
		log_debug("cannot drop set-id bits: %s", strerror(errno));
}

/* The kernel does not say with these requests whether the bits are to go. */
static void drop_suid_unless_capable(fuse_req_t req, struct inode *i, int fd)
{
	struct stat st;

	if (has_suid(i, fd, &st) && !wire_capable(req, CAP_FSETID))
		drop_suid(req, i, fd);
}

static void note_write(struct fs *fs, struct inode *i)
{
	note_change(fs, i, CHANGE_PART);
	if (!i->mtime_set)
		return;
	i->mtime_set = false;
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_mtime_set(dentry_trace(fs, d), false);
}

/* What a mapping left in the page cache. Writing through a mapping leaves set-id bits alone; a server without the right
 * to keep them loses them by its write. */
static ssize_t write_mapped(struct fs *fs, struct inode *i, int fd, const char *buf, size_t size,
			    off_t off)
{
	struct stat st;
	bool suid = fs->own_ids_only && has_suid(i, fd, &st);
	ssize_t n = pwrite(fd, buf, size, off);

	if (n < 0)
		return -errno;
	if (suid && fchmod(fd, st.st_mode & 07777) < 0)
		log_debug("cannot keep set-id bits: %s", strerror(errno));
	return n;
}

static ssize_t write_called(struct fs *fs, int fd, const char *buf, size_t size, off_t off,
			    int flags)
{
	struct iovec v = {(void *)buf, size};
	/* The kernel's idea of the end may be old where others append as well. */
	int rwf = flags & O_APPEND ? RWF_APPEND : 0;
	ssize_t n;

	if ((flags & O_DIRECT) && size <= IO_MAX) {
		memcpy(fs->io, buf, size);
		return direct_io(fs, fd, true, size, off, rwf);
	}
	n = pwritev2(fd, &v, 1, off, rwf);
	return n < 0 ? -errno : n;
}

/* Bytes of i from off on are about to change. */
static void before_write(struct fs *fs, struct inode *i, uint64_t off)
{
	if (off < i->written && i->written >= FOLLOW_MIN && i->written != NOT_IN_ROW &&
	    follow_rewritten(fs->follower, i, off))
		i->written = NOT_IN_ROW;
}

static bool is_traced(struct fs *fs, struct inode *i)
{
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		if (dentry_trace(fs, d))
			return true;
	return false;
}

/* n bytes of i at off were written. What comes behind a hole is left to the end. */
static void after_write(struct fs *fs, struct inode *i, uint64_t off, size_t n)
{
	int fd;

	if (off <= i->written && off + n > i->written && i->written != NOT_IN_ROW)
		i->written = off + n;
	if (i->written < FOLLOW_MIN || i->written == NOT_IN_ROW || off > i->written ||
	    !is_traced(fs, i) || trace_spoiled(fs->trace))
		return;
	fd = inode_rfd(&fs->inodes, i);
	if (fd >= 0)
		follow_written(fs->follower, i, fd);
}

void note_truncation(struct fs *fs, struct inode *i, uint64_t size)
{
	before_write(fs, i, size);
	if (i->written != NOT_IN_ROW && size < i->written)
		i->written = size;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	ssize_t n;
	int fd;

	note_write(fs, i);
	fd = inode_wfd(&fs->inodes, i);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	if (fs->kill_suid) /* whatever comes of the write */
		drop_suid(req, i, fd);
	before_write(fs, i, (uint64_t)off);
	n = fi->writepage ? write_mapped(fs, i, fd, buf, size, off)
			  : write_called(fs, fd, buf, size, off, fi->flags);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else {
		after_write(fs, i, (uint64_t)off, (size_t)n);
		fuse_reply_write(req, (size_t)n);
	}
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *from = inode_of(fs, in), *to = inode_of(fs, out);
	int rfd = inode_rfd(&fs->inodes, from), wfd;
	ssize_t n;

	(void)fi_in;
	(void)fi_out;
	if (rfd >= 0)
		note_writers(fs, from, rfd);
	note_read(fs, from);
	note_write(fs, to);
	wfd = rfd < 0 ? rfd : inode_wfd(&fs->inodes, to);
	if (wfd < 0) {
		fuse_reply_err(req, -wfd);
		return;
	}
	before_write(fs, to, (uint64_t)off_out);
	n = copy_file_range(from->rfd, &off_in, wfd, &off_out, len, (unsigned)flags);
	if (n < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	after_write(fs, to, (uint64_t)(off_out - n), (size_t)n);
	drop_suid_unless_capable(req, to, wfd);
	fuse_reply_write(req, (size_t)n);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	int fd;

	(void)fi;
	note_write(fs, i);
	fd = inode_wfd(&fs->inodes, i);
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	if (mode & ~FALLOC_FL_KEEP_SIZE) /* bytes change */
		note_truncation(fs, i, (uint64_t)off);
	if (fallocate(fd, mode, off, len) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	drop_suid_unless_capable(req, i, fd);
	fuse_reply_err(req, 0);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	int fd = inode_rfd(&fs->inodes, i);
	off_t r;

	(void)fi;
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	note_read(fs, i); /* where its holes are is content */
	r = lseek(fd, off, whence);
	if (r < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, r);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	int fd = i->wfd >= 0 ? i->wfd : inode_rfd(&fs->inodes, i);

	(void)fi;
	if (fd < 0)
		fd = inode_wfd(&fs->inodes, i);
	if (fd < 0)
		fuse_reply_err(req, -fd);
	else
		fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? errno : 0);
}

void ops_data_init(struct fuse_lowlevel_ops *o)
{
	o->read = op_read;
	o->write = op_write;
	o->copy_file_range = op_copy_file_range;
	o->fallocate = op_fallocate;
	o->lseek = op_lseek;
	o->fsync = op_fsync;
	o->fsyncdir = op_fsync;
}
