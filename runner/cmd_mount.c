/* SPDX-License-Identifier: MIT */
/* cmd_mount.c - `mlfs mount SRC MNT`: the words, and the life of the process that serves a persistent mount. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "commands.h"
#include "daemon.h"
#include "mount.h"
#include "mount_ask.h"
#include "mount_lazy.h"
#include "mount_status.h"
#include "mount_steps.h"
#include "mounted.h"
#include "mountinfo.h"
#include "options.h"
#include "share.h"
#include "view.h"

#define M(member) offsetof(struct mount_opts, member)

static char *bad_generic(const char *text)
{
	struct mount_opts o = {0};
	char *why = NULL;

	(void)!mount_generic(&o, text, &why); /* why says it */
	strlist_free(&o.steps);
	strlist_free(&o.not_steps);
	strlist_free(&o.commands);
	strlist_free(&o.settings);
	tree_share_free(&o.share);
	free(o.q.cache);
	return why;
}

static const struct word_def mount_defs[] = {
	{"options", 'o', WORD_LIST, M(generic), "OPTS", "options as of mount(8), a comma between",
	 .check = bad_generic},
	{"step", 0, WORD_LIST, M(steps), "GLOB", "programs that are steps, below SRC"},
	{"no-step", 0, WORD_LIST, M(not_steps), "GLOB", "programs that are none all the same"},
	{"step-command", 0, WORD_LIST, M(commands), "GLOB",
	 "command lines of other programs that are steps"},
	{"no-lazy", 0, WORD_FLAG, M(no_lazy), NULL, "hits copy their outputs at once"},
	{"share", 0, WORD_LIST, M(share.programs), "GLOB",
	 "steps whose results are for other users, too"},
	{"no-share", 0, WORD_LIST, M(share.not_programs), "GLOB",
	 "steps whose results are not all the same"},
	{"share-store", 0, WORD_LIST, M(share.store), "WHO",
	 "users whose results others get (ada,@builders)"},
	{"share-use", 0, WORD_LIST, M(share.use), "WHO", "users who get results of others (*)"},
	{"browse", 0, WORD_FLAG, M(browse), NULL, "show the cache as a tree, read-only, at MNT"},
	{"list", 0, WORD_FLAG, M(list), NULL, "which mounts of mlfs there are"},
	{"json", 0, WORD_FLAG, M(q.json), NULL, "with --list: print an array of objects"},
	{"foreground", 'f', WORD_FLAG, M(foreground), NULL, "do not go to the background"},
	{"allow-other", 0, WORD_FLAG, M(allow_other), NULL, "let other users in (root: always)"},
};

const struct word_table mount_words = {
	.command = "mount",
	.usage = "[OPTIONS] SRC MNT | --browse MNT | --list",
	.what = "Show the directory SRC at MNT, as it is and for everybody, until it is unmounted.\n"
		"Programs in it that are steps are run as by `mlfs exec`.\n",
	.status = "Exit status: 0 mounted (-f: unmounted again); 1 it cannot be; 2 wrong usage.\n",
	.v = mount_defs,
	.n = sizeof(mount_defs) / sizeof(*mount_defs),
	.size = sizeof(struct mount_opts),
	.arg = "SRC and MNT",
	.max_args = 2,
	.no_config = true,
};

/* ---- generic options ---- */

/* What mount(8) and fstab say to others than the file system, and what is so in any case. */
static bool is_ignored(const char *name)
{
	static const char *const names[] = {"defaults",
					    "rw",
					    "exec",
					    "suid",
					    "dev",
					    "atime",
					    "async",
					    "auto",
					    "noauto",
					    "user",
					    "nouser",
					    "users",
					    "group",
					    "owner",
					    "_netdev",
					    "nofail",
					    "relatime",
					    "norelatime",
					    "strictatime",
					    "diratime",
					    "nodiratime",
					    "nolazytime",
					    "lazytime",
					    "silent",
					    "loud",
					    "nomand",
					    "mand",
					    "iversion",
					    "noiversion",
					    "nosymfollow",
					    "default_permissions",
					    "nonempty"};

	if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0 ||
	    strncmp(name, "comment=", 8) == 0 || strncmp(name, "fsname=", 7) == 0 ||
	    strncmp(name, "subtype=", 8) == 0)
		return true;
	for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++)
		if (strcmp(name, names[k]) == 0)
			return true;
	return false;
}

static bool *flag_of(struct mount_opts *o, const char *name, bool *ret_on)
{
	const struct {
		const char *on, *off;
		bool *at;
	} flags[] = {{"ro", "rw", &o->ro},
		     {"noexec", "exec", &o->noexec},
		     {"nosuid", "suid", &o->nosuid},
		     {"nodev", "dev", &o->nodev},
		     {"noatime", "atime", &o->noatime},
		     {"no-lazy", "lazy", &o->no_lazy},
		     {"browse", NULL, &o->browse},
		     {"allow_other", NULL, &o->allow_other}};

	for (size_t k = 0; k < sizeof(flags) / sizeof(*flags); k++) {
		*ret_on = strcmp(name, flags[k].on) == 0;
		if (*ret_on || (flags[k].off && strcmp(name, flags[k].off) == 0))
			return flags[k].at;
	}
	return NULL;
}

static void add_patterns(struct strlist *l, const char *text)
{
	for (size_t n; *text; text += n + (text[n] == ':')) {
		n = strcspn(text, ":");
		if (n)
			strlist_add(l, xstrndup(text, n));
	}
}

static int set_value(struct mount_opts *o, const char *name, const char *value, char **ret_why)
{
	struct exec_opts step;
	int r;

	if (strcmp(name, "step") == 0 || strcmp(name, "no-step") == 0) {
		add_patterns(name[0] == 's' ? &o->steps : &o->not_steps, value);
		return 0;
	}
	if (strcmp(name, "share") == 0 || strcmp(name, "no-share") == 0) {
		add_patterns(name[0] == 's' ? &o->share.programs : &o->share.not_programs, value);
		return 0;
	}
	if (strcmp(name, "share-store") == 0 || strcmp(name, "share-use") == 0) {
		add_patterns(strcmp(name, "share-use") ? &o->share.store : &o->share.use, value);
		return 0;
	}
	if (strcmp(name, "step-command") == 0) {
		strlist_add(&o->commands, xstrdup(value));
		return 0;
	}
	if (strcmp(name, "cache") == 0) {
		free(o->q.cache);
		o->q.cache = xstrdup(value);
		return 0;
	}
	exec_opts_init(&step);
	r = option_set(&step, name, value, ret_why);
	exec_opts_free(&step);
	if (r == 0)
		strlist_add(&o->settings, xasprintf("%s=%s", name, value));
	return r;
}

static int generic_one(struct mount_opts *o, char *text, char **ret_why)
{
	char *value = strchr(text, '=');
	bool on, *flag = flag_of(o, text, &on);
	int r;

	if (flag) {
		*flag = on;
		/* As mount(8): what a user may mount is not to be trusted. */
		return 0;
	}
	if (!*text || is_ignored(text)) {
		if (strcmp(text, "user") == 0 || strcmp(text, "users") == 0)
			o->noexec = o->nosuid = o->nodev = true;
		if (strcmp(text, "owner") == 0 || strcmp(text, "group") == 0)
			o->nosuid = o->nodev = true;
		return 0;
	}
	if (value)
		*value++ = '\0';
	r = set_value(o, text, value ? value : "yes", ret_why);
	if (r == -ENOENT)
		*ret_why = xasprintf("there is no option '%s'", text);
	return r < 0 ? -EINVAL : 0;
}

int mount_generic(struct mount_opts *o, const char *text, char **ret_why)
{
	auto_free char *copy = xstrdup(text);
	char *rest = copy, *one;
	int r = 0;

	while (r == 0 && (one = strsep(&rest, ",")))
		r = generic_one(o, one, ret_why);
	return r;
}

/* ---- places ---- */

/* A server that was killed left it. Of ours only: others may come back. (What stat says may be remembered from before.) */
static void clear_dead(const char *mnt)
{
	struct mount_seen m;
	struct err e = {0};

	if (!mount_seen_at(mnt, &m))
		return;
	if (m.state == MOUNT_DEAD && mount_detach(mnt, true, &e) < 0)
		log_debug("%s", e.msg); /* mounting there tells */
	mount_seen_clear(&m);
}

int mount_find(struct mount_opts *o, const char *mnt, struct err *e)
{
	o->mnt = mount_place(mnt);
	if (!o->mnt)
		return err_set(e, errno, "cannot mount on %s", mnt);
	clear_dead(o->mnt);
	return 0;
}

static int find_places(struct mount_opts *o, struct err *e)
{
	const char *src = o->q.args.v[0];
	int r = mount_find(o, o->q.args.v[1], e);

	if (r < 0)
		return r;
	if (o->q.cache && *o->q.cache != '/') {
		auto_free char *given = o->q.cache, *cwd = getcwd(NULL, 0);

		o->q.cache = xasprintf("%s/%s", cwd ? cwd : "", given);
	}
	o->src = realpath(src, NULL);
	return o->src ? 0 : err_set(e, errno, "cannot open %s", src);
}

/* ---- serving ---- */

struct serving {
	struct mount_opts *o;
	struct fs_mount *fs;
	struct mount_steps *steps;
	struct mount_lazy *lazy;
	struct share_server *share;
	struct mount_told told;
};

static char *answer(void *arg, const struct fs_request *q, const char *question)
{
	const struct serving *s = arg;
	struct mount_steps_status status;
	auto_buf struct buf requests = {0};
	char *text = mount_steps_answer(s->steps, q, question);
	size_t nodes;

	if (text)
		return text;
	if (strcmp(question, MOUNT_ASK_LAZY) == 0)
		return mount_lazy_answer(s->lazy, q->uid);
	if (strcmp(question, MOUNT_ASK_SETTLE) == 0)
		return mount_lazy_settling(s->lazy, q->uid);
	fs_mount_counts(s->fs, &requests, &nodes);
	buf_u8(&requests, 0);
	mount_steps_status(s->steps, &status);
	if (strncmp(question, MOUNT_ASK_STATUS, strlen(MOUNT_ASK_STATUS)) == 0)
		status.unreal_bytes = mount_lazy_bytes(s->lazy, &status.unreal);
	text = mount_answer(&s->told, &status, (char *)requests.data, question);
	mount_steps_status_free(&status);
	return text;
}

static bool may_intercept(void *arg, const struct fs_request *q)
{
	return mount_steps_may_intercept(((struct serving *)arg)->steps, q);
}

static char *intercept(void *arg, const struct fs_request *q, const struct stat *st,
		       size_t *ret_size)
{
	return mount_steps_intercept(((struct serving *)arg)->steps, q, st, ret_size);
}

static int lazy_cache(void *arg, uid_t owner)
{
	return mount_lazy_cache(((struct serving *)arg)->lazy, owner);
}

/* Where the cache of a step is not known, only this user's own can be meant. */
static void find_lazy(struct serving *s, struct fs_mount_options *fo)
{
	const struct mount_opts *o = s->o;
	auto_free char *own = o->q.cache ? NULL : default_cache();
	const struct mount_lazy_options lo = {.root = fo->root,
					      .src = o->src,
					      .cache = own ? own : o->q.cache,
					      .of_each = o->q.cache && view_kind() == VIEW_ROOT};

	s->lazy = mount_lazy_new(&lo);
	fo->lazy_cache = lazy_cache;
}

static void stop(void *arg, int times)
{
	(void)times;
	mount_stop(((const struct serving *)arg)->o->mnt);
}

static bool shares(const struct mount_opts *o)
{
	return o->share.programs.n || o->share.store.n || o->share.use.n;
}

/* Only root can say of others who they are, and look with their rights. */
static int start_sharing(struct serving *s, int root, char **ret_socket, struct err *e)
{
	const struct share_options so = {.cache = s->o->q.cache,
					 .root = root,
					 .rules = &s->o->share,
					 .foreground = s->o->foreground};

	if (!shares(s->o))
		return 0;
	if (view_kind() != VIEW_ROOT)
		return err_text(e, EPERM, "cannot share results between users: only root can");
	if (!s->o->q.cache)
		return err_text(e, EINVAL,
				"cannot share results: a cache is to be named (--cache)");
	return share_start(&so, &s->share, ret_socket, e);
}

static int find_steps(struct serving *s, struct fs_mount_options *fo, struct err *e)
{
	const struct mount_opts *o = s->o;
	auto_free char *source = NULL, *socket = NULL;
	int r = mount_reach(o, &source, e);
	struct mount_steps_options so = {.source = source,
					 .mountpoint = o->mnt,
					 .root = fo->root,
					 .steps = &o->steps,
					 .not_steps = &o->not_steps,
					 .commands = &o->commands,
					 .settings = &o->settings,
					 .share = &o->share,
					 .cache = o->q.cache,
					 .cache_of_each = view_kind() == VIEW_ROOT};

	fo->may_intercept = may_intercept;
	fo->intercept = intercept;
	fo->answer = answer;
	fo->arg = s;
	if (r == 0)
		r = start_sharing(s, fo->root, &socket, e);
	so.share_socket = socket;
	return r < 0 ? r : mount_steps_new(&so, &s->steps, e);
}

static int serve(struct mount_opts *o, struct daemon *d, struct err *e)
{
	struct fs_mount_options fo = {.posix_acl = view_user_ids() == VIEW_ALL_IDS,
				      .passthrough = view_kind() == VIEW_ROOT};
	struct serving s = {.o = o, .told = {.src = o->src, .mnt = o->mnt, .began_ns = now_ns()}};
	const struct daemon_handlers h = {.stop = stop, .arg = &s};
	int fd, r;

	s.told.cache = o->q.cache;
	raise_open_files();
	fo.root = mount_source(o, e);
	if (fo.root < 0)
		return fo.root;
	find_lazy(&s, &fo);
	r = find_steps(&s, &fo, e);
	if (r == 0)
		r = fs_mount_new(&fo, &s.fs, e);
	fd = r < 0 ? r : mount_attach(o, fo.root, e);
	r = fd < 0 ? fd : daemon_signals(d, &h, e);
	if (r == 0) {
		daemon_ready(d);
		r = fs_mount_serve(s.fs, fd, e);
		mount_lazy_settle(s.lazy);
	}
	mount_lazy_free(s.lazy);
	fs_mount_free(s.fs);
	mount_steps_free(s.steps);
	share_stop(s.share);
	mount_unreach(o->mnt);
	return r;
}

int mount_in_background(struct mount_opts *o, int r, struct err *e,
			int (*serve_mount)(struct mount_opts *o, struct daemon *d, struct err *e))
{
	struct daemon d;
	struct stat st;
	int status;

	if (r == 0)
		r = daemon_begin(&d, o->foreground, &status, e);
	if (r > 0 && status == EXIT_SUCCESS && stat(o->mnt, &st) < 0) {
		log_warn("cannot look into %s: %s", o->mnt, strerror(errno));
		status = EXIT_FAILURE;
	}
	if (r > 0)
		return status;
	if (r == 0)
		r = serve_mount(o, &d, e);
	if (r < 0)
		log_warn("%s", e->msg);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run(struct mount_opts *o)
{
	struct err e = {0};
	int r = find_places(o, &e);

	return mount_in_background(o, r, &e, serve);
}

static void apply_generic(struct mount_opts *o)
{
	char *why = NULL;

	for (size_t k = 0; k < o->generic.n; k++)
		(void)!mount_generic(o, o->generic.v[k], &why); /* it was looked at before */
}

/* --list takes no words, --browse one. With `mount -t fuse.mlfs -o browse` there is a SRC, which says nothing. */
static int run_any(struct mount_opts *o)
{
	size_t n = o->q.args.n;

	apply_generic(o);
	if (o->no_lazy)
		strlist_add(&o->settings, xstrdup("no-lazy=yes"));
	if (o->list && !n)
		return mount_list(&o->q);
	if (o->browse && (n == 1 || (n == 2 && o->generic.n)))
		return mount_browse(o);
	if (n == 2 && !o->browse && !o->list)
		return run(o);
	log_warn("%s; see 'mlfs mount --help'", o->list	    ? "--list takes no words"
						: o->browse ? "--browse takes one word: MNT"
							    : "SRC and MNT are wanted");
	return EXIT_USAGE;
}

int cmd_mount(int argc, char **argv)
{
	struct mount_opts o = {0};
	int status, r = words_parse(&mount_words, argc, argv, &o);

	status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : run_any(&o);
	words_free(&mount_words, &o);
	strlist_free(&o.settings);
	free(o.src);
	free(o.mnt);
	return printed_status(status);
}
