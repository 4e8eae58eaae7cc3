/* SPDX-License-Identifier: MIT */
/*
 * fresh.c - make the view look anew at what lies below it.
 *
 * The kernel keeps names and attributes for a while (TIMEOUT_S). That is too long for a process
 * that has just got a lock which somebody outside had: what it looks at now must be what was left
 * there. So it is remembered what the kernel was told lately, and on a lock the kernel is told that
 * this has expired; it asks again for what it still wants, and drops the pages of files that have
 * changed. Names that hold for longer (the system's) stay.
 */
#include "session.h"

#include <string.h>

#define TOLD_NS ((int64_t)(TIMEOUT_S * 1.1e9))
/* A file changed so shortly before it was looked at may change again with no change in its times.
 */
#define RACY_NS 20000000

struct told {
	struct told *next;
	int64_t ns;
	uint64_t parent, node; /* 0: only attributes; 0: there is nothing of that name */
	bool racy;
	uint32_t len;
	char name[];
};

static void drop_old(struct fresh *f, int64_t now)
{
	struct told *t;

	while ((t = f->first) && now - t->ns > TOLD_NS) {
		f->first = t->next;
		free(t);
	}
	if (!f->first)
		f->last = NULL;
}

void fresh_told(struct fs *fs, const struct inode *parent, const char *name, const struct inode *i,
		const struct stat *st)
{
	struct fresh *f = &fs->fresh;
	size_t len = name ? strlen(name) : 0;
	struct told *t;

	if (i && i->system)
		return;
	t = xcalloc(1, sizeof(*t) + len + 1);
	t->ns = mono_ns();
	t->parent = name ? node_of(fs, parent) : 0;
	t->node = i ? node_of(fs, i) : 0;
	t->len = (uint32_t)len;
	t->racy = i && S_ISREG(st->st_mode) && timespec_ns(st->st_mtim) + RACY_NS > now_ns();
	memcpy(t->name, name ? name : "", len);
	pthread_mutex_lock(&f->mutex);
	drop_old(f, t->ns);
	if (f->last)
		f->last->next = t;
	else
		f->first = t;
	f->last = t;
	pthread_mutex_unlock(&f->mutex);
}

static struct told *take_all(struct fresh *f)
{
	struct told *t;

	pthread_mutex_lock(&f->mutex);
	t = f->first;
	f->first = f->last = NULL;
	pthread_mutex_unlock(&f->mutex);
	return t;
}

static void expire(struct fs *fs, const struct told *t)
{
	struct fuse_notify_inval_entry_out name = {
		.parent = t->parent, .namelen = t->len, .flags = FUSE_EXPIRE_ONLY};
	/* From byte -1: attributes only; from 0: all the pages as well. */
	struct fuse_notify_inval_inode_out node = {.ino = t->node, .off = t->racy ? 0 : -1};

	/* Before Linux 6.2 a name cannot expire, only be thrown out, with all that is mounted below
	 * it. */
	if (t->parent && fs->can_expire)
		protocol_notify(fs, FUSE_NOTIFY_INVAL_ENTRY, &name, sizeof(name), t->name,
				t->len + 1);
	if (t->node)
		protocol_notify(fs, FUSE_NOTIFY_INVAL_INODE, &node, sizeof(node), NULL, 0);
}

/* The kernel may wait in here for a page that it is reading, or a name that it is looking up: the
 * loop must be free to answer, and so no lock that it takes is held meanwhile. */
void fs_refresh(struct fs *fs)
{
	for (struct told *t = take_all(&fs->fresh), *next; t; t = next) {
		next = t->next;
		expire(fs, t);
		free(t);
	}
}

void fs_refresh_file(struct fs *fs, dev_t dev, ino_t ino)
{
	struct fuse_notify_inval_inode_out node = {.ino = inode_known(&fs->inodes, dev, ino)};

	if (node.ino)
		protocol_notify(fs, FUSE_NOTIFY_INVAL_INODE, &node, sizeof(node), NULL, 0);
}

void fresh_free(struct fresh *f)
{
	for (struct told *t = take_all(f), *next; t; t = next) {
		next = t->next;
		free(t);
	}
}
