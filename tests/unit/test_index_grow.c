/* SPDX-License-Identifier: MIT */
/*
 * test_index_grow.c - the map grows under several threads and processes, some within a read batch.
 *
 * env.c is compiled in here with a small first map, in place of the library's.
 */
#define MAP_MIN ((size_t)512 << 10)
#include "../../index/env.c"

#include "index_util.h"

static char *dir, *cache;

static int setup(void **state)
{
	(void)state;
	dir = scratch_new();
	cache = in(dir, "cache");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cache);
	scratch_free(dir);
	return 0;
}

struct filler {
	struct idx *x;
	unsigned me;
	long wrong;
};

/* 24 MB in objects of 4 KB, mostly within a read batch. */
static void *fill_much(void *arg)
{
	struct filler *f = arg;
	uint8_t data[STORE_INLINE_MAX];
	struct oid oid;
	struct err e;

	for (unsigned i = 0; i < 6000; i++) {
		if (i % 100 == 0)
			f->wrong += idx_begin_read(f->x, &e) < 0;
		fill_random(data, sizeof(data), f->me * 100000 + i);
		f->wrong += store_put_mem(f->x, data, sizeof(data), &oid, &e) < 0;
		if (i % 500 == 0)
			f->wrong += store_check(f->x, &oid, sizeof(data)) != 1;
		if (i % 100 == 99)
			idx_end_read(f->x);
	}
	f->wrong += store_flush(f->x, &e) < 0;
	return NULL;
}

static int grow_in_child(unsigned me)
{
	struct filler f[2] = {{.me = me}, {.me = me + 1}};
	pthread_t t;
	struct idx *x;

	if (idx_open(cache, false, &x, &the_err) < 0)
		return 1;
	f[0].x = f[1].x = x;
	if (pthread_create(&t, NULL, fill_much, &f[0]))
		return 2;
	fill_much(&f[1]);
	(void)pthread_join(t, NULL);
	idx_close(x);
	return f[0].wrong || f[1].wrong ? 3 : 0;
}

static void test_grows(void **state)
{
	pid_t pids[3];
	struct idx *x;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(grow_in_child(2 * i));
	}
	for (unsigned i = 0; i < 3; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_ok(idx_open(cache, false, &x, &the_err));
	for (unsigned me = 0; me < 6; me++)
		for (unsigned i = 0; i < 6000; i += 100) {
			uint8_t data[STORE_INLINE_MAX];
			struct oid oid;

			fill_random(data, sizeof(data), me * 100000 + i);
			assert_int_equal(oid_of(data, sizeof(data), &oid), 0);
			n += store_check(x, &oid, sizeof(data)) == 1;
		}
	assert_int_equal(n, 6 * 60);
	idx_close(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_grows, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
