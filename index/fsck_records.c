/* SPDX-License-Identifier: MIT */
/* fsck_records.c - every record of the index by itself, and whether what they refer to is there. */
#include <errno.h>
#include <string.h>

#include "fsck.h"
#include "notes.h"
#include "record.h"

#define FP_SIZE	 sizeof(struct fp)
#define OID_SIZE sizeof(struct oid)

static const char *const names[TAB_COUNT] = {
	[TAB_OBJECT] = "object",
	[TAB_RESULT] = "result",
	[TAB_PATH_SET] = "path set",
	[TAB_STEP] = "step",
	[TAB_LEFT] = "record of what was left",
	[TAB_DIGEST] = "digest",
	[TAB_USED] = "time of use",
	[TAB_IO] = "row of outputs",
	[TAB_NOTE] = "note",
	[TAB_LRU] = "time of use",
	[TAB_REF] = "number of references",
	[TAB_DOOMED] = "object to be removed",
	[TAB_TALLY] = "sum",
};
static const size_t key_sizes[TAB_COUNT] = {
	[TAB_OBJECT] = OID_SIZE, [TAB_RESULT] = FP_SIZE, [TAB_PATH_SET] = FP_SIZE,
	[TAB_STEP] = FP_SIZE,	 [TAB_LEFT] = 24,	 [TAB_DIGEST] = FP_SIZE,
	[TAB_USED] = FP_SIZE,	 [TAB_IO] = FP_SIZE,	 [TAB_NOTE] = NOTE_KEY_SIZE,
	[TAB_LRU] = 24,		 [TAB_REF] = OID_SIZE,	 [TAB_DOOMED] = 40,
};

bool fsck_fits(enum tab tab, struct kv_val key)
{
	if (tab == TAB_TALLY) /* names */
		return key.n > 0 && key.n <= 16;
	return tab < TAB_COUNT && (key.n == key_sizes[tab] || (tab == TAB_REF && key.n == FP_SIZE));
}

static struct problem *note_record(struct fsck *f, bool broken, enum tab tab, struct kv_val key,
				   uint64_t guard, const char *detail)
{
	char digits[2 * 64 + 1];
	size_t n = key.n < 64 ? key.n : 64;
	struct problem *p;

	hex(key.p, n, digits);
	p = fsck_note(f, broken, MEND_RECORD, names[tab], digits, detail);
	p->tab = tab;
	p->nkey = key.n < sizeof(p->key) ? key.n : sizeof(p->key);
	memcpy(p->key, key.p, p->nkey);
	p->guard = guard;
	return p;
}

/* ---- each kind; NULL: well, else what is wrong ---- */

static void add_wanted(struct fsck *f, const struct oid *o, uint64_t size, const char *as)
{
	fsck_grow(f->wanted, f->n_wanted, f->cap_wanted);
	f->wanted[f->n_wanted++] = (struct wanted){*o, size, as};
}

static const char *look_at_result(struct fsck *f, struct kv_val key, struct kv_val v)
{
	struct judged j = {.first = f->n_wanted, .guard = xxh64_of(v.p, v.n)};
	struct result *r;

	if (result_decode(v.p, v.n, &r) < 0)
		return "it makes no sense";
	if (memcmp(r->input_key.b, key.p, FP_SIZE) != 0) {
		result_free(r);
		return "it belongs to another key";
	}
	if (r->console_len)
		add_wanted(f, &r->console_oid, r->console_len, "its console");
	if (result_stdin(r))
		add_wanted(f, result_stdin(r), r->stdin_len, "what it read from stdin");
	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_FILE)
			add_wanted(f, &r->outputs[i].oid, r->outputs[i].now.size, "an output");
	for (size_t i = 0; i < r->n_states; i++) {
		struct state_parts s;

		if (state_parse(r->states[i].data, r->states[i].len, &s) < 0)
			continue; /* the key says what it has to */
		if (s.has_list)
			buf_add(&f->listings, &s.list, FP_SIZE);
		state_parts_free(&s);
	}
	buf_add(&f->steps, &r->step_key, FP_SIZE);
	j.key = r->input_key;
	j.step_key = r->step_key;
	j.bytes = v.n;
	j.path_set = r->path_set_id;
	j.n_states = r->n_states;
	j.name = xstrdup(r->name ? r->name : "");
	j.n = f->n_wanted - j.first;
	result_free(r);
	fsck_grow(f->results, f->n_results, f->cap_results);
	f->results[f->n_results++] = j;
	return NULL;
}

static const char *look_at_path_set(struct fsck *f, struct kv_val key, struct kv_val v)
{
	struct fp id = fp_of(v.p, v.n);
	struct path_set s;

	if (memcmp(id.b, key.p, FP_SIZE) != 0)
		return "its bytes are not those of its name";
	if (path_set_decode(v.p, v.n, &s) < 0)
		return "it makes no sense";
	fsck_grow(f->sets, f->n_sets, f->cap_sets);
	f->sets[f->n_sets++] = (struct set){.id = id, .n = s.n};
	path_set_free(&s);
	return NULL;
}

static const char *look_at_object(struct fsck *f, struct kv_val key, struct kv_val v)
{
	struct known o = {.size = v.n, .small = true};
	struct oid now;

	memcpy(o.oid.b, key.p, OID_SIZE);
	o.good = v.n && v.n <= STORE_INLINE_MAX && oid_of(v.p, v.n, &now) == 0 &&
		 oid_eq(&now, &o.oid);
	f->n->object_bytes += v.n;
	fsck_grow(f->objects, f->n_objects, f->cap_objects);
	f->objects[f->n_objects++] = o;
	return o.good ? NULL : "its bytes are not those of its name";
}

static const char *look_at_step(struct fsck *f, struct kv_val key, struct kv_val v)
{
	(void)f;
	(void)key;
	if (!v.n || v.n % FP_SIZE || v.n > IDX_MAX_PATH_SETS * FP_SIZE)
		return "it makes no sense";
	return NULL;
}

static const char *look_at_note(struct fsck *f, struct kv_val key, struct kv_val v)
{
	const uint8_t *k = key.p;
	const char *wrong = note_wrong(key, v);
	struct note n = {.kind = k[0], .bytes = v.n};

	if (wrong)
		return wrong;
	memcpy(n.of.b, k + 1, FP_SIZE);
	fsck_grow(f->notes, f->n_notes, f->cap_notes);
	f->notes[f->n_notes++] = n;
	return NULL;
}

static const char *look_at_used(struct fsck *f, struct kv_val key, struct kv_val v)
{
	struct cur c = {v.p, (const uint8_t *)v.p + v.n, false};
	uint8_t lru[LRU_KEY_SIZE];

	buf_add(&f->used, key.p, FP_SIZE);
	lru_key(cur_u64(&c), key.p, lru);
	buf_add(&f->used_lru, lru, sizeof(lru));
	return v.n == 8 ? NULL : "it makes no sense";
}

static const char *look_at(struct fsck *f, enum tab tab, struct kv_val key, struct kv_val v)
{
	switch (tab) {
	case TAB_OBJECT:
		return look_at_object(f, key, v);
	case TAB_RESULT:
		return look_at_result(f, key, v);
	case TAB_PATH_SET:
		return look_at_path_set(f, key, v);
	case TAB_STEP:
		return look_at_step(f, key, v);
	case TAB_USED:
		return look_at_used(f, key, v);
	case TAB_IO:
		buf_add(&f->io, key.p, FP_SIZE);
		return io_whole(v) ? NULL : "it makes no sense";
	case TAB_NOTE:
		return look_at_note(f, key, v);
	case TAB_LEFT:
		return v.n == 8 ? NULL : "it makes no sense";
	case TAB_DIGEST:
		f->n->digests++;
		return v.n == 48 ? NULL : "it makes no sense";
	case TAB_LRU:
	case TAB_REF:
	case TAB_DOOMED:
	case TAB_TALLY:
		return fsck_look_at_refs(f, tab, key, v);
	case TAB_COUNT:
		break;
	}
	return NULL;
}

bool fsck_is_found(struct kv_txn *t, enum tab tab, struct kv_val key, struct kv_val v)
{
	struct kv_val again;

	return kv_get(t, tab, key.p, key.n, &again, NULL) > 0 && again.p == v.p;
}

static int look(struct fsck_at *at, struct kv_val key, struct kv_val v)
{
	const char *wrong;

	if (!v.p || !fsck_fits(at->tab, key)) {
		/* Its key, too, may be another than it was: then it cannot be deleted by it. */
		note_record(at->f, true, at->tab, key, 0, "it is damaged")->mend = MEND_INDEX;
		at->f->disordered = true;
		return 0;
	}
	/* In a tree that is out of order a record is there, and is not found. */
	if (!fsck_is_found(at->t, at->tab, key, v)) {
		note_record(at->f, true, at->tab, key, 0, "it is not found by its key")->mend =
			MEND_INDEX;
		at->f->disordered = true;
	}
	wrong = look_at(at->f, at->tab, key, v);
	if (wrong && at->tab == TAB_RESULT && result_is_earlier(v.p, v.n))
		(void)note_record(at->f, false, at->tab, key, xxh64_of(v.p, v.n),
				  "an earlier mlfs made it, and it is not used");
	else if (wrong)
		(void)note_record(at->f, true, at->tab, key, xxh64_of(v.p, v.n), wrong);
	return 0;
}

int fsck_records(struct fsck *f)
{
	struct kv_txn *t;
	int r = kv_begin(f->x->kv, &t, f->e);

	if (r == 0 && f->x->version == IDX_SCHEMA && !kv_tables_whole(t)) {
		(void)fsck_note(f, true, MEND_INDEX, "index", "index/data.mdb",
				"it has not the tables that it should have");
		f->disordered = true;
	}
	if (r == 0)
		r = fsck_each_record(f, t, look);
	kv_end(f->x->kv);
	f->n->results = f->n_results;
	f->n->path_sets = f->n_sets;
	return r;
}

/* ---- references ---- */

static int by_oid(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return memcmp(x->oid.b, y->oid.b, OID_SIZE);
}

static int by_fp(const void *a, const void *b)
{
	return memcmp(a, b, FP_SIZE); /* struct fp, or what begins with one */
}

/* The empty object is there without being kept. */
static bool is_empty(const struct wanted *w)
{
	struct oid empty;

	return w->size == 0 && oid_of("", 0, &empty) == 0 && oid_eq(&empty, &w->oid);
}

/* NULL: there and whole, else what is wrong with it. */
static const char *look_for(struct fsck *f, const struct wanted *w)
{
	const struct known key = {.oid = w->oid};
	struct known *o =
		f->n_objects ? bsearch(&key, f->objects, f->n_objects, sizeof(*f->objects), by_oid)
			     : NULL;
	const char *wrong = "is missing";

	if (is_empty(w))
		return NULL;
	if (!o)
		return wrong;
	while (o > f->objects && oid_eq(&o[-1].oid, &w->oid))
		o--;
	for (; o < f->objects + f->n_objects && oid_eq(&o->oid, &w->oid); o++) {
		o->wanted = true;
		if (o->good && o->size == w->size)
			return NULL;
		wrong = o->good ? "is not as long as recorded" : "is damaged";
	}
	return wrong;
}

static void judge(struct fsck *f, const struct judged *j)
{
	const struct set key = {.id = j->path_set};
	struct set *s =
		f->n_sets ? bsearch(&key, f->sets, f->n_sets, sizeof(*f->sets), by_fp) : NULL;
	auto_free char *detail = NULL, *name = NULL;
	struct problem *p;

	for (size_t i = j->first; i < j->first + j->n; i++) {
		const char *wrong = look_for(f, &f->wanted[i]);
		char digits[2 * OID_SIZE + 1];

		hex(f->wanted[i].oid.b, OID_SIZE, digits);
		if (wrong && !detail)
			detail = xasprintf("%s (object %.16s) %s", f->wanted[i].as, digits, wrong);
	}
	if (s)
		s->used = true;
	if (!detail && !s)
		detail = xstrdup("its path set is missing");
	else if (!detail && s->n != j->n_states)
		detail = xstrdup("its states are not those of its path set");
	if (!detail)
		return;
	p = note_record(f, true, TAB_RESULT, (struct kv_val){j->key.b, FP_SIZE}, j->guard, detail);
	name = p->name;
	p->name = xasprintf("%s (%s)", name, j->name);
}

static bool has_result(const struct fsck *f, const uint8_t *key)
{
	return f->n_results &&
	       bsearch(key, f->results, f->n_results, sizeof(*f->results), by_fp) != NULL;
}

static void note_object(struct fsck *f, const struct known *o)
{
	char digits[2 * OID_SIZE + 1];
	struct problem *p;

	hex(o->oid.b, OID_SIZE, digits);
	p = fsck_note(f, false, o->small ? MEND_RECORD : MEND_OBJECT, "object", digits,
		      "no result refers to it");
	p->tab = TAB_OBJECT;
	p->nkey = OID_SIZE;
	memcpy(p->key, o->oid.b, OID_SIZE);
	p->oid = o->oid;
	p->bytes = o->size;
}

static bool has_fp(const struct buf *sorted, const struct fp *fp)
{
	return sorted->len &&
	       bsearch(fp, sorted->data, sorted->len / FP_SIZE, FP_SIZE, by_fp) != NULL;
}

static void look_for_use(struct fsck *f, const struct note *n)
{
	const struct set key = {.id = n->of};
	uint8_t bytes[NOTE_KEY_SIZE];
	bool used = true;

	if (n->kind == NOTE_LISTING)
		used = has_fp(&f->listings, &n->of);
	else if (n->kind == NOTE_STEP)
		used = has_fp(&f->steps, &n->of);
	else if (n->kind == NOTE_PATHS)
		used = f->n_sets &&
		       bsearch(&key, f->sets, f->n_sets, sizeof(*f->sets), by_fp) != NULL;
	if (used)
		return;
	note_key((enum note_kind)n->kind, &n->of, bytes);
	note_record(f, false, TAB_NOTE, (struct kv_val){bytes, sizeof(bytes)}, 0,
		    "what it tells of is gone")
		->bytes = n->bytes;
}

/* What a step is about to refer to is not left over: it is young, or nobody has the cache open. */
static void note_left_over(struct fsck *f)
{
	for (size_t i = 0; i < f->n_objects; i++) {
		const struct known *o = &f->objects[i];

		if (!o->wanted && o->good && !lazy_pinned(f->dirfd, &o->oid) &&
		    (f->alone || (!o->small && o->mtime_ns < f->begun_ns - FSCK_YOUNG_NS)))
			note_object(f, o);
	}
	if (!f->alone)
		return;
	for (size_t i = 0; i < f->n_sets; i++)
		if (!f->sets[i].used)
			(void)note_record(f, false, TAB_PATH_SET,
					  (struct kv_val){f->sets[i].id.b, FP_SIZE}, 0,
					  "no result refers to it");
	for (size_t i = 0; i < f->io.len; i += FP_SIZE)
		if (!has_result(f, f->io.data + i))
			(void)note_record(f, false, TAB_IO,
					  (struct kv_val){f->io.data + i, FP_SIZE}, 0,
					  "its result is gone");
	for (size_t i = 0; i < f->n_notes; i++)
		look_for_use(f, &f->notes[i]);
	for (size_t i = 0; i < f->used.len; i += FP_SIZE)
		if (!has_result(f, f->used.data + i))
			(void)note_record(f, false, TAB_USED,
					  (struct kv_val){f->used.data + i, FP_SIZE}, 0,
					  "its result is gone");
}

/* What is not real yet, and never will be. */
static int look_at_lazy(void *arg, const struct lazy_record *r)
{
	struct fsck *f = arg;
	const struct known key = {.oid = r->oid};
	const struct known *o =
		f->n_objects ? bsearch(&key, f->objects, f->n_objects, sizeof(*f->objects), by_oid)
			     : NULL;

	if (!o || !o->good)
		(void)fsck_note(f, true, MEND_NOT, "placeholder", r->path,
				o ? "its object is damaged" : "its object is missing");
	return 0;
}

void fsck_references(struct fsck *f)
{
	if (f->n_objects)
		qsort(f->objects, f->n_objects, sizeof(*f->objects), by_oid);
	if (f->n_sets)
		qsort(f->sets, f->n_sets, sizeof(*f->sets), by_fp);
	for (size_t i = 0; i < f->n_results; i++)
		judge(f, &f->results[i]);
	if (f->n_results)
		qsort(f->results, f->n_results, sizeof(*f->results), by_fp);
	if (f->listings.len)
		qsort(f->listings.data, f->listings.len / FP_SIZE, FP_SIZE, by_fp);
	if (f->steps.len)
		qsort(f->steps.data, f->steps.len / FP_SIZE, FP_SIZE, by_fp);
	fsck_refs(f);
	note_left_over(f);
	(void)lazy_each(f->dirfd, look_at_lazy, f);
	f->n->objects = f->n_objects;
}
