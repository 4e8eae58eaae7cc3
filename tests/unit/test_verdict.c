/* SPDX-License-Identifier: MIT */
/* verdict.c: what --verify found, on its way from the supervisor to the front and to people and programs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/verdict.h"

static struct verdict sample(void)
{
	struct verdict v = {
		.outputs = 3, .written = 2, .dropped = true, .unsure = xstrdup("it rained")};

	verdict_add(&v, "/w/out.txt", "content", 17, "a timestamp", "at offset 17: a timestamp");
	verdict_add(&v, "/other/\033[2J\n", "mode", -1, NULL, "mode 0644 then, 0600 now");
	verdict_add(&v, NULL, "exit status", -1, NULL, "0 then, 3 now");
	verdict_note(&v, "it looked at %d paths", 2);
	return v;
}

static void test_carried(void **state)
{
	auto_close int fd = memfd_create("verdict", MFD_CLOEXEC);
	struct verdict v = sample(), back;
	struct err e;
	off_t size;

	(void)state;
	assert_int_equal(verdict_write(&v, fd, &e), 0);
	assert_int_equal(verdict_write(&v, fd, &e), 0); /* replaces */
	assert_int_equal(verdict_read(fd, &back, &e), 0);
	assert_int_equal(back.n, 3);
	assert_int_equal(back.total, 3);
	assert_int_equal(back.outputs, 3);
	assert_int_equal(back.written, 2);
	assert_true(back.dropped);
	assert_string_equal(back.unsure, "it rained");
	assert_int_equal(back.notes.n, 1);
	assert_string_equal(back.notes.v[0], "it looked at 2 paths");
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(back.v[i].what, v.v[i].what);
		assert_string_equal(back.v[i].text, v.v[i].text);
		assert_int_equal(back.v[i].offset, v.v[i].offset);
	}
	assert_string_equal(back.v[0].cause, "a timestamp");
	assert_null(back.v[1].cause);
	assert_null(back.v[2].path);
	verdict_free(&back);
	/* A supervisor that was killed has written nothing, or not all. */
	size = lseek(fd, 0, SEEK_END);
	while (size-- > 0) {
		assert_int_equal(ftruncate(fd, size), 0);
		assert_int_equal(verdict_read(fd, &back, &e), -EBADMSG);
	}
	verdict_free(&v);
}

static void test_bounded(void **state)
{
	struct verdict v = {0};

	(void)state;
	for (int i = 0; i < VERDICT_MAX_LISTED + 5; i++)
		verdict_add(&v, "/a", "mode", -1, NULL, "");
	assert_int_equal(v.n, VERDICT_MAX_LISTED);
	assert_int_equal(v.total, VERDICT_MAX_LISTED + 5);
	verdict_free(&v);
}

static void test_json(void **state)
{
	struct verdict v = sample(), sound = {.outputs = 1, .written = 1},
		       open = {.unsure = (char *)"x"};
	struct json b = {0}, c = {0}, d = {0}, n = {0};

	(void)state;
	json_object(&b, NULL);
	verdict_json(&v, &b);
	buf_u8(&b.b, 0);
	assert_string_equal(
		(char *)b.b.data,
		"{\"verified\": false, \"outputs_written\": 2, \"differences\": ["
		"{\"path\": \"/w/out.txt\", \"what\": \"content\", \"offset\": 17, \"cause\": \"a timestamp\", "
		"\"text\": \"at offset 17: a timestamp\"}, "
		"{\"path\": \"/other/\\u001b[2J\\n\", \"what\": \"mode\", \"offset\": null, \"cause\": null, "
		"\"text\": \"mode 0644 then, 0600 now\"}, "
		"{\"path\": null, \"what\": \"exit status\", \"offset\": null, \"cause\": null, "
		"\"text\": \"0 then, 3 now\"}], \"notes\": [\"it looked at 2 paths\"]");
	json_object(&c, NULL);
	verdict_json(&sound, &c);
	buf_u8(&c.b, 0);
	assert_string_equal(
		(char *)c.b.data,
		"{\"verified\": true, \"outputs_written\": 1, \"differences\": [], \"notes\": []");
	verdict_json(&open, &d);
	buf_u8(&d.b, 0);
	assert_non_null(strstr((char *)d.b.data, "\"verified\": null"));
	verdict_json(NULL, &n);
	buf_u8(&n.b, 0);
	assert_non_null(strstr((char *)n.b.data, "\"verified\": null"));
	buf_free(&b.b);
	buf_free(&c.b);
	buf_free(&d.b);
	buf_free(&n.b);
	verdict_free(&v);
}

/* What verdict_tell writes to stderr. */
static char *told(const struct verdict *v, int verbosity)
{
	struct fp key = {{0xab, 0xcd, 1, 2}};
	struct report r = {.result = "hit",
			   .name = "train",
			   .input_key = &key,
			   .cwd = "/w",
			   .wall_seconds = 3};
	auto_close int fd = memfd_create("said", MFD_CLOEXEC);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	char *text = xcalloc(1, 4096);

	dup2(fd, STDERR_FILENO);
	verdict_tell(v, &r, verbosity);
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_true(pread_full(fd, text, 4095, 0) >= 0);
	return text;
}

static void test_told(void **state)
{
	static const char lines[] =
		"mlfs: differs: out.txt: at offset 17: a timestamp\n"
		"mlfs: differs: /other/?[2J?: mode 0644 then, 0600 now\n"
		"mlfs: differs: exit status: 0 then, 3 now\n"
		"mlfs: note: it looked at 2 paths\n"
		"mlfs: note: 1 of its 3 outputs stood there and was not written again; remove them to see the step make them\n"
		"mlfs: note: the run could not have been stored: it rained\n"
		"mlfs: differs train abcd0102 (took 3.0 s): 3 differences from the cached result, which was damaged and is dropped\n";
	struct verdict v = sample(), sound = {.outputs = 2, .written = 2},
		       open = {.unsure = (char *)"it rained"};
	auto_free char *loud = told(&v, 1), *quiet = told(&v, -1), *silent = told(&sound, 0),
		       *well = told(&sound, 1), *unsure = told(&open, 0), *hush = told(&open, -1);

	(void)state;
	assert_string_equal(loud, lines);
	assert_string_equal(quiet, lines);
	assert_string_equal(silent, ""); /* no terminal */
	assert_string_equal(well,
			    "mlfs: verified train abcd0102 (took 3.0 s): 2 outputs are the same\n");
	assert_string_equal(unsure, "mlfs: not verified train abcd0102 (took 3.0 s): it rained\n");
	assert_string_equal(hush, "");
	verdict_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_carried),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
