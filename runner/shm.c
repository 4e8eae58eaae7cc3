/* SPDX-License-Identifier: MIT */
/* shm.c - what lies in /dev/shm before and after a step; see shm.h. */
#include "shm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

#define MAX_ENTRIES 4096
#define MAX_DEPTH   16

/* Documented in mlfs-exec(1). */
static const struct {
	const char *glob;
	enum shm_kind kind;
} names[] = {
	{"sem.*", SHM_SHARED}, /* sem_open */
	{"psm_*", SHM_SHARED}, /* Python */
	{"torch_*", SHM_SHARED},
	{"nccl-*", SHM_SHARED},
	{"cuda.*", SHM_SHARED},
	{"vader_*", SHM_SHARED}, /* Open MPI */
	{"sm_segment*", SHM_SHARED},
	{"mpich*", SHM_SHARED},
	{"ucx_*", SHM_SHARED},
	{"psm[23]*", SHM_SHARED},
	{"plasma*", SHM_SHARED}, /* Ray */
	{"PostgreSQL.*", SHM_OTHERS},
	{"pulse-shm-*", SHM_OTHERS},
	{"lttng-*", SHM_OTHERS},
	{".org.chromium.*", SHM_OTHERS},
	{".com.google.*", SHM_OTHERS},
	{"*org.mozilla.ipc.*", SHM_OTHERS},
	{"wayland.mozilla.*", SHM_OTHERS},
};

static enum shm_kind kind_of(const char *name)
{
	for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++)
		if (fnmatch(names[k].glob, name, 0) == 0)
			return names[k].kind;
	return SHM_DATA;
}

/* ---- looking ---- */

struct look {
	char *const *ignore;
	size_t n_ignore;
	bool deep;
	struct shm *s;
};

static bool is_ignored(const struct look *l, const char *path)
{
	for (size_t k = 0; k < l->n_ignore; k++)
		if (fnmatch(l->ignore[k], path, 0) == 0)
			return true;
	return false;
}

static void look_into(const struct look *l, int fd, const char *dir, enum shm_kind kind, int depth);

static void look_at(const struct look *l, int fd, const char *dir, const char *name,
		    enum shm_kind kind, int depth)
{
	auto_free char *path = xasprintf("%s/%s", dir, name);
	struct shm *s = l->s;
	struct stat st;

	if (is_ignored(l, path) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	/* What may not be read says nothing to the step. */
	if (!S_ISLNK(st.st_mode) && faccessat(fd, name, R_OK, AT_EACCESS) < 0)
		return;
	if (depth == 0)
		kind = kind_of(name);
	if (s->n == MAX_ENTRIES || depth == MAX_DEPTH) {
		s->too_many = true;
		return;
	}
	s->v = xrealloc(s->v, (s->n + 1) * sizeof(*s->v));
	s->v[s->n++] = (struct shm_entry){.path = xstrdup(path), .st = st, .kind = kind};
	if (l->deep && S_ISDIR(st.st_mode))
		look_into(l, openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			  path, kind, depth + 1);
}

static void look_into(const struct look *l, int fd, const char *dir, enum shm_kind kind, int depth)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		base_close(&fd);
		return;
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			look_at(l, fd, dir, de->d_name, kind, depth);
	closedir(d);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct shm_entry *)a)->path, ((const struct shm_entry *)b)->path);
}

void shm_look(const char *dir, char *const *ignore, size_t n_ignore, bool deep, struct shm *ret)
{
	struct look l = {ignore, n_ignore, deep, ret};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	*ret = (struct shm){.at = timespec_ns(now)};
	look_into(&l, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), dir, SHM_DATA, 0);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_path);
}

void shm_free(struct shm *s)
{
	for (size_t k = 0; k < s->n; k++)
		free(s->v[k].path);
	free(s->v);
	*s = (struct shm){0};
}

bool shm_matters(const struct shm *before, const struct shm *after)
{
	const struct shm *both[] = {before, after};

	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < both[k]->n; i++)
			if (both[k]->v[i].kind != SHM_OTHERS)
				return true;
	return before->too_many || after->too_many;
}

/* ---- comparing ---- */

/* Does a link in the directory, or a line of the file, name the path? */
static bool fds_name(pid_t pid, const char *path)
{
	auto_free char *dir = xasprintf("/proc/%d/fd", (int)pid);
	DIR *d = opendir(dir);
	struct dirent *de;
	bool found = false;

	while (d && !found && (de = readdir(d))) {
		char to[PATH_MAX];
		ssize_t n = readlinkat(dirfd(d), de->d_name, to, sizeof(to));

		found = n > 0 && (size_t)n == strlen(path) && memcmp(to, path, (size_t)n) == 0;
	}
	if (d)
		closedir(d);
	return found;
}

static bool maps_name(pid_t pid, const char *path)
{
	auto_free char *file = xasprintf("/proc/%d/maps", (int)pid), *text = NULL;
	auto_free char *end = xasprintf(" %s\n", path);
	struct err e = {0};
	size_t n;

	return read_file(file, &text, &n, &e) == 0 && strstr(text, end);
}

static bool is_held(const char *path)
{
	DIR *d = opendir("/proc");
	bool held = false;
	pid_t pid;

	while (!held && (pid = target_next(d)) >= 0)
		held = maps_name(pid, path) || fds_name(pid, path);
	if (d)
		closedir(d);
	return held;
}

static bool is_of_others(const struct shm_entry *x)
{
	if (x->kind == SHM_OTHERS || (geteuid() != 0 && x->st.st_uid != geteuid()))
		return true;
	return !S_ISDIR(x->st.st_mode) && is_held(x->path);
}

bool shm_is_old(const struct shm_entry *x, int64_t at)
{
	return timespec_ns(x->st.st_ctim) < at;
}

static const struct shm_entry *find(const struct shm *s, const char *path)
{
	struct shm_entry key = {.path = (char *)path};

	return s->n ? bsearch(&key, s->v, s->n, sizeof(*s->v), by_path) : NULL;
}

/* What was there. */
static char *look_at_earlier(const struct shm_entry *x, const struct shm *after)
{
	const struct shm_entry *now = find(after, x->path);

	if (x->kind == SHM_SHARED)
		return xasprintf("memory of others (%s) may have been used", x->path);
	if (x->kind == SHM_OTHERS)
		return NULL;
	if (!now)
		return xasprintf("%s was removed", x->path);
	return now->st.st_ino != x->st.st_ino ? xasprintf("%s was changed", x->path) : NULL;
}

char *shm_compare(const struct shm *before, const struct shm *after)
{
	char *why = NULL;

	if (before->too_many || after->too_many)
		return xstrdup(SHM_DIR " holds too much to be looked at");
	for (size_t k = 0; k < before->n && !why; k++)
		why = look_at_earlier(&before->v[k], after);
	for (size_t k = 0; k < after->n && !why; k++) {
		const struct shm_entry *x = &after->v[k];

		if (!shm_is_old(x, before->at) && !is_of_others(x))
			why = xasprintf("%s was changed or left behind", x->path);
	}
	return why;
}
