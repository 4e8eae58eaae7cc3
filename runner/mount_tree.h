/* SPDX-License-Identifier: MIT */
/*
 * mount_tree.h - private to mount_steps.c and share_*.c: the patterns of a mount, and the files of settings in its tree.
 *
 * A file holds for a user when only root, who mounted, or that user himself could have written it. Files are read again
 * when they have changed. Any thread.
 */
#ifndef MLFS_MOUNT_TREE_H
#define MLFS_MOUNT_TREE_H

#include "runner.h"

struct tree;
/* Which programs' results are for other users as well, who may give and who may have them: patterns, and lists of users as
 * share_names (share.h) has them. */
struct tree_share {
	struct strlist programs, not_programs, store, use;
};
/* root: a directory, O_PATH; the rest is borrowed for the call. */
int tree_new(int root, const struct strlist *steps, const struct strlist *not_steps,
	     const struct strlist *commands, const struct tree_share *share, struct tree **ret,
	     struct err *e) must_check;
void tree_free(struct tree *t);
/* Is the file a step, when this user executes it? path: from the root, as all here. */
bool tree_is_step(struct tree *t, const char *path, uid_t uid);
/*
 * Could a command line that is a step name it as its script? Then the patterns of such command lines are added to ret (copies). They are
 * those of the mount, and of the settings at the root of the tree: this is asked of every file that is opened.
 */
bool tree_may_be_commanded(struct tree *t, const char *path, uid_t uid, struct strlist *ret);
/* The files of settings that hold for it, the outermost first. */
void tree_files(struct tree *t, const char *path, uid_t uid, struct strlist *ret);
/* Is the program one that results are shared of? Of files of settings only those count that root, or who mounted, alone could
 * have written. who (copies are added; may be NULL): who may, of the nearest that says it. */
bool tree_shares(struct tree *t, const char *path, struct tree_share *who);
void tree_share_free(struct tree_share *s); /* what is in it */
/* Why files of settings do not hold: NULL-terminated, caller frees all; NULL: there are none. */
char **tree_ignored(struct tree *t);

#endif
