/* SPDX-License-Identifier: MIT */
/* replay_place.c - put what was made under temporary names in its place, and the way back from there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay.h"

#define COPY_SIZE (256u << 10)

/* ---- the way back ---- */

void replay_note(struct replay *p, const struct undo *u)
{
	if (p->n_undo == p->cap_undo) {
		p->cap_undo = p->cap_undo ? p->cap_undo * 2 : 64;
		p->undo = xrealloc(p->undo, p->cap_undo * sizeof(*p->undo));
	}
	p->undo[p->n_undo++] = *u;
}

static void note(struct replay *p, enum undo_kind kind, const char *path, const char *aside,
		 mode_t mode)
{
	replay_note(p, &(struct undo){kind, xstrdup(path), aside ? xstrdup(aside) : NULL, mode});
}

/* The bytes of one file into another that is there, which stays the file it is. -1 and errno. */
static int copy_into(const char *from, const char *to)
{
	auto_close int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int out = in < 0 ? -1 : open(to, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	auto_free char *buf = out < 0 ? NULL : io_alloc(COPY_SIZE);
	ssize_t n, r;

	if (out >= 0 && !buf)
		errno = ENOMEM;
	if (!buf)
		return -1;
	while ((n = read(in, buf, COPY_SIZE)) > 0) {
		r = write_all(out, buf, (size_t)n);
		if (r < 0) {
			errno = (int)-r;
			return -1;
		}
	}
	return n < 0 ? -1 : 0;
}

static int undo_write(const struct undo *u)
{
	return copy_into(u->aside, u->path) < 0 || chmod(u->path, u->mode) < 0 ||
			       unlink(u->aside) < 0
		       ? -1
		       : 0;
}

static int undo_one(const struct replay *p, const struct undo *u)
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
	case UNDO_WRITE:
		return undo_write(u);
	case UNDO_STAGE:
		return replay_stage_remove(p, u->stage);
	case UNDO_TREE:
		return replay_tree_remove(p, u->stage);
	}
	return 0;
}

/* Made, and not in its place yet? */
static bool is_waiting(const struct item *it)
{
	return it->tmp && !(it->stage && it->stage->placed);
}

/* Take everything back. What cannot be is said: a half-placed result must not go unnoticed. */
void replay_roll_back(struct replay *p)
{
	/* First what was not placed yet: its directory may be closed again by what follows. */
	for (size_t i = 0; i < p->r->n_outputs; i++)
		if (is_waiting(&p->items[i]) && unlink(p->items[i].tmp) < 0)
			log_warn("cannot remove %s: %s", p->items[i].tmp, strerror(errno));
	for (size_t i = p->n_undo; i-- > 0;)
		if (undo_one(p, &p->undo[i]) < 0)
			log_warn("cannot take back what was placed at %s: %s", p->undo[i].path,
				 strerror(errno));
}

/* What was displaced goes for good. */
void replay_commit(struct replay *p)
{
	for (size_t i = 0; i < p->n_undo; i++) {
		if (!p->undo[i].aside)
			continue;
		replay_lazy_gone(p, p->undo[i].aside);
		if (unlink(p->undo[i].aside) < 0)
			log_warn("cannot remove %s: %s", p->undo[i].aside, strerror(errno));
	}
	for (const struct stage *s = p->stages; s; s = s->next)
		if (replay_stage_remove(p, s) < 0)
			log_warn("cannot remove %s: %s", s->path, strerror(errno));
}

/* ---- where things go ---- */

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
		const struct output *out = result_output(p->r, dir);

		if (out && out->now.type != OUT_DIR)
			continue;
		if (lstat(dir, &st) == 0 && S_ISDIR(st.st_mode))
			break;
	}
	return dir;
}

/* A directory that the step closed to writing after it filled it, or that it moved away, is opened for as long as we
 * fill or empty it. */
void replay_make_room(struct replay *p, const char *dir)
{
	const struct output *out;
	struct stat st;

	if (p->root || (p->room && strcmp(p->room, dir) == 0))
		return;
	free(p->room);
	p->room = xstrdup(dir);
	out = result_output(p->r, dir);
	if (!out)
		return;
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || (st.st_mode & 0300) == 0300)
		return;
	if (chmod(dir, (st.st_mode & 07777) | 0700) < 0)
		return; /* what comes next fails and says it */
	note(p, UNDO_CHMOD, dir, NULL, st.st_mode & 07777);
	p->items[out - p->r->outputs].opened = true;
}

/* Should we be killed, whoever opens the cache next tidies up. Trouble with that is no trouble with the hit. */
static void note_name(struct replay *p, const char *name, const char *moved)
{
	struct err why = {0};

	if ((!p->placing && idx_placing_begin(p->x, &p->placing, &why) < 0) ||
	    idx_placing_note(p->placing, name, moved, &why) < 0)
		log_debug("%s", why.msg);
}

char *replay_new_name(struct replay *p, const char *dir, const char *moved)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyzABCDEF";
	char tail[7] = {0};
	struct stat st;
	char *name;

	for (;;) {
		uint64_t seed[3] = {(uint64_t)mono_ns(), (uint64_t)getpid(), (uintptr_t)dir};
		uint64_t h = xxh64_of(seed, sizeof(seed));

		for (size_t i = 0; i < 6; i++, h >>= 5)
			tail[i] = digits[h & 31];
		name = xasprintf("%s/.mlfs-%s", dir[1] ? dir : "", tail);
		if (lstat(name, &st) < 0)
			break;
		free(name);
	}
	note_name(p, name, moved);
	return name;
}

char *replay_tmp_name(struct replay *p, const char *path, bool moved)
{
	auto_free char *dir = harbour(p, path);

	replay_make_room(p, dir);
	/* Only what is written through goes by way of another place. */
	if (!moved && !p->root && faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0 &&
	    errno == EACCES)
		return idx_temp_path(p->x);
	return replay_new_name(p, dir, moved ? path : NULL);
}

char *replay_item_name(struct replay *p, const struct output *out, const struct item *it)
{
	return it->stage ? replay_stage_name(it->stage, out->path)
			 : replay_tmp_name(p, out->path, false);
}

int replay_failed(struct replay *p, const struct output *out, int code)
{
	return err_set(p->e, code, "cannot place %s", out->path);
}

/* ---- place ---- */

static void note_parent_open(struct replay *p, const char *path)
{
	auto_free char *dir = p->root ? NULL : xstrdup(path);

	if (dir && go_up(dir))
		replay_make_room(p, dir);
}

/* Move what is there out of the way. */
static int set_aside(struct replay *p, const struct output *out)
{
	auto_free char *name = replay_tmp_name(p, out->path, true);

	note_parent_open(p, out->path);
	if (rename(out->path, name) < 0)
		return replay_failed(p, out, errno);
	note(p, UNDO_RENAME, out->path, name, 0);
	return 1;
}

static int remove_dir(struct replay *p, const struct output *out, mode_t mode)
{
	note_parent_open(p, out->path);
	if (rmdir(out->path) < 0)
		return replay_failed(p, out, errno);
	note(p, UNDO_MKDIR, out->path, NULL, mode & 07777);
	return 1;
}

/* Remove what stands at an output's path, if anything does. */
static int clear_path(struct replay *p, const struct output *out)
{
	struct stat st;

	if (lstat(out->path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 1 : replay_failed(p, out, errno);
	if (S_ISDIR(st.st_mode))
		return remove_dir(p, out, st.st_mode);
	return set_aside(p, out);
}

/* Does something above this path come as other than a directory? */
static bool under_non_dir(const struct replay *p, const char *path)
{
	auto_free char *dir = xstrdup(path);

	while (go_up(dir)) {
		const struct output *out = result_output(p->r, dir);

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
		return replay_failed(p, out, errno);
	note(p, UNDO_RMDIR, out->path, NULL, 0);
	/* The umask may have taken what filling it needs. */
	if (chmod(out->path, 0700) < 0)
		return replay_failed(p, out, errno);
	return 1;
}

/* Where there was nothing, and is nothing now. False: try otherwise. */
static bool put_new(struct replay *p, const struct output *out, const struct item *it)
{
	const char *name;
	int dir;

	if (!p->places[it - p->items].gone)
		return false;
	dir = replay_way(&p->way, it->stage, out->path, it->tmp, &name);
	return renameat2(dir, name, AT_FDCWD, out->path, RENAME_NOREPLACE) == 0;
}

/* Put what was made under a temporary name in its place, keeping what stood there for the way back.
 */
static int put(struct replay *p, const struct output *out, struct item *it)
{
	struct stat st;
	int r;

	note_parent_open(p, out->path);
	if (put_new(p, out, it)) {
		note(p, UNDO_UNLINK, out->path, NULL, 0);
		free(take(it->tmp));
		return 1;
	}
	if (lstat(out->path, &st) == 0 && S_ISDIR(st.st_mode)) {
		r = remove_dir(p, out, st.st_mode);
		if (r < 0)
			return r;
	}
	if (renameat2(AT_FDCWD, it->tmp, AT_FDCWD, out->path, RENAME_EXCHANGE) == 0) {
		note(p, UNDO_RENAME, out->path, it->tmp, 0);
	} else if (errno == ENOENT) {
		if (rename(it->tmp, out->path) < 0)
			return replay_failed(p, out, errno);
		note(p, UNDO_UNLINK, out->path, NULL, 0);
	} else {
		/* A file system that cannot exchange names. */
		r = clear_path(p, out);
		if (r < 0)
			return r;
		if (rename(it->tmp, out->path) < 0)
			return replay_failed(p, out, errno);
		note(p, UNDO_UNLINK, out->path, NULL, 0);
	}
	free(take(it->tmp));
	return 1;
}

/* Write what was made under a temporary name into the file that is there, for all the names that it has. A copy of
 * what it held is kept for the way back. */
static int write_through(struct replay *p, const struct output *out, struct item *it)
{
	auto_free char *aside = replay_tmp_name(p, out->path, false);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, it->mtime};
	auto_close int fd = -1;
	struct stat st;

	if (lstat(out->path, &st) < 0)
		return replay_failed(p, out, errno);
	fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return replay_failed(p, out, errno);
	/* One that even its owner may not read or write is opened to him for as long as it takes. */
	if (chmod(out->path, (st.st_mode | S_IRUSR | S_IWUSR) & 07777) < 0 ||
	    copy_into(out->path, aside) < 0) {
		int code = errno;

		(void)unlink(aside); /* nothing has been changed yet but the mode */
		(void)chmod(out->path, st.st_mode & 07777);
		return replay_failed(p, out, code);
	}
	note(p, UNDO_WRITE, out->path, aside, st.st_mode & 07777);
	if (copy_into(it->tmp, out->path) < 0)
		return replay_failed(p, out, errno);
	base_close(&fd);
	fd = open(out->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (p->root && fchown(fd, out->uid, out->gid) < 0))
		return replay_failed(p, out, errno);
	if (out->xattrs && xattr_apply(NULL, fd, out->xattrs, out->n_xattrs, p->e) < 0)
		return err_prefix(p->e, "cannot place %s", out->path);
	if (fchmod(fd, out->now.mode & 07777) < 0 || futimens(fd, times) < 0 || unlink(it->tmp) < 0)
		return replay_failed(p, out, errno);
	free(take(it->tmp));
	return 1;
}

/* Directories, those with all that is to be in them first tried at once. */
static int place_dirs(struct replay *p)
{
	for (size_t i = 0; i < p->r->n_outputs; i++) {
		const struct output *out = &p->r->outputs[i];
		struct stage *s = p->items[i].stage;
		int r;

		if (p->places[i].action != PLACE_WRITE || out->now.type != OUT_DIR)
			continue;
		if (s && i == s->first) {
			note_parent_open(p, out->path);
			(void)replay_stage_place(p, s); /* not: one by one, as below */
		}
		r = s && s->placed ? 1 : make_dir(p, out);
		if (r < 0)
			return r;
	}
	return 1;
}

int replay_place(struct replay *p)
{
	int r = remove_all(p, true);

	if (r >= 0)
		r = place_dirs(p);
	for (size_t i = 0; i < p->r->n_outputs && r >= 0; i++)
		if (is_waiting(&p->items[i]))
			r = (p->places[i].action == PLACE_THROUGH ? write_through : put)(
				p, &p->r->outputs[i], &p->items[i]);
	if (r >= 0)
		r = remove_all(p, false);
	return r;
}
