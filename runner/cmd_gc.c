/* SPDX-License-Identifier: MIT */
/* cmd_gc.c - `mlfs gc`: the cache within its limits. */
#include <string.h>

#include "commands.h"
#include "keep.h"

struct gc_query {
	struct query q;
	uint64_t max_size;
	double max_age;
	bool dry_run;
};

static const struct word_def gc_defs[] = {
	{"max-size", 0, WORD_SIZE, offsetof(struct gc_query, max_size), "SIZE",
	 "keep no more than SIZE (20G, none)", .setting = true},
	{"max-age", 0, WORD_SECONDS, offsetof(struct gc_query, max_age), "DUR",
	 "drop what was not used for DUR (P30D)", .setting = true},
	{"dry-run", 'n', WORD_FLAG, offsetof(struct gc_query, dry_run), NULL,
	 "only say what would be dropped"},
	{"verbose", 'v', WORD_LEVEL, offsetof(struct query, verbosity), NULL,
	 "name each result that is dropped", .level = 1},
};

const struct word_table gc_words = {
	.command = "gc",
	.usage = "[OPTIONS]",
	.what = "Shrink the cache to its limits: results go, least recently used first, and the\n"
		"objects that no other result refers to. Steps may run meanwhile; what a hit in\n"
		"progress may need is removed later. The same happens by itself, for a moment,\n"
		"after a result is stored past a limit.\n",
	.status = "Exit status: 0 done; 1 the cache could not be used; 2 wrong usage.\n",
	.v = gc_defs,
	.n = sizeof(gc_defs) / sizeof(*gc_defs),
	.size = sizeof(struct gc_query),
};

static void print_json(struct going *g, const struct idx_gc_counts *n,
		       const struct idx_gc_options *o)
{
	struct json j = {0};

	json_end(&g->json);
	json_object(&j, NULL);
	json_bool(&j, "dry_run", o->dry_run);
	if (o->max_size == IDX_NO_LIMIT)
		json_null(&j, "max_size");
	else
		json_uint(&j, "max_size", o->max_size);
	if (o->max_age_ns < 0)
		json_null(&j, "max_age_seconds");
	else
		json_seconds(&j, "max_age_seconds", (double)o->max_age_ns / 1e9);
	json_uint(&j, "bytes_before", n->before);
	json_uint(&j, "bytes_after", n->after);
	json_uint(&j, "results", n->results);
	json_uint(&j, "result_bytes", n->bytes);
	json_uint(&j, "objects_removed", n->objects);
	json_uint(&j, "bytes_removed", n->freed);
	json_uint(&j, "bytes_waiting", n->waiting);
	json_uint(&j, "digests", n->digests);
	json_uint(&j, "lefts", n->lefts);
	json_uint(&j, "index_bytes_before", n->index_before);
	json_uint(&j, "index_bytes_after", n->index_after);
	json_raw(&j, "dropped", &g->json.b);
	json_end(&j);
	json_done(&j);
	fwrite(j.b.data, 1, j.b.len, stdout);
	buf_free(&j.b);
}

static void print_text(const struct idx_gc_counts *n, const struct idx_gc_options *o)
{
	char a[32], b[32];

	printf("%llu result%s %s (%s)", (unsigned long long)n->results, n->results == 1 ? "" : "s",
	       o->dry_run ? "would be dropped" : "dropped", human_size(n->bytes, a, sizeof(a)));
	if (!o->dry_run)
		printf(", %llu object%s removed (%s)", (unsigned long long)n->objects,
		       n->objects == 1 ? "" : "s", human_size(n->freed, a, sizeof(a)));
	if (n->waiting)
		printf(", %s to be removed when nobody uses them any more",
		       human_size(n->waiting, a, sizeof(a)));
	printf("; %s %s", human_size(n->after, a, sizeof(a)),
	       o->dry_run ? "would be kept" : "kept");
	if (o->max_size != IDX_NO_LIMIT)
		printf(" of at most %s", human_size(o->max_size, b, sizeof(b)));
	if (n->index_after < n->index_before)
		printf("; the index shrank by %s",
		       human_size(n->index_before - n->index_after, a, sizeof(a)));
	printf("\n");
}

static int run(const struct gc_query *w)
{
	struct going g;
	struct idx_gc_options o = {.max_age_ns = keep_max_age(w->max_age),
				   .all = true,
				   .dry_run = w->dry_run,
				   .gone = going_gone,
				   .progress = going_progress,
				   .arg = &g};
	struct idx_gc_counts n;
	struct err e = {0};
	struct idx *x;
	int r = query_open_to_write(&w->q, &x);

	if (r < 0)
		return EXIT_FAILURE;
	o.max_size = keep_max_size(x, w->max_size);
	going_begin(&g, &w->q, w->dry_run, w->q.verbosity > 0);
	r = idx_gc(x, &o, &n, &e);
	going_end_bar(&g);
	if (r < 0)
		log_warn("cannot shrink the cache: %s", e.msg);
	else if (w->q.json)
		print_json(&g, &n, &o);
	else if (w->q.verbosity >= 0)
		print_text(&n, &o);
	buf_free(&g.json.b);
	idx_close(x);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int cmd_gc(int argc, char **argv)
{
	struct gc_query w = {.max_size = MAX_SIZE_DEFAULT, .max_age = -1};
	int r = words_parse(&gc_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : run(&w);

	words_free(&gc_words, &w);
	return printed_status(status);
}
