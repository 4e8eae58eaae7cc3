/* SPDX-License-Identifier: MIT */
/*
 * notes.c - names of listings, descriptions of steps, and a filter for the paths of each path set.
 *
 * A listing is kept once, under the fingerprint that states have of it. The filter is a blocked Bloom filter (Putze,
 * Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007): a path has its bits in one block of 64 bytes, so that
 * asking whether it is among them touches one line of the cache: 2 bytes a path, about one wrong yes in 500.
 */
#include <errno.h>
#include <string.h>

#include "notes.h"
#include "record.h"
#include "refs.h"

#define LISTING_VERSION 1
#define PATHS_VERSION	1
/* A larger one is not kept: that it changed is said, not which names. */
#define MAX_LISTING	(64 << 10)
#define BLOCK		64 /* bytes */
#define BLOCK_PATHS	32
#define PROBES		7
#define FAMILY_DOMAIN	"mlfs steps of a name 1"

void note_key(enum note_kind kind, const struct fp *of, uint8_t key[NOTE_KEY_SIZE])
{
	key[0] = (uint8_t)kind;
	memcpy(key + 1, of->b, sizeof(of->b));
}

/* Put what is not there. */
static int put_new(struct kv_txn *t, enum note_kind kind, const struct fp *of, const struct buf *b,
		   struct err *e)
{
	uint8_t key[NOTE_KEY_SIZE];
	struct kv_val was;
	int r;

	note_key(kind, of, key);
	r = kv_get(t, TAB_NOTE, key, sizeof(key), &was, e);
	return r ? r : kv_put(t, TAB_NOTE, key, sizeof(key), b->data, b->len, e);
}

/* 1: read into ret; 0: there is none. */
static int get(struct idx *x, enum note_kind kind, const struct fp *of, struct buf *ret,
	       struct err *e)
{
	uint8_t key[NOTE_KEY_SIZE];
	struct kv_txn *t;
	struct kv_val v;
	int r = kv_begin(x->kv, &t, e);

	if (r < 0)
		return r;
	note_key(kind, of, key);
	r = kv_get(t, TAB_NOTE, key, sizeof(key), &v, e);
	if (r > 0)
		buf_add(ret, v.p, v.n);
	kv_end(x->kv);
	return r;
}

/* ---- listings ---- */

bool names_make(char *const *list, size_t n, char *const *excluded, size_t n_excluded,
		struct names_kept *ret)
{
	auto_buf struct buf names = {0};
	const char *prev = NULL;
	size_t kept = 0, at = 0;

	for (size_t i = 0; i < n; i++) {
		if (list_skips(excluded, n_excluded, &at, list[i] + 1))
			continue;
		put_path(&names, prev, list[i] + 1);
		buf_u8(&names, (uint8_t)list[i][0]);
		prev = list[i] + 1;
		kept++;
		if (names.len > MAX_LISTING)
			return false;
	}
	ret->fp = list_fp(list, n, excluded, n_excluded);
	ret->names = (struct buf){0};
	buf_u8(&ret->names, LISTING_VERSION);
	buf_varint(&ret->names, kept);
	buf_add(&ret->names, names.data, names.len);
	return true;
}

static int listing_decode(const void *p, size_t n, char ***ret, size_t *ret_n)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	size_t budget = path_budget(n), count, k = 0;
	char **v;

	if (cur_u8(&c) != LISTING_VERSION)
		return -EBADMSG;
	count = get_count(&c, 3);
	v = xcalloc(count + 1, sizeof(*v));
	while (!c.bad && k < count) {
		auto_free char *name = get_path(&c, k ? v[k - 1] + 1 : NULL, &budget);
		char type = (char)cur_u8(&c);

		if (!c.bad)
			v[k++] = xasprintf("%c%s", type, name);
	}
	if (c.bad || c.p != c.end) {
		strv_free(v, k);
		return -EBADMSG;
	}
	*ret = v;
	*ret_n = count;
	return 0;
}

int idx_listing_get(struct idx *x, const struct fp *fp, char ***ret, size_t *ret_n, struct err *e)
{
	auto_buf struct buf b = {0};
	int r = get(x, NOTE_LISTING, fp, &b, e);

	return r <= 0 ? r : listing_decode(b.data, b.len, ret, ret_n) == 0;
}

static const char *listing_wrong(const struct fp *of, struct kv_val v)
{
	char **list;
	struct fp fp;
	size_t n;

	if (listing_decode(v.p, v.n, &list, &n) < 0)
		return "it makes no sense";
	fp = list_fp(list, n, NULL, 0);
	strv_free(list, n);
	return fp_eq(&fp, of) ? NULL : "its names are not those of its key";
}

/* ---- steps ---- */

int idx_description_get(struct idx *x, const struct fp *step_key, struct buf *ret, struct err *e)
{
	return get(x, NOTE_STEP, step_key, ret, e);
}

static struct fp family_key(const char *name)
{
	struct fp_state *s = fp_begin();

	fp_update(s, FAMILY_DOMAIN, sizeof(FAMILY_DOMAIN));
	fp_update(s, name, strlen(name));
	return fp_end(s);
}

int idx_steps_named(struct idx *x, const char *name, struct fp **ret, size_t *ret_n, struct err *e)
{
	struct fp key = family_key(name);

	return idx_variants(x, &key, ret, ret_n, e);
}

static int put_step(struct kv_txn *t, const struct result *r, struct err *e)
{
	struct fp family = family_key(r->name ? r->name : "");
	int k;

	if (!r->description.len)
		return 0;
	k = put_new(t, NOTE_STEP, &r->step_key, &r->description, e);
	return k < 0 ? k : step_promote(t, &family, &r->step_key, true, e);
}

int notes_forget_name(struct kv_txn *t, const struct result *r, struct err *e)
{
	struct fp family = family_key(r->name ? r->name : "");

	return list_remove(t, &family, &r->step_key, e);
}

/* ---- paths ---- */

/* Where the bits of a path are: its block, and PROBES numbers below 512. */
struct probe {
	size_t block;
	uint64_t bits;
};

static struct probe probe_of(const char *path, size_t blocks)
{
	uint64_t h = xxh64_of(path, strlen(path));

	return (struct probe){(size_t)((h >> 32) * blocks >> 32),
			      (h ^ h >> 29) * UINT64_C(0x9e3779b97f4a7c15)};
}

static void encode_paths(const struct path_set *s, struct buf *out)
{
	size_t blocks = s->n / BLOCK_PATHS + 1, at;

	buf_u8(out, PATHS_VERSION);
	buf_reserve(out, blocks * BLOCK);
	at = out->len;
	memset(out->data + at, 0, blocks * BLOCK);
	out->len += blocks * BLOCK;
	for (size_t i = 0; i < s->n; i++) {
		struct probe p = probe_of(s->v[i].path, blocks);

		for (unsigned k = 0; k < PROBES; k++, p.bits >>= 9)
			out->data[at + p.block * BLOCK + (p.bits & 511) / 8] |=
				(uint8_t)(1u << (p.bits & 7));
	}
}

bool paths_may_have(struct kv_val v, const char *path)
{
	const uint8_t *b = v.p;
	struct probe p;

	if (v.n < 1 + BLOCK || (v.n - 1) % BLOCK || b[0] != PATHS_VERSION)
		return true; /* it tells nothing */
	p = probe_of(path, (v.n - 1) / BLOCK);
	for (unsigned k = 0; k < PROBES; k++, p.bits >>= 9)
		if (!(b[1 + p.block * BLOCK + (p.bits & 511) / 8] & 1u << (p.bits & 7)))
			return false;
	return true;
}

static int put_paths(struct kv_txn *t, const struct result *r, const struct path_set *s,
		     struct err *e)
{
	auto_buf struct buf b = {0};
	uint8_t key[NOTE_KEY_SIZE];
	struct kv_val was;
	int k;

	note_key(NOTE_PATHS, &r->path_set_id, key);
	k = kv_get(t, TAB_NOTE, key, sizeof(key), &was, e);
	if (k)
		return k;
	encode_paths(s, &b);
	return kv_put(t, TAB_NOTE, key, sizeof(key), b.data, b.len, e);
}

/* ---- all of them ---- */

int notes_put(struct kv_txn *t, const struct result *r, const struct path_set *s, struct err *e)
{
	int k = put_step(t, r, e);

	if (k >= 0)
		k = put_paths(t, r, s, e);
	for (size_t i = 0; k >= 0 && i < r->n_listings; i++)
		k = put_new(t, NOTE_LISTING, &r->listings[i].fp, &r->listings[i].names, e);
	return k;
}

const char *note_wrong(struct kv_val key, struct kv_val value)
{
	const uint8_t *k = key.p, *v = value.p;
	struct fp of;

	memcpy(of.b, k + 1, sizeof(of.b));
	switch (k[0]) {
	case NOTE_LISTING:
		return listing_wrong(&of, value);
	case NOTE_STEP:
		return value.n ? NULL : "it makes no sense";
	case NOTE_PATHS:
		return value.n > BLOCK && (value.n - 1) % BLOCK == 0 && v[0] == PATHS_VERSION
			       ? NULL
			       : "it makes no sense";
	default:
		return "it is of no kind that there is";
	}
}
