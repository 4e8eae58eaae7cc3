/* SPDX-License-Identifier: MIT */
/*
 * explain.c - what differs from recorded results. What is compared, and how, is decide*.c's business: here its looking
 * is made to go on where a lookup would stop, and what it finds is put into words.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "explain.h"
#include "share.h"

#define OTHERS_MAX 3 /* steps whose results are compared where a step has none */

/* ---- other steps ---- */

static bool same_command(const struct step_told *a, const struct step_told *b)
{
	if (strcmp(a->cwd, b->cwd) != 0 || a->argv.n != b->argv.n)
		return false;
	for (size_t i = 0; i < a->argv.n; i++)
		if (strcmp(a->argv.v[i], b->argv.v[i]) != 0)
			return false;
	return true;
}

static int nearer_step(const void *a, const void *b)
{
	const struct other_step *x = a, *y = b;

	if (x->same_command != y->same_command)
		return x->same_command ? -1 : 1;
	return x->diffs.n < y->diffs.n ? -1 : x->diffs.n > y->diffs.n;
}

/* What is asked about, and those that are near to it. */
struct step_search {
	struct idx *x;
	const struct buf *description;
	struct step_told now;
	bool same; /* only steps with the same of these */
};

static void consider_step(const struct step_search *s, const struct fp *key,
			  struct other_steps *ret)
{
	struct other_step o = {.key = *key};
	auto_buf struct buf b = {0};
	struct step_told was;
	struct err e;

	if (idx_description_get(s->x, key, &b, &e) <= 0)
		return; /* not kept: nothing can be said */
	if (s->same &&
	    (b.len < s->now.command || memcmp(b.data, s->description->data, s->now.command)))
		return;
	if (step_told(&b, &was) < 0)
		return; /* damaged */
	step_diff(&was, &s->now, &o.diffs);
	o.same_command = same_command(&was, &s->now);
	step_told_free(&was);
	if (!o.diffs.n) {
		diffs_free(&o.diffs);
		return; /* the step itself */
	}
	ret->v = xrealloc(ret->v, (ret->n + 1) * sizeof(*ret->v));
	ret->v[ret->n++] = o;
}

void other_steps(struct idx *x, const struct buf *description, const char *name, bool same,
		 struct other_steps *ret)
{
	struct step_search s = {.x = x, .description = description, .same = same};
	auto_free struct fp *keys = NULL;
	struct err e;
	size_t n = 0;

	*ret = (struct other_steps){0};
	if (!description->len || step_told(description, &s.now) < 0)
		return;
	if (idx_steps_named(x, name ? name : "", &keys, &n, &e) == 0)
		for (size_t i = 0; i < n; i++)
			consider_step(&s, &keys[i], ret);
	step_told_free(&s.now);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), nearer_step);
}

void other_steps_free(struct other_steps *o)
{
	for (size_t i = 0; i < o->n; i++)
		diffs_free(&o->v[i].diffs);
	free(o->v);
	*o = (struct other_steps){0};
}

/* ---- one path ---- */

struct gathering {
	struct look *l;
	struct diffs *to;
};

/* The names that a recorded state's listing had. */
static char **names_of(struct idx *x, const void *state, size_t n, size_t *ret_n)
{
	struct state_parts parts;
	char **names = NULL;
	struct err e;

	*ret_n = 0;
	if (state_parse(state, n, &parts) < 0)
		return NULL;
	if (!parts.has_list || idx_listing_get(x, &parts.list, &names, ret_n, &e) <= 0)
		names = NULL;
	state_parts_free(&parts);
	return names;
}

static bool left_out(const struct look *l, const struct path_entry *p, const char *name)
{
	for (size_t i = 0; i < p->n_excluded; i++)
		if (strcmp(p->excluded[i], name) == 0)
			return true;
	return opts_ignored_in(l->o, p->path, name);
}

/* Those that are there now and count. */
static char **names_now(const struct look *l, const struct path_entry *p, size_t *ret_n)
{
	auto_close int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list = NULL;
	size_t n = 0, kept = 0;

	*ret_n = 0;
	if (fd < 0 || list_dir(fd, &list, &n) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (left_out(l, p, list[i] + 1))
			free(list[i]);
		else
			list[kept++] = list[i];
	*ret_n = kept;
	return list;
}

static void add_state(struct diffs *to, const char *cwd, const char *path,
		      const struct path_state *was, const struct path_state *now, bool always)
{
	enum diff_kind kind = DIFF_UNKNOWN;
	auto_free char *what = state_diff(was, now, &kind);

	if (what || always)
		diffs_add(to, kind, path,
			  xasprintf("%s: %s", shown_path(cwd, path), what ? what : "changed"));
}

static void gather_path(void *arg, const struct path_entry *p, const struct buf *was,
			const struct view *now)
{
	struct gathering *g = arg;
	struct node *n = node_get(g->l, p->path, false);
	struct path_state a = {.state = was->data, .n = was->len, .kinds = p->kinds};
	struct path_state b = {.state = now->state.data, .n = now->state.len, .kinds = p->kinds};
	char **then = NULL, **here = NULL;

	if (now->err < 0) {
		diffs_add(g->to, DIFF_UNKNOWN, p->path,
			  xasprintf("%s: cannot be looked at: %s", shown(g->l, p->path),
				    strerror(-now->err)));
		return;
	}
	if (!n->st_err)
		b.st = &n->st;
	if ((p->kinds & OBS_LIST) && b.st && S_ISDIR(b.st->st_mode)) {
		then = names_of(g->l->x, was->data, was->len, &a.n_names);
		here = then ? names_now(g->l, p, &b.n_names) : NULL;
		a.names = then;
		b.names = here;
	}
	add_state(g->to, g->l->s->cwd, p->path, &a, &b, true);
	strv_free(then, a.n_names);
	strv_free(here, b.n_names);
}

/* ---- results ---- */

static const struct path_set *set_of(const struct path_set_list *sets, const struct result *r)
{
	for (size_t i = 0; i < sets->n; i++)
		if (fp_eq(&sets->ids[i], &r->path_set_id) && sets->sets[i].n == r->n_states)
			return &sets->sets[i];
	return NULL;
}

static struct near_result near_of(const struct result *r)
{
	return (struct near_result){.key = r->input_key,
				    .step_key = r->step_key,
				    .name = xstrdup(r->name ? r->name : ""),
				    .shared_by = share_marked(r),
				    .started_ns = r->started_ns,
				    .stored_ns = r->stored_ns,
				    .wall_ns = r->wall_ns};
}

void near_result_free(struct near_result *n)
{
	free(n->name);
	free(n->shared_by);
	diffs_free(&n->diffs);
	*n = (struct near_result){0};
}

static int nearer(const void *a, const void *b)
{
	const struct near_result *x = a, *y = b;

	if (x->diffs.n != y->diffs.n)
		return x->diffs.n < y->diffs.n ? -1 : 1;
	return x->stored_ns > y->stored_ns ? -1 : x->stored_ns < y->stored_ns;
}

/* The step that results are of. */
struct of_step {
	struct look *l;
	const struct path_set_list *sets;
	const struct other_step *other; /* it is not the one that is asked about */
	struct stdin_src *in;
	struct explanation *ret;
};

static void gather(const struct of_step *g, const struct result *r, struct diffs *to)
{
	const struct path_set *set = set_of(g->sets, r);
	auto_free struct place *places = xcalloc(r->n_outputs + 1, sizeof(*places));
	bool elsewhere = false;

	for (size_t i = 0; g->other && i < g->other->diffs.n; i++) {
		const struct diff *d = &g->other->diffs.v[i];

		diffs_add(to, d->kind, d->about, xstrdup(d->text));
		elsewhere |= d->kind == DIFF_DIRECTORY;
	}
	if (!set)
		diffs_add(to, DIFF_UNKNOWN, NULL,
			  xstrdup("which paths it looked at is no longer kept"));
	else if (!elsewhere)
		each_difference(g->l, set, r, gather_path,
				&(struct gathering){.l = g->l, .to = to});
	g->l->all = to;
	if (!g->other) /* what it would be by other words or elsewhere is told already */
		(void)check_terms(g->l, r);
	if (set && !elsewhere)
		(void)check_outputs(g->l, r, set, places);
	if (g->in && !g->other)
		(void)check_stdin(g->l, r, g->in);
	g->l->all = NULL;
	diffs_sort(to);
}

static void gather_key(const struct of_step *g, const struct fp *key)
{
	struct near_result n;
	struct result *r;
	struct err e;

	if (idx_result_get(g->l->x, key, &r, &e) <= 0)
		return; /* dropped, or damaged */
	n = near_of(r);
	gather(g, r, &n.diffs);
	result_free(r);
	g->ret->v = xrealloc(g->ret->v, (g->ret->n + 1) * sizeof(*g->ret->v));
	g->ret->v[g->ret->n++] = n;
}

/* All results of a step, or one. */
static void gather_step(struct idx *x, const struct exec_opts *o, const struct step *s,
			struct stdin_src *in, const struct fp *key, const struct other_step *other,
			const struct fp *only, struct explanation *ret)
{
	struct look l = {.x = x, .o = o, .s = s, .begun = now_ns()};
	struct path_set_list sets = {0};
	struct of_step g = {.l = &l, .sets = &sets, .other = other, .in = in, .ret = ret};
	auto_free struct fp *keys = NULL;
	struct err e = {0};
	size_t n = 0;

	l.reading = idx_begin_read(x, &e) >= 0;
	if (l.reading && idx_path_sets(x, key, &sets, &e) >= 0 &&
	    (only || idx_step_results(x, key, &keys, &n, &e) >= 0))
		for (size_t i = 0; i < (only ? 1 : n); i++)
			gather_key(&g, only ? only : &keys[i]);
	/* The nodes borrow from the path sets. */
	look_free(&l);
	path_set_list_free(&sets);
}

static void gather_others(struct idx *x, const struct exec_opts *o, const struct step *s,
			  struct explanation *ret)
{
	struct other_steps others;

	other_steps(x, &s->description, s->name, false, &others);
	for (size_t i = 0; i < others.n && i < OTHERS_MAX; i++)
		gather_step(x, o, s, NULL, &others.v[i].key, &others.v[i], NULL, ret);
	ret->others = ret->n > 0;
	other_steps_free(&others);
}

/* What a hit is to give is there and whole; else it is a miss after all (replay.c). */
static char *damage_of(struct idx *x, const struct decision *d)
{
	const struct result *r = d->result;

	if (r->console_len && store_check(x, &r->console_oid, r->console_len) <= 0)
		return xstrdup("its console is no longer whole in the cache");
	for (size_t i = 0; i < r->n_outputs; i++) {
		enum place_action a = d->places[i].action;

		if (r->outputs[i].now.type == OUT_FILE &&
		    (a == PLACE_WRITE || a == PLACE_THROUGH) &&
		    store_check(x, &r->outputs[i].oid, r->outputs[i].now.size) <= 0)
			return xstrdup("an object of it is no longer whole in the cache");
	}
	return NULL;
}

static void look_up(struct idx *x, const struct exec_opts *o, const struct step *s,
		    struct stdin_src *in, struct explanation *ret)
{
	struct decision d;
	char *damage;

	decide(x, o, s, in, &d);
	ret->hit = d.hit;
	ret->reason = take(d.reason);
	damage = d.hit ? damage_of(x, &d) : NULL;
	if (d.hit)
		ret->found = near_of(d.result);
	if (damage) {
		ret->hit = false;
		ret->reason = damage;
		diffs_add(&ret->found.diffs, DIFF_TERMS, NULL, xstrdup(damage));
	}
	decision_free(&d);
}

void explain_now(struct idx *x, const struct exec_opts *o, const struct step *s,
		 struct stdin_src *in, const struct fp *only, struct explanation *ret)
{
	*ret = (struct explanation){0};
	if (o->no_cache || o->refresh)
		ret->reason = xstrdup(o->no_cache ? "--no-cache" : "--refresh");
	else
		look_up(x, o, s, in, ret);
	if (ret->hit && (!only || fp_eq(only, &ret->found.key)))
		return;
	if (ret->hit) {
		char digits[9];

		hex(&ret->found.key, 4, digits);
		ret->hit = false;
		ret->reason = xasprintf("another result of the step would be the hit, %s", digits);
	}
	if (ret->found.diffs.n) { /* all but what is in the store is as it was */
		ret->v = xcalloc(1, sizeof(*ret->v));
		ret->v[ret->n++] = ret->found;
		ret->found = (struct near_result){0};
		return;
	}
	gather_step(x, o, s, in, &s->key, NULL, only, ret);
	if (!ret->n && !only)
		gather_others(x, o, s, ret);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), nearer);
}

void explanation_free(struct explanation *e)
{
	near_result_free(&e->found);
	for (size_t i = 0; i < e->n; i++)
		near_result_free(&e->v[i]);
	free(e->v);
	free(e->reason);
	*e = (struct explanation){0};
}

/* ---- two results ---- */

struct earlier {
	struct idx *x;
	const struct result *m;
	const struct path_set *m_set; /* or NULL */
	const struct other_step *other;
	struct near_result best;
	bool any;
};

static int by_path(const void *path, const void *entry)
{
	return strcmp(path, ((const struct path_entry *)entry)->path);
}

static bool same_names(const struct path_entry *a, const struct path_entry *b)
{
	if (a->n_excluded != b->n_excluded)
		return false;
	for (size_t i = 0; i < a->n_excluded; i++)
		if (strcmp(a->excluded[i], b->excluded[i]) != 0)
			return false;
	return true;
}

/* What both looked at. A listing without other names cannot be compared. */
static void compare_path(struct earlier *g, const struct path_entry *p, const struct buf *was,
			 struct diffs *to)
{
	const struct path_entry *q =
		g->m_set->n ? bsearch(p->path, g->m_set->v, g->m_set->n, sizeof(*q), by_path)
			    : NULL;
	const struct buf *is = q ? &g->m->states[q - g->m_set->v] : NULL;
	struct path_state a = {.state = was->data, .n = was->len, .kinds = p->kinds}, b;
	char **then = NULL, **now = NULL;

	if (!q || (is->len == was->len && memcmp(is->data, was->data, is->len) == 0))
		return;
	if ((p->kinds & q->kinds & OBS_LIST) && !same_names(p, q))
		return;
	b = (struct path_state){.state = is->data, .n = is->len, .kinds = q->kinds};
	a.names = then = names_of(g->x, was->data, was->len, &a.n_names);
	b.names = now = names_of(g->x, is->data, is->len, &b.n_names);
	add_state(to, g->m->cwd, p->path, &a, &b, false);
	strv_free(then, a.n_names);
	strv_free(now, b.n_names);
}

static void compare_with(struct earlier *g, const struct path_set_list *sets,
			 const struct result *r)
{
	const struct path_set *set = set_of(sets, r);
	struct near_result n = near_of(r);

	for (size_t i = 0; g->other && i < g->other->diffs.n; i++) {
		const struct diff *d = &g->other->diffs.v[i];

		diffs_add(&n.diffs, d->kind, d->about, xstrdup(d->text));
	}
	for (size_t i = 0; g->m_set && set && i < set->n; i++)
		compare_path(g, &set->v[i], &r->states[i], &n.diffs);
	diffs_sort(&n.diffs);
	if (g->any && nearer(&g->best, &n) <= 0) {
		near_result_free(&n);
		return;
	}
	near_result_free(&g->best);
	g->best = n;
	g->any = true;
}

/* sets: those of the step with this key. */
static void compare_step(struct earlier *g, const struct fp *key, const struct path_set_list *sets)
{
	auto_free struct fp *keys = NULL;
	struct result *r;
	struct err e;
	size_t n = 0;

	if (idx_step_results(g->x, key, &keys, &n, &e) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		if (fp_eq(&keys[i], &g->m->input_key) ||
		    idx_result_get(g->x, &keys[i], &r, &e) <= 0)
			continue;
		if (r->stored_ns < g->m->stored_ns)
			compare_with(g, sets, r);
		result_free(r);
	}
}

static void compare_others(struct earlier *g)
{
	auto_buf struct buf description = {0};
	struct other_steps others;
	struct err e;

	if (idx_description_get(g->x, &g->m->step_key, &description, &e) <= 0)
		return;
	other_steps(g->x, &description, g->m->name, false, &others);
	for (size_t i = 0; i < others.n && i < OTHERS_MAX; i++) {
		struct path_set_list sets = {0};

		g->other = &others.v[i];
		if (idx_path_sets(g->x, &others.v[i].key, &sets, &e) >= 0)
			compare_step(g, &others.v[i].key, &sets);
		path_set_list_free(&sets);
	}
	g->other = NULL;
	other_steps_free(&others);
}

int explain_then(struct idx *x, const struct result *m, struct near_result *ret)
{
	struct earlier g = {.x = x, .m = m};
	struct path_set_list sets = {0};
	struct err e;

	if (idx_path_sets(x, &m->step_key, &sets, &e) >= 0) {
		g.m_set = set_of(&sets, m);
		compare_step(&g, &m->step_key, &sets);
		if (!g.any)
			compare_others(&g);
	}
	path_set_list_free(&sets);
	if (g.any)
		*ret = g.best;
	return g.any;
}
