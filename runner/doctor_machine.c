/* SPDX-License-Identifier: MIT */
/* doctor_machine.c - what the machine and its administrator allow: kernel, libraries, /proc, limits. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../fs/fs.h"
#include "doctor.h"

#define FILES_WANTED 10240 /* TABLE_SIZE in supervisor.c */

/* ---- findings ---- */

void doctor_add(struct doctor *d, enum finding_status status, const char *check, char *found,
		char *mend)
{
	d->v = xrealloc(d->v, (d->n + 1) * sizeof(*d->v));
	d->v[d->n++] = (struct finding){check, status, found, mend};
}

void doctor_add_err(struct doctor *d, enum finding_status status, const char *check,
		    const char *message, const char *mend)
{
	const char *open = strstr(message, " ("), *close = strrchr(message, ')');

	if (!open || !close || close < open)
		doctor_add(d, status, check, xstrdup(message), mend ? xstrdup(mend) : NULL);
	else
		doctor_add(d, status, check,
			   xasprintf("%.*s%s", (int)(open - message), message, close + 1),
			   xstrndup(open + 2, (size_t)(close - open - 2)));
}

bool doctor_is_bad(const struct doctor *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->v[i].status == FINDING_BAD)
			return true;
	return false;
}

/* ---- a process of its own ---- */

static void read_all(int fd, unsigned seconds, struct buf *ret)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t end = mono_ns() + (int64_t)seconds * 1000000000;
	char text[1024];
	ssize_t n = 1;

	while (n > 0 && ret->len < 16384) {
		int64_t left = (end - mono_ns()) / 1000000;

		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			return;
		n = read(fd, text, sizeof(text));
		if (n > 0)
			buf_add(ret, text, (size_t)n);
		if (n < 0 && errno == EINTR)
			n = 1;
	}
}

int doctor_try(int (*fn)(void *arg, int out), void (*meanwhile)(void *arg, pid_t child), void *arg,
	       unsigned seconds, char **ret)
{
	struct buf b = {0};
	int p[2], status;
	pid_t child;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	(void)fflush(stdout); /* nothing is in it yet; what is, is written once */
	child = fork();
	if (child == 0) {
		close(p[0]);
		_exit(fn(arg, p[1]));
	}
	close(p[1]);
	if (child < 0) {
		close(p[0]);
		return -EAGAIN;
	}
	if (meanwhile)
		meanwhile(arg, child);
	read_all(p[0], seconds, &b);
	close(p[0]);
	buf_u8(&b, 0);
	*ret = (char *)b.data;
	for (int64_t end = mono_ns() + (int64_t)seconds * 1000000000;;) {
		pid_t got = waitpid(child, &status, mono_ns() > end ? 0 : WNOHANG);

		if (got == child)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		if (mono_ns() > end)
			(void)kill(child, SIGKILL);
		else
			(void)poll(NULL, 0, 1);
	}
}

/* ---- kernel, libraries, /proc ---- */

static bool knows(long call)
{
	return call >= 0 || errno != ENOSYS;
}

void doctor_kernel(struct doctor *d)
{
	struct utsname u;
	auto_free char *name = NULL;

	if (uname(&u) < 0) {
		doctor_add(d, FINDING_BAD, "kernel", xstrdup("no name"), NULL);
		return;
	}
	name = xasprintf("%s %s %s", u.sysname, u.release, u.machine);
	if (!knows(syscall(SYS_pidfd_getfd, -1, -1, 0)))
		doctor_add(d, FINDING_BAD, "kernel", xasprintf("%s: pidfd_getfd is missing", name),
			   xstrdup("a kernel of 5.10 or newer"));
	else if (!d->inside && !knows(syscall(SYS_mount_setattr, -1, "", 0, NULL, 0)))
		doctor_add(d, FINDING_NOTE, "kernel",
			   xasprintf("%s: flags of mounts (nosuid, noexec) do not hold for steps",
				     name),
			   xstrdup("a kernel of 5.12 or newer"));
	else
		doctor_add(d, FINDING_OK, "kernel", take(name), NULL);
}

void doctor_libfuse(struct doctor *d)
{
	const char *version = fs_library_version();
	int major = 0, minor = 0;

	if (sscanf(version, "%d.%d", &major, &minor) != 2 || major != 3 || minor < 14)
		doctor_add(d, FINDING_BAD, "libfuse", xasprintf("libfuse %s is too old", version),
			   xstrdup("libfuse 3.14 or newer"));
	else
		doctor_add(d, FINDING_OK, "libfuse", xasprintf("libfuse %s", version), NULL);
}

void doctor_proc(struct doctor *d)
{
	if (access("/proc/self/fd", R_OK | X_OK) == 0)
		doctor_add(d, FINDING_OK, "proc", xstrdup("/proc is mounted"), NULL);
	else
		doctor_add(d, FINDING_NOTE, "proc",
			   xstrdup("there is no /proc: descriptors and processes cannot be seen"),
			   xstrdup("as root: mount -t proc proc /proc"));
}

/* ---- limits ---- */

static void look_at_files(struct doctor *d)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_max < FILES_WANTED)
		doctor_add(
			d, FINDING_NOTE, "limits",
			xasprintf(
				"at most %llu open files: large steps are slower, and mapped files that "
				"somebody replaces may be lost to them",
				(unsigned long long)l.rlim_max),
			xasprintf(
				"as root: prlimit --pid $$ --nofile=%d; of a service: LimitNOFILE=%d",
				FILES_WANTED, FILES_WANTED));
	else
		doctor_add(d, FINDING_OK, "limits",
			   xasprintf("%llu open files", (unsigned long long)l.rlim_max), NULL);
	if (getrlimit(RLIMIT_FSIZE, &l) == 0 && l.rlim_cur != RLIM_INFINITY)
		doctor_add(
			d, FINDING_NOTE, "limits",
			xasprintf(
				"no file may be longer than %llu bytes: the cache's index grows beyond "
				"that",
				(unsigned long long)l.rlim_cur),
			xstrdup("ulimit -f unlimited"));
}

/* Files that are too fresh are watched while a step runs. */
static void look_at_inotify(struct doctor *d)
{
	auto_close int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, "/", IN_ATTRIB) < 0)
		doctor_add(
			d, FINDING_NOTE, "limits",
			xasprintf(
				"cannot watch files (%s): results of steps that read fresh files are "
				"not stored",
				strerror(errno)),
			xstrdup("as root: sysctl fs.inotify.max_user_instances=1024 "
				"fs.inotify.max_user_watches=1048576"));
}

void doctor_limits(struct doctor *d)
{
	look_at_files(d);
	look_at_inotify(d);
}
