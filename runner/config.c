/* SPDX-License-Identifier: MIT */
/*
 * config.c - mlfs.conf: lines of `key = value`, # comments, and [step "GLOB"] sections whose
 * settings hold for steps of such a name. Keys are the long options of `mlfs exec`.
 */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "options.h"

struct reader {
	const char *path;
	const char *const *names;
	struct exec_opts *to; /* where settings that hold go */
	struct exec_opts
		*nowhere; /* and those of other steps, so that mistakes in them are found too */
	bool holds;
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
			for (const char *const *name = r->names; *name; name++)
				r->holds |= fnmatch(glob, *name, 0) == 0;
			return 0;
		}
	}
	cut_blanks(s);
	return wrong(r, xasprintf("unknown section '%s'; sections are [step \"GLOB\"]", s));
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
	k = option_set(r->holds ? r->to : r->nowhere, s, value, &why);
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

int config_apply(const char *path, const char *const *names, struct exec_opts *o, struct err *e)
{
	auto_free char *text = NULL;
	struct exec_opts nowhere;
	struct reader reader = {
		.path = path, .names = names, .to = o, .nowhere = &nowhere, .holds = true, .e = e};
	size_t n;
	int r = read_file(path, &text, &n, e);

	if (r < 0)
		return r;
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
