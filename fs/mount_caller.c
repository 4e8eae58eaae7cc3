/* SPDX-License-Identifier: MIT */
/* mount_caller.c - what a request is done as, and what its caller may. */
#include "mount.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void caller_init(struct fs_mount *m)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};

	m->uid = geteuid();
	m->gid = getegid();
	if (syscall(SYS_capget, &h, m->caps) < 0)
		log_debug("cannot read this process' capabilities: %s", strerror(errno));
}

/* The rights stay the server's own: what the caller may was decided by the kernel. */
void as_caller(struct worker *w, const struct fuse_ctx *c)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};

	if (c->umask != w->umask) {
		w->umask = c->umask;
		umask(w->umask); /* this thread's own; see worker_init */
	}
	if (c->uid == w->m->uid && c->gid == w->m->gid)
		return;
	/* setfsuid(2) says nothing of failure; it has none for who may set ids. */
	(void)setfsgid(c->gid);
	(void)setfsuid(c->uid);
	if (syscall(SYS_capset, &h, w->m->caps) < 0)
		log_debug("cannot keep the rights to files: %s", strerror(errno));
	w->assumed = true;
}

void own_rights(struct worker *w)
{
	if (!w->assumed)
		return;
	(void)setfsuid(w->m->uid); /* brings the rights to files back with it */
	(void)setfsgid(w->m->gid);
	w->assumed = false;
}

/* setattr_should_drop_suidgid in the kernel. */
void kill_suid(fuse_req_t req, int fd)
{
	struct proc_path path = proc_path(fd);
	struct stat st;
	mode_t gone;

	if (fstat(fd, &st) < 0 || !(st.st_mode & (S_ISUID | S_ISGID)))
		return;
	gone = st.st_mode & S_ISUID;
	if ((st.st_mode & S_IXGRP) || !wire_in_group(req, st.st_gid))
		gone |= st.st_mode & S_ISGID;
	if (gone && chmod(path.s, st.st_mode & 07777 & ~gone) < 0)
		log_debug("cannot drop set-id bits: %s", strerror(errno));
}
