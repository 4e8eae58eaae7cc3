/* SPDX-License-Identifier: MIT */
/*
 * share_check.c - could the user who asks have read what a shared result rests on?
 *
 * It is tried: by a process that knows the results, and becomes that user for good before it looks at the first path. It cannot be looked
 * into by him (PR_SET_DUMPABLE), gains no rights, and says a number, of a result whose inputs it has all read. It sees what
 * the machine has mounted, not what that user may have in a mount namespace of his own, where he could put his guess in the place of a
 * file that he may not read.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mounted.h"
#include "share_one.h"

#define CHECK_SECONDS 60

static bool become(const struct share_peer *who)
{
	return setgroups(who->n_groups, who->groups) == 0 &&
	       setresgid(who->gid, who->gid, who->gid) == 0 &&
	       setresuid(who->uid, who->uid, who->uid) == 0 && geteuid() == who->uid &&
	       prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static void check(const struct share_found *v, size_t n, const struct share_peer *who,
		  const char *home, int to) __attribute__((noreturn));
static void check(const struct share_found *v, size_t n, const struct share_peer *who,
		  const char *home, int to)
{
	auto_mounteds struct mounteds m = {0};
	struct share_seen seen = {0};
	struct err e = {0};
	const char *why;
	struct oid now;
	int found = -1;

	if (dup2(to, 3) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		_exit(1);
	(void)syscall(SYS_close_range, 4, ~0U, 0); /* Linux before 5.9 has none */
	/* As a step sees them: the trees themselves in the places of their mounts. */
	mounted_find(&m);
	if (mounted_enter(&m, &e) < 0 || !become(who))
		_exit(1);
	for (size_t k = 0; k < n && found < 0; k++)
		if (!share_inputs(NULL, v[k].r, &v[k].set, home, 0, &seen, &now, &why))
			log_debug("user %u, result %zu: %s", (unsigned)who->uid, k, why);
		else if (!oid_eq(&now, &v[k].note.inputs) || !share_outputs(v[k].r))
			log_debug("user %u, result %zu: not for him", (unsigned)who->uid, k);
		else
			found = (int)k;
	(void)!write(3, &found, sizeof(found)); /* nobody there: nobody wants it */
	_exit(0);
}

int share_check(const struct share_found *v, size_t n, const struct share_peer *who,
		const char *home)
{
	struct pollfd p = {.events = POLLIN};
	int ends[2], found = -1;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0)
		check(v, n, who, home, ends[1]);
	close(ends[1]);
	p.fd = ends[0];
	/* The user may end or stop a process that is his: then there is none. */
	if (child < 0 || poll(&p, 1, CHECK_SECONDS * 1000) <= 0 ||
	    read_full(ends[0], &found, sizeof(found)) != sizeof(found))
		found = -1;
	close(ends[0]);
	if (child > 0) {
		(void)kill(child, SIGKILL); /* it is our own, and was not waited for */
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return found >= 0 && (size_t)found < n ? found : -1;
}
