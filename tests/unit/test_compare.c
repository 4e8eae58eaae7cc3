/* SPDX-License-Identifier: MIT */
/* compare.c: the first difference of files and of console records, of any size, and how it is said. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/compare.h"

static int file_of(const void *p, size_t n)
{
	int fd = memfd_create("sample", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, p, n), (ssize_t)n);
	return fd;
}

static struct comparison compare_fds(int a, int b)
{
	struct source then = source_file(a), now = source_file(b);
	struct guess_in context = {0};
	struct comparison c;

	assert_int_equal(compare_streams(&then, &now, &context, true, &c), 0);
	return c;
}

static struct comparison compare_texts(const char *then, const char *now)
{
	auto_close int a = file_of(then, strlen(then)), b = file_of(now, strlen(now));

	return compare_fds(a, b);
}

static void said(const struct comparison *c, const char *text)
{
	auto_buf struct buf b = {0};

	compare_describe(c, &b);
	buf_u8(&b, 0);
	assert_string_equal((char *)b.data, text);
}

static void test_texts(void **state)
{
	struct comparison c = compare_texts("one\ntwo\nthree\n", "one\ntwo\nthree\n");

	(void)state;
	assert_true(c.same);
	assert_true(compare_texts("", "").same);
	c = compare_texts("one\ntwo\nthree\n", "one\ntwX\nthree\n");
	assert_false(c.same);
	said(&c, "at offset 6 (line 2): \"two\" then, \"twX\" now");
	c = compare_texts("one\n", "one\ntwo\n");
	said(&c, "at offset 4 (line 2), 4 bytes then, 8 now: the end, \"two\" now");
	c = compare_texts("x", "");
	said(&c, "at offset 0 (line 1), 1 bytes then, 0 now: \"x\" then, the end");
	c = compare_texts("at 2026-11-21 10:42:07\n", "at 2026-11-21 10:43:11\n");
	said(&c,
	     "at offset 18 (line 1): a timestamp (\"2026-11-21 10:42:07\" then, \"2026-11-21 10:43:11\" now)");
	c = compare_texts("b\na\n", "a\nb\n");
	said(&c,
	     "at offset 0 (line 1): an ordering: the same lines in another order (\"b\" then, \"a\" now)");
}

/* Longer than a block; a difference at every place that matters. */
static void test_large(void **state)
{
	enum { N = 3 * 262144 + 17 };
	static const size_t places[] = {0, 262143, 262144, 524287, 524288, N - 1};
	auto_free uint8_t *p = xmalloc(N);
	auto_close int a = -1;
	struct comparison c;

	(void)state;
	for (size_t i = 0; i < N; i++)
		p[i] = (uint8_t)(i % 80 == 79 ? '\n' : 'a' + i % 7);
	a = file_of(p, N);
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		auto_close int b = -1;
		uint8_t was = p[places[i]];

		p[places[i]] = 'X';
		b = file_of(p, N);
		p[places[i]] = was;
		c = compare_fds(a, b);
		assert_false(c.same);
		assert_int_equal(c.at, places[i]);
		assert_int_equal(c.line, places[i] / 80 + 1);
		assert_int_equal(c.size_now, N);
	}
	for (size_t n = N - 262144 - 20; n < N; n += 262144) {
		auto_close int b = file_of(p, n);

		c = compare_fds(a, b);
		assert_int_equal(c.at, n);
		assert_int_equal(c.size_then, N);
		assert_int_equal(c.size_now, n);
	}
}

/* Gigabytes are compared in the memory of a few blocks. */
static void test_huge(void **state)
{
	auto_close int a = file_of("", 0), b = file_of("", 0);
	const off_t size = (off_t)3 << 30;
	struct comparison c;

	(void)state;
	assert_int_equal(ftruncate(a, size), 0);
	assert_int_equal(ftruncate(b, size), 0);
	assert_int_equal(pwrite(b, "x", 1, size - 1000), 1);
	c = compare_fds(a, b);
	assert_int_equal(c.at, size - 1000);
	assert_int_equal(c.size_then, size);
	assert_true(c.order_unknown);
	said(&c,
	     "at offset 3221224472: 00 00 00 00 00 00 00 00 then, 78 00 00 00 00 00 00 00 now (too large to be "
	     "searched for another order)");
}

/* stdout and stderr of a record are streams of their own, however they were mixed. */
static void test_console(void **state)
{
	static const struct console_chunk mixed[] = {{1, 4}, {2, 3}, {1, 2}, {2, 1}, {1, 5}},
					  apart[] = {{2, 4}, {1, 11}};
	auto_close int a = file_of("out1er1o2Eout33", 15), b = file_of("er1Eout1o2out33", 15);
	struct guess_in context = {0};
	struct comparison c;
	char text[32];

	(void)state;
	for (size_t from = 0; from <= 11; from++)
		for (size_t n = 1; n < 13; n++) {
			struct source s = source_console(a, mixed, 5, 1);
			ssize_t k = source_read(&s, text, n, from);

			assert_int_equal(k, n < 11 - from ? n : 11 - from);
			assert_memory_equal(text, &"out1o2out33"[from], (size_t)k);
		}
	for (uint8_t stream = 0; stream <= 2; stream++) {
		struct source then = source_console(a, mixed, 5, stream),
			      now = source_console(b, apart, 2, stream);

		assert_int_equal(compare_streams(&then, &now, &context, true, &c), 0);
		assert_int_equal(c.same, stream > 0);
	}
	{
		struct source s = source_console(-1, NULL, 0, 1);

		assert_int_equal(source_read(&s, text, 20, 0), 0);
	}
	{
		static const struct console_chunk more[] = {{1, 100}};
		struct source s = source_console(a, more, 1, 1);

		assert_int_equal(source_read(&s, text, 20, 0), -EBADMSG);
	}
}

static void test_errors(void **state)
{
	auto_close int a = file_of("x", 1);
	struct source then = source_file(a), now = source_file(-1);
	struct guess_in context = {0};
	struct comparison c;

	(void)state;
	assert_int_equal(compare_streams(&then, &now, &context, true, &c), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),  cmocka_unit_test(test_large),
		cmocka_unit_test(test_huge),   cmocka_unit_test(test_console),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
