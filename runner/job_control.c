/* SPDX-License-Identifier: MIT */
/* job_control.c - job control through the pseudo-terminal; see job_control.h. */
#include "job_control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "target.h"

/* Do process numbers mean to it what they mean here? */
static bool same_pid_namespace(pid_t tid)
{
	struct stat mine, its;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)tid);
	return stat("/proc/self/ns/pid", &mine) == 0 && stat(path, &its) == 0 &&
	       mine.st_dev == its.st_dev && mine.st_ino == its.st_ino;
}

/* The real terminal behind the caller's descriptor, or -1: it is none of ours, or not the caller's controlling one. */
static int real_of(const struct front *fronts, size_t n, const struct call *c)
{
	struct statx sx;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)c->tid, (int)c->arg[0]);
	/* No file server is to be asked: it may itself wait for an answer to a call. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &sx) <
		    0 ||
	    !S_ISCHR(sx.stx_mode))
		return -1;
	for (size_t k = 0; k < n; k++)
		if (fronts[k].dev == makedev(sx.stx_dev_major, sx.stx_dev_minor) &&
		    fronts[k].ino == sx.stx_ino)
			return tcgetsid(fronts[k].real) == getsid(c->tid) &&
					       same_pid_namespace(c->tid)
				       ? fronts[k].real
				       : -1;
	return -1;
}

/* A process in the background that would change the terminal is stopped, unless it has the signal blocked or ignored. It
 * does the call again when it goes on: here it is done the first time. */
static void stop_background(int real, pid_t tid)
{
	pid_t group = getpgid(tid);

	if (group > 0 && group != tcgetpgrp(real) && target_would_heed(tid, SIGTTOU))
		(void)kill(-group, SIGTTOU); /* it may be gone */
}

bool job_control_ask(const struct front *fronts, size_t n, const struct call *c, int *ret_error)
{
	int real = real_of(fronts, n, c), value, r = 0;

	if (real < 0)
		return false;
	*ret_error = 0;
	if ((uint32_t)c->arg[1] == TIOCSPGRP) {
		r = target_read(c->tid, c->arg[2], &value, sizeof(value));
		if (r == 0)
			stop_background(real, c->tid);
		/* This thread has SIGTTOU blocked. */
		if (r == 0 && tcsetpgrp(real, value) < 0)
			r = -errno;
	} else {
		value = (uint32_t)c->arg[1] == TIOCGSID ? tcgetsid(real) : tcgetpgrp(real);
		r = value < 0 ? -errno : target_write(c->tid, c->arg[2], &value, sizeof(value));
	}
	*ret_error = -r;
	return true;
}
