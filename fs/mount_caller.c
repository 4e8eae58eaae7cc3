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

bool caller_in_group(fuse_req_t req, gid_t gid)
{
	gid_t list[256];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, sizeof(list) / sizeof(*list), list);
	for (int k = 0; k < n && k < (int)(sizeof(list) / sizeof(*list)); k++)
		if (list[k] == gid)
			return true;
	return false;
}

bool caller_capable(const struct fuse_ctx *c, int cap)
{
	unsigned long long set = 0;
	auto_fclose FILE *f = NULL;
	char path[40], line[128];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)c->pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "CapEff: %llx", &set) == 1;
	return found ? set >> cap & 1 : c->uid == 0;
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
	if ((st.st_mode & S_IXGRP) || !caller_in_group(req, st.st_gid))
		gone |= st.st_mode & S_ISGID;
	if (gone && chmod(path.s, st.st_mode & 07777 & ~gone) < 0)
		log_debug("cannot drop set-id bits: %s", strerror(errno));
}
