/* SPDX-License-Identifier: MIT */
/*
 * guard.c - watches over files whose times cannot show a change: inotify.
 *
 * A file that was changed within the same tick of its file system's clock as it was looked at can change
 * again with no change in its times (index/digest.c, the racy rule), and on FAT any change can be hidden.
 * Such a file is watched from before its first byte is read until the end, or until the step itself changes
 * it. There are few of them; those whose times are good are not watched.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "trace.h"

#define CHANGES (IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF)

struct guarded {
	int wd;		      /* the same for all names of a file */
	struct trace_path *p; /* NULL: no longer of interest */
};

struct guard {
	int fd;
	struct guarded *v;
	size_t n, cap;
};

struct guard *guard_new(void)
{
	struct guard *g = xcalloc(1, sizeof(*g));

	g->fd = -1;
	return g;
}

void guard_free(struct guard *g)
{
	if (!g)
		return;
	base_close(&g->fd);
	free(g->v);
	free(g);
}

/* All the watched paths of this descriptor; -1: of all. */
static void changed(struct trace *t, struct guard *g, int wd)
{
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i].p && (wd == -1 || g->v[i].wd == wd))
			trace_spoil(t, "%s was changed by another process while the step ran",
				    g->v[i].p->path);
}

void guard_look(struct trace *t, struct guard *g)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	if (!g->n)
		return;
	while ((n = read(g->fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			if (e->mask & IN_Q_OVERFLOW)
				changed(t, g, -1);
			else if (e->mask & CHANGES)
				changed(t, g, e->wd);
			p += sizeof(*e) + e->len;
		}
}

int guard_add(struct guard *g, struct trace_path *p)
{
	struct stat st;
	int wd;

	if (g->fd < 0)
		g->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (g->fd < 0)
		return -errno;
	wd = inotify_add_watch(g->fd, p->path, CHANGES | IN_DONT_FOLLOW);
	if (wd < 0)
		return -errno;
	if (g->n == g->cap) {
		g->cap = g->cap ? g->cap * 2 : 16;
		g->v = xrealloc(g->v, g->cap * sizeof(*g->v));
	}
	g->v[g->n++] = (struct guarded){wd, p};
	p->guarded = true;
	/* What is watched must be what was looked at. */
	return lstat(p->path, &st) == 0 && trace_same(p, &st, 0) ? 0 : -ESTALE;
}

void guard_drop(struct trace *t, struct guard *g, struct trace_path *p)
{
	if (!p->guarded)
		return;
	guard_look(t, g); /* what happened until now was not the step's doing */
	p->guarded = false;
	for (size_t i = 0; i < g->n; i++) {
		bool last = true;

		if (g->v[i].p != p)
			continue;
		g->v[i].p = NULL;
		for (size_t k = 0; k < g->n; k++)
			last &= !g->v[k].p || g->v[k].wd != g->v[i].wd;
		if (last)
			(void)inotify_rm_watch(g->fd, g->v[i].wd); /* gone with its file, perhaps */
	}
}
