/* SPDX-License-Identifier: MIT */
/* test_words.c - the words of the commands that ask the cache, and what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../../runner/json.h"
#include "../../runner/screen.h"
#include "../../runner/words.h"

struct opts {
	struct query q;
	bool all;
	char *rate;
	struct strlist reads;
	double since;
	uint64_t max_size, keep;
};

static char *check_rate(const char *value)
{
	return strchr(value, '/') ? NULL : xasprintf("'%s' has no /", value);
}

#define AT(member) offsetof(struct opts, member)
static const struct word_def defs[] = {
	{"all", 'a', WORD_FLAG, AT(all), NULL, "all of them"},
	{"rate", 0, WORD_TEXT, AT(rate), "RATE", "money", .setting = true, .check = check_rate},
	{"reads", 0, WORD_LIST, AT(reads), "FILE", "read"},
	{"since", 's', WORD_SECONDS, AT(since), "DUR", "time"},
	{"max-size", 0, WORD_SIZE, AT(max_size), "SIZE", "size", .setting = true},
	{"keep", 0, WORD_COUNT, AT(keep), "N", "number", .setting = true},
	{"quiet", 'q', WORD_LEVEL, offsetof(struct query, verbosity), NULL, "our own", .level = -1},
};
static const struct word_table table = {.command = "try",
					.usage = "[OPTIONS] KEY",
					.what = "Tries.\n",
					.status = "Exit status: 0.\n",
					.v = defs,
					.n = sizeof(defs) / sizeof(*defs),
					.size = sizeof(struct opts),
					.arg = "KEY",
					.min_args = 1,
					.max_args = 2};

#define MAX_ARGS 16

/* Parse; what is said on stderr goes to said. */
static int parse(struct opts *o, char said[512], ...)
{
	char *argv[MAX_ARGS + 1] = {"try"}, *word;
	int argc = 1, r, keep = dup(STDERR_FILENO), ends[2];
	ssize_t n;
	va_list ap;

	va_start(ap, said);
	while ((word = va_arg(ap, char *)) && argc < MAX_ARGS)
		argv[argc++] = word;
	va_end(ap);
	*o = (struct opts){.since = -1};
	assert_int_equal(pipe(ends), 0);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	r = words_parse(&table, argc, argv, o);
	assert_true(dup2(keep, STDERR_FILENO) >= 0);
	close(keep);
	close(ends[1]);
	n = read(ends[0], said, 511);
	close(ends[0]);
	said[n > 0 ? n : 0] = '\0';
	return r;
}

static void wrong(const char *want, int r, struct opts *o, const char *said)
{
	auto_free char *line = xasprintf("mlfs: %s\n", want);

	assert_int_equal(r, -EINVAL);
	assert_string_equal(said, line);
	words_free(&table, o);
}

static void test_right_words(void **state)
{
	struct opts o;
	char said[512];

	(void)state;
	assert_int_equal(parse(&o, said, "-aq", "--rate=2/h", "3f", "--reads", "x", "--reads=y=z",
			       "-sPT1M", "--max-size", "2K", "--json", "--keep=7", "--", "--all",
			       NULL),
			 0);
	assert_string_equal(said, "");
	assert_true(o.all && o.q.json);
	assert_int_equal(o.q.verbosity, -1);
	assert_string_equal(o.rate, "2/h");
	assert_int_equal(o.reads.n, 2);
	assert_string_equal(o.reads.v[1], "y=z");
	assert_true(o.since == 60);
	assert_int_equal(o.max_size, 2048);
	assert_int_equal(o.keep, 7);
	assert_int_equal(o.q.args.n, 2);
	assert_string_equal(o.q.args.v[0], "3f");
	assert_string_equal(o.q.args.v[1], "--all");
	words_free(&table, &o);
}

static void test_wrong_words(void **state)
{
	struct opts o;
	char said[512];

	(void)state;
#define WRONG(want, ...) wrong(want, parse(&o, said, __VA_ARGS__, NULL), &o, said)
	WRONG("unknown option '--sinc'; did you mean '--since'?", "k", "--sinc", "P1D");
	WRONG("unknown option '--jsn'; did you mean '--json'?", "--jsn=yes", "k");
	WRONG("unknown option '-xince'; did you mean '--since'?", "-xince", "k");
	WRONG("option '--since' needs a value: DUR", "k", "--since");
	WRONG("option '--since': '1d' is not a duration, such as PT30M, P1D or P7DT12H", "--since",
	      "1d", "k");
	WRONG("option '--max-size': '5X' is not a size, such as 500M, 20G or 1T", "--max-size=5X",
	      "k");
	WRONG("option '--keep': '-3' is not a number", "--keep=-3", "k");
	WRONG("option '--keep': '99999999999999999999' is not a number",
	      "--keep=99999999999999999999", "k");
	WRONG("option '--rate': '7' has no /", "--rate", "7", "k");
	WRONG("option '--reads': '' is empty", "--reads=", "k");
	WRONG("option '--all': 'perhaps' is neither yes nor no", "--all=perhaps", "k");
	WRONG("no KEY given: mlfs try [OPTIONS] KEY", "--all");
	WRONG("unexpected argument 'c'; 'mlfs try --help' tells more", "a", "b", "c");
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_settings(void **state)
{
	char *why = NULL;
	struct opts o = {0};

	(void)state;
	assert_int_equal(word_set(&table, &o, "keep", "12", &why), 0);
	assert_int_equal(o.keep, 12);
	assert_int_equal(word_set(&table, NULL, "keep", "13", &why), 0);
	assert_int_equal(o.keep, 12);
	assert_int_equal(word_set(&table, &o, "all", "yes", &why), -ENOENT);
	assert_int_equal(word_set(&table, &o, "nothing", "yes", &why), -ENOENT);
	assert_null(why);
	assert_int_equal(word_set(&table, NULL, "keep", "many", &why), -EINVAL);
	assert_string_equal(why, "setting 'keep': 'many' is not a number");
	free(why);
	words_free(&table, &o);
}

/* mlfs.conf is read, exec's settings in it are looked at, and a mistake anywhere is wrong usage. */
static void test_config(void **state)
{
	char dir[] = "/tmp/mlfs-words-XXXXXX", said[512];
	auto_free char *path = NULL, *want = NULL;
	struct opts o;

	(void)state;
	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/conf", dir);
	put_file(path, "expire-after = P7D\n[step \"x\"]\nno-cache = yes\n");
	assert_int_equal(parse(&o, said, "k", "--config", path, NULL), 0);
	assert_string_equal(said, "");
	words_free(&table, &o);
	put_file(path, "expire-after = soon\n");
	want = xasprintf("%s:1: setting 'expire-after': 'soon' is not a duration, such as PT30M, "
			 "P1D or P7DT12H",
			 path);
	WRONG(want, "k", "--config", path);
	free(take(want));
	put_file(path, "\nexpire-aftr = P1D\n");
	want = xasprintf("%s:2: unknown setting 'expire-aftr'; did you mean 'expire-after'?", path);
	WRONG(want, "k", "--config", path);
	assert_int_equal(unlink(path), 0);
	free(take(want));
	want = xasprintf("cannot open %s: No such file or directory", path);
	WRONG(want, "k", "--config", path);
	assert_int_equal(rmdir(dir), 0);
}

static void test_json(void **state)
{
	char *argv[] = {"a", "b\xff"}, *plain[] = {"\xc3\xa9"};
	struct json j = {0};

	(void)state;
	json_object(&j, NULL);
	json_text(&j, "t", "x\"\n");
	json_text(&j, "none", NULL);
	json_bytes(&j, "bad", "f\xff\0", 3);
	json_texts(&j, "argv", argv, 2);
	json_texts(&j, "ok", plain, 1);
	json_array(&j, "a");
	json_end(&j);
	json_array(&j, "b");
	json_object(&j, NULL);
	json_end(&j);
	json_object(&j, NULL);
	json_int(&j, "i", -5);
	json_end(&j);
	json_end(&j);
	json_bool(&j, "y", true);
	json_seconds(&j, "s", 1.5);
	json_time(&j, "at", 1500000000);
	json_hex(&j, "h", "\x01\xab", 2);
	json_hex(&j, "g", NULL, 2);
	json_end(&j);
	json_done(&j);
	buf_u8(&j.b, 0);
	assert_string_equal(
		(char *)j.b.data,
		"{\"t\": \"x\\\"\\n\", \"none\": null, "
		"\"bad\": \"f\xef\xbf\xbd\\u0000\", \"bad_base64\": \"Zv8A\", "
		"\"argv\": [\"a\", \"b\xef\xbf\xbd\"], \"argv_base64\": [\"YQ==\", "
		"\"Yv8=\"], \"ok\": [\"\xc3\xa9\"], \"a\": [], \"b\": [{}, {\"i\": -5}], "
		"\"y\": true, \"s\": 1.500000, \"at\": \"1970-01-01T00:00:01.500Z\", "
		"\"h\": \"01ab\", \"g\": null}\n");
	buf_free(&j.b);
}

static void test_plain(void **state)
{
	auto_buf struct buf b = {0};

	(void)state;
	add_plain(&b, "a\033[2J\n\x7f\xc2\x9b"
		      "1\xc3\xa9");
	buf_u8(&b, 0);
	assert_string_equal((char *)b.data, "a?[2J???1\xc3\xa9");
	assert_int_equal(text_columns("a\xc3\xa9\xe2\x82\xac"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right_words), cmocka_unit_test(test_wrong_words),
		cmocka_unit_test(test_settings),    cmocka_unit_test(test_config),
		cmocka_unit_test(test_json),	    cmocka_unit_test(test_plain),
	};

	setenv("MLFS_CACHE", "/nonexistent/mlfs", 1);
	unsetenv("MLFS_CONFIG");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
