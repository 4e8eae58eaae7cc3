/* SPDX-License-Identifier: MIT */
/* words.c - the words of the commands other than exec, by a table each. */
#include <errno.h>
#include <string.h>

#include "options.h"
#include "words.h"

#define Q(member) offsetof(struct query, member)

/* What every command takes; one of its own of the same name comes first. */
static const struct word_def common[] = {
	{"json", 0, WORD_FLAG, Q(json), NULL, "print JSON"},
	{"cache", 0, WORD_TEXT, Q(cache), "DIR", "the cache ($MLFS_CACHE, ~/.cache/mlfs)"},
	{"config", 0, WORD_TEXT, Q(config), "FILE", "settings (DIR/mlfs.conf)"},
	{"quiet", 'q', WORD_LEVEL, Q(verbosity), NULL, "say less", .level = -1},
	{"verbose", 'v', WORD_LEVEL, Q(verbosity), NULL, "say more", .level = 1},
	{"help", 'h', WORD_FLAG, 0, NULL, "this text"},
	{"version", 0, WORD_FLAG, 0, NULL, "the version of mlfs"},
};
#define N_COMMON (sizeof(common) / sizeof(*common))

/* Those of the table, then the common ones that it does not have; NULL: no more. */
static const struct word_def *def_at(const struct word_table *t, size_t i)
{
	if (i < t->n)
		return &t->v[i];
	return i - t->n < N_COMMON ? &common[i - t->n] : NULL;
}

static const struct word_def *by_name(const struct word_table *t, const char *name, size_t len)
{
	const struct word_def *d;

	for (size_t i = 0; (d = def_at(t, i)); i++)
		if (strlen(d->name) == len && memcmp(d->name, name, len) == 0)
			return d;
	return NULL;
}

static const struct word_def *by_letter(const struct word_table *t, char letter)
{
	const struct word_def *d;

	for (size_t i = 0; (d = def_at(t, i)); i++)
		if (d->letter == letter)
			return d;
	return NULL;
}

static bool is_one_of_ours(const struct word_def *d, const char *name)
{
	return d >= common && d < common + N_COMMON && strcmp(d->name, name) == 0;
}

/* ---- values ---- */

static int set_count(uint64_t *at, const char *value, char **ret_why)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno) {
		*ret_why = xasprintf("'%s' is not a number", value);
		return -EINVAL;
	}
	*at = n;
	return 0;
}

static int set_text(const struct word_def *d, void *at, const char *value, char **ret_why)
{
	if (!*value)
		*ret_why = xstrdup("'' is empty");
	else if (d->check)
		*ret_why = d->check(value);
	if (*ret_why)
		return -EINVAL;
	if (d->kind == WORD_LIST) {
		strlist_add(at, xstrdup(value));
	} else {
		free(*(char **)at);
		*(char **)at = xstrdup(value);
	}
	return 0;
}

/* value NULL: none was given (flags only). */
static int set(const struct word_def *d, void *to, const char *value, char **ret_why)
{
	void *at = (char *)to + d->offset;
	bool on = true;
	int r;

	switch (d->kind) {
	case WORD_FLAG:
		return value_flag(at, value, ret_why);
	case WORD_LEVEL:
		r = value_flag(&on, value, ret_why);
		if (r >= 0)
			*(int *)at = on ? d->level : 0;
		return r;
	case WORD_SECONDS:
		return value_seconds(at, value, ret_why);
	case WORD_SIZE:
		return value_size(at, value, ret_why);
	case WORD_COUNT:
		return set_count(at, value, ret_why);
	case WORD_TEXT:
	case WORD_LIST:
		return set_text(d, at, value, ret_why);
	}
	return 0;
}

static void free_one(const struct word_def *d, void *w)
{
	void *at = (char *)w + d->offset;

	if (d->kind == WORD_TEXT)
		free(take(*(char **)at));
	else if (d->kind == WORD_LIST)
		strlist_free(at);
}

void words_free(const struct word_table *t, void *w)
{
	struct query *q = w;
	const struct word_def *d;

	for (size_t i = 0; (d = def_at(t, i)); i++)
		free_one(d, w);
	strlist_free(&q->args);
}

int word_set(const struct word_table *t, void *to, const char *name, const char *value,
	     char **ret_why)
{
	const struct word_def *d = by_name(t, name, strlen(name));
	auto_free void *nowhere = to ? NULL : xcalloc(1, t->size);
	auto_free char *why = NULL;
	int r;

	if (!d || !d->setting)
		return -ENOENT;
	r = set(d, to ? to : nowhere, value, &why);
	if (nowhere)
		words_free(t, nowhere);
	if (r < 0)
		*ret_why = xasprintf("setting '%s': %s", name, why);
	return r;
}

bool word_option_at(const struct word_table *t, size_t i, struct option_line *ret)
{
	const struct word_def *d;

	for (size_t k = 0; (d = def_at(t, k)); k++)
		if (by_name(t, d->name, strlen(d->name)) == d && !i--) {
			*ret = (struct option_line){d->name, d->letter, d->arg, d->help};
			return true;
		}
	return false;
}

/* ---- help ---- */

static void help_line(const struct word_def *d)
{
	char left[48];

	(void)snprintf(left, sizeof(left), "%c%c%s--%s%s%s", d->letter ? '-' : ' ',
		       d->letter ? d->letter : ' ', d->letter ? ", " : "  ", d->name,
		       d->arg ? " " : "", d->arg ? d->arg : ""); /* none is so long */
	printf("  %-24s %s\n", left, d->help);
}

static void help(const struct word_table *t)
{
	const struct word_def *d;

	printf("usage: mlfs %s %s\n\n%s\n", t->command, t->usage, t->what);
	for (size_t i = 0; (d = def_at(t, i)); i++)
		if (by_name(t, d->name, strlen(d->name)) == d)
			help_line(d);
	printf("\n%s", t->status);
}

/* ---- the command line ---- */

struct reading {
	const struct word_table *t;
	int argc;
	char **argv;
	int at;
	bool show_help, show_version;
};

/* Every usage error is one line. */
static int usage(char *text)
{
	log_warn("%s", text);
	free(text);
	return -EINVAL;
}

static int unknown_option(const struct reading *g, const char *word)
{
	size_t n = strcspn(word, "="), count = 0;
	auto_free char *name = xstrndup(word, n);
	auto_free const char **names = xcalloc(g->t->n + N_COMMON + 1, sizeof(*names));
	const struct word_def *d;
	const char *near;

	for (size_t i = 0; (d = def_at(g->t, i)); i++)
		names[count++] = d->name;
	near = nearest_word(name + strspn(name, "-"), names);
	return usage(near ? xasprintf("unknown option '%s'; did you mean '--%s'?", name, near)
			  : xasprintf("unknown option '%s'; 'mlfs %s --help' lists them", name,
				      g->t->command));
}

static int apply(struct reading *g, const struct word_def *d, const char *value, void *to)
{
	auto_free char *why = NULL;

	if (is_one_of_ours(d, "help")) {
		g->show_help = true;
		return 0;
	}
	if (is_one_of_ours(d, "version")) {
		g->show_version = true;
		return 0;
	}
	if (d->arg && !value) {
		if (g->at >= g->argc)
			return usage(xasprintf("option '--%s' needs a value: %s", d->name, d->arg));
		value = g->argv[g->at++];
	}
	if (set(d, to, value, &why) < 0)
		return usage(xasprintf("option '--%s': %s", d->name, why));
	return 0;
}

static int parse_option(struct reading *g, const char *word, void *to)
{
	size_t len;
	const struct word_def *d;
	int r = 0;

	if (word[1] == '-') {
		len = strcspn(word + 2, "=");
		d = by_name(g->t, word + 2, len);
		if (!d)
			return unknown_option(g, word);
		return apply(g, d, word[2 + len] == '=' ? word + 3 + len : NULL, to);
	}
	for (const char *c = word + 1; *c && r == 0; c++) {
		d = by_letter(g->t, *c);
		if (!d)
			return unknown_option(g, word);
		r = apply(g, d, d->arg && c[1] ? c + 1 : NULL, to);
		if (d->arg)
			break;
	}
	return r;
}

static int add_arg(const struct reading *g, const char *word, struct query *q)
{
	if (q->args.n == g->t->max_args)
		return usage(xasprintf("unexpected argument '%s'; 'mlfs %s --help' tells more",
				       word, g->t->command));
	strlist_add(&q->args, xstrdup(word));
	return 0;
}

static int parse(struct reading *g, void *to)
{
	bool options = true;
	int r = 0;

	for (g->at = 1; g->at < g->argc && r == 0 && !g->show_help && !g->show_version;) {
		const char *word = g->argv[g->at++];

		if (options && strcmp(word, "--") == 0)
			options = false;
		else if (options && word[0] == '-' && word[1])
			r = parse_option(g, word, to);
		else
			r = add_arg(g, word, to);
	}
	return r;
}

/* What the command line does not say. */
static int read_config(const struct word_table *t, const struct query *first, void *to)
{
	const char *named = first->config ? first->config : getenv("MLFS_CONFIG");
	auto_free char *dir = find_cache(first->cache);
	auto_free char *path = NULL;
	struct err e = {0};
	int r;

	if (named && !*named)
		named = NULL;
	if (!named && !dir)
		return 0; /* the command says so, if it needs it */
	path = named ? xstrdup(named) : xasprintf("%s/mlfs.conf", dir);
	r = config_apply(path, NULL, &(struct config_to){.table = t, .words = to}, &e);
	if (r >= 0 || (!named && (r == -ENOENT || r == -ENOTDIR)))
		return 0;
	return usage(xstrdup(e.msg));
}

static int parse_both(struct reading *g, void *first, void *ret)
{
	const struct query *q = first;
	int r = parse(g, first);

	if (r < 0 || g->show_help || g->show_version)
		return r < 0 ? r : 1;
	if (q->args.n < g->t->min_args)
		return usage(xasprintf("no %s given: mlfs %s %s", g->t->arg, g->t->command,
				       g->t->usage));
	r = g->t->no_config ? 0 : read_config(g->t, q, ret);
	return r < 0 ? r : parse(g, ret);
}

int words_parse(const struct word_table *t, int argc, char **argv, void *ret)
{
	struct reading g = {.t = t, .argc = argc, .argv = argv};
	auto_free void *first = xcalloc(1, t->size);
	int r = parse_both(&g, first, ret);

	words_free(t, first);
	if (r > 0 && g.show_help)
		help(t);
	else if (r > 0)
		printf("mlfs %s\n", MLFS_VERSION);
	return r;
}
