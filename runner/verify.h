/* SPDX-License-Identifier: MIT */
/* verify.h - private to verify*.c: one run that is compared with the cached result. */
#ifndef MLFS_VERIFY_H
#define MLFS_VERIFY_H

#include "capture.h"
#include "compare.h"
#include "verdict.h"

/* A guess reads around in both streams; from so many on it is said only that and where they differ. */
#define VERIFY_MAX_GUESSES 100

struct check {
	struct work *w;
	struct idx *x;
	const struct result *cached;
	struct verdict v;
	struct guess_in context;
	struct stat *now; /* of each output of the cached result */
	int *now_err;
	bool *differs; /* of each traced path: it is left otherwise than the cached result has it */
	size_t guesses;
	bool damaged; /* an object of the cached result */
	size_t times; /* outputs whose time the step sets otherwise, and the first of them */
	const char *first_time;
};

/* A difference; path NULL: of the run. */
void verify_differ(struct check *k, const char *path, const char *what, const char *fmt, ...)
	printf_like(4, 5);
void verify_differ_at(struct check *k, const char *path, const char *what,
		      const struct comparison *c);
/* Why nothing is proved; the first reason stays. */
void verify_unsure(struct check *k, const char *fmt, ...) printf_like(2, 3);
/* Did the step change what is at path? */
bool verify_changed(const struct check *k, const char *path);
bool verify_in_cached(const struct check *k, const char *path);
/* S_IFREG and the like; 0 of OUT_ABSENT. */
mode_t verify_type_bits(enum out_type t);

/* verify_outputs.c: each output of the cached result with what stands there now. */
void verify_outputs(struct check *k);
/* verify_extra.c: what the step changed elsewhere. */
void verify_extra(struct check *k);

#endif
