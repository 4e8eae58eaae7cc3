/* SPDX-License-Identifier: MIT */
/*
 * fsck.c - is everything in a cache as it was put there? And if not: drop what is broken, keep all else.
 *
 * The first look goes on while others use the cache. When there is something to repair the index's directory
 * is locked, so that nobody else has the cache open, and all but the bytes of objects is looked at again: what
 * is mended is judged by that. Where others do have it open only what a transaction can do is done.
 *
 * An index that is damaged in its pages is made anew from the records that can be reached in it (salvage.c),
 * beside the old one, and put in its place by a rename.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fsck.h"
#include "rebuild.h"
#include "salvage.h"

#define TELL_NS	   100000000 /* at least between two tellings */
#define PAGE_ABOUT 4096

unsigned fsck_threads(const struct fsck *f, size_t n)
{
	unsigned processors = f->o->threads ? f->o->threads : cpus_allowed();

	if (processors > FSCK_MAX_THREADS)
		processors = FSCK_MAX_THREADS;
	return processors < n ? processors : (unsigned)n;
}

void fsck_tell(struct fsck *f, const char *what, uint64_t done, uint64_t all)
{
	int64_t now;

	if (!f->o->progress)
		return;
	now = mono_ns();
	if (now - f->told_ns < TELL_NS)
		return;
	f->told_ns = now;
	f->o->progress(f->o->arg, what, done < all ? done : all, all);
}

struct problem *fsck_note(struct fsck *f, bool broken, enum mend mend, const char *what,
			  const char *name, const char *detail)
{
	struct problem *p;

	fsck_grow(f->problems, f->n_problems, f->cap_problems);
	p = &f->problems[f->n_problems++];
	*p = (struct problem){.broken = broken,
			      .what = what,
			      .name = xstrdup(name),
			      .detail = xstrdup(detail),
			      .mend = mend,
			      .mended = mend == MEND_DONE};
	return p;
}

/* What the next look finds anew. What is mended already is kept. */
static void forget(struct fsck *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n_problems; i++) {
		if (f->problems[i].mended) {
			f->problems[kept++] = f->problems[i];
			continue;
		}
		free(f->problems[i].name);
		free(f->problems[i].detail);
	}
	f->n_problems = kept;
	for (size_t i = 0; i < f->n_results; i++)
		free(f->results[i].name);
	f->n_objects = f->n_wanted = f->n_results = f->n_sets = f->n_notes = 0;
	f->used.len = f->io.len = f->listings.len = f->steps.len = 0;
	f->used_lru.len = f->lru.len = f->refs.len = f->doomed.len = 0;
	f->tally = (struct tally){0};
	f->disordered = false;
	*f->n = (struct fsck_counts){0};
}

static void fsck_free(struct fsck *f)
{
	for (size_t i = 0; i < f->n_problems; i++)
		f->problems[i].mended = false;
	forget(f);
	idx_close(f->x);
	base_close(&f->lock);
	base_close(&f->dirfd);
	free(f->problems);
	free(f->objects);
	free(f->wanted);
	free(f->results);
	free(f->sets);
	free(f->notes);
	buf_free(&f->used);
	buf_free(&f->io);
	buf_free(&f->listings);
	buf_free(&f->steps);
	buf_free(&f->used_lru);
	buf_free(&f->lru);
	buf_free(&f->refs);
	buf_free(&f->doomed);
}

/* ---- version ---- */

static int check_version(struct fsck *f)
{
	int r = idx_version_check(f->dirfd, f->dir, f->e);
	bool mended;

	if (r != -EUCLEAN)
		return r;
	/* There is but one format so far, and what is in the cache tells whether it is of that. */
	mended = f->o->repair && idx_version_write(f->dirfd, f->dir, f->e) == 0;
	fsck_note(f, true, mended ? MEND_DONE : MEND_NOT, "file", "version", "it makes no sense");
	f->no_version = !mended;
	return 0;
}

/* ---- the index as a file ---- */

static void tell_pages(void *arg, uint64_t done, uint64_t all)
{
	if (done % 256 == 0) /* else asking for the time is what takes time */
		fsck_tell(arg, "pages", done * PAGE_ABOUT, all * PAGE_ABOUT);
}

/* What is wrong with the file that vouches for the index, or what it tells: mended when the next makes it anew. */
static void note_stamp(struct fsck *f, const char *what, const char *name, const char *detail)
{
	bool mended = f->o->repair && unlinkat(f->dirfd, "index/checked", 0) == 0;

	fsck_note(f, true, mended ? MEND_DONE : MEND_NOT, what, name, detail);
}

static int check_pages(struct fsck *f)
{
	auto_close int index = openat(f->dirfd, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int fd = openat(f->dirfd, "index/data.mdb", O_RDONLY | O_CLOEXEC);
	struct err why = {0};
	uint64_t was, is;
	struct stat st;
	int r;

	f->damaged = f->missing = false;
	f->missing = fd < 0 && errno == ENOENT;
	if (f->missing)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(f->e, errno, "cannot open %s/index/data.mdb", f->dir);
	/* All of it will be read, in the order of the trees, which is none on a disk. Only advice. */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
	r = st.st_size ? check_walk(fd, tell_pages, f, &why) : 0;
	f->damaged = r == -EUCLEAN;
	if (r < 0 && r != -EUCLEAN) {
		*f->e = why;
		return err_prefix(f->e, "cannot check %s", f->dir);
	}
	if (f->damaged)
		fsck_note(f, true, MEND_INDEX, "index", "index/data.mdb", why.msg);
	if (!check_stamp_whole(f->dirfd))
		note_stamp(f, "file", "index/checked", "it is damaged");
	else if (!f->damaged && check_went_back(index, &was, &is)) {
		auto_free char *detail =
			xasprintf("its last transaction is %llu and was %llu, as after a power cut",
				  (unsigned long long)is, (unsigned long long)was);

		note_stamp(f, "index", "index/data.mdb", detail);
	}
	return 0;
}

struct rescue {
	struct kv_txn *t;
	int data;
	uint64_t bytes, kept;
	struct err *e;
};

static int rescue_one(void *arg, struct kv_val table, struct kv_val key, struct kv_val raw)
{
	struct rescue *s = arg;
	enum tab tab = kv_table(table);
	struct kv_val value;
	int r;

	if (!fsck_fits(tab, key) || !kv_unguard(key, raw, &value))
		return 0;
	r = kv_put(s->t, tab, key.p, key.n, value.p, value.n, s->e);
	s->kept += r == 0;
	return r;
}

static int rescue_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct rescue *s = arg;

	s->t = t;
	s->e = e;
	s->kept = 0;
	return salvage_each(s->data, s->bytes, rescue_one, s);
}

/* Only alone, and with the index closed. */
static int rebuild(struct fsck *f)
{
	auto_close int data = openat(f->dirfd, "index/data.mdb", O_RDONLY | O_CLOEXEC);
	auto_free char *dir = xasprintf("%s/" REBUILD, f->dir);
	struct rescue s = {.data = data};
	struct kv *kv = NULL;
	struct stat st;
	int r;

	if (data < 0 || fstat(data, &st) < 0)
		return err_set(f->e, errno, "cannot open %s/index/data.mdb", f->dir);
	s.bytes = (uint64_t)st.st_size;
	r = rebuild_begin(f->dirfd, f->dir, f->e);
	if (r == 0)
		r = kv_open(dir, KV_HELD, &kv, f->e);
	if (r == 0)
		r = kv_write(kv, rescue_in, &s, f->e);
	kv_close(kv);
	if (r == 0)
		r = rebuild_put(f->dirfd, f->dir, f->e);
	rebuild_end(f->dirfd);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->n_problems; i++)
		f->problems[i].mended |= f->problems[i].mend == MEND_INDEX;
	log_debug("the index of %s was made anew with %llu records", f->dir,
		  (unsigned long long)s.kept);
	return 0;
}

/* ---- looking ---- */

static int open_index(struct fsck *f)
{
	return f->alone	      ? idx_open_held(f->dir, &f->x, f->e)
	       : f->o->repair ? idx_open(f->dir, false, &f->x, f->e)
			      : idx_open(f->dir, true, &f->x, f->e);
}

static int look_at_index(struct fsck *f)
{
	int r = check_pages(f);

	if (r < 0 || f->damaged || f->missing || f->no_version)
		return r; /* nothing can be said of what is in it */
	r = open_index(f);
	return r < 0 ? r : fsck_records(f);
}

static int look(struct fsck *f)
{
	int r = check_version(f);

	if (r == 0)
		r = look_at_index(f);
	/* Without the index it cannot be told what is referred to. */
	if (r == 0)
		r = fsck_objects(f);
	if (r == 0 && f->x)
		fsck_references(f);
	if (r == 0)
		r = fsck_files(f);
	if (r == 0 && f->x)
		r = fsck_journals(f);
	return r;
}

/* Alone again: by the records as they are now, and made anew when they are out of order. */
static int look_again(struct fsck *f)
{
	auto_free struct known *seen = take(f->objects);
	int r = 0;

	f->seen = seen;
	f->n_seen = f->n_objects;
	f->n_objects = f->cap_objects = 0;
	f->alone = true;
	if (f->disordered || f->damaged)
		r = rebuild(f);
	forget(f);
	if (r == 0)
		r = look(f);
	f->seen = NULL;
	f->n_seen = 0;
	return r;
}

/* ---- mending ---- */

static int delete_one(struct kv_txn *t, const struct problem *p, struct err *e)
{
	struct tally y = {0}; /* made anew afterwards */
	struct fp key;

	if (p->tab != TAB_RESULT || p->nkey != sizeof(key.b))
		return kv_del(t, p->tab, p->key, p->nkey, e);
	memcpy(key.b, p->key, sizeof(key.b));
	return result_remove(t, &y, &key, NULL, e);
}

static int delete_in(void *arg, struct kv_txn *t, struct err *e)
{
	struct fsck *f = arg;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < f->n_problems; i++) {
		struct problem *p = &f->problems[i];
		struct kv_val v;

		if (p->mend != MEND_RECORD)
			continue;
		/* A step may have stored it anew since it was judged. */
		r = p->guard ? kv_get(t, p->tab, p->key, p->nkey, &v, e) : 0;
		if (r > 0 && xxh64_of(v.p, v.n) != p->guard)
			continue;
		if (r >= 0)
			r = delete_one(t, p, e);
		p->mended = r >= 0; /* it may have gone with a result */
	}
	/* What the records that are gone referred to may not be known. */
	if (r >= 0)
		r = refs_rebuild(f->x, t, e);
	for (size_t i = 0; r >= 0 && i < f->n_problems; i++)
		f->problems[i].mended |= f->problems[i].mend == MEND_REFS;
	return r < 0 ? r : 0;
}

static bool any_record(const struct fsck *f)
{
	for (size_t i = 0; i < f->n_problems; i++)
		if (f->problems[i].mend == MEND_RECORD || f->problems[i].mend == MEND_REFS)
			return true;
	return false;
}

static bool unlink_object(struct fsck *f, const struct problem *p)
{
	char name[80];
	uint64_t size;

	fsck_object_name(&p->oid, name);
	/* A step may have put it anew since it was read. */
	if (p->broken && !f->alone && fsck_object_good(f->dirfd, &p->oid, &size))
		return true;
	return unlinkat(f->dirfd, name, 0) == 0;
}

/* As its holder would: held, then removed. */
static bool unlink_lock(struct fsck *f, const char *name)
{
	auto_close int fd = openat(f->dirfd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat held, named;

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &held) == 0 &&
	       fstatat(f->dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == named.st_ino && unlinkat(f->dirfd, name, 0) == 0;
}

static void unlink_all(struct fsck *f)
{
	for (size_t i = 0; i < f->n_problems; i++) {
		struct problem *p = &f->problems[i];

		if (p->mend == MEND_OBJECT && (p->broken || f->alone))
			p->mended = unlink_object(f, p);
		else if (p->mend == MEND_FILE && f->alone)
			p->mended = unlinkat(f->dirfd, p->name, 0) == 0;
		else if (p->mend == MEND_LOCK)
			p->mended = unlink_lock(f, p->name);
	}
}

static int mend(struct fsck *f)
{
	int r = 0;

	if (f->x && any_record(f))
		r = kv_write(f->x->kv, delete_in, f, f->e);
	/* After the results that refer to them. */
	if (r == 0)
		unlink_all(f);
	return r;
}

/* Nobody else may have the cache open, nor open it until we are done. */
static bool lock_alone(struct fsck *f)
{
	f->lock = openat(f->dirfd, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->lock < 0)
		return false;
	idx_close(take(f->x)); /* we are somebody, too */
	return flock(f->lock, LOCK_EX | LOCK_NB) == 0;
}

static int repair(struct fsck *f)
{
	int r = 0;

	if (lock_alone(f)) {
		r = look_again(f);
	} else {
		f->n->in_use = true;
		base_close(&f->lock);
		if (!f->damaged && !f->missing && !f->no_version)
			r = open_index(f);
	}
	return r < 0 ? r : mend(f);
}

/* ---- all of it ---- */

static void tell(struct fsck *f)
{
	for (size_t i = 0; i < f->n_problems; i++) {
		const struct problem *p = &f->problems[i];
		const struct fsck_found found = {p->broken, p->what, p->name, p->detail, p->mended};

		if (p->broken)
			f->n->broken++;
		else
			f->n->left_over++;
		if (!p->broken)
			f->n->left_over_bytes += p->bytes;
		f->n->mended += p->mended;
		if (f->o->found)
			f->o->found(f->o->arg, &found);
	}
}

int idx_fsck(const char *dir, const struct fsck_options *o, struct fsck_counts *ret, struct err *e)
{
	struct fsck_counts counts = {0};
	struct fsck f = {
		.dir = dir, .o = o, .n = &counts, .e = e, .lock = -1, .begun_ns = now_ns()};
	int r = 0;

	f.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f.dirfd < 0)
		return err_set(e, errno, "cannot open the cache %s", dir);
	r = look(&f);
	if (r == 0 && o->repair)
		r = repair(&f);
	if (r == 0) {
		tell(&f);
		*ret = counts;
	}
	fsck_free(&f);
	return r;
}
