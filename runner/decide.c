/* SPDX-License-Identifier: MIT */
/*
 * decide.c - is this a hit? The two-stage lookup of docs/design.md: step key -> path sets; for
 * each, the present state of its paths -> input key -> result. A result found is a hit only when it
 * may be used (age, status, console) and when what stands where it would write was made by recorded
 * steps.
 *
 * A path is looked at once a lookup, however many path sets and outputs name it: see struct node.
 */
#include <errno.h>
#include <string.h>

#include "decide.h"

/* ---- may this result be used at all? ---- */

static bool check_age(struct look *l, const struct result *r)
{
	double age = (double)(now_ns() - r->stored_ns) / 1e9;
	char text[32];

	if (l->o->expire_after < 0)
		return true;
	/* Its age cannot be known when the clock was set back since: fail closed. */
	if (age < 0)
		return refuse(l, xstrdup("its result is dated in the future"));
	if (age < l->o->expire_after)
		return true;
	human_seconds(age - l->o->expire_after, text, sizeof(text));
	return refuse(l, xasprintf("expired %s ago", text));
}

bool check_terms(struct look *l, const struct result *r)
{
	bool good;

	l->kind = DIFF_TERMS;
	good = check_age(l, r);
	if (look_on(l, good) && l->o->strict != r->strict)
		good = refuse(l, xstrdup("recorded with another setting of --strict"));
	if (look_on(l, good) && r->exit_status != 0 && !l->o->cache_failures)
		good = refuse(l, xasprintf("it failed (exit status %d) when recorded",
					   r->exit_status));
	if (look_on(l, good) && !console_compatible(r, l->s->merged))
		good = refuse(l, xstrdup("standard output and error are joined otherwise than "
					 "when recorded"));
	return good;
}

bool check_stdin(struct look *l, const struct result *r, struct stdin_src *in)
{
	struct err e = {0};
	int k;

	l->kind = DIFF_STDIN;
	end_read(l); /* it may wait for input; a snapshot must not be held for so long */
	k = in ? stdin_matches(in, l->x, r, &e) : 1;

	if (k > 0)
		return true;
	return refuse(l, k < 0 ? xasprintf("standard input could not be compared: %s", e.msg)
			       : xstrdup("standard input differs"));
}

/* ---- the two stages ---- */

/* Of path set m, the last one read. 1: *ret is the input key; 0: a state could not be determined, the reason is kept. */
static int key_of(struct look *l, size_t m, struct fp *ret)
{
	const struct path_set *set = &l->sets.sets[m];
	const struct view **views = arena_alloc(&l->nodes, set->n * sizeof(*views));
	struct key_state *k = input_key_begin(&l->s->key, &l->sets.ids[m]);

	l->views = xrealloc(l->views, (m + 1) * sizeof(*l->views));
	l->views[m] = views;
	for (size_t i = 0; i < set->n; i++) {
		const struct view *v = views[i] = view_get(l, &set->v[i]);

		if (v->err < 0) {
			(void)input_key_end(k); /* only to free it */
			(void)refuse(l, xasprintf("cannot determine the state of %s: %s",
						  shown(l, set->v[i].path), strerror(-v->err)));
			return 0;
		}
		input_key_add(k, v->state.data, v->state.len);
	}
	*ret = input_key_end(k);
	return 1;
}

static void result_drop(struct result **r)
{
	if (*r)
		result_free(*r);
}

/* Is the result under this key, of path set m, a hit? exact: only where its outputs go stands what stood there when it was recorded. */
static bool try_key(struct look *l, const struct fp *key, size_t m, bool exact,
		    struct stdin_src *in, struct decision *ret)
{
	__attribute__((cleanup(result_drop))) struct result *r = NULL;
	auto_free struct place *places = NULL;
	struct err e = {0};
	int k = idx_result_get_brief(l->x, key, &r, &e);

	if (k < 0)
		return refuse(l, xstrdup(e.msg));
	/* A record under a key that is not its own is damaged. */
	if (k == 0 || !fp_eq(&r->step_key, &l->s->key) || !fp_eq(&r->path_set_id, &l->sets.ids[m]))
		return false;
	if (exact && !outputs_as_recorded(l, r))
		return false;
	places = xcalloc(r->n_outputs, sizeof(*places));
	if (!check_terms(l, r) || !check_outputs(l, r, &l->sets.sets[m], places) ||
	    !check_stdin(l, r, in))
		return false;
	ret->hit = true;
	ret->result = take(r);
	ret->places = take(places);
	return true;
}

static int facts_of(void *arg, const char *path, struct stat *ret)
{
	struct node *n = node_get(arg, path, true);

	*ret = stat_again(&n->st);
	return n->st_err;
}

/* All is in place: the next time lstat will do. */
static void keep_stamp(struct look *l, const struct decision *d)
{
	const struct result *r = d->result;

	for (size_t i = 0; i < r->n_outputs; i++)
		if (d->places[i].action != PLACE_KEEP)
			return;
	if (!l->passing)
		stamp_keep(l->x, l->o, l->s, r, l->begun, facts_of, l);
}

/* Is it what the last lookup found, with nothing changed since? */
static bool try_stamp(struct look *l, struct stdin_src *in, struct decision *ret)
{
	__attribute__((cleanup(result_drop))) struct result *r = stamp_find(l->x, l->o, l->s);

	if (!r || !check_terms(l, r) || !check_stdin(l, r, in))
		return false;
	ret->hit = true;
	ret->places = xcalloc(r->n_outputs, sizeof(*ret->places)); /* PLACE_KEEP, all of them */
	ret->result = take(r);
	return true;
}

/* Path set m: the result under its key, or one of those that differ in what they read from stdin or in what stood
 * where their outputs went. Of these the one recorded in this very world comes first. */
static bool try_set(struct look *l, size_t m, struct stdin_src *in, struct decision *ret)
{
	auto_free struct fp *variants = NULL;
	struct err e = {0};
	size_t n = 0;
	struct fp key;

	if (!key_of(l, m, &key))
		return false;
	if (idx_variants(l->x, &key, &variants, &n, &e) < 0)
		return refuse(l, xstrdup(e.msg));
	for (int exact = n > 0; exact >= 0; exact--) {
		if (try_key(l, &key, m, exact, in, ret))
			return true;
		for (size_t k = 0; k < n; k++)
			if (try_key(l, &variants[k], m, exact, in, ret))
				return true;
	}
	return false;
}

/* ---- public ---- */

/* The path sets of the step in turn, until one fits: those behind it are not read. */
static int try_sets(struct look *l, struct stdin_src *in, struct decision *ret, struct err *e)
{
	int r = idx_path_sets_begin(l->x, &l->s->key, &l->sets, e);

	if (r < 0)
		return r;
	while ((r = idx_path_sets_next(l->x, &l->sets, e)) > 0)
		if (try_set(l, l->sets.n - 1, in, ret)) {
			keep_stamp(l, ret);
			return 0;
		}
	return r;
}

static char *decide_in(struct look *l, struct stdin_src *in, struct decision *ret)
{
	struct err e = {0};

	l->begun = now_ns();
	l->reading = idx_begin_read(l->x, &e) >= 0;
	if (l->reading && try_stamp(l, in, ret))
		return NULL;
	if (!l->reading || try_sets(l, in, ret, &e) < 0)
		return xasprintf("the cache cannot be read: %s", e.msg);
	if (ret->hit)
		return NULL;
	if (l->reason)
		return take(l->reason);
	return l->sets.n ? explain(l) : explain_new(l);
}

void decide(struct idx *x, const struct exec_opts *o, const struct step *s, struct stdin_src *in,
	    struct decision *ret)
{
	struct look l = {.x = x, .o = o, .s = s};

	*ret = (struct decision){0};
	ret->reason = decide_in(&l, in, ret);
	look_free(&l);
}

void decision_free(struct decision *d)
{
	if (!d)
		return;
	if (d->result)
		result_free(d->result);
	free(d->reason);
	free(d->places);
	*d = (struct decision){0};
}
