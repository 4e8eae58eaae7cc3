/* SPDX-License-Identifier: MIT */
/* options.c - the words of `mlfs exec`; config.c gives the same table the settings of mlfs.conf. */
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

enum kind {
	K_HELP,
	K_VERSION,
	K_FLAG,	   /* bool at offset */
	K_LEVEL,   /* verbosity becomes `level` */
	K_TEXT,	   /* char * at offset; may be empty */
	K_WORD,	   /* char * at offset; not empty */
	K_LIST,	   /* struct strlist at offset: each use adds one */
	K_GLOBS,   /* the same, made absolute */
	K_SECONDS, /* double at offset */
	K_SIZE,	   /* uint64_t at offset */
};

struct option_def {
	const char *name; /* without the dashes */
	char letter;	  /* or 0 */
	enum kind kind;
	size_t offset;
	int level;
	bool not_in_file; /* of the command line only */
	const char *arg;  /* how the help calls its value; NULL: it takes none */
	const char *help;
};

#define AT(member) offsetof(struct exec_opts, member)

/* In the order of the help. */
static const struct option_def options[] = {
	{"cache", 0, K_WORD, AT(cache_dir), 0, true, "DIR",
	 "the cache ($MLFS_CACHE, ~/.cache/mlfs)"},
	{"config", 0, K_WORD, AT(config), 0, true, "FILE", "settings (DIR/mlfs.conf)"},
	{"expire-after", 0, K_SECONDS, AT(expire_after), 0, false, "DUR",
	 "a result older than DUR (P7D, PT12H) is not used"},
	{"no-cache", 0, K_FLAG, AT(no_cache), 0, false, NULL, "run plainly: no lookup, no store"},
	{"refresh", 0, K_FLAG, AT(refresh), 0, false, NULL, "run, and store the new result"},
	{"read-only", 0, K_FLAG, AT(read_only), 0, false, NULL, "use hits, store nothing"},
	{"only-if-cached", 0, K_FLAG, AT(only_if_cached), 0, false, NULL,
	 "never run: status 125 where there is no hit"},
	{"no-lazy", 0, K_FLAG, AT(no_lazy), 0, false, NULL,
	 "in a mount: a hit's outputs are real files at once"},
	{"require", 0, K_FLAG, AT(require), 0, false, NULL, "fail where the step cannot be traced"},
	{"env", 0, K_LIST, AT(env), 0, false, "NAME[=VAL]",
	 "this variable is in the key (NAME may hold *)"},
	{"ignore-env", 0, K_LIST, AT(ignore_env), 0, false, "NAME",
	 "this variable is not in the key"},
	{"clean-env", 0, K_FLAG, AT(clean_env), 0, false, NULL,
	 "only what --env names is in the key"},
	{"strict", 0, K_FLAG, AT(strict), 0, false, NULL,
	 "what an earlier run left behind is an input too"},
	{"ignore", 0, K_GLOBS, AT(ignore), 0, false, "GLOB", "paths neither inputs nor outputs"},
	{"allow-network", 0, K_FLAG, AT(allow_network), 0, false, NULL,
	 "store the result though the network was used"},
	{"cache-failures", 0, K_FLAG, AT(cache_failures), 0, false, NULL,
	 "store results with a non-zero status too"},
	{"salt", 0, K_TEXT, AT(salt), 0, false, "TEXT", "part of the key: change it to start over"},
	{"name", 0, K_WORD, AT(name), 0, false, "NAME", "what this step is called"},
	{"verify", 0, K_FLAG, AT(verify), 0, false, NULL,
	 "on a hit run it all the same and compare"},
	{"private", 0, K_FLAG, AT(private_), 0, false, NULL,
	 "no results of other users, and none for them"},
	{"report", 0, K_WORD, AT(report), 0, false, "FILE", "write a JSON object about this run"},
	{"max-size", 0, K_SIZE, AT(max_size), 0, false, "SIZE",
	 "keep the cache below SIZE (20G, none)"},
	{"max-age", 0, K_SECONDS, AT(max_age), 0, false, "DUR", "drop results not used for DUR"},
	{"keep-runs", 0, K_SECONDS, AT(keep_runs), 0, false, "DUR",
	 "runs are kept so long for log and stats (P365D)"},
	{"keep-runs-size", 0, K_SIZE, AT(keep_runs_size), 0, false, "SIZE",
	 "and take at most about so much (512M)"},
	{"quiet", 'q', K_LEVEL, 0, -1, false, NULL, "say nothing"},
	{"verbose", 'v', K_LEVEL, 0, 1, false, NULL, "say why"},
	{"help", 'h', K_HELP, 0, 0, true, NULL, "this text"},
	{"version", 0, K_VERSION, 0, 0, true, NULL, "the version of mlfs"},
};
#define N_OPTIONS (sizeof(options) / sizeof(*options))

void exec_opts_init(struct exec_opts *o)
{
	*o = (struct exec_opts){.expire_after = -1,
				.max_size = MAX_SIZE_DEFAULT,
				.max_age = -1,
				.keep_runs = 365 * 86400.0,
				.keep_runs_size = UINT64_C(512) << 20};
}

void strlist_free(struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strlist){0};
}

void strlist_add(struct strlist *l, char *s)
{
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = s;
}

void exec_opts_free(struct exec_opts *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < N_OPTIONS; i++) {
		void *at = (char *)o + options[i].offset;

		if (options[i].kind == K_TEXT || options[i].kind == K_WORD)
			free(*(char **)at);
		else if (options[i].kind == K_LIST || options[i].kind == K_GLOBS)
			strlist_free(at);
	}
	exec_opts_init(o);
}

/* ---- the nearest word ---- */

const char *nearest_word(const char *wrong, const char *const *words)
{
	const char *best = NULL;
	unsigned least = 0;

	for (; *words; words++) {
		size_t len = strlen(wrong) > strlen(*words) ? strlen(wrong) : strlen(*words);
		unsigned d = edit_distance(wrong, *words);

		/* A third of the letters wrong is a slip; more is another word. */
		if (d * 3 <= len + 1 && (!best || d < least)) {
			best = *words;
			least = d;
		}
	}
	return best;
}

/* The option whose name is nearest, or NULL. */
static const char *nearest_option(const char *wrong)
{
	const char *names[N_OPTIONS + 1];

	for (size_t i = 0; i < N_OPTIONS; i++)
		names[i] = options[i].name;
	names[N_OPTIONS] = NULL;
	return nearest_word(wrong, names);
}

/* ---- values; each sets or says in *ret_why what is wrong with the value ---- */

int value_flag(bool *at, const char *value, char **ret_why)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < 4; i++) {
		if (!value || strcmp(value, yes[i]) == 0) {
			*at = true;
			return 0;
		}
		if (strcmp(value, no[i]) == 0) {
			*at = false;
			return 0;
		}
	}
	*ret_why = xasprintf("'%s' is neither yes nor no", value);
	return -EINVAL;
}

int value_seconds(double *at, const char *value, char **ret_why)
{
	if (strcmp(value, "never") == 0) {
		*at = -1;
		return 0;
	}
	if (parse_duration(value, at) >= 0)
		return 0;
	*ret_why = xasprintf("'%s' is not a duration, such as PT30M, P1D or P7DT12H", value);
	return -EINVAL;
}

int value_size(uint64_t *at, const char *value, char **ret_why)
{
	int r = parse_size(value, at);

	if (strcmp(value, "none") == 0) {
		*at = UINT64_MAX;
		return 0;
	}

	if (r >= 0)
		return 0;
	*ret_why = r == -ERANGE ? xasprintf("'%s' is too large a size", value)
				: xasprintf("'%s' is not a size, such as 500M, 20G or 1T", value);
	return -EINVAL;
}

static int set_text(char **at, const char *value, bool may_be_empty, char **ret_why)
{
	if (!may_be_empty && !*value) {
		*ret_why = xstrdup("'' is empty");
		return -EINVAL;
	}
	free(*at);
	*at = xstrdup(value);
	return 0;
}

/* NAME or NAME=VALUE: the name cannot be empty. */
static int add_word(struct strlist *at, const char *value, char **ret_why)
{
	if (!*value || *value == '=') {
		*ret_why = xasprintf("'%s' has no name", value);
		return -EINVAL;
	}
	strlist_add(at, xstrdup(value));
	return 0;
}

/* The working directory as a glob that means just it. */
static char *cwd_glob(void)
{
	auto_free char *cwd = getcwd(NULL, 0);
	struct buf b = {0};

	for (const char *c = cwd ? cwd : ""; *c; c++) {
		if (strchr("*?[\\", *c))
			buf_u8(&b, '\\');
		buf_u8(&b, (uint8_t)*c);
	}
	if (b.len == 1)
		b.len = 0; /* "/": what follows begins with one */
	buf_u8(&b, '\0');
	return (char *)b.data;
}

/*
 * The recorder compares absolute paths (a `*` matches slashes too): a glob without a slash is a
 * name anywhere, one with a slash is below the working directory. What lies below a match is
 * ignored with it.
 */
static int add_globs(struct strlist *at, const char *value, char **ret_why)
{
	auto_free char *cwd = NULL;
	char *glob;
	size_t n;

	while (value[0] == '.' && value[1] == '/')
		value += 2;
	if (!*value) {
		*ret_why = xstrdup("'' is empty");
		return -EINVAL;
	}
	if (*value == '/' || (*value == '*' && strchr(value, '/'))) {
		glob = xstrdup(value);
	} else if (!strchr(value, '/')) {
		glob = xasprintf("*/%s", value);
	} else {
		cwd = cwd_glob();
		glob = xasprintf("%s/%s", cwd, value);
	}
	n = strlen(glob);
	while (n > 1 && glob[n - 1] == '/')
		glob[--n] = '\0';
	strlist_add(at, glob);
	strlist_add(at, xasprintf("%s/*", glob));
	return 0;
}

static int set_level(struct exec_opts *o, int level, const char *value, char **ret_why)
{
	bool on;
	int r = value_flag(&on, value, ret_why);

	if (r >= 0)
		o->verbosity = on ? level : 0;
	return r;
}

/* value NULL: none was given (flags only). */
static int set_value(struct exec_opts *o, const struct option_def *d, const char *value,
		     char **ret_why)
{
	void *at = (char *)o + d->offset;

	switch (d->kind) {
	case K_FLAG:
		return value_flag(at, value, ret_why);
	case K_LEVEL:
		return set_level(o, d->level, value, ret_why);
	case K_TEXT:
		return set_text(at, value, true, ret_why);
	case K_WORD:
		return set_text(at, value, false, ret_why);
	case K_LIST:
		return add_word(at, value, ret_why);
	case K_GLOBS:
		return add_globs(at, value, ret_why);
	case K_SECONDS:
		return value_seconds(at, value, ret_why);
	case K_SIZE:
		return value_size(at, value, ret_why);
	case K_HELP:
	case K_VERSION:
		break;
	}
	return 0;
}

int option_set(struct exec_opts *o, const char *name, const char *value, char **ret_why)
{
	auto_free char *why = NULL;

	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (strcmp(options[i].name, name) != 0)
			continue;
		if (options[i].not_in_file) {
			*ret_why = xasprintf("'%s' is for the command line only", name);
			return -EINVAL;
		}
		if (set_value(o, &options[i], value, &why) >= 0)
			return 0;
		*ret_why = xasprintf("setting '%s': %s", name, why);
		return -EINVAL;
	}
	return -ENOENT;
}

size_t option_settings(const char **names)
{
	size_t n = 0;

	for (size_t i = 0; i < N_OPTIONS; i++)
		if (!options[i].not_in_file)
			names[n++] = options[i].name;
	return n;
}

bool exec_option_at(size_t i, struct option_line *ret)
{
	if (i >= N_OPTIONS)
		return false;
	*ret = (struct option_line){options[i].name, options[i].letter, options[i].arg,
				    options[i].help};
	return true;
}

/* ---- help ---- */

static void help(void)
{
	printf("usage: mlfs exec [OPTIONS] [--] COMMAND [ARG...]\n\n"
	       "Run COMMAND, or put in place what it left when its inputs were the same.\n\n");
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option_def *d = &options[i];
		char left[48];

		(void)snprintf(left, sizeof(left), "%c%c%s--%s%s%s", d->letter ? '-' : ' ',
			       d->letter ? d->letter : ' ', d->letter ? ", " : "  ", d->name,
			       d->arg ? " " : "", d->arg ? d->arg : "");
		printf("  %-26s %s\n", left, d->help);
	}
	printf("\nExit status: the command's own; 125 mlfs failed, 126 cannot run, 127 not found.\n"
	       "Settings may also stand in mlfs.conf; see mlfs-exec(1) and mlfs.conf(5).\n");
}

/* ---- the command line ---- */

struct words {
	int argc;
	char **argv;
	int at;
	bool show_help, show_version; /* asked for */
};

/* Every usage error is one line; 'mlfs: ' is put in front by log_warn. */
static int usage(char *text)
{
	log_set_level(LOG_WARN);
	log_warn("%s", text);
	free(text);
	return -EINVAL;
}

static const struct option_def *by_name(const char *name, size_t len)
{
	for (size_t i = 0; i < N_OPTIONS; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
			return &options[i];
	return NULL;
}

static const struct option_def *by_letter(char letter)
{
	for (size_t i = 0; i < N_OPTIONS; i++)
		if (options[i].letter == letter)
			return &options[i];
	return NULL;
}

static int apply(struct words *w, struct exec_opts *o, const struct option_def *d,
		 const char *value)
{
	auto_free char *why = NULL;

	if (d->arg && !value) {
		if (w->at >= w->argc)
			return usage(xasprintf("option '--%s' needs a value: %s", d->name, d->arg));
		value = w->argv[w->at++];
	}
	if (d->kind == K_HELP)
		w->show_help = true;
	else if (d->kind == K_VERSION)
		w->show_version = true;
	else if (set_value(o, d, value, &why) < 0)
		return usage(xasprintf("option '--%s': %s", d->name, why));
	return 0;
}

static int parse_long(struct words *w, struct exec_opts *o, const char *word)
{
	size_t len = strcspn(word + 2, "=");
	const char *value = word[2 + len] == '=' ? word + 3 + len : NULL;
	const struct option_def *d = by_name(word + 2, len);
	auto_free char *name = xstrndup(word + 2, len);
	const char *near;

	if (d)
		return apply(w, o, d, value);
	near = nearest_option(name);
	return usage(
		near ? xasprintf("unknown option '--%s'; did you mean '--%s'?", name, near)
		     : xasprintf("unknown option '--%s'; 'mlfs exec --help' lists them", name));
}

static int parse_letters(struct words *w, struct exec_opts *o, const char *word)
{
	for (const char *c = word + 1; *c; c++) {
		const struct option_def *d = by_letter(*c);
		int r;

		/* "-expire-after" is a long option that lost a dash. */
		if (!d && word[2]) {
			const char *near = nearest_option(word + 1);

			if (near)
				return usage(xasprintf("unknown option '%s'; did you mean '--%s'?",
						       word, near));
		}
		if (!d)
			return usage(xasprintf("unknown option '%s'; did you mean '-q', '-v' or "
					       "'--help'?",
					       word));
		r = apply(w, o, d, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Options end at the first word that is not one; -- is skipped. */
static int parse_words(struct words *w, struct exec_opts *o)
{
	w->at = 1;
	while (w->at < w->argc && !w->show_help && !w->show_version) {
		const char *word = w->argv[w->at];
		int r;

		if (word[0] != '-' || !word[1])
			break;
		w->at++;
		if (strcmp(word, "--") == 0)
			break;
		r = word[1] == '-' ? parse_long(w, o, word) : parse_letters(w, o, word);
		if (r < 0)
			return r;
	}
	o->argv = w->argv + w->at;
	o->argc = w->argc - w->at;
	return 0;
}

/* Flags that contradict each other; the first is the one that holds where mlfs.conf sets both. */
static const struct {
	size_t holds, yields;
	const char *text;
} exclusive[] = {
	{AT(no_cache), AT(only_if_cached), "'--no-cache' and '--only-if-cached'"},
	{AT(no_cache), AT(refresh), "'--no-cache' and '--refresh'"},
	{AT(no_cache), AT(verify), "'--no-cache' and '--verify'"},
	{AT(only_if_cached), AT(refresh), "'--refresh' and '--only-if-cached'"},
	{AT(read_only), AT(refresh), "'--refresh' and '--read-only'"},
	{AT(refresh), AT(verify), "'--refresh' and '--verify'"},
	{AT(only_if_cached), AT(verify), "'--verify' and '--only-if-cached'"},
};
#define N_EXCLUSIVE (sizeof(exclusive) / sizeof(*exclusive))

static bool *flag(struct exec_opts *o, size_t offset)
{
	return (bool *)((char *)o + offset);
}

/* On one command line they are a mistake. */
static int check_together(struct exec_opts *words)
{
	for (size_t i = 0; i < N_EXCLUSIVE; i++)
		if (*flag(words, exclusive[i].holds) && *flag(words, exclusive[i].yields))
			return usage(xasprintf("%s exclude each other", exclusive[i].text));
	return 0;
}

/* A word of the command line overrules what mlfs.conf says against it. */
static void settle_together(struct exec_opts *words, struct exec_opts *o)
{
	for (size_t i = 0; i < N_EXCLUSIVE; i++) {
		bool *holds = flag(o, exclusive[i].holds), *yields = flag(o, exclusive[i].yields);

		if (*holds && *yields)
			*(*flag(words, exclusive[i].yields) ? holds : yields) = false;
	}
}

/* ---- where things are ---- */

static const char *env_or_null(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

static const char *home_dir(void)
{
	const char *home = env_or_null("HOME");
	struct passwd *pw;

	if (home)
		return home;
	pw = getpwuid(geteuid());
	return pw && pw->pw_dir && *pw->pw_dir ? pw->pw_dir : NULL;
}

/* dir (taken), or what is one's own in it. */
static char *own_cache(char *dir)
{
	auto_free char *users = xasprintf("%s/" CACHE_USERS, dir);
	char *own;

	if (access(users, F_OK) < 0)
		return dir;
	own = xasprintf("%s/%u", users, (unsigned)geteuid());
	free(dir);
	return own;
}

static char *named_cache(const char *given)
{
	const char *dir = given ? given : env_or_null("MLFS_CACHE");
	const char *xdg = env_or_null("XDG_CACHE_HOME"), *home;
	auto_free char *cwd = NULL;

	if (dir && *dir == '/')
		return xstrdup(dir);
	if (dir) {
		/* Absolute, since the supervisor may stand elsewhere. */
		cwd = getcwd(NULL, 0);
		return cwd ? xasprintf("%s/%s", cwd, dir) : xstrdup(dir);
	}
	/* The XDG specification: a relative one is to be ignored. */
	if (xdg && *xdg == '/')
		return xasprintf("%s/mlfs", xdg);
	home = home_dir();
	return home ? xasprintf("%s/.cache/mlfs", home) : NULL;
}

char *find_cache(const char *given)
{
	char *dir = named_cache(given);

	return dir ? own_cache(dir) : NULL;
}

char *default_cache(void)
{
	return find_cache(NULL);
}

/* Once for what must be known to read mlfs.conf, then over the settings of that: an option wins. */
static int parse_both(struct words *w, const struct exec_base *base, struct exec_opts *first,
		      struct exec_opts *ret)
{
	int r = parse_words(w, first);
	struct err e = {0};
	bool settings; /* some were read */

	if (r < 0)
		return r;
	if (w->show_help || w->show_version)
		return 1;
	if (!first->argc)
		return usage(
			xstrdup("no command to run: mlfs exec [OPTIONS] [--] COMMAND [ARG...]"));
	r = check_together(first);
	if (r < 0)
		return r;
	if (!first->cache_dir && base && base->cache)
		first->cache_dir = xstrdup(base->cache);
	ret->cache_dir = find_cache(first->cache_dir);
	if (!ret->cache_dir)
		return usage(xstrdup("cannot find a home directory for the cache; set --cache"));
	r = settings_read(first, base, ret, &e);
	if (r < 0)
		return usage(xstrdup(e.msg));
	settings = ret->config || base;
	r = parse_words(w, ret);
	if (r == 0 && settings)
		settle_together(first, ret);
	return r;
}

int exec_opts_parse(int argc, char **argv, struct exec_opts *ret)
{
	return exec_opts_parse_in(argc, argv, NULL, ret);
}

int exec_opts_parse_in(int argc, char **argv, const struct exec_base *base, struct exec_opts *ret)
{
	struct words w = {.argc = argc, .argv = argv};
	struct exec_opts first, o;
	int r;

	exec_opts_init(&first);
	exec_opts_init(&o);
	r = parse_both(&w, base, &first, &o);
	if (r == 0) {
		/* --cache as found, absolute; --config as read */
		free(o.cache_dir);
		o.cache_dir = find_cache(first.cache_dir);
		*ret = o;
		exec_opts_free(&first);
		return 0;
	}
	if (w.show_help)
		help();
	else if (w.show_version)
		printf("mlfs %s\n", MLFS_VERSION);
	exec_opts_free(&first);
	exec_opts_free(&o);
	return r;
}
