/* SPDX-License-Identifier: MIT */
/* decide_why.c - the recorded result that differs least from what is there now, and in what. */
#include <string.h>
#include <errno.h>

#include "explain.h"

/* To say why may take so long, beyond the result stored last, which is always compared. */
#define EXPLAIN_MAX_NS (50 * 1000000LL)

/* The recorded result that differs least from what is there now. */
struct nearest {
	struct look *l;
	size_t diffs; /* 0: none found */
	int64_t stored_ns;
	char *text;
};

static bool recorded_absent(const struct path_entry *p, const struct buf *state)
{
	static const struct facts nothing = {.present = false};
	auto_buf struct buf absent = {0};

	state_of_facts(p->kinds, &nothing, p->excluded, p->n_excluded, &absent);
	return absent.len == state->len && memcmp(absent.data, state->data, absent.len) == 0;
}

/* How telling a difference is: a new file also changes the listing that it is in. */
static int weight(const struct look *l, const struct path_entry *p)
{
	struct node *n = node_get((struct look *)l, p->path, false);

	if (!n->st_err && S_ISDIR(n->st.st_mode))
		return p->kinds & OBS_LIST ? 1 : 2;
	return 3;
}

static char *difference(const struct look *l, const struct path_entry *p, const struct buf *was)
{
	struct node *n = node_get((struct look *)l, p->path, false);
	const char *path = shown(l, p->path);
	bool absent = recorded_absent(p, was);

	if (node_absent(n))
		return xasprintf("%s is gone", path);
	if (n->st_err)
		return xasprintf("%s cannot be looked at: %s", path, strerror(n->st_err));
	if (absent)
		return xasprintf("%s is new", path);
	if (S_ISDIR(n->st.st_mode) && (p->kinds & OBS_LIST))
		return xasprintf("the listing of %s changed", path);
	return xasprintf("%s changed", path);
}

size_t each_difference(struct look *l, const struct path_set *set, const struct result *r,
		       void (*fn)(void *arg, const struct path_entry *p, const struct buf *was,
				  const struct view *now),
		       void *arg)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n; i++) {
		const struct view *v = view_get(l, &set->v[i]);

		if (v->err >= 0 && v->state.len == r->states[i].len &&
		    (v->state.len == 0 ||
		     memcmp(v->state.data, r->states[i].data, v->state.len) == 0))
			continue;
		n++;
		fn(arg, &set->v[i], &r->states[i], v);
	}
	return n;
}

/* Is the next recorded state, which comes into *was (borrowed), that of now? */
static bool is_still(const struct view *now, struct cur *recorded, struct buf *was)
{
	size_t n;
	const void *p = cur_bytes(recorded, &n);

	*was = (struct buf){.data = (uint8_t *)(uintptr_t)p, .len = n}; /* only read */
	return now->state.len == n && (n == 0 || memcmp(now->state.data, p, n) == 0);
}

/* How many of these paths are not now as they were? Not counted beyond max + 1. */
static size_t count_differences(const struct view *const *now, const struct result_states *s,
				size_t max)
{
	struct cur recorded = s->at;
	size_t diffs = 0;
	struct buf was;

	for (size_t i = 0; diffs <= max && i < s->n; i++)
		diffs += !is_still(now[i], &recorded, &was);
	return diffs;
}

/* The most telling of the differences, of which there are some. */
static char *tell_most(struct look *l, const struct path_set *set, const struct view *const *now,
		       const struct result_states *s)
{
	struct buf was, of_told = {0};
	struct cur recorded = s->at;
	size_t told = s->n;

	for (size_t i = 0; i < s->n; i++) {
		if (is_still(now[i], &recorded, &was) ||
		    (told < s->n && weight(l, &set->v[i]) <= weight(l, &set->v[told])))
			continue;
		told = i;
		of_told = was;
	}
	return difference(l, &set->v[told], &of_told);
}

/* One of the results. */
static void consider(void *arg, const struct result_states *s)
{
	struct nearest *near = arg;
	struct look *l = near->l;
	size_t m = 0, max = SIZE_MAX - 1, diffs;

	while (m < l->sets.n && !fp_eq(&s->path_set_id, &l->sets.ids[m]))
		m++;
	if (m == l->sets.n || s->n != l->sets.sets[m].n)
		return;
	if (near->diffs) /* of two as near the one stored later */
		max = near->diffs - (s->stored_ns < near->stored_ns);
	diffs = count_differences(l->views[m], s, max);
	if (!diffs || diffs > max)
		return;
	free(near->text);
	near->text = tell_most(l, &l->sets.sets[m], l->views[m], s);
	near->diffs = diffs;
	near->stored_ns = s->stored_ns;
}

char *explain(struct look *l)
{
	struct nearest near = {.l = l};
	int64_t until = mono_ns() + EXPLAIN_MAX_NS;
	auto_free struct fp *keys = NULL;
	auto_free char *text = NULL;
	struct err e;
	size_t n = 0;

	if (idx_step_results(l->x, &l->s->key, &keys, &n, &e) < 0)
		return xasprintf("what it reads changed (%s)", e.msg);
	/* The one stored last comes first: none behind one with a single difference is nearer. */
	for (size_t i = 0; i < n && near.diffs != 1 && (i == 0 || mono_ns() < until); i++)
		(void)idx_result_states(l->x, &keys[i], consider, &near); /* dropped, or damaged */
	text = near.text;
	if (!text)
		return xstrdup("what it reads changed");
	if (near.diffs > 1)
		return xasprintf("%s (and %zu more)", text, near.diffs - 1);
	return take(text);
}

char *explain_new(struct look *l)
{
	struct other_steps o = {0};
	const struct diffs *d;
	char *text;

	/* Another command, or elsewhere: that is a step of its own. */
	other_steps(l->x, &l->s->description, l->s->name, true, &o);
	if (!o.n)
		return xstrdup("not seen before");
	d = &o.v[0].diffs;
	/* What is told of a run is kept and sent around: no values of variables. */
	if (d->v[0].kind == DIFF_ENVIRONMENT)
		text = xasprintf("environment %s changed", d->v[0].about);
	else
		text = xstrdup(d->v[0].text);
	if (d->n > 1) {
		auto_free char *first = text;

		text = xasprintf("%s (and %zu more)", first, d->n - 1);
	}
	other_steps_free(&o);
	return text;
}
