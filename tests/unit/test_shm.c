/* SPDX-License-Identifier: MIT */
/* What shm.c says of a directory before and after. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/shm.h"

static char *dir;

static char *path_of(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static int put(const char *name, const char *text)
{
	auto_free char *path = path_of(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static void drop(const char *name)
{
	auto_free char *path = path_of(name);

	assert_int_equal(remove(path), 0);
}

/* Until what is done now is dated later than what was done before. */
static void settle(void)
{
	struct timespec a, b;

	/* A ctime may be finer than the coarse clock (multigrain times), and so ahead of it. */
	clock_gettime(CLOCK_REALTIME, &a);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &b);
	while (b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec <= a.tv_nsec));
}

static void expect(const struct shm *before, const char *want)
{
	auto_shm struct shm after = {0};
	auto_free char *got = NULL;

	shm_look(dir, NULL, 0, true, &after);
	got = shm_compare(before, &after);
	if (!want) {
		assert_null(got);
		return;
	}
	assert_non_null(got);
	if (!strstr(got, want))
		fail_msg("'%s' is not in '%s'", want, got);
}

static int setup(void **state)
{
	(void)state;
	dir = xstrdup("/tmp/mlfs-shm.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	int r = rmdir(dir);

	(void)state;
	free(dir);
	return r;
}

static void test_look(void **state)
{
	auto_shm struct shm none = {0}, some = {0}, others = {0}, fewer = {0};
	auto_free char *glob = xasprintf("%s/da*", dir);

	(void)state;
	settle();
	shm_look(dir, NULL, 0, false, &none);
	assert_int_equal(none.n, 0);
	assert_false(shm_matters(&none, &none));
	close(put("pulse-shm-1", "1"));
	settle();
	shm_look(dir, NULL, 0, false, &others);
	assert_int_equal(others.n, 1);
	assert_false(shm_matters(&none, &others));
	close(put("data", "1"));
	close(put("sem.x", "1"));
	settle();
	shm_look(dir, NULL, 0, false, &some);
	assert_int_equal(some.n, 3);
	assert_int_equal(some.v[0].kind, SHM_DATA);
	assert_int_equal(some.v[1].kind, SHM_OTHERS);
	assert_int_equal(some.v[2].kind, SHM_SHARED);
	assert_true(shm_matters(&some, &none));
	assert_true(shm_matters(&none, &some));
	shm_look(dir, &glob, 1, false, &fewer);
	assert_int_equal(fewer.n, 2);
	drop("pulse-shm-1");
	drop("sem.x");
	drop("data");
}

static void test_compare(void **state)
{
	auto_shm struct shm before = {0};
	auto_free char *sub = path_of("sub");
	void *p;
	int fd;

	(void)state;
	close(put("data", "1"));
	close(put("pulse-shm-1", "1"));
	assert_int_equal(mkdir(sub, 0700), 0);
	settle();
	shm_look(dir, NULL, 0, false, &before);
	expect(&before, NULL);

	close(put("sem.new", "1"));
	expect(&before, "/sem.new was changed or left behind");
	drop("sem.new");

	/* What somebody holds is theirs: open, or mapped only. */
	fd = put("theirs", "12345678");
	expect(&before, NULL);
	p = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	expect(&before, NULL);
	munmap(p, 8);
	expect(&before, "/theirs was changed or left behind");
	drop("theirs");

	close(put("pulse-shm-1", "12"));
	drop("pulse-shm-1");
	expect(&before, NULL);
	close(put("data", "12"));
	expect(&before, "/data was changed or left behind");
	drop("data");
	expect(&before, "/data was removed");
	shm_free(&before);

	/* What is in a directory that was there, and what was. */
	close(put("sub/old", "1"));
	settle();
	shm_look(dir, NULL, 0, false, &before);
	expect(&before, NULL);
	close(put("sub/new", "1"));
	expect(&before, "/sub was changed or left behind");
	drop("sub/new");
	shm_free(&before);
	settle();
	shm_look(dir, NULL, 0, false, &before);
	close(put("sub/old", "2"));
	expect(&before, "/sub/old was changed or left behind");
	shm_free(&before);
	settle();
	shm_look(dir, NULL, 0, false, &before);
	drop("sub/old");
	expect(&before, "/sub was changed or left behind");
	drop("sub");
	shm_free(&before);

	close(put("psm_1", "1"));
	settle();
	shm_look(dir, NULL, 0, false, &before);
	expect(&before, "psm_1");
	drop("psm_1");
}

static void test_too_many(void **state)
{
	auto_shm struct shm before = {0};

	(void)state;
	for (int k = 0; k < 4097; k++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", k);
		close(put(name, ""));
	}
	settle();
	shm_look(dir, NULL, 0, false, &before);
	expect(&before, " holds too much to be looked at");
	for (int k = 0; k < 4097; k++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", k);
		drop(name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_look, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compare, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
