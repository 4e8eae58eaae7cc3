/* SPDX-License-Identifier: MIT */
/*
 * guess.c and its kin: what is said of two outputs that differ, and above all of what nothing is said. Samples are
 * what programs print and write; the clock of the two runs is that of the samples.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../runner/guess.h"

/* The first run took from 2026-11-21 10:42:05 to 10:42:09 UTC, the second was a day later for a second. */
#define THEN_S INT64_C(1795257725)
#define NOW_S  INT64_C(1795344190)

static struct guess_in input(const void *then, size_t n_then, const void *now, size_t n_now)
{
	struct guess_in in = {
		.then = {.p = then,
			 .n = n_then,
			 .from_ns = THEN_S * 1000000000,
			 .to_ns = (THEN_S + 4) * 1000000000},
		.now = {.p = now,
			.n = n_now,
			.from_ns = NOW_S * 1000000000,
			.to_ns = (NOW_S + 1) * 1000000000,
			.first_pid = 41200,
			.last_pid = 41260},
		.host = "build-7",
	};

	while (in.at < n_then && in.at < n_now && in.then.p[in.at] == in.now.p[in.at])
		in.at++;
	return in;
}

static struct guess guess_bytes(const void *then, size_t n_then, const void *now, size_t n_now)
{
	/* Of their exact length, so that the sanitizer sees what is read beyond. */
	auto_free uint8_t *a = xmalloc(n_then), *b = xmalloc(n_now);
	struct guess_in in;
	struct guess g;

	memcpy(a, then, n_then);
	memcpy(b, now, n_now);
	in = input(a, n_then, b, n_now);
	guess_at(&in, &g);
	return g;
}

static struct guess guess_text(const char *then, const char *now)
{
	return guess_bytes(then, strlen(then), now, strlen(now));
}

#define SAY(then, now, cause, from, to) say(then, now, cause, from, to, __LINE__)
/* The cause begins so, and this is shown of both. */
static void say(const char *then, const char *now, const char *cause, const char *from,
		const char *to, int line)
{
	struct guess g = guess_text(then, now);

	if (!g.cause || strncmp(g.cause, cause, strlen(cause)) != 0)
		fail_msg("line %d: '%s' and '%s': the cause is '%s', not '%s'", line, then, now,
			 g.cause ? g.cause : "none", cause);
	if (from && (strcmp(g.then, from) != 0 || strcmp(g.now, to) != 0))
		fail_msg("line %d: shown are %s and %s", line, g.then, g.now);
}

#define NOTHING(then, now) nothing(then, now, __LINE__)
static void nothing(const char *then, const char *now, int line)
{
	struct guess g = guess_text(then, now);

	if (g.cause)
		fail_msg("line %d: '%s' and '%s': the cause is '%s', which is not plain", line,
			 then, now, g.cause);
}

/* ---- times ---- */

static void test_written_dates(void **state)
{
	(void)state;
	SAY("made 2026-11-21 10:42:07\n", "made 2026-11-22 10:43:10\n", "a timestamp",
	    "\"2026-11-21 10:42:07\"", "\"2026-11-22 10:43:10\"");
	SAY("2026-11-21T10:42:07Z", "2026-11-21T10:43:11Z", "a timestamp",
	    "\"2026-11-21T10:42:07Z\"", "\"2026-11-21T10:43:11Z\"");
	SAY("{\"t\": \"2026-11-21T10:42:07.123456+01:00\"}",
	    "{\"t\": \"2026-11-21T10:42:07.123999+01:00\"}", "a timestamp",
	    "\"2026-11-21T10:42:07.123456+01:00\"", "\"2026-11-21T10:42:07.123999+01:00\"");
	SAY("Sat Nov 21 10:42:07 2026\n", "Sun Nov 22 10:43:10 2026\n", "a timestamp",
	    "\"Sat Nov 21 10:42:07 2026\"", "\"Sun Nov 22 10:43:10 2026\"");
	SAY("Sat Nov 21 10:42:07 UTC 2026\n", "Sat Nov 21 10:42:08 UTC 2026\n", "a timestamp",
	    "\"Sat Nov 21 10:42:07 UTC 2026\"", "\"Sat Nov 21 10:42:08 UTC 2026\"");
	SAY("Sun Nov  1 10:42:07 CET 2026", "Sun Nov  1 10:42:09 CET 2026", "a timestamp", NULL,
	    NULL);
	SAY("Date: Sat, 21 Nov 2026 10:42:07 +0000\r\n",
	    "Date: Sun, 22 Nov 2026 10:43:10 +0000\r\n", "a timestamp",
	    "\"Sat, 21 Nov 2026 10:42:07 +0000\"", "\"Sun, 22 Nov 2026 10:43:10 +0000\"");
	SAY("[21/Nov/2026:10:42:07 +0000] GET", "[22/Nov/2026:10:43:10 +0000] GET", "a timestamp",
	    NULL, NULL);
	SAY("built Nov 21 2026 10:42:07", "built Nov 21 2026 10:42:09", "a timestamp", NULL, NULL);
	SAY("built Nov 21 2026", "built Nov 22 2026", "a timestamp", "\"Nov 21 2026\"",
	    "\"Nov 22 2026\"");
	SAY("-rw-r--r-- 1 a b 17 Nov 21 10:42 x", "-rw-r--r-- 1 a b 17 Nov 22 10:43 x",
	    "a timestamp", "\"Nov 21 10:42\"", "\"Nov 22 10:43\"");
	SAY("/CreationDate (D:20261121104207+01'00')", "/CreationDate (D:20261122104310+01'00')",
	    "a timestamp", NULL, NULL);
	SAY("run-20261121T104207Z.log", "run-20261122T104310Z.log", "a timestamp",
	    "\"20261121T104207Z\"", "\"20261122T104310Z\"");
	SAY("run_20261121_104207", "run_20261122_104310", "a timestamp", NULL, NULL);
	SAY("run-2026-11-21_10-42-07", "run-2026-11-21_10-43-10", "a timestamp",
	    "\"2026-11-21_10-42-07\"", "\"2026-11-21_10-43-10\"");
	SAY("21.11.2026", "22.11.2026", "a timestamp", NULL, NULL);
	SAY("11/21/2026 10:42 PM", "11/22/2026 10:43 PM", "a timestamp", NULL, NULL);
	SAY("November 21, 2026", "November 22, 2026", "a timestamp", NULL, NULL);
	/* Of no run, but dates all the same */
	SAY("2019-01-02 03:04:05", "2020-01-02 03:04:05", "a timestamp", NULL, NULL);
}

static void test_written_clocks(void **state)
{
	(void)state;
	SAY("at 10:42:07 done\n", "at 10:43:10 done\n", "a timestamp", "\"10:42:07\"",
	    "\"10:43:10\"");
	SAY("[11:42:06.123] x", "[11:43:10.456] x", "a timestamp", NULL, NULL); /* another zone */
	SAY("0:00:01.2 elapsed\n", "0:00:01.5 elapsed\n", "a time of day or a measured time", NULL,
	    NULL);
	NOTHING("00:1a:2b:3c:4d:5e", "00:1a:2b:3c:4d:6e");
	NOTHING("00:11:22:33:44:55", "00:11:22:33:44:56");
	NOTHING("ratio 3:04", "ratio 3:05");
}

static void test_epoch(void **state)
{
	(void)state;
	SAY("1795257727\n", "1795344190\n", "a timestamp", "\"1795257727\"", "\"1795344190\"");
	SAY("t=1795257727.25;", "t=1795344190.5;", "a timestamp", "\"1795257727.25\"",
	    "\"1795344190.5\"");
	SAY("{\"ms\":1795257727123}", "{\"ms\":1795344190456}", "a timestamp", NULL, NULL);
	SAY("1795257727123456", "1795344190456789", "a timestamp", NULL, NULL);
	SAY("1795257727123456789\n", "1795344190456789012\n", "a timestamp", NULL, NULL);
	SAY("30 mtime=1700000000.123456\n", "30 mtime=1700000077.654321\n", "a timestamp", NULL,
	    NULL);
	/* Not of these runs: it may be anything */
	struct guess g = guess_text("n 1795257727\n", "n 1795257999\n");
	assert_true(!g.cause || strncmp(g.cause, "a timestamp", 11) != 0);
	NOTHING("1795257727\n", "1795257999\n");
}

/* A day and a little lies between the runs: 86461 to 86466 seconds. */
static void test_running_clocks(void **state)
{
	(void)state;
	SAY("up 14905.32\n", "up 101369.60\n", "a timestamp: it grew", "\"14905.32\"",
	    "\"101369.60\"");
	SAY("ticks=1490532 x", "ticks=87954532 x", "a timestamp: it grew", NULL, NULL);
	/* Two minutes off */
	SAY("up 14905.32\n", "up 101249.60\n", "numbers without relation", NULL, NULL);
	NOTHING("up 12\n", "up 86375\n");
}

static void test_binary_times(void **state)
{
	uint8_t a[64] = {0, 1, 2, 200, 3}, b[64];
	uint64_t then = (uint64_t)THEN_S + 1, now = (uint64_t)NOW_S;
	double dt = (double)THEN_S + 1.5, dn = (double)NOW_S + 0.25;
	struct guess g;

	(void)state;
	for (int form = 0; form < 8; form++) {
		uint64_t factor = form == 4   ? 1000
				  : form == 5 ? 1000000
				  : form == 6 ? 1000000000
					      : 1;
		uint64_t x = then * factor, y = now * factor;

		if (form == 7) {
			memcpy(&x, &dt, 8);
			memcpy(&y, &dn, 8);
		}
		memcpy(b, a, sizeof(a));
		/* 0: 32 bits, 1: 32 big-endian, 2: 64, 3: 64 big-endian, then other units */
		for (size_t i = 0; i < (form < 2 ? 4u : 8u); i++) {
			size_t place = form == 1 ? 3 - i : form == 3 ? 7 - i : i;

			a[21 + place] = (uint8_t)(x >> 8 * i);
			b[21 + place] = (uint8_t)(y >> 8 * i);
		}
		g = guess_bytes(a, sizeof(a), b, sizeof(b));
		if (!g.cause || strcmp(g.cause, "a timestamp") != 0)
			fail_msg("form %d: %s", form, g.cause ? g.cause : "nothing");
		assert_string_equal(g.now, "2026-11-22T10:43:10Z");
		memset(a + 21, 0, 8);
	}
	/* A counter */
	memcpy(b, a, sizeof(a));
	a[30] = 7;
	b[30] = 9;
	assert_null(guess_bytes(a, sizeof(a), b, sizeof(b)).cause);
}

static void test_archives(void **state)
{
	static const uint8_t gz1[] = "\x1f\x8b\x08\0\x01\x02\x03\x60\0\3abc",
			     gz2[] = "\x1f\x8b\x08\0\x11\x02\x03\x60\0\3abc";
	static const uint8_t pyc1[] = "\xcb\x0d\x0d\x0a\0\0\0\0\x01\x02\x03\x60\5\0\0\0abc",
			     pyc2[] = "\xcb\x0d\x0d\x0a\0\0\0\0\x07\x02\x03\x60\5\0\0\0abc";
	static const uint8_t zip1[] = "PK\3\4\x14\0\0\0\x08\0\x42\x55\x75\x5d"
				      "crc.sizesize\5\0\0\0a.txt",
			     zip2[] = "PK\3\4\x14\0\0\0\x08\0\x43\x56\x75\x5d"
				      "crc.sizesize\5\0\0\0a.txt";
	static const char ar1
		[] = "!<arch>\na.o/            1795257727  0     0     100644  8         `\n12345678",
	     ar2[] = "!<arch>\na.o/            1795344190  0     0     100644  8         `\n12345678";
	uint8_t tar1[1024] = "dir/a.txt", tar2[1024];
	struct guess g;

	(void)state;
	g = guess_bytes(gz1, sizeof(gz1), gz2, sizeof(gz2));
	assert_string_equal(g.cause, "a timestamp in the gzip header (gzip -n leaves it out)");
	assert_string_equal(g.then, "2021-01-16T15:10:57Z");
	g = guess_bytes(pyc1, sizeof(pyc1), pyc2, sizeof(pyc2));
	assert_string_equal(g.cause, "the source's timestamp in Python byte code");
	g = guess_bytes(zip1, sizeof(zip1), zip2, sizeof(zip2));
	assert_string_equal(g.cause, "a timestamp of a zip entry");
	assert_string_equal(g.then, "2026-11-21 10:42:04");
	g = guess_bytes(ar1, sizeof(ar1) - 1, ar2, sizeof(ar2) - 1);
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "a timestamp", 11) == 0);
	memcpy(tar1 + 136, "15300407477", 12);
	memcpy(tar1 + 257, "ustar", 6);
	memcpy(tar2, tar1, sizeof(tar1));
	tar2[140] = '1';
	tar2[150] = '3'; /* the check sum differs with it */
	g = guess_bytes(tar1, sizeof(tar1), tar2, sizeof(tar2));
	assert_string_equal(g.cause, "a timestamp in a tar header (tar --mtime sets it)");
	/* Another field of such headers is no time. */
	memcpy(tar2, tar1, sizeof(tar1));
	tar2[2] = 'x';
	assert_null(guess_bytes(tar1, sizeof(tar1), tar2, sizeof(tar2)).cause);
	tar2[2] = tar1[2];
	tar1[120] = '1';
	tar2[120] = '2';
	assert_null(guess_bytes(tar1, sizeof(tar1), tar2, sizeof(tar2)).cause);
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
	uint64_t a[3] = {1, UINT64_C(0x7ffd1c2b3a40), 2}, b[3] = {1, UINT64_C(0x7ffe00112240), 2};
	struct guess g;

	(void)state;
	SAY("<object object at 0x7f3c1a2b3c40>\n", "<object object at 0x7f0d00112240>\n",
	    "an address", "\"0x7f3c1a2b3c40\"", "\"0x7f0d00112240\"");
	SAY("p = 0x55d0c8a012a0", "p = 0x5617feedc2a0", "an address", NULL, NULL);
	SAY("<Foo at 0x1c2d3e0>", "<Foo at 0x1c2f3e0>", "an address", NULL, NULL);
	SAY("7f3c1a2b3000-7f3c1a2b5000 r--p", "7f0d00112000-7f0d00114000 r--p", "an address", NULL,
	    NULL);
	SAY("139894001957952\n", "140101234567890\n", "an address", "\"139894001957952\"",
	    "\"140101234567890\"");
	SAY("94012345678912", "93912345678912", "an address", NULL, NULL);
	NOTHING("flags 0x00000010", "flags 0x00000012");
	NOTHING("0x1234567", "0x1234568");
	NOTHING("port 0x1f90", "port 0x1f91");
	g = guess_bytes(a, sizeof(a), b, sizeof(b));
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "an address", 10) == 0);
	assert_string_equal(g.then, "0x7ffd1c2b3a40");
	b[1] = a[1] + 0x10000; /* not as far as chance moves them */
	assert_null(guess_bytes(a, sizeof(a), b, sizeof(b)).cause);
	a[1] = UINT64_C(0x00001c2b3a40);
	b[1] = UINT64_C(0x000000112240);
	assert_null(guess_bytes(a, sizeof(a), b, sizeof(b)).cause);
}

/* ---- chance ---- */

static void test_random_tokens(void **state)
{
	(void)state;
	SAY("id: 3f2504e0-4f89-41d3-9a0c-0305e82c3301", "id: 7d444840-9dc0-11d1-b245-5ffdce74fad2",
	    "a UUID", "\"3f2504e0-4f89-41d3-9a0c-0305e82c3301\"",
	    "\"7d444840-9dc0-11d1-b245-5ffdce74fad2\"");
	SAY("token 9f86d081884c7d65", "token 2c26b46b68ffc68f", "a random token", NULL, NULL);
	SAY("5e884898da280471\n", "1a79a4d60de6718e\n", "a random token", NULL, NULL);
	SAY("key=Zm9vYmFyMTIzNDU2Nzg5;", "key=QmF6cXV4OTg3NjU0MzIx;", "a random token", NULL, NULL);
	SAY("/tmp/tmpab12cd_x/out", "/tmp/tmpzz98qwer/out", "the name of a temporary file",
	    "\"tmpab12cd_x\"", "\"tmpzz98qwer\"");
	SAY("as -o /tmp/ccAbCdEf.o x.s", "as -o /tmp/ccZyXwVu.o x.s",
	    "the name of a temporary file", NULL, NULL);
	SAY("tmp.AbCdEfGhIj", "tmp.KlMnOpQrSt", "the name of a temporary file", NULL, NULL);
	NOTHING("colour deadbeef", "colour deadbeff"); /* too much in common */
	NOTHING("commit feedface", "commit feedfade");
	NOTHING("templates/one.html", "templates/two.html");
	NOTHING("/tmp/results.txt", "/tmp/summary.txt.old");
	NOTHING("/tmp/alphas.txt", "/tmp/omegas.txt");
	NOTHING("temperature-june", "temperature-july");
	NOTHING("TheQuickBrownFoxJumps", "TheQuickBrownDogJumps");
	NOTHING("X509_STORE_CTX_cleanup_fn", "X509_STORE_CTX_rewrite_it");
}

static void test_random_numbers(void **state)
{
	(void)state;
	SAY("0.8444218515250481\n", "0.7579544029403025\n",
	    "numbers without relation: a random seed", "\"0.8444218515250481\"",
	    "\"0.7579544029403025\"");
	SAY("seed 17345\n", "seed 3021\n", "numbers without relation: a random seed", NULL, NULL);
	SAY("-4823498273498\n", "8234987234987\n", "numbers without relation: a random seed", NULL,
	    NULL);
	SAY("[8, 2, 9, 1, 7, 6, 5]", "[3, 1, 4, 5, 2, 9, 8]",
	    "numbers without relation: a random seed", NULL, NULL);
	SAY("loss 0.4321 accuracy 0.87\n", "loss 0.5102 accuracy 0.93\n",
	    "numbers without relation: a random seed", NULL, NULL);
	SAY("0.8444218515250481\n", "0.8443544029403025\n",
	    "numbers without relation: a random seed", NULL, NULL);
	SAY("21837", "2644", "numbers without relation: a random seed", NULL, NULL);
	NOTHING("3 files\n", "4 files\n");
	NOTHING("1210 files\n", "1530 files\n");
	NOTHING("12 files\n", "12345 files\n");
	NOTHING("line 120\n", "line 131\n");
	NOTHING("version 1.2.3\n", "version 1.2.4\n");
	NOTHING("total 10234\n", "total 10235\n");
	NOTHING("x=12a45", "x=12b45");
}

static void test_rounding(void **state)
{
	double d1[32], d2[32];
	float f1[32], f2[32];
	struct guess g;

	(void)state;
	SAY("sum 0.30000000000000004\n", "sum 0.29999999999999999\n", "floating-point rounding",
	    NULL, NULL);
	SAY("loss 0.12345678", "loss 0.12345691", "floating-point rounding", "\"0.12345678\"",
	    "\"0.12345691\"");
	SAY("1.0000001e-05 2.5", "1.0000002e-05 2.5", "floating-point rounding", NULL, NULL);
	SAY("[1.2345678 2.3456789]", "[1.2345679 2.3456788]", "floating-point rounding", NULL,
	    NULL);
	NOTHING("12345678\n", "12345679\n");
	NOTHING("1.234\n", "1.235\n");
	for (int i = 0; i < 32; i++) {
		d1[i] = 0.1 * (i + 1);
		d2[i] = d1[i] * (1 + 1e-15 * (i % 3));
		f1[i] = (float)d1[i];
		f2[i] = f1[i] * (1 + (i % 2 ? 1.2e-7f : 0));
	}
	g = guess_bytes(d1, sizeof(d1), d2, sizeof(d2));
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "floating-point rounding", 23) == 0);
	g = guess_bytes(f1, sizeof(f1), f2, sizeof(f2));
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "floating-point rounding", 23) == 0);
}

/* xorshift, so that the test is the same each time */
static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void fill(uint8_t *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(next(&seed) >> 24);
}

static void test_random_bytes(void **state)
{
	uint8_t a[2000], b[2000];
	uint32_t c[64], d[64];
	uint64_t seed = 88172645463325252u;
	struct guess g;

	(void)state;
	fill(a, sizeof(a), 1234567);
	fill(b, sizeof(b), 7654321);
	g = guess_bytes(a, sizeof(a), b, sizeof(b));
	assert_string_equal(g.cause, "random, encrypted or compressed bytes");
	g = guess_bytes(a, 32, b, 32);
	assert_string_equal(g.cause, "random, encrypted or compressed bytes");
	assert_null(guess_bytes(a, 8, b, 8).cause);
	/* Packed data differ because what was packed does. */
	memcpy(a, "\x1f\x8b\x08\0\0\0\0\0", 8);
	memcpy(b, "\x1f\x8b\x08\0\0\0\0\0", 8);
	assert_null(guess_bytes(a, sizeof(a), b, sizeof(b)).cause);
	/* Small whole numbers */
	for (int i = 0; i < 64; i++) {
		c[i] = (uint32_t)(next(&seed) % 100);
		d[i] = (uint32_t)(next(&seed) % 100);
	}
	assert_null(guess_bytes(c, sizeof(c), d, sizeof(d)).cause);
	/* Random floating-point numbers */
	for (int i = 0; i < 64; i++) {
		float x = (float)(next(&seed) % 1000000) / 1e6f,
		      y = (float)(next(&seed) % 1000000) / 1e6f;

		memcpy(&c[i], &x, 4);
		memcpy(&d[i], &y, 4);
	}
	g = guess_bytes(c, sizeof(c), d, sizeof(d));
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "floating-point numbers without relation: a random seed",
			    50) == 0);
	/* A pickled list of them */
	for (int i = 0; i < 20; i++) {
		double x = (double)(next(&seed) % 1000000) / 1e6,
		       y = (double)(next(&seed) % 1000000) / 1e6;
		uint64_t u, v;

		memcpy(&u, &x, 8);
		memcpy(&v, &y, 8);
		u = __builtin_bswap64(u);
		v = __builtin_bswap64(v);
		a[9 * i] = b[9 * i] = 'G';
		memcpy(a + 9 * i + 1, &u, 8);
		memcpy(b + 9 * i + 1, &v, 8);
	}
	g = guess_bytes(a, 180, b, 180);
	assert_non_null(g.cause);
	assert_true(strncmp(g.cause, "floating-point numbers without relation: a random seed",
			    50) == 0);
}

/* ---- names, durations ---- */

static void test_names(void **state)
{
	(void)state;
	SAY("built on old-3 by me\n", "built on build-7 by me\n", "the host name", "\"old-3\"",
	    "\"build-7\"");
	NOTHING("built on old-3 by me\n", "built on build-77 by me\n");
	SAY("worker pid 311 starts\n", "worker pid 4242 starts\n", "a process id", "\"311\"",
	    "\"4242\"");
	SAY("[38123] ready\n", "[41207] ready\n", "a process id", NULL, NULL);
	NOTHING("[120] ready\n", "[131] ready\n");
}

static struct guess guess_name(const char *then, const char *now)
{
	struct guess_in in = input(then, strlen(then), now, strlen(now));
	struct guess g;

	in.name = true;
	guess_at(&in, &g);
	return g;
}

static void test_file_names(void **state)
{
	(void)state;
	assert_string_equal(guess_name("part-a8f3.txt", "part-b7c2.txt").cause, "a random name");
	assert_string_equal(guess_name("run-1795257726.log", "run-1795344190.log").cause,
			    "a timestamp");
	assert_null(guess_name("part-one.txt", "part-two.txt").cause);
	assert_null(guess_name("alpha.txt", "omega.txt").cause);
	assert_null(guess_name("a1b2c3", "a1b2c3d4").cause);
}

static void test_measured(void **state)
{
	(void)state;
	SAY("3 passed in 0.02s\n", "3 passed in 0.03s\n", "a measured time", "\"0.02\"",
	    "\"0.03\"");
	SAY("took 12 ms\n", "took 15 ms\n", "a measured time", NULL, NULL);
	SAY("real\t0m0.003s\n", "real\t0m0.005s\n", "a measured time", NULL, NULL);
	SAY("elapsed: 1.25\n", "elapsed: 1.5\n", "a measured time", NULL, NULL);
	SAY("10.2 MB/s", "11.0 MB/s", "a measured time", NULL, NULL);
	NOTHING("size 12 m\n", "size 15 m\n");
	NOTHING("3 shoes\n", "4 shoes\n");
}

/* ---- what is shown where nothing is known ---- */

static void test_shown(void **state)
{
	struct guess g = guess_text("alpha beta-1 gamma\n", "alpha beta-x gamma\n");

	(void)state;
	assert_null(g.cause);
	assert_string_equal(g.then, "\"beta-1\"");
	assert_string_equal(g.now, "\"beta-x\"");
	g = guess_text("abc", "abcdef");
	assert_null(g.cause);
	assert_string_equal(g.then, "");
	assert_string_equal(g.now, "\"abcdef\"");
	g = guess_bytes("\0\1\2\3\4", 5, "\0\1\7\3\4", 5);
	assert_string_equal(g.then, "02 03 04");
	assert_string_equal(g.now, "07 03 04");
	g = guess_text("caf\xc3\xa9 1\n", "caf\xc3\xa8 1\n");
	assert_string_equal(g.then, "\"caf\xc3\xa9\"");
	g = guess_text("a\tb\n", "a\033[1mb\n");
	assert_string_equal(g.now, "\"a\\x1b[1mb\"");
	g = guess_text("", "");
	assert_null(g.cause);
}

/* ---- ordering ---- */

static const char *order(const char *then, const char *now, size_t piece)
{
	struct guess_order o = {0};
	size_t n = strlen(then);

	assert_int_equal(n, strlen(now));
	for (size_t i = 0; i < n; i += piece)
		guess_order_add(&o, then + i, now + i, n - i < piece ? n - i : piece);
	return guess_order_cause(&o, true);
}

static void test_order(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 40; piece += 6) {
		assert_string_equal(order("one\ntwo\nthree\n", "two\nthree\none\n", piece),
				    "an ordering: the same lines in another order");
		assert_string_equal(order("one\ntwo", "two\none", piece),
				    "an ordering: the same lines in another order");
		assert_string_equal(order("{'a', 'b', 'c'}\n", "{'c', 'a', 'b'}\n", piece),
				    "an ordering: the same words in another order");
		assert_string_equal(order("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", piece),
				    "an ordering: the same words in another order");
		assert_string_equal(order("AAAAAAAABBBBBBBBCCCCCCCCDDDDDDDD",
					  "DDDDDDDDCCCCCCCCBBBBBBBBAAAAAAAA", piece),
				    "an ordering: the same bytes in another order");
		assert_null(order("one\ntwo\nthree\n", "one\ntwo\nthref\n", piece));
		assert_null(order("10:42:07\n", "07:42:10\n", piece));
		assert_null(order("at 1234 and 12 of 56\n", "at 2134 and 12 of 56\n", piece));
		assert_null(order("a  b", "a b ", piece)); /* only the blanks moved */
		assert_null(order("a\n\nb", "a\nb\n", piece));
		assert_null(order("x\nx\ny\n", "x\ny\ny\n", piece));
		assert_null(order("word\n", "drow\n", piece));
	}
}

/* ---- any bytes at all ---- */

static void test_any_bytes(void **state)
{
	static const char alphabet[] =
		"0123456789abcdefx:-/. TZ\n\"tmpidNovSatPKUTC`\x1f\x8b\x7f\xff";
	uint64_t seed = 42;

	(void)state;
	for (int round = 0; round < 60000; round++) {
		uint8_t a[700], b[700];
		size_t n = next(&seed) % (round % 8 ? 40 : sizeof(a)), m = next(&seed) % (n + 8);
		bool letters = round & 1;
		struct guess g;

		m = m < sizeof(b) ? m : sizeof(b);
		for (size_t i = 0; i < sizeof(a); i++) {
			uint64_t r = next(&seed) >> 20;

			a[i] = letters ? (uint8_t)alphabet[r % (sizeof(alphabet) - 1)] : (uint8_t)r;
		}
		memcpy(b, a, sizeof(a));
		for (size_t i = next(&seed) % (n + 1); i < sizeof(b); i += 1 + next(&seed) % 9)
			b[i] = (uint8_t)(next(&seed) >> 20);
		g = guess_bytes(a, n, b, m);
		assert_true(memchr(g.then, 0, sizeof(g.then)) && memchr(g.now, 0, sizeof(g.now)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_dates),  cmocka_unit_test(test_written_clocks),
		cmocka_unit_test(test_epoch),	       cmocka_unit_test(test_running_clocks),
		cmocka_unit_test(test_binary_times),   cmocka_unit_test(test_archives),
		cmocka_unit_test(test_addresses),      cmocka_unit_test(test_random_tokens),
		cmocka_unit_test(test_random_numbers), cmocka_unit_test(test_rounding),
		cmocka_unit_test(test_random_bytes),   cmocka_unit_test(test_names),
		cmocka_unit_test(test_measured),       cmocka_unit_test(test_file_names),
		cmocka_unit_test(test_shown),	       cmocka_unit_test(test_order),
		cmocka_unit_test(test_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
