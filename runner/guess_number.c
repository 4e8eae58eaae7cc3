/* SPDX-License-Identifier: MIT */
/*
 * guess_number.c - numbers that differ: by rounding, by chance, or because something was measured.
 *
 * Numbers are compared in pairs as long as what stands between them is the same on both sides, so that many small
 * differences can tell together what one could not.
 */
#include <math.h>
#include <string.h>

#include "guess.h"

#define MAX_PAIRS     256
/* Digits without relation that make chance plain. */
#define RANDOM_DIGITS 4
#define MAX_NUMBER    40

/* fmax would have every mlfs load libm. */
static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* ---- written numbers ---- */

struct number {
	double value;
	int digits;    /* significant ones */
	bool fraction; /* it has a point or an exponent */
	size_t len;
};

static size_t fraction_at(const uint8_t *p, size_t n, size_t at)
{
	size_t k = 0;

	if (at >= n || p[at] != '.')
		return 0;
	while (at + 1 + k < n && guess_is_digit(p[at + 1 + k]))
		k++;
	return k ? k + 1 : 0;
}

static size_t exponent_at(const uint8_t *p, size_t n, size_t at)
{
	size_t k = 1, digits = 0;

	if (at >= n || (p[at] != 'e' && p[at] != 'E'))
		return 0;
	if (at + k < n && (p[at + k] == '+' || p[at + k] == '-'))
		k++;
	while (at + k + digits < n && guess_is_digit(p[at + k + digits]))
		digits++;
	return digits && digits <= 3 ? k + digits : 0;
}

static int significant(const uint8_t *p, size_t n)
{
	int digits = 0;

	for (size_t i = 0; i < n && p[i] != 'e' && p[i] != 'E'; i++)
		if (guess_is_digit(p[i]) && (digits || p[i] != '0'))
			digits++;
	return digits;
}

/* A decimal number that begins at p[at]; false: none does. */
static bool scan_number(const uint8_t *p, size_t n, size_t at, struct number *ret)
{
	size_t sign = at < n && (p[at] == '-' || p[at] == '+'), len = sign, part;
	char text[MAX_NUMBER + 1];

	while (at + len < n && guess_is_digit(p[at + len]))
		len++;
	if (len == sign || (at > 0 && (guess_is_word(p[at - 1]) || p[at - 1] == '.')))
		return false;
	part = fraction_at(p, n, at + len);
	ret->fraction = part > 0;
	len += part;
	part = exponent_at(p, n, at + len);
	ret->fraction |= part > 0;
	len += part;
	if (len > MAX_NUMBER)
		return false;
	memcpy(text, p + at, len);
	text[len] = '\0';
	ret->value = strtod(text, NULL);
	ret->digits = significant(p + at, len);
	ret->len = len;
	return isfinite(ret->value);
}

static size_t number_length(const uint8_t *p, size_t n, size_t at)
{
	struct number x;

	return scan_number(p, n, at, &x) && guess_word_ends(p, n, at + x.len) ? x.len : 0;
}

size_t guess_scan_digits(const uint8_t *p, size_t n, size_t at)
{
	size_t len = 0;

	while (at + len < n && guess_is_digit(p[at + len]))
		len++;
	if (!len || !guess_word_begins(p, at) || !guess_word_ends(p, n, at + len))
		return 0;
	return len;
}

/* ---- something measured ---- */

static bool starts(const uint8_t *p, size_t n, size_t at, const char *word)
{
	size_t len = strlen(word);

	return at <= n && n - at >= len && memcmp(p + at, word, len) == 0;
}

/* A unit of time behind the number that ends at p[at], such as "ms" or " seconds". */
static bool time_unit(const uint8_t *p, size_t n, size_t at)
{
	static const char *const units[] = {"s",      "ms",	 "us",	  "\xc2\xb5s", "ns",
					    "sec",    "secs",	 "msec",  "usec",      "nsec",
					    "second", "seconds", "min",	  "mins",      "minutes",
					    "h",      "hours",	 "MB/s",  "B/s",       "kB/s",
					    "KB/s",   "GB/s",	 "MiB/s", "KiB/s"};

	if (at < n && p[at] == ' ')
		at++;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (starts(p, n, at, units[i]) && guess_word_ends(p, n, at + strlen(units[i])))
			return true;
	return false;
}

/* "elapsed: 0.25" */
static bool called_duration(const uint8_t *p, size_t at)
{
	static const char *const words[] = {"elapsed",	"Elapsed",  "took",    "Took",
					    "duration", "Duration", "seconds", "_ms",
					    "time:",	"time=",    "Time:",   "\"time\""};
	size_t from = at > 24 ? at - 24 : 0;

	for (size_t i = at; i-- > from && p[i] != '\n';)
		for (size_t k = 0; k < sizeof(words) / sizeof(*words); k++)
			if (starts(p, at, i, words[k]))
				return true;
	return false;
}

/* A number that its unit or its name makes a time. "0m0.003s" is met from its second number on. */
static size_t scan_measured(const uint8_t *p, size_t n, size_t at)
{
	bool minutes = at > 1 && p[at - 1] == 'm' && guess_is_digit(p[at - 2]);
	struct number x;
	size_t end;

	if (!(minutes ? scan_number(p + at, n - at, 0, &x) : scan_number(p, n, at, &x)))
		return 0;
	end = at + x.len;
	if (!time_unit(p, n, end) && !(called_duration(p, at) && guess_word_ends(p, n, end)))
		return 0;
	return x.len;
}

/* ---- pairs of numbers ---- */

struct pairs {
	int n, differing;
	int near;   /* differ in their last digits only */
	int far;    /* by more than a thousandth */
	int digits; /* of the far ones, without what is the same at their beginning */
};

static size_t whole_part(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] != '.' && p[i] != 'e' && p[i] != 'E')
		i++;
	return i;
}

/* Digits that are the same at the beginning, where they stand for the same. */
static int same_digits(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	size_t i = 0;

	if (whole_part(a, na) != whole_part(b, nb))
		return 0;
	while (i < na && i < nb && a[i] == b[i])
		i++;
	return significant(a, i);
}

static void weigh(struct pairs *p, const uint8_t *a, const struct number *x, const uint8_t *b,
		  const struct number *y)
{
	int same = same_digits(a, x->len, b, y->len);
	int least = x->digits < y->digits ? x->digits : y->digits;
	int digits = x->digits > y->digits ? x->digits : y->digits;
	double most = larger(fabs(x->value), fabs(y->value)), diff = fabs(x->value - y->value);

	p->n++;
	if (x->len == y->len && memcmp(a, b, x->len) == 0)
		return;
	p->differing++;
	if (x->fraction && y->fraction && diff <= most * 1e-5 && least >= 6)
		p->near++;
	/* Random ones come close to each other at times, but with all their digits. */
	else if (diff > most * 1e-3 || least - same >= 9) {
		p->far++;
		p->digits += least >= 3 || digits == least ? digits - same : least;
	}
}

static void walk(const struct guess_in *in, size_t begin, struct pairs *ret)
{
	const uint8_t *a = in->then.p, *b = in->now.p;
	size_t i = begin, j = begin;

	while (i < in->then.n && j < in->now.n && ret->n < MAX_PAIRS) {
		struct number x, y;

		if (scan_number(a, in->then.n, i, &x) && scan_number(b, in->now.n, j, &y)) {
			weigh(ret, a + i, &x, b + j, &y);
			i += x.len;
			j += y.len;
			continue;
		}
		if (a[i] != b[j])
			return;
		i++;
		j++;
	}
}

/* ---- clocks that count from another moment than 1970 ---- */

/* Did the number grow by the time between the runs, in one of the usual units? Only where that is no likely accident: the
 * runs are short beside it. */
static bool clock_ticked(const struct guess_in *in, double then, double now)
{
	double least = (double)(in->now.from_ns - in->then.to_ns) / 1e9;
	double most = (double)(in->now.to_ns - in->then.from_ns) / 1e9;

	if (!in->then.from_ns || least < 30 || most > least * 1.01 + 1)
		return false;
	for (double unit = 1; unit < 1e10; unit *= 1000)
		if (now - then >= least * unit && now - then <= most * unit)
			return true;
	return false;
}

static bool running_clock(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now;
	struct number x, y;

	if (!guess_find(in, number_length, &begin, &then, &now) ||
	    !scan_number(in->then.p, in->then.n, begin, &x) ||
	    !scan_number(in->now.p, in->now.n, begin, &y) || !clock_ticked(in, x.value, y.value))
		return false;
	return guess_token(in, number_length,
			   "a timestamp: it grew by the time between the two runs", ret);
}

bool guess_number(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now;
	struct pairs p = {0};

	if (running_clock(in, ret) || guess_token(in, scan_measured, "a measured time", ret))
		return true;
	if (!guess_find(in, number_length, &begin, &then, &now))
		return false;
	walk(in, begin, &p);
	if (p.differing && p.near == p.differing)
		return guess_token(in, number_length,
				   "floating-point rounding, e.g. the order of a parallel sum",
				   ret);
	if (p.far * 5 >= p.differing * 4 && p.digits >= RANDOM_DIGITS)
		return guess_token(in, number_length,
				   "numbers without relation: a random seed that is not set, or "
				   "something measured",
				   ret);
	return false;
}

/* ---- binary numbers ---- */

struct floats {
	size_t n, plausible, differing, near, far;
};

/* How they are laid out: arrays in the order of this machine, which wrote them, and the lists of pickles, where a letter
 * stands before each. */
static const struct layout {
	size_t width, stride;
	bool swapped;
} layouts[] = {{8, 8, false}, {4, 4, false}, {8, 8, true}, {8, 9, true}};

static double load_float(const uint8_t *p, const struct layout *l)
{
	uint64_t bits;
	double d;
	float f;

	if (l->width == 4) {
		memcpy(&f, p, 4);
		return f;
	}
	memcpy(&bits, p, 8);
	if (l->swapped)
		bits = __builtin_bswap64(bits);
	memcpy(&d, &bits, 8);
	return d;
}

static bool plausible(double v)
{
	return isfinite(v) && (v == 0 || (fabs(v) > 1e-8 && fabs(v) < 1e8));
}

static void read_floats(const struct guess_in *in, size_t begin, const struct layout *l,
			struct floats *ret)
{
	size_t n = in->then.n < in->now.n ? in->then.n : in->now.n;
	double tiny = l->width == 8 ? 1e-9 : 1e-4;

	for (size_t i = begin; i + l->width <= n && ret->n < MAX_PAIRS; i += l->stride) {
		double x = load_float(in->then.p + i, l), y = load_float(in->now.p + i, l);
		double most, diff;

		ret->n++;
		if (!plausible(x) || !plausible(y))
			continue;
		ret->plausible++;
		if (x == y)
			continue;
		most = larger(fabs(x), fabs(y));
		diff = fabs(x - y);
		ret->differing++;
		ret->near += diff <= most * tiny;
		ret->far += diff > most * 1e-3;
	}
}

static const char *judge_floats(const struct floats *f)
{
	if (f->n < 8 || f->differing < 4 || f->plausible * 20 < f->n * 19)
		return NULL;
	if (f->near == f->differing)
		return "floating-point rounding, e.g. the order of a parallel sum";
	if (f->far * 5 >= f->differing * 4)
		return "floating-point numbers without relation: a random seed that is not set";
	return NULL;
}

bool guess_binary_number(const struct guess_in *in, struct guess *ret)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++)
		for (size_t back = 0; back < layouts[i].width && back <= in->at; back++) {
			struct floats f = {0};

			read_floats(in, in->at - back, &layouts[i], &f);
			ret->cause = judge_floats(&f);
			if (ret->cause)
				return true;
		}
	return false;
}
