/* SPDX-License-Identifier: MIT */
/* refs.c - how many results refer to each object and path set, and in which order results were used; see refs.h. */
#include "refs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "notes.h"

#define ID_SIZE	   16
#define TALLY_NAME "sums"

/* ---- keys ---- */

static void put_be(uint8_t *to, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		to[i] = (uint8_t)(v >> (56 - 8 * i));
}

uint64_t key_time(const void *key)
{
	const uint8_t *b = key;
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | b[i];
	return v;
}

void lru_key(uint64_t when, const uint8_t *key, uint8_t ret[LRU_KEY_SIZE])
{
	put_be(ret, when);
	memcpy(ret + 8, key, ID_SIZE);
}

void doomed_key(uint64_t when, const struct oid *o, uint8_t ret[DOOMED_KEY_SIZE])
{
	put_be(ret, when);
	memcpy(ret + 8, o->b, sizeof(o->b));
}

struct fp refs_pair(const struct fp *step_key, const struct fp *path_set_id)
{
	static const char domain[] = "mlfs path set of step 1";
	struct fp_state *s = fp_begin();

	fp_update(s, domain, sizeof(domain));
	fp_update(s, step_key->b, ID_SIZE);
	fp_update(s, path_set_id->b, ID_SIZE);
	return fp_end(s);
}

int each_object(const struct result *r, int (*fn)(void *arg, const struct oid *o, uint64_t size),
		void *arg)
{
	int k = 0;

	if (r->console_len)
		k = fn(arg, &r->console_oid, r->console_len);
	if (k >= 0 && result_stdin(r))
		k = fn(arg, result_stdin(r), r->stdin_len);
	for (size_t i = 0; k >= 0 && i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_FILE && r->outputs[i].now.size)
			k = fn(arg, &r->outputs[i].oid, r->outputs[i].now.size);
	return k < 0 ? k : 0;
}

/* ---- records ---- */

int ref_get(struct kv_txn *t, const void *key, size_t nkey, struct ref *ret, struct err *e)
{
	struct kv_val v;
	struct cur c;
	int r = kv_get(t, TAB_REF, key, nkey, &v, e);

	*ret = (struct ref){0};
	if (r <= 0)
		return r;
	c = (struct cur){v.p, (const uint8_t *)v.p + v.n, false};
	ret->count = cur_varint(&c);
	ret->size = cur_varint(&c);
	ret->doomed = cur_varint(&c);
	if (!c.bad && c.p == c.end)
		return 1;
	*ret = (struct ref){0};
	return 0;
}

static int ref_put(struct kv_txn *t, const void *key, size_t nkey, const struct ref *f,
		   struct err *e)
{
	auto_buf struct buf b = {0};

	buf_varint(&b, f->count);
	buf_varint(&b, f->size);
	buf_varint(&b, f->doomed);
	return kv_put(t, TAB_REF, key, nkey, b.data, b.len, e);
}

int tally_load(struct kv_txn *t, struct tally *ret, struct err *e)
{
	struct kv_val v;
	struct cur c;
	int r = kv_get(t, TAB_TALLY, TALLY_NAME, sizeof(TALLY_NAME) - 1, &v, e);

	*ret = (struct tally){0};
	if (r <= 0)
		return r;
	c = (struct cur){v.p, (const uint8_t *)v.p + v.n, false};
	ret->object_bytes = cur_u64(&c);
	ret->record_bytes = cur_u64(&c);
	ret->doomed_bytes = cur_u64(&c);
	ret->stale = cur_u8(&c);
	if (c.bad)
		*ret = (struct tally){.stale = true};
	return 0;
}

int tally_save(struct kv_txn *t, const struct tally *y, struct err *e)
{
	auto_buf struct buf b = {0};

	buf_u64(&b, y->object_bytes);
	buf_u64(&b, y->record_bytes);
	buf_u64(&b, y->doomed_bytes);
	buf_u8(&b, y->stale);
	return kv_put(t, TAB_TALLY, TALLY_NAME, sizeof(TALLY_NAME) - 1, b.data, b.len, e);
}

uint64_t tally_bytes(const struct tally *y)
{
	uint64_t all = y->object_bytes + y->record_bytes;

	return all > y->doomed_bytes ? all - y->doomed_bytes : 0;
}

/* ---- references ---- */

struct change {
	struct idx *x; /* NULL: objects are not looked for */
	struct kv_txn *t;
	struct tally *y;
	uint64_t now;
	struct err *e;
};

static void less(uint64_t *from, uint64_t n)
{
	*from -= n < *from ? n : *from;
}

static uint64_t *sum_of(struct tally *y, uint64_t size)
{
	return size > STORE_INLINE_MAX ? &y->object_bytes : &y->record_bytes;
}

void refs_gone(struct tally *y, const struct ref *f)
{
	less(sum_of(y, f->size), f->size);
	less(&y->doomed_bytes, f->size);
}

static int object_there(const struct change *c, const struct oid *o, uint64_t size)
{
	char digits[2 * sizeof(o->b) + 1], name[80];
	struct kv_val v;
	struct stat st;

	if (size <= STORE_INLINE_MAX)
		return kv_get(c->t, TAB_OBJECT, o->b, sizeof(o->b), &v, c->e);
	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(name, sizeof(name), "cas/%.2s/%s", digits, digits + 2); /* fits */
	return fstatat(c->x->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Somebody refers to it again. */
static int revive(const struct change *c, const struct oid *o, struct ref *f)
{
	uint8_t key[DOOMED_KEY_SIZE];

	doomed_key(f->doomed, o, key);
	f->doomed = 0;
	less(&c->y->doomed_bytes, f->size);
	return kv_del(c->t, TAB_DOOMED, key, sizeof(key), c->e);
}

static int object_add(void *arg, const struct oid *o, uint64_t size)
{
	const struct change *c = arg;
	struct ref f;
	int r = ref_get(c->t, o->b, sizeof(o->b), &f, c->e), there = 1;

	if (r < 0)
		return r;
	if (!f.count && c->x)
		there = object_there(c, o, size);
	if (there < 0)
		return there;
	if (!there)
		return err_text(c->e, ESTALE,
				"an object was dropped from the cache before its result was there");
	if (r == 0) {
		*sum_of(c->y, size) += size;
		f.size = size;
	}
	f.count++;
	r = f.doomed ? revive(c, o, &f) : 0;
	return r < 0 ? r : ref_put(c->t, o->b, sizeof(o->b), &f, c->e);
}

static int object_del(void *arg, const struct oid *o, uint64_t size)
{
	const struct change *c = arg;
	uint8_t key[DOOMED_KEY_SIZE];
	auto_buf struct buf b = {0};
	struct ref f;
	int r = ref_get(c->t, o->b, sizeof(o->b), &f, c->e);

	(void)size; /* it has its own */
	if (r <= 0 || !f.count)
		return r; /* fsck sets it right */
	if (--f.count == 0) {
		f.doomed = c->now;
		c->y->doomed_bytes += f.size;
		doomed_key(f.doomed, o, key);
		buf_varint(&b, f.size);
		r = kv_put(c->t, TAB_DOOMED, key, sizeof(key), b.data, b.len, c->e);
	}
	return r < 0 ? r : ref_put(c->t, o->b, sizeof(o->b), &f, c->e);
}

/* One more result has what key stands for; size: what is kept for it. */
static int count_up(const struct change *c, const struct fp *key, uint64_t size)
{
	struct ref f;
	int r = ref_get(c->t, key->b, ID_SIZE, &f, c->e);

	if (r == 0) {
		f.size = size;
		c->y->record_bytes += size;
	}
	f.count++;
	return r < 0 ? r : ref_put(c->t, key->b, ID_SIZE, &f, c->e);
}

/* 1: that was the last. */
static int count_down(const struct change *c, const struct fp *key)
{
	struct ref f;
	int r = ref_get(c->t, key->b, ID_SIZE, &f, c->e);

	if (r <= 0)
		return r;
	if (f.count > 1) {
		f.count--;
		return ref_put(c->t, key->b, ID_SIZE, &f, c->e);
	}
	less(&c->y->record_bytes, f.size);
	r = kv_del(c->t, TAB_REF, key->b, ID_SIZE, c->e);
	return r < 0 ? r : 1;
}

/* ---- of all that a result has ---- */

static uint64_t note_size(const struct change *c, enum note_kind kind, const struct fp *of)
{
	uint8_t key[NOTE_KEY_SIZE];
	struct kv_val v;

	note_key(kind, of, key);
	return kv_get(c->t, TAB_NOTE, key, sizeof(key), &v, c->e) > 0 ? v.n : 0;
}

static int note_del(const struct change *c, enum note_kind kind, const struct fp *of)
{
	uint8_t key[NOTE_KEY_SIZE];

	note_key(kind, of, key);
	return kv_del(c->t, TAB_NOTE, key, sizeof(key), c->e);
}

/* The listings that a result saw: their names are kept for all that saw the same. */
static int each_listing(const struct change *c, const struct result *r,
			int (*fn)(const struct change *c, const struct fp *of))
{
	int k = 0;

	for (size_t i = 0; k >= 0 && i < r->n_states; i++) {
		struct state_parts s;

		if (state_parse(r->states[i].data, r->states[i].len, &s) < 0)
			continue;
		if (s.has_list)
			k = fn(c, &s.list);
		state_parts_free(&s);
	}
	return k;
}

static int listing_add(const struct change *c, const struct fp *of)
{
	return count_up(c, of, note_size(c, NOTE_LISTING, of));
}

static int listing_del(const struct change *c, const struct fp *of)
{
	int r = count_down(c, of);

	return r > 0 ? note_del(c, NOTE_LISTING, of) : r;
}

static int path_set_add(const struct change *c, const struct result *r)
{
	struct fp pair = refs_pair(&r->step_key, &r->path_set_id);
	struct kv_val set = {NULL, 0};
	int k = kv_get(c->t, TAB_PATH_SET, r->path_set_id.b, ID_SIZE, &set, c->e);

	if (k >= 0)
		k = count_up(c, &r->path_set_id,
			     (k ? set.n : 0) + note_size(c, NOTE_PATHS, &r->path_set_id));
	return k < 0 ? k : count_up(c, &pair, 0);
}

static int path_set_del(const struct change *c, const struct result *r)
{
	struct fp pair = refs_pair(&r->step_key, &r->path_set_id);
	int k = count_down(c, &pair);

	if (k > 0)
		k = list_remove(c->t, &r->step_key, &r->path_set_id, c->e);
	if (k >= 0)
		k = count_down(c, &r->path_set_id);
	if (k <= 0)
		return k;
	k = kv_del(c->t, TAB_PATH_SET, r->path_set_id.b, ID_SIZE, c->e);
	return k < 0 ? k : note_del(c, NOTE_PATHS, &r->path_set_id);
}

static int step_del(const struct change *c, const struct result *r)
{
	int k = count_down(c, &r->step_key);

	if (k > 0)
		k = note_del(c, NOTE_STEP, &r->step_key);
	return k <= 0 ? k : notes_forget_name(c->t, r, c->e);
}

int refs_add(struct idx *x, struct kv_txn *t, struct tally *y, const struct result *r, size_t n,
	     bool checked, struct err *e)
{
	struct change c = {checked ? x : NULL, t, y, 0, e};
	int k = each_object(r, object_add, &c);

	y->record_bytes += n;
	if (k >= 0)
		k = path_set_add(&c, r);
	if (k >= 0)
		k = count_up(&c, &r->step_key, note_size(&c, NOTE_STEP, &r->step_key));
	return k < 0 ? k : each_listing(&c, r, listing_add);
}

int refs_del(struct kv_txn *t, struct tally *y, const struct result *r, size_t n, struct err *e)
{
	struct change c = {NULL, t, y, (uint64_t)now_ns(), e};
	int k = each_object(r, object_del, &c);

	less(&y->record_bytes, n);
	if (k >= 0)
		k = path_set_del(&c, r);
	if (k >= 0)
		k = step_del(&c, r);
	return k < 0 ? k : each_listing(&c, r, listing_del);
}

/* ---- the order of use ---- */

static int used_get(struct kv_txn *t, const uint8_t *key, uint64_t *ret, struct err *e)
{
	struct kv_val v;
	struct cur c;
	int r = kv_get(t, TAB_USED, key, ID_SIZE, &v, e);

	if (r <= 0)
		return r;
	c = (struct cur){v.p, (const uint8_t *)v.p + v.n, false};
	*ret = cur_u64(&c);
	return !c.bad;
}

static int lru_del(struct kv_txn *t, const uint8_t *key, struct err *e)
{
	uint8_t at[LRU_KEY_SIZE];
	uint64_t was;
	int r = used_get(t, key, &was, e);

	if (r <= 0)
		return r;
	lru_key(was, key, at);
	return kv_del(t, TAB_LRU, at, sizeof(at), e);
}

int used_set(struct kv_txn *t, const uint8_t *key, uint64_t when, struct err *e)
{
	auto_buf struct buf value = {0};
	uint8_t at[LRU_KEY_SIZE];
	int r = lru_del(t, key, e);

	buf_u64(&value, when);
	lru_key(when, key, at);
	if (r >= 0)
		r = kv_put(t, TAB_USED, key, ID_SIZE, value.data, value.len, e);
	return r < 0 ? r : kv_put(t, TAB_LRU, at, sizeof(at), "", 0, e);
}

int used_del(struct kv_txn *t, const uint8_t *key, struct err *e)
{
	int r = lru_del(t, key, e);

	return r < 0 ? r : kv_del(t, TAB_USED, key, ID_SIZE, e);
}

/* ---- anew ---- */

static int collect(void *arg, struct kv_val key, struct kv_val value)
{
	(void)value; /* read again: what follows writes to the tree */
	if (key.n == ID_SIZE)
		buf_add(arg, key.p, ID_SIZE);
	return 0;
}

static int count_result(struct idx *x, struct kv_txn *t, struct tally *y, const uint8_t *key,
			struct err *e)
{
	struct result *res;
	struct kv_val v = {NULL, 0};
	uint64_t when;
	size_t n;
	int r = kv_get(t, TAB_RESULT, key, ID_SIZE, &v, e);

	if (r < 0)
		return r;
	if (r == 0 || result_decode(v.p, v.n, &res) < 0)
		return kv_del(t, TAB_RESULT, key, ID_SIZE, e);
	n = v.n; /* what follows writes */
	r = used_get(t, key, &when, e);
	if (r == 0)
		when = (uint64_t)res->stored_ns;
	if (r >= 0)
		r = used_set(t, key, when, e);
	if (r >= 0)
		r = refs_add(x, t, y, res, n, false, e);
	result_free(res);
	return r;
}

/* Times of use whose result is gone. */
static int drop_unused(struct kv_txn *t, struct err *e)
{
	auto_buf struct buf keys = {0};
	struct kv_val v;
	int r = kv_each(t, TAB_USED, NULL, 0, collect, &keys, e);

	for (size_t i = 0; r >= 0 && i < keys.len; i += ID_SIZE) {
		r = kv_get(t, TAB_RESULT, keys.data + i, ID_SIZE, &v, e);
		if (r == 0)
			r = used_del(t, keys.data + i, e);
	}
	return r < 0 ? r : 0;
}

int refs_rebuild(struct idx *x, struct kv_txn *t, struct err *e)
{
	static const enum tab anew[] = {TAB_REF, TAB_DOOMED, TAB_LRU, TAB_TALLY};
	auto_buf struct buf keys = {0};
	struct tally y = {0};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < sizeof(anew) / sizeof(*anew); i++)
		r = kv_clear(t, anew[i], e);
	if (r >= 0)
		r = kv_each(t, TAB_RESULT, NULL, 0, collect, &keys, e);
	for (size_t i = 0; r >= 0 && i < keys.len; i += ID_SIZE)
		r = count_result(x, t, &y, keys.data + i, e);
	if (r >= 0)
		r = drop_unused(t, e);
	return r < 0 ? r : tally_save(t, &y, e);
}
