/* SPDX-License-Identifier: MIT */
/* test_gc.c - results that go, what goes with them and what stays, beside others who use the cache. */
#include "../../index/refs.h"
#include "index_cache.h"

enum { BIG = 9000, SMALL = 300 };

static void bytes_of(unsigned n, uint8_t *to)
{
	fill_random(to, BIG, n + 77);
}

/* What explains result n: the listing of /usr/bin, which the tens have in common, and the step. */
static void explain(struct result *r, unsigned n)
{
	auto_free char *name = xasprintf("f%u", n / 10);
	char *list[] = {name};
	const struct facts facts = {
		.present = true, .mode = S_IFDIR | 0755, .list = list, .n_list = 1};

	r->listings = xcalloc(1, sizeof(*r->listings));
	assert_true(names_make(list, 1, NULL, 0, &r->listings[0]));
	r->n_listings = 1;
	r->states[1].len = 0;
	state_of_facts(OBS_LIST, &facts, NULL, 0, &r->states[1]);
	buf_str(&r->description, "step");
}

/*
 * Result n: path set n % 5 of step n / 100, console and one file that is its own, and one file that it has together with
 * the others of its tens. used: seconds.
 */
static int try_put(struct idx *in_, unsigned n, int64_t used)
{
	struct path_set s = sample_set(n % 5);
	struct result *r = sample_result(n, &s);
	uint8_t own[BIG], shared[BIG];
	int k;

	bytes_of(n, own);
	bytes_of(100000 + n / 10, shared);
	r->stored_ns = used * 1000000000;
	r->stdin_kind = STDIN_UNUSED;
	r->stdin_len = 0;
	assert_ok(store_put_mem(in_, own, r->console_len, &r->console_oid, &the_err));
	r->outputs[1].now.size = BIG;
	assert_ok(store_put_mem(in_, own, BIG, &r->outputs[1].oid, &the_err));
	left_free(&r->outputs[2].now);
	r->outputs[2].now = (struct left){.type = OUT_FILE, .mode = 0600, .size = BIG};
	assert_ok(store_put_mem(in_, shared, BIG, &r->outputs[2].oid, &the_err));
	explain(r, n);
	k = idx_result_put(in_, r, &s, &the_err);
	result_free(r);
	path_set_free(&s);
	return k;
}

static void put(unsigned n, int64_t used)
{
	assert_ok(try_put(x, n, used));
}

static bool has(unsigned n)
{
	struct fp key = fp_n(n);
	struct result *r;
	int k = idx_result_get(x, &key, &r, &the_err);

	assert_true(k >= 0);
	if (k)
		result_free(r);
	return k;
}

/* All objects of result n are there and whole. */
static bool whole(unsigned n)
{
	uint8_t own[BIG], shared[BIG];
	struct oid a, b, c;

	bytes_of(n, own);
	bytes_of(100000 + n / 10, shared);
	assert_int_equal(oid_of(own, 7, &a), 0);
	assert_int_equal(oid_of(own, BIG, &b), 0);
	assert_int_equal(oid_of(shared, BIG, &c), 0);
	return store_check(x, &a, 7) == 1 && store_check(x, &b, BIG) == 1 &&
	       store_check(x, &c, BIG) == 1;
}

static struct idx_gc_counts gc(uint64_t max_size, int64_t max_age_s)
{
	struct idx_gc_options o = {.max_size = max_size,
				   .max_age_ns = max_age_s < 0 ? -1 : max_age_s * 1000000000,
				   .all = true};
	struct idx_gc_counts n;

	assert_ok(idx_gc(x, &o, &n, &the_err));
	return n;
}

static void print_found(void *arg, const struct fsck_found *f)
{
	(void)arg;
	print_message("fsck: %s %s: %s\n", f->what, f->name, f->detail);
}

/* What fsck says is broken; and what is left over. */
static uint64_t fsck(uint64_t *ret_left_over)
{
	struct fsck_options o = {.found = print_found};
	struct fsck_counts n;

	idx_close(x); /* a process has a cache open but once */
	assert_ok(idx_fsck(cache, &o, &n, &the_err));
	assert_ok(idx_open(cache, false, &x, &the_err));
	if (ret_left_over)
		*ret_left_over = n.left_over;
	return n.broken;
}

static uint64_t records(enum tab tab)
{
	uint64_t n, bytes;
	struct kv_txn *t;

	assert_ok(kv_begin(x->kv, &t, &the_err));
	assert_ok(kv_size(t, tab, &n, &bytes, &the_err));
	kv_end(x->kv);
	return n;
}

static unsigned n_files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)path;
	(void)st;
	(void)f;
	n_files += type == FTW_F;
	return 0;
}

static unsigned files_in(const char *name)
{
	auto_free char *path = in(cache, name);

	n_files = 0;
	(void)nftw(path, count_file, 16, FTW_PHYS);
	return n_files;
}

static struct idx_size size_now(void)
{
	struct idx_size s;

	assert_ok(idx_size(x, &s, &the_err));
	return s;
}

/* ---- what goes ---- */

static void test_everything_goes(void **state)
{
	struct idx_gc_counts n;

	(void)state;
	for (unsigned i = 0; i < 25; i++)
		put(i, 1000 + i);
	assert_int_equal(files_in("cas"), 25 + 3);
	assert_int_equal(records(TAB_NOTE), 3 + 1 + 5); /* listings, a step, path sets */
	assert_int_equal(size_now().results, 25);
	assert_true(size_now().bytes > 28 * BIG);
	assert_int_equal(fsck(NULL), 0);
	n = gc(0, -1);
	assert_int_equal(n.results, 25);
	assert_int_equal(n.after, 0);
	assert_int_equal(n.waiting, 0);
	assert_int_equal(n.objects, 25 + 25 + 3);
	assert_int_equal(n.freed, 28 * BIG + 25 * 7);
	assert_int_equal(files_in("cas"), 0);
	assert_int_equal(files_in("tmp"), 0);
	for (int tab = 0; tab < TAB_COUNT; tab++)
		if (tab != TAB_LEFT && tab != TAB_TALLY)
			assert_int_equal(records((enum tab)tab), 0);
	assert_int_equal(size_now().bytes, 0);
	assert_int_equal(fsck(NULL), 0);
	put(3, 1);
	assert_true(has(3) && whole(3));
}

static void test_oldest_go(void **state)
{
	uint64_t limit;
	struct idx_gc_counts n;
	struct fp key = fp_n(2);
	struct result *r;

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		put(i, 1000 + i);
	assert_int_equal(idx_result_get(x, &key, &r, &the_err), 1);
	assert_ok(idx_result_touch(x, r, &the_err)); /* in the journal only */
	result_free(r);
	limit = size_now().bytes / 2;
	n = gc(limit, -1);
	assert_true(n.after <= limit && n.after > limit - 3 * BIG);
	assert_true(has(2) && whole(2) && !has(0) && !has(1) && !has(3) && has(19) && whole(19));
	for (unsigned i = 4; i < 19; i++)
		assert_true(!has(i) || has(i + 1));
	assert_int_equal(fsck(NULL), 0);
	n = gc(limit, -1);
	assert_int_equal(n.results, 0);
	/* By age: all but the one just used. */
	n = gc(IDX_NO_LIMIT, 3600);
	assert_int_equal(size_now().results, 1);
	assert_true(has(2) && whole(2));
	assert_int_equal(fsck(NULL), 0);
}

static void test_shared_stay(void **state)
{
	struct fp key = fp_n(0);

	(void)state;
	put(0, 1);
	put(1, 2);
	assert_ok(idx_result_drop(x, &key, &the_err));
	assert_true(size_now().doomed_bytes >= BIG);
	(void)gc(IDX_NO_LIMIT, -1);
	assert_int_equal(size_now().doomed_bytes, 0);
	assert_true(!has(0) && has(1) && whole(1) && !whole(0));
	assert_int_equal(files_in("cas"), 2);
	assert_int_equal(records(TAB_STEP), 3); /* its path sets, its results, its name */
	assert_int_equal(fsck(NULL), 0);
}

static void count_gone(void *arg, const struct idx_gc_gone *g)
{
	assert_string_equal(g->name, "train");
	*(uint64_t *)arg += g->bytes;
}

static void test_dry_run(void **state)
{
	uint64_t told = 0, before;
	struct idx_gc_options o = {
		.max_age_ns = -1, .all = true, .dry_run = true, .gone = count_gone, .arg = &told};
	struct idx_gc_counts n;

	(void)state;
	for (unsigned i = 0; i < 12; i++)
		put(i, 1000 + i);
	before = size_now().bytes;
	assert_ok(idx_gc(x, &o, &n, &the_err));
	assert_int_equal(n.results, 12);
	assert_int_equal(n.bytes, before);
	assert_int_equal(told, before);
	assert_int_equal(n.after, 0);
	assert_int_equal(size_now().bytes, before);
	for (unsigned i = 0; i < 12; i++)
		assert_true(has(i) && whole(i));
	assert_int_equal(fsck(NULL), 0);
}

/* A result that takes the place of another gives back what only that one had. */
static void test_replaced(void **state)
{
	uint64_t size;

	(void)state;
	put(1, 5);
	size = size_now().bytes;
	put(1, 6);
	assert_int_equal(size_now().bytes, size);
	assert_int_equal(size_now().doomed_bytes, 0);
	assert_int_equal(records(TAB_LRU), 1);
	assert_int_equal(fsck(NULL), 0);
}

/* ---- beside others ---- */

/* A process that has read from the cache and still has it open, until told to end. */
static pid_t reader_start(int *ret_go)
{
	int ready[2], go[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		struct fp key = fp_n(1);
		struct result *r;
		struct idx *own;

		close(go[1]);
		if (idx_open(cache, false, &own, &the_err) < 0 ||
		    idx_result_get(own, &key, &r, &the_err) != 1 || write(ready[1], "r", 1) != 1)
			_exit(1);
		(void)!read(go[0], &c, 1); /* its end */
		/* As a hit that has looked, and now reads its objects. */
		if (store_check(own, &r->outputs[1].oid, BIG) != 1 ||
		    store_check(own, &r->console_oid, r->console_len) != 1)
			_exit(2);
		_exit(0); /* as if killed: its slot stays until somebody looks */
	}
	close(go[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	*ret_go = go[1];
	return pid;
}

static void test_hit_in_progress(void **state)
{
	struct idx_gc_counts n;
	int go, status;
	pid_t pid;

	(void)state;
	put(1, 5);
	idx_close(x);
	assert_ok(idx_open(cache, false, &x, &the_err));
	pid = reader_start(&go);
	n = gc(0, -1);
	assert_int_equal(n.results, 1);
	assert_int_equal(n.objects, 0);
	assert_true(n.waiting > BIG);
	assert_false(has(1)); /* for everybody else it is a miss at once */
	close(go);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	n = gc(0, -1);
	assert_int_equal(n.objects, 3);
	assert_int_equal(n.waiting, 0);
	assert_int_equal(files_in("cas"), 0);
}

/* Results that somebody has locked stay, be there more of them than fit into a transaction; what comes after them goes. */
static void test_locked(void **state)
{
	enum { LOCKED = 70, ALL = 75 };
	struct idx_gc_options o = {.max_age_ns = -1, .all = true, .locked_too = true};
	struct idx_lock *locks[LOCKED];
	struct idx_gc_counts n;

	(void)state;
	for (unsigned i = 0; i < ALL; i++)
		put(i, 1 + i);
	for (unsigned i = 0; i < LOCKED; i++) {
		struct fp key = fp_n(i);

		assert_ok(idx_lock(x, &key, false, &locks[i], &the_err));
	}
	n = gc(0, -1);
	assert_int_equal(n.results, ALL - LOCKED);
	for (unsigned i = 0; i < ALL; i++)
		assert_int_equal(has(i), i < LOCKED);
	idx_unlock(locks[3]);
	n = gc(IDX_NO_LIMIT, 0);
	assert_int_equal(n.results, 1);
	assert_false(has(3));
	assert_ok(idx_gc(x, &o, &n, &the_err));
	assert_int_equal(n.results, LOCKED - 1);
	for (unsigned i = 0; i < LOCKED; i++)
		if (i != 3)
			idx_unlock(locks[i]);
	assert_int_equal(fsck(NULL), 0);
}

/* Objects were put; before their result comes they are dropped. */
static void test_store_in_progress(void **state)
{
	struct fp key = fp_n(1);

	(void)state;
	put(1, 5);
	assert_ok(idx_result_drop(x, &key, &the_err));
	/* Found there by the store, which so has them again. */
	put(1, 6);
	assert_int_equal(size_now().doomed_bytes, 0);
	(void)gc(IDX_NO_LIMIT, -1);
	assert_true(has(1) && whole(1));
	/* Gone between the two: nothing is stored that could not be replayed. */
	assert_ok(idx_result_drop(x, &key, &the_err));
	{
		struct path_set s = sample_set(1);
		struct result *r = sample_result(1, &s);

		sample_objects(x, r, 1);
		r->outputs[1].now.size = BIG;
		fill_random(&r->outputs[1].oid, sizeof(r->outputs[1].oid), 5);
		assert_int_equal(idx_result_put(x, r, &s, &the_err), -ESTALE);
		assert_false(has(1));
		result_free(r);
		path_set_free(&s);
	}
	(void)gc(IDX_NO_LIMIT, -1);
	assert_int_equal(fsck(NULL), 0);
}

/* What was read of a file that was stdin is no object: the step key has the file. */
static void test_stdin_was_a_file(void **state)
{
	struct path_set s = sample_set(1);
	struct result *r = sample_result(1, &s);

	(void)state;
	sample_objects(x, r, 1);
	memset(&r->stdin_oid, 0, sizeof(r->stdin_oid));
	assert_ok(idx_result_put(x, r, &s, &the_err));
	assert_int_equal(fsck(NULL), 0);
	result_free(r);
	path_set_free(&s);
	(void)gc(0, -1);
	assert_int_equal(records(TAB_REF) + records(TAB_OBJECT) + records(TAB_DOOMED), 0);
	assert_int_equal(fsck(NULL), 0);
}

/* The age of an object that was copied while the step wrote it counts from its end: gc spares the young. */
static void test_copied_early(void **state)
{
	const struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	auto_free char *path = in(dir, "written");
	auto_close int fd = -1;
	uint8_t bytes[BIG];
	struct early *copy;
	struct oid oid;
	struct fp fp;
	uint64_t size;
	char temp[300];
	struct dirent *de;
	DIR *d;
	int r;

	(void)state;
	bytes_of(3, bytes);
	write_file(path, bytes, BIG);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = early_begin(x, fd, &copy, &the_err);
	if (r == -EOPNOTSUPP)
		return; /* blocks are shared here: nothing is copied early */
	assert_ok(r);
	assert_int_equal(early_take_in(copy, BIG, BIG), 0);
	(void)snprintf(temp, sizeof(temp), "%s/tmp", cache);
	d = opendir(temp);
	while ((de = readdir(d)))
		if (de->d_name[0] != '.')
			assert_int_equal(utimensat(dirfd(d), de->d_name, long_ago, 0), 0);
	closedir(d);
	assert_ok(early_finish(copy, &oid, &fp, &size, &the_err));
	early_free(copy);
	(void)gc(IDX_NO_LIMIT, -1);
	assert_int_equal(store_check(x, &oid, BIG), 1);
}

/* Processes that store, drop, look and collect at once. What is found is whole; in the end all is counted right. */
static int storm(unsigned seed)
{
	struct idx_gc_options o = {.max_age_ns = -1};
	struct idx_gc_counts n;

	if (idx_open(cache, false, &x, &the_err) < 0)
		return 1;
	for (unsigned i = 0; i < 150; i++) {
		uint64_t dice;
		struct result *r;
		struct fp key;

		fill_random(&dice, sizeof(dice), seed * 1000 + i);
		key = fp_n((unsigned)(dice >> 8) % 30);
		o.max_size = (dice >> 16) % (40 * BIG);
		o.budget_ns = dice & 64 ? 1 : 0;
		switch (dice % 4) {
		case 0:
		case 1:
			if (try_put(x, (unsigned)(dice >> 8) % 30, (int64_t)i) < 0 &&
			    the_err.code != ESTALE)
				return 2;
			break;
		case 2:
			if (idx_gc(x, &o, &n, &the_err) < 0)
				return 3;
			break;
		default:
			if (idx_result_get(x, &key, &r, &the_err) != 1)
				break;
			/* We have read from the cache, so what is found stays; only what others dropped long ago does not. */
			if (store_check(x, &r->outputs[1].oid, BIG) != 1)
				return 4;
			result_free(r);
		}
	}
	idx_close(x);
	return 0;
}

static void test_storm(void **state)
{
	enum { N = 4 };
	uint64_t left_over;
	pid_t pids[N];
	int status;

	(void)state;
	idx_close(x);
	for (unsigned i = 0; i < N; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(storm(i + 1));
	}
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		if (status)
			print_message("process %u: status %x\n", i, (unsigned)status);
		assert_int_equal(status, 0);
	}
	assert_ok(idx_open(cache, false, &x, &the_err));
	assert_int_equal(fsck(NULL), 0);
	for (unsigned i = 0; i < 30; i++)
		assert_true(!has(i) || whole(i));
	(void)gc(0, -1);
	assert_int_equal(fsck(&left_over), 0);
	assert_int_equal(size_now().bytes, 0);
	assert_int_equal(files_in("cas"), 0);
}

/* ---- by itself, after a store ---- */

static void test_past_limit(void **state)
{
	uint64_t limit = 20 * BIG, most = 0;

	(void)state;
	for (unsigned i = 0; i < 120; i++) {
		put(i, 1000 + i);
		assert_ok(idx_gc_past_limit(x, limit, -1, &the_err));
		if (size_now().bytes > most)
			most = size_now().bytes;
		assert_true(has(i) && whole(i)); /* the one just stored */
	}
	assert_true(most <= limit && most > limit * 8 / 10);
	assert_true(files_in("cas") <= 21);
	assert_int_equal(fsck(NULL), 0);
	assert_ok(idx_gc_past_limit(x, IDX_NO_LIMIT, 0, &the_err));
	assert_int_equal(size_now().results, 0);
	assert_int_equal(files_in("cas"), 0);
}

/* Bounded work at a time: each run ends early, and the next goes on. */
static void test_budget(void **state)
{
	struct idx_gc_options o = {.max_age_ns = -1, .budget_ns = 1};
	struct idx_gc_counts n;
	unsigned runs = 0;

	(void)state;
	for (unsigned i = 0; i < 200; i++)
		put(i, 1000 + i);
	do {
		assert_ok(idx_gc(x, &o, &n, &the_err));
		assert_true(n.results <= 64);
		runs++;
	} while (size_now().bytes || size_now().doomed_bytes);
	assert_true(runs >= 4);
	assert_int_equal(fsck(NULL), 0);
}

/* Objects of a process that was killed before its result was there. */
static void test_leftovers(void **state)
{
	uint8_t bytes[BIG];
	struct oid big, small;
	char digits[65];
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	auto_free char *path = NULL;

	(void)state;
	put(1, 5);
	bytes_of(4711, bytes);
	assert_ok(store_put_mem(x, bytes, BIG, &big, &the_err));
	assert_ok(store_put_mem(x, bytes, SMALL, &small, &the_err));
	assert_ok(store_flush(x, &the_err));
	(void)gc(IDX_NO_LIMIT, -1);
	assert_int_equal(store_check(x, &big, BIG), 1); /* too young */
	assert_int_equal(store_check(x, &small, SMALL), 0);
	hex(big.b, 32, digits);
	path = xasprintf("%s/cas/%.2s/%s", cache, digits, digits + 2);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	(void)gc(IDX_NO_LIMIT, -1);
	assert_int_equal(access(path, F_OK), -1);
	assert_true(has(1) && whole(1));
	assert_int_equal(fsck(NULL), 0);
}

static void test_tables_bounded(void **state)
{
	enum { N = 20000 };
	struct idx_gc_options o = {
		.max_size = IDX_NO_LIMIT, .max_age_ns = -1, .all = true, .table_bytes = 400000};
	struct idx_digest *d = xcalloc(N, sizeof(*d));
	struct idx_gc_counts n;
	struct fp fp;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		d[i].st.st_mode = S_IFREG;
		d[i].st.st_ino = i;
		d[i].fp = fp_n(i);
		/* Half of them were hashed a year and a half ago. */
		d[i].hashed_at = now_ns() - (i % 2 ? INT64_C(540) * 86400 * 1000000000 : 0);
	}
	assert_ok(idx_digest_put(x, d, N, &the_err));
	assert_int_equal(records(TAB_DIGEST), N);
	o.table_bytes = 0;
	assert_ok(idx_gc(x, &o, &n, &the_err)); /* within bounds: the old ones go */
	assert_int_equal(n.digests, N / 2);
	assert_int_equal(idx_digest_get(x, &d[0].st, &fp), 1);
	assert_int_equal(idx_digest_get(x, &d[1].st, &fp), 0);
	o.table_bytes = 400000;
	assert_ok(idx_gc(x, &o, &n, &the_err));
	assert_true(records(TAB_DIGEST) > 1000 && records(TAB_DIGEST) < N / 2 * 8 / 10);
	free(d);
}

static void test_shrink(void **state)
{
	struct idx_gc_counts n;

	(void)state;
	{
		struct idx_gc_options o = {.max_size = 0, .max_age_ns = -1, .all = true};

		for (unsigned i = 0; i < 6000; i++) {
			uint8_t bytes[4096];

			fill_random(bytes, sizeof(bytes), i);
			assert_ok(store_put_mem(x, bytes, sizeof(bytes), NULL, &the_err));
		}
		assert_ok(store_flush(x, &the_err));
		put(1, 5);
		o.max_size = IDX_NO_LIMIT;
		assert_ok(idx_gc(x, &o, &n, &the_err));
	}
	assert_true(n.index_before > 24 << 20);
	assert_true(n.index_after < 1 << 20);
	assert_true(has(1) && whole(1));
	put(2, 6);
	assert_int_equal(fsck(NULL), 0);
}

/* ---- numbers that are wrong ---- */

static int spoil_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct tally y;
	int r = tally_load(t, &y, e);

	(void)arg;
	y.object_bytes += 5;
	return r < 0 ? r : tally_save(t, &y, e);
}

static int forget_refs_in(void *arg, struct kv_txn *t, struct err *e)
{
	(void)arg;
	return kv_clear(t, TAB_REF, e);
}

static int forget_order_in(void *arg, struct kv_txn *t, struct err *e)
{
	(void)arg;
	return kv_clear(t, TAB_LRU, e);
}

static void test_fsck_mends(void **state)
{
	static int (*const spoil[])(void *arg, struct kv_txn *t,
				    struct err *e) = {spoil_in, forget_refs_in, forget_order_in};
	struct fsck_options o = {.repair = true};
	struct fsck_counts n;

	(void)state;
	for (unsigned i = 0; i < 12; i++)
		put(i, 1000 + i);
	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		struct idx_size was = size_now();

		assert_ok(kv_write(x->kv, spoil[i], NULL, &the_err));
		assert_int_equal(fsck(NULL), 1);
		idx_close(x);
		assert_ok(idx_fsck(cache, &o, &n, &the_err));
		assert_int_equal(n.broken, 1);
		assert_int_equal(n.mended, 1);
		assert_ok(idx_open(cache, false, &x, &the_err));
		assert_int_equal(fsck(NULL), 0);
		assert_int_equal(size_now().bytes, was.bytes);
		assert_int_equal(records(TAB_LRU), 12);
	}
	(void)gc(0, -1);
	assert_int_equal(files_in("cas"), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_everything_goes),
		T(test_oldest_go),
		T(test_shared_stay),
		T(test_dry_run),
		T(test_replaced),
		T(test_hit_in_progress),
		T(test_locked),
		T(test_store_in_progress),
		T(test_stdin_was_a_file),
		T(test_copied_early),
		T(test_storm),
		T(test_past_limit),
		T(test_budget),
		T(test_leftovers),
		T(test_tables_bounded),
		T(test_shrink),
		T(test_fsck_mends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
