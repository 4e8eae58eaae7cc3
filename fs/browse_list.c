/* SPDX-License-Identifier: MIT */
/*
 * browse_list.c - directories of the tree.
 *
 * Results are listed straight from the index, in the order of their keys: the offset of an entry is the beginning of its key, so
 * that the next piece goes on behind it, whatever was stored or dropped meanwhile. Names of steps and of paths, which have no order
 * in the index, are gathered when such a directory is read from its beginning.
 */
#include <errno.h>
#include <string.h>

#include "browse.h"

#define KEY_BITS     62
#define FIRST	     3 /* offset of the first entry behind ".." */
#define LISTED_NS    INT64_C(5000000000)
#define MAX_GATHERED (size_t)(256 << 20) /* bytes of names of one directory */

/* An open directory. */
struct listing {
	struct shown *s; /* NODE_OUTPUT, NODE_RESULT */
	char **names;	 /* gathered, sorted */
	size_t n;
	bool gathered;
};

/* ---- what is put into an answer ---- */

struct filling {
	fuse_req_t req;
	const struct node *dir;
	char *to;
	size_t used, size;
	bool full;
};

static bool fill(struct filling *f, const char *name, mode_t type, off_t next)
{
	struct stat st = {.st_ino = browse_ino(f->dir, name), .st_mode = type};
	size_t n;

	if (strcmp(name, ".") == 0)
		st.st_ino = f->dir->ino;
	else if (strcmp(name, "..") == 0)
		st.st_ino = f->dir->parent ? f->dir->parent->ino : f->dir->ino;
	n = fuse_add_direntry(f->req, f->to + f->used, f->size - f->used, name, &st, next);
	if (n > f->size - f->used) {
		f->full = true;
		return false;
	}
	f->used += n;
	return true;
}

static bool fill_dots(struct filling *f, off_t off)
{
	return (off >= 1 || fill(f, ".", S_IFDIR, 1)) &&
	       (off >= 2 || fill(f, "..", S_IFDIR, FIRST - 1));
}

/* ---- results ---- */

static uint64_t key_bits(const struct fp *key)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | key->b[i];
	return v >> (64 - KEY_BITS);
}

/* The last key that has this offset. */
static struct fp key_at(off_t off)
{
	uint64_t v = ((uint64_t)off - FIRST) << (64 - KEY_BITS) | ((1u << (64 - KEY_BITS)) - 1);
	struct fp key;

	memset(&key, 0xff, sizeof(key));
	for (unsigned i = 0; i < 8; i++)
		key.b[i] = (uint8_t)(v >> (56 - 8 * i));
	return key;
}

static int fill_result(void *arg, const struct idx_head *h)
{
	struct filling *f = arg;
	bool by_key = f->dir->at.kind == NODE_BY_KEY;
	mode_t type = by_key || f->dir->at.kind == NODE_NAME ? S_IFDIR : S_IFLNK;
	char name[RESULT_NAME_SIZE];

	if (fuse_req_interrupted(f->req))
		return -EINTR;
	if (by_key)
		hex(&h->input_key, sizeof(h->input_key), name);
	else
		result_name(h->started_ns, &h->input_key, name);
	return !fill(f, name, type, (off_t)(key_bits(&h->input_key) + FIRST));
}

static int list_results(struct idx *x, struct filling *f, off_t off)
{
	struct idx_scan_filter filter = place_filter(&f->dir->at);
	struct fp after;
	struct err e;
	int r;

	if (off >= FIRST)
		after = key_at(off);
	r = idx_scan(x, &filter, off >= FIRST ? &after : NULL, fill_result, f, &e);
	return r < 0 ? r : 0;
}

/* ---- names that are gathered ---- */

struct gathering {
	fuse_req_t req;
	char **names; /* an open hash table */
	size_t n, cap, bytes;
	const struct node *dir;
	size_t prefix; /* length of the directory's path */
	bool read, wrote;
};

static char **slot(const struct gathering *g, const char *name)
{
	size_t i = xxh64_of(name, strlen(name)) & (g->cap - 1);

	while (g->names[i] && strcmp(g->names[i], name) != 0)
		i = (i + 1) & (g->cap - 1);
	return &g->names[i];
}

/* Takes name. */
static int gather(struct gathering *g, char *name)
{
	char **at;

	if (2 * g->n >= g->cap) {
		auto_free char **old = g->names;
		size_t n = g->cap;

		g->cap = n ? 2 * n : 256;
		g->names = xcalloc(g->cap, sizeof(*g->names));
		for (size_t i = 0; i < n; i++)
			if (old[i])
				*slot(g, old[i]) = old[i];
	}
	at = slot(g, name);
	if (*at) {
		free(name);
		return 0;
	}
	*at = name;
	g->n++;
	g->bytes += strlen(name) + 1 + sizeof(name);
	return g->bytes > MAX_GATHERED ? -EFBIG : 0;
}

static int gather_name(void *arg, const struct idx_head *h)
{
	struct gathering *g = arg;
	auto_free char *name = xstrndup(h->name, h->n_name);

	return fuse_req_interrupted(g->req) ? -EINTR : gather(g, name_escape(name));
}

static int gather_part(void *arg, const char *path, bool written)
{
	struct gathering *g = arg;
	const char *part = path + g->prefix, *end;

	if (fuse_req_interrupted(g->req))
		return -EINTR;
	part += *part == '/';
	if (!*part) { /* the directory itself */
		g->wrote |= written;
		g->read |= !written;
		return 0;
	}
	end = strchrnul(part, '/');
	return gather(g, part_escape(part, (size_t)(end - part)));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listed_note(struct browse *b, const char *path, const struct listing *l)
{
	struct listed *to;

	(void)pthread_mutex_lock(&b->mutex);
	to = &b->listed[b->next_listed++ % MAX_LISTED];
	free(to->path);
	strv_free(to->names, to->n);
	to->path = xstrdup(path);
	to->at_ns = mono_ns();
	to->n = l->n;
	to->names = xcalloc(l->n + 1, sizeof(*to->names));
	for (size_t i = 0; i < l->n; i++)
		to->names[i] = xstrdup(l->names[i]);
	(void)pthread_mutex_unlock(&b->mutex);
}

bool listed_has(struct browse *b, const char *path, const char *name)
{
	bool has = false;

	(void)pthread_mutex_lock(&b->mutex);
	for (size_t i = 0; i < MAX_LISTED && !has; i++) {
		const struct listed *l = &b->listed[i];

		has = l->path && strcmp(l->path, path) == 0 && mono_ns() - l->at_ns < LISTED_NS &&
		      l->n && bsearch(&name, l->names, l->n, sizeof(name), by_text);
	}
	(void)pthread_mutex_unlock(&b->mutex);
	return has;
}

/* What was gathered, sorted, becomes the listing's. */
static void settle(struct gathering *g, struct listing *l)
{
	strv_free(l->names, l->n);
	l->names = xcalloc(g->n + 1, sizeof(*l->names));
	l->n = 0;
	for (size_t i = 0; i < g->cap; i++)
		if (g->names[i])
			l->names[l->n++] = g->names[i];
	qsort(l->names, l->n, sizeof(*l->names), by_text);
	l->gathered = true;
}

static int gather_all(struct browse *b, struct idx *x, struct filling *f, struct listing *l)
{
	static const struct idx_scan_filter any;
	const struct place *at = &f->dir->at;
	struct gathering g = {.req = f->req, .dir = f->dir};
	struct err e;
	int r;

	if (at->kind == NODE_BY_NAME) {
		r = idx_scan(x, &any, NULL, gather_name, &g, &e);
	} else {
		g.prefix = strlen(at->path);
		r = idx_scan_paths(x, at->path, gather_part, &g, &e);
		if (r == 0 && g.read)
			r = gather(&g, xstrdup("@read"));
		if (r == 0 && g.wrote)
			r = gather(&g, xstrdup("@wrote"));
	}
	if (r < 0) {
		for (size_t i = 0; i < g.cap; i++)
			free(g.names[i]);
		free(g.names);
		return r;
	}
	settle(&g, l);
	free(g.names);
	if (at->kind == NODE_PATH)
		listed_note(b, at->path, l);
	return 0;
}

static int list_gathered(struct browse *b, struct idx *x, struct filling *f, struct listing *l,
			 off_t off)
{
	int r = off < FIRST || !l->gathered ? gather_all(b, x, f, l) : 0;

	for (size_t i = off < FIRST ? 0 : (size_t)off - FIRST + 1; r == 0 && i < l->n; i++)
		if (!fill(f, l->names[i], S_IFDIR, (off_t)i + FIRST))
			break;
	return r;
}

/* ---- a result ---- */

static void list_names(struct filling *f, const char *const *names, const mode_t *types, size_t n,
		       off_t off)
{
	for (size_t i = off < FIRST ? 0 : (size_t)off - FIRST + 1; i < n; i++)
		if (!fill(f, names[i], types[i], (off_t)i + FIRST))
			break;
}

static void list_root(struct filling *f, off_t off)
{
	static const char *const names[] = {"by-file", "by-key", "by-name"};
	static const mode_t types[] = {S_IFDIR, S_IFDIR, S_IFDIR};

	list_names(f, names, types, 3, off);
}

static void list_result(const struct result *r, struct filling *f, off_t off)
{
	const char *names[TEXT_COUNT + 1] = {"outputs"};
	mode_t types[TEXT_COUNT + 1] = {S_IFDIR};
	size_t n = 1;

	for (unsigned i = 0; i < TEXT_COUNT; i++)
		if (i != TEXT_REMOVED || shown_removed(r)) {
			types[n] = S_IFREG;
			names[n++] = node_texts[i];
		}
	list_names(f, names, types, n, off);
}

static mode_t type_at(const struct result *r, const char *path)
{
	static const mode_t types[] = {[OUT_FILE] = S_IFREG,
				       [OUT_DIR] = S_IFDIR,
				       [OUT_LINK] = S_IFLNK,
				       [OUT_FIFO] = S_IFIFO};
	size_t first;
	const struct output *o = output_at(r, path, &first);

	if (o && o->now.type != OUT_ABSENT)
		return types[o->now.type];
	return output_below(r, path, first) ? S_IFDIR : 0;
}

/* Entries in the order of outputs; the offset is the place of the first output that is in it, or it is. */
static void list_outputs(const struct result *r, struct filling *f, off_t off)
{
	const char *dir = f->dir->at.path;
	size_t n = strlen(dir), first;

	(void)output_at(r, dir, &first);
	for (size_t i = off < FIRST ? first : (size_t)off - FIRST + 1; i < r->n_outputs; i++) {
		const char *path = r->outputs[i].path, *part = path + n + 1, *end;
		auto_free char *name = NULL, *whole = NULL, *below = NULL;
		mode_t type;
		bool own;

		if (strncmp(path, dir, n) != 0 || path[n] != '/')
			break;
		end = strchrnul(part, '/');
		name = xstrndup(part, (size_t)(end - part));
		whole = xstrndup(path, (size_t)(end - path));
		below = xasprintf("%s/", whole);
		type = type_at(r, whole);
		/* What lies below a name comes once: with the name itself, or with the first below it. */
		own = !*end && r->outputs[i].now.type != OUT_ABSENT;
		if (*end && i == output_from(r, below) && !output_is_there(r, whole))
			own = true;
		if (own && type && !fill(f, name, type, (off_t)i + FIRST))
			break;
		if (*end) { /* behind all of it: '0' follows '/' */
			below[strlen(below) - 1] = '0';
			i = output_from(r, below) - 1;
		}
	}
}

/* ---- operations ---- */

static int list(struct browse *b, struct idx *x, struct filling *f, struct listing *l, off_t off)
{
	if (!fill_dots(f, off))
		return 0;
	switch (f->dir->at.kind) {
	case NODE_ROOT:
		list_root(f, off);
		return 0;
	case NODE_BY_KEY:
	case NODE_NAME:
	case NODE_READ:
	case NODE_WROTE:
		return list_results(x, f, off);
	case NODE_BY_NAME:
	case NODE_PATH:
		return list_gathered(b, x, f, l, off);
	case NODE_RESULT:
		list_result(l->s->r, f, off);
		return 0;
	default:
		list_outputs(l->s->r, f, off);
		return 0;
	}
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct browse *b = fuse_req_userdata(req);
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;
	auto_free char *to = malloc(size);
	struct filling f = {.req = req, .dir = browse_node(b, ino), .to = to, .size = size};
	struct idx *x;
	struct err e;
	int r;

	browse_count(b, BROWSE_READDIR);
	r = !to ? -ENOMEM : browse_index(b, &x, &e);
	if (r == 0) {
		r = list(b, x, &f, l, off);
		browse_index_done(b);
	}
	/* What there is of it is handed out; the error comes again with the next piece. */
	if (r < 0 && !f.used)
		(void)fuse_reply_err(req, -r); /* the kernel may be gone: nobody to tell */
	else
		(void)fuse_reply_buf(req, to, f.used); /* likewise */
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct browse *b = fuse_req_userdata(req);
	const struct node *n = browse_node(b, ino);
	struct listing *l = xcalloc(1, sizeof(*l));
	struct idx *x;
	struct err e;
	int r = 0;

	browse_count(b, BROWSE_OPENDIR);
	if (n->at.kind == NODE_RESULT || n->at.kind == NODE_OUTPUT) {
		r = browse_index(b, &x, &e);
		if (r == 0) {
			r = shown_get(b, x, &n->at.key, &l->s, &e);
			r = r < 0 ? r : r == 0 ? -ESTALE : 0;
			browse_index_done(b);
		}
	}
	fi->fh = (uintptr_t)l;
	if (r == 0 && fuse_reply_open(req, fi) == 0)
		return;
	if (r < 0)
		(void)fuse_reply_err(req, -r); /* as above */
	shown_put(b, l->s);
	free(l);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *l = (struct listing *)(uintptr_t)fi->fh;

	(void)ino;
	shown_put(fuse_req_userdata(req), l->s);
	strv_free(l->names, l->n);
	free(l);
	(void)fuse_reply_err(req, 0); /* as above */
}

void browse_list_ops(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->releasedir = op_releasedir;
}
