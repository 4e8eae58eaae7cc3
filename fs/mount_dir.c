/* SPDX-License-Identifier: MIT */
/* mount_dir.c - a persistent mount: listing directories. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mount_file.h"

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);
	auto_held struct held h = hold(m, ino);
	struct open_file *f;
	int fd = h.fd;

	if (fd >= 0)
		do
			fd = open(proc_path(h.fd).s, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		while (fd < 0 && errno == EMFILE && nodes_shrink(&m->nodes));
	if (fd < 0) {
		fuse_reply_err(req, h.fd < 0 ? -h.fd : errno);
		return;
	}
	f = xcalloc(1, sizeof(*f));
	f->fd = fd;
	fi->fh = (uintptr_t)f;
	/* The kernel looks at the directory's time before it goes by what it keeps of it. */
	fi->cache_readdir = fi->keep_cache = 1;
	if (fuse_reply_open(req, fi) == -ENOENT)
		open_file_free(f);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	open_file_free(open_file(fi));
	fuse_reply_err(req, 0);
}

/* The next entry from `off` on: 1, *ret is borrowed; 0: the end; -errno. */
static int next_entry(struct open_file *f, off_t off, const struct kernel_dirent **ret)
{
	long n;

	if (off != f->off) {
		if (lseek(f->fd, off, SEEK_SET) < 0)
			return -errno;
		f->off = off;
		f->at = f->end = 0;
	}
	if (f->at == f->end) {
		if (!f->entries)
			f->entries = xmalloc(DIRENTS_SIZE);
		n = syscall(SYS_getdents64, f->fd, f->entries, DIRENTS_SIZE);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		f->at = 0;
		f->end = (size_t)n;
	}
	*ret = (const struct kernel_dirent *)(f->entries + f->at);
	return 1;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct fs_mount *m = mount_of(req);
	const struct node *dir = node_of(m, ino);
	struct open_file *f = open_file(fi);
	char *io = mount_worker()->io;
	const struct kernel_dirent *d = NULL;
	size_t used = 0, need;
	int r;

	if (size > MOUNT_IO_MAX)
		size = MOUNT_IO_MAX;
	while ((r = next_entry(f, off, &d)) > 0) {
		struct stat st = {.st_ino = ino_shown(m->nodes.root.dev, dir->dev, d->ino),
				  .st_mode = (mode_t)d->type << 12};
		struct lazy l;

		if (d->type == DT_LNK && m->o.lazy_cache && lazy_read(f->fd, d->name, &l) > 0)
			st.st_mode = S_IFREG;

		need = fuse_add_direntry(req, io + used, size - used, d->name, &st, d->off);
		if (need > size - used)
			break;
		used += need;
		f->at += d->reclen;
		f->off = off = d->off;
	}
	if (r < 0 && !used)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, io, used);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	int fd = open_file(fi)->fd;

	(void)ino;
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? errno : 0);
}

void mount_dir_ops(struct fuse_lowlevel_ops *o)
{
	o->opendir = op_opendir;
	o->releasedir = op_releasedir;
	o->readdir = op_readdir;
	o->fsyncdir = op_fsyncdir;
}
