/* SPDX-License-Identifier: MIT */
/*
 * await.c - how the server of a view waits for the next request: for a moment awake, then asleep.
 *
 * A request is a hand-over: who asks sleeps until it is answered, and mostly asks again soon. When both go to sleep each
 * time, each is woken on a processor that has gone idle meanwhile, which takes two interrupts a request, and in a virtual
 * machine two exits to its host: 70 us for the stat of an absent name, 20 us when the server stays awake, 13 us when both
 * are held to one processor (measured on 2 cores; the scheduler does not hold them there by itself, nor can mlfs hold
 * the step, which would see it).
 *
 * Where this process may, as root, it asks the kernel instead to keep idle processors awake as long as requests come quickly
 * (cpu_dma_latency; "PM Quality of Service" in the kernel's documentation): waking either of the two costs little then, and nobody is
 * kept from a processor. It takes power: so only for moments, where there are few processors, and in virtual
 * machines whose processors can wait so (haltpoll). The kernel forgets it with the descriptor, however this process ends.
 *
 * Else being awake takes a processor. So it is done only while requests have been coming quickly, and while a processor is
 * idle (the fourth figure of /proc/loadavg: how many threads can run now) that the quota of the control group allows.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AWAKE_NS  100000 /* so long at most */
#define WAKING_NS 50000	 /* what it takes to wake this thread, about */
#define ALL_QUICK 64	 /* the score when every request came within AWAKE_NS */
#define PAYS	  16	 /* the score from which on it pays */
#define LOOK	  8	 /* times of being awake between looks for an idle processor */

#define LATENCY	     "/dev/cpu_dma_latency"
#define IDLE_DRIVER  "/sys/devices/system/cpu/cpuidle/current_driver"
#define LATENCY_CPUS 8 /* with more of them awake it costs more than one step's time is worth */
#define LATENCY_NS   5000000 /* it is asked for so long after the latest quick request */

int await_init(struct await *a, int fd, int abort_signal, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);

	*a = (struct await){
		.loadavg = -1, .latency = -1, .score = ALL_QUICK}; /* a step begins with many */
	(void)pthread_sigmask(SIG_BLOCK, NULL, &a->mask);
	(void)sigdelset(&a->mask, abort_signal);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(e, errno, "cannot set up the mount's descriptor");
	return 0;
}

void await_done(struct await *a)
{
	base_close(&a->loadavg);
	base_close(&a->latency);
}

static bool is_room(struct await *a)
{
	unsigned n;

	if (!a->cpus) {
		a->cpus = cpus_allowed();
		a->loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	}
	if (a->looked++ % LOOK == 0) {
		n = cpus_running(a->loadavg);
		a->room = n && n <= a->cpus;
	}
	return a->room;
}

/* ---- how deeply idle processors sleep ---- */

/* Guests that can wait for their host without leaving it, and few of them. */
static bool latency_pays(void)
{
	auto_free char *driver = NULL;
	struct err e = {0};
	size_t n;

	return sysconf(_SC_NPROCESSORS_ONLN) <= LATENCY_CPUS &&
	       read_file(IDLE_DRIVER, &driver, &n, &e) == 0 &&
	       strncmp(driver, "haltpoll", strlen("haltpoll")) == 0;
}

/* Are they to stay awake from now on? */
static bool hold_latency(struct await *a)
{
	static const int32_t none = 0; /* us */

	if (a->latency >= 0 || a->no_latency)
		return a->latency >= 0;
	if (!a->latency_known) {
		a->latency_known = true;
		a->no_latency = !latency_pays();
	}
	a->latency = a->no_latency ? -1 : open(LATENCY, O_WRONLY | O_CLOEXEC);
	/* Only root may, as a rule. */
	a->no_latency = a->latency < 0 || write(a->latency, &none, sizeof(none)) != sizeof(none);
	if (a->no_latency)
		base_close(&a->latency);
	return !a->no_latency;
}

/* ---- waiting ---- */

/* -EAGAIN: nothing came. */
static int awake(struct fuse_session *se, struct fuse_buf *b, int64_t begun)
{
	int r;

	do
		r = fuse_session_receive_buf(se, b);
	while (r == -EAGAIN && mono_ns() - begun < AWAKE_NS);
	return r;
}

static int asleep(struct await *a, struct fuse_session *se, struct fuse_buf *b)
{
	static const struct timespec latency = {.tv_nsec = LATENCY_NS};
	struct pollfd p = {.fd = fuse_session_fd(se), .events = POLLIN};
	int n = ppoll(&p, 1, a->latency >= 0 ? &latency : NULL, &a->mask);

	if (n == 0) {
		base_close(&a->latency);
		n = ppoll(&p, 1, NULL, &a->mask);
	}
	return n < 0 ? -errno : fuse_session_receive_buf(se, b);
}

int await_request(struct await *a, struct fuse_session *se, struct fuse_buf *b)
{
	int r = fuse_session_receive_buf(se, b);
	int64_t begun, limit = AWAKE_NS;

	if (r != -EAGAIN)
		return r;
	begun = mono_ns();
	if (a->score < PAYS)
		base_close(&a->latency);
	else if (!hold_latency(a) && is_room(a))
		r = awake(se, b, begun);
	if (r == -EAGAIN) {
		r = asleep(a, se, b);
		limit += WAKING_NS;
	}
	a->score += ((mono_ns() - begun < limit ? ALL_QUICK : 0) - a->score) / 8;
	return r;
}
