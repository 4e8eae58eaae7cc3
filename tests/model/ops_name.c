/* SPDX-License-Identifier: MIT */
/* ops_name.c - the stepper's operations on names and attributes. */
#include "stepper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- names ---- */

/* A path that ends so is refused before anything is looked at but what leads there. */
static bool ends_in_dots(const char *path)
{
	const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

	return !strcmp(last, ".") || !strcmp(last, "..");
}

static int do_rename(const char *a, const char *b, unsigned flags)
{
	struct stat from, to;
	bool there = lstat(b, &to) == 0, known = lstat(a, &from) == 0;

	note_name('P', a);
	note_name('P', b);
	/* Names of one file: nothing is done. */
	if (known && there && from.st_ino == to.st_ino)
		return (int)syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
	there &= known && !ends_in_dots(a) && !ends_in_dots(b);
	if (there && S_ISDIR(to.st_mode) && S_ISDIR(from.st_mode)) { /* whether it is empty */
		note('C', &to, b);
		note_name('L', b);
	}
	if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags) < 0)
		return -1;
	note_moved(a, b);
	note_names(b);
	if (flags & RENAME_EXCHANGE) {
		note_moved(b, a);
		note_names(a);
	} else if (there) {
		note('R', &to, b);
	}
	return 0;
}

static int op_rename(char **w)
{
	return do_rename(w[1], w[2], 0);
}

static int op_exchange(char **w)
{
	return do_rename(w[1], w[2], RENAME_EXCHANGE);
}

static int op_renamenew(char **w)
{
	return do_rename(w[1], w[2], RENAME_NOREPLACE);
}

static int do_remove(const char *path, bool dir)
{
	struct stat st;
	bool there = lstat(path, &st) == 0;

	note_name('P', path);
	if (there && dir && S_ISDIR(st.st_mode)) { /* whether it is empty */
		note('C', &st, path);
		note_name('L', path);
	}
	if ((dir ? rmdir(path) : unlink(path)) < 0)
		return -1;
	if (there)
		note('R', &st, path);
	return 0;
}

static int op_unlink(char **w)
{
	return do_remove(w[1], false);
}

static int op_rmdir(char **w)
{
	return do_remove(w[1], true);
}

static int do_rmtree(const char *path)
{
	struct dirent **v;
	struct stat st;
	char below[PATH_MAX];
	int n;

	if (lstat(path, &st) < 0)
		return -1;
	if (!S_ISDIR(st.st_mode))
		return do_remove(path, false);
	n = scandir(path, &v, NULL, alphasort);
	note('C', &st, path);
	note_name('L', path);
	for (int i = 0; i < n; i++) {
		if (strcmp(v[i]->d_name, ".") && strcmp(v[i]->d_name, "..") &&
		    (size_t)snprintf(below, sizeof(below), "%s/%s", path, v[i]->d_name) <
			    sizeof(below))
			(void)!do_rmtree(below);
		free(v[i]);
	}
	if (n >= 0)
		free(v);
	return do_remove(path, true);
}

static int op_rmtree(char **w)
{
	note_name('P', w[1]);
	return do_rmtree(w[1]);
}

static int made(int r, const char *path)
{
	note_name('P', path);
	if (r == 0)
		note_name('N', path);
	return r;
}

static int op_mkdir(char **w)
{
	return made(mkdir(w[1], (mode_t)strtoul(w[2], NULL, 8)), w[1]);
}

static int op_mknod(char **w)
{
	return made(mknod(w[1], 0640 | (!strcmp(w[0], "mkfifo") ? S_IFIFO : S_IFSOCK), 0), w[1]);
}

static int op_symlink(char **w)
{
	return made(symlink(w[1], w[2]), w[2]);
}

static int op_link(char **w)
{
	struct stat st;
	bool known = lstat(w[1], &st) == 0;
	int r = linkat(AT_FDCWD, w[1], AT_FDCWD, w[2], 0);

	note_name('P', w[1]);
	if (known) /* else where it was to go was not looked at */
		(void)made(r, w[2]);
	if (r == 0)
		note_path('C', w[1]);
	return r;
}

/* ---- attributes ---- */

static int op_touch(char **w)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = atol(w[2])}};

	note_name('P', w[1]);
	note_path('C', w[1]);
	return utimensat(AT_FDCWD, w[1], !strcmp(w[0], "utime") ? t : NULL, AT_SYMLINK_NOFOLLOW);
}

static int op_chmod(char **w)
{
	note_name('P', w[1]);
	note_followed('C', w[1]);
	return chmod(w[1], (mode_t)strtoul(w[2], NULL, 8));
}

static int op_chown(char **w)
{
	note_name('P', w[1]);
	note_path('C', w[1]);
	return lchown(w[1], (uid_t)atoi(w[2]), (gid_t)atoi(w[2]));
}

/* Only of files and directories a named attribute tells more than that something is there. */
static void note_xattr(char what, const char *path)
{
	struct stat st;

	note_name('P', path);
	if (lstat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		note_path(what, path);
}

static int op_setx(char **w)
{
	note_xattr(!strcmp(w[0], "rmx") ? 'D' : 'C', w[1]);
	return !strcmp(w[0], "rmx") ? lremovexattr(w[1], w[2])
				    : lsetxattr(w[1], w[2], w[3], strlen(w[3]), 0);
}

static int op_getx(char **w)
{
	char buf[512];
	ssize_t n = !strcmp(w[0], "listx") ? llistxattr(w[1], buf, sizeof(buf))
					   : lgetxattr(w[1], w[2], buf, sizeof(buf));

	note_xattr('D', w[1]); /* they are what they were, even when the bytes are gone */
	if (!strcmp(w[0], "listx"))
		note_path('D', w[1]);
	if (n < 0)
		return -1;
	/* The order of a list is nobody's promise; the kernel puts names of its own in. */
	if (!strcmp(w[0], "listx")) {
		uint64_t sum = 0;

		for (char *p = buf; p < buf + n; p += strlen(p) + 1)
			for (char *c = p; !strncmp(p, "user.", 5) && *c; c++)
				sum += (unsigned char)*c * (uint64_t)(c - p + 1);
		see_number((long long)sum);
		return 0;
	}
	see(buf, (size_t)n);
	return (int)n;
}

static int op_cd(char **w)
{
	note_name('P', w[1]);
	return chdir(w[1]);
}

static int op_umask(char **w)
{
	return (int)umask((mode_t)strtoul(w[1], NULL, 8));
}

const struct op ops_name[] = {
	{"cd", op_cd},		 {"chmod", op_chmod},
	{"chown", op_chown},	 {"exchange", op_exchange},
	{"getx", op_getx},	 {"link", op_link},
	{"listx", op_getx},	 {"mkdir", op_mkdir},
	{"mkfifo", op_mknod},	 {"mksock", op_mknod},
	{"rename", op_rename},	 {"renamenew", op_renamenew},
	{"rmdir", op_rmdir},	 {"rmtree", op_rmtree},
	{"rmx", op_setx},	 {"setx", op_setx},
	{"symlink", op_symlink}, {"touch", op_touch},
	{"umask", op_umask},	 {"unlink", op_unlink},
	{"utime", op_touch},	 {NULL, NULL},
};
