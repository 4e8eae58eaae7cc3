/* SPDX-License-Identifier: MIT */
/* mount.h - private to runner/: what a persistent mount is told on its command line. */
#ifndef MLFS_RUNNER_MOUNT_H
#define MLFS_RUNNER_MOUNT_H

#include "../fs/fs.h"
#include "mount_tree.h"
#include "words.h"

struct mount_opts {
	struct query q;	 /* --cache as given, -v, …; q.args: SRC MNT */
	char *src, *mnt; /* absolute, without links */
	bool foreground;
	bool browse;  /* the cache as a tree, in place of SRC; src is its directory then */
	bool no_lazy; /* hits make real files */
	bool list;    /* only say which mounts there are */
	bool allow_other, ro, noexec, nosuid, nodev, noatime;
	struct strlist generic;	  /* -o, as given */
	struct strlist steps;	  /* --step, -o step=A:B: patterns, relative to SRC */
	struct strlist not_steps; /* --no-step */
	struct strlist commands;  /* --step-command */
	struct strlist settings;  /* "name=value", as in mlfs.conf, of all steps */
	struct tree_share share;  /* --share, --no-share, --share-store, --share-use */
};

/* `-o` options, a comma between them, into o. 0, or -EINVAL: *ret_why (caller frees) says what is wrong. */
int mount_generic(struct mount_opts *o, const char *text, char **ret_why) must_check;

/*
 * mount_attach.c: the tree to show: SRC as it is now, with all that is mounted in it, whatever is mounted over it or in it later (root), or
 * SRC itself. A descriptor.
 */
int mount_source(const struct mount_opts *o, struct err *e) must_check;
/* Mount the file server at o->mnt: the descriptor to serve. As an ordinary user by fusermount3. browse: there is no source (-1). */
int mount_attach(const struct mount_opts *o, int source, struct err *e) must_check;
/* o->mnt of mnt; one whose server is gone is cleared away. */
int mount_find(struct mount_opts *o, const char *mnt, struct err *e) must_check;
/* cmd_browse.c: `mlfs mount --browse MNT`, `mlfs mount --list`; the exit status. */
int mount_browse(struct mount_opts *o);
int mount_list(const struct query *q);
/* Take it away: as umount(8); lazy: at once, whoever uses it goes on until he is done. */
int mount_detach(const char *mnt, bool lazy, struct err *e) must_check;
/* The same for its own server: lazily when it is used. That ends when nobody is in it any more. */
void mount_stop(const char *mnt);
/* cmd_mount.c: serve o->mnt as o says, in the background or not; r: how what came before it ended, e why it failed. The exit status. */
struct daemon;
int mount_in_background(struct mount_opts *o, int r, struct err *e,
			int (*serve_mount)(struct mount_opts *o, struct daemon *d, struct err *e));

/* mount_reach.c: the path at which steps find SRC, also when the mount lies over it. Caller frees; then mount_unreach. */
int mount_reach(const struct mount_opts *o, char **ret_path, struct err *e) must_check;
void mount_unreach(const char *mnt);

#endif
