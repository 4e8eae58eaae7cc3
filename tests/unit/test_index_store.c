/* SPDX-License-Identifier: MIT */
/* test_index_store.c - objects: put, get, damage, many small ones, several threads. */
#include <pthread.h>

#include "index_cache.h"

static char *object_path(const struct oid *o)
{
	char digits[65];

	hex(o->b, 32, digits);
	return xasprintf("%s/cas/%.2s/%s", cache, digits, digits + 2);
}

static int make_file(const char *name, const void *p, size_t n)
{
	auto_free char *path = in(dir, name);

	write_file(path, p, n);
	return open(path, O_RDWR);
}

static size_t count_files(const char *sub)
{
	auto_free char *path = in(cache, sub);
	DIR *d = opendir(path);
	size_t n = 0;
	struct dirent *de;

	while (d && (de = readdir(d)))
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

static void round_trip(size_t n)
{
	auto_free uint8_t *data = xmalloc(n);
	struct oid oid, want, again;
	struct fp fp;
	uint64_t size = 99;
	void *back;
	size_t nback;
	int fd, out;

	fill_random(data, n, n);
	fd = make_file("src", data, n);
	assert_ok(store_put_fd(x, fd, &oid, &fp, &size, &the_err));
	assert_int_equal(size, n);
	assert_int_equal(oid_of(data, n, &want), 0);
	assert_true(oid_eq(&oid, &want));
	assert_memory_equal(fp.b, fp_of(data, n).b, 16);
	assert_ok(store_put_mem(x, data, n, &again, &the_err));
	assert_true(oid_eq(&again, &oid));
	assert_int_equal(store_check(x, &oid, n), 1);
	assert_int_equal(store_check(x, &oid, n + 1), 0);
	assert_int_equal(store_check(x, &oid, n),
			 1); /* a wrong length of the caller's does no harm */
	assert_ok(store_get_mem(x, &oid, &back, &nback, &the_err));
	assert_int_equal(nback, n);
	assert_memory_equal(back, data, n);
	free(back);
	out = make_file("out", "", 0);
	assert_ok(store_get_fd(x, &oid, n, out, &the_err));
	back = xmalloc(n + 1);
	assert_int_equal(pread_full(out, back, n + 1, 0), (ssize_t)n);
	assert_memory_equal(back, data, n);
	free(back);
	close(fd);
	close(out);
}

static void test_sizes(void **state)
{
	(void)state;
	round_trip(0);
	round_trip(1);
	round_trip(STORE_INLINE_MAX);
	assert_int_equal(count_files("cas"), 0);
	round_trip(STORE_INLINE_MAX + 1);
	assert_int_equal(count_files("cas"), 1);
	round_trip(262144);
	round_trip(1000003);
	/* hashed by a second thread */
	round_trip(4 << 20);
	round_trip((9 << 20) + 77);
	assert_int_equal(count_files("tmp"), 0);
	/* and once more from what is written */
	assert_ok(store_flush(x, &the_err));
	round_trip(1);
	round_trip(STORE_INLINE_MAX);
	idx_close(x);
	assert_ok(idx_open(cache, false, &x, &the_err));
	round_trip(STORE_INLINE_MAX);
	round_trip(1000003);
}

static void test_mode_and_missing(void **state)
{
	struct oid oid, none = {{1}};
	auto_free char *data = xcalloc(1, 9000), *path = NULL;
	void *p;
	size_t n;
	struct stat st;
	int out = make_file("out", "", 0);

	(void)state;
	assert_ok(store_put_mem(x, data, 9000, &oid, &the_err));
	path = object_path(&oid);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(store_check(x, &none, 5), 0);
	assert_int_equal(store_get_fd(x, &none, 5, out, &the_err), -ENOENT);
	assert_int_equal(store_get_mem(x, &none, &p, &n, &the_err), -ENOENT);
	assert_int_equal(store_put_fd(x, -1, &oid, NULL, NULL, &the_err), -EBADF);
	close(out);
	out = open(dir, O_RDONLY);
	assert_int_equal(store_put_fd(x, out, &oid, NULL, NULL, &the_err), -EINVAL);
	close(out);
}

static void damage(const struct oid *o, off_t at)
{
	auto_free char *path = object_path(o);
	int fd;
	char c;

	assert_int_equal(chmod(path, 0644), 0);
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* A damaged object is never given out, goes away, and comes back with the next put. */
static void test_damage(void **state)
{
	enum { N = 500000 };
	auto_free uint8_t *data = xmalloc(N);
	auto_free char *path = NULL;
	struct oid oid;
	void *p;
	size_t n;
	int out = make_file("out", "", 0), fd;
	struct stat st;
	struct fp fp;

	(void)state;
	fill_random(data, N, 1);
	fp = fp_of(data, N);
	assert_ok(store_put_mem(x, data, N, &oid, &the_err));
	path = object_path(&oid);
	damage(&oid, 400000);
	assert_int_equal(store_get_fd(x, &oid, N, out, &the_err), -EUCLEAN);
	assert_int_equal(fstat(out, &st), 0);
	assert_int_equal(st.st_size, 0);
	/* Nor one that was known to be whole. */
	fd = make_file("src", data, N);
	assert_ok(store_put_fd(x, fd, &oid, &fp, NULL, &the_err));
	close(fd);
	for (int k = 0; k < 3; k++) {
		assert_int_equal(ftruncate(out, 0), 0);
		assert_ok(store_get_fd(x, &oid, N, out, &the_err));
	}
	assert_int_equal(ftruncate(out, 0), 0);
	damage(&oid, 7);
	assert_int_equal(store_get_fd(x, &oid, N, out, &the_err), -EUCLEAN);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(store_check(x, &oid, N), 0);
	assert_ok(store_put_mem(x, data, N, &oid, &the_err));
	assert_int_equal(store_check(x, &oid, N), 1);
	damage(&oid, 0);
	assert_int_equal(store_check(x, &oid, N), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_ok(store_put_mem(x, data, N, &oid, &the_err));
	damage(&oid, N - 1);
	assert_int_equal(store_get_mem(x, &oid, &p, &n, &the_err), -EUCLEAN);
	/* cut short: not taken for being there */
	assert_ok(store_put_mem(x, data, N, &oid, &the_err));
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(truncate(path, 100), 0);
	assert_ok(store_put_mem(x, data, N, &oid, &the_err));
	assert_int_equal(store_check(x, &oid, N), 1);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(store_check(x, &oid, N), 0);
	close(out);
}

static void test_open(void **state)
{
	static const size_t sizes[] = {0, 1, STORE_INLINE_MAX, STORE_INLINE_MAX + 1, 300000};
	auto_free uint8_t *data = xmalloc(300000), *back = xmalloc(300001);
	struct oid oid, missing = {{7}};

	(void)state;
	fill_random(data, 300000, 5);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		auto_close int fd = -1;

		assert_ok(store_put_mem(x, data, sizes[i], &oid, &the_err));
		fd = store_open(x, &oid, sizes[i], &the_err);
		assert_ok(fd);
		assert_int_equal(pread_full(fd, back, 300001, 0), sizes[i]);
		assert_memory_equal(back, data, sizes[i]);
		assert_int_equal(store_open(x, &oid, sizes[i] + 1, &the_err), -EUCLEAN);
	}
	assert_int_equal(store_open(x, &missing, 5, &the_err), -ENOENT);
	/* Damage is for store_check to find: what is there is seen. */
	damage(&oid, 1000);
	auto_close int fd = store_open(x, &oid, 300000, &the_err);
	assert_ok(fd);
	assert_int_equal(pread_full(fd, back, 300001, 0), 300000);
	assert_memory_equal(back, data, 1000);
	assert_int_not_equal(back[1000], data[1000]);
	assert_int_equal(store_check(x, &oid, 300000), 0);
}

static void test_sparse(void **state)
{
	enum { N = 64 << 20 };
	int fd = make_file("src", "", 0), out = make_file("out", "", 0);
	struct oid oid, want;
	struct fp fp;
	uint64_t size;
	struct stat st;

	(void)state;
	assert_int_equal(ftruncate(fd, N), 0);
	assert_int_equal(pwrite(fd, "x", 1, N / 2), 1);
	assert_ok(store_put_fd(x, fd, &oid, &fp, &size, &the_err));
	assert_int_equal(size, N);
	assert_int_equal(hash_fd_both(fd, &fp, &want, &size), 0);
	assert_true(oid_eq(&oid, &want));
	assert_ok(store_get_fd(x, &oid, N, out, &the_err));
	assert_int_equal(fstat(out, &st), 0);
	assert_int_equal(st.st_size, N);
	assert_true(st.st_blocks * 512 < N / 8);
	assert_int_equal(hash_fd_both(out, &fp, &want, &size), 0);
	assert_true(oid_eq(&oid, &want));
	close(fd);
	close(out);
}

static void test_many_small(void **state)
{
	enum { N = 20000 };
	int64_t start = mono_ns(), ms;
	auto_free struct oid *oids = xcalloc(N, sizeof(*oids));
	char text[64];

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		int n = snprintf(text, sizeof(text), "object number %u with some text", i);

		assert_ok(store_put_mem(x, text, (size_t)n, &oids[i], &the_err));
	}
	assert_ok(store_flush(x, &the_err));
	ms = (mono_ns() - start) / 1000000;
	print_message("%d small objects in %lld ms\n", N, (long long)ms);
	for (unsigned i = 0; i < N; i += 7) {
		void *p;
		size_t n;

		assert_ok(store_get_mem(x, &oids[i], &p, &n, &the_err));
		assert_int_equal(snprintf(text, sizeof(text), "object number %u with some text", i),
				 (int)n);
		assert_memory_equal(p, text, n);
		free(p);
	}
}

static void *put_and_get(void *arg)
{
	unsigned me = *(unsigned *)arg;
	struct err e;
	long wrong = 0;

	for (unsigned i = 0; i < 400; i++) {
		size_t n = i % 3 ? 3000 + i : 6000 + i;
		auto_free uint8_t *data = xmalloc(n);
		struct oid oid;
		void *p;
		size_t k;

		fill_random(data, n, i % 2 ? i : me * 1000 + i); /* some are put by all of them */
		wrong += idx_begin_read(x, &e) < 0;
		wrong += store_put_mem(x, data, n, &oid, &e) < 0;
		wrong += store_check(x, &oid, n) != 1;
		if (i % 50 == 49)
			wrong += store_flush(x, &e) < 0;
		idx_end_read(x);
		if (store_get_mem(x, &oid, &p, &k, &e) == 0) {
			wrong += k != n || memcmp(p, data, n) != 0;
			free(p);
		} else {
			wrong++;
		}
	}
	return (void *)wrong;
}

static void test_threads(void **state)
{
	pthread_t t[6];
	unsigned ids[6];

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&t[i], NULL, put_and_get, &ids[i]), 0);
	}
	for (unsigned i = 0; i < 6; i++) {
		void *wrong;

		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_int_equal(count_files("tmp"), 0);
}

static void test_read_only(void **state)
{
	struct oid oid;
	auto_free char *big = xcalloc(1, 10000);

	(void)state;
	assert_ok(store_put_mem(x, "small", 5, &oid, &the_err));
	idx_close(x);
	assert_ok(idx_open(cache, true, &x, &the_err));
	assert_int_equal(store_check(x, &oid, 5), 1);
	assert_int_equal(store_put_mem(x, "other", 5, &oid, &the_err), -EROFS);
	assert_int_equal(store_put_mem(x, big, 10000, &oid, &the_err), -EROFS);
	assert_int_equal(store_flush(x, &the_err), 0);
	assert_int_equal(count_files("tmp"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mode_and_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sparse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
