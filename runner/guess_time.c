/* SPDX-License-Identifier: MIT */
/*
 * guess_time.c - is it a date or a time? Written ones are told by their form; plain numbers only when they fall into
 * the time each of the two runs took, which chance does not bring about.
 */
#include <string.h>

#include "guess.h"

#define NS INT64_C(1000000000)

/* ---- written dates ---- */

struct scan {
	const uint8_t *p;
	size_t n, at;
};

struct date {
	int year, month, day; /* 0: not given */
	int hour, minute;     /* -1: not given */
	double second;
	bool second_given;
};

static int peek(const struct scan *s, size_t ahead)
{
	return s->at + ahead < s->n ? s->p[s->at + ahead] : -1;
}

static size_t count_digits(const struct scan *s, size_t from)
{
	size_t n = 0;

	while (from + n < s->n && guess_is_digit(s->p[from + n]))
		n++;
	return n;
}

/* Exactly n digits at `from`, as a number. The caller has counted them. */
static int number(const struct scan *s, size_t from, size_t n)
{
	int v = 0;

	for (size_t i = 0; i < n; i++)
		v = v * 10 + (s->p[from + i] - '0');
	return v;
}

static bool is_year(int y)
{
	return y >= 1970 && y < 2100;
}

/* One of n names of three letters; the whole name may stand there. 1 and more, or 0. */
static int name_of(struct scan *s, const char *const *names, int n)
{
	for (int i = 0; i < n; i++) {
		size_t len = strlen(names[i]);

		if (s->n - s->at >= len && memcmp(s->p + s->at, names[i], len) == 0 &&
		    guess_word_ends(s->p, s->n, s->at + len)) {
			s->at += len;
			return i + 1;
		}
		if (s->n - s->at >= 3 && memcmp(s->p + s->at, names[i], 3) == 0 &&
		    guess_word_ends(s->p, s->n, s->at + 3)) {
			s->at += 3;
			return i + 1;
		}
	}
	return 0;
}

static int month_name(struct scan *s)
{
	static const char *const names[] = {"January",	 "February", "March",	 "April",
					    "May",	 "June",     "July",	 "August",
					    "September", "October",  "November", "December"};

	return name_of(s, names, 12);
}

static bool weekday(struct scan *s)
{
	static const char *const names[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
					    "Friday", "Saturday", "Sunday"};

	return name_of(s, names, 7) > 0;
}

/* HH:MM, HH:MM:SS, HH:MM:SS.fraction; another separator is for names of files */
static bool clock_with(struct scan *s, struct date *d, int sep)
{
	size_t h = count_digits(s, s->at), at = s->at + h + 1;
	double unit = 0.1;

	if ((h != 1 && h != 2) || peek(s, h) != sep || count_digits(s, at) != 2)
		return false;
	d->hour = number(s, s->at, h);
	d->minute = number(s, at, 2);
	d->second = 0;
	d->second_given = false;
	if (d->hour > 24 || d->minute > 59)
		return false;
	at += 2;
	if (at < s->n && s->p[at] == sep && count_digits(s, at + 1) == 2) {
		d->second = number(s, at + 1, 2);
		d->second_given = true;
		at += 3;
		if (at + 1 < s->n && (s->p[at] == '.' || s->p[at] == ',') &&
		    guess_is_digit(s->p[at + 1]))
			for (at++; at < s->n && guess_is_digit(s->p[at]); at++, unit /= 10)
				d->second += unit * (s->p[at] - '0');
	}
	s->at = at;
	return d->second <= 60.999;
}

static bool clock_time(struct scan *s, struct date *d)
{
	return clock_with(s, d, ':');
}

/* HHMMSS */
static bool compact_time(struct scan *s, struct date *d)
{
	if (count_digits(s, s->at) != 6)
		return false;
	d->hour = number(s, s->at, 2);
	d->minute = number(s, s->at + 2, 2);
	d->second = number(s, s->at + 4, 2);
	d->second_given = true;
	s->at += 6;
	return d->hour <= 24 && d->minute <= 59 && d->second <= 60;
}

static bool valid_date(const struct date *d)
{
	return is_year(d->year) && d->month >= 1 && d->month <= 12 && d->day >= 1 && d->day <= 31;
}

/* YYYYMMDD, alone or with HHMMSS behind it */
static bool compact_date(struct scan *s, struct date *d)
{
	size_t n = count_digits(s, s->at);

	if (n != 8 && n != 14)
		return false;
	d->year = number(s, s->at, 4);
	d->month = number(s, s->at + 4, 2);
	d->day = number(s, s->at + 6, 2);
	s->at += 8;
	if (!valid_date(d))
		return false;
	return n == 8 || compact_time(s, d);
}

/* YYYY-MM-DD, YYYY/MM/DD, YYYY.MM.DD, and DD/MM/YYYY, MM/DD/YYYY, DD.MM.YYYY */
static bool number_date(struct scan *s, struct date *d)
{
	size_t n1 = count_digits(s, s->at), n2, n3, at2 = s->at + n1 + 1, at3;
	int sep = peek(s, n1), a, b, c;

	if (sep != '-' && sep != '/' && sep != '.')
		return false;
	n2 = count_digits(s, at2);
	at3 = at2 + n2 + 1;
	if (n2 < 1 || n2 > 2 || at3 > s->n || s->p[at3 - 1] != sep)
		return false;
	n3 = count_digits(s, at3);
	if (!(n1 == 4 && n3 >= 1 && n3 <= 2) && !(n1 >= 1 && n1 <= 2 && n3 == 4))
		return false;
	a = number(s, s->at, n1);
	b = number(s, at2, n2);
	c = number(s, at3, n3);
	s->at = at3 + n3;
	*d = n1 == 4	 ? (struct date){.year = a, .month = b, .day = c}
	     : (b <= 12) ? (struct date){.year = c, .month = b, .day = a}
			 : (struct date){.year = c, .month = a, .day = b};
	d->hour = -1;
	return valid_date(d);
}

/* Behind a time of day: Z, UTC, CET, +0100, +01:00, AM, PM, with a blank before it or not. */
static void skip_zone(struct scan *s)
{
	struct scan t = *s;
	size_t n = 0;

	if (peek(&t, 0) == ' ')
		t.at++;
	if (peek(&t, 0) == '+' || peek(&t, 0) == '-') {
		n = count_digits(&t, t.at + 1);
		if (n == 2 && peek(&t, 3) == ':' && count_digits(&t, t.at + 4) == 2)
			n = 5;
		if (n != 2 && n != 4 && n != 5)
			return;
		t.at += n + 1;
	} else {
		while (peek(&t, n) >= 'A' && peek(&t, n) <= 'Z')
			n++;
		if (n < 1 || n > 4 || (n == 1 && peek(&t, 0) != 'Z'))
			return;
		t.at += n;
	}
	if (guess_word_ends(t.p, t.n, t.at))
		*s = t;
}

static bool blanks(struct scan *s)
{
	size_t from = s->at;

	while (peek(s, 0) == ' ' && s->at - from < 2)
		s->at++;
	return s->at > from;
}

/* A time of day behind a date, whatever stands between. */
static void trailing_time(struct scan *s, struct date *d)
{
	struct scan from = *s;
	int c = peek(&from, 0);

	if (c == 'T' || c == '_' || c == '-' || c == ':' || c == ',')
		from.at++;
	(void)blanks(&from); /* may or may not be there */
	if (from.at == s->at)
		return;
	for (int form = 0; form < 3; form++) {
		struct scan t = from;
		struct date with = *d;

		if (!(form == 0	  ? clock_time(&t, &with)
		      : form == 1 ? clock_with(&t, &with, '-')
				  : compact_time(&t, &with)))
			continue;
		skip_zone(&t);
		*s = t;
		*d = with;
		return;
	}
}

/* "21", one or two digits, then what may follow. */
static bool day_number(struct scan *s, struct date *d)
{
	size_t n = count_digits(s, s->at);

	if (n < 1 || n > 2)
		return false;
	d->day = number(s, s->at, n);
	s->at += n;
	return d->day >= 1 && d->day <= 31;
}

static bool year_number(struct scan *s, struct date *d)
{
	if (count_digits(s, s->at) != 4 || !is_year(number(s, s->at, 4)))
		return false;
	d->year = number(s, s->at, 4);
	s->at += 4;
	return true;
}

/* "Nov 21 10:42:07 2026" (ctime), "Nov 21 10:42:07 UTC 2026" (date), "Nov 21 2026" (__DATE__),
 * "Nov 21 10:42" (ls) */
static bool month_first(struct scan *s, struct date *d)
{
	struct scan t;

	d->month = month_name(s);
	if (!d->month || !blanks(s) || !day_number(s, d))
		return false;
	if (peek(s, 0) == ',')
		s->at++;
	t = *s;
	if (blanks(&t) && clock_time(&t, d)) {
		skip_zone(&t);
		*s = t;
		if (blanks(&t) && year_number(&t, d))
			*s = t;
		return true;
	}
	d->hour = -1;
	t = *s;
	if (!blanks(&t) || !year_number(&t, d))
		return false;
	*s = t;
	trailing_time(s, d);
	return true;
}

/* "21 Nov 2026 10:42:07 +0000" (RFC 5322), "21/Nov/2026:10:42:07 +0000" (web servers), "21-Nov-2026" */
static bool day_first(struct scan *s, struct date *d)
{
	int sep;

	if (!day_number(s, d))
		return false;
	sep = peek(s, 0);
	if (sep != ' ' && sep != '/' && sep != '-')
		return false;
	s->at++;
	d->month = month_name(s);
	if (!d->month || peek(s, 0) != sep)
		return false;
	s->at++;
	if (!year_number(s, d))
		return false;
	trailing_time(s, d);
	return true;
}

/* A date, perhaps with a time of day, at the scan's place; moves it behind. */
static bool scan_date(struct scan *s, struct date *ret)
{
	bool (*const forms[])(struct scan *, struct date *) = {number_date, compact_date,
							       month_first, day_first};
	struct scan from = *s;

	if (weekday(&from)) {
		if (peek(&from, 0) == ',')
			from.at++;
		if (!blanks(&from))
			return false;
	}
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct scan t = from;
		struct date d = {.hour = -1};

		if (!forms[i](&t, &d))
			continue;
		if (i < 2 && d.hour < 0)
			trailing_time(&t, &d);
		*s = t;
		*ret = d;
		return true;
	}
	return false;
}

/* What a number or date must not touch, lest it be a part of something else (an address, a version). */
static bool alone(const uint8_t *p, size_t n, size_t at, size_t end)
{
	if (at > 0 && guess_is_word(p[at - 1]) && p[at - 1] != '_' && p[at - 1] != 'T')
		return false;
	if (at > 1 && p[at - 1] == '.' && guess_is_digit(p[at - 2]))
		return false;
	return end >= n || p[end] == '_' || !guess_is_word(p[end]);
}

static size_t scan_full_date(const uint8_t *p, size_t n, size_t at)
{
	struct scan s = {p, n, at};
	struct date d;

	return scan_date(&s, &d) && alone(p, n, at, s.at) ? s.at - at : 0;
}

static size_t scan_clock(const uint8_t *p, size_t n, size_t at)
{
	struct scan s = {p, n, at};
	struct date d;

	if (!clock_time(&s, &d) || !d.second_given || !alone(p, n, at, s.at))
		return 0;
	if ((at > 0 && p[at - 1] == ':') || (s.at < n && p[s.at] == ':'))
		return 0; /* the address of a network card, say */
	return s.at - at;
}

/* Could this time of day be one of the run, in some time zone? They lie at quarters of an hour. */
static bool clock_in_run(const uint8_t *p, size_t n, size_t at, const struct guess_side *side)
{
	struct scan s = {p, n, at};
	struct date d = {0};
	int64_t from = side->from_ns / NS - GUESS_SLACK_S,
		length = side->to_ns / NS + GUESS_SLACK_S - from, t;

	if (!side->from_ns || !clock_time(&s, &d))
		return false;
	t = d.hour * 3600 + d.minute * 60 + (int64_t)d.second;
	return ((t - from) % 900 + 900) % 900 <= length;
}

/* ---- seconds since 1970, written ---- */

/* "1763721727", "1763721727.25", and thousands, millions, milliards of them a second */
static size_t scan_epoch(const uint8_t *p, size_t n, size_t at)
{
	size_t len = 0, fraction = 0;

	while (at + len < n && guess_is_digit(p[at + len]))
		len++;
	if (len != 10 && len != 13 && len != 16 && len != 19)
		return 0;
	if (at > 0 && (guess_is_digit(p[at - 1]) || p[at - 1] == '.'))
		return 0;
	if (len == 10 && at + len + 1 < n && p[at + len] == '.')
		while (at + len + 1 + fraction < n && guess_is_digit(p[at + len + 1 + fraction]))
			fraction++;
	return len + (fraction ? fraction + 1 : 0);
}

static bool epoch_in_run(const uint8_t *p, const struct guess_side *side)
{
	int64_t v = 0;

	/* The first ten digits are the seconds, whatever the unit. */
	for (size_t i = 0; i < 10; i++)
		v = v * 10 + (p[i] - '0');
	return guess_in_run(v, side);
}

/* "mtime=1763721727.5", as in the extended headers of tar: the name tells. */
static bool called_time(const uint8_t *p, size_t at)
{
	size_t from = at > 16 ? at - 16 : 0;

	for (size_t i = from; i + 4 < at; i++)
		if (memcmp(p + i, "time", 4) == 0)
			return true;
	return false;
}

static bool written_epoch(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now;

	if (!guess_find(in, scan_epoch, &begin, &then, &now))
		return false;
	if (!called_time(in->now.p, begin) && (!epoch_in_run(in->then.p + begin, &in->then) ||
					       !epoch_in_run(in->now.p + begin, &in->now)))
		return false;
	return guess_token(in, scan_epoch, "a timestamp", ret);
}

bool guess_time(const struct guess_in *in, struct guess *ret)
{
	size_t begin, then, now;

	if (guess_token(in, scan_full_date, "a timestamp", ret) || written_epoch(in, ret))
		return true;
	if (!guess_find(in, scan_clock, &begin, &then, &now))
		return false;
	if (clock_in_run(in->then.p, in->then.n, begin, &in->then) &&
	    clock_in_run(in->now.p, in->now.n, begin, &in->now))
		return guess_token(in, scan_clock, "a timestamp", ret);
	return guess_token(in, scan_clock, "a time of day or a measured time", ret);
}
