/* SPDX-License-Identifier: MIT */
/*
 * stamps.c - for a step key the last hit found by looking at everything, and one hash over what
 * lstat said of each path it depended on.
 *
 * A file of fixed size (sparse) beside LMDB: a slot is chosen by the step key, and a newer step takes
 * an older one's. So a hit neither waits for LMDB's writer lock nor for the disk, and nothing needs
 * collecting. Not fsync'ed and not locked: a slot that is torn or damaged fails its guard and is no
 * stamp.
 *
 * slot, 128 bytes: step key, options, path set id, input key, world (16 each), zeros, u64 XXH3-64 of what
 * precedes
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "idx.h"

#define FILE_NAME "index/stamps"
#define SLOTS	  UINT64_C(65536)
#define SLOT_SIZE STAMP_SLOT_SIZE
#define FP_SIZE	  16

bool stamps_slot_whole(const uint8_t *b)
{
	struct cur guard = {b + SLOT_SIZE - 8, b + SLOT_SIZE, false};

	return cur_u64(&guard) == xxh64_of(b, SLOT_SIZE - 8);
}

static off_t slot_of(const struct fp *step_key)
{
	return (off_t)(xxh64_of(step_key->b, FP_SIZE) % SLOTS) * SLOT_SIZE;
}

int idx_stamp_get(struct idx *x, const struct fp *step_key, struct stamp *ret)
{
	auto_close int fd = openat(x->dirfd, FILE_NAME, O_RDONLY | O_CLOEXEC);
	uint8_t b[SLOT_SIZE];

	if (fd < 0 || pread_full(fd, b, sizeof(b), slot_of(step_key)) != (ssize_t)sizeof(b))
		return 0;
	if (memcmp(b, step_key->b, FP_SIZE) != 0 || !stamps_slot_whole(b))
		return 0;
	memcpy(ret->options.b, b + FP_SIZE, FP_SIZE);
	memcpy(ret->path_set_id.b, b + 2 * FP_SIZE, FP_SIZE);
	memcpy(ret->input_key.b, b + 3 * FP_SIZE, FP_SIZE);
	memcpy(ret->world.b, b + 4 * FP_SIZE, FP_SIZE);
	return 1;
}

int idx_stamp_put(struct idx *x, const struct fp *step_key, const struct stamp *s, struct err *e)
{
	static const uint8_t zeros[SLOT_SIZE];
	auto_close int fd = -1;
	auto_buf struct buf b = {0};
	ssize_t n;

	if (x->read_only)
		return 0;
	fd = openat(x->dirfd, FILE_NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, errno, "cannot open %s/" FILE_NAME, x->dir);
	buf_add(&b, step_key->b, FP_SIZE);
	buf_add(&b, s->options.b, FP_SIZE);
	buf_add(&b, s->path_set_id.b, FP_SIZE);
	buf_add(&b, s->input_key.b, FP_SIZE);
	buf_add(&b, s->world.b, FP_SIZE);
	buf_add(&b, zeros, SLOT_SIZE - 8 - b.len);
	buf_u64(&b, xxh64_of(b.data, b.len));
	do
		n = pwrite(fd, b.data, b.len, slot_of(step_key));
	while (n < 0 && errno == EINTR);
	if (n != SLOT_SIZE)
		return err_set(e, n < 0 ? errno : ENOSPC, "cannot write %s/" FILE_NAME, x->dir);
	return 0;
}
