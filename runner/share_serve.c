/* SPDX-License-Identifier: MIT */
/*
 * share_serve.c - the process that serves a shared cache; see share.h.
 *
 * It is forked by the mount's process, as root, and ends with it. Each who asks is served by a process of his own, with limits on time and
 * memory, of which a user has so many at a time; others wait. So nobody can stop anybody else by being slow, and damage in the shared
 * cache ends no more than one of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount_tree.h"
#include "share_one.h"

#define MAX_RUNNING   32
#define MAX_OF_USER   8
#define MAX_WAITING   512
#define MAX_WAITING_1 128
#ifdef __SANITIZE_ADDRESS__
#define MAX_MEMORY RLIM_INFINITY /* its shadow counts as well */
#else
#define MAX_MEMORY (UINT64_C(1) << 30)
#endif

struct share_server {
	pid_t pid;
	char *socket;
};

/* ---- who is served ---- */

struct one {
	int sock; /* waiting; -1: being served */
	pid_t pid;
	uid_t uid;
};
struct serving {
	int listener;
	struct one v[MAX_WAITING + MAX_RUNNING];
	size_t n;
	const struct share_one *base;
};

static size_t count(const struct serving *s, bool running, bool any, uid_t uid)
{
	size_t n = 0;

	for (size_t k = 0; k < s->n; k++)
		n += (s->v[k].sock < 0) == running && (any || s->v[k].uid == uid);
	return n;
}

static void begin(struct serving *s, struct one *o)
{
	pid_t server = getpid(), pid = fork();
	struct rlimit memory = {MAX_MEMORY, MAX_MEMORY};
	sigset_t none;

	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != server ||
		    setrlimit(RLIMIT_DATA, &memory) < 0)
			_exit(1);
		(void)signal(SIGCHLD, SIG_DFL); /* cannot fail */
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		/* Nothing of those who wait. */
		for (size_t k = 0; k < s->n; k++)
			if (s->v[k].sock >= 0 && s->v[k].sock != o->sock)
				close(s->v[k].sock);
		close(s->listener);
		share_one(s->base, o->sock);
		_exit(0);
	}
	close(o->sock);
	o->sock = -1;
	o->pid = pid; /* -1: nobody will come back, and it is dropped */
}

static void drop(struct serving *s, size_t k)
{
	if (s->v[k].sock >= 0)
		close(s->v[k].sock);
	memmove(s->v + k, s->v + k + 1, (--s->n - k) * sizeof(*s->v));
}

/* In the order they came in, but nobody's before those of others who have less. */
static void begin_some(struct serving *s)
{
	for (size_t k = 0; k < s->n;) {
		if (s->v[k].sock >= 0 && count(s, true, true, 0) < MAX_RUNNING &&
		    count(s, true, false, s->v[k].uid) < MAX_OF_USER)
			begin(s, &s->v[k]);
		if (s->v[k].sock < 0 && s->v[k].pid < 0)
			drop(s, k);
		else
			k++;
	}
}

static void reap(struct serving *s)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (size_t k = 0; k < s->n; k++)
			if (s->v[k].sock < 0 && s->v[k].pid == pid) {
				drop(s, k);
				break;
			}
}

static void take_in(struct serving *s)
{
	int sock = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred who;
	socklen_t n = sizeof(who);

	if (sock < 0)
		return;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0 ||
	    count(s, false, true, 0) >= MAX_WAITING ||
	    count(s, false, false, who.uid) >= MAX_WAITING_1) {
		close(sock); /* a miss */
		return;
	}
	s->v[s->n++] = (struct one){.sock = sock, .uid = who.uid};
}

/* Only to be woken by it. */
static void on_child(int sig)
{
	(void)sig;
}

static void serve(struct serving *s)
{
	struct sigaction a = {.sa_handler = on_child};
	struct pollfd p = {.fd = s->listener, .events = POLLIN};
	sigset_t child, before;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &before);
	sigdelset(&before, SIGCHLD);
	(void)sigaction(SIGCHLD, &a, NULL); /* cannot fail */
	for (;;) {
		if (ppoll(&p, 1, NULL, &before) > 0)
			take_in(s);
		reap(s);
		begin_some(s);
	}
}

/* ---- its beginning ---- */

/* Nothing of the mount's process but what is needed: its standard streams are somebody's who waits for their end. */
static void keep_only(int *listener, int *root, bool foreground)
{
	int none = open("/dev/null", O_RDWR | O_CLOEXEC), l = fcntl(*listener, F_DUPFD_CLOEXEC, 16);
	int t = fcntl(*root, F_DUPFD_CLOEXEC, 16);

	for (int fd = 0; none >= 0 && fd < (foreground ? STDERR_FILENO : 3); fd++)
		(void)dup2(none, fd);
	if (none < 0 || l < 0 || t < 0 || dup3(l, 3, O_CLOEXEC) < 0 || dup3(t, 4, O_CLOEXEC) < 0)
		_exit(1);
	(void)syscall(SYS_close_range, 5, ~0U, 0); /* Linux before 5.9 has none */
	*listener = 3;
	*root = 4;
}

static void child(const struct share_options *o, int listener, pid_t parent)
	__attribute__((noreturn));
static void child(const struct share_options *o, int listener, pid_t parent)
{
	static const struct strlist none = {0};
	struct serving *s = xcalloc(1, sizeof(*s));
	struct share_one base = {0};
	struct err e = {0};
	int root = o->root;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	keep_only(&listener, &root, o->foreground);
	base.dir = xasprintf("%s/" SHARE_DIR, o->cache);
	if (tree_new(root, &none, &none, &none, o->rules, &base.tree, &e) < 0) {
		log_warn("%s", e.msg);
		_exit(1);
	}
	s->listener = listener;
	s->base = &base;
	serve(s);
	_exit(1);
}

/* ---- the socket ---- */

#define SOCKET_NAME "share-"

/* Those of servers that were killed. */
static void clear_sockets(const char *cache, int dir)
{
	DIR *d = opendir(cache);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		struct sockaddr_un a;
		auto_close int s = -1;

		if (strncmp(de->d_name, SOCKET_NAME, strlen(SOCKET_NAME)) != 0)
			continue;
		share_address(dir, de->d_name, &a);
		s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (s >= 0 && connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 &&
		    errno == ECONNREFUSED)
			(void)unlinkat(dir, de->d_name, 0); /* another may have been faster */
	}
	if (d)
		closedir(d);
}

static int listen_in(const char *cache, char **ret_socket, struct err *e)
{
	auto_close int dir = open(cache, O_PATH | O_DIRECTORY | O_CLOEXEC), s = -1;
	auto_free char *name = xasprintf(SOCKET_NAME "%ld", (long)getpid());
	struct sockaddr_un a;
	struct stat st;

	if (dir < 0 || fstat(dir, &st) < 0)
		return err_set(e, errno, "cannot open %s", cache);
	if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		return err_text(e, EPERM, "cannot share results: others may write to %s", cache);
	share_address(dir, name, &a);
	clear_sockets(cache, dir);
	(void)unlinkat(dir, name, 0); /* of one that had our number */
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    fchmodat(dir, name, 0666, 0) < 0 || listen(s, SOMAXCONN) < 0)
		return err_set(e, errno, "cannot make the socket %s/%s", cache, name);
	*ret_socket = xasprintf("%s/%s", cache, name);
	return take_fd(&s);
}

int share_start(const struct share_options *o, struct share_server **ret, char **ret_socket,
		struct err *e)
{
	auto_free char *path = NULL;
	auto_close int listener = -1;
	pid_t parent = getpid(), pid;
	int r = mkdir_p(o->cache, 0755, e);

	listener = r < 0 ? r : listen_in(o->cache, &path, e);
	if (listener < 0)
		return listener;
	(void)fflush(NULL); /* nothing is to be said twice */
	pid = fork();
	if (pid == 0)
		child(o, listener, parent);
	if (pid < 0) {
		(void)unlink(path); /* the failure that counts is told */
		return err_set(e, errno, "cannot fork");
	}
	*ret = xcalloc(1, sizeof(**ret));
	**ret = (struct share_server){.pid = pid, .socket = xstrdup(path)};
	*ret_socket = take(path);
	return 0;
}

void share_stop(struct share_server *s)
{
	if (!s)
		return;
	(void)kill(s->pid, SIGKILL); /* it is our own, and was not waited for */
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	(void)unlink(s->socket); /* or the next server does */
	free(s->socket);
	free(s);
}
