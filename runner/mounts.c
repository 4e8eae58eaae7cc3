/* SPDX-License-Identifier: MIT */
/* mounts.c - what a step mounts; see mounts.h. */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../index/index.h"
#include "target.h"

#define MAX_VIEWS 32 /* of mlfs in mlfs at a time */
#define TEXT_SIZE 256

/*
 * The mount namespace of a view. Its number is given to another once nobody is in it, so it counts as long as the
 * command is: one that has gone into a namespace of its own has most likely left nobody behind.
 */
struct view {
	unsigned long ino;
	pid_t command;
	int pidfd;
	bool ready; /* an inner mlfs has ended its own mounting there */
};

struct mounts {
	struct view views[MAX_VIEWS]; /* the first: of the step itself */
	size_t n;
	char text[TEXT_SIZE + 160];
	_Atomic(const char *) spoiled; /* NULL, or text */
};

/* The number of a namespace from its link, "mnt:[4026531841]"; 0: it is none of that kind. */
static unsigned long ns_number(const char *path, const char *kind)
{
	char link[64];
	ssize_t n = readlink(path, link, sizeof(link) - 1);
	size_t k = strlen(kind);

	if (n < 0)
		return 0;
	link[n] = '\0';
	return strncmp(link, kind, k) == 0 ? strtoul(link + k, NULL, 10) : 0;
}

unsigned long mounts_namespace(pid_t pid)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	return ns_number(path, "mnt:[");
}

static void add_view(struct mounts *m, unsigned long ino, pid_t command)
{
	m->views[m->n++] = (struct view){
		.ino = ino,
		.command = command,
		.pidfd = (int)syscall(SYS_pidfd_open, command, 0),
	};
}

struct mounts *mounts_new(pid_t command, unsigned long view)
{
	struct mounts *m = xcalloc(1, sizeof(*m));

	add_view(m, view, command);
	m->views[0].ready = true;
	return m;
}

void mounts_free(struct mounts *m)
{
	for (size_t k = 0; m && k < m->n; k++)
		base_close(&m->views[k].pidfd);
	free(m);
}

/* ---- the caller ---- */

/* Without this capability (in its own user namespace) the call fails. What cannot be told counts as yes. */
static bool is_capable(pid_t tid, int cap)
{
	char path[48], text[4096], *p;
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	p = strstr(text, "\nCapEff:");
	return !p || (strtoull(p + 8, NULL, 16) >> cap & 1);
}

/* A string of the caller, for people and for comparing: cut at n. */
static void get_text(pid_t tid, uint64_t addr, char *out, size_t n)
{
	size_t k = 0;

	/* By the byte: what follows may not be there. */
	while (addr && k < n - 1 && target_read(tid, addr + k, out + k, 1) == 0 && out[k])
		k++;
	out[k] = '\0';
}

static bool is_alive(const struct view *v)
{
	struct pollfd p = {.fd = v->pidfd, .events = POLLIN};

	return v->pidfd >= 0 && poll(&p, 1, 0) == 0 && mounts_namespace(v->command) == v->ino;
}

static struct view *find_view(struct mounts *m, unsigned long ino)
{
	for (size_t k = 0; k < m->n; k++)
		if (m->views[k].ino == ino && is_alive(&m->views[k]))
			return &m->views[k];
	return NULL;
}

/* ---- rules ---- */

/* Does all that such a file system shows come from the step, from the kernel, or from what it stands in front of? */
static bool is_harmless(const char *type)
{
	static const char *const types[] = {"tmpfs",	  "ramfs",   "hugetlbfs", "mqueue",
					    "proc",	  "sysfs",   "devtmpfs",  "devpts",
					    "cgroup",	  "cgroup2", "overlay",	  "binfmt_misc",
					    "debugfs",	  "tracefs", "bpf",	  "configfs",
					    "securityfs", "fuse",    "fusectl",	  "rpc_pipefs"};

	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++)
		if (strcmp(type, types[k]) == 0)
			return true;
	return strncmp(type, "fuse.", 5) == 0;
}

static void spoil(struct mounts *m, const char *fmt, ...) printf_like(2, 3);
static void spoil(struct mounts *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->text, sizeof(m->text), fmt, ap);
	va_end(ap);
}

/* A new file system, or a change of those that are there. */
static void ask_mount(struct mounts *m, pid_t tid, const uint64_t *a, const struct view *view)
{
	char type[32], target[TEXT_SIZE];

	get_text(tid, a[1], target, sizeof(target));
	if (view) {
		spoil(m, "a mount on %s was made or changed, which ends with the step", target);
		return;
	}
	if (a[3] &
	    (MS_REMOUNT | MS_BIND | MS_MOVE | MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE))
		return;
	get_text(tid, a[2], type, sizeof(type));
	if (!is_harmless(type))
		spoil(m, "a file system was mounted that cannot be seen into (%s on %s)", type,
		      target);
}

/* Into another mount namespace, where all is there that the view leaves out? */
static void ask_setns(struct mounts *m, pid_t tid, const uint64_t *a)
{
	char path[64], link[64];
	unsigned long ino;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, (int)a[0]);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return; /* it fails */
	link[n] = '\0';
	ino = ns_number(path, "mnt:[");
	if (ino ? find_view(m, ino) != NULL : !strstr(link, "pidfd") || !(a[1] & CLONE_NEWNS))
		return;
	spoil(m, "another mount namespace was entered");
}

/* Forget the views that are gone. */
static bool make_room(struct mounts *m)
{
	size_t n = 1;

	for (size_t k = 1; k < m->n; k++)
		if (is_alive(&m->views[k]))
			m->views[n++] = m->views[k];
		else
			base_close(&m->views[k].pidfd);
	m->n = n;
	return n < MAX_VIEWS;
}

/* umount2(".", MNT_DETACH): see become_root in view.c. */
static bool is_last_change(const struct call *c)
{
	char path[4];

	get_text(c->tid, c->arg[0], path, sizeof(path));
	return c->arg[1] == MNT_DETACH && strcmp(path, ".") == 0;
}

/* The calls by which an inner mlfs makes its view are its own affair; what comes later in that namespace is not. The
 * last of them is umount2. True: the call is one of these. */
static bool is_view_making(struct mounts *m, const struct call *c, unsigned long ino)
{
	struct view *view = find_view(m, ino);
	char type[32];

	if (view && !view->ready) {
		view->ready = c->kind == CALL_MOUNT_CHANGE && is_last_change(c);
		return true;
	}
	if (c->kind != CALL_MOUNT || view || !make_room(m))
		return false;
	get_text(c->tid, c->arg[2], type, sizeof(type));
	if (strcmp(type, "fuse.mlfs") != 0)
		return false;
	add_view(m, ino, c->tid);
	return true;
}

static void judge(struct mounts *m, const struct call *c)
{
	unsigned long ino = mounts_namespace(c->tid);
	char type[32];

	if (is_view_making(m, c, ino))
		return;
	switch (c->kind) {
	case CALL_MOUNT:
		ask_mount(m, c->tid, c->arg, find_view(m, ino));
		break;
	case CALL_FSOPEN:
		get_text(c->tid, c->arg[0], type, sizeof(type));
		if (!is_harmless(type))
			spoil(m, "a file system was mounted that cannot be seen into (%s)", type);
		break;
	case CALL_SETNS:
		ask_setns(m, c->tid, c->arg);
		break;
	case CALL_HANDLE:
		spoil(m, "a file was opened by its handle");
		break;
	default: /* CALL_MOUNT_CHANGE */
		if (find_view(m, ino))
			spoil(m, "mounts of the view were changed, which ends with the step");
	}
}

void mounts_ask(struct mounts *m, const struct call *c, bool (*valid)(void *arg), void *arg)
{
	int needed = c->kind == CALL_HANDLE ? CAP_DAC_READ_SEARCH : CAP_SYS_ADMIN;

	if (atomic_load_explicit(&m->spoiled, memory_order_relaxed) || !is_capable(c->tid, needed))
		return;
	m->text[0] = '\0';
	judge(m, c);
	/* What was read belongs to the caller only if the caller is still waiting. */
	if (m->text[0] && valid(arg))
		atomic_store_explicit(&m->spoiled, m->text, memory_order_release);
}

const char *mounts_spoiled(struct mounts *m)
{
	return atomic_load_explicit(&m->spoiled, memory_order_acquire);
}
