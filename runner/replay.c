/* SPDX-License-Identifier: MIT */
/*
 * replay.c - put the outputs of a hit in place, or leave everything as it was.
 *
 * 1. prepare: all that will be placed is made under temporary names (.mlfs-XXXXXX), each object
 * checked as it is copied. A missing or damaged one ends it here: nothing has been touched.
 * 2. place: directories, then renames, then removals. Each change is noted, and what it displaced
 * is kept under a temporary name, so that a failure half way can be taken back: the caller runs the
 * step then, and a step must not find its own result where its input was.
 * 3. finish: what was displaced goes, then directories get their modes and times.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay_times.h"
#include "runner.h"

/* What undoes one change; in the order made, undone from the last. */
enum undo_kind {
	UNDO_UNLINK, /* path was made */
	UNDO_RMDIR,  /* directory path was made */
	UNDO_MKDIR,  /* directory path, of this mode, was removed */
	UNDO_RENAME, /* what was at path is at aside */
	UNDO_CHMOD,  /* directory path had this mode */
};
struct undo {
	enum undo_kind kind;
	char *path, *aside;
	mode_t mode;
};

struct item {
	char *tmp;	       /* made under this name, or NULL */
	struct timespec mtime; /* files: the time to give */
	bool opened; /* directory: made writable for filling, its mode is to be set again */
	bool removed;
};

struct replay {
	struct idx *x;
	const struct result *r;
	const struct place *places;
	struct item *items; /* one an output */
	struct undo *undo;
	size_t n_undo, cap_undo;
	int64_t began_ns;
	struct err *e;
};

/* ---- the way back ---- */

static void note(struct replay *p, enum undo_kind kind, const char *path, const char *aside,
		 mode_t mode)
{
	if (p->n_undo == p->cap_undo) {
		p->cap_undo = p->cap_undo ? p->cap_undo * 2 : 64;
		p->undo = xrealloc(p->undo, p->cap_undo * sizeof(*p->undo));
	}
	p->undo[p->n_undo++] =
		(struct undo){kind, xstrdup(path), aside ? xstrdup(aside) : NULL, mode};
}

static int undo_one(const struct undo *u)
{
	switch (u->kind) {
	case UNDO_UNLINK:
		return unlink(u->path);
	case UNDO_RMDIR:
		return rmdir(u->path);
	case UNDO_MKDIR:
		return mkdir(u->path, 0700) < 0 ? -1 : chmod(u->path, u->mode);
	case UNDO_RENAME:
		return rename(u->aside, u->path);
	case UNDO_CHMOD:
		return chmod(u->path, u->mode);
	}
	return 0;
}

/* Take everything back. What cannot be is said: a half-placed result must not go unnoticed. */
static void roll_back(struct replay *p)
{
	/* First what was not placed yet: its directory may be closed again by what follows. */
	for (size_t i = 0; i < p->r->n_outputs; i++)
		if (p->items[i].tmp && unlink(p->items[i].tmp) < 0)
			log_warn("cannot remove %s: %s", p->items[i].tmp, strerror(errno));
	for (size_t i = p->n_undo; i-- > 0;)
		if (undo_one(&p->undo[i]) < 0)
			log_warn("cannot take back what was placed at %s: %s", p->undo[i].path,
				 strerror(errno));
}

/* What was displaced goes for good. */
static void commit(struct replay *p)
{
	for (size_t i = 0; i < p->n_undo; i++)
		if (p->undo[i].kind == UNDO_RENAME && unlink(p->undo[i].aside) < 0)
			log_warn("cannot remove %s: %s", p->undo[i].aside, strerror(errno));
}

static void replay_clear(struct replay *p)
{
	for (size_t i = 0; i < p->r->n_outputs; i++)
		free(p->items[i].tmp);
	for (size_t i = 0; i < p->n_undo; i++) {
		free(p->undo[i].path);
		free(p->undo[i].aside);
	}
	free(p->items);
	free(p->undo);
}

/* ---- where things go ---- */

static int by_path(const void *path, const void *output)
{
	return strcmp(path, ((const struct output *)output)->path);
}

static const struct output *find_output(const struct replay *p, const char *path)
{
	return bsearch(path, p->r->outputs, p->r->n_outputs, sizeof(*p->r->outputs), by_path);
}

/* Cut the last component off. False at the root. */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || path[1] == '\0')
		return false;
	slash[slash == path] = '\0';
	return true;
}

/*
 * The directory for the temporary names of a path: the nearest one above it that is there and will
 * stay. On the same file system as the path, since what lies between does not exist yet or goes.
 */
static char *harbour(const struct replay *p, const char *path)
{
	char *dir = xstrdup(path);
	struct stat st;

	while (go_up(dir)) {
		const struct output *out = find_output(p, dir);

		if (out && out->now.type != OUT_DIR)
			continue;
		if (lstat(dir, &st) == 0 && S_ISDIR(st.st_mode))
			break;
	}
	return dir;
}

/* A directory that the step closed to writing after it filled it is opened for as long as we fill
 * it. */
static void make_room(struct replay *p, const char *dir)
{
	const struct output *out = find_output(p, dir);
	struct stat st;

	if (geteuid() == 0 || !out || out->now.type != OUT_DIR)
		return;
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || (st.st_mode & 0300) == 0300)
		return;
	if (chmod(dir, (st.st_mode & 07777) | 0700) < 0)
		return; /* what comes next fails and says it */
	note(p, UNDO_CHMOD, dir, NULL, st.st_mode & 07777);
	p->items[out - p->r->outputs].opened = true;
}

/* A new name nothing has, beside where `path` goes. */
static char *tmp_name(struct replay *p, const char *path)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
	auto_free char *dir = harbour(p, path);
	char tail[7] = {0};
	struct stat st;
	char *name;

	make_room(p, dir);
	for (;;) {
		uint64_t seed[3] = {(uint64_t)mono_ns(), (uint64_t)getpid(), (uintptr_t)path};
		uint64_t h = xxh64_of(seed, sizeof(seed));

		for (size_t i = 0; i < 6; i++, h >>= 5)
			tail[i] = digits[h & 31];
		name = xasprintf("%s/.mlfs-%s", dir[1] ? dir : "", tail);
		if (lstat(name, &st) < 0)
			return name;
		free(name);
	}
}

/* ---- prepare ---- */

static int failed(struct replay *p, const struct output *out, int code)
{
	return err_set(p->e, code, "cannot place %s", out->path);
}

/* Bytes first, then owner, xattrs, mode and time: each would undo or forbid the one before. */
static int dress_file(struct replay *p, const struct output *out, const struct item *it, int fd)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};
	int r;

	if (geteuid() == 0) {
		if (fchown(fd, out->uid, out->gid) < 0)
			return failed(p, out, errno);
	} else if (fchown(fd, (uid_t)-1, out->gid) < 0) {
		log_debug("%s: its group stays as it is", out->path);
	}
	if (out->xattrs) {
		r = xattr_apply(NULL, fd, out->xattrs, out->n_xattrs, p->e);
		if (r < 0)
			return err_prefix(p->e, "cannot place %s", out->path);
	}
	if (fchmod(fd, out->now.mode & 07777) < 0 || futimens(fd, times) < 0)
		return failed(p, out, errno);
	return 1;
}

/* 1; 0: the object is missing or damaged; -errno. */
static int make_file(struct replay *p, const struct output *out, struct item *it)
{
	auto_free char *name = tmp_name(p, out->path);
	auto_close int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct err why = {0};
	int r;

	if (fd < 0)
		return failed(p, out, errno);
	it->tmp = take(name);
	r = store_get_fd(p->x, &out->oid, out->now.size, fd, &why);
	if (r == -ENOENT || r == -EUCLEAN) {
		log_debug("%s: %s", out->path, why.msg);
		return 0;
	}
	if (r < 0)
		return err_text(p->e, r, "cannot place %s: %s", out->path, why.msg);
	return dress_file(p, out, it, fd);
}

static int make_special(struct replay *p, const struct output *out, struct item *it)
{
	auto_free char *name = tmp_name(p, out->path);
	int r = out->now.type == OUT_LINK ? symlink(out->now.target ? out->now.target : "", name)
					  : mkfifo(name, 0600);

	if (r < 0)
		return failed(p, out, errno);
	it->tmp = take(name);
	if (geteuid() == 0 && lchown(it->tmp, out->uid, out->gid) < 0)
		return failed(p, out, errno);
	if (out->xattrs && xattr_apply(it->tmp, -1, out->xattrs, out->n_xattrs, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	if (out->now.type == OUT_FIFO && chmod(it->tmp, out->now.mode & 07777) < 0)
		return failed(p, out, errno);
	if (out->mtime_set) {
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};

		if (utimensat(AT_FDCWD, it->tmp, times, AT_SYMLINK_NOFOLLOW) < 0)
			return failed(p, out, errno);
	}
	return 1;
}

/* Where the file of which output i is another name is already: as one that stays, or made before this one. */
static const char *linked_name(const struct replay *p, size_t i)
{
	uint32_t group = p->r->outputs[i].link_group;

	for (size_t j = 0; group && j < p->r->n_outputs; j++)
		if (p->r->outputs[j].link_group == group && p->places[j].action == PLACE_KEEP)
			return p->r->outputs[j].path;
	for (size_t j = 0; group && j < i; j++)
		if (p->r->outputs[j].link_group == group && p->items[j].tmp)
			return p->items[j].tmp;
	return NULL;
}

static int make_link(struct replay *p, const struct output *out, const char *first, struct item *it)
{
	auto_free char *name = tmp_name(p, out->path);

	if (linkat(AT_FDCWD, first, AT_FDCWD, name, 0) < 0)
		return failed(p, out, errno);
	it->tmp = take(name);
	return 1;
}

static int prepare(struct replay *p)
{
	for (size_t i = 0; i < p->r->n_outputs; i++) {
		const struct output *out = &p->r->outputs[i];
		const char *first = p->places[i].action == PLACE_WRITE ? linked_name(p, i) : NULL;
		int r = 1;

		if (p->places[i].action != PLACE_WRITE)
			continue;
		if (first)
			r = make_link(p, out, first, &p->items[i]);
		else if (out->now.type == OUT_FILE)
			r = make_file(p, out, &p->items[i]);
		else if (out->now.type == OUT_LINK || out->now.type == OUT_FIFO)
			r = make_special(p, out, &p->items[i]);
		if (r <= 0)
			return r;
	}
	return 1;
}

/* ---- place ---- */

static void note_parent_open(struct replay *p, const char *path)
{
	auto_free char *dir = xstrdup(path);

	if (go_up(dir))
		make_room(p, dir);
}

/* Move what is there out of the way. */
static int set_aside(struct replay *p, const struct output *out)
{
	auto_free char *name = tmp_name(p, out->path);

	note_parent_open(p, out->path);
	if (rename(out->path, name) < 0)
		return failed(p, out, errno);
	note(p, UNDO_RENAME, out->path, name, 0);
	return 1;
}

static int remove_dir(struct replay *p, const struct output *out, mode_t mode)
{
	note_parent_open(p, out->path);
	if (rmdir(out->path) < 0)
		return failed(p, out, errno);
	note(p, UNDO_MKDIR, out->path, NULL, mode & 07777);
	return 1;
}

/* Remove what stands at an output's path, if anything does. */
static int clear_path(struct replay *p, const struct output *out)
{
	struct stat st;

	if (lstat(out->path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 1 : failed(p, out, errno);
	if (S_ISDIR(st.st_mode))
		return remove_dir(p, out, st.st_mode);
	return set_aside(p, out);
}

/* Does something above this path come as other than a directory? */
static bool under_non_dir(const struct replay *p, const char *path)
{
	auto_free char *dir = xstrdup(path);

	while (go_up(dir)) {
		const struct output *out = find_output(p, dir);

		if (out && out->now.type != OUT_DIR && out->now.type != OUT_ABSENT)
			return true;
	}
	return false;
}

/* early: only what lies in a directory that a file is to replace; else the rest. Deepest first. */
static int remove_all(struct replay *p, bool early)
{
	for (size_t i = p->r->n_outputs; i-- > 0;) {
		const struct output *out = &p->r->outputs[i];
		int r;

		if (p->places[i].action != PLACE_REMOVE || p->items[i].removed)
			continue;
		if (early && !under_non_dir(p, out->path))
			continue;
		r = clear_path(p, out);
		if (r < 0)
			return r;
		p->items[i].removed = true;
	}
	return 1;
}

static int make_dir(struct replay *p, const struct output *out)
{
	struct stat st;
	int r;

	if (lstat(out->path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 1;
		r = set_aside(p, out);
		if (r < 0)
			return r;
	}
	note_parent_open(p, out->path);
	if (mkdir(out->path, 0700) < 0)
		return failed(p, out, errno);
	note(p, UNDO_RMDIR, out->path, NULL, 0);
	/* The umask may have taken what filling it needs. */
	if (chmod(out->path, 0700) < 0)
		return failed(p, out, errno);
	return 1;
}

/* Put what was made under a temporary name in its place, keeping what stood there for the way back.
 */
static int put(struct replay *p, const struct output *out, struct item *it)
{
	struct stat st;
	int r;

	note_parent_open(p, out->path);
	if (lstat(out->path, &st) == 0 && S_ISDIR(st.st_mode)) {
		r = remove_dir(p, out, st.st_mode);
		if (r < 0)
			return r;
	}
	if (renameat2(AT_FDCWD, it->tmp, AT_FDCWD, out->path, RENAME_EXCHANGE) == 0) {
		note(p, UNDO_RENAME, out->path, it->tmp, 0);
	} else if (errno == ENOENT) {
		if (rename(it->tmp, out->path) < 0)
			return failed(p, out, errno);
		note(p, UNDO_UNLINK, out->path, NULL, 0);
	} else {
		/* A file system that cannot exchange names. */
		r = clear_path(p, out);
		if (r < 0)
			return r;
		if (rename(it->tmp, out->path) < 0)
			return failed(p, out, errno);
		note(p, UNDO_UNLINK, out->path, NULL, 0);
	}
	free(take(it->tmp));
	return 1;
}

static int place_all(struct replay *p)
{
	int r = remove_all(p, true);

	for (size_t i = 0; i < p->r->n_outputs && r >= 0; i++)
		if (p->places[i].action == PLACE_WRITE && p->r->outputs[i].now.type == OUT_DIR)
			r = make_dir(p, &p->r->outputs[i]);
	for (size_t i = 0; i < p->r->n_outputs && r >= 0; i++)
		if (p->items[i].tmp)
			r = put(p, &p->r->outputs[i], &p->items[i]);
	if (r >= 0)
		r = remove_all(p, false);
	return r;
}

/* ---- finish ---- */

static int own_dir(struct replay *p, const struct output *out, const struct item *it)
{
	(void)it;
	if (geteuid() == 0 && lchown(out->path, out->uid, out->gid) < 0)
		return failed(p, out, errno);
	if (out->xattrs && xattr_apply(out->path, -1, out->xattrs, out->n_xattrs, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	return 1;
}

static int close_dir(struct replay *p, const struct output *out, const struct item *it)
{
	auto_close int fd = open(out->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};
	char proc[40];

	if (fd < 0)
		return failed(p, out, errno);
	/* O_PATH, since a directory need not be readable; fchmod refuses such descriptors. */
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (chmod(proc, out->now.mode & 07777) < 0)
		return failed(p, out, errno);
	if (out->mtime_set && utimensat(AT_FDCWD, out->path, times, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(p, out, errno);
	return 1;
}

/* Deepest first, since closing a directory closes the way to those in it. */
static int each_dir(struct replay *p,
		    int (*fn)(struct replay *p, const struct output *out, const struct item *it))
{
	for (size_t i = p->r->n_outputs; i-- > 0;) {
		const struct output *out = &p->r->outputs[i];
		/* Placing in a directory that stays moved its time. */
		bool wanted =
			p->places[i].action == PLACE_WRITE || p->items[i].opened || out->mtime_set;
		int r;

		if (out->now.type != OUT_DIR || !wanted)
			continue;
		r = fn(p, out, &p->items[i]);
		if (r < 0)
			return r;
	}
	return 1;
}

/* The bytes were checked as they were written: the next lookup need not read them where the clock
 * allows. */
static void remember(struct replay *p)
{
	auto_free struct idx_digest *d = xcalloc(p->r->n_outputs, sizeof(*d));
	size_t n = 0;

	for (size_t i = 0; i < p->r->n_outputs; i++) {
		const struct output *out = &p->r->outputs[i];

		if (p->places[i].action != PLACE_WRITE || out->now.type != OUT_FILE)
			continue;
		if (lstat(out->path, &d[n].st) < 0 || !S_ISREG(d[n].st.st_mode) ||
		    (uint64_t)d[n].st.st_size != out->now.size)
			continue;
		d[n].fp = out->now.fp;
		d[n++].hashed_at = p->began_ns;
	}
	if (n && idx_digest_put(p->x, d, n, NULL) < 0)
		log_debug("digests of what was placed are not remembered");
}

/* ---- public ---- */

static bool nothing_to_do(const struct decision *d)
{
	for (size_t i = 0; i < d->result->n_outputs; i++)
		if (d->places[i].action != PLACE_KEEP)
			return false;
	return true;
}

static int replay_in(struct replay *p)
{
	auto_free struct timespec *times = xcalloc(p->r->n_outputs, sizeof(*times));
	sigset_t all, old;
	int r;

	replay_times(p->x, p->r, p->places, p->began_ns, times);
	for (size_t i = 0; i < p->r->n_outputs; i++)
		p->items[i].mtime = times[i];
	r = prepare(p);
	if (r <= 0) {
		roll_back(p);
		return r;
	}
	/* From the first change to the last no signal may end us half way; it is a matter of
	 * renames only. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	r = place_all(p);
	if (r > 0)
		r = each_dir(p, own_dir);
	if (r > 0) {
		commit(p);
		/* Last, since what was displaced could not be removed from a closed directory. */
		r = each_dir(p, close_dir);
	} else {
		roll_back(p);
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int replay_outputs(struct idx *x, const struct decision *d, struct err *e)
{
	struct replay p = {.x = x, .r = d->result, .places = d->places, .e = e};
	struct err why = {0};
	int r;

	if (nothing_to_do(d))
		return 1;
	p.items = xcalloc(d->result->n_outputs, sizeof(*p.items));
	p.began_ns = now_ns();
	r = replay_in(&p);
	if (r > 0)
		remember(&p);
	replay_clear(&p);
	if (r == 0 && idx_result_drop(x, &d->result->input_key, &why) < 0)
		log_debug("%s", why.msg);
	return r;
}
