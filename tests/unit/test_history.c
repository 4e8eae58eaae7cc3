/* SPDX-License-Identifier: MIT */
/* test_history.c - the journal of runs: what is added is read, once, whatever becomes of the files meanwhile. */
#include <time.h>

#include "../../index/runs.h"
#include "index_util.h"

static char *dir, *cache;
static const struct runs_keep all_of_it;
static const struct run_filter any;

static void put(struct run *r)
{
	assert_ok(idx_run_note(cache, r, &all_of_it, &the_err));
}

static struct run sample(int64_t n)
{
	static char *argv[] = {(char *)"python3", (char *)"train.py", (char *)"", NULL};

	return (struct run){.started_ns = n,
			    .wall_ns = n * 1000,
			    .saved_ns = n * 7,
			    .name = (char *)(n % 2 ? "odd.py" : "even.py"),
			    .cwd = (char *)"/home/me",
			    .argv = argv,
			    .n_argv = 3,
			    .result = (uint8_t)(n % 3),
			    .stored = n % 5 == 0,
			    .exit_status = n % 7 == 0 ? 3 : 0,
			    .output_bytes = 100,
			    .put_bytes = 50,
			    .new_bytes = 20,
			    .step_key = fp_n((unsigned)n % 10),
			    .input_key = fp_n((unsigned)n + 1000)};
}

static void put_samples(int from, int to)
{
	for (int n = from; n < to; n++) {
		struct run r = sample(n);

		put(&r);
	}
}

/* ---- reading ---- */

struct seen {
	unsigned n, stop_at;
	int64_t first, last, sum;
	struct run *copy; /* of the first */
	struct history *h;
};

static int see(void *arg, const struct run_row *row)
{
	struct seen *s = arg;

	if (!s->n && s->copy)
		assert_int_equal(history_run(s->h, row, s->copy), 0);
	if (!s->n)
		s->first = row->started_ns;
	s->last = row->started_ns;
	s->sum += row->started_ns;
	return ++s->n == s->stop_at ? 5 : 0;
}

static struct seen look(const struct run_filter *f, struct run *ret_first)
{
	struct seen s = {.copy = ret_first};

	assert_ok(history_open(cache, &s.h, &the_err));
	assert_ok(history_each(s.h, f, see, &s, &the_err));
	history_close(s.h);
	return s;
}

static unsigned count(const struct run_filter *f)
{
	return look(f, NULL).n;
}

/* The journal becomes segment n, as when it is long. */
static void close_as(unsigned n)
{
	auto_free char *from = in(cache, "index/runs"), *to = xasprintf("%s.%u", from, n);

	assert_int_equal(rename(from, to), 0);
}

/* ---- one record ---- */

static void test_fields(void **state)
{
	struct run r = sample(3), got;

	(void)state;
	assert_int_equal(count(&any), 0);
	r.reason = (char *)"data/raw.csv changed";
	r.inputs = 4;
	r.outputs = 5;
	put(&r);
	(void)look(&any, &got);
	assert_int_equal(got.started_ns, 3);
	assert_int_equal(got.wall_ns, 3000);
	assert_int_equal(got.saved_ns, 21);
	assert_string_equal(got.name, "odd.py");
	assert_string_equal(got.reason, "data/raw.csv changed");
	assert_string_equal(got.cwd, "/home/me");
	assert_int_equal(got.n_argv, 3);
	assert_int_equal(got.argc, 3);
	assert_string_equal(got.argv[1], "train.py");
	assert_string_equal(got.argv[2], "");
	assert_false(got.argv_cut);
	assert_null(got.command);
	assert_int_equal(got.result, RUN_MISS);
	assert_false(got.stored);
	assert_int_equal(got.exit_status, 0);
	assert_int_equal(got.inputs, 4);
	assert_int_equal(got.outputs, 5);
	assert_int_equal(got.output_bytes, 100);
	assert_int_equal(got.put_bytes, 50);
	assert_int_equal(got.new_bytes, 20);
	assert_true(fp_eq(&got.step_key, &r.step_key) && fp_eq(&got.input_key, &r.input_key));
	run_clear(&got);
}

static void test_odd_fields(void **state)
{
	static char text[6000];
	char *argv[] = {(char *)"cc", text, text, NULL};
	struct run r = {.wall_ns = -1,
			.exit_status = -1,
			.argv = argv,
			.n_argv = 3,
			.started_ns = -5},
		   got;

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	put(&r);
	(void)look(&any, &got);
	assert_int_equal(got.started_ns, -5);
	assert_int_equal(got.wall_ns, -1);
	assert_int_equal(got.exit_status, -1);
	assert_null(got.name);
	assert_null(got.reason);
	assert_null(got.cwd);
	assert_int_equal(got.argc, 3);
	assert_int_equal(got.n_argv, 2);
	assert_true(got.argv_cut);
	assert_true(strlen(got.argv[1]) > 4000 && strlen(got.argv[1]) < 4096);
	run_clear(&got);
}

/* A record of before, as mlfs wrote it then: also in runs.1, which was the older half. */
static void add_v1(const char *name, uint64_t started)
{
	auto_free char *path = in(cache, name);
	auto_buf struct buf p = {0}, b = {0};
	struct fp key = fp_n(9);
	int fd;

	buf_u8(&p, 1);
	buf_u64(&p, started);
	buf_u64(&p, 77);
	buf_u64(&p, 66);
	buf_u8(&p, 1);
	buf_str(&p, "old.sh");
	buf_u8(&p, 0);
	buf_u8(&p, 1);
	buf_str(&p, "sh old.sh");
	buf_u8(&p, 1);
	buf_u8(&p, 0);
	buf_varint(&p, 200);
	buf_add(&p, key.b, 16);
	buf_add(&p, key.b, 16);
	buf_add(&b, "RUN1", 4);
	buf_u32(&b, (uint32_t)p.len);
	buf_u64(&b, xxh64_of(p.data, p.len));
	buf_add(&b, p.data, p.len);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_int_equal(write(fd, b.data, b.len), b.len);
	close(fd);
}

static void test_version_1(void **state)
{
	struct run got;
	struct seen s;

	(void)state;
	add_v1("index/runs.1", 1);
	add_v1("index/runs.1", 2);
	add_v1("index/runs", 3);
	put_samples(4, 5);
	s = look(&any, NULL);
	assert_int_equal(s.n, 4);
	assert_int_equal(s.first, 4);
	assert_int_equal(s.last, 1);
	s = look(&(struct run_filter){.name = "old*", .until_ns = 2}, &got);
	assert_int_equal(s.n, 1);
	assert_int_equal(got.wall_ns, 77);
	assert_int_equal(got.saved_ns, 66);
	assert_int_equal(got.result, RUN_HIT);
	assert_int_equal(got.exit_status, 200);
	assert_string_equal(got.command, "sh old.sh");
	assert_null(got.argv);
	assert_null(got.cwd);
	run_clear(&got);
}

/* ---- filters ---- */

/* Of runs 11 and 77. */
static bool is_one(void *arg, const struct fp *key)
{
	struct fp a = fp_n(1011), b = fp_n(1077);

	++*(unsigned *)arg;
	return fp_eq(key, &a) || fp_eq(key, &b);
}

static void test_filters(void **state)
{
	char hex_key[33];
	struct fp step = fp_n(4), input = fp_n(1010);
	struct seen stopped = {.stop_at = 2};

	(void)state;
	put_samples(0, 40);
	close_as(1);
	put_samples(40, 80);
	close_as(2);
	put_samples(80, 100);
	for (int again = 0; again < 2; again++) { /* as they are made, and as they are kept */
		struct seen s = look(&any, NULL);

		assert_int_equal(s.n, 100);
		assert_int_equal(s.first, 99);
		assert_int_equal(s.last, 0);
		assert_int_equal(count(&(struct run_filter){.name = "odd*"}), 50);
		assert_int_equal(count(&(struct run_filter){.name = "*.sh"}), 0);
		assert_int_equal(count(&(struct run_filter){.results = 1u << RUN_HIT}), 33);
		assert_int_equal(
			count(&(struct run_filter){.results = 1u << RUN_MISS | 1u << RUN_HIT}), 67);
		assert_int_equal(count(&(struct run_filter){.stored = 1}), 20);
		assert_int_equal(count(&(struct run_filter){.stored = -1}), 80);
		assert_int_equal(count(&(struct run_filter){.failed = true}), 15);
		assert_int_equal(count(&(struct run_filter){.since_ns = 41}), 59);
		assert_int_equal(count(&(struct run_filter){.until_ns = 41}), 41);
		assert_int_equal(count(&(struct run_filter){.since_ns = 10, .until_ns = 90}), 80);
		hex(step.b, 16, hex_key);
		assert_int_equal(count(&(struct run_filter){.key = hex_key}), 10);
		hex_key[17] = hex_key[17] == '0' ? '1' : '0'; /* beyond what the rows have */
		assert_int_equal(count(&(struct run_filter){.key = hex_key}), 0);
		hex(input.b, 16, hex_key);
		hex_key[8] = '\0';
		s = look(&(struct run_filter){.key = hex_key}, NULL);
		assert_int_equal(s.n, 1);
		assert_int_equal(s.first, 10);
		hex_key[7] = '\0';
		assert_int_equal(count(&(struct run_filter){.key = hex_key}), 1);
	}
	assert_ok(history_open(cache, &stopped.h, &the_err));
	assert_int_equal(history_each(stopped.h, &any, see, &stopped, &the_err), 5);
	assert_int_equal(stopped.n, 2);
	assert_int_equal(history_each(stopped.h, &(struct run_filter){.key = "12x"}, see, &stopped,
				      &the_err),
			 -EINVAL);
	history_close(stopped.h);
}

static void test_has(void **state)
{
	struct run twice = sample(77), keyless = {.started_ns = 1000};

	(void)state;
	put(&keyless);
	put(&twice);
	put_samples(0, 40);
	close_as(1);
	put_samples(40, 100);
	for (int again = 0; again < 2; again++) {
		unsigned asked = 0;
		struct seen s = look(&(struct run_filter){.has = is_one, .has_arg = &asked}, NULL);

		assert_int_equal(s.n, 3);
		assert_int_equal(s.sum, 11 + 77 + 77);
		assert_int_equal(asked, 100);
	}
}

/* Names and reasons have the same number wherever they stand. */
struct ids {
	struct history *h;
	unsigned name[2], reason[2];
	bool known[2];
};

static int see_ids(void *arg, const struct run_row *row)
{
	struct ids *t = arg;
	int odd = strcmp(row->name, "odd.py") == 0;

	if (t->known[odd]) {
		assert_int_equal(t->name[odd], row->name_id);
		assert_int_equal(t->reason[odd], history_reason_id(t->h, row));
	}
	t->name[odd] = row->name_id;
	t->reason[odd] = history_reason_id(t->h, row);
	t->known[odd] = true;
	return 0;
}

static void test_ids(void **state)
{
	struct ids t = {0};

	(void)state;
	for (int n = 1; n < 60; n++) {
		struct run r = sample(n % 5 == 0 ? n - 1 : n);

		r.reason = (char *)(n % 2 == (n % 5 == 0) ? "x" : "y");
		r.reason = (char *)(strcmp(r.name, "odd.py") == 0 ? "x" : "y");
		put(&r);
		if (n % 20 == 0)
			close_as((unsigned)n / 20);
	}
	assert_ok(history_open(cache, &t.h, &the_err));
	assert_ok(history_each(t.h, &any, see_ids, &t, &the_err));
	history_close(t.h);
	assert_int_equal(t.name[0] + t.name[1], 1);
	assert_int_equal(t.reason[0] + t.reason[1], 1);
}

/* ---- damage ---- */

static void test_torn(void **state)
{
	auto_free char *log = in(cache, "index/runs");
	struct seen s;
	int fd;
	char c;

	(void)state;
	put_samples(1, 21);
	fd = open(log, O_RDWR);
	assert_int_equal(pread(fd, &c, 1, 50), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, 50), 1);
	assert_true(lseek(fd, 0, SEEK_END) > 0);
	assert_int_equal(write(fd, "RUN1\x10\0\0\0RRRR", 12), 12);
	close(fd);
	put_samples(21, 22);
	s = look(&any, NULL);
	assert_int_equal(s.n, 20);
	assert_int_equal(s.first, 21);
	assert_int_equal(s.last, 2);
	close_as(1);
	s = look(&any, NULL);
	assert_int_equal(s.n, 20);
}

/* Whoever had the journal open when it was closed still adds to it. */
static void test_late(void **state)
{
	auto_free char *log = in(cache, "index/runs");
	auto_buf struct buf b = {0};
	struct run r = sample(30);
	struct seen s;
	int fd;

	(void)state;
	put_samples(1, 21);
	fd = open(log, O_WRONLY | O_APPEND);
	close_as(1);
	put_samples(21, 22);
	assert_int_equal(count(&any), 21);
	runs_encode(&r, &b);
	assert_int_equal(write(fd, b.data, 40), 40); /* half of it */
	assert_int_equal(count(&any), 21);
	assert_int_equal(write(fd, b.data + 40, b.len - 40), b.len - 40);
	close(fd);
	s = look(&any, NULL);
	assert_int_equal(s.n, 22);
	assert_int_equal(s.sum, 21 * 22 / 2 + 30);
}

static void test_rows_damaged(void **state)
{
	auto_free char *rows = in(cache, "index/rows.1");
	struct stat st;

	(void)state;
	put_samples(1, 21);
	close_as(1);
	assert_int_equal(count(&any), 20);
	assert_int_equal(stat(rows, &st), 0);
	write_file(rows, "", 0);
	assert_int_equal(count(&any), 20);
	assert_int_equal(stat(rows, &st), 0);
	assert_true(st.st_size > 20 * 64);
	assert_int_equal(truncate(rows, 300), 0);
	assert_int_equal(count(&any), 20);
}

/* Bytes that say they are rows, with a guard that fits, and make no sense: nothing beyond them is touched. */
static void test_rows_nonsense(void **state)
{
	auto_free char *rows = in(cache, "index/rows.1"), *bytes = NULL;
	struct rows_head *h;
	size_t n;

	(void)state;
	put_samples(1, 21);
	close_as(1);
	assert_int_equal(count(&any), 20);
	assert_ok(read_file(rows, &bytes, &n, &the_err));
	h = (struct rows_head *)bytes;
	((struct rows_row *)(h + 1))[3].name = 0x7fffffff;
	((struct rows_row *)(h + 1))[3].at = 0x7fffffff;
	h->guard = xxh64_of(bytes + 16, n - 16);
	write_file(rows, bytes, n);
	assert_int_equal(count(&any), 20);
	assert_int_equal(count(&(struct run_filter){.name = "odd*"}), 10 - 0);
	h->n_texts = 0x7fffffff;
	h->guard = xxh64_of(bytes + 16, n - 16);
	write_file(rows, bytes, n);
	assert_int_equal(count(&any), 20);
}

/* ---- segments ---- */

static char text[4000];

static void add_long(int64_t n)
{
	char *argv[] = {text, NULL};
	struct run r = {.started_ns = n, .cwd = text, .argv = argv, .n_argv = 1};

	memset(text, 'a', sizeof(text) - 1);
	put(&r);
}

static void test_rotate(void **state)
{
	auto_free char *third = in(cache, "index/rows.3");
	struct seen s;
	int n = 0;

	(void)state;
	while (access(third, F_OK) < 0 && n < 10000)
		add_long(++n);
	assert_true(n < 10000);
	add_long(++n);
	s = look(&any, NULL);
	assert_int_equal(s.n, n);
	assert_int_equal(s.first, n);
	assert_int_equal(s.last, 1);
	assert_int_equal(s.sum, (int64_t)n * (n + 1) / 2);
}

static void set_age(const char *name, time_t seconds)
{
	auto_free char *path = in(cache, name);
	struct timespec t[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};

	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static bool there(const char *name)
{
	auto_free char *path = in(cache, name);

	return access(path, F_OK) == 0;
}

static void test_prune(void **state)
{
	const struct runs_keep days = {.age_ns = INT64_C(86400000000000)}, little = {.bytes = 1},
			       fits = {.bytes = 100000};

	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		put_samples((int)n * 10, (int)n * 10 + 10);
		close_as(n);
	}
	put_samples(50, 60);
	assert_int_equal(count(&any), 50);
	set_age("index/runs.1", 90000);
	set_age("index/runs.2", 80000);
	set_age("index/runs.3",
		90000); /* younger ones are older: as a restored backup may have it */
	assert_ok(idx_runs_prune(cache, &fits, &the_err));
	assert_int_equal(count(&any), 50);
	assert_ok(idx_runs_prune(cache, &days, &the_err));
	assert_false(there("index/runs.1") || there("index/rows.1"));
	assert_true(there("index/runs.2") && there("index/rows.2"));
	assert_int_equal(count(&any), 40);
	assert_ok(idx_runs_prune(cache, &little, &the_err));
	assert_int_equal(count(&any), 10); /* the journal itself is left */
	set_age("index/runs", 90000);
	assert_ok(idx_runs_prune(cache, &days, &the_err));
	assert_int_equal(count(&any), 0);
	put_samples(1, 2);
	assert_int_equal(count(&any), 1);
}

/* By the one who closes a segment. */
static void test_prune_in_passing(void **state)
{
	const struct runs_keep keep = {.bytes = 6 << 20};
	char *argv[] = {text, NULL};
	struct run r = {.argv = argv, .n_argv = 1};

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	for (r.started_ns = 0; !there("index/runs.4") && r.started_ns < 10000; r.started_ns++)
		assert_ok(idx_run_note(cache, &r, &keep, &the_err));
	assert_true(there("index/runs.4") && there("index/rows.4"));
	assert_false(there("index/runs.3") || there("index/rows.3"));
}

/* Rows that were left alone are not those of a later segment. */
static void test_number_taken(void **state)
{
	auto_free char *first = in(cache, "index/runs.1");
	int n = 0;

	(void)state;
	put_samples(1, 21);
	close_as(1);
	assert_int_equal(count(&any), 20);
	assert_int_equal(unlink(first), 0);
	assert_int_equal(count(&any), 0);
	while (!there("index/runs.2") && n < 10000)
		add_long(++n);
	assert_false(there("index/runs.1") || there("index/rows.1"));
	assert_int_equal(count(&any), n);
}

/* ---- at once ---- */

enum { WRITERS = 4, EACH = 600 };

static void write_many(int64_t id)
{
	for (int64_t n = 0; n < EACH; n++)
		add_long(id * EACH + n);
	_exit(0);
}

static int see_once(void *arg, const struct run_row *row)
{
	uint8_t *seen = arg;

	if (seen[row->started_ns]++)
		fail_msg("run %d is there twice", (int)row->started_ns);
	return 0;
}

static unsigned read_once(void)
{
	auto_free uint8_t *seen = xcalloc(WRITERS * EACH, 1);
	struct history *h;
	unsigned n = 0;

	assert_ok(history_open(cache, &h, &the_err));
	assert_ok(history_each(h, &any, see_once, seen, &the_err));
	history_close(h);
	for (size_t i = 0; i < WRITERS * EACH; i++)
		n += seen[i];
	return n;
}

static void test_at_once(void **state)
{
	unsigned before = 0, looks = 0;
	int status, left = WRITERS;

	(void)state;
	for (int i = 0; i < WRITERS; i++)
		if (fork() == 0)
			write_many(i);
	while (left) {
		unsigned n = read_once();

		assert_true(n >= before); /* what was there is there */
		before = n;
		looks++;
		while (left && waitpid(-1, &status, WNOHANG) > 0) {
			assert_int_equal(status, 0);
			left--;
		}
	}
	assert_int_equal(read_once(), WRITERS * EACH);
	assert_true(there("index/runs.2"));
	print_message("%u looks\n", looks);
}

/* ---- where there is no cache ---- */

static void test_no_cache(void **state)
{
	auto_free char *other = in(dir, "other"), *index = in(other, "index"),
		       *runs = in(index, "runs"), *version = in(other, "version");
	struct run r = sample(1);
	struct history *h;

	(void)state;
	assert_int_equal(idx_run_note(other, &r, &all_of_it, &the_err), -ENOENT);
	assert_int_equal(history_open(other, &h, &the_err), -ENOENT);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(mkdir(index, 0700), 0);
	assert_int_equal(idx_run_note(other, &r, &all_of_it, &the_err), -ENOENT);
	write_file(version, "mlfs cache 999\n", 15);
	assert_int_equal(idx_run_note(other, &r, &all_of_it, &the_err), -ENOTSUP);
	assert_int_equal(history_open(other, &h, &the_err), -ENOTSUP);
	assert_int_equal(access(runs, F_OK), -1);
}

static int setup(void **state)
{
	struct idx *x;

	(void)state;
	dir = scratch_new();
	cache = in(dir, "cache");
	assert_ok(idx_open(cache, false, &x, &the_err));
	idx_close(x);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cache);
	scratch_free(dir);
	return 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_fields),
		T(test_odd_fields),
		T(test_version_1),
		T(test_filters),
		T(test_has),
		T(test_ids),
		T(test_torn),
		T(test_late),
		T(test_rows_damaged),
		T(test_rows_nonsense),
		T(test_rotate),
		T(test_prune),
		T(test_prune_in_passing),
		T(test_number_taken),
		T(test_at_once),
		T(test_no_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
