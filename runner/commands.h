/* SPDX-License-Identifier: MIT */
/* commands.h - private to main.c and commands.c: what there is. */
#ifndef MLFS_COMMANDS_H
#define MLFS_COMMANDS_H

#include "words.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};
/* In the order of the help. */
extern const struct command commands[];
extern const size_t n_commands;

/* The words of each command but exec: in its cmd_*.c. tree_words: of files of settings in a mounted tree. */
extern const struct word_table completion_words, log_words, doctor_words, fsck_words, show_words,
	stats_words, gc_words, forget_words, explain_words, lineage_words, mount_words, tree_words,
	umount_words, mount_status_words, materialize_words;

#endif
