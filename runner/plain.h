/* SPDX-License-Identifier: MIT */
/* plain.h - private to runner/: running the command as if mlfs were not there. */
#ifndef MLFS_PLAIN_H
#define MLFS_PLAIN_H

#include <signal.h>

#include "runner.h"

struct mounteds;
struct plain {
	char *const *argv;
	sigset_t mask;			/* that the command is to have */
	const struct mounteds *mounted; /* where the command would be a step; or NULL */
	/* The lookup may have taken bytes that the command is to have first; or NULL. */
	struct stdin_src *in;
	/* The same, taken by another process: the end of a pipe, closed by plain_run. -1, NULL: it has not. */
	int *fed;
};
/* The command takes the place of this process. When it cannot: said, and the exit status. */
int plain_exec(const struct plain *p);
/* As a child, because something is to be done meanwhile or after it: its exit status, 128+N for signal N. */
int plain_run(const struct plain *p);
/* Stand for a child towards whoever started this process: signals are passed on (those of the terminal reach it by themselves),
 * it stops when that stops. The exit status. */
int plain_wait(pid_t child, const sigset_t *mask);
/*
 * Where one process has looked at stdin and another runs the command: a third one, which goes on until that has run, fills a pipe for it;
 * `in` belongs to it from then on. hand: a SOCK_SEQPACKET to whoever runs it; spare: to be closed in that process.
 */
int plain_hand(struct stdin_src *in, int hand, int spare, struct err *e) must_check;
/* At the other end of hand: the end of the pipe (-1: none came); and the command has run, what it has left is to go back. */
int plain_take(int hand);
void plain_handed(int hand);
/* 127 or 126, with the message, when a command could not be executed. */
int plain_cannot_run(const char *name, int code);

#endif
