/* SPDX-License-Identifier: MIT */
/*
 * words.h - private to runner/: the words of every command but exec, and what each of these commands begins with.
 *
 * A command has a table of its options; what all of them take (--cache, --config, --json, -q, -v, --help, --version)
 * is added to it. An option may also be a setting of mlfs.conf.
 */
#ifndef MLFS_WORDS_H
#define MLFS_WORDS_H

#include "runner.h"

/* What every command is told; the first member of the struct its options are put into. */
struct query {
	char *cache, *config; /* as given, or NULL */
	bool json;
	int verbosity;	     /* -q: -1, default 0, -v: 1 */
	struct strlist args; /* the words that are no options */
};

enum word_kind {
	WORD_FLAG,    /* bool */
	WORD_LEVEL,   /* int: becomes `level` */
	WORD_TEXT,    /* char *, not empty */
	WORD_LIST,    /* struct strlist: each use adds one */
	WORD_SECONDS, /* double: a duration of ISO 8601, or "never": -1 */
	WORD_SIZE,    /* uint64_t: bytes */
	WORD_COUNT,   /* uint64_t */
};
struct word_def {
	const char *name; /* without the dashes */
	char letter;	  /* or 0 */
	enum word_kind kind;
	size_t offset;	 /* in the command's struct */
	const char *arg; /* how the help calls its value; NULL: it takes none */
	const char *help;
	bool setting; /* may stand in mlfs.conf */
	int level;
	/* WORD_TEXT, WORD_LIST: what is wrong with the value (malloc'ed), or NULL. May be NULL. */
	char *(*check)(const char *value);
};
struct word_table {
	const char *command; /* "fsck" */
	const char *usage;   /* what follows the command's name: "[OPTIONS] KEY" */
	const char *what;    /* of the help: whole lines */
	const char *status;  /* the end of the help, on exit statuses: whole lines */
	const struct word_def *v;
	size_t n;
	size_t size;	 /* of the command's struct */
	const char *arg; /* what its words are called in messages: "KEY"; NULL: it takes none */
	size_t min_args, max_args;
	bool no_config; /* mlfs.conf is not read: nothing in it could matter, and mistakes must not either */
};

/*
 * ret: the command's struct, with its defaults; filled in from mlfs.conf, then from the words. 0: go on; 1: a finished request
 * (--help); -EINVAL: wrong usage, said in one line; the caller exits with 2. In each case words_free is to be called.
 */
int words_parse(const struct word_table *t, int argc, char **argv, void *ret) must_check;
void words_free(const struct word_table *t, void *w);
/* For config.c. Give a setting of this table its value; to NULL: only look whether it could be. 0; -ENOENT: it has no such setting;
 * -EINVAL: *ret_why (caller frees) says what is wrong. */
int word_set(const struct word_table *t, void *to, const char *name, const char *value,
	     char **ret_why) must_check;

/* The options of a command, those that all have included, from 0 up (options.h). False: there are no more. */
struct option_line;
bool word_option_at(const struct word_table *t, size_t i, struct option_line *ret);

/* The tables of all commands that have one; commands.c. */
extern const struct word_table *const word_tables[];
extern const size_t n_word_tables;

/* ---- query.c: what the commands have in common ---- */

/* The directory of the cache (caller frees), or NULL: said. */
char *query_cache(const struct query *q);
/* The same, for who is about to look into it (caller frees). 0, or -errno: said; the caller exits with 1. */
int query_dir(const struct query *q, char **ret) must_check;
/* Open the cache to read. 0, or -errno: said; the caller exits with 1. */
int query_open(const struct query *q, struct idx **ret) must_check;
int query_open_few(const struct query *q, struct idx **ret) must_check; /* see idx_open_few */
/* The same to change it. */
int query_open_to_write(const struct query *q, struct idx **ret) must_check;
/* The result that a user means by the beginning of its key, or by that of its step (then the one stored last). 0; -EINVAL: no
 * beginning of a key; -ENOENT: there is none; -ENOTUNIQ: there are several. Said. */
int query_find(struct idx *x, const char *prefix, struct fp *ret) must_check;
/* The same; that there is none is not said. *ret_step (may be NULL): was it the key of a step? */
int query_seek(struct idx *x, const char *prefix, struct fp *ret, bool *ret_step,
	       struct err *e) must_check;
/* A path absolute, as steps name it: links in the directory part resolved where that is there. Caller frees; NULL: errno. */
char *query_path(const char *path);
/* The exit status that goes with these. */
int query_status(int r);
/* Everything was printed: flushes standard output. `status`, or 2 when it could not be written (said). */
int printed_status(int status);

#endif
