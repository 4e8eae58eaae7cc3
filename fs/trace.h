/* SPDX-License-Identifier: MIT */
/* trace.h - private to fs/: recording. See fs.h for what is recorded. */
#ifndef MLFS_TRACE_H
#define MLFS_TRACE_H

#include "fs.h"

struct digester;

/* ids.c: the inode number that is shown of a file below, when the root's device is `root`. */
ino_t ino_shown(dev_t root, dev_t dev, ino_t ino);

struct trace *trace_new(const struct fs_options *o, struct err *e);
void trace_free(struct trace *t);

/* The record of a path, made when it is new; NULL when the path is not traced. */
struct trace_path *trace_get(struct trace *t, const char *path, size_t len);
/* Looking it up found st (err 0), nothing (ENOENT) or failed (err). at: CLOCK_REALTIME ns from before that. */
void trace_looked(struct trace *t, struct trace_path *p, const struct stat *st, int err,
		  int64_t at);
/* It was looked at before and is shown again; what is shown must be what was kept. */
void trace_shown(struct trace *t, const struct trace_path *p, const struct stat *st);
/* Its content is about to be read (the first time, from the file system below); its target was read; its xattrs were
 * asked for. p may be NULL everywhere. */
void trace_read(struct trace *t, struct trace_path *p);
/* ... while somebody else has it open for writing: nothing tells what was read. */
void trace_written(struct trace *t, const struct trace_path *p);
void trace_readlink(struct trace *t, struct trace_path *p, const char *target);
void trace_xattr(struct trace *t, struct trace_path *p);
/* They are about to be set; asks: whether that works tells what there was. */
void trace_xattr_set(struct trace *t, struct trace_path *p, bool asks);
/* It is about to be listed: the earlier listing is kept. */
void trace_list(struct trace *t, struct trace_path *p, int dirfd_);
/* This is being listed ("fname", sorted by name): kept as the earlier listing, or compared with it. Takes list. */
void trace_listed(struct trace *t, struct trace_path *p, char **list, size_t n);

/* How a path is about to change. Call before the change; harmless if the change then fails. */
enum change {
	CHANGE_CREATE,	/* nothing there: something will be */
	CHANGE_REPLACE, /* renamed over, by another file */
	CHANGE_TRUNC,	/* truncated to nothing: the same file goes on */
	CHANGE_REMOVE,	/* unlink, rmdir */
	CHANGE_MOVE,	/* renamed away: the earlier content lives on elsewhere */
	CHANGE_RETURN,	/* renamed to where it was at first */
	CHANGE_PART,	/* written in part, mode, owner, times, xattrs */
	CHANGE_LINK,	/* another name was made for it: its content lives on there */
};
void trace_change(struct trace *t, struct trace_path *p, enum change c);
/* p, not looked at before, is another name of the file that q is a name of and that the step has changed: its
 * earlier state is that of q. */
void trace_same_file(struct trace_path *p, const struct trace_path *q);
/* A change that was announced failed, and the step knows it: all of what was and still is there is an input. */
void trace_kept(struct trace_path *p);
/* A name that was announced (CHANGE_CREATE) could not be made; `was` is p as it was before that. */
void trace_not_made(struct trace_path *p, const struct trace_path *was);
/* As trace_kept, of a name that was to go, or another file was to get; `was` is p as it was before that was announced. */
void trace_stayed(struct trace_path *p, const struct trace_path *was);
void trace_mtime_set(struct trace_path *p, bool set);
/* The step's change is done, and has left this (err ENOENT: nothing). Unknown: what is there is not compared. */
void trace_latest(struct trace_path *p, const struct stat *st, int err);
void trace_latest_unknown(struct trace_path *p);
/* It must still be as that left it. */
void trace_latest_check(struct trace *t, const struct trace_path *p, const struct stat *now,
			int err);
/* Something could not be recorded: the result is not stored. The first reason is kept. */
void trace_spoil(struct trace *t, const char *fmt, ...) printf_like(2, 3);

/* ---- guard.c ---- */
struct guard *guard_new(void);
void guard_free(struct guard *g);
/* Watch p's file, which must be as p->st says. -errno: it cannot be watched. */
int guard_add(struct guard *g, struct trace_path *p) must_check;
/* Whatever others did to a watched file spoils the trace. */
void guard_look(struct trace *t, struct guard *g);
/* From now on the step may do it. */
void guard_drop(struct trace *t, struct guard *g, struct trace_path *p);

/* ---- digester.c ---- */
struct digester *digester_new(struct idx *idx); /* idx may be NULL */
void digester_add(struct digester *h, struct trace_path *p, bool urgent);
/* Make sure p is HASH_DONE or HASH_FAILED on return: waits for the thread, or hashes here. */
void digester_finish(struct digester *h, struct trace_path *p);
void digester_drain(struct digester *h);
void digester_free(struct digester *h);

#endif
