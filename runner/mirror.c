/* SPDX-License-Identifier: MIT */
/* mirror.c - a lock on the real file for those in the view; see mirror.h. */
#include "mirror.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "wal.h"

/* How that is held outside which is held in the view. */
static enum hold outside(const struct mirror *m, int64_t start, int64_t end, enum hold hold)
{
	return hold == HOLD_READ && !m->flock && wal_in_use(m->fd, start, end) ? HOLD_WRITE : hold;
}

/* ---- the real lock ---- */

static int real_flock(const struct mirror *m, enum hold hold)
{
	static const int op[] = {LOCK_UN, LOCK_SH, LOCK_EX};

	return flock(m->fd, op[hold] | LOCK_NB) < 0 ? -errno : 0;
}

struct flock as_flock(int64_t start, int64_t end, enum hold hold)
{
	static const short type[] = {F_UNLCK, F_RDLCK, F_WRLCK};

	return (struct flock){.l_type = type[hold],
			      .l_whence = SEEK_SET,
			      .l_start = start,
			      .l_len = end == INT64_MAX ? 0 : end - start + 1};
}

/* 0, -EAGAIN when somebody else's lock is in the way, or -errno. */
static int real_set(struct mirror *m, int64_t start, int64_t end, enum hold hold)
{
	struct flock f = as_flock(start, end, hold);
	int r;

	if (m->flock)
		r = real_flock(m, hold);
	else
		r = fcntl(m->fd, F_OFD_SETLK, &f) < 0 ? -errno : 0;
	if (r == 0)
		ranges_set(&m->held, start, end, hold);
	return r == -EACCES ? -EAGAIN : r;
}

/*
 * From shared to exclusive. The kernel gives up the shared lock before it tries, and does not give
 * it back. It is taken again for the others in the view that hold one. Where there are none it
 * stays away, as natively: else two who both want to convert would wait for each other.
 */
static int convert(struct mirror *m, bool others)
{
	int r = real_set(m, 0, INT64_MAX, HOLD_WRITE);

	if (r == 0)
		return 0;
	ranges_set(&m->held, 0, INT64_MAX, HOLD_NONE);
	if (others && real_set(m, 0, INT64_MAX, HOLD_READ) < 0)
		log_debug("a shared lock of the view was lost outside");
	return r;
}

/* A lock for writing wants a descriptor for writing. Only shared locks can be held by the one there
 * is: the new one takes them as well before that goes. */
static int make_writable(struct mirror *m)
{
	struct mirror n = *m;
	char path[64];
	struct stat st;
	int r;

	if (m->flock || m->writable)
		return 0;
	if (fstat(m->fd, &st) < 0)
		return -errno;
	own_writer_begin(m->fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	n.fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (n.fd < 0) {
		r = -errno;
		own_writer_end(st.st_dev, st.st_ino);
		return r;
	}
	n.held = (struct ranges){0};
	for (size_t k = 0; k < m->held.n; k++) {
		r = real_set(&n, m->held.v[k].start, m->held.v[k].end, HOLD_READ);
		if (r < 0) {
			close(n.fd);
			own_writer_end(st.st_dev, st.st_ino);
			ranges_free(&n.held);
			return r == -EAGAIN ? -EIO
					    : r; /* shared ones cannot be in each other's way */
		}
	}
	close(m->fd);
	ranges_free(&m->held);
	*m = n;
	m->writable = true;
	return 0;
}

int mirror_raise(struct mirror *m, const struct lock_call *q, bool *ret_new)
{
	enum hold hold = outside(m, q->start, q->end, q->hold);
	int64_t last;
	int r;

	*ret_new = !ranges_cover(&m->held, q->start, q->end, HOLD_READ);
	if (ranges_cover(&m->held, q->start, q->end, hold))
		return 0;
	r = hold == HOLD_WRITE ? make_writable(m) : 0;
	if (r < 0 && q->hold == HOLD_READ) { /* it may not be written: then only as it was asked */
		hold = HOLD_READ;
		r = 0;
	}
	if (r < 0)
		return r;
	if (m->flock && hold == HOLD_WRITE && !*ret_new)
		return convert(m, m->n > (q->own_any ? 1u : 0u));
	if (hold == HOLD_WRITE)
		return real_set(m, q->start, q->end, HOLD_WRITE);
	for (int64_t at = q->start;; at = last + 1) {
		enum hold now = ranges_at(&m->held, at, &last);

		if (last > q->end)
			last = q->end;
		r = now < hold ? real_set(m, at, last, hold) : 0;
		if (r < 0 || last == q->end)
			return r;
	}
}

/* Weaken one stretch of the mirror to what is claimed. */
static void lower_range(struct mirror *m, const struct range *r, const struct ranges *claimed)
{
	int64_t last;

	for (int64_t at = r->start;; at = last + 1) {
		enum hold want = ranges_at(claimed, at, &last);
		int err;

		if (last > r->end)
			last = r->end;
		err = want < r->hold ? real_set(m, at, last, want) : 0;
		if (err < 0)
			log_debug("a lock outside cannot be given up: %s", strerror(-err));
		if (last == r->end)
			return;
	}
}

void mirror_lower(struct mirror *m)
{
	auto_ranges struct ranges claimed = {0}, before = {0};

	for (size_t k = 0; k < m->n; k++)
		ranges_raise(&claimed, m->claims[k].start, m->claims[k].end,
			     outside(m, m->claims[k].start, m->claims[k].end, m->claims[k].hold));
	for (size_t k = 0; k < m->held.n; k++)
		ranges_set(&before, m->held.v[k].start, m->held.v[k].end, m->held.v[k].hold);
	for (size_t k = 0; k < before.n; k++)
		lower_range(m, &before.v[k], &claimed);
}

void mirror_free(struct mirror *m)
{
	struct stat st;
	bool counted = m->writable && fstat(m->fd, &st) == 0;

	close(m->fd);
	if (counted)
		own_writer_end(st.st_dev, st.st_ino);
	ranges_free(&m->held);
	free(m->claims);
	free(m);
}

/* ---- claims ---- */

void claim_add(struct mirror *m, const struct claim *c)
{
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 4;
		m->claims = xrealloc(m->claims, m->cap * sizeof(*m->claims));
	}
	m->claims[m->n++] = *c;
}

void claim_remove(struct mirror *m, size_t k)
{
	m->claims[k] = m->claims[--m->n];
}

/* The bytes from start to end leave the claim; what lies after them becomes one of its own. */
static void claim_cut(struct mirror *m, size_t k, int64_t start, int64_t end)
{
	struct claim *c = &m->claims[k], rest = *c;

	if (c->start < start && c->end > end) {
		rest.start = end + 1;
		c->end = start - 1;
		claim_add(m, &rest);
	} else if (c->start < start) {
		c->end = start - 1;
	} else if (c->end > end) {
		c->start = end + 1;
	} else {
		claim_remove(m, k);
	}
}

static bool overlaps(const struct claim *c, const struct lock_call *q)
{
	return c->start <= q->end && c->end >= q->start;
}

/* A process' locks are known by the process. */
static void forget_posix(struct mirror *m, const struct lock_call *q)
{
	for (size_t k = m->n; k-- > 0;) {
		const struct claim *c = &m->claims[k];

		if (c->kind == LOCK_POSIX && c->process == q->process && !c->tid && overlaps(c, q))
			claim_cut(m, k, q->start, q->end);
	}
}

/* Locks of open files are not. What this one holds for writing nobody else can hold; of what is shared one claim of just this
 * extent is as good as another. Anything else is left to the sweep. */
static void forget_open_file(struct mirror *m, const struct lock_call *q, const struct range *own)
{
	int64_t start = q->start > own->start ? q->start : own->start;
	int64_t end = q->end < own->end ? q->end : own->end;

	for (size_t k = m->n; start <= end && k-- > 0;) {
		const struct claim *c = &m->claims[k];

		if (c->kind != q->kind || c->tid || c->start > end || c->end < start)
			continue;
		if (own->hold == HOLD_WRITE) {
			claim_cut(m, k, start, end);
		} else if (c->start == own->start && c->end == own->end) {
			claim_cut(m, k, start, end);
			return;
		}
	}
}

void claim_forget(struct mirror *m, const struct lock_call *q, const struct ranges *own)
{
	if (q->kind == LOCK_POSIX)
		forget_posix(m, q);
	for (size_t k = 0; q->kind != LOCK_POSIX && k < own->n; k++)
		forget_open_file(m, q, &own->v[k]);
}

void claim_settle(struct mirror *m)
{
	for (size_t k = 0; k < m->n; k++) {
		struct claim *c = &m->claims[k];

		if (c->tid && target_has_left(c->tid, c->nr, c->arg0, c->arg1, &c->seen))
			c->tid = 0;
	}
}
