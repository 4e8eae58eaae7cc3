/* SPDX-License-Identifier: MIT */
/*
 * writers.c - does somebody have a file open for writing?
 *
 * A store through a shared mapping moves mtime and ctime only when it makes a clean page dirty: the second store to
 * that page does not, nor does munmap, and on tmpfs none ever does again (seen on Linux 6.18, ext4 and tmpfs). So
 * while somebody may have such a mapping, times that stay the same prove nothing. A mapping that can be written
 * holds the file open for writing, and a read lease is granted only while nobody does (fcntl(2), F_SETLEASE). Once
 * that is so, whoever comes later dirties clean pages first, which shows.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "index.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef F2FS_SUPER_MAGIC
#define F2FS_SUPER_MAGIC 0xf2f52010
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif
#define ZFS_SUPER_MAGIC	     0x2fc12fc1
#define BCACHEFS_SUPER_MAGIC 0xca451a4e

/* Where a lease that is refused means just that (NFS refuses them for reasons of its own). */
static bool leases_are_local(const struct statfs *fs)
{
	static const uint32_t known[] = {
		EXT4_SUPER_MAGIC,  TMPFS_MAGIC,		  XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
		F2FS_SUPER_MAGIC,  OVERLAYFS_SUPER_MAGIC, RAMFS_MAGIC,	   ZFS_SUPER_MAGIC,
		MSDOS_SUPER_MAGIC, BCACHEFS_SUPER_MAGIC,
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if ((uint32_t)fs->f_type == known[i])
			return true;
	return false;
}

/* In the view of another mlfs that one knows: writers outside show only there. */
static bool view_says_so(int fd)
{
	char text[IDX_BELOW_SIZE];
	int writer = 0;
	ssize_t n = fgetxattr(fd, IDX_BELOW_XATTR, text, sizeof(text) - 1);

	if (n < 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "%*u %*u %*d %*d %*d %d", &writer) == 1 && writer;
}

/* ---- what we hold open ourselves ---- */

struct own {
	struct own *next;
	dev_t dev;
	ino_t ino;
	unsigned n;
	bool others; /* somebody else did when we began */
};
static struct {
	pthread_mutex_t mutex;
	struct own *first;
} own = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct own **find_own(dev_t dev, ino_t ino)
{
	struct own **o = &own.first;

	while (*o && ((*o)->ino != ino || (*o)->dev != dev))
		o = &(*o)->next;
	return o;
}

/* Somebody has it open for writing: somebody else? Who comes while we have it shows in the times, as above. */
static bool others_write(int fd)
{
	const struct own *o;
	struct stat st;
	bool others;

	if (fstat(fd, &st) < 0)
		return true;
	pthread_mutex_lock(&own.mutex);
	o = *find_own(st.st_dev, st.st_ino);
	others = !o || o->others;
	pthread_mutex_unlock(&own.mutex);
	return others;
}

void own_writer_begin(int fd)
{
	bool others = fd_has_writer(fd);
	struct own **at, *o;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	pthread_mutex_lock(&own.mutex);
	at = find_own(st.st_dev, st.st_ino);
	if (!*at) {
		*at = o = xcalloc(1, sizeof(*o));
		o->dev = st.st_dev;
		o->ino = st.st_ino;
		o->others = others;
	}
	(*at)->n++;
	pthread_mutex_unlock(&own.mutex);
}

void own_writer_end(dev_t dev, ino_t ino)
{
	struct own **at, *o;

	pthread_mutex_lock(&own.mutex);
	at = find_own(dev, ino);
	o = *at;
	if (o && --o->n == 0) {
		*at = o->next;
		free(o);
	}
	pthread_mutex_unlock(&own.mutex);
}

/* ---- the question ---- */

bool fd_has_writer(int fd)
{
	struct statfs fs;
	bool refused;

	if (fstatfs(fd, &fs) < 0)
		return false;
	if ((uint32_t)fs.f_type == FUSE_SUPER_MAGIC)
		return view_says_so(fd);
	/* Who opens it for writing in this instant waits until the lease is given back, and we are sent a signal, whose
	 * default is to end us: so one that by default does nothing. */
	(void)fcntl(fd, F_SETSIG, SIGURG); /* cannot fail for an open file and a real signal */
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		(void)fcntl(fd, F_SETLEASE, F_UNLCK); /* cannot fail: we hold it */
		return false;
	}
	refused = errno == EAGAIN;
	return refused && leases_are_local(&fs) && others_write(fd);
}
