/* SPDX-License-Identifier: MIT */
/*
 * mount_lazy.h - private to runner/: outputs of hits in a persistent mount that are not real yet; see "Lazy outputs" in
 * docs/design.md.
 */
#ifndef MLFS_MOUNT_LAZY_H
#define MLFS_MOUNT_LAZY_H

#include "../fs/fs.h"

struct mount_lazy_options {
	int root;	 /* the tree; borrowed for the call */
	const char *src; /* its name */
	const char *
		cache; /* of this user; or, with of_each, of all, below CACHE_USERS. NULL: the cache is not known */
	bool of_each;
};
struct mount_lazy;
struct mount_lazy *mount_lazy_new(const struct mount_lazy_options *o);
void mount_lazy_free(struct mount_lazy *m); /* NULL is fine */

/* A callback of struct fs_mount_options; arg is the struct mount_lazy. */
int mount_lazy_cache(void *arg, uid_t owner);

/* To MOUNT_ASK_LAZY (mounted.h): "CACHE\nSRC", where this user's placeholders may be; NULL: none may. Caller frees. */
char *mount_lazy_answer(const struct mount_lazy *m, uid_t uid);
/* What is not real yet, as far as it is where it was put. */
uint64_t mount_lazy_bytes(const struct mount_lazy *m, size_t *ret_files);
/* To MOUNT_ASK_SETTLE: another thread makes them real. "GOES_ON BYTES FILES": is it still doing so, and what is not real yet. NULL: not for
 * this user. Asked again when it is done, it says so once; then it begins anew. Caller frees. */
char *mount_lazy_settling(struct mount_lazy *m, uid_t uid);
/* The mount is gone, or about to: all are made real. */
void mount_lazy_settle(struct mount_lazy *m);

#endif
