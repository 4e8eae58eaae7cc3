/* SPDX-License-Identifier: MIT */
/*
 * replay_stage.c - directories of our own in which what goes to one place is made.
 *
 * A directory that is not there is made whole in a stage beside it, with all in it, and then renamed: one rename for all. For
 * many files that go to a directory which is there, a stage lies in it; they are renamed one by one. Either lies where the
 * file system, the group and the default ACL are those of the place.
 *
 * Trouble with a stage is no trouble: what would have been made in it is made under names of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay.h"

#define MANY 4 /* a stage costs about as many calls as three names of their own */

/* ---- making them ---- */

static size_t dir_len(const char *path)
{
	return (size_t)(strrchr(path, '/') - path);
}

static int open_stage(int dirfd_, const char *path)
{
	return openat(dirfd_, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The umask, or a default ACL, may have taken what filling it needs. */
static int ensure_usable(struct stage *s, int fd)
{
	char proc[40];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	s->masked = (st.st_mode & 0700) != 0700;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd); /* fchmod refuses O_PATH */
	return s->masked ? chmod(proc, 0700) : 0;
}

/* A stage in the directory dir. NULL: there can be none. */
static struct stage *stage_in(struct replay *p, const char *dir)
{
	auto_free struct stage *s = xcalloc(1, sizeof(*s));
	auto_close int in = -1, fd = -1;
	const char *name;

	if (!*dir)
		dir = "/";
	replay_make_room(p, dir);
	in = open_stage(AT_FDCWD, dir);
	if (in < 0)
		return NULL;
	s->path = replay_new_name(p, dir, NULL);
	name = strrchr(s->path, '/') + 1;
	if (mkdirat(in, name, 0700) < 0) {
		free(s->path);
		return NULL;
	}
	replay_note(p, &(struct undo){UNDO_STAGE, xstrdup(s->path), .stage = s});
	s->next = p->stages;
	p->stages = s;
	fd = open_stage(in, name);
	if (fd < 0 || ensure_usable(s, fd) < 0) {
		log_debug("cannot use %s: %s", s->path, strerror(errno));
		(void)take(s); /* it is removed in the end */
		return NULL;
	}
	replay_way_end(&p->way);
	p->way = (struct way){s, take_fd(&fd)};
	return take(s);
}

/* The directory of output i is not there, nor anything else: one for all that will be in it. */
static void stage_tree(struct replay *p, size_t i)
{
	const char *path = p->r->outputs[i].path;
	auto_free char *in = xstrndup(path, dir_len(path));
	struct stage *s = stage_in(p, in);

	if (!s)
		return;
	s->tree = true;
	s->dir_len = strlen(path);
	s->first = s->last = i;
	p->items[i].stage = s;
}

static int make_dir_in(struct replay *p, struct stage *s, size_t i)
{
	const struct output *out = &p->r->outputs[i];
	auto_free char *tmp = replay_stage_name(s, out->path);
	const char *name;
	int fd = replay_way(&p->way, s, out->path, tmp, &name);

	if (mkdirat(fd, name, 0700) < 0 || (s->masked && fchmodat(fd, name, 0700, 0) < 0))
		return replay_failed(p, out, errno);
	return 1;
}

/* The stage of the directory that output i goes to, when that is made whole in one. *last: the output asked for last. */
static struct stage *tree_above(const struct replay *p, size_t i, const struct output **last)
{
	const char *path = p->r->outputs[i].path;
	size_t n = dir_len(path);

	if (!*last || strncmp((*last)->path, path, n) != 0 || (*last)->path[n]) {
		auto_free char *dir = xstrndup(path, n);

		*last = result_output(p->r, dir);
	}
	return *last ? p->items[*last - p->r->outputs].stage : NULL;
}

/* Parents come before what is in them. What goes elsewhere is gathered in rest. */
static int stage_trees(struct replay *p, const struct output **rest, size_t *n_rest)
{
	const struct output *above = NULL;

	for (size_t i = 0; i < p->r->n_outputs; i++) {
		const struct output *out = &p->r->outputs[i];
		struct stage *s;
		int r = 1;

		if (p->places[i].action != PLACE_WRITE)
			continue;
		s = tree_above(p, i, &above);
		if (s) {
			p->items[i].stage = s;
			s->last = i;
			r = out->now.type == OUT_DIR ? make_dir_in(p, s, i) : 1;
		} else if (out->now.type != OUT_DIR) {
			rest[(*n_rest)++] = out;
		} else if (p->places[i].gone) {
			stage_tree(p, i);
		}
		if (r < 0)
			return r;
	}
	return 1;
}

static int by_dir(const void *a, const void *b)
{
	const char *x = (*(const struct output *const *)a)->path;
	const char *y = (*(const struct output *const *)b)->path;
	size_t n = dir_len(x), k = dir_len(y);
	int order = memcmp(x, y, n < k ? n : k);

	return order ? order : n != k ? (n < k ? -1 : 1) : strcmp(x + n, y + n);
}

static bool same_dir(const struct output *a, const struct output *b)
{
	size_t n = dir_len(a->path);

	return n == dir_len(b->path) && memcmp(a->path, b->path, n) == 0;
}

/* What is made in a directory that is there. */
static void stage_files(struct replay *p, const struct output **v, size_t n)
{
	qsort(v, n, sizeof(*v), by_dir);
	for (size_t i = 0, end; i < n; i = end) {
		auto_free char *dir = xstrndup(v[i]->path, dir_len(v[i]->path));
		const struct output *out = result_output(p->r, dir);
		struct stage *s;

		for (end = i + 1; end < n && same_dir(v[i], v[end]);)
			end++;
		/* Not in one that is about to go. */
		if (end - i < MANY || (out && out->now.type != OUT_DIR))
			continue;
		s = stage_in(p, dir);
		if (!s)
			continue;
		s->dir_len = strlen(dir);
		s->first = (size_t)(v[i] - p->r->outputs);
		s->last = (size_t)(v[end - 1] - p->r->outputs);
		for (; i < end; i++)
			p->items[v[i] - p->r->outputs].stage = s;
	}
}

int replay_stages(struct replay *p)
{
	auto_free const struct output **rest = xmalloc((p->r->n_outputs + 1) * sizeof(*rest));
	size_t n_rest = 0;
	int r = stage_trees(p, rest, &n_rest);

	if (r > 0)
		stage_files(p, rest, n_rest);
	return r;
}

void replay_stages_free(struct replay *p)
{
	while (p->stages) {
		struct stage *s = p->stages;

		p->stages = s->next;
		free(s->path);
		free(s);
	}
}

/* ---- working in them ---- */

int replay_way(struct way *w, const struct stage *s, const char *path, const char *tmp,
	       const char **ret_name)
{
	if (s && w->stage != s) {
		replay_way_end(w);
		w->fd = open_stage(AT_FDCWD, s->path);
		w->stage = w->fd < 0 ? NULL : s;
	}
	if (!s || w->stage != s) {
		*ret_name = tmp;
		return AT_FDCWD;
	}
	*ret_name = path + s->dir_len + 1;
	return w->fd;
}

void replay_way_end(struct way *w)
{
	base_close(&w->fd);
	w->stage = NULL;
}

char *replay_stage_name(const struct stage *s, const char *path)
{
	size_t n = strlen(s->path), k = strlen(path + s->dir_len);
	char *name = xmalloc(n + k + 1);

	memcpy(name, s->path, n);
	memcpy(name + n, path + s->dir_len, k + 1);
	return name;
}

bool replay_stage_place(struct replay *p, struct stage *s)
{
	const struct output *out = &p->r->outputs[s->first];

	/* Somebody may have made one meanwhile, or the file system may not know how. */
	if (renameat2(AT_FDCWD, s->path, AT_FDCWD, out->path, RENAME_NOREPLACE) < 0)
		return false;
	s->placed = true;
	replay_note(p, &(struct undo){UNDO_TREE, xstrdup(out->path), .stage = s});
	return true;
}

/* ---- the way back ---- */

static bool is_in(const struct replay *p, const struct stage *s, size_t i)
{
	return p->items[i].stage == s;
}

int replay_stage_remove(const struct replay *p, const struct stage *s)
{
	if (s->placed)
		return 0;
	for (size_t i = s->last + 1; s->tree && i-- > s->first + 1;) {
		auto_free char *name = NULL;

		if (!is_in(p, s, i) || p->r->outputs[i].now.type != OUT_DIR)
			continue;
		name = replay_stage_name(s, p->r->outputs[i].path);
		if (rmdir(name) < 0 && errno != ENOENT)
			return -1;
	}
	return rmdir(s->path);
}

int replay_tree_remove(const struct replay *p, const struct stage *s)
{
	int r = 0;

	for (size_t i = s->last + 1; i-- > s->first;) {
		const struct output *out = &p->r->outputs[i];

		if (is_in(p, s, i) &&
		    (out->now.type == OUT_DIR ? rmdir(out->path) : unlink(out->path)) < 0)
			r = -1;
	}
	return r;
}
