/* SPDX-License-Identifier: MIT */
/* native.c - data in the trees that a view shows natively; see native.h. */
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mountinfo.h"
#include "shm.h"
#include "touch.h"

#define LOOK_MOST_NS 1000000000
#define RUN	     "/run"

/* Below them what is mounted is data. */
static const char *const parents[] = {"/run/media", "/run/secrets", NULL};

struct native {
	char *const *ignore;
	size_t n_ignore;
	char **places; /* SHM_DIR first */
	size_t n;
	struct shm before, after;
	struct touch touch;
	bool shm_used;
	char *below_run; /* why the step has data there, or NULL */
	char *spoiled;
};

static void add_place(struct native *n, const char *path)
{
	n->places = xrealloc(n->places, (n->n + 2) * sizeof(*n->places));
	n->places[n->n++] = xstrdup(path);
	n->places[n->n] = NULL;
}

/* A mount that another one lies in cannot be marked: the inner ones are. */
static void add_mount(struct native *n, const char *path)
{
	for (size_t k = 1; k < n->n; k++)
		if (path_is_in(path, n->places[k])) {
			free(n->places[k]);
			n->places[k] = xstrdup(path);
			return;
		}
	add_place(n, path);
}

static void add_mounts(struct native *n)
{
	auto_mountinfos struct mountinfos m = {0};
	bool any = false;

	for (const char *const *p = parents; *p; p++)
		any |= access(*p, F_OK) == 0;
	if (any)
		mountinfo_read(&m);
	for (size_t k = 0; k < m.n; k++)
		for (const char *const *p = parents; *p; p++)
			if (path_is_in(m.v[k].path, *p))
				add_mount(n, m.v[k].path);
}

/* Was something dated in the tick that the clock of files is still at, before we began? Then a change that the step makes
 * could be dated alike. (Anything dated later is somebody's doing just now, and counts.) */
static bool is_fresh(const struct native *n, int64_t begun)
{
	auto_shm struct shm below = {0};
	const struct shm *s = &n->before;

	for (size_t k = 0; k < n->before.n && s != &below; k++)
		if (S_ISDIR(n->before.v[k].st.st_mode)) {
			shm_look(SHM_DIR, n->ignore, n->n_ignore, true, &below);
			s = &below;
		}
	for (size_t k = 0; k < s->n; k++)
		if (!shm_is_old(&s->v[k], n->before.at) && shm_is_old(&s->v[k], begun))
			return true;
	return false;
}

/* Until the clock of files moves on, a matter of milliseconds. */
static void look_before(struct native *n)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	const int64_t begun = now_ns(), most = mono_ns() + LOOK_MOST_NS;

	for (;;) {
		shm_look(SHM_DIR, n->ignore, n->n_ignore, false, &n->before);
		if (!is_fresh(n, begun) || mono_ns() > most)
			return;
		shm_free(&n->before);
		nanosleep(&pause, NULL);
	}
}

/* Is it a directory below /run, or a file with something in it? The locks there are empty. */
static bool is_data_below_run(const char *path)
{
	auto_free char *real = realpath(path, NULL);
	struct stat st;

	return real && strcmp(real, RUN) != 0 && path_is_in(real, RUN) && stat(real, &st) == 0 &&
	       (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size > 0));
}

/* Below /run are the sockets, locks and pid files of services: hardly a step has data there, and nearly every one looks there,
 * for the user database and the like. So that is not asked. */
static char *look_below_run(const char *cwd, char *const *argv)
{
	if (path_is_in(cwd, RUN))
		return xasprintf("it ran in %s, and what is read there is not seen", cwd);
	for (; *argv; argv++) {
		const char *equals = **argv == '-' ? strchr(*argv, '=') : NULL;
		const char *path = equals ? equals + 1 : *argv;

		/* Also below /var/run, a link to it. */
		if (*path == '/' && strstr(path, RUN "/") && is_data_below_run(path))
			return xasprintf("its command names %s, and what is read there is not seen",
					 path);
	}
	return NULL;
}

struct native *native_new(char *const *ignore, size_t n_ignore, const char *cwd, char *const *argv)
{
	struct native *n = xcalloc(1, sizeof(*n));

	n->ignore = ignore;
	n->n_ignore = n_ignore;
	n->touch = (struct touch){-1, -1};
	look_before(n);
	add_place(n, SHM_DIR);
	add_mounts(n);
	n->below_run = look_below_run(cwd, argv);
	return n;
}

void native_free(struct native *n)
{
	if (!n)
		return;
	touch_close(&n->touch);
	for (size_t k = 0; k < n->n; k++)
		free(n->places[k]);
	free(n->places);
	shm_free(&n->before);
	shm_free(&n->after);
	free(n->below_run);
	free(n->spoiled);
	free(n);
}

char *const *native_places(const struct native *n)
{
	return n->places;
}

void native_entered(struct native *n, pid_t pid, bool own_user)
{
	touch_open(pid, own_user, &n->touch);
}

void native_left(struct native *n, bool ask)
{
	shm_look(SHM_DIR, n->ignore, n->n_ignore, false, &n->after);
	n->shm_used =
		shm_matters(&n->before, &n->after) && (!ask || touch_was_used(&n->touch, SHM_DIR));
	if (n->shm_used) {
		shm_free(&n->after);
		shm_look(SHM_DIR, n->ignore, n->n_ignore, true, &n->after);
	}
	for (size_t k = 1; k < n->n && !n->spoiled; k++)
		if (!ask || touch_was_used(&n->touch, n->places[k]))
			n->spoiled = xasprintf("%s was used, and what is read there is not seen",
					       n->places[k]);
	if (!n->spoiled)
		n->spoiled = take(n->below_run);
	touch_leave(&n->touch);
}

const char *native_spoiled(struct native *n, struct trace *t)
{
	if (!n->shm_used || n->spoiled)
		return n->spoiled;
	n->spoiled = shm_compare(&n->before, &n->after);
	for (size_t k = 0; k < n->after.n && !n->spoiled; k++)
		if (n->after.v[k].kind == SHM_DATA && shm_is_old(&n->after.v[k], n->before.at))
			trace_native(t, n->after.v[k].path, &n->after.v[k].st, n->before.at);
	return n->spoiled;
}
