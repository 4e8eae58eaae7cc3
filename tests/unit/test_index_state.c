/* SPDX-License-Identifier: MIT */
/* test_index_state.c - states of paths, listings, extended attributes, remembered digests. */
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#include "index_util.h"
#include "tick.h"

#include "index_cache.h" /* tick.h has a `dir` of its own */

static char *tick_dir;

/* The state of dir/name now; caller frees. */
static struct buf now_of(const char *name, unsigned kinds, char *const *excluded, size_t n)
{
	auto_free char *path = in(dir, name);
	struct buf b = {0};
	struct stat st;
	int r = lstat(path, &st) < 0 ? errno : 0;

	assert_ok(state_of(x, path, kinds, r ? NULL : &st, r, NULL, excluded, n, &b));
	return b;
}

static bool same(struct buf a, struct buf b)
{
	bool eq = a.len == b.len && memcmp(a.data, b.data, a.len) == 0;

	buf_free(&a);
	buf_free(&b);
	return eq;
}

static void make(const char *name, const char *text)
{
	auto_free char *path = in(dir, name);

	write_file(path, text, strlen(text));
}

static void set_mtime(const char *name, time_t t)
{
	auto_free char *path = in(dir, name);
	struct timespec ts[2] = {{.tv_sec = t}, {.tv_sec = t}};

	assert_int_equal(utimensat(AT_FDCWD, path, ts, AT_SYMLINK_NOFOLLOW), 0);
}

static void set_mode(const char *name, mode_t mode)
{
	auto_free char *path = in(dir, name);

	assert_int_equal(chmod(path, mode), 0);
}

/* Does the change made by `change` show in the state for these kinds? */
static bool shows(const char *name, unsigned kinds, void (*change)(const char *name))
{
	struct buf before = now_of(name, kinds, NULL, 0);

	change(name);
	return !same(before, now_of(name, kinds, NULL, 0));
}

static void to_time_2(const char *name)
{
	set_mtime(name, 2000000000 + (time_t)(mono_ns() % 1000000));
}

static void to_mode_0600(const char *name)
{
	set_mode(name, 0600);
}

static void to_mode_0755(const char *name)
{
	set_mode(name, 0755);
}

static void to_text(const char *name)
{
	make(name, "other!"); /* as long as what was there */
	set_mtime(name, 1000);
}

static void to_nothing(const char *name)
{
	auto_free char *path = in(dir, name);

	assert_int_equal(remove(path), 0);
}

static void test_file_kinds(void **state)
{
	(void)state;
	make("f", "text 1");
	set_mtime("f", 1000);
	set_mode("f", 0644);
	assert_false(shows("f", OBS_EXISTS, to_time_2));
	assert_true(shows("f", OBS_ATTR, to_time_2));
	assert_false(shows("f", OBS_CONTENT, to_time_2));
	assert_false(shows("f", OBS_CONTENT | OBS_ATTR, to_time_2));
	assert_false(shows("f", OBS_EXISTS, to_mode_0600));
	assert_true(shows("f", OBS_CONTENT, to_mode_0755));
	assert_true(shows("f", OBS_ATTR, to_mode_0600));
	set_mtime("f", 1000);
	assert_false(shows("f", OBS_ATTR, to_text));
	make("f", "text 1");
	assert_true(shows("f", OBS_CONTENT, to_text));
	make("f", "text 1");
	assert_true(shows("f", OBS_CONTENT | OBS_ATTR, to_text));
	make("f", "text 1");
	assert_false(shows("f", OBS_EXISTS | OBS_LIST | OBS_LINK, to_text));
	assert_true(shows("f", OBS_ABSENT, to_nothing));
	make("empty", "");
	assert_false(shows("empty", OBS_ATTR, to_time_2)); /* its attributes are its content */
	assert_true(shows("empty", OBS_ATTR, to_mode_0755));
	assert_true(shows("empty", OBS_ATTR, to_text));
}

static void test_types_differ(void **state)
{
	static const unsigned kinds[] = {OBS_EXISTS, OBS_ATTR, OBS_CONTENT,
					 OBS_LINK,   OBS_LIST, OBS_ABSENT};
	static const char *const names[] = {"none", "f", "d", "l", "p"};
	auto_free char *d = in(dir, "d"), *l = in(dir, "l"), *p = in(dir, "p");

	(void)state;
	make("f", "x");
	assert_int_equal(mkdir(d, 0755), 0);
	assert_int_equal(symlink("f", l), 0);
	assert_int_equal(mkfifo(p, 0644), 0);
	for (size_t k = 0; k < 6; k++)
		for (size_t i = 0; i < 5; i++)
			for (size_t j = 0; j < i; j++)
				assert_false(same(now_of(names[i], kinds[k], NULL, 0),
						  now_of(names[j], kinds[k], NULL, 0)));
	assert_false(shows("d", OBS_ATTR, to_time_2));
	assert_false(shows("d", OBS_CONTENT, to_time_2));
	assert_true(shows("d", OBS_ATTR, to_mode_0600));
	assert_false(shows("l", OBS_ATTR | OBS_LINK, to_time_2));
	assert_true(shows("p", OBS_ATTR, to_mode_0600));
}

static void relink(const char *name)
{
	auto_free char *path = in(dir, name);

	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("g", path), 0);
}

static void test_links(void **state)
{
	auto_free char *l = in(dir, "l"), *through = in(dir, "f/x");
	struct buf a = {0}, b = {0};

	(void)state;
	assert_int_equal(symlink("f", l), 0);
	assert_false(shows("l", OBS_ATTR, relink));
	assert_int_equal(unlink(l), 0);
	assert_int_equal(symlink("f", l), 0);
	assert_true(shows("l", OBS_LINK, relink));
	/* below a file there is nothing, as where there is nothing; another error is a state of its
	 * own */
	make("f", "x");
	assert_ok(state_of(x, through, OBS_ABSENT, NULL, ENOTDIR, NULL, NULL, 0, &a));
	assert_ok(state_of(x, through, OBS_ABSENT, NULL, EACCES, NULL, NULL, 0, &b));
	assert_true(same(a, now_of("nothing", OBS_CONTENT, NULL, 0)));
	assert_false(same(b, now_of("nothing", OBS_CONTENT, NULL, 0)));
}

static void test_listing(void **state)
{
	char *none[] = {(char *)"aa", (char *)"b", (char *)"zz"};
	auto_free char *d = in(dir, "d"), *sub = in(dir, "d/c");
	struct buf empty, two, with_b;

	(void)state;
	assert_int_equal(mkdir(d, 0755), 0);
	empty = now_of("d", OBS_LIST, NULL, 0);
	make("d/a", "1");
	make("d/c", "2");
	two = now_of("d", OBS_LIST, NULL, 0);
	assert_false(same(empty, now_of("d", OBS_LIST, NULL, 0)));
	make("d/a", "changed");
	make("d/b", "3");
	with_b = now_of("d", OBS_LIST, NULL, 0);
	assert_true(same(two, now_of("d", OBS_LIST, none, 3)));
	/* another type under the same name */
	assert_int_equal(unlink(sub), 0);
	assert_int_equal(mkdir(sub, 0755), 0);
	assert_false(same(with_b, now_of("d", OBS_LIST, NULL, 0)));
	assert_true(shows("d", OBS_LIST, to_mode_0600));
}

/* What the trace gathered encodes to the same bytes as what is found. */
static void test_facts_agree(void **state)
{
	static const unsigned all[] = {OBS_ABSENT, OBS_EXISTS, OBS_ATTR, OBS_CONTENT,
				       OBS_LINK,   OBS_LIST,   OBS_XATTR};
	static const char *const names[] = {"none", "f", "empty", "d", "l", "p", "n"};
	auto_free char *d = in(dir, "d"), *l = in(dir, "l"), *p = in(dir, "p"),
		       *node = in(dir, "n");
	char *excluded[] = {(char *)"y"};

	(void)state;
	make("f", "contents");
	make("empty", "");
	assert_int_equal(mkdir(d, 0750), 0);
	make("d/x", "");
	make("d/y", "");
	assert_int_equal(symlink("target", l), 0);
	assert_int_equal(mkfifo(p, 0600), 0);
	if (mknod(node, S_IFCHR | 0600, makedev(1, 3)) < 0)
		make("n", "not root");
	for (size_t i = 0; i < 7; i++) {
		auto_free char *path = in(dir, names[i]);
		struct facts f = {0};
		struct stat st;
		struct fp fp;
		int fd;

		if (lstat(path, &st) == 0) {
			f = (struct facts){.present = true,
					   .mode = st.st_mode,
					   .uid = st.st_uid,
					   .gid = st.st_gid,
					   .size = (uint64_t)st.st_size,
					   .mtime_ns = st.st_mtim.tv_sec * 1000000000L +
						       st.st_mtim.tv_nsec,
					   .target = "target",
					   .rdev = st.st_rdev};
			if (S_ISREG(st.st_mode)) {
				assert_ok(idx_digest_file(x, path, &st, &fp));
				f.digest = fp;
			}
			if (S_ISDIR(st.st_mode)) {
				fd = open(path, O_RDONLY);
				assert_ok(list_dir(fd, (char ***)&f.list, &f.n_list));
				close(fd);
				assert_int_equal(f.n_list, 2);
				assert_string_equal(f.list[0], "fx");
			}
		}
		for (unsigned mask = 1; mask < 1u << 7; mask++) {
			struct buf b = {0};
			unsigned kinds = 0;

			for (unsigned k = 0; k < 7; k++)
				kinds |= mask & 1u << k ? all[k] : 0;
			state_of_facts(kinds, &f, excluded, 1, &b);
			assert_true(same(b, now_of(names[i], kinds, excluded, 1)));
		}
		strv_free((char **)f.list, f.n_list);
	}
}

static void test_xattrs(void **state)
{
	auto_free char *f = in(dir, "f"), *g = in(dir, "g");
	auto_buf struct buf none = {0}, two = {0}, copy = {0}, by_fd = {0};
	struct buf plain;
	char value[16];
	int fd, path_fd;

	(void)state;
	make("f", "x");
	make("g", "x");
	if (setxattr(f, "user.b", "2", 1, 0) < 0) {
		print_message("skipped: no extended attributes in %s\n", dir);
		skip();
	}
	plain = now_of("g", OBS_XATTR | OBS_CONTENT, NULL, 0);
	assert_false(same(plain, now_of("f", OBS_XATTR | OBS_CONTENT, NULL, 0)));
	assert_ok(xattr_blob(g, -1, &none));
	assert_int_equal(none.len, 0);
	assert_int_equal(setxattr(f, "user.a", "", 0, 0), 0);
	assert_ok(xattr_blob(f, -1, &two));
	assert_int_equal(setxattr(g, "user.other", "x", 1, 0), 0);
	assert_int_equal(setxattr(g, "user.b", "wrong", 5, 0), 0);
	fd = open(g, O_RDWR);
	assert_ok(xattr_apply(g, fd, two.data, two.len, &the_err));
	assert_ok(xattr_blob(g, -1, &copy));
	assert_int_equal(copy.len, two.len);
	assert_memory_equal(copy.data, two.data, two.len);
	assert_int_equal(getxattr(g, "user.b", value, sizeof(value)), 1);
	path_fd = open(g, O_PATH);
	assert_ok(xattr_blob(NULL, path_fd, &by_fd));
	assert_int_equal(by_fd.len, two.len);
	assert_int_equal(xattr_apply(g, -1, "\x05lies", 5, &the_err), -EBADMSG);
	assert_ok(xattr_apply(g, -1, NULL, 0, &the_err));
	copy.len = 0;
	assert_ok(xattr_blob(g, -1, &copy));
	assert_int_equal(copy.len, 0);
	assert_int_equal(xattr_blob("/nonexistent/x", -1, &copy), -ENOENT);
	close(fd);
	close(path_fd);
}

/* ---- digests ---- */

static struct idx_digest digest_of(const char *name, int64_t hashed_after)
{
	auto_free char *path = in(dir, name);
	struct idx_digest d = {.fp = fp_n(1)};

	assert_int_equal(lstat(path, &d.st), 0);
	d.hashed_at = d.st.st_ctim.tv_sec * 1000000000L + d.st.st_ctim.tv_nsec + hashed_after;
	return d;
}

static void wait_ns(int64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	(void)nanosleep(&t, NULL);
}

static void test_racy(void **state)
{
	struct idx_digest d;
	struct fp fp;

	(void)state;
	make("f", "x");
	set_mtime("f", 1000);
	d = digest_of("f", 0);
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 0);
	d = digest_of("f", 15000000);
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 0);
	d.st.st_ctim.tv_nsec = 0; /* a coarse clock */
	d.hashed_at = d.st.st_ctim.tv_sec * 1000000000L + 1900000000;
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 0);
	d.hashed_at += 100000000;
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
	/* A time in the future says nothing; a change in the future does. */
	d.st.st_mtim.tv_sec = d.st.st_ctim.tv_sec + 10;
	d.fp = fp_n(2);
	d.hashed_at += INT64_C(2000000000);
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), idx_times_settled(x, &d.st, d.hashed_at));
	d.st.st_ctim.tv_sec += 100;
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 0);
}

/* While a job runs none is written; then all, though they are more than one transaction takes. */
static void test_digests_many(void **state)
{
	enum { N = 20000 };
	struct idx_digest d;
	struct fp fp;

	(void)state;
	make("f", "x");
	d = digest_of("f", INT64_C(3000000000));
	idx_close(x);
	assert_ok(idx_open_for_job(cache, false, &x, &the_err));
	for (unsigned i = 0; i < N; i++) {
		d.st.st_ino = i + 1;
		d.fp = fp_n(i);
		idx_digest_add(x, &d);
	}
	idx_release(x);
	assert_ok(idx_digest_put(x, NULL, 0, &the_err));
	idx_close(x);
	assert_ok(idx_open(cache, true, &x, &the_err));
	for (unsigned i = 0; i < N; i++) {
		d.st.st_ino = i + 1;
		assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
		d.fp = fp_n(i);
		assert_true(fp_eq(&fp, &d.fp));
	}
}

static struct stat times(int64_t mtime, int64_t ctime)
{
	return (struct stat){.st_mtim = {mtime / 1000000000, mtime % 1000000000},
			     .st_ctim = {ctime / 1000000000, ctime % 1000000000}};
}

/* By what is known of a type of file system. */
static void test_settled(void **state)
{
	static const int64_t ms = 1000000, s = 1000 * ms, at = 1000 * s;
	static const char *const fine[] = {"ext4", "xfs", "btrfs", "tmpfs", "zfs"};
	static const char *const coarse[] = {"ext3", "ext2", "nfs4", "fuse.sshfs", "overlay", ""};
	static const char *const none[] = {"vfat", "msdos", "exfat"};
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++) {
		st = times(at - 21 * ms, at - 21 * ms);
		assert_true(idx_times_settled_on(fine[i], &st, at));
		st = times(at - 10 * s, at - 10 * ms); /* the mtime was set back */
		assert_false(idx_times_settled_on(fine[i], &st, at));
		st = times(at + 10 * s, at - 21 * ms); /* ... or forward */
		assert_true(idx_times_settled_on(fine[i], &st, at));
		st = times(at - s, at - s); /* whole seconds only, it seems */
		assert_false(idx_times_settled_on(fine[i], &st, at));
		st = times(at - 2 * s, at - 2 * s);
		assert_true(idx_times_settled_on(fine[i], &st, at));
		st = times(at - 10 * s, at + 10 * s); /* the clock was set back */
		assert_false(idx_times_settled_on(fine[i], &st, at));
	}
	for (size_t i = 0; i < sizeof(coarse) / sizeof(*coarse); i++) {
		st = times(at - 1900 * ms, at - 10 * s);
		assert_false(idx_times_settled_on(coarse[i], &st, at));
		st = times(at - 10 * s, at - 1900 * ms);
		assert_false(idx_times_settled_on(coarse[i], &st, at));
		st = times(at - 2 * s, at - 2 * s);
		assert_true(idx_times_settled_on(coarse[i], &st, at));
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		st = times(s, s);
		assert_false(idx_times_settled_on(none[i], &st, at));
	}
}

/* Two writes that leave the same times: the digest asked for is that of the bytes, each time. */
static void test_equal_times(void **state)
{
	auto_free char *path = in(tick_dir, "f");
	struct fp a = fp_of("A", 1), b = fp_of("B", 1), fp;
	int equal = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		struct stat first, second;

		write_file(path, "A", 1);
		assert_int_equal(lstat(path, &first), 0);
		assert_ok(idx_digest_file(x, path, &first, &fp));
		assert_true(fp_eq(&fp, &a));
		assert_int_equal(tick_poke(path, "B"), 0);
		assert_int_equal(lstat(path, &second), 0);
		equal += tick_same(&first, &second);
		assert_ok(idx_digest_file(x, path, &second, &fp));
		assert_true(fp_eq(&fp, &b));
	}
	print_message("%d of 200 pairs had the same times\n", equal);
	assert_true(equal > 0);
}

static void test_writers(void **state)
{
	auto_free char *f = in(dir, "f");
	struct stat st, after;
	struct fp fp, want;
	char *map;
	int fd;

	(void)state;
	make("f", "A");
	set_mtime("f", 1000);
	fd = open(f, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	map[0] = 'A';
	wait_ns(30000000); /* until its times would be trusted */
	assert_int_equal(lstat(f, &st), 0);
	assert_true(idx_times_settled_on("ext4", &st, now_ns()));
	assert_int_equal(idx_digest_file(x, f, &st, &fp), 1);
	map[0] = 'B';
	assert_int_equal(lstat(f, &after), 0);
	assert_true(tick_same(&st, &after)); /* else this is no test */
	assert_int_equal(idx_digest_file(x, f, &st, &fp), 1);
	want = fp_of("B", 1);
	assert_true(fp_eq(&fp, &want));
	munmap(map, 1);
	assert_int_equal(idx_digest_file(x, f, &st, &fp), 0);
}

static void test_digest_keys(void **state)
{
	struct idx_digest d, changed;
	struct fp fp;

	(void)state;
	make("f", "x");
	d = digest_of("f", INT64_C(5000000000));
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
	assert_true(fp_eq(&fp, &d.fp));
	changed = d;
	changed.st.st_size++;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
	changed = d;
	changed.st.st_mtim.tv_nsec ^= 1;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
	changed = d;
	changed.st.st_ctim.tv_sec--;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
	changed = d;
	changed.st.st_ino++;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
	changed = d;
	changed.st.st_dev++;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
	changed = d;
	changed.st.st_mode = S_IFDIR;
	assert_int_equal(idx_digest_get(x, &changed.st, &fp), 0);
}

static void test_digest_file(void **state)
{
	auto_free char *f = in(dir, "f"), *l = in(dir, "l"), *g = in(dir, "g");
	struct stat st, st2;
	struct fp fp, again;

	(void)state;
	make("f", "content");
	assert_int_equal(lstat(f, &st), 0);
	assert_ok(idx_digest_file(x, f, &st, &fp));
	assert_memory_equal(fp.b, fp_of("content", 7).b, 16);
	wait_ns(30000000); /* what the racy rule asks for, not a wait for something to happen */
	assert_ok(idx_digest_file(x, f, &st, &fp));
	(void)idx_digest_get(x, &st, &again); /* remembered or not as the file system is */
	idx_close(x);
	assert_ok(idx_open(cache, false, &x, &the_err));
	if (idx_digest_get(x, &st, &again) == 1)
		assert_true(fp_eq(&fp, &again));
	else
		print_message("not remembered: the times of %s are not known to be fine\n", dir);
	make("g", "other content");
	assert_int_equal(lstat(g, &st2), 0);
	assert_int_equal(idx_digest_file(x, f, &st2, &fp), -ESTALE);
	assert_int_equal(symlink("f", l), 0);
	assert_int_equal(idx_digest_file(x, l, &st2, &fp), -ESTALE);
	assert_int_equal(unlink(l), 0);
	assert_int_equal(mkfifo(l, 0600), 0);
	assert_int_equal(idx_digest_file(x, l, &st2, &fp), -ESTALE); /* and does not hang */
	assert_int_equal(idx_digest_file(x, "/nonexistent/x", &st2, &fp), -ESTALE);
}

static void test_digest_speed(void **state)
{
	enum { N = 100000 };
	auto_free struct idx_digest *d = xcalloc(N, sizeof(*d));
	int64_t start;
	struct fp fp;
	long found = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		d[i].st.st_mode = S_IFREG;
		d[i].st.st_ino = i * 3;
		d[i].st.st_dev = 7;
		d[i].st.st_size = i;
		d[i].hashed_at = now_ns();
		d[i].fp = fp_n(i);
	}
	start = mono_ns();
	assert_ok(idx_digest_put(x, d, N, &the_err));
	print_message("%d digests put in %lld ms\n", N, (long long)(mono_ns() - start) / 1000000);
	start = mono_ns();
	for (unsigned i = 0; i < N; i++)
		found += idx_digest_get(x, &d[i * 7919u % N].st, &fp);
	print_message("a look-up of its own: %lld ns\n", (long long)(mono_ns() - start) / N);
	start = mono_ns();
	assert_ok(idx_begin_read(x, &the_err));
	for (unsigned i = 0; i < N; i++)
		found += idx_digest_get(x, &d[i * 7919u % N].st, &fp);
	idx_end_read(x);
	print_message("a look-up in a batch: %lld ns\n", (long long)(mono_ns() - start) / N);
	assert_int_equal(found, 2 * N);
}

/* Within a batch a thread sees what it writes itself. */
static void test_batch(void **state)
{
	struct idx_digest d;
	struct fp fp;

	(void)state;
	make("f", "x");
	d = digest_of("f", INT64_C(5000000000));
	assert_ok(idx_begin_read(x, &the_err));
	assert_ok(idx_begin_read(x, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 0);
	assert_ok(idx_digest_put(x, &d, 1, &the_err));
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
	idx_end_read(x);
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
	idx_end_read(x);
	idx_end_read(x); /* one too many does no harm */
	assert_int_equal(idx_digest_get(x, &d.st, &fp), 1);
}

/* Without its owner a state is the same whosever the file is; put in again it is as it was. */
static void test_owners(void **state)
{
	const unsigned kinds[] = {OBS_ATTR, OBS_CONTENT, OBS_LIST, OBS_LINK, OBS_XATTR};
	const mode_t modes[] = {S_IFREG | 0640, S_IFDIR | 0755, S_IFLNK | 0755, S_IFIFO | 0600};

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
		for (size_t m = 0; m < sizeof(modes) / sizeof(*modes); m++) {
			struct facts f = {.present = true, .mode = modes[m], .size = 300};
			struct facts mine = {.present = true,
					     .mode = modes[m],
					     .size = 300,
					     .uid = geteuid(),
					     .gid = getegid()};
			struct stat st = {.st_mode = modes[m], .st_uid = 70000, .st_gid = 80000};
			auto_buf struct buf theirs = {0}, own = {0}, a = {0}, b = {0}, again = {0};

			f.uid = st.st_uid;
			f.gid = st.st_gid;
			f.target = mine.target = "POM";
			state_of_facts(kinds[k], &f, NULL, 0, &theirs);
			state_of_facts(kinds[k], &mine, NULL, 0, &own);
			assert_ok(state_without_owner(theirs.data, theirs.len, &a));
			assert_ok(state_without_owner(own.data, own.len, &b));
			assert_int_equal(a.len, b.len);
			assert_memory_equal(a.data, b.data, a.len);
			assert_int_equal(a.len == theirs.len, kinds[k] == OBS_XATTR);
			assert_ok(state_with_owner(a.data, a.len, kinds[k], &st, &again));
			assert_int_equal(again.len, theirs.len);
			assert_memory_equal(again.data, theirs.data, again.len);
		}
	for (size_t n = 0; n < 3; n++) { /* cut off */
		struct buf b = {0};

		assert_int_equal(state_without_owner("fM", n, &b), n == 1 ? 0 : -EBADMSG);
		buf_free(&b);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_file_kinds),   T(test_types_differ), T(test_links),
		T(test_listing),      T(test_facts_agree),  T(test_xattrs),
		T(test_racy),	      T(test_settled),	    T(test_equal_times),
		T(test_writers),      T(test_digest_keys),  T(test_digest_file),
		T(test_digest_speed), T(test_batch),	    T(test_owners),
		T(test_digests_many),
	};

	int r;

	tick_dir = tick_mount();
	if (!tick_dir) {
		print_error("cannot mount ramfs: %s\n", strerror(errno));
		return 1;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	tick_unmount(tick_dir);
	return r;
}
