/* SPDX-License-Identifier: MIT */
/*
 * browse.h - private to fs/browse*.c: the cache as a tree to look at.
 *
 * Nothing of the tree is kept but nodes that the kernel knows, and a few results that were looked at last: each look-up and
 * each piece of a listing asks the index.
 *
 * Threads: several serve requests. `mutex` guards nodes, results and the index's counts; nobody waits for a disk or for
 * LMDB under it, but who decodes a result (browse_shown.c).
 */
#ifndef MLFS_BROWSE_H
#define MLFS_BROWSE_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fs.h"

enum node_kind {
	NODE_ROOT,
	NODE_BY_NAME,
	NODE_BY_KEY,
	NODE_NAME,   /* path: the results' name */
	NODE_RESULT, /* key */
	NODE_OUTPUT, /* key; path: absolute, "" for the directory "outputs" */
	NODE_TEXT,   /* key, text */
	NODE_PATH,   /* of by-file; path: absolute, "" for the root */
	NODE_READ,   /* path: of the one that it lies in */
	NODE_WROTE,
	NODE_LINK, /* target, time_ns */
};
/* Files of a result. */
enum node_text { TEXT_INPUTS, TEXT_STDOUT, TEXT_STDERR, TEXT_STEP, TEXT_REMOVED, TEXT_COUNT };
extern const char *const node_texts[TEXT_COUNT];

/* What lies at a name. */
struct place {
	enum node_kind kind;
	enum node_text text;
	struct fp key;
	char *path;   /* or NULL */
	char *target; /* NODE_LINK */
	int64_t time_ns;
};
void place_clear(struct place *p);
#define auto_place __attribute__((cleanup(place_clear)))

struct node {
	struct node *next; /* of the same hash */
	struct node *parent;
	char *name;
	uint64_t lookups; /* that the kernel has not forgotten */
	uint32_t children;
	bool hashed;
	uint64_t ino;
	struct place at;	 /* does not change */
	struct was_open *opened; /* NULL: it never was */
};
struct was_open {
	struct oid seen; /* what the kernel may have pages of; zeros: nothing */
	unsigned
		opens; /* that many files: they are as they were, also when the result was dropped */
	struct stat st; /* what it was when opened last */
};

/* A result that was decoded, and texts made of it. */
struct shown {
	struct result *r; /* without its states */
	unsigned users;
	int64_t checked_ns; /* CLOCK_MONOTONIC: it was in the index so */
	size_t weight;
	struct buf texts[TEXT_COUNT]; /* not of the console */
	bool made[TEXT_COUNT];
	uint64_t stream[2]; /* bytes written to stdout, stderr */
};

#define MAX_SHOWN  16
#define MAX_LISTED 8
/* Names that a directory of by-file was found to have: a look-up of each mostly follows. */
struct listed {
	char *path;
	int64_t at_ns; /* CLOCK_MONOTONIC */
	char **names;  /* sorted */
	size_t n;
};

struct browse {
	struct browse_options o;
	char *cache;
	struct stat owner; /* of the cache's directory */
	int64_t began_ns;
	struct fuse_session *se;
	int stop; /* eventfd */
	atomic_uint_least64_t counts[BROWSE_COUNTS];

	pthread_mutex_t mutex;
	struct node **heads;
	size_t n_heads, n_nodes;
	struct node root;
	struct shown *shown[MAX_SHOWN]; /* used last first */
	struct listed listed[MAX_LISTED];
	unsigned next_listed;

	pthread_mutex_t opening; /* before mutex */
	struct idx *x;		 /* NULL: closed */
	unsigned users;
	int64_t used_ns;
};

/* browse.c: the index, for as long as a request takes. It is closed when nobody has asked for a moment. */
int browse_index(struct browse *b, struct idx **ret, struct err *e) must_check;
void browse_index_done(struct browse *b);
void browse_count(struct browse *b, enum browse_count what);

/* browse_names.c */
/* What a result is called in lists: "2026-11-21T10:42:00-3f2a91c0". */
#define RESULT_NAME_SIZE 48
void result_name(int64_t started_ns, const struct fp *key, char name[RESULT_NAME_SIZE]);
/* A name of a result as one of a file, and back. The first: caller frees. The second: NULL when it tells nothing: it was cut, or
 * never made so. */
char *name_escape(const char *name);
char *name_unescape(const char *text);
/* A part of a path among "@read" and "@wrote", and back. */
char *part_escape(const char *part, size_t n);
char *part_unescape(const char *text);

/* browse_node.c */
/* What name in dir is. 0; -ENOENT, -errno. *ret: caller clears. */
int browse_resolve(struct browse *b, struct idx *x, const struct node *dir, const char *name,
		   fuse_req_t req, struct place *ret) must_check;
/* -ESTALE: it is gone since. */
int browse_stat(struct browse *b, struct idx *x, const struct place *p, uint64_t ino,
		struct stat *st) must_check;
uint64_t browse_ino(const struct node *dir, const char *name);
/* The node of it, with one look-up more; takes what p has. */
struct node *browse_get(struct browse *b, struct node *dir, const char *name, struct place *p);
void browse_forget(struct browse *b, struct node *n, uint64_t lookups);
struct node *browse_node(struct browse *b, fuse_ino_t ino);
void browse_nodes_free(struct browse *b);
/* The place of the first output that is not before path. */
size_t output_from(const struct result *r, const char *path);
/* Was something left at path? */
bool output_is_there(const struct result *r, const char *path);
/* The output at path, or NULL; *ret_first: the place of the first one below it, or of where it would be. */
const struct output *output_at(const struct result *r, const char *path, size_t *ret_first);
/* Does something lie below path, so that there is a directory? first: from output_at. */
bool output_below(const struct result *r, const char *path, size_t first);
/* The filter that the results listed in a directory pass. */
struct idx_scan_filter place_filter(const struct place *p);
/* NODE_PATH and what lies in it: the path as steps name it. */
const char *place_path(const struct place *p);

/* browse_shown.c */
/* 1 and a result to be given back, 0: there is none, -errno. */
int shown_get(struct browse *b, struct idx *x, const struct fp *key, struct shown **ret,
	      struct err *e) must_check;
struct shown *shown_ref(struct browse *b, struct shown *s);
void shown_put(struct browse *b, struct shown *s);
/* A text made of it, borrowed as long as s is held. Not of the console. */
int shown_text(struct browse *b, struct idx *x, struct shown *s, enum node_text what,
	       const struct buf **ret, struct err *e) must_check;
bool shown_removed(const struct result *r);
/* Those that nobody has in use. */
void shown_drop(struct browse *b);

/* browse_list.c, browse_data.c */
void browse_list_ops(struct fuse_lowlevel_ops *ops);
void browse_data_ops(struct fuse_lowlevel_ops *ops);
/* Was name found in the by-file directory at path just now? */
bool listed_has(struct browse *b, const char *path, const char *name);

#endif
