/* SPDX-License-Identifier: MIT */
/*
 * io.c - which results left a content or a path, and which looked at a path.
 *
 * A result has one row: its path set, and for each output 4 bytes of hashes of its content and of its path. So storing a
 * result costs one put, however many outputs it has, and who asks reads all rows (some 100,000 in 20 ms) and then the few results
 * that may be meant. Results without a row, of an older mlfs, are looked at themselves.
 */
#include <errno.h>
#include <string.h>

#include "notes.h"
#include "record.h"

#define ID_SIZE	   sizeof(struct fp)
#define OUT_SIZE   8 /* of one output in a row */
#define IO_VERSION 1
#define HEAD_SIZE  (1 + ID_SIZE)

static uint32_t content_hash(const struct fp *fp)
{
	uint32_t v;

	memcpy(&v, fp->b, sizeof(v)); /* a hash already; compared on the same machine only */
	return v;
}

static uint32_t path_hash(const char *path)
{
	return (uint32_t)xxh64_of(path, strlen(path));
}

static bool is_made(const struct output *o)
{
	return o->now.type == OUT_FILE && !o->now.unknown && output_is_work(o);
}

void io_encode(const struct result *r, struct buf *out)
{
	buf_u8(out, IO_VERSION);
	buf_add(out, r->path_set_id.b, ID_SIZE);
	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *o = &r->outputs[i];

		if (!output_is_work(o))
			continue;
		buf_u32(out, is_made(o) ? content_hash(&o->now.fp) : 0);
		buf_u32(out, path_hash(o->path));
	}
	if (r->stdout_len) { /* no view has this path */
		buf_u32(out, content_hash(&r->stdout_fp));
		buf_u32(out, path_hash(IDX_STDOUT));
	}
}

int io_put(struct kv_txn *t, const struct result *r, struct err *e)
{
	auto_buf struct buf b = {0};

	io_encode(r, &b);
	return kv_put(t, TAB_IO, r->input_key.b, ID_SIZE, b.data, b.len, e);
}

bool io_whole(struct kv_val v)
{
	return v.n >= HEAD_SIZE && (v.n - HEAD_SIZE) % OUT_SIZE == 0 &&
	       *(const uint8_t *)v.p == IO_VERSION;
}

bool io_may_leave(struct kv_val v, const char *path)
{
	struct cur c = {(const uint8_t *)v.p + HEAD_SIZE, (const uint8_t *)v.p + v.n, false};
	uint32_t hash = path_hash(path);

	while (c.p < c.end) {
		(void)cur_u32(&c); /* its content */
		if (cur_u32(&c) == hash)
			return true;
	}
	return false;
}

/* ---- reading all rows ---- */

struct row {
	struct fp key;	/* of the result */
	struct fp set;	/* its path set */
	uint32_t first; /* of its outputs in io.outs */
	uint32_t n;
};
struct out {
	uint32_t content, path;
};

/* Outputs by a hash: `heads` by its low bits, then `next`. 0: none, else index + 1. */
struct chains {
	uint32_t *heads, *next, mask;
};

struct io {
	struct idx *x;
	struct row *rows; /* sorted by key */
	size_t n, cap;
	struct out *outs;
	size_t n_outs, cap_outs;
	uint32_t *owner; /* of each output: its row */
	/* Outputs by their contents, and, made when first asked for, by their paths. */
	struct chains contents, paths;
	/* The result that was asked last: a step's outputs are mostly asked about one after the other. */
	const struct row *last_row;
	struct result *last;
};

static void add_row(struct io *io, const void *key, const struct kv_val *v)
{
	struct cur c = {(const uint8_t *)v->p + HEAD_SIZE, (const uint8_t *)v->p + v->n, false};
	size_t n = (v->n - HEAD_SIZE) / OUT_SIZE;
	struct row *row;

	if (io->n == io->cap) {
		io->cap = io->cap ? 2 * io->cap : 1024;
		io->rows = xrealloc(io->rows, io->cap * sizeof(*io->rows));
	}
	if (io->n_outs + n > io->cap_outs) {
		io->cap_outs = 2 * io->cap_outs + n + 1024;
		io->outs = xrealloc(io->outs, io->cap_outs * sizeof(*io->outs));
	}
	row = &io->rows[io->n++];
	row->first = (uint32_t)io->n_outs;
	row->n = (uint32_t)n;
	memcpy(row->key.b, key, ID_SIZE);
	memcpy(row->set.b, (const uint8_t *)v->p + 1, ID_SIZE);
	for (size_t i = 0; i < n; i++) {
		uint32_t content = cur_u32(&c), path = cur_u32(&c);

		io->outs[io->n_outs++] = (struct out){content, path};
	}
}

static int see_row(void *arg, struct kv_val key, struct kv_val v)
{
	if (v.p && key.n == ID_SIZE && io_whole(v))
		add_row(arg, key.p, &v);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, ID_SIZE);
}

static const struct row *find_row(const struct io *io, size_t n, const void *key)
{
	return n ? bsearch(key, io->rows, n, sizeof(*io->rows), by_key) : NULL;
}

struct missing {
	struct io *io;
	size_t had;
};

/* A result that an older mlfs stored. */
static int see_result(void *arg, struct kv_val key, struct kv_val v)
{
	struct missing *m = arg;
	auto_buf struct buf b = {0};
	struct kv_val row;
	struct result *r;

	if (!v.p || key.n != ID_SIZE || find_row(m->io, m->had, key.p) ||
	    result_decode_brief(v.p, v.n, &r) < 0)
		return 0;
	io_encode(r, &b);
	result_free(r);
	row = (struct kv_val){b.data, b.len};
	add_row(m->io, key.p, &row);
	return 0;
}

static int load(struct io *io, struct err *e)
{
	struct missing m = {.io = io};
	struct kv_txn *t;
	int r = kv_begin(io->x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_each(t, TAB_IO, NULL, 0, see_row, io, e);
	m.had = io->n;
	if (r == 0 && kv_count(t, TAB_IO) < kv_count(t, TAB_RESULT)) {
		r = kv_each(t, TAB_RESULT, NULL, 0, see_result, &m, e);
		if (io->n > m.had)
			qsort(io->rows, io->n, sizeof(*io->rows), by_key);
	}
	kv_end(io->x->kv);
	return r;
}

static void chain(const struct io *io, bool paths, struct chains *ret)
{
	size_t size = 1024;

	while (size < io->n_outs)
		size *= 2;
	ret->mask = (uint32_t)(size - 1);
	ret->heads = xcalloc(size, sizeof(*ret->heads));
	ret->next = xcalloc(io->n_outs + 1, sizeof(*ret->next));
	for (size_t i = 0; i < io->n_outs; i++) {
		uint32_t hash = paths ? io->outs[i].path : io->outs[i].content;
		uint32_t *head = &ret->heads[hash & ret->mask];

		ret->next[i] = *head;
		*head = (uint32_t)i + 1;
	}
}

static void own(struct io *io)
{
	io->owner = xcalloc(io->n_outs + 1, sizeof(*io->owner));
	for (size_t k = 0; k < io->n; k++)
		for (uint32_t i = 0; i < io->rows[k].n; i++)
			io->owner[io->rows[k].first + i] = (uint32_t)k;
}

int idx_io_open(struct idx *x, struct io **ret, struct err *e)
{
	struct io *io = xcalloc(1, sizeof(*io));
	int r;

	io->x = x;
	r = load(io, e);
	if (r < 0) {
		idx_io_close(io);
		return r;
	}
	own(io);
	chain(io, false, &io->contents);
	*ret = io;
	return 0;
}

void idx_io_close(struct io *io)
{
	if (!io)
		return;
	free(io->rows);
	free(io->outs);
	free(io->owner);
	free(io->contents.heads);
	free(io->contents.next);
	free(io->paths.heads);
	free(io->paths.next);
	result_free(io->last);
	free(io);
}

/* The result of a row. 1 and io->last, 0: it is gone since, -errno. */
static int read_result(struct io *io, const struct row *row, struct err *e)
{
	int k;

	if (io->last_row == row)
		return 1;
	result_free(take(io->last));
	io->last_row = NULL;
	k = idx_result_get(io->x, &row->key, &io->last, e);
	if (k > 0)
		io->last_row = row;
	return k;
}

/* Results that a hash points to, checked. */
static int ask(struct io *io, const struct row *row,
	       int (*fn)(void *arg, const struct result *r, const struct output *o),
	       bool (*wanted)(const void *what, const struct output *o), const void *what,
	       void *arg, struct err *e)
{
	const struct result *r;
	int k = read_result(io, row, e);

	if (k <= 0)
		return k;
	r = io->last;
	k = 0;
	for (size_t i = 0; k == 0 && i < r->n_outputs; i++)
		if (output_is_work(&r->outputs[i]) && wanted(what, &r->outputs[i]))
			k = fn(arg, r, &r->outputs[i]);
	return k;
}

/* Did the step write this to standard output? */
static int ask_stdout(struct io *io, const struct row *row, const struct fp *content,
		      int (*fn)(void *arg, const struct result *r, const struct output *o),
		      void *arg, struct err *e)
{
	struct output o = {.path = (char *)IDX_STDOUT, .now = {.type = OUT_FILE}};
	struct fp_state *s;
	auto_free void *bytes = NULL;
	size_t n = 0, at = 0;
	int k = read_result(io, row, e);
	struct err why;

	if (k <= 0)
		return k;
	if (!io->last->console_len ||
	    store_get_mem(io->x, &io->last->console_oid, &bytes, &n, &why) < 0)
		return 0; /* no longer whole: it cannot be known */
	s = fp_begin();
	for (size_t i = 0; i < io->last->n_chunks && at < n; i++) {
		const struct console_chunk *c = &io->last->chunks[i];
		size_t len = c->len < n - at ? c->len : n - at;

		if (c->fd == 1) {
			fp_update(s, (const uint8_t *)bytes + at, len);
			o.now.size += len;
		}
		at += len;
	}
	o.now.fp = fp_end(s);
	if (o.now.size == n)
		o.oid = io->last->console_oid;
	return fp_eq(&o.now.fp, content) ? fn(arg, io->last, &o) : 0;
}

static bool has_content(const void *what, const struct output *o)
{
	return is_made(o) && fp_eq(&o->now.fp, what);
}

static bool has_path(const void *what, const struct output *o)
{
	return strcmp(o->path, what) == 0;
}

/* Asks each result that has an output with this hash in the chains, once; of several that follow each other. */
static int ask_all(struct io *io, const struct chains *c, bool paths, uint32_t hash,
		   int (*fn)(void *arg, const struct result *r, const struct output *o),
		   bool (*wanted)(const void *what, const struct output *o), const void *what,
		   void *arg, struct err *e)
{
	const struct row *row, *last = NULL;
	int r = 0;

	for (uint32_t i = c->heads[hash & c->mask]; r == 0 && i; i = c->next[i - 1]) {
		const struct out *o = &io->outs[i - 1];

		if ((paths ? o->path : o->content) != hash)
			continue;
		row = &io->rows[io->owner[i - 1]];
		if (!paths && o->path == path_hash(IDX_STDOUT)) {
			r = ask_stdout(io, row, what, fn, arg, e);
			continue;
		}
		if (row != last)
			r = ask(io, row, fn, wanted, what, arg, e);
		last = row; /* one result's outputs follow each other */
	}
	return r;
}

int idx_io_made(struct io *io, const struct fp *content,
		int (*fn)(void *arg, const struct result *r, const struct output *o), void *arg,
		struct err *e)
{
	return ask_all(io, &io->contents, false, content_hash(content), fn, has_content, content,
		       arg, e);
}

int idx_io_left(struct io *io, const char *path,
		int (*fn)(void *arg, const struct result *r, const struct output *o), void *arg,
		struct err *e)
{
	if (!io->paths.heads)
		chain(io, true, &io->paths);
	return ask_all(io, &io->paths, true, path_hash(path), fn, has_path, path, arg, e);
}

/* ---- sets of results ---- */

/* A path set that may have the path. */
struct maybe {
	struct fp id;
	signed char sure; /* 1, -1: looked; 0: not yet */
};

struct idx_touching {
	struct io *io;
	char *path;
	bool outputs;
	struct maybe *sets; /* sorted */
	size_t n_sets, cap_sets, n_filters;
	struct maybe *results; /* those with the path among their outputs, perhaps; sorted */
	size_t n_results;
};

static void add_maybe(struct idx_touching *t, const void *id)
{
	if (t->n_sets == t->cap_sets) {
		t->cap_sets = t->cap_sets ? 2 * t->cap_sets : 64;
		t->sets = xrealloc(t->sets, t->cap_sets * sizeof(*t->sets));
	}
	t->sets[t->n_sets] = (struct maybe){.sure = 0};
	memcpy(t->sets[t->n_sets++].id.b, id, ID_SIZE);
}

/* Filters come in the order of their path sets. */
static int see_filter(void *arg, struct kv_val key, struct kv_val v)
{
	struct idx_touching *t = arg;
	const uint8_t *k = key.p;

	if (key.n != NOTE_KEY_SIZE || k[0] != NOTE_PATHS)
		return 1; /* past them */
	t->n_filters++;
	if (!v.p || paths_may_have(v, t->path))
		add_maybe(t, k + 1);
	return 0;
}

/* A path set without a filter, of an older mlfs. */
struct unfiltered {
	struct idx_touching *t;
	struct kv_txn *txn;
};

static int see_set(void *arg, struct kv_val key, struct kv_val v)
{
	struct unfiltered *u = arg;
	uint8_t note[NOTE_KEY_SIZE];
	struct kv_val was;
	struct fp id;

	(void)v;
	if (key.n != ID_SIZE)
		return 0;
	memcpy(id.b, key.p, ID_SIZE);
	note_key(NOTE_PATHS, &id, note);
	if (kv_get(u->txn, TAB_NOTE, note, sizeof(note), &was, NULL) == 0)
		add_maybe(u->t, key.p);
	return 0;
}

static int find_sets(struct idx_touching *t, struct err *e)
{
	static const struct fp zero;
	struct unfiltered u = {.t = t};
	uint8_t first[NOTE_KEY_SIZE];
	struct idx *x = t->io->x;
	int r = kv_begin(x->kv, &u.txn, e);

	if (r < 0)
		return r;
	note_key(NOTE_PATHS, &zero, first);
	r = kv_each(u.txn, TAB_NOTE, first, sizeof(first), see_filter, t, e);
	if (r >= 0 && t->n_filters < kv_count(u.txn, TAB_PATH_SET))
		r = kv_each(u.txn, TAB_PATH_SET, NULL, 0, see_set, &u, e);
	kv_end(x->kv);
	if (t->n_sets)
		qsort(t->sets, t->n_sets, sizeof(*t->sets), by_key);
	return r < 0 ? r : 0;
}

static void find_results(struct idx_touching *t)
{
	const struct io *io = t->io;
	uint32_t hash = path_hash(t->path);
	size_t cap = 0;

	for (size_t k = 0; k < io->n; k++)
		for (uint32_t i = 0; i < io->rows[k].n; i++) {
			if (io->outs[io->rows[k].first + i].path != hash)
				continue;
			if (t->n_results == cap) {
				cap = cap ? 2 * cap : 64;
				t->results = xrealloc(t->results, cap * sizeof(*t->results));
			}
			t->results[t->n_results++] = (struct maybe){.id = io->rows[k].key};
			break;
		}
}

static int touching(struct idx *x, const char *path, bool outputs, struct idx_touching **ret,
		    struct err *e)
{
	struct idx_touching *t = xcalloc(1, sizeof(*t));
	int r;

	t->path = xstrdup(path);
	t->outputs = outputs;
	r = idx_io_open(x, &t->io, e);
	if (r == 0 && outputs)
		find_results(t);
	else if (r == 0)
		r = find_sets(t, e);
	if (r < 0) {
		idx_touching_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int idx_results_reading(struct idx *x, const char *path, struct idx_touching **ret, struct err *e)
{
	return touching(x, path, false, ret, e);
}

int idx_results_writing(struct idx *x, const char *path, struct idx_touching **ret, struct err *e)
{
	return touching(x, path, true, ret, e);
}

bool idx_touching_none(const struct idx_touching *t)
{
	return t->outputs ? !t->n_results : !t->n_sets;
}

static int is_it(void *arg, const char *path, unsigned kinds)
{
	(void)kinds;
	return strcmp(path, arg) == 0;
}

static int found(void *arg, const struct result *r, const struct output *o)
{
	(void)arg;
	(void)r;
	(void)o;
	return 1;
}

bool idx_touching_has(struct idx_touching *t, const struct fp *input_key)
{
	const struct row *row = find_row(t->io, t->io->n, input_key);
	struct maybe *m = NULL;
	struct err e;

	if (row && t->outputs && t->n_results)
		m = bsearch(input_key, t->results, t->n_results, sizeof(*m), by_key);
	else if (row && !t->outputs && t->n_sets)
		m = bsearch(&row->set, t->sets, t->n_sets, sizeof(*m), by_key);
	if (!m)
		return false;
	if (!m->sure && t->outputs)
		m->sure = ask(t->io, row, found, has_path, t->path, NULL, &e) > 0 ? 1 : -1;
	else if (!m->sure)
		m->sure = idx_path_set_each(t->io->x, &m->id, is_it, t->path, &e) > 0 ? 1 : -1;
	return m->sure > 0;
}

void idx_touching_free(struct idx_touching *t)
{
	if (!t)
		return;
	idx_io_close(t->io);
	free(t->path);
	free(t->sets);
	free(t->results);
	free(t);
}
