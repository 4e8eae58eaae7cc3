/* SPDX-License-Identifier: MIT */
/* What differs between two states of a path, and between two steps, in words; and that damaged bytes say nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/diff.h"
#include "../../runner/options.h"

/* ---- states ---- */

static struct facts file(const char *content, uint64_t size, mode_t mode)
{
	return (struct facts){.present = true,
			      .mode = S_IFREG | mode,
			      .uid = getuid(),
			      .gid = getgid(),
			      .size = size,
			      .mtime_ns = 1763721720000000000,
			      .digest = fp_of(content, strlen(content))};
}

static void want_diff(unsigned kinds, const struct facts *was, const struct facts *now,
		      const char *text, enum diff_kind kind)
{
	auto_buf struct buf a = {0}, b = {0};
	enum diff_kind got = DIFF_UNKNOWN;
	auto_free char *said = NULL;

	state_of_facts(kinds, was, NULL, 0, &a);
	state_of_facts(kinds, now, NULL, 0, &b);
	said = state_diff(&(struct path_state){.state = a.data,
					       .n = a.len,
					       .kinds = kinds,
					       .names = was->list,
					       .n_names = was->n_list},
			  &(struct path_state){.state = b.data,
					       .n = b.len,
					       .kinds = kinds,
					       .names = now->list,
					       .n_names = now->n_list},
			  &got);
	if (!text) {
		assert_null(said);
		return;
	}
	assert_non_null(said);
	assert_string_equal(said, text);
	assert_int_equal(got, kind);
}

static void test_files(void **state)
{
	struct facts none = {0}, a = file("a", 1, 0644), b = file("b", 1, 0644),
		     c = file("c", 3 << 20, 0755);

	(void)state;
	want_diff(OBS_CONTENT, &a, &a, NULL, 0);
	want_diff(OBS_CONTENT, &a, &b, "content changed (1 B)", DIFF_CONTENT);
	want_diff(OBS_CONTENT, &a, &c, "content changed (1 B → 3.0 MB), mode 0644 → 0755",
		  DIFF_CONTENT);
	want_diff(OBS_CONTENT, &none, &a, "was absent, now exists", DIFF_APPEARED);
	want_diff(OBS_CONTENT, &a, &none, "existed, now absent", DIFF_GONE);
	b = c;
	b.size++;
	want_diff(OBS_ATTR, &c, &b, "size 3145728 → 3145729 bytes", DIFF_TIME);
	b.size--;
	b.mtime_ns += 1000000;
	want_diff(OBS_ATTR, &c, &b, "modified 2025-11-21T10:42:00.000Z → 2025-11-21T10:42:00.001Z",
		  DIFF_TIME);
	b = c;
	b.mode = S_IFDIR | 0755;
	want_diff(OBS_ATTR, &c, &b, "was a file, now a directory", DIFF_TYPE);
}

static void test_the_rest(void **state)
{
	static char *const old[] = {(char *)"fa", (char *)"fb", (char *)"fc"};
	static char *const new[] = {(char *)"fa", (char *)"dc", (char *)"fd", (char *)"fe\n"};
	struct facts a = file("a", 1, 0644), b = a;

	(void)state;
	b.xattrs = "x";
	b.n_xattrs = 1;
	want_diff(OBS_XATTR, &a, &b, "extended attributes new", DIFF_XATTRS);
	want_diff(OBS_XATTR, &b, &a, "extended attributes gone", DIFF_XATTRS);
	a.mode = b.mode = S_IFLNK | 0777;
	a.target = "one";
	b.target = "two\033";
	want_diff(OBS_LINK, &a, &b, "link target one → two?", DIFF_LINK);
	a.mode = b.mode = S_IFDIR | 0755;
	a.list = old;
	a.n_list = 3;
	b.list = new;
	b.n_list = 4;
	want_diff(OBS_LIST, &a, &b,
		  "new names d, e? in a listed directory, name b gone from a listed directory, "
		  "name c of another type in a listed directory",
		  DIFF_LISTING);
	b.list = a.list;
	b.n_list = 2;
	want_diff(OBS_LIST, &a, &b, "name c gone from a listed directory", DIFF_LISTING);
}

/* Whatever the bytes are, it is said that they make no sense, or something else; never more than that happens. */
static void test_damaged_states(void **state)
{
	struct facts a = file("a", 1, 0644), b = file("b", 2, 0600);
	auto_buf struct buf x = {0}, y = {0};
	enum diff_kind kind;

	(void)state;
	state_of_facts(OBS_CONTENT | OBS_XATTR, &a, NULL, 0, &x);
	state_of_facts(OBS_CONTENT | OBS_XATTR, &b, NULL, 0, &y);
	for (size_t n = 0; n < x.len; n++) { /* some are whole: its parts follow each other */
		free(state_diff(&(struct path_state){.state = x.data, .n = n},
				&(struct path_state){.state = y.data, .n = y.len}, &kind));
		free(state_diff(&(struct path_state){.state = y.data, .n = y.len},
				&(struct path_state){.state = x.data, .n = n}, &kind));
	}
	assert_null(state_diff(&(struct path_state){.state = "fM", .n = 2},
			       &(struct path_state){.state = y.data, .n = y.len}, &kind));
	assert_null(state_diff(&(struct path_state){.state = y.data, .n = y.len},
			       &(struct path_state){.state = "", .n = 0}, &kind));
	for (size_t i = 0; i < x.len * 8; i++) {
		x.data[i / 8] ^= (uint8_t)(1u << i % 8);
		free(state_diff(&(struct path_state){.state = x.data, .n = x.len},
				&(struct path_state){.state = y.data, .n = y.len}, &kind));
		x.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

/* ---- steps ---- */

static char *command[] = {"cmd", "a", "b", NULL};

static void describe(const struct exec_opts *o, enum stdin_type in, struct step_told *ret)
{
	static const struct fp content = {{1}};
	struct err e = {0};
	struct step s;

	if (step_describe(o, in, in == IN_FILE ? &content : NULL, 0, &s, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(step_told(&s.description, ret), 0);
	assert_string_equal(ret->cwd, s.cwd);
	step_free(&s);
}

static void want_steps(const struct step_told *a, const struct step_told *b, const char *text,
		       enum diff_kind kind)
{
	struct diffs d = {0};

	step_diff(a, b, &d);
	assert_int_equal(d.n, 1);
	assert_string_equal(d.v[0].text, text);
	assert_int_equal(d.v[0].kind, kind);
	diffs_free(&d);
}

static struct exec_opts plain(void)
{
	struct exec_opts o;

	exec_opts_init(&o);
	o.argv = command;
	o.argc = 3;
	return o;
}

static void test_steps(void **state)
{
	static char *longer[] = {"cmd", "a", "x", "y", "b", NULL};
	struct exec_opts o = plain();
	struct step_told a, b;
	struct diffs d = {0};

	(void)state;
	setenv("TEST_VALUE", "0.1", 1);
	describe(&o, IN_NULL, &a);
	describe(&o, IN_NULL, &b);
	step_diff(&a, &b, &d);
	assert_int_equal(d.n, 0);
	step_told_free(&b);

	setenv("TEST_VALUE", "0.2", 1);
	describe(&o, IN_NULL, &b);
	want_steps(&a, &b, "environment TEST_VALUE: 0.1 → 0.2", DIFF_ENVIRONMENT);
	step_told_free(&b);
	setenv("TEST_VALUE", "0.1", 1);

	o.argv = longer;
	o.argc = 5;
	describe(&o, IN_NULL, &b);
	want_steps(&a, &b, "argument 2: (none) → x y", DIFF_ARGUMENT);
	want_steps(&b, &a, "argument 2: x y → (none)", DIFF_ARGUMENT);
	step_told_free(&b);

	o = plain();
	o.salt = (char *)"x";
	describe(&o, IN_NULL, &b);
	want_steps(&a, &b, "--salt: (none) → x", DIFF_OPTION);
	step_told_free(&b);
	o = plain();

	describe(&o, IN_FILE, &b);
	want_steps(&a, &b, "standard input: was /dev/null, now a file", DIFF_STREAM);
	step_told_free(&b);
	step_told_free(&a);
	unsetenv("TEST_VALUE");
}

/* Of long values what differs is shown. */
static void test_long_values(void **state)
{
	struct exec_opts o = plain();
	struct step_told a, b;
	char value[400];

	(void)state;
	memset(value, 'x', sizeof(value));
	value[299] = '\0';
	setenv("TEST_VALUE", value, 1);
	describe(&o, IN_NULL, &a);
	value[290] = 'y';
	setenv("TEST_VALUE", value, 1);
	describe(&o, IN_NULL, &b);
	want_steps(&a, &b,
		   "environment TEST_VALUE: …xxxxxxxxxxxxxxxxxxxxxxxxxxxxx → "
		   "…xxxxxxxxxxxxxxxxxxxxyxxxxxxxx",
		   DIFF_ENVIRONMENT);
	step_told_free(&a);
	step_told_free(&b);
	unsetenv("TEST_VALUE");
}

static void test_damaged_steps(void **state)
{
	struct exec_opts o = plain();
	struct err e = {0};
	struct step_told t;
	struct step s;

	(void)state;
	assert_int_equal(step_describe(&o, IN_NULL, NULL, 0, &s, &e), 0);
	for (size_t n = 0; n < s.description.len; n++) {
		struct buf cut = {.data = s.description.data, .len = n};

		assert_int_equal(step_told(&cut, &t), -EBADMSG);
	}
	for (size_t i = 0; i < s.description.len; i++)
		for (unsigned bit = 1; bit < 256; bit *= 4) {
			s.description.data[i] ^= (uint8_t)bit;
			if (step_told(&s.description, &t) == 0)
				step_told_free(&t);
			s.description.data[i] ^= (uint8_t)bit;
		}
	step_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),	       cmocka_unit_test(test_the_rest),
		cmocka_unit_test(test_damaged_states), cmocka_unit_test(test_steps),
		cmocka_unit_test(test_long_values),    cmocka_unit_test(test_damaged_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
