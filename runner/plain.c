/* SPDX-License-Identifier: MIT */
/* plain.c - running the command as if mlfs were not there; see plain.h. */
#include "plain.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mounted.h"
#include "view.h"

int plain_cannot_run(const char *name, int code)
{
	struct stat st;

	if (code == EACCES && strchr(name, '/') && stat(name, &st) == 0 && S_ISDIR(st.st_mode))
		code = EISDIR;
	if (code == ENOENT && !strchr(name, '/'))
		log_warn("cannot run %s: command not found", name);
	else
		log_warn("cannot run %s: %s", name, strerror(code));
	return code == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static pid_t plain_child;

static void pass_signal(int sig, siginfo_t *si, void *context)
{
	(void)context;
	if (si->si_code != SI_KERNEL && plain_child > 0)
		kill(plain_child, sig);
}

static int wait_child(pid_t child)
{
	int status;

	for (;;) {
		if (waitpid(child, &status, WUNTRACED) < 0) {
			if (errno != EINTR)
				return EXIT_MLFS;
			continue;
		}
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			return 128 + WTERMSIG(status);
		raise(SIGSTOP);
		kill(child, SIGCONT);
	}
}

int plain_wait(pid_t child, const sigset_t *mask)
{
	static const int passed[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,   SIGUSR1,
				     SIGUSR2, SIGALRM, SIGTSTP, SIGVTALRM, SIGPROF};
	struct sigaction sa = {.sa_sigaction = pass_signal, .sa_flags = SA_SIGINFO | SA_RESTART},
			 old;

	plain_child = child;
	for (size_t k = 0; k < sizeof(passed) / sizeof(*passed); k++)
		if (sigaction(passed[k], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(passed[k], &sa, NULL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	return wait_child(child);
}

int plain_exec(const struct plain *p)
{
	sigprocmask(SIG_SETMASK, &p->mask, NULL);
	if (p->mounted)
		mounted_real(p->mounted);
	execvp(p->argv[0], p->argv);
	return plain_cannot_run(p->argv[0], errno);
}

int plain_run(const struct plain *p)
{
	struct err e = {0};
	bool feed = p->in && stdin_holds(p->in);
	auto_close int in = feed ? stdin_child_fd(p->in, &e) : p->fed ? take_fd(p->fed) : -1;
	pid_t child;

	if (feed && in < 0) {
		log_warn("%s", e.msg);
		return EXIT_MLFS;
	}
	child = fork();
	if (child < 0) {
		log_warn("cannot fork: %s", strerror(errno));
		return EXIT_MLFS;
	}
	if (child == 0) {
		if (in >= 0)
			dup2(in, STDIN_FILENO);
		_exit(plain_exec(p));
	}
	base_close(&in);
	if (feed && stdin_start(p->in, &e) < 0)
		log_warn("%s", e.msg);
	return plain_wait(child, &p->mask);
}

/* ---- stdin from another process ---- */

static void fill(struct stdin_src *in, int hand) __attribute__((noreturn));
static void fill(struct stdin_src *in, int hand)
{
	struct stdin_used used;
	struct err e = {0};
	sigset_t all;
	char none;

	sigfillset(&all); /* those of the terminal are for the command */
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (stdin_start(in, &e) < 0)
		log_warn("%s", e.msg);
	(void)!read(hand, &none, 1); /* its end */
	if (stdin_finish(in, &used, &e) < 0)
		log_warn("%s", e.msg);
	_exit(EXIT_SUCCESS);
}

int plain_hand(struct stdin_src *in, int hand, int spare, struct err *e)
{
	auto_close int end = stdin_child_fd(in, e);
	int r = end < 0 ? end : message_send(hand, 'I', NULL, end, e);
	pid_t filler;

	if (r < 0)
		return r;
	base_close(&end); /* that it is closed elsewhere is to be noticed */
	filler = fork();
	if (filler == 0) {
		close(spare);
		fill(in, hand);
	}
	return filler < 0 ? err_set(e, errno, "cannot fork") : 0;
}

int plain_take(int hand)
{
	struct message m;
	struct err e = {0};

	if (message_recv(hand, &m, &e) > 0)
		return m.fd;
	log_warn("cannot get stdin: %s", e.msg);
	return -1;
}

void plain_handed(int hand)
{
	char none;

	(void)shutdown(hand, SHUT_WR);
	(void)!read(hand, &none, 1); /* its end */
}
