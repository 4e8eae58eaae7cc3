/* SPDX-License-Identifier: MIT */
/*
 * ipc.h - private to runner/: System V shared memory, semaphores and message queues, and POSIX message queues.
 *
 * Between processes of the step they are as good as memory. One that was there before, or of somebody else, is
 * noted, and one that the step leaves behind as well: a hit would not make it.
 */
#ifndef MLFS_IPC_H
#define MLFS_IPC_H

#include "call.h"

struct ipc;
struct ipc *ipc_new(void);
void ipc_free(struct ipc *i);
/* A call that was caught, before it happens. */
void ipc_ask(struct ipc *i, const struct call *c);
/* The step is gone: why its result must not be stored, or NULL. Valid until freed. */
const char *ipc_spoiled(struct ipc *i);

/* While it runs, any thread: was any of it used? Or NULL. */
const char *ipc_touched(struct ipc *i);

#endif
