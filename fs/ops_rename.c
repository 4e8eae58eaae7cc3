/* SPDX-License-Identifier: MIT */
/* ops_rename.c - renaming: all that is below a path leaves it and arrives at another. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"

/* Every name in the directory at path, to fn with the path of each; deepest first. What cannot be listed spoils. */
static void each_below(struct fs *fs, const char *path, const char *to,
		       void (*fn)(struct fs *fs, const char *path, const char *to))
{
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char **list;
	size_t n;
	int r = fd < 0 ? -errno : list_dir(fd, &list, &n);

	if (r == -ENOTDIR || r == -ELOOP)
		return;
	if (r < 0) {
		trace_spoil(fs->trace, "%s was renamed, and what is in it cannot be listed: %s",
			    path, strerror(-r));
		return;
	}
	for (size_t k = 0; k < n; k++) {
		auto_free char *f = xasprintf("%s/%s", path, list[k] + 1);
		auto_free char *g = xasprintf("%s/%s", to, list[k] + 1);

		if (list[k][0] == 'l')
			lazy_meet_now(fs, f);
		if (list[k][0] == 'd')
			each_below(fs, f, g, fn);
		fn(fs, f, g);
	}
	strv_free(list, n);
}

/* What was at p when the step began is being moved. Its other names will tell of what becomes of it. */
static void note_spilled(struct fs *fs, struct trace_path *p)
{
	struct stat st;
	struct inode *i;

	if (!p || !p->spilled || p->renewed || p->err || !S_ISREG(p->st.st_mode) ||
	    p->st.st_nlink < 2)
		return;
	st = stat_again(&p->st);
	i = inode_find(&fs->inodes, &st);
	if (i)
		i->spilled = p;
}

static void leave_one(struct fs *fs, const char *path, const char *to)
{
	struct at a = {.dirfd = AT_FDCWD, .name = path, .full = (char *)path, .len = strlen(path)};

	struct trace_path *p;
	struct stat st;
	int err = lstat(path, &st) < 0 ? errno : 0;

	(void)to;
	note_listing(fs, &a);
	p = trace_at(fs, &a);
	if (p && p->latest)
		trace_latest_check(fs->trace, p, &st, err);
	if (!err && S_ISREG(st.st_mode))
		note_other_name(fs, &a, &st, p && p->err != -1);
	trace_change(fs->trace, p, CHANGE_MOVE);
	note_spilled(fs, p);
	trace_latest_unknown(p);
	if (p) {
		p->mtime_moved = p->mtime_set;
		p->mtime_set = false;
	}
}

/* What is at path now is about to come to be at q: is it what was there at first? */
static enum change arrival(const struct trace_path *q, const char *path)
{
	struct stat st;

	return q && q->changed && !q->err && !q->renewed && lstat(path, &st) == 0 &&
			       st.st_ino == q->st.st_ino && st.st_dev == q->st.st_dev
		       ? CHANGE_RETURN
		       : CHANGE_REPLACE;
}

static void arrive_one(struct fs *fs, const char *path, const char *to)
{
	const struct trace_path *p = trace_get(fs->trace, path, strlen(path));
	struct trace_path *q = trace_get(fs->trace, to, strlen(to));

	trace_change(fs->trace, q, arrival(q, path));
	if (q) {
		q->own_listed = true; /* a directory comes with what is in it */
		q->unseen = !p || p->unseen;
	}
	trace_mtime_set(q, p && p->mtime_moved);
	trace_latest_unknown(q);
}

static bool is_dir(const struct dentry *d)
{
	return d && d->inode->type == S_IFDIR;
}

/* All that leaves its path is noted before anything arrives: the two trees of an exchange may have names in
 * common. What a moved directory holds is an input, for all of it goes along. */
static void note_rename(struct fs *fs, struct dentry *from, struct dentry *to, const struct at *a,
			const struct at *b, unsigned flags)
{
	bool exchange = flags & RENAME_EXCHANGE, whole = !from || is_dir(from);
	struct trace_path *p = trace_at(fs, a), *q = trace_at(fs, b);
	bool unseen = !p || p->unseen, q_unseen = !q || q->unseen;

	if (whole) {
		note_listing(fs, a);
		each_below(fs, a->full, b->full, leave_one);
	}
	if (!to || is_dir(to))
		note_listing(fs, b);
	if (exchange && (!to || is_dir(to)))
		each_below(fs, b->full, a->full, leave_one);
	if (from)
		part_from_name(fs, from, CHANGE_MOVE);
	else
		trace_change(fs->trace, p, CHANGE_MOVE);
	note_spilled(fs, p);
	if (to)
		part_from_name(fs, to, exchange ? CHANGE_MOVE : arrival(q, a->full));
	else
		trace_change(fs->trace, q, exchange ? CHANGE_MOVE : arrival(q, a->full));
	if (exchange)
		note_spilled(fs, q);
	if (exchange) {
		trace_change(fs->trace, q, arrival(q, a->full));
		trace_change(fs->trace, p, arrival(p, b->full));
	}
	if (q) {
		q->own_listed = true;
		q->unseen = unseen;
	}
	if (exchange && p)
		p->unseen = q_unseen;
	if (whole)
		each_below(fs, a->full, b->full, arrive_one);
	if (exchange && (!to || is_dir(to)))
		each_below(fs, b->full, a->full, arrive_one);
}

/* The names the kernel knows follow. */
static void move_names(struct fs *fs, struct inode *olddir, const char *oldname,
		       struct inode *newdir, const char *newname, unsigned flags)
{
	struct dentry *from = dentry_find(&fs->inodes, olddir, oldname);
	struct dentry *to = dentry_find(&fs->inodes, newdir, newname);
	struct inode *i = from ? from->inode : NULL, *j = to ? to->inode : NULL;

	if (i)
		i->nlookup++; /* held meanwhile */
	if (j)
		j->nlookup++;
	if (from)
		dentry_drop(&fs->inodes, from);
	if (to)
		dentry_drop(&fs->inodes, to);
	if (i)
		dentry_set(&fs->inodes, newdir, newname, i);
	if (j && (flags & RENAME_EXCHANGE))
		dentry_set(&fs->inodes, olddir, oldname, j);
	if ((i && i->type == S_IFDIR) || (j && j->type == S_IFDIR))
		fs->inodes.gen++;
	if (i)
		inode_forget(&fs->inodes, i, 1);
	if (j)
		inode_forget(&fs->inodes, j, 1);
}

/* What is sure to fail is refused before a whole tree is digested and taken for moved: `mv` to another file system,
 * a directory that is not empty. */
static int refuse_rename(struct fs *fs, const struct inode *olddir, const struct inode *newdir,
			 const struct at *b, unsigned flags)
{
	auto_close int fd = -1;
	char **list;
	size_t n;

	if (olddir->dev != newdir->dev)
		return -EXDEV;
	if (flags & RENAME_EXCHANGE)
		return 0;
	fd = openat(b->dirfd, b->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || list_dir(fd, &list, &n) < 0)
		return 0; /* the file system below decides */
	lazy_list(fs->lazy, b->full, fd, list, n);
	trace_listed(fs->trace, trace_at(fs, b), list, n);
	return n ? -ENOTEMPTY : 0;
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct fs *fs = fs_of(req);
	struct inode *olddir = inode_of(fs, parent), *newdir = inode_of(fs, newparent);
	auto_at struct at a = {.dirfd = AT_FDCWD}, b = {.dirfd = AT_FDCWD};
	struct trace_path *p, *q;
	struct trace_path p_was = {0}, q_was = {0};
	int r = at_child(&fs->inodes, olddir, name, &a);

	if (r == 0)
		r = at_child(&fs->inodes, newdir, newname, &b);
	if (r == 0)
		r = refuse_rename(fs, olddir, newdir, &b, flags);
	if (r == 0) {
		p = trace_at(fs, &a);
		q = trace_at(fs, &b);
		if (p)
			p_was = *p;
		if (q)
			q_was = *q;
		note_rename(fs, dentry_find(&fs->inodes, olddir, name),
			    dentry_find(&fs->inodes, newdir, newname), &a, &b, flags);
		if (flags & RENAME_WHITEOUT) /* which is a new file */
			ids_assume(fs, fuse_req_ctx(req));
		if (syscall(SYS_renameat2, a.dirfd, a.name, b.dirfd, b.name, flags) < 0)
			r = -errno;
		ids_resume(fs);
		if (r < 0) {
			trace_stayed(p, &p_was);
			trace_not_made(q, &q_was);
			/* What was to come to be below the new name is noted as the step's own. */
			if (is_dir(dentry_find(&fs->inodes, olddir, name)))
				trace_spoil(fs->trace, "the directory %s could not be renamed: %s",
					    a.full, strerror(-r));
		}
	}
	if (r == 0) {
		bool time = p && p->mtime_set;

		/* A time that the step had set goes along. */
		if (flags & RENAME_EXCHANGE)
			trace_mtime_set(p, q && q->mtime_set);
		else
			trace_mtime_set(p, false);
		trace_mtime_set(q, time);
		move_names(fs, olddir, name, newdir, newname, flags);
	}
	fuse_reply_err(req, -r);
}

void ops_rename_init(struct fuse_lowlevel_ops *o)
{
	o->rename = op_rename;
}
