/* SPDX-License-Identifier: MIT */
/* decide_why.c - the recorded result that differs least from what is there now, and in what. */
#include <string.h>
#include <errno.h>

#include "decide.h"

/* A miss scans the index for the results it could be compared with; it must not take longer than
 * that. */
#define EXPLAIN_MAX_RESULTS    20000
#define EXPLAIN_MAX_NS	       (50 * 1000000LL)
#define EXPLAIN_MAX_CANDIDATES 64

/* The recorded result that differs least from what is there now. */
struct nearest {
	struct look *l;
	const struct path_set_list *sets;
	int64_t until;
	size_t seen, candidates;
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

static int consider(void *arg, const struct result *r)
{
	struct nearest *near = arg;

	if (++near->seen > EXPLAIN_MAX_RESULTS || mono_ns() > near->until)
		return 1;
	if (!fp_eq(&r->step_key, &near->l->s->key))
		return 0;
	for (size_t i = 0; i < near->sets->n; i++)
		if (fp_eq(&r->path_set_id, &near->sets->ids[i]) &&
		    r->n_states == near->sets->sets[i].n)
			compare(near, &near->sets->sets[i], r);
	return ++near->candidates >= EXPLAIN_MAX_CANDIDATES;
}

char *explain(struct look *l, const struct path_set_list *sets)
{
	struct nearest near = {.l = l, .sets = sets, .until = mono_ns() + EXPLAIN_MAX_NS};
	auto_free char *text = NULL;
	int r = idx_results(l->x, "", consider, &near, NULL);

	text = near.text;
	if (r < 0 || !text)
		return xstrdup("what it reads changed");
	if (near.diffs > 1)
		return xasprintf("%s (and %zu more)", text, near.diffs - 1);
	return take(text);
}
