/* SPDX-License-Identifier: MIT */
/*
 * console.c - what the command writes to stdout and stderr: passed on at once, and kept for the
 * record.
 *
 * One thread a stream reads what the command wrote, appends it to the record and writes it to the
 * real descriptor. The order of the record is the order of reading, which `lock` makes one order
 * for both streams; the writing to the real descriptor is done without the lock, so that a reader
 * who stops one stream does not stop the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"
#include "job_control.h"
#include "keys.h"
#include "stream.h"

/* As fast as the 1 MB that anybody may have; a user's pipes share 64 MB (pipe-user-pages-soft),
 * and past that all his new pipes are small. */
#define PIPE_SIZE  (256 << 10)
#define BLOCK	   65536
/* So much is still moved after console_finish asked to stop, where somebody writes on and on. */
#define AFTER_STOP (2 * PIPE_SIZE)

struct stream {
	struct console *c;
	uint8_t number; /* 1 or 2: the real descriptor */
	int child;	/* what the command gets; -1: closed */
	int rd;		/* its other end; -1: closed. Closed by the thread, under the lock */
	bool pty;
	struct tty_pair pair;
	struct keys keys;
	bool watch_reader; /* the real descriptor is a pipe: it tells when its reader goes */
	bool muted;	   /* that has happened, after the command's last write */
	size_t after_stop;
	pthread_t thread;
	bool running;
	/* Under the lock. */
	bool busy;	/* between reading and having written */
	bool ended;	/* the thread does nothing any more */
	uint64_t moved; /* bytes read and written */
	uint8_t block[BLOCK + 1];
};

struct console {
	struct stream out, err;
	bool merged; /* only `out` is used */
	int stop;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	/* Under the lock, until the threads are joined. */
	struct spool spool;
	struct console_chunk *chunks;
	size_t n_chunks, cap_chunks;
	struct err spoiled;
};

/* ---- the ends ---- */

static int open_pipe(struct stream *s, struct err *e)
{
	auto_close int r = -1, w = -1;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe for the output");
	r = stream_above_std(p[0]);
	w = stream_above_std(p[1]);
	if (r < 0 || w < 0)
		return err_set(e, r < 0 ? r : w, "cannot make a pipe for the output");
	(void)fcntl(w, F_SETPIPE_SZ, PIPE_SIZE); /* only fewer switches between the two sides */
	s->rd = take_fd(&r);
	s->child = take_fd(&w);
	return 0;
}

static int open_stream(struct stream *s, bool tty, struct err *e)
{
	struct stat st;
	int r;

	if (stream_closed(s->number))
		return 0;
	s->watch_reader = fstat(s->number, &st) == 0 && S_ISFIFO(st.st_mode);
	if (!tty)
		return open_pipe(s, e);
	s->pty = true;
	r = tty_pair_open(&s->pair, s->number, &s->child, e);
	if (r == 0) {
		s->rd = s->pair.master;
		keys_init(&s->keys, s->number, s->rd, s->child);
	}
	return r;
}

static void init_stream(struct stream *s, struct console *c, uint8_t number)
{
	s->c = c;
	s->number = number;
	s->child = s->rd = -1;
}

int console_open(const struct step *step, const char *spool_dir, struct console **ret,
		 struct err *e)
{
	struct console *c = xcalloc(1, sizeof(*c));
	int r;

	init_stream(&c->out, c, STDOUT_FILENO);
	init_stream(&c->err, c, STDERR_FILENO);
	c->merged = step->merged;
	spool_init(&c->spool, spool_dir);
	(void)pthread_mutex_init(&c->lock, NULL); /* neither can fail on Linux */
	(void)pthread_cond_init(&c->moved, NULL);
	c->stop = stream_above_std(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	r = c->stop < 0 ? err_set(e, c->stop, "cannot make an eventfd") : 0;
	if (r == 0)
		r = open_stream(&c->out, step->tty_out, e);
	if (r == 0 && !c->merged)
		r = open_stream(&c->err, step->tty_err, e);
	if (r < 0) {
		console_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void console_child_fds(const struct console *c, int *ret_out, int *ret_err)
{
	*ret_out = c->out.child;
	*ret_err = c->merged ? c->out.child : c->err.child;
}

void console_close_child_fds(struct console *c)
{
	base_close(&c->out.child);
	base_close(&c->err.child);
}

/* ---- the threads ---- */

static void spoil(struct console *c, int code, const char *what)
{
	(void)pthread_mutex_lock(&c->lock);
	if (!c->spoiled.code)
		(void)err_set(&c->spoiled, code, "%s", what);
	(void)pthread_mutex_unlock(&c->lock);
}

static void add_chunk(struct console *c, uint8_t fd, uint32_t n)
{
	struct console_chunk *last = c->n_chunks ? &c->chunks[c->n_chunks - 1] : NULL;

	if (last && last->fd == fd && last->len <= UINT32_MAX - n) {
		last->len += n;
		return;
	}
	if (c->n_chunks == c->cap_chunks) {
		size_t cap = c->cap_chunks ? 2 * c->cap_chunks : 64;
		struct console_chunk *more = realloc(c->chunks, cap * sizeof(*more));

		if (!more) {
			c->spool.lost = ENOMEM;
			return;
		}
		c->chunks = more;
		c->cap_chunks = cap;
	}
	c->chunks[c->n_chunks++] = (struct console_chunk){.fd = fd, .len = n};
}

static void record(struct stream *s, const uint8_t *p, size_t n)
{
	struct console *c = s->c;

	(void)pthread_mutex_lock(&c->lock);
	spool_add(&c->spool, p, n);
	if (!c->spool.lost)
		add_chunk(c, s->number, (uint32_t)n);
	(void)pthread_mutex_unlock(&c->lock);
}

/* Nobody reads the real stream any more. As long as the command may write it has to learn this,
 * natively it would have got SIGPIPE: our end is closed (false). A command that is gone has lost
 * nothing, and its record is whole. */
static bool reader_gone(struct stream *s)
{
	s->watch_reader = false;
	if (stream_ready(s->rd, POLLIN) & POLLHUP) {
		s->muted = true;
		return true;
	}
	spoil(s->c, EPIPE,
	      s->number == 1 ? "stdout was not read to its end" : "stderr was not read to its end");
	return false;
}

static void take_keys(struct stream *s, short revents)
{
	bool before = s->keys.used;

	if (revents & (POLLHUP | POLLERR | POLLNVAL))
		keys_free(&s->keys); /* the terminal is gone */
	keys_turn(&s->keys, revents);
	if (!s->keys.used || before)
		return;
	(void)pthread_mutex_lock(&s->c->lock);
	if (!s->c->spoiled.code)
		(void)err_text(&s->c->spoiled, EBUSY, "the terminal was read");
	(void)pthread_mutex_unlock(&s->c->lock);
}

/* Wait for something to read. false: there will be no more. */
static bool wait_for_output(struct stream *s)
{
	struct pollfd p[] = {
		{.fd = s->rd, .events = POLLIN},
		{.fd = s->c->stop, .events = POLLIN},
		{.fd = s->watch_reader ? s->number : -1},
		{.fd = -1},
	};

	for (;;) {
		if (s->pty)
			p[3] = (struct pollfd){.fd = s->number, .events = keys_events(&s->keys)};
		if (!p[3].events)
			p[3].fd = -1;
		if (poll(p, 4, s->pty ? keys_timeout(&s->keys) : -1) < 0) {
			if (errno == EINTR)
				continue;
			spoil(s->c, errno, "the output could not be awaited");
			return false;
		}
		if (s->pty)
			take_keys(s, p[3].revents);
		if (p[2].revents & POLLERR) {
			if (!reader_gone(s))
				return false;
			p[2] = (struct pollfd){.fd = -1};
		}
		if (p[1].revents && (!p[0].revents || s->after_stop > AFTER_STOP))
			return false;
		if (p[0].revents)
			return true;
	}
}

/* Write to the real descriptor. false: the command must be told that it cannot. */
static bool deliver(struct stream *s, const uint8_t *p, size_t n)
{
	int r = s->muted ? 0 : stream_write(s->number, p, n);

	if (r == -EPIPE)
		return reader_gone(s);
	if (r < 0)
		spoil(s->c, r,
		      s->number == 1 ? "stdout could not be written"
				     : "stderr could not be written");
	return r == 0;
}

/* Read once and hand on. false: the stream is at its end, or has to be closed. */
static bool move(struct stream *s, size_t *ret_n)
{
	uint8_t *p = s->block;
	ssize_t n;

	do {
		n = read(s->rd, p, s->pty ? BLOCK + 1 : BLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && !(s->pty && errno == EIO)) /* EIO: no slave is open any more */
		spoil(s->c, errno, "the output could not be read");
	if (n <= 0)
		return false;
	if (s->pty) {
		bool data = *p == TIOCPKT_DATA;

		p++;
		n = data ? n - 1 : 0; /* else the byte tells of a change of modes */
	}
	*ret_n = (size_t)n;
	if (n > 0)
		record(s, p, (size_t)n);
	if (n > 0 && !deliver(s, p, (size_t)n))
		return false;
	if (s->pty)
		tty_pair_mirror(&s->pair);
	return true;
}

static bool move_once(struct stream *s)
{
	struct console *c = s->c;
	bool on;
	size_t n = 0;

	(void)pthread_mutex_lock(&c->lock);
	s->busy = true;
	(void)pthread_mutex_unlock(&c->lock);
	on = move(s, &n);
	if (stream_ready(c->stop, POLLIN))
		s->after_stop += n;
	(void)pthread_mutex_lock(&c->lock);
	s->busy = false;
	s->moved += n;
	(void)pthread_cond_broadcast(&c->moved);
	(void)pthread_mutex_unlock(&c->lock);
	return on;
}

static void *stream_main(void *arg)
{
	struct stream *s = arg;
	struct console *c = s->c;

	while (wait_for_output(s) && move_once(s))
		;
	/* Here and not in console_finish: SIGTTOU is blocked here. */
	if (s->pty) {
		tty_pair_mirror(&s->pair);
		tty_pair_restore(&s->pair);
		keys_free(&s->keys);
	}
	(void)pthread_mutex_lock(&c->lock);
	s->ended = true;
	base_close(&s->rd); /* a writer that is left learns it */
	(void)pthread_cond_broadcast(&c->moved);
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

static int start_stream(struct stream *s, struct err *e)
{
	int r;

	if (s->rd < 0)
		return 0;
	r = stream_thread(&s->thread, stream_main, s);
	if (r < 0)
		return err_set(e, r, "cannot start a thread for the output");
	s->running = true;
	return 0;
}

static void join_streams(struct console *c)
{
	const uint64_t one = 1;

	if (write(c->stop, &one, sizeof(one)) < 0)
		/* Cannot be: the counter is far from full. */
		spoil(c, errno, "the output could not be ended");
	if (c->out.running)
		(void)pthread_join(c->out.thread, NULL);
	if (c->err.running)
		(void)pthread_join(c->err.thread, NULL);
	c->out.running = c->err.running = false;
}

int console_start(struct console *c, struct err *e)
{
	int r = start_stream(&c->out, e);

	return r < 0 ? r : start_stream(&c->err, e);
}

size_t console_fronts(const struct console *c, struct front *ret)
{
	const struct stream *all[] = {&c->out, &c->err};
	size_t n = 0;

	for (size_t i = 0; i < 2; i++)
		if (all[i]->pty)
			ret[n++] = (struct front){
				.real = all[i]->number,
				.dev = all[i]->keys.slave_st.st_dev,
				.ino = all[i]->keys.slave_st.st_ino,
			};
	return n;
}

void console_winch(struct console *c)
{
	struct stream *all[] = {&c->out, &c->err};

	(void)pthread_mutex_lock(&c->lock); /* so that the thread does not close it */
	for (size_t i = 0; i < 2; i++)
		if (all[i]->pty && all[i]->rd >= 0)
			tty_pair_size(&all[i]->pair);
	(void)pthread_mutex_unlock(&c->lock);
}

/* With the lock held: wait until what this stream has to move now is moved. */
static void flush_stream(struct stream *s)
{
	uint64_t target = UINT64_MAX;
	int there;

	while (s->running && !s->ended && s->moved < target) {
		if (!s->busy && !(stream_ready(s->rd, POLLIN) & POLLIN))
			return;
		/* Of a pipe one knows how much there is, even when somebody goes on writing. Of
		 * a pseudo-terminal only when there is nothing more: poll looks at what is under
		 * way in the kernel, FIONREAD does not. */
		if (target == UINT64_MAX && !s->busy && !s->pty &&
		    ioctl(s->rd, FIONREAD, &there) == 0)
			target = s->moved + (uint64_t)there;
		/* The thread is at it, or about to be: it tells when it has moved something. */
		(void)pthread_cond_wait(&s->c->moved, &s->c->lock);
	}
}

void console_flush(struct console *c)
{
	(void)pthread_mutex_lock(&c->lock);
	flush_stream(&c->out);
	flush_stream(&c->err);
	(void)pthread_mutex_unlock(&c->lock);
}

void console_finish(struct console *c, struct console_record *ret)
{
	join_streams(c);
	if (c->spool.lost && !c->spoiled.code)
		(void)err_set(&c->spoiled, c->spool.lost, "the output could not be kept");
	*ret = (struct console_record){
		.spool = c->spool.fd,
		.len = c->spool.len,
		.chunks = c->chunks,
		.n_chunks = c->n_chunks,
		.merged = c->merged,
		.spoiled = c->spoiled.code ? c->spoiled.msg : NULL,
	};
}

void console_free(struct console *c)
{
	if (!c)
		return;
	if (c->out.running || c->err.running)
		join_streams(c);
	console_close_child_fds(c);
	if (c->out.pty)
		keys_free(&c->out.keys);
	if (c->err.pty)
		keys_free(&c->err.keys);
	base_close(&c->out.rd);
	base_close(&c->err.rd);
	base_close(&c->stop);
	spool_free(&c->spool);
	free(c->chunks);
	(void)pthread_cond_destroy(&c->moved);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- hit ---- */

int console_replay(const void *bytes, size_t n, const struct console_chunk *chunks, size_t n_chunks,
		   struct err *e)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n_chunks; i++) {
		uint32_t len = chunks[i].len;
		int r;

		if (len > n || (chunks[i].fd != 1 && chunks[i].fd != 2))
			return err_text(e, EBADMSG, "the recorded output does not fit its record");
		r = stream_write(chunks[i].fd, p, len);
		if (r < 0)
			return err_set(e, r,
				       chunks[i].fd == 1 ? "cannot write to stdout"
							 : "cannot write to stderr");
		p += len;
		n -= len;
	}
	return 0;
}

bool console_compatible(const struct result *r, bool merged)
{
	if (r->console_merged == merged || r->console_len == 0)
		return true;
	if (!merged)
		return false;
	for (size_t i = 1; i < r->n_chunks; i++)
		if (r->chunks[i].fd != r->chunks[0].fd)
			return false;
	return true;
}
