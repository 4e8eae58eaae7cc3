/* SPDX-License-Identifier: MIT */
/* buf.c - a growable byte buffer, and a reader over bytes that cannot run past their end. */
#include <string.h>

#include "base.h"

void buf_reserve(struct buf *b, size_t extra)
{
	size_t cap = b->cap ? b->cap : 64;

	if (extra <= b->cap - b->len && b->data)
		return;
	if (extra > SIZE_MAX / 2 - b->len)
		extra = SIZE_MAX / 2; /* lets xrealloc fail and say so */
	while (cap < b->len + extra)
		cap *= 2;
	b->data = xrealloc(b->data, cap);
	b->cap = cap;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	buf_reserve(b, n);
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n <= 0)
		return;
	buf_reserve(b, (size_t)n + 1);
	va_start(ap, fmt);
	(void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap); /* just measured */
	va_end(ap);
	b->len += (size_t)n;
}

void buf_u8(struct buf *b, uint8_t v)
{
	buf_add(b, &v, 1);
}

void buf_u32(struct buf *b, uint32_t v)
{
	uint8_t le[4];

	for (unsigned i = 0; i < sizeof(le); i++)
		le[i] = (uint8_t)(v >> (8 * i));
	buf_add(b, le, sizeof(le));
}

void buf_u64(struct buf *b, uint64_t v)
{
	uint8_t le[8];

	for (unsigned i = 0; i < sizeof(le); i++)
		le[i] = (uint8_t)(v >> (8 * i));
	buf_add(b, le, sizeof(le));
}

void buf_varint(struct buf *b, uint64_t v)
{
	uint8_t out[10];
	size_t n = 0;

	do {
		out[n] = (uint8_t)(v & 0x7f);
		v >>= 7;
		if (v)
			out[n] |= 0x80;
		n++;
	} while (v);
	buf_add(b, out, n);
}

void buf_bytes(struct buf *b, const void *p, size_t n)
{
	buf_varint(b, n);
	buf_add(b, p, n);
}

void buf_str(struct buf *b, const char *s)
{
	buf_bytes(b, s, strlen(s));
}

void buf_shrink(struct buf *b)
{
	if (b->len == b->cap)
		return;
	if (!b->len) {
		buf_free(b);
		return;
	}
	b->data = xrealloc(b->data, b->len);
	b->cap = b->len;
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

/* The next n bytes, or NULL and `bad` when there are not so many. */
static const uint8_t *advance(struct cur *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || (size_t)(c->end - c->p) < n) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	return p;
}

uint8_t cur_u8(struct cur *c)
{
	const uint8_t *p = advance(c, 1);

	return p ? *p : 0;
}

uint32_t cur_u32(struct cur *c)
{
	const uint8_t *p = advance(c, 4);
	uint32_t v = 0;

	for (unsigned i = 0; p && i < 4; i++)
		v |= (uint32_t)p[i] << (8 * i);
	return v;
}

uint64_t cur_u64(struct cur *c)
{
	const uint8_t *p = advance(c, 8);
	uint64_t v = 0;

	for (unsigned i = 0; p && i < 8; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint64_t cur_long_varint(struct cur *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		const uint8_t *p = advance(c, 1);

		if (!p)
			return 0;
		if (shift == 63 && *p > 1)
			break; /* more than 64 bits */
		v |= (uint64_t)(*p & 0x7f) << shift;
		if (!(*p & 0x80)) {
			if (shift && !*p)
				break; /* one value has one spelling */
			return v;
		}
	}
	c->bad = true;
	return 0;
}

const void *cur_bytes(struct cur *c, size_t *ret_n)
{
	uint64_t n = cur_varint(c);
	const uint8_t *p;

	*ret_n = 0;
	if (c->bad || n > (size_t)(c->end - c->p)) {
		c->bad = true;
		return NULL;
	}
	p = advance(c, (size_t)n);
	*ret_n = (size_t)n;
	return p;
}

char *cur_str(struct cur *c)
{
	size_t n;
	const void *p = cur_bytes(c, &n);
	char *s;

	if (!p)
		return NULL;
	if (memchr(p, '\0', n)) {
		c->bad = true;
		return NULL;
	}
	s = xmalloc(n + 1); /* not more than what is there to be read */
	memcpy(s, p, n);
	s[n] = '\0';
	return s;
}
