/* SPDX-License-Identifier: MIT */
/*
 * mounts.h - private to runner/: what a step mounts.
 *
 * Whatever is reached through the mount of the view is seen, wherever a step binds it. What a file system mounted by
 * the step shows besides must come from the step or the kernel: an empty one in memory, one that stands in
 * front of others, one that a process of the step serves. Anything else (a disk, another host) is not seen.
 *
 * A mount made in the view itself, and not in a mount namespace of the step's own, would stay when the step ends; in
 * the view it ends with it. That cannot be put in place by a hit either.
 */
#ifndef MLFS_MOUNTS_H
#define MLFS_MOUNTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "call.h"

struct mounts;
/* The number of a process' mount namespace; 0: it cannot be told. */
unsigned long mounts_namespace(pid_t pid);
/* command: the first process in the view; view: that one's mount namespace, for by now the process may be in another. */
struct mounts *mounts_new(pid_t command, unsigned long view);
void mounts_free(struct mounts *m);
/* The call is about to happen. Afterwards it is to be let happen. valid: is it still waiting for the answer? */
void mounts_ask(struct mounts *m, const struct call *c, bool (*valid)(void *arg), void *arg);
/* Why the result must not be stored, or NULL. Any thread; valid until freed. */
const char *mounts_spoiled(struct mounts *m);

#endif
