/* SPDX-License-Identifier: MIT */
/* options.h - private to options.c, config.c and step.c: one table for the command line and
 * mlfs.conf. */
#ifndef MLFS_OPTIONS_H
#define MLFS_OPTIONS_H

#include "runner.h"

/* All unset: what neither the command line nor mlfs.conf says. */
void exec_opts_init(struct exec_opts *o);

/*
 * Give a setting of mlfs.conf (an option's long name) its value. *ret_why (caller frees) says what
 * is wrong with it: "unknown setting 'expire-afte'; did you mean 'expire-after'?".
 */
int option_set(struct exec_opts *o, const char *name, const char *value, char **ret_why) must_check;

/*
 * config.c: apply the settings of the file at path to o; those in [step "GLOB"] sections when the
 * glob matches one of `names` (NULL-terminated). e: "FILE:LINE: what is wrong"; -ENOENT and the
 * like when it cannot be opened.
 */
int config_apply(const char *path, const char *const *names, struct exec_opts *o,
		 struct err *e) must_check;

/* step.c: what a command is called without --name: "train.py" for `python3 -u train.py`. Caller
 * frees. */
char *step_default_name(char *const *argv);

#endif
