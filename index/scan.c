/* SPDX-License-Identifier: MIT */
/*
 * scan.c - all results, or all paths that they speak of, a few records at a time.
 *
 * Who shows the cache as a tree (fs/browse.c) may take long, and must not hold a snapshot for that time: old pages of the
 * index could not be used again. So each transaction sees a few records, and the next one goes on behind them; what is stored or
 * dropped meanwhile may be seen or not. Nothing is gathered here, however many results there are.
 */
#include <errno.h>
#include <string.h>

#include "notes.h"
#include "record.h"

#define ID_SIZE	 sizeof(struct fp)
#define AT_ONCE	 512 /* records of one transaction */
#define VERDICTS 256

/* ---- a table, a transaction for each few records ---- */

struct slices {
	/* Of one record; not 0: no more. */
	int (*fn)(void *arg, struct kv_txn *t, const uint8_t *key, struct kv_val value);
	void *arg;
	struct kv_txn *t;
	uint8_t last[ID_SIZE];
	bool skip_last;
	unsigned n;
	int r;
};

static int see(void *arg, struct kv_val key, struct kv_val value)
{
	struct slices *s = arg;

	if (key.n != ID_SIZE || (s->skip_last && memcmp(key.p, s->last, ID_SIZE) == 0))
		return 0;
	memcpy(s->last, key.p, ID_SIZE);
	s->skip_last = true;
	if (value.p)
		s->r = s->fn(s->arg, s->t, key.p, value);
	return s->r || ++s->n == AT_ONCE;
}

/* From behind `after` (NULL: from the first). */
static int each(struct idx *x, enum tab tab, const struct fp *after, struct slices *s,
		struct err *e)
{
	int r;

	s->skip_last = after != NULL;
	if (after)
		memcpy(s->last, after->b, ID_SIZE);
	do {
		s->n = 0;
		r = kv_begin(x->kv, &s->t, e);
		if (r < 0)
			return r;
		r = kv_each(s->t, tab, s->skip_last ? s->last : NULL, s->skip_last ? ID_SIZE : 0,
			    see, s, e);
		kv_end(x->kv);
	} while (r > 0 && s->r == 0);
	return r < 0 ? r : s->r;
}

/* ---- results ---- */

/* What was told of a path set: does it have the path? */
struct verdict {
	struct fp id;
	bool known, yes;
};

struct scan {
	struct idx *x;
	const struct idx_scan_filter *f;
	int (*fn)(void *arg, const struct idx_head *h);
	void *arg;
	struct verdict verdicts[VERDICTS]; /* by the first byte of the id */
};

static int is_it(void *arg, const char *path, unsigned kinds)
{
	(void)kinds;
	return strcmp(path, arg) == 0;
}

static bool set_has(struct kv_txn *t, const struct fp *id, const char *path)
{
	uint8_t note[NOTE_KEY_SIZE];
	struct kv_val v;

	note_key(NOTE_PATHS, id, note);
	if (kv_get(t, TAB_NOTE, note, sizeof(note), &v, NULL) > 0 && !paths_may_have(v, path))
		return false;
	return kv_get(t, TAB_PATH_SET, id->b, ID_SIZE, &v, NULL) > 0 &&
	       path_set_each(v.p, v.n, is_it, (void *)(uintptr_t)path) == 1;
}

static bool reads(struct scan *s, struct kv_txn *t, const struct idx_head *h)
{
	struct verdict *v = &s->verdicts[h->path_set_id.b[0]];

	if (!v->known || !fp_eq(&v->id, &h->path_set_id))
		*v = (struct verdict){h->path_set_id, true,
				      set_has(t, &h->path_set_id, s->f->reads)};
	return v->yes;
}

static bool writes(struct kv_txn *t, const struct idx_head *h, const char *path,
		   struct kv_val record)
{
	struct kv_val row;
	struct result *r;
	bool found = false;

	if (kv_get(t, TAB_IO, h->input_key.b, ID_SIZE, &row, NULL) > 0 && io_whole(row) &&
	    !io_may_leave(row, path))
		return false;
	if (result_decode_brief(record.p, record.n, &r) < 0)
		return false;
	for (size_t i = 0; i < r->n_outputs && !found; i++)
		found = output_is_work(&r->outputs[i]) && strcmp(r->outputs[i].path, path) == 0;
	result_free(r);
	return found;
}

static int see_result(void *arg, struct kv_txn *t, const uint8_t *key, struct kv_val value)
{
	struct scan *s = arg;
	const struct idx_scan_filter *f = s->f;
	struct idx_head h;

	if (result_head(value.p, value.n, &h) < 0 || memcmp(h.input_key.b, key, ID_SIZE) != 0)
		return 0;
	if (f->name && (strlen(f->name) != h.n_name || memcmp(f->name, h.name, h.n_name) != 0))
		return 0;
	if ((f->reads && !reads(s, t, &h)) || (f->writes && !writes(t, &h, f->writes, value)))
		return 0;
	return s->fn(s->arg, &h);
}

int idx_scan(struct idx *x, const struct idx_scan_filter *f, const struct fp *after,
	     int (*fn)(void *arg, const struct idx_head *h), void *arg, struct err *e)
{
	auto_free struct scan *s = xcalloc(1, sizeof(*s));
	struct slices all = {.fn = see_result, .arg = s};

	s->x = x;
	s->f = f;
	s->fn = fn;
	s->arg = arg;
	return each(x, TAB_RESULT, after, &all, e);
}

int idx_scan_one(struct idx *x, const struct idx_scan_filter *f, const struct fp *key,
		 int (*fn)(void *arg, const struct idx_head *h), void *arg, struct err *e)
{
	auto_free struct scan *s = xcalloc(1, sizeof(*s));
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	s->x = x;
	s->f = f;
	s->fn = fn;
	s->arg = arg;
	r = kv_get(t, TAB_RESULT, key->b, ID_SIZE, &v, e);
	if (r > 0)
		r = see_result(s, t, key->b, v);
	kv_end(x->kv);
	return r;
}

/* ---- paths ---- */

struct paths {
	const char *dir; /* without the slash at its end: "" is the root */
	size_t n;
	int (*fn)(void *arg, const char *path, bool written);
	void *arg;
	bool written;
};

static bool is_below(const struct paths *p, const char *path)
{
	return strncmp(path, p->dir, p->n) == 0 && (path[p->n] == '/' || !path[p->n]);
}

static int see_path(void *arg, const char *path, unsigned kinds)
{
	struct paths *p = arg;

	(void)kinds;
	return is_below(p, path) ? p->fn(p->arg, path, false) : 0;
}

static int see_set(void *arg, struct kv_txn *t, const uint8_t *key, struct kv_val value)
{
	int r = path_set_each(value.p, value.n, see_path, arg);

	(void)t;
	(void)key;
	return r == -EBADMSG ? 0 : r; /* damaged: fsck finds it */
}

static int see_outputs(void *arg, struct kv_txn *t, const uint8_t *key, struct kv_val value)
{
	const struct paths *p = arg;
	struct result *r;
	int k = 0;

	(void)t;
	(void)key;
	if (result_decode_brief(value.p, value.n, &r) < 0)
		return 0;
	for (size_t i = 0; i < r->n_outputs && k == 0; i++)
		if (output_is_work(&r->outputs[i]) && is_below(p, r->outputs[i].path))
			k = p->fn(p->arg, r->outputs[i].path, true);
	result_free(r);
	return k;
}

int idx_scan_paths(struct idx *x, const char *dir,
		   int (*fn)(void *arg, const char *path, bool written), void *arg, struct err *e)
{
	struct paths p = {.dir = dir, .n = strlen(dir), .fn = fn, .arg = arg};
	struct slices sets = {.fn = see_set, .arg = &p}, results = {.fn = see_outputs, .arg = &p};
	int r;

	if (p.n && dir[p.n - 1] == '/')
		p.n--;
	r = each(x, TAB_PATH_SET, NULL, &sets, e);
	return r ? r : each(x, TAB_RESULT, NULL, &results, e);
}
