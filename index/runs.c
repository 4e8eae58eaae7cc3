/* SPDX-License-Identifier: MIT */
/*
 * runs.c - one record a run, appended to dir/index/runs; when that is long it becomes runs.1.
 *
 * Not in LMDB, because every run adds one, and a run must neither wait for a writer nor for the
 * disk. A record is one write to a file opened for appending, which the kernel keeps apart from
 * those of others; one that is torn by a full disk or a power cut is skipped.
 *
 * record: "RUN1", length of payload (u32), XXH3-64 of payload (u64), payload
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "idx.h"
#include "record.h"

#define LOG		"index/runs"
#define OLD_LOG		"index/runs.1"
#define MAX_LOG		(16 << 20)
#define MAGIC		"RUN1"
#define HEAD_SIZE	16
#define MAX_TEXT	4096 /* of one field: it is for people */
#define PAYLOAD_VERSION 1

/* ---- bytes ---- */

static void put_text(struct buf *out, const char *s)
{
	auto_free char *cut = s ? xstrndup(s, MAX_TEXT) : NULL;

	put_opt_str(out, cut);
}

static void run_encode(const struct run *r, struct buf *out)
{
	buf_u8(out, PAYLOAD_VERSION);
	buf_u64(out, (uint64_t)r->started_ns);
	buf_u64(out, (uint64_t)r->wall_ns);
	buf_u64(out, (uint64_t)r->saved_ns);
	put_text(out, r->name);
	put_text(out, r->reason);
	put_text(out, r->argv_text);
	buf_u8(out, r->result);
	buf_u8(out, r->stored);
	buf_varint(out, (uint64_t)(r->exit_status & 0xff));
	buf_add(out, r->step_key.b, sizeof(r->step_key.b));
	buf_add(out, r->input_key.b, sizeof(r->input_key.b));
}

static void run_clear(struct run *r)
{
	free(r->name);
	free(r->reason);
	free(r->argv_text);
	*r = (struct run){0};
}

static int run_decode(const uint8_t *p, size_t n, struct run *ret)
{
	struct cur c = {p, p + n, false};
	struct run r = {0};

	if (cur_u8(&c) != PAYLOAD_VERSION)
		return -EBADMSG;
	r.started_ns = (int64_t)cur_u64(&c);
	r.wall_ns = (int64_t)cur_u64(&c);
	r.saved_ns = (int64_t)cur_u64(&c);
	r.name = get_opt_str(&c);
	r.reason = get_opt_str(&c);
	r.argv_text = get_opt_str(&c);
	r.result = cur_u8(&c);
	r.stored = cur_u8(&c) != 0;
	r.exit_status = (int)cur_varint(&c) & 0xff;
	get_raw(&c, r.step_key.b, sizeof(r.step_key.b));
	get_raw(&c, r.input_key.b, sizeof(r.input_key.b));
	if (c.bad) {
		run_clear(&r);
		return -EBADMSG;
	}
	*ret = r;
	return 0;
}

/* ---- adding ---- */

/* The lock is on the file that is moved, and looked at again when held: one of many does it,
 * once. */
static void rotate(struct idx *x, int fd)
{
	struct stat held, named;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (fstat(fd, &held) == 0 && fstatat(x->dirfd, LOG, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    held.st_ino == named.st_ino && renameat(x->dirfd, LOG, x->dirfd, OLD_LOG) < 0)
		log_debug("cannot rename %s/" LOG, x->dir); /* it grows on, until the next try */
}

int idx_run_add(struct idx *x, const struct run *r, struct err *e)
{
	auto_buf struct buf payload = {0}, b = {0};
	auto_close int fd = -1;
	struct stat st;
	ssize_t n;

	if (x->read_only)
		return 0;
	fd = openat(x->dirfd, LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, errno, "cannot open %s/" LOG, x->dir);
	run_encode(r, &payload);
	buf_add(&b, MAGIC, 4);
	buf_u32(&b, (uint32_t)payload.len);
	buf_u64(&b, xxh64_of(payload.data, payload.len));
	buf_add(&b, payload.data, payload.len);
	n = write_all(fd, b.data, b.len);
	if (n < 0)
		return err_set(e, (int)n, "cannot write %s/" LOG, x->dir);
	if (fstat(fd, &st) == 0 && st.st_size > MAX_LOG)
		rotate(x, fd);
	return 0;
}

/* ---- reading ---- */

size_t runs_record_at(const uint8_t *p, size_t left)
{
	struct cur c = {p + 4, p + left, false};
	uint32_t n;
	uint64_t guard;

	if (left < HEAD_SIZE || memcmp(p, MAGIC, 4) != 0)
		return 0;
	n = cur_u32(&c);
	guard = cur_u64(&c);
	if (n > left - HEAD_SIZE || xxh64_of(p + HEAD_SIZE, n) != guard)
		return 0;
	return HEAD_SIZE + n;
}

struct span {
	size_t at, n;
};

static struct span *find_records(const uint8_t *p, size_t n, size_t *ret_n)
{
	struct span *v = NULL;
	size_t count = 0, cap = 0;

	for (size_t at = 0; at < n;) {
		size_t len = runs_record_at(p + at, n - at);

		if (!len) {
			const uint8_t *next = memchr(p + at + 1, MAGIC[0], n - at - 1);

			at = next ? (size_t)(next - p) : n;
			continue;
		}
		if (count == cap) {
			cap = cap ? cap * 2 : 256;
			v = xrealloc(v, cap * sizeof(*v));
		}
		v[count++] = (struct span){at + HEAD_SIZE, len - HEAD_SIZE};
		at += len;
	}
	*ret_n = count;
	return v;
}

static int read_log(struct idx *x, const char *name, struct buf *ret, struct err *e)
{
	auto_close int fd = openat(x->dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_set(e, errno, "cannot open %s/%s", x->dir, name);
	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot look at %s/%s", x->dir, name);
	buf_reserve(ret, (size_t)st.st_size + 1);
	n = read_full(fd, ret->data, (size_t)st.st_size);
	if (n < 0)
		return err_set(e, (int)n, "cannot read %s/%s", x->dir, name);
	ret->len = (size_t)n;
	return 0;
}

static int each_backwards(const struct buf *b, int (*fn)(void *arg, const struct run *r), void *arg)
{
	size_t n;
	auto_free struct span *v = find_records(b->data, b->len, &n);
	int r = 0;

	while (r == 0 && n--) {
		struct run run;

		if (run_decode(b->data + v[n].at, v[n].n, &run) < 0)
			continue; /* of a later version */
		r = fn(arg, &run);
		run_clear(&run);
	}
	return r;
}

int idx_runs(struct idx *x, int (*fn)(void *arg, const struct run *r), void *arg, struct err *e)
{
	auto_buf struct buf new = {0}, old = {0};
	int r = read_log(x, LOG, &new, e);

	if (r == 0)
		r = each_backwards(&new, fn, arg);
	if (r == 0)
		r = read_log(x, OLD_LOG, &old, e);
	return r == 0 ? each_backwards(&old, fn, arg) : r;
}
