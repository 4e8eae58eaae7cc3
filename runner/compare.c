/* SPDX-License-Identifier: MIT */
/* compare.c - where two streams first differ; see compare.h. */
#include "compare.h"

#include <errno.h>
#include <string.h>

#define BLOCK (256u << 10)

/* ---- sources ---- */

struct source source_file(int fd)
{
	return (struct source){.fd = fd};
}

struct source source_console(int fd, const struct console_chunk *chunks, size_t n_chunks,
			     uint8_t stream)
{
	return (struct source){.fd = fd,
			       .console = true,
			       .chunks = chunks,
			       .n_chunks = n_chunks,
			       .stream = stream};
}

static bool wanted(const struct source *s, size_t chunk)
{
	return !s->stream || s->chunks[chunk].fd == s->stream;
}

/* To the piece that holds offset `off` of the stream; false: it ends before. */
static bool seek_chunk(struct source *s, uint64_t off)
{
	if (off < s->chunk_off) {
		s->chunk = 0;
		s->chunk_off = s->chunk_pos = 0;
	}
	for (; s->chunk < s->n_chunks; s->chunk++) {
		uint32_t len = s->chunks[s->chunk].len;

		if (wanted(s, s->chunk)) {
			if (off - s->chunk_off < len)
				return true;
			s->chunk_off += len;
		}
		s->chunk_pos += len;
	}
	return false;
}

static ssize_t read_console(struct source *s, uint8_t *p, size_t n, uint64_t off)
{
	size_t got = 0;

	while (got < n && seek_chunk(s, off + got)) {
		uint64_t in = off + got - s->chunk_off, left = s->chunks[s->chunk].len - in;
		size_t want = n - got < left ? n - got : (size_t)left;
		ssize_t k = pread_full(s->fd, p + got, want, (off_t)(s->chunk_pos + in));

		if (k < 0)
			return k;
		if ((size_t)k < want)
			return -EBADMSG; /* the record is shorter than its pieces say */
		got += want;
	}
	return (ssize_t)got;
}

ssize_t source_read(struct source *s, void *p, size_t n, uint64_t off)
{
	return s->console ? read_console(s, p, n, off) : pread_full(s->fd, p, n, (off_t)off);
}

/* ---- the first difference ---- */

static int size_from(struct source *s, uint8_t *block, uint64_t at, uint64_t *ret)
{
	for (;;) {
		ssize_t n = source_read(s, block, BLOCK, at);

		if (n < 0)
			return (int)n;
		at += (uint64_t)n;
		if (n < (ssize_t)BLOCK)
			break;
	}
	*ret = at;
	return 0;
}

static size_t same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}

/* Sets same, at and the sizes. */
static int find_difference(struct source *then, struct source *now, uint8_t *a, uint8_t *b,
			   struct comparison *ret)
{
	uint64_t at = 0;
	int r;

	for (;;) {
		ssize_t n = source_read(then, a, BLOCK, at), m = source_read(now, b, BLOCK, at);
		size_t least = (size_t)(n < m ? n : m);

		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		if (n != m || memcmp(a, b, least) != 0) {
			ret->at = at + same_bytes(a, b, least);
			r = size_from(then, a, at, &ret->size_then);
			return r < 0 ? r : size_from(now, b, at, &ret->size_now);
		}
		at += least;
		if (least < BLOCK)
			break;
	}
	ret->same = true;
	ret->size_then = ret->size_now = ret->at = at;
	return 0;
}

/* ---- more about it ---- */

/* How many lines end before `at`, plus one. */
static int count_lines(struct source *s, uint8_t *block, uint64_t at, uint64_t *ret)
{
	uint64_t lines = 1;

	for (uint64_t off = 0; off < at;) {
		size_t want = at - off < BLOCK ? (size_t)(at - off) : BLOCK;
		ssize_t n = source_read(s, block, want, off);

		if (n <= 0)
			return n < 0 ? (int)n : -EBADMSG;
		for (uint8_t *p = block, *end = block + n;
		     (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
			lines++;
		off += (uint64_t)n;
	}
	*ret = lines;
	return 0;
}

static int look_at_windows(struct source *then, struct source *now, const struct guess_in *context,
			   uint8_t *a, uint8_t *b, struct comparison *ret)
{
	struct guess_in in = *context;
	ssize_t n, m;

	in.offset = ret->at > GUESS_BEFORE ? ret->at - GUESS_BEFORE : 0;
	in.at = (size_t)(ret->at - in.offset);
	n = source_read(then, a, in.at + GUESS_AFTER, in.offset);
	m = source_read(now, b, in.at + GUESS_AFTER, in.offset);
	if (n < 0 || m < 0)
		return (int)(n < 0 ? n : m);
	in.then.p = a;
	in.then.n = (size_t)n;
	in.now.p = b;
	in.now.n = (size_t)m;
	guess_at(&in, &ret->guess);
	return 0;
}

static int look_at_order(struct source *then, struct source *now, uint8_t *a, uint8_t *b,
			 struct comparison *ret)
{
	auto_free struct guess_order *o = xcalloc(1, sizeof(*o));
	const char *cause;

	for (uint64_t off = 0; off < ret->size_then; off += BLOCK) {
		ssize_t n = source_read(then, a, BLOCK, off), m = source_read(now, b, BLOCK, off);

		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		if (n != m)
			return 0; /* it is being written */
		guess_order_add(o, a, b, (size_t)n);
	}
	/* Bytes alone tell less than a value that was recognised. */
	cause = guess_order_cause(o, !ret->guess.cause);
	if (cause)
		ret->guess.cause = cause;
	return 0;
}

int compare_streams(struct source *then, struct source *now, const struct guess_in *context,
		    bool guess, struct comparison *ret)
{
	auto_free uint8_t *a = io_alloc(BLOCK), *b = io_alloc(BLOCK);
	struct comparison c = {0};
	int r;

	if (!a || !b)
		return -ENOMEM;
	r = find_difference(then, now, a, b, &c);
	if (r == 0 && !c.same && guess)
		r = look_at_windows(then, now, context, a, b, &c);
	if (r == 0 && c.guess.text && c.at <= COMPARE_ORDER_MAX)
		r = count_lines(now, a, c.at, &c.line);
	if (r == 0 && !c.same && guess && c.size_then == c.size_now) {
		c.order_unknown = c.size_then > COMPARE_ORDER_MAX;
		if (!c.order_unknown)
			r = look_at_order(then, now, a, b, &c);
	}
	if (r == 0)
		*ret = c;
	return r;
}

/* ---- in words ---- */

static void both(const struct comparison *c, struct buf *out)
{
	const struct guess *g = &c->guess;

	buf_addf(out, "%s%s, %s%s", g->then[0] ? g->then : "the end", g->then[0] ? " then" : "",
		 g->now[0] ? g->now : "the end", g->now[0] ? " now" : "");
}

void compare_describe(const struct comparison *c, struct buf *out)
{
	const struct guess *g = &c->guess;

	buf_addf(out, "at offset %llu", (unsigned long long)c->at);
	if (c->line)
		buf_addf(out, " (line %llu)", (unsigned long long)c->line);
	if (c->size_then != c->size_now)
		buf_addf(out, ", %llu bytes then, %llu now", (unsigned long long)c->size_then,
			 (unsigned long long)c->size_now);
	if (g->cause) {
		buf_addf(out, ": %s", g->cause);
		if (g->then[0] || g->now[0]) {
			buf_addf(out, " (");
			both(c, out);
			buf_addf(out, ")");
		}
		return;
	}
	if (g->then[0] || g->now[0]) {
		buf_addf(out, ": ");
		both(c, out);
	}
	if (c->order_unknown)
		buf_addf(out, " (too large to be searched for another order)");
}
