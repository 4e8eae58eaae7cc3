/* SPDX-License-Identifier: MIT */
/* stepper.h - what the files of the stepper offer each other. See stepper.c. */
#ifndef STEPPER_H
#define STEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- stepper.c: what was seen so far ---- */

extern uint64_t seen;
extern char word[256];	/* ^: the first word of what was read last, if it can be a name */
extern char name[1024]; /* ~: one of the names listed last */
void see(const void *p, size_t n);
void see_number(long long v);

/* ---- notes.c: what a step did, for oracle.py ---- */

/* Words for the log (-t), one line each: WHAT INODE PATH.
 *   C  content was learned (of directories and links as well), or goes on as part of what is there
 *   D  the same, of a file whose name PATH is gone or whose bytes are
 *   T  truncated to nothing
 *   R  replaced or removed (who has it open may read on)
 *   N  made, or come to be at this path (INODE is 0)
 *   L  it mattered what is in this directory (INODE is 0)
 *   P  looked at (INODE is 0)
 */
void notes_open(const char *file);
void notes_close(void);
void note(char what, const struct stat *st, const char *path);
void note_path(char what, const char *path);	 /* of what stands there, a link itself */
void note_followed(char what, const char *path); /* of where it leads to */
void note_fd(char what, int fd);
void note_moved(const char *from, const char *to); /* C of all that has been moved there */
void note_name(char what, const char *path);	   /* N, L, P */
void note_names(const char *path);		   /* N and L of all below it */

/* ---- ops_*.c: the operations ---- */

#define MAX_WORDS 12
struct op {
	const char *name;
	/* -1 and errno where it fails. w[0] is the name, then come MAX_WORDS arguments, empty ones at the end. */
	int (*fn)(char **w);
};
extern const struct op ops_data[], ops_name[]; /* the last has no name */

#endif
