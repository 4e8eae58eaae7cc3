/* SPDX-License-Identifier: MIT */
/* Who of this process' descendants is doing something. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/descendants.h"

static pid_t child(void (*fn)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		fn();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void sleeps(void)
{
	for (;;)
		pause();
}

static void runs(void)
{
	for (;;)
		getppid();
}

static int told[2];

static void has_one_that_runs(void)
{
	(void)!child(runs);
	(void)!write(told[1], "x", 1);
	sleeps();
}

static void count(pid_t pid, void *arg)
{
	(void)pid;
	++*(int *)arg;
}

/* Until it is as wanted; the test's time limit is the end of waiting. */
static void await_busy(bool wanted)
{
	uint64_t ticks;

	while (descendants_busy(&ticks) != wanted)
		;
}

static void test_who_sleeps(void **state)
{
	struct grace g = {0};
	int n = 0;

	(void)state;
	child(sleeps);
	child(sleeps);
	await_busy(false);
	assert_int_equal(each_child(count, &n), 2);
	assert_int_equal(n, 2);
	for (int k = 0; k < 3; k++)
		assert_true(grace_goes_on(&g));
	assert_false(grace_goes_on(&g));
	kill_descendants();
	assert_int_equal(each_child(count, &n), 0);
}

/* A grandchild that computes is waited for, but not for ever. */
static void test_who_runs(void **state)
{
	struct grace g = {0};
	uint64_t before, after;
	char c;

	(void)state;
	assert_int_equal(pipe(told), 0);
	child(has_one_that_runs);
	assert_int_equal(read(told[0], &c, 1), 1);
	for (int k = 0; k < 20; k++) {
		assert_true(descendants_busy(&before));
		assert_true(grace_goes_on(&g));
	}
	while (grace_goes_on(&g))
		;
	assert_true(descendants_busy(&after)); /* enough all the same */
	assert_true(after > before);
	kill_descendants();
	await_busy(false);
}

static int kill_all(void **state)
{
	(void)state;
	kill_descendants();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_who_sleeps, kill_all),
		cmocka_unit_test_teardown(test_who_runs, kill_all),
	};

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
