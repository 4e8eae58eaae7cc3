/* SPDX-License-Identifier: MIT */
/*
 * shm.h - private to runner/: what lies in /dev/shm before and after a step.
 *
 * Programs share memory through it, and people keep data there, since it is fast. It is shown natively, since
 * memory cannot be shared through FUSE, so what is read there is not seen; but whether the step went there at
 * all is (touch.h). When it did, the files that were there are inputs, and what is different afterwards is
 * noticed.
 */
#ifndef MLFS_SHM_H
#define MLFS_SHM_H

#include <sys/stat.h>

#include "../index/index.h"

#define SHM_DIR "/dev/shm"

struct shm_entry {
	char *path; /* absolute */
	struct stat st;
	enum shm_kind {
		SHM_DATA,
		SHM_SHARED, /* by its name memory shared by running programs, which changes without a trace */
		SHM_OTHERS, /* ... of programs that are no part of any step */
	} kind;
};
struct shm {
	struct shm_entry *v; /* sorted by path */
	size_t n;
	bool too_many;
	int64_t at; /* when the look began: CLOCK_REALTIME_COARSE, ns, as files are dated */
};
/* What of it this user can read, but for what matches a glob; deep: below its directories, too. Trouble is an empty
 * directory's look. */
void shm_look(const char *dir, char *const *ignore, size_t n_ignore, bool deep, struct shm *ret);
void shm_free(struct shm *s);
#define auto_shm __attribute__((cleanup(shm_free)))
/* Does it matter whether the step went there? */
bool shm_matters(const struct shm *before, const struct shm *after);
/* Not touched since then? */
bool shm_is_old(const struct shm_entry *x, int64_t at);
/* Why a step that went there, found `before` (not deep) and left `after` (deep) must not be stored, or NULL; malloc'ed. What a process
 * that is still running has open or mapped is that process' own: no process of the step is left. */
char *shm_compare(const struct shm *before, const struct shm *after);

#endif
