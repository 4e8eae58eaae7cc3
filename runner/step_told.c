/* SPDX-License-Identifier: MIT */
/* step_told.c - what a step key was made of (step.c makes it), and what differs between two of them. */
#include <errno.h>
#include <string.h>

#include "diff.h"
#include "options.h"
#include "tell.h"

#define VALUE_TOLD 100 /* bytes of a value that are shown */
#define BEFORE	   20  /* and of what is the same before they differ */

/* ---- reading ---- */

static void read_texts(struct cur *c, struct strlist *ret)
{
	uint64_t n = cur_varint(c);

	for (uint64_t i = 0; i < n && !c->bad; i++) {
		char *s = cur_str(c);

		if (s)
			strlist_add(ret, s);
	}
}

static void read_user(struct cur *c, struct step_told *t)
{
	uint64_t n;

	t->umask = cur_u32(c);
	t->euid = cur_u32(c);
	t->egid = cur_u32(c);
	t->uid = cur_u32(c);
	t->gid = cur_u32(c);
	n = cur_varint(c);
	if (n > (size_t)(c->end - c->p) / 4) {
		c->bad = true;
		return;
	}
	t->groups = xcalloc(n + 1, sizeof(*t->groups));
	for (; t->n_groups < n; t->n_groups++)
		t->groups[t->n_groups] = cur_u32(c);
}

static void read_stdin(struct cur *c, struct step_told *t)
{
	const void *fp;
	size_t n;

	t->in = cur_u8(c);
	if (t->in == IN_FILE) {
		fp = cur_bytes(c, &n);
		if (n != sizeof(t->in_fp))
			c->bad = true;
		else
			memcpy(&t->in_fp, fp, n);
		t->in_off = cur_u64(c);
	} else if (t->in == IN_DEVICE && c->p < c->end) {
		t->in_device = (uint64_t)cur_u32(c) << 32;
		t->in_device |= cur_u32(c);
	}
}

static void read_all(struct cur *c, struct step_told *t)
{
	const uint8_t *begin = c->p;
	auto_free char *version = NULL, *salt = NULL;
	const void *passed;
	bool salted;
	size_t n;

	passed = cur_bytes(c, &n);
	if (n)
		buf_add(&t->passed, passed, n);
	version = cur_str(c);
	if (!version || strcmp(version, STEP_VERSION) != 0)
		c->bad = true;
	read_texts(c, &t->argv);
	t->cwd = cur_str(c);
	t->command = (size_t)(c->p - begin);
	read_texts(c, &t->env);
	read_user(c, t);
	t->out = cur_u8(c);
	t->err = cur_u8(c);
	t->machine = cur_str(c);
	salted = cur_u8(c);
	salt = cur_str(c);
	if (salted)
		t->salt = take(salt);
	t->strict = cur_u8(c);
	read_texts(c, &t->ignore);
	read_stdin(c, t);
}

int step_told(const struct buf *description, struct step_told *ret)
{
	struct cur c = {description->data, description->data + description->len, false};
	struct step_told t = {0};

	read_all(&c, &t);
	if (c.bad || c.p != c.end) {
		step_told_free(&t);
		return -EBADMSG;
	}
	*ret = t;
	return 0;
}

void step_told_free(struct step_told *t)
{
	strlist_free(&t->argv);
	strlist_free(&t->env);
	strlist_free(&t->ignore);
	free(t->cwd);
	free(t->machine);
	free(t->salt);
	free(t->groups);
	buf_free(&t->passed);
	*t = (struct step_told){0};
}

/* ---- values ---- */

static void add_value(struct buf *b, const char *v, size_t from)
{
	auto_free char *part = NULL;
	size_t n = strlen(v);

	while (from && from < n && ((uint8_t)v[from] & 0xc0) == 0x80)
		from--; /* not within a character */
	if (from > n)
		from = n;
	n -= from;
	if (n > VALUE_TOLD)
		for (n = VALUE_TOLD; n && ((uint8_t)v[from + n] & 0xc0) == 0x80;)
			n--;
	part = xstrndup(v + from, n);
	buf_addf(b, "%s", from ? "…" : "");
	add_plain(b, part);
	buf_addf(b, "%s", v[from + n] ? "…" : "");
}

/* Appends "a → b"; of long values where they begin to differ. */
static void add_values(struct buf *b, const char *was, const char *now)
{
	size_t same = 0, from = 0;

	while (was[same] && was[same] == now[same])
		same++;
	if ((strlen(was) > VALUE_TOLD || strlen(now) > VALUE_TOLD) && same > BEFORE)
		from = same - BEFORE;
	add_value(b, was, from);
	buf_addf(b, " → ");
	add_value(b, now, from);
}

static void changed(struct diffs *ret, enum diff_kind kind, const char *about, const char *what,
		    const char *was, const char *now)
{
	struct buf b = {0};

	add_plain(&b, what);
	buf_addf(&b, ": ");
	add_values(&b, was, now);
	buf_u8(&b, 0);
	diffs_add(ret, kind, about, (char *)b.data);
}

/* ---- words of the command ---- */

/* The words that differ, where one has more of them. */
static void diff_words(const struct strlist *was, const struct strlist *now, struct diffs *ret)
{
	size_t head = 0, tail = 0, least = was->n < now->n ? was->n : now->n;
	auto_free char *from = NULL, *to = NULL, *what = NULL;

	while (head < least && strcmp(was->v[head], now->v[head]) == 0)
		head++;
	while (tail < least - head &&
	       strcmp(was->v[was->n - 1 - tail], now->v[now->n - 1 - tail]) == 0)
		tail++;
	from = command_line(was->v + head, was->n - head - tail);
	to = command_line(now->v + head, now->n - head - tail);
	what = xasprintf("argument %zu", head);
	changed(ret, DIFF_ARGUMENT, NULL, what, *from ? from : "(none)", *to ? to : "(none)");
}

static void diff_argv(const struct step_told *was, const struct step_told *now, struct diffs *ret)
{
	if (was->argv.n != now->argv.n) {
		diff_words(&was->argv, &now->argv, ret);
		return;
	}
	for (size_t i = 0; i < was->argv.n; i++) {
		auto_free char *what = xasprintf("argument %zu", i);

		if (strcmp(was->argv.v[i], now->argv.v[i]) != 0)
			changed(ret, DIFF_ARGUMENT, NULL, i ? what : "command", was->argv.v[i],
				now->argv.v[i]);
	}
}

/* ---- the environment ---- */

static int by_variable(const char *a, const char *b)
{
	size_t n = strcspn(a, "="), m = strcspn(b, "=");
	int c = memcmp(a, b, n < m ? n : m);

	return c ? c : n < m ? -1 : n > m;
}

static const char *value_of(const char *pair)
{
	const char *at = strchr(pair, '=');

	return at ? at + 1 : "";
}

static void variable(struct diffs *ret, const char *was, const char *now)
{
	auto_free char *name = xstrndup(was ? was : now, strcspn(was ? was : now, "="));
	auto_free char *what = xasprintf("environment %s", name);

	if (was && now)
		changed(ret, DIFF_ENVIRONMENT, name, what, value_of(was), value_of(now));
	else
		changed(ret, DIFF_ENVIRONMENT, name, what, was ? value_of(was) : "(unset)",
			now ? value_of(now) : "(unset)");
}

/* Both sorted by name. */
static void diff_env(const struct step_told *was, const struct step_told *now, struct diffs *ret)
{
	const struct strlist *a = &was->env, *b = &now->env;
	size_t i = 0, k = 0;

	while (i < a->n || k < b->n) {
		int c = i == a->n ? 1 : k == b->n ? -1 : by_variable(a->v[i], b->v[k]);

		if (c != 0 || strcmp(a->v[i], b->v[k]) != 0)
			variable(ret, c <= 0 ? a->v[i] : NULL, c >= 0 ? b->v[k] : NULL);
		i += c <= 0;
		k += c >= 0;
	}
}

/* ---- the rest ---- */

static void diff_id(struct diffs *ret, const char *what, uint32_t was, uint32_t now)
{
	char from[16], to[16];

	if (was == now)
		return;
	(void)snprintf(from, sizeof(from), "%u", was); /* they fit */
	(void)snprintf(to, sizeof(to), "%u", now);
	changed(ret, DIFF_USER, NULL, what, from, to);
}

static void diff_user(const struct step_told *was, const struct step_told *now, struct diffs *ret)
{
	diff_id(ret, "user", was->euid, now->euid);
	diff_id(ret, "group", was->egid, now->egid);
	if (was->euid == now->euid)
		diff_id(ret, "real user", was->uid, now->uid);
	if (was->egid == now->egid)
		diff_id(ret, "real group", was->gid, now->gid);
	if (was->n_groups != now->n_groups ||
	    memcmp(was->groups, now->groups, was->n_groups * sizeof(*was->groups)) != 0)
		diffs_add(ret, DIFF_USER, NULL, xstrdup("the groups of the user changed"));
	if (was->umask != now->umask)
		diffs_add(ret, DIFF_USER, NULL,
			  xasprintf("umask: %04o → %04o", was->umask, now->umask));
}

static void diff_stream(struct diffs *ret, const char *what, uint8_t was, uint8_t now)
{
	static const char *const words[] = {"closed", "a terminal", "no terminal"};

	if (was != now && was < 3 && now < 3)
		diffs_add(ret, DIFF_STREAM, NULL,
			  xasprintf("%s: was %s, now %s", what, words[was], words[now]));
}

static void diff_stdin(const struct step_told *was, const struct step_told *now, struct diffs *ret)
{
	static const char *const words[] = {"closed", "/dev/null",	  "a terminal",
					    "a file", "a pipe or socket", "a device"};
	const char *what = NULL;

	if (was->in != now->in && was->in <= IN_DEVICE && now->in <= IN_DEVICE) {
		diffs_add(ret, DIFF_STREAM, NULL,
			  xasprintf("standard input: was %s, now %s", words[was->in],
				    words[now->in]));
		return;
	}
	if (!fp_eq(&was->in_fp, &now->in_fp))
		what = "standard input: content of the file changed";
	else if (was->in_off != now->in_off)
		what = "standard input: the file is read from another place on";
	else if (was->in_device != now->in_device)
		what = "standard input: another device";
	if (what)
		diffs_add(ret, DIFF_STREAM, NULL, xstrdup(what));
}

static char *join(const struct strlist *l)
{
	struct buf b = {0};

	/* Of each glob there are two: what it names, and what lies below. */
	for (size_t i = 0; i < l->n; i++)
		if (strlen(l->v[i]) < 2 || strcmp(l->v[i] + strlen(l->v[i]) - 2, "/*") != 0)
			buf_addf(&b, "%s%s", b.len ? " " : "", l->v[i]);
	buf_u8(&b, 0);
	return (char *)b.data;
}

static void diff_options(const struct step_told *was, const struct step_told *now,
			 struct diffs *ret)
{
	auto_free char *from = join(&was->ignore), *to = join(&now->ignore);
	const char *a = was->salt ? was->salt : "(none)", *b = now->salt ? now->salt : "(none)";

	if (!was->salt != !now->salt || strcmp(a, b) != 0)
		changed(ret, DIFF_OPTION, NULL, "--salt", a, b);
	if (was->strict != now->strict)
		diffs_add(ret, DIFF_OPTION, NULL,
			  xasprintf("--strict: was %s, now %s", was->strict ? "set" : "not set",
				    now->strict ? "set" : "not set"));
	if (strcmp(from, to) != 0)
		changed(ret, DIFF_OPTION, NULL, "--ignore", *from ? from : "(none)",
			*to ? to : "(none)");
}

void step_diff(const struct step_told *was, const struct step_told *now, struct diffs *ret)
{
	diff_argv(was, now, ret);
	if (strcmp(was->cwd, now->cwd) != 0)
		changed(ret, DIFF_DIRECTORY, NULL, "directory", was->cwd, now->cwd);
	diff_env(was, now, ret);
	diff_user(was, now, ret);
	diff_stdin(was, now, ret);
	diff_stream(ret, "standard output", was->out, now->out);
	diff_stream(ret, "standard error", was->err, now->err);
	if (strcmp(was->machine, now->machine) != 0)
		changed(ret, DIFF_MACHINE, NULL, "machine", was->machine, now->machine);
	diff_options(was, now, ret);
	if (was->passed.len != now->passed.len ||
	    (was->passed.len && memcmp(was->passed.data, now->passed.data, was->passed.len) != 0))
		diffs_add(
			ret, DIFF_STREAM, NULL,
			xstrdup("descriptors beyond standard error: others are passed on, or they "
				"hold something else"));
}
