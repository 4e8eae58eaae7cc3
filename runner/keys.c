/* SPDX-License-Identifier: MIT */
/* keys.c - keys for who reads the pseudo-terminal; see keys.h. */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stream.h"
#include "target.h"

/* Whoever reads the real terminal is given so long to do it; then longer and longer. */
#define FIRST_MS 10
#define LAST_MS	 250
#define MAX_POLL 64

void keys_init(struct keys *k, int real, int master, int slave)
{
	char path[32];

	*k = (struct keys){.real = real, .master = master, .fd = -1};
	snprintf(path, sizeof(path), "/proc/self/fd/%d", real);
	if (fstat(real, &k->real_st) == 0 && fstat(slave, &k->slave_st) == 0)
		k->fd = stream_above_std(open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

void keys_free(struct keys *k)
{
	base_close(&k->fd);
}

short keys_events(const struct keys *k)
{
	return k->fd >= 0 && !k->next_ns ? POLLIN : 0;
}

int keys_timeout(const struct keys *k)
{
	int64_t left = k->next_ns - mono_ns();

	if (!k->next_ns)
		return -1;
	return left > 0 ? (int)(left / 1000000) + 1 : 0;
}

/* ---- who waits? ---- */

enum file { OTHER, SLAVE, REAL };

static enum file file_of(const struct keys *k, pid_t tid, int fd)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, fd);
	if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
		return OTHER;
	if (st.st_dev == k->slave_st.st_dev && st.st_ino == k->slave_st.st_ino)
		return SLAVE;
	return st.st_rdev == k->real_st.st_rdev ? REAL : OTHER;
}

/* One more descriptor that is waited for: with the real terminal among them the keys reach the process anyhow. */
static void add(const struct keys *k, pid_t tid, int fd, enum file *found)
{
	enum file f = *found == REAL ? OTHER : file_of(k, tid, fd);

	if (f != OTHER)
		*found = f;
}

static enum file in_poll(const struct keys *k, pid_t tid, uint64_t addr, uint64_t n)
{
	struct pollfd p[MAX_POLL];
	enum file found = OTHER;

	if (n > MAX_POLL || target_read(tid, addr, p, n * sizeof(*p)) < 0)
		return OTHER;
	for (uint64_t i = 0; i < n; i++)
		if (p[i].fd >= 0 && (p[i].events & POLLIN))
			add(k, tid, p[i].fd, &found);
	return found;
}

static enum file in_select(const struct keys *k, pid_t tid, uint64_t n, uint64_t addr)
{
	enum file found = OTHER;
	fd_set set;

	FD_ZERO(&set);
	if (!addr || n > FD_SETSIZE || target_read(tid, addr, &set, (n + 63) / 64 * 8) < 0)
		return OTHER;
	for (int fd = 0; fd < (int)n; fd++)
		if (FD_ISSET(fd, &set))
			add(k, tid, fd, &found);
	return found;
}

static enum file in_epoll(const struct keys *k, pid_t tid, int epfd)
{
	enum file found = OTHER;
	auto_fclose FILE *f = NULL;
	auto_free char *line = NULL;
	char path[48];
	size_t cap = 0;
	unsigned events;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)tid, epfd);
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0)
		if (sscanf(line, "tfd: %d events: %x", &fd, &events) == 2 && (events & POLLIN))
			add(k, tid, fd, &found);
	return found;
}

/* Which of the two does this thread wait to read? */
static enum file waits_for(const struct keys *k, pid_t tid)
{
	unsigned long long a[4];
	char path[48], text[256];
	auto_close int fd = -1;
	enum file found = OTHER;
	ssize_t n;
	int nr;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%d %llx %llx %llx %llx", &nr, &a[0], &a[1], &a[2], &a[3]) != 5)
		return OTHER; /* it runs */
	switch (nr) {
	case __NR_read:
	case __NR_readv:
		add(k, tid, (int)a[0], &found);
		return found;
#ifdef __NR_poll
	case __NR_poll:
#endif
	case __NR_ppoll:
		return in_poll(k, tid, a[0], a[1]);
#ifdef __NR_select
	case __NR_select:
#endif
	case __NR_pselect6:
		return in_select(k, tid, a[0], a[1]);
#ifdef __NR_epoll_wait
	case __NR_epoll_wait:
#endif
	case __NR_epoll_pwait:
		return in_epoll(k, tid, (int)a[0]);
	}
	return OTHER;
}

static enum file process_waits_for(const struct keys *k, pid_t pid)
{
	char path[48];
	enum file found = OTHER, f;
	pid_t tid;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (found != REAL && (tid = target_next(d)) >= 0)
		if ((f = waits_for(k, tid)) != OTHER)
			found = f;
	if (d)
		closedir(d);
	return found;
}

/* Does a process of the group (0: of any) wait to read the pseudo-terminal, and none the real one? */
static bool somebody_waits(const struct keys *k, pid_t group)
{
	enum file found = OTHER, f;
	DIR *d = opendir("/proc");
	pid_t pid;

	while (found != REAL && (pid = target_next(d)) >= 0) {
		if (pid == getpid() || (group && getpgid(pid) != group))
			continue;
		f = process_waits_for(k, pid);
		if (f != OTHER)
			found = f;
	}
	if (d)
		closedir(d);
	return found == SLAVE;
}

/* ---- handing on ---- */

/* Only its foreground may read a terminal: this process joins that for an instant. */
static void hand_on(struct keys *k, pid_t group)
{
	bool joined = group > 0 && setpgid(0, group) == 0;
	char buf[1024];
	ssize_t n = read(k->fd, buf, sizeof(buf));

	if (joined && setpgid(0, 0) < 0)
		log_debug("cannot go back to a process group of its own: %s", strerror(errno));
	if (n <= 0)
		return;
	k->used = true;
	if (stream_write(k->master, buf, (size_t)n) < 0)
		log_debug("keys are lost: %s", strerror(errno));
}

void keys_turn(struct keys *k, short revents)
{
	int64_t now = mono_ns();
	pid_t group;

	if (k->fd < 0)
		return;
	if (!k->next_ns) {
		k->wait_ms = FIRST_MS;
		k->next_ns = revents & POLLIN ? now + FIRST_MS * INT64_C(1000000) : 0;
		return;
	}
	if (now < k->next_ns)
		return;
	k->next_ns = 0;
	if (!(stream_ready(k->real, POLLIN) & POLLIN))
		return; /* somebody took it */
	group = tcgetpgrp(k->real);
	if (somebody_waits(k, group > 0 ? group : 0)) {
		hand_on(k, group);
		return;
	}
	k->wait_ms = k->wait_ms < LAST_MS ? 2 * k->wait_ms : LAST_MS;
	k->next_ns = now + k->wait_ms * INT64_C(1000000);
}
