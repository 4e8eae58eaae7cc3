/* SPDX-License-Identifier: MIT */
/*
 * replay_lazy.c - large outputs of a hit in a persistent mount that are not made now; see "Lazy outputs" in docs/design.md.
 *
 * Only what a link can stand for wholly: a file of one name, without more than bytes, mode, owner and time.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lazy_step.h"
#include "replay.h"

/* A file made there would get an ACL, and what stands there keeps something when it is changed in place. */
static bool is_plain_place(const struct output *out)
{
	auto_free char *dir = xstrndup(out->path, (size_t)(strrchr(out->path, '/') - out->path));
	auto_buf struct buf xattrs = {0};
	struct stat st;

	if (getxattr(*dir ? dir : "/", "system.posix_acl_default", NULL, 0) > 0)
		return false;
	if (!out->in_place || lstat(out->path, &st) < 0 || S_ISLNK(st.st_mode))
		return true;
	return S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	       xattr_blob(out->path, -1, &xattrs) >= 0 && !xattrs.len;
}

static bool may_be_lazy(const struct output *out)
{
	return out->now.size >= LAZY_MIN && !out->link_group && !out->n_xattrs &&
	       !(out->now.mode & 07000) && (out->uid == geteuid() || out->uid == OUT_ANY_ID) &&
	       is_plain_place(out);
}

static int dress(const struct output *out, const struct item *it)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};

	if (out->gid != OUT_ANY_ID && lchown(it->tmp, (uid_t)-1, out->gid) < 0) {
		if (geteuid() == 0)
			return -errno;
		log_debug("%s: its group stays as it is", out->path);
	}
	return utimensat(AT_FDCWD, it->tmp, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* The record comes before the look at the object: gc, which moves that away first, sees one or the other. */
static int keep_object(struct replay *p, const struct lazy *l, struct item *it, const char *record)
{
	struct stat st;
	int r;

	if (lstat(it->tmp, &st) < 0)
		return -errno;
	r = lazy_note(idx_dirfd(p->x), &l->oid, st.st_dev, st.st_ino, record);
	if (r < 0)
		return r;
	it->lazy = true;
	it->dev = st.st_dev;
	it->ino = st.st_ino;
	return lazy_there(idx_dirfd(p->x), l) ? 0 : -ENOENT;
}

static void undo(struct replay *p, const struct output *out, struct item *it)
{
	if (!it->lazy)
		return;
	lazy_unnote(idx_dirfd(p->x), &out->oid, it->dev, it->ino);
	it->lazy = false;
}

int replay_lazy(struct replay *p, const struct output *out, struct item *it)
{
	const struct lazy l = {.oid = out->oid,
			       .fp = out->now.fp,
			       .size = out->now.size,
			       .mode = out->now.mode & 0777};
	auto_free char *record = may_be_lazy(out) ? lazy_step_may(p->lazy, out->path) : NULL;
	char text[LAZY_TEXT];
	int r;

	if (!record)
		return 0;
	it->tmp = replay_item_name(p, out, it);
	lazy_text(&l, text);
	r = symlink(text, it->tmp) < 0 ? -errno : dress(out, it);
	if (r == 0)
		r = keep_object(p, &l, it, record);
	if (r == 0)
		return 1;
	log_debug("%s is made real at once: %s", out->path, strerror(-r));
	undo(p, out, it);
	if (unlink(it->tmp) < 0 && errno != ENOENT)
		log_debug("cannot remove %s: %s", it->tmp, strerror(errno));
	free(take(it->tmp));
	return 0;
}

void replay_lazy_gone(struct replay *p, const char *path)
{
	struct lazy_link k;

	if (p->lazy && lazy_at(AT_FDCWD, path, &k) > 0 && k.st.st_uid == geteuid() &&
	    k.st.st_nlink == 1)
		lazy_unnote(idx_dirfd(p->x), &k.l.oid, k.st.st_dev, k.st.st_ino);
}

void replay_lazy_undo(struct replay *p)
{
	for (size_t i = 0; i < p->r->n_outputs; i++)
		undo(p, &p->r->outputs[i], &p->items[i]);
}
