/* SPDX-License-Identifier: MIT */
/* ops_name.c - opening, making, renaming and removing names; directories. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE	 2
#define RENAME_WHITEOUT	 4
#endif

/* O_NONBLOCK always: opening a fifo is not to wait. */
static int pick_open_flags(struct world *w)
{
	static const int usual[] = {O_CREAT,  O_CREAT, O_EXCL,	   O_TRUNC,
				    O_APPEND, O_TRUNC, O_NOFOLLOW, O_CLOEXEC};
	static const int rare[] = {O_DIRECTORY, O_PATH,	  O_NOATIME, O_SYNC,
				   O_DSYNC,	O_DIRECT, O_NOCTTY,  O_ASYNC};
	unsigned r = rnd(w, 100);
	int flags = r < 30 ? O_RDONLY : r < 50 ? O_WRONLY : r < 98 ? O_RDWR : O_ACCMODE;

	flags |= pick_flags(w, usual, sizeof(usual) / sizeof(*usual), 20);
	flags |= pick_flags(w, rare, sizeof(rare) / sizeof(*rare), 4);
	if (chance(w, 3))
		flags |= O_TMPFILE;
	if (w->mount)
		flags &= ~O_DIRECT;
	say(w, " 0%o", flags);
	return flags | O_NONBLOCK;
}

static void opened(struct world *w, int slot, int fd)
{
	result(w, fd < 0 ? -1 : 0);
	if (fd >= 0)
		say_fd(w, fd);
	keep(w, slot, fd);
}

static void op_open(struct world *w)
{
	char path[PATH_MOST];
	int slot = pick_slot(w), dir = pick_dir(w), flags = pick_open_flags(w);
	mode_t mode = pick_mode(w);

	pick_path_to(w, path, false);
	opened(w, slot, openat(dir, path, flags, mode));
}

/* Where ".." could lead out, a rename or mount by anybody on the machine meanwhile makes it EAGAIN: try again. */
static int openat2_again(int dir, const char *path, struct open_how *how)
{
	int fd;

	do
		fd = (int)syscall(SYS_openat2, dir, path, how, sizeof(*how));
	while (fd < 0 && errno == EAGAIN);
	return fd;
}

static void op_openat2(struct world *w)
{
	static const int resolve[] = {RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS,
				      RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV};
	char path[PATH_MOST];
	int slot = pick_slot(w), dir = pick_dir(w);
	struct open_how how = {.flags = (unsigned)pick_open_flags(w)};

	how.mode = pick_mode(w);
	if (!(how.flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) && chance(w, 90))
		how.mode = 0;
	how.resolve = (unsigned)pick_flags(w, resolve, 5, 25);
	say(w, " 0x%llx", (unsigned long long)how.resolve);
	pick_path_to(w, path, false);
	opened(w, slot, openat2_again(dir, path, &how));
}

static void op_opendir(struct world *w)
{
	char path[PATH_MOST];
	int slot = pick_slot(w), flags = O_DIRECTORY | (chance(w, 20) ? O_PATH : O_RDONLY);

	say(w, " 0%o", flags);
	opened(w, slot, open(pick_path_to(w, path, true), flags));
}

/* Also a file of which only this descriptor knows. */
static void op_create(struct world *w)
{
	char path[PATH_MOST];
	int slot = pick_slot(w);
	mode_t mode = pick_mode(w);
	bool gone = chance(w, 10);
	int fd;

	pick_path_to(w, path, false);
	fd = open(path, O_RDWR | O_CREAT | O_NONBLOCK, mode);
	opened(w, slot, fd);
	if (fd >= 0 && gone) {
		say(w, " unlinked");
		result(w, unlink(path));
		say_fd(w, w->fds[slot]);
	}
}

static void op_close(struct world *w)
{
	int slot = pick_slot(w);

	result(w, close(w->fds[slot]));
	w->fds[slot] = -1;
}

static void op_dup(struct world *w)
{
	int from = pick_slot(w), to = pick_slot(w), fd = dup(w->fds[from]);

	result(w, fd < 0 ? -1 : 0);
	keep(w, to, fd);
}

/* Another open file description of the same file. */
static void op_reopen(struct world *w)
{
	int from = pick_slot(w), to = pick_slot(w), flags = pick_open_flags(w);
	char path[64];

	if (w->root) { /* there is no /proc */
		say(w, " -\n");
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->fds[from]);
	opened(w, to, w->fds[from] < 0 ? -1 : open(path, flags & ~(O_CREAT | O_TMPFILE), 0));
}

static void op_setfl(struct world *w)
{
	static const int v[] = {O_APPEND, O_NONBLOCK, O_NOATIME, O_DIRECT};
	int slot = pick_slot(w), flags = pick_flags(w, v, w->mount ? 3 : 4, 30);

	say(w, " 0%o", flags);
	/* Never blocking. */
	result(w, fcntl(w->fds[slot], F_SETFL, flags | O_NONBLOCK));
	say(w, " 0%o", fcntl(w->fds[slot], F_GETFL));
}

/* ---- names ---- */

static void op_mkdir(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w);
	mode_t mode = pick_mode(w);

	if (chance(w, 70))
		mode |= 0700;
	pick_path_to(w, path, true);
	result(w, mkdirat(dir, path, mode));
	say_path(w, dir, path);
}

static void op_mknod(struct world *w)
{
	static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, 0, S_IFDIR};
	char path[PATH_MOST];
	int dir = pick_dir(w);
	mode_t mode = pick_of(w, types);
	dev_t dev = makedev(1, 3 + rnd(w, 3));

	say(w, " 0%o", mode);
	mode |= pick_mode(w);
	if (chance(w, 10) &&
	    w->root) /* that an ordinary user may make; no device can be opened in such a view */
		dev = 0;
	pick_path_to(w, path, false);
	result(w, mknodat(dir, path, mode, dev));
	say_path(w, dir, path);
}

static void op_symlink(struct world *w)
{
	char path[PATH_MOST], target[PATH_MOST];
	int dir = pick_dir(w);
	bool usual = chance(w, 70);

	pick_path(w, target);
	pick_path_to(w, path, false);
	if (usual) {
		strcpy(path, chance(w, 70) ? "s" : "d/s");
		say(w, " %s", path);
	}
	result(w, symlinkat(target, dir, path));
	say_path(w, dir, path);
}

static void op_readlink(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w);
	bool usual = chance(w, 50);
	size_t size = chance(w, 20) ? rnd(w, 10) : IO_MOST;
	ssize_t n;

	pick_path(w, path);
	if (usual) {
		strcpy(path, chance(w, 70) ? "s" : "d/s");
		say(w, " %s", path);
	}
	n = result(w, readlinkat(dir, path, w->buf, size));
	if (n > 0)
		say(w, " %016llx", (unsigned long long)hash_bytes(HASH_START, w->buf, (size_t)n));
}

static void op_link(struct world *w)
{
	static const int v[] = {AT_SYMLINK_FOLLOW, AT_EMPTY_PATH};
	char path[PATH_MOST], to[PATH_MOST];
	int dir = pick_dir(w), dir2 = pick_dir(w), flags = chance(w, 60) ? 0 : pick_of(w, v);

	say(w, " 0x%x", flags);
	pick_path_to(w, path, false);
	pick_path_to(w, to, false);
	result(w, linkat(dir, path, dir2, to, flags));
	say_path(w, dir2, to);
}

/* A name for what is open, whether it has one or not (O_TMPFILE). */
static void op_link_fd(struct world *w)
{
	char path[PATH_MOST], proc[64];
	int slot = pick_slot(w);

	pick_path(w, path);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", w->fds[slot]);
	result(w, w->root ? linkat(w->fds[slot], "", AT_FDCWD, path, AT_EMPTY_PATH)
			  : linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
	say_path(w, AT_FDCWD, path);
}

static void op_unlink(struct world *w)
{
	char path[PATH_MOST];
	int dir = pick_dir(w);
	unsigned r = rnd(w, 100);
	int flags = r < 70 ? 0 : r < 98 ? AT_REMOVEDIR : AT_EMPTY_PATH;

	say(w, " 0x%x", flags);
	pick_path(w, path);
	result(w, unlinkat(dir, path, flags));
	say_path(w, dir, path);
}

static void op_rename(struct world *w)
{
	static const unsigned v[] = {
		RENAME_NOREPLACE,   RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT, 3,
		RENAME_WHITEOUT | 1};
	char path[PATH_MOST], to[PATH_MOST];
	int dir = pick_dir(w), dir2 = pick_dir(w);
	bool tree = chance(w, 30);
	unsigned flags = chance(w, 60) ? 0 : pick_of(w, v);

	if (!w->root) /* see op_mknod */
		flags &= ~(unsigned)RENAME_WHITEOUT;
	say(w, " %u", flags);
	pick_path_to(w, path, tree);
	pick_path_to(w, to, tree);
	result(w, syscall(SYS_renameat2, dir, path, dir2, to, flags));
	say_path(w, dir, path);
	say_path(w, dir2, to);
}

/* ---- directories ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names, types, numbers; and whether telldir leads back. */
static void op_list(struct world *w)
{
	char path[PATH_MOST], *names[64];
	unsigned n = 0, wrong = 0, back = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	d = opendir(pick_path_to(w, path, true));
	result(w, d ? 0 : -1);
	if (!d)
		return;
	for (long at = telldir(d); (e = readdir(d)) && n < 64; at = telldir(d)) {
		if (asprintf(&names[n], "%.20s:%d", e->d_name, e->d_type) < 0)
			stop("memory");
		n++;
		/* What .. is differs at the root. */
		if (strcmp(e->d_name, "..") &&
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			wrong += st.st_ino != e->d_ino;
		if (n % 3 == 0) {
			char name[NAME_MAX + 1];
			long after = telldir(d);

			strcpy(name, e->d_name);
			seekdir(d, at);
			e = readdir(d);
			back += !e || strcmp(name, e->d_name) != 0;
			seekdir(d, after);
		}
	}
	closedir(d);
	qsort(names, n, sizeof(*names), by_text);
	for (unsigned k = 0; k < n; k++) {
		say(w, " %s", names[k]);
		free(names[k]);
	}
	say(w, " wrong %u, not found again %u", wrong, back);
}

/* What is there all the time is listed once, whatever comes and goes meanwhile. */
static void op_list_changing(struct world *w)
{
	static const char *const what[] = {"unlink", "create", "rename"};
	unsigned kind = rnd(w, 3), n = 10 + rnd(w, 300), twice = 0, stay = 0, k = 0;
	char seen[512] = {0}, name[32], to[40];
	struct dirent *e;
	DIR *d = NULL;
	int fd;

	say(w, " %u %s", n, what[kind]);
	if (result(w, mkdir("listed", 0755)) < 0)
		return;
	fd = open("listed", O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < n && fd >= 0; i++) {
		snprintf(name, sizeof(name), "%u", i);
		close(openat(fd, name, O_CREAT | O_WRONLY, 0600));
	}
	if (fd >= 0)
		d = fdopendir(fd);
	for (; d && (e = readdir(d)); k++) {
		unsigned i = (unsigned)atoi(e->d_name);

		if (e->d_name[0] == '.' || strchr(e->d_name, '-'))
			continue;
		if (i < 512)
			twice += seen[i]++ > 0;
		if (k % 4)
			continue;
		snprintf(to, sizeof(to), "%u-", i);
		if (kind == 0)
			unlinkat(fd, e->d_name, 0);
		else if (kind == 1)
			close(openat(fd, to, O_CREAT | O_WRONLY, 0600));
		else
			renameat(fd, e->d_name, fd, to);
	}
	for (unsigned i = 0; i < n; i++)
		stay += seen[i] == 0;
	say(w, " listed twice %u, never %u", twice, stay);
	for (k = 0; d && k < 2; k++) { /* what is added while it is removed may be left */
		rewinddir(d);
		while ((e = readdir(d)))
			if (e->d_name[0] != '.')
				unlinkat(fd, e->d_name, 0);
	}
	if (d)
		closedir(d);
	result(w, rmdir("listed"));
}

static void op_getdents(struct world *w)
{
	int slot = pick_slot(w);
	size_t size = chance(w, 20) ? rnd(w, 40) : 4096;
	long n;

	say(w, " %zu", size);
	lseek(w->fds[slot], 0, SEEK_SET);
	n = syscall(SYS_getdents64, w->fds[slot], w->buf, size);
	result(w, n > 0 ? 1 : n);	  /* how many fit depends on their order */
	lseek(w->fds[slot], 0, SEEK_SET); /* where one has come to is the file system's affair */
}

static void op_chdir(struct world *w)
{
	char path[PATH_MOST];
	bool back = chance(w, 30), by_fd = chance(w, 20);
	int slot = pick_slot(w), fd;

	pick_path_to(w, path, true);
	if (back)
		result(w, fchdir(w->top));
	else if (by_fd)
		result(w, fchdir(w->fds[slot]));
	else
		result(w, chdir(path));
	fd = open(".", O_PATH);
	if (fd >= 0 && guarded(w, fd) && fchdir(w->top) < 0)
		stop("cannot go back");
	close(fd);
}

static void op_getcwd(struct world *w)
{
	size_t size = chance(w, 30) ? rnd(w, 20) : PATH_MAX;
	const char *p;

	say(w, " %zu", size);
	p = getcwd(w->buf, size);
	result(w, p ? 0 : -1);
	if (p)
		say(w, " %s", p);
}

/* A tree deeper than PATH_MAX: made, used and removed by descriptors. */
static void op_deep(struct world *w)
{
	char name[256];
	int fds[24], n = 0, fd;

	memset(name, 'D', 255);
	name[255] = '\0';
	fds[0] = open(".", O_RDONLY | O_DIRECTORY);
	result(w, fds[0] < 0 ? -1 : 0);
	while (fds[n] >= 0 && n < 20) {
		if (mkdirat(fds[n], name, 0755) < 0)
			break;
		fds[n + 1] = openat(fds[n], name, O_RDONLY | O_DIRECTORY);
		if (fds[n + 1] >= 0)
			n++;
	}
	say(w, " depth %d", n);
	if (n == 20) {
		fd = openat(fds[n], "file", O_RDWR | O_CREAT, 0640);
		result(w, fd < 0 ? -1 : 0);
		result(w, write(fd, "deep", 4));
		result(w, linkat(fds[n], "file", fds[n], "link", 0));
		result(w, renameat(fds[n], "file", fds[n - 1], "file"));
		result(w, symlinkat(name, fds[n], "symlink"));
		result(w, readlinkat(fds[n], "symlink", w->buf, 1000));
		result(w, fchmodat(fds[n], "link", 0604, 0));
		result(w, fchmod(fd, 0600));
		result(w, ftruncate(fd, 2));
		say_fd(w, fd);
		say_path(w, fds[n - 1], "file");
		close(fd);
		fd = openat(fds[n], "link", O_RDWR);
		result(w, pread(fd, w->buf, 10, 0));
		result(w, pwrite(fd, "again", 5, 100));
		say_xattrs(w, fd);
		result(w, fsetxattr(fd, "user.deep", "x", 1, 0));
		say_xattrs(w, fd);
		close(fd);
		result(w, fchdir(fds[n]));
		result(w, getcwd(w->buf, PATH_MAX) ? 0 : -1);
		result(w, truncate("link", 7));
		result(w, unlinkat(fds[n], "link", 0));
		result(w, unlinkat(fds[n], "symlink", 0));
		result(w, unlinkat(fds[n - 1], "file", 0));
		result(w, fchdir(w->top));
	}
	for (; n > 0; n--) {
		close(fds[n]);
		if (unlinkat(fds[n - 1], name, AT_REMOVEDIR) < 0)
			result(w, -1);
	}
	if (fds[0] >= 0)
		close(fds[0]);
}

static void op_umask(struct world *w)
{
	static const mode_t v[] = {022, 0, 077, 027, 0777};
	mode_t m = pick_of(w, v);

	say(w, " 0%o", m);
	result(w, umask(m));
}

const struct op name_ops[] = {
	{"open", 60, op_open},	      {"openat2", 15, op_openat2},
	{"create", 70, op_create},    {"opendir", 12, op_opendir},
	{"close", 6, op_close},	      {"dup", 4, op_dup},
	{"reopen", 8, op_reopen},     {"setfl", 6, op_setfl},
	{"mkdir", 40, op_mkdir},      {"mknod", 15, op_mknod},
	{"symlink", 20, op_symlink},  {"readlink", 8, op_readlink},
	{"link", 20, op_link},	      {"linkfd", 8, op_link_fd},
	{"unlink", 35, op_unlink},    {"rename", 40, op_rename},
	{"list", 10, op_list},	      {"changing", 1, op_list_changing},
	{"getdents", 5, op_getdents}, {"chdir", 6, op_chdir},
	{"getcwd", 3, op_getcwd},     {"deep", 1, op_deep},
	{"umask", 4, op_umask},	      {0},
};
