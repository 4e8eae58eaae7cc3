/* SPDX-License-Identifier: MIT */
/* fsck_files.c - objects under cas/ (read and hashed by several threads), tmp/, lock/, the journals. */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fsck.h"
#include "runs.h"

#define WAIT_NS 100000000 /* between two looks at how far the threads are */

/* ---- names in a directory ---- */

struct visit {
	struct fsck *f;
	const char *dir; /* in the cache */
	int fd;
};

/* Every name in f->dir/dir but . and ..; nothing when there is no such directory. */
static int each_name(struct fsck *f, const char *dir, void (*fn)(struct visit *v, const char *name))
{
	int fd = openat(f->dirfd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct visit v = {f, dir, fd};
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		int code = errno;

		base_close(&fd);
		if (code == ENOENT)
			return 0;
		return err_set(f->e, code, "cannot read %s/%s", f->dir, dir);
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			fn(&v, de->d_name);
	(void)closedir(d); /* only read from */
	return 0;
}

static void note_name(struct visit *v, bool broken, enum mend mend, const char *name,
		      const char *detail)
{
	auto_free char *path = xasprintf("%s/%s", v->dir, name);
	struct problem *p = fsck_note(v->f, broken, mend, "file", path, detail);
	struct stat st;

	if (fstatat(v->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		p->bytes = (uint64_t)st.st_size;
}

/* ---- objects ---- */

void fsck_object_name(const struct oid *o, char name[80])
{
	char digits[2 * sizeof(o->b) + 1];

	hex(o->b, sizeof(o->b), digits);
	(void)snprintf(name, 80, "cas/%.2s/%s", digits, digits + 2); /* fits */
}

bool fsck_object_good(int dirfd_, const struct oid *o, uint64_t *ret_size)
{
	char name[80];
	auto_close int fd = -1;
	struct oid now;

	fsck_object_name(o, name);
	fd = openat(dirfd_, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && hash_fd_both(fd, NULL, &now, ret_size) == 0 && oid_eq(&now, o);
}

/* "cas/xx" and 62 digits. */
static bool oid_of_name(const char *dir, const char *name, struct oid *ret)
{
	char digits[2 * sizeof(ret->b) + 1];

	if (strlen(dir) != 6 || strlen(name) != 62)
		return false;
	(void)snprintf(digits, sizeof(digits), "%s%s", dir + 4, name); /* fits */
	return unhex(digits, ret->b, sizeof(ret->b));
}

static void visit_object(struct visit *v, const char *name)
{
	struct known o = {0};
	struct stat st;

	if (fstatat(v->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return; /* gone meanwhile */
	if (!S_ISREG(st.st_mode) || !oid_of_name(v->dir, name, &o.oid)) {
		note_name(v, true, MEND_FILE, name, "it is not the name of an object");
		return;
	}
	o.size = (uint64_t)st.st_size;
	o.mtime_ns = timespec_ns(st.st_mtim);
	fsck_grow(v->f->objects, v->f->n_objects, v->f->cap_objects);
	v->f->objects[v->f->n_objects++] = o;
}

static void visit_prefix(struct visit *v, const char *name)
{
	auto_free char *dir = xasprintf("%s/%s", v->dir, name);
	struct stat st;
	uint8_t prefix;

	if (fstatat(v->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
	    unhex(name, &prefix, 1)) {
		if (each_name(v->f, dir, visit_object) < 0)
			(void)fsck_note(v->f, true, MEND_NOT, "file", dir, v->f->e->msg);
	} else {
		note_name(v, true, MEND_FILE, name, "it is not the name of an object");
	}
}

/* ---- reading them ---- */

struct reading {
	struct fsck *f;
	struct known *v;
	size_t n;
	pthread_mutex_t mu;
	pthread_cond_t progress;
	size_t next, done; /* under mu, as the next */
	uint64_t bytes;
};

static void *read_some(void *arg)
{
	struct reading *r = arg;

	(void)pthread_mutex_lock(&r->mu);
	while (r->next < r->n) {
		struct known *o = &r->v[r->next++];
		uint64_t size = 0;

		(void)pthread_mutex_unlock(&r->mu);
		o->good = fsck_object_good(r->f->dirfd, &o->oid, &size) && size == o->size;
		(void)pthread_mutex_lock(&r->mu);
		r->bytes += o->size;
		r->done++;
		(void)pthread_cond_signal(&r->progress);
	}
	(void)pthread_mutex_unlock(&r->mu);
	return NULL;
}

static void watch_progress(struct reading *r, uint64_t all)
{
	(void)pthread_mutex_lock(&r->mu);
	while (r->done < r->n) {
		uint64_t bytes = r->bytes;
		struct timespec t;

		(void)pthread_mutex_unlock(&r->mu);
		fsck_tell(r->f, "objects", bytes, all);
		(void)pthread_mutex_lock(&r->mu);
		(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
		t.tv_nsec += WAIT_NS;
		t.tv_sec += t.tv_nsec / 1000000000;
		t.tv_nsec %= 1000000000;
		while (r->done < r->n &&
		       pthread_cond_clockwait(&r->progress, &r->mu, CLOCK_MONOTONIC, &t) == 0)
			;
	}
	(void)pthread_mutex_unlock(&r->mu);
}

/* Those from `first` on. */
static void read_objects(struct fsck *f, size_t first)
{
	struct reading r = {.f = f, .v = f->objects + first, .n = f->n_objects - first};
	pthread_t threads[FSCK_MAX_THREADS];
	unsigned n = fsck_threads(f, r.n), started = 0;
	uint64_t all = 0;

	for (size_t i = 0; i < r.n; i++)
		all += r.v[i].size;
	(void)pthread_mutex_init(&r.mu, NULL);	    /* cannot fail on Linux */
	(void)pthread_cond_init(&r.progress, NULL); /* likewise */
	while (started < n && pthread_create(&threads[started], NULL, read_some, &r) == 0)
		started++;
	if (!started)
		(void)read_some(&r);
	watch_progress(&r, all);
	while (started)
		(void)pthread_join(threads[--started], NULL); /* cannot fail */
	(void)pthread_cond_destroy(&r.progress);
	(void)pthread_mutex_destroy(&r.mu);
}

static int by_oid(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return memcmp(x->oid.b, y->oid.b, sizeof(x->oid.b));
}

/* Was it read by the first look, and is it the same file still? */
static bool seen_good(const struct fsck *f, const struct known *o)
{
	const struct known *was =
		f->n_seen ? bsearch(o, f->seen, f->n_seen, sizeof(*f->seen), by_oid) : NULL;

	if (!was)
		return false;
	while (was > f->seen && oid_eq(&was[-1].oid, &o->oid))
		was--;
	for (; was < f->seen + f->n_seen && oid_eq(&was->oid, &o->oid); was++)
		if (!was->small && was->good && was->size == o->size &&
		    was->mtime_ns == o->mtime_ns)
			return true;
	return false;
}

int fsck_objects(struct fsck *f)
{
	size_t first = f->n_objects, kept = first;
	int r = each_name(f, "cas", visit_prefix);

	if (r < 0)
		return r;
	/* What need not be read again comes first. */
	for (size_t i = first; i < f->n_objects; i++)
		if (seen_good(f, &f->objects[i])) {
			struct known o = f->objects[i];

			o.good = true;
			f->objects[i] = f->objects[kept];
			f->objects[kept++] = o;
		}
	read_objects(f, kept);
	for (size_t i = first; i < f->n_objects; i++) {
		const struct known *o = &f->objects[i];
		char digits[2 * sizeof(o->oid.b) + 1];
		struct problem *p;

		f->n->object_bytes += o->size;
		if (o->good)
			continue;
		hex(o->oid.b, sizeof(o->oid.b), digits);
		p = fsck_note(f, true, MEND_OBJECT, "object", digits,
			      "its bytes are not those of its name");
		p->oid = o->oid;
		p->bytes = o->size;
	}
	return 0;
}

/* ---- tmp/ and lock/ ---- */

static void visit_temp(struct visit *v, const char *name)
{
	if (v->f->alone || idx_temp_is_stale(v->fd, name))
		note_name(v, false, MEND_FILE, name, "a killed process left it behind");
}

static void visit_lock(struct visit *v, const char *name)
{
	auto_close int fd = openat(v->fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	/* To look at it is to hold it for a moment: who comes then waits so long, and no longer. */
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		note_name(v, false, MEND_LOCK, name, "nobody holds it");
}

int fsck_files(struct fsck *f)
{
	int r = each_name(f, "tmp", visit_temp);

	return r < 0 ? r : each_name(f, "lock", visit_lock);
}

/* ---- journals ---- */

static ssize_t read_journal(struct fsck *f, const char *name, struct buf *ret)
{
	auto_close int fd = openat(f->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0
				       : err_set(f->e, errno, "cannot open %s/%s", f->dir, name);
	if (fstat(fd, &st) < 0)
		return err_set(f->e, errno, "cannot look at %s/%s", f->dir, name);
	buf_reserve(ret, (size_t)st.st_size + 1);
	n = read_full(fd, ret->data, (size_t)st.st_size);
	if (n < 0)
		return err_set(f->e, (int)n, "cannot read %s/%s", f->dir, name);
	ret->len = (size_t)n;
	return 0;
}

/* Put what is good in place of the whole. Only alone: somebody may be adding to it. */
static bool replace_journal(struct fsck *f, const char *name, const struct buf *good)
{
	char tmp[TEMP_NAME_SIZE];
	auto_close int fd = -1;

	if (!f->o->repair || !f->alone)
		return false;
	idx_temp_name(f->x, tmp);
	fd = openat(f->dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0 && write_all(fd, good->data, good->len) >= 0 &&
	    renameat(f->dirfd, tmp, f->dirfd, name) == 0)
		return true;
	(void)unlinkat(f->dirfd, tmp, 0); /* else a stale one is cleaned up later */
	return false;
}

static int check_journal(struct fsck *f, const char *name,
			 size_t (*record_at)(const uint8_t *p, size_t left), uint64_t *ret_n)
{
	auto_buf struct buf all = {0}, good = {0};
	ssize_t r = read_journal(f, name, &all);
	size_t bad = 0, first = 0;

	if (r < 0)
		return (int)r;
	for (size_t at = 0; at < all.len;) {
		size_t n = record_at(all.data + at, all.len - at);

		if (n) {
			buf_add(&good, all.data + at, n);
			++*ret_n;
		} else if (!bad++) {
			first = at;
		}
		at += n ? n : 1;
	}
	if (bad) {
		auto_free char *detail =
			xasprintf("%zu bytes from byte %zu on are no record", bad, first);
		bool mended = replace_journal(f, name, &good);

		fsck_note(f, true, mended ? MEND_DONE : MEND_NOT, "journal", name, detail);
	}
	return 0;
}

static int check_stamps(struct fsck *f)
{
	static const uint8_t zeros[STAMP_SLOT_SIZE];
	auto_buf struct buf all = {0};
	ssize_t r = read_journal(f, "index/stamps", &all);
	size_t bad = 0;

	if (r < 0)
		return (int)r;
	for (size_t at = 0; at + STAMP_SLOT_SIZE <= all.len; at += STAMP_SLOT_SIZE)
		if (memcmp(all.data + at, zeros, STAMP_SLOT_SIZE) != 0 &&
		    !stamps_slot_whole(all.data + at)) {
			memset(all.data + at, 0, STAMP_SLOT_SIZE);
			bad++;
		}
	bad += all.len % STAMP_SLOT_SIZE != 0;
	all.len -= all.len % STAMP_SLOT_SIZE;
	if (bad) {
		auto_free char *detail = xasprintf("%zu slots of it are damaged", bad);
		bool mended = replace_journal(f, "index/stamps", &all);

		fsck_note(f, true, mended ? MEND_DONE : MEND_NOT, "journal", "index/stamps",
			  detail);
	}
	return 0;
}

/* Rows are what is made of the segment, up to where they say; they can be made again at any time. */
static int check_rows(struct fsck *f, unsigned segment)
{
	char name[RUNS_NAME_SIZE], from[RUNS_NAME_SIZE];
	auto_buf struct buf rows = {0}, journal = {0}, made = {0};
	const struct rows_head *head;
	ssize_t r;
	bool mended;

	runs_segment_name(name, RUNS_ROWS, segment);
	runs_segment_name(from, RUNS_SEGMENT, segment);
	r = read_journal(f, name, &rows);
	if (r < 0 || !rows.len)
		return (int)r; /* none yet */
	r = read_journal(f, from, &journal);
	if (r < 0)
		return (int)r;
	if (!journal.data) {
		fsck_note(f, false, MEND_FILE, "file", name, "its runs are gone");
		return 0;
	}
	head = (const struct rows_head *)rows.data;
	if (rows_whole(rows.data, rows.len) && le64toh(head->covered) <= journal.len) {
		rows_make(journal.data, (size_t)le64toh(head->covered), 0, &made);
		if (made.len == rows.len && memcmp(made.data, rows.data, made.len) == 0)
			return 0;
	}
	mended = f->o->repair && unlinkat(f->dirfd, name, 0) == 0;
	fsck_note(f, true, mended ? MEND_DONE : MEND_NOT, "file", name,
		  "it is not what its runs make; it will be made anew");
	return 0;
}

static int check_segments(struct fsck *f)
{
	auto_free unsigned *v = NULL;
	size_t n = 0;
	int r = runs_segments(f->dirfd, true, &v, &n);

	if (r < 0)
		return err_set(f->e, r, "cannot read %s/index", f->dir);
	for (size_t i = 0; r == 0 && i < n; i++) {
		char name[RUNS_NAME_SIZE];

		/* Before the segment is made anew, by which rows that fit it would fit no more. */
		r = check_rows(f, v[i]);
		runs_segment_name(name, RUNS_SEGMENT, v[i]);
		if (r == 0)
			r = check_journal(f, name, runs_record_at, &f->n->runs);
	}
	return r;
}

int fsck_journals(struct fsck *f)
{
	uint64_t uses = 0;
	int r = check_journal(f, "index/uses", uses_record_at, &uses);

	if (r == 0)
		r = check_journal(f, RUNS_ACTIVE, runs_record_at, &f->n->runs);
	if (r == 0)
		r = check_segments(f);
	return r < 0 ? r : check_stamps(f);
}
