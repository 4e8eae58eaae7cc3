/* SPDX-License-Identifier: MIT */
/* cmd_fsck.c - `mlfs fsck`: is everything in the cache as it was put there? */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

#define EXIT_BROKEN 1
#define EXIT_USAGE  2

struct fsck_words {
	char *cache;
	bool repair, json, quiet, verbose;
};

/* ---- the command line ---- */

static const char *const options[] = {"--cache",   "--config",	"--repair", "--json", "--quiet",
				      "--verbose", "--version", "--help",   NULL};

static void help(void)
{
	printf("usage: mlfs fsck [OPTIONS]\n\n"
	       "Check every record and every object of the cache. Steps may run meanwhile.\n\n"
	       "      --repair       drop what is broken or left over, and say what\n"
	       "      --json         print one JSON object\n"
	       "      --cache DIR    the cache\n"
	       "      --config FILE  as for every command; nothing in it matters here\n"
	       "  -q, --quiet        say nothing; the exit status tells\n"
	       "  -v, --verbose      name also what is merely left over\n"
	       "  -h, --help         this text\n"
	       "      --version      the version of mlfs\n\n"
	       "Exit status: 0 well, or all of it repaired; 1 broken, or it could not be\n"
	       "checked; 2 wrong usage.\n");
}

static int wrong_word(const char *word)
{
	const char *near = nearest_word(word, options);

	if (*word != '-')
		log_warn("unexpected argument '%s'; 'mlfs fsck --help' tells more", word);
	else if (near)
		log_warn("unknown option '%s'; did you mean '%s'?", word, near);
	else
		log_warn("unknown option '%s'; 'mlfs fsck --help' lists them", word);
	return -EINVAL;
}

/* "--name VALUE" or "--name=VALUE" at argv[*at]: 1 and *ret, 0: another word, -EINVAL: said. */
static int value_of(const char *name, int argc, char **argv, int *at, const char **ret)
{
	size_t n = strlen(name);

	if (strncmp(argv[*at], name, n) != 0 || (argv[*at][n] && argv[*at][n] != '='))
		return 0;
	*ret = argv[*at][n] ? argv[*at] + n + 1 : ++*at < argc ? argv[*at] : NULL;
	if (*ret && **ret)
		return 1;
	log_warn("option '%s' needs a value", name);
	return -EINVAL;
}

/* 0: go on; 1: a finished request; -EINVAL: said. */
static int parse_word(int argc, char **argv, int *at, struct fsck_words *w)
{
	const char *word = argv[*at], *value;
	int r = value_of("--cache", argc, argv, at, &value);

	if (r > 0) {
		free(w->cache);
		w->cache = xstrdup(value);
	}
	if (r == 0)
		r = value_of("--config", argc, argv, at, &value);
	if (r != 0)
		return r < 0 ? r : 0;
	if (strcmp(word, "--repair") == 0)
		w->repair = true;
	else if (strcmp(word, "--json") == 0)
		w->json = true;
	else if (strcmp(word, "-q") == 0 || strcmp(word, "--quiet") == 0)
		w->quiet = true;
	else if (strcmp(word, "-v") == 0 || strcmp(word, "--verbose") == 0)
		w->verbose = true;
	else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
		help();
	else if (strcmp(word, "--version") == 0)
		printf("mlfs %s\n", MLFS_VERSION);
	else
		return wrong_word(word);
	return word[1] == 'h' || strcmp(word, "--help") == 0 || strcmp(word, "--version") == 0;
}

/* ---- what is printed ---- */

struct print {
	const struct fsck_words *w;
	bool bar;	     /* there is a line of progress on the terminal */
	struct buf problems; /* JSON */
};

static void progress(void *arg, uint64_t done, uint64_t all)
{
	struct print *p = arg;
	char a[32], b[32];

	fprintf(stderr, "\rmlfs: %s of %s read\033[K", human_size(done, a, sizeof(a)),
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

static void add_json(struct print *p, const struct fsck_found *f)
{
	struct buf *b = &p->problems;

	buf_addf(b, "%s{\"broken\": %s, \"what\": ", b->len ? ", " : "",
		 f->broken ? "true" : "false");
	json_string(b, f->what, strlen(f->what));
	buf_addf(b, ", \"name\": ");
	json_string(b, f->name, strlen(f->name));
	buf_addf(b, ", \"problem\": ");
	json_string(b, f->detail, strlen(f->detail));
	buf_addf(b, ", \"mended\": %s}", f->mended ? "true" : "false");
}

static void found(void *arg, const struct fsck_found *f)
{
	struct print *p = arg;

	end_bar(p);
	if (p->w->json)
		add_json(p, f);
	else if (!p->w->quiet && (f->broken || p->w->verbose))
		printf("%s %s: %s%s\n", f->what, f->name, f->detail,
		       !f->mended  ? ""
		       : f->broken ? "; mended"
				   : "; removed");
}

static void print_json(const struct print *p, const struct fsck_counts *n, bool well)
{
	printf("{\"clean\": %s, \"results\": %llu, \"path_sets\": %llu, \"objects\": %llu, "
	       "\"object_bytes\": %llu, \"digests\": %llu, \"runs\": %llu, \"broken\": %llu, "
	       "\"left_over\": %llu, \"left_over_bytes\": %llu, \"mended\": %llu, \"in_use\": %s, "
	       "\"problems\": [%.*s]}\n",
	       well ? "true" : "false", (unsigned long long)n->results,
	       (unsigned long long)n->path_sets, (unsigned long long)n->objects,
	       (unsigned long long)n->object_bytes, (unsigned long long)n->digests,
	       (unsigned long long)n->runs, (unsigned long long)n->broken,
	       (unsigned long long)n->left_over, (unsigned long long)n->left_over_bytes,
	       (unsigned long long)n->mended, n->in_use ? "true" : "false", (int)p->problems.len,
	       (const char *)(p->problems.data ? p->problems.data : (const uint8_t *)""));
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

static int run(const struct fsck_words *w)
{
	auto_free char *dir = find_cache(w->cache);
	struct tally t = {.print = {.w = w}};
	struct fsck_options o = {.repair = w->repair,
				 .found = found_and_count,
				 .progress = isatty(STDERR_FILENO) && !w->quiet ? progress : NULL,
				 .arg = &t};
	struct fsck_counts n;
	struct err e = {0};
	bool well;
	int r;

	if (!dir) {
		log_warn("cannot find a home directory for the cache; set --cache");
		return EXIT_USAGE;
	}
	r = idx_fsck(dir, &o, &n, &e);
	end_bar(&t.print);
	if (r < 0) {
		log_warn("cannot check the cache: %s", e.msg);
		return EXIT_BROKEN;
	}
	well = n.broken == t.broken_mended;
	if (w->json)
		print_json(&t.print, &n, well);
	else if (!w->quiet)
		print_text(&n, t.broken_mended);
	if (!well && w->repair && n.in_use)
		log_warn("others have the cache open: not everything could be repaired");
	buf_free(&t.print.problems);
	return well ? EXIT_SUCCESS : EXIT_BROKEN;
}

int cmd_fsck(int argc, char **argv)
{
	struct fsck_words w = {0};
	int r = 0, status;

	for (int at = 1; at < argc && r == 0; at++)
		r = parse_word(argc, argv, &at, &w);
	status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : run(&w);
	free(w.cache);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	log_warn("cannot write to standard output: %s", strerror(errno));
	return EXIT_USAGE;
}
