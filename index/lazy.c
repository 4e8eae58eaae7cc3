/* SPDX-License-Identifier: MIT */
/*
 * lazy.c - outputs of hits that are not real yet; see "Lazy outputs" in docs/design.md.
 *
 * Such an output is a symbolic link whose target says what it stands for, in a directory that does not exist: who meets it past the
 * mount gets ENOENT, never other bytes. A record in lazy/ of the cache keeps its object there (gc_doomed.c).
 *
 * Links and caches may be those of other users, looked at with more rights than theirs: nothing here follows a link of theirs,
 * opens LMDB, or uses a file that is not the owner's of the placeholder.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "copy.h"
#include "idx.h"

#define DIGITS	    (2 * sizeof(((struct oid *)0)->b))
#define FP_DIGITS   (2 * sizeof(((struct fp *)0)->b))
#define PREFIX	    "/.mlfs-lazy/1/"
#define RECORDS	    "lazy"
#define RECORD_NAME 40 /* two numbers in hex */

/* ---- what a placeholder says ---- */

void lazy_text(const struct lazy *l, char text[LAZY_TEXT])
{
	char oid[DIGITS + 1], fp[FP_DIGITS + 1];

	hex(l->oid.b, sizeof(l->oid.b), oid);
	hex(l->fp.b, sizeof(l->fp.b), fp);
	(void)snprintf(text, LAZY_TEXT, PREFIX "%s/%s/%llu/%o", oid, fp,
		       (unsigned long long)l->size, (unsigned)l->mode); /* fits */
}

static bool part(const char **at, size_t n, uint8_t *to)
{
	char digits[DIGITS + 1];

	if (strnlen(*at, n + 1) <= n || (*at)[n] != '/')
		return false;
	memcpy(digits, *at, n);
	digits[n] = '\0';
	*at += n + 1;
	return unhex(digits, to, n / 2);
}

/* Only what lazy_text writes: all else is somebody's link. */
bool lazy_parse(const char *text, struct lazy *ret)
{
	const char *at = text + sizeof(PREFIX) - 1;
	unsigned long long size;
	char again[LAZY_TEXT];
	unsigned mode;

	*ret = (struct lazy){0};
	if (strncmp(text, PREFIX, sizeof(PREFIX) - 1) != 0 || !part(&at, DIGITS, ret->oid.b) ||
	    !part(&at, FP_DIGITS, ret->fp.b) || sscanf(at, "%20llu/%4o", &size, &mode) != 2 ||
	    size > INT64_MAX || mode > 0777)
		return false;
	ret->size = size;
	ret->mode = mode;
	lazy_text(ret, again);
	return strcmp(text, again) == 0;
}

bool lazy_may_be(mode_t mode, off_t size)
{
	return S_ISLNK(mode) && size >= (off_t)(sizeof(PREFIX) - 1 + DIGITS + FP_DIGITS) &&
	       size < LAZY_TEXT;
}

int lazy_read(int dir, const char *name, struct lazy *ret)
{
	char text[LAZY_TEXT];
	ssize_t n = readlinkat(dir, name, text, sizeof(text));

	if (n < 0)
		return errno == EINVAL ? 0 : -errno;
	if (n == sizeof(text))
		return 0;
	text[n] = '\0';
	return lazy_parse(text, ret);
}

int lazy_at(int dir, const char *name, struct lazy_link *ret)
{
	if (fstatat(dir, name, &ret->st, AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH)) < 0)
		return -errno;
	return lazy_may_be(ret->st.st_mode, ret->st.st_size) ? lazy_read(dir, name, &ret->l) : 0;
}

void lazy_shown(const struct lazy *l, struct stat *st)
{
	st->st_mode = S_IFREG | l->mode;
	st->st_size = (off_t)l->size;
	/* tar takes a file without blocks for one hole */
	st->st_blocks = (blkcnt_t)((l->size + 511) / 512);
}

/* ---- objects ---- */

static int open_beneath(int cache, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)flags | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	int fd = (int)syscall(SYS_openat2, cache, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int open_prefix(int cache, const struct oid *o, char name[DIGITS - 1])
{
	char digits[DIGITS + 1], dir[8];

	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(dir, sizeof(dir), "cas/%.2s", digits); /* fits */
	memcpy(name, digits + 2, DIGITS - 1);
	return open_beneath(cache, dir, O_PATH | O_DIRECTORY);
}

int lazy_open(int cache, const struct lazy *l, uid_t owner)
{
	char name[DIGITS - 1], proc[32];
	auto_close int dir = open_prefix(cache, &l->oid, name);
	auto_close int path = dir < 0 ? dir : open_beneath(dir, name, O_PATH | O_NOFOLLOW);
	struct stat st;
	int fd;

	if (path < 0)
		return path;
	if (fstat(path, &st) < 0)
		return -errno;
	/* Also not one that somebody else has linked to from there. */
	if (!S_ISREG(st.st_mode) || st.st_uid != owner || (uint64_t)st.st_size != l->size)
		return -EUCLEAN;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path); /* fits */
	fd = open(proc, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* So that the next lookup of its step finds it gone, and not as it should be. */
void lazy_drop(int cache, const struct lazy *l)
{
	char name[DIGITS - 1];
	auto_close int dir = open_prefix(cache, &l->oid, name);

	if (dir >= 0 && unlinkat(dir, name, 0) < 0)
		log_debug("cannot remove the damaged object %s: %s", name, strerror(errno));
}

bool lazy_there(int cache, const struct lazy *l)
{
	char digits[DIGITS + 1], name[80];
	struct stat st;

	hex(l->oid.b, sizeof(l->oid.b), digits);
	(void)snprintf(name, sizeof(name), "cas/%.2s/%s", digits, digits + 2); /* fits */
	return fstatat(cache, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size == l->size;
}

int lazy_verify(int fd, const struct lazy *l)
{
	struct oid now;
	uint64_t n;
	int r = hash_fd_both(fd, NULL, &now, &n);

	if (r < 0)
		return r;
	return oid_eq(&now, &l->oid) && n == l->size ? 0 : -EUCLEAN;
}

/* ---- making it real ---- */

/* Compared with its name as it goes through. */
static int fill(int from, int to, const struct lazy *l)
{
	auto_hasher struct hasher *h = NULL;
	struct oid now;
	uint64_t n = 0;
	int r;

	if (ioctl(to, FICLONE, from) == 0)
		return lazy_verify(to, l);
	r = hasher_begin(false, true, &h);
	if (r == 0)
		r = copy_hashed(from, to, h, &n);
	if (r == 0)
		r = hasher_end(h, NULL, &now);
	if (r < 0)
		return r;
	return oid_eq(&now, &l->oid) && n == l->size ? 0 : -EUCLEAN;
}

static int dress(int fd, const struct lazy_link *k)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, k->st.st_mtim};

	if (geteuid() == 0 ? fchown(fd, k->st.st_uid, k->st.st_gid) < 0
			   : fchown(fd, (uid_t)-1, k->st.st_gid) < 0 && errno != EPERM)
		return -errno;
	return fchmod(fd, k->l.mode) < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

struct made {
	int dir, fd;
	char name[16]; /* ".mlfs-abcdef"; "": it has none yet */
};

static void made_clear(struct made *m)
{
	base_close(&m->fd);
	if (m->name[0] && unlinkat(m->dir, m->name, 0) < 0 && errno != ENOENT)
		log_debug("cannot remove %s: %s", m->name, strerror(errno));
}

static void next_name(struct made *m)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
	uint64_t seed[3] = {(uint64_t)mono_ns(), (uint64_t)getpid(), (uintptr_t)m};
	uint64_t h = xxh64_of(seed, sizeof(seed));

	(void)snprintf(m->name, sizeof(m->name), ".mlfs-");
	for (size_t k = 6; k < 12; k++, h >>= 5)
		m->name[k] = digits[h & 31];
	m->name[12] = '\0';
}

/* Without a name, as long as that can be: then nothing is left behind by who is killed. */
static int make(struct made *m)
{
	m->fd = openat(m->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (m->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return m->fd < 0 ? -errno : 0;
	do {
		next_name(m);
		m->fd = openat(m->dir, m->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	} while (m->fd < 0 && errno == EEXIST);
	if (m->fd < 0)
		m->name[0] = '\0';
	return m->fd < 0 ? -errno : 0;
}

static int give_name(struct made *m)
{
	char proc[32];
	int r;

	if (m->name[0])
		return 0;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", m->fd); /* fits */
	do {
		next_name(m);
		r = linkat(AT_FDCWD, proc, m->dir, m->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	} while (r == -EEXIST);
	if (r < 0)
		m->name[0] = '\0';
	return r;
}

static bool is_link(int dir, const char *name, const struct lazy_link *k)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) &&
	       st.st_dev == k->st.st_dev && st.st_ino == k->st.st_ino;
}

/* Only in the place of the very link: what somebody else has put there meanwhile stays. */
static int take_place(struct made *m, const char *name, const struct lazy_link *k)
{
	int r = renameat2(m->dir, m->name, m->dir, name, RENAME_EXCHANGE) < 0 ? -errno : 0;

	if (r == 0 && is_link(m->dir, m->name, k))
		return 0; /* and the link goes with made_clear */
	if (r == 0)
		return renameat2(m->dir, m->name, m->dir, name, RENAME_EXCHANGE) < 0 ? -errno
										     : -ESTALE;
	if (r == -ENOENT)
		return -ESTALE;
	if (r != -EINVAL && r != -ENOSYS)
		return r;
	/* A file system that cannot exchange names. */
	if (!is_link(m->dir, name, k))
		return -ESTALE;
	if (renameat(m->dir, m->name, m->dir, name) < 0)
		return -errno;
	m->name[0] = '\0';
	return 0;
}

/* What is open as fd, to go by. */
static int open_again(int fd)
{
	char proc[32];
	int again;

	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* fits */
	again = open(proc, O_PATH | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

int lazy_realize(int dir, const char *name, const struct lazy_link *k, int cache, int *ret_fd,
		 struct err *e)
{
	__attribute__((cleanup(made_clear))) struct made m = {.dir = dir, .fd = -1};
	auto_close int object = lazy_open(cache, &k->l, k->st.st_uid), made = -1;
	int r;

	if (object < 0)
		return err_text(e, object, "its object is %s",
				object == -ENOENT    ? "missing"
				: object == -EUCLEAN ? "damaged"
						     : strerror(-object));
	r = make(&m);
	if (r == 0)
		r = fill(object, m.fd, &k->l);
	if (r == -EUCLEAN)
		lazy_drop(cache, &k->l);
	if (r == 0)
		r = dress(m.fd, k);
	if (r == 0)
		r = give_name(&m);
	if (r == 0 && ret_fd) {
		made = open_again(m.fd);
		r = made < 0 ? made : 0;
	}
	if (r == 0)
		r = take_place(&m, name, k);
	if (r < 0)
		return err_text(e, r, "%s", r == -EUCLEAN ? "its object is damaged" : strerror(-r));
	/* Another name of the link stays what it is. */
	if (k->st.st_nlink == 1)
		lazy_unnote(cache, &k->l.oid, k->st.st_dev, k->st.st_ino);
	if (ret_fd)
		*ret_fd = take_fd(&made);
	return 0;
}

bool lazy_lost(int dir, const char *name, const struct lazy_link *k, int cache, int reason)
{
	if ((reason != -ENOENT && reason != -EUCLEAN) || !is_link(dir, name, k) ||
	    faccessat(cache, "cas", F_OK, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(dir, name, 0) < 0)
		return false;
	if (k->st.st_nlink == 1)
		lazy_unnote(cache, &k->l.oid, k->st.st_dev, k->st.st_ino);
	return true;
}

/* ---- records ---- */

static void record_names(const struct oid *o, dev_t dev, ino_t ino, char digits[DIGITS + 1],
			 char name[RECORD_NAME])
{
	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(name, RECORD_NAME, "%llx-%llx", (unsigned long long)dev,
		       (unsigned long long)ino); /* fits */
}

int lazy_note(int cache, const struct oid *o, dev_t dev, ino_t ino, const char *path)
{
	char digits[DIGITS + 1], name[RECORD_NAME];

	record_names(o, dev, ino, digits, name);
	for (;;) {
		auto_close int all = -1, dir = -1;

		if (mkdirat(cache, RECORDS, 0700) < 0 && errno != EEXIST)
			return -errno;
		all = open_beneath(cache, RECORDS, O_PATH | O_DIRECTORY);
		if (all < 0)
			return all;
		if (mkdirat(all, digits, 0700) < 0 && errno != EEXIST)
			return -errno;
		dir = open_beneath(all, digits, O_PATH | O_DIRECTORY);
		if (dir >= 0 && symlinkat(path, dir, name) == 0)
			return 0;
		if (dir >= 0 && errno == EEXIST) {
			/* Of a placeholder that is gone. */
			if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
				return -errno;
		} else if ((dir < 0 ? -dir : errno) != ENOENT) {
			return dir < 0 ? dir : -errno;
		} /* else gc has just found that nobody needs the object */
	}
}

void lazy_unnote(int cache, const struct oid *o, dev_t dev, ino_t ino)
{
	char digits[DIGITS + 1], name[RECORD_NAME];
	auto_close int all = open_beneath(cache, RECORDS, O_PATH | O_DIRECTORY), dir = -1;

	record_names(o, dev, ino, digits, name);
	dir = all < 0 ? all : open_beneath(all, digits, O_PATH | O_DIRECTORY);
	if (dir < 0)
		return;
	if (unlinkat(dir, name, 0) < 0)
		log_debug("cannot remove " RECORDS "/%s/%s: %s", digits, name, strerror(errno));
	(void)unlinkat(all, digits, AT_REMOVEDIR); /* unless there are more */
}

bool lazy_pinned(int cache, const struct oid *o)
{
	char digits[DIGITS + 1], path[80];

	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(path, sizeof(path), RECORDS "/%s", digits); /* fits */
	return unlinkat(cache, path, AT_REMOVEDIR) < 0 && errno != ENOENT;
}

static int each_name(int parent, const char *name, int (*fn)(void *arg, int dir, const char *name),
		     void *arg)
{
	int fd = open_beneath(parent, name, O_RDONLY | O_DIRECTORY), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		base_close(&fd);
		return 0; /* there are none */
	}
	while (r == 0 && (de = readdir(d)))
		if (de->d_name[0] != '.')
			r = fn(arg, dirfd(d), de->d_name);
	(void)closedir(d); /* only read from */
	return r;
}

struct each {
	int (*fn)(void *arg, const struct lazy_record *r);
	void *arg;
	struct lazy_record r;
};

static int each_record(void *arg, int dir, const char *name)
{
	struct each *each = arg;
	unsigned long long dev, ino;
	char path[4096];
	ssize_t n = readlinkat(dir, name, path, sizeof(path) - 1);

	if (n <= 0 || sscanf(name, "%llx-%llx", &dev, &ino) != 2)
		return 0;
	path[n] = '\0';
	each->r.dev = dev;
	each->r.ino = ino;
	each->r.path = path;
	return each->fn(each->arg, &each->r);
}

static int each_object(void *arg, int dir, const char *name)
{
	struct each *each = arg;

	return strlen(name) == DIGITS && unhex(name, each->r.oid.b, sizeof(each->r.oid.b))
		       ? each_name(dir, name, each_record, each)
		       : 0;
}

int lazy_each(int cache, int (*fn)(void *arg, const struct lazy_record *r), void *arg)
{
	struct each each = {.fn = fn, .arg = arg};

	return each_name(cache, RECORDS, each_object, &each);
}

/* ---- for who has the cache open ---- */

void idx_lazy_trees(struct idx *x, const struct lazy_trees *t)
{
	x->lazy = t;
}

const struct lazy_trees *idx_lazy_of(const struct idx *x)
{
	return x ? x->lazy : NULL;
}

int idx_dirfd(const struct idx *x)
{
	return x->dirfd;
}

bool lazy_is_in(const struct lazy_trees *t, const char *path)
{
	for (size_t k = 0; t && k < t->n; k++)
		if (path_is_in(path, t->dirs[k]))
			return true;
	return false;
}

bool lazy_stands(const struct lazy_trees *t, const char *path, int dir, const char *name,
		 const struct stat *st, struct lazy *ret)
{
	return t && lazy_may_be(st->st_mode, st->st_size) && lazy_is_in(t, path) &&
	       lazy_read(dir, name, ret) > 0;
}

void lazy_list(const struct lazy_trees *t, const char *path, int fd, char **list, size_t n)
{
	struct lazy l;

	if (!lazy_is_in(t, path))
		return;
	for (size_t k = 0; k < n; k++)
		if (list[k][0] == 'l' && lazy_read(fd, list[k] + 1, &l) > 0)
			list[k][0] = 'f';
}
