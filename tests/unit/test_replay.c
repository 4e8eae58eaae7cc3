/* SPDX-License-Identifier: MIT */
/*
 * decide.c and replay.c on a real cache: results are stored as a recorded step would have, the
 * files are changed, and what is decided and what stands there afterwards is compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/runner.h"

#define MAX 16

static char base[] = "/tmp/mlfs-test-replay-XXXXXX";
static struct idx *cache;
static char *work; /* a new directory for each test */
static struct step step;
static struct exec_opts opts;

/* ---- files ---- */

static char *at(const char *name)
{
	return xasprintf("%s/%s", work, name);
}

static void put(const char *name, const char *text, mode_t mode)
{
	auto_free char *path = at(name);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static void assert_text(const char *name, const char *text)
{
	auto_free char *path = at(name), *got = NULL;
	struct err e;
	size_t n;

	if (read_file(path, &got, &n, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(got, text);
}

static struct stat look(const char *name)
{
	auto_free char *path = at(name);
	struct stat st;

	if (lstat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static bool there(const char *name)
{
	auto_free char *path = at(name);
	struct stat st;

	return lstat(path, &st) == 0;
}

static void drop(const char *name)
{
	auto_free char *path = at(name);

	assert_int_equal(remove(path), 0);
}

static int64_t mtime(const char *name)
{
	struct stat st = look(name);

	return (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

static void set_mtime(const char *name, int64_t sec)
{
	auto_free char *path = at(name);
	struct timespec t[2] = {{.tv_sec = sec}, {.tv_sec = sec}};

	assert_int_equal(utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void link_name(const char *old, const char *name)
{
	auto_free char *a = at(old), *b = at(name);

	assert_int_equal(link(a, b), 0);
}

static int litter;
static int count_litter(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type;
	litter += strncmp(path + f->base, ".mlfs-", 6) == 0;
	return 0;
}

static void assert_no_litter(void)
{
	litter = 0;
	assert_int_equal(nftw(work, count_litter, 16, FTW_PHYS), 0);
	assert_int_equal(litter, 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(path);
}

/* ---- results, as a recorded step would leave them ---- */

struct made {
	struct path_set set;
	struct result *r;
};

static struct made begin(void)
{
	struct made m = {.r = xcalloc(1, sizeof(*m.r))};

	m.set.v = xcalloc(MAX, sizeof(*m.set.v));
	m.r->outputs = xcalloc(MAX, sizeof(*m.r->outputs));
	m.r->states = xcalloc(MAX, sizeof(*m.r->states));
	return m;
}

/* Inputs and outputs are given in the order of their paths. */
static void input(struct made *m, const char *name, unsigned kinds, const char *excluded)
{
	struct path_entry *p = &m->set.v[m->set.n++];

	assert_true(m->set.n < MAX);
	p->path = at(name);
	p->kinds = kinds;
	if (excluded) {
		p->excluded = xcalloc(1, sizeof(char *));
		p->excluded[p->n_excluded++] = xstrdup(excluded);
	}
}

static struct output *output(struct made *m, const char *name, enum out_type type, mode_t mode)
{
	struct output *o = &m->r->outputs[m->r->n_outputs++];

	assert_true(m->r->n_outputs < MAX);
	o->path = at(name);
	o->now.type = type;
	o->now.mode = mode;
	o->own = true;
	o->uid = geteuid();
	o->gid = getegid();
	o->mtime_ns = (int64_t)m->r->n_outputs * 1000000000;
	return o;
}

static struct output *file(struct made *m, const char *name, const char *text, mode_t mode)
{
	struct output *o = output(m, name, OUT_FILE, mode);
	struct err e;

	o->now.size = strlen(text);
	o->now.fp = fp_of(text, strlen(text));
	if (store_put_mem(cache, text, strlen(text), &o->oid, &e) < 0)
		fail_msg("%s", e.msg);
	return o;
}

/* Store it, with the inputs in the state they are in now. */
static void store(struct made *m)
{
	struct result *r = m->r;
	struct key_state *k;
	auto_buf struct buf b = {0};
	struct err e;

	path_set_encode(&m->set, &b);
	r->step_key = step.key;
	r->path_set_id = fp_of(b.data, b.len);
	if (!r->name) { /* it may be stored more than once */
		r->name = xstrdup("t");
		r->cwd = xstrdup(step.cwd);
		r->env_note = xstrdup("");
		r->argv = xcalloc(1, sizeof(char *));
	}
	r->stored_ns = r->stored_ns ? r->stored_ns : now_ns();
	r->strict = opts.strict;
	k = input_key_begin(&step.key, &r->path_set_id);
	while (r->n_states)
		buf_free(&r->states[--r->n_states]);
	for (size_t i = 0; i < m->set.n; i++) {
		const struct path_entry *p = &m->set.v[i];
		struct stat st;
		int err = lstat(p->path, &st) < 0 ? errno : 0;

		assert_int_equal(state_of(cache, p->path, p->kinds, err ? NULL : &st, err, NULL,
					  p->excluded, p->n_excluded, &r->states[i]),
				 0);
		input_key_add(k, r->states[i].data, r->states[i].len);
		r->n_states++;
	}
	r->input_key = input_key_end(k);
	if (store_flush(cache, &e) < 0 || idx_result_put(cache, r, &m->set, &e) < 0)
		fail_msg("%s", e.msg);
}

static void end(struct made *m)
{
	path_set_free(&m->set);
	result_free(m->r);
}

/* ---- questions ---- */

static void want_hit(struct decision *d)
{
	decide(cache, &opts, &step, NULL, d);
	if (!d->hit)
		fail_msg("a miss: %s", d->reason);
	assert_null(d->reason);
}

static void want_miss(const char *reason)
{
	struct decision d;

	decide(cache, &opts, &step, NULL, &d);
	assert_false(d.hit);
	assert_string_equal(d.reason, reason);
	decision_free(&d);
}

/* A hit, for which this is to be done at the first output. */
static void want_place(enum place_action action)
{
	struct decision d;

	want_hit(&d);
	assert_int_equal(d.places[0].action, action);
	decision_free(&d);
}

/* A hit, put in place. */
static void replay(void)
{
	struct decision d;
	struct err e = {0};

	want_hit(&d);
	if (replay_outputs(cache, &d, &e) != 1)
		fail_msg("not placed: %s", e.msg);
	decision_free(&d);
	assert_no_litter();
	want_hit(&d);
	for (size_t i = 0; i < d.result->n_outputs; i++)
		assert_int_equal(d.places[i].action, PLACE_KEEP);
	decision_free(&d);
}

static int setup_all(void **state)
{
	auto_free char *dir = NULL;
	struct err e;

	(void)state;
	if (!mkdtemp(base))
		return -1;
	dir = xasprintf("%s/cache", base);
	if (idx_open(dir, false, &cache, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return -1;
	}
	return 0;
}

static int teardown_all(void **state)
{
	(void)state;
	idx_close(cache);
	return nftw(base, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

static int setup(void **state)
{
	static int n;

	(void)state;
	work = xasprintf("%s/%d", base, n++);
	opts = (struct exec_opts){.expire_after = -1};
	step = (struct step){.key = fp_of(work, strlen(work)), .cwd = xstrdup(work)};
	return mkdir(work, 0700);
}

static int teardown(void **state)
{
	(void)state;
	step_free(&step);
	free(work);
	return 0;
}

/* ---- decide: inputs ---- */

static void test_not_seen(void **state)
{
	(void)state;
	want_miss("not seen before");
}

static void test_input_reasons(void **state)
{
	struct made m = begin();
	struct decision d;
	auto_free char *sub = at("src");

	(void)state;
	put("in.txt", "one", 0644);
	assert_int_equal(mkdir(sub, 0755), 0);
	input(&m, "conf.yaml", OBS_ABSENT, NULL);
	input(&m, "in.txt", OBS_CONTENT, NULL);
	input(&m, "src", OBS_LIST, "made.o");
	store(&m);
	want_hit(&d);
	decision_free(&d);

	put("in.txt", "two", 0644);
	want_miss("in.txt changed");
	drop("in.txt");
	want_miss("in.txt is gone");
	put("in.txt", "one", 0644); /* the same again: a touch is no change */
	want_hit(&d);
	decision_free(&d);
	put("in.txt", "one", 0600);
	want_miss("in.txt changed");
	put("in.txt", "one", 0644);
	put("conf.yaml", "", 0644);
	want_miss("conf.yaml is new");
	drop("conf.yaml");
	put("src/made.o", "", 0644); /* the step's own name */
	want_hit(&d);
	decision_free(&d);
	put("src/other", "", 0644);
	want_miss("the listing of src changed");
	put("in.txt", "two", 0644);
	want_miss("in.txt changed (and 1 more)");
	end(&m);
}

static void test_most_useful_set(void **state)
{
	struct made a = begin(), b = begin();
	struct decision d;

	(void)state;
	put("x", "1", 0644);
	put("y", "1", 0644);
	input(&a, "x", OBS_CONTENT, NULL);
	store(&a);
	put("x", "2", 0644);
	input(&b, "x", OBS_CONTENT, NULL);
	input(&b, "y", OBS_CONTENT, NULL);
	store(&b);
	want_hit(&d);
	assert_true(fp_eq(&d.result->input_key, &b.r->input_key));
	decision_free(&d);
	put("x", "1", 0644); /* back to the other path set's */
	want_hit(&d);
	assert_true(fp_eq(&d.result->input_key, &a.r->input_key));
	decision_free(&d);
	end(&a);
	end(&b);
}

/* ---- decide: terms ---- */

static void test_terms(void **state)
{
	struct made m = begin();
	struct decision d;

	(void)state;
	m.r->stored_ns = now_ns() - 3 * 3600LL * 1000000000;
	m.r->exit_status = 3;
	store(&m);
	want_miss("it failed (exit status 3) when recorded");
	opts.cache_failures = true;
	want_hit(&d);
	decision_free(&d);
	opts.expire_after = 3600;
	decide(cache, &opts, &step, NULL, &d);
	assert_false(d.hit);
	assert_memory_equal(d.reason, "expired 2 h", 11);
	decision_free(&d);
	opts.expire_after = 4 * 3600;
	want_hit(&d);
	decision_free(&d);
	opts.strict = true;
	want_miss("recorded with another setting of --strict");
	end(&m);
}

static void test_future(void **state)
{
	struct made m = begin();

	(void)state;
	m.r->stored_ns = now_ns() + 3600LL * 1000000000;
	store(&m);
	opts.expire_after = 60;
	want_miss("its result is dated in the future");
	end(&m);
}

/* ---- decide: the licence for own outputs ---- */

static void test_edited_output(void **state)
{
	struct made m = begin(), other = begin();
	struct decision d;

	(void)state;
	put("in", "1", 0644);
	input(&m, "in", OBS_CONTENT, NULL);
	file(&m, "out", "result 1", 0644)->before =
		(struct left){.type = OUT_FILE, .mode = 0644, .size = 3, .fp = fp_of("old", 3)};
	store(&m);
	put("in", "2", 0644);
	input(&other, "in", OBS_CONTENT, NULL);
	file(&other, "out", "result 2", 0644);
	store(&other);

	put("in", "1", 0644);
	replay(); /* absent */
	assert_text("out", "result 1");
	put("out", "old", 0644); /* as before the recorded run */
	replay();
	put("out", "result 2", 0644); /* left by another recorded run */
	replay();
	assert_text("out", "result 1");

	put("out", "an edit!", 0644); /* the same size */
	want_miss("output out was changed since");
	put("out", "result 1", 0600); /* the mode was edited */
	want_miss("output out was changed since");
	assert_text("out", "result 1");
	put("out", "result 2", 0644);
	want_hit(&d);
	decision_free(&d);
	end(&m);
	end(&other);
}

static void test_unknown_before(void **state)
{
	struct made m = begin();

	(void)state;
	file(&m, "out", "x", 0644)->before = (struct left){.type = OUT_FILE, .unknown = true};
	store(&m);
	put("out", "y", 0644);
	want_miss("output out was changed since");
	end(&m);
}

static void test_other_type(void **state)
{
	struct made m = begin(), other = begin();
	auto_free char *out = at("out"), *elsewhere = at("elsewhere");

	(void)state;
	file(&m, "out", "x", 0644);
	store(&m);
	/* Another step left a link there: the recorded step would have written through it. */
	output(&other, "out", OUT_LINK, 0777)->now.target = xstrdup(elsewhere);
	step.key.b[0] ^= 1;
	store(&other);
	step.key.b[0] ^= 1;
	assert_int_equal(symlink(elsewhere, out), 0);
	want_miss("output out was changed since");
	drop("out");
	assert_int_equal(mkfifo(out, 0600), 0);
	want_miss("output out was changed since");
	assert_false(there("elsewhere"));
	end(&m);
	end(&other);
}

static void test_parents(void **state)
{
	struct made m = begin(), deep = begin();
	auto_free char *d = at("d"), *real = at("real");
	struct decision dec;

	(void)state;
	assert_int_equal(mkdir(d, 0755), 0);
	file(&m, "d/out", "x", 0644);
	store(&m);
	replay();
	drop("d/out");
	drop("d");
	want_miss("directory d is gone");
	put("d", "", 0644);
	want_miss("d is no longer a directory");
	drop("d");
	assert_int_equal(mkdir(real, 0755), 0);
	assert_int_equal(symlink("real", d), 0);
	want_miss("d is no longer a directory");
	assert_false(there("real/out"));

	/* a parent that is an output itself is made */
	step.key.b[0] ^= 1;
	output(&deep, "n", OUT_DIR, 0755);
	output(&deep, "n/m", OUT_DIR, 0755);
	file(&deep, "n/m/f", "deep", 0644);
	store(&deep);
	want_hit(&dec);
	decision_free(&dec);
	replay();
	assert_text("n/m/f", "deep");
	end(&m);
	end(&deep);
}

/* What else is a name of the file where an output goes: a step that made a new file leaves it alone, one that wrote into
 * the file changes it, unless it is something that the step saw as another file. */
static void test_other_names(void **state)
{
	struct made m = begin();
	struct decision d;
	struct err e = {0};
	struct output *o;

	(void)state;
	o = file(&m, "out", "second", 0644);
	o->before =
		(struct left){.type = OUT_FILE, .mode = 0644, .size = 5, .fp = fp_of("first", 5)};
	store(&m);
	put("out", "first", 0644);
	link_name("out", "name");
	replay();
	assert_text("out", "second");
	assert_text("name", "first");

	o->in_place = true;
	store(&m);
	put("out", "first", 0644);
	drop("name");
	link_name("out", "name");
	replay();
	assert_text("out", "second");
	assert_text("name", "second");
	assert_int_equal(look("name").st_ino, look("out").st_ino);

	o->now.mode = 0; /* not even for its owner */
	store(&m);
	drop("name");
	put("out", "first", 0644);
	link_name("out", "name");
	want_hit(&d);
	assert_int_equal(replay_outputs(cache, &d, &e), 1);
	decision_free(&d);
	assert_int_equal(look("name").st_mode, S_IFREG);
	drop("name");
	drop("out");
	o->now.mode = 0644;

	put("out", "first", 0644);
	link_name("out", "name");
	o->spilled = true;
	o->in_place = false;
	store(&m);
	want_miss("output out has other hard links now");
	end(&m);
}

static void test_name_that_was_seen(void **state)
{
	struct made m = begin();
	struct output *o;

	(void)state;
	put("seen", "first", 0644);
	input(&m, "seen", OBS_CONTENT, NULL);
	o = file(&m, "out", "second", 0644);
	o->in_place = true;
	o->before =
		(struct left){.type = OUT_FILE, .mode = 0644, .size = 5, .fp = fp_of("first", 5)};
	store(&m);
	link_name("seen", "out");
	want_miss("out is another name of seen now");
	end(&m);
}

/* What the step only removed may have been any file; what it read must have been this one then as well. */
static void test_name_that_was_parted(void **state)
{
	struct made m = begin();
	struct output *o, *gone;

	(void)state;
	put("out", "first", 0644);
	link_name("out", "z");
	input(&m, "out", OBS_CONTENT, NULL);
	input(&m, "z", OBS_EXISTS, NULL);
	o = file(&m, "out", "second", 0644);
	o->own = false;
	o->in_place = true;
	gone = output(&m, "z", OUT_ABSENT, 0);
	gone->own = false;
	store(&m);
	want_place(PLACE_THROUGH);
	gone->spilled = true;
	store(&m);
	want_miss("output z has other hard links now");
	/* one that goes under all its names */
	o->now.type = OUT_ABSENT;
	o->in_place = false;
	o->linked_before = gone->linked_before = 1;
	store(&m);
	want_place(PLACE_REMOVE);
	o->linked_before = gone->linked_before = 0;
	store(&m);
	want_miss("output z has other hard links now");
	o->now.type = OUT_FILE;
	o->in_place = true;
	gone->spilled = false;

	m.set.v[1].kinds = OBS_CONTENT;
	store(&m);
	want_miss("out is another name of z now");
	o->linked_before = gone->linked_before = 1;
	store(&m);
	want_place(PLACE_THROUGH);
	end(&m);
}

/* Inputs that were one file: renaming one to the other did nothing, and would do something now. */
static void test_names_of_inputs(void **state)
{
	struct made m = begin();

	(void)state;
	put("a", "x", 0644);
	link_name("a", "b");
	input(&m, "a", OBS_CONTENT, NULL);
	input(&m, "b", OBS_CONTENT, NULL);
	file(&m, "out", "made", 0644);
	m.r->same = xcalloc(1, sizeof(*m.r->same));
	m.r->same[0] = (struct same_file){0, 1};
	m.r->n_same = 1;
	store(&m);
	replay();
	drop("b");
	put("b", "x", 0644);
	want_miss("b is no longer another name of a");
	drop("b");
	link_name("a", "b");
	replay();
	end(&m);
}

static void test_ignored_in_listing(void **state)
{
	auto_free char *d = at("d"), *glob = at("d/*.log");
	struct made m = begin();

	(void)state;
	assert_int_equal(mkdir(d, 0755), 0);
	put("d/a", "", 0644);
	input(&m, "d", OBS_LIST, NULL);
	file(&m, "out", "made", 0644);
	store(&m);
	opts.ignore = (struct strlist){.v = &glob, .n = 1};
	replay();
	put("d/b.log", "", 0644);
	replay();
	put("d/b.txt", "", 0644);
	want_miss("the listing of d changed");
	end(&m);
}

/* A directory that the step made and looked into holds what the step put there and nothing else. */
static void test_listed(void **state)
{
	struct made m = begin();
	struct output *o = output(&m, "made", OUT_DIR, 0755);

	(void)state;
	file(&m, "made/f", "x", 0644);
	store(&m);
	replay();
	put("made/more", "y", 0644);
	replay();
	o->listed = true;
	m.r->stored_ns = 0; /* later than before, which makes stamps of that time void */
	store(&m);
	want_miss("made/more is new");
	drop("made/more");
	replay();
	end(&m);
}

/* An input that the step changed: the key proves the earlier state, no licence is needed. */
static void test_changed_input(void **state)
{
	struct made m = begin();

	(void)state;
	put("f", "b\na\n", 0644);
	input(&m, "f", OBS_CONTENT, NULL);
	file(&m, "f", "a\nb\n", 0644)->own = false;
	store(&m);
	/* replay() would ask again, when f is no longer the input: that is a miss, rightly */
	{
		struct decision d;
		struct err e = {0};

		want_hit(&d);
		assert_int_equal(d.places[0].action, PLACE_WRITE);
		assert_int_equal(replay_outputs(cache, &d, &e), 1);
		decision_free(&d);
	}
	assert_text("f", "a\nb\n");
	want_miss("f changed");
	assert_no_litter();
	end(&m);
}

/* ---- replay ---- */

static void test_kinds(void **state)
{
	struct made m = begin();
	struct stat st;
	char target[8] = {0};
	auto_free char *l = at("t/link");
	mode_t mask = umask(0777); /* must not matter */

	(void)state;
	output(&m, "t", OUT_DIR, 02755);
	file(&m, "t/empty", "", 0444);
	file(&m, "t/exec", "#!/bin/sh\n", 0755);
	output(&m, "t/fifo", OUT_FIFO, 0640);
	output(&m, "t/link", OUT_LINK, 0777)->now.target = xstrdup("nowhere");
	output(&m, "t/shut", OUT_DIR, 0555);
	file(&m, "t/shut/in", "inside", 0400);
	store(&m);
	replay();
	(void)umask(mask);
	assert_int_equal(look("t").st_mode, S_IFDIR | 02755);
	assert_int_equal(look("t/empty").st_mode, S_IFREG | 0444);
	assert_int_equal(look("t/empty").st_size, 0);
	assert_int_equal(look("t/exec").st_mode, S_IFREG | 0755);
	assert_int_equal(look("t/fifo").st_mode, S_IFIFO | 0640);
	assert_int_equal(look("t/shut").st_mode, S_IFDIR | 0555);
	assert_text("t/shut/in", "inside");
	assert_int_equal(readlink(l, target, sizeof(target)), 7);
	assert_memory_equal(target, "nowhere", 7);

	/* only what is missing is placed, also in the closed directory */
	st = look("t/exec");
	{
		auto_free char *shut = at("t/shut");

		assert_int_equal(chmod(shut, 0755), 0);
		drop("t/shut/in");
		assert_int_equal(chmod(shut, 0555), 0);
	}
	replay();
	assert_int_equal(look("t/exec").st_ino, st.st_ino);
	assert_text("t/shut/in", "inside");
	assert_int_equal(look("t/shut").st_mode, S_IFDIR | 0555);
	{
		auto_free char *shut = at("t/shut"); /* so that it can be cleared away */

		assert_int_equal(chmod(shut, 0755), 0);
	}
	end(&m);
}

static void test_large(void **state)
{
	const size_t n = 3 * STORE_INLINE_MAX + 7;
	auto_free char *text = xmalloc(n + 1);
	struct made m = begin();

	(void)state;
	memset(text, 'x', n);
	text[n] = '\0';
	file(&m, "big", text, 0644);
	store(&m);
	replay();
	assert_text("big", text);
	end(&m);
}

static void test_times(void **state)
{
	struct made m = begin();
	struct output *o;
	int64_t before = now_ns(), a, b, c;

	(void)state;
	file(&m, "a", "a", 0644)->mtime_ns = 30;
	file(&m, "b", "b", 0644)->mtime_ns = 10;
	file(&m, "c", "c", 0644)->mtime_ns = 10;
	file(&m, "e", "e", 0644)->mtime_ns = 20;
	o = file(&m, "d", "d", 0644);
	o->mtime_set = true;
	o->mtime_ns = 1234567890123456789;
	store(&m);
	replay();
	a = mtime("a"), b = mtime("b"), c = mtime("c");
	assert_true(b == c && a > b);
	assert_true(b >= before - 1000 && a <= now_ns());
	assert_true(mtime("d") == 1234567890123456789);

	/* what is restored does not become newer than what was made from it and stays */
	set_mtime("a", 2000000000);
	set_mtime("c", 1000000000);
	drop("b");
	replay();
	assert_true(mtime("b") == mtime("c"));
	drop("c");
	set_mtime("a", 500000000);
	drop("b");
	replay();
	assert_true(mtime("b") == mtime("c") && mtime("b") == 500000000LL * 1000000000 - 1);
	assert_true(mtime("a") == 500000000LL * 1000000000);

	/* two that stay may have the same time, and then it as well */
	set_mtime("a", 500000000);
	set_mtime("b", 500000000);
	set_mtime("c", 500000000);
	drop("e");
	replay();
	assert_true(mtime("e") == mtime("a"));

	set_mtime("d", 5); /* a time that the step set is set again */
	replay();
	end(&m);
}

static void test_links(void **state)
{
	struct made m = begin();

	(void)state;
	file(&m, "l1", "same", 0644)->link_group = 1;
	file(&m, "l2", "same", 0644)->link_group = 1;
	file(&m, "l3", "same", 0644)->link_group = 1;
	file(&m, "other", "same", 0644);
	store(&m);
	replay();
	assert_int_equal(look("l1").st_nlink, 3);
	assert_int_equal(look("l2").st_ino, look("l1").st_ino);
	assert_int_equal(look("l3").st_ino, look("l1").st_ino);
	assert_int_equal(look("other").st_nlink, 1);
	drop("l2");
	put("l2", "same", 0644); /* equal, but a file of its own */
	replay();
	assert_int_equal(look("l2").st_ino, look("l1").st_ino);
	assert_int_equal(look("l1").st_nlink, 3);
	end(&m);
}

/* A new name of a file that was there: what the step left as it was is that file's, not what the new name had. */
static void test_link_to_what_was_there(void **state)
{
	auto_free char *old = at("old");
	struct made m = begin();
	struct output *o;
	char value[8];

	(void)state;
	put("old", "first", 0644);
	if (setxattr(old, "user.k", "kept", 4, 0) < 0)
		skip();
	input(&m, "old", OBS_CONTENT, NULL);
	file(&m, "a", "first", 0644)->link_group = 1;
	o = file(&m, "old", "first", 0644);
	o->link_group = 1;
	o->in_place = true;
	o->own = false;
	o->mtime_set = true;
	o->mtime_ns = 5;
	store(&m);
	replay();
	assert_int_equal(look("a").st_ino, look("old").st_ino);
	assert_int_equal(getxattr(old, "user.k", value, sizeof(value)), 4);
	end(&m);
}

static void test_removals(void **state)
{
	struct made m = begin();
	auto_free char *d = at("d"), *s = at("d/s");
	struct decision dec;
	struct err e = {0};

	(void)state;
	assert_int_equal(mkdir(d, 0755), 0);
	assert_int_equal(mkdir(s, 0755), 0);
	put("d/f", "x", 0644);
	put("d/s/g", "y", 0644);
	input(&m, "d", OBS_EXISTS, NULL);
	output(&m, "d", OUT_ABSENT, 0)->own = false;
	output(&m, "d/f", OUT_ABSENT, 0)->own = false;
	output(&m, "d/s", OUT_ABSENT, 0)->own = false;
	output(&m, "d/s/g", OUT_ABSENT, 0)->own = false;
	store(&m);
	want_hit(&dec);
	assert_int_equal(replay_outputs(cache, &dec, &e), 1);
	decision_free(&dec);
	assert_false(there("d"));
	assert_no_litter();
	want_miss("d is gone");
	end(&m);
}

/* A directory becomes a file and a file a directory. */
static void test_type_changes(void **state)
{
	struct made m = begin();
	auto_free char *d = at("d");
	struct decision dec;
	struct err e = {0};

	(void)state;
	assert_int_equal(mkdir(d, 0755), 0);
	put("d/x", "1", 0644);
	put("f", "2", 0644);
	input(&m, "d", OBS_EXISTS, NULL);
	input(&m, "f", OBS_EXISTS, NULL);
	file(&m, "d", "now a file", 0644)->own = false;
	output(&m, "d/x", OUT_ABSENT, 0)->own = false;
	output(&m, "f", OUT_DIR, 0755)->own = false;
	file(&m, "f/y", "in it", 0644);
	store(&m);
	want_hit(&dec);
	if (replay_outputs(cache, &dec, &e) != 1)
		fail_msg("%s", e.msg);
	decision_free(&dec);
	assert_text("d", "now a file");
	assert_text("f/y", "in it");
	assert_no_litter();
	end(&m);
}

/* What others made between the decision and the placing stays, or is replaced as it would have been. */
static void test_made_meanwhile(void **state)
{
	struct made m = begin();
	auto_free char *t = at("t"), *s = at("t/s");
	struct decision d;
	struct err e = {0};

	(void)state;
	output(&m, "t", OUT_DIR, 0755);
	file(&m, "t/a", "a", 0644);
	output(&m, "t/s", OUT_DIR, 0750);
	file(&m, "t/s/b", "b", 0600);
	store(&m);
	want_hit(&d);
	assert_int_equal(mkdir(t, 0700), 0);
	put("t/a", "another", 0644);
	put("t/theirs", "theirs", 0644);
	assert_int_equal(mkdir(s, 0700), 0);
	if (replay_outputs(cache, &d, &e) != 1)
		fail_msg("not placed: %s", e.msg);
	decision_free(&d);
	assert_text("t/a", "a");
	assert_text("t/s/b", "b");
	assert_text("t/theirs", "theirs");
	assert_int_equal(look("t").st_mode, S_IFDIR | 0755);
	assert_int_equal(look("t/s").st_mode, S_IFDIR | 0750);
	assert_int_equal(look("t/s/b").st_mode, S_IFREG | 0600);
	assert_no_litter();
	end(&m);
}

/* Many that go to a directory which is there: some are not there, some are others, one has become a directory. */
static void many_in_one(struct made *m)
{
	static const char *const names[] = {"d/a", "d/b", "d/c", "d/e", "d/f"};
	auto_free char *dir = at("d"), *e = at("d/e");

	assert_int_equal(mkdir(dir, 0755), 0);
	put("d/b", "old b", 0640);
	assert_int_equal(mkdir(e, 0750), 0);
	input(m, "d/b", OBS_CONTENT, NULL);
	input(m, "d/e", OBS_EXISTS, NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		file(m, names[i], names[i], 0644)->own = i != 1 && i != 3;
}

static void test_many_in_one(void **state)
{
	struct made m = begin();
	struct decision d;
	struct err e = {0};

	(void)state;
	many_in_one(&m);
	store(&m);
	want_hit(&d);
	if (replay_outputs(cache, &d, &e) != 1)
		fail_msg("not placed: %s", e.msg);
	decision_free(&d);
	for (size_t i = 0; i < m.r->n_outputs; i++) {
		const char *name = m.r->outputs[i].path + strlen(work) + 1;

		assert_text(name, name);
		assert_int_equal(look(name).st_mode, S_IFREG | 0644);
	}
	assert_no_litter();
	end(&m);
}

/* ---- failures ---- */

/* They are all back, and what was there is, when the last cannot be placed. */
static void test_many_taken_back(void **state)
{
	struct made m = begin();
	struct decision d;
	struct err e = {0};

	(void)state;
	many_in_one(&m);
	output(&m, "t", OUT_DIR, 0755);
	file(&m, "t/x", "x", 0644);
	output(&m, "t/y", OUT_DIR, 0755);
	file(&m, "t/y/z", "z", 0644);
	file(&m, "zz", "zz", 0644);
	store(&m);
	want_hit(&d);
	put("d/e/unexpected", "", 0644);
	assert_true(replay_outputs(cache, &d, &e) < 0);
	decision_free(&d);
	assert_false(there("d/a"));
	assert_text("d/b", "old b");
	assert_int_equal(look("d/b").st_mode, S_IFREG | 0640);
	assert_false(there("d/c"));
	assert_true(there("d/e/unexpected"));
	assert_false(there("t"));
	assert_false(there("zz"));
	assert_no_litter();
	end(&m);
}

static void damage_object(const struct oid *o)
{
	char name[2 * sizeof(*o) + 1];
	auto_free char *path = NULL;

	hex(o, sizeof(*o), name);
	path = xasprintf("%s/cas/%.2s/%s", idx_dir(cache), name, name + 2);
	assert_int_equal(unlink(path), 0);
}

static void test_missing_object(void **state)
{
	char text[2 * STORE_INLINE_MAX + 1];
	struct made m = begin();
	struct decision d;
	struct err e = {0};
	struct oid oid;

	(void)state;
	memset(text, 'm', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	file(&m, "a", "small", 0644);
	oid = file(&m, "b", text, 0644)->oid;
	store(&m);
	damage_object(&oid);
	want_hit(&d);
	assert_int_equal(replay_outputs(cache, &d, &e), 0);
	decision_free(&d);
	assert_false(there("a")); /* nothing was touched */
	assert_no_litter();
	decide(cache, &opts, &step, NULL, &d);
	assert_false(d.hit); /* it was dropped */
	decision_free(&d);
	end(&m);
}

/* A failure half way leaves everything as it was, so that the step finds its inputs. */
static void test_roll_back(void **state)
{
	struct made m = begin();
	auto_free char *z = at("z");
	struct stat st;
	struct decision d;
	struct err e = {0};

	(void)state;
	put("a", "old a", 0640);
	put("gone", "still here", 0644);
	assert_int_equal(mkdir(z, 0755), 0);
	input(&m, "a", OBS_CONTENT, NULL);
	input(&m, "gone", OBS_CONTENT, NULL);
	input(&m, "z", OBS_EXISTS, NULL);
	file(&m, "a", "new a", 0644)->own = false;
	file(&m, "fresh", "new", 0644);
	output(&m, "gone", OUT_ABSENT, 0)->own = false;
	output(&m, "m", OUT_DIR, 0755);
	file(&m, "m/x", "x", 0644);
	file(&m, "z", "a file here", 0644)->own = false;
	store(&m);
	want_hit(&d);
	put("z/unexpected", "", 0644); /* z cannot become a file now */
	st = look("a");
	assert_true(replay_outputs(cache, &d, &e) < 0);
	assert_non_null(strstr(e.msg, z));
	decision_free(&d);
	assert_text("a", "old a");
	assert_int_equal(look("a").st_ino, st.st_ino);
	assert_int_equal(look("a").st_mode, S_IFREG | 0640);
	assert_text("gone", "still here");
	assert_false(there("fresh"));
	assert_false(there("m"));
	assert_true(there("z/unexpected"));
	assert_no_litter();
	end(&m);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_not_seen),
		T(test_input_reasons),
		T(test_most_useful_set),
		T(test_terms),
		T(test_future),
		T(test_edited_output),
		T(test_unknown_before),
		T(test_other_type),
		T(test_parents),
		T(test_other_names),
		T(test_name_that_was_seen),
		T(test_name_that_was_parted),
		T(test_names_of_inputs),
		T(test_ignored_in_listing),
		T(test_listed),
		T(test_changed_input),
		T(test_kinds),
		T(test_large),
		T(test_times),
		T(test_links),
		T(test_link_to_what_was_there),
		T(test_removals),
		T(test_type_changes),
		T(test_made_meanwhile),
		T(test_many_in_one),
		T(test_many_taken_back),
		T(test_missing_object),
		T(test_roll_back),
	};

	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
