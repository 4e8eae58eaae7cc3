/* SPDX-License-Identifier: MIT */
/* mounted.c - persistent mounts, seen from a step; see mounted.h. */
#include "mounted.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mountinfo.h"
#include "options.h"
#include "view.h"

/* ---- which there are ---- */

/* "DEV INO SOURCE", of the directory that is shown. False: no persistent mount, or nobody serves it. */
static bool ask_facts(const char *path, struct mounted *ret)
{
	char text[64 + 4096];
	unsigned long long dev, ino;
	int at = 0;
	ssize_t n = getxattr(path, MOUNT_ASK_FACTS, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu %n", &dev, &ino, &at) != 2 || text[at] != '/')
		return false;
	*ret = (struct mounted){
		.path = xstrdup(path), .source = xstrdup(text + at), .dev = dev, .ino = ino};
	return true;
}

void mounted_find(struct mounteds *ret)
{
	auto_mountinfos struct mountinfos all = {0};
	struct mounted m;

	*ret = (struct mounteds){0};
	if (!mountinfo_may_have_fuse())
		return;
	mountinfo_read(&all);
	for (size_t k = 0; k < all.n; k++) {
		/* The view of a step has the source "mlfs". */
		if (strcmp(all.v[k].type, "fuse.mlfs") != 0 || all.v[k].source[0] != '/' ||
		    !ask_facts(all.v[k].path, &m))
			continue;
		m.flags = all.v[k].flags;
		m.dir = -1;
		ret->v = xrealloc(ret->v, (ret->n + 1) * sizeof(*ret->v));
		ret->v[ret->n++] = m;
	}
}

void mounted_free(struct mounteds *m)
{
	for (size_t k = 0; k < m->n; k++) {
		free(m->v[k].path);
		free(m->v[k].source);
		base_close(&m->v[k].dir);
	}
	free(m->v);
	*m = (struct mounteds){0};
}

/* ---- being without them ---- */

static unsigned long flags_of(const char *path)
{
	struct statvfs st;

	if (statvfs(path, &st) < 0)
		return 0;
	return (st.f_flag & ST_RDONLY ? MS_RDONLY : 0) | (st.f_flag & ST_NOSUID ? MS_NOSUID : 0) |
	       (st.f_flag & ST_NODEV ? MS_NODEV : 0) | (st.f_flag & ST_NOEXEC ? MS_NOEXEC : 0) |
	       (st.f_flag & ST_NOATIME ? MS_NOATIME : 0) |
	       (st.f_flag & ST_RELATIME ? MS_RELATIME : 0) |
	       (st.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0);
}

/*
 * The directory over its mount, with what either forbids. One that cannot be had (it was moved, or this user may not pass to it) is
 * reached through the mount: that is slower, and no reason not to run a step that may have nothing to do with it.
 */
static void uncover(const struct mounted *m)
{
	struct stat st;

	if (stat(m->source, &st) < 0 || st.st_dev != m->dev || st.st_ino != m->ino) {
		log_debug("%s is not what is mounted on %s", m->source, m->path);
		return;
	}
	if (mount(m->source, m->path, NULL, MS_BIND | MS_REC, NULL) < 0) {
		log_debug("cannot bind %s over %s: %s", m->source, m->path, strerror(errno));
		return;
	}
	if ((flags_of(m->path) & m->flags) != m->flags &&
	    mount(NULL, m->path, NULL, MS_REMOUNT | MS_BIND | flags_of(m->path) | m->flags, NULL) <
		    0) {
		log_debug("cannot bind %s with the flags of its mount: %s", m->path,
			  strerror(errno));
		(void)umount2(m->path, MNT_DETACH); /* it is ours, and made just now */
	}
}

/* Rights over the namespace are no rights over files. */
static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	return syscall(SYS_capset, &h, none) < 0 ? err_set(e, errno, "cannot drop capabilities")
						 : 0;
}

int mounted_enter(struct mounteds *m, struct err *e)
{
	enum view_kind kind = view_kind();
	auto_free char *cwd = getcwd(NULL, 0);
	int r = cwd ? view_unshare(kind, e)
		    : err_set(e, errno, "cannot find the working directory");

	for (size_t k = 0; k < m->n && r == 0; k++) {
		/* Of this namespace: the others' could not be unmounted meanwhile. */
		m->v[k].dir = open(m->v[k].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		uncover(&m->v[k]);
	}
	if (r == 0 && chdir(cwd) < 0)
		r = err_set(e, errno, "cannot enter %s", cwd);
	if (r == 0 && kind == VIEW_USER)
		r = drop_capabilities(e);
	return r;
}

/* ---- what their servers are told ---- */

void mounted_real(const struct mounteds *m)
{
	char none;

	for (size_t k = 0; k < m->n; k++)
		if (getxattr(m->v[k].path, MOUNT_ASK_REAL, &none, 0) < 0)
			log_debug("%s: %s: %s", m->v[k].path, MOUNT_ASK_REAL, strerror(errno));
}

void mounted_done(const struct mounteds *m, const char *told)
{
	char none;

	auto_free char *question = xasprintf("%s%s", MOUNT_TELL_DONE, told);

	for (size_t k = 0; k < m->n; k++)
		if (getxattr(m->v[k].path, MOUNT_ASK_REFRESH, &none, 0) < 0 ||
		    getxattr(m->v[k].path, question, &none, 0) < 0)
			log_debug("%s: %s", m->v[k].path, strerror(errno));
}

/* ---- executed in place of a program ---- */

/* What the server says of the file; without an answer, how `mlfs exec` would run it. */
static void ask_step(const char *file, struct exec_base *ret)
{
	auto_free char *text = xmalloc(XATTR_SIZE_MAX);
	ssize_t n = getxattr(file, MOUNT_ASK_STEP, text, XATTR_SIZE_MAX - 1);
	char *rest = text, *p;

	text[n > 0 ? n : 0] = '\0';
	while ((p = strsep(&rest, "\n")))
		switch (*p) {
		case STEP_SETTING:
			if (strncmp(p + 1, "cache=", 6) == 0)
				ret->cache = xstrdup(p + 7);
			else
				strlist_add(&ret->settings, xstrdup(p + 1));
			break;
		case STEP_FILE:
			strlist_add(&ret->files, xstrdup(p + 1));
			break;
		case STEP_OWNER:
			ret->owner = (uid_t)strtoul(p + 1, NULL, 10);
			break;
		case STEP_SHARE:
			free(ret->share);
			ret->share = xstrdup(p + 1);
			break;
		case STEP_PROGRAM:
			free(ret->program);
			ret->program = xstrdup(p + 1);
			break;
		default:
			break;
		}
}

/* file: that the mount knows the step by. argv ends with a NULL. */
static int run_step(const char *file, int argc, char **argv)
{
	struct exec_base base = {.owner = geteuid()};
	char **words = xcalloc((size_t)argc + 3, sizeof(*words));
	int status;

	ask_step(file, &base);
	words[0] = (char *)"exec";
	words[1] = (char *)"--";
	memcpy(words + 2, argv, (size_t)argc * sizeof(*words));
	status = exec_in(argc + 2, words, &base);
	free(words);
	free(base.cache);
	free(base.share);
	free(base.program);
	strlist_free(&base.settings);
	strlist_free(&base.files);
	return status;
}

static int only_kernel(const char *word)
{
	log_warn("'%s' is for a persistent mount to use", word);
	return EXIT_USAGE;
}

int cmd_mounted(int argc, char **argv)
{
	return argc < 2 ? only_kernel(argv[0]) : run_step(argv[1], argc - 1, argv + 1);
}

int cmd_mounted_command(int argc, char **argv)
{
	return argc < 3 ? only_kernel(argv[0]) : run_step(argv[1], argc - 2, argv + 2);
}
