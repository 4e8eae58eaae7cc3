/* SPDX-License-Identifier: MIT */
/*
 * passthrough.c - how the kernel has a file of a persistent mount open: through the server and its own page cache, or, where
 * FUSE_PASSTHROUGH is there (Linux 6.9, root), reading, writing and mapping the file below itself.
 *
 * The kernel wants one way for all who have a file open at a time, and one number for the file behind it. So the first open
 * decides, and whoever comes while it lasts follows, also he who is given other bytes to execute (those he is sent all the same: direct
 * I/O goes before). What the server believes to be open the kernel may have closed already, but
 * never the other way round.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mount_file.h"

/* A change within this time may leave the same times behind as what was there (a clock tick; 2 s where times are coarse). */
#define RACY_NS INT64_C(2000000000)

static pthread_mutex_t *lock_of(struct fs_mount *m, const struct node *n)
{
	return &m->opening[(n->ino ^ n->ino >> 8) % OPENING_LOCKS];
}

/* Is the file as it was when it was opened last? Then what the kernel has of its bytes is what is there. */
static bool unchanged(struct node *n, int fd)
{
	const struct stat_kept was = n->seen;
	struct stat st;
	int64_t now = now_ns();

	if (fstat(fd, &st) < 0) {
		n->seen.st_mode = 0;
		return false;
	}
	n->seen = stat_keep(&st);
	if (timespec_ns(st.st_mtim) + RACY_NS > now || timespec_ns(st.st_ctim) + RACY_NS > now)
		n->seen.st_mode = 0; /* it may change once more and look the same */
	return was.st_mode && was.st_size == st.st_size &&
	       timespec_ns(was.st_mtim) == timespec_ns(st.st_mtim) &&
	       timespec_ns(was.st_ctim) == timespec_ns(st.st_ctim);
}

/* The kernel writes with the rights of who names the file. Without this one it takes set-id bits away, as it does for most. */
static void may_keep_set_ids(struct fs_mount *m, bool may)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {m->caps[0], m->caps[1]};

	if (!may)
		caps[CAP_FSETID / 32].effective &= ~(1u << (CAP_FSETID % 32));
	if (syscall(SYS_capset, &h, caps) < 0)
		log_debug("cannot change this thread's rights: %s", strerror(errno));
}

static int backing_open(struct fs_mount *m, int fd)
{
	struct stat st;
	int id;

	may_keep_set_ids(m, false);
	id = wire_backing_open(m->se, fd);
	may_keep_set_ids(m, true);
	if (id > 0)
		return id;
	log_debug("no passthrough: %s", strerror(-id));
	if (id == -EPERM || id == -ENOTTY)
		atomic_store(&m->passthrough, false); /* nor will there be any */
	else if ((id == -ELOOP || id == -EOPNOTSUPP) && fstat(fd, &st) == 0)
		atomic_store(
			&m->refused,
			st.st_dev); /* a file system on others: there may be others in the tree */
	return 0;
}

/* Set-id bits go, or stay, by who writes: only the server knows. */
static bool is_fit(struct fs_mount *m, int fd)
{
	struct stat st;

	return atomic_load(&m->passthrough) && fd >= 0 && fstat(fd, &st) == 0 &&
	       st.st_dev != atomic_load(&m->refused) && !(st.st_mode & (S_ISUID | S_ISGID));
}

int passthrough_open(struct fs_mount *m, struct node *n, struct open_file *f,
		     struct fuse_file_info *fi)
{
	pthread_mutex_t *lock = lock_of(m, n);
	int id = 0;

	pthread_mutex_lock(lock);
	if (!n->cached && !n->passed && is_fit(m, f->fd))
		n->backing = backing_open(m, f->fd);
	f->counted = true;
	if (!n->cached && n->backing) {
		f->passed = true;
		n->passed++;
		id = n->backing;
		n->seen.st_mode = 0; /* what the kernel's page cache has goes without saying */
	} else {
		n->cached++;
		if (f->fd >= 0)
			fi->keep_cache = unchanged(n, f->fd);
	}
	pthread_mutex_unlock(lock);
	return id;
}

void passthrough_close(struct fs_mount *m, struct node *n, struct open_file *f)
{
	pthread_mutex_t *lock = lock_of(m, n);

	if (!f->counted)
		return;
	pthread_mutex_lock(lock);
	f->counted = false;
	if (!f->passed)
		n->cached--;
	else if (!--n->passed) {
		wire_backing_close(m->se, n->backing);
		n->backing = 0;
	}
	pthread_mutex_unlock(lock);
}
