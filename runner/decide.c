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
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

/* A miss scans the index for the results it could be compared with; it must not take longer than
 * that. */
#define EXPLAIN_MAX_RESULTS    20000
#define EXPLAIN_MAX_NS	       (50 * 1000000LL)
#define EXPLAIN_MAX_CANDIDATES 64

/* One way of looking at a path, and what was seen. */
struct view {
	struct view *next;
	unsigned kinds;
	char *const *excluded; /* borrowed from the path set */
	size_t n_excluded;
	int err; /* 0, or -errno: the state could not be determined */
	struct buf state;
};

/* One path, looked at at most once. */
struct node {
	const char *path; /* borrowed from a path set or result, or the node's own (own_path) */
	char *own_path;
	struct stat st;
	int st_err; /* errno of lstat, 0: st is valid */
	bool digested;
	int digest_err;
	struct fp digest;
	struct view *views;
};

struct look {
	struct idx *x;
	const struct exec_opts *o;
	const struct step *s;
	struct node **slots; /* open addressing, linear probing; cap is a power of two */
	size_t cap, n;
	char *reason;  /* why a result that was found could not be used; the first is kept */
	bool reading;  /* one snapshot of the index for the whole lookup */
	bool beyond;   /* the outcome also depends on paths that the result does not name */
	bool passing;  /* ... on something that may change with no change in its times */
	int64_t begun; /* CLOCK_REALTIME, before anything was looked at */
};

/* ---- the memo ---- */

static size_t slot_of(struct node *const *slots, size_t cap, const char *path)
{
	size_t i = (size_t)xxh64_of(path, strlen(path)) & (cap - 1);

	while (slots[i] && strcmp(slots[i]->path, path) != 0)
		i = (i + 1) & (cap - 1);
	return i;
}

static void grow(struct look *l)
{
	size_t cap = l->cap ? l->cap * 2 : 1024;
	struct node **slots = xcalloc(cap, sizeof(*slots));

	for (size_t i = 0; i < l->cap; i++)
		if (l->slots[i])
			slots[slot_of(slots, cap, l->slots[i]->path)] = l->slots[i];
	free(l->slots);
	l->slots = slots;
	l->cap = cap;
}

/* The node of a path, looked at when it is new. copy: `path` does not live as long as the lookup.
 */
static struct node *node_get(struct look *l, const char *path, bool copy)
{
	struct node *n;
	size_t i;

	if (l->n * 4 >= l->cap * 3)
		grow(l);
	i = slot_of(l->slots, l->cap, path);
	if (l->slots[i])
		return l->slots[i];
	n = xcalloc(1, sizeof(*n));
	if (copy)
		n->own_path = xstrdup(path);
	n->path = copy ? n->own_path : path;
	n->st_err = lstat(path, &n->st) < 0 ? errno : 0;
	l->slots[i] = n;
	l->n++;
	return n;
}

static void end_read(struct look *l)
{
	if (l->reading)
		idx_end_read(l->x);
	l->reading = false;
}

static void look_free(struct look *l)
{
	end_read(l);
	for (size_t i = 0; i < l->cap; i++) {
		struct node *n = l->slots[i];

		if (!n)
			continue;
		while (n->views) {
			struct view *v = n->views;

			n->views = v->next;
			buf_free(&v->state);
			free(v);
		}
		free(n->own_path);
		free(n);
	}
	free(l->slots);
	free(l->reason);
}

static bool is_absent(const struct node *n)
{
	return n->st_err == ENOENT || n->st_err == ENOTDIR;
}

/* The digest of a regular file, computed once. 0 or -errno. */
static int node_digest(struct look *l, struct node *n)
{
	if (!n->digested) {
		n->digest_err = idx_digest_file(l->x, n->path, &n->st, &n->digest);
		if (n->digest_err > 0)
			l->passing = true; /* being written to: its times prove nothing */
		n->digested = true;
	}
	return n->digest_err < 0 ? n->digest_err : 0;
}

static bool same_view(const struct view *v, const struct path_entry *p)
{
	if (v->kinds != p->kinds || v->n_excluded != p->n_excluded)
		return false;
	for (size_t i = 0; i < p->n_excluded; i++)
		if (strcmp(v->excluded[i], p->excluded[i]) != 0)
			return false;
	return true;
}

/* The present state of a path as one path set wants it. */
static const struct view *view_get(struct look *l, const struct path_entry *p)
{
	struct node *n = node_get(l, p->path, false);
	const struct stat *st = n->st_err ? NULL : &n->st;
	const struct fp *digest = NULL;
	struct view *v;

	for (v = n->views; v; v = v->next)
		if (same_view(v, p))
			return v;
	v = xcalloc(1, sizeof(*v));
	v->kinds = p->kinds;
	v->excluded = p->excluded;
	v->n_excluded = p->n_excluded;
	v->next = n->views;
	n->views = v;
	if (st && S_ISREG(st->st_mode) && (p->kinds & OBS_CONTENT)) {
		v->err = node_digest(l, n);
		digest = &n->digest;
	}
	if (v->err >= 0)
		v->err = state_of(l->x, p->path, p->kinds, st, n->st_err, digest, p->excluded,
				  p->n_excluded, &v->state);
	return v;
}

/* ---- sentences ---- */

static const char *shown(const struct look *l, const char *path)
{
	return shown_path(l->s->cwd, path);
}

/* Keeps the first reason: path sets come with the most recently useful one first. Takes `text`. */
static bool refuse(struct look *l, char *text)
{
	if (l->reason)
		free(text);
	else
		l->reason = text;
	return false;
}

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

static bool check_terms(struct look *l, const struct result *r)
{
	if (!check_age(l, r))
		return false;
	if (l->o->strict != r->strict)
		return refuse(l, xstrdup("recorded with another setting of --strict"));
	if (r->exit_status != 0 && !l->o->cache_failures)
		return refuse(l, xasprintf("it failed (exit status %d) when recorded",
					   r->exit_status));
	if (!console_compatible(r, l->s->merged))
		return refuse(l, xstrdup("standard output and error are joined otherwise than "
					 "when recorded"));
	return true;
}

/* ---- outputs ---- */

static int by_path(const void *path, const void *output)
{
	return strcmp(path, ((const struct output *)output)->path);
}

static const struct output *find_output(const struct result *r, const char *path)
{
	return bsearch(path, r->outputs, r->n_outputs, sizeof(*r->outputs), by_path);
}

static bool is_type(const struct node *n, enum out_type type)
{
	if (n->st_err)
		return type == OUT_ABSENT && is_absent(n);
	switch (type) {
	case OUT_FILE:
		return S_ISREG(n->st.st_mode);
	case OUT_DIR:
		return S_ISDIR(n->st.st_mode);
	case OUT_LINK:
		return S_ISLNK(n->st.st_mode);
	case OUT_FIFO:
		return S_ISFIFO(n->st.st_mode);
	case OUT_ABSENT:
		break;
	}
	return false;
}

static int read_target(const struct node *n, char **ret)
{
	size_t cap = (size_t)(n->st.st_size > 0 ? n->st.st_size : 4096) + 1;
	auto_free char *target = xmalloc(cap);
	ssize_t k = readlink(n->path, target, cap);

	if (k < 0)
		return -errno;
	if ((size_t)k == cap)
		return -ESTALE; /* it grew since lstat */
	target[k] = '\0';
	*ret = take(target);
	return 0;
}

/*
 * What stands at a path now, in the words of a result. 1, or 0 when it is nothing a result can
 * describe (a socket or device), or -errno.
 */
static int present_left(struct look *l, struct node *n, struct left *ret)
{
	static const enum out_type types[] = {OUT_ABSENT, OUT_FILE, OUT_DIR, OUT_LINK, OUT_FIFO};
	int r;

	*ret = (struct left){0};
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if (!is_type(n, types[i]))
			continue;
		ret->type = types[i];
		if (types[i] == OUT_ABSENT)
			return 1;
		ret->mode = n->st.st_mode & 07777;
		if (types[i] == OUT_LINK)
			return (r = read_target(n, &ret->target)) < 0 ? r : 1;
		if (types[i] != OUT_FILE)
			return 1;
		ret->size = (uint64_t)n->st.st_size;
		if ((r = node_digest(l, n)) < 0)
			return r;
		ret->fp = n->digest;
		return 1;
	}
	return n->st_err ? -n->st_err : 0;
}

/* Size and mode are compared before any byte is read. */
static bool could_be(const struct node *n, const struct left *l)
{
	if (!is_type(n, l->type) || l->unknown)
		return false;
	if (l->type == OUT_FILE && (uint64_t)n->st.st_size != l->size)
		return false;
	return l->type == OUT_ABSENT || l->type == OUT_LINK ||
	       (n->st.st_mode & 07777) == (l->mode & 07777);
}

/* Beyond what struct left says: owner (only root can give files away), recorded xattrs, a time that
 * was set. */
static bool same_rest(const struct output *out, const struct node *n)
{
	auto_buf struct buf xattrs = {0};

	if (out->now.type == OUT_ABSENT)
		return true;
	if (geteuid() == 0 && (n->st.st_uid != out->uid || n->st.st_gid != out->gid))
		return false;
	if (out->mtime_set &&
	    (int64_t)n->st.st_mtim.tv_sec * 1000000000 + n->st.st_mtim.tv_nsec != out->mtime_ns)
		return false;
	if (!out->xattrs)
		return true;
	return xattr_blob(n->path, -1, &xattrs) >= 0 && xattrs.len == out->n_xattrs &&
	       (xattrs.len == 0 || memcmp(xattrs.data, out->xattrs, xattrs.len) == 0);
}

/* Every directory above must be one, now or by this result. Paths in records have no symbolic links
 * in them, so that one in the chain means that the place is another. */
static bool check_parents(struct look *l, const struct result *r, const char *path, bool to_write)
{
	auto_free char *dir = xstrdup(path);
	const struct output *out;
	struct node *n;
	char *slash;

	while ((slash = strrchr(dir, '/')) && slash != dir) {
		*slash = '\0';
		out = find_output(r, dir);
		if (out && out->now.type == OUT_DIR)
			return true; /* its own parents are checked with it */
		n = node_get(l, dir, true);
		/* A removal may lie below a directory that this result removes or replaces as well.
		 */
		if ((out && to_write) || is_absent(n))
			return refuse(l, xasprintf("directory %s is gone", shown(l, dir)));
		if (n->st_err)
			return refuse(l, xasprintf("cannot look at %s: %s", shown(l, dir),
						   strerror(n->st_err)));
		if (!S_ISDIR(n->st.st_mode))
			return refuse(l, xasprintf("%s is no longer a directory", shown(l, dir)));
	}
	return true;
}

/*
 * The licence for a step's own outputs (design 4): what stands there must be of recorded steps.
 * Where another type of file stands than the step left, only what stood there when it was recorded
 * will do: writing to a symbolic link or a directory that another step left there is not what was
 * recorded.
 */
static int licensed(struct look *l, const struct output *out, const struct left *present)
{
	if (present->type == OUT_ABSENT || left_eq(present, &out->now) ||
	    left_eq(present, &out->before))
		return 1;
	if (out->now.type != OUT_ABSENT && present->type != out->now.type)
		return 0;
	return idx_left_known(l->x, out->path, present);
}

static bool ignored(const struct look *l, const char *path)
{
	for (size_t i = 0; i < l->o->ignore.n; i++)
		if (fnmatch(l->o->ignore.v[i], path, 0) == 0)
			return true;
	return false;
}

/* In a directory that the step made everything is of recorded steps; else it would not have been made, or not have
 * been found so. */
static bool check_contents(struct look *l, const struct result *r, const char *dir)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list = NULL;
	size_t n = 0;
	bool good = true;
	int k = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (k < 0)
		return refuse(l, xasprintf("cannot list %s: %s", shown(l, dir), strerror(-k)));
	for (size_t i = 0; i < n && good; i++) {
		auto_free char *path = xasprintf("%s/%s", dir, list[i] + 1);
		struct left present = {0};

		if (find_output(r, path) || ignored(l, path))
			continue;
		l->beyond = true;
		k = present_left(l, node_get(l, path, true), &present);
		if (k > 0 && present.type != OUT_ABSENT)
			k = idx_left_known(l->x, path, &present);
		left_free(&present);
		good = k > 0 && (list[i][0] != 'd' || check_contents(l, r, path));
		if (!good)
			(void)refuse(l, xasprintf("%s is new", shown(l, path)));
	}
	strv_free(list, n);
	return good;
}

/* A file with more names than the result knows of would be cut off from them by the rename that
 * places it, where the step might have written through to all. */
static bool other_names(const struct result *r, const struct output *out, const struct node *n)
{
	nlink_t names = 1;

	if (n->st_err || !S_ISREG(n->st.st_mode) || n->st.st_nlink == 1)
		return false;
	if (out->link_group)
		for (size_t i = names = 0; i < r->n_outputs; i++)
			names += r->outputs[i].link_group == out->link_group;
	return n->st.st_nlink > names;
}

static bool check_output(struct look *l, const struct result *r, const struct output *out,
			 struct place *ret)
{
	struct node *n = node_get(l, out->path, true);
	struct left present = {0};
	bool same;
	int k;

	/* What is there need not be read when the key has proved it and it differs in any case. */
	if (!out->own && !could_be(n, &out->now)) {
		if (n->st_err && !is_absent(n))
			return refuse(l, xasprintf("cannot look at output %s: %s",
						   shown(l, out->path), strerror(n->st_err)));
		same = false;
	} else {
		k = present_left(l, n, &present);
		same = k > 0 && left_eq(&present, &out->now) && same_rest(out, n);
		if (k > 0 && out->own)
			k = licensed(l, out, &present);
		left_free(&present);
		if (k < 0)
			return refuse(l, xasprintf("cannot compare output %s: %s",
						   shown(l, out->path), strerror(-k)));
		if (k == 0)
			return refuse(l, xasprintf("output %s was changed since",
						   shown(l, out->path)));
		if (out->own && !n->st_err && S_ISDIR(n->st.st_mode) &&
		    !check_contents(l, r, out->path))
			return false;
	}
	ret->action = same ? PLACE_KEEP : out->now.type == OUT_ABSENT ? PLACE_REMOVE : PLACE_WRITE;
	if (same && out->now.type == OUT_ABSENT)
		return true;
	if (!check_parents(l, r, out->path, ret->action != PLACE_REMOVE))
		return false;
	if (ret->action == PLACE_WRITE && other_names(r, out, n))
		return refuse(l,
			      xasprintf("output %s has other hard links now", shown(l, out->path)));
	return true;
}

/*
 * Names of one file come as one file: one that is as it should be stays, and those that are not names of
 * the very same file are made so.
 */
static bool settle_links(struct look *l, const struct result *r, struct place *places)
{
	for (size_t i = 0; i < r->n_outputs; i++) {
		uint32_t group = r->outputs[i].link_group;
		struct node *first = node_get(l, r->outputs[i].path, true);

		if (!group || places[i].action != PLACE_KEEP)
			continue;
		for (size_t j = i + 1; j < r->n_outputs; j++) {
			struct node *n;

			if (r->outputs[j].link_group != group || places[j].action != PLACE_KEEP)
				continue;
			n = node_get(l, r->outputs[j].path, true);
			if (n->st.st_ino == first->st.st_ino && n->st.st_dev == first->st.st_dev)
				continue;
			if (other_names(r, &r->outputs[j], n))
				return refuse(l, xasprintf("output %s has other hard links now",
							   shown(l, r->outputs[j].path)));
			places[j].action = PLACE_WRITE;
		}
	}
	return true;
}

static bool check_outputs(struct look *l, const struct result *r, struct place *places)
{
	bool links = false;

	for (size_t i = 0; i < r->n_outputs; i++) {
		if (!check_output(l, r, &r->outputs[i], &places[i]))
			return false;
		links |= r->outputs[i].link_group != 0;
	}
	return !links || settle_links(l, r, places);
}

static bool check_stdin(struct look *l, const struct result *r, struct stdin_src *in)
{
	struct err e = {0};
	int k;

	end_read(l); /* it may wait for input; a snapshot must not be held for so long */
	k = in ? stdin_matches(in, l->x, r, &e) : 1;

	if (k > 0)
		return true;
	return refuse(l, k < 0 ? xasprintf("standard input could not be compared: %s", e.msg)
			       : xstrdup("standard input differs"));
}

/* ---- the two stages ---- */

/* 1: *ret is the input key; 0: a state could not be determined, the reason is kept. */
static int key_of(struct look *l, const struct fp *id, const struct path_set *set, struct fp *ret)
{
	struct key_state *k = input_key_begin(&l->s->key, id);

	for (size_t i = 0; i < set->n; i++) {
		const struct view *v = view_get(l, &set->v[i]);

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

/* Is the result under this key a hit? */
static bool try_key(struct look *l, const struct fp *key, const struct fp *path_set_id,
		    struct stdin_src *in, struct decision *ret)
{
	__attribute__((cleanup(result_drop))) struct result *r = NULL;
	auto_free struct place *places = NULL;
	struct err e = {0};
	int k = idx_result_get_brief(l->x, key, &r, &e);

	if (k < 0)
		return refuse(l, xstrdup(e.msg));
	/* A record under a key that is not its own is damaged. */
	if (k == 0 || !fp_eq(&r->step_key, &l->s->key) || !fp_eq(&r->path_set_id, path_set_id))
		return false;
	places = xcalloc(r->n_outputs, sizeof(*places));
	if (!check_terms(l, r) || !check_outputs(l, r, places) || !check_stdin(l, r, in))
		return false;
	ret->hit = true;
	ret->result = take(r);
	ret->places = take(places);
	return true;
}

static int facts_of(void *arg, const char *path, const struct stat **ret)
{
	struct node *n = node_get(arg, path, true);

	*ret = &n->st;
	return n->st_err;
}

/* All is in place: the next time lstat will do. */
static void keep_stamp(struct look *l, const struct path_set *set, const struct decision *d)
{
	const struct result *r = d->result;

	for (size_t i = 0; i < r->n_outputs; i++)
		if (d->places[i].action != PLACE_KEEP)
			return;
	if (!l->beyond && !l->passing)
		stamp_keep(l->x, l->o, l->s, set, r, l->begun, facts_of, l);
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

/* One path set: the result that read nothing from stdin, or one of those that differ in what they read. */
static bool try_set(struct look *l, const struct path_set_list *sets, size_t i,
		    struct stdin_src *in, struct decision *ret)
{
	auto_free struct fp *variants = NULL;
	struct err e = {0};
	size_t n = 0;
	struct fp key;

	if (!key_of(l, &sets->ids[i], &sets->sets[i], &key))
		return false;
	if (try_key(l, &key, &sets->ids[i], in, ret))
		return true;
	if (idx_variants(l->x, &key, &variants, &n, &e) < 0)
		return refuse(l, xstrdup(e.msg));
	for (size_t k = 0; k < n; k++)
		if (try_key(l, &variants[k], &sets->ids[i], in, ret))
			return true;
	return false;
}

/* ---- why not? ---- */

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

	if (is_absent(n))
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

static char *explain(struct look *l, const struct path_set_list *sets)
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

/* ---- public ---- */

static char *decide_in(struct look *l, struct stdin_src *in, struct decision *ret)
{
	struct path_set_list sets = {0};
	struct err e = {0};
	char *reason = NULL;

	l->begun = now_ns();
	l->reading = idx_begin_read(l->x, &e) >= 0;
	if (l->reading && try_stamp(l, in, ret)) {
		look_free(l);
		return NULL;
	}
	if (!l->reading || idx_path_sets(l->x, &l->s->key, &sets, &e) < 0) {
		look_free(l);
		return xasprintf("the cache cannot be read: %s", e.msg);
	}
	for (size_t i = 0; i < sets.n; i++)
		if (try_set(l, &sets, i, in, ret)) {
			keep_stamp(l, &sets.sets[i], ret);
			break;
		}
	if (!ret->hit && l->reason)
		reason = take(l->reason);
	else if (!ret->hit)
		reason = sets.n ? explain(l, &sets) : xstrdup("not seen before");
	/* The nodes borrow from the path sets. */
	look_free(l);
	path_set_list_free(&sets);
	return reason;
}

void decide(struct idx *x, const struct exec_opts *o, const struct step *s, struct stdin_src *in,
	    struct decision *ret)
{
	struct look l = {.x = x, .o = o, .s = s};

	*ret = (struct decision){0};
	ret->reason = decide_in(&l, in, ret);
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
