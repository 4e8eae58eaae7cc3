/* SPDX-License-Identifier: MIT */
/*
 * mount.c - the session of a persistent mount: features, threads, counting.
 *
 * One thread at a time waits for requests, and handles what it gets if that is quick: so a single user is served by one thread,
 * whose processor has all that is needed at hand. Before it begins with something that may take long it lets another wait.
 */
#include "mount.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define THREADS_MAX 64
/* A thread that has handled a request for so long lets another wait for the next. */
#define PATIENCE_NS 10000000
#define IDLE_NS	    1000000000

static _Thread_local struct worker *worker;

struct worker *mount_worker(void)
{
	return worker;
}

static void op_init(void *userdata, struct fuse_conn_info *c)
{
	struct fs_mount *m = userdata;
	/* With the writeback cache each close drops the attributes, and writes by others would be lost. Without KILLPRIV the
	 * kernel removes set-user-id bits itself. */
	const unsigned unwanted = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
				  FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE |
				  FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_SPLICE_READ;
	unsigned wanted = FUSE_CAP_DONT_MASK | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_READ |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_ASYNC_DIO |
			  FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR | FUSE_CAP_POSIX_LOCKS |
			  FUSE_CAP_FLOCK_LOCKS;

	if (m->o.posix_acl)
		wanted |= FUSE_CAP_POSIX_ACL;
	c->want = (c->want & ~unwanted) | (wanted & c->capable);
	c->max_write = MOUNT_IO_MAX;
	c->max_background = 64;
	c->congestion_threshold = 48;
	c->time_gran = 1;
}

int fs_mount_new(const struct fs_mount_options *o, struct fs_mount **ret, struct err *e)
{
	struct fs_mount *m = xcalloc(1, sizeof(*m));
	struct statfs sf;
	int r;

	m->o = *o;
	m->stacked = fstatfs(o->root, &sf) == 0 && sf.f_type == OVERLAYFS_SUPER_MAGIC;
	pthread_mutex_init(&m->turn, NULL);
	pthread_mutex_init(&m->absents.lock, NULL);
	pthread_cond_init(&m->turn_free, NULL);
	pthread_cond_init(&m->work_comes, NULL);
	pthread_cond_init(&m->all_ended, NULL);
	for (int k = 0; k < OPENING_LOCKS; k++)
		pthread_mutex_init(&m->opening[k], NULL);
	for (int k = 0; k < OPENING_LOCKS; k++)
		pthread_mutex_init(&m->realizing[k], NULL);
	pthread_mutex_init(&m->verified.lock, NULL);
	caller_init(m);
	m->locker = locker_new();
	r = nodes_init(&m->nodes, o->root, e);
	if (r < 0) {
		fs_mount_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* ---- threads ---- */

static void *work(void *arg);

/* Under `turn`. */
static void start(struct fs_mount *m, void *(*run)(void *arg))
{
	pthread_attr_t a;
	pthread_t t;

	pthread_attr_init(&a);
	(void)pthread_attr_setstacksize(&a, 256 << 10); /* else: the usual size */
	(void)pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &a, run, m) == 0)
		m->threads++; /* else: those that there are have to do */
	pthread_attr_destroy(&a);
}

static void start_one(struct fs_mount *m)
{
	start(m, work);
}

static void take_turn(struct worker *w)
{
	struct fs_mount *m = w->m;

	pthread_mutex_lock(&m->turn);
	m->waiting++;
	while (m->turn_of && m->turn_of != w)
		pthread_cond_wait(&m->turn_free, &m->turn);
	m->waiting--;
	m->turn_of = w;
	pthread_mutex_unlock(&m->turn);
}

/* Under `turn`. */
static void free_turn(struct fs_mount *m)
{
	m->turn_of = NULL;
	atomic_store(&m->busy_since, 0);
	if (!m->waiting && m->threads < THREADS_MAX && !atomic_load(&m->ended))
		start_one(m);
	pthread_cond_signal(&m->turn_free);
}

static void give_turn(struct worker *w)
{
	struct fs_mount *m = w->m;

	pthread_mutex_lock(&m->turn);
	if (m->turn_of == w)
		free_turn(m);
	pthread_mutex_unlock(&m->turn);
}

/* ---- the watchdog ---- */

/* What is quick as a rule may wait for a disk as well: another thread takes over then. */
static void look_after(struct fs_mount *m)
{
	int64_t since = atomic_load(&m->busy_since);

	if (!since || mono_ns() - since < PATIENCE_NS)
		return;
	pthread_mutex_lock(&m->turn);
	if (atomic_load(&m->busy_since) == since && m->turn_of)
		free_turn(m);
	pthread_mutex_unlock(&m->turn);
}

/* Awake only while there are requests. */
static void *watch(void *arg)
{
	const struct timespec pause = {.tv_nsec = PATIENCE_NS / 2};
	struct fs_mount *m = arg;
	int64_t last = mono_ns();

	pthread_mutex_lock(&m->turn);
	while (!atomic_load(&m->ended)) {
		if (mono_ns() - last > IDLE_NS) {
			atomic_store(&m->watched, false);
			while (!atomic_load(&m->watched) && !atomic_load(&m->ended))
				pthread_cond_wait(&m->work_comes, &m->turn);
			last = mono_ns();
		}
		pthread_mutex_unlock(&m->turn);
		(void)nanosleep(&pause, NULL);
		if (atomic_load(&m->busy_since))
			last = mono_ns();
		look_after(m);
		pthread_mutex_lock(&m->turn);
	}
	m->threads--;
	pthread_cond_signal(&m->all_ended);
	pthread_mutex_unlock(&m->turn);
	return NULL;
}

static void begin_request(struct fs_mount *m)
{
	atomic_store_explicit(&m->busy_since, mono_ns(), memory_order_relaxed);
	if (atomic_load_explicit(&m->watched, memory_order_relaxed))
		return;
	pthread_mutex_lock(&m->turn);
	atomic_store(&m->watched, true);
	pthread_cond_signal(&m->work_comes);
	pthread_mutex_unlock(&m->turn);
}

void mount_let_others(void)
{
	if (worker)
		give_turn(worker);
}

/* May it wait for a disk, a lock, somebody else? */
static bool is_slow(const struct fuse_buf *b)
{
	struct fuse_in_header h;

	if (b->size < sizeof(h) || (b->flags & FUSE_BUF_IS_FD))
		return true;
	memcpy(&h, b->mem, sizeof(h));
	switch (h.opcode) {
	case FUSE_INIT:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case FUSE_READLINK:
	case FUSE_OPEN:
	case FUSE_OPENDIR:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_READDIR:
	case FUSE_GETXATTR:
	case FUSE_INTERRUPT:
	case FUSE_MKDIR:
	case FUSE_CREATE:
	case FUSE_SYMLINK:
	case FUSE_SETATTR:
		return false;
	}
	return true;
}

static void serve(struct worker *w)
{
	struct fs_mount *m = w->m;
	struct fuse_buf b = {.mem = NULL};
	int r;

	for (;;) {
		take_turn(w);
		atomic_store_explicit(&m->busy_since, 0, memory_order_relaxed);
		r = atomic_load(&m->ended) ? 0 : fuse_session_receive_buf(m->se, &b);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		if (is_slow(&b))
			give_turn(w);
		else
			begin_request(m);
		mount_handle(w, &b);
	}
	if (r < 0 && r != -ENODEV)
		log_debug("cannot read FUSE requests: %s", strerror(-r));
	free(b.mem);
	pthread_mutex_lock(&m->turn);
	atomic_store(&m->ended, true);
	pthread_cond_signal(&m->work_comes);
	pthread_mutex_unlock(&m->turn);
}

static void *work(void *arg)
{
	struct fs_mount *m = arg;
	struct worker w = {.m = m};

	worker = &w;
	/* A umask of its own, before it is touched: the thread that made this one has it meanwhile. */
	if (unshare(CLONE_FS) < 0)
		log_debug("cannot have a umask a thread: %s", strerror(errno));
	w.umask = umask(022);
	umask(w.umask);
	w.io = io_alloc(MOUNT_IO_MAX);
	if (!w.io)
		no_memory();
	serve(&w);
	free(w.io);
	give_turn(&w);
	pthread_mutex_lock(&m->turn);
	m->threads--;
	pthread_cond_signal(&m->all_ended);
	pthread_mutex_unlock(&m->turn);
	return NULL;
}

static void run_threads(struct fs_mount *m)
{
	pthread_mutex_lock(&m->turn);
	start_one(m);
	start(m, watch);
	while (m->threads)
		pthread_cond_wait(&m->all_ended, &m->turn);
	pthread_mutex_unlock(&m->turn);
}

/* ---- the session ---- */

int fs_mount_serve(struct fs_mount *m, int fuse_fd, struct err *e)
{
	struct fuse_lowlevel_ops ops = {.init = op_init};
	int r;

	mount_name_ops(&ops);
	mount_attr_ops(&ops);
	mount_file_ops(&ops);
	mount_dir_ops(&ops);
	mount_lock_ops(&ops);
	r = wire_session(&ops, m, fuse_fd, mount_writev, &m->se, e);
	if (r < 0)
		return r;
	run_threads(m);
	fuse_session_destroy(m->se); /* closes the descriptor */
	m->se = NULL;
	return 0;
}

void fs_mount_counts(struct fs_mount *m, struct buf *out, size_t *ret_nodes)
{
	uint64_t counts[MAX_OPCODES];

	for (int k = 0; k < MAX_OPCODES; k++)
		counts[k] = atomic_load_explicit(&m->counts[k], memory_order_relaxed);
	wire_counts(counts, out);
	pthread_mutex_lock(&m->nodes.lock);
	*ret_nodes = m->nodes.n;
	pthread_mutex_unlock(&m->nodes.lock);
}

void fs_mount_free(struct fs_mount *m)
{
	if (!m)
		return;
	nodes_free(&m->nodes);
	absents_free(&m->absents);
	locker_free(m->locker);
	free(m);
}
