/* SPDX-License-Identifier: MIT */
/* touch.c - did the step use one of its mounts at all? See touch.h. */
#include "touch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_namespace(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

void touch_open(pid_t pid, bool own_user, struct touch *ret)
{
	ret->mounts = open_namespace(pid, "mnt");
	ret->user = own_user ? open_namespace(pid, "user") : -1;
}

void touch_close(struct touch *t)
{
	base_close(&t->mounts);
	base_close(&t->user);
}

static void *close_both(void *arg)
{
	struct touch *t = arg;

	touch_close(t);
	free(t);
	return NULL;
}

void touch_leave(struct touch *t)
{
	struct touch *last = xmalloc(sizeof(*last));
	pthread_t thread;

	*last = *t;
	*t = (struct touch){-1, -1};
	if (pthread_create(&thread, NULL, close_both, last) == 0)
		(void)pthread_detach(thread); /* cannot fail: it was just made so */
	else
		(void)close_both(last);
}

/* Only a process with one thread may enter a user namespace, and only one with a directory of its own another's mounts. */
static void look(const struct touch *t, const char *path) __attribute__((noreturn));
static void look(const struct touch *t, const char *path)
{
	if (t->user >= 0 && setns(t->user, CLONE_NEWUSER) < 0)
		_exit(1);
	_exit(setns(t->mounts, CLONE_NEWNS) < 0 || umount2(path, MNT_EXPIRE) < 0);
}

bool touch_was_used(const struct touch *t, const char *path)
{
	int status = -1;
	pid_t pid;

	if (t->mounts < 0)
		return true;
	/* Not fork: it would copy the page tables of all that was recorded, and have each page fault when it is written to next.
	 * The child shares the memory, and changes nothing in it but errno. */
	pid = vfork();
	if (pid == 0)
		look(t, path);
	if (pid < 0)
		return true;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
