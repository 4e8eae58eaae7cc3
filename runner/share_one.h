/* SPDX-License-Identifier: MIT */
/* share_one.h - private to share_serve.c and share_one.c: one who asks the server of a shared cache. */
#ifndef MLFS_SHARE_ONE_H
#define MLFS_SHARE_ONE_H

#include "share.h"

struct tree;
struct share_one {
	char *dir;	   /* of the shared cache */
	struct tree *tree; /* the rules */
};
/* In a process of its own. */
void share_one(const struct share_one *base, int sock);

/* share_check.c: results that one who asks might use. */
struct share_found {
	struct result *r;
	struct path_set set;
	struct share_note note;
};
struct share_peer {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
};
/*
 * By a process that is that user: the first whose inputs are there and whose outputs he could have made and may see; -1: none. home: where
 * he says that his home is, or NULL. Not for long.
 */
int share_check(const struct share_found *v, size_t n, const struct share_peer *who,
		const char *home);

#endif
