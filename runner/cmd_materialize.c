/* SPDX-License-Identifier: MIT */
/* cmd_materialize.c - `mlfs materialize`: outputs of hits that are served from the cache become files of their own. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../fs/fs.h"
#include "commands.h"
#include "json.h"
#include "options.h"
#include "realize.h"
#include "screen.h"

struct materialize_query {
	struct query q;
};

const struct word_table materialize_words = {
	.command = "materialize",
	.usage = "[OPTIONS] [PATH...]",
	.what = "Make outputs of hits real that are served from the cache (see mlfs-mount(1)):\n"
		"PATH, and all below it, in a mount or in the directory that it showed; without\n"
		"PATH all that the cache knows of.\n",
	.status = "Exit status: 0 all are real; 1 one could not be made so; 2 wrong usage.\n",
	.size = sizeof(struct materialize_query),
	.arg = "PATH",
	.max_args = 1000,
	.no_config = true,
};

struct work {
	char *own; /* the cache of this user */
	size_t made, failed;
	uint64_t bytes;
};

static void note_failed(struct work *w, const char *path, const char *why)
{
	log_warn("cannot make %s real: %s", path, why);
	w->failed++;
}

/* ---- caches ---- */

/* The directory of all users' caches that one's own is in, or NULL. */
static char *users_dir(const struct work *w)
{
	auto_free char *tail = xasprintf("/" CACHE_USERS "/%u", (unsigned)geteuid());
	size_t n = strlen(w->own), k = strlen(tail);

	return n > k && strcmp(w->own + n - k, tail) == 0
		       ? xstrndup(w->own, n - k + strlen("/" CACHE_USERS))
		       : NULL;
}

static int open_cache(const struct work *w, uid_t owner)
{
	auto_free char *users = owner == geteuid() ? NULL : users_dir(w);
	auto_free char *path = users ? xasprintf("%s/%u", users, (unsigned)owner) : NULL;
	auto_close int fd = -1;
	struct stat st;

	if (owner != geteuid() && (geteuid() != 0 || !path))
		return -EACCES;
	fd = open(path ? path : w->own,
		  O_RDONLY | O_DIRECTORY | O_CLOEXEC | (path ? O_NOFOLLOW : 0));
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return st.st_uid == owner ? take_fd(&fd) : -EACCES;
}

/* ---- by path ---- */

static void real_link(struct work *w, int dir, const char *name, const struct lazy_link *k,
		      const char *path)
{
	auto_close int cache = open_cache(w, k->st.st_uid);
	auto_free char *why = NULL;
	struct err e = {0};
	int r;

	if (cache < 0) {
		why = xasprintf("the cache of user %u is not known here; set --cache",
				(unsigned)k->st.st_uid);
		note_failed(w, path, why);
		return;
	}
	r = lazy_realize(dir, name, k, cache, NULL, &e);
	if (r == 0) {
		w->made++;
		w->bytes += k->l.size;
	} else if (r != -ESTALE) {
		note_failed(w, path, e.msg);
	}
}

enum { WAS_REAL, MADE_REAL = 255 }; /* or an errno */

static int ask_real(const char *path)
{
	char text[16];
	ssize_t n = lgetxattr(path, FS_ASK_REAL, text, sizeof(text) - 1);
	int r;

	if (n <= 0) /* of another file system */
		return n < 0 && errno == EACCES ? EACCES : WAS_REAL;
	text[n] = '\0';
	r = atoi(text);
	return r > 0 ? MADE_REAL : -r;
}

/* By a process of its own: who waits for a server that copies could not be interrupted. */
static int ask_apart(const char *path)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return errno;
	if (child == 0) {
		(void)close_range(0, ~0u, 0); /* nobody is to wait for its end */
		_exit(ask_real(path));
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* In a mount its server knows whether it is real, and makes it so. */
static void real_file(struct work *w, const struct stat *st, const char *path)
{
	int r = (uint64_t)st->st_size < LAZY_MIN ? WAS_REAL : ask_apart(path);

	if (r == MADE_REAL) {
		w->made++;
		w->bytes += (uint64_t)st->st_size;
	} else if (r != WAS_REAL) {
		note_failed(w, path, r == EIO ? "its object is missing or damaged" : strerror(r));
	}
}

static void visit(struct work *w, int dir, const char *name, const char *path);

static void visit_all(struct work *w, int parent, const char *name, const char *path)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		note_failed(w, path, strerror(errno));
		base_close(&fd);
		return;
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0) {
			auto_free char *below = xasprintf("%s/%s", path, de->d_name);

			visit(w, fd, de->d_name, below);
		}
	(void)closedir(d); /* only read from */
}

static void visit(struct work *w, int dir, const char *name, const char *path)
{
	struct lazy_link k;
	int r = lazy_at(dir, name, &k);

	if (r == -ENOENT && dir != AT_FDCWD)
		return; /* it went meanwhile */
	if (r < 0)
		note_failed(w, path, strerror(-r));
	else if (r > 0)
		real_link(w, dir, name, &k, path);
	else if (S_ISDIR(k.st.st_mode))
		visit_all(w, dir, name, path);
	else if (S_ISREG(k.st.st_mode))
		real_file(w, &k.st, path);
}

/* A path that is given may end with slashes, and lead through links; it is opened by its directory. */
static void visit_arg(struct work *w, const char *path)
{
	auto_free char *copy = xstrdup(path);
	size_t n = strlen(copy);
	char *slash;
	auto_close int dir = -1;

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	if (!slash || !slash[1]) {
		visit(w, AT_FDCWD, copy, path);
		return;
	}
	*slash = '\0';
	dir = open(*copy ? copy : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*slash = '/';
	if (dir < 0)
		note_failed(w, path, strerror(errno));
	else
		visit(w, dir, slash + 1, copy);
}

/* ---- all that the cache knows of ---- */

static void real_all_of(void *arg, uid_t owner)
{
	struct work *w = arg;
	auto_close int cache = open_cache(w, owner);
	struct realized n = {0};

	if (cache < 0)
		return; /* there is none */
	realize_cache(cache, owner, NULL, &n);
	for (size_t k = 0; k < n.mounted.n; k++)
		visit_arg(w, n.mounted.v[k]);
	strlist_free(&n.mounted);
	w->made += n.made;
	w->failed += n.failed;
	w->bytes += n.bytes;
}

static void real_all(struct work *w)
{
	auto_free char *users = geteuid() == 0 ? users_dir(w) : NULL;

	if (!users || !realize_users(users, real_all_of, w))
		real_all_of(w, geteuid());
}

/* ---- the command ---- */

static void print_json(const struct work *w)
{
	struct json j = {0};

	json_object(&j, NULL);
	json_uint(&j, "made", w->made);
	json_uint(&j, "bytes", w->bytes);
	json_uint(&j, "failed", w->failed);
	json_end(&j);
	json_done(&j);
	fwrite(j.b.data, 1, j.b.len, stdout);
	buf_free(&j.b);
}

static int materialize(const struct materialize_query *m)
{
	auto_free char *own = query_cache(&m->q);
	struct work w = {.own = own};
	char size[32];

	if (!own)
		return EXIT_FAILURE;
	for (size_t k = 0; k < m->q.args.n; k++)
		visit_arg(&w, m->q.args.v[k]);
	if (!m->q.args.n)
		real_all(&w);
	if (m->q.json)
		print_json(&w);
	else if (m->q.verbosity >= 0)
		printf("made %zu output%s real: %s\n", w.made, w.made == 1 ? "" : "s",
		       human_size(w.bytes, size, sizeof(size)));
	return w.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int cmd_materialize(int argc, char **argv)
{
	struct materialize_query m = {0};
	int r = words_parse(&materialize_words, argc, argv, &m);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : materialize(&m);

	words_free(&materialize_words, &m);
	return printed_status(status);
}
