/* SPDX-License-Identifier: MIT */
/* cmd_stats.c - `mlfs stats`: what the cache saved, from the history. All sums are of whole nanoseconds and bytes. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "json.h"
#include "runs_query.h"
#include "screen.h"

#define TOP_REASONS    5
#define BAR	       20 /* columns, at most */
#define CHART_DAYS     14 /* of the chart that comes unasked */
#define COLUMNS_BEFORE 42 /* of a line, before its bar */
#define DIGITS	       "0123456789."

struct stats_query {
	struct runs_query w;
	char *by, *rate;
};

/* ---- the rate ---- */

/* "0.23/h", "$0.23/h", "0.23 EUR/h": money for so many seconds, and what stands before and behind the number. */
struct rate {
	double money, seconds;
	char before[16], behind[16];
};

static int parse_rate(const char *text, struct rate *ret)
{
	static const struct {
		const char *name;
		double seconds;
	} units[] = {{"s", 1},	     {"min", 60},  {"h", 3600},
		     {"hour", 3600}, {"d", 86400}, {"day", 86400}};
	const char *slash = strrchr(text, '/'), *number = text + strcspn(text, DIGITS),
		   *behind = number + strspn(number, DIGITS);
	auto_free char *digits = xstrndup(number, (size_t)(behind - number));
	struct rate r = {0};
	char *end;

	r.money = strtod(digits, &end);
	if (!slash || behind > slash || !*digits || *end || !isfinite(r.money) ||
	    (size_t)(number - text) >= sizeof(r.before) ||
	    (size_t)(slash - behind) >= sizeof(r.behind))
		return -EINVAL;
	memcpy(r.before, text, (size_t)(number - text));
	memcpy(r.behind, behind, (size_t)(slash - behind));
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(slash + 1, units[i].name) == 0)
			r.seconds = units[i].seconds;
	if (r.seconds == 0 || strpbrk(r.before, "-/") || strpbrk(r.behind, DIGITS "/"))
		return -EINVAL;
	*ret = r;
	return 0;
}

static char *check_rate(const char *value)
{
	struct rate r;

	return parse_rate(value, &r) == 0
		       ? NULL
		       : xasprintf("'%s' is no rate, such as 0.23/h, $0.004/min or '2 EUR/day'",
				   value);
}

static char *check_by(const char *value)
{
	return strcmp(value, "name") == 0 || strcmp(value, "day") == 0
		       ? NULL
		       : xasprintf("'%s' is neither name nor day", value);
}

static const struct word_def stats_defs[] = {
	RUNS_QUERY_DEFS,
	{"by", 0, WORD_TEXT, offsetof(struct stats_query, by), "name|day",
	 "a line for each name, or each day", .check = check_by},
	{"rate", 0, WORD_TEXT, offsetof(struct stats_query, rate), "MONEY",
	 "what time costs: 0.23/h, also /s, /min, /day", .check = check_rate},
};

const struct word_table stats_words = {
	.command = "stats",
	.usage = "[OPTIONS]",
	.what = "What the cache saved: hits, misses, time, bytes, and the reasons of misses.\n",
	.status = "Exit status: 0; 1 when the cache cannot be read; 2 wrong usage.\n",
	.v = stats_defs,
	.n = sizeof(stats_defs) / sizeof(*stats_defs),
	.size = sizeof(struct stats_query),
};

/* ---- sums ---- */

struct sums {
	char *name;	     /* of the step, or the day */
	uint64_t results[3]; /* by enum run_result */
	int64_t saved_ns, wall_ns;
	uint64_t served, stored, shared;
};
struct reason {
	const char *text;
	uint64_t n;
};
struct gathering {
	char by; /* 'n'ame, 'd'ay, or 0 */
	struct history *h;
	struct sums all, *v;
	size_t n;
	size_t *of_name; /* position in v + 1, by name_id */
	size_t n_names;
	int64_t day_begin, day_end; /* of v[day] */
	size_t day;
	struct idx_size kept; /* what is in the cache now */
	bool kept_known;
	struct reason *reasons; /* by reason id */
	size_t n_reasons;
};

static void add(struct sums *s, const struct run_row *r)
{
	s->results[r->result]++;
	s->saved_ns += r->saved_ns;
	s->wall_ns += r->wall_ns > 0 ? r->wall_ns : 0;
	if (r->result == RUN_HIT)
		s->served += r->bytes;
	s->stored += r->new_bytes;
	if (r->result != RUN_HIT)
		s->shared += r->bytes > r->new_bytes ? r->bytes - r->new_bytes : 0;
}

static size_t add_line(struct gathering *g, char *name)
{
	if (g->n % 64 == 0)
		g->v = xrealloc(g->v, (g->n + 64) * sizeof(*g->v));
	g->v[g->n] = (struct sums){.name = name};
	return g->n++;
}

static struct sums *line_of_name(struct gathering *g, const struct run_row *r)
{
	if (r->name_id >= g->n_names) {
		size_t n = 2 * (size_t)r->name_id + 64;

		g->of_name = xrealloc(g->of_name, n * sizeof(*g->of_name));
		memset(g->of_name + g->n_names, 0, (n - g->n_names) * sizeof(*g->of_name));
		g->n_names = n;
	}
	if (!g->of_name[r->name_id])
		g->of_name[r->name_id] = add_line(g, xstrdup(r->name)) + 1;
	return &g->v[g->of_name[r->name_id] - 1];
}

/* Runs come mostly in the order of time, so the day is mostly the one of the run before. */
static struct sums *line_of_day(struct gathering *g, const struct run_row *r)
{
	time_t t = (time_t)(r->started_ns / 1000000000);
	struct tm tm, next;
	char day[32];

	if (g->n && r->started_ns >= g->day_begin && r->started_ns < g->day_end)
		return &g->v[g->day];
	if (!localtime_r(&t, &tm) || !strftime(day, sizeof(day), "%Y-%m-%d", &tm))
		(void)snprintf(day, sizeof(day), "?"); /* fits */
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	next = tm;
	next.tm_mday++;
	g->day_begin = (int64_t)mktime(&tm) * 1000000000;
	g->day_end = (int64_t)mktime(&next) * 1000000000;
	for (g->day = g->n; g->day > 0; g->day--)
		if (strcmp(g->v[g->day - 1].name, day) == 0) {
			g->day--;
			return &g->v[g->day];
		}
	g->day = add_line(g, xstrdup(day));
	return &g->v[g->day];
}

static void add_reason(struct gathering *g, const struct run_row *r)
{
	unsigned id = history_reason_id(g->h, r);

	if (id >= g->n_reasons) {
		size_t n = 2 * (size_t)id + 64;

		g->reasons = xrealloc(g->reasons, n * sizeof(*g->reasons));
		memset(g->reasons + g->n_reasons, 0, (n - g->n_reasons) * sizeof(*g->reasons));
		g->n_reasons = n;
	}
	g->reasons[id].text = r->reason;
	g->reasons[id].n++;
}

static int gather(void *arg, const struct run_row *r)
{
	struct gathering *g = arg;

	add(&g->all, r);
	if (g->by)
		add(g->by == 'n' ? line_of_name(g, r) : line_of_day(g, r), r);
	if (r->result == RUN_MISS && r->reason)
		add_reason(g, r);
	return 0;
}

static int by_saved(const void *a, const void *b)
{
	const struct sums *x = a, *y = b;

	return x->saved_ns != y->saved_ns
		       ? (x->saved_ns < y->saved_ns) - (x->saved_ns > y->saved_ns)
		       : strcmp(x->name, y->name);
}

static int by_day(const void *a, const void *b)
{
	return strcmp(((const struct sums *)a)->name, ((const struct sums *)b)->name);
}

static int by_count(const void *a, const void *b)
{
	const struct reason *x = a, *y = b;

	if (x->n != y->n)
		return (x->n < y->n) - (x->n > y->n);
	return x->n ? strcmp(x->text, y->text) : 0;
}

static void sort_all(struct gathering *g)
{
	if (g->n)
		qsort(g->v, g->n, sizeof(*g->v), g->by == 'n' ? by_saved : by_day);
	if (g->n_reasons)
		qsort(g->reasons, g->n_reasons, sizeof(*g->reasons), by_count);
}

/* ---- what is printed ---- */

/* Of hits and misses; -1: there were none. */
static double hit_rate(const struct sums *s)
{
	uint64_t n = s->results[RUN_HIT] + s->results[RUN_MISS];

	return n ? (double)s->results[RUN_HIT] / (double)n : -1;
}

static double money(const struct rate *r, const struct sums *s)
{
	return (double)s->saved_ns / 1e9 / r->seconds * r->money;
}

static void json_sums(struct json *j, const struct sums *s, const struct rate *rate)
{
	json_uint(j, "runs", s->results[0] + s->results[1] + s->results[2]);
	json_uint(j, "hits", s->results[RUN_HIT]);
	json_uint(j, "misses", s->results[RUN_MISS]);
	json_uint(j, "uncached", s->results[RUN_UNCACHED]);
	if (hit_rate(s) < 0)
		json_null(j, "hit_rate");
	else
		json_seconds(j, "hit_rate", hit_rate(s));
	json_seconds(j, "saved_seconds", (double)s->saved_ns / 1e9);
	json_seconds(j, "wall_seconds", (double)s->wall_ns / 1e9);
	json_uint(j, "served_bytes", s->served);
	json_uint(j, "stored_bytes", s->stored);
	json_uint(j, "shared_bytes", s->shared);
	if (rate)
		json_seconds(j, "saved_money", money(rate, s));
}

static void print_json(const struct gathering *g, const struct rate *rate)
{
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	json_sums(&j, &g->all, rate);
	if (g->kept_known) {
		json_uint(&j, "kept_results", g->kept.results);
		json_uint(&j, "kept_bytes", g->kept.bytes);
	} else {
		json_null(&j, "kept_results");
		json_null(&j, "kept_bytes");
	}
	if (g->by) {
		json_array(&j, g->by == 'n' ? "names" : "days");
		for (size_t i = 0; i < g->n; i++) {
			json_object(&j, NULL);
			json_text(&j, g->by == 'n' ? "name" : "day", g->v[i].name);
			json_sums(&j, &g->v[i], rate);
			json_end(&j);
		}
		json_end(&j);
	}
	json_array(&j, "miss_reasons");
	for (size_t i = 0; i < g->n_reasons && i < TOP_REASONS && g->reasons[i].n; i++) {
		json_object(&j, NULL);
		json_text(&j, "reason", g->reasons[i].text);
		json_uint(&j, "misses", g->reasons[i].n);
		json_end(&j);
	}
	json_end(&j);
	json_end(&j);
	json_done(&j);
}

static char *money_text(const struct rate *r, const struct sums *s)
{
	return xasprintf("%s%.2f%s", r->before, money(r, s), r->behind);
}

static void print_all(struct screen *s, const struct sums *a, const struct rate *rate)
{
	char saved[40], spent[40], served[40], stored[40], shared[40];

	screen_addf(s, "%llu hits, %llu misses, %llu uncached",
		    (unsigned long long)a->results[RUN_HIT],
		    (unsigned long long)a->results[RUN_MISS],
		    (unsigned long long)a->results[RUN_UNCACHED]);
	if (hit_rate(a) >= 0)
		screen_addf(s, ": hit rate %.1f %%", 100 * hit_rate(a));
	screen_addf(s, "\ntime saved %s, spent %s\n",
		    human_seconds((double)a->saved_ns / 1e9, saved, sizeof(saved)),
		    human_seconds((double)a->wall_ns / 1e9, spent, sizeof(spent)));
	if (rate) {
		auto_free char *text = money_text(rate, a);

		screen_addf(s, "money saved ");
		screen_text(s, text);
		screen_addf(s, "\n");
	}
	screen_addf(s, "bytes served %s, stored %s, shared %s\n",
		    human_size(a->served, served, sizeof(served)),
		    human_size(a->stored, stored, sizeof(stored)),
		    human_size(a->shared, shared, sizeof(shared)));
}

/* How many columns bars may have beside the longest of the lines that are printed, from `from` on. */
static unsigned bar_width(const struct screen *s, const struct gathering *g, size_t from,
			  const struct rate *rate)
{
	size_t most = 0, width = screen_width(s);

	for (size_t i = from; i < g->n; i++) {
		auto_free char *text = rate ? money_text(rate, &g->v[i]) : xstrdup("");
		size_t n = COLUMNS_BEFORE + text_columns(g->v[i].name) + 2 + text_columns(text) + 2;

		most = n > most ? n : most;
	}
	return width <= most ? 0 : width - most < BAR ? (unsigned)(width - most) : BAR;
}

static void print_bar(struct screen *s, int64_t saved, int64_t most, unsigned width)
{
	unsigned n = (unsigned)((double)saved / (double)most * width + 0.5);
	auto_buf struct buf bar = {0};

	for (unsigned k = 0; k < n; k++)
		buf_addf(&bar, "%s", locale_is_utf8() ? "█" : "#");
	buf_u8(&bar, 0);
	screen_painted(s, PAINT_GOOD, (const char *)bar.data);
	screen_addf(s, "%*s  ", (int)(width - n), "");
}

static void print_line(struct screen *s, const struct sums *v, int64_t most, unsigned bar,
		       const struct rate *rate)
{
	auto_free char *text = rate ? money_text(rate, v) : NULL;
	char saved[40];

	screen_addf(s, "%8llu %8llu %8llu  %12s  ", (unsigned long long)v->results[RUN_HIT],
		    (unsigned long long)v->results[RUN_MISS],
		    (unsigned long long)v->results[RUN_UNCACHED],
		    human_seconds((double)v->saved_ns / 1e9, saved, sizeof(saved)));
	if (bar)
		print_bar(s, v->saved_ns, most, bar);
	screen_text(s, v->name);
	if (text)
		screen_addf(s, "  ");
	if (text)
		screen_text(s, text);
	screen_addf(s, "\n");
}

static void print_lines(struct screen *s, const struct gathering *g, size_t from,
			const struct rate *rate)
{
	unsigned bar = bar_width(s, g, from, rate);
	int64_t most = 1;
	char title[80];

	for (size_t i = from; i < g->n; i++)
		most = g->v[i].saved_ns > most ? g->v[i].saved_ns : most;
	(void)snprintf(title, sizeof(title), "%8s %8s %8s  %12s  %*s%s", "hits", "misses",
		       "uncached", "saved", bar ? (int)bar + 2 : 0, "",
		       g->by == 'n' ? "name" : "day"); /* fits */
	screen_addf(s, "\n");
	screen_painted(s, PAINT_FAINT, title);
	screen_addf(s, "\n");
	for (size_t i = from; i < g->n; i++)
		print_line(s, &g->v[i], most, bar, rate);
}

/* unasked: nobody asked for lines of days; the latest are shown. */
static void print_text(struct screen *s, const struct gathering *g, const struct rate *rate,
		       bool unasked)
{
	char kept[40];

	print_all(s, &g->all, rate);
	if (g->kept_known)
		screen_addf(s, "kept %s of %llu results\n",
			    human_size(g->kept.bytes, kept, sizeof(kept)),
			    (unsigned long long)g->kept.results);
	if (g->by && (!unasked || g->n))
		print_lines(s, g, unasked && g->n > CHART_DAYS ? g->n - CHART_DAYS : 0, rate);
	for (size_t i = 0; i < g->n_reasons && i < TOP_REASONS && g->reasons[i].n; i++) {
		screen_addf(s, "%s%8llu  ", i ? "" : "\nmost frequent reasons of misses:\n",
			    (unsigned long long)g->reasons[i].n);
		screen_text(s, g->reasons[i].text);
		screen_addf(s, "\n");
	}
}

/* ---- the command ---- */

static void gathering_free(struct gathering *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->v[i].name);
	free(g->v);
	free(g->of_name);
	free(g->reasons);
	history_close(g->h);
}

/* The history is told also when the index cannot be read. */
static void look_at_size(struct gathering *g, const struct query *q)
{
	struct err e = {0};
	struct idx *x;

	if (query_open(q, &x) < 0)
		return; /* said */
	g->kept_known = idx_size(x, &g->kept, &e) >= 0;
	if (!g->kept_known)
		log_warn("%s", e.msg);
	idx_close(x);
}

static int show(struct gathering *g, const struct stats_query *w, const struct run_filter *f)
{
	struct rate rate;
	bool money_too = w->rate && parse_rate(w->rate, &rate) == 0;
	struct screen *s = w->w.q.json ? NULL : screen_open(true);
	struct err e = {0};
	int r;

	g->by = w->by ? *w->by : s && screen_width(s) ? 'd' : 0;
	r = history_each(g->h, f, gather, g, &e);
	if (r < 0)
		log_warn("%s", e.msg);
	sort_all(g);
	if (r == 0)
		look_at_size(g, &w->w.q);
	if (r == 0 && s)
		print_text(s, g, money_too ? &rate : NULL, !w->by);
	else if (r == 0)
		print_json(g, money_too ? &rate : NULL);
	return s ? screen_close(s, query_status(r)) : printed_status(query_status(r));
}

static int run(const struct stats_query *w)
{
	struct gathering g = {0};
	struct run_filter f;
	int r = runs_query_open(&w->w, &g.h, &f);

	if (r < 0)
		return query_status(r);
	r = show(&g, w, &f);
	gathering_free(&g);
	return r;
}

int cmd_stats(int argc, char **argv)
{
	struct stats_query w = {.w = RUNS_QUERY_DEFAULTS};
	int r = words_parse(&stats_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&stats_words, &w);
	return status;
}
