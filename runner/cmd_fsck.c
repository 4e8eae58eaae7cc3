/* SPDX-License-Identifier: MIT */
/* cmd_fsck.c - `mlfs fsck`: is everything in the cache as it was put there? */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "json.h"

#define EXIT_BROKEN 1

struct fsck_query {
	struct query q;
	bool repair;
};

static const struct word_def fsck_defs[] = {
	{"repair", 0, WORD_FLAG, offsetof(struct fsck_query, repair), NULL,
	 "drop what is broken or left over, and say what"},
	{"json", 0, WORD_FLAG, offsetof(struct query, json), NULL, "print one JSON object"},
	{"config", 0, WORD_TEXT, offsetof(struct query, config), "FILE",
	 "as for every command; nothing in it matters here"},
	{"quiet", 'q', WORD_LEVEL, offsetof(struct query, verbosity), NULL,
	 "say nothing; the exit status tells", .level = -1},
	{"verbose", 'v', WORD_LEVEL, offsetof(struct query, verbosity), NULL,
	 "name also what is merely left over", .level = 1},
};

const struct word_table fsck_words = {
	.command = "fsck",
	.usage = "[OPTIONS]",
	.what = "Check every record and every object of the cache. Steps may run meanwhile.\n",
	.status = "Exit status: 0 well, or all of it repaired; 1 broken, or it could not be\n"
		  "checked; 2 wrong usage.\n",
	.v = fsck_defs,
	.n = sizeof(fsck_defs) / sizeof(*fsck_defs),
	.size = sizeof(struct fsck_query),
	.no_config = true,
};

/* ---- what is printed ---- */

struct print {
	const struct fsck_query *w;
	bool bar; /* there is a line of progress on the terminal */
	struct json problems;
};

static void progress(void *arg, const char *what, uint64_t done, uint64_t all)
{
	struct print *p = arg;
	char a[32], b[32];

	fprintf(stderr, "\rmlfs: %s: %s of %s\033[K", what, human_size(done, a, sizeof(a)),
		human_size(all, b, sizeof(b)));
	(void)fflush(stderr); /* it is only for looking at */
	p->bar = true;
}

static void end_bar(struct print *p)
{
	if (p->bar)
		fprintf(stderr, "\r\033[K");
	p->bar = false;
}

static void add_json(struct json *j, const struct fsck_found *f)
{
	json_object(j, NULL);
	json_bool(j, "broken", f->broken);
	json_text(j, "what", f->what);
	json_text(j, "name", f->name);
	json_text(j, "problem", f->detail);
	json_bool(j, "mended", f->mended);
	json_end(j);
}

static void found(void *arg, const struct fsck_found *f)
{
	struct print *p = arg;

	end_bar(p);
	if (p->w->q.json)
		add_json(&p->problems, f);
	else if (p->w->q.verbosity >= 0 && (f->broken || p->w->q.verbosity > 0))
		printf("%s %s: %s%s\n", f->what, f->name, f->detail,
		       !f->mended  ? ""
		       : f->broken ? "; mended"
				   : "; removed");
}

static void print_json(struct json *problems, const struct fsck_counts *n, bool well)
{
	struct json j = {.to = stdout};

	json_end(problems);
	json_object(&j, NULL);
	json_bool(&j, "clean", well);
	json_uint(&j, "results", n->results);
	json_uint(&j, "path_sets", n->path_sets);
	json_uint(&j, "objects", n->objects);
	json_uint(&j, "object_bytes", n->object_bytes);
	json_uint(&j, "digests", n->digests);
	json_uint(&j, "runs", n->runs);
	json_uint(&j, "broken", n->broken);
	json_uint(&j, "left_over", n->left_over);
	json_uint(&j, "left_over_bytes", n->left_over_bytes);
	json_uint(&j, "mended", n->mended);
	json_bool(&j, "in_use", n->in_use);
	json_raw(&j, "problems", &problems->b);
	json_end(&j);
	json_done(&j);
}

static void print_text(const struct fsck_counts *n, uint64_t broken_mended)
{
	char size[32], left[32];

	printf("%llu results, %llu objects (%s), %llu digests", (unsigned long long)n->results,
	       (unsigned long long)n->objects, human_size(n->object_bytes, size, sizeof(size)),
	       (unsigned long long)n->digests);
	if (n->left_over)
		printf("; %llu left over (%s)%s", (unsigned long long)n->left_over,
		       human_size(n->left_over_bytes, left, sizeof(left)),
		       n->mended - broken_mended == n->left_over ? ", removed" : "");
	if (n->broken)
		printf("; %llu broken, %llu of them mended", (unsigned long long)n->broken,
		       (unsigned long long)broken_mended);
	printf("%s\n", n->broken ? "" : ": clean");
}

/* ---- the command ---- */

/* The mended among the broken. */
struct tally {
	struct print print;
	uint64_t broken_mended;
};

static void found_and_count(void *arg, const struct fsck_found *f)
{
	struct tally *t = arg;

	t->broken_mended += f->broken && f->mended;
	found(&t->print, f);
}

static int run(const struct fsck_query *w)
{
	auto_free char *dir = query_cache(&w->q);
	struct tally t = {.print = {.w = w}};
	struct fsck_options o = {.repair = w->repair,
				 .found = found_and_count,
				 .progress = isatty(STDERR_FILENO) && w->q.verbosity >= 0 ? progress
											  : NULL,
				 .arg = &t};
	struct fsck_counts n;
	struct err e = {0};
	bool well;
	int r;

	if (!dir)
		return EXIT_USAGE;
	json_array(&t.print.problems, NULL);
	r = idx_fsck(dir, &o, &n, &e);
	end_bar(&t.print);
	if (r < 0) {
		log_warn("cannot check the cache: %s", e.msg);
		return EXIT_BROKEN;
	}
	well = n.broken == t.broken_mended;
	if (w->q.json)
		print_json(&t.print.problems, &n, well);
	else if (w->q.verbosity >= 0)
		print_text(&n, t.broken_mended);
	if (!well && w->repair && n.in_use)
		log_warn("others have the cache open: not everything could be repaired");
	buf_free(&t.print.problems.b);
	return well ? EXIT_SUCCESS : EXIT_BROKEN;
}

int cmd_fsck(int argc, char **argv)
{
	struct fsck_query w = {0};
	int r = words_parse(&fsck_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : run(&w);

	words_free(&fsck_words, &w);
	return printed_status(status);
}
