/* SPDX-License-Identifier: MIT */
/*
 * feed.c - give the command a pipe or socket of which no more is taken than the command itself takes.
 *
 * What is left unread belongs to whoever reads the stream next (the shell script mlfs was called from), and
 * what was read is an input of the step. So the command gets the read end of a private pipe of one slot:
 * bytes are looked at in the real stream without taking them (tee(2) into a scratch pipe, or MSG_PEEK), written
 * into the slot, and taken from the real stream once the slot is empty. That is what POLLOUT says: a pipe
 * is writable when a slot is free (pipe_poll in Linux' fs/pipe.c), and a slot that was read in part is not.
 * In the end FIONREAD, which works on the write end too, tells how much of the last slot was left.
 * Only the write end is kept here: were the read end kept as well, the command's closing it would go unseen.
 *
 * Where the kernel cannot look ahead (tee fails), bytes are taken when they are offered. Then, and only then, more
 * may be taken than the command wanted.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stream.h"

#define SLOT_MAX 65536 /* the largest page size */

/* A command that did not look at stdin is recorded as having seen its end when that was there to be seen. A
 * stream that stays open and silent must not hang such a command, so the end alone is not waited for long: a
 * miss is always right. */
#define WAIT_END_OF_NOTHING_MS 100
#define WAIT_END_MS	       1000
/* How long to rely on being woken: the sender on a socket may be waiting for room that only reading gives, without
 * a sign of it; and Linux 5.5 to 5.13 gives no edge for bytes that join others in a pipe. */
#define LOOK_AGAIN_MS 200

struct feed {
	int fd; /* the real stream, borrowed */
	bool socket;
	bool no_peek;	/* tee does not work here */
	int scratch[2]; /* always empty between calls */
	int changes;	/* epoll, edge-triggered: something has come, or the other end is gone */
	struct buf held; /* taken from the stream by feed_match; the command gets it first */
	size_t held_at;
	struct buf seen; /* of the last look */

	int pipe_w, pipe_r, stop;
	pthread_t thread;
	bool running;
	size_t slot_size, slot_len;
	bool slot_taken; /* the slot's bytes are no longer in the real stream */
	uint8_t slot[SLOT_MAX], taken[SLOT_MAX];

	struct spool spool;
	struct fp_state *fp;
	struct fp fp_all;
	uint64_t len;
	bool eof;
	struct err spoiled;
};

int feed_new(int fd, bool socket, const char *dir, struct feed **ret, struct err *e)
{
	struct feed *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(e, ENOMEM, "cannot look at stdin");
	f->fd = fd;
	f->socket = socket;
	f->scratch[0] = f->scratch[1] = f->changes = f->pipe_w = f->pipe_r = f->stop = -1;
	spool_init(&f->spool, dir);
	*ret = f;
	return 0;
}

/* ---- looking at the stream and taking from it ---- */

/* The scratch pipe gets room for all that the real one can hold. */
static void scratch_fit(struct feed *f)
{
	int want = fcntl(f->fd, F_GETPIPE_SZ);

	if (f->scratch[1] >= 0 && want > fcntl(f->scratch[1], F_GETPIPE_SZ))
		(void)fcntl(f->scratch[1], F_SETPIPE_SZ, want); /* refused: less can be seen at once */
}

/* Up to n of the next bytes, without taking them. 0 at the end, -EAGAIN when there is nothing. *ret_full (NULL
 * allowed): it may be that no more can be seen before some are taken. */
static ssize_t peek_pipe(struct feed *f, void *p, size_t n, bool *ret_full)
{
	ssize_t got, k;

	if (f->scratch[0] < 0 && pipe2(f->scratch, O_CLOEXEC) < 0)
		return -errno;
	if (ret_full)
		scratch_fit(f);
	got = tee(f->fd, f->scratch[1], n, SPLICE_F_NONBLOCK);
	if (got <= 0)
		return got == 0 ? 0 : -errno;
	if (ret_full)
		*ret_full = !(stream_ready(f->scratch[1], POLLOUT) & POLLOUT);
	k = read_full(f->scratch[0], p, (size_t)got);
	return k == got ? got : -EIO;
}

static ssize_t peek(struct feed *f, void *p, size_t n, bool *ret_full)
{
	ssize_t k;

	if (!f->socket)
		return peek_pipe(f, p, n, ret_full);
	if (ret_full)
		*ret_full = false;
	k = recv(f->fd, p, n, MSG_PEEK | MSG_DONTWAIT);
	return k < 0 ? -errno : k;
}

/* Take up to n bytes without waiting; 0 at the end, -EAGAIN when there is nothing. Whoever else reads this stream may
 * be faster, hence no plain read after a poll, and never O_NONBLOCK: others would see it. */
static ssize_t take_now(struct feed *f, void *p, size_t n)
{
	struct iovec v = {.iov_base = p, .iov_len = n};
	ssize_t k;

	do {
		if (f->socket)
			k = recv(f->fd, p, n, MSG_DONTWAIT);
		else
			k = preadv2(f->fd, &v, 1, -1, RWF_NOWAIT);
	} while (k < 0 && errno == EINTR);
	if (k >= 0 || f->socket || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
		return k < 0 ? -errno : k;
	/* Fifos and kernels before 6.4. */
	if (!stream_ready(f->fd, POLLIN))
		return -EAGAIN;
	do {
		k = read(f->fd, p, n);
	} while (k < 0 && errno == EINTR);
	return k < 0 ? -errno : k;
}

/* Take exactly n bytes that were seen there. -ESTALE: somebody else took some of them. */
static int take_seen(struct feed *f, uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = take_now(f, p, n);

		if (k <= 0)
			return k == 0 || k == -EAGAIN ? -ESTALE : (int)k;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Nobody can write any more; what can be seen after this is all there is. */
static bool at_end(const struct feed *f)
{
	return stream_ready(f->fd, POLLIN | POLLRDHUP) & (POLLHUP | POLLRDHUP | POLLERR);
}

/* ---- lookup ---- */

enum answer { DIFFERENT, SAME, GO_ON, WAIT };

static int watch_changes(struct feed *f)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
	auto_close int fd = -1;

	if (f->changes >= 0)
		return 0;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, f->fd, &ev) < 0)
		return -errno;
	f->changes = take_fd(&fd);
	return 0;
}

/* Take what was just seen (the first n bytes of it) and keep it for the command. */
static int hold(struct feed *f, size_t n)
{
	int r;

	buf_reserve(&f->held, n);
	r = take_seen(f, f->held.data + f->held.len, n);
	if (r < 0)
		return r;
	if (memcmp(f->held.data + f->held.len, f->seen.data, n) != 0)
		return -ESTALE;
	f->held.len += n;
	return GO_ON;
}

/* Without tee: take what is there, up to one byte more than wanted. */
static int hold_blindly(struct feed *f, size_t want)
{
	size_t n = want < SLOT_MAX ? want + 1 : SLOT_MAX;
	ssize_t k;

	buf_reserve(&f->held, n);
	k = take_now(f, f->held.data + f->held.len, n);
	if (k == -EAGAIN)
		return WAIT;
	if (k <= 0)
		return k < 0 ? (int)k : want == 0 ? SAME : DIFFERENT;
	f->held.len += (size_t)k;
	return GO_ON;
}

/* Look at what is in the stream, which should be these n bytes; eof: and then its end. */
static int look(struct feed *f, const uint8_t *want, size_t n, bool eof)
{
	bool end = at_end(f), full = false;
	int there = 0;
	size_t got;
	ssize_t k;

	f->seen.len = 0;
	if (f->no_peek)
		return hold_blindly(f, n);
	(void)ioctl(f->fd, FIONREAD, &there); /* 0 where it is not known */
	got = there > SLOT_MAX ? (size_t)there : SLOT_MAX;
	if (got > n + 1)
		got = n + 1;
	buf_reserve(&f->seen, got);
	k = peek(f, f->seen.data, got, &full);
	if (k == -EAGAIN)
		k = 0;
	if (k < 0) {
		f->no_peek = !f->socket;
		return f->no_peek ? GO_ON : (int)k;
	}
	got = f->seen.len = (size_t)k;
	if (memcmp(f->seen.data, want, got < n ? got : n) != 0)
		return DIFFERENT;
	if (got > n || (got == n && !eof))
		return eof ? DIFFERENT : SAME;
	if (end)
		return got == n ? SAME : DIFFERENT;
	return full ? hold(f, got) : WAIT;
}

/* Wait until there is more than was seen, for at most `left` ms (-1: no limit). */
static int wait_for_more(struct feed *f, int left, bool only_end)
{
	bool again = f->seen.len > 0 && (left < 0 || left > LOOK_AGAIN_MS);
	struct epoll_event ev;
	int r = epoll_wait(f->changes, &ev, 1, again ? LOOK_AGAIN_MS : left);

	if (r < 0)
		return -errno;
	if (r == 0 && !again)
		return DIFFERENT;
	return r == 0 && f->socket && !only_end ? hold(f, f->seen.len) : GO_ON;
}

/* What is left of the patience, in ms. */
static int time_left(int64_t since, int patience)
{
	int64_t left = patience - (mono_ns() - since) / 1000000;

	return patience < 0 ? -1 : left < 0 ? 0 : (int)left;
}

static int match(struct feed *f, const uint8_t *want, size_t n, bool eof, int silence_ms)
{
	size_t done = 0, most = 0; /* bytes that are held and equal; ... that were ever seen */
	int64_t since = mono_ns();
	int r = watch_changes(f);

	while (r >= 0) {
		size_t k = f->held.len < n ? f->held.len : n;

		if (k > done && memcmp(f->held.data + done, want + done, k - done) != 0)
			return DIFFERENT;
		done = k;
		if (done == n && (f->held.len > n || !eof))
			return eof ? DIFFERENT : SAME;
		r = look(f, want + done, n - done, eof);
		if (r == SAME || r == DIFFERENT)
			return r;
		k = done + f->seen.len;
		if (k > most) {
			most = k;
			since = mono_ns();
		}
		if (r == WAIT && k == n)
			r = wait_for_more(f, time_left(since, n ? WAIT_END_MS : WAIT_END_OF_NOTHING_MS), true);
		else if (r == WAIT)
			r = wait_for_more(f, time_left(since, silence_ms), false);
		if (r == DIFFERENT)
			return r;
	}
	return r;
}

int feed_match(struct feed *f, const void *want, size_t n, bool eof, int silence_ms, struct err *e)
{
	int r = match(f, n ? want : (const uint8_t *)"", n, eof, silence_ms);

	f->seen.len = 0;
	return r < 0 ? err_set(e, r, "cannot look at stdin") : r;
}

int feed_drop(struct feed *f, uint64_t n, struct err *e)
{
	uint64_t held = f->held.len - f->held_at;
	int r = 0;

	if (held > n)
		held = n;
	f->held_at += held;
	for (n -= held; n > 0 && r == 0;) {
		size_t k = n < SLOT_MAX ? (size_t)n : SLOT_MAX;

		r = take_seen(f, f->taken, k);
		n -= k;
	}
	return r < 0 ? err_set(e, r, "cannot read stdin") : 0;
}

/* ---- while the command runs ---- */

int feed_pipe(struct feed *f, struct err *e)
{
	int p[2], size, flags = fcntl(f->fd, F_GETFL);
	auto_close int r = -1, w = -1;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe for stdin");
	r = stream_above_std(p[0]);
	w = stream_above_std(p[1]);
	f->stop = stream_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (r < 0 || w < 0 || f->stop < 0)
		return err_set(e, r < 0 ? r : w < 0 ? w : f->stop, "cannot make a pipe for stdin");
	size = fcntl(w, F_SETPIPE_SZ, 4096); /* rounded up to a page, that is one slot */
	if (size <= 0 || size > SLOT_MAX)
		return err_set(e, size < 0 ? errno : EINVAL, "cannot make a pipe for stdin small");
	/* The command sees the blocking mode that it would see on the real one. */
	if ((flags >= 0 && (flags & O_NONBLOCK) && fcntl(r, F_SETFL, O_NONBLOCK) < 0) ||
	    fcntl(w, F_SETFL, O_NONBLOCK) < 0)
		return err_set(e, errno, "cannot make a pipe for stdin");
	f->slot_size = (size_t)size;
	f->pipe_w = take_fd(&w);
	return take_fd(&r);
}

static void spoil(struct feed *f, int code)
{
	if (f->spoiled.code)
		return;
	if (code == -ESTALE)
		(void)err_text(&f->spoiled, ESTALE, "another process read the same stdin");
	else
		(void)err_set(&f->spoiled, code, "stdin could not be read");
}

/* The command has taken n bytes of the slot: they are now taken from the real stream too. What is taken must be
 * what was given: two readers of one stream may have been given the same bytes. */
static void settle(struct feed *f, size_t n)
{
	int r = 0;

	if (n > 0 && !f->slot_taken) {
		r = take_seen(f, f->taken, n);
		if (r == 0 && memcmp(f->taken, f->slot, n) != 0)
			r = -ESTALE;
	}
	if (r < 0)
		spoil(f, r);
	spool_add(&f->spool, f->slot, n);
	fp_update(f->fp, f->slot, n);
	f->len += n;
	f->slot_len = 0;
}

/* Wait until the real stream has something (1). 0: the command has closed its end, or stop. */
static int wait_for_input(struct feed *f)
{
	struct pollfd p[] = {{.fd = f->pipe_w}, {.fd = f->stop, .events = POLLIN}, {.fd = f->fd, .events = POLLIN}};

	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents || p[1].revents)
			return 0;
		if (p[2].revents)
			return 1;
	}
}

/* Fill the slot with bytes not yet given, waiting for them. 1; 0: no more will be given. */
static int next_slot(struct feed *f)
{
	size_t held = f->held.len - f->held_at;
	ssize_t k = 0;
	int r;

	f->slot_taken = held > 0 || f->no_peek;
	if (held > 0) {
		k = (ssize_t)(held < f->slot_size ? held : f->slot_size);
		memcpy(f->slot, f->held.data + f->held_at, (size_t)k);
		f->held_at += (size_t)k;
	}
	while (k == 0) {
		r = wait_for_input(f);
		if (r <= 0)
			return r;
		k = f->no_peek ? take_now(f, f->slot, f->slot_size) : peek(f, f->slot, f->slot_size, NULL);
		if (k == 0) {
			f->eof = true;
			return 0;
		}
		if (k < 0 && k != -EAGAIN) {
			if (f->socket || f->no_peek)
				return (int)k;
			f->no_peek = f->slot_taken = true;
		}
		if (k < 0)
			k = 0;
	}
	f->slot_len = (size_t)k;
	return 1;
}

/* Give the slot to the command and wait until it has all of it. 1; 0: it will take no more, or stop. */
static int give_slot(struct feed *f)
{
	struct pollfd p[] = {{.fd = f->pipe_w, .events = POLLOUT}, {.fd = f->stop, .events = POLLIN}};

	if (write(f->pipe_w, f->slot, f->slot_len) != (ssize_t)f->slot_len) {
		int code = -errno;

		f->slot_len = 0; /* nothing of it went anywhere: a write of up to a page is atomic */
		return code == -EPIPE ? 0 : code;
	}
	do {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -errno;
	} while (!p[0].revents && !p[1].revents);
	if (p[0].revents != POLLOUT)
		return 0; /* feed_stop settles */
	settle(f, f->slot_len);
	return 1;
}

static void *feed_main(void *arg)
{
	struct feed *f = arg;
	int r;

	do {
		r = next_slot(f);
		if (r > 0)
			r = give_slot(f);
	} while (r > 0);
	if (r < 0)
		spoil(f, r);
	if (f->slot_len == 0 && (f->eof || r < 0)) {
		base_close(&f->pipe_w); /* the slot is empty: the command sees the end */
		f->pipe_w = -1;
	}
	return NULL;
}

int feed_start(struct feed *f, struct err *e)
{
	int r;

	f->fp = fp_begin();
	r = stream_thread(&f->thread, feed_main, f);
	if (r < 0)
		return err_set(e, r, "cannot start the thread for stdin");
	f->running = true;
	return 0;
}

void feed_stop(struct feed *f)
{
	const uint64_t one = 1;
	int left = 0;

	if (!f->running)
		return;
	if (write(f->stop, &one, sizeof(one)) < 0)
		spoil(f, -errno); /* cannot be: the counter is far from full */
	(void)pthread_join(f->thread, NULL);
	f->running = false;
	if (f->slot_len > 0) {
		if (ioctl(f->pipe_w, FIONREAD, &left) < 0)
			spoil(f, -errno);
		settle(f, f->slot_len - (size_t)left);
	}
	base_close(&f->pipe_w);
	f->pipe_w = -1;
	f->fp_all = fp_end(take(f->fp));
	if (f->spool.lost && !f->spoiled.code)
		(void)err_set(&f->spoiled, f->spool.lost, "stdin could not be kept");
}

void feed_used(struct feed *f, struct feed_used *ret)
{
	*ret = (struct feed_used){
		.spool = f->spool.fd,
		.len = f->len,
		.fp = f->fp_all,
		.eof = f->eof,
		.spoiled = f->spoiled.code ? f->spoiled.msg : NULL,
	};
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	feed_stop(f);
	base_close(&f->scratch[0]);
	base_close(&f->scratch[1]);
	base_close(&f->changes);
	base_close(&f->pipe_w);
	base_close(&f->stop);
	buf_free(&f->held);
	buf_free(&f->seen);
	if (f->fp)
		(void)fp_end(f->fp); /* only to free it */
	spool_free(&f->spool);
	free(f);
}
