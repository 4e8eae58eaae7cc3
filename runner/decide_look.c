/* SPDX-License-Identifier: MIT */
/* decide_look.c - what is there now: a path is looked at once a lookup, however many path sets and outputs name it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decide.h"

static size_t slot_of(struct node *const *slots, size_t cap, const char *path)
{
	size_t i = (size_t)xxh64_of(path, strlen(path)) & (cap - 1);

	while (slots[i] && strcmp(slots[i]->path, path) != 0)
		i = (i + 1) & (cap - 1);
	return i;
}

static void grow(struct look *l)
{
	size_t cap = l->cap ? l->cap * 2 : 1024;
	struct node **slots = xcalloc(cap, sizeof(*slots));

	for (size_t i = 0; i < l->cap; i++)
		if (l->slots[i])
			slots[slot_of(slots, cap, l->slots[i]->path)] = l->slots[i];
	free(l->slots);
	l->slots = slots;
	l->cap = cap;
}

/* The directory a path is in; NULL: the root. Paths come sorted, so that it mostly is that of the path before. */
static const struct node *dir_of(struct look *l, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	auto_free char *dir = NULL;

	if (!len)
		return NULL;
	if (l->dir && strncmp(l->dir->path, path, len) == 0 && l->dir->path[len] == '\0')
		return l->dir;
	dir = xstrndup(path, len);
	return l->dir = node_get(l, dir, true);
}

/*
 * What is not real yet is what it stands for, when it is this user's and its object is there. Any other is met as a step would
 * meet it.
 */
static int see_through(struct look *l, const char *path, struct stat *st, struct node *n)
{
	const struct lazy_trees *t = idx_lazy_of(l->x);
	struct lazy lazy;

	if (!lazy_stands(t, path, AT_FDCWD, path, st, &lazy))
		return 0;
	if (st->st_uid != geteuid() || !lazy_there(idx_dirfd(l->x), &lazy)) {
		(void)t->real(t->arg, path, NULL, NULL); /* a link, then: that differs */
		return lstat(path, st) < 0 ? errno : 0;
	}
	lazy_shown(&lazy, st);
	n->digest = lazy.fp;
	n->digested = true;
	l->passing = true; /* its object could go, and lstat would not tell */
	return 0;
}

static int look_at(struct look *l, const char *path, struct node *n)
{
	const struct node *dir = dir_of(l, path);
	struct stat st;
	int r;

	if (dir && dir->st_err)
		return node_absent(dir) ? ENOENT : dir->st_err;
	if (dir && !S_ISDIR(dir->st.st_mode))
		return ENOENT;
	if (lstat(path, &st) < 0)
		return errno;
	r = see_through(l, path, &st, n);
	n->st = stat_keep(&st);
	return r;
}

struct node *node_get(struct look *l, const char *path, bool copy)
{
	size_t i = l->cap ? slot_of(l->slots, l->cap, path) : 0;
	struct node *n;

	if (l->cap && l->slots[i])
		return l->slots[i];
	n = arena_alloc(&l->nodes, sizeof(*n));
	if (copy)
		n->own_path = xstrdup(path);
	n->path = copy ? n->own_path : path;
	n->st_err = look_at(l, path, n);
	if (l->n * 4 >= l->cap * 3)
		grow(l);
	i = slot_of(l->slots, l->cap, path); /* looking at the directory added to them */
	l->slots[i] = n;
	l->n++;
	return n;
}

void end_read(struct look *l)
{
	if (l->reading)
		idx_end_read(l->x);
	l->reading = false;
}

void look_free(struct look *l)
{
	end_read(l);
	for (size_t i = 0; i < l->cap; i++) {
		struct node *n = l->slots[i];

		if (!n)
			continue;
		while (n->views) {
			struct view *v = n->views;

			n->views = v->next;
			buf_free(&v->state);
		}
		free(n->own_path);
	}
	arena_free(&l->nodes);
	free(l->views);
	path_set_list_free(&l->sets);
	free(l->slots);
	free(l->reason);
}

bool node_absent(const struct node *n)
{
	return n->st_err == ENOENT || n->st_err == ENOTDIR;
}

/* The digest of a regular file, computed once. 0 or -errno. */
int node_digest(struct look *l, struct node *n)
{
	struct stat st;

	if (!n->digested) {
		st = stat_again(&n->st);
		n->digest_err = idx_digest_file(l->x, n->path, &st, &n->digest);
		if (n->digest_err > 0)
			l->passing = true; /* being written to: its times prove nothing */
		n->digested = true;
	}
	return n->digest_err < 0 ? n->digest_err : 0;
}

static bool same_view(const struct view *v, const struct path_entry *p)
{
	if (v->kinds != p->kinds || v->n_excluded != p->n_excluded)
		return false;
	for (size_t i = 0; i < p->n_excluded; i++)
		if (strcmp(v->excluded[i], p->excluded[i]) != 0)
			return false;
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The state of a directory whose listing counts, where something is ignored: the names of that are left out, too. */
static int state_without_ignored(struct look *l, const struct path_entry *p, const struct node *n,
				 struct buf *state)
{
	auto_close int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_free char **out = NULL;
	size_t n_list = 0, n_out = p->n_excluded;
	char **list = NULL;
	struct stat st = stat_again(&n->st);
	int r = fd < 0 ? -errno : list_dir(fd, &list, &n_list);

	if (r < 0)
		return r;
	out = xcalloc(n_list + n_out + 1, sizeof(*out));
	if (n_out)
		memcpy(out, p->excluded, n_out * sizeof(*out));
	for (size_t i = 0; i < n_list; i++)
		if (opts_ignored_in(l->o, p->path, list[i] + 1))
			out[n_out++] = list[i] + 1;
	qsort(out, n_out, sizeof(*out), by_text);
	r = state_of(l->x, p->path, p->kinds, &st, 0, NULL, out, n_out, state);
	strv_free(list, n_list);
	return r;
}

/* The present state of a path as one path set wants it. */
const struct view *view_get(struct look *l, const struct path_entry *p)
{
	struct node *n = node_get(l, p->path, false);
	const struct fp *digest = NULL;
	struct stat now, *st = NULL;
	struct view *v;

	for (v = n->views; v; v = v->next)
		if (same_view(v, p))
			return v;
	if (!n->st_err) {
		now = stat_again(&n->st);
		st = &now;
	}
	v = arena_alloc(&l->nodes, sizeof(*v));
	v->kinds = p->kinds;
	v->excluded = p->excluded;
	v->n_excluded = p->n_excluded;
	v->next = n->views;
	n->views = v;
	if (st && S_ISREG(st->st_mode) && (p->kinds & OBS_CONTENT)) {
		v->err = node_digest(l, n);
		digest = &n->digest;
	}
	if (v->err >= 0 && st && S_ISDIR(st->st_mode) && (p->kinds & OBS_LIST) && l->o->ignore.n)
		v->err = state_without_ignored(l, p, n, &v->state);
	else if (v->err >= 0)
		v->err = state_of(l->x, p->path, p->kinds, st, n->st_err, digest, p->excluded,
				  p->n_excluded, &v->state);
	buf_shrink(&v->state); /* there may be very many */
	return v;
}

bool node_is_type(const struct node *n, enum out_type type)
{
	if (n->st_err)
		return type == OUT_ABSENT && node_absent(n);
	switch (type) {
	case OUT_FILE:
		return S_ISREG(n->st.st_mode);
	case OUT_DIR:
		return S_ISDIR(n->st.st_mode);
	case OUT_LINK:
		return S_ISLNK(n->st.st_mode);
	case OUT_FIFO:
		return S_ISFIFO(n->st.st_mode);
	case OUT_ABSENT:
		break;
	}
	return false;
}

static int read_target(const struct node *n, char **ret)
{
	size_t cap = (size_t)(n->st.st_size > 0 ? n->st.st_size : 4096) + 1;
	auto_free char *target = xmalloc(cap);
	ssize_t k = readlink(n->path, target, cap);

	if (k < 0)
		return -errno;
	if ((size_t)k == cap)
		return -ESTALE; /* it grew since lstat */
	target[k] = '\0';
	*ret = take(target);
	return 0;
}

/*
 * What stands at a path now, in the words of a result. 1, or 0 when it is nothing a result can
 * describe (a socket or device), or -errno.
 */
int node_left(struct look *l, struct node *n, struct left *ret)
{
	static const enum out_type types[] = {OUT_ABSENT, OUT_FILE, OUT_DIR, OUT_LINK, OUT_FIFO};
	int r;

	*ret = (struct left){0};
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (!node_is_type(n, types[i]))
			continue;
		ret->type = types[i];
		if (types[i] == OUT_ABSENT)
			return 1;
		ret->mode = n->st.st_mode & 07777;
		if (types[i] == OUT_LINK)
			return (r = read_target(n, &ret->target)) < 0 ? r : 1;
		if (types[i] != OUT_FILE)
			return 1;
		ret->size = (uint64_t)n->st.st_size;
		if ((r = node_digest(l, n)) < 0)
			return r;
		ret->fp = n->digest;
		return 1;
	}
	return n->st_err ? -n->st_err : 0;
}

/* ---- sentences ---- */

const char *shown(const struct look *l, const char *path)
{
	return shown_path(l->s->cwd, path);
}

/* Keeps the first reason: path sets come with the most recently useful one first. Takes `text`. */
bool refuse(struct look *l, char *text)
{
	if (l->all)
		diffs_add(l->all, l->kind, l->about, text);
	else if (l->reason)
		free(text);
	else
		l->reason = text;
	return false;
}
