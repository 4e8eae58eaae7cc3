/* SPDX-License-Identifier: MIT */
/* diff.c - what differs between two states of a path, in words. */
#include <errno.h>
#include <string.h>

#include "diff.h"
#include "tell.h"

#define NAMES_TOLD 5 /* of a listing, new and gone ones each */

/* ---- a list of differences ---- */

void diffs_add(struct diffs *d, enum diff_kind kind, const char *about, char *text)
{
	d->v = xrealloc(d->v, (d->n + 1) * sizeof(*d->v));
	d->v[d->n++] = (struct diff){kind, about ? xstrdup(about) : NULL, text};
}

void diffs_free(struct diffs *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->v[i].about);
		free(d->v[i].text);
	}
	free(d->v);
	*d = (struct diffs){0};
}

static const struct {
	const char *word;
	int rank; /* those of a lower rank are told first */
} kinds[] = {
	[DIFF_ARGUMENT] = {"argument", 0}, [DIFF_ENVIRONMENT] = {"environment", 0},
	[DIFF_DIRECTORY] = {"cwd", 0},	   [DIFF_USER] = {"user", 0},
	[DIFF_STREAM] = {"stream", 0},	   [DIFF_OPTION] = {"option", 0},
	[DIFF_MACHINE] = {"machine", 0},   [DIFF_CONTENT] = {"content", 1},
	[DIFF_APPEARED] = {"appeared", 1}, [DIFF_GONE] = {"gone", 1},
	[DIFF_TYPE] = {"type", 1},	   [DIFF_LINK] = {"link", 1},
	[DIFF_TIME] = {"time", 2},	   [DIFF_MODE] = {"mode", 2},
	[DIFF_OWNER] = {"owner", 2},	   [DIFF_XATTRS] = {"xattrs", 2},
	[DIFF_LISTING] = {"listing", 3},   [DIFF_UNKNOWN] = {"unknown", 3},
	[DIFF_OUTPUT] = {"output", 4},	   [DIFF_STDIN] = {"stdin", 4},
	[DIFF_TERMS] = {"terms", 4},
};

const char *diff_kind_word(enum diff_kind kind)
{
	return kinds[kind].word;
}

void diffs_sort(struct diffs *d)
{
	/* There are few, and those of one rank stay in their order. */
	for (size_t i = 1; i < d->n; i++) {
		struct diff v = d->v[i];
		size_t k = i;

		for (; k && kinds[d->v[k - 1].kind].rank > kinds[v.kind].rank; k--)
			d->v[k] = d->v[k - 1];
		d->v[k] = v;
	}
}

/* ---- listings ---- */

struct name_diff {
	struct buf text; /* of the first NAMES_TOLD */
	size_t n;
};

static void add_name(struct name_diff *d, const char *name)
{
	if (d->n++ >= NAMES_TOLD)
		return;
	if (d->n > 1)
		buf_addf(&d->text, ", ");
	add_plain(&d->text, name);
}

static void add_names(struct buf *b, const char *before, struct name_diff *d, const char *after)
{
	if (!d->n)
		return;
	if (b->len)
		buf_addf(b, ", ");
	buf_addf(b, "%s%s ", before, d->n > 1 ? "s" : "");
	buf_add(b, d->text.data, d->text.len);
	if (d->n > NAMES_TOLD)
		buf_addf(b, " and %zu more", d->n - NAMES_TOLD);
	buf_addf(b, " %s", after);
}

/* Both sorted by name. */
static void names_diff(const struct path_state *was, const struct path_state *now, struct buf *ret)
{
	struct name_diff added = {0}, gone = {0}, other = {0};
	size_t i = 0, k = 0;

	while (i < was->n_names || k < now->n_names) {
		int c = i == was->n_names   ? 1
			: k == now->n_names ? -1
					    : strcmp(was->names[i] + 1, now->names[k] + 1);

		if (c < 0)
			add_name(&gone, was->names[i] + 1);
		else if (c > 0)
			add_name(&added, now->names[k] + 1);
		else if (was->names[i][0] != now->names[k][0])
			add_name(&other, now->names[k] + 1);
		i += c <= 0;
		k += c >= 0;
	}
	add_names(ret, "new name", &added, "in a listed directory");
	add_names(ret, "name", &gone, "gone from a listed directory");
	add_names(ret, "name", &other, "of another type in a listed directory");
	buf_free(&added.text);
	buf_free(&gone.text);
	buf_free(&other.text);
}

/* ---- states ---- */

struct two {
	const struct path_state *was, *now;
	struct state_parts a, b;
	struct buf text;
	bool any;
	enum diff_kind kind; /* of the first that was found */
};

/* The beginning of one more thing that differs. */
static struct buf *also(struct two *t, enum diff_kind kind)
{
	if (!t->any)
		t->kind = kind;
	else
		buf_addf(&t->text, ", ");
	t->any = true;
	return &t->text;
}

static const char *article(char type)
{
	return type == '?' ? "" : "a ";
}

/* One of them is absent, unknown, or of another type. */
static bool diff_types(struct two *t)
{
	const struct state_parts *a = &t->a, *b = &t->b;

	if (a->type == b->type && a->type != 'E')
		return false;
	if (b->type == 'E')
		buf_addf(also(t, DIFF_UNKNOWN), "cannot be looked at: %s", strerror(b->err));
	else if (a->type == 'E')
		buf_addf(also(t, DIFF_UNKNOWN), "could not be looked at (%s), now can be",
			 strerror(a->err));
	else if (a->type == 'a')
		buf_addf(also(t, DIFF_APPEARED), "was absent, now exists");
	else if (b->type == 'a')
		buf_addf(also(t, DIFF_GONE), "existed, now absent");
	else
		buf_addf(also(t, DIFF_TYPE), "was %s%s, now %s%s", article(a->type),
			 type_word(a->type), article(b->type), type_word(b->type));
	return true;
}

static void add_sizes(struct two *t, struct buf *b)
{
	char from[32], to[32];

	human_size(t->a.size, from, sizeof(from));
	human_size(t->b.size, to, sizeof(to));
	if (t->a.size == t->b.size)
		buf_addf(b, "%s", to);
	else if (strcmp(from, to) == 0)
		buf_addf(b, "%llu → %llu bytes", (unsigned long long)t->a.size,
			 (unsigned long long)t->b.size);
	else
		buf_addf(b, "%s → %s", from, to);
}

static void diff_content(struct two *t)
{
	char when[40];
	struct buf *b;

	if (!t->a.has_content || !t->b.has_content || fp_eq(&t->a.content, &t->b.content))
		return;
	b = also(t, DIFF_CONTENT);
	buf_addf(b, "content changed (");
	add_sizes(t, b);
	if (t->now->st)
		buf_addf(b, ", modified %s",
			 human_time(timespec_ns(t->now->st->st_mtim), when, sizeof(when)));
	buf_addf(b, ")");
}

/* Of files that were only looked at. */
static void diff_size_and_time(struct two *t)
{
	const struct state_parts *a = &t->a, *b = &t->b;
	char from[40], to[40];

	if ((a->has_content && b->has_content) || !a->has_size || !b->has_size)
		return;
	if (a->size != b->size) {
		buf_addf(also(t, DIFF_TIME), "size ");
		add_sizes(t, &t->text);
	}
	if (!a->has_mtime || !b->has_mtime || a->mtime_ns == b->mtime_ns)
		return;
	human_time(a->mtime_ns, from, sizeof(from));
	human_time(b->mtime_ns, to, sizeof(to));
	if (strcmp(from, to) == 0) {
		rfc3339(a->mtime_ns, from, sizeof(from));
		rfc3339(b->mtime_ns, to, sizeof(to));
	}
	buf_addf(also(t, DIFF_TIME), "modified %s → %s", from, to);
}

static void owner_words(const struct state_parts *s, char *text, size_t n)
{
	if (s->has_owner)
		(void)snprintf(text, n, "%u:%u", s->uid, s->gid); /* it fits */
	else if (s->has_rights)
		(void)snprintf(text, n, "another's (%c%c%c)", s->rights & 4 ? 'r' : '-',
			       s->rights & 2 ? 'w' : '-', s->rights & 1 ? 'x' : '-');
	else
		(void)snprintf(text, n, "one's own");
}

static void diff_mode_and_owner(struct two *t)
{
	const struct state_parts *a = &t->a, *b = &t->b;
	char from[40], to[40];

	if (a->has_mode && b->has_mode && a->mode != b->mode)
		buf_addf(also(t, DIFF_MODE), "mode %04o → %04o", a->mode, b->mode);
	/* Nothing said of an owner: one's own. Known only where the mode was asked for, or of links. */
	if (!(a->has_mode && b->has_mode) && !(a->target && b->target))
		return;
	owner_words(a, from, sizeof(from));
	owner_words(b, to, sizeof(to));
	if (strcmp(from, to) != 0)
		buf_addf(also(t, DIFF_OWNER), "owner %s → %s", from, to);
}

static void diff_listing(struct two *t)
{
	struct buf names = {0};

	if (!t->a.has_list || !t->b.has_list || fp_eq(&t->a.list, &t->b.list))
		return;
	if (t->was->names && t->now->names)
		names_diff(t->was, t->now, &names);
	if (names.len)
		buf_add(also(t, DIFF_LISTING), names.data, names.len);
	else
		buf_addf(also(t, DIFF_LISTING), "other names in a listed directory");
	buf_free(&names);
}

static void diff_rest(struct two *t)
{
	const struct state_parts *a = &t->a, *b = &t->b;
	bool same = !(t->was->kinds & t->now->kinds & OBS_XATTR) ||
		    (a->has_xattrs == b->has_xattrs &&
		     (!a->has_xattrs || fp_eq(&a->xattrs, &b->xattrs)));

	if (a->target && b->target && strcmp(a->target, b->target) != 0) {
		buf_addf(also(t, DIFF_LINK), "link target ");
		add_plain(&t->text, a->target);
		buf_addf(&t->text, " → ");
		add_plain(&t->text, b->target);
	}
	if (a->has_rdev && b->has_rdev && a->rdev != b->rdev)
		buf_addf(also(t, DIFF_TYPE), "another device");
	if (!same)
		buf_addf(also(t, DIFF_XATTRS), "extended attributes %s",
			 !a->has_xattrs	  ? "new"
			 : !b->has_xattrs ? "gone"
					  : "changed");
}

char *state_diff(const struct path_state *was, const struct path_state *now,
		 enum diff_kind *ret_kind)
{
	struct two t = {.was = was, .now = now};

	if (state_parse(was->state, was->n, &t.a) < 0)
		return NULL;
	if (state_parse(now->state, now->n, &t.b) < 0) {
		state_parts_free(&t.a);
		return NULL;
	}
	if (!diff_types(&t)) {
		diff_content(&t);
		diff_size_and_time(&t);
		diff_mode_and_owner(&t);
		diff_listing(&t);
		diff_rest(&t);
	}
	state_parts_free(&t.a);
	state_parts_free(&t.b);
	*ret_kind = t.kind;
	if (t.any)
		buf_u8(&t.text, 0);
	return (char *)t.text.data;
}
