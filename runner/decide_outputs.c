/* SPDX-License-Identifier: MIT */
/* decide_outputs.c - may the outputs of a result be put in place (design 4), and what is to be done for it? */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "decide.h"
#include "screen.h"

static int by_entry(const void *path, const void *entry)
{
	return strcmp(path, ((const struct path_entry *)entry)->path);
}

/* Size and mode are compared before any byte is read. */
static bool could_be(const struct node *n, const struct left *l)
{
	if (!node_is_type(n, l->type) || l->unknown)
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
	if (geteuid() == 0 && out->uid != OUT_ANY_ID &&
	    (n->st.st_uid != out->uid || n->st.st_gid != out->gid))
		return false;
	if (out->mtime_set && timespec_ns(n->st.st_mtim) != out->mtime_ns)
		return false;
	/* Where the step replaced what was there, none are left of it; on what it made where nothing was, any that
	 * somebody added do no harm. */
	if (!out->xattrs && (out->in_place || (out->own && out->before.type == OUT_ABSENT)))
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
		out = result_output(r, dir);
		if (out && out->now.type == OUT_DIR)
			return true; /* its own parents are checked with it */
		n = node_get(l, dir, true);
		/* A removal may lie below a directory that this result removes or replaces as well.
		 */
		if ((out && to_write) || node_absent(n))
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

/*
 * A directory that the step made and looked into is as it saw it only when nothing else is in it; one that it
 * removed again could not be removed, nor can one with something in it that is ignored. (Where it only put something
 * into it, what others put there is no observation.)
 */
static bool check_contents(struct look *l, const struct result *r, const struct output *out)
{
	auto_close int fd = open(out->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list = NULL;
	size_t n = 0;
	bool good = true;
	int k = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (k < 0)
		return refuse(l,
			      xasprintf("cannot list %s: %s", shown(l, out->path), strerror(-k)));
	for (size_t i = 0; i < n && good; i++) {
		auto_free char *path = xasprintf("%s/%s", out->path, list[i] + 1);

		good = result_output(r, path) ||
		       (opts_ignored(l->o, path) && out->now.type == OUT_DIR);
		if (!good)
			(void)refuse(l, xasprintf(opts_ignored(l->o, path)
							  ? "%s is ignored and in the way"
							  : "%s is new",
						  shown(l, path)));
	}
	strv_free(list, n);
	return good;
}

/* ---- hard links ---- */

static bool same_file(const struct node *a, const struct node *b)
{
	return !a->st_err && !b->st_err && a->st.st_ino == b->st.st_ino &&
	       a->st.st_dev == b->st.st_dev;
}

static bool same_group(uint32_t a, uint32_t b)
{
	return a && a == b;
}

/* Another name of the file when recorded as well, which the step took away, or replaced, and did nothing else to. */
static bool parted_as_well(const struct output *out, const struct output *other)
{
	return same_group(out->linked_before, other->linked_before) && !other->in_place &&
	       !other->spilled;
}

/* Has the file more names than the result knows of? parted: those that go as well are no others. */
static bool other_names(struct look *l, const struct result *r, const struct output *out,
			const struct node *n, bool parted)
{
	nlink_t names = 1;

	if (n->st_err || !S_ISREG(n->st.st_mode) || n->st.st_nlink == 1)
		return false;
	for (size_t i = 0; (out->link_group || out->linked_before) && i < r->n_outputs; i++) {
		const struct output *o = &r->outputs[i];

		names += o != out &&
			 (same_group(out->link_group, o->link_group) ||
			  (parted && parted_as_well(out, o))) &&
			 same_file(n, node_get(l, o->path, true));
	}
	return n->st.st_nlink > names;
}

/* The step took this name away, or put another file there, and did nothing else with what was there: it could be any. */
static bool only_parted(const struct path_set *set, const struct output *out)
{
	const struct path_entry *p;

	if (out->in_place || out->spilled)
		return false;
	if (out->own)
		return true;
	p = bsearch(out->path, set->v, set->n, sizeof(*set->v), by_entry);
	return out->now.type == OUT_ABSENT && p && p->kinds == OBS_EXISTS;
}

/*
 * The file is to be written through to its other names. Did the step use one? Then what it saw there was not this
 * file, and would be now; unless it was this file then as well, or was not looked into.
 */
static bool check_names(struct look *l, const struct result *r, const struct path_set *set,
			const struct output *out, const struct node *n)
{
	const char *other = NULL;

	for (size_t i = 0; i < r->n_outputs && !other; i++)
		if (&r->outputs[i] != out &&
		    !same_group(out->link_group, r->outputs[i].link_group) &&
		    !same_group(out->linked_before, r->outputs[i].linked_before) &&
		    same_file(n, node_get(l, r->outputs[i].path, true)) &&
		    !only_parted(set, &r->outputs[i]))
			other = r->outputs[i].path;
	for (size_t i = 0; i < set->n && !other; i++)
		if (strcmp(set->v[i].path, out->path) != 0 && !result_output(r, set->v[i].path) &&
		    same_file(n, node_get(l, set->v[i].path, false)))
			other = set->v[i].path;
	if (!other)
		return true;
	return refuse(l, xasprintf("%s is another name of %s now", shown(l, out->path),
				   shown(l, other)));
}

/* Was it a name of the file that its group are the names of before the step changed that? */
static bool was_name(const struct output *out)
{
	return out->link_group && (out->in_place || (out->spilled && out->now.type == OUT_ABSENT));
}

/* The outputs that were names of one file already are so now: the step changed it under all of them. */
static bool check_group(struct look *l, const struct result *r, const struct output *out)
{
	const struct node *n = node_get(l, out->path, true);

	for (const struct output *o = r->outputs; o < out; o++) {
		const struct node *m;

		if (o->link_group != out->link_group || !was_name(o))
			continue;
		m = node_get(l, o->path, true);
		/* Where both are gone the step would make the one that it uses, and not the other. */
		if (!same_file(m, n) && !(node_absent(m) && node_absent(n) &&
					  o->now.type == OUT_ABSENT && out->now.type == OUT_ABSENT))
			return refuse(l, xasprintf("%s is no longer another name of %s",
						   shown(l, out->path), shown(l, o->path)));
	}
	return true;
}

/* The file that was here goes on as others of its names, which stay: however many more it has. */
static bool is_anchored(struct look *l, const struct result *r, const struct output *out,
			const struct node *n)
{
	for (size_t i = 0; out->link_group && i < r->n_outputs; i++)
		if (r->outputs[i].link_group == out->link_group && r->outputs[i].in_place &&
		    same_file(n, node_get(l, r->outputs[i].path, true)))
			return true;
	return false;
}

/* The output that is, and stays, the file whose names a group of outputs are; NULL: none is. */
static const struct output *anchor_of(const struct result *r, const struct place *places,
				      uint32_t group)
{
	for (size_t i = 0; group && i < r->n_outputs; i++)
		if (r->outputs[i].link_group == group && r->outputs[i].in_place &&
		    (places[i].action == PLACE_KEEP || places[i].action == PLACE_THROUGH))
			return &r->outputs[i];
	for (size_t i = 0; group && i < r->n_outputs; i++)
		if (r->outputs[i].link_group == group && places[i].action == PLACE_KEEP)
			return &r->outputs[i];
	return NULL;
}

/* Was what the step found there one file with another input? */
static bool had_names(const struct result *r, const struct path_set *set, const char *path)
{
	for (size_t i = 0; i < r->n_same; i++)
		if (strcmp(set->v[r->same[i].a].path, path) == 0 ||
		    strcmp(set->v[r->same[i].b].path, path) == 0)
			return true;
	return false;
}

/*
 * Files with several names, once it is known what is to be done to each output. A file that the step changed in
 * place is changed so again, under all its names; one that it replaced is replaced, and what has the other names
 * goes on. Names of one file come as one file.
 */
static bool settle_links(struct look *l, const struct result *r, const struct path_set *set,
			 struct place *places)
{
	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *out = &r->outputs[i];
		struct node *n = node_get(l, out->path, true);

		if (was_name(out) && !check_group(l, r, out))
			return false;
		if (out->now.type != OUT_FILE || !out->in_place)
			continue;
		if (out->untouched || !other_names(l, r, out, n, false))
			continue;
		if (!check_names(l, r, set, out, n))
			return false;
		if (places[i].action == PLACE_WRITE)
			places[i].action = PLACE_THROUGH;
	}
	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *out = &r->outputs[i];
		const struct output *anchor = anchor_of(r, places, out->link_group);
		struct node *n = node_get(l, out->path, true);

		/* Another file was there when it was recorded, and an input: renaming one name of a file to another
		 * does nothing. */
		if (anchor && anchor != out && anchor->in_place && !out->in_place && !out->own &&
		    out->now.type == OUT_FILE && !had_names(r, set, out->path) &&
		    same_file(n, node_get(l, anchor->path, true)))
			return refuse(l, xasprintf("%s is another name of %s now",
						   shown(l, out->path), shown(l, anchor->path)));
		if (out->now.type != OUT_FILE || out->in_place || places[i].action != PLACE_KEEP)
			continue;
		if (anchor && anchor != out ? !same_file(n, node_get(l, anchor->path, true))
					    : other_names(l, r, out, n, false))
			places[i].action = PLACE_WRITE;
	}
	return true;
}

/* ---- all of them ---- */

/* In a word; for a list of all that differs, with how. */
static char *edited(const struct look *l, const struct output *out, const struct node *n)
{
	char from[32], to[32], when[40];
	int64_t mtime = timespec_ns(n->st.st_mtim);

	if (!l->all)
		return xasprintf("output %s was changed since", shown(l, out->path));
	if (out->now.type != OUT_FILE || n->st_err || !S_ISREG(n->st.st_mode))
		return xasprintf("output %s was edited since", shown(l, out->path));
	human_size(out->now.size, from, sizeof(from));
	human_size((uint64_t)n->st.st_size, to, sizeof(to));
	return xasprintf("output %s was edited since (%s%s%s, modified %s)", shown(l, out->path),
			 from, strcmp(from, to) ? " → " : "", strcmp(from, to) ? to : "",
			 human_time(mtime, when, sizeof(when)));
}

/* Nothing can be put into its directory, or taken from there. The step wrote to the file that was there, so that does. */
static bool check_room(struct look *l, const struct result *r, const struct output *out,
		       const struct node *n, struct place *place)
{
	auto_free char *dir = NULL;

	if (place->action == PLACE_KEEP || geteuid() == 0 ||
	    (out->now.type == OUT_DIR && !n->st_err && S_ISDIR(n->st.st_mode)))
		return true;
	dir = xstrndup(out->path, (size_t)(strrchr(out->path, '/') - out->path));
	if (!*dir || result_output(r, dir) ||
	    faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0 || errno != EACCES)
		return true;
	if (place->action != PLACE_WRITE || out->now.type != OUT_FILE || !out->in_place ||
	    n->st_err || !S_ISREG(n->st.st_mode))
		return refuse(l, xasprintf("directory %s cannot be written to", shown(l, dir)));
	place->action = PLACE_THROUGH;
	return true;
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
		if (n->st_err && !node_absent(n))
			return refuse(l, xasprintf("cannot look at output %s: %s",
						   shown(l, out->path), strerror(n->st_err)));
		same = false;
	} else {
		k = node_left(l, n, &present);
		same = k > 0 && left_eq(&present, &out->now) &&
		       (out->untouched || same_rest(out, n));
		if (k > 0 && out->own)
			k = licensed(l, out, &present);
		left_free(&present);
		if (k < 0)
			return refuse(l, xasprintf("cannot compare output %s: %s",
						   shown(l, out->path), strerror(-k)));
		if (k == 0)
			return refuse(l, edited(l, out, n));
	}
	if (!n->st_err && S_ISDIR(n->st.st_mode) &&
	    ((out->own && out->listed) || out->now.type != OUT_DIR) && !check_contents(l, r, out))
		return false;
	if (out->spilled && other_names(l, r, out, n, true) &&
	    (out->now.type != OUT_ABSENT || !is_anchored(l, r, out, n)))
		return refuse(l,
			      xasprintf("output %s has other hard links now", shown(l, out->path)));
	ret->gone = node_absent(n);
	ret->action = same ? PLACE_KEEP : out->now.type == OUT_ABSENT ? PLACE_REMOVE : PLACE_WRITE;
	if (same && out->now.type == OUT_ABSENT)
		return true;
	return check_parents(l, r, out->path, ret->action != PLACE_REMOVE) &&
	       check_room(l, r, out, n, ret);
}

bool outputs_as_recorded(struct look *l, const struct result *r)
{
	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *out = &r->outputs[i];
		struct left present = {0};
		bool same;

		if (!out->own)
			continue;
		same = node_left(l, node_get(l, out->path, true), &present) > 0 &&
		       left_eq(&present, &out->before);
		left_free(&present);
		if (!same)
			return false;
	}
	return true;
}

/* Inputs that were names of one file still are. */
static bool check_same(struct look *l, const struct result *r, const struct path_set *set)
{
	bool good = true;

	for (size_t i = 0; look_on(l, good) && i < r->n_same; i++) {
		uint32_t a = r->same[i].a, b = r->same[i].b;

		if (b >= set->n)
			return refuse(l, xstrdup("its result is damaged"));
		if (!same_file(node_get(l, set->v[a].path, false),
			       node_get(l, set->v[b].path, false)))
			good = refuse(l, xasprintf("%s is no longer another name of %s",
						   shown(l, set->v[b].path),
						   shown(l, set->v[a].path)));
	}
	return good;
}

bool check_outputs(struct look *l, const struct result *r, const struct path_set *set,
		   struct place *places)
{
	bool good;

	l->kind = DIFF_OUTPUT;
	good = check_same(l, r, set);
	for (size_t i = 0; look_on(l, good) && i < r->n_outputs; i++) {
		l->about = r->outputs[i].path;
		good &= check_output(l, r, &r->outputs[i], &places[i]);
	}
	l->about = NULL;
	return good && settle_links(l, r, set, places);
}
