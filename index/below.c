/* SPDX-License-Identifier: MIT */
/*
 * below.c - files in the view of another mlfs, which are files of the file system below as well.
 *
 * A view has a device number of its own, which the kernel gives to another mount as soon as it is gone: nothing
 * can be remembered under it. So the view is asked for the file's device and inode below it. And it must be told
 * each time that a remembered digest stands for reading a file: else it would not learn that its step depends on
 * the content.
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "idx.h"

ssize_t idx_ask_view(const char *question, char *text, size_t n)
{
	/* The root may be another file system, which the step mounted, and the program may lie in /dev or /run, which are
	 * no part of the view. */
	static const char *const places[] = {"/", "/proc/self/exe", "."};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		ssize_t got = getxattr(places[i], question, text, n - 1);

		if (got < 0)
			continue;
		text[got] = '\0';
		return got;
	}
	return -ENODATA;
}

void idx_below_tell(const char *path, const struct stat *st, bool reading, bool writer,
		    char text[IDX_BELOW_SIZE])
{
	/* It may itself be a file of a view. */
	ssize_t n = lgetxattr(path, reading ? IDX_READ_XATTR : IDX_BELOW_XATTR, text,
			      IDX_BELOW_SIZE - 1);

	if (n > 0)
		text[n] = '\0';
	else
		(void)snprintf(text, IDX_BELOW_SIZE, "%llu %llu %lld %lld %lld %d",
			       (unsigned long long)st->st_dev, (unsigned long long)st->st_ino,
			       (long long)st->st_size, (long long)timespec_ns(st->st_mtim),
			       (long long)timespec_ns(st->st_ctim), writer); /* six numbers fit */
}

int idx_below(const struct idx *x, const char *path, bool reading, struct stat *st)
{
	const char *question = reading ? IDX_READ_XATTR : IDX_BELOW_XATTR;
	unsigned long long dev, ino;
	long long size, mtime, ctime;
	char text[IDX_BELOW_SIZE];
	ssize_t n;

	if (!x || !x->in_view)
		return 0;
	n = getxattr(path, question, text, sizeof(text) - 1);
	if (n < 0)
		return 0; /* not in the view, or nothing there */
	text[n] = '\0';
	if (sscanf(text, "%llu %llu %lld %lld %lld", &dev, &ino, &size, &mtime, &ctime) != 5)
		return 0;
	/* The kernel may have kept attributes that are no longer true. */
	if (size != st->st_size || mtime != timespec_ns(st->st_mtim) ||
	    ctime != timespec_ns(st->st_ctim))
		return -ESTALE;
	st->st_dev = dev;
	st->st_ino = ino;
	return 1;
}

bool idx_in_view(const struct idx *x)
{
	return x->in_view;
}
