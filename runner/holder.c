/* SPDX-License-Identifier: MIT */
/* holder.c - which process has a lock; see holder.h. */
#include "holder.h"

#include <string.h>
#include <sys/stat.h>

#include "target.h"

#define FIRST_PID_NS 0xEFFFFFFCu /* PROC_PID_INIT_INO of include/linux/proc_ns.h */

bool holder_all_listed(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == FIRST_PID_NS;
}

/* Of the descriptors of one process. */
static enum hold find_in(pid_t pid, dev_t dev, ino_t ino, struct holder *h)
{
	char path[64];
	enum hold hold = HOLD_NONE;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	d = opendir(path);
	if (!d)
		return HOLD_NONE; /* it is gone, or is another user's, who has nothing open in a view */
	for (int fd; !hold && (fd = target_next(d)) >= 0;) {
		hold = target_flock(pid, fd, dev, ino);
		if (hold)
			*h = (struct holder){.pid = pid, .fd = fd};
	}
	closedir(d);
	return hold;
}

static enum hold find(dev_t dev, ino_t ino, struct holder *h)
{
	DIR *d = opendir("/proc");
	enum hold hold = HOLD_NONE;

	for (pid_t pid; !hold && (pid = target_next(d)) >= 0;)
		hold = find_in(pid, dev, ino, h);
	if (d)
		closedir(d);
	return hold;
}

enum hold holder_find(dev_t dev, ino_t ino, struct holder *h)
{
	enum hold hold = h->pid ? target_flock(h->pid, h->fd, dev, ino) : HOLD_NONE;

	/* Twice: meanwhile a process may have had a child and closed its own, both behind the reader's back. */
	for (int pass = 0; pass < 2 && !hold; pass++)
		hold = find(dev, ino, h);
	return hold;
}
