/* SPDX-License-Identifier: MIT */
/*
 * mount_fresh.c - make the kernel look anew at the tree of a persistent mount, which was changed past the mount.
 *
 * All that it was told lately expires: it asks again for what it still wants, and drops the pages of files that have changed. Since
 * Linux 6.16 one notification has all names expire; before, each is told apart, and so those that there were none of are kept.
 */
#include "mount.h"

#include <string.h>

#define NOTIFY_INC_EPOCH 8 /* Linux 6.16 */
#define TOLD_NS		 ((int64_t)(MOUNT_VALID_S * 1.1e9))

/* A name that the kernel was told of, or that there is nothing of that name (node 0). */
struct telling {
	uint64_t parent, node;
	char *name;
};
struct absent {
	struct absent *next;
	int64_t ns; /* mono_ns of when it was told */
	uint64_t parent;
	char name[];
};

/* Under the lock of the absent. */
static void drop_old(struct absents *a, int64_t since)
{
	struct absent *t;

	while ((t = a->first) && t->ns < since) {
		a->first = t->next;
		free(t);
	}
	if (!a->first)
		a->last = NULL;
}

void mount_told_absent(struct fs_mount *m, const struct node *parent, const char *name)
{
	struct absents *a = &m->absents;
	struct absent *t;

	if (m->has_epochs)
		return;
	t = xcalloc(1, sizeof(*t) + strlen(name) + 1);
	t->ns = mono_ns();
	t->parent = node_id(m, parent);
	strcpy(t->name, name);
	pthread_mutex_lock(&a->lock);
	drop_old(a, t->ns - TOLD_NS);
	*(a->last ? &a->last->next : &a->first) = t;
	a->last = t;
	pthread_mutex_unlock(&a->lock);
}

static struct absent *take_absent(struct absents *a)
{
	struct absent *t;

	pthread_mutex_lock(&a->lock);
	t = a->first;
	a->first = a->last = NULL;
	pthread_mutex_unlock(&a->lock);
	return t;
}

void absents_free(struct absents *a)
{
	drop_old(a, INT64_MAX);
}

static void expire(struct fs_mount *m, const struct telling *t)
{
	struct fuse_notify_inval_entry_out name = {.parent = t->parent, .flags = FUSE_EXPIRE_ONLY};
	struct fuse_notify_inval_inode_out node = {.ino = t->node, .off = -1};

	/* Before Linux 6.2 a name cannot expire, only be thrown out, with all that is mounted below it. */
	if (t->name && (m->can_expire || !t->node)) {
		name.namelen = (uint32_t)strlen(t->name);
		wire_notify(m->se, FUSE_NOTIFY_INVAL_ENTRY, &name, sizeof(name), t->name,
			    name.namelen + 1);
	}
	if (t->node)
		wire_notify(m->se, FUSE_NOTIFY_INVAL_INODE, &node, sizeof(node), NULL, 0);
}

/* Before Linux 6.16: each name apart. */
static void expire_absent(struct fs_mount *m, int64_t since)
{
	for (struct absent *t = take_absent(&m->absents), *next; t; t = next) {
		next = t->next;
		if (t->ns >= since)
			expire(m, &(struct telling){.parent = t->parent, .name = t->name});
		free(t);
	}
}

static void add_node(struct fs_mount *m, struct node *n, int64_t since, struct telling **v,
		     size_t *count)
{
	bool named = n->name && !m->has_epochs;

	if (atomic_load_explicit(&n->told, memory_order_relaxed) < since)
		return;
	if (!(*count & (*count - 1)))
		*v = xrealloc(*v, (*count ? *count * 2 : 1) * sizeof(**v));
	(*v)[(*count)++] = (struct telling){.parent = n->parent ? node_id(m, n->parent) : 0,
					    .node = node_id(m, n),
					    .name = named ? xstrdup(n->name) : NULL};
}

void fs_mount_refresh(struct fs_mount *m)
{
	int64_t since = mono_ns() - TOLD_NS;
	struct telling *v = NULL;
	size_t count = 0;

	/* The kernel may wait in here for a name that it is looking up. */
	mount_let_others();
	if (m->has_epochs)
		wire_notify(m->se, NOTIFY_INC_EPOCH, NULL, 0, NULL, 0);
	else
		expire_absent(m, since);
	pthread_mutex_lock(&m->nodes.lock);
	for (size_t k = 0; k <= m->nodes.mask; k++)
		for (struct node *n = m->nodes.table[k]; n; n = n->next)
			add_node(m, n, since, &v, &count);
	pthread_mutex_unlock(&m->nodes.lock);
	for (size_t k = 0; k < count; k++) {
		expire(m, &v[k]);
		free(v[k].name);
	}
	free(v);
}
