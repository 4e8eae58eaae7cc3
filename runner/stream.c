/* SPDX-License-Identifier: MIT */
/* stream.c - spools, threads and descriptors, for stdin.c and console.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stream.h"

#define SPOOL_IN_MEMORY (256 << 10)
/* Where no file can be made: so much stays in memory, then the bytes are given up. */
#define SPOOL_NO_FILE	(16 << 20)

static int temp_file(const char *dir)
{
	auto_free char *name = NULL;
	int fd = stream_above_std(open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));

	if (fd != -EOPNOTSUPP && fd != -EISDIR && fd != -EINVAL)
		return fd;
	name = xasprintf("%s/spool-XXXXXX", dir);
	fd = stream_above_std(mkostemp(name, O_CLOEXEC));
	if (fd >= 0)
		(void)unlink(name); /* a name left behind is in a directory for leftovers */
	return fd;
}

void spool_init(struct spool *s, const char *dir)
{
	int fd = stream_above_std(memfd_create("mlfs-spool", MFD_CLOEXEC));

	*s = (struct spool){.fd = -1, .dir = dir ? xstrdup(dir) : NULL};
	if (fd < 0 && dir) {
		fd = temp_file(dir);
		s->on_disk = true;
	}
	if (fd < 0)
		s->lost = -fd;
	else
		s->fd = fd;
}

static int pwrite_all(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, (off_t)off);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		p += k;
		n -= (size_t)k;
		off += (size_t)k;
	}
	return 0;
}

static int copy_to(int to, int from, uint64_t len)
{
	uint8_t block[16384];

	for (uint64_t off = 0; off < len;) {
		ssize_t k = pread_full(from, block, sizeof(block), (off_t)off);
		int r = k <= 0 ? -EIO : pwrite_all(to, block, (size_t)k, off);

		if (r < 0)
			return r;
		off += (uint64_t)k;
	}
	return 0;
}

/* -errno only where bytes are lost; a directory that takes no file is reason to stay in memory. */
static int move_to_disk(struct spool *s)
{
	int fd = s->dir ? temp_file(s->dir) : -ENOENT;
	int r;

	if (fd < 0)
		return s->len > SPOOL_NO_FILE ? fd : 0;
	r = copy_to(fd, s->fd, s->len);
	if (r < 0) {
		(void)close(fd); /* nothing in it is wanted */
		return r;
	}
	(void)close(s->fd); /* memory */
	s->fd = fd;
	s->on_disk = true;
	return 0;
}

void spool_add(struct spool *s, const void *p, size_t n)
{
	int r = 0;

	if (s->lost || n == 0)
		return;
	if (!s->on_disk && s->len + n > SPOOL_IN_MEMORY)
		r = move_to_disk(s);
	if (r == 0)
		r = pwrite_all(s->fd, p, n, s->len);
	if (r < 0)
		s->lost = -r;
	else
		s->len += n;
}

void spool_free(struct spool *s)
{
	base_close(&s->fd);
	free(take(s->dir));
}

int stream_thread(pthread_t *ret, void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	int r;

	signals_all(&all);
	r = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (r != 0)
		return -r;
	r = pthread_create(ret, NULL, fn, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* cannot fail: it was the mask before */
	return -r;
}

short stream_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

int stream_above_std(int fd)
{
	int up;

	if (fd < 0 || fd > 2)
		return fd < 0 ? -errno : fd;
	up = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (up < 0)
		up = -errno;
	(void)close(fd); /* only this name of the file */
	return up;
}

bool stream_closed(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || (flags & O_PATH);
}

int stream_write(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t k = write(fd, at, n);
		struct pollfd room = {.fd = fd, .events = POLLOUT};

		if (k > 0) {
			at += k;
			n -= (size_t)k;
		} else if (k < 0 && errno == EAGAIN) {
			(void)poll(&room, 1, -1); /* the next write says what is wrong */
		} else if (k == 0 || errno != EINTR) {
			return k == 0 ? -EIO : -errno;
		}
	}
	return 0;
}

ssize_t stream_take(int fd, bool socket, void *p, size_t n)
{
	struct iovec v = {.iov_base = p, .iov_len = n};
	ssize_t k;

	do {
		if (socket)
			k = recv(fd, p, n, MSG_DONTWAIT);
		else
			k = preadv2(fd, &v, 1, -1, RWF_NOWAIT);
	} while (k < 0 && errno == EINTR);
	if (k >= 0 || socket || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
		return k < 0 ? -errno : k;
	/* Fifos and kernels before 6.4. */
	if (!stream_ready(fd, POLLIN))
		return -EAGAIN;
	do {
		k = read(fd, p, n);
	} while (k < 0 && errno == EINTR);
	return k < 0 ? -errno : k;
}

ssize_t stream_peek(int fd, const int *scratch, void *p, size_t n, bool *ret_full)
{
	ssize_t k, got;

	*ret_full = false;
	if (!scratch) {
		k = recv(fd, p, n, MSG_PEEK | MSG_DONTWAIT);
		return k < 0 ? -errno : k;
	}
	got = tee(fd, scratch[1], n, SPLICE_F_NONBLOCK);
	if (got <= 0)
		return got == 0 ? 0 : -errno;
	*ret_full = !(stream_ready(scratch[1], POLLOUT) & POLLOUT);
	k = read_full(scratch[0], p, (size_t)got);
	return k == got ? got : -EIO;
}
