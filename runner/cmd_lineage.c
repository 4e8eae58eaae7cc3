/* SPDX-License-Identifier: MIT */
/* cmd_lineage.c - `mlfs lineage`: which step made this file, from what, and so on back. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "lineage.h"

struct lineage_query {
	struct query q;
	char *format;
	bool all;
};

static char *check_format(const char *value)
{
	static const char *const formats[] = {"text", "json", "dot", "prov", NULL};
	const char *near;

	for (size_t i = 0; formats[i]; i++)
		if (strcmp(value, formats[i]) == 0)
			return NULL;
	near = nearest_word(value, formats);
	return near ? xasprintf("'%s' is no format; did you mean '%s'?", value, near)
		    : xasprintf("'%s' is none of text, json, dot, prov", value);
}

static const struct word_def lineage_defs[] = {
	{"format", 0, WORD_TEXT, offsetof(struct lineage_query, format), "FORMAT",
	 "text, json, dot (Graphviz) or prov (PROV-JSON)", .check = check_format},
	{"all", 'a', WORD_FLAG, offsetof(struct lineage_query, all), NULL,
	 "also inputs of the system"},
};

const struct word_table lineage_words = {
	.command = "lineage",
	.usage = "[OPTIONS] FILE",
	.what = "Which step made FILE, from what, and so on back to files that no step made.\n"
		"A file is known by its content: one that was copied or renamed is found, too.\n"
		"Of a directory: of each file below it that a step made.\n",
	.status = "Exit status: 0 a step made it; 1 none that is recorded did, or there is no\n"
		  "such file; 2 wrong usage.\n",
	.v = lineage_defs,
	.n = sizeof(lineage_defs) / sizeof(*lineage_defs),
	.size = sizeof(struct lineage_query),
	.arg = "FILE",
	.min_args = 1,
	.max_args = 1,
};

/* As steps name it; what a symbolic link leads to. Caller frees; NULL: errno. */
static char *whole(const char *path)
{
	char *real = realpath(path, NULL);

	return real ? real : query_path(path);
}

static int status_of(const struct lineage *l)
{
	for (size_t i = 0; i < l->n_roots; i++)
		switch (l->files[l->roots[i]].origin) {
		case LIN_MADE:
		case LIN_COPY:
		case LIN_STDOUT:
			return EXIT_SUCCESS;
		case LIN_SOURCE:
		case LIN_EDITED:
		case LIN_LOST:
			break;
		}
	return EXIT_FAILURE;
}

static int run(const struct lineage_query *w)
{
	auto_free char *cwd = getcwd(NULL, 0), *path = whole(w->q.args.v[0]);
	struct lin_output o = {.format = w->q.json   ? "json"
					 : w->format ? w->format
						     : "text",
			       .file = path,
			       .cwd = cwd};
	struct lineage l = {0};
	struct idx *x = NULL;
	struct err e = {0};
	int status = EXIT_FAILURE;

	if (!path) {
		log_warn("cannot find %s: %s", w->q.args.v[0], strerror(errno));
		return EXIT_FAILURE;
	}
	if (query_open(&w->q, &x) < 0)
		return EXIT_FAILURE;
	if (lineage_of(x, path, w->all, &l, &e) < 0)
		log_warn("%s", e.msg);
	else
		status = lineage_print(&l, &o, status_of(&l));
	lineage_free(&l);
	idx_close(x);
	return status;
}

int cmd_lineage(int argc, char **argv)
{
	struct lineage_query w = {0};
	int r = words_parse(&lineage_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&lineage_words, &w);
	return status;
}
