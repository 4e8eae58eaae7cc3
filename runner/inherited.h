/* SPDX-License-Identifier: MIT */
/* inherited.h - private to runner/: descriptors beyond stderr that the caller passes on to the command. */
#ifndef MLFS_INHERITED_H
#define MLFS_INHERITED_H

#include "runner.h"

/*
 * What is read or written through them is not seen by the view. So:
 *  - a regular file: its content and offset go into the step key; one that has changed when the step is over
 *    spoils the result;
 *  - numbers that the command cannot know (leaked from some launcher): ignored;
 *  - terminals (their reading is noticed otherwise), /dev/null and the like, make's jobserver: ignored;
 *  - pipes, sockets, directories and anything else: the result is not stored.
 */
struct inherited;

/* Look at every descriptor >= 3 that would stay open across exec and that the command can know of: a single digit, or
 * a number that an argument or a variable names. key: bytes for the step key. */
int inherited_open(char *const *argv, struct inherited **ret, struct buf *key,
		   struct err *e) must_check;
/* After the step: why its result must not be stored, or NULL. Valid until freed. */
const char *inherited_spoiled(struct inherited *h);
void inherited_free(struct inherited *h);

/*
 * describe.c: what is about to be run, with what the caller passes on beside the standard streams. Caller, also after a
 * failure: stdin_free, inherited_free, step_free (of what is not NULL or empty).
 */
int step_of_caller(struct idx *x, const struct exec_opts *o, struct stdin_src **ret_in,
		   struct inherited **ret_passed, struct step *ret, struct err *e) must_check;

#endif
