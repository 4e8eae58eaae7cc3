/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - private to runner/: a command that goes on in the background once it is ready.
 *
 * The process that was started waits until the one in the background says that it is ready, or says why not. That one has a session
 * of its own, no terminal, and / as its directory.
 */
#ifndef MLFS_DAEMON_H
#define MLFS_DAEMON_H

#include <signal.h>

#include "../index/index.h"

struct daemon {
	int report;	  /* to the process that waits; -1: in the foreground */
	sigset_t signals; /* those that daemon_signals takes */
};
/*
 * Before there are threads. foreground: this very process. Returns 0 in the process that is to do the work; 1 in the one that was
 * started, once that is ready, or has said (on standard error) why not: *ret_status is how to exit. Blocks SIGTERM, SIGINT and
 * SIGHUP, which are for daemon_signals.
 */
int daemon_begin(struct daemon *d, bool foreground, int *ret_status, struct err *e) must_check;
/* It is usable: who waits ends with 0, and systemd is told (sd_notify(3)). Standard input, output and error are /dev/null from then on, unless in the foreground. */
void daemon_ready(struct daemon *d);

/* What to do on a signal, by a thread of its own, one at a time. */
struct daemon_handlers {
	void (*stop)(void *arg, int times); /* SIGTERM, SIGINT; times: 1 for the first */
	void (*reload)(void *arg);	    /* SIGHUP; NULL: nothing */
	void *arg;
};
/* From now on; h is borrowed for good. */
int daemon_signals(const struct daemon *d, const struct daemon_handlers *h,
		   struct err *e) must_check;

#endif
