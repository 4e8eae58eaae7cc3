/* SPDX-License-Identifier: MIT */
/*
 * stdin.c - what the command is given as fd 0, and what of it the command used.
 *
 * A regular file is an input as a whole: its digest and offset are in the step key, and the command
 * gets the very descriptor. A pipe or stream socket goes through feed.c. A terminal is passed as it
 * is; reading it keeps the result from being stored (tty.c). What else there may be (a disk,
 * /dev/random, a listening socket) is passed as it is and never part of a result.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "runner.h"
#include "stream.h"

#define IN	       STDIN_FILENO
/* How long to wait for recorded input that does not come, where its sender may be waiting for
 * our output. */
#define SILENCE_MIN_MS 2000
#define SILENCE_MAX_MS 30000

struct stdin_src {
	enum stdin_type type;
	const char *spoiled; /* known from the beginning: neither looked up nor stored */
	/* IN_FILE */
	struct stat st;
	struct fp fp;
	off_t off;
	bool racy; /* it could be written again without its times showing it */
	/* IN_STREAM */
	struct feed *feed;

	struct tty_watch *tty;
	bool finished;
	struct stdin_used used;
};

/* ---- what it is ---- */

static bool same_times(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && same_times(&a->st_mtim, &b->st_mtim) &&
	       same_times(&a->st_ctim, &b->st_ctim);
}

/* Asked of a description of our own: fd 0 is also the caller's. */
static bool written_by_others(void)
{
	auto_close int fd = open("/proc/self/fd/0", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd >= 0 && fd_has_writer(fd);
}

/* The digest of the whole file behind fd 0, which need not have a name. 0 or -errno; -ESTALE: it
 * keeps changing. */
static int digest_file(struct stdin_src *s, struct idx *x, bool remember)
{
	for (int tries = 0; tries < 3; tries++) {
		struct idx_digest d = {.hashed_at = now_ns()};
		struct stat after, below;
		int r, known;

		if (fstat(IN, &d.st) < 0)
			return -errno;
		s->st = below = d.st;
		known = idx_below(x, "/proc/self/fd/0", true, &below);
		if (x && known >= 0 && idx_digest_get(x, &below, &s->fp) == 1)
			return 0;
		r = hash_fd(IN, 0, -1, &d.fp, NULL);
		if (r < 0)
			return r;
		if (fstat(IN, &after) < 0)
			return -errno;
		if (!same_file(&d.st, &after))
			continue;
		s->fp = d.fp;
		s->racy = !idx_times_settled(x, &d.st, d.hashed_at);
		d.st = below;
		if (x && remember && known >= 0)
			idx_digest_add(x, &d);
		return 0;
	}
	return -ESTALE;
}

static void open_file(struct stdin_src *s, struct idx *x, int access)
{
	bool writer = access == O_RDONLY && written_by_others(); /* before it is read */

	s->off = lseek(IN, 0, SEEK_CUR);
	if (s->off < 0 || digest_file(s, x, !writer) < 0) {
		s->type = IN_DEVICE;
		s->spoiled = "stdin could not be read as a file";
		return;
	}
	s->type = IN_FILE;
	if (access != O_RDONLY)
		s->spoiled = "stdin is a file open for writing";
	else if (writer)
		s->spoiled = "stdin is a file that another process has open for writing";
}

static void open_char_device(struct stdin_src *s, dev_t dev, int access)
{
	bool memory = major(dev) == 1; /* /dev/null and its family */

	if (isatty(IN)) {
		s->type = IN_TTY;
		return;
	}
	s->type = IN_DEVICE;
	if (memory && minor(dev) == 3)
		/* As nohup leaves it, it cannot be read any more than a closed one. */
		s->type = access == O_WRONLY ? IN_CLOSED : IN_NULL;
	else if (!memory || access == O_WRONLY || (minor(dev) != 5 && minor(dev) != 7))
		s->spoiled = "stdin is a device"; /* /dev/zero and /dev/full are always the same */
}

static int int_option(int option)
{
	int v = -1;
	socklen_t n = sizeof(v);

	return getsockopt(IN, SOL_SOCKET, option, &v, &n) < 0 ? -1 : v;
}

static int open_stream(struct stdin_src *s, struct idx *x, bool socket, int access, struct err *e)
{
	auto_free char *dir = x ? xasprintf("%s/tmp", idx_dir(x)) : NULL;

	if (access == O_WRONLY) {
		s->type = IN_DEVICE;
		s->spoiled = "stdin is not open for reading";
		return 0;
	}
	/* Messages cannot be taken in part, and connections are not bytes. */
	if (socket && (int_option(SO_TYPE) != SOCK_STREAM || int_option(SO_ACCEPTCONN) != 0)) {
		s->type = IN_DEVICE;
		s->spoiled = "stdin is a socket that is not a stream";
		return 0;
	}
	s->type = IN_STREAM;
	return feed_new(IN, socket, dir, &s->feed, e);
}

static int look_at(struct stdin_src *s, struct idx *x, struct err *e)
{
	int access = fcntl(IN, F_GETFL);
	struct stat st;

	if (stream_closed(IN)) {
		s->type = IN_CLOSED;
		return 0;
	}
	access &= O_ACCMODE;
	if (fstat(IN, &st) < 0)
		return err_set(e, errno, "cannot look at stdin");
	if (S_ISREG(st.st_mode)) {
		open_file(s, x, access);
	} else if (S_ISCHR(st.st_mode)) {
		open_char_device(s, st.st_rdev, access);
	} else if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) {
		return open_stream(s, x, S_ISSOCK(st.st_mode), access, e);
	} else {
		s->type = IN_DEVICE;
		s->spoiled = S_ISDIR(st.st_mode) ? "stdin is a directory" : "stdin is a device";
	}
	return 0;
}

int stdin_open(struct idx *x, struct stdin_src **ret, struct err *e)
{
	struct stdin_src *s = xcalloc(1, sizeof(*s));
	int r = look_at(s, x, e);

	s->used.spool = -1;
	if (r < 0) {
		stdin_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

enum stdin_type stdin_type(const struct stdin_src *s)
{
	return s->type;
}

const struct fp *stdin_file_fp(const struct stdin_src *s)
{
	return s->type == IN_FILE ? &s->fp : NULL;
}

int64_t stdin_file_off(const struct stdin_src *s)
{
	return s->type == IN_FILE ? s->off : 0;
}

/* ---- lookup and hit ---- */

static bool may_be_heard(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* Whoever writes to our stdin may want to read what the command prints before it goes on (bc as
 * a coprocess): then waiting for input without running the command waits for ever. There, wait
 * as long as the run took. */
static int patience(const struct result *r)
{
	int64_t ms = r->wall_ns / 1000000;

	if (r->console_len == 0 || (!may_be_heard(STDOUT_FILENO) && !may_be_heard(STDERR_FILENO)))
		return -1;
	if (ms < SILENCE_MIN_MS)
		return SILENCE_MIN_MS;
	return ms > SILENCE_MAX_MS ? SILENCE_MAX_MS : (int)ms;
}

int stdin_matches(struct stdin_src *s, struct idx *x, const struct result *r, struct err *e)
{
	auto_free void *want = NULL;
	size_t n = 0;
	int k;

	if (s->spoiled)
		return 0;
	if (s->type != IN_STREAM || r->stdin_kind == STDIN_UNUSED)
		return 1;
	if (r->stdin_len > 0) {
		k = store_get_mem(x, &r->stdin_oid, &want, &n, e);
		if (k < 0)
			return k;
	}
	if (n != r->stdin_len)
		return err_text(e, EUCLEAN,
				"the recorded stdin has another length than its record says");
	return feed_match(s->feed, want, n, r->stdin_eof, patience(r), e);
}

int stdin_consume(struct stdin_src *s, const struct result *r, struct err *e)
{
	if (r->stdin_kind == STDIN_UNUSED)
		return 0;
	if (s->type == IN_STREAM)
		return feed_drop(s->feed, r->stdin_len, e);
	if (s->type == IN_FILE && lseek(IN, s->off + (off_t)r->stdin_len, SEEK_SET) < 0)
		return err_set(e, errno, "cannot move on in stdin");
	return 0;
}

/* ---- miss ---- */

int stdin_child_fd(struct stdin_src *s, struct err *e)
{
	int fd;

	tty_watch_free(s->tty);
	s->tty = tty_watch_begin(s->type == IN_TTY);
	if (s->type == IN_STREAM)
		fd = feed_pipe(s->feed, e);
	else if (stream_closed(IN))
		return -1;
	else if ((fd = fcntl(IN, F_DUPFD_CLOEXEC, 3)) < 0)
		fd = err_set(e, errno, "cannot copy stdin");
	return fd == -1 ? -EIO : fd; /* -EPERM would look like "closed" */
}

bool stdin_holds(const struct stdin_src *s)
{
	return s->feed && feed_holds(s->feed);
}

int stdin_start(struct stdin_src *s, struct err *e)
{
	return s->type == IN_STREAM ? feed_start(s->feed, e) : 0;
}

static void finish_file(struct stdin_src *s)
{
	off_t end = lseek(IN, 0, SEEK_CUR);
	struct fp now = s->fp;
	struct stat st;

	s->used.fp = s->fp;
	if (end < s->off) {
		s->used.spoiled = "stdin was moved backwards";
		return;
	}
	s->used.len = (uint64_t)(end - s->off);
	s->used.kind = s->used.len > 0 ? STDIN_BYTES : STDIN_UNUSED;
	if (fstat(IN, &st) < 0 || !same_file(&st, &s->st) ||
	    (s->racy && hash_fd(IN, 0, -1, &now, NULL) < 0) || !fp_eq(&now, &s->fp))
		s->used.spoiled = "stdin was changed while the command ran";
}

static void finish_stream(struct stdin_src *s)
{
	struct feed_used f;

	feed_stop(s->feed);
	feed_used(s->feed, &f);
	s->used.len = f.len;
	s->used.fp = f.fp;
	s->used.spool = f.spool;
	s->used.eof = f.eof;
	s->used.spoiled = f.spoiled;
	/* One cannot see whether the command noticed that it was at the end: it could have. */
	s->used.kind = f.len > 0 || f.eof ? STDIN_BYTES : STDIN_UNUSED;
}

int stdin_finish(struct stdin_src *s, struct stdin_used *ret, struct err *e)
{
	const char *tty = NULL;

	(void)e; /* whatever goes wrong spoils the result */
	if (!s->finished) {
		s->finished = true;
		if (s->type == IN_FILE)
			finish_file(s);
		else if (s->type == IN_STREAM)
			finish_stream(s);
		if (s->tty)
			tty = tty_watch_end(s->tty);
		if (tty)
			s->used.spoiled = tty;
		if (s->spoiled)
			s->used.spoiled = s->spoiled;
	}
	*ret = s->used;
	return 0;
}

void stdin_free(struct stdin_src *s)
{
	if (!s)
		return;
	feed_free(s->feed);
	tty_watch_free(s->tty);
	free(s);
}
