/* SPDX-License-Identifier: MIT */
/* browse.c - the cache as a tree to look at: serving it, the index while it is needed, names and attributes. */
#include "browse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define THREADS	 4
#define GOOD_FOR 1.0 /* seconds that the kernel believes names and attributes */
#define IDLE_MS	 1000

void browse_count(struct browse *b, enum browse_count what)
{
	atomic_fetch_add(&b->counts[what], 1);
}

void browse_plain(struct buf *out, const char *text)
{
	for (; *text; text++)
		if ((uint8_t)*text < 0x20 || *text == 0x7f || *text == '\\')
			buf_addf(out, "\\x%02x", (uint8_t)*text);
		else
			buf_u8(out, (uint8_t)*text);
}

/* ---- the index ---- */

int browse_index(struct browse *b, struct idx **ret, struct err *e)
{
	int r = 0;

	(void)pthread_mutex_lock(&b->opening);
	if (!b->x)
		r = idx_open(b->cache, true, &b->x, e);
	if (r == 0) {
		b->users++;
		*ret = b->x;
	}
	(void)pthread_mutex_unlock(&b->opening);
	if (r < 0)
		log_debug("%s", e->msg);
	return r == -EUCLEAN || r == -ENOENT ? -EIO : r;
}

void browse_index_done(struct browse *b)
{
	(void)pthread_mutex_lock(&b->opening);
	b->users--;
	b->used_ns = mono_ns();
	(void)pthread_mutex_unlock(&b->opening);
}

/* Who has the index open keeps gc from removing objects for a while, and fsck from mending it: so it is closed when
 * nobody looks. */
static void close_idle(struct browse *b, bool now)
{
	struct idx *x = NULL;

	(void)pthread_mutex_lock(&b->opening);
	if (!b->users && (now || mono_ns() - b->used_ns >= IDLE_MS * INT64_C(1000000)))
		x = take(b->x);
	/* Under the lock: a process opens a cache once at a time. */
	idx_close(x);
	(void)pthread_mutex_unlock(&b->opening);
	if (x)
		shown_drop(b);
}

static bool index_is_open(struct browse *b)
{
	bool open;

	(void)pthread_mutex_lock(&b->opening);
	open = b->x != NULL;
	(void)pthread_mutex_unlock(&b->opening);
	return open;
}

/* ---- names and attributes ---- */

static void op_init(void *userdata, struct fuse_conn_info *c)
{
	(void)userdata;
	c->want |= c->capable & (FUSE_CAP_SPLICE_WRITE | FUSE_CAP_ASYNC_READ |
				 FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO);
	c->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_READDIRPLUS |
			       FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE);
	c->time_gran = 1;
}

static int look_up(struct browse *b, fuse_req_t req, struct node *dir, const char *name,
		   struct fuse_entry_param *ret)
{
	auto_place struct place p = {0};
	struct node *n;
	struct idx *x;
	struct err e;
	int r = browse_index(b, &x, &e);

	if (r < 0)
		return r;
	r = browse_resolve(b, x, dir, name, req, &p);
	if (r == 0)
		r = browse_stat(b, x, &p, browse_ino(dir, name), &ret->attr);
	browse_index_done(b);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	n = browse_get(b, dir, name, &p);
	ret->ino = (uintptr_t)n;
	ret->generation = 1;
	ret->attr_timeout = ret->entry_timeout = GOOD_FOR;
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct browse *b = fuse_req_userdata(req);
	struct fuse_entry_param entry = {0};
	int r;

	browse_count(b, BROWSE_LOOKUP);
	r = look_up(b, req, browse_node(b, parent), name, &entry);
	if (r < 0)
		(void)fuse_reply_err(req, -r); /* the kernel may be gone: nobody to tell */
	else if (fuse_reply_entry(req, &entry) < 0)
		browse_forget(b, browse_node(b, entry.ino), 1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	struct browse *b = fuse_req_userdata(req);

	if (ino != FUSE_ROOT_ID)
		browse_forget(b, browse_node(b, ino), lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *v)
{
	struct browse *b = fuse_req_userdata(req);

	for (size_t i = 0; i < n; i++)
		if (v[i].ino != FUSE_ROOT_ID)
			browse_forget(b, browse_node(b, v[i].ino), v[i].nlookup);
	fuse_reply_none(req);
}

/* Who has it open may still ask what it is. */
static bool was_opened(struct browse *b, const struct node *n, struct stat *ret)
{
	bool open;

	(void)pthread_mutex_lock(&b->mutex);
	open = n->opened && n->opened->opens > 0;
	if (open)
		*ret = n->opened->st;
	(void)pthread_mutex_unlock(&b->mutex);
	return open;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct browse *b = fuse_req_userdata(req);
	const struct node *n = browse_node(b, ino);
	struct stat st;
	struct idx *x;
	struct err e;
	int r;

	(void)fi;
	browse_count(b, BROWSE_GETATTR);
	r = browse_index(b, &x, &e);
	if (r == 0) {
		r = browse_stat(b, x, &n->at, n->ino, &st);
		browse_index_done(b);
	}
	if (r == -ESTALE && was_opened(b, n, &st))
		r = 0;
	if (r < 0)
		(void)fuse_reply_err(req, -r); /* as above */
	else
		(void)fuse_reply_attr(req, &st, GOOD_FOR); /* as above */
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct browse *b = fuse_req_userdata(req);
	struct statvfs st;

	(void)ino;
	if (statvfs(b->cache, &st) < 0) {
		(void)fuse_reply_err(req, errno); /* as above */
		return;
	}
	st.f_bavail = st.f_bfree = 0; /* nothing can be put here */
	st.f_files = st.f_ffree = st.f_favail = 0;
	st.f_namemax = 255;
	(void)fuse_reply_statfs(req, &st); /* as above */
}

/* ---- nothing can be changed, though the mount be made writable ---- */

static void refuse(fuse_req_t req)
{
	(void)fuse_reply_err(req, EROFS); /* as above */
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int what,
		       struct fuse_file_info *fi)
{
	(void)ino, (void)st, (void)what, (void)fi;
	refuse(req);
}

static void op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t dev)
{
	(void)dir, (void)name, (void)mode, (void)dev;
	refuse(req);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode)
{
	(void)dir, (void)name, (void)mode;
	refuse(req);
}

static void op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	(void)dir, (void)name;
	refuse(req);
}

static void op_symlink(fuse_req_t req, const char *to, fuse_ino_t dir, const char *name)
{
	(void)to, (void)dir, (void)name;
	refuse(req);
}

static void op_rename(fuse_req_t req, fuse_ino_t from, const char *name, fuse_ino_t to,
		      const char *new_name, unsigned flags)
{
	(void)from, (void)name, (void)to, (void)new_name, (void)flags;
	refuse(req);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name)
{
	(void)ino, (void)dir, (void)name;
	refuse(req);
}

static void op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	(void)dir, (void)name, (void)mode, (void)fi;
	refuse(req);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	(void)ino, (void)name, (void)value, (void)size, (void)flags;
	refuse(req);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino, (void)name;
	refuse(req);
}

static const struct fuse_lowlevel_ops basic_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.statfs = op_statfs,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
};

/* ---- serving ---- */

/* A descriptor to wait with: a request wakes one thread, an end all of them. */
static int waiting(const struct browse *b)
{
	auto_close int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event request = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = -1},
			   stop = {.events = EPOLLIN, .data.fd = b->stop};

	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, b->stop, &stop) < 0 ||
	    epoll_ctl(fd, EPOLL_CTL_ADD, fuse_session_fd(b->se), &request) < 0)
		return -errno;
	return take_fd(&fd);
}

/* One of several threads. */
static void *serve(void *arg)
{
	struct browse *b = arg;
	struct fuse_buf buf = {.mem = NULL};
	auto_close int fd = waiting(b);
	struct epoll_event e;

	while (fd >= 0) {
		int r = epoll_wait(fd, &e, 1, index_is_open(b) ? IDLE_MS : -1);

		if ((r > 0 && e.data.fd == b->stop) || (r < 0 && errno != EINTR))
			break;
		if (r == 0)
			close_idle(b, false);
		if (r <= 0)
			continue;
		r = fuse_session_receive_buf(b->se, &buf);
		if (r == -EINTR || r == -EAGAIN)
			continue; /* another thread has it */
		if (r <= 0)
			break; /* unmounted */
		fuse_session_process_buf(b->se, &buf);
	}
	free(buf.mem);
	browse_abort(b); /* the others */
	return NULL;
}

static void serve_all(struct browse *b)
{
	pthread_t threads[THREADS - 1];
	unsigned n = 0;
	int r = 0;

	while (n < THREADS - 1 && (r = pthread_create(&threads[n], NULL, serve, b)) == 0)
		n++;
	if (n == 0)
		log_debug("serving with one thread: %s", strerror(r));
	(void)serve(b);
	while (n)
		(void)pthread_join(threads[--n], NULL); /* fails for misuse only */
}

static int no_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int browse_serve(struct browse *b, int fuse_fd, struct err *e)
{
	char *argv[] = {(char *)"mlfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_lowlevel_ops ops = basic_ops;
	auto_free char *at = xasprintf("/dev/fd/%d", fuse_fd);
	int r = no_blocking(fuse_fd);

	if (r < 0) {
		(void)close(fuse_fd);
		return err_set(e, r, "cannot serve the mount");
	}
	browse_list_ops(&ops);
	browse_data_ops(&ops);
	raise_open_files(); /* each open file takes one */
	b->se = fuse_session_new(&args, &ops, sizeof(ops), b);
	fuse_opt_free_args(&args);
	if (!b->se || fuse_session_mount(b->se, at) != 0) {
		if (b->se)
			fuse_session_destroy(b->se);
		b->se = NULL;
		(void)close(fuse_fd);
		return err_text(e, EINVAL, "libfuse does not take the mount's descriptor");
	}
	serve_all(b);
	fuse_session_destroy(b->se); /* closes the descriptor */
	b->se = NULL;
	return 0;
}

void browse_abort(struct browse *b)
{
	(void)eventfd_write(b->stop, 1); /* full: it was written */
}

void browse_request_counts(const struct browse *b, uint64_t ret[BROWSE_COUNTS])
{
	for (int i = 0; i < BROWSE_COUNTS; i++)
		ret[i] = atomic_load(&b->counts[i]);
}

int browse_new(const struct browse_options *o, struct browse **ret, struct err *e)
{
	struct browse *b = xcalloc(1, sizeof(*b));
	struct idx *x;
	int r;

	b->o = *o;
	b->cache = xstrdup(o->cache);
	b->began_ns = now_ns();
	b->root.ino = FUSE_ROOT_ID;
	b->root.name = (char *)"";
	b->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	b->n_heads = 1024;
	b->heads = xcalloc(b->n_heads, sizeof(*b->heads));
	(void)pthread_mutex_init(&b->mutex, NULL); /* cannot fail on Linux */
	(void)pthread_mutex_init(&b->opening, NULL);
	r = b->stop < 0 ? err_set(e, errno, "cannot make a descriptor") : 0;
	if (r == 0)
		r = idx_open(b->cache, true, &x, e); /* can it be? */
	if (r == 0) {
		idx_close(x);
		r = stat(b->cache, &b->owner) < 0 ? err_set(e, errno, "cannot look at %s", b->cache)
						  : 0;
	}
	if (r < 0) {
		browse_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void browse_free(struct browse *b)
{
	if (!b)
		return;
	close_idle(b, true);
	shown_drop(b);
	browse_nodes_free(b);
	for (size_t i = 0; i < MAX_LISTED; i++) {
		free(b->listed[i].path);
		strv_free(b->listed[i].names, b->listed[i].n);
	}
	base_close(&b->stop);
	(void)pthread_mutex_destroy(&b->mutex);
	(void)pthread_mutex_destroy(&b->opening);
	free(b->cache);
	free(b);
}
