/* SPDX-License-Identifier: MIT */
#include "inode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static size_t inode_slot(const struct inodes *t, dev_t dev, ino_t ino)
{
	uint64_t key[2] = {dev, ino};

	return XXH3_64bits(key, sizeof(key)) & t->mask;
}

static uint32_t name_hash(const struct inode *parent, const char *name, size_t len)
{
	return (uint32_t)XXH3_64bits_withSeed(name, len, (uintptr_t)parent);
}

int inodes_init(struct inodes *t, unsigned max_fds, unsigned max_looked, struct err *e)
{
	struct stat st;

	memset(t, 0, sizeof(*t));
	if (lstat("/", &st) < 0)
		return err_set(e, errno, "cannot look at /");
	pthread_mutex_init(&t->mutex, NULL);
	t->mask = t->dmask = 4095;
	t->table = xcalloc(t->mask + 1, sizeof(*t->table));
	t->dtable = xcalloc(t->dmask + 1, sizeof(*t->dtable));
	t->max_fds = max_fds;
	t->max_looked = max_looked;
	t->lru.lru_prev = t->lru.lru_next = &t->lru;
	t->root = (struct inode){.dev = st.st_dev,
				 .ino = st.st_ino,
				 .type = S_IFDIR,
				 .nlookup = 2,
				 .rfd = -1,
				 .wfd = -1,
				 .pfd = -1,
				 .lfd = -1,
				 .hashed = true};
	t->root.next = NULL;
	t->table[inode_slot(t, st.st_dev, st.st_ino)] = &t->root;
	t->n = 1;
	return 0;
}

/* ---- descriptors ---- */

static void lru_unlink(struct inode *i)
{
	if (!i->lru_next)
		return;
	i->lru_prev->lru_next = i->lru_next;
	i->lru_next->lru_prev = i->lru_prev;
	i->lru_prev = i->lru_next = NULL;
}

static void drop_fd(struct inodes *t, int *fd)
{
	if (*fd < 0)
		return;
	close(*fd);
	*fd = -1;
	t->n_fds--;
}

static void close_fds(struct inodes *t, struct inode *i)
{
	drop_fd(t, &i->rfd);
	drop_fd(t, &i->wfd);
	lru_unlink(i);
}

static void lru_use(struct inodes *t, struct inode *i)
{
	if (t->lru.lru_next == i)
		return;
	lru_unlink(i);
	i->lru_next = t->lru.lru_next;
	i->lru_prev = &t->lru;
	i->lru_next->lru_prev = i;
	t->lru.lru_next = i;
}

static void keep_fd(struct inodes *t, struct inode *i, int *slot, int fd)
{
	drop_fd(t, slot);
	*slot = fd;
	t->n_fds++;
	lru_use(t, i);
	while (t->n_fds > t->max_fds && t->lru.lru_prev != i)
		close_fds(t, t->lru.lru_prev);
}

static void drop_looked(struct inodes *t, struct inode *i)
{
	if (i->lfd < 0)
		return;
	base_close(&i->lfd);
	t->looked[i->lslot] = NULL;
}

void inode_looked(struct inodes *t, struct inode *i, const struct at *a)
{
	unsigned slot = t->looked_next;

	if (i->lfd >= 0 || i->rfd >= 0)
		return;
	i->lfd = openat(a->dirfd, a->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (i->lfd < 0)
		return;
	if (t->looked[slot])
		drop_looked(t, t->looked[slot]);
	t->looked[slot] = i;
	i->lslot = slot;
	t->looked_next = (slot + 1) % t->max_looked;
}

void inode_set_wfd(struct inodes *t, struct inode *i, int fd)
{
	keep_fd(t, i, &i->wfd, fd);
}

void inode_close_wfd(struct inodes *t, struct inode *i)
{
	drop_fd(t, &i->wfd);
	if (i->rfd < 0)
		lru_unlink(i);
}

/* ---- inodes ---- */

static void inode_unhash(struct inodes *t, struct inode *i)
{
	struct inode **p = &t->table[inode_slot(t, i->dev, i->ino)];

	if (!i->hashed)
		return;
	while (*p != i)
		p = &(*p)->next;
	pthread_mutex_lock(&t->mutex);
	*p = i->next;
	pthread_mutex_unlock(&t->mutex);
	i->hashed = false;
	t->n--;
}

static void grow_inodes(struct inodes *t)
{
	struct inode **old = t->table;
	size_t old_mask = t->mask;

	pthread_mutex_lock(&t->mutex);
	t->mask = t->mask * 2 + 1;
	t->table = xcalloc(t->mask + 1, sizeof(*t->table));
	for (size_t k = 0; k <= old_mask; k++)
		for (struct inode *i = old[k], *next; i; i = next) {
			size_t slot = inode_slot(t, i->dev, i->ino);

			next = i->next;
			i->next = t->table[slot];
			t->table[slot] = i;
		}
	pthread_mutex_unlock(&t->mutex);
	free(old);
}

struct inode *inode_get(struct inodes *t, const struct stat *st)
{
	size_t slot = inode_slot(t, st->st_dev, st->st_ino);
	struct inode *i;

	for (i = t->table[slot]; i; i = i->next)
		if (i->ino == st->st_ino && i->dev == st->st_dev)
			break;
	if (i && i->type == (st->st_mode & S_IFMT))
		return i;
	if (i)
		inode_unhash(t, i);
	if (t->n > t->mask) {
		grow_inodes(t);
		slot = inode_slot(t, st->st_dev, st->st_ino);
	}
	i = xcalloc(1, sizeof(*i));
	i->dev = st->st_dev;
	i->ino = st->st_ino;
	i->type = st->st_mode & S_IFMT;
	i->rfd = i->wfd = i->pfd = i->lfd = -1;
	pthread_mutex_lock(&t->mutex);
	i->next = t->table[slot];
	t->table[slot] = i;
	pthread_mutex_unlock(&t->mutex);
	i->hashed = true;
	t->n++;
	return i;
}

struct inode *inode_find(const struct inodes *t, const struct stat *st)
{
	struct inode *i = t->table[inode_slot(t, st->st_dev, st->st_ino)];

	while (i && (i->ino != st->st_ino || i->dev != st->st_dev))
		i = i->next;
	return i;
}

uintptr_t inode_known(struct inodes *t, dev_t dev, ino_t ino)
{
	const struct inode *i;

	pthread_mutex_lock(&t->mutex);
	for (i = t->table ? t->table[inode_slot(t, dev, ino)] : NULL; i; i = i->next)
		if (i->ino == ino && i->dev == dev)
			break;
	pthread_mutex_unlock(&t->mutex);
	return (uintptr_t)i;
}

static void unlink_name(struct dentry *d)
{
	struct dentry **p = &d->inode->names;

	while (*p != d)
		p = &(*p)->next_of_inode;
	*p = d->next_of_inode;
	if (!d->inode->names)
		d->inode->last_trace = d->trace;
}

static void dentry_unhash(struct inodes *t, struct dentry *d)
{
	struct dentry **p = &t->dtable[d->hash & t->dmask];

	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	t->dn--;
}

static void release_if_unused(struct inodes *t, struct inode *i);

static void dentry_free(struct inodes *t, struct dentry *d)
{
	struct inode *parent = d->parent;

	dentry_unhash(t, d);
	unlink_name(d);
	free(d);
	parent->children--;
	release_if_unused(t, parent);
}

/* Nobody refers to it: names and all go. Its parents may follow. */
static void release_if_unused(struct inodes *t, struct inode *i)
{
	if (i->nlookup || i->children || i == &t->root)
		return;
	if (t->gone)
		t->gone(t->gone_arg, i);
	close_fds(t, i);
	drop_looked(t, i);
	base_close(&i->pfd);
	inode_unhash(t, i);
	i->children = 1; /* not to be released from within */
	while (i->names)
		dentry_free(t, i->names);
	listing_free(i->listing);
	free(i);
}

void inode_forget(struct inodes *t, struct inode *i, uint64_t n)
{
	i->nlookup = n < i->nlookup ? i->nlookup - n : 0;
	release_if_unused(t, i);
}

/* ---- names ---- */

struct dentry *dentry_find(const struct inodes *t, const struct inode *parent, const char *name)
{
	size_t len = strlen(name);
	uint32_t hash = name_hash(parent, name, len);

	for (struct dentry *d = t->dtable[hash & t->dmask]; d; d = d->next)
		if (d->hash == hash && d->parent == parent && d->name_len == len &&
		    memcmp(d->name, name, len) == 0)
			return d;
	return NULL;
}

static void grow_dentries(struct inodes *t)
{
	size_t mask = t->dmask * 2 + 1;
	struct dentry **table = xcalloc(mask + 1, sizeof(*table));

	for (size_t k = 0; k <= t->dmask; k++)
		for (struct dentry *d = t->dtable[k], *next; d; d = next) {
			next = d->next;
			d->next = table[d->hash & mask];
			table[d->hash & mask] = d;
		}
	free(t->dtable);
	t->dtable = table;
	t->dmask = mask;
}

struct dentry *dentry_set(struct inodes *t, struct inode *parent, const char *name, struct inode *i)
{
	struct dentry *d = dentry_find(t, parent, name);
	struct inode *old;
	size_t len;

	if (d && d->inode == i)
		return d;
	if (d) {
		old = d->inode;
		unlink_name(d);
		d->inode = i;
		d->next_of_inode = i->names;
		i->names = d;
		i->read_noted = i->part_noted = i->xattr_noted = false;
		release_if_unused(t, old);
		return d;
	}
	if (t->dn > t->dmask)
		grow_dentries(t);
	len = strlen(name);
	d = xcalloc(1, sizeof(*d) + len + 1);
	memcpy(d->name, name, len + 1);
	d->name_len = (uint16_t)len;
	d->hash = name_hash(parent, name, len);
	d->gen = t->gen - 1;
	d->parent = parent;
	parent->children++;
	d->inode = i;
	d->next_of_inode = i->names;
	i->names = d;
	i->read_noted = i->part_noted = i->xattr_noted = false;
	d->next = t->dtable[d->hash & t->dmask];
	t->dtable[d->hash & t->dmask] = d;
	t->dn++;
	return d;
}

void dentry_drop(struct inodes *t, struct dentry *d)
{
	struct inode *i = d->inode;

	dentry_free(t, d);
	release_if_unused(t, i);
}

/* ---- paths ---- */

void at_free(struct at *a)
{
	if (a->full != a->small)
		free(a->full);
	a->full = NULL;
	if (a->dirfd >= 0)
		close(a->dirfd);
	a->dirfd = AT_FDCWD;
}

static int path_length(const struct inodes *t, const struct inode *i, size_t *ret)
{
	size_t len = 0;

	for (; i != &t->root; i = i->names->parent) {
		if (!i->names)
			return -ESTALE;
		len += i->names->name_len + 1u;
	}
	*ret = len;
	return 0;
}

/* Longer than the kernel takes in one call: go down by pieces. */
static int shorten(struct at *a)
{
	char *p = a->full;
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), next;

	while (fd >= 0 && strlen(p) >= PATH_MAX) {
		char *cut = p + PATH_MAX - 1;

		while (cut > p && *cut != '/')
			cut--;
		while (*p == '/')
			p++;
		*cut = '\0';
		next = openat(fd, p, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		*cut = '/';
		close(fd);
		fd = next;
		p = cut + 1;
	}
	if (fd < 0)
		return -errno;
	while (*p == '/')
		p++;
	a->dirfd = fd;
	a->name = p;
	return 0;
}

int at_child(struct inodes *t, struct inode *parent, const char *name, struct at *ret)
{
	size_t name_len = name ? strlen(name) : 0, len;
	int r = path_length(t, parent, &len);
	char *p;

	ret->dirfd = AT_FDCWD;
	ret->full = NULL;
	if (r < 0)
		return r;
	len += name ? name_len + 1 : 0;
	if (len == 0)
		len = 1; /* the root itself */
	ret->full = len < sizeof(ret->small) ? ret->small : xmalloc(len + 1);
	ret->len = len;
	ret->name = ret->full;
	p = ret->full + len;
	*p = '\0';
	if (name) {
		p -= name_len;
		memcpy(p, name, name_len);
		*--p = '/';
	}
	for (const struct inode *i = parent; i != &t->root; i = i->names->parent) {
		p -= i->names->name_len;
		memcpy(p, i->names->name, i->names->name_len);
		*--p = '/';
	}
	if (p != ret->full)
		*ret->full = '/';
	return len < PATH_MAX ? 0 : shorten(ret);
}

static bool is(const struct inode *i, const struct stat *st)
{
	return i->ino == st->st_ino && i->dev == st->st_dev && i->type == (st->st_mode & S_IFMT);
}

static int any_fd(const struct inode *i)
{
	return i->pfd >= 0 ? i->pfd : i->rfd >= 0 ? i->rfd : i->wfd;
}

static void name_to_end(struct inode *i)
{
	struct dentry *first = i->names, **end = &i->names;

	i->names = first->next_of_inode;
	first->next_of_inode = NULL;
	while (*end)
		end = &(*end)->next_of_inode;
	*end = first;
}

/* Of several names one may lie in a directory that we may not search any more: the first is to be one by which the
 * file is found. */
static void choose_name(struct inodes *t, struct inode *i)
{
	const struct dentry *first = i->names;
	struct stat st;

	if (!first || !first->next_of_inode)
		return;
	do {
		auto_at struct at a = {.dirfd = AT_FDCWD};

		if (at_inode(t, i, &a) == 0 &&
		    fstatat(a.dirfd, a.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is(i, &st))
			return;
		name_to_end(i);
	} while (i->names != first);
}

int inode_stat(struct inodes *t, struct inode *i, struct stat *ret)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	int r;

	choose_name(t, i);
	if (any_fd(i) >= 0) /* a third of the time that a path takes */
		return fstat(any_fd(i), ret) < 0 ? -errno : 0;
	r = at_inode(t, i, &a);
	if (r == 0 && fstatat(a.dirfd, a.name, ret, AT_SYMLINK_NOFOLLOW) == 0 && is(i, ret))
		return 0;
	return i->lfd >= 0 && fstat(i->lfd, ret) == 0 && is(i, ret) ? 0 : -ESTALE;
}

int inode_path(struct inodes *t, struct inode *i, struct at *ret, char proc[32],
	       const char **ret_path)
{
	int r;

	choose_name(t, i);
	r = at_inode(t, i, ret);
	if (r == 0 && ret->dirfd == AT_FDCWD) {
		*ret_path = ret->full;
		return 0;
	}
	if (r == 0) { /* a very long path: by way of a descriptor */
		if (i->pfd < 0)
			i->pfd = openat(ret->dirfd, ret->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (i->pfd < 0)
			return -errno;
	}
	if (any_fd(i) < 0)
		return -ESTALE;
	snprintf(proc, 32, "/proc/self/fd/%d", any_fd(i));
	*ret_path = proc;
	return 0;
}

/* Open by path, or again through a descriptor that is held; checked to be this very file. */
static int reopen(struct inodes *t, struct inode *i, int flags)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct stat st;
	char proc[32];
	int fd = -1, held, r;

	choose_name(t, i);
	r = at_inode(t, i, &a);
	flags |= O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	if (r == 0) {
		fd = openat(a.dirfd, a.name, flags | O_NOFOLLOW);
		if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
			return -errno;
		if (fd >= 0 && fstat(fd, &st) == 0 && is(i, &st))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	held = any_fd(i) < 0 && i->lfd >= 0 && fstat(i->lfd, &st) == 0 && is(i, &st) ? i->lfd
										     : any_fd(i);
	if (held < 0)
		return -ESTALE;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", held);
	fd = open(proc, flags);
	return fd < 0 ? -errno : fd;
}

/* A file whose mode forbids its owner what the step, which has it open, may do: our descriptor was closed to stay
 * within bounds, or never opened so. Lift the mode for an instant. bit: S_IRUSR or S_IWUSR. */
static int reopen_lifting_mode(struct inodes *t, struct inode *i, int flags, mode_t bit)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	const char *path;
	struct stat st;
	char proc[32];
	int fd, r;

	r = inode_stat(t, i, &st);
	if (r < 0)
		return r;
	r = inode_path(t, i, &a, proc, &path);
	if (r < 0)
		return r;
	if (st.st_uid != geteuid() || chmod(path, (st.st_mode | bit) & 07777) < 0)
		return -EACCES;
	fd = reopen(t, i, flags);
	if (chmod(path, st.st_mode & 07777) < 0)
		log_debug("cannot set the mode of %s back: %s", path, strerror(errno));
	return fd;
}

int inode_rfd(struct inodes *t, struct inode *i)
{
	int fd;

	if (i->rfd >= 0) {
		lru_use(t, i);
		return i->rfd;
	}
	fd = reopen(t, i, i->type == S_IFDIR ? O_RDONLY | O_DIRECTORY : O_RDONLY);
	if (fd == -EACCES && i->type == S_IFREG)
		fd = reopen_lifting_mode(t, i, O_RDONLY, S_IRUSR);
	if (fd < 0)
		return fd;
	keep_fd(t, i, &i->rfd, fd);
	return fd;
}

int inode_wfd(struct inodes *t, struct inode *i)
{
	int fd;

	if (i->wfd >= 0) {
		lru_use(t, i);
		return i->wfd;
	}
	fd = reopen(t, i, O_WRONLY);
	if (fd == -EACCES)
		fd = reopen_lifting_mode(t, i, O_WRONLY, S_IWUSR);
	if (fd < 0)
		return fd;
	keep_fd(t, i, &i->wfd, fd);
	return fd;
}

void inode_pin(struct inodes *t, struct inode *i)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};

	if (i->pfd >= 0 || at_inode(t, i, &a) < 0)
		return;
	i->pfd = openat(a.dirfd, a.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

void inodes_free(struct inodes *t)
{
	struct dentry *dn;
	struct inode *in;

	pthread_mutex_lock(&t->mutex);
	for (size_t k = 0; t->dtable && k <= t->dmask; k++)
		for (struct dentry *d = t->dtable[k]; d; d = dn) {
			dn = d->next;
			free(d);
		}
	for (size_t k = 0; t->table && k <= t->mask; k++)
		for (struct inode *i = t->table[k]; i; i = in) {
			in = i->next;
			close_fds(t, i);
			drop_looked(t, i);
			base_close(&i->pfd);
			listing_free(take(i->listing));
			if (i != &t->root)
				free(i);
		}
	free(take(t->dtable));
	free(take(t->table));
	t->n = t->dn = t->n_fds = 0;
	pthread_mutex_unlock(&t->mutex);
}
