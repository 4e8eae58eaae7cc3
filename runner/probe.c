/* SPDX-License-Identifier: MIT */
/* probe.c - a thread that waits for a lock; see probe.h. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <unistd.h>

#include "mirror.h"

#define STACK_SIZE  (128u << 10)
#define WAKE_SIGNAL (SIGRTMIN + 5) /* interrupts the wait */

struct probe {
	int fd;
	struct lock_call call;
	bool (*got)(void *arg);
	void *arg;
	atomic_bool stopping;
	pthread_t thread;
};

static void on_wake(int sig)
{
	(void)sig;
}

static int wait_for_lock(const struct probe *p)
{
	const struct lock_call *q = &p->call;
	struct flock f = as_flock(q->start, q->end, q->hold);

	if (q->kind == LOCK_FLOCK)
		return flock(p->fd, q->hold == HOLD_WRITE ? LOCK_EX : LOCK_SH) < 0 ? -errno : 0;
	return fcntl(p->fd, F_OFD_SETLKW, &f) < 0 ? -errno : 0;
}

void probe_release(struct probe *p)
{
	struct flock f = as_flock(0, INT64_MAX, HOLD_NONE);

	if (p->call.kind == LOCK_FLOCK)
		(void)flock(p->fd, LOCK_UN);
	else
		(void)fcntl(p->fd, F_OFD_SETLK, &f);
}

static void *probe_main(void *arg)
{
	struct probe *p = arg;
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!atomic_load(&p->stopping)) {
		r = wait_for_lock(p);
		if (r < 0 && r != -EINTR)
			break; /* whoever started it looks for himself as well */
		if (r == 0 && p->got(p->arg))
			break;
	}
	/* Before anybody joins: what may have been had at the last moment is not to be kept. */
	probe_release(p);
	return NULL;
}

static int start_thread(struct probe *p)
{
	struct sigaction sa = {.sa_handler = on_wake};
	pthread_attr_t a;
	int r;

	(void)sigaction(WAKE_SIGNAL, &sa, NULL); /* cannot fail for a real-time signal */
	pthread_attr_init(&a);
	(void)pthread_attr_setstacksize(&a, STACK_SIZE); /* else it has a large one */
	r = pthread_create(&p->thread, &a, probe_main, p);
	pthread_attr_destroy(&a);
	return r;
}

struct probe *probe_start(int fd, const struct lock_call *q, bool (*got)(void *arg), void *arg)
{
	int mode = q->kind != LOCK_FLOCK && q->hold == HOLD_WRITE ? O_RDWR : O_RDONLY;
	struct probe *p = xcalloc(1, sizeof(*p));
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	p->fd = open(path, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	p->call = *q;
	p->got = got;
	p->arg = arg;
	if (p->fd >= 0 && start_thread(p) == 0)
		return p;
	base_close(&p->fd);
	free(p);
	return NULL;
}

bool probe_stop(struct probe *p)
{
	atomic_store(&p->stopping, true);
	/* It may be just about to wait: the signal is sent again at the next call. */
	(void)pthread_kill(p->thread, WAKE_SIGNAL);
	if (pthread_tryjoin_np(p->thread, NULL) != 0)
		return false;
	close(p->fd);
	free(p);
	return true;
}
