/* SPDX-License-Identifier: MIT */
/* fsck_refs.c - are the numbers of references, the order of use and the sums what the results say? See refs.h. */
#include <errno.h>
#include <string.h>

#include "fsck.h"

static const char wrong_numbers[] = "its numbers of references are not those of its results";

/* References to one thing. */
struct counted {
	uint8_t key[32]; /* a struct fp is followed by zeros */
	uint64_t nkey;
	uint64_t count, size;
	uint64_t found; /* so many results do refer to it */
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

/* NULL, or what is wrong. */
static const char *expect(struct fsck *f, const void *key, size_t nkey, uint64_t size)
{
	struct counted *have = (struct counted *)(void *)f->refs.data, *n;
	struct counted want = {.nkey = nkey};

	memcpy(want.key, key, nkey);
	n = have ? bsearch(&want, have, f->refs.len / sizeof(*have), sizeof(*have), by_key) : NULL;
	if (!n)
		return "numbers of references are missing";
	n->found++;
	/* Of other things than objects the size is not that of what is wanted. */
	return nkey == sizeof(struct oid) && n->size != size ? wrong_numbers : NULL;
}

static const char *expect_each(struct fsck *f, const struct buf *keys)
{
	const char *wrong = NULL;

	for (size_t i = 0; !wrong && i < keys->len; i += sizeof(struct fp))
		wrong = expect(f, keys->data + i, sizeof(struct fp), 0);
	return wrong;
}

static const char *expect_all(struct fsck *f)
{
	const char *wrong = NULL;

	for (size_t i = 0; !wrong && i < f->n_wanted; i++)
		if (f->wanted[i].size)
			wrong = expect(f, f->wanted[i].oid.b, sizeof(struct oid),
				       f->wanted[i].size);
	for (size_t i = 0; !wrong && i < f->n_results; i++) {
		const struct judged *j = &f->results[i];
		struct fp pair = refs_pair(&j->step_key, &j->path_set);

		wrong = expect(f, pair.b, sizeof(pair.b), 0);
		if (!wrong)
			wrong = expect(f, j->path_set.b, sizeof(j->path_set.b), 0);
	}
	if (!wrong)
		wrong = expect_each(f, &f->steps);
	return wrong ? wrong : expect_each(f, &f->listings);
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
static const char *compare(struct fsck *f)
{
	const struct counted *have = (const struct counted *)(const void *)f->refs.data;
	size_t n_have = f->refs.len / sizeof(*have), n_doomed = 0;
	const char *wrong = expect_all(f);
	struct tally y = {0};

	for (size_t i = 0; !wrong && i < n_have; i++) {
		add_sum(&y, &have[i]);
		n_doomed += !have[i].count;
		if (have[i].count != have[i].found)
			wrong = wrong_numbers;
	}
	if (wrong)
		return wrong;
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

/* What comes from the tables is in order already. */
static void sort(void *v, size_t n, size_t size, int (*cmp)(const void *a, const void *b))
{
	const uint8_t *p = v;

	for (size_t i = 1; i < n; i++)
		if (cmp(p + (i - 1) * size, p + i * size) > 0) {
			qsort(v, n, size, cmp);
			return;
		}
}

void fsck_refs(struct fsck *f)
{
	const char *wrong;

	if (f->x->version < IDX_SCHEMA || f->disordered)
		return;
	for (size_t i = 0; i < f->n_problems; i++) /* they count, and are not to be had */
		if (f->problems[i].broken && !f->problems[i].mended &&
		    (f->problems[i].tab == TAB_RESULT || f->problems[i].tab == TAB_PATH_SET) &&
		    f->problems[i].mend == MEND_RECORD)
			return;
	sort(f->used_lru.data, f->used_lru.len / LRU_KEY_SIZE, LRU_KEY_SIZE, by_lru);
	sort(f->refs.data, f->refs.len / sizeof(struct counted), sizeof(struct counted), by_key);
	wrong = compare(f);
	if (wrong)
		(void)fsck_note(f, true, MEND_REFS, "index", "index/data.mdb", wrong);
}
