/* SPDX-License-Identifier: MIT */
/* capture_inputs.c - which paths are inputs of a run, and in what state the step found each. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"

static int by_dir(const void *a, const void *b)
{
	const struct made *x = a, *y = b;
	size_t n = x->dir_len < y->dir_len ? x->dir_len : y->dir_len;
	int r = memcmp(x->path, y->path, n);

	if (r)
		return r;
	if (x->dir_len != y->dir_len)
		return x->dir_len < y->dir_len ? -1 : 1;
	return strcmp(x->path + n, y->path + n);
}

static void find_made(struct work *w)
{
	w->made = xcalloc(w->n + 1, sizeof(*w->made));
	for (size_t k = 0; k < w->n; k++) {
		const struct trace_path *p = w->v[k];
		bool temporary = p->changed && !was_there(p) && w->now_err[k] == ENOENT;

		if (!temporary && !capture_is_own(p))
			continue;
		if (!temporary && w->now_err[k] == ENOENT)
			continue; /* was there and was removed: an input */
		w->made[w->n_made++] = (struct made){
			.path = p->path,
			.dir_len = (size_t)(strrchr(p->path, '/') - p->path),
			.temporary = temporary,
		};
	}
	qsort(w->made, w->n_made, sizeof(*w->made), by_dir);
}

/* The names made in directory dir, sorted; borrowed strings, malloc'ed array. */
static char **made_in(const struct work *w, const char *dir, bool with_temporary, size_t *ret_n)
{
	size_t len = strcmp(dir, "/") == 0 ? 0 : strlen(dir), lo = 0, hi = w->n_made, n = 0;
	char **v;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct made *m = &w->made[mid];
		size_t c = m->dir_len < len ? m->dir_len : len;
		int r = memcmp(m->path, dir, c);

		if (r < 0 || (r == 0 && m->dir_len < len))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (hi = lo;
	     hi < w->n_made && w->made[hi].dir_len == len && !memcmp(w->made[hi].path, dir, len);)
		hi++;
	v = xcalloc(hi - lo + 1, sizeof(*v));
	for (; lo < hi; lo++)
		if (with_temporary || !w->made[lo].temporary)
			v[n++] = (char *)w->made[lo].path + len + 1;
	*ret_n = n;
	return v;
}

/* ---- inputs ---- */

/* What of an unchanged path goes into the key. */
static unsigned kinds_unchanged(const struct trace_path *p)
{
	unsigned xattr = p->obs & OBS_XATTR;

	if (p->err == ENOENT)
		return OBS_ABSENT;
	if (p->err)
		return OBS_ATTR;
	switch (p->st.st_mode & S_IFMT) {
	case S_IFREG:
		/* An empty file sends no read; a digest that was taken makes a better key than a time. */
		if ((p->obs & OBS_CONTENT) || p->st.st_size == 0 || p->hash_state == HASH_DONE)
			return OBS_CONTENT | xattr;
		return OBS_ATTR | xattr;
	case S_IFDIR:
		return (p->obs & OBS_LIST ? OBS_LIST : OBS_ATTR) | xattr;
	case S_IFLNK:
		return OBS_LINK | xattr;
	default:
		return OBS_ATTR | xattr;
	}
}

/* What of the earlier state of a changed path goes into the key; 0: nothing. */
static unsigned kinds_changed(const struct work *w, const struct trace_path *p, int now_err)
{
	unsigned xattr = p->obs & OBS_XATTR;
	bool strict = w->c->opts->strict;

	if (!was_there(p))
		return strict ? OBS_ABSENT : 0;
	if (capture_is_own(p) && !strict && now_err != ENOENT)
		return 0;
	switch (p->st.st_mode & S_IFMT) {
	case S_IFREG:
		if ((p->obs & OBS_CONTENT) || p->partial || strict || p->st.st_size == 0)
			return OBS_CONTENT | xattr;
		/* No own output, though its content was not read: its attributes were asked for. */
		return (now_err == ENOENT ? OBS_EXISTS : OBS_CONTENT) | xattr;
	case S_IFDIR:
		if (p->obs & OBS_LIST)
			return OBS_LIST | xattr;
		return (now_err == ENOENT ? OBS_EXISTS : OBS_ATTR) | xattr;
	case S_IFLNK:
		/* Given another name, it goes on there (CHANGE_LINK). */
		return p->obs & (OBS_LINK | OBS_CONTENT) || p->partial || strict ? OBS_LINK
										 : OBS_EXISTS;
	default:
		return OBS_ATTR;
	}
}

static struct facts facts_of(const struct trace_path *p)
{
	return (struct facts){
		.present = was_there(p),
		.mode = p->st.st_mode,
		.uid = p->st.st_uid,
		.gid = p->st.st_gid,
		.size = (uint64_t)p->st.st_size,
		.mtime_ns = timespec_ns(p->st.st_mtim),
		.rdev = p->st.st_rdev,
		.digest = p->fp,
		.target = p->target,
		.list = p->list,
		.n_list = p->n_list,
		.xattrs = p->xattrs,
		.n_xattrs = p->n_xattrs,
	};
}

/* The first path from dir/ on. */
static size_t first_in(const struct work *w, const char *dir)
{
	auto_free char *prefix = xasprintf("%s/", strcmp(dir, "/") ? dir : "");
	size_t lo = 0, hi = w->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(w->v[mid]->path, prefix) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

/* The listing as it was before the step: what it had removed, or made another type of, when it came to list the
 * directory was there at the beginning. Caller frees. */
static char **earlier_list(const struct work *w, const struct trace_path *dir, size_t *ret_n)
{
	size_t len = strcmp(dir->path, "/") ? strlen(dir->path) : 0, n = dir->n_list,
	       k = first_in(w, dir->path);
	char **list = xcalloc(n + w->n - k + 1, sizeof(*list));

	for (size_t i = 0; i < n; i++)
		list[i] = xstrdup(dir->list[i]);
	for (; k < w->n && !strncmp(w->v[k]->path, dir->path, len) && w->v[k]->path[len] == '/';
	     k++) {
		const struct trace_path *p = w->v[k];
		char *entry, **found;

		if (!p->changed || !was_there(p) || strchr(p->path + len + 1, '/'))
			continue;
		entry = xasprintf("%c%s", state_type(p->st.st_mode), p->path + len + 1);
		found = dir->n_list ? bsearch(&entry, list, dir->n_list, sizeof(*list), by_name)
				    : NULL;
		if (found)
			free(*found);
		*(found ? found : &list[n++]) = entry;
	}
	qsort(list, n, sizeof(*list), by_name);
	*ret_n = n;
	return list;
}

/* Is the listing as the step saw it, apart from what the step itself changed there? */
static int check_listing(struct work *w, const struct trace_path *p)
{
	auto_close int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *name;
	char **list = NULL;
	size_t n = 0;
	int r = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (r < 0)
		return capture_refuse(w, "%s can no longer be listed: %s", p->path, strerror(-r));
	lazy_list(idx_lazy_of(w->c->idx), p->path, fd, list, n);
	name = trace_listing_differs(w->c->trace, p, list, n);
	if (name)
		r = capture_refuse(
			w, "%s/%s came, went or changed by another process while the step ran",
			strcmp(p->path, "/") ? p->path : "", name);
	strv_free(list, n);
	return r;
}

/* The step's own links moved its ctime, so that only the bytes tell. */
static int check_relinked(struct work *w, const struct trace_path *p)
{
	auto_close int fd = -1;
	struct fp fp;

	if (!p->relinked)
		return 0;
	fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || hash_fd(fd, 0, -1, &fp, NULL) < 0 || !fp_eq(&fp, &p->fp))
		return capture_refuse(w, "%s was changed by another process while the step ran",
				      p->path);
	return 0;
}

/* The ctime of a directory moves with every name in it. */
static int check_dir_xattrs(struct work *w, const struct trace_path *p)
{
	auto_buf struct buf b = {0};

	if (!S_ISDIR(p->st.st_mode))
		return 0;
	if (xattr_blob(p->path, -1, &b) < 0 || b.len != p->n_xattrs ||
	    (b.len && memcmp(b.data, p->xattrs, b.len) != 0))
		return capture_refuse(w, "%s was changed by another process while the step ran",
				      p->path);
	return 0;
}

/* A link that was not read is as it is now, which must be what was looked at. */
static int read_link(struct work *w, struct trace_path *p)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (p->target)
		return 0;
	n = readlink(p->path, target, sizeof(target) - 1);
	if (n < 0 || lstat(p->path, &st) < 0 || !trace_same(p, &st, 0))
		return capture_refuse(w, "%s was changed by another process while the step ran",
				      p->path);
	p->target = xstrndup(target, (size_t)n);
	return 0;
}

/* For `explain`, which names what came and went. */
static void keep_listing(struct result *r, char *const *list, size_t n, char *const *excluded,
			 size_t n_excluded)
{
	struct names_kept l;

	if (!names_make(list, n, excluded, n_excluded, &l))
		return;
	r->listings = xrealloc(r->listings, (r->n_listings + 1) * sizeof(*r->listings));
	r->listings[r->n_listings++] = l;
}

/* What is ignored is not in a listing either. Returns how many are left. */
static size_t drop_ignored(const struct exec_opts *o, const char *dir, char **list, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (opts_ignored_in(o, dir, list[i] + 1))
			free(list[i]);
		else
			list[kept++] = list[i];
	return kept;
}

/* state_of_facts with the listing set right. */
static void state_of_listed(struct work *w, const struct trace_path *p, unsigned kinds,
			    struct facts *f, char *const *excluded, size_t n_excluded,
			    struct buf *state)
{
	char **list = NULL;
	size_t n = 0;

	if (kinds & OBS_LIST) {
		f->list = list = earlier_list(w, p, &n);
		f->n_list = n = drop_ignored(w->c->opts, p->path, list, n);
	}
	state_of_facts(kinds, f, excluded, n_excluded, state);
	if (kinds & OBS_LIST && S_ISDIR(f->mode))
		keep_listing(w->r, list, n, excluded, n_excluded);
	strv_free(list, n);
}

static int check_unchanged(struct work *w, size_t k, unsigned kinds)
{
	struct trace_path *p = w->v[k];
	struct stat now = now_of(w, k);
	struct fp ignored;
	int r = 0;

	if (w->now_err[k] == EACCES && !p->err)
		return capture_refuse(w, "%s can no longer be looked at: %s", p->path,
				      strerror(EACCES));
	if (!trace_same(p, &now, w->now_err[k]))
		return capture_refuse(w, "%s was changed by another process while the step ran",
				      p->path);
	if ((kinds & OBS_CONTENT) && p->st.st_size) {
		if (trace_digest(w->c->trace, p, &ignored) < 0)
			return capture_refuse(
				w,
				"%s was read and could not be digested: another process changed it, "
				"or it cannot be opened",
				p->path);
		r = check_relinked(w, p);
	}
	if (r == 0 && (kinds & OBS_LIST))
		r = check_listing(w, p);
	if (r == 0 && (kinds & OBS_XATTR))
		r = check_dir_xattrs(w, p);
	return r == 0 && (kinds & OBS_LINK) ? read_link(w, p) : r;
}

/* Never what is there now: others may be changing it since. */
static int add_unchanged(struct work *w, size_t k, unsigned kinds, char *const *excluded,
			 size_t n_excluded, struct buf *state)
{
	struct trace_path *p = w->v[k];
	struct facts f;
	int r = check_unchanged(w, k, kinds);

	if (r < 0)
		return r;
	if (p->err && p->err != ENOENT) {
		r = state_of(w->c->idx, p->path, kinds, NULL, p->err, NULL, NULL, 0, state);
		return r < 0 ? capture_refuse(w, "the state of %s cannot be told: %s", p->path,
					      strerror(-r))
			     : 0;
	}
	f = facts_of(p);
	if ((kinds & OBS_CONTENT) && !p->st.st_size)
		f.digest = fp_of("", 0);
	state_of_listed(w, p, kinds, &f, excluded, n_excluded, state);
	return 0;
}

static int add_changed(struct work *w, struct trace_path *p, unsigned kinds, char *const *excluded,
		       size_t n_excluded, struct buf *state)
{
	struct facts f = facts_of(p);

	if ((kinds & OBS_CONTENT) && !p->st.st_size)
		f.digest = fp_of("", 0);
	else if ((kinds & OBS_CONTENT) && p->hash_state != HASH_DONE)
		return capture_refuse(
			w, "the earlier content of %s could not be digested before it was changed",
			p->path);
	if ((kinds & OBS_LINK) && !p->target)
		return capture_refuse(w, "the earlier target of %s is not known", p->path);
	state_of_listed(w, p, kinds, &f, excluded, n_excluded, state);
	return 0;
}

/* A name that cannot be (too long, for one) in a directory that the step made tells nothing of the world before it. */
static bool odd_name_in_own_dir(const struct work *w, const struct trace_path *p)
{
	auto_free char *parent = NULL;
	size_t dir;

	if (p->err <= 0 || p->err == ENOENT)
		return false;
	parent = xstrndup(p->path, (size_t)(strrchr(p->path, '/') - p->path));
	dir = capture_find(w, parent);
	return dir < w->n && w->v[dir]->changed && !was_there(w->v[dir]);
}

static int add_input(struct work *w, size_t k)
{
	struct trace_path *p = w->v[k];
	unsigned kinds = p->changed ? kinds_changed(w, p, w->now_err[k]) : kinds_unchanged(p);
	struct path_entry *pe = &w->set.v[w->set.n];
	auto_buf struct buf state = {0};
	auto_free char **all = NULL;
	size_t n_all = 0;
	int r;

	if (p->err == -1 && !p->changed)
		return 0; /* only passed by */
	if (!kinds || odd_name_in_own_dir(w, p))
		return 0;
	if (kinds & OBS_LIST) {
		auto_free char **own = made_in(w, p->path, false, &pe->n_excluded);

		all = made_in(w, p->path, true, &n_all);
		pe->excluded = xcalloc(pe->n_excluded + 1, sizeof(char *));
		for (size_t i = 0; i < pe->n_excluded; i++)
			pe->excluded[i] = xstrdup(own[i]);
	}
	pe->path = (char *)p->path;
	pe->kinds = kinds;
	w->set.n++;
	r = p->changed ? add_changed(w, p, kinds, all, n_all, &state)
		       : add_unchanged(w, k, kinds, all, n_all, &state);
	if (r < 0)
		return r;
	buf_shrink(&state); /* there may be very many */
	w->r->states[w->r->n_states++] = state;
	state = (struct buf){0};
	return 0;
}

int capture_inputs(struct work *w)
{
	int r = 0;

	find_made(w);
	w->set.v = xcalloc(w->n + 1, sizeof(*w->set.v));
	w->set.paths_borrowed = true; /* from the trace, which outlives it */
	w->r->states = xcalloc(w->n + 1, sizeof(*w->r->states));
	for (size_t k = 0; k < w->n && r == 0; k++)
		r = add_input(w, k);
	w->r->n_inputs = w->set.n;
	return r;
}

/* ---- names of one file ---- */

/* A path of the path set, and the file that was there. */
struct named {
	dev_t dev;
	ino_t ino;
	uint32_t place;
};

static int by_file(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->place < y->place ? -1 : 1;
}

static bool in_files(const struct named *v, size_t n, const struct trace_path *p)
{
	size_t lo = 0;

	while (n) {
		const struct named *m = &v[lo + n / 2];

		if (m->dev == p->st.st_dev && m->ino == p->st.st_ino)
			return true;
		if (m->dev < p->st.st_dev || (m->dev == p->st.st_dev && m->ino < p->st.st_ino)) {
			lo += n / 2 + 1;
			n -= n / 2 + 1;
		} else {
			n /= 2;
		}
	}
	return false;
}

/* Each with the one before it among the names of the file. One that was looked at when the step had taken the others
 * away had no other any more: so these are looked for by the file. */
void capture_same(struct work *w)
{
	auto_free struct named *v = xcalloc(w->set.n + 1, sizeof(*v));
	struct result *r = w->r;
	size_t n = 0;

	for (int others = 1; others >= 0; others--) {
		size_t known = n;

		for (size_t i = 0, k = 0; i < w->set.n; i++, k++) {
			const struct trace_path *p;

			while (strcmp(w->v[k]->path, w->set.v[i].path) != 0)
				k++;
			p = w->v[k];
			if (was_there(p) && S_ISREG(p->st.st_mode) &&
			    (others ? p->st.st_nlink > 1
				    : p->st.st_nlink == 1 && in_files(v, known, p)))
				v[n++] = (struct named){p->st.st_dev, p->st.st_ino, (uint32_t)i};
		}
		if (n == 0)
			break;
		qsort(v, n, sizeof(*v), by_file);
	}
	r->same = xcalloc(n + 1, sizeof(*r->same));
	for (size_t i = 1; i < n; i++)
		if (v[i].dev == v[i - 1].dev && v[i].ino == v[i - 1].ino)
			r->same[r->n_same++] = (struct same_file){v[i - 1].place, v[i].place};
}
