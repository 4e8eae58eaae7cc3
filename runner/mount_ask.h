/* SPDX-License-Identifier: MIT */
/* mount_ask.h - private to runner/: the mounts of mlfs that there are, and asking their servers, which may be gone or stuck. */
#ifndef MLFS_MOUNT_ASK_H
#define MLFS_MOUNT_ASK_H

#include "mountinfo.h"

#define MOUNT_TYPE "fuse.mlfs"

enum mount_state {
	MOUNT_SERVING,
	MOUNT_DEAD,    /* its server is gone */
	MOUNT_SILENT,  /* it does not answer */
	MOUNT_PRIVATE, /* it answers others only */
	MOUNT_VIEW     /* the view of a step */
};
struct mount_seen {
	char *mnt, *source;
	char *kind, *cache; /* "mount" or "browse"; NULL: not known */
	pid_t pid;	    /* 0: not known */
	bool read_only;
	enum mount_state state;
};
/* All of type fuse.mlfs in this mount namespace, views left out, in the order they were made in. Caller: mounts_seen_free. */
size_t mounts_seen(struct mount_seen **ret);
void mounts_seen_free(struct mount_seen *v, size_t n);
/* The one that is mounted on top at mnt. False: what is there is none of mlfs, or there is no mount. Caller: mount_seen_clear. */
bool mount_seen_at(const char *mnt, struct mount_seen *ret);
void mount_seen_clear(struct mount_seen *s);

/*
 * The answer (caller frees) of the server of the mount that path lies in. Waits two seconds at most, and is not stuck with a server that is.
 * 0; -ENODATA: it knows no such question, or serves no mount; -ENOTCONN: it is gone; -ETIMEDOUT; -EACCES.
 */
int mount_ask(const char *path, const char *question, char **ret) must_check;

/* MNT absolute and without links but for its last part, which may be a mount whose server is gone. Caller frees; NULL: errno. */
char *mount_place(const char *path);

#endif
