/* SPDX-License-Identifier: MIT */
/* doctor_view.c - can a view be made here: /dev/fuse, namespaces, a mount in them, seccomp notification. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"
#include "mounts.h"
#include "view.h"

#define SECONDS 5 /* more than any of this takes */

/* ---- /dev/fuse ---- */

void doctor_device(struct doctor *d)
{
	struct err e = {0};
	auto_close int fd = view_open_fuse(&e);

	if (fd < 0)
		doctor_add_err(d, FINDING_BAD, "fuse", e.msg, NULL);
	else
		doctor_add(d, FINDING_OK, "fuse", xstrdup("/dev/fuse can be opened"), NULL);
}

/* ---- namespaces, and a mount ---- */

static int say(int out, const struct err *e, int status)
{
	(void)!write(out, e->msg, strlen(e->msg)); /* the status tells, too */
	return status;
}

/* 0: both; 1: no namespaces; 2: no mount; 3: no /dev/fuse. */
static int try_view(void *arg, int out)
{
	const struct doctor *d = arg;
	struct view v = {.kind = view_kind(), .mountpoint = d->scratch ? d->scratch : "/"};
	auto_close int fd = -1;
	struct err e = {0};

	if (view_unshare(v.kind, &e) < 0)
		return say(out, &e, 1);
	fd = view_open_fuse(&e);
	if (fd < 0)
		return say(out, &e, 3);
	base_close(&fd);
	return view_mount_fuse(&v, &fd, &e) < 0 ? say(out, &e, 2) : 0;
}

static bool setting_is(const char *path, const char *value)
{
	auto_free char *text = NULL;
	struct err e;
	size_t n;

	if (read_file(path, &text, &n, &e) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, value) == 0;
}

/* The very settings that forbid it, or NULL. */
static char *what_allows(void)
{
	static const struct {
		const char *path, *forbids, *allows;
	} settings[] = {
		{"/proc/sys/kernel/unprivileged_userns_clone", "0",
		 " kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", " user.max_user_namespaces=10000"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
		 " kernel.apparmor_restrict_unprivileged_userns=0"},
	};
	struct buf b = {0};

	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		if (setting_is(settings[i].path, settings[i].forbids))
			buf_addf(&b, "%s%s", b.len ? "" : "as root: sysctl", settings[i].allows);
	if (!b.len)
		return NULL;
	buf_u8(&b, 0);
	return (char *)b.data;
}

static void no_namespaces(struct doctor *d, const char *message)
{
	char *mend = view_kind() == VIEW_USER ? what_allows() : NULL;

	doctor_add_err(d, FINDING_BAD, "namespaces", message,
		       "in a container: --privileged, or --security-opt seccomp=unconfined");
	if (mend) {
		free(d->v[d->n - 1].mend);
		d->v[d->n - 1].mend = mend;
	}
}

void doctor_view(struct doctor *d)
{
	const char *kind = view_kind() == VIEW_ROOT ? "a mount namespace (as root)"
						    : "a user and mount namespace";
	auto_free char *text = NULL;
	int r;

	if (d->inside) {
		doctor_add(d, FINDING_OK, "namespaces",
			   xstrdup("in a step of another mlfs: only the step below is tried"),
			   NULL);
		return;
	}
	r = doctor_try(try_view, NULL, d, SECONDS, &text);
	if (r == 1) {
		no_namespaces(d, text);
		return;
	}
	if (r < 0 || r > 3) {
		doctor_add(d, FINDING_BAD, "namespaces",
			   r < 0 ? xasprintf("cannot start a process: %s", strerror(-r))
				 : xasprintf("making a view ended with status %d", r),
			   NULL);
		return;
	}
	doctor_add(d, FINDING_OK, "namespaces", xasprintf("%s can be made", kind), NULL);
	if (r == 0)
		doctor_add(d, FINDING_OK, "mount", xstrdup("FUSE can be mounted in it"), NULL);
	else if (r == 2)
		doctor_add_err(
			d, FINDING_BAD, "mount", text,
			"in a container: --privileged, or --cap-add SYS_ADMIN and an AppArmor "
			"profile that lets FUSE be mounted");
}

/* ---- seccomp notification ---- */

/* The child does what must be noticed: it connects a datagram socket to this host, which sends nothing. */
struct watching {
	int sock[2];
	char *failure;	 /* why it cannot be watched */
	bool noticed;	 /* it was */
	bool impossible; /* not to be tried here: a view cannot be made, or there is no IPv4 */
};

static int try_watched(void *arg, int out)
{
	const struct watching *w = arg;
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(9),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct err e = {0};
	int fd, s;

	if (view_unshare(view_kind(), &e) < 0)
		return 2;
	fd = watch_install(true, false, &e);
	if (fd < 0)
		return say(out, &e, e.code == EBUSY ? 3 : 1);
	if (watch_send(w->sock[1], fd, &e) < 0)
		return say(out, &e, 1);
	close(fd);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return errno == EAFNOSUPPORT ? 2 : 0;
	(void)!connect(s, (struct sockaddr *)&to,
		       sizeof(to)); /* the call counts, not what comes of it */
	return 0;
}

/* Its end is still to be waited for by the caller. */
static bool wait_for_end(pid_t child)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, SECONDS * 1000) == 1;
}

static void watch_child(void *arg, pid_t child)
{
	struct watching *w = arg;
	struct watch *watch = NULL;
	struct message m = {.fd = -1};
	struct err e = {0};

	close(w->sock[1]);
	if (message_recv(w->sock[0], &m, &e) <= 0 || m.fd < 0)
		return; /* it says why */
	if (watch_start(m.fd, child, mounts_namespace(child), NULL, NULL, true, &watch, &e) < 0) {
		w->failure = xstrdup(e.msg);
		close(m.fd);
		return;
	}
	if (wait_for_end(child))
		w->noticed = watch_touched(watch) != NULL;
	watch_free(watch);
}

void doctor_watch(struct doctor *d)
{
	static const char mend[] =
		"Linux 5.10 or newer; in a container: --security-opt seccomp=unconfined";
	struct watching w = {0};
	auto_free char *text = NULL;
	int r;

	if (d->inside)
		return; /* it needs namespaces as well */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w.sock) < 0)
		return; /* no limit allows so little that nothing else said it */
	r = doctor_try(try_watched, watch_child, &w, SECONDS, &text);
	close(w.sock[0]);
	if (r == 3)
		doctor_add(d, FINDING_OK, "seccomp", xstrdup("an mlfs around this one watches"),
			   NULL);
	else if (r == 1 || w.failure)
		doctor_add_err(d, FINDING_BAD, "seccomp", w.failure ? w.failure : text, mend);
	else if (r == 0 && w.noticed)
		doctor_add(d, FINDING_OK, "seccomp",
			   xstrdup("calls of a step are seen before they happen"), NULL);
	else if (r != 2)
		doctor_add(d, FINDING_BAD, "seccomp",
			   xasprintf("a call was not noticed (status %d): nothing can be stored",
				     r),
			   xstrdup(mend));
	free(w.failure);
}
