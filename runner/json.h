/* SPDX-License-Identifier: MIT */
/*
 * json.h - private to runner/: what programs are told. A writer, not a tree.
 *
 * Text that is not UTF-8 (names of files may be any bytes) has U+FFFD for what is not, and then a second member follows,
 * its name with "_base64" behind: the exact bytes. So the output is JSON for every parser, and nothing is lost.
 */
#ifndef MLFS_JSON_H
#define MLFS_JSON_H

#include "runner.h"

struct json {
	struct buf b;
	FILE *to;	 /* where it goes when there is much of it; NULL: it stays in b */
	unsigned depth;	 /* objects and arrays that are open */
	char closes[16]; /* their ends */
	bool begun;	 /* the innermost has a member */
	bool lines;	 /* JSON Lines: each value at depth 0 is a line */
};

/* name: of the member; NULL in an array and at the outermost. */
void json_object(struct json *j, const char *name);
void json_array(struct json *j, const char *name);
/* Ends the innermost object or array. */
void json_end(struct json *j);
/* NULL: null. */
void json_text(struct json *j, const char *name, const char *text);
void json_bytes(struct json *j, const char *name, const void *p, size_t n);
void json_texts(struct json *j, const char *name, char *const *v, size_t n);
void json_int(struct json *j, const char *name, int64_t v);
void json_uint(struct json *j, const char *name, uint64_t v);
void json_bool(struct json *j, const char *name, bool v);
void json_null(struct json *j, const char *name);
/* With six digits behind the point. */
void json_seconds(struct json *j, const char *name, double v);
/* CLOCK_REALTIME, as RFC 3339. */
void json_time(struct json *j, const char *name, int64_t ns);
/* Bytes in hex; NULL: null. */
void json_hex(struct json *j, const char *name, const void *p, size_t n);
bool is_zero(const void *p, size_t n); /* is every byte 0? So keys are that are none. */
/* Likewise a key; zeros: null. */
void json_key(struct json *j, const char *name, const struct fp *key);
/* What another writer has made. */
void json_raw(struct json *j, const char *name, const struct buf *value);
/* All is written: a newline, and to `to`. Frees the buffer when there is a `to`. */
void json_done(struct json *j);

#endif
