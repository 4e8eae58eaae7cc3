/* SPDX-License-Identifier: MIT */
/*
 * runs_rows.c - of each run of a segment a row of 72 bytes, so that a million of them are looked through in
 * milliseconds; texts that come again and again (names, reasons) are kept once.
 *
 * Rows are made from the segment alone, by whoever closes it or by the next one to look, and can be made again: they are
 * written beside and renamed, and those that are damaged or missing count as not there. What is added to a segment
 * after its rows were made (by a process that had it open) lies behind `covered`.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runs.h"

#define MAGIC	  "MLFSROW1"
#define GUARD_END 16 /* what the guard is of begins here */

_Static_assert(sizeof(struct rows_head) == 64, "part of the format");
_Static_assert(sizeof(struct rows_row) == 72, "part of the format");
_Static_assert(sizeof(struct rows_text) == 16, "part of the format");

/* ---- making ---- */

struct maker {
	struct rows_head head;
	struct buf rows, texts, bytes;
	uint32_t *slots; /* text number + 1, by hash; 0: free */
	size_t n_slots;	 /* a power of two */
	uint32_t n_texts;
};

static void place(struct maker *m, uint64_t hash, uint32_t n)
{
	size_t at = hash & (m->n_slots - 1);

	while (m->slots[at])
		at = (at + 1) & (m->n_slots - 1);
	m->slots[at] = n + 1;
}

static void grow(struct maker *m)
{
	const struct rows_text *v = (const struct rows_text *)m->texts.data;

	free(m->slots);
	m->n_slots = m->n_slots ? m->n_slots * 2 : 256;
	m->slots = xcalloc(m->n_slots, sizeof(*m->slots));
	for (uint32_t i = 0; i < m->n_texts; i++)
		place(m, le64toh(v[i].hash), i);
}

/* The number of a text, which becomes one if it is not yet. */
static uint32_t text_number(struct maker *m, const struct run_text *t)
{
	const struct rows_text *v;
	uint64_t hash;

	if (!t->p)
		return ROWS_NONE;
	hash = xxh64_of(t->p, t->n);
	if (2 * (size_t)m->n_texts >= m->n_slots)
		grow(m);
	v = (const struct rows_text *)m->texts.data;
	for (size_t at = hash & (m->n_slots - 1); m->slots[at]; at = (at + 1) & (m->n_slots - 1)) {
		const struct rows_text *s = &v[m->slots[at] - 1];

		if (le64toh(s->hash) == hash && le32toh(s->n) == t->n &&
		    memcmp(m->bytes.data + le32toh(s->at), t->p, t->n) == 0)
			return m->slots[at] - 1;
	}
	buf_u64(&m->texts, hash);
	buf_u32(&m->texts, (uint32_t)m->bytes.len);
	buf_u32(&m->texts, (uint32_t)t->n);
	buf_add(&m->bytes, t->p, t->n);
	buf_u8(&m->bytes, 0);
	place(m, hash, m->n_texts);
	return m->n_texts++;
}

static void add_row(struct maker *m, const struct run_view *v, uint64_t at)
{
	struct rows_row row = {
		.started_ns = htole64((uint64_t)v->started_ns),
		.wall_ns = htole64((uint64_t)v->wall_ns),
		.saved_ns = htole64((uint64_t)v->saved_ns),
		.bytes = htole64(v->result == RUN_HIT ? v->output_bytes : v->put_bytes),
		.new_bytes = htole64(v->new_bytes),
		.name = htole32(text_number(m, &v->name)),
		.reason = htole32(text_number(m, &v->reason)),
		.at = htole32((uint32_t)at),
		.result = v->result,
		.flags = v->flags,
		.exit_status = v->exit_status,
	};

	memcpy(row.step_key, v->step_key.b, sizeof(row.step_key));
	memcpy(row.input_key, v->input_key.b, sizeof(row.input_key));
	buf_add(&m->rows, &row, sizeof(row));
	if (!m->head.n_rows || v->started_ns < (int64_t)m->head.first_ns)
		m->head.first_ns = (uint64_t)v->started_ns;
	if (!m->head.n_rows || v->started_ns > (int64_t)m->head.last_ns)
		m->head.last_ns = (uint64_t)v->started_ns;
	m->head.n_rows++;
}

static void finish(struct maker *m, struct buf *ret)
{
	struct rows_head *h = &m->head, out = {.covered = htole64(h->covered),
					       .first_ns = htole64(h->first_ns),
					       .last_ns = htole64(h->last_ns),
					       .n_rows = htole32(h->n_rows),
					       .n_texts = htole32(m->n_texts),
					       .text_bytes = htole64(m->bytes.len)};
	size_t begin = ret->len;

	memcpy(out.magic, MAGIC, sizeof(out.magic));
	buf_reserve(ret, sizeof(out) + m->rows.len + m->texts.len + m->bytes.len);
	buf_add(ret, &out, sizeof(out));
	buf_add(ret, m->rows.data, m->rows.len);
	buf_add(ret, m->texts.data, m->texts.len);
	buf_add(ret, m->bytes.data, m->bytes.len);
	out.guard = htole64(xxh64_of(ret->data + begin + GUARD_END, ret->len - begin - GUARD_END));
	memcpy(ret->data + begin, &out, sizeof(out));
	buf_free(&m->rows);
	buf_free(&m->texts);
	buf_free(&m->bytes);
	free(m->slots);
}

void rows_make(const uint8_t *p, size_t n, uint64_t from, struct buf *ret)
{
	struct maker m = {.head = {.covered = from}};

	for (size_t at = 0; at < n && from + at < UINT32_MAX;) {
		size_t len = runs_record_at(p + at, n - at);
		struct run_view v;

		if (!len) {
			at = runs_resync(p, n, at + 1);
			continue;
		}
		if (runs_view(p + at, len, &v))
			add_row(&m, &v, from + at);
		at += len;
		m.head.covered = from + at;
	}
	finish(&m, ret);
}

/* ---- reading ---- */

static size_t size_of(const struct rows_head *h)
{
	return sizeof(*h) + (size_t)le32toh(h->n_rows) * sizeof(struct rows_row) +
	       (size_t)le32toh(h->n_texts) * sizeof(struct rows_text);
}

bool rows_whole(const void *p, size_t n)
{
	const struct rows_head *h = p;
	uint64_t bytes;

	if (n < sizeof(*h) || memcmp(h->magic, MAGIC, sizeof(h->magic)) != 0)
		return false;
	bytes = le64toh(h->text_bytes);
	return size_of(h) <= n && bytes == n - size_of(h) &&
	       (!bytes || ((const char *)p)[n - 1] == '\0') && !h->zero &&
	       xxh64_of((const char *)p + GUARD_END, n - GUARD_END) == le64toh(h->guard);
}

const struct rows_row *rows_first(const struct rows_head *h)
{
	return (const struct rows_row *)(h + 1);
}

const char *rows_text(const struct rows_head *h, uint32_t n, uint64_t *ret_hash)
{
	const struct rows_text *v = (const struct rows_text *)(rows_first(h) + le32toh(h->n_rows));
	uint32_t n_texts = le32toh(h->n_texts);

	if (n >= n_texts || le32toh(v[n].at) >= le64toh(h->text_bytes))
		return NULL;
	if (ret_hash)
		*ret_hash = le64toh(v[n].hash);
	return (const char *)(v + n_texts) + le32toh(v[n].at);
}

/* ---- keeping ---- */

static int write_beside(struct idx *x, const char *name, const struct buf *rows)
{
	char temp[TEMP_NAME_SIZE];
	auto_close int fd = -1;
	int r;

	idx_temp_name(x, temp);
	fd = openat(x->dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = (int)write_all(fd, rows->data, rows->len);
	if (r >= 0 && renameat(x->dirfd, temp, x->dirfd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(x->dirfd, temp, 0); /* else a stale one is cleaned up later */
	return r < 0 ? r : 0;
}

int rows_write(struct idx *x, unsigned segment, bool anew, struct err *e)
{
	char from[RUNS_NAME_SIZE], to[RUNS_NAME_SIZE];
	auto_buf struct buf bytes = {0}, rows = {0};
	auto_close int fd = -1;
	struct stat st;
	ssize_t n;
	int r;

	runs_segment_name(from, RUNS_SEGMENT, segment);
	runs_segment_name(to, RUNS_ROWS, segment);
	if (!anew && fstatat(x->dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	fd = openat(x->dirfd, from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot open %s/%s", x->dir, from);
	buf_reserve(&bytes, (size_t)st.st_size + 1);
	n = read_full(fd, bytes.data, (size_t)st.st_size);
	if (n < 0)
		return err_set(e, (int)n, "cannot read %s/%s", x->dir, from);
	rows_make(bytes.data, (size_t)n, 0, &rows);
	r = write_beside(x, to, &rows);
	return r < 0 ? err_set(e, r, "cannot write %s/%s", x->dir, to) : 0;
}
