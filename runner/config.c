/* SPDX-License-Identifier: MIT */
/*
 * config.c - mlfs.conf: lines of `key = value`, # comments, and [step "GLOB"] sections whose
 * settings hold for steps of such a name. Keys are long options: of `mlfs exec`, and of the other commands those that
 * their tables say so of (words.h).
 */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "options.h"
#include "words.h"

struct reader {
	const char *path;
	const char *const *names;
	const struct config_to *to; /* where settings that hold go */
	struct exec_opts
		*nowhere; /* and those of other steps, so that mistakes in them are found too */
	bool holds;
	bool in_step; /* below a [step "GLOB"] */
	size_t line;
	struct err *e;
};

static int wrong(struct reader *r, char *why)
{
	(void)err_text(r->e, EINVAL, "%s:%zu: %s", r->path, r->line, why);
	free(why);
	return -EINVAL;
}

static char *skip_blanks(char *s)
{
	while (isblank((unsigned char)*s))
		s++;
	return s;
}

static void cut_blanks(char *s)
{
	size_t n = strlen(s);

	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
}

/* Nothing but blanks or a comment. */
static bool is_rest(const char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	return !*s || *s == '#';
}

/* s begins with a quote: takes the quotes off in place. The first byte behind, or NULL when it does
 * not end. */
static char *unquote(char *s)
{
	char *from = s + 1, *to = s;

	for (; *from && *from != '"'; from++) {
		if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
			from++;
		*to++ = *from;
	}
	if (!*from)
		return NULL;
	*to = '\0';
	return from + 1;
}

/* The value from s on: quoted, or up to a comment. */
static int read_value(struct reader *r, char *s, char **ret)
{
	char *end;

	if (*s == '"') {
		end = unquote(s);
		if (!end || !is_rest(end))
			return wrong(r, xstrdup("the quotes do not close the value"));
		*ret = s;
		return 0;
	}
	for (char *c = s; *c; c++)
		if (*c == '#' && (c == s || isblank((unsigned char)c[-1]))) {
			*c = '\0';
			break;
		}
	cut_blanks(s);
	*ret = s;
	return 0;
}

static int read_section(struct reader *r, char *s)
{
	char *glob = skip_blanks(s + 1), *end;

	if (strncmp(glob, "step", 4) == 0 && (isblank((unsigned char)glob[4]) || glob[4] == '"')) {
		glob = skip_blanks(glob + 4);
		end = *glob == '"' ? unquote(glob) : NULL;
		end = end ? skip_blanks(end) : NULL;
		if (end && *end == ']' && is_rest(end + 1)) {
			r->holds = false;
			r->in_step = true;
			for (const char *const *name = r->names; name && *name; name++)
				r->holds |= fnmatch(glob, *name, 0) == 0;
			return 0;
		}
	}
	cut_blanks(s);
	return wrong(r, xasprintf("unknown section '%s'; sections are [step \"GLOB\"]", s));
}

static char *unknown(const char *name)
{
	const char *names[64 + 64];
	size_t n = option_settings(names);
	const char *near;

	for (size_t i = 0; i < n_word_tables; i++)
		for (size_t k = 0; k < word_tables[i]->n; k++)
			if (word_tables[i]->v[k].setting && n < 127)
				names[n++] = word_tables[i]->v[k].name;
	names[n] = NULL;
	near = nearest_word(name, names);
	return near ? xasprintf("unknown setting '%s'; did you mean '%s'?", name, near)
		    : xasprintf("unknown setting '%s'", name);
}

/* A setting may be one of several commands'; each has a look at the value. */
static int set(struct reader *r, const char *name, const char *value, char **ret_why)
{
	struct exec_opts *exec = r->holds && r->to->exec ? r->to->exec : r->nowhere;
	int k = option_set(exec, name, value, ret_why);
	bool known = k != -ENOENT;

	for (size_t i = 0; (k >= 0 || k == -ENOENT) && i < n_word_tables; i++) {
		const struct word_table *t = word_tables[i];

		k = word_set(t, t == r->to->table && !r->in_step ? r->to->words : NULL, name, value,
			     ret_why);
		if (k >= 0 && r->in_step && !known) {
			*ret_why = xasprintf("setting '%s' is not one of steps", name);
			return -EINVAL;
		}
		known |= k != -ENOENT;
	}
	if (known)
		return k == -EINVAL ? k : 0;
	*ret_why = unknown(name);
	return -EINVAL;
}

static int read_setting(struct reader *r, char *s)
{
	auto_free char *why = NULL;
	char *equals = strchr(s, '='), *value;
	int k;

	if (!equals) {
		cut_blanks(s);
		return wrong(r, xasprintf("'%s' is not of the form 'key = value'", s));
	}
	*equals = '\0';
	cut_blanks(s);
	k = read_value(r, skip_blanks(equals + 1), &value);
	if (k < 0)
		return k;
	k = set(r, s, value, &why);
	return k < 0 ? wrong(r, take(why)) : 0;
}

static int read_line(struct reader *r, char *line)
{
	char *s = skip_blanks(line);

	r->line++;
	if (is_rest(s))
		return 0;
	return *s == '[' ? read_section(r, s) : read_setting(r, s);
}

int config_apply_text(const char *path, char *text, size_t n, const char *const *names,
		      const struct config_to *to, struct err *e)
{
	struct exec_opts nowhere;
	struct reader reader = {
		.path = path, .names = names, .to = to, .nowhere = &nowhere, .holds = true, .e = e};
	int r = 0;

	exec_opts_init(&nowhere);
	if (strlen(text) != n)
		r = err_text(e, EINVAL, "%s: is not a text file", path);
	for (char *line = text, *end; line && r >= 0; line = end) {
		end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		r = read_line(&reader, line);
	}
	exec_opts_free(&nowhere);
	return r < 0 ? r : 0;
}

int config_apply(const char *path, const char *const *names, const struct config_to *to,
		 struct err *e)
{
	auto_free char *text = NULL;
	size_t n;
	int r = read_file(path, &text, &n, e);

	return r < 0 ? r : config_apply_text(path, text, n, names, to, e);
}
