/* SPDX-License-Identifier: MIT */
/* settings.c - the files of settings that a step is run by: mlfs.conf, and in a persistent mount those of its tree. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"

/* The settings of mlfs.conf. A file that was named must be there; the default one need not. */
static int read_config(const struct exec_opts *words, const char *const *names,
		       struct exec_opts *ret, struct err *e)
{
	const char *env = getenv("MLFS_CONFIG");
	const char *named = words->config ? words->config : env && *env ? env : NULL;
	auto_free char *path = named ? xstrdup(named) : xasprintf("%s/mlfs.conf", ret->cache_dir);
	int r = config_apply(path, names, &(struct config_to){.exec = ret}, e);

	if (r >= 0) {
		ret->config = take(path);
		return 0;
	}
	if (named || r == -EINVAL)
		return r;
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	/* What it asks for is not known: the step runs, and nothing is taken from the cache. */
	log_warn("%s; running without the cache", e->msg);
	ret->no_cache = true;
	return 0;
}

bool settings_file_holds(const struct stat *st, uid_t owner, uid_t user)
{
	return S_ISREG(st->st_mode) &&
	       (st->st_uid == 0 || st->st_uid == owner || st->st_uid == user) &&
	       !(st->st_mode & (S_IWGRP | S_IWOTH));
}

/* A file of settings in the tree of the step: paths in it are below its directory. */
static int read_settings(const char *path, uid_t owner, const char *const *names,
			 struct exec_opts *ret, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	auto_close int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_free char *dir = xstrdup(path), *text = NULL;
	struct stat st;
	size_t n;
	int r;

	if (fd < 0 || here < 0 || fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot open %s", path);
	if (!settings_file_holds(&st, owner, geteuid()))
		return 0;
	r = read_opened(fd, path, &text, &n, e);
	if (r < 0)
		return r;
	*strrchr(dir, '/') = '\0';
	if (chdir(*dir ? dir : "/") < 0)
		return err_set(e, errno, "cannot enter %s", dir);
	r = config_apply_text(path, text, n, names, &(struct config_to){.exec = ret}, e);
	if (fchdir(here) < 0)
		return err_set(e, errno, "cannot go back from %s", dir);
	return r;
}

/* Of an unmodified job: what is wrong with them is no reason for it to fail. */
static void read_base(const struct exec_base *base, const char *const *names, struct exec_opts *ret)
{
	struct err e = {0};
	int r = 0;

	for (size_t i = 0; i < base->settings.n && r >= 0; i++) {
		auto_free char *name = xstrdup(base->settings.v[i]), *why = NULL;
		char *equals = strchr(name, '=');

		if (equals)
			*equals = '\0';
		r = option_set(ret, name, equals ? equals + 1 : NULL, &why);
		if (r < 0)
			(void)err_text(&e, EINVAL, "%s", why ? why : "unknown setting");
	}
	for (size_t i = 0; i < base->files.n && r >= 0; i++)
		r = read_settings(base->files.v[i], base->owner, names, ret, &e);
	if (r < 0) {
		log_warn("%s; running without the cache", e.msg);
		ret->no_cache = true;
	}
}

/* The names that sections of settings may mean: the one given, or how the program and the step are called. */
int settings_read(const struct exec_opts *words, const struct exec_base *base,
		  struct exec_opts *ret, struct err *e)
{
	auto_free char *name = step_default_name(words->argv);
	const char *slash = words->argc ? strrchr(words->argv[0], '/') : NULL;
	const char *program = slash ? slash + 1 : words->argc ? words->argv[0] : name;
	const char *names[] = {words->name ? words->name : program, words->name ? NULL : name,
			       NULL};
	int r = read_config(words, names, ret, e);

	if (r >= 0 && base)
		read_base(base, names, ret);
	return r;
}
