/* SPDX-License-Identifier: MIT */
/*
 * notes.h - private to index/: what is kept beside results to explain them (notes.c), and which results have a path or a
 * content among their inputs or outputs (io.c). No lookup needs any of it: where it is missing less can be said.
 */
#ifndef MLFS_INDEX_NOTES_H
#define MLFS_INDEX_NOTES_H

#include "idx.h"

/* Keys of TAB_NOTE: a letter, and what it is about. */
#define NOTE_KEY_SIZE 17
enum note_kind {
	NOTE_LISTING = 'l', /* fingerprint of a listing -> its names */
	NOTE_STEP = 'd',    /* step key -> its description */
	NOTE_PATHS = 'p',   /* path set id -> Bloom filter of its paths */
};
void note_key(enum note_kind kind, const struct fp *of, uint8_t key[NOTE_KEY_SIZE]);

/* In the transaction of a result: what is not there yet. */
int notes_put(struct kv_txn *t, const struct result *r, const struct path_set *s,
	      struct err *e) must_check;
/* The step of r has no results any more: it is no step of its name. */
int notes_forget_name(struct kv_txn *t, const struct result *r, struct err *e) must_check;
/* Is the value what its key is about? NULL, or what is wrong. */
const char *note_wrong(struct kv_val key, struct kv_val value);

/* The row of a result in TAB_IO. */
void io_encode(const struct result *r, struct buf *out);
int io_put(struct kv_txn *t, const struct result *r, struct err *e) must_check;
bool io_whole(struct kv_val value);
/* Of a whole row: may its result have left something at path? */
bool io_may_leave(struct kv_val row, const char *path);
/* May a path be in the path set that has this filter? */
bool paths_may_have(struct kv_val filter, const char *path);

#endif
