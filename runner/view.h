/* SPDX-License-Identifier: MIT */
/* view.h - private to runner/: making the view a step runs in. */
#ifndef MLFS_VIEW_H
#define MLFS_VIEW_H

#include "../index/index.h"

/* How a view can be made here. */
enum view_kind {
	VIEW_ROOT, /* CAP_SYS_ADMIN: a mount namespace; ids exact */
	VIEW_USER, /* a user namespace that maps one's own id, and a mount namespace */
};
enum view_kind view_kind(void);
/* How many user ids exist in this process' user namespace: 2^32 - 1 in the initial one, 1 after `unshare -U`. */
uint64_t view_user_ids(void);
#define VIEW_ALL_IDS UINT32_MAX
/* Does the kernel apply ACLs in a view made here? */
bool view_has_acls(void);

/*
 * view_flags.c: what is mounted with other flags (nosuid, nodev, noexec, read-only) than the file system it lies in is so in the
 * view at mountpoint as well, by a bind mount of its own. Not: what lies in `native` (NULL-terminated), and file systems of
 * other hosts and processes, since looking at them may take for ever. Linux 5.12; -ENOSYS before. base: flags that all mounts of the view have.
 */
int view_take_flags(const char *mountpoint, const char *const *native, unsigned long base,
		    struct err *e) must_check;

/* Absolute directories that the view shows natively, not through the mount; NULL-terminated. */
const char *const *view_native(void);

struct view {
	enum view_kind kind;
	const char *mountpoint;	 /* a directory of the cache */
	const char *cache;	 /* bound natively */
	const char *other_cache; /* the same, or NULL */
	char *const *
		marked; /* places in native trees of which touch.h is to be asked; NULL-terminated */
	const char *cwd;
};
/*
 * In the step's process: enter new namespaces, mount, send the /dev/fuse descriptor through `sock` (SCM_RIGHTS;
 * the receiver must serve at once, what follows waits for it), bind the native trees, make the mount the root,
 * go to the working directory. Errors name the cause and the remedy.
 */
int view_enter(const struct view *v, int sock, struct err *e) must_check;

/* The first parts of it, for who only wants to know whether they can be done: new namespaces for this process; /dev/fuse opened
 * (the descriptor); and mounted at v->mountpoint (nobody serves it: looking into it waits for ever). */
int view_unshare(enum view_kind kind, struct err *e) must_check;
int view_open_fuse(struct err *e) must_check;
int view_mount_fuse(const struct view *v, int *ret_fd, struct err *e) must_check;

/* Messages over a SOCK_SEQPACKET: a tag, a text (cut at 511 bytes), and a descriptor (-1: none). */
struct message {
	char tag;
	char text[512];
	int fd;
};
int message_send(int sock, char tag, const char *text, int fd, struct err *e) must_check;
/* 1: one came, 0: end of file. m->fd belongs to the caller. */
int message_recv(int sock, struct message *m, struct err *e) must_check;

#endif
