/* SPDX-License-Identifier: MIT */
/*
 * capture.c - from what was recorded to a result: which paths are inputs and in what state, which are outputs,
 * and whether it may be stored at all (design 4; docs/design.md says the same in prose).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "supervise.h"

/* Timestamps closer than this to the moment of looking say nothing about a change right after it (a jiffy is up
 * to 10 ms on the coarsest kernels). */
#define RACY_NS INT64_C(20000000)

/* A name that the step itself makes in a directory. */
struct made {
	const char *path;
	size_t dir_len; /* of the directory's part of path */
	bool temporary; /* gone again at the end */
};

struct work {
	const struct capture *c;
	struct outcome *ret;
	struct trace_path **v;
	struct stat *now; /* as it is after the step */
	int *now_err;
	size_t n;
	struct made *made;
	size_t n_made;
	struct path_set set;
	struct result *r;
	struct idx_digest *digests; /* of captured outputs */
	size_t n_digests;
	char cannot[512]; /* why it is not stored */
};

static int refuse(struct work *w, const char *fmt, ...) printf_like(2, 3);
static int refuse(struct work *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!w->cannot[0])
		vsnprintf(w->cannot, sizeof(w->cannot), fmt, ap);
	va_end(ap);
	return -ECANCELED;
}

/* The cache, not the step, is the reason: the user is told in any case. */
#define cache_trouble(w, ...) ((w)->ret->cache_trouble = true, refuse(w, __VA_ARGS__))

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool was_there(const struct trace_path *p)
{
	return p->err == 0;
}

/* An empty file sends no read: whether the step read it cannot be known. One that a recorded step left is taken for
 * an earlier output of its own, any other for an input. */
static bool empty_input(const struct work *w, const struct trace_path *p)
{
	struct left l = {.type = OUT_FILE, .mode = p->st.st_mode & 07777, .fp = fp_of("", 0)};

	return S_ISREG(p->st.st_mode) && p->st.st_size == 0 &&
	       idx_left_known(w->c->idx, p->path, &l) != 1;
}

/* The step made what is here without having learned the content of what was here before (design 4). */
static bool is_own(const struct work *w, const struct trace_path *p)
{
	if (!p->changed || !p->replaced)
		return false;
	if (!was_there(p))
		return true;
	return !p->partial && !(p->obs & (OBS_CONTENT | OBS_LINK | OBS_LIST)) && !empty_input(w, p);
}

/* Its place among the sorted paths; w->n when it is none of them. */
static size_t find_path(const struct work *w, const char *path)
{
	size_t lo = 0, hi = w->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int r = strcmp(w->v[mid]->path, path);

		if (r == 0)
			return mid;
		if (r < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return w->n;
}

/* A directory comes before what is in it. Where it is none any more (a link, say) nothing is at the paths below. */
static void look_now(struct work *w)
{
	auto_free char *dir = xstrdup("");
	size_t len, parent = 0;

	w->now = xcalloc(w->n + 1, sizeof(*w->now));
	w->now_err = xcalloc(w->n + 1, sizeof(*w->now_err));
	for (size_t k = 0; k < w->n; k++) {
		const char *path = w->v[k]->path;

		len = (size_t)(strrchr(path, '/') - path);
		if (strlen(dir) != len || memcmp(dir, path, len) != 0) {
			free(dir);
			dir = xstrndup(path, len);
			parent = find_path(w, dir);
		}
		if (len && parent < w->n &&
		    (w->now_err[parent] == ENOENT ||
		     (!w->now_err[parent] && !S_ISDIR(w->now[parent].st_mode))))
			w->now_err[k] = ENOENT;
		else if (lstat(path, &w->now[k]) < 0)
			w->now_err[k] = errno == ENOTDIR ? ENOENT : errno;
	}
}

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

		if (!temporary && !is_own(w, p))
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
	if (is_own(w, p) && !strict && now_err != ENOENT)
		return 0;
	switch (p->st.st_mode & S_IFMT) {
	case S_IFREG:
		if ((p->obs & OBS_CONTENT) || p->partial || strict || p->st.st_size == 0)
			return OBS_CONTENT | xattr;
		return OBS_EXISTS;
	case S_IFDIR:
		if (p->obs & OBS_LIST)
			return OBS_LIST | xattr;
		return now_err == ENOENT ? OBS_EXISTS : OBS_ATTR | xattr;
	case S_IFLNK:
		return p->obs & OBS_LINK || p->partial || strict ? OBS_LINK : OBS_EXISTS;
	default:
		return OBS_ATTR;
	}
}

static struct facts facts_of(const struct trace_path *p)
{
	return (struct facts){
		.present = was_there(p),
		.mode = p->st.st_mode,
		.size = (uint64_t)p->st.st_size,
		.mtime_ns = ns_of(p->st.st_mtim),
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

static char type_char(mode_t mode)
{
	return S_ISREG(mode)	? 'f'
	       : S_ISDIR(mode)	? 'd'
	       : S_ISLNK(mode)	? 'l'
	       : S_ISFIFO(mode) ? 'p'
	       : S_ISSOCK(mode) ? 's'
	       : S_ISBLK(mode)	? 'b'
				: 'c';
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
		entry = xasprintf("%c%s", type_char(p->st.st_mode), p->path + len + 1);
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

static bool was_changed_by_step(const struct work *w, const char *dir, const char *name)
{
	auto_free char *path = xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", name);
	size_t k = find_path(w, path);

	return k < w->n && w->v[k]->changed;
}

/* Is the listing as the step saw it, apart from what the step itself changed there? */
static int check_listing(struct work *w, const struct trace_path *p)
{
	auto_close int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list = NULL;
	size_t n = 0, i = 0, j = 0;
	int r = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (r < 0)
		return refuse(w, "%s can no longer be listed: %s", p->path, strerror(-r));
	while (r == 0 && (i < n || j < p->n_list)) {
		int c = i == n ? 1 : j == p->n_list ? -1 : strcmp(list[i] + 1, p->list[j] + 1);
		const char *name = (c <= 0 ? list[i] : p->list[j]) + 1;

		if ((c != 0 || list[i][0] != p->list[j][0]) &&
		    !was_changed_by_step(w, p->path, name))
			r = refuse(
				w,
				"%s/%s came, went or changed by another process while the step ran",
				p->path, name);
		i += c <= 0;
		j += c >= 0;
	}
	strv_free(list, n);
	return r;
}

/* Looked at so soon after its last change that times prove nothing: the bytes must. */
static int check_racy(struct work *w, struct trace_path *p)
{
	int64_t changed = ns_of(p->st.st_ctim);
	auto_close int fd = -1;
	struct fp fp;

	if (p->hash_state != HASH_DONE || !S_ISREG(p->st.st_mode) || changed < p->seen_ns - RACY_NS)
		return 0;
	fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || hash_fd(fd, 0, -1, &fp, NULL) < 0 || !fp_eq(&fp, &p->fp))
		return refuse(w, "%s was changed by another process while the step ran", p->path);
	return 0;
}

/* state_of_facts with the listing set right. */
static void state_of_listed(const struct work *w, const struct trace_path *p, unsigned kinds,
			    struct facts *f, char *const *excluded, size_t n_excluded,
			    struct buf *state)
{
	char **list = NULL;
	size_t n = 0;

	if (kinds & OBS_LIST) {
		f->list = list = earlier_list(w, p, &n);
		f->n_list = n;
	}
	state_of_facts(kinds, f, excluded, n_excluded, state);
	strv_free(list, n);
}

static int add_unchanged(struct work *w, size_t k, unsigned kinds, char *const *excluded,
			 size_t n_excluded, struct buf *state)
{
	struct trace_path *p = w->v[k];
	const struct fp *fp = NULL;
	struct facts f;
	int r;

	if (!trace_same(p, &w->now[k], w->now_err[k]))
		return refuse(w, "%s was changed by another process while the step ran", p->path);
	if ((kinds & OBS_CONTENT) && p->st.st_size) {
		struct fp ignored;

		if (trace_digest(w->c->trace, p, &ignored) < 0)
			return refuse(
				w,
				"%s was read and could not be digested: another process changed it, "
				"or it cannot be opened",
				p->path);
		fp = &p->fp;
		r = check_racy(w, p);
		if (r < 0)
			return r;
	}
	if (kinds & (OBS_LIST | OBS_XATTR)) {
		if ((kinds & OBS_LIST) && check_listing(w, p) < 0)
			return -ECANCELED;
		f = facts_of(p);
		if ((kinds & OBS_CONTENT) && !p->st.st_size)
			f.digest = fp_of("", 0);
		if (kinds & OBS_LINK)
			goto live; /* the target was not kept */
		state_of_listed(w, p, kinds, &f, excluded, n_excluded, state);
		return 0;
	}
live:
	r = state_of(w->c->idx, p->path, kinds, w->now_err[k] ? NULL : &w->now[k], w->now_err[k],
		     fp, excluded, n_excluded, state);
	return r < 0 ? refuse(w, "the state of %s cannot be told: %s", p->path, strerror(-r)) : 0;
}

static int add_changed(struct work *w, struct trace_path *p, unsigned kinds, char *const *excluded,
		       size_t n_excluded, struct buf *state)
{
	struct facts f = facts_of(p);

	if ((kinds & OBS_CONTENT) && !p->st.st_size)
		f.digest = fp_of("", 0);
	else if ((kinds & OBS_CONTENT) && p->hash_state != HASH_DONE)
		return refuse(
			w, "the earlier content of %s could not be digested before it was changed",
			p->path);
	if ((kinds & OBS_LINK) && !p->target)
		return refuse(w, "the earlier target of %s is not known", p->path);
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
	dir = find_path(w, parent);
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
	pe->path = xstrdup(p->path);
	pe->kinds = kinds;
	w->set.n++;
	r = p->changed ? add_changed(w, p, kinds, all, n_all, &state)
		       : add_unchanged(w, k, kinds, all, n_all, &state);
	if (r < 0)
		return r;
	w->r->states[w->r->n_states++] = state;
	state = (struct buf){0};
	return 0;
}

static int add_inputs(struct work *w)
{
	int r = 0;

	w->set.v = xcalloc(w->n + 1, sizeof(*w->set.v));
	w->r->states = xcalloc(w->n + 1, sizeof(*w->r->states));
	for (size_t k = 0; k < w->n && r == 0; k++)
		r = add_input(w, k);
	w->r->n_inputs = w->set.n;
	return r;
}

/* ---- outputs ---- */

static void before_of(const struct trace_path *p, struct left *l)
{
	if (!was_there(p)) {
		l->type = OUT_ABSENT;
		return;
	}
	l->mode = p->st.st_mode & 07777;
	switch (p->st.st_mode & S_IFMT) {
	case S_IFREG:
		l->type = OUT_FILE;
		l->size = (uint64_t)p->st.st_size;
		l->fp = p->st.st_size ? p->fp : fp_of("", 0);
		l->unknown = p->st.st_size && p->hash_state != HASH_DONE;
		break;
	case S_IFDIR:
		l->type = OUT_DIR;
		break;
	case S_IFLNK:
		l->type = OUT_LINK;
		l->target = p->target ? xstrdup(p->target) : NULL;
		l->unknown = !p->target;
		break;
	default:
		l->type = OUT_FIFO;
		l->unknown = !S_ISFIFO(p->st.st_mode);
	}
}

/* One that its owner may not read is made readable for an instant. -1 and errno. */
static int open_output(const char *path, const struct stat *st)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 || errno != EACCES || st->st_uid != geteuid())
		return fd;
	if (chmod(path, (st->st_mode | S_IRUSR) & 07777) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (chmod(path, st->st_mode & 07777) < 0)
		log_warn("cannot set the mode of %s back: %s", path, strerror(errno));
	return fd;
}

static int capture_file(struct work *w, const char *path, const struct stat *st, struct output *o)
{
	auto_close int fd = open_output(path, st);
	struct idx_digest *d = &w->digests[w->n_digests];
	struct stat before, after;
	struct err e = {0};
	uint64_t size;

	if (fd < 0)
		return refuse(w, "cannot read the output %s: %s", path, strerror(errno));
	d->hashed_at = now_ns();
	if (fstat(fd, &before) < 0 || before.st_ino != st->st_ino)
		return refuse(w, "the output %s was changed by another process", path);
	if (store_put_fd(w->c->idx, fd, &o->oid, &o->now.fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store the output %s: %s", path, e.msg);
	if (fstat(fd, &after) < 0 || size != (uint64_t)before.st_size ||
	    ns_of(after.st_mtim) != ns_of(before.st_mtim) ||
	    ns_of(after.st_ctim) != ns_of(before.st_ctim))
		return refuse(w, "the output %s was changed by another process", path);
	d->st = before;
	d->fp = o->now.fp;
	w->n_digests++;
	o->now.size = size;
	w->ret->output_bytes += size;
	return 0;
}

static int capture_link(struct work *w, const char *path, struct output *o)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return refuse(w, "cannot read the link %s: %s", path, strerror(errno));
	o->now.target = xstrndup(target, (size_t)n);
	return 0;
}

/* How it was left: type, mode, content. */
static int capture_left(struct work *w, const struct trace_path *p, const struct stat *st,
			struct output *o)
{
	o->now.mode = st->st_mode & 07777;
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		o->now.type = OUT_FILE;
		return capture_file(w, p->path, st, o);
	case S_IFDIR:
		o->now.type = OUT_DIR;
		return 0;
	case S_IFLNK:
		o->now.type = OUT_LINK;
		return capture_link(w, p->path, o);
	case S_IFIFO:
		o->now.type = OUT_FIFO;
		return 0;
	default:
		return refuse(w, "a special file was left behind: %s", p->path);
	}
}

static int capture_xattrs(struct work *w, const char *path, struct output *o)
{
	auto_buf struct buf b = {0};
	int r = xattr_blob(path, -1, &b);

	if (r < 0)
		return refuse(w, "cannot read the extended attributes of %s: %s", path,
			      strerror(-r));
	o->n_xattrs = b.len;
	o->xattrs = b.len ? take(b.data) : NULL;
	return 0;
}

/* One name of a file with several. */
struct name {
	dev_t dev;
	ino_t ino;
	size_t k;
};

static int by_inode(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->k < y->k ? -1 : 1;
}

/* Of a path: the number of the outputs that are names of its file (0: it alone), and how many there are. */
struct links {
	uint32_t group;
	nlink_t names;
};

/* Which paths are names of one file now. A file that the step gave another name, or took one from, belongs
 * to the outputs with its unchanged names as well: else it would come back as two files. */
static struct links *link_groups(const struct work *w)
{
	struct links *links = xcalloc(w->n + 1, sizeof(*links));
	uint32_t next = 1;
	auto_free struct name *v = xcalloc(w->n + 1, sizeof(*v));
	size_t n = 0;

	for (size_t k = 0; k < w->n; k++)
		if ((w->v[k]->changed || w->v[k]->relinked) && !w->now_err[k] &&
		    S_ISREG(w->now[k].st_mode) && w->now[k].st_nlink > 1)
			v[n++] = (struct name){w->now[k].st_dev, w->now[k].st_ino, k};
	qsort(v, n, sizeof(*v), by_inode);
	for (size_t i = 0, j; i < n; i = j) {
		bool changed = false;

		for (j = i; j < n && v[j].dev == v[i].dev && v[j].ino == v[i].ino; j++)
			changed |= w->v[v[j].k]->changed;
		for (size_t m = i; m < j && changed; m++)
			links[v[m].k] = (struct links){j - i > 1 ? next : 0, j - i};
		next++;
	}
	return links;
}

/* Made and gone again: whatever is found there later was not, and the step would have removed it. One note for a
 * directory is enough for all in it. */
static bool is_temporary(const struct work *w, size_t k)
{
	auto_free char *dir = xstrdup(w->v[k]->path);

	if (w->now_err[k] != ENOENT || was_there(w->v[k]) || w->c->opts->strict)
		return false;
	*strrchr(dir, '/') = '\0';
	k = find_path(w, dir);
	return k == w->n || !w->v[k]->changed || was_there(w->v[k]);
}

static int add_output(struct work *w, size_t k, const struct links *links)
{
	struct trace_path *p = w->v[k];
	const struct stat *st = &w->now[k];
	struct output *o = &w->r->outputs[w->r->n_outputs];
	int r;

	if (!p->changed && !links->group)
		return 0;
	if (w->now_err[k] == ENOENT && !was_there(p) && !is_temporary(w, k))
		return 0;
	if (w->now_err[k] && w->now_err[k] != ENOENT)
		return refuse(w, "cannot look at the output %s: %s", p->path,
			      strerror(w->now_err[k]));
	o->path = xstrdup(p->path);
	o->own = is_own(w, p) && !w->c->opts->strict && (w->now_err[k] != ENOENT || !was_there(p));
	if (o->own)
		before_of(p, &o->before);
	if (w->now_err[k] == ENOENT) {
		o->now.type = OUT_ABSENT;
		w->ret->outputs += was_there(p);
		w->r->n_outputs++;
		return 0;
	}
	o->uid = st->st_uid;
	o->gid = st->st_gid;
	o->mtime_ns = ns_of(st->st_mtim);
	o->mtime_set = p->mtime_set;
	o->link_group = links->group;
	w->ret->outputs++;
	w->r->n_outputs++; /* from here on freed with the result */
	/* Under its own name it would be noticed where it is to be replaced; moved here it would be cut off. */
	if (S_ISREG(st->st_mode) && st->st_nlink > 1 && st->st_nlink > links->names &&
	    (!was_there(p) || p->st.st_ino != st->st_ino))
		return refuse(w, "%s has other hard links, which the step did not look at",
			      p->path);
	r = capture_left(w, p, st, o);
	return r < 0 ? r : capture_xattrs(w, p->path, o);
}

static int add_outputs(struct work *w)
{
	auto_free struct links *links = link_groups(w);
	size_t n = 0;
	int r = 0;

	for (size_t k = 0; k < w->n; k++)
		n += w->v[k]->changed || links[k].group;
	w->r->outputs = xcalloc(n + 1, sizeof(*w->r->outputs));
	w->digests = xcalloc(n + 1, sizeof(*w->digests));
	for (size_t k = 0; k < w->n && r == 0; k++)
		r = add_output(w, k, &links[k]);
	return r;
}

/* ---- the rest of the result ---- */

static int add_console(struct work *w)
{
	const struct console_record *rec = w->c->console;
	struct err e = {0};
	struct fp fp;
	uint64_t size;

	if (rec->spoiled)
		return refuse(w, "%s", rec->spoiled);
	w->r->console_merged = rec->merged;
	w->r->console_len = rec->len;
	w->r->n_chunks = rec->n_chunks;
	w->r->chunks = xcalloc(rec->n_chunks + 1, sizeof(*w->r->chunks));
	memcpy(w->r->chunks, rec->chunks, rec->n_chunks * sizeof(*w->r->chunks));
	if (rec->len && store_put_fd(w->c->idx, rec->spool, &w->r->console_oid, &fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store the console: %s", e.msg);
	return 0;
}

static int add_stdin(struct work *w)
{
	const struct stdin_used *in = w->c->in;
	struct err e = {0};
	struct fp fp;
	uint64_t size;

	if (in->spoiled)
		return refuse(w, "%s", in->spoiled);
	w->r->stdin_kind = in->kind;
	w->r->stdin_len = in->len;
	w->r->stdin_fp = in->fp;
	w->r->stdin_eof = in->eof;
	if (in->len && in->spool >= 0 &&
	    store_put_fd(w->c->idx, in->spool, &w->r->stdin_oid, &fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store what was read from stdin: %s", e.msg);
	return 0;
}

static void describe(struct work *w)
{
	const struct capture *c = w->c;
	struct result *r = w->r;

	r->step_key = c->step->key;
	r->name = xstrdup(c->step->name);
	r->cwd = xstrdup(c->step->cwd);
	r->env_note = xstrdup(c->step->env_note ? c->step->env_note : "");
	r->n_argv = (size_t)c->opts->argc;
	r->argv = xcalloc(r->n_argv + 1, sizeof(char *));
	for (size_t k = 0; k < r->n_argv; k++)
		r->argv[k] = xstrdup(c->opts->argv[k]);
	r->exit_status = c->out->exit_status;
	r->started_ns = c->out->started_ns;
	r->wall_ns = c->out->wall_ns;
	r->stored_ns = now_ns();
	r->strict = c->opts->strict;
}

/* The key of a run that read from stdin: what it read counts. */
static struct fp stdin_key(const struct fp *base, const struct stdin_used *in)
{
	auto_buf struct buf b = {0};

	buf_add(&b, base, sizeof(*base));
	buf_add(&b, &in->fp, sizeof(in->fp));
	buf_u64(&b, in->len);
	buf_u8(&b, in->eof);
	return fp_of(b.data, b.len);
}

static void compute_key(struct work *w)
{
	auto_buf struct buf b = {0};
	struct key_state *k;

	path_set_encode(&w->set, &b);
	w->r->path_set_id = fp_of(b.data, b.len);
	k = input_key_begin(&w->r->step_key, &w->r->path_set_id);
	for (size_t i = 0; i < w->r->n_states; i++)
		input_key_add(k, w->r->states[i].data, w->r->states[i].len);
	w->r->base_key = w->r->input_key = input_key_end(k);
	if (w->c->in->kind != STDIN_UNUSED)
		w->r->input_key = stdin_key(&w->r->base_key, w->c->in);
	w->ret->input_key = w->r->input_key;
	w->ret->has_key = true;
}

static int put(struct work *w)
{
	struct idx *x = w->c->idx;
	struct err e = {0};
	const struct idx_digest *d;
	size_t n;

	if (store_flush(x, &e) < 0 || idx_result_put(x, w->r, &w->set, &e) < 0)
		return cache_trouble(w, "cannot store the result: %s", e.msg);
	/* The result stands without them; only the next lookup is slower. */
	d = trace_new_digests(w->c->trace, &n);
	if ((n && idx_digest_put(x, d, n, &e) < 0) ||
	    (w->n_digests && idx_digest_put(x, w->digests, w->n_digests, &e) < 0))
		log_debug("%s", e.msg);
	return 0;
}

/* Reasons that are known without looking at anything. */
static int may_store(struct work *w)
{
	const struct exec_opts *o = w->c->opts;

	if (w->ret->reason[0])
		return refuse(w, "%s", w->ret->reason);
	if (o->read_only)
		return refuse(w, "--read-only");
	if (w->ret->exit_status && !o->cache_failures)
		return refuse(w, "its exit status was %d", w->ret->exit_status);
	if (trace_spoiled(w->c->trace))
		return refuse(w, "%s", trace_spoiled(w->c->trace));
	return 0;
}

void capture(const struct capture *c, struct outcome *ret)
{
	struct work w = {.c = c, .ret = ret, .r = xcalloc(1, sizeof(*w.r))};
	int r;

	trace_settle(c->trace);
	w.v = trace_sorted(c->trace, &w.n);
	look_now(&w);
	find_made(&w);
	describe(&w);
	r = may_store(&w);
	if (r == 0)
		r = add_inputs(&w);
	ret->inputs = w.set.n;
	if (r == 0) {
		compute_key(&w);
		r = add_outputs(&w);
	}
	if (r == 0)
		r = add_console(&w);
	if (r == 0)
		r = add_stdin(&w);
	if (r == 0)
		r = put(&w);
	ret->stored = r == 0;
	if (r < 0)
		snprintf(ret->reason, sizeof(ret->reason), "%s", w.cannot);
	free(w.v);
	free(w.now);
	free(w.now_err);
	free(w.made);
	free(w.digests);
	path_set_free(&w.set);
	result_free(w.r);
}
