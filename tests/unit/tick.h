/* SPDX-License-Identifier: MIT */
/*
 * tick.h - a file system whose clock ticks with jiffies, on every kernel: ramfs, in a mount namespace of this
 * process. (Since Linux 6.13 ext4, tmpfs and others give a file that was looked at a time of its own.) There two
 * writes one after the other leave the same times.
 */
#ifndef MLFS_TEST_TICK_H
#define MLFS_TEST_TICK_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index.h"

static int tick_put(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

/* A new file system that only this process sees. Before any thread is started. Returns the directory, or NULL with errno. */
static char *private_mount(const char *type)
{
	auto_free char *uid_map = xasprintf("%d %d 1", (int)geteuid(), (int)geteuid());
	auto_free char *gid_map = xasprintf("%d %d 1", (int)getegid(), (int)getegid());
	bool root = geteuid() == 0;
	char *dir = xstrdup("/tmp/mlfs-tick.XXXXXX");

	if (!mkdtemp(dir) || unshare(CLONE_NEWNS | (root ? 0 : CLONE_NEWUSER)) < 0)
		return NULL;
	if (!root && (tick_put("/proc/self/setgroups", "deny") < 0 ||
		      tick_put("/proc/self/uid_map", uid_map) < 0 ||
		      tick_put("/proc/self/gid_map", gid_map) < 0))
		return NULL;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, type, 0, "mode=0755") < 0)
		return NULL;
	return dir;
}

__attribute__((unused)) static char *tick_mount(void)
{
	return private_mount("ramfs");
}

static void tick_unmount(char *dir)
{
	if (umount2(dir, MNT_DETACH) == 0)
		(void)rmdir(dir); /* what stays is in /tmp */
	free(dir);
}

/* Write over the beginning of the file, which keeps its length. */
__attribute__((unused)) static int tick_poke(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text) ? 0 : -1;
}

__attribute__((unused)) static bool tick_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

#endif
