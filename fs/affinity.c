/* SPDX-License-Identifier: MIT */
/*
 * affinity.c - keeps the server's thread on the processor that its requests come from.
 *
 * A request is a hand-over: the asking thread sleeps until it is answered. Left alone the scheduler wakes the
 * server on an idle processor, which has to be woken by an interrupt first, twice a request; in a virtual machine
 * that is 40 us against 11 us when both share a processor (measured: stat of absent names, 2 cores). Steps that
 * ask from several processors at once get a server that may run anywhere.
 *
 * The asking thread's processor is field 39 of /proc/TID/stat (proc(5)); looking costs about as much as a
 * request, so it is looked at for few of them.
 */
#include "session.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define EVERY 128 /* requests between looks, once settled */
#define MOST  6	  /* of them on one processor: stay there */

static int cpu_of(uint32_t tid)
{
	char path[40], text[1024], *p;
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	p = strrchr(text, ')'); /* field 2 ends there; field 3 follows a blank */
	for (int field = 2; p && field < 39; field++)
		p = strchr(p + 1, ' ');
	return p ? atoi(p + 1) : -1;
}

static void run_on(struct affinity *a, int cpu)
{
	cpu_set_t set = a->all;

	if (cpu == a->pinned)
		return;
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
	}
	a->pinned = cpu;
	(void)sched_setaffinity(0, sizeof(set), &set); /* a matter of speed only */
}

void affinity_init(struct affinity *a)
{
	*a = (struct affinity){.pinned = -1};
	a->off = sched_getaffinity(0, sizeof(a->all), &a->all) < 0 || CPU_COUNT(&a->all) < 2;
}

static int majority(const struct affinity *a)
{
	for (unsigned k = 0; k < AFFINITY_WINDOW; k++) {
		unsigned same = 0;

		for (unsigned j = 0; j < AFFINITY_WINDOW; j++)
			same += a->seen[j] == a->seen[k];
		if (same >= MOST)
			return a->seen[k];
	}
	return -1;
}

void affinity_request(struct affinity *a, uint32_t tid)
{
	int cpu;

	if (a->off || a->skip-- > 0)
		return;
	cpu = cpu_of(tid);
	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &a->all))
		return;
	if (a->looks == 0)
		for (unsigned k = 0; k < AFFINITY_WINDOW; k++)
			a->seen[k] = cpu;
	a->seen[a->looks++ % AFFINITY_WINDOW] = cpu;
	run_on(a, majority(a));
	a->skip = a->looks < AFFINITY_WINDOW ? EVERY / AFFINITY_WINDOW : EVERY;
}
