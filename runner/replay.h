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
	UNDO_STAGE,  /* directory path, of this stage, was made */
	UNDO_TREE,   /* it was given the name path, with all in it */
};
struct undo {
	enum undo_kind kind;
	char *path, *aside;
	mode_t mode;
	struct stage *stage;
};

/*
 * A directory of ours (.mlfs-XXXXXX, mode 0700) in which many things are made under their own names: one temporary name to
 * note for all of them, short ways to them, and nobody else sees them before they are whole.
 */
struct stage {
	struct stage *next;
	char *path;	/* "/a/.mlfs-XXXXXX" */
	size_t dir_len; /* of the directory that its entries go to, "/a" or "/a/b", in their paths */
	bool tree;	/* it becomes that directory, which is not there; else it lies in it */
	bool masked;	/* directories made in it get less than 0700 */
	bool placed;	/* it has become it */
	size_t first, last; /* the outputs that are made in it are among these */
};

/* The stage that was worked in last, and its descriptor. {.fd = -1} at first. */
struct way {
	const struct stage *stage;
	int fd;
};

struct item {
	struct stage *stage; /* it is made there; or NULL */
	char *tmp;	     /* made under this name, or NULL */
	bool lazy;	     /* tmp is a link that stands for the file; its record is of: */
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
	struct stage *stages;
	struct way way;
	char *room; /* the directory that make_room looked at last */
	bool root;  /* may give files away, and write anywhere */
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

/* ---- replay_stage.c ---- */

/* Where many are to be made in one place, or a whole directory, make stages for them. 1 or -errno. */
int replay_stages(struct replay *p);
/* Where what will go by `path` in the end is now, as tmp says too: its name in the stage s, and a descriptor of that, borrowed until
 * the next call with this w; without a stage, or where it cannot be opened, tmp and AT_FDCWD. */
int replay_way(struct way *w, const struct stage *s, const char *path, const char *tmp,
	       const char **ret_name);
void replay_way_end(struct way *w);
/* The temporary name of what goes by path: caller frees. */
char *replay_stage_name(const struct stage *s, const char *path);
/* Does the directory of the stage come into its place, with all that was made? If not, each is to be put there on its own. */
bool replay_stage_place(struct replay *p, struct stage *s);
/* The stage itself goes, whose files are gone already; what was made in it and has come into its place goes. -1 and errno. */
int replay_stage_remove(const struct replay *p, const struct stage *s);
int replay_tree_remove(const struct replay *p, const struct stage *s);
void replay_stages_free(struct replay *p);

/* ---- replay_place.c ---- */

int replay_failed(struct replay *p, const struct output *out, int code);
void replay_note(struct replay *p, const struct undo *u); /* takes its strings */
/* Directory dir is made writable if need be, until the end; a new name in it that nothing has, noted in case we are killed. */
void replay_make_room(struct replay *p, const char *dir);
char *replay_new_name(struct replay *p, const char *dir, const char *moved);
/* A new name nothing has, beside where `path` goes; caller frees. Its directory is made writable if need be. moved: what is
 * at `path` is to be moved there. */
char *replay_tmp_name(struct replay *p, const char *path, bool moved);
/* The temporary name of what is to be made for an output; caller frees. */
char *replay_item_name(struct replay *p, const struct output *out, const struct item *it);
/* Put everything in its place, noting the way back. 1 or -errno. */
int replay_place(struct replay *p);
/* Take everything back. What cannot be is said: a half-placed result must not go unnoticed. */
void replay_roll_back(struct replay *p);
/* What was displaced goes for good. */
void replay_commit(struct replay *p);

#endif
