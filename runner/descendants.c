/* SPDX-License-Identifier: MIT */
/* descendants.c - the processes of a step, from /proc; see descendants.h, proc(5). */
#include "descendants.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../index/index.h"
#include "target.h"

/* How many looks in a row have to find nobody busy. */
#define GRACE_QUIET 4
/* A program that ends takes a fraction of a second of the processor for it, however long a loaded machine makes it wait for
 * that; who goes on computing will not end. */
#define GRACE_CPU_S 2
#define GRACE_S	    5

struct proc {
	pid_t pid, parent;
	char state;
	unsigned long ticks; /* its own and those of the children it has waited for */
	long threads;
};

/* file: a stat file below dir. False: it is gone. */
static bool read_stat(int dir, const char *file, struct proc *ret)
{
	auto_close int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	unsigned long t[4] = {0};
	char text[1024], *p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name may hold anything */
	if (!p ||
	    sscanf(p + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu %*d %*d %ld",
		   &ret->state, &ret->parent, &t[0], &t[1], &t[2], &t[3], &ret->threads) != 7)
		return false;
	ret->ticks = t[0] + t[1] + t[2] + t[3];
	return true;
}

/* Of each process, or each thread of one, in the directory. */
static void each_stat(const char *dir, bool (*fn)(const struct proc *p, void *arg), void *arg)
{
	DIR *d = opendir(dir);
	char file[32];
	pid_t pid;

	while ((pid = target_next(d)) >= 0) {
		struct proc p = {.pid = pid};

		snprintf(file, sizeof(file), "%d/stat", p.pid);
		if (read_stat(dirfd(d), file, &p) && !fn(&p, arg))
			break;
	}
	if (d)
		closedir(d);
}

struct children {
	void (*fn)(pid_t pid, void *arg);
	void *arg;
	int n;
};

static bool if_child(const struct proc *p, void *arg)
{
	struct children *c = arg;

	siginfo_t si;

	/* Not one that wait(2) does not know either, of our own making (lazy_step.c). */
	if (p->parent == getpid() &&
	    waitid(P_PID, (id_t)p->pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0) {
		c->n++;
		c->fn(p->pid, c->arg);
	}
	return true;
}

int each_child(void (*fn)(pid_t pid, void *arg), void *arg)
{
	struct children c = {fn, arg, 0};
	siginfo_t si;

	/* There may be thousands of others. */
	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
		return 0;
	each_stat("/proc", if_child, &c);
	return c.n;
}

static void kill_one(pid_t pid, void *arg)
{
	(void)arg;
	(void)kill(pid, SIGKILL);
}

void kill_descendants(void)
{
	/* Children of who is killed come to us, the subreaper; so it ends. */
	while (each_child(kill_one, NULL) > 0)
		while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
			;
}

/* ---- what they are doing ---- */

struct procs {
	struct proc *v;
	size_t n;
};

static bool keep(const struct proc *p, void *arg)
{
	struct procs *all = arg;

	if ((all->n & (all->n - 1)) == 0)
		all->v = xrealloc(all->v, (all->n ? 2 * all->n : 1) * sizeof(*all->v));
	all->v[all->n++] = *p;
	return true;
}

static int by_pid(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

static bool is_ours(const struct procs *all, const struct proc *p)
{
	/* What was read at several moments could be a circle. */
	for (size_t most = all->n; p && most; most--) {
		struct proc key = {.pid = p->parent};

		if (p->pid == getpid())
			return true;
		p = bsearch(&key, all->v, all->n, sizeof(*all->v), by_pid);
	}
	return false;
}

static bool is_busy(const struct proc *p)
{
	return p->state == 'R' || p->state == 'D';
}

/* Any thread but the one that asks. */
static bool see_thread(const struct proc *p, void *arg)
{
	bool *busy = arg;

	*busy = is_busy(p) && p->pid != gettid();
	return !*busy;
}

bool descendants_busy(uint64_t *ret_ticks)
{
	struct procs all = {NULL, 0};
	bool busy = false;

	*ret_ticks = 0;
	each_stat("/proc", keep, &all);
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), by_pid);
	for (size_t k = 0; k < all.n; k++) {
		const struct proc *p = &all.v[k];
		auto_free char *tasks = NULL;

		if (!is_ours(&all, p))
			continue;
		*ret_ticks += p->ticks;
		if (p->threads > 1 && !busy) {
			tasks = xasprintf("/proc/%d/task", p->pid);
			each_stat(tasks, see_thread, &busy);
		} else if (p->pid != getpid()) {
			busy |= is_busy(p);
		}
	}
	free(all.v);
	return busy;
}

bool grace_goes_on(struct grace *g)
{
	int64_t now = mono_ns();
	uint64_t ticks;

	g->quiet = descendants_busy(&ticks) ? 0 : g->quiet + 1;
	if (!g->begun_ns) {
		g->begun_ns = now;
		g->ticks = ticks;
	}
	/* Who was ended by a signal and waited for by nobody takes its time along. */
	if (ticks > g->ticks && ticks - g->ticks > GRACE_CPU_S * (uint64_t)sysconf(_SC_CLK_TCK))
		return false;
	return g->quiet < GRACE_QUIET && now - g->begun_ns < GRACE_S * INT64_C(1000000000);
}
