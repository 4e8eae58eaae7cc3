/* SPDX-License-Identifier: MIT */
/* test_base.c - index/base: errors, buffers, readers, text, files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static void test_path_is_in(void **state)
{
	(void)state;
	assert_true(path_is_in("/a/b", "/a"));
	assert_true(path_is_in("/a", "/a"));
	assert_true(path_is_in("/a", "/"));
	assert_true(path_is_in("/", "/"));
	assert_false(path_is_in("/ab", "/a"));
	assert_false(path_is_in("/a", "/a/b"));
	assert_false(path_is_in("/", "/a"));
}

static void put(const char *dir, const char *name, const char *text)
{
	auto_free char *path = xasprintf("%s/%s", dir, name);
	auto_free char *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	struct err e = {0};
	FILE *f;

	assert_int_equal(mkdir_p(parent, 0755, &e), 0);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static unsigned quota(const char *dir, const char *groups)
{
	auto_free char *file = xasprintf("%s/groups", dir);

	put(dir, "groups", groups);
	return cpus_quota(file, dir);
}

static unsigned running(const char *dir, const char *text)
{
	auto_free char *file = xasprintf("%s/loadavg", dir);
	auto_close int fd = -1;

	put(dir, "loadavg", text);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	return cpus_running(fd);
}

static void test_cpus(void **state)
{
	char dir[] = "/tmp/mlfs-base.XXXXXX";
	auto_free char *command = NULL;

	(void)state;
	assert_true(cpus_allowed() >= 1);
	assert_non_null(mkdtemp(dir));
	put(dir, "a/cpu.max", "250000 100000\n");
	put(dir, "a/b/cpu.max", "max 100000\n");
	put(dir, "a/c/cpu.max", "50000 100000\n");
	put(dir, "cpu/x/cpu.cfs_quota_us", "400000\n");
	put(dir, "cpu/x/cpu.cfs_period_us", "100000\n");
	put(dir, "cpu/y/cpu.cfs_quota_us", "-1\n");
	put(dir, "cpu/y/cpu.cfs_period_us", "100000\n");
	assert_int_equal(quota(dir, "0::/\n"), 0);
	assert_int_equal(quota(dir, "0::/a/b\n"), 2); /* that of the group around it */
	assert_int_equal(quota(dir, "0::/a/c/not/there\n"), 1);
	assert_int_equal(quota(dir, "3:cpuset:/x\n2:cpu,cpuacct:/x\n0::/\n"), 4);
	assert_int_equal(quota(dir, "1:cpu:/y\n"), 0);
	assert_int_equal(quota(dir, "nonsense\n"), 0);
	put(dir, "cpu.max", "100000 100000\n"); /* of a container's own group */
	assert_int_equal(quota(dir, "0::/host/path\n"), 1);
	assert_int_equal(running(dir, "0.52 1.20 0.90 7/321 4711\n"), 7);
	assert_int_equal(running(dir, "0.52 1.20\n"), 0);
	assert_int_equal(running(dir, ""), 0);
	assert_int_equal(cpus_running(-1), 0);
	assert_in_range(cpus_idle(), 1, sysconf(_SC_NPROCESSORS_CONF));
	command = xasprintf("rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static void test_err(void **state)
{
	struct err e = {0};
	char longer[1000];

	(void)state;
	assert_int_equal(err_set(&e, ENOENT, "cannot open %s", "/x/y"), -ENOENT);
	assert_int_equal(e.code, ENOENT);
	assert_string_equal(e.msg, "cannot open /x/y: No such file or directory");
	assert_int_equal(err_set(&e, -EACCES, "no"), -EACCES);
	assert_string_equal(e.msg, "no: Permission denied");
	assert_int_equal(err_prefix(&e, "in %s", "front"), -EACCES);
	assert_string_equal(e.msg, "in front: no: Permission denied");
	assert_int_equal(err_text(&e, EINVAL, "plain"), -EINVAL);
	assert_string_equal(e.msg, "plain");
	assert_int_equal(err_set(NULL, EPERM, "nobody listens"), -EPERM);
	assert_true(err_set(&e, 0, "a failure without a cause is one") < 0);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(err_set(&e, EIO, "%s", longer), -EIO);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
	assert_int_equal(err_prefix(&e, "%s", longer), -EIO);
	assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
}

static void test_buf_cur(void **state)
{
	static const uint64_t numbers[] = {0,	      1, 127, 128, 300, UINT32_MAX, UINT64_MAX - 1,
					   UINT64_MAX};
	auto_buf struct buf b = {0};
	struct cur c;
	size_t n;
	char *s;

	(void)state;
	buf_u8(&b, 7);
	buf_u32(&b, 0x01020304);
	buf_u64(&b, 0x0102030405060708);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		buf_varint(&b, numbers[i]);
	buf_str(&b, "text");
	buf_str(&b, "");
	buf_bytes(&b, "a\0b", 3);
	buf_addf(&b, "%d-%s", 42, "x");
	assert_int_equal(b.data[1], 4); /* little endian */
	c = (struct cur){b.data, b.data + b.len, false};
	assert_int_equal(cur_u8(&c), 7);
	assert_int_equal(cur_u32(&c), 0x01020304);
	assert_true(cur_u64(&c) == 0x0102030405060708);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		assert_true(cur_varint(&c) == numbers[i]);
	s = cur_str(&c);
	assert_string_equal(s, "text");
	free(s);
	s = cur_str(&c);
	assert_string_equal(s, "");
	free(s);
	assert_non_null(cur_bytes(&c, &n));
	assert_int_equal(n, 3);
	assert_memory_equal(c.p, "42-x", 4);
	c.p += 4;
	assert_false(c.bad);
	assert_int_equal(cur_u8(&c), 0);
	assert_true(c.bad);
	assert_null(cur_bytes(&c, &n));
	assert_null(cur_str(&c));
}

static bool varint_is_bad(const char *bytes, size_t n)
{
	struct cur c = {(const uint8_t *)bytes, (const uint8_t *)bytes + n, false};

	(void)cur_varint(&c);
	return c.bad;
}

static void test_cur_lies(void **state)
{
	const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'};
	const uint8_t nul[] = {3, 'a', 0, 'b'};
	struct cur c = {huge, huge + sizeof(huge), false};
	size_t n = 1;

	(void)state;
	assert_null(cur_bytes(&c, &n));
	assert_true(c.bad);
	assert_int_equal(n, 0);
	c = (struct cur){nul, nul + sizeof(nul), false};
	assert_null(cur_str(&c));
	assert_true(c.bad);
	assert_true(varint_is_bad("\x80", 1));
	assert_true(varint_is_bad("\x80\x00", 2)); /* 0 spelt longer */
	assert_true(varint_is_bad("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10));
	assert_true(varint_is_bad("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11));
	assert_false(varint_is_bad("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10));
}

static void check_duration(const char *s, double want)
{
	double v = -1;
	int r = parse_duration(s, &v);

	if (want < 0) {
		assert_int_equal(r, -EINVAL);
		assert_true(v == -1); /* untouched */
		return;
	}
	assert_int_equal(r, 0);
	assert_true(v > want - 1e-6 && v < want + 1e-6);
}

static void test_durations(void **state)
{
	static const char *const wrong[] = {"",	     "P",	 "PT",	  "P1",	   "1D",
					    "P1DT",  "P1H",	 "PT1D",  "P1D1Y", "PT1S1M",
					    "P-1D",  "PT1.5M1S", "P1D ",  " P1D",  "p1d",
					    "PT.5S", "PT1.S",	 "PTT1S", "P1DD",  "PT1M1M",
					    "30m"};

	(void)state;
	check_duration("PT30M", 1800);
	check_duration("P1D", 86400);
	check_duration("P7DT12H", 7.5 * 86400);
	check_duration("P1Y2M3W4DT5H6M7S",
		       365 * 86400. + 60 * 86400. + 25 * 86400. + 5 * 3600 + 367);
	check_duration("PT0S", 0);
	check_duration("PT1.5S", 1.5);
	check_duration("PT0,25H", 900);
	check_duration("P0.5D", 43200);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		check_duration(wrong[i], -1);
	assert_int_equal(parse_duration(NULL, NULL), -EINVAL);
}

static void check_size(const char *s, int r, uint64_t want)
{
	uint64_t v = 99;

	assert_int_equal(parse_size(s, &v), r);
	assert_true(v == (r ? 99 : want));
}

static void test_sizes(void **state)
{
	(void)state;
	check_size("0", 0, 0);
	check_size("123", 0, 123);
	check_size("4K", 0, 4096);
	check_size("2M", 0, 2 << 20);
	check_size("1.5G", 0, UINT64_C(3) << 29);
	check_size("1T", 0, UINT64_C(1) << 40);
	check_size("18446744073709551615", 0, UINT64_MAX);
	check_size("18446744073709551616", -ERANGE, 0);
	check_size("16777216T", -ERANGE, 0);
	check_size("", -EINVAL, 0);
	check_size("K", -EINVAL, 0);
	check_size("1.5", -EINVAL, 0);
	check_size("-1", -EINVAL, 0);
	check_size("1KK", -EINVAL, 0);
	check_size("1 K", -EINVAL, 0);
	check_size("1X", -EINVAL, 0);
}

static void test_for_people(void **state)
{
	char b[32], tiny[4];

	(void)state;
	assert_string_equal(human_seconds(0.24, b, sizeof(b)), "240 ms");
	assert_string_equal(human_seconds(0, b, sizeof(b)), "0 ms");
	assert_string_equal(human_seconds(0.9999, b, sizeof(b)), "1.0 s");
	assert_string_equal(human_seconds(3.21, b, sizeof(b)), "3.2 s");
	assert_string_equal(human_seconds(59.7, b, sizeof(b)), "1 m 0 s");
	assert_string_equal(human_seconds(303, b, sizeof(b)), "5 m 3 s");
	assert_string_equal(human_seconds(3725, b, sizeof(b)), "1 h 2 m");
	assert_string_equal(human_seconds(183600, b, sizeof(b)), "2 d 3 h");
	assert_string_equal(human_seconds(-2, b, sizeof(b)), "-2.0 s");
	assert_string_equal(human_size(0, b, sizeof(b)), "0 B");
	assert_string_equal(human_size(1023, b, sizeof(b)), "1023 B");
	assert_string_equal(human_size(1536, b, sizeof(b)), "1.5 KB");
	assert_string_equal(human_size(1048575, b, sizeof(b)), "1.0 MB");
	assert_string_equal(human_size(UINT64_C(3) << 29, b, sizeof(b)), "1.5 GB");
	assert_string_equal(human_size(UINT64_MAX, b, sizeof(b)), "16.0 EB");
	assert_string_equal(human_size(12345, tiny, sizeof(tiny)), "12.");
	assert_string_equal(rfc3339(INT64_C(1795257720123000000), b, sizeof(b)),
			    "2026-11-21T10:42:00.123Z");
	assert_string_equal(rfc3339(0, b, sizeof(b)), "1970-01-01T00:00:00.000Z");
	assert_string_equal(rfc3339(-1, b, sizeof(b)), "1969-12-31T23:59:59.999Z");
	hex("\x00\xff\x3f", 3, b);
	assert_string_equal(b, "00ff3f");
}

static void test_edit_distance(void **state)
{
	(void)state;
	assert_int_equal(edit_distance("", ""), 0);
	assert_int_equal(edit_distance("abc", ""), 3);
	assert_int_equal(edit_distance("", "abc"), 3);
	assert_int_equal(edit_distance("refresh", "refresh"), 0);
	assert_int_equal(edit_distance("refrehs", "refresh"), 1); /* transposed */
	assert_int_equal(edit_distance("kitten", "sitting"), 3);
	assert_int_equal(edit_distance("no-cahce", "no-cache"), 1);
}

static void check_json(const char *s, size_t n, const char *want)
{
	auto_buf struct buf b = {0};

	json_string(&b, s, n);
	buf_u8(&b, 0);
	assert_string_equal((char *)b.data, want);
}

static void test_json(void **state)
{
	(void)state;
	check_json("", 0, "\"\"");
	check_json("a\"b\\c\n\t\x01", 8, "\"a\\\"b\\\\c\\n\\t\\u0001\"");
	check_json("a\0b", 3, "\"a\\u0000b\"");
	check_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
		   "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
	check_json("\xff", 1, "\"\xef\xbf\xbd\"");
	check_json("\xc3", 1, "\"\xef\xbf\xbd\"");
	check_json("\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");		   /* overlong */
	check_json("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""); /* surrogate */
	check_json("\xe2\x82"
		   "A",
		   3,
		   "\"\xef\xbf\xbd\xef\xbf\xbd"
		   "A\"");
}

static void test_files(void **state)
{
	char dir[] = "/tmp/test_base.XXXXXX";
	auto_free char *deep = NULL, *file = NULL, *data = NULL;
	struct err e;
	struct stat st;
	size_t n;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	deep = xasprintf("%s//a/b/c/", dir);
	file = xasprintf("%s/a/f", dir);
	assert_int_equal(mkdir_p(deep, 0700, &e), 0);
	assert_int_equal(mkdir_p(deep, 0700, &e), 0);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	fd = open(file, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, "hello", 5), 5);
	close(fd);
	assert_int_equal(read_file(file, &data, &n, &e), 0);
	assert_int_equal(n, 5);
	assert_string_equal(data, "hello");
	free(take(data));
	assert_int_equal(read_file("/proc/self/status", &data, &n, &e), 0);
	assert_true(n > 100);
	assert_int_equal(mkdir_p(file, 0700, &e), -ENOTDIR);
	assert_non_null(strstr(e.msg, file));
	free(take(deep));
	deep = xasprintf("%s/x", file);
	assert_int_equal(mkdir_p(deep, 0700, &e), -ENOTDIR);
	assert_int_equal(read_file("/nonexistent/x", &data, &n, &e), -ENOENT);
	assert_string_equal(e.msg, "cannot open /nonexistent/x: No such file or directory");
	assert_int_equal(read_file(dir, &file, &n, &e), -EISDIR);
	free(take(deep));
	deep = xasprintf("rm -rf %s", dir);
	assert_int_equal(system(deep), 0);
}

static void test_hex(void **state)
{
	const uint8_t bytes[] = {0x00, 0x1f, 0xa9, 0xff};
	uint8_t back[4] = {0};
	char digits[9];

	(void)state;
	hex(bytes, 4, digits);
	assert_string_equal(digits, "001fa9ff");
	assert_true(unhex(digits, back, 4));
	assert_memory_equal(back, bytes, 4);
	assert_false(unhex("001fa9f", back, 4));
	assert_false(unhex("001fa9ff0", back, 4));
	assert_false(unhex("001FA9FF", back, 4));
	assert_false(unhex("001fa9f ", back, 4));
	assert_false(unhex("0x1fa9ff", back, 4));
	assert_true(unhex("", back, 0));
}

static void test_arena(void **state)
{
	struct arena a = {0};
	uint8_t *p[3000];
	size_t n = 0;

	(void)state;
	arena_free(&a);
	/* Each zeroed, aligned, and apart from all others; some larger than a chunk. */
	for (unsigned i = 0; i < 3000; i++) {
		n = i % 500 == 7 ? 100000 : i % 97;
		p[i] = arena_alloc(&a, n);
		assert_int_equal((uintptr_t)p[i] % 8, 0);
		for (size_t j = 0; j < n; j++)
			assert_int_equal(p[i][j], 0);
		memset(p[i], (int)(i % 255) + 1, n);
	}
	for (unsigned i = 0; i < 3000; i++) {
		n = i % 500 == 7 ? 100000 : i % 97;
		for (size_t j = 0; j < n; j++)
			assert_int_equal(p[i][j], i % 255 + 1);
	}
	arena_free(&a);
	assert_null(a.chunks);
}

static void test_take(void **state)
{
	char *a = xstrdup("a");
	auto_free char *b = take(a);
	int fd = 5;

	(void)state;
	assert_null(a);
	assert_string_equal(b, "a");
	assert_int_equal(take_fd(&fd), 5);
	assert_int_equal(fd, -1);
	/* A number that is closed twice may be somebody else's by then. */
	fd = dup(0);
	assert_true(fd >= 0);
	errno = ENOENT;
	base_close(&fd);
	assert_int_equal(fd, -1);
	base_close(&fd);
	assert_int_equal(errno, ENOENT);
	assert_true(mono_ns() > 0 && now_ns() > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpus),	      cmocka_unit_test(test_path_is_in),
		cmocka_unit_test(test_err),	      cmocka_unit_test(test_buf_cur),
		cmocka_unit_test(test_cur_lies),      cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes),	      cmocka_unit_test(test_for_people),
		cmocka_unit_test(test_edit_distance), cmocka_unit_test(test_json),
		cmocka_unit_test(test_files),	      cmocka_unit_test(test_take),
		cmocka_unit_test(test_arena),	      cmocka_unit_test(test_hex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
