/* SPDX-License-Identifier: MIT */
/* test_index_results.c - results, path sets, what was left, uses, runs, locks. */
#include <pthread.h>
#include <signal.h>

#include "env.h"
#include "idx.h"
#include "index_cache.h"

static void reopen(bool read_only)
{
	idx_close(x);
	assert_ok(idx_open(cache, read_only, &x, &the_err));
}

/* Store result n with path set m. */
static void put(unsigned n, unsigned m)
{
	struct path_set s = sample_set(m);
	struct result *r = sample_result(n, &s);

	sample_objects(x, r, n);
	assert_ok(idx_result_put(x, r, &s, &the_err));
	result_free(r);
	path_set_free(&s);
}

/* The number m of the path set at position i of step 1000000. */
static int set_at(size_t i, size_t *ret_n)
{
	struct fp step = fp_n(1000000);
	struct path_set_list l;
	int m = -1;

	assert_ok(idx_path_sets(x, &step, &l, &the_err));
	if (i < l.n)
		m = atoi(l.sets[i].v[0].path + strlen("/data/in"));
	if (ret_n)
		*ret_n = l.n;
	path_set_list_free(&l);
	return m;
}

static int ruin_path_set(void *arg, struct kv_txn *t, struct err *e)
{
	return kv_put(t, TAB_PATH_SET, arg, sizeof(struct fp), "nonsense", 8, e);
}

/* One by one they are what all at once are, those that make no sense left out. */
static void test_sets_one_by_one(void **state)
{
	struct fp step = fp_n(1000000);
	struct path_set_list all, l;

	(void)state;
	for (unsigned m = 0; m < 5; m++)
		put(m, m);
	assert_ok(idx_path_sets(x, &step, &all, &the_err));
	assert_int_equal(all.n, 5);
	assert_ok(kv_write(x->kv, ruin_path_set, &all.ids[2], &the_err));
	path_set_list_free(&all);
	assert_ok(idx_path_sets(x, &step, &all, &the_err));
	assert_int_equal(all.n, 4);
	assert_ok(idx_path_sets_begin(x, &step, &l, &the_err));
	assert_int_equal(l.n, 0);
	for (size_t i = 0; i < all.n; i++) {
		assert_int_equal(idx_path_sets_next(x, &l, &the_err), 1);
		assert_int_equal(l.n, i + 1);
		assert_true(fp_eq(&l.ids[i], &all.ids[i]));
		assert_string_equal(l.sets[i].v[0].path, all.sets[i].v[0].path);
	}
	assert_int_equal(idx_path_sets_next(x, &l, &the_err), 0);
	assert_int_equal(l.n, all.n);
	path_set_list_free(&l);
	path_set_list_free(&all);
	/* One that was not ended has what was read. */
	assert_ok(idx_path_sets_begin(x, &step, &l, &the_err));
	assert_int_equal(idx_path_sets_next(x, &l, &the_err), 1);
	path_set_list_free(&l);
}

static void test_put_get_drop(void **state)
{
	struct fp key = fp_n(5), none = fp_n(6);
	struct path_set s = sample_set(1);
	struct result *r = NULL;
	auto_buf struct buf a = {0}, b = {0};
	size_t n;

	(void)state;
	assert_int_equal(idx_result_get(x, &key, &r, &the_err), 0);
	assert_int_equal(set_at(0, &n), -1);
	assert_int_equal(n, 0);
	put(5, 1);
	reopen(false);
	assert_int_equal(idx_result_get(x, &key, &r, &the_err), 1);
	result_encode(r, &a);
	r->stored_ns = 0;
	result_free(r);
	assert_int_equal(idx_result_get(x, &none, &r, &the_err), 0);
	assert_int_equal(set_at(0, NULL), 1);
	put(5, 1); /* again: replaced */
	assert_int_equal(idx_result_get(x, &key, &r, &the_err), 1);
	result_encode(r, &b);
	assert_int_equal(a.len, b.len);
	result_free(r);
	assert_ok(idx_result_drop(x, &key, &the_err));
	assert_ok(idx_result_drop(x, &key, &the_err));
	assert_int_equal(idx_result_get(x, &key, &r, &the_err), 0);
	path_set_free(&s);
}

static void test_refuses_nonsense(void **state)
{
	struct path_set s = sample_set(1);
	struct result *r = sample_result(5, &s);
	char *path = s.v[0].path;

	(void)state;
	r->console_len++;
	assert_int_equal(idx_result_put(x, r, &s, &the_err), -EINVAL);
	r->console_len--;
	s.v[0].path = s.v[1].path;
	s.v[1].path = path;
	assert_int_equal(idx_result_put(x, r, &s, &the_err), -EINVAL);
	assert_non_null(strstr(the_err.msg, "sorted"));
	result_free(r);
	path_set_free(&s);
}

static void touch(unsigned n, unsigned m)
{
	struct path_set s = sample_set(m);
	struct result *r = sample_result(n, &s);

	assert_ok(idx_result_touch(x, r, &the_err));
	result_free(r);
	path_set_free(&s);
}

static void test_order(void **state)
{
	auto_free char *journal = in(cache, "index/uses");
	size_t n;

	(void)state;
	for (unsigned m = 0; m < 10; m++)
		put(m, m);
	assert_int_equal(set_at(0, &n), 9);
	assert_int_equal(n, 10);
	assert_int_equal(set_at(9, NULL), 0);
	touch(3, 3);
	assert_int_equal(set_at(0, NULL), 9); /* noted only */
	put(50, 9);
	assert_int_equal(set_at(0, NULL), 9);
	assert_int_equal(set_at(1, NULL), 3);
	assert_int_equal(access(journal, F_OK), -1);
	touch(99, 77); /* nothing of the kind is stored */
	touch(5, 5);
	/* torn, then whole ones again */
	{
		int fd = open(journal, O_WRONLY | O_APPEND);

		assert_int_equal(write(fd, "half a record", 13), 13);
		close(fd);
	}
	touch(6, 6);
	put(51, 9);
	assert_int_equal(set_at(1, NULL), 6);
	assert_int_equal(set_at(2, NULL), 5);
	assert_int_equal(set_at(3, &n), 3);
	assert_int_equal(n, 10);
	for (unsigned i = 0; i < 1100; i++) /* as many as make it move them by itself */
		touch(0, 0);
	assert_int_equal(set_at(0, NULL), 0);
}

static void test_bounded(void **state)
{
	size_t n;

	(void)state;
	for (unsigned m = 0; m < IDX_MAX_PATH_SETS + 6; m++)
		put(m, m);
	assert_int_equal(set_at(0, &n), IDX_MAX_PATH_SETS + 5);
	assert_int_equal(n, IDX_MAX_PATH_SETS);
	assert_int_equal(set_at(IDX_MAX_PATH_SETS - 1, NULL), 6);
}

static void test_left_known(void **state)
{
	struct left file = {.type = OUT_FILE, .mode = 0644, .size = 10, .fp = fp_n(5 + 7)},
		    other = file;
	struct left link = {.type = OUT_LINK, .target = (char *)"t"}, gone = {0};

	(void)state;
	put(5, 1);
	assert_int_equal(idx_left_known(x, "/out/file5", &file), 1);
	assert_int_equal(idx_left_known(x, "/out/file6", &file), 0);
	assert_int_equal(idx_left_known(x, "/out/link", &link), 1);
	assert_int_equal(idx_left_known(x, "/out", &(struct left){.type = OUT_DIR, .mode = 0755}),
			 1);
	assert_int_equal(idx_left_known(x, "/out/z", &gone), 0);
	other.mode = 0600;
	assert_int_equal(idx_left_known(x, "/out/file5", &other), 0);
	other = file;
	other.unknown = true;
	assert_int_equal(idx_left_known(x, "/out/file5", &other), 0);
	put(6, 1); /* the next run leaves another; the first remains known */
	assert_int_equal(idx_left_known(x, "/out/file5", &file), 1);
}

/* What was left without a result being stored. */
static void test_left_add(void **state)
{
	struct left file = {.type = OUT_FILE, .mode = 0644, .size = 3, .fp = fp_n(3)}, gone = {0};
	struct output v[] = {{.path = (char *)"/w/a", .now = file},
			     {.path = (char *)"/w/b", .now = gone},
			     {.path = (char *)"/w/c", .now = file}};

	(void)state;
	v[2].now.unknown = true;
	assert_ok(idx_left_add(x, v, 3, &the_err));
	assert_ok(idx_left_add(x, v, 0, &the_err));
	assert_int_equal(idx_left_known(x, "/w/a", &file), 1);
	assert_int_equal(idx_left_known(x, "/w/b", &file), 0);
	assert_int_equal(idx_left_known(x, "/w/c", &file), 0);
}

/* A result takes the small objects it speaks of with it. */
static void test_objects_with_result(void **state)
{
	struct oid oid;
	int status;
	pid_t pid;

	(void)state;
	idx_close(x);
	pid = fork();
	if (pid == 0) {
		assert_ok(idx_open(cache, false, &x, &the_err));
		assert_ok(store_put_mem(x, "console", 7, &oid, &the_err));
		put(1, 1);
		_exit(0); /* without closing */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_int_equal(oid_of("console", 7, &oid), 0);
	assert_int_equal(store_check(x, &oid, 7), 1);
}

struct seen {
	unsigned n, stop_at;
	bool drop;
};

static int see_result(void *arg, const struct result *r)
{
	struct seen *s = arg;

	if (s->drop)
		assert_ok(idx_result_drop(x, &r->input_key, &the_err));
	return ++s->n == s->stop_at ? 7 : 0;
}

static void test_results(void **state)
{
	struct seen all = {0}, one = {0}, stopped = {.stop_at = 3}, dropped = {.drop = true},
		    after = {0};
	struct fp key = fp_n(17);
	char digits[33];

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		put(i, i % 3);
	hex(key.b, 16, digits);
	assert_ok(idx_results(x, "", see_result, &all, &the_err));
	assert_int_equal(all.n, 50);
	assert_ok(idx_results(x, digits, see_result, &one, &the_err));
	assert_int_equal(one.n, 1);
	digits[9] = '\0';
	digits[0] = (char)(digits[0] >= 'a' ? digits[0] - 32 : digits[0]);
	one.n = 0;
	assert_ok(idx_results(x, digits, see_result, &one, &the_err));
	assert_int_equal(one.n, 1);
	assert_int_equal(idx_results(x, "", see_result, &stopped, &the_err), 7);
	assert_int_equal(stopped.n, 3);
	assert_int_equal(idx_results(x, "xyz", see_result, &one, &the_err), -EINVAL);
	assert_int_equal(idx_results(x, "0123456789abcdef0123456789abcdef0", see_result, &one,
				     &the_err),
			 -EINVAL);
	assert_ok(idx_results(x, "", see_result, &dropped, &the_err));
	assert_int_equal(dropped.n, 50);
	assert_ok(idx_results(x, "", see_result, &after, &the_err));
	assert_int_equal(after.n, 0);
}

static void test_keys(void **state)
{
	struct fp found[60], some[3], key, step;
	char digits[33];
	struct result *r;
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		put(i, i % 3);
	assert_ok(idx_keys(x, IDX_KEY_RESULT, "", found, 60, &n, &the_err));
	assert_int_equal(n, 50);
	for (size_t i = 1; i < n; i++)
		assert_true(memcmp(&found[i - 1], &found[i], sizeof(*found)) < 0);
	assert_ok(idx_keys(x, IDX_KEY_RESULT, "", some, 3, &n, &the_err));
	assert_int_equal(n, 3);
	assert_memory_equal(some, found, sizeof(some));
	hex(&found[20], 16, digits);
	key = found[20];
	assert_ok(idx_keys(x, IDX_KEY_RESULT, digits, some, 3, &n, &the_err));
	assert_int_equal(n, 1);
	assert_true(fp_eq(&some[0], &key));
	digits[8] = '\0';
	assert_ok(idx_keys(x, IDX_KEY_RESULT, digits, some, 3, &n, &the_err));
	assert_int_equal(n, 1);
	/* Of the lists in that table only steps are named: there is one. */
	assert_ok(idx_keys(x, IDX_KEY_STEP, "", found, 60, &n, &the_err));
	assert_int_equal(n, 1);
	step = found[0];
	assert_int_equal(idx_result_get_brief(x, &key, &r, &the_err), 1);
	assert_true(fp_eq(&r->step_key, &step));
	result_free(r);
	digits[0] = (char)(digits[0] == '0' ? '1' : '0');
	assert_ok(idx_keys(x, IDX_KEY_RESULT, digits, some, 3, &n, &the_err));
	assert_int_equal(n, 0);
	assert_int_equal(idx_keys(x, IDX_KEY_RESULT, "3g", some, 3, &n, &the_err), -EINVAL);
}

static void test_read_only(void **state)
{
	struct path_set s = sample_set(1);
	struct result *r = sample_result(5, &s), *got;
	const struct runs_keep keep = {0};
	struct run run = {0};
	auto_free char *runs = in(cache, "index/runs");

	(void)state;
	put(5, 1);
	reopen(true);
	assert_int_equal(idx_result_get(x, &r->input_key, &got, &the_err), 1);
	result_free(got);
	assert_int_equal(idx_result_put(x, r, &s, &the_err), -EROFS);
	assert_int_equal(idx_result_touch(x, r, &the_err), 0);
	assert_int_equal(idx_run_add(x, &run, &keep, &the_err), 0);
	assert_int_equal(access(runs, F_OK), -1);
	assert_int_equal(idx_result_drop(x, &r->input_key, &the_err), -EROFS);
	result_free(r);
	path_set_free(&s);
}

/* ---- locks ---- */

static void on_alarm(int sig)
{
	(void)sig;
}

static void test_lock(void **state)
{
	struct idx_lock *a, *b;
	struct fp key = fp_n(1), other = fp_n(2);
	struct sigaction sa = {.sa_handler = on_alarm};
	auto_free char *locks = in(cache, "lock");
	char **names;
	size_t n;
	int fd;

	(void)state;
	assert_ok(idx_lock(x, &key, true, &a, &the_err));
	assert_int_equal(idx_lock(x, &key, false, &b, &the_err), -EWOULDBLOCK);
	assert_ok(idx_lock(x, &other, false, &b, &the_err));
	idx_unlock(b);
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	assert_int_equal(idx_lock(x, &key, true, &b, &the_err), -EINTR);
	idx_unlock(a);
	assert_ok(idx_lock(x, &key, false, &b, &the_err));
	idx_unlock(b);
	idx_unlock(NULL);
	fd = open(locks, O_RDONLY);
	assert_ok(list_dir(fd, &names, &n));
	assert_int_equal(n, 0);
	strv_free(names, n);
	close(fd);
}

/* Many processes and threads add to a number in a file under the lock, which comes and goes all the
 * time. */
static void *count_up(void *arg)
{
	const char *path = arg;
	struct fp key = fp_n(1);

	for (unsigned i = 0; i < 200; i++) {
		struct idx_lock *l;
		struct err e;
		char text[32] = "";
		int fd;

		while (idx_lock(x, &key, true, &l, &e) < 0)
			continue;
		fd = open(path, O_RDWR | O_CREAT, 0600);
		if (pread(fd, text, sizeof(text) - 1, 0) < 0)
			abort();
		snprintf(text, sizeof(text), "%d", atoi(text) + 1);
		if (pwrite(fd, text, strlen(text), 0) < 0)
			abort();
		close(fd);
		idx_unlock(l);
	}
	return NULL;
}

static void test_lock_contended(void **state)
{
	auto_free char *path = in(dir, "number"), *text = NULL;
	pid_t pids[4];
	size_t n;

	(void)state;
	idx_close(x);
	for (unsigned i = 0; i < 4; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			pthread_t t;

			assert_ok(idx_open(cache, false, &x, &the_err));
			assert_int_equal(pthread_create(&t, NULL, count_up, path), 0);
			count_up(path);
			pthread_join(t, NULL);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < 4; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_ok(read_file(path, &text, &n, &the_err));
	assert_string_equal(text, "1600");
	assert_ok(idx_open(cache, false, &x, &the_err));
}

static void test_lock_of_the_dead(void **state)
{
	struct fp key = fp_n(1);
	struct idx_lock *l;
	int status;
	pid_t pid;

	(void)state;
	idx_close(x);
	pid = fork();
	if (pid == 0) {
		assert_ok(idx_open(cache, false, &x, &the_err));
		_exit(idx_lock(x, &key, true, &l, &the_err) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_ok(idx_lock(x, &key, false, &l, &the_err));
	idx_unlock(l);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_put_get_drop),	  T(test_sets_one_by_one),
		T(test_refuses_nonsense), T(test_order),
		T(test_bounded),	  T(test_left_known),
		T(test_left_add),	  T(test_objects_with_result),
		T(test_results),	  T(test_keys),
		T(test_read_only),	  T(test_lock),
		T(test_lock_contended),	  T(test_lock_of_the_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
