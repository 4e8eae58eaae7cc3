/* SPDX-License-Identifier: MIT */
/* test_stamp.c - index/stamps.c and runner/stamp.c: a hit found again by lstat, and every change that must not be. */
#include "index_util.h"

#include <sys/xattr.h>
#include <time.h>

#include "../../runner/runner.h"

struct world {
	char *dir, *cache;
	struct idx *x;
	struct exec_opts o;
	struct step s;
	struct path_set set;
	struct result *r;
};

#define PATH(w, name) auto_free char *path = xasprintf("%s/%s", (w)->dir, name)

static void put(const struct world *w, const char *name, const char *text)
{
	PATH(w, name);
	write_file(path, text, strlen(text));
}

static void make_dir(const struct world *w, const char *name)
{
	PATH(w, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void observe(struct world *w, const char *name, unsigned kinds)
{
	w->set.v[w->set.n++] = (struct path_entry){
		.path = *name ? xasprintf("%s/%s", w->dir, name) : xstrdup(w->dir), .kinds = kinds};
}

static void leave(struct world *w, const char *name, enum out_type type)
{
	w->r->outputs[w->r->n_outputs++] =
		(struct output){.path = xasprintf("%s/%s", w->dir, name), .now = {.type = type}};
}

static void make_world(struct world *w)
{
	PATH(w, "link");

	make_dir(w, "attr");
	make_dir(w, "list");
	make_dir(w, "out");
	make_dir(w, "xattr");
	put(w, "file", "content");
	put(w, "list/old", "");
	put(w, "out/o", "output");
	assert_int_equal(symlink("file", path), 0);
	w->set.v = xcalloc(16, sizeof(*w->set.v));
	observe(w, "", OBS_ATTR);
	observe(w, "absent", OBS_ABSENT);
	observe(w, "absent-dir/x", OBS_ABSENT);
	observe(w, "absent-dir/x/y", OBS_ABSENT);
	observe(w, "attr", OBS_ATTR);
	observe(w, "attr.x", OBS_ABSENT); /* sorts between attr and what is in it */
	observe(w, "attr/x", OBS_ABSENT);
	observe(w, "file", OBS_CONTENT);
	observe(w, "file/x", OBS_ABSENT);
	observe(w, "link", OBS_LINK);
	observe(w, "list", OBS_LIST);
	observe(w, "list/old", OBS_ATTR);
	observe(w, "xattr", OBS_ATTR | OBS_XATTR);
	leave(w, "out", OUT_DIR);
	leave(w, "out/o", OUT_FILE);
	leave(w, "removed", OUT_ABSENT);
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	auto_buf struct buf b = {0};

	w->dir = scratch_new();
	w->cache = scratch_new();
	assert_ok(idx_open(w->cache, false, &w->x, &the_err));
	w->s.key = fp_n(1);
	w->r = xcalloc(1, sizeof(*w->r));
	w->r->outputs = xcalloc(8, sizeof(*w->r->outputs));
	w->r->argv = xcalloc(1, sizeof(char *));
	make_world(w);
	path_set_encode(&w->set, &b);
	w->r->step_key = w->s.key;
	w->r->input_key = fp_n(2);
	w->r->path_set_id = fp_of(b.data, b.len);
	assert_ok(idx_result_put(w->x, w->r, &w->set, &the_err));
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	idx_close(w->x);
	path_set_free(&w->set);
	result_free(w->r);
	scratch_free(w->dir);
	scratch_free(w->cache);
	free(w);
	return 0;
}

static int facts(void *arg, const char *path, struct stat *ret)
{
	(void)arg;
	return lstat(path, ret) < 0 ? errno : 0;
}

static bool found(const struct world *w)
{
	struct result *r = stamp_find(w->x, &w->o, &w->s);
	bool yes = r != NULL;

	if (r)
		assert_true(fp_eq(&r->input_key, &w->r->input_key));
	result_free(r);
	return yes;
}

static bool keep(const struct world *w)
{
	struct stamp stamp;

	stamp_keep(w->x, &w->o, &w->s, w->r, now_ns(), facts, NULL);
	return idx_stamp_get(w->x, &w->s.key, &stamp) > 0;
}

/* Its times are too fresh at first; where the clock is coarse for two seconds. */
static void keep_settled(const struct world *w)
{
	int64_t until = mono_ns() + 20 * INT64_C(1000000000);

	while (!keep(w)) {
		assert_true(mono_ns() < until);
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* In the place of one that was kept before. */
static void keep_found(const struct world *w)
{
	int64_t until = mono_ns() + 20 * INT64_C(1000000000);

	for (keep_settled(w); !found(w); (void)keep(w)) {
		assert_true(mono_ns() < until);
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* ---- changes ---- */

static void same_size_and_mtime(const struct world *w)
{
	PATH(w, "file");
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	put(w, "file", "CONTENT");
	times[1] = st.st_mtim;
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void file_mode(const struct world *w)
{
	PATH(w, "file");
	assert_int_equal(chmod(path, 0600), 0);
}

static void replaced(const struct world *w)
{
	PATH(w, "file");
	auto_free char *other = in(w->dir, "other");

	put(w, "other", "content");
	assert_int_equal(rename(other, path), 0);
}

static void file_gone(const struct world *w)
{
	PATH(w, "file");
	assert_int_equal(unlink(path), 0);
}

static void file_is_directory(const struct world *w)
{
	file_gone(w);
	make_dir(w, "file");
}

static void now_there(const struct world *w)
{
	put(w, "absent", "");
}

static void directory_now_there(const struct world *w)
{
	make_dir(w, "absent-dir");
	make_dir(w, "absent-dir/x");
}

static void empty_directory_now_there(const struct world *w)
{
	make_dir(w, "absent-dir"); /* what was looked for in it is still absent */
}

static void directory_is_link(const struct world *w)
{
	PATH(w, "absent-dir");
	assert_int_equal(symlink("attr", path), 0);
}

static void name_looked_for(const struct world *w)
{
	put(w, "attr/x", "");
}

static void name_not_looked_for(const struct world *w)
{
	put(w, "attr/y", "");
}

static void directory_mode(const struct world *w)
{
	PATH(w, "attr");
	assert_int_equal(chmod(path, 0700), 0);
}

static void link_target(const struct world *w)
{
	PATH(w, "link");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("list", path), 0);
}

static void name_in_listing(const struct world *w)
{
	put(w, "list/new", "");
}

static void name_gone_and_back(const struct world *w)
{
	PATH(w, "list/old");
	assert_int_equal(unlink(path), 0);
	put(w, "list/old", "");
}

static void attribute_set(const struct world *w)
{
	PATH(w, "xattr");
	assert_int_equal(setxattr(path, "user.x", "1", 1, 0), 0);
}

static void output_edited(const struct world *w)
{
	put(w, "out/o", "edited");
}

static void output_gone(const struct world *w)
{
	PATH(w, "out/o");
	assert_int_equal(unlink(path), 0);
}

static void new_beside_output(const struct world *w)
{
	put(w, "out/new", "");
}

static void removed_is_back(const struct world *w)
{
	put(w, "removed", "");
}

static void output_through_link(const struct world *w)
{
	PATH(w, "out");
	auto_free char *away = in(w->dir, "away");

	assert_int_equal(rename(path, away), 0);
	assert_int_equal(symlink("away", path), 0);
}

static void nothing(const struct world *w)
{
	(void)w;
}

static void test_changes(void **state)
{
	static const struct {
		const char *name;
		void (*change)(const struct world *w);
		bool found;
	} cases[] = {
		{"nothing", nothing, true},
		{"same size and mtime", same_size_and_mtime, false},
		{"mode of a file", file_mode, false},
		{"replaced by rename", replaced, false},
		{"file gone", file_gone, false},
		{"file is a directory", file_is_directory, false},
		{"absent is there", now_there, false},
		{"absent directory is there, and in it", directory_now_there, false},
		{"absent directory is there, empty", empty_directory_now_there, true},
		{"absent directory is a link", directory_is_link, false},
		{"name looked for", name_looked_for, false},
		{"name not looked for", name_not_looked_for, true},
		{"mode of a directory", directory_mode, false},
		{"link target", link_target, false},
		{"name in a listing", name_in_listing, false},
		{"name in a listing gone and back", name_gone_and_back, false},
		{"extended attribute", attribute_set, false},
		{"output edited", output_edited, false},
		{"output gone", output_gone, false},
		{"new beside an output", new_beside_output, false},
		{"removed is back", removed_is_back, false},
		{"output through a link", output_through_link, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct world *w;

		assert_int_equal(set_up(state), 0);
		w = *state;
		keep_settled(w);
		assert_true(found(w));
		cases[i].change(w);
		if (found(w) != cases[i].found)
			fail_msg("%s: found should be %d", cases[i].name, cases[i].found);
		assert_int_equal(tear_down(state), 0);
	}
}

/* ---- directories with so much in them that they are opened ---- */

#define DEEP	"deep/a/b"
#define N_FILES 700 /* in each of the threads, and more than a block */

static void file_in(char name[64], const char *dir, int i)
{
	(void)snprintf(name, 64, "%s/%04d", dir, i); /* fits */
}

static void make_deep(struct world *w)
{
	static const char *const dirs[] = {"deep", "deep/a", DEEP, "deep/a/c"};
	auto_buf struct buf b = {0};
	char name[64];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
		make_dir(w, dirs[i]);
	path_set_free(&w->set);
	w->set.v = xcalloc(4 * N_FILES, sizeof(*w->set.v));
	observe(w, "deep", OBS_ATTR);
	observe(w, "deep/a", OBS_ATTR);
	for (size_t d = 2; d < 4; d++) {
		if (d == 2)
			observe(w, dirs[d], OBS_ATTR); /* the other one is not observed itself */
		for (int i = 0; i < N_FILES; i++) {
			file_in(name, dirs[d], i);
			if (i % 3)
				put(w, name, "text");
			observe(w, name, OBS_CONTENT);
		}
	}
	path_set_encode(&w->set, &b);
	w->r->path_set_id = fp_of(b.data, b.len);
	assert_ok(idx_result_put(w->x, w->r, &w->set, &the_err));
}

/* The same files, by a link. */
static void moved_behind_link(const struct world *w)
{
	PATH(w, DEEP);
	auto_free char *away = in(w->dir, "deep/a/away");

	assert_int_equal(rename(path, away), 0);
	assert_int_equal(symlink("away", path), 0);
}

static void test_deep(void **state)
{
	struct world *w = *state;
	auto_free char *unseen = in(w->dir, "deep/a/c"), *away = in(w->dir, "away");
	char name[64];

	make_deep(w);
	keep_settled(w);
	assert_true(found(w));
	for (int i = 0; i < N_FILES; i += 61) {
		file_in(name, i % 2 ? DEEP : "deep/a/c", i);
		put(w, name, "TEXT");
		assert_false(found(w));
		keep_found(w);
	}
	assert_int_equal(rename(unseen, away), 0);
	assert_int_equal(symlink("../../away", unseen), 0);
	assert_false(found(w));
	assert_int_equal(unlink(unseen), 0);
	assert_false(found(w));
	assert_int_equal(rename(away, unseen), 0);
	assert_true(found(w));
	moved_behind_link(w);
	assert_false(found(w));
}

/* ---- when none is kept, or found ---- */

static void test_fresh(void **state)
{
	struct world *w = *state;
	struct stamp stamp;

	/* As seen at a moment before the last change. */
	stamp_keep(w->x, &w->o, &w->s, w->r, now_ns() - INT64_C(3600000000000), facts, NULL);
	assert_int_equal(idx_stamp_get(w->x, &w->s.key, &stamp), 0);
}

static void test_options(void **state)
{
	struct world *w = *state;
	char *globs[] = {"*.tmp"};

	keep_settled(w);
	assert_true(found(w));
	w->o.ignore.v = globs;
	w->o.ignore.n = 1;
	assert_false(found(w));
	w->o.ignore.n = 0;
	w->o.strict = true;
	assert_false(found(w));
	w->o.strict = false;
	w->s.key = fp_n(9);
	assert_false(found(w));
}

static void test_stdin(void **state)
{
	struct world *w = *state;

	keep_settled(w);
	w->s.key = fp_n(5);
	w->r->stdin_kind = STDIN_BYTES; /* the world alone does not say which result it is */
	assert_false(keep(w));
}

static void test_result_gone(void **state)
{
	struct world *w = *state;

	keep_settled(w);
	assert_ok(idx_result_drop(w->x, &w->r->input_key, &the_err));
	assert_false(found(w));
}

/* What it rests on was looked at for the one that was there before. */
static void test_stored_anew(void **state)
{
	struct world *w = *state;

	keep_settled(w);
	assert_true(found(w));
	w->r->stored_ns += 1;
	assert_ok(idx_result_put(w->x, w->r, &w->set, &the_err));
	assert_false(found(w));
	assert_true(keep(w));
	assert_true(found(w));
}

/* Every bit that matters is guarded, and a file cut short is no stamp. */
static void test_damage(void **state)
{
	struct world *w = *state;
	auto_free char *file = in(w->cache, "index/stamps");
	auto_close int fd = -1;
	struct stat st;
	uint8_t slot[128];
	off_t at;

	keep_settled(w);
	fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	at = st.st_size - (off_t)sizeof(slot);
	assert_int_equal(pread(fd, slot, sizeof(slot), at), sizeof(slot));
	for (size_t bit = 0; bit < 8 * sizeof(slot); bit++) {
		uint8_t byte = slot[bit / 8] ^ (uint8_t)(1 << bit % 8);

		assert_int_equal(pwrite(fd, &byte, 1, at + (off_t)(bit / 8)), 1);
		assert_false(found(w));
		assert_int_equal(pwrite(fd, &slot[bit / 8], 1, at + (off_t)(bit / 8)), 1);
	}
	assert_true(found(w));
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
	assert_false(found(w));
	assert_true(keep(w));
	assert_true(found(w));
}

static void test_read_only(void **state)
{
	struct world *w = *state;
	auto_free char *file = in(w->cache, "index/stamps");

	idx_close(w->x);
	assert_ok(idx_open(w->cache, true, &w->x, &the_err));
	assert_false(keep(w));
	assert_int_equal(access(file, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),
		cmocka_unit_test_setup_teardown(test_deep, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fresh, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_options, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stdin, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_result_gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stored_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
