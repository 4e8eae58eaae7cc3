/* SPDX-License-Identifier: MIT */
/* trace.c - what the step observed and changed, a record a path. Knows nothing of FUSE. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "trace.h"

/* Files that were only looked at are digested too up to this size, so that touching them is no miss. */
#define STAT_ONLY_MAX	(16u << 20)
/* A file that may have been read, in a tree that is not traced, is digested up to this size. */
#define NATIVE_READ_MAX ((off_t)1 << 30)
/* What is replaced unread is digested up to this size, so that it is known again ("what was there"). */
#define REPLACED_MAX	(64u << 20)

struct trace {
	struct idx *idx; /* borrowed, or NULL */
	struct digester *digester;
	struct guard *guard;
	struct trace_path **table;
	size_t n, mask;
	struct arena paths; /* what `table` is of */
	char *const *ignore;
	size_t n_ignore;
	char *const *untraced;
	size_t n_untraced;
	bool strict;
	char *spoiled;
};

struct trace *trace_new(const struct fs_options *o, struct err *e)
{
	struct trace *t = xcalloc(1, sizeof(*t));

	t->mask = 4095;
	t->table = xcalloc(t->mask + 1, sizeof(*t->table));
	t->ignore = o->ignore;
	t->n_ignore = o->n_ignore;
	t->untraced = o->untraced;
	t->n_untraced = o->n_untraced;
	t->strict = o->strict;
	t->idx = o->idx;
	t->guard = guard_new();
	t->digester = digester_new(o->idx);
	if (!t->digester) {
		err_set(e, errno, "cannot start the hashing thread");
		trace_free(t);
		return NULL;
	}
	return t;
}

static void path_done(struct trace_path *p)
{
	free(p->target);
	free(p->xattrs);
	free(p->latest);
	free(p->list);
}

void trace_free(struct trace *t)
{
	if (!t)
		return;
	digester_free(t->digester);
	for (size_t i = 0; i <= t->mask; i++)
		for (struct trace_path *p = t->table[i]; p; p = p->next)
			path_done(p);
	arena_free(&t->paths);
	guard_free(t->guard);
	free(t->table);
	free(t->spoiled);
	free(t);
}

void trace_spoil(struct trace *t, const char *fmt, ...)
{
	va_list ap;

	if (t->spoiled)
		return;
	va_start(ap, fmt);
	if (vasprintf(&t->spoiled, fmt, ap) < 0)
		t->spoiled = xstrdup("an observation could not be recorded");
	va_end(ap);
}

const char *trace_spoiled(const struct trace *t)
{
	return t->spoiled;
}

static bool below(const char *path, size_t len, const char *dir)
{
	size_t n = strlen(dir);

	return len >= n && memcmp(path, dir, n) == 0 && (path[n] == '/' || len == n);
}

static bool not_traced(const struct trace *t, const char *path, size_t len)
{
	for (size_t i = 0; i < t->n_untraced; i++)
		if (below(path, len, t->untraced[i]))
			return true;
	for (size_t i = 0; i < t->n_ignore; i++)
		if (fnmatch(t->ignore[i], path, 0) == 0)
			return true;
	return false;
}

static void grow(struct trace *t)
{
	size_t mask = t->mask * 2 + 1;
	struct trace_path **table = xcalloc(mask + 1, sizeof(*table));

	for (size_t i = 0; i <= t->mask; i++)
		for (struct trace_path *p = t->table[i], *next; p; p = next) {
			next = p->next;
			p->next = table[p->hash & mask];
			table[p->hash & mask] = p;
		}
	free(t->table);
	t->table = table;
	t->mask = mask;
}

static struct trace_path *find(const struct trace *t, const char *path, size_t len, uint32_t hash)
{
	struct trace_path *p;

	for (p = t->table[hash & t->mask]; p; p = p->next)
		if (p->hash == hash && memcmp(p->path, path, len + 1) == 0)
			return p;
	return NULL;
}

static struct trace_path *add(struct trace *t, const char *path, size_t len, uint32_t hash)
{
	struct trace_path *p;

	if (t->n > t->mask)
		grow(t);
	p = arena_alloc(&t->paths, sizeof(*p) + len + 1);
	memcpy(p + 1, path, len + 1);
	p->path = (const char *)(p + 1);
	p->hash = hash;
	p->err = -1; /* not looked at yet */
	p->next = t->table[hash & t->mask];
	t->table[hash & t->mask] = p;
	t->n++;
	return p;
}

struct trace_path *trace_get(struct trace *t, const char *path, size_t len)
{
	uint32_t hash = (uint32_t)XXH3_64bits(path, len);
	struct trace_path *p = find(t, path, len, hash);

	if (p)
		return p;
	return not_traced(t, path, len) ? NULL : add(t, path, len, hash);
}

/* Seen before and not changed by the step: any difference is somebody else's doing. */
static void changed_by_others(struct trace *t, const struct trace_path *p, const struct stat *st,
			      int err)
{
	if (!trace_same(p, st, err))
		trace_spoil(t, "%s was changed by another process while the step ran", p->path);
}

void trace_looked(struct trace *t, struct trace_path *p, const struct stat *st, int err, int64_t at)
{
	if (!p)
		return;
	if (p->changed) {
		trace_latest_check(t, p, st, err);
		return;
	}
	if (p->err == -1) {
		p->seen_ns = at;
		p->err = err;
		if (!err)
			p->st = stat_keep(st);
		p->obs |= err == ENOENT || err == ENOTDIR ? OBS_ABSENT : OBS_ATTR;
		if (err == ENOTDIR)
			p->err = ENOENT;
		if (!err && S_ISREG(st->st_mode) && st->st_size > 0 && st->st_size <= STAT_ONLY_MAX)
			digester_add(t->digester, p, false);
		return;
	}
	changed_by_others(t, p, st, err);
}

void trace_native(struct trace *t, const char *path, const struct stat *st, int64_t at)
{
	size_t len = strlen(path);
	uint32_t hash = (uint32_t)XXH3_64bits(path, len);

	if (find(t, path, len, hash))
		return;
	trace_looked(t, add(t, path, len, hash), st, 0, at);
	/* More than that is told by its size and time. */
	if (S_ISREG(st->st_mode) && st->st_size <= NATIVE_READ_MAX)
		find(t, path, len, hash)->obs |= OBS_CONTENT;
}

void trace_shown(struct trace *t, const struct trace_path *p, const struct stat *st)
{
	if (p && !p->changed && p->err != -1)
		changed_by_others(t, p, st, 0);
}

bool trace_same(const struct trace_path *p, const struct stat *now, int now_err)
{
	if (now_err == ENOTDIR)
		now_err = ENOENT;
	/* A name that cannot be: nobody makes it be, whatever becomes of its directory. */
	if (p->err == ENAMETOOLONG)
		return now_err != 0;
	if (p->err || now_err)
		return p->err == now_err;
	if (p->st.st_mode != now->st_mode)
		return false;
	if (S_ISDIR(now->st_mode))
		return true;
	if (p->st.st_dev != now->st_dev || p->st.st_ino != now->st_ino ||
	    p->st.st_size != now->st_size || p->st.st_mtim.tv_sec != now->st_mtim.tv_sec ||
	    p->st.st_mtim.tv_nsec != now->st_mtim.tv_nsec)
		return false;
	return p->relinked || (p->st.st_ctim.tv_sec == now->st_ctim.tv_sec &&
			       p->st.st_ctim.tv_nsec == now->st_ctim.tv_nsec);
}

/* Its times will not show whether it changes from now on: so it is watched. */
static void guard(struct trace *t, struct trace_path *p)
{
	struct stat st = stat_again(&p->st);
	int r;

	if (p->err || !S_ISREG(st.st_mode) || idx_times_settled(t->idx, &st, p->seen_ns))
		return;
	r = guard_add(t->guard, p);
	if (r == -ESTALE || r == -ENOENT)
		trace_spoil(t, "%s was changed by another process while the step ran", p->path);
	else if (r < 0)
		trace_spoil(t,
			    "%s had just been changed when it was read, and cannot be watched: %s",
			    p->path, strerror(-r));
}

void trace_read(struct trace *t, struct trace_path *p)
{
	if (!p || p->replaced || (p->obs & OBS_CONTENT))
		return;
	p->obs |= OBS_CONTENT;
	if (!p->changed)
		guard(t, p);
	if (!p->changed && p->hash_state != HASH_DONE)
		digester_add(t->digester, p, true);
	/* Changed in part already: the digest was taken before that; see trace_change. */
	if (p->changed && p->hash_state != HASH_DONE)
		p->unhashable = true;
}

void trace_written(struct trace *t, const struct trace_path *p)
{
	if (p && !p->changed)
		trace_spoil(t, "%s was read while another process had it open for writing",
			    p->path);
}

void trace_readlink(struct trace *t, struct trace_path *p, const char *target)
{
	if (!p || p->changed)
		return;
	p->obs |= OBS_LINK;
	if (!p->target)
		p->target = xstrdup(target);
	else if (strcmp(p->target, target) != 0)
		trace_spoil(t, "%s was changed by another process while the step ran", p->path);
}

/* The earlier ones, as long as they are there. */
static void keep_xattrs(struct trace *t, struct trace_path *p)
{
	auto_buf struct buf b = {0};

	if (p->xattrs_kept)
		return;
	p->xattrs_kept = true;
	if (xattr_blob(p->path, -1, &b) < 0) {
		trace_spoil(t, "the extended attributes of %s cannot be read", p->path);
		return;
	}
	p->n_xattrs = b.len;
	p->xattrs = take(b.data);
}

static void same_xattrs(struct trace *t, const struct trace_path *p)
{
	auto_buf struct buf b = {0};

	if (xattr_blob(p->path, -1, &b) < 0 || b.len != p->n_xattrs ||
	    (b.len && memcmp(b.data, p->xattrs, b.len) != 0))
		trace_spoil(t, "%s was changed by another process while the step ran", p->path);
}

/* Nothing was here, or what was is no more: what is asked of it is the step's own. */
static bool xattrs_are_own(const struct trace_path *p)
{
	return p->renewed || (p->changed && p->err) || (!p->err && S_ISLNK(p->st.st_mode));
}

void trace_xattr(struct trace *t, struct trace_path *p)
{
	if (!p)
		return;
	/* It can have none, but that it is a link is learned. */
	if (!p->err && !p->changed && S_ISLNK(p->st.st_mode))
		p->obs |= OBS_LINK;
	if (xattrs_are_own(p))
		return;
	/* Of all but directories the ctime tells. */
	if ((p->obs & OBS_XATTR) && !p->changed && S_ISDIR(p->st.st_mode))
		same_xattrs(t, p);
	p->obs |= OBS_XATTR;
	keep_xattrs(t, p);
}

void trace_xattr_set(struct trace *t, struct trace_path *p, bool asks)
{
	if (!p)
		return;
	if (asks || !p->replaced)
		trace_xattr(t, p);
	else if (!xattrs_are_own(p))
		keep_xattrs(t, p);
	p->xattr_set = true;
}

/* ---- listings ---- */

/* By the step; or by whomever, where that is not looked at. */
static bool may_differ(const struct trace *t, const char *dir, const char *name)
{
	auto_free char *path = xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", name);
	size_t len = strlen(path);
	const struct trace_path *p = find(t, path, len, (uint32_t)XXH3_64bits(path, len));

	return p ? p->changed : not_traced(t, path, len);
}

const char *trace_listing_differs(const struct trace *t, const struct trace_path *p,
				  char *const *list, size_t n)
{
	for (size_t i = 0, j = 0; i < n || j < p->n_list;) {
		int c = i == n ? 1 : j == p->n_list ? -1 : strcmp(list[i] + 1, p->list[j] + 1);
		const char *name = (c <= 0 ? list[i] : p->list[j]) + 1;

		if ((c != 0 || list[i][0] != p->list[j][0]) && !may_differ(t, p->path, name))
			return name;
		i += c <= 0;
		j += c >= 0;
	}
	return NULL;
}

/* The names, in one piece of memory with the array: there may be very many. Takes list. */
static char **packed(char **list, size_t n)
{
	size_t size = (n + 1) * sizeof(*list);
	char **ret, *at;

	for (size_t i = 0; i < n; i++)
		size += strlen(list[i]) + 1;
	ret = xrealloc(NULL, size);
	at = (char *)(ret + n + 1);
	for (size_t i = 0; i < n; i++) {
		ret[i] = at;
		at = stpcpy(at, list[i]) + 1;
	}
	ret[n] = NULL;
	strv_free(list, n);
	return ret;
}

void trace_listed(struct trace *t, struct trace_path *p, char **list, size_t n)
{
	const char *name;

	if (p && p->replaced)
		p->own_listed = true;
	if (p && !p->replaced && !(p->obs & OBS_LIST)) {
		p->obs |= OBS_LIST;
		p->list = packed(list, n);
		p->n_list = n;
		return;
	}
	name = p && !p->replaced ? trace_listing_differs(t, p, list, n) : NULL;
	if (name)
		trace_spoil(t, "%s/%s came, went or changed by another process while the step ran",
			    strcmp(p->path, "/") ? p->path : "", name);
	strv_free(list, n);
}

void trace_list(struct trace *t, struct trace_path *p, int dirfd_)
{
	char **list;
	size_t n;
	int r;

	if (p && p->replaced)
		p->own_listed = true;
	if (!p || p->replaced)
		return;
	r = list_dir(dirfd_, &list, &n);
	if (r < 0) {
		p->obs |= OBS_LIST;
		trace_spoil(t, "the listing of %s cannot be kept: %s", p->path, strerror(-r));
		return;
	}
	lazy_list(idx_lazy_of(t->idx), p->path, dirfd_, list, n);
	trace_listed(t, p, list, n);
}

static void keep_target(struct trace *t, struct trace_path *p)
{
	char target[PATH_MAX];
	ssize_t n;

	if (p->target)
		return;
	n = readlink(p->path, target, sizeof(target) - 1);
	if (n < 0) {
		trace_spoil(t, "the link %s cannot be read: %s", p->path, strerror(errno));
		return;
	}
	p->target = xstrndup(target, (size_t)n);
}

/* Digest a regular file that is about to change, when its earlier content will be wanted. */
static void keep_digest(struct trace *t, struct trace_path *p, enum change c)
{
	bool wanted = t->strict || c == CHANGE_PART || c == CHANGE_MOVE || (p->obs & OBS_CONTENT);

	if (wanted || p->st.st_size <= REPLACED_MAX)
		digester_finish(t->digester, p);
	if (p->hash_state != HASH_DONE)
		p->unhashable = true;
}

/* The facts that a first change is about to destroy. */
static void keep_earlier(struct trace *t, struct trace_path *p, enum change c)
{
	struct stat st;

	if (p->err == -1) {
		p->seen_ns = now_ns();
		if (lstat(p->path, &st) == 0) {
			p->st = stat_keep(&st);
			p->err = 0;
		} else {
			p->err = errno == ENOTDIR ? ENOENT : errno;
		}
	}
	if (p->err)
		return;
	if (S_ISLNK(p->st.st_mode))
		keep_target(t, p);
	else if (S_ISREG(p->st.st_mode))
		keep_digest(t, p, c);
}

/* What was there is no more, as far as this path goes. (What is moved away may come back.) */
static bool is_replacing(enum change c)
{
	return c == CHANGE_CREATE || c == CHANGE_REPLACE || c == CHANGE_REMOVE;
}

void trace_change(struct trace *t, struct trace_path *p, enum change c)
{
	if (!p)
		return;
	if (c == CHANGE_LINK && !p->changed)
		trace_read(t, p);
	guard_drop(t, t->guard, p);
	if (c == CHANGE_LINK) {
		/* Before the ctime moves: whoever is digesting it goes by that. */
		if (!p->changed && p->hash_state != HASH_NONE)
			digester_finish(t->digester, p);
		p->relinked = true;
		return;
	}
	if (c == CHANGE_MOVE)
		trace_xattr(t, p); /* they go along */
	if (c == CHANGE_MOVE || is_replacing(c))
		p->spilled |= !p->renewed && (p->changed || c == CHANGE_MOVE);
	if (is_replacing(c)) {
		p->renewed = true;
		p->unseen = false;
	}
	if (c == CHANGE_PART || c == CHANGE_TRUNC)
		p->written = true;
	if (!p->changed) {
		keep_earlier(t, p, c);
		p->changed = true;
	}
	if (c == CHANGE_CREATE || c == CHANGE_REMOVE)
		p->mtime_set = p->xattr_set = false;
	if (p->replaced)
		return;
	if (c == CHANGE_PART || c == CHANGE_MOVE) {
		p->partial = true;
		if (!p->err && S_ISREG(p->st.st_mode)) {
			p->obs |= OBS_CONTENT;
			if (p->hash_state != HASH_DONE && p->st.st_size)
				p->unhashable = true;
		}
	}
	if (c != CHANGE_PART)
		p->replaced = true;
}

void trace_same_file(struct trace_path *p, const struct trace_path *q)
{
	if (!p || p->changed || p->err != -1)
		return;
	p->st = q->st;
	p->seen_ns = q->seen_ns;
	p->err = q->err;
	p->obs = q->obs;
	p->changed = true;
	p->replaced = q->replaced;
	p->partial = q->partial;
	p->written = q->written;
	p->unhashable = q->unhashable;
	p->mtime_set = q->mtime_set;
	p->xattr_set = q->xattr_set;
	p->hash_state = q->hash_state; /* settled when q was changed */
	p->fp = q->fp;
	p->xattrs_kept = q->xattrs_kept;
	if (q->n_xattrs) {
		p->xattrs = xmalloc(q->n_xattrs);
		memcpy(p->xattrs, q->xattrs, q->n_xattrs);
		p->n_xattrs = q->n_xattrs;
	}
}

void trace_kept(struct trace_path *p)
{
	if (!p || !p->changed || p->err)
		return;
	p->partial = true;
	if (!S_ISREG(p->st.st_mode))
		return;
	p->obs |= OBS_CONTENT;
	if (p->hash_state != HASH_DONE && p->st.st_size)
		p->unhashable = true;
}

void trace_stayed(struct trace_path *p, const struct trace_path *was)
{
	if (!p)
		return;
	if (!was->replaced)
		trace_kept(p);
	p->replaced = was->replaced;
	p->renewed = was->renewed;
	p->unseen = was->unseen;
	p->mtime_set = was->mtime_set;
	p->xattr_set = was->xattr_set;
}

void trace_not_made(struct trace_path *p, const struct trace_path *was)
{
	if (!p || was->changed) {
		trace_stayed(p, was);
		return;
	}
	/* Not by the step: that nothing is there is an input. */
	if (p->err == ENOENT) {
		p->obs |= OBS_ABSENT;
		p->changed = p->replaced = p->renewed = p->spilled = false;
		return;
	}
	trace_stayed(p, was);
}

void trace_latest(struct trace_path *p, const struct stat *st, int err)
{
	if (!p->latest)
		p->latest = xmalloc(sizeof(*p->latest));
	*p->latest = err ? (struct stat_kept){0} : stat_keep(st);
}

void trace_latest_unknown(struct trace_path *p)
{
	if (p)
		free(take(p->latest));
}

bool trace_as_left(const struct trace_path *p, const struct stat *now, int now_err)
{
	const struct stat_kept *l = p->latest;

	if (now_err == ENOTDIR)
		now_err = ENOENT;
	if (!l || (now_err && now_err != ENOENT))
		return true;
	if (!l->st_mode || now_err)
		return !l->st_mode == (now_err != 0);
	if ((l->st_mode & S_IFMT) != (now->st_mode & S_IFMT) || l->st_dev != now->st_dev ||
	    l->st_ino != now->st_ino)
		return false;
	/* A directory's own times tell of the names in it. */
	return S_ISDIR(l->st_mode) ||
	       (l->st_size == now->st_size && l->st_mtim.tv_sec == now->st_mtim.tv_sec &&
		l->st_mtim.tv_nsec == now->st_mtim.tv_nsec);
}

void trace_latest_check(struct trace *t, const struct trace_path *p, const struct stat *now,
			int err)
{
	if (!trace_as_left(p, now, err))
		trace_spoil(t, "%s was changed by another process while the step ran", p->path);
}

void trace_mtime_set(struct trace_path *p, bool set)
{
	if (p)
		p->mtime_set = set;
}

static int by_path(const void *a, const void *b)
{
	return strcmp((*(struct trace_path *const *)a)->path,
		      (*(struct trace_path *const *)b)->path);
}

struct trace_path **trace_sorted(struct trace *t, size_t *ret_n)
{
	struct trace_path **v = xcalloc(t->n + 1, sizeof(*v));
	size_t n = 0;

	for (size_t i = 0; i <= t->mask; i++)
		for (struct trace_path *p = t->table[i]; p; p = p->next)
			v[n++] = p;
	qsort(v, n, sizeof(*v), by_path);
	*ret_n = n;
	return v;
}

void trace_settle(struct trace *t)
{
	digester_drain(t->digester);
	guard_look(t, t->guard);
}

int trace_digest(struct trace *t, struct trace_path *p, struct fp *ret)
{
	digester_finish(t->digester, p);
	if (p->hash_state != HASH_DONE)
		return -ESTALE;
	*ret = p->fp;
	return 0;
}
