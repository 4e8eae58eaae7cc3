/* SPDX-License-Identifier: MIT */
/* index/lazy.c: links that stand for objects, their records, and making them real. */
#include <stdio.h>

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../runner/realize.h"
#include "index_cache.h"

#define SIZE 300000

static uint8_t bytes[SIZE];
static struct lazy lazy;

/* An object, and dir/big, which stands for it. */
static void place(void)
{
	auto_free char *path = in(dir, "object"), *link = in(dir, "big");
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1234567890, .tv_nsec = 123}};
	auto_close int fd = -1;
	char text[LAZY_TEXT];

	fill_random(bytes, SIZE, 1);
	write_file(path, bytes, SIZE);
	fd = open(path, O_RDONLY);
	lazy = (struct lazy){.mode = 0640};
	assert_ok(store_put_fd(x, fd, &lazy.oid, &lazy.fp, &lazy.size, &the_err));
	lazy_text(&lazy, text);
	assert_int_equal(symlink(text, link), 0);
	assert_int_equal(utimensat(AT_FDCWD, link, times, AT_SYMLINK_NOFOLLOW), 0);
}

static int open_dir(void)
{
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static char *object_path(void)
{
	char digits[65];

	hex(lazy.oid.b, 32, digits);
	return xasprintf("%s/cas/%.2s/%s", cache, digits, digits + 2);
}

static struct lazy_link look(int at)
{
	struct lazy_link k;

	assert_int_equal(lazy_at(at, "big", &k), 1);
	return k;
}

static void test_real(void **state)
{
	auto_close int at = open_dir(), fd = -1;
	struct lazy_link k;
	uint8_t read_[SIZE];
	struct stat st;

	(void)state;
	place();
	k = look(at);
	assert_true(oid_eq(&k.l.oid, &lazy.oid) && fp_eq(&k.l.fp, &lazy.fp));
	assert_int_equal(k.l.size, SIZE);
	assert_int_equal(k.l.mode, 0640);
	assert_int_equal(lazy_note(idx_dirfd(x), &lazy.oid, k.st.st_dev, k.st.st_ino, "/a//big"),
			 0);
	assert_true(lazy_pinned(idx_dirfd(x), &lazy.oid));
	assert_ok(lazy_realize(at, "big", &k, idx_dirfd(x), NULL, &the_err));
	fd = openat(at, "big", O_RDONLY | O_NOFOLLOW);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mtim.tv_sec, 1234567890);
	assert_int_equal(st.st_mtim.tv_nsec, 123);
	assert_int_equal(read(fd, read_, SIZE), SIZE);
	assert_memory_equal(read_, bytes, SIZE);
	assert_false(lazy_pinned(idx_dirfd(x), &lazy.oid));
	assert_int_equal(lazy_at(at, "big", &k), 0);
}

/* Whoever has put something else there meanwhile keeps it. */
static void test_replaced(void **state)
{
	auto_close int at = open_dir();
	auto_free char *big = in(dir, "big"), *other = in(dir, "other");
	struct lazy_link k;
	struct stat st;

	(void)state;
	place();
	k = look(at);
	write_file(other, "theirs", 6);
	assert_int_equal(rename(other, big), 0);
	assert_int_equal(lazy_realize(at, "big", &k, idx_dirfd(x), NULL, &the_err), -ESTALE);
	assert_int_equal(lstat(big, &st), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(unlink(big), 0);
	assert_int_equal(lazy_realize(at, "big", &k, idx_dirfd(x), NULL, &the_err), -ESTALE);
	assert_int_equal(lstat(big, &st), -1);
}

static void test_damaged(void **state)
{
	auto_close int at = open_dir(), fd = -1;
	auto_free char *object = NULL;
	struct lazy_link k;
	struct stat st;

	(void)state;
	place();
	k = look(at);
	object = object_path();
	assert_int_equal(chmod(object, 0600), 0);
	fd = open(object, O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 777), 1);
	base_close(&fd);
	fd = lazy_open(idx_dirfd(x), &lazy, geteuid());
	assert_true(fd >= 0);
	assert_int_equal(lazy_verify(fd, &lazy), -EUCLEAN);
	assert_int_equal(lazy_realize(at, "big", &k, idx_dirfd(x), NULL, &the_err), -EUCLEAN);
	assert_int_equal(lstat(object, &st), -1); /* so that the next lookup finds it gone */
	assert_int_equal(lazy_realize(at, "big", &k, idx_dirfd(x), NULL, &the_err), -ENOENT);
	assert_int_equal(lazy_at(at, "big", &k), 1);
	assert_false(lazy_there(idx_dirfd(x), &lazy));
}

/* What is not the owner's, no file, too short, or behind a link is no object. */
static void test_not_objects(void **state)
{
	auto_free char *object = NULL, *aside = in(dir, "aside"), *cas = in(cache, "cas"),
		       *moved = in(cache, "moved");

	(void)state;
	place();
	object = object_path();
	assert_int_equal(lazy_open(idx_dirfd(x), &lazy, geteuid() + 1), -EUCLEAN);
	assert_int_equal(rename(object, aside), 0);
	assert_int_equal(symlink(aside, object), 0);
	assert_true(lazy_open(idx_dirfd(x), &lazy, geteuid()) < 0);
	assert_int_equal(unlink(object), 0);
	assert_int_equal(mkfifo(object, 0600), 0);
	assert_int_equal(lazy_open(idx_dirfd(x), &lazy, geteuid()), -EUCLEAN);
	assert_int_equal(unlink(object), 0);
	write_file(object, bytes, SIZE - 1);
	assert_int_equal(lazy_open(idx_dirfd(x), &lazy, geteuid()), -EUCLEAN);
	assert_int_equal(rename(aside, object), 0);
	assert_int_equal(rename(cas, moved), 0);
	assert_int_equal(symlink("moved", cas), 0);
	assert_true(lazy_open(idx_dirfd(x), &lazy, geteuid()) < 0);
}

/* Only what lazy_text writes. */
static void test_targets(void **state)
{
	auto_close int at = open_dir();
	char text[LAZY_TEXT], *slash;
	struct lazy_link k;

	(void)state;
	place();
	lazy_text(&lazy, text);
	slash = strrchr(text, '/');
	static const char *const modes[] = {"/", "/0640", "/1640", "/8", "/640/", "/ 640", "/+640"};
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		auto_free char *bad = xasprintf("%.*s%s", (int)(slash - text), text, modes[i]);

		assert_int_equal(symlinkat(bad, at, "bad"), 0);
		assert_int_equal(lazy_at(at, "bad", &k), 0);
		assert_int_equal(unlinkat(at, "bad", 0), 0);
	}
	for (size_t n = 0; text[n]; n++) { /* each letter another */
		char was = text[n];
		int r;

		text[n] = was == '#' ? '%' : '#';
		assert_int_equal(symlinkat(text, at, "bad"), 0);
		r = lazy_at(at, "bad", &k);
		text[n] = was;
		assert_int_equal(r, 0);
		assert_int_equal(unlinkat(at, "bad", 0), 0);
	}
	assert_int_equal(lazy_at(at, "object", &k), 0);
	assert_int_equal(lazy_at(at, "nothing", &k), -ENOENT);
}

static int count(void *arg, const struct lazy_record *r)
{
	assert_true(oid_eq(&r->oid, &lazy.oid));
	assert_int_equal(r->dev, 5);
	assert_string_equal(r->path, r->ino == 7 ? "/a//b" : "/a//c");
	++*(int *)arg;
	return 0;
}

static void test_records(void **state)
{
	struct idx_gc_options o = {.max_size = UINT64_MAX, .max_age_ns = -1, .all = true};
	struct idx_gc_counts counts;
	int n = 0;

	(void)state;
	place();
	assert_int_equal(lazy_note(idx_dirfd(x), &lazy.oid, 5, 7, "/a//old"), 0);
	assert_int_equal(lazy_note(idx_dirfd(x), &lazy.oid, 5, 7, "/a//b"), 0);
	assert_int_equal(lazy_note(idx_dirfd(x), &lazy.oid, 5, 8, "/a//c"), 0);
	assert_int_equal(lazy_each(idx_dirfd(x), count, &n), 0);
	assert_int_equal(n, 2);
	lazy_unnote(idx_dirfd(x), &lazy.oid, 5, 7);
	lazy_unnote(idx_dirfd(x), &lazy.oid, 5, 99); /* there is none */
	/* Nothing else refers to it, and it is old. */
	auto_free char *object = object_path();
	struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	assert_int_equal(utimensat(AT_FDCWD, object, old, 0), 0);
	assert_ok(idx_gc(x, &o, &counts, &the_err));
	assert_true(lazy_there(idx_dirfd(x), &lazy));
	lazy_unnote(idx_dirfd(x), &lazy.oid, 5, 8);
	assert_ok(idx_gc(x, &o, &counts, &the_err));
	assert_false(lazy_there(idx_dirfd(x), &lazy));
}

/* ---- names swapped while one is made real ---- */

#define SWAPS 300

/* What its owner could do meanwhile: the directory is a link to another one, which he cannot write to but where the very link has a
 * name as well; and something else has the name. */
static void swap_on(int tree) __attribute__((noreturn));
static void swap_on(int tree)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		(void)renameat2(tree, "d", tree, "way", RENAME_EXCHANGE);
		(void)renameat2(tree, "way", tree, "d", RENAME_EXCHANGE);
		(void)renameat2(tree, "d/big", tree, "d/theirs", RENAME_EXCHANGE);
		(void)renameat2(tree, "d/theirs", tree, "d/big", RENAME_EXCHANGE);
	}
}

static void assert_held(pid_t p, bool held)
{
	int status;

	assert_int_equal(kill(p, held ? SIGSTOP : SIGCONT), 0);
	assert_int_equal(waitpid(p, &status, held ? WUNTRACED : WCONTINUED), p);
}

static void assert_untouched(const char *outside)
{
	DIR *d = opendir(outside);
	struct dirent *de;
	struct lazy l;

	assert_non_null(d);
	assert_int_equal(lazy_read(dirfd(d), "big", &l), 1);
	while ((de = readdir(d)))
		assert_true(strcmp(de->d_name, "big") == 0 ||
			    de->d_name[strspn(de->d_name, ".")] == '\0');
	closedir(d);
}

/* The tree as the swapping wants it: d, with big and theirs. True: big had been made real. */
static bool set_back(int tree, const char *outside)
{
	const char *path = NULL;
	struct stat st;
	bool made = false;

	if (fstatat(tree, "d", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		assert_int_equal(renameat2(tree, "d", tree, "way", RENAME_EXCHANGE), 0);
	if (fstatat(tree, "d/theirs", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size != 6)
		assert_int_equal(renameat2(tree, "d/theirs", tree, "d/big", RENAME_EXCHANGE), 0);
	assert_int_equal(fstatat(tree, "d/theirs", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 6);
	assert_int_equal(fstatat(tree, "d/big", &st, AT_SYMLINK_NOFOLLOW), 0);
	made = S_ISREG(st.st_mode);
	if (made) {
		path = xasprintf("%s/big", outside);
		assert_int_equal(st.st_size, SIZE);
		assert_int_equal(unlinkat(tree, "d/big", 0), 0);
		assert_int_equal(linkat(AT_FDCWD, path, tree, "d/big", 0), 0);
		free((char *)path);
	}
	return made;
}

static void test_swapped(void **state)
{
	auto_free char *src = in(dir, "tree"), *outside = in(dir, "outside");
	auto_free char *d = in(src, "d"), *big = in(d, "big"), *theirs = in(d, "theirs"),
		       *way = in(src, "way"), *link = in(dir, "big"), *other = in(outside, "big");
	auto_free char *record = xasprintf("%s//d/big", src);
	auto_close int tree = -1;
	struct lazy_link k;
	pid_t swapper;
	int made = 0;

	(void)state;
	place();
	assert_int_equal(mkdir(src, 0755) | mkdir(outside, 0755) | mkdir(d, 0755), 0);
	assert_int_equal(rename(link, other), 0);
	assert_int_equal(linkat(AT_FDCWD, other, AT_FDCWD, big, 0), 0);
	assert_int_equal(symlink("../outside", way), 0);
	write_file(theirs, "theirs", 6);
	tree = open(src, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(lazy_at(AT_FDCWD, big, &k), 1);
	swapper = fork();
	if (swapper == 0)
		swap_on(tree);
	for (int n = 0; n < SWAPS; n++) {
		auto_realize struct realize r = {.root = tree, .src = src};

		assert_int_equal(
			lazy_note(idx_dirfd(x), &lazy.oid, k.st.st_dev, k.st.st_ino, record), 0);
		realize_add(&r, idx_dirfd(x), k.st.st_uid);
		realize_all(&r);
		assert_held(swapper, true);
		assert_untouched(outside);
		made += set_back(tree, outside);
		assert_held(swapper, false);
	}
	assert_int_equal(kill(swapper, SIGKILL), 0);
	assert_int_equal(waitpid(swapper, NULL, 0), swapper);
	assert_true(made > 0);
	print_message("%d of %d made real\n", made, SWAPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_real, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_objects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
