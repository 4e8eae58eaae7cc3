/* SPDX-License-Identifier: MIT */
/* runs_query.c - points in time, and opening the history. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "runs_query.h"

/* ---- points in time ---- */

static int64_t ns_of(const struct tm *local)
{
	struct tm tm = *local;

	tm.tm_isdst = -1;
	return (int64_t)mktime(&tm) * 1000000000;
}

static int64_t midnight(int days_ago)
{
	time_t now = (time_t)(now_ns() / 1000000000);
	struct tm tm;

	if (!localtime_r(&now, &tm))
		return 0;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_mday -= days_ago; /* mktime sets it right */
	return ns_of(&tm);
}

static bool digits(const char **p, unsigned n, int low, int high, int *ret)
{
	int v = 0;

	for (unsigned i = 0; i < n; i++, ++*p) {
		if (**p < '0' || **p > '9')
			return false;
		v = v * 10 + (**p - '0');
	}
	*ret = v;
	return v >= low && v <= high;
}

/* "10:30", "10:30:15", "10:30:15.25" */
static bool clock_at(const char **p, struct tm *tm, int64_t *ret_ns)
{
	int64_t place = 100000000;

	*ret_ns = 0;
	if (!digits(p, 2, 0, 23, &tm->tm_hour) || *(*p)++ != ':' ||
	    !digits(p, 2, 0, 59, &tm->tm_min))
		return false;
	if (**p != ':')
		return true;
	++*p;
	if (!digits(p, 2, 0, 60, &tm->tm_sec))
		return false;
	if (**p != '.')
		return true;
	for (++*p; **p >= '0' && **p <= '9'; ++*p, place /= 10)
		*ret_ns += (**p - '0') * place;
	return true;
}

/* What follows a clock time: nothing (local), Z, or +01:00. */
static bool zone_at(const char *p, struct tm *tm, int64_t *ret_ns)
{
	int sign = *p == '-' ? -1 : 1, hours, minutes;

	if (!*p) {
		*ret_ns = ns_of(tm);
		return true;
	}
	if (strcmp(p, "Z") == 0 || strcmp(p, "z") == 0) {
		*ret_ns = (int64_t)timegm(tm) * 1000000000;
		return true;
	}
	if ((*p != '+' && *p != '-') || (p++, !digits(&p, 2, 0, 23, &hours)))
		return false;
	p += *p == ':';
	if (!digits(&p, 2, 0, 59, &minutes) || *p)
		return false;
	*ret_ns = ((int64_t)timegm(tm) - sign * (hours * 3600 + minutes * 60)) * 1000000000;
	return true;
}

static bool date_at(const char **p, struct tm *tm)
{
	int year, month;

	if (!digits(p, 4, 1971, 2250, &year) || *(*p)++ != '-' || !digits(p, 2, 1, 12, &month) ||
	    *(*p)++ != '-' || !digits(p, 2, 1, 31, &tm->tm_mday))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	return true;
}

int parse_when(const char *text, int64_t *ret_ns)
{
	time_t now = (time_t)(now_ns() / 1000000000);
	struct tm tm = {0}, today;
	const char *p = text;
	int64_t ns = 0, at;
	double seconds;

	if (parse_duration(text, &seconds) >= 0) {
		at = now_ns();
		*ret_ns = seconds * 1e9 < (double)at ? at - (int64_t)(seconds * 1e9) : 1;
		return 0;
	}
	if (strcmp(text, "today") == 0 || strcmp(text, "yesterday") == 0) {
		*ret_ns = midnight(*text == 'y');
		return 0;
	}
	if (text[0] && text[1] && text[2] == ':') { /* today */
		if (!localtime_r(&now, &today))
			return -EINVAL;
		tm.tm_year = today.tm_year;
		tm.tm_mon = today.tm_mon;
		tm.tm_mday = today.tm_mday;
		if (!clock_at(&p, &tm, &ns) || *p)
			return -EINVAL;
		*ret_ns = ns_of(&tm) + ns;
		return 0;
	}
	if (!date_at(&p, &tm))
		return -EINVAL;
	if (*p && ((*p != ' ' && *p != 'T' && *p != 't') || (p++, !clock_at(&p, &tm, &ns))))
		return -EINVAL;
	if (!zone_at(p, &tm, &at))
		return -EINVAL;
	*ret_ns = at + ns;
	return 0;
}

char *check_when(const char *text)
{
	int64_t ns;

	if (parse_when(text, &ns) == 0)
		return NULL;
	return xasprintf(
		"'%s' is no time, such as P7D (so long ago), 2026-11-21, \"2026-11-21 10:30\" or "
		"today",
		text);
}

/* ---- opening ---- */

const char *run_result_name(enum run_result r)
{
	return r == RUN_HIT ? "hit" : r == RUN_MISS ? "miss" : "uncached";
}

/* What is not kept any longer is not shown either, though its segment may still be there. */
static int64_t oldest(double keep)
{
	int64_t now = now_ns();

	return keep < 0 || keep * 1e9 >= (double)now ? 0 : now - (int64_t)(keep * 1e9);
}

int runs_query_open(const struct runs_query *w, struct history **ret, struct run_filter *f)
{
	auto_free char *dir = NULL;
	struct err e = {0};
	int r = query_dir(&w->q, &dir);

	if (r < 0)
		return r;
	*f = (struct run_filter){.name = w->name, .since_ns = oldest(w->keep_runs)};
	if (w->since) {
		int64_t since;

		r = parse_when(w->since, &since);
		if (r == 0 && since > f->since_ns)
			f->since_ns = since;
	}
	if (r == 0 && w->until)
		r = parse_when(w->until, &f->until_ns);
	if (r == 0)
		r = history_open(dir, ret, &e);
	if (r == -ENOENT)
		log_warn("there is no cache at %s", dir);
	else if (r < 0)
		log_warn("%s", e.msg);
	return r;
}
