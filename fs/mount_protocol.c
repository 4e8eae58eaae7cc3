/* SPDX-License-Identifier: MIT */
/*
 * mount_protocol.c - where a persistent mount speaks the FUSE protocol past libfuse 3.14: FUSE_HANDLE_KILLPRIV_V2 (see protocol.c),
 * FUSE_PARALLEL_DIROPS (without it who waits in a directory stops all others there), FUSE_TMPFILE, and FUSE_PASSTHROUGH (Linux 6.9): the kernel reads, writes and maps the file behind an open one itself.
 *
 * Source: linux/fuse.h, Documentation/filesystems/fuse-passthrough.rst.
 */
#include "mount_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What libfuse 3.14 is told to want, and does not pass on. */
#define UNSAID (FUSE_PARALLEL_DIROPS | FUSE_HAS_IOCTL_DIR)

static void patch_init(struct fs_mount *m, struct iovec *iov, int count)
{
	/* One more than the file systems below have already; an overlay over the mount needs one as well, of two. */
	uint32_t depth = !m->passthrough ? 0 : m->stacked ? 2 : 1;
	uint32_t flags = m->killpriv_v2 ? FUSE_HANDLE_KILLPRIV_V2 : 0;

	if (!wire_patch_init(iov, count, flags | (m->offered & UNSAID), depth))
		m->passthrough = m->killpriv_v2 = false;
}

ssize_t mount_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs_mount *m = userdata;
	struct worker *w = mount_worker();

	if (m->init_pending) {
		m->init_pending = false;
		patch_init(m, iov, count);
	} else if (w && w->backing > 0) {
		wire_patch_open(iov, count, w->backing);
	}
	return writev(fd, iov, count);
}

/* ---- O_TMPFILE ---- */

static void reply_raw(struct fs_mount *m, uint64_t unique, int error, void *body, size_t size)
{
	struct fuse_out_header h = {
		.len = (uint32_t)(sizeof(h) + size), .error = error, .unique = unique};
	struct iovec v[2] = {{&h, sizeof(h)}, {body, size}};

	if (mount_writev(fuse_session_fd(m->se), v, size ? 2 : 1, m) < 0 && errno != ENOENT)
		log_debug("cannot answer the kernel: %s", strerror(errno));
}

static int tmpfile_open(struct worker *w, int dir, const struct fuse_in_header *h,
			const struct fuse_create_in *in)
{
	const struct fuse_ctx c = {.uid = h->uid, .gid = h->gid, .umask = in->umask};
	int flags = (int)in->flags & (O_ACCMODE | O_EXCL | O_SYNC | O_DSYNC), fd;

	as_caller(w, &c);
	fd = openat(dir, ".", flags | O_TMPFILE | O_CLOEXEC, in->mode);
	if (fd < 0)
		fd = -errno;
	own_rights(w);
	return fd;
}

static void do_tmpfile(struct worker *w, const struct fuse_in_header *h, const char *body)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	struct fs_mount *m = w->m;
	auto_held struct held dir = hold(m, h->nodeid);
	struct fuse_file_info fi = {.flags = O_RDWR};
	struct fuse_entry_param e;
	struct fuse_create_in in;
	struct open_file *f;
	struct node *n = NULL;
	int fd = dir.fd, path_fd, err = 0;

	memcpy(&in, body, sizeof(in));
	if (fd >= 0)
		fd = tmpfile_open(w, dir.fd, h, &in);
	if (fd >= 0) {
		path_fd = open(proc_path(fd).s, O_PATH | O_CLOEXEC);
		err = path_fd < 0 ? errno : 0;
		n = path_fd < 0 ? NULL : mount_entry(m, NULL, NULL, path_fd, &e, &err);
	}
	if (!n) {
		reply_raw(m, h->unique, fd < 0 ? fd : -err, NULL, 0);
		base_close(&fd);
		return;
	}
	f = xcalloc(1, sizeof(*f));
	f->fd = fd;
	w->backing = passthrough_open(m, n, f, &fi);
	out.entry.nodeid = e.ino;
	out.entry.attr_valid = out.entry.entry_valid = (uint64_t)MOUNT_VALID_S;
	wire_attr(&e.attr, &out.entry.attr);
	out.open.fh = (uintptr_t)f;
	reply_raw(m, h->unique, 0, &out, sizeof(out));
}

static void note_init(struct fs_mount *m, const char *body, size_t size)
{
	struct fuse_init_in in = {0};

	memcpy(&in, body, size < sizeof(in) ? size : sizeof(in));
	m->can_expire = in.major == 7 && in.minor >= 38;
	m->offered = in.flags;
	m->killpriv_v2 = in.flags & FUSE_HANDLE_KILLPRIV_V2;
	m->passthrough = m->o.passthrough && wire_offers_passthrough(body, size);
	m->has_epochs = in.major == 7 && in.minor >= 44;
	m->init_pending = true;
}

void mount_handle(struct worker *w, const struct fuse_buf *b)
{
	const char *body = (const char *)b->mem + sizeof(struct fuse_in_header);
	size_t size = b->size - sizeof(struct fuse_in_header);
	struct fs_mount *m = w->m;
	struct fuse_in_header h;

	if ((b->flags & FUSE_BUF_IS_FD) || b->size < sizeof(h)) {
		fuse_session_process_buf(m->se, b);
		return;
	}
	memcpy(&h, b->mem, sizeof(h));
	atomic_fetch_add_explicit(&m->counts[h.opcode < MAX_OPCODES ? h.opcode : 0], 1,
				  memory_order_relaxed);
	w->kill_suid = m->killpriv_v2 && wire_kills_suid(&h, body, size);
	w->backing = 0;
	if (h.opcode == FUSE_INIT)
		note_init(m, body, size);
	if (h.opcode == WIRE_TMPFILE && size >= sizeof(struct fuse_create_in))
		do_tmpfile(w, &h, body);
	else
		fuse_session_process_buf(m->se, b);
}
