/* SPDX-License-Identifier: MIT */
/*
 * protocol.c - the places where the FUSE protocol is spoken past libfuse (3.14 knows the first three not at all):
 *
 *  - FUSE_HANDLE_KILLPRIV_V2 in the reply to INIT. Without it the kernel asks for security.capability before
 *    every single write. In return the server drops set-user-id bits on writes and truncations itself.
 *  - FUSE_PASSTHROUGH (Linux 6.9; wire.h), for ops_open.c.
 *  - FUSE_TMPFILE (Linux 6.2).
 *  - Notifications, which another thread sends.
 *
 * Source: linux/fuse.h, Documentation/filesystems/fuse.rst.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void patch_init(struct fs *fs, struct iovec *iov, int count)
{
	/* Of a file system that lies over none: so an overlay in the view may still lie under another. */
	uint32_t depth = fs->opens.passthrough ? 1 : 0;

	if (!wire_patch_init(iov, count, fs->killpriv_v2 ? FUSE_HANDLE_KILLPRIV_V2 : 0, depth))
		fs->killpriv_v2 = fs->opens.passthrough = false;
}

ssize_t protocol_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;

	latest_end(fs);
	if (fs->init_pending) {
		fs->init_pending = false;
		patch_init(fs, iov, count);
	} else if (fs->opens.reply > 0) {
		wire_patch_open(iov, count, fs->opens.reply);
	}
	return writev(fd, iov, count);
}

static void note_init(struct fs *fs, const char *body, size_t size)
{
	struct fuse_init_in in = {0};

	memcpy(&in, body, size < sizeof(in) ? size : sizeof(in));
	fs->can_expire = in.major == 7 && in.minor >= 38;
	fs->killpriv_v2 = in.flags & FUSE_HANDLE_KILLPRIV_V2;
	fs->opens.passthrough = !fs->own_ids_only && wire_offers_passthrough(body, size);
	fs->init_pending = true;
}

/* ---- O_TMPFILE ---- */

static int tmpfile_open(struct fs *fs, const struct fuse_in_header *h,
			const struct fuse_create_in *in, struct stat *st)
{
	struct fuse_ctx c = {.uid = h->uid, .gid = h->gid, .umask = in->umask};
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct inode *dir = inode_of(fs, h->nodeid);
	int fd, r = at_inode(&fs->inodes, dir, &a);

	/* In a directory that was removed: as ext4 has it (tmpfs would make one). */
	if (r == -ESTALE && !dir->names)
		return -EPERM;
	if (r < 0)
		return r;
	ids_umask(fs, &c);
	ids_assume(fs, &c);
	fd = openat(a.dirfd, a.name, O_TMPFILE | O_RDWR | O_CLOEXEC | (int)(in->flags & O_EXCL),
		    in->mode);
	r = fd < 0 ? -errno : 0;
	ids_resume(fs);
	if (r < 0)
		return r;
	if (fstat(fd, st) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void reply_raw(struct fs *fs, uint64_t unique, int error, void *body, size_t size)
{
	struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + size), .error = error, .unique = unique};
	struct iovec v[2] = {{&h, sizeof(h)}, {body, size}};

	if (writev(fuse_session_fd(fs->se), v, size ? 2 : 1) < 0 && errno != ENOENT)
		log_debug("cannot answer the kernel: %s", strerror(errno));
}

static void do_tmpfile(struct fs *fs, const struct fuse_in_header *h, const char *body)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	struct fuse_create_in in;
	struct inode *i;
	struct stat st;
	int fd;

	memcpy(&in, body, sizeof(in));
	fd = tmpfile_open(fs, h, &in, &st);
	if (fd < 0) {
		reply_raw(fs, h->unique, fd, NULL, 0);
		return;
	}
	i = inode_get(&fs->inodes, &st);
	i->nlookup++;
	i->pfd = fd; /* it has no name to be opened by again */
	ids_show(fs, i, NULL, NULL, &st);
	out.entry.nodeid = (uintptr_t)i;
	out.entry.attr_valid = 1;
	wire_attr(&st, &out.entry.attr);
	out.open.open_flags = FOPEN_KEEP_CACHE;
	i->open++; /* until its RELEASE, as in ops_open.c */
	reply_raw(fs, h->unique, 0, &out, sizeof(out));
}

/* ---- notifications ---- */

void protocol_serving(struct fs *fs, bool serving)
{
	pthread_mutex_lock(&fs->refreshing);
	fs->serving = serving;
	pthread_mutex_unlock(&fs->refreshing);
}

void protocol_notify(struct fs *fs, int code, const void *body, size_t size, const char *name,
		     size_t name_size)
{
	pthread_mutex_lock(&fs->refreshing);
	if (fs->serving)
		wire_notify(fs->se, code, body, size, name, name_size);
	pthread_mutex_unlock(&fs->refreshing);
}

void protocol_handle(struct fs *fs, const struct fuse_buf *b)
{
	const char *body = (const char *)b->mem + sizeof(struct fuse_in_header);
	size_t size = b->size - sizeof(struct fuse_in_header);
	struct fuse_in_header h;

	if ((b->flags & FUSE_BUF_IS_FD) || b->size < sizeof(h)) {
		fuse_session_process_buf(fs->se, b);
		return;
	}
	memcpy(&h, b->mem, sizeof(h));
	fs->counts[h.opcode < MAX_OPCODES ? h.opcode : 0]++;
	fs->kill_suid = fs->killpriv_v2 && wire_kills_suid(&h, body, size);
	if (h.opcode == FUSE_INIT)
		note_init(fs, body, size);
	latest_begin(fs, &h, body, size);
	if (h.opcode == WIRE_TMPFILE && size >= sizeof(struct fuse_create_in))
		do_tmpfile(fs, &h, body);
	else
		fuse_session_process_buf(fs->se, b);
	latest_end(fs); /* it was not answered */
}
