/* SPDX-License-Identifier: MIT */
/*
 * job_control.h - private to runner/: job control through the pseudo-terminal.
 *
 * The step's controlling terminal is the real one, but its stdout and stderr are a pseudo-terminal, of which the kernel says
 * that it controls nothing. bash, for one, takes stderr for the terminal whose foreground group it sets. So these calls
 * are answered here as the real terminal would.
 */
#ifndef MLFS_JOB_CONTROL_H
#define MLFS_JOB_CONTROL_H

#include <stdbool.h>
#include <sys/stat.h>

#include "call.h"

/* The terminals of a console. */
struct front {
	int real;  /* borrowed */
	dev_t dev; /* of the pseudo-terminal */
	ino_t ino;
};
/* ioctl(2) with TIOCGPGRP, TIOCSPGRP or TIOCGSID is about to happen. False: let it happen. True: it is done, *ret_error
 * (0 or positive) is its outcome. */
bool job_control_ask(const struct front *fronts, size_t n, const struct call *c, int *ret_error);

#endif
