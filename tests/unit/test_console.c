/* SPDX-License-Identifier: MIT */
/*
 * What console.c passes on and what it keeps. The tests stand pipes and pseudo-terminals at fd 1
 * and 2; what is to be asserted is gathered first, since cmocka speaks through the same
 * descriptors. Where order matters the test itself writes as the command would, with console_flush
 * between: nothing sleeps.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/runner.h"
#include "../../runner/stream.h"

static int real[3] = {-1, -1, -1};

static int setup(void **state)
{
	(void)state;
	for (int i = 1; i <= 2; i++)
		real[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
	(void)signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int restore(void **state)
{
	(void)state;
	dup2(real[1], 1);
	dup2(real[2], 2);
	return 0;
}

/* ---- what the tests are made of ---- */

/* Stand fd at fd 1 or 2; it is closed. */
static void put_at(int number, int fd)
{
	fflush(stdout);
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, number), number);
	close(fd);
}

/* A pipe at fd 1 or 2; its read end. */
static int pipe_at(int number)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	put_at(number, p[1]);
	return p[0];
}

static struct console *opened(const struct step *s)
{
	struct console *c = NULL;
	struct err e = {0};
	int r = console_open(s, "/tmp", &c, &e);

	if (r < 0) {
		restore(NULL);
		fail_msg("%s", e.msg);
	}
	return c;
}

/* Run a program with what the console gives it; its wait status. */
static int run(struct console *c, const char *script)
{
	struct err e;
	int out, err, status;
	pid_t pid;

	console_child_fds(c, &out, &err);
	pid = fork();
	if (pid == 0) {
		if (out >= 0)
			dup2(out, 1);
		if (err >= 0)
			dup2(err, 2);
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(126);
	}
	console_close_child_fds(c);
	if (console_start(c, &e) < 0)
		abort();
	while (waitpid(pid, &status, 0) < 0)
		;
	return status;
}

/* All that is in a pipe or comes out of a terminal now. */
static char *all_of(int fd, char *text, size_t n)
{
	ssize_t k;
	size_t done = 0;

	memset(text, 0, n);
	while (done < n - 1 && (stream_ready(fd, POLLIN) & POLLIN)) {
		k = read(fd, text + done, n - 1 - done);
		if (k <= 0)
			break;
		done += (size_t)k;
	}
	return text;
}

/* What the record has of one stream. */
static char *recorded(const struct console_record *r, int fd, char *text, size_t n)
{
	off_t at = 0;
	size_t done = 0;

	memset(text, 0, n);
	for (size_t i = 0; i < r->n_chunks; i++) {
		if (r->chunks[i].fd == fd && done + r->chunks[i].len < n)
			done += (size_t)pread_full(r->spool, text + done, r->chunks[i].len, at);
		at += r->chunks[i].len;
	}
	return (uint64_t)at == r->len ? text : strcpy(text, "chunks and length differ");
}

static void say(int fd, const char *text)
{
	if (write_all(fd, text, strlen(text)) < 0)
		abort();
}

/* ---- pipes ---- */

static void test_two_streams(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), err = pipe_at(2), status;
	struct console *c = opened(&s);
	struct console_record r;
	char a[64], b[64], ra[64], rb[64];

	(void)state;
	status = run(c, "echo one; echo two >&2; echo three");
	console_finish(c, &r);
	restore(NULL);
	assert_int_equal(status, 0);
	assert_string_equal(all_of(out, a, sizeof(a)), "one\nthree\n");
	assert_string_equal(all_of(err, b, sizeof(b)), "two\n");
	assert_string_equal(recorded(&r, 1, ra, sizeof(ra)), "one\nthree\n");
	assert_string_equal(recorded(&r, 2, rb, sizeof(rb)), "two\n");
	assert_null(r.spoiled);
	assert_false(r.merged);
	console_free(c);
	close(out);
	close(err);
}

static void test_order(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), err = pipe_at(2), to_out, to_err;
	struct console *c = opened(&s);
	struct console_record r;
	struct err e;
	char first[64], text[64] = "";
	int started = console_start(c, &e);

	(void)state;
	console_child_fds(c, &to_out, &to_err);
	say(to_out, "a");
	console_flush(c);
	all_of(out, first, sizeof(first)); /* it is there when console_flush returns */
	say(to_out, "b");
	console_flush(c);
	say(to_err, "c");
	console_flush(c);
	say(to_out, "d");
	console_close_child_fds(c);
	console_finish(c, &r);
	restore(NULL);
	assert_int_equal(started, 0);
	assert_string_equal(first, "a");
	assert_int_equal(r.len, 4);
	assert_int_equal(pread_full(r.spool, text, 10, 0), 4);
	assert_string_equal(text, "abcd");
	assert_int_equal(r.n_chunks, 3);
	assert_true(r.chunks[0].fd == 1 && r.chunks[0].len == 2);
	assert_true(r.chunks[1].fd == 2 && r.chunks[1].len == 1);
	assert_true(r.chunks[2].fd == 1 && r.chunks[2].len == 1);
	console_free(c);
	close(out);
	close(err);
}

static void test_merged(void **state)
{
	struct step s = {.merged = true};
	int out = pipe_at(1), status;
	char text[64], rec[64];
	struct console_record r;
	struct console *c;

	(void)state;
	dup2(1, 2);
	c = opened(&s);
	status = run(c, "echo one; echo two >&2; echo three");
	console_finish(c, &r);
	restore(NULL);
	assert_int_equal(status, 0);
	assert_string_equal(all_of(out, text, sizeof(text)), "one\ntwo\nthree\n");
	assert_string_equal(recorded(&r, 1, rec, sizeof(rec)), "one\ntwo\nthree\n");
	assert_true(r.merged);
	assert_int_equal(r.n_chunks, 1);
	console_free(c);
	close(out);
}

static void test_closed(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), a, b, status;
	struct console *c;
	struct console_record r;
	char text[64];

	(void)state;
	put_at(2, open("/", O_PATH)); /* as main keeps a closed one busy */
	c = opened(&s);
	console_child_fds(c, &a, &b);
	status = run(c, "echo one");
	console_flush(c);
	console_finish(c, &r);
	restore(NULL);
	assert_true(a >= 3);
	assert_int_equal(b, -1);
	assert_int_equal(status, 0);
	assert_string_equal(all_of(out, text, sizeof(text)), "one\n");
	assert_null(r.spoiled);
	console_free(c);
	close(out);
}

/* ---- much ---- */

struct reader {
	pthread_t thread;
	int fd;
	struct fp fp;
	uint64_t n;
};

static void *read_bytes(void *arg)
{
	struct reader *r = arg;
	struct fp_state *fp = fp_begin();
	uint8_t block[3000];
	ssize_t n;

	while ((n = read(r->fd, block, sizeof(block))) > 0) {
		fp_update(fp, block, (size_t)n);
		r->n += (uint64_t)n;
	}
	r->fp = fp_end(fp);
	close(r->fd);
	return NULL;
}

/* More than memory and pipes take, to a reader that gets it through a non-blocking descriptor. */
static void test_much(void **state)
{
	struct step s = {0};
	struct reader reader = {.fd = pipe_at(1)};
	struct console_record r;
	struct console *c;
	struct fp fp;
	uint64_t size = 0;
	int status, hashed;

	(void)state;
	fcntl(1, F_SETFL, O_WRONLY | O_NONBLOCK);
	pthread_create(&reader.thread, NULL, read_bytes, &reader);
	c = opened(&s);
	status = run(c, "seq 1 300000");
	console_finish(c, &r);
	restore(NULL);
	pthread_join(reader.thread, NULL);
	hashed = hash_fd(r.spool, 0, -1, &fp, &size);
	assert_int_equal(status, 0);
	assert_int_equal(hashed, 0);
	assert_int_equal(r.len, 1988895);
	assert_int_equal(size, r.len);
	assert_int_equal(reader.n, r.len);
	assert_true(fp_eq(&fp, &reader.fp));
	assert_null(r.spoiled);
	assert_int_equal(r.n_chunks, 1);
	console_free(c);
}

static void test_cannot_be_kept(void **state)
{
	struct step s = {0};
	struct reader reader = {.fd = pipe_at(1)};
	struct console *c = NULL;
	struct console_record r;
	struct err e;
	int opening = console_open(&s, "/nonexistent", &c, &e), status;

	(void)state;
	pthread_create(&reader.thread, NULL, read_bytes, &reader);
	status = opening < 0 ? -1 : run(c, "head -c 20000000 /dev/zero");
	console_finish(c, &r);
	restore(NULL);
	pthread_join(reader.thread, NULL);
	assert_int_equal(status, 0);
	assert_int_equal(reader.n, 20000000); /* the live output goes on */
	assert_string_equal(r.spoiled, "the output could not be kept: No such file or directory");
	console_free(c);
}

/* ---- trouble with the real descriptor ---- */

static void test_reader_goes(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), status;
	struct console_record r;
	struct console *c = opened(&s);

	(void)state;
	close(out);
	status = run(c, "exec yes");
	console_finish(c, &r);
	restore(NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	assert_string_equal(r.spoiled, "stdout was not read to its end: Broken pipe");
	console_free(c);
}

/* The reader leaves in the middle, as head does. */
static void test_reader_takes_some(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), status;
	struct console_record r;
	struct console *c = opened(&s);
	char text[8] = "";
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		dup2(out, 0);
		restore(NULL); /* fd 1 is the pipe's write end */
		execl("/bin/sh", "sh", "-c", "exec head -c1 >/dev/null", NULL);
		_exit(126);
	}
	close(out);
	status = run(c, "exec yes");
	console_finish(c, &r);
	restore(NULL);
	waitpid(pid, NULL, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	assert_non_null(r.spoiled);
	assert_int_equal(pread_full(r.spool, text, 4, 0), 4);
	assert_string_equal(text, "y\ny\n");
	console_free(c);
}

/* A command that has written all before the reader went has lost nothing. */
static void test_reader_goes_late(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), to_out, to_err, started;
	struct console_record r;
	struct console *c = opened(&s);
	struct err e;
	char text[64];

	(void)state;
	console_child_fds(c, &to_out, &to_err);
	say(to_out, "all of it");
	console_close_child_fds(c);
	close(out);
	started = console_start(c, &e);
	console_finish(c, &r);
	restore(NULL);
	assert_int_equal(started, 0);
	assert_null(r.spoiled);
	assert_string_equal(recorded(&r, 1, text, sizeof(text)), "all of it");
	console_free(c);
}

static void test_full(void **state)
{
	struct step s = {0};
	struct console_record r;
	struct console *c;
	int status;

	(void)state;
	put_at(1, open("/dev/full", O_WRONLY));
	c = opened(&s);
	status = run(c, "exec yes");
	console_finish(c, &r);
	restore(NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	assert_string_equal(r.spoiled, "stdout could not be written: No space left on device");
	console_free(c);
}

/* Somebody keeps the descriptor: console_finish takes what there is and returns. */
static void test_writer_left(void **state)
{
	struct step s = {0};
	int out = pipe_at(1), to_out, to_err, kept, started;
	struct console_record r;
	struct console *c = opened(&s);
	struct err e;
	char text[64];

	(void)state;
	console_child_fds(c, &to_out, &to_err);
	kept = fcntl(to_out, F_DUPFD_CLOEXEC, 3);
	console_close_child_fds(c);
	say(kept, "so far");
	started = console_start(c, &e);
	console_finish(c, &r);
	restore(NULL);
	assert_int_equal(started, 0);
	assert_string_equal(recorded(&r, 1, text, sizeof(text)), "so far");
	console_free(c);
	close(kept);
	close(out);
}

/* ---- terminals ---- */

/* A terminal at fd 1; its master, which is what a person would see. */
static int tty_at_1(void)
{
	struct winsize size = {.ws_row = 33, .ws_col = 77};
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(master >= 0 && unlockpt(master) == 0);
	assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
	put_at(1, ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	return master;
}

static void test_tty(void **state)
{
	struct step s = {.merged = true, .tty_out = true, .tty_err = true};
	int master = tty_at_1(), status;
	struct console_record r;
	struct console *c;
	char text[128], rec[128];

	(void)state;
	dup2(1, 2);
	c = opened(&s);
	status = run(c, "test -t 1 && test -t 2 && stty size <&1 && echo two >&2");
	console_finish(c, &r);
	all_of(master, text, sizeof(text));
	restore(NULL);
	assert_int_equal(status, 0);
	/* The real terminal makes \r\n of \n; the record has what the command wrote. */
	assert_string_equal(text, "33 77\r\ntwo\r\n");
	assert_string_equal(recorded(&r, 1, rec, sizeof(rec)), "33 77\ntwo\n");
	assert_null(r.spoiled);
	console_free(c);
	close(master);
}

static void test_tty_much(void **state)
{
	struct step s = {.tty_out = true};
	int master = tty_at_1(), status;
	struct reader reader = {.fd = master};
	struct console_record r;
	struct console *c;
	struct err e;
	struct fp fp, want;
	auto_free char *text = NULL;
	size_t n = 0;

	(void)state;
	pthread_create(&reader.thread, NULL, read_bytes, &reader);
	c = opened(&s);
	status = run(c, "seq 1 50000 | tee /tmp/mlfs-test-console-seq");
	console_finish(c, &r);
	restore(NULL); /* the last slave: the reader ends */
	pthread_join(reader.thread, NULL);
	assert_int_equal(status, 0);
	assert_int_equal(read_file("/tmp/mlfs-test-console-seq", &text, &n, &e), 0);
	unlink("/tmp/mlfs-test-console-seq");
	want = fp_of(text, n);
	assert_int_equal(r.len, n);
	assert_int_equal(hash_fd(r.spool, 0, -1, &fp, NULL), 0);
	assert_true(fp_eq(&fp, &want));
	assert_int_equal(reader.n, n + 50000); /* each \n is \r\n there */
	console_free(c);
}

static bool same(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag &&
	       memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

static void test_tty_modes(void **state)
{
	struct step s = {.tty_out = true};
	int master = tty_at_1(), to_out, to_err, started;
	struct console *c = opened(&s);
	struct termios before, at_start, curses, raw, after, t;
	struct winsize size = {.ws_row = 11, .ws_col = 22}, got = {0};
	struct console_record r;
	struct err e;

	(void)state;
	tcgetattr(1, &before);
	console_child_fds(c, &to_out, &to_err);
	started = console_start(c, &e);
	say(to_out, "x");
	console_flush(c);
	tcgetattr(1, &at_start);
	/* What curses does, without a byte of output. */
	tcgetattr(to_out, &t);
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t.c_oflag &= ~(tcflag_t)ONLCR;
	t.c_cc[VMIN] = 7;
	tcsetattr(to_out, TCSADRAIN, &t);
	console_flush(c);
	tcgetattr(1, &curses);
	cfmakeraw(&t);
	tcsetattr(to_out, TCSADRAIN, &t);
	console_flush(c);
	tcgetattr(1, &raw);
	ioctl(1, TIOCSWINSZ, &size);
	console_winch(c);
	ioctl(to_out, TIOCGWINSZ, &got);
	console_close_child_fds(c);
	console_finish(c, &r);
	tcgetattr(1, &after);
	restore(NULL);
	assert_int_equal(started, 0);
	assert_true(same(&before, &at_start));
	assert_false(curses.c_lflag & (ICANON | ECHO));
	assert_true(curses.c_oflag & OPOST);
	assert_false(curses.c_oflag & ONLCR);
	assert_false(curses.c_lflag & EXTPROC);
	assert_int_equal(curses.c_cc[VMIN], 7);
	assert_false(raw.c_oflag & OPOST);
	assert_false(raw.c_lflag & ISIG);
	assert_true(same(&before, &after));
	assert_int_equal(got.ws_row, 11);
	assert_int_equal(got.ws_col, 22);
	assert_int_equal(r.len, 1);
	console_free(c);
	close(master);
}

/* ---- replay ---- */

static void test_replay(void **state)
{
	const struct console_chunk chunks[] = {{1, 3}, {2, 2}, {1, 1}};
	int out = pipe_at(1), err = pipe_at(2), ok, bad, gone;
	char a[16], b[16];
	struct err e;

	(void)state;
	ok = console_replay("abcDEf", 6, chunks, 3, &e);
	bad = console_replay("abcD", 4, chunks, 3, &e);
	all_of(out, a, sizeof(a));
	all_of(err, b, sizeof(b));
	close(out);
	gone = console_replay("abcDEf", 6, chunks, 3, &e);
	restore(NULL);
	assert_int_equal(ok, 0);
	assert_int_equal(bad, -EBADMSG);
	assert_string_equal(a, "abcfabc");
	assert_string_equal(b, "DE");
	assert_int_equal(gone, -EPIPE);
	assert_string_equal(e.msg, "cannot write to stdout: Broken pipe");
	close(err);
}

static void test_compatible(void **state)
{
	struct console_chunk one[] = {{2, 1}, {2, 1}}, both[] = {{1, 1}, {2, 1}};
	struct result merged = {
		.console_merged = true, .console_len = 2, .chunks = one, .n_chunks = 1};
	struct result split = {.console_len = 2, .chunks = one, .n_chunks = 2};
	struct result none = {.console_merged = true};

	(void)state;
	assert_true(console_compatible(&merged, true));
	assert_false(console_compatible(&merged, false));
	assert_true(console_compatible(&split, false));
	assert_true(console_compatible(&split, true));
	split.chunks = both;
	assert_false(console_compatible(&split, true));
	assert_true(console_compatible(&none, false));
}

#define with_console(f) cmocka_unit_test_teardown(f, restore)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_console(test_two_streams),
		with_console(test_order),
		with_console(test_merged),
		with_console(test_closed),
		with_console(test_much),
		with_console(test_cannot_be_kept),
		with_console(test_reader_goes),
		with_console(test_reader_takes_some),
		with_console(test_reader_goes_late),
		with_console(test_full),
		with_console(test_writer_left),
		with_console(test_tty),
		with_console(test_tty_much),
		with_console(test_tty_modes),
		with_console(test_replay),
		with_console(test_compatible),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
