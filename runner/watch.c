/* SPDX-License-Identifier: MIT */
/*
 * watch.c - some calls of the step are seen before they happen. A seccomp filter in the step (filter.c, from the
 * list in call.c) hands them to the supervisor, where a thread decides about each (seccomp_unotify(2)): those that
 * use sockets are for net.c, other shared memory and queues for ipc.c, those that lock files for locks.c, those that mount
 * for mounts.c.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runner.h"
#include "ipc.h"
#include "job_control.h"
#include "locks.h"
#include "mounts.h"
#include "net.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#endif

struct watch {
	int listener;
	int stop; /* eventfd */
	pthread_t thread;
	bool running;
	struct locks *locks; /* NULL: not to be had */
	struct net *net;
	struct ipc *ipc;
	struct mounts *mounts;
	struct front fronts[2];
	size_t n_fronts;
	struct seccomp_notif *req;
	struct seccomp_notif_resp *resp;
	size_t req_size, resp_size;
};

/* What becomes of a call about a lock. False: that is told later. */
static bool lock_call(struct watch *w)
{
	int error = 0;

	switch (w->locks ? locks_ask(w->locks, w->req, &error) : LOCKS_CONTINUE) {
	case LOCKS_CONTINUE:
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	case LOCKS_ERROR:
		w->resp->error = -error;
		return true;
	case LOCKS_DONE:
		return true;
	case LOCKS_LATER:
		break;
	}
	return false;
}

/* The same of a call that uses a socket. */
static bool net_call(struct watch *w, const struct call *c)
{
	int error = 0;

	switch (net_ask(w->net, w->req, c, &error)) {
	case NET_CONTINUE:
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	case NET_ERROR:
		w->resp->error = -error;
		return true;
	case NET_DONE:
		return true;
	case NET_ANSWERED:
		break;
	}
	return false;
}

/* The same of one about a terminal's process group. */
static bool job_control_call(struct watch *w, const struct call *c)
{
	int error = 0;

	if (job_control_ask(w->fronts, w->n_fronts, c, &error))
		w->resp->error = -error;
	else
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	return true;
}

static bool still_waits(void *arg)
{
	struct watch *w = arg;

	return ioctl(w->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &w->req->id) == 0;
}

/* False: it is answered already, or later. */
static bool decide_call(struct watch *w)
{
	struct call c;
	int r = call_decode(w->req, &c);

	if (r < 0) {
		/* With a bad address or number it fails; else it is not known what it is. */
		if (r != -EFAULT && r != -EINVAL && r != -ESRCH)
			net_blind(w->net, w->req);
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	}
	switch (c.kind) {
	case CALL_LOCK:
		return lock_call(w);
	case CALL_SHMGET:
	case CALL_SHMAT:
	case CALL_SEMGET:
	case CALL_MSGGET:
	case CALL_MQ_OPEN:
		ipc_ask(w->ipc, &c);
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	case CALL_JOB_CONTROL:
		return job_control_call(w, &c);
	case CALL_MOUNT:
	case CALL_MOUNT_CHANGE:
	case CALL_FSOPEN:
	case CALL_HANDLE:
		mounts_ask(w->mounts, &c, still_waits, w);
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	case CALL_SETNS:
		mounts_ask(w->mounts, &c, still_waits, w);
		return net_call(w, &c);
	default:
		return net_call(w, &c);
	}
}

static void answer(struct watch *w)
{
	memset(w->req, 0, w->req_size);
	if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_RECV, w->req) < 0)
		return; /* ENOENT: killed meanwhile; EINTR: poll says so again */
	memset(w->resp, 0, w->resp_size);
	w->resp->id = w->req->id;
	/* Fails only when the caller is gone. */
	if (decide_call(w))
		(void)ioctl(w->listener, SECCOMP_IOCTL_NOTIF_SEND, w->resp);
}

/* Milliseconds until somebody who waits is to be looked at again, -1: nobody does. */
static int retry(struct watch *w)
{
	int a = w->locks ? locks_retry(w->locks) : -1, b = net_retry(w->net);

	return a < 0 ? b : b < 0 || a < b ? a : b;
}

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	struct pollfd p[2] = {
		{.fd = w->listener, .events = POLLIN},
		{.fd = w->stop, .events = POLLIN},
	};

	for (;;) {
		if (poll(p, 2, retry(w)) < 0)
			continue; /* EINTR; nothing else can be */
		if (p[0].revents & POLLIN)
			answer(w);
		else if (p[0].revents) /* POLLHUP: no process has the filter any more */
			return NULL;
		if (p[1].revents)
			return NULL;
	}
}

/* The kernel may know longer structs than the headers did. */
static int buffers_alloc(struct watch *w, struct err *e)
{
	struct seccomp_notif_sizes sizes = {0};

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
		return err_set(e, errno, "cannot watch the step's network use");
	w->req_size = sizes.seccomp_notif > sizeof(*w->req) ? sizes.seccomp_notif : sizeof(*w->req);
	w->resp_size = sizes.seccomp_notif_resp > sizeof(*w->resp) ? sizes.seccomp_notif_resp
								   : sizeof(*w->resp);
	w->req = xcalloc(1, w->req_size);
	w->resp = xcalloc(1, w->resp_size);
	return 0;
}

int watch_start(int listener_fd, pid_t command, unsigned long view, struct fs *fs,
		const struct console *console, bool network, struct watch **ret, struct err *e)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	sigset_t all, old;
	int r;

	w->listener = w->stop = -1;
	r = buffers_alloc(w, e);
	if (r < 0)
		goto fail;
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->stop < 0) {
		r = err_set(e, errno, "cannot watch the step's network use");
		goto fail;
	}
	w->listener = listener_fd;
	/* Who calls and who answers take turns: both are quicker on one processor. */
	(void)ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	if (fs)
		w->locks = locks_new(listener_fd, command, fs);
	w->net = net_new(listener_fd, command, !network);
	w->ipc = ipc_new();
	w->mounts = mounts_new(command, view);
	w->n_fronts = console ? console_fronts(console, w->fronts) : 0;
	/* Signals are the main thread's. */
	signals_all(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&w->thread, NULL, watch_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		w->listener = -1; /* still the caller's */
		err_set(e, r, "cannot start a thread");
		goto fail;
	}
	w->running = true;
	*ret = w;
	return 0;
fail:
	watch_free(w);
	return r;
}

static void stop(struct watch *w)
{
	uint64_t one = 1;

	if (!w->running)
		return;
	(void)!write(w->stop, &one, sizeof(one)); /* an eventfd at 0 takes it */
	pthread_join(w->thread, NULL);
	w->running = false;
}

const char *watch_spoiled(struct watch *w)
{
	const char *why;

	stop(w);
	why = net_spoiled(w->net);
	return why ? why : ipc_spoiled(w->ipc);
}

const char *watch_mounts(struct watch *w)
{
	return mounts_spoiled(w->mounts);
}

const char *watch_touched(struct watch *w)
{
	const char *why = net_touched(w->net);

	return why ? why : ipc_touched(w->ipc);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	stop(w);
	locks_free(w->locks);
	net_free(w->net);
	ipc_free(w->ipc);
	mounts_free(w->mounts);
	base_close(&w->listener);
	base_close(&w->stop);
	free(w->req);
	free(w->resp);
	free(w);
}
