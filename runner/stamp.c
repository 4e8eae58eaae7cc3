/* SPDX-License-Identifier: MIT */
/*
 * stamp.c - the quick way to a hit.
 *
 * A lookup that compared everything and found a hit with every output in place keeps one hash over what lstat
 * said of all that it depends on: device, inode, mode, owner, size, mtime and ctime. While these are what
 * they were, nothing can have changed, so the next lookup needs an lstat for each path and nothing else: no
 * digests, no listings, no link targets, no keys. It rests on what remembered digests rest on: a change
 * moves the ctime, and times too fresh to show one are not trusted (idx_times_settled).
 *
 * The paths come sorted, so that most are looked up from the directory they are in, or one around it: of a
 * directory lstat has just said that it is one, and no symbolic link. Below one that is absent everything is,
 * without asking.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

#define DOMAIN	  "mlfs world 2"
#define MAX_DEPTH 128
/* Names gone through on the way to what is in a directory: opening and closing it takes as long. */
#define OPEN_WINS 16

/* ---- lstat of sorted paths ---- */

struct known_dir {
	int fd;	       /* O_PATH, or -1: it is not open */
	int err;       /* errno for what is below it: it is not there, or no directory */
	size_t len;    /* of its path; 0: the root */
	unsigned cost; /* names of directories that what is in it was looked up through */
};
struct walk {
	struct known_dir dirs[MAX_DEPTH]; /* each in the one before it; the first is open */
	size_t n;
	char path[PATH_MAX]; /* of the last one */
};

static bool absent(int err)
{
	return err == ENOENT || err == ENOTDIR;
}

static struct known_dir *last_dir(struct walk *w)
{
	return &w->dirs[w->n - 1];
}

static void pop(struct walk *w)
{
	base_close(&w->dirs[--w->n].fd);
}

static void walk_end(struct walk *w)
{
	while (w->n)
		pop(w);
}
#define auto_walk __attribute__((cleanup(walk_end)))

static int walk_begin(struct walk *w)
{
	w->dirs[0] = (struct known_dir){.fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
	if (w->dirs[0].fd < 0)
		return -errno;
	w->n = 1;
	return 0;
}

/* Leave the directories that path is not below. */
static void leave(struct walk *w, const char *path)
{
	while (w->n > 1 &&
	       (strncmp(path, w->path, last_dir(w)->len) != 0 || path[last_dir(w)->len] != '/'))
		pop(w);
}

/* lstat of what is below the last directory, at the path from the root. */
static int look(struct walk *w, const char *path, struct stat *ret)
{
	size_t from = w->n - 1;

	while (w->dirs[from].fd < 0)
		from--;
	last_dir(w)->cost += (unsigned)(w->n - 1 - from);
	return fstatat(w->dirs[from].fd, path + w->dirs[from].len + 1, ret, AT_SYMLINK_NOFOLLOW) < 0
		       ? errno
		       : 0;
}

/* Only to be quicker: while it is not open it is gone through. */
static void open_last(struct walk *w)
{
	struct known_dir *d = last_dir(w);
	size_t from = w->n - 2;

	while (w->dirs[from].fd < 0)
		from--;
	w->path[d->len] = '\0';
	d->fd = openat(w->dirs[from].fd, w->path + w->dirs[from].len + 1,
		       O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d->cost = 0;
}

static bool has_room(const struct walk *w, size_t len)
{
	return w->n < MAX_DEPTH && len < sizeof(w->path);
}

/* The first len bytes of path are the next directory, in the last one. */
static void push(struct walk *w, const char *path, size_t len, int err)
{
	size_t known = last_dir(w)->len;

	memcpy(w->path + known, path + known, len - known);
	w->dirs[w->n++] = (struct known_dir){.fd = -1, .err = err, .len = len};
}

/* Into the directory of that path. 0, or -errno when nothing can be said: a symbolic link, for one. */
static int enter(struct walk *w, const char *path, size_t len)
{
	size_t known = last_dir(w)->len;
	int err = last_dir(w)->err;
	struct stat st;

	if (len == known + 1)
		return -EINVAL;
	if (!has_room(w, len))
		return -ENAMETOOLONG;
	if (!err) {
		memcpy(w->path + known, path + known, len - known);
		w->path[len] = '\0';
		err = look(w, w->path, &st);
		if (!err && S_ISLNK(st.st_mode))
			return -ELOOP;
		if (!err && !S_ISDIR(st.st_mode))
			err = ENOTDIR;
		if (err && !absent(err))
			return -err;
	}
	push(w, path, len, err);
	return 0;
}

/* As lstat: 0, or the errno it gives; -errno when it takes another way to tell. */
static int walk_lstat(struct walk *w, const char *path, struct stat *ret)
{
	int r = path[0] != '/' ? -EINVAL : w->n ? 0 : walk_begin(w);
	const char *slash;
	size_t len;

	if (r < 0)
		return r;
	if (!path[1])
		return fstatat(w->dirs[0].fd, "", ret, AT_EMPTY_PATH) < 0 ? errno : 0;
	leave(w, path);
	while ((slash = strchr(path + last_dir(w)->len + 1, '/'))) {
		r = enter(w, path, (size_t)(slash - path));
		if (r < 0)
			return r;
	}
	len = strlen(path);
	if (len == last_dir(w)->len + 1)
		return -EINVAL;
	if (last_dir(w)->err)
		return last_dir(w)->err;
	if (last_dir(w)->cost >= OPEN_WINS)
		open_last(w);
	r = look(w, path, ret);
	if (has_room(w, len) && (r ? absent(r) : S_ISDIR(ret->st_mode)))
		push(w, path, len, r);
	return r;
}

/* ---- the hash ---- */

/* A hash of the hashes of BLOCK paths each, which several threads can be at. */
#define BLOCK	    256
#define THREADS_MAX 4
#define THREAD_WINS (4 * BLOCK) /* for each thread, at least */
#define FACTS	    11

/* How much of a directory counts. */
enum detail { ALL, ATTRIBUTES_ONLY };

static enum detail detail_of(unsigned kinds)
{
	return kinds & (OBS_LIST | OBS_XATTR) ? ALL : ATTRIBUTES_ONLY;
}

/* What lstat said of one path. err: 0, ENOENT or ENOTDIR. */
static void put_facts(uint64_t v[FACTS], enum detail detail, const struct stat *st, int err)
{
	memset(v, 0, FACTS * sizeof(*v));
	if (err)
		return;
	v[0] = 1;
	v[1] = st->st_mode;
	if (S_ISDIR(st->st_mode) && detail == ATTRIBUTES_ONLY)
		return;
	v[2] = st->st_dev;
	v[3] = st->st_ino;
	v[4] = (uint64_t)st->st_uid << 32 | st->st_gid;
	v[5] = (uint64_t)st->st_size;
	v[6] = (uint64_t)st->st_mtim.tv_sec;
	v[7] = (uint64_t)st->st_mtim.tv_nsec;
	v[8] = (uint64_t)st->st_ctim.tv_sec;
	v[9] = (uint64_t)st->st_ctim.tv_nsec;
	v[10] = st->st_rdev;
}

/* What a lookup goes by besides the step key. */
static struct fp options_of(const struct exec_opts *o)
{
	struct fp_state *h = fp_begin();

	fp_update(h, &o->strict, sizeof(o->strict));
	for (size_t i = 0; i < o->ignore.n; i++)
		fp_update(h, o->ignore.v[i], strlen(o->ignore.v[i]) + 1);
	return fp_end(h);
}

/* r: what is to be a hit, and not one that was stored under its key since. blocks: the hashes of all n paths. */
static struct fp world_of(const struct result *r, const struct fp *blocks, size_t n)
{
	struct fp_state *h = fp_begin();

	fp_update(h, DOMAIN, sizeof(DOMAIN));
	fp_update(h, &r->stored_ns, sizeof(r->stored_ns));
	fp_update(h, &n, sizeof(n));
	fp_update(h, blocks, (n + BLOCK - 1) / BLOCK * sizeof(*blocks));
	return fp_end(h);
}

/* What lstat said, or remembered facts, of the path; false: nothing can be said. */
typedef bool look_fn(void *arg, enum detail detail, const char *path, uint64_t ret[FACTS]);

/* The paths that a lookup depends on, in turn: those of the path set, then the outputs. */
struct paths {
	struct path_iter inputs;
	const struct result *r;
	size_t at, n_inputs, n;
};

static int paths_begin(struct idx *x, const struct result *r, struct paths *ret)
{
	struct err e;
	int k = idx_path_iter(x, &r->path_set_id, &ret->inputs, &e);

	if (k < 0)
		return k;
	ret->r = r;
	ret->at = 0;
	ret->n_inputs = ret->inputs.left;
	ret->n = ret->n_inputs + r->n_outputs;
	return 0;
}

static void paths_end(struct paths *p)
{
	path_iter_end(&p->inputs);
}
#define auto_paths __attribute__((cleanup(paths_end)))

/* NULL: the record makes no sense. */
static const char *paths_next(struct paths *p, enum detail *ret)
{
	if (p->at >= p->n_inputs) {
		*ret = ALL;
		return p->r->outputs[p->at++ - p->n_inputs].path;
	}
	if (path_iter_next(&p->inputs) <= 0)
		return NULL;
	p->at++;
	*ret = detail_of(p->inputs.kinds);
	return (const char *)p->inputs.path.data;
}

/* That of the paths from `begin` on, which are not before those that were looked at last. */
static bool hash_block(struct paths *p, size_t begin, look_fn *look_at, void *arg, struct fp *ret)
{
	size_t n = p->n - begin < BLOCK ? p->n - begin : BLOCK;
	uint64_t facts[BLOCK][FACTS];
	enum detail detail;
	const char *path;

	while (p->at < begin)
		if (!paths_next(p, &detail))
			return false;
	for (size_t i = 0; i < n; i++)
		if (!(path = paths_next(p, &detail)) || !look_at(arg, detail, path, facts[i]))
			return false;
	*ret = fp_of(facts, n * sizeof(*facts));
	return true;
}

/* One for each block. */
static struct fp *new_hashes(const struct paths *p)
{
	return xcalloc(p->n / BLOCK + 1, sizeof(struct fp));
}

/* ---- keeping one ---- */

struct keeping {
	struct idx *x;
	stamp_facts_fn *facts;
	void *arg;
	int64_t at;
};

static bool keep_path(void *arg, enum detail detail, const char *path, uint64_t ret[FACTS])
{
	const struct keeping *k = arg;
	struct stat st = {0};
	int err = k->facts(k->arg, path, &st);

	if (err && !absent(err))
		return false;
	if (!err && !(S_ISDIR(st.st_mode) && detail == ATTRIBUTES_ONLY) &&
	    !idx_times_settled(k->x, &st, k->at))
		return false;
	put_facts(ret, detail, &st, err);
	return true;
}

static bool keep_all(struct keeping *k, const struct result *r, struct fp *ret)
{
	auto_paths struct paths p = {0};
	auto_free struct fp *hashes = NULL;
	bool good = paths_begin(k->x, r, &p) == 0;

	hashes = new_hashes(&p);
	for (size_t b = 0; good && b * BLOCK < p.n; b++)
		good = hash_block(&p, b * BLOCK, keep_path, k, &hashes[b]);
	*ret = world_of(r, hashes, p.n);
	return good;
}

void stamp_keep(struct idx *x, const struct exec_opts *o, const struct step *s,
		const struct result *r, int64_t at, stamp_facts_fn *facts, void *arg)
{
	struct keeping k = {x, facts, arg, at};
	struct stamp stamp = {
		.options = options_of(o), .path_set_id = r->path_set_id, .input_key = r->input_key};
	struct err e;

	if (r->stdin_kind != STDIN_UNUSED || idx_begin_read(x, &e) < 0)
		return;
	if (keep_all(&k, r, &stamp.world) && idx_stamp_put(x, &s->key, &stamp, &e) < 0)
		log_debug("%s", e.msg); /* the next lookup is slower, nothing else */
	idx_end_read(x);
}

/* ---- finding one ---- */

static bool find_path(void *arg, enum detail detail, const char *path, uint64_t ret[FACTS])
{
	struct walk *w = arg;
	struct stat st;
	int err = walk_lstat(w, path, &st);

	if (err && !absent(err))
		return false;
	put_facts(ret, detail, &st, err);
	return true;
}

/* Several threads, which take the next block each. */
struct finding {
	size_t n;
	struct fp *hashes; /* of blocks */
	_Atomic size_t next;
	_Atomic bool bad;
};
/* One of them. What it needs of memory is there: an allocator's own for a thread takes 20 us. */
struct finder {
	struct finding *f;
	struct paths p;
};

static void *find_blocks(void *arg)
{
	struct finder *one = arg;
	struct finding *f = one->f;
	auto_walk struct walk w = {.n = 0};
	size_t b;

	while (!atomic_load(&f->bad) && (b = atomic_fetch_add(&f->next, 1)) * BLOCK < f->n)
		if (!hash_block(&one->p, b * BLOCK, find_path, &w, &f->hashes[b]))
			atomic_store(&f->bad, true);
	return NULL;
}

static size_t threads_for(size_t paths)
{
	size_t n = paths / THREAD_WINS < THREADS_MAX ? paths / THREAD_WINS : THREADS_MAX;
	unsigned cpus = n > 1 ? cpus_idle() : 1;

	return n < cpus ? n : cpus;
}

/* The first of n finders begins here, each other one in a thread of its own. */
static void find_together(struct finder *v, size_t n)
{
	pthread_t threads[THREADS_MAX];
	sigset_t all, old;
	size_t started = 0;

	signals_all(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old); /* they are this thread's affair */
	while (started + 1 < n &&
	       pthread_create(&threads[started], NULL, find_blocks, &v[started + 1]) == 0)
		started++;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)find_blocks(&v[0]); /* and with fewer threads, or none, it does all */
	while (started)
		(void)pthread_join(threads[--started], NULL); /* fails for misuse only */
}

static bool find_all(struct idx *x, const struct result *r, struct fp *ret)
{
	struct finder v[THREADS_MAX] = {0};
	auto_free struct fp *hashes = NULL;
	struct finding f = {0};
	size_t n = 1, begun = 0;

	for (size_t i = 0; i < n && paths_begin(x, r, &v[i].p) == 0; i++) {
		v[i].f = &f;
		if (!begun++)
			n = threads_for(v[i].p.n);
	}
	if (begun) {
		f.n = v[0].p.n;
		f.hashes = hashes = new_hashes(&v[0].p);
		find_together(v, begun);
		*ret = world_of(r, hashes, f.n);
	}
	for (size_t i = 0; i < begun; i++)
		paths_end(&v[i].p);
	return begun && !f.bad;
}

static bool is_there(const struct output *out)
{
	struct stat st;

	return out->now.type == OUT_ABSENT || lstat(out->path, &st) == 0;
}

/* Outputs go together most often: two of them tell it before all inputs are looked at. */
static bool may_be_in_place(const struct result *r)
{
	return !r->n_outputs ||
	       (is_there(&r->outputs[0]) && is_there(&r->outputs[r->n_outputs - 1]));
}

static struct result *find_in(struct idx *x, const struct fp *options, const struct fp *step_key)
{
	struct result *r;
	struct stamp stamp;
	struct fp world;
	struct err e;

	if (idx_stamp_get(x, step_key, &stamp) <= 0 || !fp_eq(options, &stamp.options) ||
	    idx_result_get_brief(x, &stamp.input_key, &r, &e) <= 0)
		return NULL;
	if (fp_eq(&r->step_key, step_key) && fp_eq(&r->path_set_id, &stamp.path_set_id) &&
	    fp_eq(&r->input_key, &stamp.input_key) && r->stdin_kind == STDIN_UNUSED &&
	    may_be_in_place(r) && find_all(x, r, &world) && fp_eq(&world, &stamp.world))
		return r;
	result_free(r);
	return NULL;
}

struct result *stamp_find(struct idx *x, const struct exec_opts *o, const struct step *s)
{
	struct fp options = options_of(o);
	struct result *r;
	struct err e;

	/* The view around must see all that is looked at. */
	if (idx_in_view(x) || idx_begin_read(x, &e) < 0)
		return NULL;
	r = find_in(x, &options, &s->key);
	idx_end_read(x);
	return r;
}
