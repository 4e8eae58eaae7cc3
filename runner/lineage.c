/* SPDX-License-Identifier: MIT */
/*
 * lineage.c - from a file back through the steps that made it. A file is a content at a path; who made it is asked by content, so
 * that one that was copied or renamed is known. Every result is followed once: so there are no cycles, however often steps
 * rewrite what they read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lineage.h"
#include "tell.h"

struct builder {
	struct idx *x;
	struct io *io;
	bool all;
	struct lineage *l;
	size_t *slots; /* of files, by path and content: index + 1; open addressing */
	size_t cap;
	struct step nowhere; /* for look */
	struct exec_opts none;
	struct look look;
	struct err *e;
};

static void add_index(size_t **v, size_t *n, size_t i)
{
	*v = xrealloc(*v, (*n + 1) * sizeof(**v));
	(*v)[(*n)++] = i;
}

/* ---- files ---- */

static uint64_t hash_of(const char *path, const struct fp *content)
{
	uint64_t h;

	memcpy(&h, content, sizeof(h));
	return xxh64_of(path, strlen(path)) ^ h;
}

static size_t slot_of(const struct builder *b, const char *path, const struct fp *content)
{
	size_t i = (size_t)hash_of(path, content) & (b->cap - 1);

	while (b->slots[i]) {
		const struct lin_file *f = &b->l->files[b->slots[i] - 1];

		if (fp_eq(&f->content, content) && strcmp(f->path, path) == 0)
			break;
		i = (i + 1) & (b->cap - 1);
	}
	return i;
}

static void grow(struct builder *b)
{
	free(b->slots);
	b->cap = b->cap ? 2 * b->cap : 256;
	b->slots = xcalloc(b->cap, sizeof(*b->slots));
	for (size_t i = 0; i < b->l->n_files; i++)
		b->slots[slot_of(b, b->l->files[i].path, &b->l->files[i].content)] = i + 1;
}

/* *ret_new: it was not known yet. */
static size_t file_get(struct builder *b, const char *path, const struct fp *content, uint64_t size,
		       bool *ret_new)
{
	struct lineage *l = b->l;
	size_t slot;

	if (2 * (l->n_files + 1) > b->cap)
		grow(b);
	slot = slot_of(b, path, content);
	*ret_new = !b->slots[slot];
	if (b->slots[slot])
		return b->slots[slot] - 1;
	l->files = xrealloc(l->files, (l->n_files + 1) * sizeof(*l->files));
	l->files[l->n_files] = (struct lin_file){.path = xstrdup(path),
						 .content = *content,
						 .size = size,
						 .origin = LIN_SOURCE,
						 .maker = LIN_NONE,
						 .copy_of = LIN_NONE};
	b->slots[slot] = ++l->n_files;
	return l->n_files - 1;
}

static enum lin_now now_of(struct builder *b, const struct lin_file *f)
{
	struct node *n = node_get(&b->look, f->path, true);

	if (node_absent(n))
		return LIN_GONE;
	if (n->st_err)
		return LIN_UNREADABLE;
	if (!S_ISREG(n->st.st_mode) || (uint64_t)n->st.st_size != f->size)
		return LIN_CHANGED;
	if (node_digest(&b->look, n) < 0)
		return LIN_UNREADABLE;
	return fp_eq(&n->digest, &f->content) ? LIN_SAME : LIN_CHANGED;
}

/* ---- steps ---- */

static size_t step_find(const struct lineage *l, const struct fp *key)
{
	for (size_t i = 0; i < l->n_steps; i++)
		if (fp_eq(&l->steps[i].key, key))
			return i;
	return LIN_NONE;
}

static size_t step_get(struct lineage *l, const struct result *r)
{
	size_t i = step_find(l, &r->input_key);
	struct lin_step *s;

	if (i != LIN_NONE)
		return i;
	l->steps = xrealloc(l->steps, (l->n_steps + 1) * sizeof(*l->steps));
	s = &l->steps[l->n_steps];
	*s = (struct lin_step){.key = r->input_key,
			       .name = xstrdup(r->name ? r->name : ""),
			       .cwd = xstrdup(r->cwd ? r->cwd : ""),
			       .argv = xcalloc(r->n_argv + 1, sizeof(*s->argv)),
			       .n_argv = r->n_argv,
			       .started_ns = r->started_ns,
			       .wall_ns = r->wall_ns};
	for (size_t k = 0; k < r->n_argv; k++)
		s->argv[k] = xstrdup(r->argv[k]);
	return l->n_steps++;
}

/* ---- who made it? ---- */

/* A result that left a content, or something else at its path. */
struct maker {
	size_t step;
	int64_t started_ns;
	char *path;
	struct oid oid;
};
struct makers {
	struct builder *b;
	const char *path; /* of the file */
	struct fp content;
	uint64_t size;
	enum lin_now now;
	bool is_stdin;
	const struct result *reader; /* or NULL */
	struct maker *v;
	size_t n;
};

static int by_path(const void *path, const void *entry)
{
	return strcmp(path, ((const struct path_entry *)entry)->path);
}

/* Did the step read this very file, with this content? */
static bool has_read(struct makers *m, const struct result *r)
{
	struct path_set set = {0};
	struct state_parts p;
	struct err e;
	const struct path_entry *at = NULL;
	bool read = false;

	if (path_set_of(m->b->x, r, &set, &e) > 0 && set.n)
		at = bsearch(m->path, set.v, set.n, sizeof(*set.v), by_path);
	if (at && state_parse(r->states[at - set.v].data, r->states[at - set.v].len, &p) == 0) {
		read = p.has_content && fp_eq(&p.content, &m->content);
		state_parts_free(&p);
	}
	path_set_free(&set);
	return read;
}

/*
 * A step left this content elsewhere. Was it here before? Then it is no copy of that: when the step read it here, or it has
 * not been written to since before the step began (copies have the time of copying, or of what was copied).
 */
static bool was_before(struct makers *m, const struct result *r, const struct output *o)
{
	const struct node *n = node_get(&m->b->look, m->path, true);

	int64_t mtime, slack;

	if (m->is_stdin)
		return false;
	if (has_read(m, r))
		return true;
	if (m->now != LIN_SAME || o->mtime_set || n->st_err)
		return false;
	mtime = timespec_ns(n->st.st_mtim);
	/* The kernel's clock for files ticks, and some file systems keep even seconds only. */
	slack = n->st.st_mtim.tv_nsec ? 20000000 : 2000000000;
	return mtime + slack < r->started_ns;
}

/* What comes through a pipe may be made by a step that began later. */
static int64_t reading_ends(const struct makers *m)
{
	return m->reader->started_ns + (m->is_stdin ? m->reader->wall_ns : 0);
}

static int add_maker(void *arg, const struct result *r, const struct output *o)
{
	struct makers *m = arg;
	bool here = strcmp(o->path, m->path) == 0;

	/* Files without content are all alike, so only the place tells. */
	if (!m->size && !here)
		return 0;
	/* What began after its reader cannot have made it; unless it is recorded anew (--refresh). */
	if (m->reader && (fp_eq(&r->input_key, &m->reader->input_key) ||
			  (r->started_ns >= reading_ends(m) && !here)))
		return 0;
	if (!here && was_before(m, r, o))
		return 0;
	m->v = xrealloc(m->v, (m->n + 1) * sizeof(*m->v));
	m->v[m->n++] = (struct maker){.step = step_get(m->b->l, r),
				      .started_ns = r->started_ns,
				      .path = xstrdup(o->path),
				      .oid = o->oid};
	return 0;
}

static void makers_free(struct makers *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->v[i].path);
	free(m->v);
}

/* Before its reader began; then at the very path; then a file rather than standard output; then the latest. */
static bool better(const struct makers *m, const struct maker *a, const struct maker *b,
		   int64_t before)
{
	bool x = a->started_ns < before, y = b->started_ns < before;

	if (x != y)
		return x;
	x = strcmp(a->path, m->path) == 0;
	y = strcmp(b->path, m->path) == 0;
	if (x != y)
		return x;
	x = strcmp(a->path, IDX_STDOUT) != 0;
	y = strcmp(b->path, IDX_STDOUT) != 0;
	return x != y ? x : a->started_ns > b->started_ns;
}

/* The same content where its maker left it. */
static size_t original_of(struct makers *m, size_t file, const struct maker *best)
{
	const struct fp content = m->b->l->files[file].content;
	bool fresh;
	size_t i = file_get(m->b, best->path, &content, m->b->l->files[file].size, &fresh);
	struct lin_file *f = &m->b->l->files[i];

	if (!fresh)
		return i;
	f->origin = LIN_MADE;
	f->maker = best->step;
	f->oid = best->oid;
	f->has_oid = true;
	f->now = now_of(m->b, f);
	return i;
}

static void settle(struct makers *m, size_t file, int64_t before)
{
	struct maker *best = &m->v[0];
	struct lin_file *f;
	size_t original;
	bool printed;

	for (size_t i = 1; i < m->n; i++)
		if (better(m, &m->v[i], best, before))
			best = &m->v[i];
	printed = strcmp(best->path, IDX_STDOUT) == 0;
	original = printed ? file : original_of(m, file, best); /* this very file: no copy */
	f = &m->b->l->files[file];
	f->maker = best->step;
	f->origin = printed ? LIN_STDOUT : original == file ? LIN_MADE : LIN_COPY;
	f->copy_of = original == file ? LIN_NONE : original;
	f->oid = best->oid;
	f->has_oid = !printed; /* standard error may be in that object, too */
	for (size_t i = 0; i < m->n; i++) {
		bool known = m->v[i].step == f->maker;

		for (size_t k = 0; k < f->n_also; k++)
			known |= f->also[k] == m->v[i].step;
		if (!known)
			add_index(&f->also, &f->n_also, m->v[i].step);
	}
}

/* The latest that left something at its path, whatever it was. */
static void settle_by_path(struct makers *m, struct lin_file *f)
{
	size_t best = 0;

	for (size_t i = 1; i < m->n; i++)
		if (m->v[i].started_ns > m->v[best].started_ns)
			best = i;
	f->maker = m->v[best].step;
	f->origin = LIN_EDITED;
}

/* A recorded step left this here, though no result says so any more. */
static bool was_left(struct builder *b, const struct lin_file *f)
{
	struct left l = {
		.type = OUT_FILE, .mode = f->mode & 07777, .size = f->size, .fp = f->content};

	return idx_left_known(b->x, f->path, &l) > 0;
}

/* reader: the result that reads it, or NULL. */
static int find_maker(struct builder *b, size_t file, const struct result *reader)
{
	const struct lin_file f = b->l->files[file]; /* as it is now: the array may move */
	struct makers m = {.b = b,
			   .path = f.path,
			   .content = f.content,
			   .size = f.size,
			   .now = f.now,
			   .is_stdin = f.is_stdin,
			   .reader = reader};
	int r = 0;

	if (!f.no_content)
		r = idx_io_made(b->io, &f.content, add_maker, &m, b->e);
	if (r == 0 && m.n) {
		settle(&m, file, reader ? reading_ends(&m) : INT64_MAX);
	} else if (r == 0 && !f.no_content && was_left(b, &f)) {
		b->l->files[file].origin = LIN_LOST;
	} else if (r == 0) {
		r = idx_io_left(b->io, f.path, add_maker, &m, b->e);
		if (r == 0 && m.n)
			settle_by_path(&m, &b->l->files[file]);
	}
	makers_free(&m);
	return r;
}

/* ---- from what? ---- */

/* A file that a step read, or that was asked about. parts: its state; NULL: there is none. */
static int add_file(struct builder *b, const char *path, const struct state_parts *parts,
		    const struct result *reader, size_t *ret)
{
	static const struct state_parts gone;
	const struct state_parts *p = parts ? parts : &gone;
	bool fresh;
	size_t i = file_get(b, path, &p->content, p->size, &fresh);
	struct lin_file *f = &b->l->files[i];

	*ret = i;
	if (!fresh)
		return 0;
	f->mode = p->mode;
	f->no_content = !parts;
	f->is_stdin = strcmp(path, LIN_STDIN) == 0;
	f->now = f->is_stdin ? LIN_SAME : parts ? now_of(b, f) : LIN_GONE;
	return find_maker(b, i, reader);
}

static int add_input(struct builder *b, size_t step, const char *path, const struct buf *state,
		     const struct result *r)
{
	struct state_parts p;
	size_t file;
	int k;

	if (state_parse(state->data, state->len, &p) < 0)
		return 0;
	free(take(p.target));
	/* An empty file that the step wrote as well counts as read because nothing could tell: nothing came from it. */
	if (!p.has_content || (p.size == 0 && result_output(r, path)))
		return 0;
	if (!b->all && is_system_path(path)) {
		b->l->steps[step].n_system++;
		return 0;
	}
	k = add_file(b, path, &p, r, &file);
	if (k == 0)
		add_index(&b->l->steps[step].inputs, &b->l->steps[step].n_inputs, file);
	return k;
}

static int add_stdin(struct builder *b, size_t step, const struct result *r)
{
	struct state_parts p = {.content = r->stdin_fp, .size = r->stdin_len};
	size_t file;
	int k;

	if (r->stdin_kind == STDIN_UNUSED || !r->stdin_len)
		return 0;
	k = add_file(b, LIN_STDIN, &p, r, &file);
	if (k == 0)
		add_index(&b->l->steps[step].inputs, &b->l->steps[step].n_inputs, file);
	return k;
}

/* The inputs of one step. */
static int follow(struct builder *b, size_t step)
{
	struct path_set set = {0};
	struct result *r;
	struct fp key = b->l->steps[step].key;
	int k = idx_result_get(b->x, &key, &r, b->e);

	b->l->steps[step].followed = true;
	if (k <= 0)
		return k; /* dropped meanwhile: its inputs are not known */
	k = path_set_of(b->x, r, &set, b->e);
	b->l->steps[step].inputs_known = k > 0;
	for (size_t i = 0; k > 0 && i < set.n; i++) {
		int got = add_input(b, step, set.v[i].path, &r->states[i], r);

		k = got < 0 ? got : k;
	}
	if (k >= 0) {
		int got = add_stdin(b, step, r);

		k = got < 0 ? got : k;
	}
	path_set_free(&set);
	result_free(r);
	return k < 0 ? k : 0;
}

/* ---- what was asked for ---- */

static int add_root(struct builder *b, const char *path, const struct state_parts *parts)
{
	size_t file;
	int r = add_file(b, path, parts, NULL, &file);

	if (r == 0)
		add_index(&b->l->roots, &b->l->n_roots, file);
	return r;
}

static int root_file(struct builder *b, const char *path)
{
	struct node *n = node_get(&b->look, path, true);
	struct state_parts p = {.size = (uint64_t)n->st.st_size, .mode = n->st.st_mode & 07777};
	int r = node_digest(&b->look, n);

	if (r < 0)
		return err_set(b->e, r, "cannot read %s", path);
	p.content = n->digest;
	return add_root(b, path, &p);
}

/* Those below a directory that a step made, in their order. */
static int root_dir(struct builder *b, const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list = NULL;
	size_t n = 0;
	int r = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (r < 0)
		return err_set(b->e, r, "cannot list %s", path);
	for (size_t i = 0; i < n && r == 0; i++) {
		auto_free char *below =
			xasprintf("%s/%s", strcmp(path, "/") ? path : "", list[i] + 1);
		size_t had = b->l->n_roots;

		if (list[i][0] == 'd')
			r = root_dir(b, below);
		else if (list[i][0] == 'f')
			r = root_file(b, below);
		if (r == 0 && b->l->n_roots == had + 1 && list[i][0] == 'f' &&
		    b->l->files[b->l->roots[had]].origin == LIN_SOURCE) {
			b->l->n_roots--;
			b->l->n_unmade++;
		}
	}
	strv_free(list, n);
	return r;
}

/* Nothing is there; perhaps a step left something. */
static int root_gone(struct builder *b, const char *path)
{
	int r = add_root(b, path, NULL);

	if (r == 0 && b->l->files[b->l->roots[0]].maker == LIN_NONE)
		return err_text(b->e, ENOENT, "nothing is at %s, and no recorded step left it",
				path);
	return r;
}

static int build(struct builder *b, const char *path)
{
	struct node *n = node_get(&b->look, path, true);
	int r;

	if (node_absent(n))
		r = root_gone(b, path);
	else if (n->st_err)
		r = err_set(b->e, n->st_err, "cannot look at %s", path);
	else if (S_ISDIR(n->st.st_mode))
		r = root_dir(b, path);
	else if (S_ISREG(n->st.st_mode))
		r = root_file(b, path);
	else
		r = err_text(b->e, EINVAL, "%s is neither a file nor a directory", path);
	/* Steps behind files add to them. Those that only also made something are not gone into. */
	for (size_t i = 0; r == 0 && i < b->l->n_files; i++) {
		size_t maker = b->l->files[i].maker;

		if (maker != LIN_NONE && !b->l->steps[maker].followed)
			r = follow(b, maker);
	}
	return r;
}

int lineage_of(struct idx *x, const char *path, bool all, struct lineage *ret, struct err *e)
{
	struct lineage l = {0};
	struct builder b = {.x = x, .all = all, .l = &l, .e = e};
	int r;

	b.look = (struct look){.x = x, .o = &b.none, .s = &b.nowhere};
	r = idx_io_open(x, &b.io, e);
	if (r == 0)
		r = build(&b, path);
	look_free(&b.look);
	idx_io_close(b.io);
	free(b.slots);
	if (r < 0) {
		lineage_free(&l);
		return r;
	}
	*ret = l;
	return 0;
}

void lineage_free(struct lineage *l)
{
	for (size_t i = 0; i < l->n_files; i++) {
		free(l->files[i].path);
		free(l->files[i].also);
	}
	for (size_t i = 0; i < l->n_steps; i++) {
		struct lin_step *s = &l->steps[i];

		for (size_t k = 0; k < s->n_argv; k++)
			free(s->argv[k]);
		free(s->argv);
		free(s->name);
		free(s->cwd);
		free(s->inputs);
	}
	free(l->files);
	free(l->steps);
	free(l->roots);
	*l = (struct lineage){0};
}
