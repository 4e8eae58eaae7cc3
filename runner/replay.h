/* SPDX-License-Identifier: MIT */
/* replay.h - private to replay*.c: one result on its way into place. */
#ifndef MLFS_REPLAY_H
#define MLFS_REPLAY_H

#include "runner.h"

/* What undoes one change; in the order made, undone from the last. */
enum undo_kind {
	UNDO_UNLINK, /* path was made */
	UNDO_RMDIR,  /* directory path was made */
	UNDO_MKDIR,  /* directory path, of this mode, was removed */
	UNDO_RENAME, /* what was at path is at aside */
	UNDO_CHMOD,  /* directory path had this mode */
	UNDO_WRITE,  /* what was in the file at path is in aside; it had this mode */
};
struct undo {
	enum undo_kind kind;
	char *path, *aside;
	mode_t mode;
};

struct item {
	char *tmp; /* made under this name, or NULL */
	bool lazy; /* tmp is a link that stands for the file; its record is of: */
	dev_t dev;
	ino_t ino;
	struct timespec mtime; /* files: the time to give */
	bool opened; /* directory: made writable for filling, its mode is to be set again */
	bool removed;
};

struct replay {
	struct idx *x;
	struct idx_placing *placing; /* our temporary names, should we be killed; NULL: none yet */
	const struct result *r;
	const struct place *places;
	struct item *items;	/* one an output */
	struct lazy_step *lazy; /* or NULL */
	struct undo *undo;
	size_t n_undo, cap_undo;
	int64_t began_ns;
	struct err *e;
};

/* ---- replay_lazy.c ---- */

/* Instead of the file a link that stands for it, under a temporary name. 1: made; 0: it is to be made real. */
int replay_lazy(struct replay *p, const struct output *out, struct item *it);
/* What was displaced, and is about to be removed, may be a placeholder: its record goes. */
void replay_lazy_gone(struct replay *p, const char *path);
/* None of them came into place: their records go. */
void replay_lazy_undo(struct replay *p);

/* ---- replay_place.c ---- */

int replay_failed(struct replay *p, const struct output *out, int code);
/* A new name nothing has, beside where `path` goes; caller frees. Its directory is made writable if need be. moved: what is
 * at `path` is to be moved there. */
char *replay_tmp_name(struct replay *p, const char *path, bool moved);
/* Put everything in its place, noting the way back. 1 or -errno. */
int replay_place(struct replay *p);
/* Take everything back. What cannot be is said: a half-placed result must not go unnoticed. */
void replay_roll_back(struct replay *p);
/* What was displaced goes for good. */
void replay_commit(struct replay *p);

#endif
