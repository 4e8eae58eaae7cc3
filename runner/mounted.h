/* SPDX-License-Identifier: MIT */
/*
 * mounted.h - private to runner/: what a step has to do with the persistent mounts (`mlfs mount`) of this machine.
 *
 * A step's view shows what lies in a persistent mount, and shall not go through that: two file servers would stand one behind
 * the other, and files would have other devices with every mount. So a step that may meet one is run apart: by a
 * process in a mount namespace of its own, in which the mounted directory itself lies where the mount is. As an
 * ordinary user that takes a user namespace as well, where programs run plainly would lack rights; so the first process stays
 * where it is, and it runs the command when that is to be run plainly.
 */
#ifndef MLFS_MOUNTED_H
#define MLFS_MOUNTED_H

#include "runner.h"

/* Questions to the server of a persistent mount: extended attributes of any of its files. */
#define MOUNT_ASK_FACTS "user.mlfs.mount" /* see mounted.c */
#define MOUNT_ASK_STEP \
	"user.mlfs.step" /* of a program: how the caller is to run it; see struct step_words */
#define MOUNT_ASK_REAL \
	"user.mlfs.real" /* the next program that this thread executes is meant itself */
#define MOUNT_ASK_REAL \
	"user.mlfs.real" /* this process is to read scripts as they are, also after an exec */
#define MOUNT_ASK_LAZY	  "user.mlfs.lazy"    /* see mount_lazy_answer */
#define MOUNT_ASK_REFRESH "user.mlfs.refresh" /* what lies below was changed past the mount */
/* And how the step of the calling process ended goes behind this: "hit 5.3" (seconds saved), "miss 0", "uncached 0". */
#define MOUNT_TELL_DONE	  "user.mlfs.done:"
/* The end of it, where a hit was by a result of another user. */
#define MOUNT_TOLD_SHARED " shared"

struct mounted {
	char *path;	     /* where it is mounted */
	char *source;	     /* the directory that it shows */
	unsigned long flags; /* MS_RDONLY and so on, of the mount */
	dev_t dev;	     /* of the directory */
	ino_t ino;
	int dir; /* since mounted_enter: the mount's root, O_PATH, which reaches it also where something lies over it; -1 */
};
struct mounteds {
	struct mounted *v; /* in the order they were made in */
	size_t n;
};
/* Those that this process sees and that answer. */
void mounted_find(struct mounteds *ret);
void mounted_free(struct mounteds *m);
#define auto_mounteds __attribute__((cleanup(mounted_free)))

/* Have this process, which has one thread, and its children see the directories themselves in their places. */
int mounted_enter(struct mounteds *m, struct err *e) must_check;
/* Just before the exec of a command that is to run plainly: an interpreter is to get its script. */
void mounted_real(const struct mounteds *m);
/* A step is over: everybody is to see what it left at once. told: for MOUNT_TELL_DONE. */
void mounted_done(const struct mounteds *m, const char *told);

/*
 * ---- a program that was executed in a mount: the kernel runs `mlfs --mounted FILE ARGS…` in its place ----
 */

/* The answer to MOUNT_ASK_STEP: lines, each a letter and a text. */
#define STEP_SETTING 's' /* "name=value", as in mlfs.conf */
#define STEP_FILE    'f' /* settings, if nobody but those who may say so could have written them */
#define STEP_OWNER   'o' /* the user who mounted: its files of settings hold as well */
#define STEP_SHARE   'h' /* the socket where results of others are to be had (share.h) */
#define STEP_PROGRAM 'p' /* with it: what the program is called there, its path in the mount */

/* argv[0] is "--mounted". The exit status. */
int cmd_mounted(int argc, char **argv);
/* The same for an interpreter whose command line is a step's: argv is "--mounted-command", its script, its command line. */
int cmd_mounted_command(int argc, char **argv);

#endif
