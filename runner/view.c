/* SPDX-License-Identifier: MIT */
/* view.c - the namespaces a step runs in; see view.h. */
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../fs/fs.h"

/* Bytes of one READ at most; see raise_read_ahead. */
#define READ_MOST (256u << 10)

enum view_kind view_kind(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {0};

	if (geteuid() == 0 && syscall(SYS_capget, &h, d) == 0 &&
	    (d[CAP_SYS_ADMIN / 32].effective & (1u << (CAP_SYS_ADMIN % 32))))
		return VIEW_ROOT;
	return VIEW_USER;
}

uint64_t view_user_ids(void)
{
	auto_fclose FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long n, all = 0;

	while (f && fscanf(f, "%*u %*u %llu", &n) == 1)
		all += n;
	return f ? all : VIEW_ALL_IDS; /* a kernel without user namespaces, or no /proc */
}

bool view_has_acls(void)
{
	return view_kind() == VIEW_ROOT && view_user_ids() == VIEW_ALL_IDS;
}

const char *const *view_native(void)
{
	static const char *const native[] = {"/proc", "/sys", "/dev", "/run", NULL};

	return native;
}

int message_send(int sock, char tag, const char *text, int fd, struct err *e)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v[2] = {{&tag, 1}, {(void *)(text ? text : ""), text ? strlen(text) : 0}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	struct cmsghdr *c;

	if (v[1].iov_len > 511)
		v[1].iov_len = 511;
	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? err_set(e, errno, "cannot send a message") : 0;
}

int message_recv(int sock, struct message *msg, struct err *e)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v[2] = {{&msg->tag, 1}, {msg->text, sizeof(msg->text) - 1}};
	struct msghdr m = {.msg_iov = v,
			   .msg_iovlen = 2,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == ECONNRESET)
		n = 0;
	if (n < 0)
		return err_set(e, errno, "cannot receive a message");
	msg->text[n > 0 ? n - 1 : 0] = '\0';
	msg->fd = -1;
	c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&msg->fd, CMSG_DATA(c), sizeof(int));
	return n > 0;
}

static int write_text(const char *path, const char *text, struct err *e)
{
	auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return err_set(e, errno, "cannot open %s", path);
	n = write_all(fd, text, strlen(text));
	return n < 0 ? err_set(e, (int)-n, "cannot write %s", path) : 0;
}

static int new_user_namespace(struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];
	int r;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return err_set(
			e, errno,
			"cannot make a user namespace (an administrator can allow it: sysctl "
			"kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
			"kernel.apparmor_restrict_unprivileged_userns=0)");
	/* Without a setgroups file (before Linux 3.19) there is nothing to deny. */
	r = write_text("/proc/self/setgroups", "deny", e);
	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
	r = write_text("/proc/self/uid_map", map, e);
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
	return write_text("/proc/self/gid_map", map, e);
}

int view_open_fuse(struct err *e)
{
	auto_close int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return err_set(e, errno,
			       "cannot open /dev/fuse (as root: modprobe fuse; in a container: "
			       "pass --device /dev/fuse)");
	if (fd < 0)
		return err_set(e, errno, "cannot open /dev/fuse (as root: chmod 666 /dev/fuse)");
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(10, 229))
		return err_text(
			e, ENXIO,
			"/dev/fuse is not the FUSE device (as root: rm /dev/fuse; mknod -m 666 "
			"/dev/fuse c 10 229; in a container: pass --device /dev/fuse)");
	return take_fd(&fd);
}

int view_mount_fuse(const struct view *v, int *ret_fd, struct err *e)
{
	auto_close int fd = view_open_fuse(e);
	unsigned long flags = v->kind == VIEW_ROOT ? 0 : MS_NOSUID | MS_NODEV;
	char data[192];

	if (fd < 0)
		return fd;
	snprintf(
		data, sizeof(data),
		"fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions,max_read=%u",
		fd, geteuid(), getegid(), READ_MOST);
	if (mount("mlfs", v->mountpoint, "fuse.mlfs", flags, data) < 0)
		return err_set(e, errno, "cannot mount on %s", v->mountpoint);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* See FS_ROOT. */
static int show_root(const struct view *v, struct err *e)
{
	auto_free char *root = xasprintf("%s/" FS_ROOT, v->mountpoint);

	return mount(root, v->mountpoint, NULL, MS_BIND, NULL) < 0
		       ? err_set(e, errno, "cannot bind the view over its mount")
		       : 0;
}

/* Bind a directory at its own place below the mount point. One that is not there is passed over. */
static int bind_native(const struct view *v, const char *dir, unsigned long recursive,
		       struct err *e)
{
	auto_free char *to = xasprintf("%s%s", v->mountpoint, dir);

	if (access(dir, F_OK) < 0)
		return 0;
	if (mount(dir, to, NULL, MS_BIND | recursive, NULL) < 0)
		return err_set(e, errno, "cannot bind %s into the view", dir);
	return 0;
}

static bool is_native(const char *path)
{
	for (const char *const *p = view_native(); *p; p++)
		if (path_is_in(path, *p))
			return true;
	return false;
}

/* The mount of the view lies in the cache, and is not to be seen in itself. */
static int bind_all(const struct view *v, struct err *e)
{
	const char *caches[] = {v->cache, v->other_cache};
	int r = 0;

	for (const char *const *p = view_native(); *p && r == 0; p++)
		r = bind_native(v, *p, MS_REC, e);
	for (int k = 0; k < 2 && r == 0; k++)
		if (caches[k] && !is_native(caches[k]))
			r = bind_native(v, caches[k], 0, e);
	if (r == 0 && is_native(v->mountpoint)) {
		auto_free char *again = xasprintf("%s%s", v->mountpoint, v->mountpoint);

		while (umount2(again, MNT_DETACH) == 0)
			; /* it only looks odd */
	}
	return r;
}

/*
 * A mount that is marked as expired stays so until somebody uses it: touch.c asks at the end. It cannot be marked
 * where there is none; then it counts as used.
 */
static void mark_untouched(const struct view *v)
{
	for (char *const *p = v->marked; *p; p++) {
		auto_free char *to = xasprintf("%s%s", v->mountpoint, *p);

		if (mount(*p, to, NULL, MS_BIND | MS_REC, NULL) == 0)
			(void)umount2(to, MNT_EXPIRE); /* EAGAIN: it is marked */
	}
}

/* Trouble is no reason not to run the step. */
static void take_flags(const struct view *v)
{
	const char *native[8];
	struct err e = {0};
	size_t n = 0;

	for (const char *const *p = view_native(); *p; p++)
		native[n++] = *p;
	native[n++] = v->cache;
	if (v->other_cache)
		native[n++] = v->other_cache;
	native[n] = NULL;
	if (view_take_flags(v->mountpoint, native, v->kind == VIEW_ROOT ? 0 : MS_NOSUID | MS_NODEV,
			    &e) < 0)
		log_debug("%s", e.msg);
}

static int become_root(const char *mountpoint, struct err *e)
{
	if (chdir(mountpoint) < 0)
		return err_set(e, errno, "cannot enter %s", mountpoint);
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return err_set(e, errno, "cannot unmount the former root");
	} else if (chroot(".") < 0) { /* our root is no mount point (we are in a chroot) */
		return err_set(e, errno, "cannot make the view the root");
	}
	return chdir("/") < 0 ? err_set(e, errno, "cannot enter the view") : 0;
}

/*
 * Of large files 1 MB is read ahead instead of the 128 KB of a new mount: only root may say so, and only through sysfs.
 * Without it reading is slower, nothing else. It is asked for in several requests at once (READ_MOST), so that the step goes
 * on with what it waits for while the server reads the rest.
 */
static void raise_read_ahead(void)
{
	auto_free char *path = NULL;
	struct stat st;
	struct err e;

	if (stat("/", &st) < 0)
		return;
	path = xasprintf("/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	if (write_text(path, "1024", &e) < 0)
		log_debug("%s", e.msg);
}

int view_unshare(enum view_kind kind, struct err *e)
{
	int r;

	if (kind == VIEW_USER)
		r = new_user_namespace(e);
	else
		r = unshare(CLONE_NEWNS) < 0 ? err_set(e, errno, "cannot make a mount namespace")
					     : 0;
	if (r < 0)
		return r;
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
		       ? err_set(e, errno, "cannot make the mounts private")
		       : 0;
}

int view_enter(const struct view *v, int sock, struct err *e)
{
	auto_close int fd = -1;
	int r = view_unshare(v->kind, e);

	if (r == 0)
		r = view_mount_fuse(v, &fd, e);
	if (r == 0)
		r = message_send(sock, 'F', NULL, fd, e);
	base_close(&fd);
	if (r == 0 && view_has_acls())
		r = show_root(v, e);
	if (r == 0) {
		take_flags(v); /* first: it would hide what is bound below */
		r = bind_all(v, e);
	}
	if (r == 0)
		mark_untouched(v);
	if (r == 0)
		r = become_root(v->mountpoint, e);
	if (r < 0)
		return r;
	if (getxattr("/", FS_BEGIN, NULL, 0) < 0)
		return err_set(e, errno, "cannot begin in the view");
	if (chdir(v->cwd) < 0)
		return err_set(e, errno, "cannot enter %s in the view", v->cwd);
	if (v->kind == VIEW_ROOT)
		raise_read_ahead();
	return 0;
}
