/* SPDX-License-Identifier: MIT */
/*
 * guess_order.c - the same lines, words or bytes in another order? Each piece is hashed as it comes, and the hashes
 * are added up: sums do not depend on an order, and 128 bits of them do not agree by chance.
 */
#include "guess.h"

/* So many bytes must stand elsewhere before the same number of each byte is a sign of anything. */
#define MOVED_BYTES 16

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

/* The finaliser of splitmix64: every bit of the hash moves every bit of the sum. */
static uint64_t mix(uint64_t h)
{
	h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
	return h ^ h >> 31;
}

static void close_piece(struct guess_bag *b)
{
	if (!b->open)
		return;
	b->sum[0] += mix(b->hash);
	b->sum[1] += mix(b->hash ^ UINT64_C(0x9e3779b97f4a7c15));
	b->in_order = mix(b->in_order ^ b->hash);
	b->n++;
	b->open = false;
}

static void add_byte(struct guess_bag *b, uint8_t c)
{
	if (!b->open)
		b->hash = FNV_BASIS;
	b->open = true;
	b->hash = (b->hash ^ c) * FNV_PRIME;
}

/* What stands between the elements of lists in the usual notations. ':', '=', '-' and '.' bind: a time, a
 * setting or a number is one word. */
static bool separates(uint8_t c)
{
	switch (c) {
	case ' ':
	case '\t':
	case '\r':
	case '\n':
	case '\0':
	case ',':
	case ';':
	case '[':
	case ']':
	case '{':
	case '}':
	case '(':
	case ')':
	case '"':
	case '\'':
		return true;
	default:
		return false;
	}
}

static void add(struct guess_half *h, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n')
			close_piece(&h->lines);
		else
			add_byte(&h->lines, p[i]);
		if (separates(p[i]))
			close_piece(&h->words);
		else
			add_byte(&h->words, p[i]);
		h->bytes[p[i]]++;
	}
}

void guess_order_add(struct guess_order *o, const void *then, const void *now, size_t n)
{
	const uint8_t *a = then, *b = now;

	for (size_t i = 0; i < n; i++)
		o->differing += a[i] != b[i];
	add(&o->then, a, n);
	add(&o->now, b, n);
}

/* The same pieces, and not in the same order (then something else differs: the blanks between them). */
static bool reordered(struct guess_bag *a, struct guess_bag *b)
{
	close_piece(a);
	close_piece(b);
	return a->n == b->n && a->n > 1 && a->sum[0] == b->sum[0] && a->sum[1] == b->sum[1] &&
	       a->in_order != b->in_order;
}

const char *guess_order_cause(struct guess_order *o, bool bytes)
{
	bool same = bytes && o->differing >= MOVED_BYTES;

	if (reordered(&o->then.lines, &o->now.lines))
		return "an ordering: the same lines in another order";
	if (reordered(&o->then.words, &o->now.words))
		return "an ordering: the same words in another order";
	for (size_t i = 0; i < 256 && same; i++)
		same = o->then.bytes[i] == o->now.bytes[i];
	return same ? "an ordering: the same bytes in another order" : NULL;
}
