/* SPDX-License-Identifier: MIT */
/* text.c - durations, sizes, times, hex and JSON strings: from text and for people. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base.h"

/* ---- ISO 8601 durations ---- */

struct unit {
	char letter;
	double seconds;
};

/* Read digits, with a fraction after '.' or ','. False when there are no digits. */
static bool read_number(const char **s, double *ret, bool *ret_fraction)
{
	const char *p = *s;
	double v = 0, place = 0.1;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		v = v * 10 + (*p - '0');
	*ret_fraction = *p == '.' || *p == ',';
	if (*ret_fraction) {
		if (!isdigit((unsigned char)*++p))
			return false;
		for (; isdigit((unsigned char)*p); p++, place /= 10)
			v += (*p - '0') * place;
	}
	*s = p;
	*ret = v;
	return true;
}

/* The fields of one half (before or after the T), in their order, each at most once. */
static int read_fields(const char **s, const struct unit *units, size_t n, double *sum, bool *last)
{
	int fields = 0;
	size_t next = 0;

	while (**s && **s != 'T') {
		double v;
		bool fraction;

		if (*last || !read_number(s, &v, &fraction))
			return -EINVAL;
		while (next < n && units[next].letter != **s)
			next++;
		if (next == n)
			return -EINVAL;
		*sum += v * units[next++].seconds;
		*last = fraction; /* nothing may follow a fraction */
		fields++;
		(*s)++;
	}
	return fields;
}

int parse_duration(const char *s, double *ret_seconds)
{
	static const struct unit date[] = {
		{'Y', 365 * 86400.0}, {'M', 30 * 86400.0}, {'W', 7 * 86400.0}, {'D', 86400.0}};
	static const struct unit clock[] = {{'H', 3600}, {'M', 60}, {'S', 1}};
	double sum = 0;
	bool last = false;
	int days, times = 0;

	if (!s || *s++ != 'P')
		return -EINVAL;
	days = read_fields(&s, date, 4, &sum, &last);
	if (days < 0)
		return days;
	if (*s == 'T') {
		s++;
		times = read_fields(&s, clock, 3, &sum, &last);
		if (times <= 0 || *s)
			return -EINVAL;
	}
	if (days + times == 0 || !isfinite(sum))
		return -EINVAL;
	*ret_seconds = sum;
	return 0;
}

/* ---- sizes ---- */

int parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char letters[] = "KMGT";
	const char *at;
	double v;
	uint64_t whole = 0;
	bool fraction;
	unsigned shift = 0;

	if (!s || !isdigit((unsigned char)*s))
		return -EINVAL;
	for (const char *p = s; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return -ERANGE;
	if (!read_number(&s, &v, &fraction))
		return -EINVAL;
	if (*s) {
		at = strchr(letters, toupper((unsigned char)*s));
		if (!at || s[1])
			return -EINVAL;
		shift = 10 * (unsigned)(at - letters + 1);
	} else if (fraction) {
		return -EINVAL; /* half a byte */
	}
	if (whole > UINT64_MAX >> shift)
		return -ERANGE;
	/* Whole numbers stay exact; a double could not hold them all. */
	*ret_bytes = whole << shift;
	if (fraction)
		*ret_bytes += (uint64_t)((v - (double)whole) * (double)(1ull << shift));
	return 0;
}

char *human_size(uint64_t bytes, char *buf, size_t n)
{
	static const char *const names[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
	double v = (double)bytes;
	unsigned i = 0;

	/* 1023.96 would print as "1024.0" */
	while (v >= 1023.95 && i < 6) {
		v /= 1024;
		i++;
	}
	(void)snprintf(buf, n, i ? "%.1f %s" : "%.0f %s", v,
		       names[i]); /* cut off when n is small */
	return buf;
}

/* ---- times ---- */

char *human_seconds(double seconds, char *buf, size_t n)
{
	const char *sign = seconds < 0 ? "-" : "";
	double s = seconds < 0 ? -seconds : seconds;
	long long t;

	if (!(s < 1e15))
		s = 1e15; /* not a number, or not one to print */
	if (s < 0.9995) {
		(void)snprintf(buf, n, "%s%.0f ms", sign, s * 1000); /* cut off when n is small */
		return buf;
	}
	t = (long long)(s + 0.5);
	if (s < 9.95)
		(void)snprintf(buf, n, "%s%.1f s", sign, s);
	else if (t < 60)
		(void)snprintf(buf, n, "%s%lld s", sign, t);
	else if (t < 3600)
		(void)snprintf(buf, n, "%s%lld m %lld s", sign, t / 60, t % 60);
	else if (t < 86400)
		(void)snprintf(buf, n, "%s%lld h %lld m", sign, t / 3600, t % 3600 / 60);
	else
		(void)snprintf(buf, n, "%s%lld d %lld h", sign, t / 86400, t % 86400 / 3600);
	return buf;
}

char *rfc3339(int64_t unix_ns, char *buf, size_t n)
{
	int64_t ms = unix_ns / 1000000;
	struct tm tm;
	time_t t;
	size_t used;

	if (unix_ns % 1000000 < 0)
		ms--;
	t = (time_t)(ms / 1000 - (ms % 1000 < 0));
	ms -= (int64_t)t * 1000;
	if (!n)
		return buf;
	buf[0] = '\0';
	if (!gmtime_r(&t, &tm))
		return buf;
	used = strftime(buf, n, "%Y-%m-%dT%H:%M:%S", &tm);
	if (used)
		(void)snprintf(buf + used, n - used, ".%03dZ",
			       (int)ms); /* cut off when n is small */
	return buf;
}

/* ---- hex, spelling, JSON ---- */

void hex(const void *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
	*out = '\0';
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool unhex(const char *digits, void *to, size_t n)
{
	uint8_t *b = to;

	if (strlen(digits) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int hi = digit(digits[2 * i]), lo = digit(digits[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		b[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Three rows are enough: the one being filled, the last, and the one before for a transposition. */
unsigned edit_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	auto_free unsigned *rows = xcalloc(3 * (nb + 1), sizeof(*rows));
	unsigned *before = rows, *last = rows + nb + 1, *row = last + nb + 1;

	for (size_t j = 0; j <= nb; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			row[j] = min3(last[j] + 1, row[j - 1] + 1,
				      last[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = last;
		last = row;
		row = spare;
	}
	return last[nb];
}

/* Length of the well-formed UTF-8 sequence at s (Unicode 15, table 3-7), or 0. */
static size_t utf8_len(const uint8_t *s, size_t n)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		lo = 0xa0; /* a shorter form exists */
	else if (s[0] == 0xed)
		hi = 0x9f; /* surrogates */
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f; /* beyond U+10FFFF */
	if (len > n || s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return len;
}

bool is_utf8(const char *s, size_t n)
{
	size_t len = 1;

	for (size_t i = 0; i < n && len; i += len)
		len = utf8_len((const uint8_t *)s + i, n - i);
	return len != 0;
}

static void json_ascii(struct buf *b, uint8_t c)
{
	static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
	const char *at = c ? strchr(plain, c) : NULL;

	if (at)
		buf_addf(b, "\\%c", letter[at - plain]);
	else if (c < 0x20 || c == 0x7f)
		buf_addf(b, "\\u%04x", c);
	else
		buf_u8(b, c);
}

void json_string(struct buf *b, const char *s, size_t n)
{
	const uint8_t *p = (const uint8_t *)s;

	buf_u8(b, '"');
	for (size_t i = 0; i < n;) {
		size_t len = utf8_len(p + i, n - i);

		if (len == 1)
			json_ascii(b, p[i]);
		else if (len)
			buf_add(b, p + i, len);
		else
			buf_add(b, "\xef\xbf\xbd", 3);
		i += len ? len : 1;
	}
	buf_u8(b, '"');
}

bool path_is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n] || n == 1);
}
