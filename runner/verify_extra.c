/* SPDX-License-Identifier: MIT */
/* verify_extra.c - what the step changed that is no output of the cached result. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "verify.h"

static bool same_content(struct check *k, size_t i)
{
	struct trace_path *p = k->w->v[i];
	const struct stat st = now_of(k->w, i), *now = &st;
	char target[PATH_MAX];
	struct fp fp;
	ssize_t n;

	switch (now->st_mode & S_IFMT) {
	case S_IFREG:
		if (now->st_size != p->st.st_size)
			return false;
		if (!now->st_size)
			return true;
		return p->hash_state == HASH_DONE &&
		       idx_digest_file(k->x, p->path, now, &fp) >= 0 && fp_eq(&fp, &p->fp);
	case S_IFLNK:
		n = readlink(p->path, target, sizeof(target) - 1);
		if (n < 0 || !p->target)
			return false;
		target[n] = '\0';
		return strcmp(target, p->target) == 0;
	default:
		return true;
	}
}

/* Is what the step changed in the end as it was before? */
static bool no_effect(struct check *k, size_t i)
{
	struct trace_path *p = k->w->v[i];
	const struct stat_kept *now = &k->w->now[i];

	if (k->w->now_err[i])
		return k->w->now_err[i] == ENOENT && !was_there(p);
	return was_there(p) && p->st.st_mode == now->st_mode && p->st.st_uid == now->st_uid &&
	       p->st.st_gid == now->st_gid && same_content(k, i);
}

/* The same file under another name: an output of the cached result that was not written now, whose name differs from
 * this one by something that is plain. */
static bool other_name(struct check *k, size_t i, struct guess *ret)
{
	const char *path = k->w->v[i]->path, *name = strrchr(path, '/') + 1;
	size_t dir = (size_t)(name - path);

	for (size_t j = 0; j < k->cached->n_outputs; j++) {
		const struct output *o = &k->cached->outputs[j];
		struct guess_in in = k->context;

		if (strncmp(o->path, path, dir) != 0 || strchr(o->path + dir, '/') ||
		    verify_type_bits(o->now.type) != (k->w->now[i].st_mode & S_IFMT) ||
		    verify_changed(k, o->path))
			continue;
		in.name = true;
		in.then.p = (const uint8_t *)o->path + dir;
		in.then.n = strlen(o->path + dir);
		in.now.p = (const uint8_t *)name;
		in.now.n = strlen(name);
		in.at = 0;
		while (in.at < in.then.n && in.at < in.now.n && in.then.p[in.at] == in.now.p[in.at])
			in.at++;
		guess_at(&in, ret);
		if (ret->cause)
			return true;
	}
	return false;
}

static void extra_output(struct check *k, size_t i)
{
	const char *path = k->w->v[i]->path;
	auto_free char *text = NULL;
	struct guess g = {0};

	if (no_effect(k, i))
		return;
	if (k->w->now_err[i]) {
		verify_differ(k, path, "removed", "was removed now, not then");
		return;
	}
	if (was_there(k->w->v[i])) {
		verify_differ(k, path, "extra", "was changed now, not then");
		return;
	}
	if (k->guesses >= VERIFY_MAX_GUESSES || !other_name(k, i, &g)) {
		verify_differ(k, path, "extra", "was made now, not then");
		return;
	}
	k->guesses++;
	text = xasprintf("was made now, not then; its name holds %s (%s then, %s now)", g.cause,
			 g.then, g.now);
	verdict_add(&k->v, path, "extra", -1, g.cause, text);
	k->differs[i] = true;
}

void verify_extra(struct check *k)
{
	for (size_t i = 0; i < k->w->n; i++)
		if (k->w->v[i]->changed && !verify_in_cached(k, k->w->v[i]->path))
			extra_output(k, i);
}
