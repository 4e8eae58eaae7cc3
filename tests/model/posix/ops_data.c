/* SPDX-License-Identifier: MIT */
/* ops_data.c - the bytes of files: reading, writing, copying, mapping. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

static void say_bytes(struct world *w, ssize_t n)
{
	if (n > 0)
		say(w, " %016llx", (unsigned long long)hash_bytes(HASH_START, w->buf, (size_t)n));
}

static void op_read(struct world *w)
{
	int slot = pick_slot(w);
	size_t n = pick_size(w);

	say_bytes(w, result(w, read(w->fds[slot], w->buf, n)));
}

static void op_pread(struct world *w)
{
	int slot = pick_slot(w);
	size_t n = pick_size(w);
	off_t off = pick_offset(w);

	say_bytes(w, result(w, pread(w->fds[slot], w->buf, n, off)));
}

static void op_preadv(struct world *w)
{
	int slot = pick_slot(w);
	size_t n = pick_size(w);
	off_t off = pick_offset(w);
	struct iovec v[3] = {{w->buf, n / 3}, {w->buf + n / 3, n / 3}, {w->buf + n / 3 * 2, 5}};

	say_bytes(w, result(w, preadv(w->fds[slot], v, 3, off)));
}

/* With O_DIRECT the size is to be aligned: of a write that is not, ext4 refuses the rest and may have written a part, as
 * the file happens to lie on the disk. (The offset need not be.) */
static size_t fit(int fd, size_t n)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_DIRECT) ? n & ~(size_t)4095 : n;
}

static void op_write(struct world *w)
{
	int slot = pick_slot(w);
	size_t n = fit(w->fds[slot], pick_size(w));

	fill(w, n);
	result(w, write(w->fds[slot], w->buf, n));
	say_fd(w, w->fds[slot]);
}

static void op_pwrite(struct world *w)
{
	int slot = pick_slot(w);
	size_t n = fit(w->fds[slot], pick_size(w));
	off_t off = pick_offset(w);

	fill(w, n);
	result(w, pwrite(w->fds[slot], w->buf, n, off));
	say_fd(w, w->fds[slot]);
}

static void op_pwritev(struct world *w)
{
	static const int flags[] = {0, 0, RWF_APPEND, RWF_DSYNC, RWF_SYNC, RWF_HIPRI};
	int slot = pick_slot(w), f = pick_of(w, flags);
	size_t n = fit(w->fds[slot], pick_size(w)), half = n / 2 & ~(size_t)4095;
	off_t off = pick_offset(w);
	struct iovec v[3] = {{w->buf, half}, {w->buf, 0}, {w->buf + half, n - half}};

	say(w, " 0x%x", f);
	fill(w, n);
	result(w, pwritev2(w->fds[slot], v, 3, off, f));
	say_fd(w, w->fds[slot]);
}

static void op_lseek(struct world *w)
{
	static const int whence[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 9};
	int slot = pick_slot(w), k = pick_of(w, whence);
	off_t off = pick_offset(w);
	struct stat st;

	/* Allocated space that was never written is a hole, or data, as the page cache has it. */
	if (k == SEEK_DATA || k == SEEK_HOLE)
		k = SEEK_CUR;
	/* Where one comes to in a directory is the file system's affair. */
	if (fstat(w->fds[slot], &st) == 0 && S_ISDIR(st.st_mode))
		off = 0, k = SEEK_SET;
	say(w, " %d", k);
	result(w, lseek(w->fds[slot], off, k));
}

static void op_holes(struct world *w)
{
	int slot = pick_slot(w), fd = open("holes", O_RDWR | O_CREAT | O_EXCL, 0600);
	unsigned n = rnd(w, 5);
	struct stat st;

	for (unsigned k = 0; k < n; k++) {
		off_t off = (off_t)rnd(w, 200) << 14;
		size_t size = 1 + rnd(w, 60000);

		fill(w, size);
		say(w, " %lld+%zu", (long long)off, size);
		result(w, pwrite(fd, w->buf, size, off));
	}
	result(w, ftruncate(fd, (off_t)rnd(w, 300) << 14));
	result(w, fsync(fd));
	if (fd >= 0 && fstat(fd, &st) == 0)
		say(w, " sparse %d", st.st_blocks * 512 < st.st_size);
	for (unsigned k = 0; k < 8; k++)
		result(w, lseek(fd, (off_t)rnd(w, 300) << 14, k & 1 ? SEEK_DATA : SEEK_HOLE));
	result(w, unlink("holes"));
	result(w, fd < 0 ? -1 : 0);
	keep(w, slot, fd);
}

static void op_truncate(struct world *w)
{
	char path[PATH_MOST];
	off_t off = pick_offset(w);

	pick_path(w, path);
	result(w, truncate(path, off));
	say_path(w, AT_FDCWD, path);
}

static void op_ftruncate(struct world *w)
{
	int slot = pick_slot(w);
	off_t off = pick_offset(w);

	result(w, ftruncate(w->fds[slot], off));
	say_fd(w, w->fds[slot]);
}

static void op_fallocate(struct world *w)
{
	static const int modes[] = {0,
				    FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
				    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
				    FALLOC_FL_PUNCH_HOLE,
				    FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	int slot = pick_slot(w), mode = pick_of(w, modes);
	off_t off = pick_offset(w);
	size_t n = pick_size(w);

	say(w, " 0x%x", mode);
	result(w, fallocate(w->fds[slot], mode, off, (off_t)n));
	say_fd(w, w->fds[slot]);
}

static void op_sync(struct world *w)
{
	int slot = pick_slot(w);

	switch (rnd(w, 5)) {
	case 0:
		result(w, fsync(w->fds[slot]));
		break;
	case 1:
		result(w, fdatasync(w->fds[slot]));
		break;
	case 2:
		result(w, sync_file_range(w->fds[slot], 0, 0, SYNC_FILE_RANGE_WRITE));
		break;
	case 3:
		result(w, readahead(w->fds[slot], 0, 10000));
		break;
	case 4:
		errno = posix_fadvise(w->fds[slot], 0, 0, POSIX_FADV_DONTNEED);
		result(w, errno ? -1 : 0);
		break;
	}
}

/* ---- from one file to another ---- */

/* Whether a file was opened so is not part of the FUSE request to copy; and where in memory the bytes lie, which counts
 * as well, is not part of a write. */
static void no_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && (flags & O_DIRECT))
		fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

static void op_copy_range(struct world *w)
{
	int from = pick_slot(w), to = pick_slot(w);
	bool by_offset = chance(w, 70);
	off_t in = pick_offset(w), out = pick_offset(w);
	size_t n = pick_size(w);
	unsigned flags = chance(w, 2);

	no_direct(w->fds[from]);
	no_direct(w->fds[to]);
	result(w, copy_file_range(w->fds[from], by_offset ? &in : NULL, w->fds[to],
				  by_offset ? &out : NULL, n, flags));
	say_fd(w, w->fds[to]);
}

static void op_sendfile(struct world *w)
{
	int from = pick_slot(w), to = pick_slot(w);
	bool by_offset = chance(w, 50);
	off_t in = pick_offset(w);
	size_t n = pick_size(w);

	no_direct(w->fds[to]);
	result(w, sendfile(w->fds[to], w->fds[from], by_offset ? &in : NULL, n));
	say_fd(w, w->fds[to]);
}

static void op_splice(struct world *w)
{
	int from = pick_slot(w), to = pick_slot(w);
	bool by_offset = chance(w, 50);
	off_t in = pick_offset(w), out = pick_offset(w);
	size_t n = pick_size(w);
	ssize_t got;

	no_direct(w->fds[to]);
	if (n > 4096) /* an empty pipe takes more, but not always as much more */
		n = 4096;
	got = result(w, splice(w->fds[from], by_offset ? &in : NULL, w->pipe[1], NULL, n,
			       SPLICE_F_NONBLOCK));
	if (got <= 0)
		return;
	if (result(w, splice(w->pipe[0], NULL, w->fds[to], by_offset ? &out : NULL, (size_t)got,
			     SPLICE_F_NONBLOCK)) < 0) {
		got = read(w->pipe[0], w->buf, IO_MOST);
		say_bytes(w, got);
	}
	while (read(w->pipe[0], w->buf, IO_MOST) > 0) /* it does not wait */
		;
	say_fd(w, w->fds[to]);
}

/* ---- mapped ---- */

static sigjmp_buf beyond;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(beyond, 1);
}

/* Copy to or from a mapping; beyond the end of the file there is nothing. */
static void touch(struct world *w, char *to, const char *from, size_t n, bool *ret_bus)
{
	struct sigaction sa = {.sa_handler = on_bus}, old;

	sigaction(SIGBUS, &sa, &old);
	*ret_bus = sigsetjmp(beyond, 1) != 0;
	if (!*ret_bus)
		memcpy(to, from, n);
	sigaction(SIGBUS, &old, NULL);
	if (*ret_bus)
		say(w, " SIGBUS");
}

static void op_map(struct world *w)
{
	int slot = pick_slot(w), k = (int)rnd(w, MAPS);
	bool writable = chance(w, 70), shared = chance(w, 70);
	off_t off = (off_t)rnd(w, 4) * 4096;
	size_t n = 1 + rnd(w, 40000);
	struct map *m = &w->maps[k];
	void *p;

	say(w, " m%d %s%s @%lld #%zu", k, shared ? "shared" : "private", writable ? " rw" : " r",
	    (long long)off, n);
	p = mmap(NULL, n, PROT_READ | (writable ? PROT_WRITE : 0),
		 shared ? MAP_SHARED : MAP_PRIVATE, w->fds[slot], off);
	result(w, p == MAP_FAILED ? -1 : 0);
	if (p == MAP_FAILED)
		return;
	if (m->p)
		munmap(m->p, m->len);
	*m = (struct map){p, n, writable, shared};
}

static void op_map_read(struct world *w)
{
	int k = (int)rnd(w, MAPS);
	size_t at = rnd(w, 40000), n = 1 + rnd(w, 5000);
	struct map *m = &w->maps[k];
	bool bus;

	say(w, " m%d @%zu #%zu", k, at, n);
	if (!m->p || at >= m->len)
		return;
	if (n > m->len - at)
		n = m->len - at;
	touch(w, w->buf, m->p + at, n, &bus);
	if (!bus)
		say_bytes(w, (ssize_t)n);
}

/* Written through to the file at once: when it would have been otherwise is nobody's to say. */
static void op_map_write(struct world *w)
{
	int k = (int)rnd(w, MAPS);
	size_t at = rnd(w, 40000), n = 1 + rnd(w, 5000);
	bool sync = chance(w, 90);
	struct map *m = &w->maps[k];
	bool bus;

	say(w, " m%d @%zu #%zu %s", k, at, n, sync ? "sync" : "");
	if (!m->p || at >= m->len || !m->writable)
		return;
	if (n > m->len - at)
		n = m->len - at;
	fill(w, n);
	touch(w, m->p + at, w->buf, n, &bus);
	if (sync || m->shared)
		result(w, msync(m->p, m->len, MS_SYNC));
}

static void op_unmap(struct world *w)
{
	int k = (int)rnd(w, MAPS);
	struct map *m = &w->maps[k];

	say(w, " m%d", k);
	if (m->p)
		result(w, munmap(m->p, m->len));
	m->p = NULL;
}

const struct op data_ops[] = {
	{"read", 15, op_read},
	{"pread", 20, op_pread},
	{"preadv", 5, op_preadv},
	{"write", 30, op_write},
	{"pwrite", 20, op_pwrite},
	{"pwritev2", 8, op_pwritev},
	{"lseek", 15, op_lseek},
	{"holes", 3, op_holes},
	{"truncate", 15, op_truncate},
	{"ftruncate", 15, op_ftruncate},
	{"fallocate", 15, op_fallocate},
	{"sync", 4, op_sync},
	{"copyrange", 10, op_copy_range},
	{"sendfile", 6, op_sendfile},
	{"splice", 6, op_splice},
	{"map", 10, op_map},
	{"mapread", 10, op_map_read},
	{"mapwrite", 12, op_map_write},
	{"unmap", 3, op_unmap},
	{0},
};
