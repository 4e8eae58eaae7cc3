/* SPDX-License-Identifier: MIT */
/* cmd_umount.c - `mlfs umount MNT`: takes a mount away when its steps are done, or at once. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "commands.h"
#include "mount.h"
#include "mount_ask.h"
#include "mount_status.h"
#include "screen.h"
#include "target.h"
#include "view.h"

#define ASK_AGAIN_MS 100
#define END_MS	     10000 /* that the server gets to end */
#define MAX_USERS    5

struct umount_query {
	struct query q;
	bool lazy, force;
};

static const struct word_def umount_defs[] = {
	{"lazy", 'l', WORD_FLAG, offsetof(struct umount_query, lazy), NULL,
	 "at once; whoever uses it goes on until he is done"},
	{"force", 'f', WORD_FLAG, offsetof(struct umount_query, force), NULL,
	 "at once, also when its server is stuck"},
};

const struct word_table umount_words = {
	.command = "umount",
	.usage = "[OPTIONS] MNT...",
	.what = "Take mounts of `mlfs mount` away: each when the steps that run in it are done\n"
		"and nobody uses it. One whose server was killed is cleared.\n",
	.status = "Exit status: 0 unmounted; 1 it is in use, or no mount of mlfs; 2 wrong usage.\n",
	.v = umount_defs,
	.n = sizeof(umount_defs) / sizeof(*umount_defs),
	.size = sizeof(struct umount_query),
	.arg = "MNT",
	.min_args = 1,
	.max_args = 1000,
	.no_config = true,
};

/* ---- who uses it? ---- */

static bool leads_into(const char *link, const char *mnt)
{
	char to[4096];
	ssize_t n = readlink(link, to, sizeof(to) - 1);

	if (n <= 0)
		return false;
	to[n] = '\0';
	return path_is_in(to, mnt);
}

static bool uses(pid_t pid, const char *mnt)
{
	static const char *const links[] = {"cwd", "root", "exe"};
	auto_free char *dir = xasprintf("/proc/%d/fd", (int)pid);
	struct dirent *de;
	bool found = false;
	DIR *d;

	for (size_t i = 0; i < sizeof(links) / sizeof(*links) && !found; i++) {
		auto_free char *link = xasprintf("/proc/%d/%s", (int)pid, links[i]);

		found = leads_into(link, mnt);
	}
	d = found ? NULL : opendir(dir);
	while (d && !found && (de = readdir(d))) {
		auto_free char *link = xasprintf("%s/%s", dir, de->d_name);

		found = leads_into(link, mnt);
	}
	if (d)
		(void)closedir(d); /* only read from */
	return found;
}

/* "by train.py (4711), sh (4712)"; "": nobody that can be seen. */
static void add_users(const char *mnt, struct buf *out)
{
	DIR *d = opendir("/proc");
	unsigned n = 0;
	pid_t pid;

	while (n < MAX_USERS && (pid = target_next(d)) >= 0) {
		auto_free char *path = xasprintf("/proc/%d/comm", (int)pid), *name = NULL;
		size_t len;

		if (pid == getpid() || !uses(pid, mnt) || read_file(path, &name, &len, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		buf_addf(out, "%s%s (%d)", n++ ? ", " : " by ", name, (int)pid);
	}
	if (d)
		(void)closedir(d); /* only read from */
	buf_u8(out, 0);
}

/* ---- unmounting ---- */

static size_t running(const char *mnt)
{
	auto_free char *text = NULL;

	return mount_ask(mnt, MOUNT_ASK_RUNNING, &text) == 0 ? strtoul(text, NULL, 10) : 0;
}

static void wait_for_steps(const char *mnt)
{
	size_t n = running(mnt);

	if (n)
		log_warn("waiting for %zu step%s that run%s in %s", n, n == 1 ? "" : "s",
			 n == 1 ? "s" : "", mnt);
	while (n) {
		(void)poll(NULL, 0, ASK_AGAIN_MS);
		n = running(mnt);
	}
}

/* What is served from the cache becomes files of the directory that is shown, which is all that is left then. */
static void settle(const char *mnt)
{
	unsigned long long bytes = 0;
	size_t files = 0;
	bool said = false;
	char size[32];
	int goes_on;

	for (;;) {
		auto_free char *text = NULL;

		if (mount_ask(mnt, MOUNT_ASK_SETTLE, &text) < 0 ||
		    sscanf(text, "%d %llu %zu", &goes_on, &bytes, &files) != 3)
			return;
		if (!goes_on)
			break;
		if (!said && files)
			log_warn("making %zu output%s in %s real: %s", files, files == 1 ? "" : "s",
				 mnt, human_size(bytes, size, sizeof(size)));
		said |= files > 0;
		(void)poll(NULL, 0, ASK_AGAIN_MS);
	}
	if (files)
		log_warn("%zu output%s in %s could not be made real: try `mlfs materialize`", files,
			 files == 1 ? "" : "s", mnt);
}

/* The server ends when the last who has anything open there is done: what it had of the cache is written then. */
static void wait_for_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd >= 0 && poll(&p, 1, END_MS) == 0)
		log_info("its server is still there: somebody has the mount in another namespace");
}

static int detach(const struct umount_query *w, const struct mount_seen *m, struct err *e)
{
	int r;

	if (w->force && view_kind() == VIEW_ROOT &&
	    umount2(m->mnt, MNT_FORCE | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (w->force || w->lazy)
		return mount_detach(m->mnt, true, e);
	wait_for_steps(m->mnt);
	settle(m->mnt);
	r = mount_detach(m->mnt, false, e);
	/* Whoever is in a dead mount gets nothing from it any more. */
	return r < 0 && m->state == MOUNT_DEAD ? mount_detach(m->mnt, true, e) : r;
}

static int unmount(const struct umount_query *w, const char *arg)
{
	auto_free char *mnt = mount_place(arg);
	struct mount_seen m;
	auto_buf struct buf users = {0};
	auto_close int pidfd = -1;
	struct err e = {0};
	int r;

	if (!mnt) {
		log_warn("cannot unmount %s: %s", arg, strerror(errno));
		return EXIT_FAILURE;
	}
	if (!mount_seen_at(mnt, &m)) {
		log_warn("cannot unmount %s: it is no mount of mlfs", arg);
		return EXIT_FAILURE;
	}
	pidfd = m.pid ? (int)syscall(SYS_pidfd_open, m.pid, 0) : -1;
	r = detach(w, &m, &e);
	if (r < 0 && m.state == MOUNT_SILENT) {
		log_warn(
			"cannot unmount %s: its server does not answer (--force unmounts it all the same)",
			mnt);
	} else if (r < 0) {
		add_users(mnt, &users);
		if (users.len > 1)
			log_warn(
				"cannot unmount %s: it is in use%s (--lazy unmounts it all the same)",
				mnt, users.data);
		else
			log_warn("%s", e.msg);
	} else if (!w->lazy && !w->force) {
		wait_for_end(pidfd);
	}
	mount_seen_clear(&m);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int cmd_umount(int argc, char **argv)
{
	struct umount_query w = {0};
	int r = words_parse(&umount_words, argc, argv, &w), status = EXIT_SUCCESS;

	if (r < 0)
		status = EXIT_USAGE;
	for (size_t i = 0; r == 0 && i < w.q.args.n; i++)
		if (unmount(&w, w.q.args.v[i]) != EXIT_SUCCESS)
			status = EXIT_FAILURE;
	words_free(&umount_words, &w);
	return printed_status(status);
}
