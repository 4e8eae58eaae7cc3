/* SPDX-License-Identifier: MIT */
/*
 * posix.h - a random sequence of file-system calls, every result of which is logged. posix.py runs the same
 * seed on a plain directory and in the view and compares the logs.
 *
 * Each operation draws its arguments from the seed and its own number alone, whatever the others did, so that
 * any subset of a sequence can be run again: that is how a difference is minimised. The sequence is cut into
 * epochs; each begins with an empty tree and nothing open.
 */
#ifndef POSIX_H
#define POSIX_H

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#define SLOTS	  5 /* descriptors */
#define MAPS	  3 /* mappings that stay */
#define IO_MOST	  (300u << 10)
#define PATH_MOST (PATH_MAX + 64)
/* Times that an operation sets lie before this; later ones are "now". */
#define NOW_FROM  1500000000

struct map {
	char *p;
	size_t len;
	bool writable, shared;
};

/* Directories above which nothing may be reached, where the tree cannot be the root. */
struct guard {
	dev_t dev;
	ino_t ino[32];
	unsigned n;
};

struct world {
	uint64_t seed, rng;
	unsigned op; /* its number */
	FILE *log;
	int top; /* the tree */
	char *top_path;
	bool root;    /* may become other users, and the tree is the root directory */
	bool mount;   /* of a persistent mount: O_DIRECT asks nothing there */
	bool verbose; /* the whole tree is logged, not its hash alone */
	uid_t uid;    /* the present one */
	int fds[SLOTS];
	struct map maps[MAPS];
	int inotify;
	int pipe[2];
	struct guard guard;
	char *buf; /* IO_MOST bytes; aligned, as O_DIRECT wants it */
};

struct op {
	const char *name;
	unsigned weight;
	void (*fn)(struct world *w);
};
extern const struct op name_ops[], data_ops[], attr_ops[],
	special_ops[]; /* each ends with no name */

/* ---- world.c ---- */

/* A number below n; a chance of percent in a hundred. */
unsigned rnd(struct world *w, unsigned n);
bool chance(struct world *w, unsigned percent);
#define pick_of(w, v) ((v)[rnd((w), sizeof(v) / sizeof(*(v)))])
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);
#define HASH_START 14695981039346656037u

void say(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* " = R" or " = ERRNO", of a call that has just returned. Returns r. */
long result(struct world *w, long r);
/* A name that may be anywhere, said. buf: PATH_MOST bytes. */
const char *pick_path(struct world *w, char *buf);
/* The same, more likely that of a directory, or of something else. */
const char *pick_path_to(struct world *w, char *buf, bool dir);
/* A directory for the *at calls: mostly AT_FDCWD. And any of the descriptors. Said. */
int pick_dir(struct world *w);
int pick_slot(struct world *w);
mode_t pick_mode(struct world *w);
off_t pick_offset(struct world *w);
size_t pick_size(struct world *w);
int pick_flags(struct world *w, const int *v, size_t n, unsigned percent);
/* Fill w->buf with n bytes that only this operation writes. */
void fill(struct world *w, size_t n);
/* Put a descriptor into a slot, closing what was there; -1 leaves the slot as it is. Not one of a directory above
 * the tree. */
void keep(struct world *w, int slot, int fd);
void become(struct world *w, uid_t uid);
/* Everything closed, everything gone; then a new beginning. */
void start_over(struct world *w);
void stop(const char *what) __attribute__((noreturn));
/* Is the directory one above the tree? */
bool guarded(const struct world *w, int fd);

/* ---- look.c ---- */

/* What stat says, as far as it is the same on every run. */
void say_stat(struct world *w, const struct stat *st);
void say_path(struct world *w, int dir, const char *path);
void say_fd(struct world *w, int fd);
void say_xattrs(struct world *w, int fd);
/* The whole tree and what is open. */
void dump(struct world *w);

#endif
