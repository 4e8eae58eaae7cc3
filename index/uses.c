/* SPDX-License-Identifier: MIT */
/*
 * uses.c - hits, noted in a journal (dir/index/uses) and moved into LMDB by the next writer.
 *
 * A hit must not wait for LMDB's writer lock nor for the disk, so it only appends 64 bytes here.
 * Losing some costs a little of the order in which path sets are tried and results are given up,
 * nothing else. Hence no fsync, and a record that is torn or damaged is skipped.
 *
 * record: step key (16), path set id (16), input key (16), when (u64), XXH3-64 of what precedes
 * (u64)
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "refs.h"

#define JOURNAL	    "index/uses"
#define RECORD_SIZE 64
#define MAX_JOURNAL (64 << 10)

/* ---- moving them ---- */

void uses_take(struct idx *x, struct buf *ret)
{
	char name[TEMP_NAME_SIZE];
	auto_close int fd = -1;
	struct stat st;
	ssize_t n;

	idx_temp_name(x, name);
	if (renameat(x->dirfd, JOURNAL, x->dirfd, name) < 0)
		return; /* none, most often */
	fd = openat(x->dirfd, name, O_RDONLY | O_CLOEXEC);
	if (unlinkat(x->dirfd, name, 0) < 0)
		log_debug("cannot remove %s/%s", x->dir, name); /* it is cleaned up later */
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > 64 * MAX_JOURNAL)
		return;
	buf_reserve(ret, (size_t)st.st_size + 1);
	n = read_full(fd, ret->data, (size_t)st.st_size);
	if (n > 0)
		ret->len = (size_t)n;
}

static int apply_one(const uint8_t *p, struct kv_txn *t, struct err *e)
{
	struct fp step_key, id, input_key;
	struct kv_val v;
	struct cur c;
	int r;

	memcpy(step_key.b, p, 16);
	memcpy(id.b, p + 16, 16);
	memcpy(input_key.b, p + 32, 16);
	r = kv_get(t, TAB_RESULT, input_key.b, sizeof(input_key.b), &v, e);
	if (r <= 0)
		return r; /* dropped since */
	r = step_promote(t, &step_key, &id, false, e);
	if (r < 0)
		return r;
	c = (struct cur){p + 48, p + 56, false};
	return used_set(t, input_key.b, cur_u64(&c), e);
}

size_t uses_record_at(const uint8_t *p, size_t left)
{
	struct cur c = {p + RECORD_SIZE - 8, p + RECORD_SIZE, false};

	return left >= RECORD_SIZE && cur_u64(&c) == xxh64_of(p, RECORD_SIZE - 8) ? RECORD_SIZE : 0;
}

int uses_apply(const struct buf *taken, struct kv_txn *t, struct err *e)
{
	const uint8_t *p = taken->data;
	size_t left = taken->len;

	while (left >= RECORD_SIZE) {
		size_t step = uses_record_at(p, left);
		int r = 0;

		if (step)
			r = apply_one(p, t, e);
		else
			step = 1; /* after a torn one the others are no longer in step */
		if (r < 0)
			return r;
		p += step;
		left -= step;
	}
	return 0;
}

static int apply_in(void *arg, struct kv_txn *t, struct err *e)
{
	return uses_apply(arg, t, e);
}

int uses_move(struct idx *x, struct err *e)
{
	auto_buf struct buf taken = {0};

	uses_take(x, &taken);
	return taken.len ? kv_write(x->kv, apply_in, &taken, e) : 0;
}

/* ---- noting them ---- */

int uses_add(struct idx *x, const struct result *r, struct err *e)
{
	auto_close int fd =
		openat(x->dirfd, JOURNAL, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	auto_buf struct buf b = {0};
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return err_set(e, errno, "cannot open %s/" JOURNAL, x->dir);
	buf_add(&b, r->step_key.b, sizeof(r->step_key.b));
	buf_add(&b, r->path_set_id.b, sizeof(r->path_set_id.b));
	buf_add(&b, r->input_key.b, sizeof(r->input_key.b));
	buf_u64(&b, (uint64_t)now_ns());
	buf_u64(&b, xxh64_of(b.data, b.len));
	n = write_all(fd, b.data, b.len);
	if (n < 0)
		return err_set(e, (int)n, "cannot write %s/" JOURNAL, x->dir);
	if (fstat(fd, &st) == 0 && st.st_size > MAX_JOURNAL)
		return uses_move(x, e);
	return 0;
}
