/* SPDX-License-Identifier: MIT */
/*
 * listing.c - what a directory lists, read once for both: the step that is told, and the trace.
 *
 * What is served must be what was recorded, also when others make and remove names there meanwhile. So a directory
 * is read as a whole when its listing begins, recorded or compared with what was recorded, and served from that, request by
 * request.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"

struct listing {
	struct buf raw; /* kernel_dirents */
	size_t at;	/* where the next request is likely to go on */
	off_t off;	/* ... and its offset */
};

void listing_free(struct listing *l)
{
	if (!l)
		return;
	buf_free(&l->raw);
	free(l);
}

static const struct kernel_dirent *entry_at(const struct listing *l, size_t at)
{
	return (const struct kernel_dirent *)(l->raw.data + at);
}

/* From offset off to the end. */
static int read_all(int fd, off_t off, struct listing *l)
{
	long n;

	if (lseek(fd, off, SEEK_SET) < 0)
		return -errno;
	do {
		buf_reserve(&l->raw, DIRENTS_SIZE);
		n = syscall(SYS_getdents64, fd, l->raw.data + l->raw.len, DIRENTS_SIZE);
		if (n > 0)
			l->raw.len += (size_t)n;
	} while (n > 0);
	return n < 0 ? -errno : 0;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void record(struct trace *t, struct trace_path *p, int fd, const struct listing *l)
{
	size_t n = 0;
	char **list;

	for (size_t at = 0; at < l->raw.len; at += entry_at(l, at)->reclen)
		n++;
	list = xcalloc(n + 1, sizeof(*list));
	n = 0;
	for (size_t at = 0; at < l->raw.len; at += entry_at(l, at)->reclen) {
		const struct kernel_dirent *d = entry_at(l, at);

		if (!is_dot(d->name))
			list[n++] = list_entry(fd, d->name, d->type);
	}
	list_sort(list, n);
	trace_listed(t, p, list, n);
}

/* Where to go on from offset off; SIZE_MAX: there is no such place. */
static size_t place_of(const struct listing *l, off_t off)
{
	if (off == 0)
		return 0;
	if (off == l->off)
		return l->at;
	for (size_t at = 0; at < l->raw.len; at += entry_at(l, at)->reclen)
		if (entry_at(l, at)->off == off)
			return at + entry_at(l, at)->reclen;
	return SIZE_MAX;
}

/* What is not real yet is shown, and recorded, as the file that it is to be. */
static void show_files(int fd, const struct listing *l)
{
	struct lazy lazy;

	for (size_t at = 0; at < l->raw.len; at += entry_at(l, at)->reclen) {
		struct kernel_dirent *d = (struct kernel_dirent *)(l->raw.data + at);

		if ((d->type == DT_LNK || d->type == DT_UNKNOWN) &&
		    lazy_read(fd, d->name, &lazy) > 0)
			d->type = DT_REG;
	}
}

static int begin(struct fs *fs, struct inode *dir, int fd, off_t off)
{
	int r;

	listing_free(dir->listing);
	dir->listing = xcalloc(1, sizeof(*dir->listing));
	r = read_all(fd, off, dir->listing);
	if (r < 0)
		listing_free(take(dir->listing));
	else if (lazy_is_below(fs, dir))
		show_files(fd, dir->listing);
	return r;
}

/* Sets *ret to where in dir->listing to go on. */
static int find(struct fs *fs, struct inode *dir, struct trace_path *p, int fd, off_t off,
		size_t *ret)
{
	int r = 0;

	if (off == 0 || !dir->listing) {
		r = begin(fs, dir, fd, 0);
		if (p && p->replaced)
			p->own_listed = true;
		if (r == 0 && p && !p->replaced)
			record(fs->trace, p, fd, dir->listing);
	}
	if (r < 0)
		return r;
	*ret = place_of(dir->listing, off);
	if (*ret != SIZE_MAX)
		return 0;
	/* After an entry that is gone, of a listing that somebody else has begun anew: the file system knows. */
	*ret = 0;
	if (p && !p->replaced)
		trace_spoil(fs->trace, "%s was listed while it changed", p->path);
	return begin(fs, dir, fd, off);
}

ssize_t listing_serve(fuse_req_t req, struct fs *fs, struct inode *dir, struct trace_path *p,
		      int fd, size_t size, off_t off)
{
	size_t used = 0, at;
	int r = find(fs, dir, p, fd, off, &at);

	if (r < 0)
		return r;
	while (at < dir->listing->raw.len) {
		const struct kernel_dirent *d = entry_at(dir->listing, at);
		struct stat st = {.st_ino = ids_ino(fs, dir->dev, d->ino),
				  .st_mode = (mode_t)d->type << 12};
		size_t need =
			fuse_add_direntry(req, fs->io + used, size - used, d->name, &st, d->off);

		if (need > size - used)
			break;
		used += need;
		at += d->reclen;
		dir->listing->off = d->off;
	}
	dir->listing->at = at;
	if (!used) /* the end, and the kernel knows it now */
		listing_free(take(dir->listing));
	return (ssize_t)used;
}
