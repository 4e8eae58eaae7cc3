/* SPDX-License-Identifier: MIT */
/*
 * mount_command.h - private to mount_steps.c: steps that are told by their command line, as "python3 train.py*".
 *
 * Their interpreter lies outside of the mount, which sees it only when it opens its script. Then it is given another script in its
 * own language: one that executes mlfs with the command line that the process has.
 */
#ifndef MLFS_MOUNT_COMMAND_H
#define MLFS_MOUNT_COMMAND_H

#include "runner.h"

/* Could a command of these patterns be about this file? Quick, for every file that is opened. */
bool command_may_name(const struct strlist *patterns, const char *path);
/*
 * Is the process' command line one of these? Then what it is to be given for its script (malloc'ed), which executes
 * `mlfs --mounted-command FILE ARGV…`; else NULL, as for interpreters whose language is not known.
 */
char *command_script(const struct strlist *patterns, pid_t pid, const char *mlfs, const char *file);
/* When the process began, in clock ticks since boot: it stays the same over exec. 0: it is gone. */
uint64_t process_start(pid_t pid);

#endif
