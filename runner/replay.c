/* SPDX-License-Identifier: MIT */
/*
 * replay.c - put the outputs of a hit in place, or leave everything as it was.
 *
 * 1. prepare: all that will be placed is made under temporary names (.mlfs-XXXXXX), each object
 * checked as it is copied. A missing or damaged one ends it here: nothing has been touched.
 * 2. place: directories, then renames, then removals. Each change is noted, and what it displaced
 * is kept under a temporary name, so that a failure half way can be taken back: the caller runs the
 * step then, and a step must not find its own result where its input was.
 * 3. finish: what was displaced goes, then directories get their modes and times.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay.h"
#include "replay_times.h"

#define BLOCK	64	   /* outputs that a thread takes at once */
#define LARGE	(1u << 20) /* bytes: reading it takes longer than remembering it */
#define TWO_WIN 200	   /* files for which a second thread is worth its start */

static void replay_clear(struct replay *p)
{
	for (size_t i = 0; i < p->r->n_outputs; i++)
		free(p->items[i].tmp);
	for (size_t i = 0; i < p->n_undo; i++) {
		free(p->undo[i].path);
		free(p->undo[i].aside);
	}
	free(p->items);
	free(p->undo);
	free(p->room);
	replay_way_end(&p->way);
	replay_stages_free(p);
}

/* ---- prepare ---- */

/* The file that is changed in place keeps what the step left as it was: its owner, its extended attributes. */
static int dress_as_before(struct replay *p, const struct output *out, int fd)
{
	auto_buf struct buf xattrs = {0};
	struct stat st;

	if (!out->in_place || lstat(out->path, &st) < 0 || !S_ISREG(st.st_mode))
		return 1;
	if (out->uid == OUT_ANY_ID && p->root && fchown(fd, st.st_uid, st.st_gid) < 0)
		return replay_failed(p, out, errno);
	if (out->xattrs)
		return 1;
	if (xattr_blob(out->path, -1, &xattrs) < 0 ||
	    xattr_apply(NULL, fd, xattrs.data, xattrs.len, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	return 1;
}

/* Owner and group, where they are others than a new file got. 1: changed; 0; -errno. */
static int give_file(struct replay *p, const struct output *out, int fd, const struct stat *st)
{
	bool owner = p->root && out->uid != OUT_ANY_ID && out->uid != st->st_uid;
	bool group = out->gid != OUT_ANY_ID && out->gid != st->st_gid;

	if (!owner && !group)
		return 0;
	if (fchown(fd, owner ? out->uid : (uid_t)-1, group ? out->gid : (gid_t)-1) == 0)
		return 1;
	if (p->root)
		return replay_failed(p, out, errno);
	log_debug("%s: its group stays as it is", out->path);
	return 0;
}

/* Bytes first, then owner, xattrs, mode and time: each would undo or forbid the one before. */
static int dress_file(struct replay *p, const struct output *out, const struct item *it, int fd)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};
	bool changed = out->in_place || out->xattrs;
	struct stat st;
	int r = dress_as_before(p, out, fd);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return replay_failed(p, out, errno);
	r = give_file(p, out, fd, &st);
	if (r < 0)
		return r;
	changed |= r > 0;
	if (out->xattrs) {
		r = xattr_apply(NULL, fd, out->xattrs, out->n_xattrs, p->e);
		if (r < 0)
			return err_prefix(p->e, "cannot place %s", out->path);
	}
	/* Another owner, and an ACL, may have changed the mode. */
	if ((changed || (st.st_mode & 07777) != (out->now.mode & 07777)) &&
	    fchmod(fd, out->now.mode & 07777) < 0)
		return replay_failed(p, out, errno);
	if (futimens(fd, times) < 0)
		return replay_failed(p, out, errno);
	return 1;
}

/* dress: all but the bytes, too. 1; 0: the object is missing or damaged; -errno. */
static int make_file(struct replay *p, const struct output *out, struct item *it, bool dress)
{
	auto_free char *tmp = replay_item_name(p, out, it);
	const char *name;
	int r, dir = replay_way(&p->way, it->stage, out->path, tmp, &name);
	/* In a stage nobody else can open it. */
	mode_t mode = it->stage ? (out->now.mode & 0777) | 0600 : 0600;
	auto_close int fd =
		openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	struct err why = {0};

	if (fd < 0)
		return replay_failed(p, out, errno);
	it->tmp = take(tmp);
	r = store_get_fd(p->x, &out->oid, out->now.size, fd, &why);
	if (r == -ENOENT || r == -EUCLEAN) {
		log_debug("%s: %s", out->path, why.msg);
		return 0;
	}
	if (r < 0)
		return err_text(p->e, r, "cannot place %s: %s", out->path, why.msg);
	return dress ? dress_file(p, out, it, fd) : 1;
}

static int make_special(struct replay *p, const struct output *out, struct item *it)
{
	auto_free char *tmp = replay_item_name(p, out, it);
	const char *name;
	int dir = replay_way(&p->way, it->stage, out->path, tmp, &name);
	int r = out->now.type == OUT_LINK
			? symlinkat(out->now.target ? out->now.target : "", dir, name)
			: mkfifoat(dir, name, 0600);

	if (r < 0)
		return replay_failed(p, out, errno);
	it->tmp = take(tmp);
	if (p->root && fchownat(dir, name, out->uid, out->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return replay_failed(p, out, errno);
	if (out->xattrs && xattr_apply(it->tmp, -1, out->xattrs, out->n_xattrs, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	if (out->now.type == OUT_FIFO && fchmodat(dir, name, out->now.mode & 07777, 0) < 0)
		return replay_failed(p, out, errno);
	if (out->mtime_set) {
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};

		if (utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
			return replay_failed(p, out, errno);
	}
	return 1;
}

/* Where the file of which output i is another name is already: as one that stays, or made before this one. */
static const char *linked_name(const struct replay *p, size_t i)
{
	uint32_t group = p->r->outputs[i].link_group;

	/* The file that stays what it is before one that only is as it should be. */
	for (int in_place = 1; group && in_place >= 0; in_place--)
		for (size_t j = 0; j < p->r->n_outputs; j++)
			if (p->r->outputs[j].link_group == group &&
			    p->r->outputs[j].in_place >= (bool)in_place &&
			    (p->places[j].action == PLACE_KEEP ||
			     p->places[j].action == PLACE_THROUGH))
				return p->r->outputs[j].path;
	for (size_t j = 0; group && j < p->r->n_outputs; j++)
		if (p->r->outputs[j].link_group == group && p->items[j].tmp)
			return p->items[j].tmp;
	return NULL;
}

static int make_link(struct replay *p, const struct output *out, const char *first, struct item *it)
{
	auto_free char *tmp = replay_item_name(p, out, it);
	const char *name;
	int dir = replay_way(&p->way, it->stage, out->path, tmp, &name);

	/* first may be in another stage, so by its whole path */
	if (linkat(AT_FDCWD, first, dir, name, 0) < 0)
		return replay_failed(p, out, errno);
	it->tmp = take(tmp);
	return 1;
}

static int prepare_one(struct replay *p, size_t i)
{
	const struct output *out = &p->r->outputs[i];
	const char *first = p->places[i].action == PLACE_WRITE ? linked_name(p, i) : NULL;

	if (p->items[i].tmp ||
	    (p->places[i].action != PLACE_WRITE && p->places[i].action != PLACE_THROUGH))
		return 1;
	if (first)
		return make_link(p, out, first, &p->items[i]);
	if (out->now.type == OUT_FILE && p->places[i].action == PLACE_WRITE && p->lazy &&
	    replay_lazy(p, out, &p->items[i]) > 0)
		return 1;
	if (out->now.type == OUT_FILE)
		return make_file(p, out, &p->items[i], p->places[i].action == PLACE_WRITE);
	if (out->now.type == OUT_LINK || out->now.type == OUT_FIFO)
		return make_special(p, out, &p->items[i]);
	return 1;
}

/* ---- prepare many at once ---- */

/* A file of one name in a stage: it is made apart from all others. */
static bool is_plain(const struct replay *p, size_t i)
{
	const struct output *out = &p->r->outputs[i];

	return p->places[i].action == PLACE_WRITE && out->now.type == OUT_FILE &&
	       p->items[i].stage && !out->link_group && !out->in_place && !p->lazy;
}

struct crew {
	const struct replay *p;
	_Atomic size_t next; /* block */
	_Atomic bool stop;
	pthread_mutex_t mu;
	int r; /* what ended it, and why; under mu */
	struct err e;
};

static int prepare_block(struct replay *p, size_t at)
{
	int r = 1;

	for (size_t i = at; i < at + BLOCK && i < p->r->n_outputs && r > 0; i++)
		if (is_plain(p, i))
			r = make_file(p, &p->r->outputs[i], &p->items[i], true);
	return r;
}

static void *prepare_blocks(void *arg)
{
	struct crew *c = arg;
	struct replay mine = *c->p; /* what it changes of it is an item's, or its own: */
	struct err e = {0};
	int r = 1;
	size_t at;

	mine.way = (struct way){.fd = -1};
	mine.e = &e;
	while (r > 0 && !atomic_load(&c->stop) &&
	       (at = atomic_fetch_add(&c->next, 1) * BLOCK) < mine.r->n_outputs)
		r = prepare_block(&mine, at);
	replay_way_end(&mine.way);
	if (r > 0)
		return NULL;
	atomic_store(&c->stop, true);
	(void)pthread_mutex_lock(&c->mu);
	if (c->r > 0) {
		c->r = r;
		c->e = e;
	}
	(void)pthread_mutex_unlock(&c->mu);
	return NULL;
}

/* A directory is locked while an entry is made in it: more than two threads would mostly wait. */
static bool two_win(const struct replay *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->r->n_outputs && n < TWO_WIN; i++)
		n += is_plain(p, i);
	return n == TWO_WIN && cpus_allowed() > 1;
}

static int prepare_plain(struct replay *p)
{
	struct crew c = {.p = p, .mu = PTHREAD_MUTEX_INITIALIZER, .r = 1};
	sigset_t all, old;
	pthread_t thread;
	bool two;

	signals_all(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old); /* they are this thread's affair */
	two = two_win(p) && pthread_create(&thread, NULL, prepare_blocks, &c) == 0;
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)prepare_blocks(&c); /* without the other it does all */
	if (two)
		(void)pthread_join(thread, NULL); /* fails for misuse only */
	if (c.r < 0 && p->e)
		*p->e = c.e;
	return c.r;
}

/* A file that was there keeps what the step left as it was, under its new names as well: so it comes before them. */
static int prepare(struct replay *p)
{
	int r = replay_stages(p);

	if (r > 0)
		r = prepare_plain(p);
	for (int in_place = 1; in_place >= 0; in_place--)
		for (size_t i = 0; i < p->r->n_outputs && r > 0; i++)
			if (p->r->outputs[i].in_place == (bool)in_place)
				r = prepare_one(p, i);
	return r;
}

/* ---- finish ---- */

static int own_dir(struct replay *p, const struct output *out, const struct item *it)
{
	(void)it;
	if (p->root && lchown(out->path, out->uid, out->gid) < 0)
		return replay_failed(p, out, errno);
	if (out->in_place && !out->xattrs)
		return 1;
	if (xattr_apply(out->path, -1, out->xattrs ? out->xattrs : "", out->n_xattrs, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	return 1;
}

static int close_dir(struct replay *p, const struct output *out, const struct item *it)
{
	auto_close int fd = open(out->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};
	char proc[40];

	if (fd < 0)
		return replay_failed(p, out, errno);
	/* O_PATH, since a directory need not be readable; fchmod refuses such descriptors. */
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (chmod(proc, out->now.mode & 07777) < 0)
		return replay_failed(p, out, errno);
	if (out->mtime_set && utimensat(AT_FDCWD, out->path, times, AT_SYMLINK_NOFOLLOW) < 0)
		return replay_failed(p, out, errno);
	return 1;
}

/* Deepest first, since closing a directory closes the way to those in it. */
static int each_dir(struct replay *p,
		    int (*fn)(struct replay *p, const struct output *out, const struct item *it))
{
	for (size_t i = p->r->n_outputs; i-- > 0;) {
		const struct output *out = &p->r->outputs[i];
		/* Placing in a directory that stays moved its time. */
		bool wanted =
			p->places[i].action == PLACE_WRITE || p->items[i].opened || out->mtime_set;
		int r;

		if (out->now.type != OUT_DIR || !wanted)
			continue;
		r = fn(p, out, &p->items[i]);
		if (r < 0)
			return r;
	}
	return 1;
}

/* ---- public ---- */

/* The bytes of large files were checked as they were written: the next lookup need not read them. */
static void remember_large(struct replay *p)
{
	struct idx_digest d = {.hashed_at = p->began_ns};

	for (size_t i = 0; i < p->r->n_outputs; i++) {
		const struct output *out = &p->r->outputs[i];

		if (p->places[i].action != PLACE_WRITE || out->now.type != OUT_FILE ||
		    out->in_place || out->now.size < LARGE || lstat(out->path, &d.st) < 0 ||
		    !S_ISREG(d.st.st_mode) || (uint64_t)d.st.st_size != out->now.size ||
		    memcmp(&d.st.st_mtim, &p->items[i].mtime, sizeof(d.st.st_mtim)) != 0)
			continue;
		d.fp = out->now.fp;
		idx_digest_written(p->x, &d);
	}
}

static bool nothing_to_do(const struct decision *d)
{
	for (size_t i = 0; i < d->result->n_outputs; i++)
		if (d->places[i].action != PLACE_KEEP)
			return false;
	return true;
}

static int replay_in(struct replay *p)
{
	auto_free struct timespec *times = xcalloc(p->r->n_outputs, sizeof(*times));
	sigset_t all, old;
	int r;

	replay_times(p->x, p->r, p->places, p->began_ns, times);
	for (size_t i = 0; i < p->r->n_outputs; i++)
		p->items[i].mtime = times[i];
	r = prepare(p);
	if (r <= 0) {
		replay_roll_back(p);
		replay_lazy_undo(p);
		return r;
	}
	/* From the first change to the last no signal may end us half way; it is a matter of
	 * renames only. */
	signals_all(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	r = replay_place(p);
	if (r > 0)
		r = each_dir(p, own_dir);
	if (r > 0) {
		replay_commit(p);
		/* Last, since what was displaced could not be removed from a closed directory. */
		r = each_dir(p, close_dir);
	} else {
		replay_roll_back(p);
		replay_lazy_undo(p);
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int replay_outputs(struct idx *x, const struct decision *d, struct err *e)
{
	struct replay p = {.x = x,
			   .r = d->result,
			   .places = d->places,
			   .lazy = d->lazy,
			   .way.fd = -1,
			   .root = geteuid() == 0,
			   .e = e};
	struct err why = {0};
	int r;

	if (nothing_to_do(d))
		return 1;
	p.items = xcalloc(d->result->n_outputs, sizeof(*p.items));
	p.began_ns = now_ns();
	r = replay_in(&p);
	if (r > 0)
		remember_large(&p);
	replay_clear(&p);
	idx_placing_end(p.placing);
	if (r == 0 && idx_result_drop(x, &d->result->input_key, &why) < 0)
		log_debug("%s", why.msg);
	return r;
}
