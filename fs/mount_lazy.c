/* SPDX-License-Identifier: MIT */
/*
 * mount_lazy.c - a persistent mount: outputs that are not real yet; see "Lazy outputs" in docs/design.md.
 *
 * In the tree such a file is a symbolic link that says what it stands for. Here it is shown as that file, its bytes are those of
 * its object, and before anything is done to it that needs a file of its own it is made real: the file takes the link's place in the
 * tree, and its descriptor that of the link's. Whoever has it open already goes on with the object, as if the file had been
 * replaced; so who opens it to write is told ESTALE, at which the kernel looks the name up anew.
 */
#include "mount_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool lazy_stat(const struct fs_mount *m, int fd, struct stat *st)
{
	struct lazy l;

	if (!m->o.lazy_cache || !lazy_may_be(st->st_mode, st->st_size) ||
	    lazy_read(fd, "", &l) <= 0)
		return false;
	lazy_shown(&l, st);
	return true;
}

static int lost(struct fs_mount *m, struct node *n, const struct lazy_link *k, int cache, int r,
		const char *why)
{
	auto_free char *path = node_path(&m->nodes, n);

	if (r == -ESTALE || r == -ENOSPC || r == -EDQUOT || r == -EROFS || r == -EACCES)
		return r;
	if (r == -EUCLEAN && cache >= 0)
		lazy_drop(cache, &k->l);
	log_warn("cannot read %s, which is not real yet: %s", path ? path : "a file", why);
	return -EIO;
}

/* ---- bytes ---- */

static bool same_kept(const struct stat_kept *a, const struct stat_kept *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       timespec_ns(a->st_mtim) == timespec_ns(b->st_mtim) &&
	       timespec_ns(a->st_ctim) == timespec_ns(b->st_ctim);
}

static bool was_verified(struct fs_mount *m, const struct stat_kept *st)
{
	bool found = false;

	pthread_mutex_lock(&m->verified.lock);
	for (size_t k = 0; k < VERIFIED_MAX && !found; k++)
		found = m->verified.v[k].st_mode && same_kept(&m->verified.v[k], st);
	pthread_mutex_unlock(&m->verified.lock);
	return found;
}

static void note_verified(struct fs_mount *m, const struct stat_kept *st)
{
	pthread_mutex_lock(&m->verified.lock);
	m->verified.v[m->verified.next++ % VERIFIED_MAX] = *st;
	pthread_mutex_unlock(&m->verified.lock);
}

/* All of it is read when it is opened first, and when it has changed since. */
static int verify(struct fs_mount *m, int fd, const struct lazy *l)
{
	struct stat_kept kept;
	struct stat st, after;
	int64_t at = now_ns();
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	kept = stat_keep(&st);
	if (was_verified(m, &kept))
		return 0;
	mount_let_others();
	r = lazy_verify(fd, l);
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0)
		return -errno;
	/* What is written to it later shows in its times. */
	if (timespec_ns(st.st_ctim) == timespec_ns(after.st_ctim) &&
	    idx_times_settled(NULL, &st, at))
		note_verified(m, &kept);
	return 0;
}

int lazy_bytes(struct fs_mount *m, struct held *h)
{
	struct lazy_link k;
	auto_close int cache = -1, fd = -1;
	int r = lazy_at(h->fd, "", &k);

	if (r <= 0)
		return r < 0 ? r : -ELOOP;
	cache = m->o.lazy_cache(m->o.arg, k.st.st_uid);
	fd = cache < 0 ? cache : lazy_open(cache, &k.l, k.st.st_uid);
	r = fd < 0 ? fd : verify(m, fd, &k.l);
	if (r < 0)
		return lost(m, h->n, &k, cache, r,
			    r == -ENOENT    ? "its object is missing"
			    : r == -EUCLEAN ? "its object is damaged"
					    : strerror(-r));
	return take_fd(&fd);
}

/* ---- making it real ---- */

/* What was known of the link is not so of the file. */
static void expire_attributes(struct fs_mount *m, const struct node *n)
{
	struct fuse_notify_inval_inode_out out = {.ino = node_id(m, n), .off = -1};

	wire_notify(m->se, FUSE_NOTIFY_INVAL_INODE, &out, sizeof(out), NULL, 0);
}

static int realize(struct fs_mount *m, struct node *n, int dir, const char *name,
		   const struct lazy_link *k, bool remove)
{
	auto_close int cache = m->o.lazy_cache(m->o.arg, k->st.st_uid);
	auto_close int fd = -1;
	struct err e = {0};
	int r = cache < 0 ? err_set(&e, cache, "its cache cannot be opened")
			  : lazy_realize(dir, name, k, cache, &fd, &e);

	if (r < 0 && remove && cache >= 0 && lazy_lost(dir, name, k, cache, r)) {
		node_renamed(&m->nodes, n, NULL, NULL);
		return 1;
	}
	if (r < 0)
		return lost(m, n, k, -1, r, e.msg);
	r = node_made_real(&m->nodes, n, fd);
	expire_attributes(m, n);
	return r;
}

static int make_real(struct fs_mount *m, struct held *h, bool remove)
{
	auto_free char *name = NULL;
	struct node *parent;
	struct lazy_link k;
	int dir, r = lazy_at(h->fd, "", &k);

	if (r <= 0)
		return r;
	parent = node_whence(&m->nodes, h->n, &name);
	if (!parent)
		return -ESTALE;
	dir = node_hold(&m->nodes, parent);
	r = dir < 0 ? dir : realize(m, h->n, dir, name, &k, remove);
	if (dir >= 0)
		node_release(&m->nodes, parent);
	node_release(&m->nodes, parent);
	return r;
}

static int make_real_once(struct fs_mount *m, struct held *h, bool remove)
{
	pthread_mutex_t *lock = &m->realizing[(h->n->ino ^ h->n->ino >> 8) % OPENING_LOCKS];
	int r;

	if (!m->o.lazy_cache || h->n->type != S_IFLNK || atomic_load(&h->n->real))
		return 0;
	mount_let_others();
	pthread_mutex_lock(lock);
	r = atomic_load(&h->n->real) ? 0 : make_real(m, h, remove);
	pthread_mutex_unlock(lock);
	return r;
}

int lazy_make_real(struct fs_mount *m, struct held *h)
{
	return make_real_once(m, h, false);
}

int lazy_met(struct fs_mount *m, struct held *h)
{
	return make_real_once(m, h, true);
}

struct held hold_real(struct fs_mount *m, fuse_ino_t ino)
{
	struct held h = hold(m, ino);
	int r = h.fd < 0 ? 0 : lazy_make_real(m, &h);

	if (r < 0) {
		node_release(h.t, h.n);
		h.fd = r;
	}
	return h;
}

/* ---- names that go ---- */

bool lazy_look(const struct fs_mount *m, int dir, const char *name, struct lazy_link *ret)
{
	return m->o.lazy_cache && lazy_at(dir, name, ret) > 0;
}

void lazy_gone(struct fs_mount *m, const struct lazy_link *k)
{
	auto_close int cache = k->st.st_nlink == 1 ? m->o.lazy_cache(m->o.arg, k->st.st_uid) : -1;

	if (cache >= 0)
		lazy_unnote(cache, &k->l.oid, k->st.st_dev, k->st.st_ino);
}
