/* SPDX-License-Identifier: MIT */
/*
 * digester.c - digests files on another core while the step runs, each content once.
 *
 * One mutex guards the queues and every path's hash_state. A path that is being hashed belongs to the thread
 * (HASH_RUNNING); everybody else waits on the condition.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "trace.h"

#define LOOK_NS 2000000 /* the thread looks for work this often ... */
#define LOOKS	10	/* ... and sleeps after so many looks in vain */

struct queue {
	struct trace_path *head, **tail;
};

struct digester {
	struct idx *idx;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake; /* something was queued, or stop */
	pthread_cond_t done; /* a path left HASH_RUNNING, or the thread is idle */
	struct queue urgent, idle;
	bool stop, started, busy;
	bool asleep; /* the thread waits for wake, not for the next look */
};

static void queue_add(struct queue *q, struct trace_path *p)
{
	p->hash_next = NULL;
	*q->tail = p;
	q->tail = &p->hash_next;
}

static struct trace_path *queue_take(struct queue *q)
{
	struct trace_path *p = q->head;

	if (p) {
		q->head = p->hash_next;
		if (!q->head)
			q->tail = &q->head;
	}
	return p;
}

static bool same_file(const struct trace_path *p, const struct stat *st)
{
	return S_ISREG(st->st_mode) && trace_same(p, st, 0);
}

/* Read and digest p. Called without the lock; only this caller owns p's digest. */
static int digest(const struct trace_path *p, struct idx_digest *ret)
{
	auto_close int fd = -1;
	struct stat after;
	int r;

	fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = open(p->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret->hashed_at = now_ns();
	if (fstat(fd, &ret->st) < 0)
		return -errno;
	if (!same_file(p, &ret->st))
		return -ESTALE;
	if (fd_has_writer(fd))
		return -EBUSY; /* its bytes may change with no change in its times */
	r = hash_fd(fd, 0, -1, &ret->fp, NULL);
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0)
		return -errno;
	return same_file(p, &after) && after.st_ctim.tv_sec == ret->st.st_ctim.tv_sec &&
			       after.st_ctim.tv_nsec == ret->st.st_ctim.tv_nsec
		       ? 1
		       : -ESTALE;
}

/* With the lock held; p is HASH_RUNNING meanwhile. */
static void hash_one(struct digester *h, struct trace_path *p)
{
	struct stat below = stat_again(&p->st);
	struct idx_digest d;
	int r;

	p->hash_state = HASH_RUNNING;
	pthread_mutex_unlock(&h->lock);
	r = idx_below(h->idx, p->path, false, &below);
	if (r >= 0)
		r = h->idx && idx_digest_get(h->idx, &below, &d.fp) == 1 ? 0 : digest(p, &d);
	if (r > 0 && h->idx) {
		d.st.st_dev = below.st_dev;
		d.st.st_ino = below.st_ino;
		idx_digest_add(h->idx, &d);
	}
	pthread_mutex_lock(&h->lock);
	if (r >= 0)
		p->fp = d.fp;
	p->hash_state = r >= 0 ? HASH_DONE : HASH_FAILED;
	pthread_cond_broadcast(&h->done);
}

/*
 * Nothing to do: look again in a moment, and only after a while of nothing sleep until woken. Waking a sleeping
 * processor costs the server as much as a request; so it hardly ever has to.
 */
static void wait_for_work(struct digester *h, unsigned *idle_looks)
{
	struct timespec t;

	if (++*idle_looks > LOOKS) {
		h->asleep = true;
		pthread_cond_wait(&h->wake, &h->lock);
		h->asleep = false;
		*idle_looks = 0;
		return;
	}
	/* Not the clock that can be set: a digester that sleeps for an hour is asked for nothing. */
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += LOOK_NS;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	(void)pthread_cond_clockwait(&h->wake, &h->lock, CLOCK_MONOTONIC,
				     &t); /* what is there is seen by the caller */
}

static void *run(void *arg)
{
	struct digester *h = arg;
	unsigned idle_looks = 0;
	struct trace_path *p;

	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		p = queue_take(&h->urgent);
		if (!p)
			p = queue_take(&h->idle);
		if (!p) {
			h->busy = false;
			pthread_cond_broadcast(&h->done);
			wait_for_work(h, &idle_looks);
			continue;
		}
		idle_looks = 0;
		h->busy = true;
		if (p->hash_state == HASH_QUEUED)
			hash_one(h, p);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

struct digester *digester_new(struct idx *idx)
{
	struct digester *h = xcalloc(1, sizeof(*h));
	sigset_t all, old;
	int r;

	h->idx = idx;
	h->urgent.tail = &h->urgent.head;
	h->idle.tail = &h->idle.head;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	pthread_cond_init(&h->done, NULL);
	signals_all(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&h->thread, NULL, run, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(h);
		errno = r;
		return NULL;
	}
	h->started = true;
	return h;
}

void digester_add(struct digester *h, struct trace_path *p, bool urgent)
{
	pthread_mutex_lock(&h->lock);
	/* One that waits in the idle queue is simply left there: it will be done all the same. */
	if (p->hash_state == HASH_NONE) {
		p->hash_state = HASH_QUEUED;
		queue_add(urgent ? &h->urgent : &h->idle, p);
		if (h->asleep)
			pthread_cond_signal(&h->wake);
	}
	pthread_mutex_unlock(&h->lock);
}

void digester_finish(struct digester *h, struct trace_path *p)
{
	pthread_mutex_lock(&h->lock);
	if (p->hash_state == HASH_NONE || p->hash_state == HASH_QUEUED)
		hash_one(h, p); /* the thread passes over what is no longer HASH_QUEUED */
	while (p->hash_state == HASH_RUNNING)
		pthread_cond_wait(&h->done, &h->lock);
	pthread_mutex_unlock(&h->lock);
}

void digester_drain(struct digester *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->busy || h->urgent.head || h->idle.head) {
		struct trace_path *p = queue_take(&h->urgent);

		if (!p)
			p = queue_take(&h->idle);
		if (p && p->hash_state == HASH_QUEUED)
			hash_one(h,
				 p); /* two hash at once: the step is over, both cores are free */
		else if (!p)
			pthread_cond_wait(&h->done, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

void digester_free(struct digester *h)
{
	if (!h)
		return;
	if (h->started) {
		pthread_mutex_lock(&h->lock);
		h->stop = true;
		pthread_cond_signal(&h->wake);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
	}
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->wake);
	pthread_cond_destroy(&h->done);
	free(h);
}
