/* SPDX-License-Identifier: MIT */
/*
 * copy.c - copying files while their bytes are hashed.
 *
 * The bytes hashed are those written, from one buffer. SHA-256 takes longer than copying within the
 * page cache, so for large files a second thread hashes what this one has read, a few chunks behind.
 */
#include "copy.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AHEAD	   4u	       /* chunks read and not yet hashed, at most */
#define THREAD_MIN (4u << 20)  /* from this size on a thread is worth its start */
#define PIECE	   (16u << 20) /* that the kernel copies at a time: a signal waits for one */

int pwrite_all(int fd, const char *p, size_t n, uint64_t at)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return 0;
}

/* ---- hashing behind ---- */

struct behind {
	struct hasher *h;
	char *chunks; /* AHEAD of HASH_CHUNK each */
	size_t len[AHEAD];
	bool threaded;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t moved;
	uint64_t filled, hashed; /* chunks so far; under mu */
	bool end;		 /* no more will come */
	int err;		 /* of the hashing; 0 or -errno */
};

static char *chunk_of(const struct behind *b, uint64_t n)
{
	return b->chunks + (size_t)(n % AHEAD) * HASH_CHUNK;
}

static void *hash_behind(void *arg)
{
	struct behind *b = arg;

	(void)pthread_mutex_lock(&b->mu);
	for (;;) {
		uint64_t n = b->hashed;
		int r;

		while (b->filled == n && !b->end)
			(void)pthread_cond_wait(&b->moved, &b->mu);
		if (b->filled == n)
			break;
		(void)pthread_mutex_unlock(&b->mu);
		r = hasher_update(b->h, chunk_of(b, n), b->len[n % AHEAD]);
		(void)pthread_mutex_lock(&b->mu);
		if (r < 0)
			b->err = r;
		b->hashed++;
		(void)pthread_cond_signal(&b->moved);
	}
	(void)pthread_mutex_unlock(&b->mu);
	return NULL;
}

static int behind_start(struct behind *b, struct hasher *h, bool threaded)
{
	*b = (struct behind){.h = h, .threaded = threaded};
	b->chunks = io_alloc((threaded ? AHEAD : 1) * (size_t)HASH_CHUNK);
	if (!b->chunks)
		return -ENOMEM;
	if (!threaded)
		return 0;
	(void)pthread_mutex_init(&b->mu, NULL); /* neither can fail on Linux */
	(void)pthread_cond_init(&b->moved, NULL);
	/* Without a thread it takes longer, nothing else. */
	b->threaded = pthread_create(&b->thread, NULL, hash_behind, b) == 0;
	return 0;
}

/* Where the next chunk may be put. */
static char *behind_next(struct behind *b)
{
	if (!b->threaded)
		return b->chunks;
	(void)pthread_mutex_lock(&b->mu);
	while (b->filled - b->hashed == AHEAD)
		(void)pthread_cond_wait(&b->moved, &b->mu);
	(void)pthread_mutex_unlock(&b->mu);
	return chunk_of(b, b->filled);
}

/* It is there; it stays as it is until the next call of behind_next. */
static int behind_put(struct behind *b, size_t n)
{
	if (!b->h)
		return 0;
	if (!b->threaded)
		return hasher_update(b->h, b->chunks, n);
	(void)pthread_mutex_lock(&b->mu);
	b->len[b->filled % AHEAD] = n;
	b->filled++;
	(void)pthread_cond_signal(&b->moved);
	(void)pthread_mutex_unlock(&b->mu);
	return 0;
}

/* 0, or -errno of the hashing. */
static int behind_end(struct behind *b)
{
	if (b->threaded) {
		(void)pthread_mutex_lock(&b->mu);
		b->end = true;
		(void)pthread_cond_signal(&b->moved);
		(void)pthread_mutex_unlock(&b->mu);
		(void)pthread_join(b->thread, NULL);
	}
	free(b->chunks);
	return b->err;
}

/* ---- copying ---- */

static bool all_zero(const char *p, size_t n)
{
	return n && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int copy_chunks(int from, int to, bool sparse, struct behind *b, uint64_t *ret_size)
{
	uint64_t at = 0;

	for (;;) {
		char *chunk = behind_next(b);
		ssize_t n = pread_full(from, chunk, HASH_CHUNK, (off_t)at);
		int r;

		if (n < 0)
			return (int)n;
		r = behind_put(b, (size_t)n);
		if (r == 0 && !(sparse && all_zero(chunk, (size_t)n)))
			r = pwrite_all(to, chunk, (size_t)n, at);
		if (r < 0)
			return r;
		at += (uint64_t)n;
		if ((size_t)n < HASH_CHUNK)
			break;
	}
	*ret_size = at;
	return 0;
}

int copy_hashed(int from, int to, struct hasher *h, uint64_t *ret_size)
{
	struct behind b;
	struct stat st;
	bool sparse;
	int r, hashing;

	if (fstat(from, &st) < 0)
		return -errno;
	sparse = (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size;
	r = behind_start(&b, h, h && st.st_size >= THREAD_MIN);
	if (r < 0)
		return r;
	r = copy_chunks(from, to, sparse, &b, ret_size);
	hashing = behind_end(&b);
	if (r == 0)
		r = hashing;
	if (r == 0 && sparse && ftruncate(to, (off_t)*ret_size) < 0)
		r = -errno;
	return r;
}

/* Within the kernel: 0 or -errno. */
static int copy_pieces(int from, int to, uint64_t *ret_size)
{
	off_t at = 0, out = 0;
	ssize_t n;

	do
		n = copy_file_range(from, &at, to, &out, PIECE, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	*ret_size = (uint64_t)at;
	return n < 0 ? -errno : 0;
}

int copy_whole(int from, int to, uint64_t *ret_size)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -errno;
	/* It may fill holes; whether it can at all depends on kernel and file systems. */
	if ((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size &&
	    copy_pieces(from, to, ret_size) == 0 && *ret_size == (uint64_t)st.st_size)
		return 0;
	return copy_hashed(from, to, NULL, ret_size);
}
