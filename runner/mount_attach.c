/* SPDX-License-Identifier: MIT */
/* mount_attach.c - the mount itself: by mount(2) as root, by fusermount3 as an ordinary user. */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mountinfo.h"
#include "view.h"

/* ---- the tree that is shown ---- */

/* Mounts of its own, which nobody sees: what is mounted in SRC later, this mount itself for one, is no part of it. */
static int clone_tree(const char *src)
{
	struct mount_attr private = {.propagation = MS_PRIVATE};
	auto_close int fd = (int)syscall(SYS_open_tree, AT_FDCWD, src,
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0)
		return -errno;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &private,
		    sizeof(private)) < 0)
		return -errno;
	return take_fd(&fd);
}

int mount_source(const struct mount_opts *o, struct err *e)
{
	auto_close int fd = open(o->src, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int clone = view_kind() == VIEW_ROOT ? clone_tree(o->src) : -EPERM;

	if (fd < 0) {
		if (clone >= 0)
			close(clone);
		return err_set(e, errno, "cannot open %s", o->src);
	}
	if (clone >= 0)
		return clone;
	if (access(o->src, R_OK | X_OK) < 0) /* nobody could even look at the mount */
		return err_set(e, errno, "cannot look into %s", o->src);
	/* The mount would show itself. (Over the whole of SRC it does not: what is open is below it.) */
	if (path_is_in(o->mnt, o->src) && (strcmp(o->mnt, o->src) != 0 || !o->src[1]))
		return err_text(e, EINVAL,
				"cannot mount on %s: it lies in %s, and only root can mount there",
				o->mnt, o->src);
	return take_fd(&fd);
}

/* ---- root ---- */

/* Nothing becomes possible in the mount that SRC, or what is mounted in it, forbids. (That a file system further down must not be executed
 * from the server looks at itself.) */
static unsigned long inherited_flags(const struct mount_opts *o, int source)
{
	auto_mountinfos struct mountinfos all = {0};
	unsigned long flags = 0;
	struct statvfs sv;

	if (fstatvfs(source, &sv) == 0)
		flags |= (sv.f_flag & ST_RDONLY ? MS_RDONLY : 0) |
			 (sv.f_flag & ST_NOSUID ? MS_NOSUID : 0) |
			 (sv.f_flag & ST_NODEV ? MS_NODEV : 0) |
			 (sv.f_flag & ST_NOEXEC ? MS_NOEXEC : 0);
	mountinfo_read(&all);
	for (size_t k = 0; k < all.n; k++)
		if (path_is_in(all.v[k].path, o->src))
			flags |= all.v[k].flags & (MS_NOSUID | MS_NODEV);
	return flags;
}

static unsigned long own_flags(const struct mount_opts *o)
{
	return (o->ro ? MS_RDONLY : 0) | (o->noexec ? MS_NOEXEC : 0) | (o->nosuid ? MS_NOSUID : 0) |
	       (o->nodev ? MS_NODEV : 0) | (o->noatime ? MS_NOATIME : 0);
}

static int attach_as_root(const struct mount_opts *o, int source, struct err *e)
{
	auto_close int fd = view_open_fuse(e);
	unsigned long flags = own_flags(o);
	char data[160];

	if (fd < 0)
		return fd;
	/* Others may look into the cache only when that is asked for. */
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s", fd, geteuid(),
		 getegid(), !o->browse || o->allow_other ? ",allow_other,default_permissions" : "");
	if (!o->browse)
		flags |= inherited_flags(o, source);
	if (mount(o->src, o->mnt, "fuse.mlfs", flags, data) < 0)
		return err_set(e, errno, "cannot mount on %s", o->mnt);
	return take_fd(&fd);
}

/* ---- an ordinary user ---- */

/* libfuse's protocol: fusermount3 sends the descriptor through the socket that _FUSE_COMMFD names. What it says goes to `said`. */
static void run_fusermount(int sock, int said, char *const *argv) __attribute__((noreturn));
static void run_fusermount(int sock, int said, char *const *argv)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", sock);
	if ((sock >= 0 && (setenv("_FUSE_COMMFD", number, 1) < 0 || fcntl(sock, F_SETFD, 0) < 0)) ||
	    dup2(said, STDERR_FILENO) < 0)
		_exit(EXIT_CANNOT_RUN);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "%s\n", strerror(errno));
	_exit(EXIT_NOT_FOUND);
}

/* The last line of what it said, without its name. */
static int fusermount_failed(int said, const char *what, const char *mnt, struct err *e)
{
	char text[512], *line;
	ssize_t n = read_full(said, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	line = strstr(text, ": ");
	line = strncmp(text, "fusermount", 10) == 0 && line ? line + 2 : text;
	return err_text(e, EPERM, "cannot %s %s: fusermount3: %s%s", what, mnt,
			*line ? line : "failed",
			/* Some containers have none. */
			strstr(line, "/etc/mtab") && access("/etc/mtab", F_OK) < 0
				? " (as root: ln -s ../proc/self/mounts /etc/mtab)"
				: "");
}

/* *ret_fd: the mount's descriptor; NULL: it gives none. */
static int fusermount(char *const *argv, const char *what, const char *mnt, int *ret_fd,
		      struct err *e)
{
	auto_close int sock = -1, theirs = -1, said = -1, say = -1;
	struct message m = {.fd = -1};
	int pair[2], status, got = 1;
	struct err ignored;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, errno, "cannot make a socket pair");
	sock = pair[0];
	theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe");
	said = pair[0];
	say = pair[1];
	child = fork();
	if (child < 0)
		return err_set(e, errno, "cannot fork");
	if (child == 0)
		run_fusermount(theirs, say, argv);
	base_close(&theirs);
	base_close(&say);
	if (ret_fd)
		got = message_recv(sock, &m, &ignored); /* what it said tells more */
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (got <= 0 || !WIFEXITED(status) || WEXITSTATUS(status) || (ret_fd && m.fd < 0)) {
		base_close(&m.fd);
		return fusermount_failed(said, what, mnt, e);
	}
	if (ret_fd)
		*ret_fd = m.fd;
	return 0;
}

/* In fusermount's list of options a comma or a backslash is written with a backslash before it. */
static char *escaped(const char *text)
{
	char *s = xmalloc(2 * strlen(text) + 1), *p = s;

	for (; *text; *p++ = *text++)
		if (*text == ',' || *text == '\\')
			*p++ = '\\';
	*p = '\0';
	return s;
}

static int attach_as_user(const struct mount_opts *o, struct err *e)
{
	auto_free char *src = escaped(o->src);
	auto_free char *options =
		xasprintf("fsname=%s,subtype=mlfs%s%s%s%s%s", src,
			  !o->browse || o->allow_other ? ",default_permissions" : "",
			  o->allow_other ? ",allow_other" : "", o->ro ? ",ro" : "",
			  o->noexec ? ",noexec" : "", o->noatime ? ",noatime" : "");
	char *const argv[] = {"fusermount3", "-o", options, "--", o->mnt, NULL};
	int fd, r = fusermount(argv, "mount on", o->mnt, &fd, e);

	return r < 0 ? r : fd;
}

int mount_attach(const struct mount_opts *o, int source, struct err *e)
{
	return view_kind() == VIEW_ROOT ? attach_as_root(o, source, e) : attach_as_user(o, e);
}

int mount_detach(const char *mnt, bool lazy, struct err *e)
{
	char *const argv[] = {"fusermount3", "-u", lazy ? "-qz" : "-q", "--", (char *)mnt, NULL};

	if (view_kind() != VIEW_ROOT)
		return fusermount(argv, "unmount", mnt, NULL, e);
	return umount2(mnt, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0
		       ? err_set(e, errno, "cannot unmount %s", mnt)
		       : 0;
}

void mount_stop(const char *mnt)
{
	struct err e = {0};

	if (mount_detach(mnt, false, &e) < 0 && mount_detach(mnt, true, &e) < 0)
		log_debug("%s", e.msg); /* it is gone already */
}
