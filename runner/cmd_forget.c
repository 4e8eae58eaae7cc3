/* SPDX-License-Identifier: MIT */
/* cmd_forget.c - `mlfs forget`: results that are not to be used again. */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "commands.h"
#include "keep.h"

struct forget_query {
	struct query q;
	struct strlist names;
	bool all, dry_run;
};

static const struct word_def forget_defs[] = {
	{"name", 0, WORD_LIST, offsetof(struct forget_query, names), "NAME",
	 "all results of the steps called NAME (* and ? too)"},
	{"all", 0, WORD_FLAG, offsetof(struct forget_query, all), NULL, "every result"},
	{"dry-run", 'n', WORD_FLAG, offsetof(struct forget_query, dry_run), NULL,
	 "only say what would be dropped"},
};

const struct word_table forget_words = {
	.command = "forget",
	.usage = "[OPTIONS] KEY... | --name NAME | --all",
	.what = "Drop results, so that the next run of their steps is a miss. KEY is the\n"
		"beginning of a result's key, or of a step's: then all results of that step.\n"
		"Files that steps made stay where they are.\n",
	.status = "Exit status: 0 dropped; 1 there is no such result, or the cache could not be\n"
		  "used; 2 wrong usage.\n",
	.v = forget_defs,
	.n = sizeof(forget_defs) / sizeof(*forget_defs),
	.size = sizeof(struct forget_query),
	.arg = "KEY",
	.max_args = 1000,
};

/* ---- which ---- */

struct chosen {
	const struct forget_query *w;
	const struct fp *step; /* results of this step; NULL: by name */
	struct buf keys;
};

static int choose(void *arg, const struct result *r)
{
	struct chosen *c = arg;
	bool fits = c->step && fp_eq(&r->step_key, c->step);

	for (size_t i = 0; !c->step && !fits && i < c->w->names.n; i++)
		fits = fnmatch(c->w->names.v[i], r->name ? r->name : "", 0) == 0;
	if (fits)
		buf_add(&c->keys, &r->input_key, sizeof(r->input_key));
	return 0;
}

/* All results of a step: its list has the latest. */
static int choose_step(struct idx *x, struct chosen *c, const struct fp *step, struct err *e)
{
	auto_free struct fp *keys = NULL;
	size_t n = 0;
	int r = idx_step_results(x, step, &keys, &n, e);

	if (r < 0)
		return r;
	if (n < IDX_MAX_PATH_SETS) {
		buf_add(&c->keys, keys, n * sizeof(*keys));
		return 0;
	}
	c->step = step;
	r = idx_results(x, "", choose, c, e);
	c->step = NULL;
	return r;
}

/* A result's key, or a step's. */
static int choose_key(struct idx *x, struct chosen *c, const char *prefix)
{
	struct fp keys[2], key;
	struct err e = {0};
	size_t n = 0;
	int r = idx_keys(x, IDX_KEY_RESULT, prefix, keys, 2, &n, &e);

	if (r == 0 && !n && idx_keys(x, IDX_KEY_STEP, prefix, keys, 2, &n, &e) == 0 && n == 1) {
		r = choose_step(x, c, &keys[0], &e);
		if (r < 0)
			log_warn("%s", e.msg);
		return r;
	}
	r = query_find(x, prefix, &key); /* says what is wrong with it */
	if (r == 0)
		buf_add(&c->keys, &key, sizeof(key));
	return r;
}

static int choose_all(struct idx *x, struct chosen *c)
{
	const struct forget_query *w = c->w;
	struct err e = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->q.args.n; i++)
		r = choose_key(x, c, w->q.args.v[i]);
	if (r < 0 || !w->names.n)
		return r;
	r = idx_results(x, "", choose, c, &e);
	if (r == 0 && !c->keys.len)
		r = err_text(&e, ENOENT, "no result is of a step called %s%s", w->names.v[0],
			     w->names.n > 1 ? ", nor of the others" : "");
	if (r < 0)
		log_warn("%s", e.msg);
	return r;
}

/* ---- the command ---- */

static void print_json(struct going *g)
{
	struct json j = {0};

	json_end(&g->json);
	json_object(&j, NULL);
	json_bool(&j, "dry_run", g->dry_run);
	json_uint(&j, "results", g->results);
	json_uint(&j, "bytes", g->bytes);
	json_raw(&j, "dropped", &g->json.b);
	json_end(&j);
	json_done(&j);
	fwrite(j.b.data, 1, j.b.len, stdout);
	buf_free(&j.b);
}

static int drop(struct idx *x, const struct forget_query *w, const struct chosen *c,
		struct going *g, struct err *e)
{
	/* Objects that nothing refers to any more go as well; --all: a limit of nothing. */
	struct idx_gc_options o = {.max_size = w->all ? 0 : IDX_NO_LIMIT,
				   .max_age_ns = -1,
				   .locked_too = true,
				   .dry_run = w->dry_run,
				   .gone = going_gone,
				   .progress = w->all ? going_progress : NULL,
				   .arg = g};
	struct idx_gc_counts n;
	int r = 0;

	if (!w->all)
		r = idx_results_drop(x, (const struct fp *)(const void *)c->keys.data,
				     c->keys.len / sizeof(struct fp), w->dry_run, going_gone, g, e);
	if (r >= 0 && (w->all || !w->dry_run))
		r = idx_gc(x, &o, &n, e);
	return r;
}

static int run_on(struct idx *x, const struct forget_query *w)
{
	struct chosen c = {.w = w};
	struct going g;
	struct err e = {0};
	char size[32];
	int r = choose_all(x, &c);

	if (r < 0) {
		buf_free(&c.keys);
		return query_status(r);
	}
	going_begin(&g, &w->q, w->dry_run, w->q.verbosity >= 0);
	r = drop(x, w, &c, &g, &e);
	going_end_bar(&g);
	if (r < 0)
		log_warn("cannot drop results: %s", e.msg);
	else if (w->q.json)
		print_json(&g);
	else if (w->q.verbosity >= 0)
		printf("%llu result%s %s (%s)\n", (unsigned long long)g.results,
		       g.results == 1 ? "" : "s", w->dry_run ? "would be dropped" : "dropped",
		       human_size(g.bytes, size, sizeof(size)));
	buf_free(&g.json.b);
	buf_free(&c.keys);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run(const struct forget_query *w)
{
	int ways = (w->q.args.n > 0) + (w->names.n > 0) + w->all;
	struct idx *x;
	int status;

	if (ways != 1) {
		log_warn(ways ? "KEY, '--name' and '--all' exclude each other"
			      : "nothing to forget: name a KEY, or use '--name NAME' or '--all'");
		return EXIT_USAGE;
	}
	if (query_open_to_write(&w->q, &x) < 0)
		return EXIT_FAILURE;
	status = run_on(x, w);
	idx_close(x);
	return status;
}

int cmd_forget(int argc, char **argv)
{
	struct forget_query w = {0};
	int r = words_parse(&forget_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : run(&w);

	words_free(&forget_words, &w);
	return printed_status(status);
}
