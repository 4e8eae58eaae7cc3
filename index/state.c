/* SPDX-License-Identifier: MIT */
/*
 * state.c - the state of one path as canonical bytes, from the file system or from facts gathered
 * earlier.
 *
 * One encoder makes both, so that what was recorded and what is found again compare equal
 * (docs/format.md has the grammar). Facts about anything but the kinds asked for never get in:
 * mtime only for attributes without content, and not of an empty file, whose attributes are its
 * content.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "idx.h"

char state_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 'f';
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

/* ---- the encoder ---- */

bool list_skips(char *const *excluded, size_t n, size_t *at, const char *name)
{
	int order = 1;

	while (*at < n && (order = strcmp(excluded[*at], name)) < 0)
		++*at;
	return *at < n && order == 0;
}

/* The fingerprint of a listing without the excluded names; both are sorted, so one walk does. */
struct fp list_fp(char *const *list, size_t n, char *const *excluded, size_t n_excluded)
{
	struct fp_state *s = fp_begin();
	size_t j = 0;

	for (size_t i = 0; i < n; i++) {
		if (list_skips(excluded, n_excluded, &j, list[i] + 1))
			continue;
		fp_update(s, list[i], strlen(list[i]) + 1); /* the NUL keeps names apart */
	}
	return fp_end(s);
}

static void encode_file(unsigned kinds, const struct facts *f, struct buf *out)
{
	if (!(kinds & (OBS_CONTENT | OBS_ATTR)))
		return;
	if (kinds & OBS_CONTENT) {
		buf_u8(out, 'C');
		buf_varint(out, f->size);
		buf_add(out, f->digest.b, sizeof(f->digest.b));
		return; /* its time says nothing more */
	}
	buf_u8(out, 'S');
	buf_varint(out, f->size);
	if (f->size) {
		buf_u8(out, 'T');
		buf_u64(out, (uint64_t)f->mtime_ns);
	}
}

void state_of_facts(unsigned kinds, const struct facts *f, char *const *excluded, size_t n_excluded,
		    struct buf *out)
{
	const mode_t type = f->mode & S_IFMT;
	struct fp fp;

	if (!f->present) {
		buf_u8(out, 'a');
		return;
	}
	buf_u8(out, (uint8_t)state_type(f->mode));
	if (kinds & (OBS_ATTR | OBS_CONTENT | OBS_LIST) && type != S_IFLNK) {
		buf_u8(out, 'M');
		buf_varint(out, f->mode & 07777);
	}
	if (kinds & (OBS_ATTR | OBS_CONTENT | OBS_LIST | OBS_LINK))
		owner_put(f->mode, f->uid, f->gid, out);
	if (type == S_IFREG)
		encode_file(kinds, f, out);
	if (kinds & (OBS_ATTR | OBS_CONTENT) && (type == S_IFCHR || type == S_IFBLK)) {
		buf_u8(out, 'R');
		buf_varint(out, f->rdev);
	}
	if (kinds & OBS_LINK && type == S_IFLNK) {
		buf_u8(out, 'L');
		buf_str(out, f->target ? f->target : "");
	}
	if (kinds & OBS_LIST && type == S_IFDIR) {
		buf_u8(out, 'N');
		fp = list_fp(f->list, f->n_list, excluded, n_excluded);
		buf_add(out, fp.b, sizeof(fp.b));
	}
	if (kinds & OBS_XATTR && f->n_xattrs) {
		buf_u8(out, 'X');
		fp = fp_of(f->xattrs, f->n_xattrs);
		buf_add(out, fp.b, sizeof(fp.b));
	}
}

/* ---- facts from the file system ---- */

/* What state_of gathers; freed together. */
struct gathered {
	struct facts facts;
	char **list;
	char *target;
	struct buf xattrs;
};

static void gathered_free(struct gathered *g)
{
	strv_free(g->list, g->facts.n_list);
	free(g->target);
	buf_free(&g->xattrs);
}
#define auto_gathered __attribute__((cleanup(gathered_free)))

static int read_target(const char *path, uint64_t size, char **ret)
{
	size_t cap = size < 4096 ? (size_t)size + 1 : 4096; /* size is 0 under /proc */

	if (cap < 256)
		cap = 256;
	for (;; cap *= 2) {
		auto_free char *s = xmalloc(cap);
		ssize_t n = readlink(path, s, cap);

		if (n < 0)
			return errno == EINVAL || errno == ENOENT ? -ESTALE : -errno;
		if ((size_t)n < cap) {
			s[n] = '\0';
			*ret = take(s);
			return 0;
		}
	}
}

static int read_list(const struct idx *x, const char *path, struct gathered *g)
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	size_t n;
	int r;

	if (fd < 0)
		return -errno;
	r = list_dir(fd, &g->list, &n);
	if (r < 0)
		return r;
	lazy_list(idx_lazy_of(x), path, fd, g->list, n);
	g->facts.list = g->list;
	g->facts.n_list = n;
	return 0;
}

static int gather(struct idx *x, const char *path, unsigned kinds, const struct stat *st,
		  const struct fp *digest, struct gathered *g)
{
	struct facts *f = &g->facts;
	int r = 0;

	*f = (struct facts){
		.present = true,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.mtime_ns = timespec_ns(st->st_mtim),
		.rdev = st->st_rdev,
	};
	if (kinds & OBS_CONTENT && S_ISREG(st->st_mode)) {
		if (digest)
			f->digest = *digest;
		else
			r = idx_digest_file(x, path, st, &f->digest);
		if (r > 0)
			r = 0; /* of this moment, as all the rest */
	}
	if (r == 0 && kinds & OBS_LINK && S_ISLNK(st->st_mode)) {
		r = read_target(path, (uint64_t)st->st_size, &g->target);
		f->target = g->target;
	}
	if (r == 0 && kinds & OBS_LIST && S_ISDIR(st->st_mode))
		r = read_list(x, path, g);
	if (r == 0 && kinds & OBS_XATTR) {
		r = xattr_blob(path, -1, &g->xattrs);
		f->xattrs = g->xattrs.data;
		f->n_xattrs = g->xattrs.len;
	}
	return r;
}

int state_of(struct idx *x, const char *path, unsigned kinds, const struct stat *st, int st_err,
	     const struct fp *digest, char *const *excluded, size_t n_excluded, struct buf *out)
{
	auto_gathered struct gathered g = {0};
	int r;

	if (!st && st_err != ENOENT && st_err != ENOTDIR) {
		buf_u8(out, 'E');
		buf_varint(out, (uint64_t)(st_err < 0 ? -st_err : st_err));
		return 0;
	}
	r = st ? gather(x, path, kinds, st, digest, &g) : 0;
	if (r < 0)
		return r;
	state_of_facts(kinds, &g.facts, excluded, n_excluded, out);
	return 0;
}

/* ---- listings ---- */

void strv_free(char **v, size_t n)
{
	for (size_t i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

static char entry_type(int fd, const char *name, unsigned char type)
{
	struct stat st;

	if (type != DT_UNKNOWN)
		return state_type(DTTOIF(type));
	/* Some file systems do not say. One that is gone meanwhile gets a type that equals nothing
	 * recorded. */
	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? state_type(st.st_mode) : '?';
}

char *list_entry(int dirfd_, const char *name, unsigned char type)
{
	return xasprintf("%c%s", entry_type(dirfd_, name, type), name);
}

void list_sort(char **list, size_t n)
{
	if (n)
		qsort(list, n, sizeof(*list), by_name);
}

static int read_entries(DIR *d, char ***ret, size_t *ret_n)
{
	size_t n = 0, cap = 0;
	char **v = NULL;
	struct dirent *de;

	while (errno = 0, (de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 32;
			v = xrealloc(v, cap * sizeof(*v));
		}
		v[n++] = list_entry(dirfd(d), de->d_name, de->d_type);
	}
	if (errno) {
		int r = -errno;

		strv_free(v, n);
		return r;
	}
	list_sort(v, n);
	*ret = v;
	*ret_n = n;
	return 0;
}

int list_dir(int dirfd_, char ***ret, size_t *ret_n)
{
	/* A descriptor of its own, so that the caller's position stays. One that may be listed but
	 * not searched cannot be opened so: then the position is shared, and set back. */
	int fd = openat(dirfd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d;
	int r;

	if (fd < 0 && errno == EACCES)
		fd = fcntl(dirfd_, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		base_close(&fd);
		return r;
	}
	rewinddir(d);
	r = read_entries(d, ret, ret_n);
	(void)closedir(d); /* only read from */
	return r;
}
