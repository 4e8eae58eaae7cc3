/* SPDX-License-Identifier: MIT */
/*
 * supervisor.c - the process that serves the view of one step.
 *
 * Order matters: the step's process is forked while this one has a single thread, and from the thread that
 * lives to the end (its parent-death signal hangs on that thread); the threads come after.
 */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "descendants.h"
#include "inherited.h"
#include "keep.h"
#include "mounts.h"
#include "native.h"
#include "view.h"

/* What is still running when the command has ended gets a moment to end as well: `> >(tee log)`, helpers of Python's
 * multiprocessing and the like. This long it is not looked at; see descendants.h. */
#define GRACE_MS  40
/* The mount goes with its last process; more time than that means that something else holds it. */
#define UNMOUNT_S 5

/* More descriptors than the file server keeps (MAX_FDS in fs/session.c) and everything else needs. */
#define TABLE_SIZE 10240

struct super {
	const struct supervised *s;
	int control; /* to the front */
	int step;    /* to the step's process; -1 when closed */
	int signals;
	pid_t command;
	unsigned long view_ns; /* see mounts.h */
	struct console *console;
	struct watch *_Atomic watch;
	struct idx *idx;
	struct fs *fs;
	pthread_t server;
	bool serving, ended;
	bool reported; /* the front has its outcome and is gone, or will be */
	int fuse_fd;   /* taken by the server */
	struct err serve_err;
	struct outcome out;
	struct native *native;
	char *untraced[8];
	char *_Atomic network_unseen; /* why network use cannot be noticed, or NULL */
	bool outer_watches;	      /* an mlfs around this one notices it for us */
	char said[4096];	      /* the last answer of the server's thread */
};

/* ---- the step's process ---- */

static void fail_step(int sock, char tag, const char *text) __attribute__((noreturn));
static void fail_step(int sock, char tag, const char *text)
{
	struct err e = {0};

	(void)!message_send(sock, tag, text, -1, &e); /* the supervisor sees our end in any case */
	_exit(EXIT_MLFS);
}

/* Standard streams in place; -1 means closed. Descriptors to move are >= 3 and close-on-exec. */
static void set_stream(int fd, int from)
{
	if (from < 0)
		close(fd);
	else if (from != fd)
		dup2(from, fd);
	else
		fcntl(fd, F_SETFD, 0);
}

static void watch_step(const struct supervised *s, int sock)
{
	struct err e = {0};
	auto_close int fd = -1;

	fd = watch_install(!s->opts->allow_network, s->step->tty_out || s->step->tty_err, &e);
	if (fd < 0 || watch_send(sock, fd, &e) < 0)
		(void)!message_send(sock, 'N', e.msg, -1, &e); /* its end is noticed in any case */
}

static void step_main(const struct super *super, int sock, int in, int out, int errfd)
	__attribute__((noreturn));
static void step_main(const struct super *super, int sock, int in, int out, int errfd)
{
	const struct supervised *s = super->s;
	auto_free char *mountpoint = xasprintf("%s/tmp", s->cache_dir);
	struct view v = {.kind = view_kind(),
			 .mountpoint = mountpoint,
			 .cache = s->cache_dir,
			 .other_cache = s->other_cache,
			 .marked = native_places(super->native),
			 .cwd = s->step->cwd};
	struct err e = {0};
	char number[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (view_enter(&v, sock, &e) < 0)
		fail_step(sock, 'E', e.msg);
	watch_step(s, sock);
	set_stream(0, in);
	set_stream(1, out);
	set_stream(2, errfd);
	sigprocmask(SIG_SETMASK, &s->mask, NULL);
	execvp(s->opts->argv[0], s->opts->argv);
	snprintf(number, sizeof(number), "%d", errno);
	fail_step(sock, 'X', number);
}

/* ---- ending ---- */

static void name_one(pid_t pid, void *arg)
{
	auto_free char *path = xasprintf("/proc/%d/comm", pid);
	char **ret = arg, comm[64] = "?";
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, comm, sizeof(comm) - 1);

	comm[n > 0 ? n : 1] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	if (!*ret)
		*ret = xasprintf("a process of the step was still running (%s, %d)", comm, pid);
}

static void send_outcome(const struct super *s, char tag)
{
	char buf[sizeof(s->out) + 1] = {tag};

	memcpy(buf + 1, &s->out, sizeof(s->out));
	(void)!send(s->control, buf, sizeof(buf), MSG_NOSIGNAL); /* nobody there: nobody wants it */
}

/* From here on the front does not need us: the command is done, and so is its console. Now the index may be written to, which
 * damage in it may make the end of us (idx_open_for_job). */
static void promise_outcome(struct super *s)
{
	if (s->reported)
		return;
	send_outcome(s, 'E');
	if (s->idx)
		idx_release(s->idx);
}

static void tell_front(struct super *s)
{
	if (s->reported)
		return;
	s->reported = true;
	send_outcome(s, 'D');
}

/* ---- serving ---- */

static void *serve(void *arg)
{
	struct super *s = arg;

	if (fs_serve(s->fs, s->fuse_fd, &s->serve_err) < 0)
		log_debug("%s", s->serve_err.msg);
	return NULL;
}

static const char *network_so_far(struct super *s)
{
	const char *used = s->watch ? watch_touched(s->watch) : NULL;

	if (s->s->opts->allow_network)
		return "the mlfs around this one allows network use and does not watch it";
	if (s->outer_watches && idx_ask_view(FS_ASK_NETWORK, s->said, sizeof(s->said)) != 0)
		return s->said;
	return s->network_unseen ? s->network_unseen : used ? used : "";
}

static const char *mounts_so_far(struct super *s)
{
	const char *seen = s->watch ? watch_mounts(s->watch) : NULL;

	if (!s->watch && idx_ask_view(FS_ASK_MOUNTS, s->said, sizeof(s->said)) > 0)
		return s->said;
	return seen ? seen : "";
}

/* Its own and those around it. */
static const char *keys_held(struct super *s)
{
	char digits[2 * sizeof(s->s->step->key.b) + 1],
		around[sizeof(s->said) - sizeof(digits) - 1];

	hex(s->s->step->key.b, sizeof(s->s->step->key.b), digits);
	if (idx_ask_view(IDX_KEYS_XATTR, around, sizeof(around)) < 0)
		around[0] = '\0';
	snprintf(s->said, sizeof(s->said), "%s %s", digits, around);
	return s->said;
}

/* What an mlfs inside the view is told; see fs.h. */
static const char *answer(void *arg, const char *question)
{
	struct super *s = arg;

	if (strcmp(question, FS_ASK_NETWORK) == 0)
		return network_so_far(s);
	if (strcmp(question, FS_ASK_MOUNTS) == 0)
		return mounts_so_far(s);
	if (strcmp(question, IDX_KEYS_XATTR) == 0)
		return keys_held(s);
	if (strcmp(question, IDX_LOOKED_XATTR) == 0) { /* it is the same for those around */
		(void)!idx_ask_view(question, s->said, sizeof(s->said));
		return "";
	}
	return NULL;
}

/* There can be one watch only (mlfs in mlfs): then that one has to do. */
static void watch_failed(struct super *s, const char *why)
{
	char text[512];
	ssize_t n = idx_ask_view(FS_ASK_NETWORK, text, sizeof(text));

	s->outer_watches = n == 0;
	if (n != 0)
		s->network_unseen = xstrdup(n > 0 ? text : why);
}

static int start_server(struct super *s, int fuse_fd, struct err *e)
{
	struct fs_options o = {.idx = s->idx,
			       .own_ids_only = view_kind() == VIEW_USER || view_user_ids() == 1,
			       .posix_acl = view_has_acls(),
			       .strict = s->s->opts->strict,
			       .ignore = s->s->opts->ignore.v,
			       .n_ignore = s->s->opts->ignore.n,
			       .untraced = s->untraced,
			       .answer = answer,
			       .answer_arg = s};
	int r;

	for (const char *const *p = view_native(); *p; p++)
		s->untraced[o.n_untraced++] = (char *)*p;
	s->untraced[o.n_untraced++] = (char *)s->s->cache_dir;
	if (s->s->other_cache)
		s->untraced[o.n_untraced++] = (char *)s->s->other_cache;
	r = fs_new(&o, &s->fs, e);
	if (r < 0) {
		close(fuse_fd);
		return r;
	}
	s->fuse_fd = fuse_fd;
	r = pthread_create(&s->server, NULL, serve, s);
	if (r) {
		close(fuse_fd);
		return err_set(e, r, "cannot start the server's thread");
	}
	s->serving = true;
	return 0;
}

/* Descriptors are ours to use up to the hard limit; the command has its own limits already. */
static void raise_limits(const struct super *s)
{
	rlim_t files = raise_open_files();
	int fd;

	/* Once there are threads, each growth of the table of descriptors waits for all processors (milliseconds). */
	fd = fcntl(s->signals, F_DUPFD_CLOEXEC, (int)(files < TABLE_SIZE ? files : TABLE_SIZE) - 1);
	base_close(&fd);
}

/* Messages of the step's process until it executes (1) or gives up (0: out.failure or out.exec_errno is set). */
static int set_up(struct super *s)
{
	struct watch *w = NULL;
	struct message m;
	struct err e = {0};
	int r;

	while ((r = message_recv(s->step, &m, &e)) > 0) {
		switch (m.tag) {
		case 'F':
			/* It waits for the server now. Later, the command may already be in another. */
			s->view_ns = mounts_namespace(s->command);
			native_entered(s->native, s->command, view_kind() == VIEW_USER);
			if (start_server(s, m.fd, &e) < 0) {
				snprintf(s->out.failure, sizeof(s->out.failure), "%s", e.msg);
				return 0;
			}
			break;
		case '\0': /* watch_send's */
			if (watch_start(m.fd, s->command, s->view_ns, s->fs, s->console,
					!s->s->opts->allow_network, &w, &e) < 0)
				watch_failed(s, e.msg);
			s->watch = w;
			break;
		case 'N':
			watch_failed(s, m.text);
			break;
		case 'X':
			s->out.not_executed = true;
			s->out.exec_errno = atoi(m.text);
			return 0;
		default:
			snprintf(s->out.failure, sizeof(s->out.failure), "%s", m.text);
			return 0;
		}
	}
	base_close(&s->step);
	if (r == 0 && s->serving)
		return 1;
	snprintf(s->out.failure, sizeof(s->out.failure), "%s",
		 r < 0 ? e.msg : "the step's process ended early");
	return 0;
}

static int start_streams(struct super *s, struct err *e)
{
	int r = console_start(s->console, e);

	if (r == 0)
		r = stdin_start(s->s->in, e);
	return r;
}

/* ---- while it runs ---- */

static void reap(struct super *s)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != s->command)
			continue;
		if (WIFSTOPPED(status)) {
			(void)!send(s->control, "T", 1, MSG_NOSIGNAL);
			continue;
		}
		s->ended = true;
		s->out.exit_status =
			WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		s->out.wall_ns = mono_ns() - s->out.wall_ns;
	}
}

static bool any_child(void)
{
	siginfo_t si;

	return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* The front speaks, or is gone: then the step is ended, unless it has its outcome. */
static void hear_front(struct super *s)
{
	struct message m;
	struct err e = {0};
	int r = message_recv(s->control, &m, &e);

	if (r > 0 && m.tag == 'W') {
		console_winch(s->console);
		if (!s->ended)
			(void)kill(s->command, SIGWINCH);
	}
	if (r > 0)
		return;
	base_close(&s->control);
	if (s->reported)
		return;
	kill_descendants();
	_exit(EXIT_MLFS);
}

/* Until the command has ended (and, all: every process of it), or timeout_ms have passed (-1: never). */
static void run_until(struct super *s, bool all, int timeout_ms)
{
	int64_t end = mono_ns() + timeout_ms * INT64_C(1000000);
	struct signalfd_siginfo si;

	for (;;) {
		struct pollfd p[2] = {{.fd = s->signals, .events = POLLIN},
				      {.fd = s->control, .events = POLLIN}};
		int64_t left = timeout_ms < 0 ? -1 : (end - mono_ns() + 999999) / 1000000;

		reap(s);
		if (s->ended && (!all || !any_child()))
			return;
		if (timeout_ms >= 0 && left <= 0)
			return;
		if (poll(p, 2, (int)left) < 0)
			continue;
		if (p[0].revents & POLLIN)
			(void)!read(s->signals, &si, sizeof(si)); /* reap asks the kernel itself */
		if (p[1].revents)
			hear_front(s);
	}
}

static void wait_for_rest(struct super *s)
{
	struct grace g = {0};

	run_until(s, true, GRACE_MS);
	while (any_child() && grace_goes_on(&g))
		run_until(s, true, GRACE_LOOK_MS);
}

/* ---- after it ---- */

static bool joined_within(struct super *s, int64_t ns)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* not the one that can be set */
	ns += t.tv_nsec;
	t.tv_sec += ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return pthread_clockjoin_np(s->server, NULL, CLOCK_MONOTONIC, &t) == 0;
}

static void join_server(struct super *s)
{
	if (!s->serving)
		return;
	s->serving = false;
	if (joined_within(s, UNMOUNT_S * INT64_C(1000000000)))
		return;
	snprintf(s->out.reason, sizeof(s->out.reason),
		 "the view was still in use when the step had ended");
	do
		fs_abort(s->fs); /* again: the signal may come just before the thread sleeps */
	while (!joined_within(s, 50000000));
}

static void why_not(struct outcome *o, const char *reason)
{
	if (!o->reason[0] && reason)
		snprintf(o->reason, sizeof(o->reason), "%s", reason);
}

static void finish(struct super *s)
{
	struct console_record rec = {0};
	struct stdin_used used = {0};
	char outer[512] = "network use could not be noticed";
	const char *mounted;
	struct err e = {0};
	struct capture c = {.idx = s->idx,
			    .opts = s->s->opts,
			    .step = s->s->step,
			    .fs = s->fs,
			    .trace = fs_trace(s->fs),
			    .console = &rec,
			    .in = &used,
			    .out = &s->out,
			    .command = s->command,
			    .expected = s->s->expected,
			    .verdict_fd = s->s->verdict_fd};

	/* An mlfs around this one would take the question for the step's doing. */
	native_left(s->native, s->watch != NULL);
	join_server(s);
	console_finish(s->console, &rec);
	if (stdin_finish(s->s->in, &used, &e) < 0)
		why_not(&s->out, e.msg);
	why_not(&s->out, inherited_spoiled(s->s->passed));
	if (access("/proc/self/fd", R_OK | X_OK) < 0)
		why_not(&s->out, "without /proc not all is known of what its processes do");
	mounted = mounts_so_far(s);
	why_not(&s->out, *mounted ? mounted : NULL);
	why_not(&s->out, s->watch ? watch_spoiled(s->watch) : NULL);
	why_not(&s->out, native_spoiled(s->native, fs_trace(s->fs)));
	if (!s->s->opts->allow_network) {
		if (s->outer_watches && idx_ask_view(FS_ASK_NETWORK, outer, sizeof(outer)) != 0)
			why_not(&s->out, outer);
		if (s->network_unseen && !s->out.reason[0])
			snprintf(
				s->out.reason, sizeof(s->out.reason),
				"network use cannot be noticed here (%s); --allow-network stores all the same",
				s->network_unseen);
	}
	promise_outcome(s);
	capture(&c, &s->out);
	fs_unfollow(s->fs);
}

/* --verify: processes of the step are alive, so that its trace and console are not settled. */
static void compare_running(struct super *s)
{
	struct capture c = {.idx = s->idx,
			    .opts = s->s->opts,
			    .step = s->s->step,
			    .out = &s->out,
			    .command = s->command,
			    .expected = s->s->expected,
			    .verdict_fd = s->s->verdict_fd};

	if (c.expected)
		verify_running(&c, &s->out);
}

static void debug_figures(struct super *s)
{
	auto_buf struct buf b = {0};
	struct rusage u;

	if (!getenv("MLFS_DEBUG") || !s->fs)
		return;
	fs_request_counts(s->fs, &b);
	buf_u8(&b, 0);
	getrusage(RUSAGE_SELF, &u);
	log_debug("fuse requests: %s", (char *)b.data);
	log_debug("supervisor peak memory: %ld KB", u.ru_maxrss);
}

/* Make what the step's process needs, and fork it. */
static int begin(struct super *s, struct err *e)
{
	auto_free char *spool = xasprintf("%s/tmp", s->s->cache_dir);
	auto_close int in = -1;
	int pair[2], out, errfd, r;

	r = console_open(s->s->step, spool, &s->console, e);
	if (r < 0)
		return r;
	in = stdin_child_fd(s->s->in, e);
	if (in < 0 && stdin_type(s->s->in) != IN_CLOSED)
		return in;
	console_child_fds(s->console, &out, &errfd);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, errno, "cannot make a socket pair");
	s->native = native_new(s->s->opts->ignore.v, s->s->opts->ignore.n, s->s->step->cwd,
			       s->s->opts->argv);
	s->command = fork();
	if (s->command == 0) {
		close(pair[0]);
		step_main(s, pair[1], in, out, errfd);
	}
	close(pair[1]);
	s->step = pair[0];
	if (s->command < 0)
		return err_set(e, errno, "cannot fork");
	console_close_child_fds(s->console);
	return 0;
}

/* Only after a store: a hit never pays for it. */
static void housekeep(struct super *s)
{
	const struct exec_opts *o = s->s->opts;
	struct err e = {0};

	if (s->out.stored && idx_gc_past_limit(s->idx, keep_max_size(s->idx, o->max_size),
					       keep_max_age(o->max_age), &e) < 0)
		log_debug("%s", e.msg); /* the next one tries again */
}

static void end(struct super *s) __attribute__((noreturn));
static void end(struct super *s)
{
	kill_descendants();
	native_free(s->native); /* it keeps the mounts of the step */
	s->native = NULL;
	join_server(s);
	watch_free(s->watch); /* with the locks it holds: the front's caller may want them */
	debug_figures(s);
	promise_outcome(s);
	housekeep(s);
	idx_close(s->idx);
	tell_front(s);
	_exit(0);
}

static void give_up(struct super *s, const char *why) __attribute__((noreturn));
static void give_up(struct super *s, const char *why)
{
	if (why && !s->out.failure[0])
		snprintf(s->out.failure, sizeof(s->out.failure), "%s", why);
	end(s);
}

static void run(struct super *s)
{
	char started[1 + sizeof(pid_t)] = "P";
	struct console_record rec = {0};
	struct stdin_used used = {0};
	char *running = NULL;
	struct err e = {0};

	memcpy(started + 1, &s->command, sizeof(pid_t));
	(void)!send(s->control, started, sizeof(started), MSG_NOSIGNAL);
	s->out.ran = true;
	s->out.started_ns = now_ns();
	s->out.wall_ns = mono_ns();
	if (start_streams(s, &e) < 0)
		why_not(&s->out, e.msg);
	run_until(s, false, -1);
	wait_for_rest(s);
	if (!any_child()) {
		finish(s);
		return;
	}
	each_child(name_one, &running);
	why_not(&s->out, running);
	free(running);
	s->out.left_running = true;
	/* What of stdin was not taken belongs to who comes after the command. */
	if (stdin_finish(s->s->in, &used, &e) < 0)
		why_not(&s->out, e.msg);
	console_flush(s->console);
	compare_running(s);
	idx_unlock(s->s->lock);
	tell_front(s);
	run_until(s, true, -1);
	console_finish(s->console, &rec); /* the last of their output */
}

void supervisor_main(const struct supervised *sd, int control)
{
	struct super s = {.s = sd, .control = control, .step = -1, .fuse_fd = -1};
	struct err e = {0};
	sigset_t all, chld;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signals_all(&all); /* the front blocks those of faults, too */
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	s.signals = signalfd(-1, &chld,
			     SFD_CLOEXEC | SFD_NONBLOCK); /* all signals are blocked already */
	if (begin(&s, &e) < 0)
		give_up(&s, e.msg);
	(void)setpgid(
		0, 0); /* terminal signals and stops are for the command, not for who serves it */
	raise_limits(&s);
	if (idx_open_for_job(sd->cache_dir, false, &s.idx, &e) < 0) {
		(void)kill(s.command, SIGKILL);
		give_up(&s, e.msg);
	}
	idx_lazy_trees(s.idx, sd->lazy);
	if (set_up(&s))
		run(&s);
	else if (!s.out.not_executed)
		give_up(&s, NULL);
	end(&s);
}
