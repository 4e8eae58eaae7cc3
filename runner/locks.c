/* SPDX-License-Identifier: MIT */
/*
 * locks.c - the mirrors of the view's locks; see locks.h.
 *
 * A mirror stands for all locks of one file in the view, those of flock(2) and those of fcntl(2) apart. It is an
 * open file of the supervisor with a lock of the same type on the real file, and never weaker than what is held
 * in the view: it covers every lock there (a claim), and every lock that a call, let go on, may still take.
 *
 * Claims come with the calls. They go by calls that unlock, but also by close, exec and exit, of which nobody
 * tells: a thread compares them with /proc/locks as long as there are any. Reading that file waits for an RCU
 * grace period (some 7 ms), unless it was read just before: hence the steady pace while things change.
 *
 * Trouble is the mirror's alone: the call goes on, and the lock is then kept within the view only.
 */
#include "locks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "target.h"

#define MS		INT64_C(1000000)
#define SWEEP_MS	4	 /* between looks at /proc/locks … */
#define SWEEP_STEADY_MS 20	 /* … and when nothing has changed for */
#define STEADY_NS	(1000 * MS)
#define WARM_NS		(8 * MS)	 /* /proc/locks read within that time is quick to read again */
#define IDLE_NS		(200 * MS)	 /* a mirror without locks is kept open so long */
#define FRESH_NS	(20 * MS)	 /* coarser than any file system's times */
#define MAX_MIRRORS	1024
#define MAX_EXITS	64
#define MAX_VIEWS	16
#define KERNEL_RESTART	512 /* ERESTARTSYS: the kernel restarts the call or makes it EINTR, as sigaction says */

/* A lock in the view, or one about to be there. */
struct claim {
	enum lock_kind kind;
	enum hold hold;
	int64_t start, end;
	pid_t process;
	/* The thread that was let go on to take it, and the call it was in; 0: it has done so. */
	pid_t tid;
	int nr;
	uint64_t arg0, arg1, seen;
};

struct mirror {
	dev_t dev; /* of the view; with ino as the view shows it */
	ino_t ino;
	bool flock;
	bool writable;
	int fd;
	struct ranges held;
	struct claim *claims;
	size_t n, cap;
	unsigned waiters;
	int64_t used_ns;
	/* The real file when the view's idea of it was last thrown away. */
	struct stat at_refresh;
	int64_t refresh_ns;
	struct mirror *next;
};

struct request {
	pid_t tid, process;
	int fd, nr;
	uint64_t arg0, arg1;
	enum lock_kind kind;
	enum hold hold; /* HOLD_NONE: unlock */
	bool ask, wait; /* F_GETLK; F_SETLKW or flock without LOCK_NB */
	bool own_write; /* this very open file holds all of it for writing already */
	bool own_same;	/* … just so */
	bool own_any;	/* … holds something of it */
	int64_t start, end;
};

struct waiter {
	uint64_t id; /* of the notification */
	struct request req;
	struct mirror *mirror;
	int64_t since, next_try;
	unsigned signals_seen;
	struct waiter *next;
};

struct locks {
	pthread_mutex_t mutex;
	int listener, kick, proc_locks;
	struct fs *fs;
	struct mirror *mirrors;
	size_t n_mirrors;
	struct waiter *waiters; /* only the caller of locks_ask and locks_retry looks at them */
	/* Devices seen, and whether they are views. */
	struct {
		dev_t dev;
		int mnt_id;
		bool view;
	} views[MAX_VIEWS];
	size_t n_views;
	/* Processes with claims: their end is a reason to look. */
	struct {
		pid_t pid;
		int fd;
	} exits[MAX_EXITS];
	size_t n_exits;
	int64_t changed_ns, swept_ns;
	pthread_t sweeper;
	bool sweeping;
	atomic_bool stopping;
	struct buf text; /* of /proc/locks */
};

/* ---- the real lock ---- */

static int real_flock(const struct mirror *m, enum hold hold)
{
	static const int op[] = {LOCK_UN, LOCK_SH, LOCK_EX};

	return flock(m->fd, op[hold] | LOCK_NB) < 0 ? -errno : 0;
}

static struct flock as_flock(int64_t start, int64_t end, enum hold hold)
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
 * From shared to exclusive. The kernel gives up the shared lock before it tries, and does not give it back. It is
 * taken again for the others in the view that hold one. Where there are none it stays away, as natively: else
 * two who both want to convert would wait for each other.
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

/* Strengthen the mirror so that it covers the lock. *ret_new: something had not been locked at all. */
static int raise_mirror(struct mirror *m, const struct request *q, bool *ret_new)
{
	int64_t last;
	int r;

	*ret_new = !ranges_cover(&m->held, q->start, q->end, HOLD_READ);
	if (ranges_cover(&m->held, q->start, q->end, q->hold))
		return 0;
	if (m->flock && q->hold == HOLD_WRITE && !*ret_new)
		return convert(m, m->n > (q->own_any ? 1u : 0u));
	if (q->hold == HOLD_WRITE)
		return real_set(m, q->start, q->end, HOLD_WRITE);
	for (int64_t at = q->start;; at = last + 1) {
		enum hold now = ranges_at(&m->held, at, &last);

		if (last > q->end)
			last = q->end;
		r = now < q->hold ? real_set(m, at, last, q->hold) : 0;
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

/* Weaken the mirror to what is claimed; never strengthen it. */
static void lower_mirror(struct mirror *m)
{
	auto_ranges struct ranges claimed = {0}, before = {0};

	for (size_t k = 0; k < m->n; k++)
		ranges_raise(&claimed, m->claims[k].start, m->claims[k].end, m->claims[k].hold);
	for (size_t k = 0; k < m->held.n; k++)
		ranges_set(&before, m->held.v[k].start, m->held.v[k].end, m->held.v[k].hold);
	for (size_t k = 0; k < before.n; k++)
		lower_range(m, &before.v[k], &claimed);
}

/* ---- mirrors ---- */

static struct mirror *mirror_find(struct locks *l, dev_t dev, ino_t ino, bool is_flock)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		if (m->ino == ino && m->dev == dev && m->flock == is_flock)
			return m;
	return NULL;
}

static void mirror_free(struct mirror *m)
{
	close(m->fd);
	ranges_free(&m->held);
	free(m->claims);
	free(m);
}

/* NULL: the file cannot be locked outside. */
static struct mirror *mirror_make(struct locks *l, dev_t dev, const struct target_file *f,
				  const struct request *q)
{
	bool is_flock = q->kind == LOCK_FLOCK, writable = !is_flock && q->hold == HOLD_WRITE && !q->ask;
	struct mirror *m;
	int fd;

	if (l->n_mirrors >= MAX_MIRRORS) {
		log_debug("too many locks for all to be seen outside the view");
		return NULL;
	}
	fd = target_open(q->tid, q->fd, f->ino, writable ? O_RDWR : O_RDONLY);
	if (fd == -EACCES && (is_flock || writable))
		fd = target_open(q->tid, q->fd, f->ino, O_WRONLY);
	if (fd < 0) {
		log_debug("a lock is not seen outside the view: %s", strerror(-fd));
		return NULL;
	}
	m = xcalloc(1, sizeof(*m));
	*m = (struct mirror){.dev = dev, .ino = f->ino, .flock = is_flock, .writable = writable, .fd = fd,
			     .next = l->mirrors};
	l->mirrors = m;
	l->n_mirrors++;
	return m;
}

/* A lock for writing wants a descriptor for writing. Only shared locks can be held by the one there is: the new
 * one takes them as well before that goes. */
static int make_writable(struct mirror *m)
{
	struct mirror n = *m;
	char path[64];

	int r;

	if (m->flock || m->writable)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	n.fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (n.fd < 0)
		return -errno;
	n.held = (struct ranges){0};
	for (size_t k = 0; k < m->held.n; k++) {
		r = real_set(&n, m->held.v[k].start, m->held.v[k].end, HOLD_READ);
		if (r < 0) {
			close(n.fd);
			ranges_free(&n.held);
			return r == -EAGAIN ? -EIO : r; /* shared ones cannot be in each other's way */
		}
	}
	close(m->fd);
	ranges_free(&m->held);
	*m = n;
	m->writable = true;
	return 0;
}

/*
 * The file may have been changed outside while it was not locked; who has locked it must not see what the view
 * remembers of it. A file that has not changed, by times old enough to tell, is left alone.
 */
static void refresh(struct locks *l, struct mirror *m)
{
	const struct stat *was = &m->at_refresh;
	struct stat st;

	if (!l->fs || fstat(m->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	if (m->refresh_ns && st.st_size == was->st_size &&
	    memcmp(&st.st_mtim, &was->st_mtim, sizeof(st.st_mtim)) == 0 &&
	    memcmp(&st.st_ctim, &was->st_ctim, sizeof(st.st_ctim)) == 0 &&
	    (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec + FRESH_NS < m->refresh_ns)
		return;
	m->at_refresh = st;
	m->refresh_ns = now_ns();
	fs_refresh(l->fs, st.st_dev, st.st_ino);
}

/* ---- claims ---- */

static void claim_add(struct mirror *m, const struct claim *c)
{
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 4;
		m->claims = xrealloc(m->claims, m->cap * sizeof(*m->claims));
	}
	m->claims[m->n++] = *c;
}

static void claim_remove(struct mirror *m, size_t k)
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

static bool overlaps(const struct claim *c, const struct request *q)
{
	return c->start <= q->end && c->end >= q->start;
}

/* A process' locks are known by the process. */
static void forget_posix(struct mirror *m, const struct request *q)
{
	for (size_t k = m->n; k-- > 0;) {
		const struct claim *c = &m->claims[k];

		if (c->kind == LOCK_POSIX && c->process == q->process && !c->tid && overlaps(c, q))
			claim_cut(m, k, q->start, q->end);
	}
}

/* Locks of open files are not: what this one holds for writing nobody else can hold; of what is shared one claim
 * of just this extent is as good as another. Anything else is left to the sweep. */
static void forget_open_file(struct mirror *m, const struct request *q)
{
	for (size_t k = m->n; q->own_any && k-- > 0;) {
		const struct claim *c = &m->claims[k];

		if (c->kind != q->kind || c->tid || !overlaps(c, q))
			continue;
		if (q->own_write) {
			claim_cut(m, k, q->start, q->end);
		} else if (c->start == q->start && c->end == q->end) {
			claim_remove(m, k);
			return;
		}
	}
}

static void forget(struct mirror *m, const struct request *q)
{
	if (q->kind == LOCK_POSIX)
		forget_posix(m, q);
	else
		forget_open_file(m, q);
}

static void watch_exit(struct locks *l, pid_t pid)
{
	int fd;

	for (size_t k = 0; k < l->n_exits; k++)
		if (l->exits[k].pid == pid)
			return;
	if (l->n_exits == MAX_EXITS)
		return; /* it is noticed a little later */
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return;
	l->exits[l->n_exits].pid = pid;
	l->exits[l->n_exits++].fd = fd;
}

static void claim_request(struct locks *l, struct mirror *m, const struct request *q)
{
	struct claim c = {.kind = q->kind, .hold = q->hold, .start = q->start, .end = q->end,
			  .process = q->process, .tid = q->tid, .nr = q->nr, .arg0 = q->arg0,
			  .arg1 = q->arg1};
	uint64_t one = 1;

	claim_add(m, &c);
	watch_exit(l, q->process);
	if (mono_ns() - l->changed_ns > SWEEP_MS * MS)
		(void)!write(l->kick, &one, sizeof(one)); /* the sweeper may sleep for long */
	l->changed_ns = mono_ns();
}

/* The thread calls again: what it was let into before is over. */
static void settle(struct locks *l, pid_t tid)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = 0; k < m->n; k++)
			if (m->claims[k].tid == tid)
				m->claims[k].tid = 0;
}

/* ---- what is asked for ---- */

static bool read_flock_call(const struct seccomp_notif *n, struct request *q)
{
	int op = (int)n->data.args[1];

	q->kind = LOCK_FLOCK;
	q->wait = !(op & LOCK_NB);
	q->start = 0;
	q->end = INT64_MAX;
	switch (op & ~LOCK_NB) {
	case LOCK_SH:
		q->hold = HOLD_READ;
		return true;
	case LOCK_EX:
		q->hold = HOLD_WRITE;
		return true;
	case LOCK_UN:
		q->hold = HOLD_NONE;
		return true;
	}
	return false;
}

/* Where the bytes lie, as fcntl(2) counts. */
static bool place(const struct flock *f, int64_t pos, int64_t size, struct request *q)
{
	int64_t base = f->l_whence == SEEK_CUR ? pos : f->l_whence == SEEK_END ? size : 0;

	if (__builtin_add_overflow(base, (int64_t)f->l_start, &q->start))
		return false;
	if (f->l_len == 0)
		q->end = INT64_MAX;
	else if (__builtin_add_overflow(q->start, (int64_t)f->l_len - (f->l_len > 0), &q->end))
		return false;
	if (f->l_len < 0) {
		int64_t start = q->end;

		q->end = q->start - 1;
		q->start = start;
	}
	return q->start >= 0 && q->end >= q->start;
}

/* The file's size matters for SEEK_END only. */
static int64_t size_of(const struct request *q, const struct target_file *f)
{
	auto_close int fd = target_open(q->tid, q->fd, f->ino, O_RDONLY);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : -1;
}

static bool read_fcntl_call(const struct seccomp_notif *n, const struct target_file *file,
			    struct request *q)
{
	unsigned cmd = (unsigned)n->data.args[1];
	int64_t size = 0;
	struct flock f;

	q->kind = cmd == F_GETLK || cmd == F_SETLK || cmd == F_SETLKW ? LOCK_POSIX : LOCK_OFD;
	q->ask = cmd == F_GETLK || cmd == F_OFD_GETLK;
	q->wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
	if (target_read(q->tid, n->data.args[2], &f, sizeof(f)) < 0)
		return false;
	q->hold = f.l_type == F_WRLCK ? HOLD_WRITE : f.l_type == F_RDLCK ? HOLD_READ : HOLD_NONE;
	if (q->hold == HOLD_NONE && (f.l_type != F_UNLCK || q->ask))
		return false;
	if (q->kind == LOCK_OFD && f.l_pid != 0)
		return false;
	if (f.l_whence == SEEK_END)
		size = size_of(q, file);
	return size >= 0 && place(&f, file->pos, size, q);
}

/* Would the kernel take it at all? */
static bool may_lock(const struct target_file *f, const struct request *q)
{
	unsigned mode = f->flags & O_ACCMODE;

	if (f->flags & O_PATH)
		return false;
	if (q->kind == LOCK_FLOCK || q->ask || q->hold == HOLD_NONE)
		return true;
	return mode == O_RDWR || mode == (q->hold == HOLD_READ ? O_RDONLY : O_WRONLY);
}

/* False: not for us, or the kernel will say what is wrong with it. */
static bool read_call(const struct seccomp_notif *n, const struct target_file *f, struct request *q)
{
	const struct ranges *own;

	if (n->data.nr == __NR_flock ? !read_flock_call(n, q) : !read_fcntl_call(n, f, q))
		return false;
	own = &f->held[q->kind];
	q->own_write = ranges_cover(own, q->start, q->end, HOLD_WRITE);
	q->own_same = q->own_write ? q->hold == HOLD_WRITE :
				     ranges_cover(own, q->start, q->end, q->hold);
	for (size_t k = 0; k < own->n; k++)
		q->own_any |= own->v[k].start <= q->end && own->v[k].end >= q->start;
	return may_lock(f, q);
}

/* Is the file one of a view? */
static bool in_view(struct locks *l, const struct request *q, const struct target_file *f, dev_t *ret_dev)
{
	bool view;

	/* The first is our own view, whoever mounted it where. */
	if (target_device(q->tid, q->fd, ret_dev) < 0)
		return false;
	for (size_t k = 0; k < l->n_views; k++)
		if (l->views[k].dev == *ret_dev && (l->views[k].mnt_id == f->mnt_id || k == 0))
			return l->views[k].view;
	view = target_mount_is_view(q->tid, f->mnt_id);
	if (l->n_views == MAX_VIEWS)
		l->n_views = 1;
	l->views[l->n_views].dev = *ret_dev;
	l->views[l->n_views].mnt_id = f->mnt_id;
	l->views[l->n_views++].view = view;
	return view;
}

/* ---- answers ---- */

/* Try to let the call go on: 0, or -EAGAIN when somebody outside is in the way. */
static int grant(struct locks *l, struct mirror *m, const struct request *q)
{
	bool was_free = false;
	int r;

	m->used_ns = mono_ns();
	if (q->own_write && q->hold == HOLD_READ) { /* it only gives up: that cannot fail */
		forget(m, q);
		claim_request(l, m, q);
		lower_mirror(m);
		return 0;
	}
	r = q->hold == HOLD_WRITE ? make_writable(m) : 0;
	if (r == 0)
		r = raise_mirror(m, q, &was_free);
	if (r == -EAGAIN) {
		lower_mirror(m); /* of several stretches some may have been had */
		return r;
	}
	if (r < 0) {
		log_debug("a lock is not seen outside the view: %s", strerror(-r));
		return 0;
	}
	if (!q->own_same)
		claim_request(l, m, q);
	if (was_free)
		refresh(l, m);
	return 0;
}

static void unlock(struct mirror *m, struct request *q)
{
	m->used_ns = mono_ns();
	forget(m, q);
	lower_mirror(m);
}

static bool still_waits(const struct locks *l, uint64_t id)
{
	return ioctl(l->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* F_GETLK: a lock outside is told from here, one in the view by the kernel. */
static enum locks_answer tell(const struct locks *l, const struct mirror *m, const struct request *q,
			      const struct seccomp_notif *req)
{
	struct flock f = as_flock(q->start, q->end, q->hold);

	if (fcntl(m->fd, F_OFD_GETLK, &f) < 0 || f.l_type == F_UNLCK || !still_waits(l, req->id))
		return LOCKS_CONTINUE;
	if (target_write(q->tid, req->data.args[2], &f, sizeof(f)) < 0)
		return LOCKS_CONTINUE;
	return LOCKS_DONE;
}

static enum locks_answer wait_for_it(struct locks *l, struct mirror *m, const struct request *q,
				     uint64_t id)
{
	struct waiter *w = xcalloc(1, sizeof(*w)), **end = &l->waiters;

	*w = (struct waiter){.id = id, .req = *q, .mirror = m, .since = mono_ns()};
	w->next_try = w->since + MS;
	m->waiters++;
	while (*end)
		end = &(*end)->next; /* who came first is tried first */
	*end = w;
	return LOCKS_LATER;
}

static enum locks_answer ask(struct locks *l, const struct seccomp_notif *req, int *ret_error)
{
	struct request q = {.tid = (pid_t)req->pid, .fd = (int)req->data.args[0], .nr = req->data.nr,
			    .arg0 = req->data.args[0], .arg1 = req->data.args[1]};
	auto_target_file struct target_file f = {0};
	struct mirror *m;
	dev_t dev;

	settle(l, q.tid);
	if (target_file_get(q.tid, q.fd, &f) < 0 || !in_view(l, &q, &f, &dev) || !read_call(req, &f, &q))
		return LOCKS_CONTINUE;
	q.process = target_process(q.tid);
	m = mirror_find(l, dev, f.ino, q.kind == LOCK_FLOCK);
	if (q.hold == HOLD_NONE) {
		if (m)
			unlock(m, &q);
		return LOCKS_CONTINUE;
	}
	if (!m)
		m = mirror_make(l, dev, &f, &q);
	if (!m)
		return LOCKS_CONTINUE;
	if (q.ask)
		return tell(l, m, &q, req);
	if (grant(l, m, &q) == 0)
		return LOCKS_CONTINUE;
	if (q.wait)
		return wait_for_it(l, m, &q, req->id);
	*ret_error = EAGAIN; /* EWOULDBLOCK is the same */
	return LOCKS_ERROR;
}

enum locks_answer locks_ask(struct locks *l, const struct seccomp_notif *req, int *ret_error)
{
	enum locks_answer a;

	pthread_mutex_lock(&l->mutex);
	a = ask(l, req, ret_error);
	pthread_mutex_unlock(&l->mutex);
	return a;
}

/* ---- who waits ---- */

static void respond(const struct locks *l, uint64_t id, int error)
{
	struct seccomp_notif_resp r = {.id = id, .error = -error};

	if (!error)
		r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	(void)ioctl(l->listener, SECCOMP_IOCTL_NOTIF_SEND, &r); /* fails only when the caller is gone */
}

/* A signal interrupts the wait as it would the kernel's own. One that another thread may take as well must not
 * make the kernel restart a call in a thread that then has none; EINTR is right for that one too. */
static int interrupted(struct waiter *w)
{
	switch (target_signals(w->req.tid)) {
	case SIGNAL_OWN:
		return KERNEL_RESTART;
	case SIGNAL_SHARED:
		return ++w->signals_seen > 3 ? EINTR : 0;
	case SIGNAL_NONE:
		break;
	}
	return 0;
}

/* Has it been answered, or gone away? */
static bool try_again(struct locks *l, struct waiter *w, int64_t now)
{
	int64_t wait = (now - w->since) / 16;
	int error;

	if (!still_waits(l, w->id))
		return true;
	if (grant(l, w->mirror, &w->req) == 0) {
		respond(l, w->id, 0);
		return true;
	}
	error = interrupted(w);
	if (error) {
		respond(l, w->id, error);
		return true;
	}
	w->next_try = now + (wait < MS ? MS : wait > 20 * MS ? 20 * MS : wait);
	return false;
}

int locks_retry(struct locks *l)
{
	int64_t now = mono_ns(), next = INT64_MAX;

	if (!l->waiters)
		return -1;
	pthread_mutex_lock(&l->mutex);
	for (struct waiter **p = &l->waiters, *w; (w = *p);) {
		if (w->next_try <= now && try_again(l, w, now)) {
			*p = w->next;
			w->mirror->waiters--;
			free(w);
			continue;
		}
		if (w->next_try < next)
			next = w->next_try;
		p = &w->next;
	}
	pthread_mutex_unlock(&l->mutex);
	return next == INT64_MAX ? -1 : next <= now ? 0 : (int)((next - now) / MS + 1);
}

/* ---- the sweep ---- */

/* One reading of /proc/locks into l->text. The kernel gives a page at a time, and what lies at a border may be
 * missed when locks go meanwhile; so what takes several is read twice. */
static bool read_locks(struct locks *l)
{
	int pages = 0;
	ssize_t n;

	l->text.len = 0;
	for (int pass = 0; pass < 2; pass++) {
		off_t at = 0;

		do {
			buf_reserve(&l->text, 65536);
			n = pread(l->proc_locks, l->text.data + l->text.len, 65535, at);
			if (n > 0) {
				l->text.len += (size_t)n;
				at += n;
				pages++;
			}
		} while (n > 0);
		if (n < 0)
			return false;
		if (pages <= 1)
			break;
	}
	buf_u8(&l->text, 0);
	return true;
}

static size_t count_claims(const struct locks *l)
{
	size_t n = 0;

	for (const struct mirror *m = l->mirrors; m; m = m->next)
		n += m->n;
	return n;
}

/* Keep the claims of calls that are still under way; those that are through stand in /proc/locks, or are gone. */
static void drop_settled(struct locks *l)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = m->n; k-- > 0;)
			if (!m->claims[k].tid)
				claim_remove(m, k);
}

static void note_left(struct locks *l)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = 0; k < m->n; k++) {
			struct claim *c = &m->claims[k];

			if (c->tid && target_has_left(c->tid, c->nr, c->arg0, c->arg1, &c->seen))
				c->tid = 0;
		}
}

static void claim_held(struct locks *l)
{
	char *save = NULL;

	for (char *line = strtok_r((char *)l->text.data, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct lock_line h;
		struct mirror *m;

		if (!lock_line_parse(line, &h))
			continue;
		m = mirror_find(l, h.dev, h.ino, h.kind == LOCK_FLOCK);
		if (m)
			claim_add(m, &(struct claim){.kind = h.kind, .hold = h.hold, .start = h.start,
						     .end = h.end, .process = h.pid});
	}
}

static void close_idle(struct locks *l)
{
	int64_t now = mono_ns();

	for (struct mirror **p = &l->mirrors, *m; (m = *p);) {
		if (m->n || m->waiters || m->held.n || now - m->used_ns < IDLE_NS) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		l->n_mirrors--;
		mirror_free(m);
	}
}

static void sweep(struct locks *l)
{
	size_t before = count_claims(l);

	note_left(l); /* before the reading: what is through then is in it */
	if (before && read_locks(l)) {
		drop_settled(l);
		claim_held(l);
		for (struct mirror *m = l->mirrors; m; m = m->next)
			lower_mirror(m);
		l->swept_ns = mono_ns();
		if (count_claims(l) != before)
			l->changed_ns = l->swept_ns;
	}
	close_idle(l);
}

static bool claims_of(const struct locks *l, pid_t pid)
{
	for (const struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = 0; k < m->n; k++)
			if (m->claims[k].process == pid)
				return true;
	return false;
}

/* Processes that have ended, or have no lock any more. */
static void drop_exits(struct locks *l, const struct pollfd *p, size_t n)
{
	for (size_t k = l->n_exits; k-- > 0;) {
		bool ended = k < n && p[k].fd == l->exits[k].fd && p[k].revents;

		if (!ended && claims_of(l, l->exits[k].pid))
			continue;
		close(l->exits[k].fd);
		l->exits[k] = l->exits[--l->n_exits];
	}
}

static int sweep_timeout(const struct locks *l)
{
	if (count_claims(l))
		return mono_ns() - l->changed_ns < STEADY_NS ? SWEEP_MS : SWEEP_STEADY_MS;
	return l->mirrors ? (int)(IDLE_NS / MS) : -1;
}

static void *sweep_main(void *arg)
{
	struct pollfd p[1 + MAX_EXITS];
	struct locks *l = arg;
	uint64_t count;
	char byte;

	pthread_mutex_lock(&l->mutex);
	while (!atomic_load(&l->stopping)) {
		size_t n = l->n_exits;
		int timeout = sweep_timeout(l), r;
		bool cold;

		p[0] = (struct pollfd){.fd = l->kick, .events = POLLIN};
		for (size_t k = 0; k < n; k++)
			p[1 + k] = (struct pollfd){.fd = l->exits[k].fd, .events = POLLIN};
		cold = count_claims(l) && mono_ns() - l->swept_ns > WARM_NS;
		pthread_mutex_unlock(&l->mutex);
		r = poll(p, 1 + n, timeout);
		if (r > 0 && p[0].revents)
			(void)!read(l->kick, &count, sizeof(count)); /* only to be woken */
		if (cold)
			(void)!pread(l->proc_locks, &byte, 1, 0); /* nobody waits for us here */
		pthread_mutex_lock(&l->mutex);
		if (r == 1 && p[0].revents)
			continue;
		sweep(l);
		drop_exits(l, p + 1, n);
	}
	pthread_mutex_unlock(&l->mutex);
	return NULL;
}

/* ---- beginning and end ---- */

static bool start_sweeper(struct locks *l)
{
	sigset_t all, old;

	sigfillset(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	l->sweeping = pthread_create(&l->sweeper, NULL, sweep_main, l) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return l->sweeping;
}

struct locks *locks_new(int listener, pid_t command, struct fs *fs)
{
	struct locks *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->mutex, NULL);
	l->listener = listener;
	l->fs = fs;
	l->views[0].view = true;
	l->n_views = 1;
	l->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->proc_locks = open("/proc/locks", O_RDONLY | O_CLOEXEC);
	if (target_device(command, -1, &l->views[0].dev) < 0 || l->kick < 0 || l->proc_locks < 0 ||
	    !start_sweeper(l)) {
		log_debug("locks of the step are not seen outside the view: %s", strerror(errno));
		locks_free(l);
		return NULL;
	}
	return l;
}

void locks_free(struct locks *l)
{
	uint64_t one = 1;

	if (!l)
		return;
	if (l->sweeping) {
		atomic_store(&l->stopping, true);
		(void)!write(l->kick, &one, sizeof(one)); /* an eventfd at 0 takes it */
		pthread_join(l->sweeper, NULL);
	}
	for (struct waiter *w = l->waiters, *next; w; w = next) {
		next = w->next;
		free(w);
	}
	for (struct mirror *m = l->mirrors, *next; m; m = next) {
		next = m->next;
		mirror_free(m);
	}
	for (size_t k = 0; k < l->n_exits; k++)
		close(l->exits[k].fd);
	base_close(&l->kick);
	base_close(&l->proc_locks);
	buf_free(&l->text);
	pthread_mutex_destroy(&l->mutex);
	free(l);
}
