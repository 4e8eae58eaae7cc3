/* SPDX-License-Identifier: MIT */
/* look.c - what is there, as far as it ought to be the same on every run. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static void say_time(struct world *w, const char *what, const struct timespec *t)
{
	if (t->tv_sec >= NOW_FROM)
		say(w, " %snow", what);
	else
		say(w, " %s%lld.%09ld", what, (long long)t->tv_sec, t->tv_nsec);
}

static char letter_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return '-';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	default:
		return '?';
	}
}

/* Not: inode numbers (their equality is in the dump), atime (reads that the page cache answers do not move it), mtime of
 * a fifo (what passes through it the server does not see), blocks (they come late, and tmpfs has them for a hole that
 * was mapped); but see op_holes. */
void say_stat(struct world *w, const struct stat *st)
{
	say(w, " {%c%04o n%lu %u:%u", letter_of(st->st_mode), st->st_mode & 07777,
	    (unsigned long)st->st_nlink, st->st_uid, st->st_gid);
	say(w, " %lld", (long long)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		say(w, " %u,%u", major(st->st_rdev), minor(st->st_rdev));
	if (!S_ISFIFO(st->st_mode))
		say_time(w, "m", &st->st_mtim);
	say(w, "%s}", st->st_ctim.tv_sec >= NOW_FROM ? "" : " ctime is old");
}

void say_path(struct world *w, int dir, const char *path)
{
	struct stat st;

	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		say_stat(w, &st);
	else
		say(w, " {%s}", strerrorname_np(errno));
}

void say_fd(struct world *w, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0)
		say_stat(w, &st);
	else
		say(w, " {%s}", strerrorname_np(errno));
}

/* ---- the dump: sorted, hashed or said whole ---- */

struct seen {
	dev_t dev;
	ino_t ino;
	unsigned n;
};

struct dumping {
	struct world *w;
	struct seen *seen;
	size_t n_seen;
	uint64_t hash;
	unsigned n;
};

static unsigned same_as(struct dumping *d, const struct stat *st)
{
	for (size_t k = 0; k < d->n_seen; k++)
		if (d->seen[k].ino == st->st_ino && d->seen[k].dev == st->st_dev)
			return d->seen[k].n;
	d->seen = realloc(d->seen, (d->n_seen + 1) * sizeof(*d->seen));
	d->seen[d->n_seen++] = (struct seen){st->st_dev, st->st_ino, d->n};
	return d->n;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void say_content(struct world *w, int fd)
{
	uint64_t h = HASH_START;
	off_t off = 0, end = lseek(fd, 0, SEEK_END);
	ssize_t n = 0;

	/* Of a huge sparse file the ends. */
	while (off < end && (n = pread(fd, w->buf, IO_MOST, off)) > 0) {
		h = hash_bytes(h, w->buf, (size_t)n);
		off += n;
		if (off > 8 << 20 && off < end - 8192)
			off = end - 8192;
	}
	if (n < 0)
		say(w, " content %s", strerrorname_np(errno));
	else
		say(w, " content %lld %016llx", (long long)off, (unsigned long long)h);
}

void say_xattrs(struct world *w, int fd)
{
	char list[4096], *names[64];
	size_t n = 0;
	ssize_t len = flistxattr(fd, list, sizeof(list));

	if (len < 0) {
		say(w, " xattrs %s", strerrorname_np(errno));
		return;
	}
	for (char *p = list; p < list + len && n < 64; p += strlen(p) + 1)
		names[n++] = p;
	qsort(names, n, sizeof(*names), by_name);
	for (size_t k = 0; k < n; k++) {
		ssize_t size = fgetxattr(fd, names[k], w->buf, IO_MOST);

		say(w, " %.20s=%zd:%016llx", names[k], size,
		    (unsigned long long)hash_bytes(HASH_START, w->buf,
						   size > 0 ? (size_t)size : 0));
	}
}

static void dump_dir(struct dumping *d, int fd, unsigned depth);

static void dump_entry(struct dumping *d, int dir, const char *name, unsigned depth)
{
	struct world *w = d->w;
	struct stat st;
	char target[PATH_MAX];
	ssize_t n;
	int fd;

	say(w, "  %u/%.20s", depth, name);
	d->n++;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		say(w, " %s\n", strerrorname_np(errno));
		return;
	}
	say_stat(w, &st);
	say(w, " i%u", same_as(d, &st));
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir, name, target, sizeof(target));
		say(w, " -> %zd %016llx\n", n,
		    (unsigned long long)hash_bytes(HASH_START, target, n > 0 ? (size_t)n : 0));
		return;
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		say(w, "\n");
		return;
	}
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		say(w, " %s\n", strerrorname_np(errno));
		return;
	}
	say_xattrs(w, fd);
	if (S_ISREG(st.st_mode))
		say_content(w, fd);
	say(w, "\n");
	if (S_ISDIR(st.st_mode))
		dump_dir(d, fd, depth + 1);
	close(fd);
}

static void dump_dir(struct dumping *d, int fd, unsigned depth)
{
	DIR *dir = fdopendir(dup(fd));
	struct dirent *e;
	char **v = NULL;
	size_t n = 0;

	if (!dir) {
		say(d->w, "  %u cannot list: %s\n", depth, strerrorname_np(errno));
		return;
	}
	rewinddir(dir);
	while ((e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		v = realloc(v, (n + 1) * sizeof(*v));
		v[n++] = strdup(e->d_name);
	}
	closedir(dir);
	if (n)
		qsort(v, n, sizeof(*v), by_name);
	for (size_t k = 0; k < n; k++) {
		dump_entry(d, fd, v[k], depth);
		free(v[k]);
	}
	free(v);
}

static void dump_open(struct dumping *d)
{
	struct world *w = d->w;
	struct stat st;

	for (int k = 0; k < SLOTS; k++) {
		if (w->fds[k] < 0)
			continue;
		say(w, "  [%d] 0%o", k, fcntl(w->fds[k], F_GETFL));
		if (fstat(w->fds[k], &st) == 0) {
			say_stat(w, &st);
			/* Its number is that of the name it has; one of its own when it has none. */
			if (S_ISDIR(st.st_mode)) /* of which the offset is the file system's affair */
				say(w, " i%u", same_as(d, &st));
			else
				say(w, " i%u at %lld", same_as(d, &st),
				    (long long)lseek(w->fds[k], 0, SEEK_CUR));
		}
		d->n++;
		say(w, "\n");
	}
}

void dump(struct world *w)
{
	struct dumping d = {.w = w};
	FILE *log = w->log;
	char *text = NULL;
	size_t len = 0;

	w->log = open_memstream(&text, &len);
	dump_dir(&d, w->top, 0);
	dump_open(&d);
	fclose(w->log);
	w->log = log;
	if (w->verbose)
		say(w, "%s", text);
	say(w, "%u dump of %u: %016llx\n", w->op, d.n,
	    (unsigned long long)hash_bytes(HASH_START, text, len));
	free(text);
	free(d.seen);
}
