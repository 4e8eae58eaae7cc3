/* SPDX-License-Identifier: MIT */
/* mountinfo.h - private to runner/: the mounts of this process' namespace; proc_pid_mountinfo(5). */
#ifndef MLFS_MOUNTINFO_H
#define MLFS_MOUNTINFO_H

#include "../index/index.h"

struct mountinfo {
	int id, parent;
	char *path;    /* absolute, as seen from this process' root */
	char *type;    /* of its file system */
	char *source;  /* what is mounted, as the file system calls it */
	char *options; /* of the file system */
	/* MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_RDONLY of the mount itself */
	unsigned long flags;
};
struct mountinfos {
	struct mountinfo *v; /* in the order they were made in, mostly */
	size_t n;
};
/* What can be read of it; nothing without /proc. */
void mountinfo_read(struct mountinfos *ret);
/* May there be a mount of FUSE among them? False is sure, and a good deal quicker than reading them all (Linux 6.8). */
bool mountinfo_may_have_fuse(void);
void mountinfo_free(struct mountinfos *m);
#define auto_mountinfos __attribute__((cleanup(mountinfo_free)))

#endif
