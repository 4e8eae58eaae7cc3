/* SPDX-License-Identifier: MIT */
/*
 * test_index_fault.c - the Nth open, read, write, rename, sync or the like fails, for every N:
 * nothing crashes, no partial object is to be seen, what was said to be stored is there, and the
 * index is whole.
 *
 * The functions defined here stand in for libc's, for the library and for liblmdb alike. Each round
 * runs in a child, which is armed after the fork; the parent then looks at what is left, with
 * nothing failing.
 */
#include <dlfcn.h>
#include <signal.h>
#include <sys/uio.h>

#include "../../index/check.h"
#include "index_util.h"

/* ---- the shim ---- */

enum mode {
	FAIL_ONCE,  /* EIO, once */
	DISK_FULL,  /* from then on nothing can be written or made */
	SHORT_ONCE, /* a write moves half of its bytes */
	KILLED,	    /* SIGKILL there */
	MODES
};
static struct {
	bool armed;
	enum mode mode;
	long at, calls; /* the call to fail, those so far */
} fault;

/* Is this call to fail? Sets errno. */
static bool fails(bool writes)
{
	long n;

	if (!fault.armed)
		return false;
	n = ++fault.calls;
	if (fault.mode == KILLED && n == fault.at)
		raise(SIGKILL);
	if (fault.mode == FAIL_ONCE && n == fault.at) {
		errno = EIO;
		return true;
	}
	if (fault.mode == DISK_FULL && n >= fault.at && writes) {
		errno = ENOSPC;
		return true;
	}
	return false;
}

static size_t cut(size_t n)
{
	return fault.armed && fault.mode == SHORT_ONCE && fault.calls == fault.at && n > 1 ? n / 2
											   : n;
}

static void *next_of(const char *name)
{
	void *f = dlsym(RTLD_NEXT, name);

	if (!f)
		abort();
	return f;
}

#define OPEN_MODE(flags, mode)             \
	va_list ap;                        \
	mode_t mode = 0;                   \
                                           \
	va_start(ap, flags);               \
	if ((flags)&O_CREAT)               \
		mode = va_arg(ap, mode_t); \
	va_end(ap)

/* Define libc's `name` as a function that fails when it is its turn. The assembler's name is given,
 * since libc's headers call some of them by another. */
#define SHIM(name, writes, result, params, args)                                    \
	result shim_##name params __asm__(#name);                                   \
	result shim_##name params                                                   \
	{                                                                           \
		return fails(writes) ? -1 : ((result(*) params)next_of(#name))args; \
	}
#define SHIM_OPEN(name)                                                                         \
	int shim_##name(const char *path, int flags, ...) __asm__(#name);                       \
	int shim_##name(const char *path, int flags, ...)                                       \
	{                                                                                       \
		OPEN_MODE(flags, mode);                                                         \
		return fails(flags & O_CREAT)                                                   \
			       ? -1                                                             \
			       : ((int (*)(const char *, int, ...))next_of(#name))(path, flags, \
										   mode);       \
	}
#define SHIM_OPENAT(name)                                                                       \
	int shim_##name(int fd, const char *path, int flags, ...) __asm__(#name);               \
	int shim_##name(int fd, const char *path, int flags, ...)                               \
	{                                                                                       \
		OPEN_MODE(flags, mode);                                                         \
		return fails(flags & O_CREAT) ? -1                                              \
					      : ((int (*)(int, const char *, int, ...))next_of( \
							#name))(fd, path, flags, mode);         \
	}

SHIM_OPEN(open)
SHIM_OPEN(open64)
SHIM_OPENAT(openat)
SHIM_OPENAT(openat64)
SHIM(read, false, ssize_t, (int fd, void *p, size_t n), (fd, p, n))
SHIM(pread, false, ssize_t, (int fd, void *p, size_t n, off_t off), (fd, p, n, off))
SHIM(pread64, false, ssize_t, (int fd, void *p, size_t n, off_t off), (fd, p, n, off))
SHIM(write, true, ssize_t, (int fd, const void *p, size_t n), (fd, p, cut(n)))
SHIM(pwrite, true, ssize_t, (int fd, const void *p, size_t n, off_t off), (fd, p, cut(n), off))
SHIM(pwrite64, true, ssize_t, (int fd, const void *p, size_t n, off_t off), (fd, p, cut(n), off))
SHIM(writev, true, ssize_t, (int fd, const struct iovec *v, int n), (fd, v, n))
SHIM(renameat, true, int, (int a, const char *from, int b, const char *to), (a, from, b, to))
SHIM(renameat2, true, int, (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags))
SHIM(mkdirat, true, int, (int fd, const char *path, mode_t mode), (fd, path, mode))
SHIM(unlinkat, false, int, (int fd, const char *path, int flags), (fd, path, flags))
SHIM(fdatasync, true, int, (int fd), (fd))
SHIM(fsync, true, int, (int fd), (fd))
SHIM(ftruncate, true, int, (int fd, off_t n), (fd, n))
SHIM(ftruncate64, true, int, (int fd, off_t n), (fd, n))
SHIM(fchmod, true, int, (int fd, mode_t mode), (fd, mode))

/* ---- what is done ---- */

enum { SMALL = 100, BIG = 700000 };
/* Which of these said that they had succeeded; the child's exit status. */
enum { PUT_SMALL = 1, PUT_BIG = 2, PUT_RESULT = 4, DROPPED = 8, WRONG = 64 };

static char *dir, *cache, *source;

/* Bytes that differ from round to round, so that every round really writes. */
static void sample_bytes(uint8_t *small, uint8_t *big, uint64_t round)
{
	fill_random(small, SMALL, round * 2);
	fill_random(big, BIG, round * 2 + 1);
}

static int put_all(struct idx *x, unsigned round, const uint8_t *small, int big)
{
	struct path_set s = sample_set(round);
	struct result *r = sample_result(round, &s), *old;
	const struct runs_keep keep = {0};
	struct run run = {.started_ns = round};
	struct idx_gc_options o = {.max_size = IDX_NO_LIMIT, .max_age_ns = -1};
	struct idx_gc_counts gone;
	struct idx_digest d = {.hashed_at = now_ns()};
	struct fp fp, old_key = fp_n(round - 1);
	struct err e = {0};
	struct oid oid;
	uint64_t size;
	int done = 0, k;

	done |= store_put_mem(x, small, SMALL, &oid, &e) == 0 ? PUT_SMALL : e.msg[0] ? 0 : WRONG;
	done |= store_put_fd(x, big, &oid, &fp, &size, &e) == 0 ? PUT_BIG : e.msg[0] ? 0 : WRONG;
	if (done & PUT_BIG && (size != BIG || store_check(x, &oid, BIG) == 0))
		done |= fault.mode == FAIL_ONCE ? 0 : WRONG; /* a failed read makes it "damaged" */
	d.st.st_mode = S_IFREG;
	d.st.st_ino = round;
	if (idx_digest_put(x, &d, 1, &e) < 0 && !e.msg[0])
		done |= WRONG;
	k = store_put_mem(x, small, r->console_len, &r->console_oid, &e);
	if (k == 0)
		k = store_put_mem(x, small, r->stdin_len, &r->stdin_oid, &e);
	if (k == 0)
		k = store_put_mem(x, small, r->outputs[1].now.size, &r->outputs[1].oid, &e);
	if (k == 0)
		k = idx_result_put(x, r, &s, &e);
	if (k == 0 && idx_result_get(x, &r->input_key, &old, &e) == 1)
		result_free(old);
	else if (k == 0 && fault.mode != FAIL_ONCE)
		done |= WRONG;
	done |= k == 0 ? PUT_RESULT : 0;
	if (idx_result_touch(x, r, &e) < 0 || idx_run_add(x, &run, &keep, &e) < 0)
		log_debug("%s", e.msg);
	if (idx_result_drop(x, &old_key, &e) == 0)
		done |= DROPPED;
	e.msg[0] = '\0';
	if (idx_gc(x, &o, &gone, &e) < 0 && !e.msg[0])
		done |= WRONG;
	result_free(r);
	path_set_free(&s);
	return done;
}

static int child(unsigned round, long at, enum mode mode, const uint8_t *small)
{
	int big = open(source, O_RDONLY), done;
	struct idx *x;
	struct err e = {0};

	fault.mode = mode;
	fault.at = at;
	fault.armed = true;
	if (idx_open(cache, false, &x, &e) < 0) {
		fault.armed = false;
		close(big);
		return e.msg[0] ? 0 : WRONG;
	}
	done = put_all(x, round, small, big);
	idx_close(x);
	fault.armed = false;
	close(big);
	return done;
}

/* ---- what is left ---- */

static int check_object(const char *path, const struct stat *st, int type, struct FTW *f)
{
	char digits[65], name[80];
	struct oid oid;
	struct fp fp;
	int fd;

	(void)f;
	if (type != FTW_F)
		return 0;
	fd = open(path, O_RDONLY);
	assert_int_equal(hash_fd_both(fd, &fp, &oid, NULL), 0);
	close(fd);
	hex(oid.b, 32, digits);
	snprintf(name, sizeof(name), "%.2s/%s", digits, digits + 2);
	if (!strstr(path, name) || (st->st_mode & 07777) != 0444)
		fail_msg("%s holds other bytes, or can be written", path);
	return 0;
}

static bool object_there(struct idx *x, const uint8_t *p, size_t n)
{
	struct oid oid;

	assert_int_equal(oid_of(p, n, &oid), 0);
	return store_check(x, &oid, n) == 1;
}

/* What is in a journal may be torn. */
static void check_found(void *arg, const struct fsck_found *f)
{
	(void)arg;
	if (f->broken && strcmp(f->what, "journal") != 0)
		fail_msg("%s %s: %s", f->what, f->name, f->detail);
}

static void check_left(unsigned round, int done, const uint8_t *small, const uint8_t *big)
{
	auto_free char *cas = in(cache, "cas"), *data = in(cache, "index/data.mdb");
	struct fp key = fp_n(round), old_key = fp_n(round - 1);
	struct result *r;
	struct idx *x;
	int fd = open(data, O_RDONLY);
	struct fsck_options o = {.threads = 1, .found = check_found};
	struct fsck_counts n;

	if (fd >= 0) {
		struct stat st;

		assert_int_equal(fstat(fd, &st), 0);
		if (st.st_size)
			assert_ok(check_walk(fd, NULL, NULL, &the_err));
		close(fd);
	}
	if (access(cas, F_OK) == 0) /* else killed early */
		assert_int_equal(nftw(cas, check_object, 16, FTW_PHYS), 0);
	assert_ok(idx_open(cache, false, &x, &the_err));
	if (done & PUT_RESULT) {
		assert_int_equal(idx_result_get(x, &key, &r, &the_err), 1);
		result_free(r);
	}
	if (done & DROPPED)
		assert_int_equal(idx_result_get(x, &old_key, &r, &the_err), 0);
	/* The result takes the small object with it; the big one is there from the beginning. */
	if (done & PUT_RESULT && done & PUT_SMALL)
		assert_true(object_there(x, small, SMALL));
	if (done & PUT_BIG)
		(void)object_there(x, big, BIG); /* a read that failed may have had it removed */
	idx_close(x);
	if (round % 8 == 0)
		assert_ok(idx_fsck(cache, &o, &n, &the_err));
}

/* One round; false when `at` lies behind the last call. */
static bool fault_round(unsigned round, long at, enum mode mode)
{
	auto_free uint8_t *small = xmalloc(SMALL), *big = xmalloc(BIG);
	int status, report[2];
	long calls = 0;
	pid_t pid;

	sample_bytes(small, big, round);
	write_file(source, big, BIG);
	assert_int_equal(pipe(report), 0);
	pid = fork();
	if (pid == 0) {
		int done = child(round, at, mode, small);

		if (write(report[1], &fault.calls, sizeof(fault.calls)) < 0)
			_exit(WRONG);
		free(small);
		free(big);
		_exit(done);
	}
	close(report[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (read(report[0], &calls, sizeof(calls)) != sizeof(calls))
		calls = at; /* killed */
	close(report[0]);
	if (mode == KILLED && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		status = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) & WRONG)
		fail_msg("mode %d, call %ld: status %x", mode, at, (unsigned)status);
	check_left(round, WEXITSTATUS(status), small, big);
	return calls >= at;
}

static void run_mode(enum mode mode, bool anew)
{
	static unsigned round = 1;
	long at = 1;

	for (;; at++, round++) {
		bool more;

		if (anew) { /* creating the cache is part of it */
			scratch_free(cache);
			cache = in(dir, "cache");
		}
		more = fault_round(round, at, mode);
		if (!more)
			break;
	}
	print_message("mode %d: %ld calls\n", mode, at - 1);
	assert_true(at > 30);
}

static void test_fail_once(void **state)
{
	(void)state;
	run_mode(FAIL_ONCE, false);
}

static void test_fail_once_anew(void **state)
{
	(void)state;
	run_mode(FAIL_ONCE, true);
}

static void test_disk_full(void **state)
{
	(void)state;
	run_mode(DISK_FULL, false);
}

static void test_disk_full_anew(void **state)
{
	(void)state;
	run_mode(DISK_FULL, true);
}

static void test_short(void **state)
{
	(void)state;
	run_mode(SHORT_ONCE, false);
}

static void test_killed(void **state)
{
	(void)state;
	run_mode(KILLED, false);
}

static void test_killed_anew(void **state)
{
	(void)state;
	run_mode(KILLED, true);
}

/* ---- the journal of runs ---- */

enum { FULL = 337, MORE = 4 }; /* runs that nearly fill a segment; one of these closes it */

static int add_run(int64_t n)
{
	static char text[4096], reason[4096];
	const struct runs_keep keep = {0};
	char *argv[] = {text, NULL};
	struct run r = {.started_ns = n,
			.name = argv[0],
			.reason = reason,
			.cwd = argv[0],
			.argv = argv,
			.n_argv = 1};
	struct err e;

	memset(text, 'a', sizeof(text) - 1);
	snprintf(reason, sizeof(reason), "reason %d", (int)n);
	return idx_run_note(cache, &r, &keep, &e);
}

struct seen {
	unsigned n;
	uint64_t bits[16];
};

static int see_run(void *arg, const struct run_row *row)
{
	struct seen *s = arg;
	uint64_t *word = &s->bits[row->started_ns / 64], bit = UINT64_C(1) << row->started_ns % 64;
	char want[32];

	snprintf(want, sizeof(want), "reason %d", (int)row->started_ns);
	assert_string_equal(row->reason, want);
	if (*word & bit)
		fail_msg("run %d is there twice", (int)row->started_ns);
	*word |= bit;
	s->n++;
	return 0;
}

static void read_runs(struct seen *s)
{
	const struct run_filter all = {0};
	struct history *h;

	*s = (struct seen){0};
	assert_ok(history_open(cache, &h, &the_err));
	assert_ok(history_each(h, &all, see_run, s, &the_err));
	history_close(h);
}

/* Each call that closes a segment and makes its rows fails, or is the last. What was said to be added is there once, and
 * all else is as it was; and so it is after another look, and when fsck has been over it. */
static void run_journal(enum mode mode)
{
	auto_free char *full = in(dir, "full"), *runs = in(cache, "index/runs"),
		       *closed = in(cache, "index/rows.1");
	auto_free char *drop =
		xasprintf("rm -f %s/index/r*s.[0-9]* && cp %s %s", cache, full, runs);
	auto_free char *keep = xasprintf("cp %s %s", runs, full);
	struct fsck_options o = {.repair = true};
	struct fsck_counts counts;
	struct idx *x;
	long at = 1, calls = 0;

	assert_ok(idx_open(cache, false, &x, &the_err));
	idx_close(x);
	for (int n = 0; n < FULL; n++)
		assert_ok(add_run(n));
	assert_int_equal(system(keep), 0);
	for (bool more = true; more; at++) {
		int status, report[2];
		struct seen s;
		pid_t pid;

		assert_int_equal(system(drop), 0);
		assert_int_equal(pipe(report), 0);
		pid = fork();
		if (pid == 0) {
			int done = 0;

			fault.mode = mode;
			fault.at = at;
			fault.armed = true;
			for (int n = FULL; n < FULL + MORE; n++)
				done += add_run(n) == 0;
			fault.armed = false;
			_exit(write(report[1], &fault.calls, sizeof(fault.calls)) < 0 ? WRONG
										      : done);
		}
		close(report[1]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (read(report[0], &calls, sizeof(calls)) != sizeof(calls))
			calls = at; /* killed */
		close(report[0]);
		read_runs(&s);
		assert_true(s.n >= FULL);
		if (WIFEXITED(status) && mode != FAIL_ONCE)
			assert_int_equal(s.n, FULL + WEXITSTATUS(status));
		else if (WIFEXITED(status)) /* said to have failed, but written */
			assert_in_range(s.n, FULL + WEXITSTATUS(status), FULL + MORE);
		assert_ok(idx_fsck(cache, &o, &counts, &the_err));
		assert_int_equal(counts.runs, s.n);
		read_runs(&s);
		assert_int_equal(counts.runs, s.n);
		more = calls >= at;
	}
	assert_int_equal(access(closed, F_OK), 0);
	print_message("runs, mode %d: %ld calls\n", mode, at - 1);
	assert_true(at > 30);
}

static void test_runs_fail_once(void **state)
{
	(void)state;
	run_journal(FAIL_ONCE);
}

static void test_runs_disk_full(void **state)
{
	(void)state;
	run_journal(DISK_FULL);
}

static void test_runs_short(void **state)
{
	(void)state;
	run_journal(SHORT_ONCE);
}

static void test_runs_killed(void **state)
{
	(void)state;
	run_journal(KILLED);
}

static int setup(void **state)
{
	(void)state;
	dir = scratch_new();
	cache = in(dir, "cache");
	source = in(dir, "source");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cache);
	free(source);
	scratch_free(dir);
	return 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_fail_once),	T(test_fail_once_anew), T(test_disk_full),
		T(test_disk_full_anew), T(test_short),		T(test_killed),
		T(test_killed_anew),	T(test_runs_fail_once), T(test_runs_disk_full),
		T(test_runs_short),	T(test_runs_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
