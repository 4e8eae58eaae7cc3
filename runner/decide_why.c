/* SPDX-License-Identifier: MIT */
/* decide_why.c - the recorded result that differs least from what is there now, and in what. */
#include <string.h>
#include <errno.h>

#include "decide.h"

/* To say why may take so long, beyond the result stored last, which is always compared. */
#define EXPLAIN_MAX_NS (50 * 1000000LL)

/* The recorded result that differs least from what is there now. */
struct nearest {
	struct look *l;
	const struct path_set_list *sets;
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

static void compare(struct nearest *near, const struct path_set *set, const struct result *r)
{
	const struct path_entry *told = NULL;
	const struct buf *was = NULL;
	size_t diffs = 0;

	for (size_t i = 0; i < set->n; i++) {
		const struct view *v = view_get(near->l, &set->v[i]);

		if (v->err >= 0 && v->state.len == r->states[i].len &&
		    (v->state.len == 0 ||
		     memcmp(v->state.data, r->states[i].data, v->state.len) == 0))
			continue;
		diffs++;
		if (!told || weight(near->l, &set->v[i]) > weight(near->l, told)) {
			told = &set->v[i];
			was = &r->states[i];
		}
	}
	if (!told || (near->diffs && (diffs > near->diffs ||
				      (diffs == near->diffs && r->stored_ns < near->stored_ns))))
		return;
	free(near->text);
	near->text = difference(near->l, told, was);
	near->diffs = diffs;
	near->stored_ns = r->stored_ns;
}

static void consider(struct nearest *near, const struct fp *key)
{
	struct result *r;
	struct err e;

	if (idx_result_get(near->l->x, key, &r, &e) <= 0)
		return; /* dropped, or damaged */
	for (size_t i = 0; i < near->sets->n; i++)
		if (fp_eq(&r->path_set_id, &near->sets->ids[i]) &&
		    r->n_states == near->sets->sets[i].n)
			compare(near, &near->sets->sets[i], r);
	result_free(r);
}

char *explain(struct look *l, const struct path_set_list *sets)
{
	struct nearest near = {.l = l, .sets = sets};
	int64_t until = mono_ns() + EXPLAIN_MAX_NS;
	auto_free struct fp *keys = NULL;
	auto_free char *text = NULL;
	struct err e;
	size_t n = 0;

	if (idx_step_results(l->x, &l->s->key, &keys, &n, &e) < 0)
		return xasprintf("what it reads changed (%s)", e.msg);
	for (size_t i = 0; i < n && (i == 0 || mono_ns() < until); i++)
		consider(&near, &keys[i]);
	text = near.text;
	if (!text)
		return xstrdup("what it reads changed");
	if (near.diffs > 1)
		return xasprintf("%s (and %zu more)", text, near.diffs - 1);
	return take(text);
}
