/* SPDX-License-Identifier: MIT */
/* tell.h - private to runner/: results, states and outputs in words, for people and as JSON. */
#ifndef MLFS_TELL_H
#define MLFS_TELL_H

#include "decide.h"
#include "json.h"
#include "screen.h"
#include "words.h"

/* "file", "directory", … */
const char *type_word(char type);
/* "file, 2.1 MB, mode 0644", "nothing there"; appended, not ended by a NUL. */
void state_words(const struct state_parts *s, struct buf *out);
/* An object with what the state says. */
void state_json(struct json *j, const char *name, const struct state_parts *s);
/* What was observed: "content", "listing", …; appended, commas between them. */
void kinds_words(unsigned kinds, struct buf *out);
void kinds_json(struct json *j, const char *name, unsigned kinds);
/* What an output is, as state_words. */
void left_words(const struct left *l, struct buf *out);
void left_json(struct json *j, const struct left *l);
/* Members of the innermost object: of a result, of an output; and the member "stdin". */
void result_json(struct json *j, const struct result *r);
void output_json(struct json *j, const struct output *o);
void stdin_json(struct json *j, const struct result *r);
/* A command as one would type it. Caller frees. */
char *command_line(char *const *argv, size_t n);
/* Part of the machine rather than of somebody's work: below /usr, /lib, /etc and the like. */
bool is_system_path(const char *path);

/* What stands where an output of a recorded result was left. */
enum output_now { OUTPUT_SAME, OUTPUT_GONE, OUTPUT_CHANGED };
enum output_now output_now(struct look *l, const struct output *o);

/* The path set of a result, whose states it has. 1, 0: it is gone, -errno. */
int path_set_of(struct idx *x, const struct result *r, struct path_set *ret,
		struct err *e) must_check;
/* How the settings in mlfs.conf would have a result of this name used: its expire_after. 0, -EINVAL (said). */
int settings_of(const struct query *q, const struct result *r, struct exec_opts *ret) must_check;

#endif
