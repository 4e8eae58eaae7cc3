/* SPDX-License-Identifier: MIT */
/* guess.c - addresses, random tokens and bytes, names; what is asked in which order. */
#include "guess.h"

#include <string.h>

#define MAX_TOKEN 160

/* ---- common ---- */

static bool same_letter(uint8_t c, char small)
{
	return (c | 0x20) == small;
}

void guess_quote(const uint8_t *p, size_t len, char ret[GUESS_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	ret[n++] = '"';
	for (size_t i = 0; i < len; i++) {
		/* Room for this, "...", the quote and the NUL. */
		if (n + 4 + 5 > GUESS_TEXT) {
			/* No part of a character stays. */
			while (n > 1 && ((uint8_t)ret[n - 1] & 0xc0) == 0x80)
				n--;
			n -= n > 1 && ((uint8_t)ret[n - 1] & 0x80);
			memcpy(ret + n, "...", 3);
			n += 3;
			break;
		}
		if (p[i] < 0x20 || p[i] == 0x7f) {
			ret[n++] = '\\';
			ret[n++] = 'x';
			ret[n++] = digits[p[i] >> 4];
			ret[n++] = digits[p[i] & 15];
		} else {
			ret[n++] = (char)p[i];
		}
	}
	ret[n++] = '"';
	ret[n] = '\0';
}

bool guess_find(const struct guess_in *in, guess_scan fn, size_t *ret_begin, size_t *ret_then,
		size_t *ret_now)
{
	for (size_t s = in->at > MAX_TOKEN ? in->at - MAX_TOKEN : 0; s <= in->at; s++) {
		size_t then = s < in->then.n ? fn(in->then.p, in->then.n, s) : 0;
		size_t now = then && s < in->now.n ? fn(in->now.p, in->now.n, s) : 0;

		/* One may end where the other goes on. */
		if (!now || s + then < in->at || s + now < in->at ||
		    (s + then == in->at && s + now == in->at))
			continue;
		*ret_begin = s;
		*ret_then = then;
		*ret_now = now;
		return true;
	}
	return false;
}

bool guess_token(const struct guess_in *in, guess_scan fn, const char *cause, struct guess *ret)
{
	size_t begin, then, now;

	if (!guess_find(in, fn, &begin, &then, &now))
		return false;
	ret->cause = cause;
	guess_quote(in->then.p + begin, then, ret->then);
	guess_quote(in->now.p + begin, now, ret->now);
	return true;
}

/* ---- addresses ---- */

/* Where Linux puts stacks, libraries and the heaps of position-independent programs. */
static bool is_address(uint64_t v)
{
#ifdef __aarch64__
	if (v >> 32 == 0xaaaa || v >> 32 == 0xaaab || v >> 32 == 0xffff)
		return true;
#endif
	return v >> 40 == 0x7e || v >> 40 == 0x7f || v >> 40 == 0x55 || v >> 40 == 0x56;
}

static uint64_t hex_value(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 4 |
		    (guess_is_digit(p[i]) ? (uint64_t)p[i] - '0' : (p[i] | 0x20u) - 'a' + 10u);
	return v;
}

/* 0x7ffd1c2b3a40, or the digits alone (as in /proc/PID/maps) */
static size_t scan_hex_address(const uint8_t *p, size_t n, size_t at)
{
	size_t prefix = n - at > 2 && p[at] == '0' && same_letter(p[at + 1], 'x') ? 2 : 0, len = 0;

	if (!guess_word_begins(p, at))
		return 0;
	while (at + prefix + len < n && guess_is_hex(p[at + prefix + len]))
		len++;
	if (len > 16 || !guess_word_ends(p, n, at + prefix + len))
		return 0;
	if (prefix ? len < 7 : len != 12 && len != 16)
		return 0;
	if (is_address(hex_value(p + at + prefix, len)))
		return prefix + len;
	/* "<object at 0x1c2d3e0>": said to be one */
	return prefix && at >= 3 && memcmp(p + at - 3, "at ", 3) == 0 ? prefix + len : 0;
}

static size_t scan_decimal_address(const uint8_t *p, size_t n, size_t at)
{
	size_t len = guess_scan_digits(p, n, at);
	uint64_t v = 0;

	if (len != 14 && len != 15)
		return 0;
	for (size_t i = 0; i < len; i++)
		v = v * 10 + (uint64_t)(p[at + i] - '0');
	return is_address(v) ? len : 0;
}

static const char address_cause[] = "an address, which is random in every process";

static bool binary_address(const struct guess_in *in, struct guess *ret)
{
	for (size_t back = 0; back < 8 && back <= in->at; back++) {
		size_t b = in->at - back;
		uint64_t then, now;

		if (in->then.n < b + 8 || in->now.n < b + 8)
			continue;
		memcpy(&then, in->then.p + b, 8); /* as this machine writes them */
		memcpy(&now, in->now.p + b, 8);
		/* Chance moves them far; bytes that only look like one differ anywhere. */
		if (!is_address(then) || !is_address(now) || (then ^ now) >> 24 == 0)
			continue;
		ret->cause = address_cause;
		(void)snprintf(ret->then, GUESS_TEXT, "0x%llx", (unsigned long long)then);
		(void)snprintf(ret->now, GUESS_TEXT, "0x%llx", (unsigned long long)now);
		return true;
	}
	return false;
}

/* ---- random tokens ---- */

static size_t scan_uuid(const uint8_t *p, size_t n, size_t at)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t len = sizeof(form) - 1;

	if (n - at < len || !guess_word_begins(p, at) || !guess_word_ends(p, n, at + len))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (form[i] == '-' ? p[at + i] != '-' : !guess_is_hex(p[at + i]))
			return 0;
	return len;
}

/* Digits and letters, as no number and no word has them. */
static size_t scan_hex_token(const uint8_t *p, size_t n, size_t at)
{
	size_t len = 0, digits = 0, letters = 0;

	for (; at + len < n && guess_is_hex(p[at + len]); len++)
		*(guess_is_digit(p[at + len]) ? &digits : &letters) += 1;
	if (len < 8 || !digits || !letters || !guess_word_begins(p, at) ||
	    !guess_word_ends(p, n, at + len))
		return 0;
	return len;
}

/* Of the alphabets of base64: capitals, small letters and digits mixed. */
static size_t scan_mixed_token(const uint8_t *p, size_t n, size_t at)
{
	size_t len = 0, digits = 0, small = 0, capitals = 0;

	if (at > 0 &&
	    (guess_is_word(p[at - 1]) || p[at - 1] == '+' || p[at - 1] == '/' || p[at - 1] == '-'))
		return 0;
	for (; at + len < n; len++) {
		uint8_t c = p[at + len];

		if (guess_is_digit(c))
			digits++;
		else if (c >= 'a' && c <= 'z')
			small++;
		else if (c >= 'A' && c <= 'Z')
			capitals++;
		else if (c != '+' && c != '/' && c != '-' && c != '_' && c != '=')
			break;
	}
	return len >= 16 && digits >= 2 && small >= 2 && capitals >= 2 ? len : 0;
}

static bool is_mixed(const uint8_t *p, size_t n)
{
	bool digit = false, small = false, capital = false;

	for (size_t i = 0; i < n; i++) {
		digit |= guess_is_digit(p[i]);
		small |= p[i] >= 'a' && p[i] <= 'z';
		capital |= p[i] >= 'A' && p[i] <= 'Z';
	}
	return digit && small && capital;
}

/* Tokens of one length that have no more in common than chance gives. mixed: and look so from the first difference on, as
 * no two identifiers with the same beginning do. */
static bool unrelated(const struct guess_in *in, guess_scan fn, bool mixed)
{
	size_t begin, then, now, same = 0, rest;

	if (!guess_find(in, fn, &begin, &then, &now) || then != now)
		return false;
	rest = begin + then - in->at;
	for (size_t i = in->at; i < begin + then; i++)
		same += in->then.p[i] == in->now.p[i];
	if (rest < 6 || same * 3 > rest)
		return false;
	return !mixed ||
	       (is_mixed(in->then.p + in->at, rest) && is_mixed(in->now.p + in->at, rest));
}

/* ---- names of temporary files ---- */

/* "tmp" or "temp" between `from` and `to`, but no "template"? */
static bool says_temporary(const uint8_t *p, size_t from, size_t to)
{
	for (size_t i = from; i + 3 <= to; i++) {
		if (!same_letter(p[i], 't'))
			continue;
		if (same_letter(p[i + 1], 'm') && same_letter(p[i + 2], 'p'))
			return true;
		if (i + 4 < to && same_letter(p[i + 1], 'e') && same_letter(p[i + 2], 'm') &&
		    same_letter(p[i + 3], 'p') && !guess_is_letter(p[i + 4]))
			return true;
	}
	return false;
}

/* As no word is written: with digits, or a capital behind a small letter. */
static bool looks_drawn(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!guess_is_letter(p[i]) || (i && p[i] <= 'Z' && p[i - 1] >= 'a'))
			return true;
	return false;
}

static bool ends_path(uint8_t c)
{
	return c <= ' ' || c == '"' || c == '\'' || c == ':' || c == ',' || c == '(' || c == '=' ||
	       c == '<' || c == '>' || c == ';' || c == ')' || c == ']';
}

/* The random letters of mkstemp and the like: 5 to 12 of them in one run, behind a path or prefix that says tmp. */
static size_t scan_temporary(const uint8_t *p, size_t n, size_t at)
{
	size_t len = 0, from = at;

	while (at + len < n && !ends_path(p[at + len]) && p[at + len] != '/')
		len++;
	if (at > 0 && !ends_path(p[at - 1]) && p[at - 1] != '/')
		return 0; /* from the beginning of a component on */
	while (from > 0 && at - from < 64 && !ends_path(p[from - 1]))
		from--;
	return len >= 5 && len <= 64 && says_temporary(p, from, at + len) ? len : 0;
}

static bool temporary_name(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now, run = 0;

	if (!guess_find(in, scan_temporary, &begin, &then, &now) || then != now)
		return false;
	/* What differs is one run of letters and digits, and the rest of the name is the same. */
	for (size_t i = begin; i < begin + then; i++)
		if (in->then.p[i] != in->now.p[i]) {
			if (!guess_is_word(in->then.p[i]) || !guess_is_word(in->now.p[i]))
				return false;
			run = i - in->at + 1;
		}
	if (run < 4 || run > 16 ||
	    !(looks_drawn(in->then.p + in->at, run) || looks_drawn(in->now.p + in->at, run)))
		return false;
	return guess_token(in, scan_temporary, "the name of a temporary file", ret);
}

/* Of the name of a file: letters and digits that differ in one run, the rest being the same. */
static bool drawn_name(const struct guess_in *in, struct guess *ret)
{
	size_t n = in->then.n, run = 0;

	if (!in->name || n != in->now.n)
		return false;
	for (size_t i = in->at; i < n; i++)
		if (in->then.p[i] != in->now.p[i]) {
			if (!guess_is_word(in->then.p[i]) || !guess_is_word(in->now.p[i]))
				return false;
			run = i - in->at + 1;
		}
	if (run < 4 ||
	    !(looks_drawn(in->then.p + in->at, run) || looks_drawn(in->now.p + in->at, run)))
		return false;
	ret->cause = "a random name";
	guess_quote(in->then.p, n, ret->then);
	guess_quote(in->now.p, n, ret->now);
	return true;
}

/* ---- what the machine and the process are called ---- */

static bool host_name(const struct guess_in *in, struct guess *ret)
{
	size_t len = in->host ? strlen(in->host) : 0;

	if (len < 2)
		return false;
	for (size_t back = 0; back < len && back <= in->at; back++) {
		size_t b = in->at - back, end = b;

		if (in->now.n - b < len || memcmp(in->now.p + b, in->host, len) != 0 ||
		    !guess_word_begins(in->now.p, b) ||
		    !guess_word_ends(in->now.p, in->now.n, b + len))
			continue;
		while (end < in->then.n &&
		       (guess_is_word(in->then.p[end]) || in->then.p[end] == '-'))
			end++;
		ret->cause = "the host name";
		guess_quote(in->then.p + b, end - b, ret->then);
		guess_quote(in->now.p + b, len, ret->now);
		return true;
	}
	return false;
}

/* So many processes at most between the first and the last, or being among them says nothing. */
#define MAX_PIDS 4096
#define PID_MAX	 4194304

static long small_number(const uint8_t *p, size_t n)
{
	long v = 0;

	for (size_t i = 0; i < n && v <= PID_MAX; i++)
		v = v * 10 + (p[i] - '0');
	return v;
}

static bool called_pid(const uint8_t *p, size_t at)
{
	for (size_t i = at > 8 ? at - 8 : 0; i + 3 <= at; i++)
		if (same_letter(p[i], 'p') && same_letter(p[i + 1], 'i') &&
		    same_letter(p[i + 2], 'd'))
			return true;
	return false;
}

static bool process_id(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now;
	long a, b;

	if (!guess_find(in, guess_scan_digits, &begin, &then, &now))
		return false;
	if (begin > 0 && (in->now.p[begin - 1] == '.' || in->now.p[begin - 1] == '-'))
		return false;
	a = small_number(in->then.p + begin, then);
	b = small_number(in->now.p + begin, now);
	if (a < 2 || b < 2 || a > PID_MAX || b > PID_MAX)
		return false;
	if (!called_pid(in->now.p, begin) &&
	    !(in->now.first_pid > 300 && b >= in->now.first_pid && b <= in->now.last_pid &&
	      in->now.last_pid - in->now.first_pid < MAX_PIDS))
		return false;
	return guess_token(in, guess_scan_digits, "a process id", ret);
}

/* ---- random bytes ---- */

/* Formats whose bytes look random because they are packed; a difference in them is of what was packed. */
static bool is_packed(const struct guess_in *in)
{
	static const char *const magic[] = {"\x1f\x8b",
					    "BZh",
					    ("\xfd"
					     "7zXZ"),
					    "\x28\xb5\x2f\xfd",
					    "\x04\x22\x4d\x18",
					    "PK\3\4",
					    "7z\xbc\xaf",
					    "\x89PNG",
					    "\xff\xd8\xff",
					    "\x78\x01",
					    "\x78\x9c",
					    "\x78\xda"};

	for (size_t i = 0; in->offset == 0 && i < sizeof(magic) / sizeof(*magic); i++)
		if (in->now.n > strlen(magic[i]) &&
		    memcmp(in->now.p, magic[i], strlen(magic[i])) == 0)
			return true;
	return false;
}

/* Do n bytes look drawn at random? Half of their bits are set, give or take four standard deviations, and about as
 * many values occur as would. */
static bool looks_random(const uint8_t *p, size_t n)
{
	bool seen[256] = {false};
	size_t bits = 0, values = 0, wanted, off;
	double left = 1;

	for (size_t i = 0; i < n; i++) {
		bits += (size_t)__builtin_popcount(p[i]);
		values += !seen[p[i]];
		seen[p[i]] = true;
		left *= 255.0 / 256;
	}
	wanted = (size_t)(256 * (1 - left));
	off = bits > 4 * n ? bits - 4 * n : 4 * n - bits;
	/* The variance of 8n bits is 2n. */
	return off * off <= 16 * 2 * n && values * 10 >= wanted * 9;
}

static bool random_bytes(const struct guess_in *in, struct guess *ret)
{
	size_t n = (in->then.n < in->now.n ? in->then.n : in->now.n) - in->at, same = 0;

	for (size_t i = 0; i < n; i++)
		same += in->then.p[in->at + i] == in->now.p[in->at + i];
	if (n < 16 || same > 1 + n / 64 || is_packed(in) || !looks_random(in->then.p + in->at, n) ||
	    !looks_random(in->now.p + in->at, n))
		return false;
	ret->cause = "random, encrypted or compressed bytes";
	return true;
}

/* ---- all of it ---- */

/* No control characters but those of text, some way around the difference. */
static bool is_text(const struct guess_side *s, size_t at)
{
	size_t end = at + 64 < s->n ? at + 64 : s->n;

	for (size_t i = at > 64 ? at - 64 : 0; i < end; i++)
		if (s->p[i] == 0x7f ||
		    (s->p[i] < 0x20 && (s->p[i] < '\t' || s->p[i] > '\r') && s->p[i] != 0x1b))
			return false;
	/* Bytes beyond ASCII may be letters; where half of them are it is no text that we can read. */
	for (size_t i = at, high = 0; i < end; i++) {
		high += s->p[i] >= 0x80;
		if (high > 4 && high * 2 > i - at + 1)
			return false;
	}
	return true;
}

/* Where nothing is known: the word around the difference, or some bytes of it. */
static void show(const struct guess_side *s, size_t at, bool text, char ret[GUESS_TEXT])
{
	size_t begin = at, end = at;

	ret[0] = '\0';
	if (at >= s->n)
		return;
	if (!text) {
		for (size_t i = at, n = 0; i < s->n && i < at + 8; i++)
			n += (size_t)snprintf(ret + n, GUESS_TEXT - n, i > at ? " %02x" : "%02x",
					      s->p[i]);
		return;
	}
	while (begin > 0 && at - begin < 24 && s->p[begin - 1] > ' ')
		begin--;
	while (end < s->n && end - at < 40 && s->p[end] != '\n' && (end == at || s->p[end] > ' '))
		end++;
	while (begin < at && (s->p[begin] & 0xc0) == 0x80)
		begin++;
	while (end > at && end < s->n && (s->p[end] & 0xc0) == 0x80)
		end--;
	guess_quote(s->p + begin, end - begin, ret);
}

static bool written(const struct guess_in *in, struct guess *ret)
{
	if (guess_time(in, ret) ||
	    guess_token(in, scan_uuid, "a UUID, drawn at random or from the time", ret))
		return true;
	if (guess_token(in, scan_hex_address, address_cause, ret) ||
	    guess_token(in, scan_decimal_address, address_cause, ret))
		return true;
	return temporary_name(in, ret) || host_name(in, ret) || drawn_name(in, ret);
}

/* What needs the text around it to be believed. */
static bool written_in_text(const struct guess_in *in, struct guess *ret)
{
	if (process_id(in, ret) || guess_number(in, ret))
		return true;
	if (unrelated(in, scan_hex_token, false))
		return guess_token(in, scan_hex_token,
				   "a random token, or the digest of something that differs", ret);
	if (unrelated(in, scan_mixed_token, true))
		return guess_token(in, scan_mixed_token, "a random token", ret);
	return false;
}

static bool binary(const struct guess_in *in, struct guess *ret)
{
	return binary_address(in, ret) || guess_binary_number(in, ret) || random_bytes(in, ret);
}

void guess_at(const struct guess_in *in, struct guess *ret)
{
	bool text = is_text(&in->then, in->at) && is_text(&in->now, in->at);

	*ret = (struct guess){.text = text};
	if (in->at > in->then.n || in->at > in->now.n ||
	    (in->at == in->then.n && in->at == in->now.n))
		return;
	if (!text && guess_binary_time(in, ret))
		return;
	if (written(in, ret) || (text ? written_in_text(in, ret) : binary(in, ret))) {
		if (ret->then[0])
			return;
	}
	show(&in->then, in->at, text, ret->then);
	show(&in->now, in->at, text, ret->now);
}
