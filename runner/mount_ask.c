/* SPDX-License-Identifier: MIT */
/*
 * mount_ask.c - the mounts of mlfs that there are, and asking their servers; see mount_ask.h.
 *
 * Whoever touches a mount whose server is stuck is stuck as well, and not even SIGKILL ends him while the server has his request
 * in hand. So another process asks, which is left behind then.
 */
#include "mount_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mount_status.h"

#define PATIENCE_MS 2000
#define MAX_ANSWER  65536

/* ---- asking ---- */

/* Who is asked for a mount of his own that lets nobody else in; root may be anybody. */
struct asker {
	bool other;
	uid_t uid;
	gid_t gid;
};

static void ask_in_child(const char *path, const char *question, const struct asker *as, int to)
{
	char *text = xmalloc(MAX_ANSWER);
	int code, none = open("/dev/null", O_RDWR);
	ssize_t n;

	/* When it is left behind nobody is to wait for what it holds open. */
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		(void)dup2(none, fd);
	if (to != STDERR_FILENO + 1)
		to = dup2(to, STDERR_FILENO + 1);
	(void)syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0); /* Linux before 5.9 has none */
	if (as->other && (setgroups(0, NULL) < 0 || setresgid(as->gid, as->gid, as->gid) < 0 ||
			  setresuid(as->uid, as->uid, as->uid) < 0))
		_exit(1);
	n = lgetxattr(path, question, text, MAX_ANSWER);
	code = n < 0 ? errno : 0;
	if (write_all(to, &code, sizeof(code)) >= 0 && n > 0)
		(void)!write_all(to, text, (size_t)n); /* nobody there: nobody wants it */
	_exit(0);
}

/* What the child writes, to its end. -ETIMEDOUT. */
static int listen_to(int fd, struct buf *ret)
{
	int64_t end = mono_ns() + PATIENCE_MS * INT64_C(1000000);
	uint8_t part[4096];

	for (;;) {
		int64_t left = (end - mono_ns()) / 1000000;
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;
		int r = poll(&p, 1, left > 0 ? (int)left : 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ETIMEDOUT;
		n = read(fd, part, sizeof(part));
		if (n <= 0)
			return n < 0 ? -errno : 0;
		buf_add(ret, part, (size_t)n);
	}
}

static int ask(const char *path, const char *question, const struct asker *as, char **ret)
{
	auto_close int from = -1, to = -1;
	auto_buf struct buf b = {0};
	int ends[2], code, r;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	from = ends[0];
	to = ends[1];
	(void)fflush(NULL); /* nothing is to be said twice */
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		ask_in_child(path, question, as, to);
	base_close(&to);
	r = listen_to(from, &b);
	if (r == -ETIMEDOUT)
		(void)kill(child, SIGKILL); /* it is our own, and was not waited for */
	/* One that cannot be killed is left to init. */
	while (waitpid(child, NULL, r == -ETIMEDOUT ? WNOHANG : 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return r;
	if (b.len < sizeof(code))
		return -EACCES; /* it could not become that user */
	memcpy(&code, b.data, sizeof(code));
	if (code)
		return code == EOPNOTSUPP ? -ENODATA : -code;
	*ret = xstrndup((char *)b.data + sizeof(code), b.len - sizeof(code));
	return 0;
}

int mount_ask(const char *path, const char *question, char **ret)
{
	return ask(path, question, &(struct asker){0}, ret);
}

/* ---- which there are ---- */

/* The value of user_id= or group_id= among a file system's options. */
static bool option_id(const char *options, const char *name, unsigned *ret)
{
	const char *at = options;
	size_t n = strlen(name);

	while (at && *at) {
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return sscanf(at + n + 1, "%u", ret) == 1;
		at = strchr(at, ',');
		at += at != NULL;
	}
	return false;
}

static char *line_value(const char *text, const char *name)
{
	size_t n = strlen(name);

	while (text && *text) {
		size_t len = strcspn(text, "\n");

		if (strncmp(text, name, n) == 0 && text[n] == '=')
			return xstrndup(text + n + 1, len - n - 1);
		text += len + (text[len] == '\n');
	}
	return NULL;
}

static void look(const struct mountinfo *m, struct mount_seen *ret)
{
	struct asker as = {0};
	auto_free char *told = NULL, *pid = NULL;
	int r;

	*ret = (struct mount_seen){.mnt = xstrdup(m->path),
				   .source = xstrdup(m->source),
				   .read_only = m->flags & MS_RDONLY};
	as.other = geteuid() == 0 && option_id(m->options, "user_id", &as.uid) && as.uid != 0 &&
		   option_id(m->options, "group_id", &as.gid);
	r = ask(m->path, MOUNT_ASK_ABOUT, &as, &told);
	if (r == 0) {
		ret->kind = line_value(told, "kind");
		ret->cache = line_value(told, "cache");
		pid = line_value(told, "pid");
		ret->pid = pid ? atoi(pid) : 0;
		ret->state = MOUNT_SERVING;
	} else {
		ret->state = r == -ENOTCONN || r == -ECONNABORTED ? MOUNT_DEAD
			     : r == -ETIMEDOUT			  ? MOUNT_SILENT
			     : r == -ENODATA			  ? MOUNT_VIEW
								  : MOUNT_PRIVATE;
	}
}

void mount_seen_clear(struct mount_seen *s)
{
	free(s->mnt);
	free(s->source);
	free(s->kind);
	free(s->cache);
	*s = (struct mount_seen){0};
}

/* Is another file system mounted over it, at the same place? Then it cannot be asked. */
static bool is_covered(const struct mountinfos *all, size_t k)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].parent == all->v[k].id && strcmp(all->v[i].path, all->v[k].path) == 0)
			return true;
	return false;
}

size_t mounts_seen(struct mount_seen **ret)
{
	auto_mountinfos struct mountinfos all = {0};
	struct mount_seen *v;
	size_t n = 0;

	mountinfo_read(&all);
	v = xcalloc(all.n + 1, sizeof(*v));
	for (size_t k = 0; k < all.n; k++) {
		if (strcmp(all.v[k].type, MOUNT_TYPE) != 0 || is_covered(&all, k))
			continue;
		look(&all.v[k], &v[n]);
		if (v[n].state == MOUNT_VIEW)
			mount_seen_clear(&v[n]);
		else
			n++;
	}
	*ret = v;
	return n;
}

void mounts_seen_free(struct mount_seen *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mount_seen_clear(&v[i]);
	free(v);
}

bool mount_seen_at(const char *mnt, struct mount_seen *ret)
{
	auto_mountinfos struct mountinfos all = {0};

	mountinfo_read(&all);
	for (size_t k = 0; k < all.n; k++)
		if (strcmp(all.v[k].path, mnt) == 0 && !is_covered(&all, k)) {
			if (strcmp(all.v[k].type, MOUNT_TYPE) != 0)
				return false;
			look(&all.v[k], ret);
			return true;
		}
	return false;
}

/* ---- where? ---- */

static bool is_mount(const char *path)
{
	auto_mountinfos struct mountinfos all = {0};

	mountinfo_read(&all);
	for (size_t k = 0; k < all.n; k++)
		if (strcmp(all.v[k].path, path) == 0)
			return true;
	return false;
}

char *mount_place(const char *path)
{
	auto_free char *copy = xstrdup(path), *dir = NULL, *whole = NULL;
	size_t n = strlen(copy);
	const char *last;
	char *slash;

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	last = slash ? slash + 1 : copy;
	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return realpath(path, NULL);
	/* Not a look at the mount itself: its server may be stuck. */
	if (slash)
		*slash = '\0';
	dir = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!dir)
		return NULL;
	whole = xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", last);
	return is_mount(whole) ? take(whole) : realpath(path, NULL);
}
