/* SPDX-License-Identifier: MIT */
/* trap.c - faults of reading a mapped file; see trap.h. */
#include "trap.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

struct trap {
	sigjmp_buf from;
	struct trap *outer;
};

static _Thread_local struct trap *armed;
static _Thread_local void (*last)(void *arg);
static _Thread_local void *last_arg;
static const int faults[] = {SIGSEGV, SIGBUS};
static struct sigaction before[2]; /* what they did; a sanitizer's, perhaps */

void trap_spring(void)
{
	if (armed)
		siglongjmp(armed->from, 1);
	if (last)
		last(last_arg);
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)context;
	if (si->si_code > 0) /* not sent by somebody */
		trap_spring();
	(void)sigaction(sig, &before[sig == faults[1]], NULL); /* cannot fail */
	/* The instruction comes again; who was sent the signal gets it again. */
	if (si->si_code <= 0)
		(void)raise(sig);
}

void trap_install(void)
{
	/* A jump out of the handler leaves the mask as it is within: as without. */
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;

	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		if (sigaction(faults[i], NULL, &old) < 0 || old.sa_sigaction == on_fault)
			continue;
		if (old.sa_handler == SIG_IGN)
			continue; /* that they are ignored the command is to inherit */
		before[i] = old;
		(void)sigaction(faults[i], &sa, NULL); /* cannot fail */
	}
}

int trap_run(int (*fn)(void *arg), void *arg, int caught)
{
	struct trap t = {.outer = armed};
	int r;

	if (sigsetjmp(t.from, 0)) {
		armed = t.outer;
		return caught;
	}
	armed = &t;
	r = fn(arg);
	armed = t.outer;
	return r;
}

void trap_last(void (*end)(void *arg), void *arg)
{
	last_arg = arg;
	last = end;
}
