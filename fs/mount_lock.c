/* SPDX-License-Identifier: MIT */
/*
 * mount_lock.c - locks taken in a persistent mount are locks of the files themselves: those who use the tree past the mount see them, and
 * the other way round.
 *
 * flock(2) belongs to an open file, and each has a descriptor of its own here. fcntl(2) locks belong to processes, which to the file
 * systems below are all this one; so each owner gets a descriptor of its own for each file, and a lock of that open file description
 * (F_OFD_SETLK) instead. They go when the owner closes any descriptor of the file: the kernel says so by FLUSH, or, where it is told
 * not to, by RELEASE.
 *
 * Who waits for a lock waits in a thread of his own, and can be interrupted.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "mount_file.h"

#define BUCKETS	    256
#define WAITERS_MAX 1000
#define WAKE_SIGNAL (SIGRTMIN + 1)

/* The locks of one owner on one file. */
struct owned {
	struct owned *next;
	const struct node *node;
	uint64_t owner;
	int fd;
	unsigned used; /* by requests in hand */
	bool gone;     /* out of the table */
};
struct locker {
	pthread_mutex_t lock;
	struct owned *table[BUCKETS];
	_Atomic size_t n;
	unsigned waiters;
};

struct locker *locker_new(void)
{
	struct locker *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->lock, NULL);
	return l;
}

void locker_free(struct locker *l)
{
	for (size_t k = 0; l && k < BUCKETS; k++)
		for (struct owned *o = l->table[k], *next; o; o = next) {
			next = o->next;
			close(o->fd);
			free(o);
		}
	free(l);
}

/* ---- owners; all but the last two under the lock ---- */

static struct owned **place_of(struct locker *l, const struct node *n, uint64_t owner)
{
	uint64_t h = ((uintptr_t)n ^ owner) * 0x9e3779b97f4a7c15u;
	struct owned **p = &l->table[h >> 56];

	while (*p && ((*p)->node != n || (*p)->owner != owner))
		p = &(*p)->next;
	return p;
}

static void put(struct owned *o)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (o->used || !o->gone)
		return;
	(void)fcntl(o->fd, F_OFD_SETLK, &all); /* it may be a copy of one that stays open */
	close(o->fd);
	free(o);
}

/* As both kinds of lock want it, or as the caller has it open. A file whose mode forbids its owner to open it again: the caller's own,
 * which all who inherited it share. */
static int open_again(const struct open_file *f, int access)
{
	const int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(proc_path(f->fd).s, O_RDWR | flags);

	if (fd < 0)
		fd = open(proc_path(f->fd).s, access | flags);
	if (fd < 0 && errno == EACCES)
		fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int holder_get(struct locker *l, struct node *n, struct open_file *f,
		      const struct fuse_file_info *fi, bool make, struct owned **ret)
{
	struct owned **p, *o;
	int fd;

	pthread_mutex_lock(&l->lock);
	p = place_of(l, n, fi->lock_owner);
	o = *p;
	if (!o && make) {
		fd = open_again(f, fcntl(f->fd, F_GETFL) & O_ACCMODE);
		if (fd < 0) {
			pthread_mutex_unlock(&l->lock);
			return fd;
		}
		o = *p = xcalloc(1, sizeof(*o));
		*o = (struct owned){.node = n, .owner = fi->lock_owner, .fd = fd};
		l->n++;
	}
	if (o) {
		o->used++;
		f->lock_owner = fi->lock_owner;
		f->locked = true;
	}
	pthread_mutex_unlock(&l->lock);
	*ret = o;
	return 0;
}

static void holder_put(struct locker *l, struct owned *o)
{
	pthread_mutex_lock(&l->lock);
	o->used--;
	put(o);
	pthread_mutex_unlock(&l->lock);
}

void locks_drop(struct fs_mount *m, const struct node *n, uint64_t owner)
{
	struct locker *l = m->locker;
	struct owned **p, *o;

	if (!l->n)
		return;
	pthread_mutex_lock(&l->lock);
	p = place_of(l, n, owner);
	o = *p;
	if (o) {
		*p = o->next;
		l->n--;
		o->gone = true;
		/* One that waits gets its lock on an open file that is about to be closed. */
		put(o);
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- waiting ---- */

struct waiter {
	struct fs_mount *m;
	fuse_req_t req;
	int fd;
	struct owned *owned; /* NULL: flock */
	struct flock lock;
	int op; /* of flock(2) */
	pthread_t self, waker;
	bool has_waker;
	_Atomic bool interrupted, ended;
};

static int try_lock(int fd, struct waiter *w, bool wait)
{
	int r;

	if (w->owned)
		r = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &w->lock);
	else
		r = flock(fd, wait ? w->op & ~LOCK_NB : w->op | LOCK_NB);
	return r < 0 ? -errno : 0;
}

/* The signal may come before the waiter waits: so it is sent until it has been heard. */
static void *wake(void *arg)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	struct waiter *w = arg;

	while (!atomic_load(&w->ended)) {
		(void)pthread_kill(w->self, WAKE_SIGNAL); /* it lives: it joins this thread */
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct waiter *w = arg;

	(void)req;
	if (atomic_exchange(&w->interrupted, true))
		return;
	w->has_waker = pthread_create(&w->waker, NULL, wake, w) == 0;
}

static void on_wake(int sig)
{
	(void)sig;
}

static void hear_wake(void)
{
	struct sigaction sa = {.sa_handler = on_wake}; /* no SA_RESTART */
	sigset_t set;

	(void)sigaction(WAKE_SIGNAL, &sa, NULL); /* cannot fail for a real-time signal */
	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void waiter_done(struct waiter *w, int r)
{
	struct locker *l = w->m->locker;

	if (w->owned)
		holder_put(l, w->owned);
	pthread_mutex_lock(&l->lock);
	l->waiters--;
	pthread_mutex_unlock(&l->lock);
	fuse_reply_err(w->req, -r);
	free(w);
}

static void *wait_for(void *arg)
{
	struct waiter *w = arg;
	int r;

	hear_wake();
	w->self = pthread_self();
	fuse_req_interrupt_func(w->req, on_interrupt, w);
	do
		r = try_lock(w->fd, w, true);
	while (r == -EINTR && !atomic_load(&w->interrupted));
	fuse_req_interrupt_func(w->req, NULL, NULL); /* after this on_interrupt is not called */
	atomic_store(&w->ended, true);
	if (w->has_waker)
		(void)pthread_join(w->waker, NULL);
	waiter_done(w, r);
	return NULL;
}

/* Answers it. */
static void lock_or_wait(fuse_req_t req, const struct waiter *what, bool wait)
{
	struct locker *l = what->m->locker;
	struct waiter *w = xcalloc(1, sizeof(*w));
	pthread_attr_t a;
	pthread_t t;
	int r;

	*w = *what;
	w->req = req;
	r = try_lock(w->fd, w, false);
	pthread_mutex_lock(&l->lock);
	l->waiters++;
	wait &= l->waiters <= WAITERS_MAX;
	pthread_mutex_unlock(&l->lock);
	if (r != -EAGAIN || !wait) {
		waiter_done(w, r);
		return;
	}
	pthread_attr_init(&a);
	(void)pthread_attr_setstacksize(&a, 64 << 10);
	(void)pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &a, wait_for, w) != 0)
		waiter_done(w, -ENOLCK);
	pthread_attr_destroy(&a);
}

/* ---- the handlers ---- */

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct waiter w = {.m = mount_of(req), .fd = open_file(fi)->fd, .op = op};

	(void)ino;
	lock_or_wait(req, &w, !(op & LOCK_NB) && (op & ~LOCK_NB) != LOCK_UN);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
		     int sleep)
{
	struct fs_mount *m = mount_of(req);
	struct waiter w = {.m = m, .lock = *lock};
	int r = holder_get(m->locker, node_of(m, ino), open_file(fi), fi, lock->l_type != F_UNLCK,
			   &w.owned);

	if (r < 0 || !w.owned) {
		fuse_reply_err(req, -r);
		return;
	}
	atomic_store(&node_of(m, ino)->locked, true);
	w.fd = w.owned->fd;
	w.lock.l_pid = 0;
	lock_or_wait(req, &w, sleep);
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct fs_mount *m = mount_of(req);
	struct owned *o;
	int r = holder_get(m->locker, node_of(m, ino), open_file(fi), fi, true, &o);

	if (r == 0) {
		lock->l_pid = 0;
		r = fcntl(o->fd, F_OFD_GETLK, lock) < 0 ? -errno : 0;
		holder_put(m->locker, o);
	}
	if (lock->l_pid < 0) /* of an open file description: nobody's */
		lock->l_pid = 0;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_lock(req, lock);
}

void mount_lock_ops(struct fuse_lowlevel_ops *o)
{
	o->flock = op_flock;
	o->setlk = op_setlk;
	o->getlk = op_getlk;
}
