/* SPDX-License-Identifier: MIT */
/* world.c - random arguments, the log, the beginning of an epoch. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <unistd.h>

void stop(const char *what)
{
	fprintf(stderr, "posix: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- chance ---- */

static uint64_t next(struct world *w) /* splitmix64 */
{
	uint64_t z = (w->rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned rnd(struct world *w, unsigned n)
{
	return (unsigned)(next(w) % n);
}

bool chance(struct world *w, unsigned percent)
{
	return rnd(w, 100) < percent;
}

uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	for (size_t k = 0; k < n; k++)
		h = (h ^ ((const unsigned char *)p)[k]) * 1099511628211u;
	return h;
}

/* ---- the log ---- */

void say(struct world *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(w->log, fmt, ap);
	va_end(ap);
}

long result(struct world *w, long r)
{
	const char *name = r < 0 ? strerrorname_np(errno) : NULL;

	if (r >= 0)
		say(w, " = %ld", r);
	else
		say(w, " = %s", name ? name : "unknown");
	return r;
}

/* ---- arguments ---- */

/* Most files are called a, b or c, most directories d or e, most links s, so that most operations have something to
 * work on. */
static const char *component(struct world *w, bool dir, char buf[300], int *ups)
{
	static const char *const files[] = {"a", "b", "c", "a", "b", "s"};
	static const char *const dirs[] = {"d", "e", "d", "e", "s"};
	unsigned r = rnd(w, 200), n = rnd(w, 3);

	if (r < 20)
		dir = !dir;
	if (r < 180)
		return dir ? pick_of(w, dirs) : pick_of(w, files);
	if (r < 184)
		return ".";
	if (r < 190)
		return (*ups)++ < 2 ? ".." : "b";
	if (r < 192)
		return "";
	if (r < 194)
		return "sp ace\n\"";
	if (r < 196)
		return "\xff\xfe";
	memset(buf, 'l', 256);
	buf[r < 199 ? 255 : 256] = '\0';
	buf[0] = (char)('0' + n);
	return buf;
}

/* For the log: printable, long runs cut. */
static void say_name(struct world *w, const char *p)
{
	size_t len = strlen(p);

	say(w, " '");
	for (size_t k = 0; k < len; k++) {
		if (len > 64 && k == 40) {
			say(w, "[%zu]", len);
			k = len - 10;
		}
		if (p[k] > ' ' && p[k] < 127)
			say(w, "%c", p[k]);
		else
			say(w, "\\%02x", (unsigned char)p[k]);
	}
	say(w, "'");
}

const char *pick_path(struct world *w, char *buf)
{
	return pick_path_to(w, buf, chance(w, 25));
}

const char *pick_path_to(struct world *w, char *buf, bool dir)
{
	unsigned shape = rnd(w, 400), r = rnd(w, 100);
	unsigned depth = r < 55 ? 1 : r < 85 ? 2 : r < 95 ? 3 : 4;
	char name[300];
	size_t len = 0;
	int ups = 0;

	buf[0] = '\0';
	if (shape < 2) {
		say_name(w, buf);
		return buf;
	}
	if (shape < 5) { /* around PATH_MAX */
		size_t want = PATH_MAX - 3 + rnd(w, 4);

		while (len + 2 < want)
			buf[len++] = '.', buf[len++] = '/';
		while (len < want)
			buf[len++] = 'a';
		buf[len] = '\0';
		say_name(w, buf);
		return buf;
	}
	if (shape < 15)
		len = (size_t)snprintf(buf, PATH_MOST, "%s/", w->root ? "" : w->top_path);
	for (unsigned k = 0; k < depth; k++)
		len += (size_t)snprintf(buf + len, PATH_MOST - len, "%s%s", k ? "/" : "",
					component(w, dir || k + 1 < depth, name, &ups));
	if (shape >= 380)
		(void)snprintf(buf + len, PATH_MOST - len, "%s",
			       shape < 394   ? "/"
			       : shape < 397 ? "/."
					     : "//");
	if (!w->root && shape >= 15 && buf[0] == '/') /* not to the real root */
		buf[0] = 'd';
	say_name(w, buf);
	return buf;
}

int pick_slot(struct world *w)
{
	int slot = (int)rnd(w, SLOTS);

	say(w, " [%d]", slot);
	return slot;
}

int pick_dir(struct world *w)
{
	bool at = chance(w, 15);
	int slot = (int)rnd(w, SLOTS);

	if (!at)
		return AT_FDCWD;
	say(w, " [%d]", slot);
	return w->fds[slot];
}

mode_t pick_mode(struct world *w)
{
	static const mode_t usual[] = {0644, 0755, 0600, 0777, 0666};
	mode_t any = (mode_t)rnd(w, 010000), m = pick_of(w, usual);

	if (chance(w, 30))
		m = any;
	say(w, " 0%o", m);
	return m;
}

off_t pick_offset(struct world *w)
{
	unsigned r = rnd(w, 100);
	off_t off = r < 20   ? 0
		    : r < 50 ? (off_t)rnd(w, 200)
		    : r < 60 ? (off_t)rnd(w, 20) * 4096
		    : r < 90 ? (off_t)rnd(w, 100000)
		    : r < 97 ? (off_t)rnd(w, 3 << 20)
		    : r < 98 ? (off_t)5 << 30
			     : -(off_t)rnd(w, 3);

	say(w, " @%lld", (long long)off);
	return off;
}

size_t pick_size(struct world *w)
{
	unsigned r = rnd(w, 100);
	size_t n = r < 50   ? rnd(w, 100)
		   : r < 70 ? rnd(w, 3) * 4096 + 4096
		   : r < 97 ? rnd(w, 20000)
			    : rnd(w, IO_MOST);

	say(w, " #%zu", n);
	return n;
}

int pick_flags(struct world *w, const int *v, size_t n, unsigned percent)
{
	int flags = 0;

	for (size_t k = 0; k < n; k++)
		if (chance(w, percent))
			flags |= v[k];
	return flags;
}

void fill(struct world *w, size_t n)
{
	uint64_t x = w->seed * 31 + w->op;

	for (size_t k = 0; k < n; k++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		w->buf[k] = (char)(x >> 56);
	}
}

/* ---- what is open ---- */

bool guarded(const struct world *w, int fd)
{
	struct stat st;

	if (w->root || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return false;
	for (unsigned k = 0; k < w->guard.n; k++)
		if (w->guard.dev == st.st_dev && w->guard.ino[k] == st.st_ino)
			return true;
	return false;
}

void keep(struct world *w, int slot, int fd)
{
	if (fd >= 0 && guarded(w, fd)) {
		close(fd);
		return;
	}
	if (fd < 0)
		return;
	if (w->fds[slot] >= 0)
		close(w->fds[slot]);
	w->fds[slot] = fd;
}

void become(struct world *w, uid_t uid)
{
	const gid_t more[] = {2000, 2001};

	if (!w->root || uid == w->uid)
		return;
	if (seteuid(0) < 0 || setgroups(uid ? 2 : 0, more) < 0 || setegid(uid) < 0 ||
	    (uid && seteuid(uid) < 0))
		stop("cannot become another user");
	w->uid = uid;
}

static void remove_all(int dir)
{
	DIR *d;
	struct dirent *e;
	int fd;

	(void)fchmod(dir, 0777);
	d = fdopendir(dup(dir));
	if (!d)
		stop("cannot list for removal");
	rewinddir(d);
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(dir, e->d_name, 0) == 0)
			continue;
		(void)fchmodat(dir, e->d_name, 0777, 0); /* a directory, or this fails below */
		fd = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (fd < 0)
			stop("cannot open for removal");
		remove_all(fd);
		close(fd);
		if (unlinkat(dir, e->d_name, AT_REMOVEDIR) < 0)
			stop("cannot remove");
	}
	closedir(d);
}

void start_over(struct world *w)
{
	static const char *const dirs[] = {"d", "d/d", "d/e", "e"};
	int fd;

	become(w, 0);
	umask(022);
	for (int k = 0; k < SLOTS; k++)
		if (w->fds[k] >= 0)
			close(w->fds[k]), w->fds[k] = -1;
	for (int k = 0; k < MAPS; k++)
		if (w->maps[k].p)
			munmap(w->maps[k].p, w->maps[k].len), w->maps[k].p = NULL;
	if (w->inotify >= 0)
		close(w->inotify), w->inotify = -1;
	if (fchdir(w->top) < 0)
		stop("cannot enter the tree");
	remove_all(w->top);
	if (fchmod(w->top, 0777) < 0)
		stop("cannot set the tree's mode");
	for (size_t k = 0; k < sizeof(dirs) / sizeof(*dirs); k++)
		if (mkdir(dirs[k], 0777) < 0)
			stop("cannot make a directory");
	for (int k = 0; k < 2; k++) {
		fill(w, 9000);
		fd = open(k ? "d/b" : "a", O_RDWR | O_CREAT | O_EXCL, 0644);
		if (fd < 0 || write(fd, w->buf, 9000) != 9000)
			stop("cannot make a file");
		keep(w, k, fd);
	}
}
