/* SPDX-License-Identifier: MIT */
/* commands.c - the commands, and the tables of their options. */
#include "commands.h"

const struct command commands[] = {
	{"exec", cmd_exec, "run a command, or put in place what it left before"},
	{"log", cmd_log, "the latest runs"},
	{"show", cmd_show, "show one result"},
	{"explain", cmd_explain, "would this be a hit now, and why not"},
	{"lineage", cmd_lineage, "which steps made a file, and from what"},
	{"stats", cmd_stats, "what the cache saved"},
	{"mount", cmd_mount, "a directory at another place, in which steps are cached"},
	{"umount", cmd_umount, "take such a mount away"},
	{"materialize", cmd_materialize, "make outputs real that are served from the cache"},
	{"status", cmd_status, "what a mount is doing"},
	{"gc", cmd_gc, "shrink the cache to its limits"},
	{"forget", cmd_forget, "drop results"},
	{"fsck", cmd_fsck, "check every record and object of the cache"},
	{"doctor", cmd_doctor, "can this machine, user and directory run mlfs"},
	{"completion", cmd_completion, "completion for bash, zsh or fish"},
};
const size_t n_commands = sizeof(commands) / sizeof(*commands);

const struct word_table *const word_tables[] = {
	&log_words,   &stats_words, &fsck_words,   &doctor_words,	&completion_words,
	&show_words,  &gc_words,    &forget_words, &explain_words,	&lineage_words,
	&mount_words, &tree_words,  &umount_words, &mount_status_words, &materialize_words,
};
const size_t n_word_tables = sizeof(word_tables) / sizeof(*word_tables);
