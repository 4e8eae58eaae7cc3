/* SPDX-License-Identifier: MIT */
/* ops_special.c - locks, notification, other users, several processes at once. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What another process gets: fn's errno, or 0. */
static void in_child(struct world *w, int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(w->log);
	pid = fork();
	if (pid < 0)
		stop("cannot fork");
	if (pid == 0)
		_exit(fn(arg) < 0 ? errno : 0);
	if (waitpid(pid, &status, 0) < 0)
		stop("cannot wait");
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	say(w, " child");
	result(w, errno ? -1 : 0);
}

struct flock_call {
	int fd, how;
};

static int flock_fn(void *arg)
{
	struct flock_call *c = arg;

	return flock(c->fd, c->how);
}

static void op_flock(struct world *w)
{
	static const int how[] = {LOCK_SH, LOCK_EX, LOCK_UN};
	struct flock_call c;
	int slot = pick_slot(w);

	c = (struct flock_call){w->fds[slot], pick_of(w, how) | LOCK_NB};
	say(w, " %d", c.how);
	if (chance(w, 20))
		in_child(w, flock_fn, &c);
	else
		result(w, flock_fn(&c));
}

struct lock_call {
	int fd, cmd;
	struct flock f;
};

static int lock_fn(void *arg)
{
	struct lock_call *c = arg;

	return fcntl(c->fd, c->cmd, &c->f);
}

static void op_lock(struct world *w)
{
	static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	static const int cmds[] = {F_SETLK, F_SETLK, F_OFD_SETLK, F_GETLK, F_OFD_GETLK};
	static const short whence[] = {SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END};
	int slot = pick_slot(w);
	struct lock_call c = {.fd = w->fds[slot], .cmd = pick_of(w, cmds)};

	c.f.l_type = pick_of(w, types);
	c.f.l_whence = pick_of(w, whence);
	c.f.l_start = rnd(w, 20);
	c.f.l_len = rnd(w, 20);
	say(w, " cmd %d type %d whence %d %lld+%lld", c.cmd, c.f.l_type, c.f.l_whence,
	    (long long)c.f.l_start, (long long)c.f.l_len);
	if (chance(w, 25)) {
		in_child(w, lock_fn, &c);
		return;
	}
	result(w, lock_fn(&c));
	if (c.cmd == F_GETLK || c.cmd == F_OFD_GETLK)
		say(w, " %d %lld+%lld pid %s", c.f.l_type, (long long)c.f.l_start,
		    (long long)c.f.l_len,
		    c.f.l_type == F_UNLCK   ? "-"
		    : c.f.l_pid == -1	    ? "-1"
		    : c.f.l_pid == getpid() ? "own"
					    : "another's");
}

static void op_become(struct world *w)
{
	static const uid_t ids[] = {0, 0, 1001, 1002};
	uid_t uid = pick_of(w, ids);

	say(w, " %u", uid);
	become(w, uid);
}

/* Lines that several processes append at once are all there, and whole. */
static void op_append(struct world *w)
{
	unsigned n = 2 + rnd(w, 3), lines = 20 + rnd(w, 50), count = 0, broken = 0;
	char *line, *save = NULL;
	ssize_t got;
	int fd, status;

	say(w, " %u x %u", n, lines);
	fd = open("appended", O_RDWR | O_CREAT | O_EXCL, 0600);
	if (result(w, fd < 0 ? -1 : 0) < 0)
		return;
	fflush(w->log);
	for (unsigned k = 0; k < n; k++) {
		if (fork() != 0)
			continue;
		fd = open("appended", O_WRONLY | O_APPEND);
		for (unsigned i = 0; i < lines; i++)
			if (dprintf(fd, "%u line %03u.\n", k, i) != 12)
				_exit(1);
		_exit(0);
	}
	while (wait(&status) > 0)
		broken += status != 0;
	got = pread(fd, w->buf, IO_MOST - 1, 0);
	w->buf[got > 0 ? got : 0] = '\0';
	for (line = strtok_r(w->buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		count++;
		broken += strlen(line) != 11 || line[10] != '.';
	}
	say(w, " %u lines, broken %u", count, broken);
	say_fd(w, fd);
	result(w, unlink("appended"));
	close(fd);
	if (w->inotify >= 0) /* equal events in succession become one, or not */
		while (read(w->inotify, w->buf, IO_MOST) > 0)
			;
}

/* Two mappings of one file in two processes, and its descriptor, are one. */
static void op_map_fork(struct world *w)
{
	int slot = pick_slot(w), status;
	unsigned at = rnd(w, 4096);
	struct stat st;
	char c = 0, *p;

	if (fstat(w->fds[slot], &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 4096) {
		say(w, " -");
		return;
	}
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w->fds[slot], 0);
	if (result(w, p == MAP_FAILED ? -1 : 0) < 0)
		return;
	fflush(w->log);
	if (fork() == 0) {
		p[at] = (char)w->op;
		_exit(0);
	}
	wait(&status);
	say(w, " %d", p[at] == (char)w->op);
	result(w, pread(w->fds[slot], &c, 1, at));
	say(w, " %d", c == (char)w->op);
	result(w, msync(p, 4096, MS_SYNC));
	munmap(p, 4096);
}

/* ---- inotify ---- */

static void op_watch(struct world *w)
{
	char path[PATH_MOST];
	const uint32_t mask = IN_ALL_EVENTS & ~(uint32_t)(IN_ACCESS | IN_OPEN | IN_CLOSE_NOWRITE);

	pick_path(w, path);
	if (w->inotify < 0)
		w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	result(w, inotify_add_watch(w->inotify, path, mask) < 0 ? -1 : 0);
}

static void op_events(struct world *w)
{
	ssize_t n;

	if (w->inotify < 0)
		return;
	n = read(w->inotify, w->buf, 60000);
	if (n < 0) {
		result(w, n);
		return;
	}
	for (char *p = w->buf; p < w->buf + n;) {
		const struct inotify_event *e = (const void *)p;

		const char *name = e->len ? e->name : "";

		/* What an unnamed file (O_TMPFILE) is called in events is the file system's affair. */
		say(w, " %d:%x:%.8s", e->wd, e->mask, *name == '#' || *name == '/' ? "#" : name);
		p += sizeof(*e) + e->len;
	}
}

/* ---- what else a descriptor can do ---- */

static void op_ioctl(struct world *w)
{
	int slot = pick_slot(w), n = -1;
	struct stat st;

	if (fstat(w->fds[slot], &st) < 0 || !S_ISREG(st.st_mode)) {
		say(w, " -");
		return;
	}
	result(w, ioctl(w->fds[slot], FIONREAD, &n));
	say(w, " %d", n);
	result(w, ioctl(w->fds[slot], 0x5401 /* TCGETS */, w->buf));
	result(w, isatty(w->fds[slot]));
}

const struct op special_ops[] = {
	{"flock", 6, op_flock},	  {"lock", 10, op_lock},       {"become", 6, op_become},
	{"append", 1, op_append}, {"mapfork", 3, op_map_fork}, {"watch", 3, op_watch},
	{"events", 8, op_events}, {"ioctl", 3, op_ioctl},      {0},
};
