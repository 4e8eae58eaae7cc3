/* SPDX-License-Identifier: MIT */
/*
 * locks.c - the mirrors of the view's locks; see locks.h.
 *
 * A mirror stands for all locks of one file in the view, those of flock(2) and those of fcntl(2)
 * apart. It is an open file of the supervisor with a lock of the same type on the real file, and
 * never weaker than what is held in the view: it covers every lock there (a claim), and every lock
 * that a call, let go on, may still take.
 *
 * Claims come with the calls. They go by calls that unlock, but also by close, exec and exit, of
 * which nobody tells: a thread compares them with /proc/locks as long as there are any. Reading
 * that file waits for an RCU grace period (some 7 ms), unless it was read just before: hence the
 * steady pace while things change.
 *
 * Trouble is the mirror's alone: the call goes on, and the lock is then kept within the view only.
 */
#include "locks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror.h"
#include "probe.h"

#define MS		INT64_C(1000000)
#define SWEEP_MS	4  /* between looks at /proc/locks … */
#define SWEEP_STEADY_MS 20 /* … and when nothing has changed for */
#define STEADY_NS	(1000 * MS)
#define WARM_NS		(8 * MS)   /* /proc/locks is quick to read again within that time */
#define IDLE_NS		(200 * MS) /* a mirror without locks is kept open so long */
#define FRESH_NS	(20 * MS)  /* coarser than any file system's times */
#define MAX_MIRRORS	1024
#define PROBE_NS	(2 * MS) /* a wait that lasts so long is done properly */
#define MAX_PROBES	64
#define MAX_EXITS	64
#define MAX_VIEWS	16
#define KERNEL_RESTART \
	512 /* ERESTARTSYS: the kernel restarts the call or makes it EINTR, as sigaction says */

struct waiter {
	uint64_t id; /* of the notification */
	struct lock_call req;
	struct mirror *mirror;
	int64_t since, next_try;
	unsigned signals_seen;
	bool over;	     /* it was answered, or is gone */
	struct probe *probe; /* waits for it as well, or NULL */
	struct locks *locks;
	struct waiter *next;
};

struct locks {
	pthread_mutex_t mutex;
	int listener, kick, proc_locks;
	struct fs *fs;
	struct mirror *mirrors;
	size_t n_mirrors;
	struct waiter *waiters; /* the list is for the caller of locks_ask and locks_retry only */
	unsigned n_probes;
	/* Devices seen, and whether they are views. */
	struct {
		dev_t dev;
		int mnt_id;
		bool view;
	} views[MAX_VIEWS];
	size_t n_views;
	/* Processes with claims: their end is a reason to look. */
	struct {
		pid_t pid;
		int fd;
	} exits[MAX_EXITS];
	size_t n_exits;
	int64_t changed_ns, swept_ns;
	pthread_t sweeper;
	bool sweeping;
	atomic_bool stopping;
	struct buf text; /* of /proc/locks */
	bool all_listed; /* there, also locks whose process has ended */
};

/* ---- mirrors ---- */

static struct mirror *mirror_find(struct locks *l, dev_t dev, ino_t ino, bool is_flock)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		if (m->ino == ino && m->dev == dev && m->flock == is_flock)
			return m;
	return NULL;
}

/* NULL: the file cannot be locked outside. */
static struct mirror *mirror_make(struct locks *l, dev_t dev, const struct target_file *f,
				  const struct lock_call *q)
{
	bool is_flock = q->kind == LOCK_FLOCK, writable = false;
	struct mirror *m;
	int fd;

	if (l->n_mirrors >= MAX_MIRRORS) {
		log_debug("too many locks for all to be seen outside the view");
		return NULL;
	}
	/* For a lock for writing it is opened so later; but one that may not be read only so. */
	fd = target_open(q->tid, q->fd, f->ino, O_RDONLY);
	if (fd == -EACCES && (is_flock || q->hold == HOLD_WRITE)) {
		fd = target_open(q->tid, q->fd, f->ino, O_WRONLY);
		writable = !is_flock;
		if (fd >= 0 && writable)
			own_writer_begin(fd);
	}
	if (fd < 0) {
		log_debug("a lock is not seen outside the view: %s", strerror(-fd));
		return NULL;
	}
	m = xcalloc(1, sizeof(*m));
	*m = (struct mirror){.dev = dev,
			     .ino = f->ino,
			     .flock = is_flock,
			     .writable = writable,
			     .fd = fd,
			     .next = l->mirrors};
	l->mirrors = m;
	l->n_mirrors++;
	return m;
}

/*
 * The file, and others that are changed under its lock, may have been changed outside while it was
 * not locked: who has locked it must not see what the view remembers of them. The pages of a file
 * that has not changed, by times old enough to tell, are left alone.
 */
static void refresh(struct locks *l, struct mirror *m)
{
	const struct stat *was = &m->at_refresh;
	struct stat st;

	if (l->fs)
		fs_refresh(l->fs);
	if (!l->fs || fstat(m->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	if (m->refresh_ns && st.st_size == was->st_size &&
	    memcmp(&st.st_mtim, &was->st_mtim, sizeof(st.st_mtim)) == 0 &&
	    memcmp(&st.st_ctim, &was->st_ctim, sizeof(st.st_ctim)) == 0 &&
	    timespec_ns(st.st_mtim) + FRESH_NS < m->refresh_ns)
		return;
	m->at_refresh = st;
	m->refresh_ns = now_ns();
	fs_refresh_file(l->fs, st.st_dev, st.st_ino);
}

static void watch_exit(struct locks *l, pid_t pid)
{
	int fd;

	for (size_t k = 0; k < l->n_exits; k++)
		if (l->exits[k].pid == pid)
			return;
	if (l->n_exits == MAX_EXITS)
		return; /* it is noticed a little later */
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return;
	l->exits[l->n_exits].pid = pid;
	l->exits[l->n_exits++].fd = fd;
}

static void claim_request(struct locks *l, struct mirror *m, const struct lock_call *q)
{
	struct claim c = {.kind = q->kind,
			  .hold = q->hold,
			  .start = q->start,
			  .end = q->end,
			  .process = q->process,
			  .tid = q->tid,
			  .nr = q->nr,
			  .arg0 = q->arg0,
			  .arg1 = q->arg1};
	uint64_t one = 1;

	claim_add(m, &c);
	watch_exit(l, q->process);
	if (mono_ns() - l->changed_ns > SWEEP_MS * MS)
		(void)!write(l->kick, &one, sizeof(one)); /* the sweeper may sleep for long */
	l->changed_ns = mono_ns();
}

/* The thread calls again: what it was let into before is over. */
static void settle(struct locks *l, pid_t tid)
{
	for (struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = 0; k < m->n; k++)
			if (m->claims[k].tid == tid)
				m->claims[k].tid = 0;
}

/* Is the file one of a view? */
static bool in_view(struct locks *l, pid_t tid, int fd, int mnt_id, dev_t *ret_dev)
{
	bool view;

	if (target_device(tid, fd, ret_dev) < 0)
		return false;
	/* The first is our own view, whoever mounted it where. */
	for (size_t k = 0; k < l->n_views; k++)
		if (l->views[k].dev == *ret_dev && (l->views[k].mnt_id == mnt_id || k == 0))
			return l->views[k].view;
	view = target_mount_is_view(tid, mnt_id);
	if (l->n_views == MAX_VIEWS)
		l->n_views = 1;
	l->views[l->n_views].dev = *ret_dev;
	l->views[l->n_views].mnt_id = mnt_id;
	l->views[l->n_views++].view = view;
	return view;
}

/* ---- answers ---- */

/* Try to let the call go on: 0, or -EAGAIN when somebody outside is in the way. */
static int grant(struct locks *l, struct mirror *m, const struct lock_call *q)
{
	bool was_free = false;
	int r;

	m->used_ns = mono_ns();
	if (q->own_write && q->hold == HOLD_READ) { /* it only gives up: that cannot fail */
		struct range all = {q->start, q->end, HOLD_WRITE};

		claim_forget(m, q, &(struct ranges){.v = &all, .n = 1});
		claim_request(l, m, q);
		mirror_lower(m);
		return 0;
	}
	r = mirror_raise(m, q, &was_free);
	if (r == -EAGAIN) {
		mirror_lower(m); /* of several stretches some may have been had */
		return r;
	}
	if (r < 0) {
		log_debug("a lock is not seen outside the view: %s", strerror(-r));
		return 0;
	}
	if (!q->own_same)
		claim_request(l, m, q);
	if (was_free)
		refresh(l, m);
	return 0;
}

static void unlock(struct mirror *m, const struct lock_call *q, const struct target_file *f)
{
	m->used_ns = mono_ns();
	claim_settle(m); /* who took the lock need not be who gives it up */
	claim_forget(m, q, &f->held[q->kind]);
	mirror_lower(m);
}

static bool still_waits(const struct locks *l, uint64_t id)
{
	return ioctl(l->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* F_GETLK: a lock outside is told from here, one in the view by the kernel. */
static enum locks_answer tell(const struct locks *l, const struct mirror *m,
			      const struct lock_call *q, const struct seccomp_notif *req)
{
	struct flock f = as_flock(q->start, q->end, q->hold);

	if (fcntl(m->fd, F_OFD_GETLK, &f) < 0 || f.l_type == F_UNLCK || !still_waits(l, req->id))
		return LOCKS_CONTINUE;
	if (target_write(q->tid, req->data.args[2], &f, sizeof(f)) < 0)
		return LOCKS_CONTINUE;
	return LOCKS_DONE;
}

static enum locks_answer wait_for_it(struct locks *l, struct mirror *m, const struct lock_call *q,
				     uint64_t id)
{
	struct waiter *w = xcalloc(1, sizeof(*w)), **end = &l->waiters;

	*w = (struct waiter){.id = id, .req = *q, .mirror = m, .since = mono_ns(), .locks = l};
	w->next_try = w->since + MS;
	m->waiters++;
	while (*end)
		end = &(*end)->next; /* who came first is tried first */
	*end = w;
	return LOCKS_LATER;
}

static enum locks_answer ask(struct locks *l, const struct seccomp_notif *req, int *ret_error)
{
	pid_t tid = (pid_t)req->pid;
	int fd = (int)req->data.args[0];
	struct lock_call q;
	auto_target_file struct target_file f = {0};
	struct mirror *m;
	dev_t dev;

	settle(l, tid);
	if (target_file_get(tid, fd, &f) < 0 || !in_view(l, tid, fd, f.mnt_id, &dev) ||
	    !lock_call_read(req, &f, &q))
		return LOCKS_CONTINUE;
	q.process = target_process(q.tid);
	m = mirror_find(l, dev, f.ino, q.kind == LOCK_FLOCK);
	if (q.hold == HOLD_NONE) {
		if (m)
			unlock(m, &q, &f);
		return LOCKS_CONTINUE;
	}
	if (!m)
		m = mirror_make(l, dev, &f, &q);
	if (!m)
		return LOCKS_CONTINUE;
	if (q.ask)
		return tell(l, m, &q, req);
	if (grant(l, m, &q) == 0)
		return LOCKS_CONTINUE;
	if (q.wait)
		return wait_for_it(l, m, &q, req->id);
	*ret_error = EAGAIN; /* EWOULDBLOCK is the same */
	return LOCKS_ERROR;
}

enum locks_answer locks_ask(struct locks *l, const struct seccomp_notif *req, int *ret_error)
{
	enum locks_answer a;

	pthread_mutex_lock(&l->mutex);
	a = ask(l, req, ret_error);
	pthread_mutex_unlock(&l->mutex);
	return a;
}

/* ---- who waits ---- */

static void respond(const struct locks *l, uint64_t id, int error)
{
	struct seccomp_notif_resp r = {.id = id, .error = -error};

	if (!error)
		r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	(void)ioctl(l->listener, SECCOMP_IOCTL_NOTIF_SEND,
		    &r); /* fails only when the caller is gone */
}

/* A signal interrupts the wait as it would the kernel's own. One that another thread may take as
 * well must not make the kernel restart a call in a thread that then has none; EINTR is right for
 * that one too. */
static int interrupted(struct waiter *w)
{
	switch (target_signals(w->req.tid, w->req.process)) {
	case SIGNAL_OWN:
		return KERNEL_RESTART;
	case SIGNAL_SHARED:
		return ++w->signals_seen > 3 ? EINTR : 0;
	case SIGNAL_NONE:
		break;
	}
	return 0;
}

/* Try to answer it. */
static void try_again(struct locks *l, struct waiter *w)
{
	int64_t now = mono_ns(), wait = (now - w->since) / 16;
	int error;

	if (!still_waits(l, w->id)) {
		w->over = true;
	} else if (grant(l, w->mirror, &w->req) == 0) {
		respond(l, w->id, 0);
		w->over = true;
	} else if ((error = interrupted(w))) {
		respond(l, w->id, error);
		w->over = true;
	}
	w->next_try = now + (wait < MS ? MS : wait > 20 * MS ? 20 * MS : wait);
}

/* In the probe's thread. The lock passes to the mirror: for a moment it is free, which is too short
 * for anybody who has to be woken first. */
static bool probe_got(void *arg)
{
	struct waiter *w = arg;
	struct locks *l = w->locks;
	bool over;

	pthread_mutex_lock(&l->mutex);
	probe_release(w->probe);
	if (!w->over)
		try_again(l, w);
	over = w->over;
	pthread_mutex_unlock(&l->mutex);
	return over;
}

static void join_the_queue(struct locks *l, struct waiter *w)
{
	if (w->probe || l->n_probes == MAX_PROBES || mono_ns() - w->since < PROBE_NS)
		return;
	w->probe = probe_start(w->mirror->fd, &w->req, probe_got, w);
	l->n_probes += w->probe ? 1 : 0;
}

/* Is nothing left of it but its memory? */
static bool is_done(struct locks *l, struct waiter *w)
{
	if (!w->over)
		return false;
	if (w->probe && !probe_stop(w->probe)) {
		w->next_try = mono_ns() + MS;
		return false;
	}
	l->n_probes -= w->probe ? 1 : 0;
	w->mirror->waiters--;
	return true;
}

int locks_retry(struct locks *l)
{
	int64_t next = INT64_MAX, left;

	if (!l->waiters)
		return -1;
	pthread_mutex_lock(&l->mutex);
	for (struct waiter **p = &l->waiters, *w; (w = *p);) {
		if (!w->over && w->next_try <= mono_ns()) {
			try_again(l, w);
			if (!w->over)
				join_the_queue(l, w);
		}
		if (is_done(l, w)) {
			*p = w->next;
			free(w);
			continue;
		}
		next = w->next_try < next ? w->next_try : next;
		p = &w->next;
	}
	pthread_mutex_unlock(&l->mutex);
	left = next - mono_ns();
	return next == INT64_MAX ? -1 : left <= 0 ? 0 : (int)(left / MS + 1);
}

/* ---- the sweep ---- */

/* One reading of /proc/locks into l->text. The kernel gives a page at a time, and what lies at a
 * border may be missed when locks go meanwhile; so what takes several is read twice. */
static bool read_locks(struct locks *l)
{
	int pages = 0;
	ssize_t n;

	l->text.len = 0;
	for (int pass = 0; pass < 2; pass++) {
		off_t at = 0;

		do {
			buf_reserve(&l->text, 65536);
			n = pread(l->proc_locks, l->text.data + l->text.len, 65535, at);
			if (n > 0) {
				l->text.len += (size_t)n;
				at += n;
				pages++;
			}
		} while (n > 0);
		if (n < 0)
			return false;
		if (pages <= 1)
			break;
	}
	buf_u8(&l->text, 0);
	return true;
}

static size_t count_claims(const struct locks *l)
{
	size_t n = 0;

	for (const struct mirror *m = l->mirrors; m; m = m->next)
		n += m->n;
	return n;
}

static bool has_ended(pid_t process)
{
	return !process || (kill(process, 0) < 0 && errno == ESRCH);
}

/* Keep the claims of calls that are still under way; those that are through stand in /proc/locks,
 * or are gone. Where that leaves out locks whose process has ended, descriptors tell of these. */
static void drop_settled(struct locks *l)
{
	for (struct mirror *m = l->mirrors; m; m = m->next) {
		struct claim left = {.kind = LOCK_FLOCK, .end = INT64_MAX};
		bool look = false;

		for (size_t k = m->n; k-- > 0;) {
			if (m->claims[k].tid)
				continue;
			look |= m->flock && !l->all_listed && has_ended(m->claims[k].process);
			claim_remove(m, k);
		}
		left.hold = look ? holder_find(m->dev, m->ino, &m->holder) : HOLD_NONE;
		if (left.hold)
			claim_add(m, &left);
	}
}

static void claim_held(struct locks *l)
{
	char *save = NULL;

	for (char *line = strtok_r((char *)l->text.data, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct lock_line h;
		struct mirror *m;

		if (!lock_line_parse(line, &h))
			continue;
		m = mirror_find(l, h.dev, h.ino, h.kind == LOCK_FLOCK);
		if (m)
			claim_add(m, &(struct claim){.kind = h.kind,
						     .hold = h.hold,
						     .start = h.start,
						     .end = h.end,
						     .process = h.pid});
	}
}

static void close_idle(struct locks *l)
{
	int64_t now = mono_ns();

	for (struct mirror **p = &l->mirrors, *m; (m = *p);) {
		if (m->n || m->waiters || m->held.n || now - m->used_ns < IDLE_NS) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		l->n_mirrors--;
		mirror_free(m);
	}
}

static void sweep(struct locks *l)
{
	size_t before = count_claims(l);

	for (struct mirror *m = l->mirrors; m; m = m->next)
		claim_settle(m); /* before the reading: what is through then is in it */
	if (before && read_locks(l)) {
		drop_settled(l);
		claim_held(l);
		for (struct mirror *m = l->mirrors; m; m = m->next)
			mirror_lower(m);
		l->swept_ns = mono_ns();
		if (count_claims(l) != before)
			l->changed_ns = l->swept_ns;
	}
	close_idle(l);
}

static bool claims_of(const struct locks *l, pid_t pid)
{
	for (const struct mirror *m = l->mirrors; m; m = m->next)
		for (size_t k = 0; k < m->n; k++)
			if (m->claims[k].process == pid)
				return true;
	return false;
}

/* Processes that have ended, or have no lock any more. */
static void drop_exits(struct locks *l, const struct pollfd *p, size_t n)
{
	for (size_t k = l->n_exits; k-- > 0;) {
		bool ended = k < n && p[k].fd == l->exits[k].fd && p[k].revents;

		if (!ended && claims_of(l, l->exits[k].pid))
			continue;
		close(l->exits[k].fd);
		l->exits[k] = l->exits[--l->n_exits];
	}
}

static int sweep_timeout(const struct locks *l)
{
	if (count_claims(l))
		return mono_ns() - l->changed_ns < STEADY_NS ? SWEEP_MS : SWEEP_STEADY_MS;
	return l->mirrors ? (int)(IDLE_NS / MS) : -1;
}

static void *sweep_main(void *arg)
{
	struct pollfd p[1 + MAX_EXITS];
	struct locks *l = arg;
	uint64_t count;
	char byte;

	pthread_mutex_lock(&l->mutex);
	while (!atomic_load(&l->stopping)) {
		size_t n = l->n_exits;
		int timeout = sweep_timeout(l), r;
		bool cold;

		p[0] = (struct pollfd){.fd = l->kick, .events = POLLIN};
		for (size_t k = 0; k < n; k++)
			p[1 + k] = (struct pollfd){.fd = l->exits[k].fd, .events = POLLIN};
		cold = count_claims(l) && mono_ns() - l->swept_ns > WARM_NS;
		pthread_mutex_unlock(&l->mutex);
		r = poll(p, 1 + n, timeout);
		if (r > 0 && p[0].revents)
			(void)!read(l->kick, &count, sizeof(count)); /* only to be woken */
		if (cold)
			(void)!pread(l->proc_locks, &byte, 1, 0); /* nobody waits for us here */
		pthread_mutex_lock(&l->mutex);
		if (r == 1 && p[0].revents)
			continue;
		sweep(l);
		drop_exits(l, p + 1, n);
	}
	pthread_mutex_unlock(&l->mutex);
	return NULL;
}

/* ---- beginning and end ---- */

static bool start_sweeper(struct locks *l)
{
	sigset_t all, old;

	signals_all(&all); /* signals are the main thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	l->sweeping = pthread_create(&l->sweeper, NULL, sweep_main, l) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return l->sweeping;
}

struct locks *locks_new(int listener, pid_t command, struct fs *fs)
{
	struct locks *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->mutex, NULL);
	l->listener = listener;
	l->fs = fs;
	l->views[0].view = true;
	l->n_views = 1;
	l->all_listed = holder_all_listed();
	l->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->proc_locks = open("/proc/locks", O_RDONLY | O_CLOEXEC);
	if (target_device(command, -1, &l->views[0].dev) < 0 || l->kick < 0 || l->proc_locks < 0 ||
	    !start_sweeper(l)) {
		log_debug("locks of the step are not seen outside the view: %s", strerror(errno));
		locks_free(l);
		return NULL;
	}
	return l;
}

void locks_free(struct locks *l)
{
	uint64_t one = 1;

	if (!l)
		return;
	if (l->sweeping) {
		atomic_store(&l->stopping, true);
		(void)!write(l->kick, &one, sizeof(one)); /* an eventfd at 0 takes it */
		pthread_join(l->sweeper, NULL);
	}
	for (struct waiter *w = l->waiters, *next; w; w = next) {
		next = w->next;
		pthread_mutex_lock(&l->mutex);
		w->over = true;
		pthread_mutex_unlock(&l->mutex);
		while (!is_done(l, w))
			usleep(200);
		free(w);
	}
	for (struct mirror *m = l->mirrors, *next; m; m = next) {
		next = m->next;
		mirror_free(m);
	}
	for (size_t k = 0; k < l->n_exits; k++)
		close(l->exits[k].fd);
	base_close(&l->kick);
	base_close(&l->proc_locks);
	buf_free(&l->text);
	pthread_mutex_destroy(&l->mutex);
	free(l);
}
