/* SPDX-License-Identifier: MIT */
/* store.h - private to index/: objects in the making. */
#ifndef MLFS_INDEX_STORE_H
#define MLFS_INDEX_STORE_H

#include "idx.h"

/* A file under dir/tmp, removed unless it was committed. */
struct temp {
	struct idx *x;
	int fd; /* -1: none */
	char name[TEMP_NAME_SIZE];
};
int temp_open(struct idx *x, struct temp *t, struct err *e) must_check;
/* Its bytes are those of oid, `size` of them: it becomes the object, unless that is there. */
int temp_commit(struct temp *t, const struct oid *oid, uint64_t size, struct err *e) must_check;
/* After temp_commit: until the machine is started again the object need not be compared with its name, as long as nobody
 * changes its file. */
void temp_remember(const struct temp *t, const struct oid *oid);
void temp_close(struct temp *t);
#define auto_temp __attribute__((cleanup(temp_close)))

#endif
