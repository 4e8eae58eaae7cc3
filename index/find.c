/* SPDX-License-Identifier: MIT */
/* find.c - results and steps by the beginning of their keys. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "idx.h"

#define ID_SIZE	   sizeof(((struct fp *)0)->b)
#define MAX_DIGITS (2 * ID_SIZE)

struct search {
	char prefix[MAX_DIGITS + 1];
	size_t n;
	uint8_t first[ID_SIZE]; /* the smallest key with it */
	struct kv_txn *txn;
	enum idx_key_kind kind;
	size_t max; /* keys wanted */
	struct buf keys;
};

static int search_begin(const char *hex_prefix, struct search *ret, struct err *e)
{
	static const char digits[] = "0123456789abcdef";

	*ret = (struct search){.n = strlen(hex_prefix), .max = SIZE_MAX};
	if (ret->n > MAX_DIGITS)
		return err_text(e, EINVAL, "'%s' is longer than a key", hex_prefix);
	for (size_t i = 0; i < ret->n; i++) {
		char c = (char)tolower((unsigned char)hex_prefix[i]);
		const char *at = strchr(digits, c);

		if (!at || !c)
			return err_text(e, EINVAL, "'%s' is not the beginning of a key",
					hex_prefix);
		ret->prefix[i] = c;
		ret->first[i / 2] |= (uint8_t)((at - digits) << (i % 2 ? 0 : 4));
	}
	return 0;
}

static int collect_key(void *arg, struct kv_val key, struct kv_val value)
{
	struct search *s = arg;
	char digits[MAX_DIGITS + 1];
	struct fp fp;

	if (key.n != ID_SIZE)
		return 0;
	hex(key.p, ID_SIZE, digits);
	if (strncmp(digits, s->prefix, s->n) != 0)
		return 1; /* past them */
	memcpy(fp.b, key.p, ID_SIZE);
	/* Damaged ones are none. The table of steps holds lists of other kinds as well. */
	if (!value.p || (s->kind == IDX_KEY_STEP && !is_step(s->txn, &fp)))
		return 0;
	buf_add(&s->keys, key.p, ID_SIZE);
	return s->keys.len / ID_SIZE == s->max;
}

static int collect(struct idx *x, struct search *s, struct err *e)
{
	enum tab tab = s->kind == IDX_KEY_STEP ? TAB_STEP : TAB_RESULT;
	int r = kv_begin(x->kv, &s->txn, e);

	if (r < 0)
		return r;
	r = kv_each(s->txn, tab, s->first, sizeof(s->first), collect_key, s, e);
	kv_end(x->kv);
	return r < 0 ? r : 0;
}

int idx_keys(struct idx *x, enum idx_key_kind kind, const char *hex_prefix, struct fp *ret,
	     size_t max, size_t *ret_n, struct err *e)
{
	struct search s;
	int r = search_begin(hex_prefix, &s, e);

	if (r < 0)
		return r;
	s.kind = kind;
	s.max = max;
	r = max ? collect(x, &s, e) : 0;
	if (r == 0 && s.keys.len)
		memcpy(ret, s.keys.data, s.keys.len);
	if (r == 0)
		*ret_n = s.keys.len / ID_SIZE;
	buf_free(&s.keys);
	return r;
}

/* fn may well drop what it is shown, so no view is open while it runs. */
int idx_results(struct idx *x, const char *hex_prefix, int (*fn)(void *arg, const struct result *r),
		void *arg, struct err *e)
{
	struct search s;
	int r = search_begin(hex_prefix, &s, e);

	if (r < 0)
		return r;
	r = collect(x, &s, e);
	for (size_t i = 0; r == 0 && i < s.keys.len; i += ID_SIZE) {
		struct result *res;
		struct fp key;

		memcpy(key.b, s.keys.data + i, ID_SIZE);
		r = idx_result_get(x, &key, &res, e);
		if (r <= 0)
			continue; /* damaged, or gone since; an error ends the loop */
		r = fn(arg, res);
		result_free(res);
	}
	buf_free(&s.keys);
	return r;
}
