/* SPDX-License-Identifier: MIT */
/* Which bytes are locked, and how: against an array with a cell a byte. And lines of /proc/locks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "../../runner/target.h"

#define CELLS 40

static void check(const struct ranges *r, const enum hold *cells)
{
	int64_t last;

	for (int64_t k = 0; k < CELLS; k++) {
		assert_int_equal(ranges_at(r, k, &last), cells[k]);
		assert_true(last >= k);
		for (int64_t j = k; j <= last && j < CELLS; j++)
			assert_int_equal(cells[j], cells[k]);
	}
	for (size_t k = 0; k < r->n; k++) {
		assert_true(r->v[k].start <= r->v[k].end);
		assert_int_not_equal(r->v[k].hold, HOLD_NONE);
		assert_true(k == 0 || r->v[k - 1].end < r->v[k].start);
	}
}

static bool covered(const enum hold *cells, int64_t start, int64_t end, enum hold hold)
{
	for (int64_t k = start; k <= end; k++)
		if (cells[k] < hold)
			return false;
	return true;
}

static void test_against_cells(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 50; seed++) {
		auto_ranges struct ranges r = {0};
		enum hold cells[CELLS] = {HOLD_NONE};

		srand(seed);
		for (int step = 0; step < 60; step++) {
			int64_t start = rand() % CELLS, end = start + rand() % (CELLS - start);
			enum hold hold = (enum hold)(rand() % 3);
			bool raise = rand() % 2;

			assert_int_equal(ranges_cover(&r, start, end, hold),
					 covered(cells, start, end, hold));
			(raise ? ranges_raise : ranges_set)(&r, start, end, hold);
			for (int64_t k = start; k <= end; k++)
				if (!raise || cells[k] < hold)
					cells[k] = hold;
			check(&r, cells);
		}
	}
}

static void test_to_the_end(void **state)
{
	auto_ranges struct ranges r = {0};
	int64_t last;

	(void)state;
	ranges_set(&r, 10, INT64_MAX, HOLD_READ);
	ranges_raise(&r, 0, INT64_MAX, HOLD_READ);
	assert_int_equal(r.n, 1);
	assert_true(ranges_cover(&r, 0, INT64_MAX, HOLD_READ));
	assert_false(ranges_cover(&r, 0, INT64_MAX, HOLD_WRITE));
	ranges_raise(&r, INT64_MAX, INT64_MAX, HOLD_WRITE);
	assert_int_equal(ranges_at(&r, 5, &last), HOLD_READ);
	assert_true(last == INT64_MAX - 1);
	ranges_set(&r, 0, INT64_MAX, HOLD_NONE);
	assert_int_equal(r.n, 0);
	assert_int_equal(ranges_at(&r, 0, &last), HOLD_NONE);
	assert_true(last == INT64_MAX);
}

static void test_lock_lines(void **state)
{
	struct lock_line l;

	(void)state;
	assert_true(lock_line_parse("1: POSIX  ADVISORY  WRITE 715 00:2b:1234 10 19", &l));
	assert_int_equal(l.kind, LOCK_POSIX);
	assert_int_equal(l.hold, HOLD_WRITE);
	assert_int_equal(l.pid, 715);
	assert_int_equal(l.dev, makedev(0, 0x2b));
	assert_int_equal(l.ino, 1234);
	assert_int_equal(l.start, 10);
	assert_int_equal(l.end, 19);
	assert_true(lock_line_parse(
		"\t22: OFDLCK ADVISORY  READ -1 fd:00:18446744073709551615 0 EOF", &l));
	assert_int_equal(l.kind, LOCK_OFD);
	assert_int_equal(l.hold, HOLD_READ);
	assert_int_equal(l.ino, UINT64_MAX);
	assert_true(l.end == INT64_MAX);
	assert_true(lock_line_parse("3: FLOCK  ADVISORY  WRITE 9 00:1:7 0 EOF", &l));
	assert_int_equal(l.kind, LOCK_FLOCK);
	/* Who waits holds nothing; leases are no locks. */
	assert_false(lock_line_parse("1: -> POSIX  ADVISORY  WRITE 715 00:2b:1234 10 19", &l));
	assert_false(lock_line_parse("4: LEASE  ACTIVE    READ 9 00:1:7 0 EOF", &l));
	assert_false(lock_line_parse("", &l));
	assert_false(lock_line_parse("5: POSIX", &l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_cells),
		cmocka_unit_test(test_to_the_end),
		cmocka_unit_test(test_lock_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
