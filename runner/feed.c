/* SPDX-License-Identifier: MIT */
/*
 * feed.c - give the command a pipe or socket of which no more is taken than the command itself
 * takes.
 *
 * What is left unread belongs to whoever reads the stream next (the shell script mlfs was called
 * from), and what was read is an input of the step. So the command gets the read end of a private
 * pipe. Bytes are looked at in the real stream without taking them (tee(2) into a scratch pipe, or
 * MSG_PEEK) and written into the private one: they are the window. FIONREAD, which works on the
 * write end too, tells how much of the window the command has not taken yet; so much stays in the
 * real stream, the rest is taken from it.
 *
 * When to look: a pipe is writable when a slot is free, so one that was full tells when the command
 * has emptied a slot (pipe_poll in Linux' fs/pipe.c). One that was not full says nothing, and need
 * not: more bytes in the real stream are an event of their own. Only where their sender is held up
 * by what is still in the real stream, while the private pipe has room, is nothing to be waited
 * for; there one looks again after a while (BLIND). Only the write end is kept here: were the read
 * end kept as well, the command's closing it would go unseen.
 *
 * Where the kernel cannot look ahead (tee fails), bytes are taken when they are offered. Then, and
 * only then, more may be taken than the command wanted.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream.h"

#define WINDOW 65536 /* what a pipe holds by default */

/* A command that did not look at stdin is recorded as having seen its end when that was there to
 * be seen. A stream that stays open and silent must not hang such a command, so the end alone is
 * not waited for long: a miss is always right. */
#define WAIT_NO_END_MS 100
#define WAIT_END_MS    1000
/* How long to rely on being woken: the sender on a socket may be waiting for room that only
 * reading gives, without a sign of it; and Linux 5.5 to 5.13 gives no edge for bytes that join
 * others in a pipe. */
#define LOOK_AGAIN_MS  200

struct feed {
	int fd; /* the real stream, borrowed */
	bool socket;
	bool no_peek;	 /* tee does not work here */
	int scratch[2];	 /* always empty between calls */
	int changes;	 /* epoll, edge-triggered: something has come, or the other end is gone */
	struct buf held; /* taken from the stream by feed_match; the command gets it first */
	size_t held_at;
	struct buf seen; /* of the last look */

	int pipe_w, stop;
	int left_fd; /* pipe_w, or a read end once that is closed: to ask what is left */
	pthread_t thread;
	bool running;
	bool ended;	 /* all was given, pipe_w is closed */
	size_t win_len;	 /* bytes given, of which it is not known that they were taken */
	size_t win_held; /* the first of them, which are no longer in the real stream */
	uint8_t window[WINDOW], block[WINDOW];

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
	f->scratch[0] = f->scratch[1] = f->changes = f->pipe_w = f->left_fd = f->stop = -1;
	spool_init(&f->spool, dir);
	*ret = f;
	return 0;
}

/* ---- looking at the stream and taking from it ---- */

/* Take exactly n bytes that were seen there. -ESTALE: somebody else took some of them. */
static int take_seen(struct feed *f, uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = stream_take(f->fd, f->socket, p, n);

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

/* A scratch pipe with room for all that the real one can hold. */
static int make_scratch(struct feed *f)
{
	int want = fcntl(f->fd, F_GETPIPE_SZ);

	if (f->socket)
		return 0;
	if (f->scratch[0] < 0 && pipe2(f->scratch, O_CLOEXEC) < 0)
		return -errno;
	if (want > fcntl(f->scratch[1], F_GETPIPE_SZ))
		/* Refused: less can be seen at once. */
		(void)fcntl(f->scratch[1], F_SETPIPE_SZ, want);
	return 0;
}

/* Get ready to look and to wait. In each process anew: an epoll instance is shared over a fork. */
static int prepare(struct feed *f)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};

	base_close(&f->changes);
	f->changes = epoll_create1(EPOLL_CLOEXEC);
	if (f->changes < 0 || epoll_ctl(f->changes, EPOLL_CTL_ADD, f->fd, &ev) < 0)
		return -errno;
	return make_scratch(f);
}

/* ---- lookup ---- */

enum answer { DIFFERENT, SAME, GO_ON, WAIT };

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
	size_t n = want < WINDOW ? want + 1 : WINDOW;
	ssize_t k;

	buf_reserve(&f->held, n);
	k = stream_take(f->fd, f->socket, f->held.data + f->held.len, n);
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
	got = there > WINDOW ? (size_t)there : WINDOW;
	if (got > n + 1)
		got = n + 1;
	buf_reserve(&f->seen, got);
	k = stream_peek(f->fd, f->socket ? NULL : f->scratch, f->seen.data, got, &full);
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
	int r = prepare(f);

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
			r = wait_for_more(f, time_left(since, n ? WAIT_END_MS : WAIT_NO_END_MS),
					  true);
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
		size_t k = n < WINDOW ? (size_t)n : WINDOW;

		r = take_seen(f, f->block, k);
		n -= k;
	}
	return r < 0 ? err_set(e, r, "cannot read stdin") : 0;
}

/* ---- while the command runs ---- */

static void spoil(struct feed *f, int code)
{
	if (f->spoiled.code)
		return;
	if (code == -ESTALE)
		(void)err_text(&f->spoiled, ESTALE, "another process read the same stdin");
	else
		(void)err_set(&f->spoiled, code, "stdin could not be read");
}

/* Somebody else took bytes of the window from the real stream: those that are left there are new
 * ones. */
static void lost_window(struct feed *f)
{
	spoil(f, -ESTALE);
	f->win_held = f->win_len;
}

/* How much of the window the command has not taken. */
static size_t left_in_pipe(struct feed *f)
{
	int left = 0;

	if (f->win_len == 0)
		return 0;
	if (ioctl(f->left_fd, FIONREAD, &left) < 0)
		spoil(f, -errno);
	return (size_t)left;
}

/* The same, taking it back: a process that the command left behind must not read it once others
 * read the real stream. */
static size_t withdraw(struct feed *f)
{
	char path[64];
	auto_close int fd = -1;
	size_t left = 0;
	ssize_t k;

	if (f->win_len == 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->left_fd);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return left_in_pipe(f);
	while ((k = read(fd, f->block, sizeof(f->block))) > 0)
		left += (size_t)k;
	return left;
}

/* Take from the real stream what the command has taken since. What is taken must be what was
 * given: two readers of one stream may have been given the same bytes. True: there was
 * something. */
static bool settle(struct feed *f, size_t left)
{
	size_t n, held;
	int r;

	if (left > f->win_len) {
		spoil(f, -EPROTO); /* the command wrote to its own stdin */
		left = 0;
	}
	n = f->win_len - left;
	if (n == 0)
		return false;
	held = n < f->win_held ? n : f->win_held;
	f->win_held -= held;
	r = take_seen(f, f->block, n - held);
	if (r < 0 && r != -ESTALE)
		spoil(f, r);
	if (r < 0 || memcmp(f->block, f->window + held, n - held) != 0)
		lost_window(f);
	spool_add(&f->spool, f->window, n);
	fp_update(f->fp, f->window, n);
	f->len += n;
	f->win_len -= n;
	if (f->win_held > f->win_len)
		f->win_held = f->win_len;
	memmove(f->window, f->window + n, f->win_len);
	return true;
}

/* What to do next. BLIND: what would have to be waited for gives no event. */
enum next { GONE, MORE, FULL, EMPTY, BLIND, END };

/* Write to the command's pipe, which has room; held: the bytes are no longer in the real stream. */
static int give_bytes(struct feed *f, const uint8_t *p, size_t n, bool held)
{
	ssize_t k;

	if (n > WINDOW - f->win_len)
		n = WINDOW - f->win_len;
	k = n ? write(f->pipe_w, p, n) : 0;
	if (k < 0)
		return errno == EPIPE ? GONE : errno == EAGAIN ? FULL : -errno;
	memcpy(f->window + f->win_len, p, (size_t)k);
	f->win_len += (size_t)k;
	if (held) {
		f->win_held += (size_t)k;
		f->held_at += (size_t)k;
	}
	return MORE;
}

/* Give what is in the real stream beyond the window. */
static int give_new(struct feed *f)
{
	size_t skip = f->win_len - f->win_held, same;
	bool end = at_end(f), full;
	ssize_t n;

	if (f->win_len == WINDOW)
		return MORE; /* the command has made room since the last look */
	n = stream_peek(f->fd, f->socket ? NULL : f->scratch, f->block, WINDOW - f->win_held,
			&full);
	if (n == 0 && skip == 0)
		return END;
	if (n == -EAGAIN)
		n = 0;
	if (n < 0 && skip == 0 && !f->socket) {
		f->no_peek = true;
		return MORE;
	}
	if (n < 0)
		return (int)n;
	same = (size_t)n < skip ? (size_t)n : skip;
	if ((same < skip && !full) || memcmp(f->block, f->window + f->win_held, same) != 0) {
		lost_window(f);
		return MORE;
	}
	if ((size_t)n > skip)
		return give_bytes(f, f->block + skip, (size_t)n - skip, false);
	return end ? END : full || (f->socket && skip > 0) ? BLIND : EMPTY;
}

static int give(struct feed *f)
{
	short ready = stream_ready(f->pipe_w, POLLOUT);
	int r;

	if (ready & POLLERR)
		return GONE;
	if (!(ready & POLLOUT))
		return FULL;
	if (f->held_at < f->held.len)
		return give_bytes(f, f->held.data + f->held_at, f->held.len - f->held_at, true);
	if (!f->no_peek)
		return give_new(f);
	f->held.len = f->held_at = 0;
	r = hold_blindly(f, WINDOW);
	return r == WAIT ? EMPTY : r == GO_ON ? MORE : r == DIFFERENT ? END : r;
}

/* Let the command see the end. What is left in its pipe is asked of a read end from now on: one
 * that is kept here does no harm when nothing is written any more. */
static int end_pipe(struct feed *f)
{
	char path[64];
	int fd = -1;

	if (f->win_len > 0) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->pipe_w);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return BLIND; /* no /proc: the end is shown when all is taken */
	}
	base_close(&f->pipe_w);
	f->left_fd = fd;
	f->ended = true;
	return END;
}

/* What is there already is there when the command starts: it may look without waiting. */
static void give_first(struct feed *f)
{
	int r;

	do {
		r = give(f);
	} while (r == MORE && f->win_len < WINDOW);
	if (r == END)
		(void)end_pipe(f); /* if it cannot be now, then later; an error comes again too */
}

int feed_pipe(struct feed *f, struct err *e)
{
	int p[2], code, flags = fcntl(f->fd, F_GETFL);
	auto_close int r = -1, w = -1;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe for stdin");
	r = stream_above_std(p[0]);
	w = stream_above_std(p[1]);
	f->stop = stream_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (r < 0 || w < 0 || f->stop < 0)
		return err_set(e, r < 0 ? r : w < 0 ? w : f->stop, "cannot make a pipe for stdin");
	/* It has that size, unless pages are large or the user has too many pipes. */
	(void)fcntl(w, F_SETPIPE_SZ, WINDOW);
	/* The command sees the blocking mode that it would see on the real one. */
	if ((flags >= 0 && (flags & O_NONBLOCK) && fcntl(r, F_SETFL, O_NONBLOCK) < 0) ||
	    fcntl(w, F_SETFL, O_NONBLOCK) < 0)
		return err_set(e, errno, "cannot make a pipe for stdin");
	f->pipe_w = f->left_fd = take_fd(&w);
	f->fp = fp_begin();
	code = prepare(f);
	if (code < 0)
		return err_set(e, code, "cannot watch stdin");
	give_first(f);
	return take_fd(&r);
}

/* Wait for what `why` needs. False: the command has closed its end, or stop. */
static bool wait_for(struct feed *f, int why, int *delay)
{
	struct pollfd p[] = {{.fd = f->pipe_w, .events = why == FULL ? POLLOUT : 0},
			     {.fd = f->stop, .events = POLLIN},
			     {.fd = why == FULL ? -1 : f->changes, .events = POLLIN}};
	struct epoll_event ev;
	int ms = why == FULL || f->win_len == 0 ? -1 : why == BLIND ? *delay : LOOK_AGAIN_MS;

	(void)poll(p, 3, ms); /* no signal comes here; whatever else: look at everything again */
	*delay = *delay < LOOK_AGAIN_MS ? 2 * *delay : LOOK_AGAIN_MS;
	if (p[2].revents)
		(void)epoll_wait(f->changes, &ev, 1, 0); /* seen */
	return !p[1].revents && !(p[0].revents & (POLLERR | POLLNVAL));
}

static void *feed_main(void *arg)
{
	struct feed *f = arg;
	int r, delay = 1;

	do {
		if (settle(f, left_in_pipe(f)))
			delay = 1;
		r = f->ended ? END : give(f);
		if (r == END && !f->ended)
			r = end_pipe(f);
		if ((r == FULL || r == EMPTY || r == BLIND) && !wait_for(f, r, &delay))
			r = GONE;
	} while (r > 0 && r != END);
	if (r < 0) {
		spoil(f, r);
		(void)end_pipe(f); /* rather an early end than none */
	}
	return NULL;
}

int feed_start(struct feed *f, struct err *e)
{
	int r;

	r = stream_thread(&f->thread, feed_main, f);
	if (r < 0)
		return err_set(e, r, "cannot start the thread for stdin");
	f->running = true;
	return 0;
}

void feed_stop(struct feed *f)
{
	const uint64_t one = 1;

	if (!f->fp)
		return;
	if (write(f->stop, &one, sizeof(one)) < 0)
		spoil(f, -errno); /* cannot be: the counter is far from full */
	if (f->running)
		(void)pthread_join(f->thread, NULL);
	f->running = false;
	(void)settle(f, withdraw(f));
	f->eof = f->ended && f->win_len == 0;
	if (f->left_fd != f->pipe_w)
		base_close(&f->left_fd);
	base_close(&f->pipe_w);
	f->left_fd = -1;
	f->fp_all = fp_end(take(f->fp));
	if (f->spool.lost && !f->spoiled.code)
		(void)err_set(&f->spoiled, f->spool.lost, "stdin could not be kept");
}

bool feed_holds(const struct feed *f)
{
	return f->held_at < f->held.len;
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
	spool_free(&f->spool);
	free(f);
}
