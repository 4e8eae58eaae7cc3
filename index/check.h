/* SPDX-License-Identifier: MIT */
/*
 * check.h - private to index/: is data.mdb fit to be given to LMDB?
 *
 * LMDB maps the file and believes it: a truncated or overwritten one ends the process by SIGBUS or
 * SIGSEGV.
 */
#ifndef MLFS_INDEX_CHECK_H
#define MLFS_INDEX_CHECK_H

#include "index.h"

/*
 * 0: fit (or not made yet: *ret_bytes = 0). -EUCLEAN with the reason in e (no path, no remedy).
 * Always looks at the meta pages and the file's length; walks every tree only when the file was
 * changed by someone else than LMDB since check_stamp (its times or length moved, but the
 * transaction number did not). index_fd: the directory of data.mdb.
 */
int check_data(int index_fd, bool may_write, uint64_t *ret_bytes, struct err *e) must_check;
/* Remember that data.mdb is good as it stands, at this transaction number. Best effort. */
void check_stamp(int index_fd, uint64_t txnid);
/* The next who opens it is to walk every tree. Best effort; a signal handler may call it. */
void check_distrust(int index_fd);
/* Is the file that check_stamp writes whole (or not there)? */
bool check_stamp_whole(int dirfd_);
/* Is the last transaction one before that which the file of check_stamp knows? */
bool check_went_back(int index_fd, uint64_t *ret_was, uint64_t *ret_is);
/* Walk every tree. pages: told of each page that was read, so many in all; may be NULL. */
int check_walk(int data_fd, void (*pages)(void *arg, uint64_t done, uint64_t all), void *arg,
	       struct err *e) must_check;

#endif
