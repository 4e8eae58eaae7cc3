/* SPDX-License-Identifier: MIT */
/* notes.c - the log of what a step did, kept when it is run natively with -t. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stepper.h"

static int log_fd = -1;

void notes_open(const char *file)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

	/* Not 0, where that is free: what a script reads from there must be the same without a log. */
	log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	if (log_fd < 0) {
		perror(file);
		exit(98);
	}
	close(fd);
}

void notes_close(void)
{
	if (log_fd >= 0)
		close(log_fd);
}

/* Where path is, without links or dots before its last component. NULL: nowhere. */
static const char *canonical(const char *path, char *buf)
{
	char dir[PATH_MAX];
	const char *slash, *last;

	if (strlen(path) >= sizeof(dir))
		return NULL;
	slash = strrchr(path, '/');
	last = slash ? slash + 1 : path;
	if (!*last || !strcmp(last, ".") || !strcmp(last, ".."))
		return realpath(path, buf);
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	if (!realpath(dir[0] ? dir : "/", buf) || strlen(buf) + strlen(last) + 2 > PATH_MAX)
		return NULL;
	if (buf[1])
		strcat(buf, "/");
	return strcat(buf, last);
}

/* One write, so that the lines of several processes do not mix. */
static void put(char what, unsigned long long ino, const char *path)
{
	char line[3 * PATH_MAX + 64], *p = line;

	p += sprintf(p, "%c %llu ", what, ino);
	for (; *path; path++)
		if (isalnum((unsigned char)*path) || strchr("/._-", *path))
			*p++ = *path;
		else
			p += sprintf(p, "%%%02X", (unsigned char)*path);
	*p++ = '\n';
	if (write(log_fd, line, (size_t)(p - line)) < 0)
		abort();
}

void note(char what, const struct stat *st, const char *path)
{
	char buf[PATH_MAX];
	int code = errno;

	if (log_fd < 0)
		return;
	path = path ? canonical(path, buf) : NULL;
	put(what, st->st_ino, path ? path : "-");
	errno = code;
}

void note_path(char what, const char *path)
{
	int code = errno;
	struct stat st;

	if (log_fd >= 0 && lstat(path, &st) == 0)
		note(what, &st, path);
	errno = code;
}

void note_followed(char what, const char *path)
{
	char buf[PATH_MAX];
	int code = errno;

	if (log_fd >= 0 && realpath(path, buf))
		note_path(what, buf);
	errno = code;
}

/* The kernel knows by which name it was opened, even when that is gone. */
void note_fd(char what, int fd)
{
	static const char gone[] = " (deleted)";
	char proc[40], path[PATH_MAX] = "";
	int code = errno;
	struct stat st;
	ssize_t n;

	if (log_fd < 0 || fstat(fd, &st) < 0)
		return;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, path, sizeof(path) - 1);
	if (n > 0 && (size_t)n > strlen(gone) && !strcmp(path + n - strlen(gone), gone))
		path[n - (ssize_t)strlen(gone)] = '\0', what = what == 'C' ? 'D' : what;
	put(what, st.st_ino, path[0] == '/' ? path : "-");
	errno = code;
}

void note_name(char what, const char *path)
{
	char buf[PATH_MAX];
	int code = errno;

	if (log_fd < 0)
		return;
	if (canonical(path, buf))
		put(what, 0, buf);
	if (what == 'P' && realpath(path, buf)) /* where it leads to, too */
		put(what, 0, buf);
	errno = code;
}

static void walk(const char *path, void (*fn)(const char *path, char what), char what)
{
	DIR *d;
	struct dirent *de;
	char name_[PATH_MAX];
	struct stat st;

	if (log_fd < 0 || lstat(path, &st) < 0)
		return;
	fn(path, what);
	d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	while (d && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if ((size_t)snprintf(name_, sizeof(name_), "%s/%s", path, de->d_name) <
		    sizeof(name_))
			walk(name_, fn, what);
	}
	if (d)
		closedir(d);
}

/* Where what walk comes by now lies, and lay before. */
static char moved_to[PATH_MAX], moved_from[PATH_MAX];

/* Under its earlier name as well: what a file with several names was known by counts. */
static void as_moved(const char *path, char what)
{
	char before[2 * PATH_MAX];
	struct stat st;

	if (lstat(path, &st) < 0)
		return;
	snprintf(before, sizeof(before), "%s%s", moved_from, path + strlen(moved_to));
	put(what, st.st_ino, path);
	put(what, st.st_ino, before);
}

void note_moved(const char *from, const char *to)
{
	int code = errno;

	if (log_fd >= 0 && canonical(from, moved_from) && canonical(to, moved_to))
		walk(moved_to, as_moved, 'C');
	errno = code;
}

static void as_name(const char *path, char what)
{
	(void)what;
	note_name('N', path);
	note_name('L', path); /* it moved with all that is in it */
}

void note_names(const char *path)
{
	int code = errno;

	walk(path, as_name, 'N');
	errno = code;
}
