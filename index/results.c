/* SPDX-License-Identifier: MIT */
/* results.c - step keys, path sets, results and what recorded steps left behind, in LMDB. */
#include <errno.h>
#include <string.h>

#include "notes.h"
#include "objects.h"
#include "record.h"
#include "refs.h"

#define ID_SIZE sizeof(((struct fp *)0)->b)
#define DAY_NS	(INT64_C(86400) * 1000000000)

/* ---- step key -> path sets ---- */

/* The list of a step: ids, newest first. *ret is borrowed from the transaction. */
static int step_ids(struct kv_txn *t, const struct fp *step_key, struct kv_val *ret, struct err *e)
{
	int r = kv_get(t, TAB_STEP, step_key->b, ID_SIZE, ret, e);

	if (r <= 0)
		*ret = (struct kv_val){NULL, 0};
	else if (ret->n % ID_SIZE)
		ret->n -= ret->n % ID_SIZE; /* of a later schema, perhaps: the whole ones will do */
	return r < 0 ? r : 0;
}

int step_promote(struct kv_txn *t, const struct fp *step_key, const struct fp *id, bool add,
		 struct err *e)
{
	auto_buf struct buf list = {0};
	struct kv_val was;
	const uint8_t *p;
	bool found = false;
	int r = step_ids(t, step_key, &was, e);

	if (r < 0)
		return r;
	p = was.p;
	if (was.n && memcmp(p, id->b, ID_SIZE) == 0)
		return 0; /* first already */
	buf_add(&list, id->b, ID_SIZE);
	for (size_t i = 0; i < was.n; i += ID_SIZE) {
		if (memcmp(p + i, id->b, ID_SIZE) == 0)
			found = true;
		else if (list.len < IDX_MAX_PATH_SETS * ID_SIZE)
			buf_add(&list, p + i, ID_SIZE);
	}
	if (!found && !add)
		return 0;
	return kv_put(t, TAB_STEP, step_key->b, ID_SIZE, list.data, list.len, e);
}

int list_remove(struct kv_txn *t, const struct fp *key, const struct fp *id, struct err *e)
{
	auto_buf struct buf list = {0};
	struct kv_val was;
	int r = step_ids(t, key, &was, e);

	for (size_t i = 0; r >= 0 && i < was.n; i += ID_SIZE)
		if (memcmp((const uint8_t *)was.p + i, id->b, ID_SIZE) != 0)
			buf_add(&list, (const uint8_t *)was.p + i, ID_SIZE);
	if (r < 0 || list.len == was.n)
		return r;
	return list.len ? kv_put(t, TAB_STEP, key->b, ID_SIZE, list.data, list.len, e)
			: kv_del(t, TAB_STEP, key->b, ID_SIZE, e);
}

/* 1: decoded; 0: there is none, or it makes no sense. */
static int get_path_set(struct kv_txn *t, const struct fp *id, struct path_set *ret, struct err *e)
{
	struct kv_val v;
	int r = kv_get(t, TAB_PATH_SET, id->b, ID_SIZE, &v, e);

	if (r <= 0)
		return r;
	return path_set_decode(v.p, v.n, ret) == 0;
}

int idx_path_sets_begin(struct idx *x, const struct fp *step_key, struct path_set_list *ret,
			struct err *e)
{
	struct path_set_list l = {0};
	int r = idx_variants(x, step_key, &l.ids, &l.end, e);

	if (r < 0)
		return r;
	if (l.end)
		l.sets = xcalloc(l.end, sizeof(*l.sets));
	*ret = l;
	return 0;
}

int idx_path_sets_next(struct idx *x, struct path_set_list *l, struct err *e)
{
	struct kv_txn *t;
	int r;

	if (l->next == l->end)
		return 0;
	r = kv_begin(x->kv, &t, e);
	if (r < 0)
		return r;
	while (r == 0 && l->next < l->end) {
		l->ids[l->n] = l->ids[l->next++];
		r = get_path_set(t, &l->ids[l->n], &l->sets[l->n], e);
	}
	kv_end(x->kv);
	if (r > 0)
		l->n++;
	return r;
}

int idx_path_sets(struct idx *x, const struct fp *step_key, struct path_set_list *ret,
		  struct err *e)
{
	struct path_set_list l = {0};
	struct kv_txn *t;
	int r = kv_begin(x->kv, &t, e); /* all of one snapshot */

	if (r < 0)
		return r;
	r = idx_path_sets_begin(x, step_key, &l, e);
	if (r == 0)
		while ((r = idx_path_sets_next(x, &l, e)) > 0)
			continue;
	kv_end(x->kv);
	if (r < 0) {
		path_set_list_free(&l);
		return r;
	}
	*ret = l;
	return 0;
}

int idx_path_iter(struct idx *x, const struct fp *id, struct path_iter *ret, struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_PATH_SET, id->b, ID_SIZE, &v, e);
	if (r == 0)
		r = err_set(e, ENOENT, "cannot find a path set");
	else if (r > 0 && (r = path_iter_begin(v.p, v.n, ret)) < 0)
		r = err_set(e, ENOENT, "cannot read a path set");
	kv_end(x->kv);
	return r;
}

int idx_path_set_each(struct idx *x, const struct fp *id,
		      int (*fn)(void *arg, const char *path, unsigned kinds), void *arg,
		      struct err *e)
{
	struct path_iter i = {0};
	int r = idx_begin_read(x, e);

	if (r < 0)
		return r;
	r = idx_path_iter(x, id, &i, e);
	if (r == 0)
		r = path_iter_each(&i, fn, arg);
	path_iter_end(&i);
	idx_end_read(x);
	return r == -EBADMSG ? err_set(e, ENOENT, "cannot read a path set") : r;
}

int idx_variants(struct idx *x, const struct fp *base_key, struct fp **ret, size_t *ret_n,
		 struct err *e)
{
	struct fp *keys = NULL;
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = step_ids(t, base_key, &v, e);
	if (r >= 0 && v.n) {
		keys = xmalloc(v.n);
		memcpy(keys, v.p, v.n);
	}
	kv_end(x->kv);
	if (r < 0)
		return r;
	*ret = keys;
	*ret_n = v.n / ID_SIZE;
	return 0;
}

/* The key in TAB_STEP under which a step's results are listed. */
static struct fp results_key(const struct fp *step_key)
{
	static const char domain[] = "mlfs results of step 1";
	struct fp_state *s = fp_begin();

	fp_update(s, domain, sizeof(domain));
	fp_update(s, step_key->b, ID_SIZE);
	return fp_end(s);
}

bool is_step(struct kv_txn *t, const struct fp *key)
{
	struct fp results = results_key(key);
	struct kv_val v;

	return kv_get(t, TAB_STEP, results.b, ID_SIZE, &v, NULL) > 0;
}

int idx_step_results(struct idx *x, const struct fp *step_key, struct fp **ret, size_t *ret_n,
		     struct err *e)
{
	struct fp key = results_key(step_key);

	return idx_variants(x, &key, ret, ret_n, e);
}

void path_set_list_free(struct path_set_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		path_set_free(&l->sets[i]);
	free(l->sets);
	free(l->ids);
	*l = (struct path_set_list){0};
}

/* ---- what was left at a path ---- */

#define LEFT_KEY_SIZE 24

/* The directory comes first so that the outputs of one step lie together in the tree. */
static void left_key(const char *path, const struct left *l, uint8_t key[LEFT_KEY_SIZE])
{
	const char *slash = strrchr(path, '/');
	struct fp dir = fp_of(path, slash ? (size_t)(slash - path) : 0), all;
	auto_buf struct buf b = {0};

	buf_add(&b, path, strlen(path) + 1);
	left_encode(l, &b);
	all = fp_of(b.data, b.len);
	memcpy(key, dir.b, 8);
	memcpy(key + 8, all.b, sizeof(all.b));
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, LEFT_KEY_SIZE);
}

static int put_left(struct kv_txn *t, const uint8_t *key, int64_t when, struct err *e)
{
	auto_buf struct buf value = {0};
	struct kv_val was;
	int r = kv_get(t, TAB_LEFT, key, LEFT_KEY_SIZE, &was, e);

	if (r < 0)
		return r;
	if (r > 0 && was.n == 8) {
		struct cur c = {was.p, (const uint8_t *)was.p + was.n, false};

		int64_t age = when - (int64_t)cur_u64(&c);

		/* The time is for gc, which counts in days. One in the future is of a clock that was wrong. */
		if (age >= 0 && age < DAY_NS)
			return 0;
	}
	buf_u64(&value, (uint64_t)when);
	return kv_put(t, TAB_LEFT, key, LEFT_KEY_SIZE, value.data, value.len, e);
}

static int put_lefts(struct kv_txn *t, const struct output *v, size_t n_v, int64_t when,
		     struct err *e)
{
	auto_free uint8_t *keys = n_v ? malloc(n_v * LEFT_KEY_SIZE) : NULL;
	size_t n = 0;
	int k = 0;

	if (n_v && !keys)
		return err_set(e, ENOMEM, "cannot store a result");
	for (size_t i = 0; i < n_v; i++)
		if (v[i].now.type != OUT_ABSENT && !v[i].now.unknown && !v[i].untouched &&
		    !v[i].as_before)
			left_key(v[i].path, &v[i].now, keys + LEFT_KEY_SIZE * n++);
	if (n)
		qsort(keys, n, LEFT_KEY_SIZE, by_key);
	for (size_t i = 0; k >= 0 && i < n; i++)
		k = put_left(t, keys + LEFT_KEY_SIZE * i, when, e);
	return k;
}

struct lefts {
	const struct output *v;
	size_t n;
};

static int add_lefts(void *arg, struct kv_txn *t, struct err *e)
{
	const struct lefts *l = arg;

	return put_lefts(t, l->v, l->n, now_ns(), e);
}

int idx_left_add(struct idx *x, const struct output *v, size_t n, struct err *e)
{
	struct lefts l = {v, n};

	return kv_write(x->kv, add_lefts, &l, e);
}

int idx_left_known(struct idx *x, const char *path, const struct left *l)
{
	uint8_t key[LEFT_KEY_SIZE];
	struct kv_txn *t;
	struct kv_val v;
	int r;

	if (l->unknown || l->type == OUT_ABSENT)
		return 0;
	left_key(path, l, key);
	r = kv_begin(x->kv, &t, NULL);
	if (r < 0)
		return r;
	r = kv_get(t, TAB_LEFT, key, sizeof(key), &v, NULL);
	kv_end(x->kv);
	return r;
}

/* ---- results ---- */

static int get_result(struct idx *x, const struct fp *input_key,
		      int (*decode)(const void *p, size_t n, struct result **ret),
		      struct result **ret, struct err *e)
{
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_RESULT, input_key->b, ID_SIZE, &v, e);
	if (r > 0)
		r = decode(v.p, v.n, ret) == 0;
	kv_end(x->kv);
	return r;
}

int idx_result_get(struct idx *x, const struct fp *input_key, struct result **ret, struct err *e)
{
	return get_result(x, input_key, result_decode, ret, e);
}

int idx_result_get_brief(struct idx *x, const struct fp *input_key, struct result **ret,
			 struct err *e)
{
	return get_result(x, input_key, result_decode_brief, ret, e);
}

int idx_result_states(struct idx *x, const struct fp *input_key,
		      void (*fn)(void *arg, const struct result_states *s), void *arg)
{
	struct result_states s;
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, NULL);

	if (r < 0)
		return r;
	r = kv_get(t, TAB_RESULT, input_key->b, ID_SIZE, &v, NULL);
	if (r > 0)
		r = result_states(v.p, v.n, &s) == 0;
	if (r > 0)
		fn(arg, &s);
	kv_end(x->kv);
	return r;
}

struct put {
	struct idx *x;
	const struct result *r;
	const struct path_set *s;
	struct buf result, path_set, uses;
};

static void put_free(struct put *p)
{
	buf_free(&p->result);
	buf_free(&p->path_set);
	buf_free(&p->uses);
}
#define auto_put __attribute__((cleanup(put_free)))

/* A record that could not be read again would be a miss for ever: better said where it is made. */
static int encode_put(struct put *p, const struct path_set *s, struct err *e)
{
	struct result *r;

	path_set_encode(s, &p->path_set);
	result_encode(p->r, &p->result);
	if (path_set_check(p->path_set.data, p->path_set.len) < 0)
		return err_text(
			e, EINVAL,
			"cannot store a result: its path set is not sorted, or has a path twice");
	if (result_decode_brief(p->result.data, p->result.len, &r) < 0)
		return err_text(e, EINVAL,
				"cannot store a result: its fields contradict each other");
	result_free(r);
	return 0;
}

static int put_path_set(struct kv_txn *t, const struct put *p, struct err *e)
{
	struct kv_val was;
	int r = kv_get(t, TAB_PATH_SET, p->r->path_set_id.b, ID_SIZE, &was, e);

	if (r < 0 ||
	    (r > 0 && was.n == p->path_set.len && memcmp(was.p, p->path_set.data, was.n) == 0))
		return r < 0 ? r : 0;
	return kv_put(t, TAB_PATH_SET, p->r->path_set_id.b, ID_SIZE, p->path_set.data,
		      p->path_set.len, e);
}

/* The one that has the same key so far does not refer to anything any more. */
static int unref_former(struct kv_txn *t, struct tally *y, const struct fp *key, struct err *e)
{
	struct result *former;
	struct kv_val v;
	int r = kv_get(t, TAB_RESULT, key->b, ID_SIZE, &v, e);

	if (r <= 0)
		return r;
	if (result_decode(v.p, v.n, &former) < 0) {
		y->stale = true;
		return 0;
	}
	r = refs_del(t, y, former, v.n, e);
	result_free(former);
	return r;
}

static int put_in(void *arg, struct kv_txn *t, struct err *e)
{
	static const struct fp none;
	struct put *p = arg;
	struct fp results = results_key(&p->r->step_key);
	struct tally y;
	int r = objects_write(p->x, t, e); /* what the result speaks of becomes durable with it */

	if (r >= 0)
		r = tally_load(t, &y, e);
	if (r >= 0)
		r = put_path_set(t, p, e);
	if (r >= 0)
		r = notes_put(t, p->r, p->s, e);
	/* First, so that what both refer to is not doomed in between. */
	if (r >= 0)
		r = refs_add(p->x, t, &y, p->r, p->result.len, true, e);
	if (r >= 0)
		r = unref_former(t, &y, &p->r->input_key, e);
	if (r >= 0)
		r = tally_save(t, &y, e);
	if (r >= 0)
		r = kv_put(t, TAB_RESULT, p->r->input_key.b, ID_SIZE, p->result.data, p->result.len,
			   e);
	if (r >= 0)
		r = uses_apply(&p->uses, t, e);
	if (r >= 0)
		r = step_promote(t, &p->r->step_key, &p->r->path_set_id, true, e);
	if (r >= 0 && !fp_eq(&p->r->base_key, &none) && !fp_eq(&p->r->base_key, &p->r->input_key))
		r = step_promote(t, &p->r->base_key, &p->r->input_key, true, e);
	if (r >= 0)
		r = step_promote(t, &results, &p->r->input_key, true, e);
	if (r >= 0)
		r = used_set(t, p->r->input_key.b, (uint64_t)p->r->stored_ns, e);
	if (r >= 0)
		r = io_put(t, p->r, e);
	return r < 0 ? r : put_lefts(t, p->r->outputs, p->r->n_outputs, p->r->stored_ns, e);
}

int idx_result_put(struct idx *x, const struct result *r, const struct path_set *s, struct err *e)
{
	auto_put struct put p = {.x = x, .r = r, .s = s};
	int k = encode_put(&p, s, e);

	if (k < 0)
		return k;
	if (!x->read_only)
		uses_take(x, &p.uses);
	objects_lock(x);
	k = kv_write(x->kv, put_in, &p, e);
	objects_unlock(x, k == 0);
	return k;
}

int idx_result_touch(struct idx *x, const struct result *r, struct err *e)
{
	return x->read_only ? 0 : uses_add(x, r, e);
}

/* ---- removing ---- */

static int remove_from_lists(struct kv_txn *t, const struct result *r, struct err *e)
{
	/* What a result's variants are listed under; all that it is made of is in the record. */
	struct fp base = input_key_base(r), results = results_key(&r->step_key);
	int k = list_remove(t, &results, &r->input_key, e);

	return k < 0 ? k : list_remove(t, &base, &r->input_key, e);
}

/* The one place where a result goes: whatever hangs on it is removed here. */
int result_remove(struct kv_txn *t, struct tally *y, const struct fp *key, struct removed *ret,
		  struct err *e)
{
	uint64_t before = tally_bytes(y);
	struct result *res = NULL;
	struct kv_val v;
	int there = kv_get(t, TAB_RESULT, key->b, ID_SIZE, &v, e), r = 0;

	if (there < 0)
		return there;
	if (there && result_decode(v.p, v.n, &res) == 0) {
		r = refs_del(t, y, res, v.n, e);
		if (r >= 0)
			r = remove_from_lists(t, res, e);
	}
	if (r >= 0)
		r = used_del(t, key->b, e);
	if (r >= 0)
		r = kv_del(t, TAB_IO, key->b, ID_SIZE, e);
	if (r >= 0)
		r = kv_del(t, TAB_RESULT, key->b, ID_SIZE, e);
	if (r > 0 && !res)
		y->stale =
			true; /* damaged, or of another version: what it referred to is not known */
	if (r > 0 && ret)
		*ret = (struct removed){res && res->name ? xstrdup(res->name) : NULL,
					before - tally_bytes(y)};
	if (res)
		result_free(res);
	return r;
}

static int drop_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct tally y;
	int r = tally_load(t, &y, e);

	if (r >= 0)
		r = result_remove(t, &y, arg, NULL, e);
	return r < 0 ? r : tally_save(t, &y, e);
}

int idx_result_drop(struct idx *x, const struct fp *input_key, struct err *e)
{
	struct fp key = *input_key;

	return kv_write(x->kv, drop_in, &key, e);
}
