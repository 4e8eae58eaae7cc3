/* SPDX-License-Identifier: MIT */
/* fsck_refs.c - are the numbers of references, the order of use and the sums what the results say? See refs.h. */
#include <errno.h>
#include <string.h>

#include "fsck.h"

/* References to one thing. */
struct counted {
	uint8_t key[32]; /* a struct fp is followed by zeros */
	uint64_t nkey;
	uint64_t count, size;
};

const char *fsck_look_at_refs(struct fsck *f, enum tab tab, struct kv_val key, struct kv_val v)
{
	struct cur c = {v.p, (const uint8_t *)v.p + v.n, false};
	struct counted n = {.nkey = key.n};

	switch (tab) {
	case TAB_LRU:
		buf_add(&f->lru, key.p, key.n);
		return v.n ? "it makes no sense" : NULL;
	case TAB_DOOMED:
		buf_add(&f->doomed, key.p, key.n);
		(void)cur_varint(&c);
		break;
	case TAB_REF:
		memcpy(n.key, key.p, key.n); /* its size was looked at */
		n.count = cur_varint(&c);
		n.size = cur_varint(&c);
		(void)cur_varint(&c);
		buf_add(&f->refs, &n, sizeof(n));
		break;
	case TAB_TALLY:
		if (key.n != 4 || memcmp(key.p, "sums", 4) != 0)
			return NULL; /* places where gc goes on; any will do */
		f->tally.object_bytes = cur_u64(&c);
		f->tally.record_bytes = cur_u64(&c);
		f->tally.doomed_bytes = cur_u64(&c);
		f->tally.stale = cur_u8(&c);
		break;
	default:
		break;
	}
	return c.bad || c.p != c.end ? "it makes no sense" : NULL;
}

static int by_key(const void *a, const void *b)
{
	const struct counted *x = a, *y = b;
	int r = memcmp(x->key, y->key, sizeof(x->key));

	return r ? r : (x->nkey > y->nkey) - (x->nkey < y->nkey);
}

static int by_lru(const void *a, const void *b)
{
	return memcmp(a, b, LRU_KEY_SIZE);
}

static void expect(struct buf *b, const void *key, size_t nkey, uint64_t size)
{
	struct counted n = {.nkey = nkey, .count = 1, .size = size};

	memcpy(n.key, key, nkey);
	buf_add(b, &n, sizeof(n));
}

/* What there should be, sorted, each key once. */
static size_t all_expected(const struct fsck *f, struct buf *b)
{
	struct counted *v;
	size_t n = 0, all;

	for (size_t i = 0; i < f->n_wanted; i++)
		if (f->wanted[i].size)
			expect(b, f->wanted[i].oid.b, sizeof(struct oid), f->wanted[i].size);
	for (size_t i = 0; i < f->n_results; i++) {
		const struct judged *j = &f->results[i];
		struct fp pair = refs_pair(&j->step_key, &j->path_set);

		expect(b, pair.b, sizeof(pair.b), 0);
		expect(b, j->path_set.b, sizeof(j->path_set.b), 0);
	}
	for (size_t i = 0; i < f->steps.len; i += sizeof(struct fp))
		expect(b, f->steps.data + i, sizeof(struct fp), 0);
	for (size_t i = 0; i < f->listings.len; i += sizeof(struct fp))
		expect(b, f->listings.data + i, sizeof(struct fp), 0);
	all = b->len / sizeof(*v);
	v = (struct counted *)(void *)b->data;
	if (all)
		qsort(v, all, sizeof(*v), by_key);
	for (size_t i = 0; i < all; i++)
		if (n && by_key(&v[n - 1], &v[i]) == 0)
			v[n - 1].count++;
		else
			v[n++] = v[i];
	return n;
}

static void add_sum(struct tally *y, const struct counted *n)
{
	if (n->nkey == sizeof(struct oid) && n->size > STORE_INLINE_MAX)
		y->object_bytes += n->size;
	else
		y->record_bytes += n->size;
	if (!n->count)
		y->doomed_bytes += n->size;
}

/* Those that nothing refers to are as they are found; each is to be in TAB_DOOMED. NULL, or what is wrong. */
static const char *compare(const struct fsck *f, const struct counted *want, size_t n_want)
{
	const struct counted *have = (const struct counted *)(const void *)f->refs.data;
	size_t n_have = f->refs.len / sizeof(*have), k = 0, n_doomed = 0;
	struct tally y = {0};

	for (size_t i = 0; i < n_have; i++) {
		add_sum(&y, &have[i]);
		if (!have[i].count) {
			n_doomed++;
			continue;
		}
		if (k == n_want || by_key(&have[i], &want[k]) != 0 ||
		    have[i].count != want[k].count ||
		    (have[i].nkey == sizeof(struct oid) && have[i].size != want[k].size))
			return "its numbers of references are not those of its results";
		k++;
	}
	if (k != n_want)
		return "numbers of references are missing";
	if (n_doomed != f->doomed.len / DOOMED_KEY_SIZE)
		return "the list of objects to be removed is not right";
	for (size_t i = 0; i < f->n_results; i++)
		y.record_bytes += f->results[i].bytes;
	if (y.object_bytes != f->tally.object_bytes || y.record_bytes != f->tally.record_bytes ||
	    y.doomed_bytes != f->tally.doomed_bytes || f->tally.stale)
		return "its sums are not right";
	if (f->lru.len != f->used_lru.len ||
	    (f->lru.len && memcmp(f->lru.data, f->used_lru.data, f->lru.len) != 0))
		return "the order of use is not right";
	return NULL;
}

void fsck_refs(struct fsck *f)
{
	auto_buf struct buf b = {0};
	const char *wrong;
	size_t n;

	if (f->x->version < IDX_SCHEMA || f->disordered)
		return;
	for (size_t i = 0; i < f->n_problems; i++) /* they count, and are not to be had */
		if (f->problems[i].broken && !f->problems[i].mended &&
		    (f->problems[i].tab == TAB_RESULT || f->problems[i].tab == TAB_PATH_SET) &&
		    f->problems[i].mend == MEND_RECORD)
			return;
	if (f->used_lru.len)
		qsort(f->used_lru.data, f->used_lru.len / LRU_KEY_SIZE, LRU_KEY_SIZE, by_lru);
	if (f->refs.len)
		qsort(f->refs.data, f->refs.len / sizeof(struct counted), sizeof(struct counted),
		      by_key);
	n = all_expected(f, &b);
	wrong = compare(f, (const struct counted *)(const void *)b.data, n);
	if (wrong)
		(void)fsck_note(f, true, MEND_REFS, "index", "index/data.mdb", wrong);
}
