/* SPDX-License-Identifier: MIT */
/* capture_outputs.c - what a run left behind, into the store. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "capture.h"

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

int capture_open(const char *path, const struct stat *st)
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
	auto_close int fd = capture_open(path, st);
	struct idx_digest *d = &w->digests[w->n_digests];
	struct stat before, after;
	struct err e = {0};
	uint64_t size;

	if (fd < 0)
		return capture_refuse(w, "cannot read the output %s: %s", path, strerror(errno));
	d->hashed_at = now_ns();
	if (fstat(fd, &before) < 0 || before.st_ino != st->st_ino)
		return capture_refuse(w, "the output %s was changed by another process", path);
	if (!fs_followed(w->c->fs, &before, &o->oid, &o->now.fp, &size) &&
	    store_put_fd(w->c->idx, fd, &o->oid, &o->now.fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store the output %s: %s", path, e.msg);
	if (fstat(fd, &after) < 0 || size != (uint64_t)before.st_size ||
	    timespec_ns(after.st_mtim) != timespec_ns(before.st_mtim) ||
	    timespec_ns(after.st_ctim) != timespec_ns(before.st_ctim))
		return capture_refuse(w, "the output %s was changed by another process", path);
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
	struct lazy lazy;

	if (n < 0)
		return capture_refuse(w, "cannot read the link %s: %s", path, strerror(errno));
	target[n] = '\0';
	if (lazy_parse(target, &lazy)) /* which stands for a file only where it was put */
		return capture_refuse(w, "%s was replaced by the hit of another process", path);
	o->now.target = xstrndup(target, (size_t)n);
	return 0;
}

bool capture_describe_left(struct idx *x, const char *path, const struct stat *st, struct left *ret)
{
	char target[PATH_MAX];
	ssize_t n;

	*ret = (struct left){.mode = st->st_mode & 07777};
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		ret->type = OUT_FILE;
		ret->size = (uint64_t)st->st_size;
		return idx_digest_file(x, path, st, &ret->fp) >= 0;
	case S_IFDIR:
		ret->type = OUT_DIR;
		return true;
	case S_IFIFO:
		ret->type = OUT_FIFO;
		return true;
	case S_IFLNK:
		ret->type = OUT_LINK;
		n = readlink(path, target, sizeof(target) - 1);
		if (n >= 0)
			ret->target = xstrndup(target, (size_t)n);
		return n >= 0;
	default:
		return false;
	}
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
		/* Two would come back where one was. */
		return st->st_nlink == 1
			       ? 0
			       : capture_refuse(w, "%s is a fifo with other hard links", p->path);
	default:
		return capture_refuse(w, "a special file was left behind: %s", p->path);
	}
}

static int capture_xattrs(struct work *w, const char *path, struct output *o)
{
	auto_buf struct buf b = {0};
	int r = xattr_blob(path, -1, &b);

	if (r < 0)
		return capture_refuse(w, "cannot read the extended attributes of %s: %s", path,
				      strerror(-r));
	o->n_xattrs = b.len;
	o->xattrs = b.len ? take(b.data) : NULL;
	/* That there are none any more is to be said where some may be found. */
	if (o->in_place && !o->xattrs)
		o->xattrs = xcalloc(1, 1);
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

/* Of a path: the number of the outputs that are names of its file (0: it alone), how many there are, and whether one
 * of them is where the file was before. */
struct links {
	uint32_t group;
	nlink_t names;
	bool anchored;
	uint32_t before; /* as group, of what was here when the step began */
};

/* It is the very file that was here, whatever the step did to it. */
static bool in_place(const struct trace_path *p, const struct stat_kept *now)
{
	return was_there(p) && !p->renewed && p->st.st_ino == now->st_ino &&
	       p->st.st_dev == now->st_dev;
}

/* The file of a path now; of one that was moved away and has gone on under other names, that. */
static bool name_of(const struct work *w, size_t k, struct name *ret)
{
	const struct trace_path *p = w->v[k];
	const struct stat_kept *st = w->now_err[k] ? &p->st : &w->now[k];

	if (!p->changed && !p->relinked)
		return false;
	if (w->now_err[k] && (!was_there(p) || !p->spilled || p->renewed))
		return false;
	if (!S_ISREG(st->st_mode) || (!w->now_err[k] && st->st_nlink == 1))
		return false;
	*ret = (struct name){st->st_dev, st->st_ino, k};
	return true;
}

/* Which paths are names of one file. A file that the step gave another name, or took one from, belongs
 * to the outputs with its unchanged names as well: else it would come back as two files. */
static struct links *link_groups(const struct work *w)
{
	struct links *links = xcalloc(w->n + 1, sizeof(*links));
	uint32_t next = 1;
	auto_free struct name *v = xcalloc(w->n + 1, sizeof(*v));
	size_t n = 0;

	for (size_t k = 0; k < w->n; k++)
		n += name_of(w, k, &v[n]);
	qsort(v, n, sizeof(*v), by_inode);
	for (size_t i = 0, j; i < n; i = j) {
		bool changed = false, anchored = false;
		nlink_t names = 0;

		for (j = i; j < n && v[j].dev == v[i].dev && v[j].ino == v[i].ino; j++) {
			changed |= w->v[v[j].k]->changed;
			names += !w->now_err[v[j].k];
			anchored |= !w->now_err[v[j].k] && in_place(w->v[v[j].k], &w->now[v[j].k]);
		}
		for (size_t m = i; m < j && changed; m++)
			links[v[m].k] = (struct links){j - i > 1 ? next : 0, names, anchored};
		next++;
	}
	return links;
}

/* Which paths that the step changed were names of one file before it. */
static void earlier_groups(const struct work *w, struct links *links)
{
	auto_free struct name *v = xcalloc(w->n + 1, sizeof(*v));
	size_t n = 0;

	for (size_t k = 0; k < w->n; k++) {
		const struct trace_path *p = w->v[k];

		if (p->changed && was_there(p) && S_ISREG(p->st.st_mode))
			v[n++] = (struct name){p->st.st_dev, p->st.st_ino, k};
	}
	qsort(v, n, sizeof(*v), by_inode);
	for (size_t i = 1; i < n; i++)
		if (v[i].dev == v[i - 1].dev && v[i].ino == v[i - 1].ino)
			links[v[i].k].before = links[v[i - 1].k].before =
				links[v[i - 1].k].before ? links[v[i - 1].k].before : (uint32_t)i;
}

/* Made and gone again: whatever is found there later was not, and the step would have removed it. In a directory of its
 * making that is gone as well, or that it looked into, nothing may be found in any case (check_contents). */
static bool is_temporary(const struct work *w, size_t k)
{
	auto_free char *dir = xstrdup(w->v[k]->path);

	if (w->now_err[k] != ENOENT || was_there(w->v[k]) || w->c->opts->strict)
		return false;
	*strrchr(dir, '/') = '\0';
	k = capture_find(w, dir);
	return k == w->n || !w->v[k]->changed || was_there(w->v[k]) ||
	       (!w->now_err[k] && !w->v[k]->own_listed);
}

/* What was not looked at is as it is found where the file itself stays. */
static int add_attributes(struct work *w, const struct trace_path *p, const struct stat *st,
			  struct output *o)
{
	bool owner_kept = o->in_place && p->st.st_uid == st->st_uid && p->st.st_gid == st->st_gid;

	o->uid = owner_kept ? OUT_ANY_ID : st->st_uid;
	o->gid = owner_kept ? OUT_ANY_ID : st->st_gid;
	o->mtime_ns = timespec_ns(st->st_mtim);
	o->mtime_set = p->mtime_set;
	if (o->in_place && !(p->obs & OBS_XATTR) && !p->xattr_set)
		return 0;
	return capture_xattrs(w, p->path, o);
}

/* Changed back, moved and moved back, or given another time, owner or attribute only: it is what was found, not what
 * this step made. */
static bool is_as_before(const struct trace_path *p, const struct output *o)
{
	struct left before = {0};
	bool same;

	if (!o->in_place || o->own)
		return false;
	before_of(p, &before);
	same = left_eq(&before, &o->now);
	left_free(&before);
	return same;
}

static int add_output(struct work *w, size_t k, const struct links *links)
{
	struct trace_path *p = w->v[k];
	const struct stat now = now_of(w, k), *st = &now;
	struct output *o = &w->r->outputs[w->r->n_outputs];
	int r = 0;

	if (!p->changed && !links->group)
		return 0;
	if (p->changed && !trace_as_left(p, st, w->now_err[k]))
		return capture_refuse(w, "%s was changed by another process while the step ran",
				      p->path);
	if (w->now_err[k] == ENOENT && !was_there(p) && !is_temporary(w, k))
		return 0;
	if (w->now_err[k] && w->now_err[k] != ENOENT)
		return capture_refuse(w, "cannot look at the output %s: %s", p->path,
				      strerror(w->now_err[k]));
	o->path = xstrdup(p->path);
	o->own = capture_is_own(p) && !w->c->opts->strict &&
		 (w->now_err[k] != ENOENT || !was_there(p));
	o->listed = o->own && p->own_listed;
	if (o->own)
		before_of(p, &o->before);
	/* One that had no other name, was given one and then removed has been moved. */
	o->spilled = (p->spilled || (p->linked && p->st.st_nlink == 1)) && was_there(p) &&
		     S_ISREG(p->st.st_mode) && (w->now_err[k] || !in_place(p, &w->now[k]));
	o->link_group = links->group;
	o->linked_before = links->before;
	/* What the other names have now is not known, unless it goes on as one that is. */
	if (o->spilled && p->st.st_nlink > 1 && (!w->now_err[k] || p->renewed || !links->names))
		r = capture_refuse(w,
				   "%s had other hard links and was moved or changed before it was "
				   "replaced",
				   p->path);
	w->r->n_outputs++; /* from here on freed with the result */
	if (r < 0)
		return r;
	if (w->now_err[k] == ENOENT) {
		o->now.type = OUT_ABSENT;
		w->ret->outputs +=
			!o->own; /* one made and gone again is none; see count_outputs in cmd_exec.c */
		return 0;
	}
	w->ret->outputs++;
	o->in_place = in_place(p, &w->now[k]);
	o->untouched = !p->changed;
	/* A file that was moved here has names elsewhere: it would come back cut off from them. */
	if (S_ISREG(st->st_mode) && st->st_nlink > 1 && st->st_nlink > links->names &&
	    !o->in_place && !links->anchored)
		return capture_refuse(w, "%s has other hard links, which the step did not look at",
				      p->path);
	r = capture_left(w, p, st, o);
	if (r == 0)
		r = add_attributes(w, p, st, o);
	if (r == 0)
		o->as_before = is_as_before(p, o);
	o->untouched |= o->as_before && !p->written && !o->mtime_set && !p->xattr_set &&
			o->uid == OUT_ANY_ID;
	return r;
}

int capture_outputs(struct work *w)
{
	auto_free struct links *links = link_groups(w);
	size_t n = 0;
	int r = 0;

	earlier_groups(w, links);
	for (size_t k = 0; k < w->n; k++)
		n += w->v[k]->changed || links[k].group;
	w->r->outputs = xcalloc(n + 1, sizeof(*w->r->outputs));
	w->digests = xcalloc(n + 1, sizeof(*w->digests));
	for (size_t k = 0; k < w->n && r == 0; k++)
		r = add_output(w, k, &links[k]);
	return r;
}

/* It is what was captured: the result has been made of that. */
static int put_again(struct work *w, const struct output *o)
{
	auto_close int fd = -1;
	struct err e = {0};
	struct stat st;
	struct oid oid;
	uint64_t size;

	if (lstat(o->path, &st) == 0 && S_ISREG(st.st_mode))
		fd = capture_open(o->path, &st);
	if (fd < 0)
		return capture_refuse(w, "the output %s was changed by another process", o->path);
	if (store_put_fd(w->c->idx, fd, &oid, NULL, &size, &e) < 0)
		return cache_trouble(w, "cannot store the output %s: %s", o->path, e.msg);
	if (!oid_eq(&oid, &o->oid) || size != o->now.size)
		return capture_refuse(w, "the output %s was changed by another process", o->path);
	return 0;
}

int capture_objects(struct work *w)
{
	int r = 0;

	for (size_t i = 0; i < w->r->n_outputs && r == 0; i++)
		if (w->r->outputs[i].now.type == OUT_FILE)
			r = put_again(w, &w->r->outputs[i]);
	return r;
}
