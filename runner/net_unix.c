/* SPDX-License-Identifier: MIT */
/*
 * net_unix.c - Unix sockets with a name: whose is it?
 *
 * One made in the view under a path that goes through the mount can be reached by nobody but the step, and by no
 * other name. What lies under /run and /dev, and abstract names, are shared with the whole machine.
 *
 * A socket that was made outside is, in the view, a file without a socket behind it: the kernel would refuse to connect
 * to it. So the supervisor connects the caller's socket to the real one.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "target.h"
#include "view.h"

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

/* What /proc/TID/NAME points to; 0 or -errno. */
static int read_link(pid_t tid, const char *name, char *out, size_t n)
{
	char link[64];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%d/%s", (int)tid, name);
	len = readlink(link, out, n);
	if (len < 0 || (size_t)len == n)
		return len < 0 ? -errno : -ENAMETOOLONG;
	out[len] = '\0';
	return 0;
}

/*
 * The real file that the caller names. A path is the same inside the view and outside, and outside is where it is
 * looked for: FUSE lets nobody in who is not of the view's user namespace. A descriptor, or -errno.
 */
static int open_as(pid_t tid, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	char root[PATH_MAX], cwd[PATH_MAX] = "";
	auto_close int dir = -1;
	auto_free char *whole = NULL;
	int r = read_link(tid, "root", root, sizeof(root));
	size_t n = strlen(root);
	long fd;

	if (r == 0 && path[0] != '/')
		r = read_link(tid, "cwd", cwd, sizeof(cwd));
	if (r < 0)
		return r;
	dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	/* In a chroot the working directory is told from its outside. */
	whole = xasprintf("%s/%s", n > 1 && strncmp(cwd, root, n) == 0 ? cwd + n : cwd, path);
	fd = syscall(SYS_openat2, dir, whole, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* Does the path go through the view's mount? The caller may have mounted something else there: then it is not
 * known. */
static bool is_in_view(const struct net *n, const char *path)
{
	size_t len;

	for (const char *const *p = view_native(); *p; p++) {
		len = strlen(*p);
		if (strncmp(path, *p, len) == 0 && (path[len] == '/' || !path[len]))
			return false;
	}
	return n->command != 0;
}

static bool same_mounts(pid_t a, pid_t b)
{
	char first[64], second[64];

	return read_link(a, "ns/mnt", first, sizeof(first)) == 0 &&
	       read_link(b, "ns/mnt", second, sizeof(second)) == 0 && strcmp(first, second) == 0;
}

/* Whoever is connected to is told who connects: it must be the same user. */
static bool is_same_user(pid_t tid)
{
	char path[64];
	auto_free char *text = NULL;
	unsigned real, effective, saved, files;
	const char *line;
	struct err e = {0};
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	if (read_file(path, &text, &n, &e) < 0)
		return false;
	line = strstr(text, "\nUid:");
	if (!line || sscanf(line + 5, "%u %u %u %u", &real, &effective, &saved, &files) != 4 ||
	    real != getuid() || effective != geteuid() || files != geteuid())
		return false;
	line = strstr(text, "\nGid:");
	return line && sscanf(line + 5, "%u %u", &real, &effective) == 2 && real == getgid() &&
	       effective == getegid();
}

/* Without waiting: a server whose queue is full would hold up every call of the step. */
static int connect_now(int fd, const struct sockaddr_un *to)
{
	int mode = fcntl(fd, F_GETFL), r;

	if (!(mode & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, mode | O_NONBLOCK);
	r = connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? errno : 0;
	if (!(mode & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, mode);
	return r;
}

/* The caller's socket is about to be changed: it must be the caller who asked. */
static bool is_asking(const struct ask *a)
{
	return ioctl(a->n->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &a->req->id) == 0;
}

/* In the view: fd is the real file, whose name is `name`. */
static void use_in_view(const struct ask *a, const struct target_socket *s, int fd,
			const struct stat *st, const char *name)
{
	struct sockaddr_un real = {.sun_family = AF_UNIX};
	int64_t owner = peer_find_bound(a->n->peer, st->st_dev, st->st_ino);

	if (owner <= 0 || net_knows(a->n, owner))
		return; /* made in the view, or nobody is behind it */
	if (a->c->kind != CALL_CONNECT || !is_same_user(a->c->tid) ||
	    !same_mounts(a->c->tid, a->n->command) || !is_asking(a))
		return; /* refused by the kernel */
	snprintf(real.sun_path, sizeof(real.sun_path), "/proc/self/fd/%d", fd);
	a->n->error = connect_now(s->fd, &real);
	a->n->done = true;
	if (!a->n->error && !is_harmless(name))
		net_note(a, "unix socket used: %s", name);
}

static void use_path(const struct ask *a, const struct target_socket *s, const struct address *to)
{
	size_t n = to->len - offsetof(struct sockaddr_un, sun_path);
	auto_free char *path = xstrndup(to->un.sun_path, n);
	auto_close int fd = open_as(a->c->tid, path);
	char name[PATH_MAX], link[32];
	struct stat st;

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
	if (!S_ISSOCK(st.st_mode))
		return;
	snprintf(link, sizeof(link), "fd/%d", fd);
	if (read_link(getpid(), link, name, sizeof(name)) < 0)
		name[0] = '\0';
	if (is_in_view(a->n, name))
		use_in_view(a, s, fd, &st, name);
	else if (!is_harmless(name))
		note_unless_known(a, peer_find_bound(a->n->peer, st.st_dev, st.st_ino), path);
}

void net_unix(const struct ask *a, const struct target_socket *s, const struct address *to)
{
	if (to->len <= offsetof(struct sockaddr_un, sun_path) || to->len > sizeof(to->un))
		return; /* no name, or the call fails */
	if (to->un.sun_path[0])
		use_path(a, s, to);
	else
		use_abstract(a, s, to);
}
