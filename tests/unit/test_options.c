/* SPDX-License-Identifier: MIT */
/* The words of `mlfs exec` and the settings of mlfs.conf: what they set, and the one line for a
 * wrong one. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/runner.h"

#define WORDS(...)                        \
	(char *[])                        \
	{                                 \
		"exec", __VA_ARGS__, NULL \
	}

static char dir[] = "/tmp/mlfs-test-options-XXXXXX";
static char said[4096]; /* what the last parse wrote to stderr */
static char told[8192]; /* and to stdout */

/* ---- helpers ---- */

static int redirect(int fd, int *ret_saved)
{
	int to = memfd_create("said", MFD_CLOEXEC);

	assert_true(to >= 0);
	*ret_saved = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	assert_int_equal(dup2(to, fd), fd);
	return to;
}

static void restore(int fd, int to, int saved, char *text, size_t n)
{
	ssize_t k = pread(to, text, n - 1, 0);

	assert_true(k >= 0);
	text[k] = '\0';
	dup2(saved, fd);
	close(saved);
	close(to);
}

static int parse(char **words, struct exec_opts *o)
{
	int argc = 0, out, err, saved_out, saved_err, r;

	while (words[argc])
		argc++;
	fflush(stdout);
	out = redirect(STDOUT_FILENO, &saved_out);
	err = redirect(STDERR_FILENO, &saved_err);
	*o = (struct exec_opts){0};
	r = exec_opts_parse(argc, words, o);
	fflush(stdout);
	restore(STDOUT_FILENO, out, saved_out, told, sizeof(told));
	restore(STDERR_FILENO, err, saved_err, said, sizeof(said));
	return r;
}

static void good(char **words, struct exec_opts *o)
{
	int r = parse(words, o);

	if (r != 0)
		fail_msg("refused: %s", said);
	assert_string_equal(said, "");
}

/* Refused, with exactly this line. */
static void bad(char **words, const char *line)
{
	struct exec_opts o;

	assert_true(parse(words, &o) < 0);
	assert_string_equal(said, line);
}

static void write_text(const char *path, const char *text)
{
	auto_fclose FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
}

static char *in_dir(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	unsetenv("MLFS_CONFIG");
	unsetenv("MLFS_DEBUG");
	unsetenv("XDG_CACHE_HOME");
	setenv("MLFS_CACHE", dir, 1);
	return 0;
}

static int teardown(void **state)
{
	auto_free char *command = xasprintf("rm -rf %s", dir);

	(void)state;
	return system(command);
}

static int no_config(void **state)
{
	auto_free char *conf = in_dir("mlfs.conf");

	(void)state;
	(void)unlink(conf);
	setenv("MLFS_CACHE", dir, 1);
	unsetenv("MLFS_CONFIG");
	return 0;
}

/* ---- the command line ---- */

static void test_defaults(void **state)
{
	struct exec_opts o;

	(void)state;
	good(WORDS("true"), &o);
	assert_true(o.expire_after < 0);
	assert_int_equal(o.verbosity, 0);
	assert_int_equal(o.max_size == MAX_SIZE_DEFAULT, true);
	assert_null(o.config);
	assert_null(o.name);
	assert_null(o.salt);
	assert_false(o.no_cache || o.refresh || o.read_only || o.only_if_cached || o.require);
	assert_false(o.strict || o.allow_network || o.cache_failures || o.verify || o.clean_env);
	assert_int_equal(o.argc, 1);
	assert_string_equal(o.argv[0], "true");
	assert_null(o.argv[1]);
	assert_string_equal(o.cache_dir, dir);
	exec_opts_free(&o);
}

static void test_every_option(void **state)
{
	struct exec_opts o;

	(void)state;
	good(WORDS("--expire-after", "P1DT1H", "--read-only", "--require", "--env", "A",
		   "--env=B=1", "--ignore-env", "C*", "--clean-env", "--strict", "--ignore", "/x/y",
		   "--allow-network", "--cache-failures", "--salt", "s", "--name=n", "--verify",
		   "--report", "r.json", "--max-size", "2G", "-v", "--", "cmd", "--strict", "-q"),
	     &o);
	assert_true(o.expire_after == 25 * 3600.0);
	assert_true(o.read_only && o.require && o.clean_env && o.strict);
	assert_true(o.allow_network && o.cache_failures && o.verify);
	assert_int_equal(o.env.n, 2);
	assert_string_equal(o.env.v[0], "A");
	assert_string_equal(o.env.v[1], "B=1");
	assert_int_equal(o.ignore_env.n, 1);
	assert_string_equal(o.ignore_env.v[0], "C*");
	assert_string_equal(o.salt, "s");
	assert_string_equal(o.name, "n");
	assert_string_equal(o.report, "r.json");
	assert_true(o.max_size == 2ULL << 30);
	assert_int_equal(o.verbosity, 1);
	assert_int_equal(o.argc, 3);
	assert_string_equal(o.argv[1], "--strict");
	exec_opts_free(&o);

	good(WORDS("--no-cache", "-q", "x"), &o);
	assert_true(o.no_cache);
	assert_int_equal(o.verbosity, -1);
	exec_opts_free(&o);
	good(WORDS("--only-if-cached", "-vq", "x"), &o);
	assert_true(o.only_if_cached);
	assert_int_equal(o.verbosity, -1);
	exec_opts_free(&o);
	good(WORDS("--refresh", "--strict=no", "x"), &o);
	assert_true(o.refresh);
	assert_false(o.strict);
	exec_opts_free(&o);
}

static void test_end_of_options(void **state)
{
	struct exec_opts o;

	(void)state;
	good(WORDS("cmd", "--help", "--nonsense"), &o);
	assert_int_equal(o.argc, 3);
	exec_opts_free(&o);
	good(WORDS("--", "--cmd"), &o);
	assert_string_equal(o.argv[0], "--cmd");
	exec_opts_free(&o);
	good(WORDS("--salt", "--strict", "x"), &o);
	assert_string_equal(o.salt, "--strict");
	assert_false(o.strict);
	exec_opts_free(&o);
	good(WORDS("-", "x"), &o);
	assert_string_equal(o.argv[0], "-");
	exec_opts_free(&o);
	good(WORDS("--salt=", "--expire-after", "never", "--", "--", "x"), &o);
	assert_string_equal(o.salt, "");
	assert_true(o.expire_after < 0);
	assert_string_equal(o.argv[0], "--");
	exec_opts_free(&o);
}

static void test_usage_errors(void **state)
{
	(void)state;
	bad(WORDS("--expires-after", "P1D", "x"),
	    "mlfs: unknown option '--expires-after'; did you mean '--expire-after'?\n");
	bad(WORDS("--frobnicate", "x"),
	    "mlfs: unknown option '--frobnicate'; 'mlfs exec --help' lists them\n");
	bad(WORDS("-expire-after", "P1D", "x"),
	    "mlfs: unknown option '-expire-after'; did you mean '--expire-after'?\n");
	bad(WORDS("-x", "x"), "mlfs: unknown option '-x'; did you mean '-q', '-v' or '--help'?\n");
	bad(WORDS("--expire-after", "2hours", "x"),
	    "mlfs: option '--expire-after': '2hours' is not a duration, such as PT30M, P1D or "
	    "P7DT12H\n");
	bad(WORDS("--max-size", "lots", "x"),
	    "mlfs: option '--max-size': 'lots' is not a size, such as 500M, 20G or 1T\n");
	bad(WORDS("--max-size=99999999999T", "x"),
	    "mlfs: option '--max-size': '99999999999T' is too large a size\n");
	bad(WORDS("--strict=perhaps", "x"),
	    "mlfs: option '--strict': 'perhaps' is neither yes nor no\n");
	bad(WORDS("--salt"), "mlfs: option '--salt' needs a value: TEXT\n");
	bad(WORDS("--name", "", "x"), "mlfs: option '--name': '' is empty\n");
	bad(WORDS("--env", "=1", "x"), "mlfs: option '--env': '=1' has no name\n");
	bad(WORDS("--refresh", "--only-if-cached", "x"),
	    "mlfs: '--refresh' and '--only-if-cached' exclude each other\n");
	bad(WORDS("--verify", "--refresh", "x"),
	    "mlfs: '--refresh' and '--verify' exclude each other\n");
	bad(WORDS("--verify", "--only-if-cached", "x"),
	    "mlfs: '--verify' and '--only-if-cached' exclude each other\n");
	bad(WORDS("--verify", "--no-cache", "x"),
	    "mlfs: '--no-cache' and '--verify' exclude each other\n");
	bad(WORDS("-q"), "mlfs: no command to run: mlfs exec [OPTIONS] [--] COMMAND [ARG...]\n");
	bad(WORDS("--"), "mlfs: no command to run: mlfs exec [OPTIONS] [--] COMMAND [ARG...]\n");
	bad(WORDS("--config", "/no/such/file", "x"),
	    "mlfs: cannot open /no/such/file: No such file or directory\n");
}

static void test_help(void **state)
{
	struct exec_opts o;
	char *line, *rest = told;

	(void)state;
	assert_int_equal(parse(WORDS("--help"), &o), 1);
	assert_string_equal(said, "");
	assert_non_null(strstr(told, "--expire-after DUR"));
	assert_non_null(strstr(told, "-q, --quiet"));
	while ((line = strsep(&rest, "\n")))
		if (strlen(line) > 80)
			fail_msg("longer than 80 columns: %s", line);
	assert_int_equal(parse(WORDS("--strict", "--version", "--nonsense"), &o), 1);
	assert_memory_equal(told, "mlfs ", 5);
}

/* ---- globs ---- */

static void test_ignore(void **state)
{
	auto_free char *cwd = getcwd(NULL, 0), *below = xasprintf("%s/logs/*", cwd);
	struct exec_opts o;

	(void)state;
	good(WORDS("--ignore=*.log", "--ignore=/a/b/", "--ignore=./logs/", "--ignore=logs/x",
		   "--ignore=*/tmp", "x"),
	     &o);
	assert_int_equal(o.ignore.n, 10);
	assert_string_equal(o.ignore.v[0], "*/*.log");
	assert_string_equal(o.ignore.v[1], "*/*.log/*");
	assert_string_equal(o.ignore.v[2], "/a/b");
	assert_string_equal(o.ignore.v[3], "/a/b/*");
	assert_string_equal(o.ignore.v[5], below);
	assert_memory_equal(o.ignore.v[6], cwd, strlen(cwd));
	assert_string_equal(o.ignore.v[8], "*/tmp");
	exec_opts_free(&o);
}

/* ---- where the cache is ---- */

static void test_cache_dir(void **state)
{
	auto_free char *cwd = getcwd(NULL, 0), *relative = xasprintf("%s/c", cwd);
	auto_free char *home = getenv("HOME") ? xstrdup(getenv("HOME")) : NULL;
	struct exec_opts o;

	(void)state;
	good(WORDS("--cache", "/tmp/nowhere", "x"), &o);
	assert_string_equal(o.cache_dir, "/tmp/nowhere");
	exec_opts_free(&o);
	good(WORDS("--cache=c", "x"), &o);
	assert_string_equal(o.cache_dir, relative);
	exec_opts_free(&o);

	setenv("MLFS_CACHE", "", 1); /* empty is unset */
	setenv("XDG_CACHE_HOME", "/x/cache", 1);
	good(WORDS("x"), &o);
	assert_string_equal(o.cache_dir, "/x/cache/mlfs");
	exec_opts_free(&o);

	setenv("XDG_CACHE_HOME", "relative", 1);
	setenv("HOME", "/h", 1);
	good(WORDS("x"), &o);
	assert_string_equal(o.cache_dir, "/h/.cache/mlfs");
	exec_opts_free(&o);

	unsetenv("HOME"); /* the password file knows */
	good(WORDS("x"), &o);
	assert_non_null(strstr(o.cache_dir, "/.cache/mlfs"));
	exec_opts_free(&o);
	unsetenv("XDG_CACHE_HOME");
	if (home)
		setenv("HOME", home, 1);
}

/* ---- mlfs.conf ---- */

static void test_config(void **state)
{
	auto_free char *conf = in_dir("mlfs.conf"), *other = in_dir("other.conf");
	struct exec_opts o;

	(void)state;
	write_text(conf, "# all steps\n"
			 "expire-after = P1D   # a day\n"
			 "salt = \"a # b \\\" c\"\n"
			 "ignore-env=X\n"
			 "\n"
			 "[step \"train*\"]\n"
			 "\tstrict = yes\n"
			 "  max-size = 1M\n"
			 "[step \"other\"]\n"
			 "salt = other\n");
	good(WORDS("--ignore-env", "Y", "/usr/bin/true"), &o);
	assert_true(o.expire_after == 86400.0);
	assert_string_equal(o.salt, "a # b \" c");
	assert_int_equal(o.ignore_env.n, 2);
	assert_string_equal(o.ignore_env.v[0], "X");
	assert_string_equal(o.config, conf);
	assert_false(o.strict);
	exec_opts_free(&o);

	/* sections: by --name, by the command's base name, by the script's */
	good(WORDS("--name", "training", "x"), &o);
	assert_true(o.strict);
	assert_true(o.max_size == 1 << 20);
	exec_opts_free(&o);
	good(WORDS("./bin/trainer"), &o);
	assert_true(o.strict);
	exec_opts_free(&o);
	good(WORDS("python3", "-u", "src/train.py"), &o);
	assert_true(o.strict);
	exec_opts_free(&o);
	good(WORDS("--name", "n", "./bin/trainer"), &o);
	assert_false(o.strict);
	exec_opts_free(&o);

	/* an option wins */
	good(WORDS("--strict=no", "--salt", "mine", "--expire-after=PT1S", "trainer"), &o);
	assert_false(o.strict);
	assert_string_equal(o.salt, "mine");
	assert_true(o.expire_after == 1.0);
	exec_opts_free(&o);

	/* --config, then $MLFS_CONFIG, then the cache's */
	write_text(other, "salt = from-other\n");
	good(WORDS("--config", other, "x"), &o);
	assert_string_equal(o.salt, "from-other");
	exec_opts_free(&o);
	setenv("MLFS_CONFIG", other, 1);
	good(WORDS("x"), &o);
	assert_string_equal(o.salt, "from-other");
	assert_string_equal(o.config, other);
	exec_opts_free(&o);
	good(WORDS("--config", conf, "x"), &o);
	assert_string_equal(o.config, conf);
	exec_opts_free(&o);
}

/* Flags that exclude each other: the command line wins, between two of the file the safer one. */
static void test_config_exclusive(void **state)
{
	auto_free char *conf = in_dir("mlfs.conf");
	struct exec_opts o;

	(void)state;
	write_text(conf, "verify = yes\nread-only = yes\n");
	good(WORDS("x"), &o);
	assert_true(o.verify && o.read_only);
	exec_opts_free(&o);
	good(WORDS("--refresh", "x"), &o);
	assert_true(o.refresh && !o.verify && !o.read_only);
	exec_opts_free(&o);
	good(WORDS("--only-if-cached", "x"), &o);
	assert_true(o.only_if_cached && !o.verify && o.read_only);
	exec_opts_free(&o);
	write_text(conf, "no-cache = yes\n");
	good(WORDS("--verify", "x"), &o);
	assert_true(o.verify && !o.no_cache);
	exec_opts_free(&o);
	good(WORDS("--verify=no", "x"), &o);
	assert_true(!o.verify && o.no_cache);
	exec_opts_free(&o);
	write_text(conf, "refresh = yes\nverify = yes\nonly-if-cached = yes\n");
	good(WORDS("x"), &o);
	assert_true(o.only_if_cached && !o.refresh && !o.verify);
	exec_opts_free(&o);
}

static void test_config_errors(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"\nexpire-afte = P1D\n",
		 "2: unknown setting 'expire-afte'; did you mean 'expire-after'?"},
		{"cache = /x\n", "1: 'cache' is for the command line only"},
		{"strict\n", "1: 'strict' is not of the form 'key = value'"},
		{"strict = 7\n", "1: setting 'strict': '7' is neither yes nor no"},
		{"salt = \"open\n", "1: the quotes do not close the value"},
		{"[steps]\n", "1: unknown section '[steps]'; sections are [step \"GLOB\"]"},
		{"[step \"x\"] strict = yes\n",
		 "1: unknown section '[step x\"] strict = yes'; sections are [step \"GLOB\"]"},
		/* mistakes in a section of another step are found as well */
		{"[step \"no\"]\nmax-size = big\n",
		 "2: setting 'max-size': 'big' is not a size, such as 500M, 20G or 1T"},
	};
	auto_free char *conf = in_dir("mlfs.conf");

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		auto_free char *line = xasprintf("mlfs: %s:%s\n", conf, cases[i].why);
		struct exec_opts o;

		write_text(conf, cases[i].text);
		assert_true(parse(WORDS("x"), &o) < 0);
		if (i != 6) /* what is left of the section's text is of no interest */
			assert_string_equal(said, line);
		else
			assert_non_null(strstr(said, "unknown section"));
	}
}

/* A default file that is there but cannot be read: what it asks for is not known, so nothing is
 * cached. */
static void test_config_unreadable(void **state)
{
	auto_free char *conf = in_dir("mlfs.conf");
	struct exec_opts o;

	(void)state;
	assert_int_equal(mkdir(conf, 0700), 0);
	assert_int_equal(parse(WORDS("x"), &o), 0);
	assert_true(o.no_cache);
	assert_non_null(strstr(said, "running without the cache"));
	exec_opts_free(&o);
	assert_int_equal(parse(WORDS("--verify", "x"), &o), 0);
	assert_true(o.no_cache); /* no word of the file: what it would have said is not known */
	exec_opts_free(&o);
	assert_int_equal(rmdir(conf), 0);
}

static void test_nearest(void **state)
{
	static const char *const words[] = {"exec", "log", "show", NULL};

	(void)state;
	assert_string_equal(nearest_word("exce", words), "exec");
	assert_string_equal(nearest_word("lgo", words), "log");
	assert_string_equal(nearest_word("shows", words), "show");
	assert_null(nearest_word("pull", words));
	assert_null(nearest_word("", words));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_defaults, no_config),
		cmocka_unit_test_setup(test_every_option, no_config),
		cmocka_unit_test_setup(test_end_of_options, no_config),
		cmocka_unit_test_setup(test_usage_errors, no_config),
		cmocka_unit_test_setup(test_help, no_config),
		cmocka_unit_test_setup(test_ignore, no_config),
		cmocka_unit_test_setup(test_cache_dir, no_config),
		cmocka_unit_test_setup(test_config, no_config),
		cmocka_unit_test_setup(test_config_exclusive, no_config),
		cmocka_unit_test_setup(test_config_errors, no_config),
		cmocka_unit_test_setup(test_config_unreadable, no_config),
		cmocka_unit_test(test_nearest),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
