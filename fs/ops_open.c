/* SPDX-License-Identifier: MIT */
/*
 * ops_open.c - opening and closing, as far as a view wants to know of it.
 *
 * It had best not: a view is in no-open mode, where the kernel sends neither OPEN nor RELEASE, and content reads are seen as READ.
 * But only the reply to an OPEN can have the kernel read a file itself (FUSE_PASSTHROUGH: Linux 6.9, root), which for a
 * large one takes a quarter of the time. So a step's first opens are answered. If none of them is to read a large file the
 * next is answered with ENOSYS, which is no-open mode from then on; if one is, that waits until it is closed again.
 *
 * A file that the kernel reads itself counts as read when it is opened. The kernel wants all who have the file open at
 * a time to go one way: who comes to write sends his bytes here all the same (direct I/O goes before), since each write has to
 * be seen; only what he maps he changes unseen, so that is noted when he opens it. One that is open through the server's page
 * cache already stays so.
 *
 * Never so: what is created, and what is opened to be written first (each write has to be seen, and is digested as it comes); programs
 * and libraries, which stay mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "session.h"

/* tests/model/README tries it with every file. */
#ifndef PASS_MIN
#define PASS_MIN     (64 << 20)
#define MAX_ANSWERED 64 /* opens that are answered, each two requests more, before it is given up */
#endif

/* ENOSYS may be said only when no file is read past the server: opened without an answer it could not be mapped. */
static bool answers(struct fs *fs)
{
	if (fs->opens.n >= MAX_ANSWERED)
		fs->opens.passthrough = false;
	return fs->opens.passthrough || fs->opens.passed;
}

static bool is_large(struct fs *fs, struct inode *i)
{
	struct stat st;

	return i->type == S_IFREG && !i->open && !i->system && fs->opens.passthrough &&
	       inode_stat(&fs->inodes, i, &st) == 0 && st.st_size >= PASS_MIN &&
	       !(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH));
}

/* From now on the kernel knows the file behind i. */
static bool pass(struct fs *fs, struct inode *i)
{
	int fd = inode_rfd(&fs->inodes, i), id = fd < 0 ? fd : wire_backing_open(fs->se, fd);

	if (id > 0) {
		i->backing = id;
		return true;
	}
	if (fd >= 0) {
		log_debug("no passthrough: %s", strerror(-id));
		fs->opens.passthrough = false;
	}
	return false;
}

/* What may happen to its bytes from now on happens unseen. */
static void note_open(struct fs *fs, struct inode *i, bool writes)
{
	int fd = inode_rfd(&fs->inodes, i);

	if (fd >= 0)
		note_writers(fs, i, fd);
	note_read(fs, i);
	if (writes)
		note_change(fs, i, CHANGE_PART);
}

/* Noted as open, as the others have it or as it is best; fi says how. */
static void opened(struct fs *fs, struct inode *i, struct fuse_file_info *fi)
{
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	if (i->backing || (!writes && is_large(fs, i) && pass(fs, i))) {
		note_open(fs, i, writes);
		fi->direct_io = writes;
		fs->opens.reply = i->backing;
		fs->opens.passed++;
	} else {
		fi->keep_cache = !i->was_passed;
		i->was_passed = false;
	}
	i->open++;
}

static void closed(struct fs *fs, struct inode *i)
{
	i->open--;
	if (!i->backing)
		return;
	fs->opens.passed--;
	if (i->open)
		return;
	wire_backing_close(fs->se, i->backing);
	i->backing = 0;
	i->was_passed = true;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	int r;

	if (!answers(fs)) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fs->opens.n++;
	opened(fs, i, fi);
	r = fuse_reply_open(req, fi);
	fs->opens.reply = 0;
	if (r == -ENOENT) /* who asked is gone */
		closed(fs, i);
}

int opens_reply_created(fuse_req_t req, struct inode *i, const struct fuse_entry_param *e,
			struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int r;

	opened(fs, i, fi);
	r = fuse_reply_create(req, e, fi);
	fs->opens.reply = 0;
	if (r == -ENOENT)
		closed(fs, i);
	return r;
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);

	closed(fs, i);
	if ((fi->flags & O_ACCMODE) != O_RDONLY) /* somebody may want to execute it now */
		inode_close_wfd(&fs->inodes, i);
	fuse_reply_err(req, 0);
}

/* Nor this, when a descriptor is closed. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

void ops_open_init(struct fuse_lowlevel_ops *o)
{
	o->open = op_open;
	o->release = op_release;
	o->flush = op_flush;
}
