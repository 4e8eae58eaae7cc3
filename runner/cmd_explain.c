/* SPDX-License-Identifier: MIT */
/* cmd_explain.c - `mlfs explain`: would this be a hit now? If not, each thing that differs, then against now. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "explain.h"
#include "inherited.h"
#include "options.h"
#include "runs_query.h"
#include "tell.h"

struct explain_query {
	struct runs_query w;
	bool all;
};

static const struct word_def explain_defs[] = {
	{"all", 'a', WORD_FLAG, offsetof(struct explain_query, all), NULL,
	 "also what differs from results that are less near"},
	{"name", 0, WORD_TEXT, offsetof(struct explain_query, w.name), "GLOB",
	 "without KEY: the last miss of such a step"},
	{"keep-runs", 0, WORD_SECONDS, offsetof(struct explain_query, w.keep_runs), "DUR",
	 "older misses are not told (P365D)", .setting = true},
};

const struct word_table explain_words = {
	.command = "explain",
	.usage = "[OPTIONS] [KEY] | [OPTIONS] -- COMMAND [ARG...]",
	.what = "Would it be a hit now? If not, each thing that differs from recorded results,\n"
		"the nearest first. Of COMMAND, as mlfs exec would be given it here: its options\n"
		"may stand before --. Or of a result or step by its KEY, or of the last miss,\n"
		"with the environment it had then; and why its last miss was one.\n",
	.status = "Exit status: 0 it would be a hit; 1 it would not, or there is no such key;\n"
		  "2 wrong usage.\n",
	.v = explain_defs,
	.n = sizeof(explain_defs) / sizeof(*explain_defs),
	.size = sizeof(struct explain_query),
	.arg = "KEY",
	.max_args = 1,
};

/* All that is told. */
struct told {
	const char *name, *cwd;
	char *const *argv;
	size_t argc;
	const struct fp *step_key;
	struct explanation now;
	bool has_miss;
	struct run miss; /* the last one */
	bool has_then;
	struct near_result then; /* the miss was compared with this */
};

/* ---- JSON ---- */

static void json_diffs(struct json *j, const struct diffs *d)
{
	json_array(j, "differences");
	for (size_t i = 0; i < d->n; i++) {
		json_object(j, NULL);
		json_text(j, "kind", diff_kind_word(d->v[i].kind));
		json_text(j, d->v[i].kind == DIFF_ENVIRONMENT ? "variable" : "path", d->v[i].about);
		json_text(j, "text", d->v[i].text);
		json_end(j);
	}
	json_end(j);
}

static void json_near(struct json *j, const char *name, const struct near_result *n)
{
	json_object(j, name);
	json_hex(j, "key", &n->key, sizeof(n->key));
	json_hex(j, "step_key", &n->step_key, sizeof(n->step_key));
	json_text(j, "name", n->name);
	json_time(j, "started", n->started_ns);
	json_seconds(j, "wall_seconds", (double)n->wall_ns / 1e9);
	json_text(j, "shared_by", n->shared_by);
	json_diffs(j, &n->diffs);
	json_end(j);
}

static void json_miss(struct json *j, const struct told *t)
{
	if (!t->has_miss) {
		json_null(j, "last_miss");
		return;
	}
	json_object(j, "last_miss");
	json_time(j, "started", t->miss.started_ns);
	json_bool(j, "stored", t->miss.stored);
	json_text(j, "reason", t->miss.reason);
	json_key(j, "input_key", &t->miss.input_key);
	if (t->has_then)
		json_near(j, "against", &t->then);
	else
		json_null(j, "against");
	json_end(j);
}

static void told_json(const struct told *t)
{
	const struct explanation *x = &t->now;
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	json_bool(&j, "hit", x->hit);
	json_text(&j, "reason", x->reason);
	json_text(&j, "name", t->name);
	json_hex(&j, "step_key", t->step_key, sizeof(*t->step_key));
	json_texts(&j, "argv", t->argv, t->argc);
	json_text(&j, "cwd", t->cwd);
	if (x->found.started_ns)
		json_near(&j, "found", &x->found);
	else
		json_null(&j, "found");
	json_array(&j, "nearest");
	for (size_t i = 0; i < x->n; i++)
		json_near(&j, NULL, &x->v[i]);
	json_end(&j);
	json_miss(&j, t);
	json_end(&j);
	json_done(&j);
}

/* ---- text ---- */

static void show_diffs(struct screen *c, const struct diffs *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const char *text = d->v[i].text, *end = strstr(text, ": ");
		size_t n = end ? (size_t)(end - text) : 0;
		auto_free char *head = xstrndup(text, n);

		screen_addf(c, "  ");
		if (n)
			screen_painted(c, PAINT_BOLD, head);
		screen_text(c, text + n);
		screen_addf(c, "\n");
	}
}

static void show_key(struct screen *c, const struct fp *key)
{
	char digits[9];

	hex(key, 4, digits);
	screen_painted(c, PAINT_KEY, digits);
}

static void show_near(struct screen *c, const struct near_result *n, bool other)
{
	char when[40];

	screen_addf(c, "against ");
	show_key(c, &n->key);
	screen_addf(c, " of %s", human_time(n->started_ns, when, sizeof(when)));
	screen_addf(c, "%s:\n", other ? ", of another step of this name" : "");
	show_diffs(c, &n->diffs);
	if (!n->diffs.n)
		screen_addf(c, "  nothing that it looked at differs\n");
}

static void show_found(struct screen *c, const struct near_result *f)
{
	char when[40], took[40];

	screen_painted(c, PAINT_GOOD, "would be a hit");
	screen_addf(c, ": ");
	show_key(c, &f->key);
	screen_addf(c, " of %s, which took %s", human_time(f->started_ns, when, sizeof(when)),
		    human_seconds((double)f->wall_ns / 1e9, took, sizeof(took)));
	if (f->shared_by) {
		screen_addf(c, ", stored by ");
		screen_text(c, f->shared_by);
	}
	screen_addf(c, "\n");
}

static void show_miss(struct screen *c, const struct told *t)
{
	char when[40];

	if (!t->has_miss)
		return;
	screen_addf(c, "the last miss was at %s%s: ",
		    human_time(t->miss.started_ns, when, sizeof(when)),
		    t->miss.stored ? "" : ", and was not stored");
	screen_text(c, t->miss.reason ? t->miss.reason : "it is not known why");
	screen_addf(c, "\n");
	if (t->has_then)
		show_near(c, &t->then, !fp_eq(&t->then.step_key, t->step_key));
}

static int told_text(const struct told *t, bool all, int status)
{
	const struct explanation *x = &t->now;
	struct screen *c = screen_open(true);
	auto_free char *command = command_line(t->argv, t->argc);
	size_t n = x->n && !all ? 1 : x->n;

	screen_painted(c, PAINT_BOLD, t->name ? t->name : "");
	screen_addf(c, " (");
	screen_text(c, command);
	screen_addf(c, ") ");
	if (x->hit) {
		show_found(c, &x->found);
	} else {
		screen_painted(c, PAINT_NOTE, "would not be a hit");
		screen_addf(c, ": ");
		screen_text(c, x->reason ? x->reason : "");
		screen_addf(c, "\n");
	}
	for (size_t i = 0; i < n && !screen_gone(c); i++)
		show_near(c, &x->v[i], x->others);
	if (n < x->n)
		screen_addf(c, "and %zu more recorded results that differ (--all shows them)\n",
			    x->n - n);
	show_miss(c, t);
	return screen_close(c, status);
}

static int told_print(const struct told *t, const struct query *q, bool all)
{
	int status = t->now.hit ? EXIT_SUCCESS : EXIT_FAILURE;

	if (!q->json)
		return told_text(t, all, status);
	told_json(t);
	return printed_status(status);
}

/* ---- of a command ---- */

/* Words of ours among those before --; the rest is for the options of exec. */
static int split_words(int argc, char **argv, struct explain_query *w, char **ret)
{
	int n = 0, i = 0;

	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (i && strcmp(argv[i], "--json") == 0)
			w->w.q.json = true;
		else if (i && (strcmp(argv[i], "--all") == 0 || strcmp(argv[i], "-a") == 0))
			w->all = true;
		else
			ret[n++] = argv[i];
	for (; i < argc; i++)
		ret[n++] = argv[i];
	ret[n] = NULL;
	return n;
}

/* A step as mlfs exec would see it here. */
struct asked {
	struct step s;
	struct stdin_src *in;
	struct inherited *passed;
};

static void asked_clear(struct asked *a)
{
	inherited_free(a->passed);
	stdin_free(a->in);
	step_free(&a->s);
	*a = (struct asked){0};
}

/* on_terminal: with standard output where standard error is. */
static int ask_as(struct idx *x, const struct exec_opts *o, bool on_terminal, struct asked *ret,
		  struct err *e)
{
	auto_close int own = on_terminal ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
	int r;

	if (own >= 0)
		(void)dup2(STDERR_FILENO, STDOUT_FILENO); /* both are open */
	r = step_of_caller(x, o, &ret->in, &ret->passed, &ret->s, e);
	if (own >= 0)
		(void)dup2(own, STDOUT_FILENO);
	return r;
}

static bool is_recorded(struct idx *x, const struct asked *a)
{
	auto_free struct fp *keys = NULL;
	struct err e;
	size_t n = 0;

	return idx_step_results(x, &a->s.key, &keys, &n, &e) >= 0 && n;
}

/*
 * Where our standard output goes is where the explanation is wanted (a pager, a file), and says nothing of the step's, as long
 * as there is a terminal: it is the step in the terminal that is asked about. But when only the one whose output goes the same
 * way is known, it was redirected for that one.
 */
static int ask(struct idx *x, const struct exec_opts *o, struct asked *ret, struct err *e)
{
	bool elsewhere = !isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
	struct asked given = {0};
	int r = ask_as(x, o, elsewhere, ret, e);

	if (r < 0 || !elsewhere || is_recorded(x, ret))
		return r;
	if (ask_as(x, o, false, &given, e) == 0 && is_recorded(x, &given)) {
		asked_clear(ret);
		*ret = given;
		return 0;
	}
	asked_clear(&given);
	return 0;
}

static int explain_step(struct idx *x, const struct exec_opts *o, const struct explain_query *w)
{
	struct asked a = {0};
	struct err e = {0};
	int status = EXIT_FAILURE;

	if (ask(x, o, &a, &e) < 0) {
		log_warn("%s", e.msg);
	} else {
		struct told t = {.name = a.s.name,
				 .cwd = a.s.cwd,
				 .argv = o->argv,
				 .argc = (size_t)o->argc,
				 .step_key = &a.s.key};

		explain_now(x, o, &a.s, a.in, NULL, &t.now);
		status = told_print(&t, &w->w.q, w->all);
		explanation_free(&t.now);
	}
	asked_clear(&a);
	return status;
}

static int explain_command(int argc, char **argv)
{
	auto_free char **words = xcalloc((size_t)argc + 1, sizeof(*words));
	struct explain_query w = {.w = RUNS_QUERY_DEFAULTS};
	int n = split_words(argc, argv, &w, words);
	struct exec_opts o;
	struct query q;
	struct idx *x = NULL;
	int status, r = exec_opts_parse(n, words, &o);

	if (r)
		return r < 0 ? EXIT_USAGE : printed_status(EXIT_SUCCESS);
	q = (struct query){.cache = o.cache_dir};
	status = query_open_few(&q, &x) < 0 ? EXIT_FAILURE : explain_step(x, &o, &w);
	idx_close(x);
	exec_opts_free(&o);
	return status;
}

/* ---- of what is recorded ---- */

struct last {
	struct history *h;
	struct run *ret;
	bool any;
};

static int keep_run(void *arg, const struct run_row *row)
{
	struct last *l = arg;

	l->any = history_run(l->h, row, l->ret) >= 0;
	return l->any;
}

/* The last miss of a key; of all, when it is NULL. 1, 0, -errno: said. */
static int last_miss(const struct explain_query *w, const char *key, struct run *ret)
{
	struct last l = {.ret = ret};
	struct run_filter f;
	struct err e = {0};
	int r = runs_query_open(&w->w, &l.h, &f);

	if (r < 0)
		return r;
	f.results = 1u << RUN_MISS;
	f.key = key;
	r = history_each(l.h, &f, keep_run, &l, &e);
	history_close(l.h);
	if (r < 0)
		log_warn("%s", e.msg);
	return r < 0 ? r : l.any;
}

/* The step of a result as it was then, for a lookup now. */
struct then {
	struct step s;
	struct exec_opts o;
};

static int then_of(struct idx *x, const struct query *q, const struct result *r, struct then *ret)
{
	struct step_told t = {0};
	struct err e;

	if (settings_of(q, r, &ret->o) < 0)
		return -EINVAL;
	ret->o.strict = r->strict;
	ret->o.cache_failures |= r->exit_status != 0; /* it was asked for then */
	ret->s = (struct step){.key = r->step_key,
			       .cwd = xstrdup(r->cwd ? r->cwd : "/"),
			       .name = xstrdup(r->name ? r->name : ""),
			       .merged = r->console_merged};
	if (idx_description_get(x, &r->step_key, &ret->s.description, &e) <= 0 ||
	    step_told(&ret->s.description, &t) < 0)
		return 0; /* of an older mlfs: --ignore is not known then */
	strlist_free(&ret->o.ignore);
	ret->o.ignore = t.ignore;
	t.ignore = (struct strlist){0};
	step_told_free(&t);
	return 0;
}

/* Why the last miss was one: what it stored, against what was there before. */
static void add_then(struct idx *x, struct told *t)
{
	struct result *m = NULL;
	struct err e;

	if (t->has_miss && idx_result_get(x, &t->miss.input_key, &m, &e) > 0)
		t->has_then = explain_then(x, m, &t->then) > 0;
	result_free(m);
}

/* only: the key was that of the result, not of its step. */
static int explain_result(struct idx *x, const struct explain_query *w, const struct result *r,
			  bool only, struct told *t)
{
	struct then then = {0};
	int status = EXIT_USAGE;

	if (then_of(x, &w->w.q, r, &then) == 0) {
		t->name = r->name;
		t->cwd = r->cwd;
		t->argv = r->argv;
		t->argc = r->n_argv;
		t->step_key = &r->step_key;
		explain_now(x, &then.o, &then.s, NULL, only ? &r->input_key : NULL, &t->now);
		add_then(x, t);
		status = told_print(t, &w->w.q, w->all);
	}
	exec_opts_free(&then.o);
	step_free(&then.s);
	return status;
}

/* Of a step of which nothing is stored. */
static int explain_run(struct idx *x, const struct explain_query *w, struct told *t)
{
	t->name = t->miss.name;
	t->cwd = t->miss.cwd;
	t->argv = t->miss.argv;
	t->argc = t->miss.n_argv;
	t->step_key = &t->miss.step_key;
	t->now.reason = xstrdup("no result of it is recorded");
	add_then(x, t);
	return told_print(t, &w->w.q, w->all);
}

/* What a key is, or the last miss when there is none: a result of a step. 1: *ret; 0: of the step nothing is stored; -errno: said. */
static int find(struct idx *x, const struct explain_query *w, struct told *t, struct result **ret,
		bool *ret_only)
{
	const char *key = w->w.q.args.n ? w->w.q.args.v[0] : NULL;
	char digits[2 * sizeof(struct fp) + 1];
	struct err e = {0};
	struct fp found;
	bool of_step = false;
	int r, miss = last_miss(w, key, &t->miss);

	if (miss < 0)
		return miss;
	t->has_miss = miss;
	if (!key && !miss) {
		log_warn("no miss is in the history");
		return -ENOENT;
	}
	if (!key)
		hex(&t->miss.step_key, sizeof(struct fp), digits);
	r = query_seek(x, key ? key : digits, &found, &of_step, &e);
	if (r == -ENOENT && miss)
		return 0;
	if (r < 0) {
		if (e.code)
			log_warn("%s", e.msg);
		return r;
	}
	*ret_only = !of_step;
	r = idx_result_get(x, &found, ret, &e);
	if (r <= 0)
		log_warn("cannot read the result: %s",
			 r < 0 ? e.msg : "it is damaged, or was just dropped");
	return r ? r : -ENOENT;
}

static int explain_key(const struct explain_query *w)
{
	struct result *res = NULL;
	struct told t = {0};
	struct idx *x = NULL;
	bool only = false;
	int status, r = query_open_few(&w->w.q, &x);

	if (r == 0)
		r = find(x, w, &t, &res, &only);
	if (r > 0)
		status = explain_result(x, w, res, only, &t);
	else if (r == 0)
		status = explain_run(x, w, &t);
	else
		status = query_status(r);
	explanation_free(&t.now);
	near_result_free(&t.then);
	run_clear(&t.miss);
	result_free(res);
	idx_close(x);
	return status;
}

int cmd_explain(int argc, char **argv)
{
	struct explain_query w = {.w = RUNS_QUERY_DEFAULTS};
	int status, r;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return explain_command(argc, argv);
	r = words_parse(&explain_words, argc, argv, &w);
	status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : explain_key(&w);
	words_free(&explain_words, &w);
	return status;
}
