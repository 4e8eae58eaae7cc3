/* SPDX-License-Identifier: MIT */
/* ops_name.c - looking up, making, renaming and removing names. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

struct trace_path *dentry_trace(struct fs *fs, struct dentry *d)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};

	if (d->gen == fs->inodes.gen)
		return d->trace;
	if (at_child(&fs->inodes, d->parent, d->name, &a) < 0)
		return NULL;
	d->trace = trace_at(fs, &a);
	d->gen = fs->inodes.gen;
	return d->trace;
}

/* Read after its last name went: what was there before the step must still be known. */
static void note_read_nameless(struct fs *fs, struct inode *i)
{
	struct trace_path *p = i->last_trace;

	if (!p || !i->was_input || (p->obs & OBS_CONTENT))
		return;
	p->obs |= OBS_CONTENT;
	if (p->hash_state != HASH_DONE)
		trace_spoil(fs->trace, "%s was read after it had been removed", p->path);
}

void note_read(struct fs *fs, struct inode *i)
{
	if (i->read_noted)
		return;
	i->read_noted = true;
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_read(fs->trace, dentry_trace(fs, d));
	if (!i->names)
		note_read_nameless(fs, i);
}

/* Of a file that changes, no name that the step used is traced (ignored, all of them, or gone), or only by having been given a
 * name that is: others that it has change with it, and nothing would tell. */
static void note_unseen_names(struct fs *fs, struct inode *i, nlink_t known)
{
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct stat st;

	if (i->type != S_IFREG || inode_stat(&fs->inodes, i, &st) < 0 || st.st_nlink <= known)
		return;
	if (i->names)
		trace_spoil(fs->trace,
			    "%s %s ignored and has other names, which are changed with it",
			    at_inode(&fs->inodes, i, &a) < 0 ? i->names->name : a.full,
			    dentry_trace(fs, i->names) ? "had a name that is" : "is");
	else
		trace_spoil(fs->trace,
			    "a file was changed after the name it was opened by had gone, "
			    "while it had others");
}

void note_change(struct fs *fs, struct inode *i, enum change c)
{
	bool traced = false;
	nlink_t known = 0;

	if (c == CHANGE_PART && i->part_noted)
		return;
	if (c != CHANGE_LINK)
		i->part_noted = true;
	for (struct dentry *d = i->names; d; d = d->next_of_inode, known++) {
		struct trace_path *p = dentry_trace(fs, d);

		traced |= p && !p->unseen;
		trace_change(fs->trace, p, c);
	}
	if (!traced && c != CHANGE_LINK)
		note_unseen_names(fs, i, known);
}

/* It is about to get the name of q as well. */
static void note_link(struct fs *fs, struct inode *i, struct trace_path *q)
{
	bool seen = !i->names;

	note_change(fs, i, CHANGE_LINK);
	for (struct dentry *d = i->names; d; d = d->next_of_inode) {
		struct trace_path *p = dentry_trace(fs, d);

		if (!p)
			continue;
		p->linked = true;
		trace_xattr(fs->trace, p); /* they go along, should this name go */
		seen |= !p->unseen;
	}
	if (q)
		q->unseen = !seen;
}

void note_kept(struct fs *fs, struct inode *i)
{
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_kept(dentry_trace(fs, d));
}

/* Does name in dir lie in a tree that only the package manager changes? */
static bool steady(const struct fs *fs, const struct inode *dir, const char *name)
{
	static const char *const trees[] = {"usr",    "lib", "lib32", "lib64",
					    "libx32", "bin", "sbin"};

	if (dir != &fs->inodes.root)
		return dir->system && strcmp(name, "local") != 0; /* /usr/local is a person's */
	for (size_t k = 0; k < sizeof(trees) / sizeof(*trees); k++)
		if (strcmp(name, trees[k]) == 0)
			return true;
	return false;
}

/* What the kernel is told of the file st found at a, named name in parent. */
static struct inode *make_entry(struct fs *fs, struct inode *parent, const char *name,
				const struct at *a, const struct stat *st,
				struct fuse_entry_param *e)
{
	struct inode *i = inode_get(&fs->inodes, st);
	bool read = i->read_noted, xattr = i->xattr_noted;
	struct dentry *d = dentry_set(&fs->inodes, parent, name, i);

	if (d->gen != fs->inodes.gen) {
		d->trace = trace_at(fs, a);
		d->gen = fs->inodes.gen;
	}
	if (read && !i->read_noted) { /* its bytes are in the page cache: no READ will tell */
		trace_read(fs->trace, d->trace);
		i->read_noted = true;
	}
	if (xattr && !i->xattr_noted) { /* asked for under another name */
		trace_xattr(fs->trace, d->trace);
		i->xattr_noted = true;
	}
	i->nlookup++;
	i->system = steady(fs, parent, name);
	memset(e, 0, sizeof(*e));
	e->ino = node_of(fs, i);
	e->attr = *st;
	e->attr_timeout = e->entry_timeout = timeout_of(i);
	ids_show(fs, i, parent, a, &e->attr);
	fresh_told(fs, parent, name, i, st);
	return i;
}

static void reply_entry(fuse_req_t req, struct fs *fs, const struct fuse_entry_param *e)
{
	/* Not delivered: the kernel holds no reference then. */
	if (fuse_reply_entry(req, e) == -ENOENT)
		inode_forget(&fs->inodes, inode_of(fs, e->ino), 1);
}

static void spoil_spilled(struct fs *fs, const struct trace_path *p)
{
	trace_spoil(fs->trace,
		    "%s had other hard links and was moved or changed before it was replaced",
		    p->path);
}

static bool is_known(const struct fs *fs, const struct inode *dir, const char *name,
		     const struct stat *st)
{
	const struct dentry *d = dentry_find(&fs->inodes, dir, name);

	return d && d->inode->dev == st->st_dev && d->inode->ino == st->st_ino;
}

/* A name of a file that the step has changed under another one: what it was before is known from there. */
void note_other_name(struct fs *fs, const struct at *a, const struct stat *st, bool known)
{
	struct inode *i = inode_find(&fs->inodes, st);
	bool written = i && i->spilled && i->spilled->written;

	if (i && !i->names && i->spilled)
		spoil_spilled(fs, i->spilled);
	else if (i && !i->names && i->last_trace && i->last_trace->spilled &&
		 i->last_trace->st.st_nlink > 1)
		spoil_spilled(fs, i->last_trace);
	for (struct dentry *d = i ? i->names : NULL; d; d = d->next_of_inode) {
		const struct trace_path *p = dentry_trace(fs, d);

		written |= p && p->written;
		if (!p || !p->changed || p->renewed || p->err || p->st.st_ino != st->st_ino ||
		    p->st.st_dev != st->st_dev)
			continue;
		trace_same_file(trace_at(fs, a), p);
		return;
	}
	if (i && i->spilled && written)
		spoil_spilled(fs, i->spilled);
	else if (written && !known)
		trace_spoil(fs->trace,
			    "%s was changed under other names, not all of which are recorded",
			    a->full);
}

/* Not the step's doing: its attributes are asked for when they are. */
static void reply_root(fuse_req_t req, struct fs *fs)
{
	struct inode *i = &fs->inodes.root;
	struct fuse_entry_param e = {.ino = node_of(fs, i), .entry_timeout = SYSTEM_TIMEOUT_S};
	int r = inode_stat(&fs->inodes, i, &e.attr);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	ids_show(fs, i, NULL, NULL, &e.attr);
	i->nlookup++;
	reply_entry(req, fs, &e);
}

/* Before the step begins. What is not there is the view's affair. */
static void reply_unseen(fuse_req_t req, struct fs *fs, struct inode *dir, const char *name)
{
	struct fuse_entry_param e = {0};
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct dentry *d;
	struct inode *i;
	int r = at_child(&fs->inodes, dir, name, &a);

	if (r == 0 && fstatat(a.dirfd, a.name, &e.attr, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	i = inode_get(&fs->inodes, &e.attr);
	d = dentry_set(&fs->inodes, dir, name, i);
	d->gen = fs->inodes.gen - 1; /* no record yet */
	i->nlookup++;
	i->system = steady(fs, dir, name);
	e.ino = node_of(fs, i);
	e.attr_timeout = TIMEOUT_S; /* whoever comes by the name has to ask for that first */
	ids_show(fs, i, dir, &a, &e.attr);
	reply_entry(req, fs, &e);
}

void look_up(fuse_req_t req, fuse_ino_t parent, const char *name, unsigned tries)
{
	struct fs *fs = fs_of(req);
	struct inode *dir = inode_of(fs, parent);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct fuse_entry_param e = {0};
	struct inode *i;
	struct dentry *d;
	struct stat st;
	int64_t at;
	int r, err = 0;

	if (parent == FUSE_ROOT_ID && fs->posix_acl) {
		reply_root(req, fs);
		return;
	}
	if (!fs->begun) {
		reply_unseen(req, fs, dir, name);
		return;
	}
	r = at_child(&fs->inodes, dir, name, &a);
	if (r < 0) { /* nothing is in a directory that was removed */
		fuse_reply_err(req, r == -ESTALE && !dir->names ? ENOENT : -r);
		return;
	}
	at = now_ns();
	if (fstatat(a.dirfd, a.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		err = errno;
	else if (fs->lazy && S_ISLNK(st.st_mode) && lazy_meet(req, parent, name, &a, &st, tries))
		return;
	else if (S_ISREG(st.st_mode)) /* the other names may be gone by now */
		note_other_name(fs, &a, &st, is_known(fs, dir, name, &st));
	trace_looked(fs->trace, trace_at(fs, &a), &st, err, at);
	if (!err) {
		i = make_entry(fs, dir, name, &a, &st, &e);
		if (i->type == S_IFREG)
			inode_looked(&fs->inodes, i, &a);
		reply_entry(req, fs, &e);
		return;
	}
	d = dentry_find(&fs->inodes, dir, name);
	if (d)
		dentry_drop(&fs->inodes, d);
	if (err != ENOENT) {
		fuse_reply_err(req, err);
		return;
	}
	e.entry_timeout = steady(fs, dir, name) ? SYSTEM_TIMEOUT_S : TIMEOUT_S;
	if (e.entry_timeout == TIMEOUT_S)
		fresh_told(fs, dir, name, NULL, NULL);
	fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	look_up(req, parent, name, 0);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fs *fs = fs_of(req);

	inode_forget(&fs->inodes, inode_of(fs, ino), n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	struct fs *fs = fs_of(req);

	for (size_t k = 0; k < count; k++)
		inode_forget(&fs->inodes, inode_of(fs, f[k].ino), f[k].nlookup);
	fuse_reply_none(req);
}

/* A new name: where it will be, and what was known of it. */
struct making {
	struct at at;
	struct trace_path *p, was;
};

static void making_free(struct making *m)
{
	at_free(&m->at);
}
#define auto_making __attribute__((cleanup(making_free)))

/* With the change noted; made as the caller until ids_resume. 0 or -errno. */
static int begin_create(fuse_req_t req, fuse_ino_t parent, const char *name, struct making *ret)
{
	struct fs *fs = fs_of(req);
	int r;

	ret->p = NULL;
	ret->at = (struct at){.dirfd = AT_FDCWD};
	r = at_child(&fs->inodes, inode_of(fs, parent), name, &ret->at);
	if (r < 0)
		return r;
	ret->p = trace_at(fs, &ret->at);
	if (ret->p)
		ret->was = *ret->p;
	trace_change(fs->trace, ret->p, CHANGE_CREATE);
	ids_umask(fs, fuse_req_ctx(req));
	ids_assume(fs, fuse_req_ctx(req));
	return 0;
}

/* It failed: what there is, or is not, is as it was. */
static void not_created(fuse_req_t req, const struct making *m, int err)
{
	trace_not_made(m->p, &m->was);
	fuse_reply_err(req, err);
}

/* Made: tell the kernel. */
static void end_create(fuse_req_t req, fuse_ino_t parent, const char *name, const struct at *a)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct stat st;

	if (fstatat(a->dirfd, a->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	make_entry(fs, inode_of(fs, parent), name, a, &st, &e);
	reply_entry(req, fs, &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	auto_making struct making m;
	int r = begin_create(req, parent, name, &m);

	if (r == 0 && mkdirat(m.at.dirfd, m.at.name, mode) < 0)
		r = -errno;
	ids_resume(fs_of(req));
	if (r < 0)
		not_created(req, &m, -r);
	else
		end_create(req, parent, name, &m.at);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	auto_making struct making m;
	int r = begin_create(req, parent, name, &m);

	if (r == 0 && mknodat(m.at.dirfd, m.at.name, mode, rdev) < 0)
		r = -errno;
	ids_resume(fs_of(req));
	if (r < 0)
		not_created(req, &m, -r);
	else
		end_create(req, parent, name, &m.at);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	auto_making struct making m;
	int r = begin_create(req, parent, name, &m);

	if (r == 0 && symlinkat(target, m.at.dirfd, m.at.name) < 0)
		r = -errno;
	ids_resume(fs_of(req));
	if (r < 0)
		not_created(req, &m, -r);
	else
		end_create(req, parent, name, &m.at);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at from = {.dirfd = AT_FDCWD};
	auto_making struct making m;
	char proc[32];
	const char *path = NULL;
	int r = begin_create(req, newparent, newname, &m);

	ids_resume(fs); /* a link is nobody's */
	if (r == 0)
		r = inode_path(&fs->inodes, i, &from, proc, &path);
	if (r == 0) {
		note_link(fs, i, m.p);
		if (linkat(AT_FDCWD, path, m.at.dirfd, m.at.name,
			   path == proc ? AT_SYMLINK_FOLLOW : 0) < 0)
			r = -errno;
	}
	if (r < 0) {
		not_created(req, &m, -r);
	} else {
		trace_mtime_set(m.p, i->mtime_set);
		end_create(req, newparent, newname, &m.at);
	}
}

/* Open for a create. *ret_existed: somebody else made it since the kernel looked. */
static int open_new(const struct at *a, mode_t mode, int flags, bool *ret_existed)
{
	int keep = (flags & (O_NOFOLLOW | O_NOATIME)) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int access = (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;
	int fd = openat(a->dirfd, a->name, access | keep | O_CREAT | O_EXCL, mode);

	*ret_existed = false;
	if (fd >= 0)
		return fd;
	if (errno != EEXIST || (flags & O_EXCL))
		return -errno;
	*ret_existed = true;
	fd = openat(a->dirfd, a->name, (flags & (O_ACCMODE | O_TRUNC)) | keep);
	return fd < 0 ? -errno : fd;
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	auto_making struct making m;
	struct fuse_entry_param e;
	struct inode *i;
	struct stat st;
	bool existed = false;
	int fd, r = begin_create(req, parent, name, &m);

	fd = r < 0 ? r : open_new(&m.at, mode, fi->flags, &existed);
	ids_resume(fs);
	if (fd == -ENOENT && existed && fs->lazy) { /* it leads nowhere: it may stand for a file */
		lazy_meet_now(fs, m.at.full);
		ids_assume(fs, fuse_req_ctx(req));
		fd = open_new(&m.at, mode, fi->flags, &existed);
		ids_resume(fs);
	}
	if (fd < 0) {
		not_created(req, &m, -fd);
		return;
	}
	if (existed)
		trace_spoil(fs->trace, "%s was made by another process while the step ran",
			    m.at.full);
	if (fstat(fd, &st) < 0) {
		fuse_reply_err(req, errno);
		close(fd);
		return;
	}
	i = make_entry(fs, inode_of(fs, parent), name, &m.at, &st, &e);
	if ((fi->flags & O_ACCMODE) == O_RDONLY)
		close(fd);
	else
		inode_set_wfd(&fs->inodes, i, fd);
	if (opens_reply_created(req, i, &e, fi) == -ENOENT)
		inode_forget(&fs->inodes, i, 1);
}

void part_from_name(struct fs *fs, struct dentry *d, enum change c)
{
	struct trace_path *p;

	if (!d)
		return;
	p = dentry_trace(fs, d);
	d->inode->was_input = p && !p->replaced;
	/* Read later by whoever has it open, it would be seen under the other name alone. */
	if (d->inode->names->next_of_inode && d->inode->type == S_IFREG)
		trace_read(fs->trace, p);
	trace_change(fs->trace, p, c);
	for (struct dentry *o = d->inode->names; o; o = o->next_of_inode)
		if (o != d && (p = dentry_trace(fs, o)))
			trace_change(fs->trace, p, CHANGE_LINK); /* ctime moves */
	if (c != CHANGE_MOVE && !d->inode->names->next_of_inode)
		inode_pin(&fs->inodes, d->inode);
}

void note_listing(struct fs *fs, const struct at *a)
{
	auto_close int fd =
		openat(a->dirfd, a->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		trace_list(fs->trace, trace_at(fs, a), fd);
	else if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
		trace_spoil(fs->trace, "%s cannot be listed: %s", a->full, strerror(errno));
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
	struct fs *fs = fs_of(req);
	struct inode *dir = inode_of(fs, parent);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	struct dentry *d = dentry_find(&fs->inodes, dir, name);
	struct trace_path *p;
	struct trace_path was = {0};
	int r = at_child(&fs->inodes, dir, name, &a);

	if (r == 0) {
		p = trace_at(fs, &a);
		if (p)
			was = *p;
		if (flags & AT_REMOVEDIR) /* whether it is empty */
			note_listing(fs, &a);
		if (d)
			part_from_name(fs, d, CHANGE_REMOVE);
		else
			trace_change(fs->trace, p, CHANGE_REMOVE);
		if (unlinkat(a.dirfd, a.name, flags) < 0) {
			r = -errno;
			trace_stayed(p, &was);
		}
	}
	if (r == 0 && d)
		dentry_drop(&fs->inodes, d);
	fuse_reply_err(req, -r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, AT_REMOVEDIR);
}

/* ---- listing and links ---- */

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	int fd = inode_rfd(&fs->inodes, i);
	struct trace_path *p = NULL;
	ssize_t n;

	(void)fi;
	if (fd < 0) {
		fuse_reply_err(req, -fd);
		return;
	}
	if (i->names)
		p = dentry_trace(fs, i->names);
	else if (i == &fs->inodes.root)
		p = trace_get(fs->trace, "/", 1);
	if (size > IO_MAX)
		size = IO_MAX;
	n = listing_serve(req, fs, i, p, fd, size, off);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, fs->io, (size_t)n);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct inode *i = inode_of(fs, ino);
	auto_at struct at a = {.dirfd = AT_FDCWD};
	char target[PATH_MAX + 1];
	ssize_t n;
	int r = at_inode(&fs->inodes, i, &a);

	if (r == 0)
		n = readlinkat(a.dirfd, a.name, target, sizeof(target) - 1);
	else if (i->pfd >= 0)
		n = readlinkat(i->pfd, "", target, sizeof(target) - 1);
	else
		n = -1, errno = ESTALE;
	if (n < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	target[n] = '\0';
	for (struct dentry *d = i->names; d; d = d->next_of_inode)
		trace_readlink(fs->trace, dentry_trace(fs, d), target);
	fuse_reply_readlink(req, target);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS); /* no OPENDIR, RELEASEDIR; the kernel caches listings */
}

void ops_name_init(struct fuse_lowlevel_ops *o)
{
	o->lookup = op_lookup;
	o->forget = op_forget;
	o->forget_multi = op_forget_multi;
	o->mkdir = op_mkdir;
	o->mknod = op_mknod;
	o->symlink = op_symlink;
	o->link = op_link;
	o->create = op_create;
	o->unlink = op_unlink;
	o->rmdir = op_rmdir;
	o->opendir = op_opendir;
	o->readdir = op_readdir;
	o->readlink = op_readlink;
}
