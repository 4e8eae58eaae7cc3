/* SPDX-License-Identifier: MIT */
/* What is in a step's key and what is not, and what a step is called. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/options.h"

static char *command[] = {"cmd", "a", "b", NULL};

static struct exec_opts plain(void)
{
	struct exec_opts o;

	exec_opts_init(&o);
	o.argv = command;
	o.argc = 3;
	return o;
}

static struct fp key_in(const struct exec_opts *o, enum stdin_type in, const struct fp *fp,
			int64_t off)
{
	struct step s;
	struct err e = {0};
	struct fp key;

	if (step_describe(o, in, fp, off, &s, &e) < 0)
		fail_msg("%s", e.msg);
	key = s.key;
	step_free(&s);
	return key;
}

static struct fp key_of(const struct exec_opts *o)
{
	return key_in(o, IN_NULL, NULL, 0);
}

static bool differs(const struct exec_opts *a, const struct exec_opts *b)
{
	struct fp x = key_of(a), y = key_of(b);

	return !fp_eq(&x, &y);
}

/* Does the value of this variable count? */
static bool counts(const struct exec_opts *o, const char *name)
{
	auto_free char *old = getenv(name) ? xstrdup(getenv(name)) : NULL;
	struct fp x, y;

	setenv(name, "one", 1);
	x = key_of(o);
	setenv(name, "another", 1);
	y = key_of(o);
	if (old)
		setenv(name, old, 1);
	else
		unsetenv(name);
	return !fp_eq(&x, &y);
}

/* The streams of the tests are no terminals, whoever runs them. */
static int setup(void **state)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	(void)fd;
	unsetenv("MAKEFLAGS");
	return fd < 0;
}

static void test_same(void **state)
{
	struct exec_opts a = plain(), b = plain();

	(void)state;
	assert_false(differs(&a, &b));
	/* what changes how results are used, not what they are */
	b.expire_after = 5;
	b.name = (char *)"other";
	b.cache_dir = (char *)"/elsewhere";
	b.read_only = b.cache_failures = b.allow_network = b.require = true;
	b.verbosity = 1;
	b.max_size = 7;
	b.report = (char *)"r";
	assert_false(differs(&a, &b));
}

static void test_words(void **state)
{
	struct exec_opts a = plain(), b = plain();
	char *joined[] = {"cmd", "ab", "", NULL}, *split[] = {"cmd", "a", "b", "", NULL};

	(void)state;
	b.argv = joined;
	assert_true(differs(&a, &b));
	b.argv = split;
	b.argc = 4;
	assert_true(differs(&a, &b));
	b = plain();
	b.salt = (char *)"";
	assert_false(differs(&a, &b)); /* none */
	a.salt = (char *)"x";
	assert_true(differs(&a, &b));
	a = b = plain();
	b.strict = true;
	assert_true(differs(&a, &b));
}

static void test_ignore_order(void **state)
{
	struct exec_opts a = plain(), b = plain();
	char *one[] = {(char *)"x", (char *)"y"}, *two[] = {(char *)"y", (char *)"x"};

	(void)state;
	a.ignore = (struct strlist){one, 2};
	b.ignore = (struct strlist){two, 2};
	assert_false(differs(&a, &b));
	b.ignore.n = 1;
	assert_true(differs(&a, &b));
}

static void test_place(void **state)
{
	struct exec_opts o = plain();
	struct fp here = key_of(&o), there;
	auto_free char *cwd = getcwd(NULL, 0);
	mode_t mask;

	(void)state;
	assert_int_equal(chdir("/"), 0);
	there = key_of(&o);
	assert_int_equal(chdir(cwd), 0);
	assert_false(fp_eq(&here, &there));
	mask = umask(0137);
	there = key_of(&o);
	(void)umask(mask);
	assert_false(fp_eq(&here, &there));
}

static void test_streams(void **state)
{
	struct exec_opts o = plain();
	struct fp open_ = key_of(&o), closed, a, b;
	struct fp digest = fp_of("x", 1), other = fp_of("y", 1);
	int saved = fcntl(1, F_DUPFD_CLOEXEC, 10);

	(void)state;
	fflush(stdout);
	close(1);
	closed = key_of(&o);
	dup2(saved, 1);
	close(saved);
	assert_false(fp_eq(&open_, &closed));

	a = key_in(&o, IN_STREAM, NULL, 0);
	assert_false(fp_eq(&open_, &a));
	a = key_in(&o, IN_FILE, &digest, 0);
	b = key_in(&o, IN_FILE, &digest, 1);
	assert_false(fp_eq(&a, &b));
	b = key_in(&o, IN_FILE, &other, 0);
	assert_false(fp_eq(&a, &b));
	b = key_in(&o, IN_FILE, &digest, 0);
	assert_true(fp_eq(&a, &b));
}

static void test_environment(void **state)
{
	static const char *const in[] = {"PATH",      "HOME",	   "USER", "LANG",
					 "TZ",	      "LOGNAME",   "FOO",  "CUDA_VISIBLE_DEVICES",
					 "MAKEFLAGS", "PYTHONPATH"};
	static const char *const out[] = {
		"SHLVL",	   "_",		 "OLDPWD",
		"SSH_AUTH_SOCK",   "SSH_TTY",	 "XDG_SESSION_ID",
		"XDG_RUNTIME_DIR", "DISPLAY",	 "TMUX",
		"WINDOWID",	   "GPG_TTY",	 "INVOCATION_ID",
		"MLFS_CACHE",	   "MLFS_DEBUG", "DBUS_SESSION_BUS_ADDRESS"};
	struct exec_opts o = plain();

	(void)state;
	for (size_t i = 0; i < sizeof(in) / sizeof(*in); i++)
		if (!counts(&o, in[i]))
			fail_msg("%s should be in the key", in[i]);
	for (size_t i = 0; i < sizeof(out) / sizeof(*out); i++)
		if (counts(&o, out[i]))
			fail_msg("%s should not be in the key", out[i]);
	/* a terminal's variables count on a terminal only */
	if (!isatty(1) && !isatty(2)) {
		assert_false(counts(&o, "TERM"));
		assert_false(counts(&o, "COLUMNS"));
	}
}

static void test_env_rules(void **state)
{
	char *foo_all[] = {(char *)"FOO_*"}, *foo_x[] = {(char *)"FOO_X"},
	     *display[] = {(char *)"DISPLAY"}, *fixed[] = {(char *)"FOO=1"},
	     *fixed2[] = {(char *)"FOO=2"};
	struct exec_opts o = plain(), p = plain();

	(void)state;
	o.ignore_env = (struct strlist){foo_all, 1};
	assert_false(counts(&o, "FOO_A"));
	assert_true(counts(&o, "FOO"));
	o.env = (struct strlist){foo_x, 1}; /* the more exact rule decides */
	assert_true(counts(&o, "FOO_X"));
	assert_false(counts(&o, "FOO_A"));
	o.env = (struct strlist){foo_all, 1};
	o.ignore_env = (struct strlist){foo_x, 1};
	assert_false(counts(&o, "FOO_X"));
	assert_true(counts(&o, "FOO_A"));
	o.env = (struct strlist){foo_x, 1}; /* a tie: in */
	assert_true(counts(&o, "FOO_X"));

	o = plain();
	o.env = (struct strlist){display, 1}; /* noise that was asked for */
	assert_true(counts(&o, "DISPLAY"));
	o = plain();
	o.clean_env = true;
	assert_false(counts(&o, "PATH"));
	o.env = (struct strlist){foo_all, 1};
	assert_true(counts(&o, "FOO_A"));

	o = plain();
	o.env = (struct strlist){fixed, 1}; /* a value given stands for the variable's */
	assert_false(counts(&o, "FOO"));
	p.env = (struct strlist){fixed2, 1};
	assert_true(differs(&o, &p));
}

static void test_pwd(void **state)
{
	auto_free char *old = getenv("PWD") ? xstrdup(getenv("PWD")) : NULL;
	auto_free char *cwd = getcwd(NULL, 0), *other = xasprintf("%s/.", cwd);
	struct exec_opts o = plain();
	struct fp none, same, alias;

	(void)state;
	unsetenv("PWD");
	none = key_of(&o);
	setenv("PWD", cwd, 1);
	same = key_of(&o);
	setenv("PWD", other, 1);
	alias = key_of(&o);
	assert_true(fp_eq(&none, &same));
	assert_false(fp_eq(&none, &alias));
	if (old)
		setenv("PWD", old, 1);
	else
		unsetenv("PWD");
}

static void test_jobserver(void **state)
{
	struct exec_opts o = plain();
	struct fp a, b, c;

	(void)state;
	setenv("MAKEFLAGS", "kw -j4 --jobserver-auth=fifo:/tmp/GMfifo17 -- X=1", 1);
	a = key_of(&o);
	setenv("MAKEFLAGS", "kw -j4 --jobserver-auth=fifo:/tmp/GMfifo99 -- X=1", 1);
	b = key_of(&o);
	setenv("MAKEFLAGS", "kw -j4 --jobserver-auth=fifo:/tmp/GMfifo99 -- X=2", 1);
	c = key_of(&o);
	unsetenv("MAKEFLAGS");
	assert_true(fp_eq(&a, &b));
	assert_false(fp_eq(&a, &c));
}

static void test_note(void **state)
{
	struct exec_opts o = plain();
	struct step s;
	struct err e;

	(void)state;
	o.clean_env = true;
	setenv("FOO_B", "2", 1);
	setenv("FOO_A", "1", 1);
	o.env = (struct strlist){(char *[]){(char *)"FOO_*", (char *)"FOO_AA=x"}, 2};
	assert_int_equal(step_describe(&o, IN_NULL, NULL, 0, &s, &e), 0);
	assert_string_equal(s.env_note, "FOO_A=1\nFOO_AA=x\nFOO_B=2\n");
	assert_string_equal(s.name, "cmd");
	step_free(&s);
	unsetenv("FOO_A");
	unsetenv("FOO_B");
}

/* ---- merged streams ---- */

static bool merged_as(int out, int err)
{
	int saved[2] = {fcntl(1, F_DUPFD_CLOEXEC, 10), fcntl(2, F_DUPFD_CLOEXEC, 10)};
	struct exec_opts o = plain();
	struct step s;
	struct err e;
	bool merged;
	int r;

	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	r = step_describe(&o, IN_NULL, NULL, 0, &s, &e);
	dup2(saved[0], 1);
	dup2(saved[1], 2);
	close(saved[0]);
	close(saved[1]);
	assert_int_equal(r, 0);
	merged = s.merged;
	step_free(&s);
	return merged;
}

static void test_merged(void **state)
{
	char path[] = "/tmp/mlfs-test-step-XXXXXX";
	int file = mkstemp(path), again = open(path, O_WRONLY | O_CLOEXEC);
	int app1 = open(path, O_WRONLY | O_APPEND), app2 = open(path, O_WRONLY | O_APPEND);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), p[2], q[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(pipe(q), 0);
	assert_true(file >= 0 && again >= 0 && null >= 0 && app1 >= 0 && app2 >= 0);
	assert_true(merged_as(p[1], p[1]));
	assert_false(merged_as(p[1], q[1]));
	assert_true(merged_as(file, file));
	assert_true(merged_as(app1, app2));
	assert_false(merged_as(null, null));
	/* two offsets; told apart where the kernel says (kcmp), or by their offsets */
	assert_int_equal(write(file, "x", 1), 1);
	assert_false(merged_as(file, again));
	close(file), close(again), close(app1), close(app2), close(null);
	close(p[0]), close(p[1]), close(q[0]), close(q[1]);
	assert_int_equal(unlink(path), 0);
}

/* ---- names ---- */

static void test_names(void **state)
{
	static const struct {
		const char *argv[8], *name;
	} cases[] = {
		{{"/usr/bin/make", "-j2"}, "make"},
		{{"./train.py", "x"}, "train.py"},
		{{"python3", "train.py"}, "train.py"},
		{{"/usr/bin/python3.11", "-u", "-W", "ignore", "src/train.py", "x.py"}, "train.py"},
		{{"python3", "-m", "pkg.train"}, "pkg.train"},
		{{"python3", "-c", "print(1)"}, "python3"},
		{{"python3", "-"}, "python3"},
		{{"python3"}, "python3"},
		{{"sh", "-ec", "echo hi"}, "sh"},
		{{"bash", "-euo", "pipefail", "build.sh"}, "build.sh"},
		{{"bash", "-x", "/a/build.sh"}, "build.sh"},
		{{"perl", "-ne", "print"}, "perl"},
		{{"perl", "-w", "x.pl"}, "x.pl"},
		{{"Rscript", "--vanilla", "fit.R"}, "fit.R"},
		{{"node", "--max-old-space-size=99", "app.js"}, "app.js"},
		{{"node", "-e", "1"}, "node"},
		{{"env", "A=1", "python3", "t.py"}, "t.py"},
		{{"env"}, "env"},
		{{"dir/"}, "dir/"},
		{{NULL}, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		auto_free char *name = step_default_name((char *const *)cases[i].argv);

		assert_string_equal(name, cases[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),	     cmocka_unit_test(test_words),
		cmocka_unit_test(test_ignore_order), cmocka_unit_test(test_place),
		cmocka_unit_test(test_streams),	     cmocka_unit_test(test_environment),
		cmocka_unit_test(test_env_rules),    cmocka_unit_test(test_pwd),
		cmocka_unit_test(test_jobserver),    cmocka_unit_test(test_note),
		cmocka_unit_test(test_merged),	     cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
