/* SPDX-License-Identifier: MIT */
/* test_index_io.c - what explains results: names of listings, descriptions of steps, who made and who read what; states taken apart. */
#include "index_cache.h"
#include "notes.h"

static void put(unsigned n, unsigned m, const char *description)
{
	static char *const names[] = {(char *)"fa", (char *)"db", (char *)"fbc"};
	struct path_set s = sample_set(m);
	struct result *r = sample_result(n, &s);

	r->listings = xcalloc(1, sizeof(*r->listings));
	assert_true(names_make(names, 3, NULL, 0, &r->listings[0]));
	r->n_listings = 1;
	buf_str(&r->description, description);
	sample_objects(x, r, 1);
	assert_ok(idx_result_put(x, r, &s, &the_err));
	result_free(r);
	path_set_free(&s);
}

static void test_names(void **state)
{
	static char *const list[] = {(char *)"fa", (char *)"db", (char *)"fbc", (char *)"lbcd"};
	static char *const excluded[] = {(char *)"aa", (char *)"bc", (char *)"z"};
	struct names_kept all, some;
	auto_free char **many = xcalloc(20000, sizeof(*many));
	struct facts f = {.present = true, .mode = S_IFDIR | 0755, .list = list, .n_list = 4};
	auto_buf struct buf b = {0};
	struct state_parts p;
	char **got;
	size_t n;

	(void)state;
	assert_true(names_make(list, 4, NULL, 0, &all));
	assert_true(names_make(list, 4, excluded, 3, &some));
	assert_false(fp_eq(&all.fp, &some.fp));
	/* The fingerprint is that of the state. */
	state_of_facts(OBS_LIST, &f, excluded, 3, &b);
	assert_ok(state_parse(b.data, b.len, &p));
	assert_true(p.has_list && fp_eq(&p.list, &some.fp));
	put(1, 1, "x");
	state_parts_free(&p);
	assert_int_equal(idx_listing_get(x, &some.fp, &got, &n, &the_err), 0);
	buf_free(&some.names);
	assert_true(names_make(list, 3, NULL, 0, &some));
	assert_int_equal(idx_listing_get(x, &some.fp, &got, &n, &the_err), 1);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(got[i], list[i]);
	strv_free(got, n);
	for (unsigned i = 0; i < 20000; i++)
		many[i] = xasprintf("f%08u", i * 7919);
	assert_false(names_make(many, 20000, NULL, 0, &some));
	for (unsigned i = 0; i < 20000; i++)
		free(many[i]);
	buf_free(&all.names);
	buf_free(&some.names);
}

static void test_steps(void **state)
{
	auto_free struct fp *keys = NULL;
	auto_buf struct buf b = {0};
	struct fp key = fp_n(1000000), none = fp_n(99);
	size_t n;

	(void)state;
	put(1, 1, "first");
	put(101, 1, "second");
	put(2, 2, "not put twice");
	assert_int_equal(idx_description_get(x, &none, &b, &the_err), 0);
	assert_int_equal(idx_description_get(x, &key, &b, &the_err), 1);
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.data + 1, "first", 5);
	assert_ok(idx_steps_named(x, "train", &keys, &n, &the_err));
	assert_int_equal(n, 2);
	assert_true(fp_eq(&keys[0], &key));
	key = fp_n(1000001);
	assert_true(fp_eq(&keys[1], &key));
	free(take(keys));
	assert_ok(idx_steps_named(x, "other", &keys, &n, &the_err));
	assert_int_equal(n, 0);
}

struct seen {
	unsigned n;
	struct fp last;
};

static int see(void *arg, const struct result *r, const struct output *o)
{
	struct seen *s = arg;

	assert_int_equal(o->now.type, OUT_FILE);
	s->n++;
	s->last = r->input_key;
	return 0;
}

static void check_made(unsigned n, bool there)
{
	struct fp content = fp_n(n + 7), key = fp_n(n);
	auto_free char *path = xasprintf("/out/file%u", n);
	struct seen made = {0}, left = {0};
	struct io *io;

	assert_ok(idx_io_open(x, &io, &the_err));
	assert_ok(idx_io_made(io, &content, see, &made, &the_err));
	assert_ok(idx_io_left(io, path, see, &left, &the_err));
	idx_io_close(io);
	assert_int_equal(made.n, there);
	assert_int_equal(left.n, there);
	if (there)
		assert_true(fp_eq(&made.last, &key) && fp_eq(&left.last, &key));
}

static void check_touching(const char *path, bool outputs, unsigned from, unsigned to,
			   unsigned step)
{
	struct idx_touching *t;
	unsigned found = 0;

	assert_ok((outputs ? idx_results_writing : idx_results_reading)(x, path, &t, &the_err));
	for (unsigned twice = 0; twice < 2; twice++)
		for (unsigned i = 0; i < 60; i++) {
			struct fp key = fp_n(i);
			bool want = i >= from && i < to && i % step == from % step;

			assert_int_equal(idx_touching_has(t, &key), want);
			found += want;
		}
	if (!found && outputs)
		assert_true(idx_touching_none(t));
	if (found)
		assert_false(idx_touching_none(t));
	idx_touching_free(t);
}

static void check_all(unsigned gone)
{
	for (unsigned i = 0; i < 50; i++)
		if (i != gone)
			check_made(i, true);
	if (gone < 50)
		check_made(gone, false);
	check_made(50, false);
	check_touching("/out/file7", true, 7, gone == 7 ? 7 : 8, 1);
	check_touching("/out/nothing", true, 0, 0, 1);
	check_touching("/data/in2", false, 2, 50, 3);
	check_touching("/data/in3", false, 0, 0, 1);
	check_touching("/usr/bin/cc", false, gone == 0 ? 1 : 0, 50, 1);
}

static int drop_rows(void *arg, struct kv_txn *t, struct err *e)
{
	const struct fp *key = arg;
	uint8_t note[NOTE_KEY_SIZE];
	struct path_set s = sample_set(2);
	auto_buf struct buf b = {0};
	struct fp id;
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < 50; i += 5) {
		struct fp k = fp_n(i);

		r = kv_del(t, TAB_IO, k.b, sizeof(k.b), e);
		assert_int_equal(r, 1);
	}
	path_set_encode(&s, &b);
	path_set_free(&s);
	id = fp_of(b.data, b.len);
	note_key(NOTE_PATHS, &id, note);
	assert_int_equal(kv_del(t, TAB_NOTE, note, sizeof(note), e), 1);
	(void)key;
	return r;
}

static void test_io(void **state)
{
	struct fp key = fp_n(7);

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		put(i, i % 3, "d");
	check_all(99);
	/* As an older mlfs left it: without some of the rows. */
	assert_ok(kv_write(x->kv, drop_rows, &key, &the_err));
	check_all(99);
	assert_ok(idx_result_drop(x, &key, &the_err));
	check_made(7, false);
	check_made(8, true);
	check_touching("/out/file7", true, 7, 7, 1);
}

/* Of 100,000 paths that are not among 3,000 few are taken for one. */
static void test_filter(void **state)
{
	struct path_set s = {xcalloc(3000, sizeof(*s.v)), 3000};
	struct result *r;
	auto_free char *path = NULL;
	uint8_t note[NOTE_KEY_SIZE];
	unsigned wrong = 0;
	struct kv_txn *t;
	struct kv_val v;

	(void)state;
	for (unsigned i = 0; i < 3000; i++)
		s.v[i] = (struct path_entry){.path = xasprintf("/usr/lib/%05u", i),
					     .kinds = OBS_CONTENT};
	r = sample_result(1, &s);
	sample_objects(x, r, 1);
	assert_ok(idx_result_put(x, r, &s, &the_err));
	note_key(NOTE_PATHS, &r->path_set_id, note);
	assert_ok(kv_begin(x->kv, &t, &the_err));
	assert_int_equal(kv_get(t, TAB_NOTE, note, sizeof(note), &v, &the_err), 1);
	assert_true(v.n < 3000 * 21 / 10);
	for (unsigned i = 0; i < 3000; i++)
		assert_true(paths_may_have(v, s.v[i].path));
	for (unsigned i = 3000; i < 103000; i++) {
		path = xasprintf("/usr/lib/%05u", i);
		wrong += paths_may_have(v, path);
		free(take(path));
	}
	assert_true(wrong < 1000);
	kv_end(x->kv);
	result_free(r);
	path_set_free(&s);
}

static void check_state(unsigned kinds, const struct facts *f, struct state_parts *ret)
{
	auto_buf struct buf b = {0};

	state_of_facts(kinds, f, NULL, 0, &b);
	assert_ok(state_parse(b.data, b.len, ret));
	for (size_t n = 0; n < b.len; n++) {
		struct state_parts less;

		/* A shorter one is another state or none. */
		if (state_parse(b.data, n, &less) == 0)
			state_parts_free(&less);
	}
	state_parts_free(ret);
	buf_u8(&b, 'Z');
	assert_int_equal(state_parse(b.data, b.len, ret), -EBADMSG);
	assert_ok(state_parse(b.data, b.len - 1, ret));
}

static void test_states(void **state)
{
	struct facts f = {.present = true,
			  .mode = S_IFREG | 0640,
			  .uid = geteuid(),
			  .gid = getegid(),
			  .size = 77,
			  .mtime_ns = 5,
			  .digest = {{1, 2, 3}},
			  .xattrs = "x",
			  .n_xattrs = 1};
	struct facts none = {.present = false}, link = {.present = true, .mode = S_IFLNK | 0777};
	struct state_parts p;

	(void)state;
	check_state(OBS_CONTENT | OBS_XATTR, &f, &p);
	assert_true(p.type == 'f' && p.has_mode && p.mode == 0640 && p.has_content && p.size == 77);
	assert_true(fp_eq(&p.content, &f.digest) && p.has_xattrs && !p.has_mtime && !p.has_owner);
	state_parts_free(&p);
	check_state(OBS_ATTR, &f, &p);
	assert_true(p.has_size && p.size == 77 && p.has_mtime && p.mtime_ns == 5 && !p.has_content);
	check_state(OBS_CONTENT, &none, &p);
	assert_int_equal(p.type, 'a');
	link.target = "a/b";
	link.uid = geteuid();
	link.gid = getegid();
	check_state(OBS_LINK, &link, &p);
	assert_string_equal(p.target, "a/b");
	state_parts_free(&p);
	assert_int_equal(state_parse("", 0, &p), -EBADMSG);
	assert_int_equal(state_parse("aM", 2, &p), -EBADMSG);
	assert_ok(state_parse("E\x0d", 2, &p));
	assert_true(p.type == 'E' && p.err == 13);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_names), T(test_steps), T(test_io), T(test_filter), T(test_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
