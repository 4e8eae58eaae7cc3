/* SPDX-License-Identifier: MIT */
/* realize.c - make all outputs below a directory real that are not yet; see realize.h. */
#include "realize.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "options.h"

#define MAX_RECORDS (1u << 17) /* of one cache: somebody may have made them up */
#define MAX_DEPTH   200	       /* of the tree: the same */

/* One of the records. */
struct unreal {
	struct oid oid;
	dev_t dev;
	ino_t ino;
	uid_t owner;
	int cache;
	char *path; /* from the root, when it was made */
	bool done;
};

struct adding {
	struct realize *r;
	int cache;
	uid_t owner;
	size_t n;
};

static int add(void *arg, const struct lazy_record *rec)
{
	struct adding *a = arg;
	struct realize *r = a->r;
	size_t n = strlen(r->src);

	if (++a->n > MAX_RECORDS)
		return 1;
	if (strncmp(rec->path, r->src, n) != 0 ||
	    strncmp(rec->path + n, RECORD_SEPARATOR, strlen(RECORD_SEPARATOR)) != 0)
		return 0;
	if (!(r->n & (r->n - 1)))
		r->v = xrealloc(r->v, (r->n ? r->n * 2 : 1) * sizeof(*r->v));
	r->v[r->n++] = (struct unreal){.oid = rec->oid,
				       .dev = rec->dev,
				       .ino = rec->ino,
				       .owner = a->owner,
				       .cache = a->cache,
				       .path = xstrdup(rec->path + n + strlen(RECORD_SEPARATOR))};
	return 0;
}

void realize_add(struct realize *r, int cache, uid_t owner)
{
	struct adding a = {.r = r, .cache = cache, .owner = owner};

	if (lazy_each(cache, add, &a) != 0)
		log_debug("the cache of user %u has too many records of placeholders",
			  (unsigned)owner);
}

void realize_free(struct realize *r)
{
	for (size_t k = 0; k < r->n; k++)
		free(r->v[k].path);
	free(take(r->v));
	r->n = 0;
}

/* ---- where it was put ---- */

/* The directory that path lies in, through no link. */
static int open_parent(int root, const char *path, const char **ret_name)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	const char *slash = strrchr(path, '/');
	auto_free char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	int fd = (int)syscall(SYS_openat2, root, dir, &how, sizeof(how));

	*ret_name = slash ? slash + 1 : path;
	return fd < 0 ? -errno : fd;
}

static bool is_it(const struct unreal *u, const struct lazy_link *k)
{
	return k->st.st_dev == u->dev && k->st.st_ino == u->ino && k->st.st_uid == u->owner &&
	       oid_eq(&k->l.oid, &u->oid);
}

uint64_t realize_size(const struct realize *r, size_t *ret_files)
{
	struct lazy_link k;
	const char *name;
	uint64_t bytes = 0;

	*ret_files = 0;
	for (size_t i = 0; i < r->n; i++) {
		auto_close int dir = open_parent(r->root, r->v[i].path, &name);

		if (dir < 0 || lazy_at(dir, name, &k) <= 0 || !is_it(&r->v[i], &k))
			continue;
		bytes += k.l.size;
		++*ret_files;
	}
	return bytes;
}

/* ---- one ---- */

static void realize_one(struct realize *r, struct unreal *u, int dir, const char *name,
			const struct lazy_link *k)
{
	struct err e = {0};
	int c = lazy_realize(dir, name, k, u->cache, NULL, &e);

	u->done = true;
	if (c == 0) {
		r->made++;
		r->bytes += k->l.size;
		return;
	}
	if (c == -ESTALE) { /* it went, or moved, at this moment */
		u->done = false;
		return;
	}
	log_warn("cannot make %s/%s real: %s", r->src, u->path, e.msg);
	r->failed++;
}

static void try_one(struct realize *r, struct unreal *u, int dir, const char *name)
{
	struct lazy_link k;

	if (lazy_at(dir, name, &k) > 0 && is_it(u, &k))
		realize_one(r, u, dir, name, &k);
}

/* ---- looking for what was moved ---- */

static int by_ino(const void *a, const void *b)
{
	const struct unreal *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void visit_link(struct realize *r, int dir, const struct dirent *de)
{
	const struct unreal key = {.ino = de->d_ino};
	struct unreal *u = bsearch(&key, r->v, r->n, sizeof(*r->v), by_ino);

	if (!u)
		return;
	while (u > r->v && u[-1].ino == de->d_ino)
		u--;
	for (; u < r->v + r->n && u->ino == de->d_ino; u++)
		if (!u->done)
			try_one(r, u, dir, de->d_name);
}

/* False: something of the tree was not seen. */
static bool walk(struct realize *r, int parent, const char *name, unsigned depth)
{
	int fd = depth > MAX_DEPTH
			 ? -1
			 : openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	struct stat st;
	bool whole = true;

	if (!d) {
		whole = depth <= MAX_DEPTH && errno == ENOENT;
		base_close(&fd);
		return whole;
	}
	while ((de = readdir(d))) {
		unsigned char type = de->d_type;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (type == DT_UNKNOWN && fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = IFTODT(st.st_mode);
		if (type == DT_LNK)
			visit_link(r, fd, de);
		else if (type == DT_DIR && !walk(r, fd, de->d_name, depth + 1))
			whole = false;
	}
	(void)closedir(d); /* only read from */
	return whole;
}

static size_t missing(const struct realize *r)
{
	size_t n = 0;

	for (size_t k = 0; k < r->n; k++)
		n += !r->v[k].done;
	return n;
}

void realize_all(struct realize *r)
{
	const char *name;

	for (size_t k = 0; k < r->n; k++) {
		auto_close int dir = open_parent(r->root, r->v[k].path, &name);

		if (dir >= 0)
			try_one(r, &r->v[k], dir, name);
	}
	if (!missing(r))
		return;
	qsort(r->v, r->n, sizeof(*r->v), by_ino);
	/* Twice: one may be moved past the first walk. */
	for (int k = 0; k < 2; k++)
		if (!walk(r, r->root, ".", 0) || !missing(r))
			return;
	for (size_t k = 0; k < r->n; k++)
		if (!r->v[k].done)
			lazy_unnote(r->v[k].cache, &r->v[k].oid, r->v[k].dev, r->v[k].ino);
}

/* ---- of whole caches ---- */

bool realize_users(const char *users, void (*fn)(void *arg, uid_t owner), void *arg)
{
	DIR *d = opendir(users);
	struct dirent *de;
	char *end;

	while (d && (de = readdir(d))) {
		unsigned long id = strtoul(de->d_name, &end, 10);

		if (de->d_name[0] >= '0' && de->d_name[0] <= '9' && !*end)
			fn(arg, (uid_t)id);
	}
	if (d)
		(void)closedir(d); /* only read from */
	return d != NULL;
}

static int add_source(void *arg, const struct lazy_record *r)
{
	struct strlist *l = arg;
	const char *end = strstr(r->path, RECORD_SEPARATOR);
	size_t n = end ? (size_t)(end - r->path) : 0;

	for (size_t k = 0; k < l->n; k++)
		if (strlen(l->v[k]) == n && strncmp(l->v[k], r->path, n) == 0)
			return 0;
	if (n)
		strlist_add(l, xstrndup(r->path, n));
	return 0;
}

static void realize_below(const char *src, int cache, uid_t owner, struct realized *ret)
{
	auto_close int root = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_realize struct realize r = {.root = root, .src = src};
	struct statfs sf;

	if (root < 0) {
		log_warn("cannot make outputs in %s real: %s", src, strerror(errno));
		ret->failed++;
		return;
	}
	if (fstatfs(root, &sf) == 0 && sf.f_type == FUSE_SUPER_MAGIC) {
		strlist_add(&ret->mounted, xstrdup(src)); /* it shows files, not links */
		return;
	}
	realize_add(&r, cache, owner);
	realize_all(&r);
	ret->made += r.made;
	ret->failed += r.failed;
	ret->bytes += r.bytes;
}

static bool is_among(const struct strlist *l, const char *s)
{
	for (size_t k = 0; k < l->n; k++)
		if (strcmp(l->v[k], s) == 0)
			return true;
	return false;
}

void realize_cache(int cache, uid_t owner, const struct strlist *but, struct realized *ret)
{
	struct strlist sources = {0};

	(void)lazy_each(cache, add_source, &sources); /* it goes on to the end */
	for (size_t k = 0; k < sources.n; k++)
		if (!but || !is_among(but, sources.v[k]))
			realize_below(sources.v[k], cache, owner, ret);
	strlist_free(&sources);
}
