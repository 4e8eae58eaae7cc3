/* SPDX-License-Identifier: MIT */
/* daemon.c - going to the background; see daemon.h. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY 'R'

/* The one that was started: until the other is ready, or gone. What it has to say it says itself. */
static int await(int fd, pid_t child)
{
	int status;
	char c = 0;
	ssize_t n;

	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1 && c == READY)
		return 0;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (WIFSIGNALED(status))
		log_warn("the process in the background was killed by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int split(struct daemon *d, int *ret_status, struct err *e)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe");
	(void)fflush(NULL); /* nothing is to be said twice */
	child = fork();
	if (child < 0) {
		close(ends[0]);
		close(ends[1]);
		return err_set(e, errno, "cannot fork");
	}
	if (child > 0) {
		close(ends[1]);
		*ret_status = await(ends[0], child);
		close(ends[0]);
		return 1;
	}
	close(ends[0]);
	d->report = ends[1];
	(void)setsid(); /* cannot fail: we are no leader */
	return chdir("/") < 0 ? err_set(e, errno, "cannot go to /") : 0;
}

int daemon_begin(struct daemon *d, bool foreground, int *ret_status, struct err *e)
{
	int r = 0;

	*d = (struct daemon){.report = -1};
	sigemptyset(&d->signals);
	sigaddset(&d->signals, SIGTERM);
	sigaddset(&d->signals, SIGINT);
	sigaddset(&d->signals, SIGHUP);
	if (!foreground)
		r = split(d, ret_status, e);
	if (r == 0)
		sigprocmask(SIG_BLOCK, &d->signals, NULL);
	return r;
}

/* sd_notify(3): a service of systemd with Type=notify. */
static void notify(const char *text)
{
	const char *to = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	auto_close int s = -1;
	size_t n = to ? strlen(to) : 0;

	if (n < 2 || n > sizeof(a.sun_path) || (*to != '/' && *to != '@'))
		return;
	memcpy(a.sun_path, to, n);
	if (*to == '@')
		a.sun_path[0] = '\0'; /* a name of no file */
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0 || sendto(s, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
			    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		log_warn("cannot tell %s that the mount is ready: %s", to, strerror(errno));
	(void)unsetenv("NOTIFY_SOCKET"); /* not for those that are started here */
}

void daemon_ready(struct daemon *d)
{
	char c = READY;
	int fd;

	notify("READY=1");
	if (d->report < 0)
		return;
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int k = 0; fd >= 0 && k <= STDERR_FILENO; k++)
		(void)dup2(fd, k);
	base_close(&fd);
	(void)!write(d->report, &c, 1); /* nobody there: nobody wants it */
	base_close(&d->report);
}

struct listener {
	sigset_t signals;
	const struct daemon_handlers *h;
};

static void *listen_for(void *arg)
{
	struct listener *l = arg;
	int sig, stops = 0;

	while (sigwait(&l->signals, &sig) == 0) {
		if (sig == SIGHUP && l->h->reload)
			l->h->reload(l->h->arg);
		else if (sig != SIGHUP)
			l->h->stop(l->h->arg, ++stops);
	}
	free(l);
	return NULL;
}

int daemon_signals(const struct daemon *d, const struct daemon_handlers *h, struct err *e)
{
	struct listener *l = xcalloc(1, sizeof(*l));
	pthread_t t;
	int r;

	l->signals = d->signals;
	l->h = h;
	r = pthread_create(&t, NULL, listen_for, l);
	if (r) {
		free(l);
		return err_set(e, r, "cannot start a thread");
	}
	(void)pthread_detach(t);
	return 0;
}
