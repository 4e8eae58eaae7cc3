/* SPDX-License-Identifier: MIT */
/*
 * What stdin.c lets a command take, and what it says of it. Each test puts something at fd 0, runs
 * a real program on what stdin_child_fd gives, and looks at the record and at what the next reader
 * of the real stdin finds. Nothing sleeps: writers are threads that the kernel holds up, and waits
 * of stdin.c itself are short ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/runner.h"
#include "../../runner/stream.h"

static struct idx *cache;
static char cache_dir[] = "/tmp/mlfs-test-stdin-XXXXXX";
static int real_stdin = -1;

static int setup(void **state)
{
	struct err e;

	(void)state;
	real_stdin = fcntl(0, F_DUPFD_CLOEXEC, 10);
	(void)signal(SIGPIPE, SIG_IGN);
	return mkdtemp(cache_dir) && idx_open(cache_dir, false, &cache, &e) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	idx_close(cache);
	snprintf(command, sizeof(command), "rm -rf %s", cache_dir);
	return system(command);
}

static int restore_stdin(void **state)
{
	(void)state;
	if (real_stdin >= 0)
		dup2(real_stdin, 0);
	else
		close(0);
	return 0;
}

/* ---- what the tests are made of ---- */

static void put_at_0(int fd)
{
	assert_int_equal(dup2(fd, 0), 0);
	close(fd);
}

/* A pipe at fd 0; its write end. */
static int pipe_at_0(void)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	put_at_0(p[0]);
	return p[1];
}

static int socket_at_0(void)
{
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
	put_at_0(p[0]);
	return p[1];
}

static void give(int fd, const char *text)
{
	assert_int_equal(write_all(fd, text, strlen(text)), strlen(text));
}

/* What stands in fd 0 now is exactly this. The write end is closed already. */
static void assert_left(const char *text)
{
	char got[512] = "";
	ssize_t n = read_full(0, got, sizeof(got) - 1);

	assert_true(n >= 0);
	assert_string_equal(got, text);
}

static struct stdin_src *opened(void)
{
	struct stdin_src *s = NULL;
	struct err e;

	assert_int_equal(stdin_open(cache, &s, &e), 0);
	return s;
}

struct ran {
	struct stdin_used used;
	char out[512]; /* what the program printed */
	int status;
};

static void run_on(struct stdin_src *s, const char *script, struct ran *r)
{
	struct err e = {0};
	int out = memfd_create("out", MFD_CLOEXEC), in = stdin_child_fd(s, &e);
	pid_t pid;

	assert_true(out >= 0);
	assert_true(in >= 3 || in == -1);
	pid = fork();
	if (pid == 0) {
		if (in >= 0)
			dup2(in, 0);
		else
			close(0);
		dup2(out, 1);
		signal(SIGPIPE, SIG_DFL);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(126);
	}
	close(in);
	assert_int_equal(stdin_start(s, &e), 0);
	assert_int_equal(waitpid(pid, &r->status, 0), pid);
	assert_int_equal(stdin_finish(s, &r->used, &e), 0);
	memset(r->out, 0, sizeof(r->out));
	assert_true(pread_full(out, r->out, sizeof(r->out) - 1, 0) >= 0);
	close(out);
}

static void assert_spooled(const struct stdin_used *u, const char *text)
{
	char got[512] = "";
	struct fp fp = fp_of(text, strlen(text));

	assert_int_equal(u->len, strlen(text));
	assert_int_equal(pread_full(u->spool, got, sizeof(got) - 1, 0), strlen(text));
	assert_string_equal(got, text);
	assert_true(fp_eq(&u->fp, &fp));
}

/* Run once on what is at fd 0, and free. */
static void run_once(const char *script, const char *out, const char *taken, bool eof)
{
	struct stdin_src *s = opened();
	struct ran r;

	assert_int_equal(stdin_type(s), IN_STREAM);
	run_on(s, script, &r);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.out, out);
	assert_null(r.used.spoiled);
	assert_spooled(&r.used, taken);
	assert_int_equal(r.used.eof, eof);
	assert_int_equal(r.used.kind, taken[0] || eof ? STDIN_BYTES : STDIN_UNUSED);
	stdin_free(s);
}

struct writer {
	pthread_t thread;
	int fd;
	size_t n, block;
};

static uint8_t byte_at(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 13);
}

static void *write_bytes(void *arg)
{
	struct writer *w = arg;
	uint8_t block[8192];

	for (size_t done = 0; done < w->n;) {
		size_t k = w->n - done < w->block ? w->n - done : w->block;

		for (size_t i = 0; i < k; i++)
			block[i] = byte_at(done + i);
		if (write_all(w->fd, block, k) < 0)
			break;
		done += k;
	}
	close(w->fd);
	return NULL;
}

static void start_writer(struct writer *w, int fd, size_t n, size_t block)
{
	*w = (struct writer){.fd = fd, .n = n, .block = block};
	assert_int_equal(pthread_create(&w->thread, NULL, write_bytes, w), 0);
}

static uint8_t *bytes(size_t n)
{
	uint8_t *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = byte_at(i);
	return p;
}

/* A result that read these bytes. */
static struct result recorded(const void *p, size_t n, bool eof)
{
	struct result r = {.stdin_kind = STDIN_BYTES, .stdin_len = n, .stdin_eof = eof};
	struct err e;

	if (n > 0)
		assert_int_equal(store_put_mem(cache, p, n, &r.stdin_oid, &e), 0);
	r.stdin_fp = fp_of(p, n);
	return r;
}

static int matches(struct stdin_src *s, const char *text, bool eof)
{
	struct result r = recorded(text, strlen(text), eof);
	struct err e;

	return stdin_matches(s, cache, &r, &e);
}

/* ---- pipes and sockets: as much is taken as the command takes ---- */

static void test_line_by_line(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "one\ntwo\nthree\n");
	run_once("read a; echo \"<$a>\"", "<one>\n", "one\n", false);
	run_once("read a; echo \"<$a>\"", "<two>\n", "two\n", false);
	close(w);
	assert_left("three\n");
}

static void test_some_bytes(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "0123456789");
	run_once("head -c 4", "0123", "0123", false);
	run_once("dd bs=1 count=3 status=none", "456", "456", false);
	run_once("true", "", "", false);
	close(w);
	assert_left("789");
}

static void test_many_readers(void **state)
{
	struct writer writer;
	struct stdin_src *s;
	struct ran r;
	uint8_t next;

	(void)state;
	start_writer(&writer, pipe_at_0(), 50000, 997);
	s = opened();
	run_on(s, "head -c 30001 | cksum >/dev/null; dd bs=1 count=2 status=none >/dev/null", &r);
	assert_true(r.used.len == 30003);
	assert_null(r.used.spoiled);
	assert_int_equal(read(0, &next, 1), 1);
	assert_int_equal(next, byte_at(30003));
	stdin_free(s);
	restore_stdin(NULL); /* nobody reads any more: the writer ends */
	pthread_join(writer.thread, NULL);
}

static void test_all_of_it(void **state)
{
	const size_t n = 1500000;
	auto_free uint8_t *want = bytes(n), *got = malloc(n);
	struct writer writer;
	struct stdin_src *s;
	struct ran r;

	(void)state;
	for (int socket = 0; socket < 2; socket++) {
		start_writer(&writer, socket ? socket_at_0() : pipe_at_0(), n, 8192);
		s = opened();
		run_on(s, "wc -c", &r);
		pthread_join(writer.thread, NULL);
		assert_string_equal(r.out, "1500000\n");
		assert_null(r.used.spoiled);
		assert_true(r.used.eof);
		assert_true(r.used.len == n);
		assert_int_equal(pread_full(r.used.spool, got, n, 0), n);
		assert_memory_equal(got, want, n);
		stdin_free(s);
	}
}

static void test_socket_in_part(void **state)
{
	int w = socket_at_0();

	(void)state;
	give(w, "one\ntwo\nthree\n");
	run_once("read a; echo \"<$a>\"", "<one>\n", "one\n", false);
	run_once("head -c 2", "tw", "tw", false);
	close(w);
	assert_left("o\nthree\n");
}

static void test_end(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "last");
	close(w);
	run_once("cat", "last", "last", true);
	run_once("cat", "", "", true);
	put_at_0(open("/dev/null", O_RDONLY));
	close(socket_at_0());
	run_once("cat", "", "", true);
}

/* The end is there to be seen, but not seen: what is before it was not taken. */
static void test_end_not_reached(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "rest");
	close(w);
	run_once("true", "", "", false);
	run_once("head -c 1", "r", "r", false);
	assert_left("est");
}

/* A process that the command left behind gets nothing any more that the next reader gets. */
static void test_left_behind(void **state)
{
	int w = pipe_at_0(), in;
	struct stdin_src *s = opened();
	struct stdin_used used;
	struct err e;
	char c[8];

	(void)state;
	give(w, "abc");
	in = stdin_child_fd(s, &e);
	assert_int_equal(stdin_start(s, &e), 0);
	assert_int_equal(read(in, c, 1), 1);
	assert_int_equal(stdin_finish(s, &used, &e), 0);
	assert_int_equal(read(in, c, sizeof(c)), 0);
	close(in);
	assert_null(used.spoiled);
	assert_spooled(&used, "a");
	stdin_free(s);
	close(w);
	assert_left("bc");
}

/* One write arrives as one read, where it natively would: dd counts reads. */
static void test_whole_blocks(void **state)
{
	auto_free uint8_t *all = bytes(65536);
	int w = pipe_at_0();
	struct stdin_src *s = opened();
	struct ran r;

	(void)state;
	assert_int_equal(write_all(w, all, 65536), 65536);
	run_on(s, "dd bs=64k count=1 status=none | wc -c", &r);
	assert_string_equal(r.out, "65536\n");
	assert_int_equal(r.used.len, 65536);
	stdin_free(s);
	close(w);
	assert_left("");
}

/* The sender is held up while the command's pipe has room: by slots that are not filled, by tiny
 * messages. */
static void test_held_up(void **state)
{
	struct writer writer;
	struct stdin_src *s;
	struct ran r;

	(void)state;
	for (int socket = 0; socket < 2; socket++) {
		const size_t n = socket ? 3000 : 2049 * 100;

		start_writer(&writer, socket ? socket_at_0() : pipe_at_0(), n, socket ? 1 : 2049);
		s = opened();
		run_on(s, "dd bs=1 count=1000 status=none | wc -c; wc -c", &r);
		pthread_join(writer.thread, NULL);
		assert_string_equal(r.out, socket ? "1000\n2000\n" : "1000\n203900\n");
		assert_null(r.used.spoiled);
		assert_true(r.used.eof && r.used.len == n);
		stdin_free(s);
	}
}

static void test_reopened(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "text");
	close(w);
	run_once("cat /dev/stdin", "text", "text", true);
}

/* Where tee is refused (a sandbox), everything still arrives. */
static int without_tee(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_tee, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = code};
	struct stdin_src *s;
	struct ran r;
	int w = pipe_at_0();

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 0; /* filters cannot be had: nothing to see */
	give(w, "one\ntwo\n");
	s = opened();
	if (matches(s, "onx", false) != 0 || matches(s, "one\n", false) != 1)
		return 1;
	close(w);
	run_on(s, "read a; echo $a; cat", &r);
	if (strcmp(r.out, "one\ntwo\n") != 0 || r.used.spoiled || r.used.len != 8 || !r.used.eof)
		return 2;
	stdin_free(s);
	return 0;
}

static void test_without_tee(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(60); /* a test that hangs ends */
		_exit(without_tee());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_silent(void **state)
{
	int w = pipe_at_0();

	(void)state;
	run_once("true", "", "", false);
	run_once("exec <&-; echo x", "x\n", "", false);
	close(w);
	w = socket_at_0();
	run_once("true", "", "", false);
	close(w);
}

static void test_fifo(void **state)
{
	char path[] = "/tmp/mlfs-fifo-XXXXXX";
	int w;

	(void)state;
	assert_non_null(mkdtemp(path));
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	put_at_0(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	w = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(w >= 0 && fcntl(0, F_SETFL, 0) == 0);
	unlink(path);
	give(w, "a\nb\nc\n");
	run_once("read a; echo $a", "a\n", "a\n", false);
	close(w);
	run_once("cat", "b\nc\n", "b\nc\n", true);
}

static void test_blocking_mode(void **state)
{
	int w = pipe_at_0();

	(void)state;
	give(w, "x");
	assert_int_equal(fcntl(0, F_SETFL, O_NONBLOCK), 0);
	/* Takes the x, then there is nothing and dd does not wait. */
	run_once("dd bs=1 count=2 2>/dev/null && exit 1; true", "x", "x", false);
	close(w);
}

/* Somebody else reads the same stream: no result. */
static void test_shared(void **state)
{
	int w = pipe_at_0(), in;
	struct stdin_src *s = opened();
	struct stdin_used used;
	char c;
	struct err e;

	(void)state;
	give(w, "ab");
	in = stdin_child_fd(s, &e);
	assert_true(in >= 0);
	assert_int_equal(stdin_start(s, &e), 0);
	assert_int_equal(read(in, &c, 1), 1); /* it has been offered */
	assert_int_equal(read(0, &c, 1), 1);
	assert_int_equal(stdin_finish(s, &used, &e), 0);
	close(in);
	assert_string_equal(used.spoiled, "another process read the same stdin");
	stdin_free(s);
	close(w);
}

/* ---- lookup ---- */

static void test_match(void **state)
{
	int w = pipe_at_0();
	struct stdin_src *s = opened();
	struct result unused = {.stdin_kind = STDIN_UNUSED};
	struct result r = recorded("abc", 3, false);
	struct err e;

	(void)state;
	assert_int_equal(stdin_matches(s, cache, &unused, &e), 1);
	give(w, "abcdef");
	assert_int_equal(matches(s, "abd", false), 0);
	assert_int_equal(matches(s, "abc", false), 1);
	assert_int_equal(matches(s, "abc", true), 0);
	assert_int_equal(matches(s, "", true), 0);
	assert_int_equal(matches(s, "abcdef", false), 1);
	close(w);
	assert_int_equal(matches(s, "abcdef", true), 1);
	assert_int_equal(matches(s, "abcdefg", true), 0);
	assert_int_equal(matches(s, "abcdefg", false), 0);
	assert_int_equal(stdin_consume(s, &r, &e), 0);
	stdin_free(s);
	assert_left("def");
}

static void test_match_socket(void **state)
{
	int w = socket_at_0();
	struct stdin_src *s = opened();
	struct result r = recorded("ab", 2, false);
	struct err e;

	(void)state;
	give(w, "abcdef");
	assert_int_equal(matches(s, "abx", false), 0);
	assert_int_equal(matches(s, "ab", false), 1);
	close(w);
	assert_int_equal(matches(s, "abcde", true), 0);
	assert_int_equal(matches(s, "abcdef", true), 1);
	assert_int_equal(stdin_consume(s, &r, &e), 0);
	stdin_free(s);
	assert_left("cdef");
}

/* It comes while one waits for it, in small pieces. */
static void test_match_waits(void **state)
{
	const size_t n = 20000;
	auto_free uint8_t *want = bytes(n);
	struct result r = recorded(want, n, true);
	struct err e;

	(void)state;
	for (int socket = 0; socket < 2; socket++) {
		int w = socket ? socket_at_0() : pipe_at_0();
		struct stdin_src *s = opened();
		struct writer writer;

		start_writer(&writer, w, n, 100);
		assert_int_equal(stdin_matches(s, cache, &r, &e), 1);
		pthread_join(writer.thread, NULL);
		assert_int_equal(stdin_consume(s, &r, &e), 0);
		assert_left("");
		stdin_free(s);
	}
}

/* More than a pipe holds has to be taken to be seen. */
static void test_match_long(void **state)
{
	const size_t n = 400000, all = 400100;
	auto_free uint8_t *want = bytes(n);
	struct result r = recorded(want, n, false);
	struct writer writer;
	struct err e;
	uint8_t got[100];

	(void)state;
	for (int socket = 0; socket < 2; socket++) {
		int w = socket ? socket_at_0() : pipe_at_0();
		struct stdin_src *s = opened();

		start_writer(&writer, w, all, 8192);
		assert_int_equal(stdin_matches(s, cache, &r, &e), 1);
		assert_int_equal(stdin_consume(s, &r, &e), 0);
		assert_int_equal(read_full(0, got, sizeof(got)), all - n);
		assert_int_equal(got[0], byte_at(n));
		pthread_join(writer.thread, NULL);
		stdin_free(s);
	}
}

/* ... and when it turns out to be different, the command still gets it from the start. */
static void test_match_fails_late(void **state)
{
	const size_t n = 400000;
	auto_free uint8_t *want = bytes(n), *got = malloc(n);
	struct result other, same;
	struct writer writer;
	struct stdin_src *s;
	struct ran r;
	struct err e;

	(void)state;
	same = recorded(want, n, true);
	want[n - 10] ^= 1;
	other = recorded(want, n, true);
	want[n - 10] ^= 1;
	start_writer(&writer, pipe_at_0(), n, 8192);
	s = opened();
	assert_int_equal(stdin_matches(s, cache, &other, &e), 0);
	assert_int_equal(matches(s, "zzz", false), 0);
	assert_true(stdin_holds(s));
	assert_int_equal(stdin_matches(s, cache, &same, &e), 1);
	run_on(s, "wc -c", &r);
	pthread_join(writer.thread, NULL);
	assert_string_equal(r.out, "400000\n");
	assert_true(r.used.eof && r.used.len == n);
	assert_int_equal(pread_full(r.used.spool, got, n, 0), n);
	assert_memory_equal(got, want, n);
	stdin_free(s);
}

/* A pipe full of pieces that do not fill their slots is full all the same. */
static void test_match_full_of_pieces(void **state)
{
	const size_t n = 2049 * 40;
	auto_free uint8_t *want = bytes(n);
	struct result r = recorded(want, n, true);
	struct writer writer;
	struct stdin_src *s;
	struct err e;

	(void)state;
	start_writer(&writer, pipe_at_0(), n, 2049);
	s = opened();
	assert_int_equal(stdin_matches(s, cache, &r, &e), 1);
	pthread_join(writer.thread, NULL);
	assert_int_equal(stdin_consume(s, &r, &e), 0);
	assert_left("");
	stdin_free(s);
}

/* The end alone is not waited for long, nor is silence where a limit is set. */
static void test_match_gives_up(void **state)
{
	int w = pipe_at_0();
	struct stdin_src *s = opened();
	struct feed *f;
	struct err e;

	(void)state;
	assert_int_equal(matches(s, "", true), 0);
	give(w, "a");
	assert_int_equal(feed_new(0, false, NULL, &f, &e), 0);
	assert_int_equal(feed_match(f, "ab", 2, false, 10, &e), 0);
	feed_free(f);
	stdin_free(s);
	close(w);
	w = socket_at_0();
	give(w, "a");
	assert_int_equal(feed_new(0, true, NULL, &f, &e), 0);
	assert_int_equal(feed_match(f, "ab", 2, false, 10, &e), 0);
	feed_free(f);
	close(w);
	assert_left("a");
}

/* ---- what is not a stream ---- */

static int file_with(const char *text)
{
	FILE *f = tmpfile(); /* has no name, as a here-document */
	int fd;

	assert_non_null(f);
	fd = fcntl(fileno(f), F_DUPFD_CLOEXEC, 3);
	fclose(f);
	give(fd, text);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* The same file, open for reading only. */
static int read_only(int fd)
{
	char path[64];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(ro >= 0);
	return ro;
}

static void test_file(void **state)
{
	int fd = file_with("one\ntwo\nthree\n"), ro = read_only(fd);
	struct fp fp = fp_of("one\ntwo\nthree\n", 14);
	struct result hit = {.stdin_kind = STDIN_BYTES, .stdin_len = 4};
	struct stdin_src *s;
	struct err e;
	struct ran r;

	(void)state;
	close(fd);
	put_at_0(ro);
	assert_int_equal(lseek(0, 4, SEEK_SET), 4);
	s = opened();
	assert_int_equal(stdin_type(s), IN_FILE);
	assert_true(fp_eq(stdin_file_fp(s), &fp));
	assert_int_equal(stdin_file_off(s), 4);
	assert_int_equal(stdin_matches(s, cache, &hit, &e), 1);
	run_on(s, "read a; echo $a", &r);
	assert_string_equal(r.out, "two\n");
	assert_null(r.used.spoiled);
	assert_int_equal(r.used.len, 4);
	assert_int_equal(lseek(0, 4, SEEK_SET), 4);
	assert_int_equal(stdin_consume(s, &hit, &e), 0);
	assert_int_equal(lseek(0, 0, SEEK_CUR), 8);
	stdin_free(s);
}

static void test_file_changes(void **state)
{
	int fd = file_with("one\ntwo\n"), ro = read_only(fd);
	struct stdin_src *s;
	struct stdin_used used;
	char path[64];
	struct err e;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro);
	close(fd);
	put_at_0(dup(ro));
	s = opened();
	close(stdin_child_fd(s, &e));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "X", 1, 0), 1);
	assert_int_equal(stdin_finish(s, &used, &e), 0);
	assert_string_equal(used.spoiled, "stdin was changed while the command ran");
	stdin_free(s);
	put_at_0(dup(ro));
	s = opened();
	assert_int_equal(stdin_finish(s, &used, &e), 0);
	assert_string_equal(used.spoiled,
			    "stdin is a file that another process has open for writing");
	stdin_free(s);
	close(ro);
	put_at_0(fd);
	s = opened();
	assert_int_equal(stdin_type(s), IN_FILE);
	assert_int_equal(stdin_finish(s, &used, &e), 0);
	assert_string_equal(used.spoiled, "stdin is a file open for writing");
	stdin_free(s);
}

static void check_device(int fd, enum stdin_type type, const char *spoiled)
{
	struct result any = {.stdin_kind = STDIN_UNUSED};
	struct stdin_src *s;
	struct err e;
	struct ran r;

	assert_true(fd >= 0);
	put_at_0(fd);
	s = opened();
	assert_int_equal(stdin_type(s), type);
	assert_int_equal(stdin_matches(s, cache, &any, &e), !spoiled);
	run_on(s, "true", &r);
	if (spoiled)
		assert_string_equal(r.used.spoiled, spoiled);
	else
		assert_null(r.used.spoiled);
	assert_int_equal(r.used.kind, STDIN_UNUSED);
	stdin_free(s);
}

static void test_devices(void **state)
{
	int p[2];

	(void)state;
	check_device(open("/dev/null", O_RDONLY), IN_NULL, NULL);
	check_device(open("/dev/null", O_WRONLY), IN_CLOSED, NULL);
	check_device(open("/dev/null", O_PATH), IN_CLOSED, NULL);
	check_device(open("/dev/zero", O_RDONLY), IN_DEVICE, NULL);
	check_device(open("/dev/urandom", O_RDONLY), IN_DEVICE, "stdin is a device");
	check_device(open("/", O_RDONLY), IN_DEVICE, "stdin is a directory");
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, p), 0);
	check_device(p[0], IN_DEVICE, "stdin is a socket that is not a stream");
	close(p[1]);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	check_device(p[1], IN_DEVICE, "stdin is not open for reading");
	close(p[0]);
}

static void test_closed(void **state)
{
	struct stdin_src *s;
	struct ran r;

	(void)state;
	close(0);
	s = opened();
	assert_int_equal(stdin_type(s), IN_CLOSED);
	run_on(s, "read a && exit 1; echo closed", &r);
	stdin_free(s);
	restore_stdin(NULL);
	assert_string_equal(r.out, "closed\n");
	assert_null(r.used.spoiled);
}

/* ---- terminals ---- */

static int open_pty(int *ret_master)
{
	int slave;

	*ret_master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*ret_master >= 0 && unlockpt(*ret_master) == 0);
	slave = ioctl(*ret_master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	return slave;
}

static void check_tty(const char *script, const char *spoiled)
{
	struct stdin_src *s = opened();
	struct ran r;

	assert_int_equal(stdin_type(s), IN_TTY);
	run_on(s, script, &r);
	if (spoiled && r.used.spoiled)
		assert_string_equal(r.used.spoiled, spoiled);
	else
		assert_ptr_equal(r.used.spoiled, spoiled);
	assert_int_equal(r.used.kind, STDIN_UNUSED);
	stdin_free(s);
}

static void test_tty(void **state)
{
	int master, slave = open_pty(&master);

	(void)state;
	put_at_0(slave);
	give(master, "one\ntwo\n");
	check_tty("read a", "the terminal was read");
	check_tty("true", NULL); /* at once after a read: the access time is fresh */
	check_tty("echo x >&0", NULL);
	check_tty("read a", "the terminal was read"); /* and it does not move this time */
	check_tty("true", NULL);
	close(master);
}

/* In a session whose controlling terminal is `slave`: the script's verdict on a stdin of
 * /dev/null. */
static const char *verdict_in_session(int slave, const char *script)
{
	struct stdin_src *s;
	struct ran r;

	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0)
		return "no session";
	put_at_0(open("/dev/null", O_RDONLY));
	s = opened();
	run_on(s, script, &r);
	return r.used.spoiled;
}

static void check_controlling(const char *script, const char *want)
{
	int master, slave = open_pty(&master), status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		const char *got;

		alarm(60); /* a test that hangs ends */
		give(master, "typed\n");
		got = verdict_in_session(slave, script);
		_exit(want && got ? strcmp(want, got) != 0 : want != got);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(slave);
	close(master);
}

static void test_controlling_tty(void **state)
{
	(void)state;
	check_controlling("read a </dev/tty", "the terminal was read");
	check_controlling("true", NULL);
	check_controlling("echo x >/dev/tty", NULL);
	check_controlling("cat /dev/null", NULL);
}

#define with_stdin(f) cmocka_unit_test_teardown(f, restore_stdin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_stdin(test_line_by_line),
		with_stdin(test_some_bytes),
		with_stdin(test_many_readers),
		with_stdin(test_all_of_it),
		with_stdin(test_socket_in_part),
		with_stdin(test_end),
		with_stdin(test_end_not_reached),
		with_stdin(test_left_behind),
		with_stdin(test_whole_blocks),
		with_stdin(test_held_up),
		with_stdin(test_reopened),
		with_stdin(test_without_tee),
		with_stdin(test_silent),
		with_stdin(test_fifo),
		with_stdin(test_blocking_mode),
		with_stdin(test_shared),
		with_stdin(test_match),
		with_stdin(test_match_socket),
		with_stdin(test_match_waits),
		with_stdin(test_match_long),
		with_stdin(test_match_fails_late),
		with_stdin(test_match_full_of_pieces),
		with_stdin(test_match_gives_up),
		with_stdin(test_file),
		with_stdin(test_file_changes),
		with_stdin(test_devices),
		with_stdin(test_closed),
		with_stdin(test_tty),
		with_stdin(test_controlling_tty),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
