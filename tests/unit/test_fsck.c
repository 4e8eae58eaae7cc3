/* SPDX-License-Identifier: MIT */
/*
 * test_fsck.c - a bit is flipped in each file of a small cache, byte after byte. Either fsck finds it, or nothing
 * reads otherwise than before; what is read meanwhile is right or not there; and a repaired cache is clean, works, and has
 * lost nothing but what was damaged.
 *
 * MLFS_FLIP_STRIDE=1 tries every byte (minutes); without it every 701st, and every one of the short files. MLFS_FLIP_AT begins
 * there, and says what is found. MLFS_FLIP_TELL=1 names each byte that fsck says nothing about;
 * MLFS_FLIP_ONLY=test_data runs no other test.
 */
#include <sys/mman.h>

#include "index_util.h"
#include "tick.h"

#define N_RESULTS 24
#define N_DIGESTS 40
#define BIG	  9000

static char *top, *cache; /* cache: what is damaged; top/good: as it was made */
static struct oid small_oid[N_RESULTS], big_oid[N_RESULTS];
static struct stat digest_of[N_DIGESTS];
static const struct fp step = {{7, 7, 7}};

/* ---- the cache ---- */

static void object_bytes(unsigned n, bool big, uint8_t *to)
{
	fill_random(to, big ? BIG : 100 + n, n + (big ? 1000 : 0));
}

static struct result *result_of(unsigned n, const struct path_set *s)
{
	struct result *r = sample_result(n, s);

	r->step_key = step;
	r->stdin_kind = STDIN_UNUSED;
	r->stdin_len = 0;
	r->stored_ns = 1000 + n;
	r->console_oid = small_oid[n];
	r->console_len = 100 + n;
	r->chunks[0] = (struct console_chunk){1, 50};
	r->chunks[1] = (struct console_chunk){2, 50 + n};
	r->outputs[1].now.size = BIG;
	r->outputs[1].oid = big_oid[n];
	for (size_t i = 0; i < r->n_states; i++)
		buf_free(&r->states[i]);
	free(r->states);
	r->n_states = s->n;
	r->states = xcalloc(s->n, sizeof(*r->states));
	for (size_t i = 0; i < s->n; i++)
		buf_u32(&r->states[i], n + (unsigned)i);
	return r;
}

static int no_run(void *arg, const struct run_row *r)
{
	(void)arg;
	(void)r;
	return 0;
}

/* As when it has become long. Reading makes its rows. */
static void close_runs(void)
{
	auto_free char *from = in(cache, "index/runs"), *to = in(cache, "index/runs.1"),
		       *rows = in(cache, "index/rows.1");
	const struct run_filter every = {0};
	struct history *h;

	assert_int_equal(rename(from, to), 0);
	assert_ok(history_open(cache, &h, &the_err));
	assert_ok(history_each(h, &every, no_run, NULL, &the_err));
	history_close(h);
	assert_int_equal(access(rows, F_OK), 0);
}

/* A result that was dropped: its objects are still there, in the list of what is to be removed. */
static void put_and_drop(struct idx *x)
{
	struct path_set s = sample_set(N_RESULTS);
	struct result *r = result_of(0, &s);
	uint8_t b[BIG];

	r->input_key = fp_n(999);
	object_bytes(500, true, b);
	assert_ok(store_put_mem(x, b, r->console_len, &r->console_oid, &the_err));
	assert_ok(store_put_mem(x, b, BIG, &r->outputs[1].oid, &the_err));
	assert_ok(idx_result_put(x, r, &s, &the_err));
	assert_ok(idx_result_drop(x, &r->input_key, &the_err));
	result_free(r);
	path_set_free(&s);
}

static void fill(struct idx *x)
{
	static char *const names[] = {(char *)"da", (char *)"fb"};
	const struct runs_keep keep = {0};

	for (unsigned n = 0; n < N_RESULTS; n++) {
		struct path_set s = sample_set(n);
		uint8_t b[BIG];
		struct run run = {.name = (char *)"r", .wall_ns = n, .step_key = step};
		struct stamp stamp = {.world = fp_n(n)};
		struct fp key = fp_n(n + 5000);
		struct result *r;

		object_bytes(n, false, b);
		assert_ok(store_put_mem(x, b, 100 + n, &small_oid[n], &the_err));
		object_bytes(n, true, b);
		assert_ok(store_put_mem(x, b, BIG, &big_oid[n], &the_err));
		r = result_of(n, &s);
		buf_str(&r->description, "sh -c x");
		r->listings = xcalloc(1, sizeof(*r->listings));
		assert_true(names_make(names, 2, NULL, 0, &r->listings[0]));
		r->n_listings = 1;
		assert_ok(idx_result_put(x, r, &s, &the_err));
		assert_ok(idx_run_add(x, &run, &keep, &the_err));
		assert_ok(idx_stamp_put(x, &key, &stamp, &the_err));
		if (n == N_RESULTS / 2)
			close_runs();
		if (n >= N_RESULTS - 3) /* not taken up by a later result */
			assert_ok(idx_result_touch(x, r, &the_err));
		result_free(r);
		path_set_free(&s);
		if (n == 3)
			put_and_drop(x);
	}
	for (unsigned n = 0; n < N_DIGESTS; n++) {
		struct idx_digest d = {.fp = fp_n(n + 300), .hashed_at = INT64_C(9000000000000)};

		d.st = (struct stat){
			.st_dev = 5, .st_ino = 100 + n, .st_mode = S_IFREG, .st_size = n};
		digest_of[n] = d.st;
		assert_ok(idx_digest_put(x, &d, 1, &the_err));
	}
}

/* ---- what is in it ---- */

struct reading {
	unsigned right, missing, wrong;
};

static void count(struct reading *r, bool found, bool right)
{
	if (!found)
		r->missing++;
	else if (right)
		r->right++;
	else
		r->wrong++;
}

static void read_object(struct idx *x, const struct oid *o, unsigned n, bool big,
			struct reading *ret)
{
	uint8_t want[BIG];
	size_t size = big ? BIG : 100 + n, got = 0;
	auto_free void *p = NULL;
	struct err e;
	int r = store_get_mem(x, o, &p, &got, &e);

	object_bytes(n, big, want);
	count(ret, r >= 0, r >= 0 && got == size && memcmp(p, want, size) == 0);
}

static void read_result(struct idx *x, unsigned n, struct reading *ret)
{
	struct path_set s = sample_set(n);
	struct result *want = result_of(n, &s), *got = NULL;
	auto_buf struct buf a = {0}, b = {0};
	struct err e;
	int r = idx_result_get(x, &want->input_key, &got, &e);

	result_encode(want, &a);
	if (r > 0)
		result_encode(got, &b);
	count(ret, r > 0, a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	if (r > 0)
		result_free(got);
	count(ret, idx_left_known(x, want->outputs[1].path, &want->outputs[1].now) > 0, true);
	want->outputs[1].now.size++;
	ret->wrong += idx_left_known(x, want->outputs[1].path, &want->outputs[1].now) > 0;
	result_free(want);
	path_set_free(&s);
}

static void read_sets(struct idx *x, struct reading *ret)
{
	struct path_set_list l = {0};
	struct err e;
	unsigned seen = 0;

	if (idx_path_sets(x, &step, &l, &e) < 0)
		l = (struct path_set_list){0};
	for (size_t i = 0; i < l.n; i++) {
		auto_buf struct buf b = {0};
		struct fp id;

		path_set_encode(&l.sets[i], &b);
		id = fp_of(b.data, b.len);
		count(ret, true, fp_eq(&id, &l.ids[i]));
		seen++;
	}
	ret->missing += N_RESULTS - seen;
	path_set_list_free(&l);
}

static int count_run(void *arg, const struct run_row *r)
{
	struct reading *ret = arg;

	count(ret, true, r->wall_ns >= 0 && r->wall_ns < N_RESULTS && strcmp(r->name, "r") == 0);
	return 0;
}

static void read_runs(struct reading *ret)
{
	const struct run_filter all = {0};
	struct history *h;

	assert_ok(history_open(cache, &h, &the_err));
	assert_ok(history_each(h, &all, count_run, ret, &the_err));
	history_close(h);
}

static struct reading read_all(struct idx *x)
{
	struct reading ret = {0};
	unsigned before;
	struct fp fp;

	for (unsigned n = 0; n < N_RESULTS; n++) {
		struct fp key = fp_n(n + 5000), want = fp_n(n);
		struct stamp stamp;
		bool found = idx_stamp_get(x, &key, &stamp) > 0;

		count(&ret, found, found && fp_eq(&stamp.world, &want));
		read_result(x, n, &ret);
		read_object(x, &small_oid[n], n, false, &ret);
		read_object(x, &big_oid[n], n, true, &ret);
	}
	for (unsigned n = 0; n < N_DIGESTS; n++) {
		struct fp want = fp_n(n + 300);
		bool found = idx_digest_get(x, &digest_of[n], &fp) > 0;

		count(&ret, found, found && fp_eq(&fp, &want));
	}
	read_sets(x, &ret);
	before = ret.right + ret.wrong;
	read_runs(&ret);
	ret.missing += N_RESULTS - (ret.right + ret.wrong - before);
	return ret;
}

/* ---- damage ---- */

static void copy_tree(const char *from, const char *to)
{
	auto_free char *command = xasprintf("rm -rf %s && cp -a %s %s", to, from, to);

	assert_int_equal(system(command), 0);
}

static void flip(const char *name, off_t at, unsigned bit)
{
	auto_free char *path = in(cache, name);
	int fd;
	uint8_t b;

	(void)chmod(path, 0600);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= (uint8_t)(1u << bit);
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* Said when a test fails. */
static const char *last_name = "";
static off_t last_at;
static char told[4096];

static void tell(void *arg, const struct fsck_found *f)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s %s: %s%s\n", f->what, f->name, f->detail,
		 f->mended ? "; mended" : "");
}

static unsigned threads = 1;

static uint64_t broken(bool repair, uint64_t *ret_unmended)
{
	uint64_t n = 0;
	struct fsck_options o = {.repair = repair, .threads = threads, .found = tell};
	struct fsck_counts c;
	int r = (told[0] = 0, idx_fsck(cache, &o, &c, &the_err));

	if (r < 0)
		print_error("fsck: %s (%s byte %lld)\n", the_err.msg, last_name,
			    (long long)last_at);
	assert_ok(r);
	n = c.broken;
	if (ret_unmended)
		*ret_unmended = c.broken + c.left_over - c.mended;
	return n;
}

static void use(void)
{
	struct path_set s = sample_set(77);
	struct result *r = result_of(3, &s), *got;
	uint8_t b[BIG];
	struct idx *x;

	r->input_key = fp_n(777777);
	assert_ok(idx_open(cache, false, &x, &the_err));
	object_bytes(3, false, b);
	assert_ok(store_put_mem(x, b, 103, NULL, &the_err));
	object_bytes(3, true, b);
	assert_ok(store_put_mem(x, b, BIG, NULL, &the_err));
	assert_ok(idx_result_put(x, r, &s, &the_err));
	assert_int_equal(idx_result_get(x, &r->input_key, &got, &the_err), 1);
	result_free(got);
	idx_close(x);
	result_free(r);
	path_set_free(&s);
}

/* All there is, whole. */
static unsigned all;

static void try_flip(const char *name, off_t at, unsigned bit, bool must_find, bool with_repair)
{
	struct reading r = {0};
	struct idx *x = NULL;
	uint64_t n, unmended;
	struct err e;

	flip(name, at, bit);
	if (idx_open(cache, true, &x, &e) == -ENOTSUP) {
		assert_string_equal(name, "version");
		return; /* it says that a newer mlfs made it */
	}
	idx_close(x);
	n = broken(false, NULL);
	if (must_find && !n)
		fail_msg("%s, byte %lld: not found", name, (long long)at);
	if (getenv("MLFS_FLIP_AT"))
		print_message("%s", told);
	if (!n && getenv("MLFS_FLIP_TELL"))
		print_message("unfound %s %lld %u\n", name, (long long)at, bit);
	if (idx_open(cache, true, &x, &e) == 0) {
		r = read_all(x);
		idx_close(x);
		assert_int_equal(r.wrong, 0);
		if (!n)
			assert_int_equal(r.right, all);
	} else {
		assert_true(n > 0);
	}
	if (with_repair) {
		/* What was looked at may have been dropped already. */
		(void)broken(true, &unmended);
		if (getenv("MLFS_FLIP_AT"))
			print_message("repair:\n%s", told);
		if (unmended)
			print_error("%s", told);
		assert_int_equal(unmended, 0);
		if (broken(false, NULL))
			print_error("%s", told);
		assert_int_equal(broken(false, NULL), 0);
		use();
		if (broken(false, NULL))
			print_error("%s", told);
		assert_int_equal(broken(false, NULL), 0);
		assert_ok(idx_open(cache, false, &x, &the_err));
		r = read_all(x);
		idx_close(x);
		assert_int_equal(r.wrong, 0);
		if (strncmp(name, "cas/", 4) == 0)
			assert_true(r.right >= all - 3);
	}
}

static off_t size_of(const char *name)
{
	auto_free char *path = in(cache, name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* Bytes from, from + stride, ... of a file. */
static void flip_file(const char *name, off_t from, off_t size, bool must_find)
{
	const char *given = getenv("MLFS_FLIP_STRIDE"), *first = getenv("MLFS_FLIP_AT");
	off_t stride = given ? atoi(given) : size - from > 4096 ? 701 : 1;
	auto_free char *good = in(top, "good");
	unsigned tried = 0;

	for (off_t at = first ? atoi(first) : from; at < size; at += stride) {
		bool with_repair = tried++ % (stride == 1 && size > 100000 ? 64 : 8) == 0;
		unsigned bit = (unsigned)((at / stride) % 8);

		last_name = name;
		last_at = at;
		try_flip(name, at, bit, must_find, with_repair);
		if (with_repair)
			copy_tree(good, cache);
		else
			flip(name, at, bit);
	}
	print_message("%s: %u bytes\n", name, tried);
}

static void test_data(void **state)
{
	(void)state;
	flip_file("index/data.mdb", 0, size_of("index/data.mdb"), false);
}

/* The names of the tables: then there is another one, and the one that is meant is missing. */
static void test_table_names(void **state)
{
	auto_free char *path = in(cache, "index/data.mdb"), *data = NULL;
	size_t n;
	unsigned found = 0;

	(void)state;
	assert_ok(read_file(path, &data, &n, &the_err));
	for (const char *p = data; (p = memmem(p, (size_t)(data + n - p), "path-set", 8)); p += 8) {
		flip("index/data.mdb", p - data + 3, 0);
		found += broken(false, NULL) > 0;
		flip("index/data.mdb", p - data + 3, 0);
	}
	assert_int_equal(found, 1); /* elsewhere the page is free */
}

/* The flags that LMDB's pages have in memory only: one found on disk would have it write to a page that is only mapped to be
 * read, or not write it at all. */
static void test_page_flags(void **state)
{
	static const unsigned bits[] = {4, 14, 15}; /* P_DIRTY, P_LOOSE, P_KEEP */
	off_t size = size_of("index/data.mdb");

	(void)state;
	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++) {
		unsigned found = 0;

		for (off_t page = 2 * 4096; page < size; page += 4096) {
			off_t at = page + 10 + bits[i] / 8;

			flip("index/data.mdb", at, bits[i] % 8);
			found += broken(false, NULL) > 0;
			flip("index/data.mdb", at, bits[i] % 8);
		}
		assert_true(found > 10); /* the other pages are free */
	}
}

/* The number of a meta page's transaction says which of both is the last. Whichever bit of it is another, fsck says so; that
 * which makes the last the one before the last looks as if it could not be written, and index/checked knows better. */
static void read_numbers(uint64_t ret[2])
{
	auto_free char *path = in(cache, "index/data.mdb"), *data = NULL;
	size_t n;

	assert_ok(read_file(path, &data, &n, &the_err));
	for (size_t i = 0; i < 2; i++)
		memcpy(&ret[i], data + i * 4096 + 144, sizeof(ret[i]));
}

static void test_transaction(void **state)
{
	auto_free char *good = in(top, "good");
	unsigned unfound[2] = {0, 0}; /* in the page of the last; of the one before */
	uint64_t number[2];

	(void)state;
	/* Until a bit would make the one before the last the one after it. */
	do {
		use(); /* which leaves index/checked for this copy of the file */
		read_numbers(number);
	} while ((number[0] < number[1] ? number[0] : number[1]) & 2);
	for (size_t i = 0; i < 2; i++)
		for (off_t at = (off_t)i * 4096 + 144; at < (off_t)i * 4096 + 152; at++)
			for (unsigned bit = 0; bit < 8; bit++) {
				flip("index/data.mdb", at, bit);
				unfound[number[i] < number[!i]] += broken(false, NULL) == 0;
				flip("index/data.mdb", at, bit);
			}
	assert_int_equal(unfound[1], 0);
	assert_int_equal(unfound[0], 0);
	copy_tree(good, cache);
}

/* Several threads find what one finds, each thing once. */
static void test_threads(void **state)
{
	off_t size = size_of("index/data.mdb");
	unsigned records = 0;

	(void)state;
	/* In the middle of pages: values, or keys. */
	for (off_t at = 2 * 4096 + 3000; at < size; at += 4096 / 2 + 13) {
		char first[sizeof(told)];
		uint64_t one, four;

		flip("index/data.mdb", at, 1);
		one = broken(false, NULL);
		memcpy(first, told, sizeof(first));
		threads = 4;
		four = broken(false, NULL);
		threads = 1;
		assert_int_equal(one, four);
		assert_string_equal(first, told);
		records += strstr(told, "it is damaged") || strstr(told, "not found by its key");
		flip("index/data.mdb", at, 1);
	}
	assert_true(records > 5);
}

static void test_object(void **state)
{
	char digits[65], name[80];

	(void)state;
	hex(big_oid[5].b, 32, digits);
	snprintf(name, sizeof(name), "cas/%.2s/%s", digits, digits + 2);
	flip_file(name, 0, BIG, true);
}

static void test_small_files(void **state)
{
	static const char *const names[] = {"version", "index/checked", "index/uses"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		flip_file(names[i], 0, size_of(names[i]), true);
	flip_file("index/runs", 0, size_of("index/runs") / 8, true);
	flip_file("index/runs.1", 0, size_of("index/runs.1") / 8, true);
}

/* Who reads damaged rows makes them anew. */
static void test_rows(void **state)
{
	auto_free char *runs = in(cache, "index/runs.1"), *good = in(top, "good");
	uint64_t unmended;

	(void)state;
	for (off_t at = 0; at < size_of("index/rows.1"); at += 13) {
		struct reading r = {0};

		flip("index/rows.1", at, (unsigned)at % 8);
		if (!broken(false, NULL))
			fail_msg("index/rows.1, byte %lld: not found", (long long)at);
		read_runs(&r);
		assert_int_equal(r.right, N_RESULTS);
		assert_int_equal(r.wrong, 0);
		assert_int_equal(broken(false, NULL), 0);
	}
	flip("index/rows.1", 70, 1);
	assert_true(broken(true, &unmended));
	assert_int_equal(unmended, 0);
	assert_int_equal(broken(false, NULL), 0);
	read_runs(&(struct reading){0});
	assert_int_equal(unlink(runs), 0);
	assert_int_equal(broken(true, &unmended), 0); /* rows without runs are left over */
	assert_int_equal(unmended, 0);
	assert_int_equal(broken(true, NULL), 0);
	copy_tree(good, cache);
}

static void test_stamps(void **state)
{
	auto_free char *path = in(cache, "index/stamps");
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = lseek(fd, 0, SEEK_DATA);
	uint8_t b[128], zeros[128] = {0};

	(void)state;
	while (pread(fd, b, sizeof(b), at) == sizeof(b) && memcmp(b, zeros, sizeof(b)) == 0)
		at += (off_t)sizeof(b);
	flip_file("index/stamps", at, at + 128, true);
}

/* Whoever opens the cache first makes the lock file anew. */
static void test_lock_file(void **state)
{
	(void)state;
	flip_file("index/lock.mdb", 0, size_of("index/lock.mdb"), false);
}

static unsigned read_silently(void)
{
	struct reading r = {0};
	struct idx *x;
	struct err e;

	if (idx_open(cache, true, &x, &e) == 0) {
		r = read_all(x);
		idx_close(x);
	}
	return r.wrong;
}

/* As the front of a step: whatever comes of it, this process lives. True: an error was told. */
static bool write_apart(void)
{
	struct idx_digest d = {.st = {.st_dev = 5, .st_ino = 1, .st_mode = S_IFREG}};
	struct fp key = fp_n(2);
	struct idx *x;
	struct err e;
	bool failed;

	if (idx_open_for_job(cache, true, &x, &e) < 0)
		return true;
	failed = idx_result_drop(x, &key, &e) < 0;
	failed |= idx_digest_put(x, &d, 1, &e) < 0;
	idx_close(x);
	return failed;
}

static void put_back(const char *name, const void *p, size_t n)
{
	auto_free char *path = in(cache, name);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, p, n), n);
}

/* data.mdb has these bytes, and the times at which index/checked vouched for it. */
static void put_silently(const char *path, const void *p, size_t n, const struct timespec times[2])
{
	put_back("index/data.mdb", p, n);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void flip_silently(off_t at, unsigned bit, char *data, size_t n, const char *path,
			  const struct timespec times[2], unsigned *ret_met)
{
	auto_free char *checked_path = in(cache, "index/checked"), *checked = NULL;
	size_t n_checked;
	int status;
	pid_t pid;

	assert_ok(read_file(checked_path, &checked, &n_checked, &the_err));
	data[at] ^= (char)(1u << bit);
	put_silently(path, data, n, times);
	pid = fork();
	if (pid == 0) {
		unsigned wrong = read_silently();

		put_back("index/checked", checked, n_checked);
		_exit(wrong ? 2 : write_apart());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status && (!WIFEXITED(status) || WEXITSTATUS(status) != 1))
		fail_msg("byte %lld bit %u: status %x", (long long)at, bit, (unsigned)status);
	*ret_met += status != 0;
	data[at] ^= (char)(1u << bit);
	put_silently(path, data, n, times);
	put_back("index/checked", checked, n_checked);
}

/* What wears away on a disk moves no time: then nothing is walked on opening, and LMDB believes what it finds. */
static void test_silent(void **state)
{
	const char *given = getenv("MLFS_FLIP_STRIDE");
	off_t stride = given ? atoi(given) : 701;
	auto_free char *path = in(cache, "index/data.mdb"), *data = NULL;
	struct timespec times[2];
	unsigned met = 0;
	struct stat st;
	size_t n;

	(void)state;
	use(); /* index/checked vouches for this copy */
	assert_int_equal(stat(path, &st), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_ok(read_file(path, &data, &n, &the_err));
	for (off_t at = 0; at < (off_t)n; at += stride)
		flip_silently(at, (unsigned)((at / stride) % 8), data, n, path, times, &met);
	/* What LMDB goes by: the headers of all pages, and a flag that makes it write where it must not. */
	for (off_t page = 2 * 4096; page < (off_t)n; page += 4096) {
		for (off_t at = 8; at < 16; at++)
			flip_silently(page + at, (unsigned)(page / 4096 + at) % 8, data, n, path,
				      times, &met);
		flip_silently(page + 10, 4, data, n, path, times, &met);
	}
	assert_true(met > 10);
}

static int setup(void **state)
{
	auto_free char *good = NULL;
	struct reading r;
	struct idx *x;

	(void)state;
	top = scratch_new();
	good = in(top, "good");
	cache = in(top, "cache");
	assert_ok(idx_open(cache, false, &x, &the_err));
	fill(x);
	r = read_all(x);
	idx_close(x);
	all = r.right;
	assert_int_equal(r.wrong + r.missing, 0);
	assert_int_equal(broken(false, NULL), 0);
	copy_tree(cache, good);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	print_message("last: %s byte %lld\n", last_name, (long long)last_at);
	free(cache);
	scratch_free(top);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),	    cmocka_unit_test(test_table_names),
		cmocka_unit_test(test_page_flags),  cmocka_unit_test(test_transaction),
		cmocka_unit_test(test_threads),	    cmocka_unit_test(test_object),
		cmocka_unit_test(test_small_files), cmocka_unit_test(test_stamps),
		cmocka_unit_test(test_lock_file),   cmocka_unit_test(test_silent),
		cmocka_unit_test(test_rows),
	};

	char *memory = private_mount("tmpfs"); /* nothing has to reach a disk */
	int r;

	if (!memory || setenv("TEST_DIR", memory, 1) < 0) {
		print_error("cannot mount tmpfs: %s\n", strerror(errno));
		return 1;
	}
	if (getenv("MLFS_FLIP_ONLY"))
		cmocka_set_test_filter(getenv("MLFS_FLIP_ONLY"));
	r = cmocka_run_group_tests(tests, setup, teardown);
	tick_unmount(memory);
	return r;
}
