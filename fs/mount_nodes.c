/* SPDX-License-Identifier: MIT */
/*
 * mount_nodes.c - the files that the kernel knows of a persistent mount.
 *
 * A file is known by device, inode number and time of birth, and held by a descriptor (O_PATH), so that its number is not
 * given to another meanwhile. There may be more files than descriptors: then the one that was not used for longest is closed,
 * and opened again by its name in its parent; what is found there must be the same file.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xxhash.h>

#define FIRST_SIZE 4096

static size_t slot_of(const struct nodes *t, dev_t dev, ino_t ino)
{
	uint64_t key[2] = {dev, ino};

	return XXH3_64bits(key, sizeof(key)) & t->mask;
}

static dev_t dev_of(const struct statx *x)
{
	return makedev(x->stx_dev_major, x->stx_dev_minor);
}

static int64_t born_of(const struct statx *x)
{
	return x->stx_mask & STATX_BTIME
		       ? x->stx_btime.tv_sec * INT64_C(1000000000) + x->stx_btime.tv_nsec
		       : 0;
}

int statx_fd(int fd, struct statx *ret)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		     STATX_BASIC_STATS | STATX_BTIME, ret) < 0
		       ? -errno
		       : 0;
}

static bool is_file(const struct node *n, const struct statx *x)
{
	return !atomic_load(&n->real) && n->ino == x->stx_ino && n->dev == dev_of(x) &&
	       n->type == (x->stx_mode & S_IFMT) && n->born == born_of(x);
}

/* Half of them: the other half is for what is open. */
static size_t fds_to_keep(void)
{
	struct rlimit l = {0};

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 256;
	return l.rlim_cur / 2;
}

int nodes_init(struct nodes *t, int root, struct err *e)
{
	struct statx x;
	int r = statx_fd(root, &x);

	*t = (struct nodes){.mask = FIRST_SIZE - 1, .max_fds = fds_to_keep()};
	pthread_mutex_init(&t->lock, NULL);
	t->table = xcalloc(FIRST_SIZE, sizeof(*t->table));
	t->ring.newer = t->ring.older = &t->ring;
	t->root = (struct node){.fd = root, .nlookup = 1};
	if (r < 0)
		return err_set(e, r, "cannot look at the directory to mount");
	t->root.dev = dev_of(&x);
	t->root.ino = x.stx_ino;
	t->root.born = born_of(&x);
	t->root.type = x.stx_mode & S_IFMT;
	t->table[slot_of(t, t->root.dev, t->root.ino)] = &t->root;
	t->n = 1;
	return 0;
}

/* ---- descriptors; all under the lock ---- */

static void leave_ring(struct nodes *t, struct node *n)
{
	if (!n->newer)
		return;
	n->newer->older = n->older;
	n->older->newer = n->newer;
	n->newer = n->older = NULL;
	t->n_fds--;
}

/* Only what can be had again by its name may be closed. */
static void enter_ring(struct nodes *t, struct node *n)
{
	leave_ring(t, n);
	if (n->fd < 0 || !n->name)
		return;
	n->older = t->ring.older;
	n->newer = &t->ring;
	n->older->newer = n;
	t->ring.older = n;
	t->n_fds++;
}

/* Closes what is too many, oldest first. */
static bool shrink(struct nodes *t, size_t to)
{
	struct node *n = t->ring.newer, *next;
	bool any = false;

	for (; n != &t->ring && t->n_fds > to; n = next) {
		next = n->newer;
		if (n->held)
			continue;
		leave_ring(t, n);
		base_close(&n->fd);
		any = true;
	}
	return any;
}

bool nodes_shrink(struct nodes *t)
{
	bool any;

	pthread_mutex_lock(&t->lock);
	any = shrink(t, t->n_fds / 2);
	pthread_mutex_unlock(&t->lock);
	return any;
}

/* ---- the table; all under the lock ---- */

static void grow(struct nodes *t)
{
	size_t old = t->mask;
	struct node **table = t->table;

	t->mask = t->mask * 2 + 1;
	t->table = xcalloc(t->mask + 1, sizeof(*t->table));
	for (size_t k = 0; k <= old; k++)
		for (struct node *n = table[k], *next; n; n = next) {
			size_t slot = slot_of(t, n->dev, n->ino);

			next = n->next;
			n->next = t->table[slot];
			t->table[slot] = n;
		}
	free(table);
}

static struct node *find(const struct nodes *t, const struct statx *x)
{
	struct node *n = t->table[slot_of(t, dev_of(x), x->stx_ino)];

	while (n && !is_file(n, x))
		n = n->next;
	return n;
}

static void unhash(struct nodes *t, struct node *n)
{
	struct node **p = &t->table[slot_of(t, n->dev, n->ino)];

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	t->n--;
}

/* What nobody refers to goes; its parents may follow. */
static void free_unused(struct nodes *t, struct node *n)
{
	while (n && n != &t->root && !n->nlookup && !n->children && !n->held) {
		struct node *parent = n->parent;

		leave_ring(t, n);
		base_close(&n->fd);
		unhash(t, n);
		free(n->name);
		free(n);
		if (parent)
			parent->children--;
		n = parent;
	}
}

/* Directories that were moved past the mount: what was said to lie in n, and holds it now, lies elsewhere. */
static void break_circle(struct nodes *t, struct node *n, struct node *parent)
{
	struct node *i = parent;

	if (!n->children)
		return;
	while (i && i->parent != n)
		i = i->parent;
	if (!i)
		return;
	leave_ring(t, i);
	free(take(i->name));
	i->parent = NULL;
	n->children--;
}

static void set_name(struct nodes *t, struct node *n, struct node *parent, const char *name)
{
	struct node *old = n->parent;

	if (n == &t->root || n == parent)
		return;
	break_circle(t, n, parent);
	if (parent)
		parent->children++;
	n->parent = parent;
	free(n->name);
	n->name = name ? xstrdup(name) : NULL;
	enter_ring(t, n);
	if (old) {
		old->children--;
		free_unused(t, old);
	}
}

static bool is_named(const struct node *n, const struct node *parent, const char *name)
{
	return n->parent == parent && n->name && strcmp(n->name, name) == 0;
}

static struct node *add(struct nodes *t, const struct statx *x)
{
	struct node *n = xcalloc(1, sizeof(*n));
	size_t slot;

	if (t->n > t->mask)
		grow(t);
	n->dev = dev_of(x);
	n->ino = x->stx_ino;
	n->born = born_of(x);
	n->type = x->stx_mode & S_IFMT;
	n->fd = -1;
	slot = slot_of(t, n->dev, n->ino);
	n->next = t->table[slot];
	t->table[slot] = n;
	t->n++;
	return n;
}

/* ---- for the handlers ---- */

void node_told(struct node *n)
{
	atomic_store_explicit(&n->told, mono_ns(), memory_order_relaxed);
}

struct node *node_looked_up(struct nodes *t, struct node *parent, const char *name, int fd,
			    const struct statx *x)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = find(t, x);
	if (!n)
		n = add(t, x);
	n->nlookup++;
	node_told(n);
	if (n->fd < 0)
		n->fd = take_fd(&fd);
	if (!is_named(n, parent, name))
		set_name(t, n, parent, name);
	else
		enter_ring(t, n);
	if (t->n_fds > t->max_fds)
		(void)shrink(t, t->max_fds - t->max_fds / 16);
	pthread_mutex_unlock(&t->lock);
	base_close(&fd);
	return n;
}

void node_forget(struct nodes *t, struct node *n, uint64_t count)
{
	pthread_mutex_lock(&t->lock);
	n->nlookup = count < n->nlookup ? n->nlookup - count : 0;
	free_unused(t, n);
	pthread_mutex_unlock(&t->lock);
}

void node_release(struct nodes *t, struct node *n)
{
	pthread_mutex_lock(&t->lock);
	n->held--;
	free_unused(t, n);
	pthread_mutex_unlock(&t->lock);
}

struct node *node_whence(struct nodes *t, struct node *n, char **ret_name)
{
	struct node *parent;

	pthread_mutex_lock(&t->lock);
	parent = n->parent;
	if (parent) {
		parent->held++;
		*ret_name = xstrdup(n->name);
	}
	pthread_mutex_unlock(&t->lock);
	return parent;
}

static int open_in(struct nodes *t, struct node *parent, const char *name)
{
	int dir = node_hold(t, parent), fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fd = errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	node_release(t, parent);
	return fd;
}

/* Its descriptor had to go. */
static int reopen(struct nodes *t, struct node *n)
{
	auto_free char *name = NULL;
	auto_close int fd = -1;
	struct node *parent = node_whence(t, n, &name);
	struct statx x;
	int r;

	if (!parent)
		return -ESTALE;
	fd = open_in(t, parent, name);
	node_release(t, parent);
	if (fd < 0)
		return fd;
	r = statx_fd(fd, &x);
	if (r < 0 || !is_file(n, &x))
		return r < 0 ? r : -ESTALE;
	pthread_mutex_lock(&t->lock);
	if (n->fd < 0) {
		n->fd = take_fd(&fd);
		enter_ring(t, n);
	}
	r = n->fd;
	pthread_mutex_unlock(&t->lock);
	return r;
}

int node_hold(struct nodes *t, struct node *n)
{
	int fd;

	pthread_mutex_lock(&t->lock);
	n->held++;
	fd = n->fd;
	if (fd >= 0 && n->newer)
		enter_ring(t, n);
	pthread_mutex_unlock(&t->lock);
	if (fd >= 0)
		return fd;
	fd = reopen(t, n);
	if (fd < 0)
		node_release(t, n);
	return fd;
}

struct node *node_find(struct nodes *t, int dirfd, const char *name)
{
	struct node *n;
	struct statx x;

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		return NULL;
	pthread_mutex_lock(&t->lock);
	n = find(t, &x);
	if (n)
		n->held++;
	pthread_mutex_unlock(&t->lock);
	if (!n)
		return NULL;
	if (node_hold(t, n) < 0) {
		node_release(t, n);
		return NULL;
	}
	node_release(t, n);
	return n;
}

void node_renamed(struct nodes *t, struct node *n, struct node *parent, const char *name)
{
	pthread_mutex_lock(&t->lock);
	set_name(t, n, parent, name);
	pthread_mutex_unlock(&t->lock);
}

int node_made_real(struct nodes *t, struct node *n, int fd)
{
	int r;

	pthread_mutex_lock(&t->lock);
	/* Whoever uses the descriptor has the file from now on. */
	r = dup3(fd, n->fd, O_CLOEXEC) < 0 ? -errno : 0;
	if (r == 0) {
		atomic_store(&n->real, true);
		set_name(t, n, NULL, NULL);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

bool node_is_named(struct nodes *t, const struct node *n, const struct node *parent,
		   const char *name)
{
	bool is;

	pthread_mutex_lock(&t->lock);
	is = is_named(n, parent, name);
	pthread_mutex_unlock(&t->lock);
	return is;
}

char *node_path(struct nodes *t, struct node *n)
{
	size_t len = 0;
	char *path = NULL, *p;
	const struct node *i;

	pthread_mutex_lock(&t->lock);
	for (i = n; i && i->name; i = i->parent)
		len += strlen(i->name) + 1;
	if (i == &t->root) {
		path = xmalloc(len + 1);
		p = path + len;
		*p = '\0';
		for (i = n; i->name; i = i->parent) {
			size_t k = strlen(i->name);

			if (i != n)
				*--p = '/';
			p -= k;
			memcpy(p, i->name, k);
		}
		memmove(path, p, strlen(p) + 1);
	}
	pthread_mutex_unlock(&t->lock);
	return path;
}

void nodes_free(struct nodes *t)
{
	for (size_t k = 0; t->table && k <= t->mask; k++)
		for (struct node *n = t->table[k], *next; n; n = next) {
			next = n->next;
			base_close(&n->fd);
			if (n == &t->root)
				continue;
			free(n->name);
			free(n);
		}
	free(take(t->table));
}
