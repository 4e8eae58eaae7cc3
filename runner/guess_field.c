/* SPDX-License-Identifier: MIT */
/*
 * guess_field.c - times in binary files: the fields that formats have for them, and any value that falls into the
 * time each of the two runs took.
 */
#include <string.h>

#include "guess.h"

#define NS INT64_C(1000000000)

static uint64_t load(const uint8_t *p, size_t width, bool big)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v |= (uint64_t)p[i] << 8 * (big ? width - 1 - i : i);
	return v;
}

static void show_time(int64_t seconds, char ret[GUESS_TEXT])
{
	char text[40];

	/* Beyond what a clock shows it is no time anybody knows. */
	if (seconds < 0 || seconds > INT64_C(253402300799))
		seconds = 0;
	(void)snprintf(ret, GUESS_TEXT, "%.19sZ", rfc3339(seconds * NS, text, sizeof(text)));
}

static bool told(struct guess *ret, const char *cause, int64_t then, int64_t now)
{
	ret->cause = cause;
	show_time(then, ret->then);
	show_time(now, ret->now);
	return true;
}

/* The bytes of a field [begin, begin+len) are in both windows, and the first difference is in it. */
static bool in_field(const struct guess_in *in, size_t begin, size_t len)
{
	return in->at >= begin && in->at - begin < len && in->then.n >= len && in->now.n >= len &&
	       begin <= in->then.n - len && begin <= in->now.n - len;
}

static bool in_gzip_header(const struct guess_in *in, struct guess *ret)
{
	if (in->offset != 0 || !in_field(in, 4, 4) || memcmp(in->then.p, "\x1f\x8b\x08", 3) != 0)
		return false;
	return told(ret, "a timestamp in the gzip header (gzip -n leaves it out)",
		    (int64_t)load(in->then.p + 4, 4, false),
		    (int64_t)load(in->now.p + 4, 4, false));
}

/* Python 3.7 and later: magic, flags (0: by the source's time), time, size. */
static bool in_byte_code(const struct guess_in *in, struct guess *ret)
{
	if (in->offset != 0 || !in_field(in, 8, 4) || memcmp(in->then.p + 2, "\r\n\0\0\0\0", 6))
		return false;
	return told(ret, "the source's timestamp in Python byte code",
		    (int64_t)load(in->then.p + 8, 4, false),
		    (int64_t)load(in->now.p + 8, 4, false));
}

static int64_t octal(const uint8_t *p, size_t n)
{
	int64_t v = 0;

	for (size_t i = 0; i < n && p[i] >= '0' && p[i] <= '7'; i++)
		v = v * 8 + (p[i] - '0');
	return v;
}

static bool in_tar_header(const struct guess_in *in, struct guess *ret)
{
	uint64_t block = (in->offset + in->at) / 512 * 512;
	size_t b = (size_t)(block - in->offset);

	if (block < in->offset || !in_field(in, b + 136, 12) || in->then.n - b < 262 ||
	    in->now.n - b < 262 || memcmp(in->then.p + b + 257, "ustar", 5) != 0 ||
	    memcmp(in->now.p + b + 257, "ustar", 5) != 0)
		return false;
	return told(ret, "a timestamp in a tar header (tar --mtime sets it)",
		    octal(in->then.p + b + 136, 12), octal(in->now.p + b + 136, 12));
}

static bool in_ar_header(const struct guess_in *in, struct guess *ret)
{
	/* A header of 60 bytes: name, 12 digits of time from 16 on, …, "`\n". */
	for (size_t back = 16; back < 28 && back <= in->at; back++) {
		size_t h = in->at - back;
		int64_t then = 0, now = 0;

		if (in->then.n < h + 60 || in->now.n < h + 60 ||
		    memcmp(in->then.p + h + 58, "`\n", 2) || memcmp(in->now.p + h + 58, "`\n", 2) ||
		    !guess_is_digit(in->then.p[h + 16]) || !guess_is_digit(in->now.p[h + 16]))
			continue;
		for (size_t i = 16; i < 28; i++) {
			if (guess_is_digit(in->then.p[h + i]))
				then = then * 10 + (in->then.p[h + i] - '0');
			if (guess_is_digit(in->now.p[h + i]))
				now = now * 10 + (in->now.p[h + i] - '0');
		}
		return told(ret, "a timestamp in an ar header (ar D leaves it out)", then, now);
	}
	return false;
}

static void show_dos(uint32_t v, char ret[GUESS_TEXT])
{
	(void)snprintf(ret, GUESS_TEXT, "%u-%02u-%02u %02u:%02u:%02u", 1980 + (v >> 25),
		       v >> 21 & 15, v >> 16 & 31, v >> 11 & 31, v >> 5 & 63, (v & 31) * 2);
}

/* The time of a zip entry: in its own header and in the directory at the end. */
static bool in_zip_header(const struct guess_in *in, struct guess *ret)
{
	static const struct {
		const char *magic;
		size_t field;
	} headers[] = {{"PK\3\4", 10}, {"PK\1\2", 12}};

	for (size_t i = 0; i < 2; i++)
		for (size_t back = headers[i].field; back < headers[i].field + 4; back++) {
			size_t h = in->at - back;

			if (back > in->at || !in_field(in, h + headers[i].field, 4) ||
			    memcmp(in->then.p + h, headers[i].magic, 4) != 0)
				continue;
			ret->cause = "a timestamp of a zip entry";
			show_dos((uint32_t)load(in->then.p + h + headers[i].field, 4, false),
				 ret->then);
			show_dos((uint32_t)load(in->now.p + h + headers[i].field, 4, false),
				 ret->now);
			return true;
		}
	return false;
}

static int64_t from_double(uint64_t bits)
{
	double v;

	memcpy(&v, &bits, sizeof(v));
	return v > 0 && v < 1e11 ? (int64_t)v : 0;
}

/* Seconds, or 0, of a binary value read one way. */
static int64_t seconds_of(uint64_t v, int way)
{
	switch (way) {
	case 0:
		return v < (UINT64_C(1) << 40) ? (int64_t)v : 0;
	case 1:
		return (int64_t)(v / 1000);
	case 2:
		return (int64_t)(v / 1000000);
	case 3:
		return (int64_t)(v / 1000000000);
	default:
		return from_double(v);
	}
}

/* A value of `width` bytes from `begin` on that is, read the same way, within both runs. */
static bool value_in_runs(const struct guess_in *in, size_t begin, size_t width, bool big,
			  struct guess *ret)
{
	uint64_t then = load(in->then.p + begin, width, big),
		 now = load(in->now.p + begin, width, big);

	for (int way = 0; way < (width == 8 ? 5 : 1); way++) {
		int64_t a = seconds_of(then, way), b = seconds_of(now, way);

		if (guess_in_run(a, &in->then) && guess_in_run(b, &in->now))
			return told(ret, "a timestamp", a, b);
	}
	return false;
}

bool guess_binary_time(const struct guess_in *in, struct guess *ret)
{
	if (in_gzip_header(in, ret) || in_byte_code(in, ret) || in_tar_header(in, ret) ||
	    in_ar_header(in, ret) || in_zip_header(in, ret))
		return true;
	for (size_t width = 4; width <= 8; width += 4)
		for (size_t back = 0; back < width && back <= in->at; back++)
			for (int big = 0; big < 2; big++)
				if (in_field(in, in->at - back, width) &&
				    value_in_runs(in, in->at - back, width, big, ret))
					return true;
	return false;
}
