/* SPDX-License-Identifier: MIT */
/* follow.c - see follow.h. */
#include "inode.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "follow.h"

#define FILES	 8u	    /* followed at once, at most */
#define STEP	 (1u << 20) /* bytes that the thread is given at a time */
#define NICENESS 5	    /* the step comes first */

enum state {
	FREE,
	LIVE,
	DEAD, /* to be given up by the thread */
};

struct followed {
	enum state state;
	const struct inode *inode; /* LIVE, and the server runs */
	dev_t dev;
	ino_t ino;
	struct early *copy;
	uint64_t upto;	/* so much was written */
	uint64_t given; /* so much the thread has, or is about to read */
};

struct follower {
	struct idx *idx;
	pthread_mutex_t
		lock; /* of all that follows but `started` and `thread`, which are the server's thread's */
	pthread_cond_t more;
	struct followed v[FILES];
	bool started, asleep, stop;
	bool useless; /* blocks are shared here, or there is no room: no more of it */
	pthread_t thread;
};

/* The next piece of work, or NULL. */
static struct followed *next(struct follower *f)
{
	for (unsigned k = 0; k < FILES; k++) {
		struct followed *w = &f->v[k];

		if (w->state == DEAD || (w->state == LIVE && w->upto >= w->given + STEP))
			return w;
	}
	return NULL;
}

/* With the lock held, which is let go meanwhile. */
static void work_on(struct follower *f, struct followed *w)
{
	uint64_t upto, written;
	int r;

	if (w->state == DEAD) {
		early_free(take(w->copy));
		w->state = FREE;
		return;
	}
	w->given += STEP;
	upto = w->given;
	written = w->upto;
	pthread_mutex_unlock(&f->lock);
	r = early_take_in(w->copy, upto, written);
	pthread_mutex_lock(&f->lock);
	if (r < 0)
		w->state = DEAD;
	f->useless |= r < 0;
}

static void *run(void *arg)
{
	struct follower *f = arg;

	/* Linux has it for each thread. Without it, the step has to share. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		struct followed *w = next(f);

		if (w) {
			work_on(f, w);
			continue;
		}
		f->asleep = true;
		pthread_cond_wait(&f->more, &f->lock);
		f->asleep = false;
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

struct follower *follower_new(struct idx *idx)
{
	struct follower *f = xcalloc(1, sizeof(*f));

	f->idx = idx;
	pthread_mutex_init(&f->lock, NULL); /* neither can fail on Linux */
	pthread_cond_init(&f->more, NULL);
	return f;
}

static bool start(struct follower *f)
{
	sigset_t all, old;

	if (f->started)
		return true;
	signals_all(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	f->started = pthread_create(&f->thread, NULL, run, f) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return f->started;
}

static void stop(struct follower *f)
{
	if (!f->started)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	f->started = false;
}

void follower_free(struct follower *f)
{
	if (!f)
		return;
	stop(f);
	for (unsigned k = 0; k < FILES; k++)
		early_free(f->v[k].copy);
	pthread_cond_destroy(&f->more);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static struct followed *find(struct follower *f, const struct inode *i)
{
	for (unsigned k = 0; k < FILES; k++)
		if (f->v[k].state == LIVE && f->v[k].inode == i)
			return &f->v[k];
	return NULL;
}

static void wake(struct follower *f)
{
	if (f->asleep)
		pthread_cond_signal(&f->more);
}

static void begin(struct follower *f, const struct inode *i, int fd)
{
	struct followed *w = f->v;
	struct early *copy;
	struct err e = {0};
	int r;

	while (w < f->v + FILES && w->state != FREE)
		w++;
	if (f->useless || w == f->v + FILES)
		return;
	r = start(f) ? early_begin(f->idx, fd, &copy, &e) : -EAGAIN;
	if (r < 0) {
		log_debug("files are stored at the end only: %s", e.msg);
		f->useless = true;
		return;
	}
	*w = (struct followed){LIVE, i, i->dev, i->ino, copy, i->written, 0};
}

void follow_written(struct follower *f, const struct inode *i, int fd)
{
	struct followed *w;

	if (!f->idx)
		return;
	pthread_mutex_lock(&f->lock);
	w = find(f, i);
	if (w)
		w->upto = i->written;
	else
		begin(f, i, fd);
	wake(f);
	pthread_mutex_unlock(&f->lock);
}

bool follow_rewritten(struct follower *f, const struct inode *i, uint64_t off)
{
	struct followed *w;
	bool over = false;

	pthread_mutex_lock(&f->lock);
	w = find(f, i);
	if (w && off < w->given) {
		w->state = DEAD;
		over = true;
		wake(f);
	} else if (w && off < w->upto) {
		w->upto = off; /* until it has been written */
	}
	pthread_mutex_unlock(&f->lock);
	return over;
}

int follow_finish(struct follower *f, const struct stat *st, struct oid *ret_oid, struct fp *ret_fp,
		  uint64_t *ret_size)
{
	struct followed *w = f->v;
	struct err e = {0};
	int r;

	stop(f);
	while (w < f->v + FILES &&
	       (w->state != LIVE || w->dev != st->st_dev || w->ino != st->st_ino))
		w++;
	if (w == f->v + FILES)
		return 0;
	r = w->given <= (uint64_t)st->st_size ? early_finish(w->copy, ret_oid, ret_fp, ret_size, &e)
					      : -ESTALE;
	early_free(take(w->copy));
	w->state = FREE;
	if (r < 0)
		log_debug("what was stored early is of no use: %s", e.msg);
	return r == 0;
}
