/* SPDX-License-Identifier: MIT */
/* test_index_env.c - opening a cache: layout, versions, damage of every kind, a growing map, many
 * processes. */
#include <signal.h>

#include "index_util.h"

static char *dir, *cache;

static int setup(void **state)
{
	(void)state;
	dir = scratch_new();
	cache = in(dir, "deep/cache");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cache);
	scratch_free(dir);
	return 0;
}

static void put_results(struct idx *x, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct path_set s = sample_set(i % 10);
		struct result *r = sample_result(i, &s);

		sample_objects(x, r, i);
		assert_ok(idx_result_put(x, r, &s, &the_err));
		result_free(r);
		path_set_free(&s);
	}
}

static unsigned count_results(struct idx *x, unsigned to)
{
	unsigned n = 0;

	for (unsigned i = 0; i < to; i++) {
		struct fp key = fp_n(i);
		struct result *r;

		if (idx_result_get(x, &key, &r, &the_err) > 0) {
			result_free(r);
			n++;
		}
	}
	return n;
}

static void make_cache(unsigned results)
{
	struct idx *x;

	assert_ok(idx_open(cache, false, &x, &the_err));
	put_results(x, 0, results);
	idx_close(x);
}

/* What idx_open says of the cache now. */
static int open_code(void)
{
	struct idx *x;
	int r = idx_open(cache, false, &x, &the_err);

	if (r == 0)
		idx_close(x);
	return r;
}

static void test_layout(void **state)
{
	static const char *const names[] = {"", "/index", "/cas", "/tmp", "/lock"};
	struct stat st;
	auto_free char *version = in(cache, "version");
	char *text;
	size_t n;
	struct idx *x;

	(void)state;
	assert_int_equal(idx_open(cache, true, &x, &the_err), -ENOENT);
	make_cache(1);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		auto_free char *path = xasprintf("%s%s", cache, names[i]);

		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
	}
	assert_ok(read_file(version, &text, &n, &the_err));
	assert_string_equal(text, "mlfs cache 2\n");
	free(text);
	assert_ok(idx_open(cache, true, &x, &the_err));
	assert_string_equal(idx_dir(x), cache);
	assert_int_equal(count_results(x, 1), 1);
	idx_close(x);
	idx_close(NULL);
}

static void test_versions(void **state)
{
	auto_free char *version = in(cache, "version");

	(void)state;
	make_cache(1);
	write_file(version, "mlfs cache 7\n", 13);
	assert_int_equal(open_code(), -ENOTSUP);
	assert_non_null(strstr(the_err.msg, "format 7"));
	assert_non_null(strstr(the_err.msg, "up to 2"));
	write_file(version, "garbage", 7);
	assert_int_equal(open_code(), -EUCLEAN);
	assert_non_null(strstr(the_err.msg, "remove"));
	write_file(version, "", 0);
	assert_int_equal(open_code(), -EUCLEAN);
	assert_int_equal(unlink(version), 0);
	assert_int_equal(open_code(), 0); /* only what a cache consists of was there */
}

static void test_not_a_cache(void **state)
{
	auto_free char *parent = in(dir, "deep"), *file = in(dir, "deep/letter.txt");

	(void)state;
	assert_int_equal(mkdir(parent, 0700), 0);
	write_file(cache, "x", 1);
	assert_int_equal(open_code(), -ENOTDIR);
	assert_non_null(strstr(the_err.msg, cache));
	assert_int_equal(unlink(cache), 0);
	write_file(file, "dear", 4);
	free(cache);
	cache = xstrdup(parent);
	assert_int_equal(open_code(), -EUCLEAN);
	assert_non_null(strstr(the_err.msg, "letter.txt"));
	assert_int_equal(unlink(file), 0);
	free(take(file));
	file = in(parent, "mlfs.conf");
	write_file(file, "x", 1);
	assert_int_equal(open_code(), 0);
}

static void test_unwritable(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (getuid() == 0 && chmod(dir, 0755) < 0)
		skip();
	pid = fork();
	if (pid == 0) {
		struct idx *x;
		struct err e;

		if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(2);
		(void)chmod(dir, 0555);
		_exit(idx_open(cache, false, &x, &e) != -EACCES);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	(void)chmod(dir, 0700);
}

/* ---- damage ---- */

static char *data_path(void)
{
	return in(cache, "index/data.mdb");
}

static void scribble(off_t at, size_t n, uint64_t seed)
{
	auto_free char *path = data_path();
	auto_free uint8_t *bytes = xmalloc(n);
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	fill_random(bytes, n, seed);
	assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
	close(fd);
}

/* In a child, so that a crash is a failure of this test and not its end. Everything that reads and
 * writes is tried; what it gives is its own affair. 0: opened; 1: EUCLEAN with a remedy; else
 * wrong. */
static int try_in_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct path_set s = sample_set(1);
		struct result *r = sample_result(5000, &s);
		struct path_set_list l;
		struct idx *x;
		struct err e;
		int k = idx_open(cache, false, &x, &e);

		if (k < 0)
			_exit(k == -EUCLEAN && strstr(e.msg, "fsck --repair") ? 1 : 2);
		(void)count_results(x, 300);
		for (unsigned i = 0; i < 3; i++)
			if (idx_path_sets(x, &(struct fp){{(uint8_t)i}}, &l, &e) == 0)
				path_set_list_free(&l);
		if (store_put_mem(x, r, r->console_len, &r->console_oid, &e) < 0 ||
		    store_put_mem(x, r, r->stdin_len, &r->stdin_oid, &e) < 0 ||
		    store_put_mem(x, r, r->outputs[1].now.size, &r->outputs[1].oid, &e) < 0)
			_exit(e.msg[0] ? 0 : 3);
		k = idx_result_put(x, r, &s, &e);
		if (k < 0 && !e.msg[0])
			_exit(3);
		idx_close(x);
		result_free(r);
		path_set_free(&s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		return -1;
	return WEXITSTATUS(status);
}

static void test_truncated(void **state)
{
	auto_free char *path = data_path(), *copy = NULL;
	size_t n;
	unsigned opened = 0;

	(void)state;
	make_cache(300);
	assert_ok(read_file(path, &copy, &n, &the_err));
	for (size_t size = 1; size < n; size = size < 9000 ? size + 977 : size + 4096) {
		int r;

		assert_int_equal(truncate(path, (off_t)size), 0);
		r = try_in_child();
		if (r < 0)
			fail_msg("cut to %zu of %zu bytes: crashed or strange", size, n);
		opened += r == 0;
		write_file(path, copy, n);
	}
	print_message("%zu pages; %u truncations did no harm\n", n / 4096, opened);
	assert_true(opened < 4); /* a free page at the end may be missing */
	assert_int_equal(try_in_child(), 0);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(try_in_child(), 0); /* an empty one is a new one */
}

static void test_random_file(void **state)
{
	auto_free char *path = data_path();

	(void)state;
	make_cache(1);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(truncate(path, 0), 0);
		scribble(0, 1 + i * 5000, i);
		assert_int_equal(try_in_child(), 1);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try_in_child(), 1);
}

/* A page, a few bytes, a bit: found, or harmless because the record's guard fails. */
static void test_scribbled(void **state)
{
	auto_free char *path = data_path(), *copy = NULL;
	unsigned found = 0, rounds = getenv("SLOW") ? 4000 : 400;
	size_t n;

	(void)state;
	make_cache(300);
	assert_ok(read_file(path, &copy, &n, &the_err));
	for (unsigned i = 0; i < rounds; i++) {
		static const size_t lengths[] = {1, 2, 8, 16, 100, 4096, 20000};
		size_t len = lengths[i % 7];
		uint64_t at;
		int r;

		fill_random(&at, sizeof(at), i);
		at %= n - len;
		if (i % 3 == 0)
			at &= ~UINT64_C(4095); /* page headers are few bytes in many */
		scribble((off_t)at, len, i);
		r = try_in_child();
		if (r < 0)
			fail_msg("round %u: %zu bytes at %llu of %zu: crashed or strange", i, len,
				 (unsigned long long)at, n);
		found += r == 1;
		write_file(path, copy, n);
	}
	print_message("%u of %u damages found on opening, the others harmless\n", found, rounds);
	assert_true(found > rounds / 4);
}

static void test_lock_file_damage(void **state)
{
	auto_free char *path = in(cache, "index/lock.mdb");
	uint8_t bytes[8192];
	struct idx *x;

	(void)state;
	make_cache(3);
	fill_random(bytes, sizeof(bytes), 1);
	write_file(path, bytes, sizeof(bytes));
	assert_int_equal(try_in_child(), 0);
	write_file(path, bytes, 10);
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_int_equal(count_results(x, 3), 3);
	idx_close(x);
}

/* ---- many processes, killed ones ---- */

static void test_processes(void **state)
{
	enum { N = 6, EACH = 40 };
	pid_t pids[N];
	struct idx *x;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		pids[i] = fork();
		if (pids[i] == 0) { /* all of them create it at once, too */
			for (unsigned j = 0; j < EACH; j += 10) {
				assert_ok(idx_open(cache, false, &x, &the_err));
				put_results(x, i * EACH + j, i * EACH + j + 10);
				idx_close(x);
			}
			_exit(0);
		}
	}
	for (unsigned i = 0; i < N; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_int_equal(count_results(x, N * EACH), N * EACH);
	idx_close(x);
}

/* Killed at any moment of writing: the next one opens it, finds whole results only, and is not held
 * up. */
static void test_killed(void **state)
{
	struct idx *x;

	(void)state;
	make_cache(1);
	for (unsigned i = 0; i < 60; i++) {
		int pipefd[2], status;
		char c;
		pid_t pid;

		assert_int_equal(pipe(pipefd), 0);
		pid = fork();
		if (pid == 0) {
			assert_ok(idx_open(cache, false, &x, &the_err));
			assert_int_equal(write(pipefd[1], "x", 1), 1);
			for (;;)
				put_results(x, 0, 100);
		}
		assert_int_equal(read(pipefd[0], &c, 1), 1);
		for (volatile unsigned spin = 0; spin < i * 20000; spin++)
			continue; /* another moment each time */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		close(pipefd[0]);
		close(pipefd[1]);
		assert_ok(idx_open(cache, false, &x, &the_err));
		put_results(x, 200, 201);
		assert_true(count_results(x, 201) > 0);
		idx_close(x);
	}
}

/* Does the kernel read around the pages of the index that are looked at? As /proc/self/smaps has it (proc(5), VmFlags). */
static bool reads_ahead(void)
{
	auto_fclose FILE *f = fopen("/proc/self/smaps", "re");
	bool of_index = false, found = false, ahead = false;
	char line[8192];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, cache) && strstr(line, "/data.mdb"))
			of_index = true;
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		found |= of_index;
		ahead |= of_index && !strstr(line, " rr");
		of_index = false;
	}
	assert_true(found);
	return ahead;
}

/* A job's few look-ups in a large index read what they look at; a small one is read whole, and so is one that is all looked at. */
static void test_read_ahead(void **state)
{
	uint8_t bytes[4000] = {0};
	struct oid oid;
	struct idx *x;

	(void)state;
	make_cache(1);
	assert_ok(idx_open_for_job(cache, true, &x, &the_err));
	assert_true(reads_ahead());
	idx_close(x);
	assert_ok(idx_open(cache, false, &x, &the_err));
	for (unsigned i = 0; i < 1500; i++) {
		memcpy(bytes, &i, sizeof(i));
		assert_ok(store_put_mem(x, bytes, sizeof(bytes), &oid, &the_err));
	}
	put_results(x, 1, 2); /* and the objects with it */
	idx_close(x);
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_true(reads_ahead());
	idx_close(x);
	assert_ok(idx_open_few(cache, &x, &the_err));
	assert_false(reads_ahead());
	assert_int_equal(idx_result_drop(x, &(struct fp){{0}}, &the_err), -EROFS);
	idx_close(x);
	for (int apart = 0; apart < 2; apart++) {
		assert_ok(idx_open_for_job(cache, apart, &x, &the_err));
		assert_false(reads_ahead());
		assert_int_equal(count_results(x, 2), 2);
		idx_close(x);
	}
}

/* What does not write makes what is missing, and sees what was written for it, by whoever. */
static void test_apart(void **state)
{
	auto_free char *data = in(cache, "index/data.mdb");
	struct idx *x;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_ok(idx_open_for_job(cache, true, &x, &the_err));
		assert_int_equal(count_results(x, 2), 0);
		put_results(x, 1, 2);
		assert_int_equal(count_results(x, 2), 1);
		idx_close(x);
		make_cache(1); /* closed again */
		assert_ok(idx_open_for_job(cache, true, &x, &the_err));
		assert_int_equal(count_results(x, 2), 2);
		idx_close(x);
		assert_int_equal(i ? truncate(data, 0) : unlink(data), 0);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_layout),	    T(test_versions),	      T(test_not_a_cache),
		T(test_unwritable), T(test_truncated),	      T(test_random_file),
		T(test_scribbled),  T(test_lock_file_damage), T(test_processes),
		T(test_killed),	    T(test_read_ahead),	      T(test_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
