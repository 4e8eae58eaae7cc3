/* SPDX-License-Identifier: MIT */
/* browse_node.c - what a name leads to, what is there, and the nodes that the kernel knows. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "browse.h"

#define MAX_SAME 64 /* keys that begin with the same 8 digits */

const char *const node_texts[TEXT_COUNT] = {
	[TEXT_INPUTS] = "inputs.txt", [TEXT_STDOUT] = "stdout",	      [TEXT_STDERR] = "stderr",
	[TEXT_STEP] = "step.json",    [TEXT_REMOVED] = "removed.txt",
};

void place_clear(struct place *p)
{
	free(p->path);
	free(p->target);
	*p = (struct place){0};
}

const char *place_path(const struct place *p)
{
	return p->path && *p->path ? p->path : "/";
}

struct idx_scan_filter place_filter(const struct place *p)
{
	return (struct idx_scan_filter){
		.name = p->kind == NODE_NAME ? p->path : NULL,
		.reads = p->kind == NODE_READ ? place_path(p) : NULL,
		.writes = p->kind == NODE_WROTE ? place_path(p) : NULL,
	};
}

/* ---- outputs ---- */

size_t output_from(const struct result *r, const char *path)
{
	size_t from = 0, to = r->n_outputs;

	while (from < to) {
		size_t at = from + (to - from) / 2;

		if (strcmp(r->outputs[at].path, path) < 0)
			from = at + 1;
		else
			to = at;
	}
	return from;
}

const struct output *output_at(const struct result *r, const char *path, size_t *ret_first)
{
	auto_free char *below = xasprintf("%s/", path);
	size_t at = output_from(r, path);

	*ret_first = output_from(r, below);
	return at < r->n_outputs && strcmp(r->outputs[at].path, path) == 0 ? &r->outputs[at] : NULL;
}

bool output_is_there(const struct result *r, const char *path)
{
	size_t at = output_from(r, path);

	return at < r->n_outputs && strcmp(r->outputs[at].path, path) == 0 &&
	       r->outputs[at].now.type != OUT_ABSENT;
}

bool output_below(const struct result *r, const char *path, size_t first)
{
	size_t n = strlen(path);

	for (size_t i = first; i < r->n_outputs; i++) {
		const char *p = r->outputs[i].path;

		if (strncmp(p, path, n) != 0 || p[n] != '/')
			return false;
		if (r->outputs[i].now.type != OUT_ABSENT)
			return true;
	}
	return false;
}

/* ---- looking up ---- */

static int of_key(const struct fp *key, enum node_kind kind, struct place *ret)
{
	*ret = (struct place){.kind = kind, .key = *key};
	return 0;
}

static int of_path(enum node_kind kind, const struct fp *key, char *path, struct place *ret)
{
	*ret = (struct place){.kind = kind, .path = path};
	if (key)
		ret->key = *key;
	return 0;
}

static int in_root(const char *name, struct place *ret)
{
	if (strcmp(name, "by-name") == 0)
		ret->kind = NODE_BY_NAME;
	else if (strcmp(name, "by-key") == 0)
		ret->kind = NODE_BY_KEY;
	else if (strcmp(name, "by-file") == 0)
		return of_path(NODE_PATH, NULL, xstrdup(""), ret);
	else
		return -ENOENT;
	return 0;
}

struct seeking {
	fuse_req_t req;
	const char *name; /* wanted */
	struct place *ret;
	const struct place *dir;
};

static int found(void *arg, const struct idx_head *h)
{
	struct seeking *s = arg;
	auto_free char *name = xstrndup(h->name, h->n_name), *escaped = name_escape(name);

	if (fuse_req_interrupted(s->req))
		return -EINTR;
	if (strcmp(escaped, s->name) != 0)
		return 0;
	s->ret->path = take(name);
	return 1;
}

static int found_any(void *arg, const struct idx_head *h)
{
	(void)h;
	return fuse_req_interrupted(((struct seeking *)arg)->req) ? -EINTR : 1;
}

/* The names of results. */
static int in_by_name(struct idx *x, const char *name, fuse_req_t req, struct place *ret)
{
	static const struct idx_scan_filter any;
	struct seeking s = {.req = req, .name = name, .ret = ret};
	auto_free char *plain = name_unescape(name);
	auto_free struct fp *keys = NULL;
	size_t n = 0;
	struct err e;
	int r = 0;

	if (plain)
		r = idx_steps_named(x, plain, &keys, &n, &e);
	if (r == 0 && n)
		ret->path = take(plain);
	else if (r == 0) /* cut, or of a cache in which steps have no names */
		r = idx_scan(x, &any, NULL, found, &s, &e);
	ret->kind = NODE_NAME;
	return r < 0 ? r : ret->path ? 0 : -ENOENT;
}

static int see_key(void *arg, const struct idx_head *h)
{
	*(struct fp *)arg = h->input_key;
	return 1;
}

/* A key; or the beginning of one, which is a link to it. */
static int in_by_key(struct idx *x, const char *name, struct place *ret)
{
	static const struct idx_scan_filter any;
	char digits[2 * sizeof(struct fp) + 1];
	struct fp keys[2];
	size_t n = 0;
	struct err e;
	int r;

	if (unhex(name, &keys[0], sizeof(keys[0]))) {
		r = idx_scan_one(x, &any, &keys[0], see_key, &keys[1], &e);
		return r < 0 ? r : r == 0 ? -ENOENT : of_key(&keys[0], NODE_RESULT, ret);
	}
	if (strlen(name) < 4 || strlen(name) >= 2 * sizeof(struct fp) ||
	    strspn(name, "0123456789abcdef") != strlen(name))
		return -ENOENT;
	r = idx_keys(x, IDX_KEY_RESULT, name, keys, 2, &n, &e);
	if (r < 0 || n != 1)
		return r < 0 ? r : -ENOENT;
	hex(&keys[0], sizeof(keys[0]), digits);
	ret->kind = NODE_LINK;
	ret->target = xstrdup(digits);
	return 0;
}

/* Up from a directory of by-file to the root of the mount, and down to the result. */
static char *link_to(struct browse *b, struct idx *x, const struct place *dir, const struct fp *key)
{
	auto_buf struct buf up = {0};
	char digits[2 * sizeof(*key) + 1];
	const char *path = place_path(dir);
	const struct output *o;
	struct shown *s;
	bool there = true;
	struct err e;
	size_t first;

	for (const char *p = dir->path; *p; p++)
		if (*p == '/')
			buf_addf(&up, "../");
	buf_addf(&up, "../../");
	buf_u8(&up, 0);
	hex(key, sizeof(*key), digits);
	if (dir->kind == NODE_READ)
		return xasprintf("%sby-key/%s", up.data, digits);
	if (shown_get(b, x, key, &s, &e) > 0) {
		o = output_at(s->r, path, &first);
		there = !o || o->now.type != OUT_ABSENT;
		shown_put(b, s);
	}
	return there ? xasprintf("%sby-key/%s/outputs%s", up.data, digits, path)
		     : xasprintf("%sby-key/%s/%s", up.data, digits, node_texts[TEXT_REMOVED]);
}

struct naming {
	const char *name;
	int64_t started_ns;
};

static int named_so(void *arg, const struct idx_head *h)
{
	char name[RESULT_NAME_SIZE];
	struct naming *n = arg;

	result_name(h->started_ns, &h->input_key, name);
	n->started_ns = h->started_ns;
	return strcmp(name, n->name) == 0;
}

/* The results of a name, or that read or wrote a path. */
static int in_results(struct browse *b, struct idx *x, const struct place *dir, const char *name,
		      struct place *ret)
{
	struct idx_scan_filter f = place_filter(dir);
	struct naming w = {.name = name};
	struct fp keys[MAX_SAME];
	const char *digits = strrchr(name, '-');
	size_t n = 0;
	struct err e;
	int r;

	if (!digits || strlen(digits) != 9)
		return -ENOENT;
	r = idx_keys(x, IDX_KEY_RESULT, digits + 1, keys, MAX_SAME, &n, &e);
	if (r < 0)
		return r == -EINVAL ? -ENOENT : r;
	for (size_t i = 0; i < n; i++) {
		r = idx_scan_one(x, &f, &keys[i], named_so, &w, &e);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		if (dir->kind == NODE_NAME)
			return of_key(&keys[i], NODE_RESULT, ret);
		*ret = (struct place){.kind = NODE_LINK,
				      .target = link_to(b, x, dir, &keys[i]),
				      .time_ns = w.started_ns};
		return 0;
	}
	return -ENOENT;
}

/* The files of a result. */
static int in_result(const struct shown *s, const char *name, struct place *ret)
{
	const struct fp *key = &s->r->input_key;

	if (strcmp(name, "outputs") == 0)
		return of_path(NODE_OUTPUT, key, xstrdup(""), ret);
	for (unsigned i = 0; i < TEXT_COUNT; i++)
		if (strcmp(name, node_texts[i]) == 0 &&
		    (i != TEXT_REMOVED || shown_removed(s->r))) {
			*ret = (struct place){.kind = NODE_TEXT, .text = i, .key = *key};
			return 0;
		}
	return -ENOENT;
}

static int in_outputs(const struct shown *s, const struct place *dir, const char *name,
		      struct place *ret)
{
	auto_free char *path = xasprintf("%s/%s", dir->path, name);
	size_t first;
	const struct output *o = output_at(s->r, path, &first);

	if ((o && o->now.type != OUT_ABSENT) || output_below(s->r, path, first))
		return of_path(NODE_OUTPUT, &s->r->input_key, take(path), ret);
	return -ENOENT;
}

static int path_found(void *arg, const char *path, bool written)
{
	const struct seeking *s = arg;

	(void)path;
	(void)written;
	return fuse_req_interrupted(s->req) ? -EINTR : 1;
}

static int in_path(struct browse *b, struct idx *x, const struct place *dir, const char *name,
		   fuse_req_t req, struct place *ret)
{
	bool wrote = strcmp(name, "@wrote") == 0;
	struct seeking s = {.req = req};
	auto_free char *part = NULL, *path = NULL;
	struct err e;
	int r;

	if (wrote || strcmp(name, "@read") == 0) {
		struct place to = {.kind = wrote ? NODE_WROTE : NODE_READ, .path = dir->path};
		struct idx_scan_filter f = place_filter(&to);

		r = idx_scan(x, &f, NULL, found_any, &s, &e);
		return r < 0	? r
		       : r == 0 ? -ENOENT
				: of_path(to.kind, NULL, xstrdup(dir->path), ret);
	}
	part = part_unescape(name);
	if (!part)
		return -ENOENT;
	path = xasprintf("%s/%s", dir->path, part);
	r = listed_has(b, dir->path, name) ? 1 : idx_scan_paths(x, path, path_found, &s, &e);
	return r < 0 ? r : r == 0 ? -ENOENT : of_path(NODE_PATH, NULL, take(path), ret);
}

int browse_resolve(struct browse *b, struct idx *x, const struct node *dir, const char *name,
		   fuse_req_t req, struct place *ret)
{
	const struct place *at = &dir->at;
	struct shown *s;
	struct err e;
	int r;

	*ret = (struct place){0};
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	switch (at->kind) {
	case NODE_ROOT:
		return in_root(name, ret);
	case NODE_BY_NAME:
		return in_by_name(x, name, req, ret);
	case NODE_BY_KEY:
		return in_by_key(x, name, ret);
	case NODE_NAME:
	case NODE_READ:
	case NODE_WROTE:
		return in_results(b, x, at, name, ret);
	case NODE_PATH:
		return in_path(b, x, at, name, req, ret);
	case NODE_RESULT:
	case NODE_OUTPUT:
		r = shown_get(b, x, &at->key, &s, &e);
		if (r <= 0)
			return r < 0 ? r : -ENOENT;
		r = at->kind == NODE_RESULT ? in_result(s, name, ret)
					    : in_outputs(s, at, name, ret);
		shown_put(b, s);
		return r;
	default:
		return -ENOTDIR;
	}
}

/* ---- attributes ---- */

static void set_times(struct stat *st, int64_t ns)
{
	st->st_mtim.tv_sec = ns / 1000000000;
	st->st_mtim.tv_nsec = ns % 1000000000;
	st->st_atim = st->st_ctim = st->st_mtim;
}

static void stat_dir(const struct browse *b, int64_t ns, struct stat *st)
{
	st->st_mode =
		S_IFDIR |
		(b->o.allow_other ? 0555 : 0500); /* one link: how many are in it is not told */
	set_times(st, ns);
}

static void stat_file(const struct browse *b, int64_t ns, uint64_t size, struct stat *st)
{
	st->st_mode = S_IFREG | (b->o.allow_other ? 0444 : 0400);
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
	set_times(st, ns);
}

/* Names of one file are so here as well. */
static void stat_group(const struct result *r, uint32_t group, struct stat *st)
{
	struct {
		struct fp key;
		uint64_t group;
	} what = {r->input_key, group};

	st->st_nlink = 0;
	for (size_t i = 0; i < r->n_outputs; i++)
		st->st_nlink +=
			r->outputs[i].link_group == group && r->outputs[i].now.type != OUT_ABSENT;
	st->st_ino = xxh64_of(&what, sizeof(what));
}

static void stat_output(const struct result *r, const struct output *o, struct stat *st)
{
	static const mode_t types[] = {[OUT_FILE] = S_IFREG,
				       [OUT_DIR] = S_IFDIR,
				       [OUT_LINK] = S_IFLNK,
				       [OUT_FIFO] = S_IFIFO};

	st->st_mode = types[o->now.type] | (o->now.type == OUT_LINK ? 0777 : o->now.mode);
	if (o->uid != OUT_ANY_ID)
		st->st_uid = o->uid;
	if (o->gid != OUT_ANY_ID)
		st->st_gid = o->gid;
	if (o->now.type == OUT_FILE)
		st->st_size = (off_t)o->now.size;
	else if (o->now.type == OUT_LINK)
		st->st_size = (off_t)strlen(o->now.target);
	st->st_blocks = (blkcnt_t)((st->st_size + 511) / 512);
	if (o->link_group)
		stat_group(r, o->link_group, st);
	set_times(st, o->mtime_ns);
	/* Another result under this key, with other bytes, may have the same times of files. */
	st->st_ctim.tv_sec = r->stored_ns / 1000000000;
	st->st_ctim.tv_nsec = r->stored_ns % 1000000000;
}

static int stat_result(struct browse *b, struct idx *x, const struct place *p, struct shown *s,
		       struct stat *st)
{
	const struct output *o;
	const struct buf *text;
	struct err e;
	size_t first;
	int r = 0;

	switch (p->kind) {
	case NODE_OUTPUT:
		o = *p->path ? output_at(s->r, p->path, &first) : NULL;
		if (o && o->now.type != OUT_ABSENT)
			stat_output(s->r, o, st);
		else
			stat_dir(b, s->r->stored_ns, st); /* that outputs lie in */
		break;
	case NODE_TEXT:
		if (p->text == TEXT_STDOUT || p->text == TEXT_STDERR) {
			stat_file(b, s->r->stored_ns, s->stream[p->text == TEXT_STDERR], st);
			break;
		}
		r = shown_text(b, x, s, p->text, &text, &e);
		if (r == 0)
			stat_file(b, s->r->stored_ns, text->len, st);
		break;
	default:
		stat_dir(b, s->r->stored_ns, st);
	}
	return r;
}

int browse_stat(struct browse *b, struct idx *x, const struct place *p, uint64_t ino,
		struct stat *st)
{
	struct shown *s;
	struct err e;
	int r = 0;

	*st = (struct stat){.st_ino = ino,
			    .st_nlink = 1,
			    .st_blksize = 65536,
			    .st_uid = b->owner.st_uid,
			    .st_gid = b->owner.st_gid};
	switch (p->kind) {
	case NODE_LINK:
		st->st_mode = S_IFLNK | 0777;
		st->st_size = (off_t)strlen(p->target);
		set_times(st, p->time_ns ? p->time_ns : b->began_ns);
		break;
	case NODE_RESULT:
	case NODE_OUTPUT:
	case NODE_TEXT:
		r = shown_get(b, x, &p->key, &s, &e);
		if (r <= 0)
			return r < 0 ? r : -ESTALE;
		r = stat_result(b, x, p, s, st);
		shown_put(b, s);
		break;
	default:
		stat_dir(b, b->began_ns, st);
	}
	return r;
}

/* ---- nodes ---- */

uint64_t browse_ino(const struct node *dir, const char *name)
{
	uint64_t h = xxh64_of(name, strlen(name)) ^ dir->ino * UINT64_C(0x9e3779b97f4a7c15);

	return h > 1 ? h : h + 2;
}

struct node *browse_node(struct browse *b, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &b->root : (struct node *)(uintptr_t)ino;
}

static void grow(struct browse *b)
{
	size_t n = b->n_heads ? 2 * b->n_heads : 1024;
	struct node **heads = xcalloc(n, sizeof(*heads));

	for (size_t i = 0; i < b->n_heads; i++)
		for (struct node *k = b->heads[i], *next; k; k = next) {
			struct node **head = &heads[k->ino & (n - 1)];

			next = k->next;
			k->next = *head;
			*head = k;
		}
	free(b->heads);
	b->heads = heads;
	b->n_heads = n;
}

static void unhash(struct browse *b, struct node *n)
{
	struct node **at = &b->heads[n->ino & (b->n_heads - 1)];

	if (!n->hashed)
		return;
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	n->hashed = false;
	b->n_nodes--;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_place(const struct place *a, const struct place *b)
{
	return a->kind == b->kind && a->text == b->text && fp_eq(&a->key, &b->key) &&
	       same_text(a->path, b->path) && same_text(a->target, b->target);
}

static struct node *find_node(struct browse *b, const struct node *dir, const char *name,
			      uint64_t ino)
{
	struct node *n = b->heads[ino & (b->n_heads - 1)];

	while (n && (n->ino != ino || n->parent != dir || strcmp(n->name, name) != 0))
		n = n->next;
	return n;
}

struct node *browse_get(struct browse *b, struct node *dir, const char *name, struct place *p)
{
	uint64_t ino = browse_ino(dir, name);
	struct node *n;

	(void)pthread_mutex_lock(&b->mutex);
	if (b->n_nodes >= b->n_heads)
		grow(b);
	n = find_node(b, dir, name, ino);
	if (n && !same_place(&n->at, p)) {
		unhash(b, n); /* another thing has the name now */
		n = NULL;
	}
	if (!n) {
		struct node **head = &b->heads[ino & (b->n_heads - 1)];

		n = xcalloc(1, sizeof(*n));
		n->parent = dir;
		n->name = xstrdup(name);
		n->ino = ino;
		n->at = *p;
		*p = (struct place){0};
		n->next = *head;
		*head = n;
		n->hashed = true;
		b->n_nodes++;
		dir->children++;
	}
	n->lookups++;
	(void)pthread_mutex_unlock(&b->mutex);
	return n;
}

static void free_unknown(struct browse *b, struct node *n)
{
	while (n != &b->root && !n->lookups && !n->children) {
		struct node *parent = n->parent;

		unhash(b, n);
		place_clear(&n->at);
		free(n->name);
		free(n->opened);
		free(n);
		parent->children--;
		n = parent;
	}
}

void browse_forget(struct browse *b, struct node *n, uint64_t lookups)
{
	(void)pthread_mutex_lock(&b->mutex);
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	free_unknown(b, n);
	(void)pthread_mutex_unlock(&b->mutex);
}

/* The kernel knows of none any more. */
void browse_nodes_free(struct browse *b)
{
	for (size_t i = 0; i < b->n_heads; i++)
		for (struct node *n = b->heads[i], *next; n; n = next) {
			next = n->next;
			place_clear(&n->at);
			free(n->name);
			free(n->opened);
			free(n);
		}
	free(b->heads);
	b->heads = NULL;
	b->n_heads = b->n_nodes = 0;
}
