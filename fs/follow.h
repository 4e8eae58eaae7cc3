/* SPDX-License-Identifier: MIT */
/*
 * follow.h - private to fs/: large files are copied into the store while the step still writes them.
 *
 * A file that is written from its start on without going back (a model, a data set, an archive) is
 * followed: another thread copies and hashes what is there, somewhat behind the step. A write, or a truncation, below what
 * the thread has been given ends that, and the file is stored as a whole at the end, as every other.
 */
#ifndef MLFS_FOLLOW_H
#define MLFS_FOLLOW_H

#include "../index/index.h"

struct follower;
struct inode;

/* From this size on. */
#define FOLLOW_MIN (8u << 20)
/* struct inode's `written`, when it has been written elsewhere than at its end: it is not followed again. */
#define NOT_IN_ROW UINT64_MAX

/* idx: borrowed, may be NULL. The thread is started with the first file. */
struct follower *follower_new(struct idx *idx);
void follower_free(struct follower *f);

/* These are for the server's thread. */

/* All of i before i->written has been written. fd: it, open for reading; borrowed. */
void follow_written(struct follower *f, const struct inode *i, int fd);
/* Before a byte at or after `off` of that changes. True: i is not followed any more. */
bool follow_rewritten(struct follower *f, const struct inode *i, uint64_t off);

/* After the server's thread has ended: see fs_followed in fs.h. */
int follow_finish(struct follower *f, const struct stat *st, struct oid *ret_oid, struct fp *ret_fp,
		  uint64_t *ret_size);

#endif
