/* SPDX-License-Identifier: MIT */
/* options.h - private to options.c, config.c, step*.c and commands: one table for the command line and
 * mlfs.conf. */
#ifndef MLFS_OPTIONS_H
#define MLFS_OPTIONS_H

#include "runner.h"

/* All unset: what neither the command line nor mlfs.conf says. */
void exec_opts_init(struct exec_opts *o);

/*
 * Give a setting of mlfs.conf (an option's long name) its value. -ENOENT: `mlfs exec` has no such setting. -EINVAL:
 * *ret_why (caller frees) says what is wrong.
 */
int option_set(struct exec_opts *o, const char *name, const char *value, char **ret_why) must_check;
/* The names of all settings of `mlfs exec`, put to names (room for 64): how many. */
size_t option_settings(const char **names);

/* An option, as the help and completion tell of it; texts are the tables'. */
struct option_line {
	const char *name; /* without the dashes */
	char letter;	  /* or 0 */
	const char *arg;  /* what its value is called; NULL: it takes none */
	const char *help;
};
/* The options of `mlfs exec`, from 0 up. False: there are no more. */
bool exec_option_at(size_t i, struct option_line *ret);

/* Values: 0, or -EINVAL and *ret_why (caller frees). value_flag: NULL is yes. value_seconds: "never" is -1. value_size: "none" is
 * UINT64_MAX. */
int value_flag(bool *at, const char *value, char **ret_why) must_check;
int value_seconds(double *at, const char *value, char **ret_why) must_check;
int value_size(uint64_t *at, const char *value, char **ret_why) must_check;

void strlist_add(struct strlist *l, char *s); /* takes s */
void strlist_free(struct strlist *l);	      /* what is in it; it is empty then */

/*
 * settings.c: all that files say of the step that words->argv is. names that sections may mean: the one given, or how the
 * program and the step are called. -errno: mlfs.conf cannot be read or is wrong.
 */
int settings_read(const struct exec_opts *words, const struct exec_base *base,
		  struct exec_opts *ret, struct err *e) must_check;
/* Do settings in such a file of a tree hold for a user: could nobody else have written them than he, root, or the owner of the
 * mount? */
bool settings_file_holds(const struct stat *st, uid_t owner, uid_t user);

/* Where the settings of mlfs.conf go. Those of other commands are only checked. */
struct word_table;
struct config_to {
	struct exec_opts *exec;		/* or NULL */
	const struct word_table *table; /* of another command, and its struct; or NULL */
	void *words;
};
/*
 * config.c: apply the settings of the file at path; those in [step "GLOB"] sections when the
 * glob matches one of `names` (NULL-terminated; NULL: none does). e: "FILE:LINE: what is wrong"; -ENOENT and the
 * like when it cannot be opened.
 */
int config_apply(const char *path, const char *const *names, const struct config_to *to,
		 struct err *e) must_check;
/* The same with what was read of it: n bytes and a NUL, which are changed. */
int config_apply_text(const char *path, char *text, size_t n, const char *const *names,
		      const struct config_to *to, struct err *e) must_check;

/* Of the bytes that a step key is the hash of (step.c makes them, step_told.c reads them): whatever changes them must change
 * this, or old results would answer new questions. */
#define STEP_VERSION "mlfs step 1"

/* step.c: what a command is called without --name: "train.py" for `python3 -u train.py`. Caller
 * frees. */
char *step_default_name(char *const *argv);

#endif
