/* SPDX-License-Identifier: MIT */
/* Files that are stored while they are written. */
#include "index_util.h"

#include "../../fs/inode.h"

#include "../../fs/follow.h"

#define MB (1u << 20)

struct tmp {
	char *dir;
	struct idx *x;
};

static int setup(void **state)
{
	struct tmp *t = xcalloc(1, sizeof(*t));
	auto_free char *cache = NULL;

	t->dir = scratch_new();
	cache = in(t->dir, "cache");
	assert_ok(idx_open(cache, false, &t->x, &the_err));
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct tmp *t = *state;

	idx_close(t->x);
	scratch_free(t->dir);
	free(t);
	return 0;
}

/* Where blocks are shared, or room is scarce, nothing is followed. */
static void skip_where_useless(const struct tmp *t, int fd)
{
	struct early *copy;
	int r = early_begin(t->x, fd, &copy, &the_err);

	if (r == -EOPNOTSUPP || r == -ENOSPC)
		skip();
	assert_ok(r);
	early_free(copy);
}

static int begin(const struct tmp *t, struct follower **f, struct inode *i, unsigned mb)
{
	auto_free char *path = xasprintf("%s/file", t->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *block = xmalloc(MB);
	struct stat st;

	for (unsigned k = 0; k < mb; k++) {
		memset(block, (int)('a' + k % 26), MB);
		assert_int_equal(write(fd, block, MB), MB);
	}
	free(block);
	assert_int_equal(fstat(fd, &st), 0);
	*i = (struct inode){.dev = st.st_dev, .ino = st.st_ino, .written = (uint64_t)mb * MB};
	skip_where_useless(t, fd);
	*f = follower_new(t->x);
	follow_written(*f, i, fd);
	return fd;
}

/* The object is what store_put_fd would have made of the file. */
static void check_object(const struct tmp *t, int fd, const struct oid *oid, const struct fp *fp,
			 uint64_t size)
{
	struct oid want;
	struct fp want_fp;
	uint64_t want_size, read = 0;

	assert_int_equal(hash_fd(fd, 0, -1, &want_fp, &read), 0);
	assert_true(store_check(t->x, oid, size) > 0);
	assert_int_equal(store_put_fd(t->x, fd, &want, NULL, &want_size, NULL), 0);
	assert_true(oid_eq(&want, oid));
	assert_true(fp_eq(&want_fp, fp));
	assert_int_equal(size, want_size);
}

static void followed(void **state)
{
	const struct tmp *t = *state;
	struct follower *f;
	struct inode i, other = {.dev = 1, .ino = 1};
	struct stat st, none = {0};
	struct oid oid;
	struct fp fp;
	uint64_t size;
	int fd = begin(t, &f, &i, 20);

	assert_int_equal(pwrite(fd, "end", 3, 20 * MB), 3);
	i.written += 3;
	follow_written(f, &i, fd);
	assert_false(follow_rewritten(f, &other, 0));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(follow_finish(f, &none, &oid, &fp, &size), 0);
	assert_int_equal(follow_finish(f, &st, &oid, &fp, &size), 1);
	check_object(t, fd, &oid, &fp, size);
	assert_int_equal(follow_finish(f, &st, &oid, &fp, &size), 0); /* each once */
	follower_free(f);
	close(fd);
}

static void rewritten(void **state)
{
	const struct tmp *t = *state;
	struct follower *f;
	struct inode i;
	struct stat st;
	struct oid oid;
	struct fp fp;
	uint64_t size;
	int fd = begin(t, &f, &i, 20);
	bool over = false;

	/* As soon as the thread has been given the first byte. */
	for (int64_t start = mono_ns(); !over && mono_ns() - start < INT64_C(60000000000);) {
		over = follow_rewritten(f, &i, 0);
		if (over)
			break;
		follow_written(f, &i, fd); /* nothing was given yet: it has been written again */
		(void)usleep(100);	   /* let the thread have the lock */
	}
	assert_true(over);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(follow_finish(f, &st, &oid, &fp, &size), 0);
	follower_free(f);
	close(fd);
}

/* What is to be written again is not read until it has been. */
static void rewritten_behind(void **state)
{
	const struct tmp *t = *state;
	struct follower *f;
	struct inode i;
	struct stat st;
	struct oid oid;
	struct fp fp;
	uint64_t size;
	int fd = begin(t, &f, &i, 20), n;

	n = follow_rewritten(f, &i, 20 * MB - 3) ? 0 : 1;
	assert_int_equal(pwrite(fd, "xyz", 3, 20 * MB - 3), 3);
	if (n)
		follow_written(f, &i, fd);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(follow_finish(f, &st, &oid, &fp, &size), n);
	if (n)
		check_object(t, fd, &oid, &fp, size);
	follower_free(f);
	close(fd);
}

/* Cut off below what was taken. */
static void cut(void **state)
{
	const struct tmp *t = *state;
	struct follower *f;
	struct inode i;
	struct stat st;
	struct oid oid;
	struct fp fp;
	uint64_t size;
	int fd = begin(t, &f, &i, 20);

	assert_int_equal(ftruncate(fd, 5), 0); /* by somebody else: the follower is not told */
	assert_int_equal(fstat(fd, &st), 0);
	if (follow_finish(f, &st, &oid, &fp, &size))
		check_object(t, fd, &oid, &fp, size); /* the thread had not begun */
	follower_free(f);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(followed, setup, teardown),
		cmocka_unit_test_setup_teardown(rewritten, setup, teardown),
		cmocka_unit_test_setup_teardown(rewritten_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
