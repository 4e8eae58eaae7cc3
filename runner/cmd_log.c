/* SPDX-License-Identifier: MIT */
/* cmd_log.c - `mlfs log`: the latest runs, newest first. */
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "diff.h"
#include "json.h"
#include "runs_query.h"
#include "screen.h"

#define DEFAULT_COUNT 50
#define BLOCK	      256 /* so many lines are fitted to each other */
#define LEAST_REASON  24  /* columns that a reason is to have, when names are shortened for it */
#define LEAST_NAME    12

struct log_query {
	struct runs_query w;
	uint64_t count;
	struct strlist results, env;
	char *step, *reads, *writes;
	bool failed;
};

static char *check_result(const char *value);

static char *check_key(const char *value)
{
	if (strspn(value, "0123456789abcdefABCDEF") == strlen(value) && strlen(value) <= 32)
		return NULL;
	return xasprintf("'%s' is no key: keys are up to 32 hex digits", value);
}

static char *check_env(const char *value)
{
	return strchr(value, '=') > value ? NULL : xasprintf("'%s' is not NAME=GLOB", value);
}

static const struct word_def log_defs[] = {
	{"count", 'n', WORD_COUNT, offsetof(struct log_query, count), "N",
	 "the latest N (50; 0: all)"},
	RUNS_QUERY_DEFS,
	{"result", 0, WORD_LIST, offsetof(struct log_query, results), "RESULT",
	 "hit, miss, uncached, stored or not-stored", .check = check_result},
	{"failed", 0, WORD_FLAG, offsetof(struct log_query, failed), NULL,
	 "only those with an exit status other than 0"},
	{"step", 0, WORD_TEXT, offsetof(struct log_query, step), "KEY",
	 "only of the step, or the result, with this key", .check = check_key},
	{"reads", 0, WORD_TEXT, offsetof(struct log_query, reads), "PATH",
	 "only those whose result looked at PATH"},
	{"writes", 0, WORD_TEXT, offsetof(struct log_query, writes), "PATH",
	 "only those whose result left something at PATH"},
	{"env", 0, WORD_LIST, offsetof(struct log_query, env), "NAME=GLOB",
	 "only those whose result had such a variable", .check = check_env},
	{"json", 0, WORD_FLAG, offsetof(struct query, json), NULL,
	 "print an array of objects, one a line"},
};

const struct word_table log_words = {
	.command = "log",
	.usage = "[OPTIONS]",
	.what = "The latest runs of mlfs exec, newest first: when each began, its result, name,\n"
		"the time taken and saved, the key, and why it was no hit or is not stored.\n",
	.status = "Exit status: 0; 1 when the cache cannot be read; 2 wrong usage.\n",
	.v = log_defs,
	.n = sizeof(log_defs) / sizeof(*log_defs),
	.size = sizeof(struct log_query),
};

/* ---- what is asked for ---- */

static const struct {
	const char *word;
	unsigned results; /* bits */
	int stored;
} result_words[] = {
	{"hit", 1u << RUN_HIT, 0}, {"miss", 1u << RUN_MISS, 0}, {"uncached", 1u << RUN_UNCACHED, 0},
	{"stored", 0, 1},	   {"not-stored", 0, -1},
};

/* Adds what a word asks for. False: it is none of these. */
static bool add_result(const char *word, struct run_filter *f)
{
	for (size_t i = 0; i < sizeof(result_words) / sizeof(*result_words); i++)
		if (strcmp(word, result_words[i].word) == 0) {
			f->results |= result_words[i].results;
			if (result_words[i].stored)
				f->stored = result_words[i].stored;
			return true;
		}
	return false;
}

static char *check_result(const char *value)
{
	struct run_filter none = {0};

	return add_result(value, &none)
		       ? NULL
		       : xasprintf("'%s' is none of hit, miss, uncached, stored, not-stored",
				   value);
}

/* Results that read or write a path, or were made with such variables. */
struct touching {
	struct idx *x;
	struct idx_touching *reads, *writes;
	const struct strlist *env;
	struct fp step; /* asked for last */
	bool step_has;
};

static bool has_variable(const struct step_told *s, const char *glob)
{
	for (size_t i = 0; i < s->env.n; i++)
		if (fnmatch(glob, s->env.v[i], 0) == 0)
			return true;
	return false;
}

/* Was all of the environment that counts for the step so? */
static bool step_has(struct touching *t, const struct fp *step)
{
	auto_buf struct buf b = {0};
	struct step_told s = {0};
	struct err e;

	if (fp_eq(&t->step, step))
		return t->step_has;
	t->step = *step;
	t->step_has = idx_description_get(t->x, step, &b, &e) > 0 && step_told(&b, &s) == 0;
	for (size_t i = 0; t->step_has && i < t->env->n; i++)
		t->step_has = has_variable(&s, t->env->v[i]);
	step_told_free(&s);
	return t->step_has;
}

static bool has_env(struct touching *t, const struct fp *key)
{
	struct result *r = NULL;
	struct err e;
	bool has = idx_result_get_brief(t->x, key, &r, &e) > 0 && step_has(t, &r->step_key);

	result_free(r);
	return has;
}

static bool touches(void *arg, const struct fp *key)
{
	struct touching *t = arg;

	return (!t->reads || idx_touching_has(t->reads, key)) &&
	       (!t->writes || idx_touching_has(t->writes, key)) && (!t->env->n || has_env(t, key));
}

static int open_one(struct idx *x, const char *path, bool writes, struct idx_touching **ret)
{
	auto_free char *whole = query_path(path);
	struct err e = {0};
	int r = !whole	 ? err_set(&e, errno, "cannot find %s", path)
		: writes ? idx_results_writing(x, whole, ret, &e)
			 : idx_results_reading(x, whole, ret, &e);

	if (r < 0)
		log_warn("%s", e.msg);
	return r;
}

static int touching_open(const struct log_query *w, struct touching *t)
{
	int r = query_open(&w->w.q, &t->x);

	t->env = &w->env;
	if (r == 0 && w->reads)
		r = open_one(t->x, w->reads, false, &t->reads);
	if (r == 0 && w->writes)
		r = open_one(t->x, w->writes, true, &t->writes);
	return r;
}

static void touching_close(struct touching *t)
{
	idx_touching_free(t->reads);
	idx_touching_free(t->writes);
	idx_close(t->x);
}

/* ---- JSON ---- */

struct printing {
	const struct log_query *w;
	struct history *h;
	uint64_t n;
	struct screen *s;
	bool utf8;
	size_t n_rows;
	struct run_row rows[BLOCK];
};

static void json_run(struct json *j, const struct run *r)
{
	json_object(j, NULL);
	json_time(j, "started", r->started_ns);
	json_text(j, "result", run_result_name(r->result));
	json_bool(j, "stored", r->stored);
	json_text(j, "reason", r->reason);
	json_text(j, "name", r->name);
	json_key(j, "step_key", &r->step_key);
	json_key(j, "input_key", &r->input_key);
	if (r->argv) {
		json_texts(j, "argv", r->argv, r->n_argv);
	} else {
		json_null(j, "argv");
		json_text(j, "command", r->command);
	}
	json_bool(j, "argv_cut", r->argv_cut || r->n_argv < r->argc);
	json_text(j, "cwd", r->cwd);
	if (r->exit_status < 0)
		json_null(j, "exit_status");
	else
		json_int(j, "exit_status", r->exit_status);
	if (r->wall_ns < 0)
		json_null(j, "wall_seconds");
	else
		json_seconds(j, "wall_seconds", (double)r->wall_ns / 1e9);
	json_seconds(j, "saved_seconds", (double)r->saved_ns / 1e9);
	json_uint(j, "inputs", r->inputs);
	json_uint(j, "outputs", r->outputs);
	json_uint(j, "output_bytes", r->output_bytes);
	json_uint(j, "stored_bytes", r->new_bytes);
	json_uint(j, "shared_bytes", r->put_bytes - r->new_bytes);
	json_end(j);
}

static int print_json(void *arg, const struct run_row *row)
{
	struct printing *p = arg;
	struct json j = {0};
	struct run r;

	if (history_run(p->h, row, &r) < 0)
		return 0; /* damaged since: fsck finds it */
	json_run(&j, &r);
	run_clear(&r);
	printf("%s%.*s", p->n ? ",\n" : "[\n", (int)j.b.len, (const char *)j.b.data);
	buf_free(&j.b);
	return ++p->n == p->w->count || ferror(stdout);
}

/* ---- text ---- */

enum column { WHEN, RESULT, NAME, TOOK, SAVED, KEY, COLUMNS };
static const char *const titles[COLUMNS] = {"when", "result", "name", "took", "saved", "key"};

struct line {
	char *text[COLUMNS];
	char *reason;
};

/* Nothing of what others named acts on a terminal, or breaks a line. */
static char *plain(const char *text)
{
	struct buf b = {0};

	add_plain(&b, text);
	buf_u8(&b, 0);
	return (char *)b.data;
}

static char *when_text(const struct printing *p, int64_t ns)
{
	char text[40];
	time_t t = (time_t)(ns / 1000000000);
	struct tm tm;

	if (screen_width(p->s))
		return xstrdup(human_time(ns, text, sizeof(text)));
	if (!localtime_r(&t, &tm) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		return xstrdup("?");
	return xstrdup(text);
}

static char *seconds_text(int64_t ns)
{
	char text[40];

	return xstrdup(human_seconds((double)ns / 1e9, text, sizeof(text)));
}

static char *key_text(const struct run_row *row)
{
	char text[9];
	const uint8_t *key =
		is_zero(row->input_key, sizeof(row->input_key)) ? row->step_key : row->input_key;

	if (is_zero(key, RUN_KEY_BYTES))
		return xstrdup("");
	hex(key, 4, text);
	return xstrdup(text);
}

/* Why it was no hit, or is not stored; and the exit status, when that is not in it already. */
static char *reason_text(const struct run_row *row)
{
	const char *why = row->reason ? row->reason : "";
	bool not_stored = row->result == RUN_MISS && !row->stored;
	auto_free char *status = NULL, *all = NULL;

	if (row->exit_status > 0 && !strstr(why, "exit status"))
		status = xasprintf("exit status %d", row->exit_status);
	all = xasprintf("%s%s%s%s", status ? status : "",
			status && (*why || not_stored) ? "; " : "",
			not_stored ? (*why ? "not stored: " : "not stored") : "", why);
	return plain(all);
}

static void line_make(const struct printing *p, const struct run_row *row, struct line *ret)
{
	ret->text[WHEN] = when_text(p, row->started_ns);
	ret->text[RESULT] = xstrdup(run_result_name(row->result));
	ret->text[NAME] = plain(row->name);
	ret->text[TOOK] = row->wall_ns < 0 ? xstrdup("-") : seconds_text(row->wall_ns);
	ret->text[SAVED] = row->result == RUN_HIT ? seconds_text(row->saved_ns) : xstrdup("");
	ret->text[KEY] = key_text(row);
	ret->reason = reason_text(row);
}

/* Where the first n characters of a text end. */
static size_t bytes_of(const char *text, size_t n)
{
	size_t at = 0;

	while (text[at]) {
		if (((uint8_t)text[at] & 0xc0) != 0x80 && n-- == 0)
			break;
		at++;
	}
	return at;
}

/* Its middle gives way: the beginning and the end of a reason say most. */
static void cut(char **text, size_t columns, bool utf8)
{
	const char *dots = utf8 ? "…" : "...";
	size_t n = text_columns(*text), gap = utf8 ? 1 : 3, head, tail;
	auto_free char *was = NULL;

	if (n <= columns)
		return;
	gap = columns > gap ? gap : 0;
	was = take(*text);
	tail = (columns - gap) * 2 / 5;
	head = columns - gap - tail;
	*text = xasprintf("%.*s%s%s", (int)bytes_of(was, head), was, gap ? dots : "",
			  was + bytes_of(was, n - tail));
}

static void fit(struct printing *p, struct line *v, size_t n, size_t width[COLUMNS])
{
	static const enum column spared[] = {SAVED, TOOK, WHEN, KEY}; /* on a narrow screen */
	size_t all = 0, screen = screen_width(p->s), room;

	for (unsigned c = 0; c < COLUMNS; c++) {
		width[c] = strlen(titles[c]);
		for (size_t i = 0; i < n; i++) {
			size_t w = text_columns(v[i].text[c]);

			width[c] = w > width[c] ? w : width[c];
		}
		all += width[c] + 2;
	}
	if (!screen)
		return;
	if (all + LEAST_REASON > screen && width[NAME] > LEAST_NAME) {
		size_t spare = width[NAME] - LEAST_NAME, over = all + LEAST_REASON - screen;

		spare = over < spare ? over : spare;
		width[NAME] -= spare;
		all -= spare;
	}
	for (size_t i = 0; i < sizeof(spared) / sizeof(*spared) && all + LEAST_NAME > screen; i++) {
		all -= width[spared[i]] + 2;
		width[spared[i]] = 0;
	}
	room = screen > all ? screen - all : 1;
	for (size_t i = 0; i < n; i++) {
		cut(&v[i].text[NAME], width[NAME], p->utf8);
		cut(&v[i].reason, room, p->utf8);
	}
}

/* width 0: there is no room for this column. */
static void print_cell(struct printing *p, enum column c, const char *text, size_t width, bool last)
{
	size_t n = text_columns(text), pad = width > n ? width - n : 0;
	bool right = c == TOOK || c == SAVED;

	if (!width)
		return;
	if (right)
		screen_addf(p->s, "%*s", (int)pad, "");
	if (c == RESULT)
		screen_painted(p->s,
			       *text == 'h'   ? PAINT_GOOD
			       : *text == 'm' ? PAINT_NOTE
					      : PAINT_BAD,
			       text);
	else if (c == KEY)
		screen_painted(p->s, PAINT_KEY, text);
	else
		screen_text(p->s, text);
	if (!last)
		screen_addf(p->s, "%*s", (int)(right ? 2 : pad + 2), "");
}

static void print_titles(struct printing *p, const size_t width[COLUMNS])
{
	for (unsigned c = 0; c < COLUMNS; c++) {
		bool right = c == TOOK || c == SAVED;
		auto_free char *text =
			xasprintf("%*s  ", (int)width[c] * (right ? 1 : -1), titles[c]);

		if (width[c])
			screen_painted(p->s, PAINT_FAINT, text);
	}
	screen_painted(p->s, PAINT_FAINT, "reason");
	screen_addf(p->s, "\n");
}

static void print_block(struct printing *p)
{
	auto_free struct line *v = xcalloc(p->n_rows + 1, sizeof(*v));
	size_t width[COLUMNS];

	for (size_t i = 0; i < p->n_rows; i++)
		line_make(p, &p->rows[i], &v[i]);
	fit(p, v, p->n_rows, width);
	if (p->n == p->n_rows && p->n)
		print_titles(p, width);
	for (size_t i = 0; i < p->n_rows; i++) {
		bool bad = p->rows[i].exit_status > 0;

		for (unsigned c = 0; c < COLUMNS; c++) {
			print_cell(p, c, v[i].text[c], width[c], c == KEY && !*v[i].reason);
			free(v[i].text[c]);
		}
		if (bad)
			screen_painted(p->s, PAINT_BAD, v[i].reason);
		else
			screen_text(p->s, v[i].reason);
		screen_addf(p->s, "\n");
		free(v[i].reason);
	}
	p->n_rows = 0;
}

static int print_row(void *arg, const struct run_row *row)
{
	struct printing *p = arg;

	p->rows[p->n_rows++] = *row;
	p->n++;
	if (p->n_rows == BLOCK)
		print_block(p);
	return p->n == p->w->count || screen_gone(p->s);
}

/* ---- the command ---- */

static int print_all(const struct log_query *w, struct history *h, const struct run_filter *f)
{
	struct printing p = {.w = w, .h = h, .utf8 = locale_is_utf8()};
	struct err e = {0};
	int r;

	if (!w->w.q.json)
		p.s = screen_open(true);
	r = history_each(h, f, w->w.q.json ? print_json : print_row, &p, &e);
	if (r < 0)
		log_warn("%s", e.msg);
	if (w->w.q.json) {
		printf("%s]\n", p.n ? "\n" : "[");
		return printed_status(query_status(r));
	}
	if (p.n_rows)
		print_block(&p);
	if (!p.n && r == 0 && screen_width(p.s) && w->w.q.verbosity >= 0)
		screen_addf(p.s, "no runs\n");
	return screen_close(p.s, query_status(r));
}

static int run(const struct log_query *w)
{
	struct touching t = {0};
	struct history *h = NULL;
	struct run_filter f = {0};
	int r = runs_query_open(&w->w, &h, &f);

	f.failed = w->failed;
	f.key = w->step;
	for (size_t i = 0; i < w->results.n; i++)
		(void)add_result(w->results.v[i], &f); /* it was looked at before */
	if (r == 0 && (w->reads || w->writes || w->env.n)) {
		r = touching_open(w, &t);
		f.has = touches;
		f.has_arg = &t;
	}
	r = r < 0 ? query_status(r) : print_all(w, h, &f);
	touching_close(&t);
	history_close(h);
	return r;
}

int cmd_log(int argc, char **argv)
{
	struct log_query w = {.w = RUNS_QUERY_DEFAULTS, .count = DEFAULT_COUNT};
	int r = words_parse(&log_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&log_words, &w);
	return status;
}
