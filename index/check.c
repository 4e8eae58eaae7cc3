/* SPDX-License-Identifier: MIT */
/*
 * check.c - read LMDB's file with pread and see that nothing in it could lead LMDB astray.
 *
 * The layout is that of LMDB 0.9's data version 1 (mdb.c: MDB_page, MDB_node, MDB_meta, MDB_db) on
 * 64-bit little-endian machines. Nothing is written but the stamp file. Wrong order of keys is not
 * looked for: it hides records, which is a miss, and cannot crash.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "pages.h"

#define STAMP_NAME "checked"

struct walk {
	int fd;
	uint32_t page_size;
	uint64_t last_page;
	uint8_t *seen;	     /* a bit a page: reached, or free */
	uint64_t last_freed; /* the greatest transaction that the free list has pages of */
	struct err *e;
	void (*pages)(void *arg, uint64_t done,
		      uint64_t all); /* as check_walk's, and its argument */
	void *arg;
	uint64_t n_read;
};

static int damaged(struct err *e, const char *what, uint64_t page)
{
	return err_text(e, EUCLEAN, "%s, page %llu", what, (unsigned long long)page);
}

/* ---- meta pages ---- */

static int read_meta(int fd, off_t at, unsigned which, struct meta *ret, struct err *e)
{
	struct {
		struct page page;
		struct meta meta;
	} m;
	ssize_t n = pread_full(fd, &m, sizeof(m), at);

	if (n < 0)
		return err_set(e, (int)n, "cannot read data.mdb");
	if ((size_t)n < sizeof(m))
		return damaged(e, "it is cut short", which);
	if (!(m.page.flags & P_META) || m.meta.magic != 0xbeefc0de || m.meta.version != 1)
		return damaged(e, "not an LMDB file", which);
	if (m.meta.txnid && (m.meta.txnid & 1) != which)
		return damaged(e, "wrong transaction number", which);
	if (m.meta.last_page < 1 || m.meta.last_page >= (UINT64_C(1) << 47) ||
	    m.meta.map_size > MAX_MAP || m.meta.last_page >= m.meta.map_size / 512 ||
	    m.meta.free.depth > MAX_DEPTH || m.meta.main.depth > MAX_DEPTH ||
	    (m.meta.free.flags & ORDER_FLAGS) != F_INTEGERKEY || (m.meta.main.flags & ORDER_FLAGS))
		return damaged(e, "wrong meta page", which);
	*ret = m.meta;
	return 0;
}

static bool root_fits(const struct tree *t, const struct meta *m)
{
	return t->root == NO_PAGE || (t->root > 1 && t->root <= m->last_page);
}

/* The newer of both, which must agree with each other. */
static int read_metas(int fd, struct meta *ret, struct err *e)
{
	struct meta a, b;
	uint32_t size;
	int r = read_meta(fd, 0, 0, &a, e);

	if (r < 0)
		return r;
	size = a.free.pad;
	if (size < 512 || size > MAX_PAGE || (size & (size - 1)))
		return damaged(e, "wrong page size", 0);
	r = read_meta(fd, size, 1, &b, e);
	if (r < 0)
		return r;
	if (a.last_page >= a.map_size / size || b.last_page >= b.map_size / size)
		return damaged(e, "wrong meta page", 0);
	if (b.free.pad != size || a.txnid > b.txnid + 1 || b.txnid > a.txnid + 1)
		return damaged(e, "the meta pages disagree", 1);
	*ret = a.txnid < b.txnid ? b : a;
	if (!root_fits(&ret->free, ret) || !root_fits(&ret->main, ret))
		return damaged(e, "wrong root", ret->txnid & 1);
	return 0;
}

/* A writer may be between its two pages: then a moment later they agree. */
static int read_metas_settled(int fd, struct meta *ret, struct err *e)
{
	static const struct timespec moment = {.tv_nsec = 2000000};
	int r = -EUCLEAN;

	for (int tries = 0; tries < 4 && r == -EUCLEAN; tries++) {
		if (tries)
			(void)nanosleep(&moment, NULL); /* an early end does no harm */
		r = read_metas(fd, ret, e);
	}
	return r;
}

/* ---- trees ---- */

/* Note that page no is used, once. */
static int claim(struct walk *w, uint64_t no)
{
	if (no < 2 || no > w->last_page)
		return damaged(w->e, "a page number beyond the end", no);
	if (w->seen[no / 8] & (1u << no % 8))
		return damaged(w->e, "a page used twice", no);
	w->seen[no / 8] |= (uint8_t)(1u << no % 8);
	return 0;
}

static int claim_overflow(struct walk *w, uint64_t no, uint64_t data_size)
{
	uint64_t need = (sizeof(struct page) - 1 + data_size) / w->page_size + 1;
	struct page p;
	ssize_t n;

	if (no > w->last_page)
		return damaged(w->e, "a page number beyond the end", no);
	n = pread_full(w->fd, &p, sizeof(p), (off_t)(no * w->page_size));
	if (n < 0)
		return err_set(w->e, (int)n, "cannot read data.mdb");
	if ((size_t)n < sizeof(p) || p.no != no || p.flags != P_OVERFLOW || p.pages < need ||
	    p.pages > w->last_page - no + 1)
		return damaged(w->e, "wrong overflow page", no);
	for (uint64_t i = 0; i < p.pages; i++) {
		int r = claim(w, no + i);

		if (r < 0)
			return r;
	}
	return 0;
}

static int read_page(struct walk *w, uint64_t no, uint8_t *buf)
{
	struct page p;
	ssize_t n;
	int r = claim(w, no);

	if (r < 0)
		return r;
	if (w->pages)
		w->pages(w->arg, ++w->n_read, w->last_page + 1);
	n = pread_full(w->fd, buf, w->page_size, (off_t)(no * w->page_size));
	if (n < 0)
		return err_set(w->e, (int)n, "cannot read data.mdb");
	if (n < (ssize_t)w->page_size)
		return damaged(w->e, "it is cut short", no);
	memcpy(&p, buf, sizeof(p));
	if (p.no != no || (p.flags != P_BRANCH && p.flags != P_LEAF) || p.lower <= sizeof(p) ||
	    p.lower > p.upper || p.upper > w->page_size || p.lower % 2)
		return damaged(w->e, "wrong page header", no);
	return 0;
}

/* Where node i of the page lies; 0 when its header or key leaves the page. */
static size_t node_at(const struct walk *w, const uint8_t *buf, size_t i, struct node *ret)
{
	struct page p;
	uint16_t at;

	memcpy(&p, buf, sizeof(p));
	memcpy(&at, buf + sizeof(p) + 2 * i, sizeof(at));
	if (at < p.upper || at + sizeof(*ret) > w->page_size)
		return 0;
	memcpy(ret, buf + at, sizeof(*ret));
	return at + sizeof(*ret) + ret->key_size <= w->page_size ? at : 0;
}

static int walk_tree(struct walk *w, const struct tree *t, bool holds_trees, bool holds_free);

/* A record of the free list, under the transaction that freed them: a count and so many page numbers, none of them in
 * use. */
static int claim_free(struct walk *w, uint64_t page, uint64_t txnid, const uint8_t *data, size_t n)
{
	uint64_t count, no;

	if (txnid <= w->last_freed || n < 8)
		return damaged(w->e, "wrong free list", page);
	w->last_freed = txnid;
	memcpy(&count, data, 8);
	if (count > n / 8 - 1)
		return damaged(w->e, "wrong free list", page);
	for (uint64_t i = 1; i <= count; i++) {
		int r;

		memcpy(&no, data + 8 * i, 8);
		r = claim(w, no);
		if (r < 0)
			return r;
	}
	return 0;
}

static int walk_big(struct walk *w, uint64_t page, uint64_t first, uint64_t size, bool holds_free,
		    uint64_t txnid)
{
	auto_free uint8_t *data = NULL;
	ssize_t n;
	int r = claim_overflow(w, first, size);

	if (r < 0 || !holds_free)
		return r;
	data = malloc(size);
	if (!data)
		return err_set(w->e, ENOMEM, "cannot check data.mdb");
	n = pread_full(w->fd, data, size, (off_t)(first * w->page_size + sizeof(struct page)));
	if (n < 0 || (size_t)n < size)
		return damaged(w->e, "it is cut short", first);
	return claim_free(w, page, txnid, data, size);
}

static int walk_leaf(struct walk *w, uint64_t no, const uint8_t *buf, size_t i, bool holds_trees,
		     bool holds_free)
{
	struct node node;
	struct tree sub;
	size_t at = node_at(w, buf, i, &node), data = at + sizeof(node) + node.key_size;
	uint32_t size = node.lo | (uint32_t)node.hi << 16;
	bool big = node.flags == F_BIGDATA;
	uint64_t first, txnid = 0;

	if (!at || data + (big ? 8 : size) > w->page_size || (holds_free && node.key_size != 8))
		return damaged(w->e, "wrong record", no);
	if (holds_free)
		memcpy(&txnid, buf + at + sizeof(node), 8);
	if (big) {
		memcpy(&first, buf + data, 8);
		return walk_big(w, no, first, size, holds_free, txnid);
	}
	if (holds_trees) {
		if (node.flags != F_SUBDATA || size != sizeof(sub))
			return damaged(w->e, "wrong record", no);
		memcpy(&sub, buf + data, sizeof(sub));
		if (sub.flags)
			return damaged(w->e, "wrong tree", no);
		return walk_tree(w, &sub, false, false);
	}
	if (node.flags)
		return damaged(w->e, "wrong record", no);
	return holds_free ? claim_free(w, no, txnid, buf + data, size) : 0;
}

static int by_offset(const void *a, const void *b)
{
	uint16_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* The nodes lie side by side from `upper` to the end of the page. LMDB moves them by their sizes: a wrong one would
 * ruin the others with the next change. */
static int check_nodes(const struct walk *w, uint64_t no, const uint8_t *buf, bool leaf)
{
	struct page p;
	size_t at, n;
	uint16_t *order;
	auto_free void *owned = NULL;

	memcpy(&p, buf, sizeof(p));
	n = (p.lower - sizeof(p)) / sizeof(*order);
	order = owned = malloc(n * sizeof(*order));
	if (!order)
		return err_set(w->e, ENOMEM, "cannot check data.mdb");
	memcpy(order, buf + sizeof(p), n * sizeof(*order));
	qsort(order, n, sizeof(*order), by_offset);
	at = p.upper;
	for (size_t i = 0; i < n; i++) {
		struct node node;
		size_t size = sizeof(node);

		if (order[i] != at || at + sizeof(node) > w->page_size)
			return damaged(w->e, "wrong record", no);
		memcpy(&node, buf + at, sizeof(node));
		size += node.key_size;
		if (leaf)
			size += node.flags & F_BIGDATA ? 8 : node.lo | (size_t)node.hi << 16;
		at += (size + 1) & ~(size_t)1;
	}
	return at == w->page_size ? 0 : damaged(w->e, "wrong record", no);
}

static int walk_page(struct walk *w, uint64_t no, unsigned levels, bool holds_trees,
		     bool holds_free)
{
	auto_free uint8_t *buf = malloc(w->page_size);
	struct page p;
	int r;

	if (!buf)
		return err_set(w->e, ENOMEM, "cannot check data.mdb");
	r = read_page(w, no, buf);
	if (r < 0)
		return r;
	memcpy(&p, buf, sizeof(p));
	if ((p.flags == P_LEAF) != (levels == 1))
		return damaged(w->e, "wrong depth", no);
	r = check_nodes(w, no, buf, levels == 1);
	for (size_t i = 0; r == 0 && i < (p.lower - sizeof(p)) / 2; i++) {
		struct node node;

		if (levels == 1)
			r = walk_leaf(w, no, buf, i, holds_trees, holds_free);
		else if (!node_at(w, buf, i, &node))
			r = damaged(w->e, "wrong record", no);
		else
			r = walk_page(
				w, node.lo | (uint64_t)node.hi << 16 | (uint64_t)node.flags << 32,
				levels - 1, holds_trees, holds_free);
	}
	return r;
}

static int walk_tree(struct walk *w, const struct tree *t, bool holds_trees, bool holds_free)
{
	if (t->root == NO_PAGE)
		return t->depth ? damaged(w->e, "wrong depth", 0) : 0;
	if (t->depth == 0 || t->depth > MAX_DEPTH)
		return damaged(w->e, "wrong depth", t->root);
	return walk_page(w, t->root, t->depth, holds_trees, holds_free);
}

/* Each transaction but the first replaces pages, and notes under its number which: a meta page of another number is not
 * that transaction's. Else a flipped bit could make the one before the last the last. Of the other meta page nothing
 * can be said: LMDB leaves it so when it could not write to it. */
static bool is_its_own(const struct walk *w, const struct meta *m)
{
	return w->last_freed ? w->last_freed == m->txnid : m->txnid <= 1;
}

/* One look at the tree as it was at m. */
static int walk_snapshot(int fd, const struct meta *m,
			 void (*pages)(void *arg, uint64_t done, uint64_t all), void *arg,
			 struct err *e)
{
	auto_free uint8_t *seen = calloc(1, m->last_page / 8 + 1);
	struct walk w = {fd, m->free.pad, m->last_page, seen, 0, e, pages, arg, 0};
	int r;

	if (!seen)
		return err_set(e, ENOMEM, "cannot check data.mdb");
	r = walk_tree(&w, &m->main, true, false);
	if (r == 0)
		r = walk_tree(&w, &m->free, false, true);
	if (r == 0 && !is_its_own(&w, m))
		r = damaged(e, "wrong transaction number", m->txnid & 1);
	return r;
}

int check_walk(int data_fd, void (*pages)(void *arg, uint64_t done, uint64_t all), void *arg,
	       struct err *e)
{
	struct meta m, after;
	int r;

	/* No reader's slot holds this snapshot: a busy writer may reuse its pages under us. Then
	 * look again. */
	for (int tries = 0; tries < 4; tries++) {
		r = read_metas_settled(data_fd, &m, e);
		if (r < 0)
			return r;
		r = walk_snapshot(data_fd, &m, pages, arg, e);
		if (r != -EUCLEAN)
			return r;
		if (read_metas_settled(data_fd, &after, e) == 0 && after.txnid == m.txnid)
			return walk_snapshot(data_fd, &m, pages, arg, e);
	}
	return 0; /* someone writes all the time, so LMDB is well */
}

/* ---- was it changed behind LMDB's back? ---- */

#define STAMP_SIZE 40

static void stamp_of(const struct stat *st, uint64_t txnid, struct buf *out)
{
	buf_u64(out, txnid);
	buf_u64(out, st->st_ino);
	buf_u64(out, (uint64_t)st->st_size);
	buf_u64(out, (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec);
	buf_u64(out, xxh64_of(out->data, out->len));
}

void check_stamp(int index_fd, uint64_t txnid)
{
	auto_close int data = openat(index_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	auto_close int fd = openat(index_fd, STAMP_NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	auto_buf struct buf b = {0};
	struct stat st;

	if (fd < 0 || data < 0 || fstat(data, &st) < 0)
		return;
	stamp_of(&st, txnid, &b);
	if (pwrite(fd, b.data, b.len, 0) != (ssize_t)b.len)
		log_debug("cannot write the index's stamp"); /* costs a walk at the next opening */
}

void check_distrust(int index_fd)
{
	(void)unlinkat(index_fd, STAMP_NAME, 0); /* there may be none */
}

bool check_stamp_whole(int dirfd_)
{
	auto_close int fd = openat(dirfd_, "index/" STAMP_NAME, O_RDONLY | O_CLOEXEC);
	uint8_t b[STAMP_SIZE + 1];
	struct cur c = {b + STAMP_SIZE - 8, b + STAMP_SIZE, false};

	return (fd < 0 && errno == ENOENT) ||
	       (fd >= 0 && pread_full(fd, b, sizeof(b), 0) == STAMP_SIZE &&
		cur_u64(&c) == xxh64_of(b, STAMP_SIZE - 8));
}

/* False: there is none, or it is damaged. */
static bool read_stamp(int index_fd, uint8_t ret[STAMP_SIZE], uint64_t *ret_txnid)
{
	auto_close int fd = openat(index_fd, STAMP_NAME, O_RDONLY | O_CLOEXEC);
	struct cur c = {ret, ret + STAMP_SIZE, false};

	if (fd < 0 || pread_full(fd, ret, STAMP_SIZE, 0) != STAMP_SIZE)
		return false;
	*ret_txnid = cur_u64(&c);
	c.p = ret + STAMP_SIZE - 8;
	return cur_u64(&c) == xxh64_of(ret, STAMP_SIZE - 8);
}

bool check_went_back(int index_fd, uint64_t *ret_was, uint64_t *ret_is)
{
	auto_close int data = openat(index_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	uint8_t was[STAMP_SIZE];
	struct cur c = {was + 8, was + STAMP_SIZE, false};
	struct meta m;
	struct err e;
	struct stat st;

	/* The stamp first: what is written meanwhile comes after it. */
	if (data < 0 || fstat(data, &st) < 0 || !read_stamp(index_fd, was, ret_was) ||
	    read_metas_settled(data, &m, &e) < 0)
		return false;
	*ret_is = m.txnid;
	return cur_u64(&c) == st.st_ino && *ret_is < *ret_was; /* else it is of another file */
}

/* Does the stamp vouch for the file as it is? Newer transactions are LMDB's own work. */
static bool stamp_vouches(int index_fd, const struct stat *st, uint64_t txnid)
{
	auto_buf struct buf now = {0};
	uint8_t was[STAMP_SIZE];
	uint64_t was_txnid;

	if (!read_stamp(index_fd, was, &was_txnid))
		return false;
	stamp_of(st, txnid, &now);
	if (memcmp(was + 8, now.data + 8, 8) != 0)
		return false; /* another file */
	return was_txnid < txnid || memcmp(was, now.data, STAMP_SIZE) == 0;
}

int check_data(int index_fd, bool may_write, uint64_t *ret_bytes, struct err *e)
{
	auto_close int fd = openat(index_fd, "data.mdb", O_RDONLY | O_CLOEXEC);
	struct meta m;
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT) {
		*ret_bytes = 0;
		return 0;
	}
	if (fd < 0)
		return err_set(e, errno, "cannot open data.mdb");
	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot look at data.mdb");
	if (!S_ISREG(st.st_mode))
		return err_text(e, EUCLEAN, "data.mdb is not a file");
	*ret_bytes = (uint64_t)st.st_size;
	if (st.st_size == 0)
		return 0; /* LMDB starts anew */
	r = read_metas_settled(fd, &m, e);
	if (r < 0)
		return r;
	/* A short file is not always a damaged one: LMDB leaves out a last page that nothing refers
	 * to. */
	if (stamp_vouches(index_fd, &st, m.txnid) &&
	    (uint64_t)st.st_size / m.free.pad > m.last_page)
		return 0;
	r = check_walk(fd, NULL, NULL, e);
	if (r == 0 && may_write)
		check_stamp(index_fd, m.txnid);
	return r;
}
