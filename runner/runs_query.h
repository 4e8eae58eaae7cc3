/* SPDX-License-Identifier: MIT */
/* runs_query.h - private to runner/: what the commands that look through the history (log, stats) have in common. */
#ifndef MLFS_RUNS_QUERY_H
#define MLFS_RUNS_QUERY_H

#include "words.h"

struct runs_query {
	struct query q;
	char *since, *until; /* texts that parse_when takes */
	char *name;	     /* glob */
	double keep_runs;    /* seconds; < 0: all */
};
#define RUNS_QUERY_DEFAULTS              \
	{                                \
		.keep_runs = 365 * 86400 \
	}
/* Their options, for a table; of a struct whose first member is a struct runs_query. */
#define RUNS_QUERY_DEFS                                                                      \
	{"name",    0,                                                                       \
	 WORD_TEXT, offsetof(struct runs_query, name),                                       \
	 "GLOB",    "only steps of such a name"},                                            \
		{"since",                                                                    \
		 0,                                                                          \
		 WORD_TEXT,                                                                  \
		 offsetof(struct runs_query, since),                                         \
		 "TIME",                                                                     \
		 "begun at TIME or later: P7D, 2026-11-21, 10:30",                           \
		 .check = check_when},                                                       \
		{"until",                                                                    \
		 0,                                                                          \
		 WORD_TEXT,                                                                  \
		 offsetof(struct runs_query, until),                                         \
		 "TIME",                                                                     \
		 "begun before TIME",                                                        \
		 .check = check_when},                                                       \
	{                                                                                    \
		"keep-runs", 0, WORD_SECONDS, offsetof(struct runs_query, keep_runs), "DUR", \
			"older ones are not shown (P365D)", .setting = true                  \
	}

/*
 * A point in time: a duration of ISO 8601 (so long ago), "today", "yesterday" (their beginning), "2026-11-21", "10:30" (today),
 * "2026-11-21 10:30[:15]" (also with T between) in local time, or with Z or an offset ("+01:00") behind it. CLOCK_REALTIME in ns.
 * -EINVAL.
 */
int parse_when(const char *text, int64_t *ret_ns) must_check;
/* For a table of words: what is wrong with it (malloc'ed), or NULL. */
char *check_when(const char *text);

/* Open the history, and put into *f what the options say (borrowed from w). 0, or -errno: said; the caller exits with 1. */
int runs_query_open(const struct runs_query *w, struct history **ret,
		    struct run_filter *f) must_check;

/* "miss", "hit", "uncached". */
const char *run_result_name(enum run_result r);

#endif
