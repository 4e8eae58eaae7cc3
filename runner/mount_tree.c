/* SPDX-License-Identifier: MIT */
/* mount_tree.c - patterns and settings in a mounted tree; see mount_tree.h. */
#include "mount_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "mount_command.h"
#include "mount_steps.h"
#include "options.h"

/* What such a file says of the mount; the rest of it is read by the step itself. */
struct tree_words {
	struct query q;
	struct strlist steps, not_steps, commands;
	struct tree_share share;
};
static const struct word_def defs[] = {
	{"step", 0, WORD_LIST, offsetof(struct tree_words, steps), "GLOB",
	 "programs that are steps", true, 0, NULL},
	{"no-step", 0, WORD_LIST, offsetof(struct tree_words, not_steps), "GLOB",
	 "programs that are none", true, 0, NULL},
	{"step-command", 0, WORD_LIST, offsetof(struct tree_words, commands), "GLOB",
	 "command lines that are steps", true, 0, NULL},
	{"share", 0, WORD_LIST, offsetof(struct tree_words, share.programs), "GLOB",
	 "steps whose results are for other users, too", true, 0, NULL},
	{"no-share", 0, WORD_LIST, offsetof(struct tree_words, share.not_programs), "GLOB",
	 "steps whose results are not", true, 0, NULL},
	{"share-store", 0, WORD_LIST, offsetof(struct tree_words, share.store), "WHO",
	 "users whose results others get", true, 0, NULL},
	{"share-use", 0, WORD_LIST, offsetof(struct tree_words, share.use), "WHO",
	 "users who get results of others", true, 0, NULL},
};
const struct word_table tree_words = {
	.command = TREE_SETTINGS,
	.v = defs,
	.n = sizeof(defs) / sizeof(*defs),
	.size = sizeof(struct tree_words),
};

/* A directory's file of settings, as last seen. */
struct settings {
	char *dir; /* "jobs", or "" */
	struct stat st;
	struct strlist steps, not_steps, commands;
	struct tree_share share;
	char *wrong; /* or NULL */
};
struct tree {
	pthread_mutex_t mutex;
	int root;
	uid_t owner;
	struct strlist steps, not_steps, commands;
	struct tree_share share;
	struct settings *v;
	size_t n;
};

/* ---- patterns ---- */

static void copy_list(struct strlist *to, const struct strlist *from)
{
	for (size_t k = 0; k < from->n; k++)
		strlist_add(to, xstrdup(from->v[k]));
}

static void copy_share(struct tree_share *to, const struct tree_share *from)
{
	copy_list(&to->programs, &from->programs);
	copy_list(&to->not_programs, &from->not_programs);
	copy_list(&to->store, &from->store);
	copy_list(&to->use, &from->use);
}

void tree_share_free(struct tree_share *s)
{
	strlist_free(&s->programs);
	strlist_free(&s->not_programs);
	strlist_free(&s->store);
	strlist_free(&s->use);
}

/* path: from where the pattern stands. */
static bool matches(const struct strlist *patterns, const char *path)
{
	const char *slash = strrchr(path, '/');

	for (size_t k = 0; k < patterns->n; k++) {
		const char *p = patterns->v[k];

		while (p[0] == '.' && p[1] == '/')
			p += 2;
		if (fnmatch(*p == '/' ? p + 1 : p, strchr(p, '/') || !slash ? path : slash + 1,
			    FNM_PATHNAME) == 0)
			return true;
	}
	return false;
}

/* ---- the files ---- */

static void settings_clear(struct settings *s)
{
	strlist_free(&s->steps);
	strlist_free(&s->not_steps);
	strlist_free(&s->commands);
	tree_share_free(&s->share);
	free(take(s->wrong));
}

static bool same_version(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       timespec_ns(a->st_mtim) == timespec_ns(b->st_mtim) &&
	       timespec_ns(a->st_ctim) == timespec_ns(b->st_ctim) && a->st_uid == b->st_uid &&
	       a->st_mode == b->st_mode;
}

static void settings_read_in(struct tree *t, struct settings *s, const char *path)
{
	auto_close int fd = openat(t->root, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct tree_words w = {0};
	auto_free char *text = NULL;
	struct err e = {0};
	size_t n;
	int r = fd < 0 ? err_set(&e, errno, "cannot open %s", path)
		       : read_opened(fd, path, &text, &n, &e);

	if (r == 0)
		r = config_apply_text(path, text, n, NULL,
				      &(struct config_to){.table = &tree_words, .words = &w}, &e);
	if (r == 0) {
		copy_list(&s->steps, &w.steps);
		copy_list(&s->not_steps, &w.not_steps);
		copy_list(&s->commands, &w.commands);
		copy_share(&s->share, &w.share);
	} else {
		s->wrong = xstrdup(e.msg);
	}
	words_free(&tree_words, &w);
}

/* The settings in a directory, or NULL. Under the mutex, as long as what it gives is used. */
static const struct settings *look(struct tree *t, const char *dir)
{
	auto_free char *path = xasprintf("%s%s" TREE_SETTINGS, dir, *dir ? "/" : "");
	struct settings *s = NULL;
	struct stat st;
	bool there = fstatat(t->root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);

	for (size_t k = 0; k < t->n && !s; k++)
		if (strcmp(t->v[k].dir, dir) == 0)
			s = &t->v[k];
	if (!there) {
		if (s) {
			settings_clear(s);
			free(s->dir);
			*s = t->v[--t->n];
		}
		return NULL;
	}
	if (s && same_version(&s->st, &st))
		return s;
	if (!s) {
		t->v = xrealloc(t->v, (t->n + 1) * sizeof(*t->v));
		s = &t->v[t->n++];
		*s = (struct settings){.dir = xstrdup(dir)};
	}
	settings_clear(s);
	s->st = st;
	settings_read_in(t, s, path);
	return s;
}

/* Calls fn with those that hold for path, the outermost first. */
static void each_settings(struct tree *t, const char *path, uid_t uid,
			  void (*fn)(const struct settings *s, void *arg), void *arg)
{
	size_t n = 0; /* bytes of the directory's path */

	pthread_mutex_lock(&t->mutex);
	for (const char *slash = path; slash;) {
		auto_free char *dir = xstrndup(path, n);
		const struct settings *s = look(t, dir);

		if (s && settings_file_holds(&s->st, t->owner, uid))
			fn(s, arg);
		slash = strchr(path + n + (n != 0), '/');
		n = slash ? (size_t)(slash - path) : n;
	}
	pthread_mutex_unlock(&t->mutex);
}

struct verdict_of {
	const char *path;
	bool is_step;
};

static void apply(const struct settings *s, void *arg)
{
	struct verdict_of *v = arg;
	const char *rest = v->path + strlen(s->dir) + (*s->dir != '\0');

	if (matches(&s->steps, rest))
		v->is_step = true;
	if (matches(&s->not_steps, rest))
		v->is_step = false;
}

bool tree_is_step(struct tree *t, const char *path, uid_t uid)
{
	struct verdict_of v = {
		.path = path, .is_step = matches(&t->steps, path) && !matches(&t->not_steps, path)};

	each_settings(t, path, uid, apply, &v);
	return v.is_step;
}

bool tree_may_be_commanded(struct tree *t, const char *path, uid_t uid, struct strlist *ret)
{
	const struct settings *s;

	pthread_mutex_lock(&t->mutex);
	s = look(t, "");
	if (s && !settings_file_holds(&s->st, t->owner, uid))
		s = NULL;
	if (command_may_name(&t->commands, path) || (s && command_may_name(&s->commands, path))) {
		copy_list(ret, &t->commands);
		if (s)
			copy_list(ret, &s->commands);
	}
	pthread_mutex_unlock(&t->mutex);
	return ret->n;
}

struct shared {
	const char *path;
	bool is;
	struct tree_share *who;
};

static void replace_list(struct strlist *to, const struct strlist *from)
{
	if (from->n) {
		strlist_free(to);
		copy_list(to, from);
	}
}

static void apply_share(const struct settings *s, void *arg)
{
	struct shared *v = arg;
	const char *rest = v->path + strlen(s->dir) + (*s->dir != '\0');

	if (s->st.st_nlink != 1)
		return; /* somebody may have put it here who could not have written it */
	if (matches(&s->share.programs, rest))
		v->is = true;
	if (matches(&s->share.not_programs, rest))
		v->is = false;
	if (v->who) {
		replace_list(&v->who->store, &s->share.store);
		replace_list(&v->who->use, &s->share.use);
	}
}

bool tree_shares(struct tree *t, const char *path, struct tree_share *who)
{
	struct shared v = {.path = path,
			   .is = matches(&t->share.programs, path) &&
				 !matches(&t->share.not_programs, path),
			   .who = who};

	if (who) {
		copy_list(&who->store, &t->share.store);
		copy_list(&who->use, &t->share.use);
	}
	each_settings(t, path, t->owner, apply_share, &v);
	return v.is;
}

static void add_file(const struct settings *s, void *arg)
{
	strlist_add(arg, xasprintf("%s%s" TREE_SETTINGS, s->dir, *s->dir ? "/" : ""));
}

void tree_files(struct tree *t, const char *path, uid_t uid, struct strlist *ret)
{
	each_settings(t, path, uid, add_file, ret);
}

char **tree_ignored(struct tree *t)
{
	char **list;
	size_t n = 0;

	pthread_mutex_lock(&t->mutex);
	list = xcalloc(t->n + 1, sizeof(*list));
	for (size_t k = 0; k < t->n; k++) {
		const struct settings *s = &t->v[k];

		if (s->wrong)
			list[n++] = xstrdup(s->wrong);
		else if (s->st.st_mode & (S_IWGRP | S_IWOTH))
			list[n++] = xasprintf("%s%s" TREE_SETTINGS ": others may write to it",
					      s->dir, *s->dir ? "/" : "");
	}
	pthread_mutex_unlock(&t->mutex);
	return list;
}

int tree_new(int root, const struct strlist *steps, const struct strlist *not_steps,
	     const struct strlist *lines, const struct tree_share *share, struct tree **ret,
	     struct err *e)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->mutex, NULL);
	t->owner = geteuid();
	copy_list(&t->steps, steps);
	copy_list(&t->not_steps, not_steps);
	copy_list(&t->commands, lines);
	copy_share(&t->share, share);
	t->root = fcntl(root, F_DUPFD_CLOEXEC, 3);
	if (t->root < 0) {
		tree_free(t);
		return err_set(e, errno, "cannot keep the tree open");
	}
	*ret = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	for (size_t k = 0; k < t->n; k++) {
		settings_clear(&t->v[k]);
		free(t->v[k].dir);
	}
	free(t->v);
	strlist_free(&t->steps);
	strlist_free(&t->not_steps);
	strlist_free(&t->commands);
	tree_share_free(&t->share);
	base_close(&t->root);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}
