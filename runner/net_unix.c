/* SPDX-License-Identifier: MIT */
/*
 * net_unix.c - Unix sockets with a name: whose is it?
 *
 * One made in the view under a path that goes through the mount can be reached by nobody but the step, and by no
 * other name. What lies under /run and /dev, and abstract names, are shared with the whole machine.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "target.h"

/* Nothing comes from them but what the user database holds, or nothing at all. Documented in mlfs-exec(1). */
static const char *const harmless[] = {
	"/run/nscd/socket",
	"/run/systemd/userdb/*",
	"/run/systemd/journal/dev-log",
	"/run/systemd/journal/socket",
	"/run/systemd/journal/stdout",
	"/dev/log",
	NULL,
};

static bool is_harmless(const char *path)
{
	for (const char *const *p = harmless; *p; p++)
		if (fnmatch(*p, path, 0) == 0)
			return true;
	return false;
}

static void note_unless_known(const struct ask *a, int64_t owner, const char *name)
{
	if (owner == 0)
		return; /* nobody is there: the call fails */
	if (net_knows(a->n, owner))
		net_touch(a->n);
	else
		net_note(a, "unix socket used: %s", name);
}

static void use_abstract(const struct ask *a, const struct target_socket *s,
			 const struct address *to)
{
	size_t n = to->len - offsetof(struct sockaddr_un, sun_path);
	char name[sizeof(to->un.sun_path) + 1];

	if (!net_is_here(a, s))
		return;
	for (size_t k = 0; k < n; k++)
		name[k] = to->un.sun_path[k] >= ' ' ? to->un.sun_path[k] : '@';
	name[n] = '\0';
	note_unless_known(a, peer_find_abstract(a->n->peer, to), name);
}

/* As the caller would find it: its own root, and links seen from there. A descriptor, or -errno. */
static int open_as(pid_t tid, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	char link[64], dir[PATH_MAX];
	auto_close int root = -1;
	auto_free char *whole = NULL;
	ssize_t n = 0;
	long fd;

	snprintf(link, sizeof(link), "/proc/%d/root", (int)tid);
	root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	if (path[0] != '/') {
		snprintf(link, sizeof(link), "/proc/%d/cwd", (int)tid);
		n = readlink(link, dir, sizeof(dir));
		if (n < 0 || n == sizeof(dir))
			return n < 0 ? -errno : -ENAMETOOLONG;
	}
	whole = xasprintf("%.*s/%s", (int)n, dir, path);
	fd = syscall(SYS_openat2, root, whole, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

static bool is_in_view(const struct net *n, dev_t dev)
{
	dev_t view;

	return n->command && target_device(n->command, -1, &view) == 0 && view == dev;
}

static void use_path(const struct ask *a, const struct address *to)
{
	size_t n = to->len - offsetof(struct sockaddr_un, sun_path);
	auto_free char *path = xstrndup(to->un.sun_path, n);
	auto_close int fd = open_as(a->c->tid, path);
	char link[64], name[PATH_MAX];
	struct stat st;
	ssize_t len;

	switch (fd) {
	case -ENOENT:
	case -ENOTDIR:
	case -EACCES:
	case -ELOOP:
	case -ENAMETOOLONG:
		return; /* the caller will be told so, too */
	}
	if (fd < 0 || fstat(fd, &st) < 0) {
		net_note(a, "unix socket used: %s", path);
		return;
	}
	if (!S_ISSOCK(st.st_mode) || is_in_view(a->n, st.st_dev))
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, name, sizeof(name) - 1);
	name[len > 0 ? len : 0] = '\0';
	if (is_harmless(name))
		return;
	note_unless_known(a, peer_find_bound(a->n->peer, st.st_dev, st.st_ino), path);
}

void net_unix(const struct ask *a, const struct target_socket *s, const struct address *to)
{
	if (to->len <= offsetof(struct sockaddr_un, sun_path) || to->len > sizeof(to->un))
		return; /* no name, or the call fails */
	if (to->un.sun_path[0])
		use_path(a, to);
	else
		use_abstract(a, s, to);
}
