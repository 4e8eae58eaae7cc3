/* SPDX-License-Identifier: MIT */
/* fs/trace.h and fs/inode.h without a mount: what is kept of a path, and how names and inodes hang together. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../fs/inode.h"
#include "tick.h"

static char *tick_dir;

struct world {
	char dir[64];
	struct trace *t;
};

static char *in(const struct world *w, const char *name)
{
	return xasprintf("%s/%s", w->dir, name);
}

static void put(const struct world *w, const char *name, const char *text)
{
	auto_free char *path = in(w, name);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct fs_options o = {0};
	struct err e = {0};

	strcpy(w->dir, "/tmp/mlfs-trace.XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->t = trace_new(&o, &e);
	*state = w;
	return w->t ? 0 : -1;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	auto_free char *command = xasprintf("rm -rf %s", w->dir);

	trace_free(w->t);
	if (system(command) != 0)
		return -1;
	free(w);
	return 0;
}

static struct trace_path *get(const struct world *w, const char *name)
{
	auto_free char *path = in(w, name);

	return trace_get(w->t, path, strlen(path));
}

static struct trace_path *look(const struct world *w, const char *name)
{
	struct trace_path *p = get(w, name);
	int64_t at = now_ns();
	struct stat st;
	int err = lstat(p->path, &st) < 0 ? errno : 0;

	trace_looked(w->t, p, &st, err, at);
	return p;
}

static bool has_digest_of(const struct world *w, struct trace_path *p, const char *text)
{
	struct fp want = fp_of(text, strlen(text)), fp;

	return trace_digest(w->t, p, &fp) == 0 && fp_eq(&fp, &want);
}

static void absent_is_kept(void **state)
{
	struct world *w = *state;
	struct trace_path *p = look(w, "none");

	assert_int_equal(p->err, ENOENT);
	assert_int_equal(p->obs, OBS_ABSENT);
	assert_ptr_equal(p, get(w, "none"));
	assert_null(trace_spoiled(w->t));
}

/* Digesting takes long enough here for the other name to be made meanwhile; its ctime moves then. */
static void what_gets_another_name_is_digested_first(void **state)
{
	enum { SIZE = 64 << 20 };
	struct world *w = *state;
	auto_free char *path = in(w, "f"), *other = in(w, "g");
	struct trace_path *p;
	struct fp fp;

	put(w, "f", "x");
	assert_int_equal(truncate(path, SIZE), 0);
	p = look(w, "f");
	trace_read(w->t, p);
	while (p->hash_state == HASH_QUEUED)
		(void)sched_yield();
	trace_change(w->t, p, CHANGE_LINK);
	assert_int_equal(link(path, other), 0);
	assert_int_equal(trace_digest(w->t, p, &fp), 0);
	assert_null(trace_spoiled(w->t));
}

static void appearing_by_others_spoils(void **state)
{
	struct world *w = *state;

	look(w, "f");
	put(w, "f", "x");
	look(w, "f");
	assert_non_null(trace_spoiled(w->t));
}

static void changing_by_others_spoils(void **state)
{
	struct world *w = *state;

	put(w, "f", "x");
	look(w, "f");
	look(w, "f");
	assert_null(trace_spoiled(w->t));
	put(w, "f", "xy");
	look(w, "f");
	assert_non_null(trace_spoiled(w->t));
}

static void a_change_keeps_what_was_there(void **state)
{
	struct world *w = *state;
	struct trace_path *p;

	put(w, "f", "old");
	p = look(w, "f");
	trace_change(w->t, p, CHANGE_PART);
	put(w, "f", "new one");
	look(w, "f");
	assert_true(p->changed && p->partial && !p->replaced);
	assert_true(p->obs & OBS_CONTENT);
	assert_int_equal(p->st.st_size, 3);
	assert_true(has_digest_of(w, p, "old"));
	assert_null(trace_spoiled(w->t));
}

static void replaced_unread_is_no_input(void **state)
{
	struct world *w = *state;
	struct trace_path *p;

	put(w, "f", "old");
	p = look(w, "f");
	trace_change(w->t, p, CHANGE_REPLACE);
	put(w, "f", "new");
	trace_read(w->t, p);
	trace_change(w->t, p, CHANGE_PART);
	assert_true(p->changed && p->replaced && !p->partial);
	assert_false(p->obs & OBS_CONTENT);
	assert_true(has_digest_of(w, p, "old")); /* known again as what was there */
}

static void read_before_replaced_is_an_input(void **state)
{
	struct world *w = *state;
	struct trace_path *p;

	put(w, "f", "old");
	p = look(w, "f");
	trace_read(w->t, p);
	trace_change(w->t, p, CHANGE_REPLACE);
	put(w, "f", "new");
	assert_true(p->obs & OBS_CONTENT);
	assert_true(has_digest_of(w, p, "old"));
}

static void a_failed_change_makes_it_an_input(void **state)
{
	struct world *w = *state;
	struct trace_path *p;

	put(w, "f", "old");
	p = look(w, "f");
	trace_change(w->t, p, CHANGE_REMOVE);
	trace_kept(p);
	assert_true(p->partial && (p->obs & OBS_CONTENT));
	assert_true(has_digest_of(w, p, "old"));
	trace_kept(NULL);
	trace_kept(look(w, "none"));
}

static void moving_makes_content_an_input(void **state)
{
	struct world *w = *state;
	struct trace_path *p;

	put(w, "f", "old");
	p = look(w, "f");
	trace_change(w->t, p, CHANGE_MOVE);
	assert_true(p->replaced && p->partial && (p->obs & OBS_CONTENT));
	assert_true(has_digest_of(w, p, "old"));
}

static void created_is_not_looked_at(void **state)
{
	struct world *w = *state;
	struct trace_path *p = look(w, "f");

	trace_change(w->t, p, CHANGE_CREATE);
	put(w, "f", "new");
	look(w, "f");
	trace_read(w->t, p);
	assert_int_equal(p->err, ENOENT);
	assert_true(p->changed && p->replaced);
	assert_false(p->obs & OBS_CONTENT);
	assert_null(trace_spoiled(w->t));
}

static void a_link_target_is_kept(void **state)
{
	struct world *w = *state;
	auto_free char *path = in(w, "l");
	struct trace_path *p;

	assert_int_equal(symlink("there", path), 0);
	p = look(w, "l");
	trace_readlink(w->t, p, "there");
	trace_change(w->t, p, CHANGE_REMOVE);
	assert_true(p->obs & OBS_LINK);
	assert_string_equal(p->target, "there");
}

static void the_first_listing_is_kept(void **state)
{
	struct world *w = *state;
	auto_close int fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct trace_path *p = trace_get(w->t, w->dir, strlen(w->dir));

	put(w, "b", "");
	put(w, "a", "");
	trace_list(w->t, p, fd);
	put(w, "c", "");
	trace_list(w->t, p, fd);
	assert_int_equal(p->n_list, 2);
	assert_string_equal(p->list[0], "fa");
	assert_string_equal(p->list[1], "fb");
	assert_true(p->obs & OBS_LIST);
}

static void untraced_and_ignored(void **state)
{
	struct world *w = *state;
	auto_free char *cache = in(w, "cache");
	char *untraced[] = {cache}, *ignore[] = {(char *)"*.log"};
	struct fs_options o = {
		.untraced = untraced, .n_untraced = 1, .ignore = ignore, .n_ignore = 1};
	struct err e = {0};
	struct trace *t = trace_new(&o, &e);
	auto_free char *below = xasprintf("%s/x", cache), *beside = xasprintf("%sx", cache);
	auto_close int fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct trace_path *dir;

	assert_non_null(t);
	dir = trace_get(t, w->dir, strlen(w->dir));
	assert_null(trace_get(t, cache, strlen(cache)));
	assert_null(trace_get(t, below, strlen(below)));
	assert_null(trace_get(t, "/a/b.log", 8));
	assert_non_null(trace_get(t, beside, strlen(beside)));
	trace_looked(t, NULL, NULL, 0, 0);
	trace_read(t, NULL);
	trace_change(t, NULL, CHANGE_PART);

	/* What is ignored may come and go in a directory that is listed. */
	put(w, "a.log", "");
	trace_list(t, dir, fd);
	put(w, "b.log", "");
	trace_list(t, dir, fd);
	assert_null(trace_spoiled(t));
	put(w, "c", "");
	trace_list(t, dir, fd);
	assert_non_null(trace_spoiled(t));
	trace_free(t);
}

static void many_paths_come_sorted(void **state)
{
	struct world *w = *state;
	auto_free struct trace_path **v = NULL;
	size_t n;

	for (int i = 0; i < 20000; i++) {
		auto_free char *path = xasprintf("/p/%d", i * 7919 % 20000);

		assert_non_null(trace_get(w->t, path, strlen(path)));
	}
	v = trace_sorted(w->t, &n);
	assert_int_equal(n, 20000);
	for (size_t i = 1; i < n; i++)
		assert_true(strcmp(v[i - 1]->path, v[i]->path) < 0);
}

/* ---- changed with no change in the times ---- */

/* A file that was looked at and is read, then whatever `meanwhile` does. Again until that has left the times as they
 * were. Returns whether the trace is spoiled. */
static bool spoiled_by(void (*meanwhile)(struct trace *t, struct trace_path *p))
{
	auto_free char *path = xasprintf("%s/f", tick_dir);

	for (int tries = 0; tries < 1000; tries++) {
		struct world w = {0};
		struct trace_path *p;
		struct fs_options o = {0};
		struct stat st, first;
		struct err e;
		bool spoiled;

		w.t = trace_new(&o, &e);
		strcpy(w.dir, tick_dir);
		put(&w, "f", "A");
		p = look(&w, "f");
		trace_read(w.t, p);
		meanwhile(w.t, p);
		assert_int_equal(lstat(path, &st), 0);
		trace_settle(w.t);
		spoiled = trace_spoiled(w.t) != NULL;
		first = stat_again(&p->st);
		if (tick_same(&st, &first)) {
			trace_free(w.t);
			return spoiled;
		}
		trace_free(w.t);
	}
	fail_msg("no two writes left the same times");
	return false;
}

static void nobody(struct trace *t, struct trace_path *p)
{
	(void)t;
	(void)p;
}

static void somebody(struct trace *t, struct trace_path *p)
{
	(void)t;
	assert_int_equal(tick_poke(p->path, "B"), 0);
}

static void there_and_back(struct trace *t, struct trace_path *p)
{
	(void)t;
	assert_int_equal(tick_poke(p->path, "B"), 0);
	assert_int_equal(tick_poke(p->path, "A"), 0);
}

static void the_step(struct trace *t, struct trace_path *p)
{
	trace_change(t, p, CHANGE_PART);
	assert_int_equal(tick_poke(p->path, "B"), 0);
}

static void somebody_and_the_step(struct trace *t, struct trace_path *p)
{
	assert_int_equal(tick_poke(p->path, "B"), 0);
	the_step(t, p);
}

static void a_change_within_a_tick_spoils(void **state)
{
	(void)state;
	assert_false(spoiled_by(nobody));
	assert_true(spoiled_by(somebody));
	assert_true(spoiled_by(there_and_back));
	assert_false(spoiled_by(the_step));
	assert_true(spoiled_by(somebody_and_the_step));
}

static void only_doubtful_times_are_watched(void **state)
{
	struct world *w = *state;
	struct trace_path *p, *q;
	struct stat st;

	put(w, "old", "x");
	put(w, "new", "x");
	p = get(w, "old");
	assert_int_equal(lstat(p->path, &st), 0);
	trace_looked(w->t, p, &st, 0, now_ns() + INT64_C(3000000000));
	q = look(w, "new");
	trace_read(w->t, p);
	trace_read(w->t, q);
	assert_false(p->guarded);
	assert_true(q->guarded);
}

static void being_written_is_no_input(void **state)
{
	struct world *w = *state;
	auto_free char *path = in(w, "f");
	auto_close int fd = -1;
	struct trace_path *p;
	struct fp fp;

	put(w, "f", "x");
	fd = open(path, O_RDWR | O_CLOEXEC);
	p = look(w, "f");
	assert_int_equal(trace_digest(w->t, p, &fp), -ESTALE);
	assert_null(trace_spoiled(w->t)); /* not read */
	trace_written(w->t, p);
	assert_non_null(trace_spoiled(w->t));
}

/* ---- shown twice ---- */

static void what_is_shown_again_must_be_the_same(void **state)
{
	struct world *w = *state;
	struct trace_path *p;
	struct stat st;

	p = get(w, "d");
	assert_int_equal(mkdir(p->path, 0755), 0);
	look(w, "d");
	assert_int_equal(lstat(p->path, &st), 0);
	trace_shown(w->t, p, &st);
	assert_null(trace_spoiled(w->t));
	st.st_mode = S_IFDIR | 0700;
	trace_change(w->t, p, CHANGE_PART);
	trace_shown(w->t, p, &st); /* the step's own doing */
	assert_null(trace_spoiled(w->t));
	p->changed = false;
	trace_shown(w->t, p, &st);
	assert_non_null(trace_spoiled(w->t));
}

static void a_link_read_twice_must_be_the_same(void **state)
{
	struct world *w = *state;
	auto_free char *path = in(w, "l");
	struct trace_path *p;

	assert_int_equal(symlink("there", path), 0);
	p = look(w, "l");
	trace_readlink(w->t, p, "there");
	trace_readlink(w->t, p, "there");
	assert_null(trace_spoiled(w->t));
	trace_readlink(w->t, p, "elsewhere");
	assert_non_null(trace_spoiled(w->t));
}

static void a_listing_seen_twice_must_be_the_same(void **state)
{
	struct world *w = *state;
	auto_close int fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct trace_path *p = trace_get(w->t, w->dir, strlen(w->dir));

	put(w, "a", "");
	trace_list(w->t, p, fd);
	trace_change(w->t, look(w, "own"), CHANGE_CREATE);
	put(w, "own", "");
	trace_list(w->t, p, fd);
	assert_null(trace_spoiled(w->t));
	put(w, "b", "");
	trace_list(w->t, p, fd);
	assert_non_null(trace_spoiled(w->t));
}

/* ---- inodes and names ---- */

static void paths_follow_renames(void **state)
{
	struct inodes t;
	struct err e = {0};
	struct stat d = {.st_dev = 9, .st_ino = 1, .st_mode = S_IFDIR},
		    f = {.st_dev = 9, .st_ino = 2, .st_mode = S_IFREG};
	struct inode *dir, *file;
	struct at a = {.dirfd = AT_FDCWD};

	(void)state;
	assert_int_equal(inodes_init(&t, 16, 16, &e), 0);
	dir = inode_get(&t, &d);
	dir->nlookup++;
	dentry_set(&t, &t.root, "d", dir);
	file = inode_get(&t, &f);
	file->nlookup++;
	dentry_set(&t, dir, "f", file);
	assert_ptr_equal(inode_get(&t, &f), file);
	assert_int_equal(at_inode(&t, file, &a), 0);
	assert_string_equal(a.full, "/d/f");
	at_free(&a);
	dentry_drop(&t, dentry_find(&t, &t.root, "d"));
	dentry_set(&t, &t.root, "e", dir);
	assert_int_equal(at_child(&t, dir, "x", &a), 0);
	assert_string_equal(a.full, "/e/x");
	at_free(&a);
	/* Nameless: no path, yet known as long as the kernel refers to it. */
	dentry_drop(&t, dentry_find(&t, dir, "f"));
	assert_int_equal(at_inode(&t, file, &a), -ESTALE);
	at_free(&a);
	inode_pin(&t, file);
	inode_pin(&t, file);
	inode_forget(&t, file, 1);
	inode_forget(&t, dir, 1);
	inodes_free(&t);
}

static void another_type_is_another_inode(void **state)
{
	struct inodes t;
	struct err e = {0};
	struct stat st = {.st_dev = 9, .st_ino = 1, .st_mode = S_IFREG};
	struct inode *a, *b;

	(void)state;
	assert_int_equal(inodes_init(&t, 16, 16, &e), 0);
	a = inode_get(&t, &st);
	a->nlookup++;
	st.st_mode = S_IFDIR;
	b = inode_get(&t, &st);
	b->nlookup++;
	assert_ptr_not_equal(a, b);
	assert_ptr_equal(inode_get(&t, &st), b);
	inode_forget(&t, a, 1);
	inode_forget(&t, b, 1);
	inodes_free(&t);
}

static void long_paths_go_by_pieces(void **state)
{
	struct inodes t;
	struct err e = {0};
	struct stat st = {.st_dev = 9, .st_mode = S_IFDIR};
	struct inode *dir;
	struct at a = {.dirfd = AT_FDCWD};
	char name[201] = {0};

	(void)state;
	memset(name, 'n', 200);
	assert_int_equal(inodes_init(&t, 16, 16, &e), 0);
	dir = &t.root;
	for (ino_t i = 1; i <= 30; i++) {
		struct inode *next;

		st.st_ino = i;
		next = inode_get(&t, &st);
		next->nlookup++;
		dentry_set(&t, dir, name, next);
		dir = next;
	}
	/* It is not there; but asked for by pieces, not refused for its length. */
	assert_int_equal(at_inode(&t, dir, &a), -ENOENT);
	at_free(&a);
	inodes_free(&t);
}

/* What the step's latest change left is compared with what is there, where it is known. */
static void latest_changes_are_kept(void **state)
{
	struct world *w = *state;
	auto_free char *path = in(w, "f");
	struct trace_path *p = trace_get(w->t, path, strlen(path));
	struct stat st, other;

	put(w, "f", "one");
	assert_int_equal(lstat(path, &st), 0);
	trace_change(w->t, p, CHANGE_CREATE);
	assert_true(trace_as_left(p, &st, ENOENT)); /* not known */
	trace_latest(p, &st, 0);
	assert_true(trace_as_left(p, &st, 0));
	assert_false(trace_as_left(p, NULL, ENOENT));
	assert_false(trace_as_left(p, NULL, ENOTDIR));
	other = st;
	other.st_size++;
	assert_false(trace_as_left(p, &other, 0));
	other = st;
	other.st_mtim.tv_nsec ^= 1;
	assert_false(trace_as_left(p, &other, 0));
	other = st;
	other.st_ino++;
	assert_false(trace_as_left(p, &other, 0));
	other = st;
	other.st_ctim.tv_sec++; /* another name was made for it, its mode changed: no matter */
	other.st_mode ^= 0100;
	assert_true(trace_as_left(p, &other, 0));
	trace_latest(p, NULL, ENOENT);
	assert_true(trace_as_left(p, NULL, ENOENT));
	assert_false(trace_as_left(p, &st, 0));
	assert_null(trace_spoiled(w->t));
	trace_looked(w->t, p, &st, 0, 0);
	assert_non_null(trace_spoiled(w->t));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(absent_is_kept),
		T(what_gets_another_name_is_digested_first),
		T(appearing_by_others_spoils),
		T(changing_by_others_spoils),
		T(a_change_keeps_what_was_there),
		T(replaced_unread_is_no_input),
		T(read_before_replaced_is_an_input),
		T(a_failed_change_makes_it_an_input),
		T(moving_makes_content_an_input),
		T(created_is_not_looked_at),
		T(a_link_target_is_kept),
		T(the_first_listing_is_kept),
		T(untraced_and_ignored),
		T(many_paths_come_sorted),
		cmocka_unit_test(a_change_within_a_tick_spoils),
		T(only_doubtful_times_are_watched),
		T(being_written_is_no_input),
		T(what_is_shown_again_must_be_the_same),
		T(a_link_read_twice_must_be_the_same),
		T(a_listing_seen_twice_must_be_the_same),
		cmocka_unit_test_setup_teardown(latest_changes_are_kept, set_up, tear_down),
		cmocka_unit_test(paths_follow_renames),
		cmocka_unit_test(another_type_is_another_inode),
		cmocka_unit_test(long_paths_go_by_pieces),
	};

	int r;

	tick_dir = tick_mount();
	if (!tick_dir) {
		print_error("cannot mount ramfs: %s\n", strerror(errno));
		return 1;
	}
	r = cmocka_run_group_tests_name("trace", tests, NULL, NULL);
	tick_unmount(tick_dir);
	return r;
}
