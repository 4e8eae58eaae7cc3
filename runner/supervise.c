/* SPDX-License-Identifier: MIT */
/*
 * supervise.c - the front's side of a recorded run: it stands for the command towards whoever started it.
 *
 * It stays in the caller's process group, passes on signals that were sent to it alone (those of the terminal
 * reach the command by themselves), stops when the command stops, and exits as it exits.
 */
#include "supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descendants.h"
#include "view.h"

struct front {
	int control, signals;
	pid_t supervisor, command;
	bool promised; /* `out` is what will be said, but for the storing */
};

static void pass_on(const struct front *f, const struct signalfd_siginfo *si)
{
	int sig = (int)si->ssi_signo;
	/* A terminal that goes away tells the leader of its session alone. */
	bool from_terminal = si->ssi_code == SI_KERNEL && !(sig == SIGHUP && getsid(0) == getpid());
	struct err e = {0};

	if (sig == SIGCHLD)
		return;
	if (sig == SIGWINCH)
		(void)!message_send(f->control, 'W', NULL, -1, &e); /* too late is no harm */
	if (f->command > 0 && (!from_terminal || sig == SIGCONT))
		(void)kill(f->command, sig);
}

/* The command was stopped: stop as well, so that the shell sees it; when continued, continue it. */
static void stop_too(const struct front *f)
{
	(void)raise(SIGSTOP);
	if (f->command > 0)
		(void)kill(f->command, SIGCONT);
}

/* 1: the outcome is there. 0: go on. -ECONNRESET: the supervisor is gone. */
static int handle_message(struct front *f, struct outcome *ret)
{
	char buf[sizeof(struct outcome) + 1];
	ssize_t n = recv(f->control, buf, sizeof(buf), 0);

	if (n <= 0)
		return n < 0 && errno == EINTR ? 0 : -ECONNRESET;
	switch (buf[0]) {
	case 'P':
		memcpy(&f->command, buf + 1, sizeof(f->command));
		return 0;
	case 'T':
		stop_too(f);
		return 0;
	case 'E':
		memcpy(ret, buf + 1, sizeof(*ret));
		f->promised = true;
		return 0;
	case 'D':
		memcpy(ret, buf + 1, sizeof(*ret));
		return 1;
	default:
		return 0;
	}
}

static int wait_outcome(struct front *f, struct outcome *ret)
{
	struct pollfd p[2] = {{.fd = f->control, .events = POLLIN},
			      {.fd = f->signals, .events = POLLIN}};
	struct signalfd_siginfo si;
	int r = 0;

	while (r == 0) {
		/* Signals wait until there is a command to pass them to. */
		p[1].fd = f->command > 0 ? f->signals : -1;
		if (poll(p, 2, -1) < 0)
			continue;
		if ((p[1].revents & POLLIN) && read(f->signals, &si, sizeof(si)) == sizeof(si))
			pass_on(f, &si);
		if (p[0].revents)
			r = handle_message(f, ret);
	}
	return r;
}

static int wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* The supervisor is gone: its orphans came to us. Once the command had ended nothing is lost but the result. */
static int after_death(const struct front *f, const char *cache, struct outcome *ret, struct err *e)
{
	int status = wait_for(f->supervisor); /* before the others are, whoever they are */

	kill_descendants();
	if (!f->promised) {
		memset(ret, 0, sizeof(*ret));
		return err_text(e, ECHILD,
				"the supervisor was killed; what the command had written stays");
	}
	ret->stored = false;
	ret->cache_trouble = true;
	/* Damage in the index ends who writes to it (idx_open_for_job). */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		snprintf(ret->reason, sizeof(ret->reason),
			 "the supervisor was killed while it stored the result");
		return 0;
	}
	idx_distrust(cache);
	snprintf(ret->reason, sizeof(ret->reason),
		 "the index of %s seems to be damaged; run `mlfs fsck --repair`", cache);
	return 0;
}

int supervise(const struct supervised *s, struct outcome *ret, struct err *e)
{
	struct front f = {.control = -1, .signals = -1};
	auto_close int signals = -1, control = -1;
	sigset_t all;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, errno, "cannot make a socket pair");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		log_debug("cannot become subreaper: %s", strerror(errno));
	f.supervisor = fork();
	if (f.supervisor < 0) {
		r = err_set(e, errno, "cannot fork");
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (f.supervisor == 0) {
		close(pair[0]);
		supervisor_main(s, pair[1]);
	}
	close(pair[1]);
	control = f.control = pair[0];
	signals = f.signals = signalfd(-1, &all, SFD_CLOEXEC);
	r = wait_outcome(&f, ret);
	if (r < 0)
		return after_death(&f, s->cache_dir, ret, e);
	if (!ret->left_running)
		(void)wait_for(f.supervisor);
	return 0;
}
