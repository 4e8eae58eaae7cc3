/* SPDX-License-Identifier: MIT */
/* mount_command.c - steps told by their command line; see mount_command.h. */
#include "mount_command.h"

#include <ctype.h>
#include <fnmatch.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 1024

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool command_may_name(const struct strlist *patterns, const char *path)
{
	const char *name = base_name(path);

	for (size_t k = 0; k < patterns->n; k++) {
		auto_free char *copy = xstrdup(patterns->v[k]);
		char *rest = copy, *word = strsep(&rest, " ");

		while ((word = strsep(&rest, " ")))
			if (*word && fnmatch(base_name(word), name, 0) == 0)
				return true;
	}
	return false;
}

/* ---- the process ---- */

struct command_line {
	char *bytes;
	char *argv[ARGS_MAX + 1];
	size_t n;
};

static bool read_command(pid_t pid, struct command_line *ret)
{
	auto_free char *path = xasprintf("/proc/%d/cmdline", (int)pid);
	struct err e;
	size_t n;

	if (read_file(path, &ret->bytes, &n, &e) < 0)
		return false;
	for (char *p = ret->bytes; p < ret->bytes + n && ret->n < ARGS_MAX; p += strlen(p) + 1)
		ret->argv[ret->n++] = p;
	/* One that does not fit is not ours to shorten. */
	return ret->n > 1 && ret->n < ARGS_MAX;
}

/* With the program as it was called, or by its name alone. */
static bool is_wanted(const struct strlist *patterns, const struct command_line *c)
{
	auto_buf struct buf all = {0};
	const char *whole, *slash;

	for (size_t k = 0; k < c->n; k++)
		buf_addf(&all, "%s%s", k ? " " : "", c->argv[k]);
	buf_u8(&all, 0);
	whole = (const char *)all.data;
	slash = base_name(c->argv[0]);
	for (size_t k = 0; k < patterns->n; k++)
		if (fnmatch(patterns->v[k], whole, 0) == 0 ||
		    fnmatch(patterns->v[k], whole + (slash - c->argv[0]), 0) == 0)
			return true;
	return false;
}

uint64_t process_start(pid_t pid)
{
	auto_free char *path = xasprintf("/proc/%d/stat", (int)pid), *text = NULL;
	unsigned long long start = 0;
	struct err e;
	const char *p;
	size_t n;

	if (read_file(path, &text, &n, &e) < 0)
		return 0;
	p = strrchr(text, ')'); /* the name may hold anything */
	if (!p || sscanf(p + 1,
			 " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			 "%*d %*d %llu",
			 &start) != 1)
		return 0;
	return start;
}

/* ---- languages ---- */

/* Of a string in double quotes: what means the same in all these languages. */
static void add_bytes(struct buf *b, const char *word)
{
	for (const char *c = word; *c; c++)
		if (isalnum((unsigned char)*c) || strchr("/._-+=:, ", *c))
			buf_u8(b, (uint8_t)*c);
		else
			buf_addf(b, "\\x%02x", (unsigned)(unsigned char)*c);
}

static void python(struct buf *b, const char *const *argv)
{
	buf_addf(b, "import os\nos.execv(");
	for (size_t k = 0; argv[k]; k++) {
		buf_addf(b, "%s b\"", k == 0 ? "" : k == 1 ? ", [b\"mlfs\"," : ",");
		add_bytes(b, argv[k]);
		buf_addf(b, "\"");
	}
	buf_addf(b, "])\n");
}

static void shell(struct buf *b, const char *const *argv)
{
	buf_addf(b, "exec");
	for (size_t k = 0; argv[k]; k++) {
		buf_addf(b, " '");
		for (const char *c = argv[k]; *c; c++)
			if (*c == '\'')
				buf_addf(b, "'\\''");
			else
				buf_u8(b, (uint8_t)*c);
		buf_addf(b, "'");
	}
	buf_addf(b, "\n");
}

/* Perl and Ruby alike. */
static void perl(struct buf *b, const char *const *argv)
{
	buf_addf(b, "exec(");
	for (size_t k = 0; argv[k]; k++) {
		buf_addf(b, "%s\"", k ? ", " : "");
		add_bytes(b, argv[k]);
		buf_addf(b, "\"");
	}
	buf_addf(b, ");\n");
}

static const struct {
	const char *glob; /* of the interpreter's file */
	void (*add)(struct buf *b, const char *const *argv);
} languages[] = {
	{"python[0-9]*", python}, {"python", python}, {"pypy*", python},    {"sh", shell},
	{"bash", shell},	  {"dash", shell},    {"ksh*", shell},	    {"mksh*", shell},
	{"zsh*", shell},	  {"perl", perl},     {"perl[0-9]*", perl}, {"ruby*", perl}};

char *command_script(const struct strlist *patterns, pid_t pid, const char *mlfs, const char *file)
{
	auto_free char *link = xasprintf("/proc/%d/exe", (int)pid);
	struct command_line c = {0};
	auto_buf struct buf b = {0};
	char exe[PATH_MAX];
	ssize_t n = readlink(link, exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	if (n > 0 && read_command(pid, &c) && is_wanted(patterns, &c)) {
		const char *argv[ARGS_MAX + 4] = {mlfs, "--mounted-command", file};

		memcpy(argv + 3, c.argv, c.n * sizeof(*argv));
		for (size_t k = 0; k < sizeof(languages) / sizeof(*languages) && !b.len; k++)
			if (fnmatch(languages[k].glob, base_name(exe), 0) == 0)
				languages[k].add(&b, argv);
	}
	free(c.bytes);
	if (!b.len)
		return NULL;
	buf_u8(&b, 0);
	return (char *)take(b.data);
}
