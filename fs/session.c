/* SPDX-License-Identifier: MIT */
/* session.c - the FUSE session: features, the loop, counting. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors kept for files that were read or written. A long step may have many mapped, and wants them when somebody
 * else (a package upgrade) has replaced them; the hard limit is 4,096 on some machines. */
#define MAX_FDS	     8192
/* What everything else needs. */
#define OTHER_FDS    (LOOKED_FDS + 256)
#define ABORT_SIGNAL SIGRTMIN

static void op_init(void *userdata, struct fuse_conn_info *c)
{
	struct fs *fs = userdata;
	/* In no-open mode the kernel must truncate by SETATTR; attributes of readdirplus would hide from us
	 * which entries are asked for; with the writeback cache each close drops the attributes; without
	 * KILLPRIV the kernel removes set-user-id bits itself, exactly. */
	const unsigned unwanted = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
				  FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE |
				  FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_POSIX_LOCKS |
				  FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_SPLICE_READ;
	unsigned wanted = FUSE_CAP_DONT_MASK | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_READ |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_ASYNC_DIO |
			  FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR;

	if (fs->posix_acl)
		wanted |= FUSE_CAP_POSIX_ACL;
	c->want = (c->want & ~unwanted) | (wanted & c->capable);
	if (!(c->capable & FUSE_CAP_NO_OPEN_SUPPORT))
		trace_spoil(fs->trace,
			    "this kernel's FUSE cannot do without OPEN (Linux 3.16 or newer can)");
	c->max_write = IO_MAX;
	c->time_gran = 1;
}

/* As many as the limit leaves room for, beside what everything else needs. */
static void fd_limits(unsigned *ret_kept, unsigned *ret_looked)
{
	struct rlimit l;

	*ret_kept = MAX_FDS;
	*ret_looked = LOOKED_FDS;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= MAX_FDS + OTHER_FDS)
		return;
	*ret_kept =
		(unsigned)(l.rlim_cur >= 4 * OTHER_FDS ? l.rlim_cur - OTHER_FDS : l.rlim_cur / 2);
	if (l.rlim_cur < 8 * LOOKED_FDS)
		*ret_looked = (unsigned)l.rlim_cur / 8 + 1;
}

/* Nobody tells what happens to it any more. */
static void inode_gone(void *arg, struct inode *i)
{
	struct fs *fs = arg;

	if (i->written >= FOLLOW_MIN && i->written != NOT_IN_ROW)
		(void)follow_rewritten(fs->follower, i, 0); /* it goes in any case */
}

const char *fs_library_version(void)
{
	return fuse_pkgversion();
}

int fs_new(const struct fs_options *o, struct fs **ret, struct err *e)
{
	struct fs *fs = xcalloc(1, sizeof(*fs));
	unsigned max_fds, max_looked;
	int r;

	pthread_mutex_init(&fs->refreshing, NULL);
	pthread_mutex_init(&fs->fresh.mutex, NULL);
	pthread_mutex_init(&fs->waits.mutex, NULL);
	fs->lazy = idx_lazy_of(o->idx);
	fs->own_ids_only = o->own_ids_only;
	fs->posix_acl = o->posix_acl;
	fs->answer = o->answer;
	fs->answer_arg = o->answer_arg;
	fd_limits(&max_fds, &max_looked);
	r = inodes_init(&fs->inodes, max_fds, max_looked, e);
	if (r == 0) {
		fs->trace = trace_new(o, e);
		r = fs->trace ? 0 : -e->code;
	}
	if (r < 0) {
		fs_free(fs);
		return r;
	}
	ids_init(fs);
	fs->follower = follower_new(o->idx);
	fs->inodes.gone = inode_gone;
	fs->inodes.gone_arg = fs;
	fs->io = io_alloc(IO_MAX);
	if (!fs->io) {
		fs_free(fs);
		return err_set(e, ENOMEM, "cannot make a buffer");
	}
	*ret = fs;
	return 0;
}

/* Ends the loop's waiting; see fs_abort. */
static void on_abort(int sig)
{
	(void)sig;
}

/* Let the abort signal interrupt this thread's waiting. */
static void hear_abort(void)
{
	struct sigaction sa = {.sa_handler = on_abort};
	sigset_t set;

	(void)sigaction(ABORT_SIGNAL, &sa, NULL); /* cannot fail for a real-time signal */
	sigemptyset(&set);
	sigaddset(&set, ABORT_SIGNAL);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int loop(struct fs *fs, struct err *e)
{
	struct fuse_buf b = {.mem = NULL};
	int r = 0;

	while (!atomic_load(&fs->aborted)) {
		if (atomic_load_explicit(&fs->waits.any_done, memory_order_acquire))
			lazy_answer(fs);
		r = await_request(&fs->await, fs->se, &b);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		protocol_handle(fs, &b);
	}
	free(b.mem);
	if (r < 0 && r != -ENODEV && r != -EINTR)
		return err_set(e, -r, "cannot read FUSE requests");
	return 0;
}

/* With a few hundred descriptors, most of the memory that recording took. */
static void *let_go(void *arg)
{
	struct fs *fs = arg;

	inodes_free(&fs->inodes);
	fresh_free(&fs->fresh);
	(void)malloc_trim(0);
	return NULL;
}

int fs_serve(struct fs *fs, int fuse_fd, struct err *e)
{
	struct fuse_lowlevel_ops ops = {.init = op_init};
	int r;

	ops_name_init(&ops);
	ops_rename_init(&ops);
	ops_attr_init(&ops);
	ops_open_init(&ops);
	ops_data_init(&ops);
	r = wire_session(&ops, fs, fuse_fd, protocol_writev, &fs->se, e);
	if (r < 0)
		return r;
	fs->thread = pthread_self();
	hear_abort();
	r = await_init(&fs->await, fuse_fd, ABORT_SIGNAL, e);
	protocol_serving(fs, true);
	if (r == 0)
		r = loop(fs, e);
	lazy_end(fs);
	protocol_serving(fs, false);
	await_done(&fs->await);
	fuse_session_destroy(fs->se); /* closes the descriptor */
	fs->se = NULL;
	/* What comes after wants the memory, but need not wait until it has it. */
	fs->letting_go = pthread_create(&fs->freeing, NULL, let_go, fs) == 0;
	if (!fs->letting_go)
		(void)let_go(fs);
	return r;
}

void fs_abort(struct fs *fs)
{
	atomic_store(&fs->aborted, true);
	session_wake(fs); /* gone already: nothing to interrupt */
}

void session_wake(struct fs *fs)
{
	(void)pthread_kill(fs->thread, ABORT_SIGNAL);
}

int fs_followed(struct fs *fs, const struct stat *st, struct oid *ret_oid, struct fp *ret_fp,
		uint64_t *ret_size)
{
	return follow_finish(fs->follower, st, ret_oid, ret_fp, ret_size);
}

void fs_unfollow(struct fs *fs)
{
	follower_free(take(fs->follower));
}

struct trace *fs_trace(struct fs *fs)
{
	return fs->trace;
}

void fs_request_counts(const struct fs *fs, struct buf *out)
{
	wire_counts(fs->counts, out);
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	if (fs->letting_go)
		pthread_join(fs->freeing, NULL);
	inodes_free(&fs->inodes);
	follower_free(fs->follower);
	trace_free(fs->trace);
	fresh_free(&fs->fresh);
	free(fs->groups);
	free(fs->io);
	free(fs);
}
