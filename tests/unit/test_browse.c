/* SPDX-License-Identifier: MIT */
/* test_browse.c - names in the tree of `mlfs mount --browse`, and going through all results and paths a few at a time. */
#include "../../fs/browse.h"
#include "index_cache.h"

static void both_ways(const char *name, const char *text)
{
	auto_free char *escaped = name_escape(name), *back = name_unescape(text);

	assert_string_equal(escaped, text);
	assert_non_null(back);
	assert_string_equal(back, name);
}

static void test_names(void **state)
{
	auto_free char *dots = xstrdup("...");
	char longest[300], name[256];
	auto_free char *cut = NULL, *other = NULL;

	(void)state;
	both_ways("train.py", "train.py");
	both_ways("my step", "my step");
	both_ways("a/b", "a\\x2fb");
	both_ways("a\\b\n", "a\\x5cb\\x0a");
	both_ways("\xc3\xa9\xff", "\xc3\xa9\xff");
	both_ways("", "\\x");
	both_ways(".", "\\x2e");
	both_ways("..", "\\x2e\\x2e");
	both_ways(dots, "...");
	assert_null(name_unescape("a\\x62")); /* no name is written so */
	assert_null(name_unescape("a\\x2"));
	assert_null(name_unescape("a\\x00"));
	memset(longest, 'a', sizeof(longest) - 1);
	longest[299] = '\0';
	snprintf(name, sizeof(name), "%.255s", longest);
	both_ways(name, name);
	cut = name_escape(longest);
	longest[298] = 'b';
	other = name_escape(longest);
	assert_true(strlen(cut) <= 255 && strcmp(cut, other) != 0);
	assert_null(name_unescape(cut));
}

static void part_both_ways(const char *part, const char *text)
{
	auto_free char *escaped = part_escape(part, strlen(part)), *back = part_unescape(text);

	assert_string_equal(escaped, text);
	assert_non_null(back);
	assert_string_equal(back, part);
}

static void test_parts(void **state)
{
	(void)state;
	part_both_ways("@types", "@types");
	part_both_ways("@read", "\\x40read");
	part_both_ways("@wrote", "\\x40wrote");
	part_both_ways("\\x40read", "\\x5cx40read");
	part_both_ways("a\\b", "a\\b");
	assert_null(part_unescape("\\x41"));
	assert_null(part_unescape("\\"));
}

static void put(unsigned n)
{
	struct path_set s = sample_set(n % 7);
	struct result *r = sample_result(n, &s);

	sample_objects(x, r, 1);
	assert_ok(idx_result_put(x, r, &s, &the_err));
	result_free(r);
	path_set_free(&s);
}

struct seen {
	unsigned n, stop;
	struct fp last;
};

static int see(void *arg, const struct idx_head *h)
{
	struct seen *s = arg;

	assert_true(!s->n || memcmp(s->last.b, h->input_key.b, sizeof(s->last)) < 0);
	assert_int_equal(h->n_name, 5);
	assert_memory_equal(h->name, "train", 5);
	s->last = h->input_key;
	return ++s->n == s->stop;
}

static unsigned count(const struct idx_scan_filter *f)
{
	struct seen s = {0};

	assert_ok(idx_scan(x, f, NULL, see, &s, &the_err));
	return s.n;
}

/* More results than one transaction sees, in the order of their keys, each once; and from any place on. */
static void test_scan(void **state)
{
	const struct idx_scan_filter any = {0}, named = {.name = "train"}, other = {.name = "trai"},
				     wrote = {.writes = "/out/file42"},
				     wrote_none = {.writes = "/out/file"};
	struct seen s = {.stop = 700};
	struct fp after;

	(void)state;
	for (unsigned n = 1; n <= 1100; n++)
		put(n);
	assert_int_equal(count(&any), 1100);
	assert_int_equal(count(&named), 1100);
	assert_int_equal(count(&other), 0);
	assert_int_equal(count(&wrote), 1);
	assert_int_equal(count(&wrote_none), 0);
	assert_int_equal(idx_scan(x, &any, NULL, see, &s, &the_err), 1);
	after = s.last;
	s = (struct seen){0};
	assert_ok(idx_scan(x, &any, &after, see, &s, &the_err));
	assert_int_equal(s.n, 400);
	s = (struct seen){.stop = 1};
	assert_int_equal(idx_scan_one(x, &wrote, &after, see, &s, &the_err), 0);
	assert_int_equal(idx_scan_one(x, &named, &after, see, &s, &the_err), 1);
}

/* A path is read by the results whose path set has it. */
static void test_reads(void **state)
{
	struct path_set s = sample_set(3);
	const struct idx_scan_filter f = {.reads = s.v[s.n - 1].path};
	struct path_set t = sample_set(4);
	unsigned want = 0;

	(void)state;
	for (unsigned n = 1; n <= 30; n++)
		put(n);
	for (unsigned n = 1; n <= 30; n++) {
		struct path_set u = sample_set(n % 7);

		for (size_t i = 0; i < u.n; i++)
			want += strcmp(u.v[i].path, f.reads) == 0;
		path_set_free(&u);
	}
	assert_true(want > 0);
	assert_int_equal(count(&f), want);
	path_set_free(&s);
	path_set_free(&t);
}

struct below {
	unsigned n, written;
	const char *dir;
};

static int see_path(void *arg, const char *path, bool written)
{
	struct below *b = arg;
	size_t n = strlen(b->dir);

	assert_true(strncmp(path, b->dir, n) == 0 && (path[n] == '/' || !path[n]));
	b->n++;
	b->written += written;
	return 0;
}

static void test_paths(void **state)
{
	struct below out = {.dir = "/out"}, all = {.dir = ""}, none = {.dir = "/ou"};

	(void)state;
	put(1);
	put(2);
	assert_ok(idx_scan_paths(x, "/out", see_path, &out, &the_err));
	assert_true(out.written >= 2);
	assert_ok(idx_scan_paths(x, "", see_path, &all, &the_err));
	assert_true(all.n > out.n);
	assert_ok(idx_scan_paths(x, "/ou", see_path, &none, &the_err));
	assert_int_equal(none.n, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_parts),
		T(test_scan),
		T(test_reads),
		T(test_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
