/* SPDX-License-Identifier: MIT */
/*
 * guess.h - why did the same step with the same inputs leave something else? Pure functions on the bytes around
 * the first difference of two streams. A cause is named only where it is plain; NULL is the usual answer.
 *
 * Nothing here trusts the bytes: any two buffers will do.
 */
#ifndef MLFS_GUESS_H
#define MLFS_GUESS_H

#include "../index/index.h"

/* So much of each stream is wanted before and after the first difference (less at its ends). The first is a
 * tar header, so that its beginning is seen from any of its fields. */
#define GUESS_BEFORE 512
#define GUESS_AFTER  4096
#define GUESS_TEXT   96

struct guess_side {
	const uint8_t *p; /* borrowed; begins at the same offset of both streams */
	size_t n;
	int64_t from_ns, to_ns;	 /* CLOCK_REALTIME: when the step ran; 0: not known */
	int first_pid, last_pid; /* the process ids given out meanwhile; 0: not known */
};
struct guess_in {
	struct guess_side then, now;
	size_t at;	  /* the first difference in both windows; one may end there */
	uint64_t offset;  /* of the windows in the streams */
	const char *host; /* this machine's name, or NULL; borrowed */
	bool name;	  /* the bytes are the name of a file, not its content */
};
struct guess {
	const char *cause; /* "a timestamp", or NULL; static */
	/* What stands there: `"10:42:07"`, a date for binary ones, bytes in hex; printable, "" at an end. */
	char then[GUESS_TEXT], now[GUESS_TEXT];
	bool text; /* both are text around there */
};
void guess_at(const struct guess_in *in, struct guess *ret);

/*
 * The same in another order? For two streams of one length: feed both whole, in pieces of any size, then ask.
 * Lines and words count by their hashes, so that memory does not grow with the streams.
 */
struct guess_bag {
	uint64_t hash;	 /* of the piece so far */
	bool open;	 /* a piece has begun */
	uint64_t sum[2]; /* of the pieces, whatever their order */
	uint64_t in_order;
	uint64_t n;
};
struct guess_half {
	struct guess_bag lines, words;
	uint64_t bytes[256];
};
struct guess_order {
	struct guess_half then, now;
	uint64_t differing; /* places with another byte */
};
void guess_order_add(struct guess_order *o, const void *then, const void *now, size_t n);
/* "an ordering: the same lines in another order", or NULL. Once, at the end. bytes: look at single bytes as well. */
const char *guess_order_cause(struct guess_order *o, bool bytes);

/* ---- private to guess*.c ---- */

/* Text at p (len bytes of it) as it may be printed, in quotes; cut to what fits. */
void guess_quote(const uint8_t *p, size_t len, char ret[GUESS_TEXT]);
/* Something that begins at the same place of both windows, reaches the first difference and is matched by fn on both
 * sides; the longest such. fn gives the length of what begins at p[at] or 0, and may look at what is before. */
typedef size_t (*guess_scan)(const uint8_t *p, size_t n, size_t at);
bool guess_find(const struct guess_in *in, guess_scan fn, size_t *ret_begin, size_t *ret_then,
		size_t *ret_now);
/* guess_find, and a cause with what stands there when it succeeds. */
bool guess_token(const struct guess_in *in, guess_scan fn, const char *cause, struct guess *ret);
/* guess_time.c: dates and times, written. */
bool guess_time(const struct guess_in *in, struct guess *ret);
/* guess_field.c: binary ones. */
bool guess_binary_time(const struct guess_in *in, struct guess *ret);
/* guess_number.c: numbers, written or binary. */
bool guess_number(const struct guess_in *in, struct guess *ret);
bool guess_binary_number(const struct guess_in *in, struct guess *ret);
/* A whole number without a sign that begins at p[at]: its length, or 0. */
size_t guess_scan_digits(const uint8_t *p, size_t n, size_t at);

/* Clocks of file systems lag behind, and files are written a little after the step has ended. */
#define GUESS_SLACK_S 2
static inline bool guess_in_run(int64_t seconds, const struct guess_side *side)
{
	return side->from_ns && seconds >= side->from_ns / 1000000000 - GUESS_SLACK_S &&
	       seconds <= side->to_ns / 1000000000 + GUESS_SLACK_S;
}

static inline bool guess_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}
static inline bool guess_is_letter(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool guess_is_word(uint8_t c)
{
	return guess_is_digit(c) || guess_is_letter(c) || c == '_';
}
static inline bool guess_is_hex(uint8_t c)
{
	return guess_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
/* Does no word go on across p[at]? */
static inline bool guess_word_begins(const uint8_t *p, size_t at)
{
	return at == 0 || !guess_is_word(p[at - 1]);
}
static inline bool guess_word_ends(const uint8_t *p, size_t n, size_t at)
{
	return at >= n || !guess_is_word(p[at]);
}

#endif
