/* SPDX-License-Identifier: MIT */
/*
 * owner.c - what of a file's owner belongs to its state. Of files that belong to whoever runs the step it is nothing.
 *
 * Root may become anybody (su), and sees all owners (tar, git's check of who owns a repository): the ids themselves.
 * Anybody else sees of other people's files only what he may do with them. This is told from the ids and the mode alone, in
 * such a way that it comes out the same in a view, which shows owners otherwise (fs/ids.c): mlfs may run in mlfs.
 */
#include <pthread.h>
#include <unistd.h>

#include "index.h"

/* Ids of this process, which never changes them. */
static struct {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
} self;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void get_self(void)
{
	self.uid = geteuid();
	self.gid = getegid();
	self.n_groups = getgroups(0, NULL);
	if (self.n_groups > 0) {
		self.groups = xcalloc((size_t)self.n_groups, sizeof(gid_t));
		self.n_groups = getgroups(self.n_groups, self.groups);
	}
}

static bool in_groups(gid_t gid)
{
	for (int k = 0; k < self.n_groups; k++)
		if (self.groups[k] == gid)
			return true;
	return gid == self.gid;
}

void owner_put(mode_t mode, uid_t uid, gid_t gid, struct buf *out)
{
	bool member;

	(void)pthread_once(&once, get_self);
	if (self.uid == 0) {
		if (uid == 0 && gid == self.gid)
			return;
		buf_u8(out, 'O');
		buf_varint(out, uid);
		buf_varint(out, gid);
		return;
	}
	member = in_groups(gid);
	if (uid == self.uid || (mode & S_IWOTH) || ((mode & S_IWGRP) && member))
		return; /* a view shows what may be written as one's own */
	buf_u8(out, 'P');
	buf_u8(out, (uint8_t)(member ? mode >> 3 & 7 : mode & 7));
}
