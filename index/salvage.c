/* SPDX-License-Identifier: MIT */
/*
 * salvage.c - the records that can still be reached in a damaged data.mdb.
 *
 * The trees of the newest meta page that makes sense are walked, and whatever does not make sense is passed over:
 * a page with a wrong header, a node that leaves its page. Whether a record is whole its guard tells the caller.
 */
#include <errno.h>
#include <string.h>

#include "pages.h"
#include "salvage.h"

struct salvage {
	int fd;
	uint32_t page_size;
	uint64_t n_pages;
	uint8_t *seen;	      /* a bit a page, so that a circle ends */
	const uint8_t *table; /* name of the tree that is walked; NULL: of the main one */
	size_t n_table;
	int (*fn)(void *arg, struct kv_val table, struct kv_val key, struct kv_val raw);
	void *arg;
};

static int walk(struct salvage *s, uint64_t no, unsigned depth);

static bool read_at(const struct salvage *s, uint64_t no, void *to, size_t n)
{
	return no < s->n_pages &&
	       pread_full(s->fd, to, n, (off_t)(no * s->page_size)) == (ssize_t)n;
}

/* A record whose bytes lie in pages of their own. */
static int big(struct salvage *s, struct kv_val key, uint64_t first, size_t size)
{
	size_t whole = sizeof(struct page) + size;
	auto_free uint8_t *data = NULL;
	struct page p;

	if (first >= s->n_pages || whole > (s->n_pages - first) * s->page_size)
		return 0;
	data = malloc(whole);
	if (!data)
		return -ENOMEM;
	if (!read_at(s, first, data, whole))
		return 0;
	memcpy(&p, data, sizeof(p));
	if (p.no != first || (p.flags & P_KIND) != P_OVERFLOW)
		return 0;
	return s->fn(s->arg, (struct kv_val){s->table, s->n_table}, key,
		     (struct kv_val){data + sizeof(p), size});
}

static int subtree(struct salvage *s, struct kv_val name, const uint8_t *data, size_t size)
{
	struct tree t;
	int r;

	if (size != sizeof(t))
		return 0;
	memcpy(&t, data, sizeof(t));
	if (t.root == NO_PAGE)
		return 0;
	s->table = name.p;
	s->n_table = name.n;
	r = walk(s, t.root, 0);
	s->table = NULL;
	return r;
}

static int node(struct salvage *s, const uint8_t *page, size_t at, bool leaf, unsigned depth)
{
	struct node n;
	struct kv_val key;
	size_t data, size;
	uint64_t first;

	if (at + sizeof(n) > s->page_size)
		return 0;
	memcpy(&n, page + at, sizeof(n));
	if (!leaf)
		return walk(s, n.lo | (uint64_t)n.hi << 16 | (uint64_t)n.flags << 32, depth + 1);
	key = (struct kv_val){page + at + sizeof(n), n.key_size};
	data = at + sizeof(n) + n.key_size;
	size = n.lo | (size_t)n.hi << 16;
	if (s->table && n.flags == F_BIGDATA && data + 8 <= s->page_size) {
		memcpy(&first, page + data, 8);
		return big(s, key, first, size);
	}
	if (data + size > s->page_size || data > s->page_size)
		return 0;
	if (!s->table)
		return n.flags == F_SUBDATA ? subtree(s, key, page + data, size) : 0;
	if (n.flags)
		return 0;
	return s->fn(s->arg, (struct kv_val){s->table, s->n_table}, key,
		     (struct kv_val){page + data, size});
}

static int walk(struct salvage *s, uint64_t no, unsigned depth)
{
	auto_free uint8_t *page = NULL;
	struct page p;
	bool leaf;
	int r = 0;

	if (depth > MAX_DEPTH || no < 2 || no >= s->n_pages || (s->seen[no / 8] & (1u << no % 8)))
		return 0;
	s->seen[no / 8] |= (uint8_t)(1u << no % 8);
	page = malloc(s->page_size);
	if (!page)
		return -ENOMEM;
	if (!read_at(s, no, page, s->page_size))
		return 0;
	memcpy(&p, page, sizeof(p));
	leaf = (p.flags & P_KIND) == P_LEAF;
	if (p.no != no || (!leaf && (p.flags & P_KIND) != P_BRANCH) || p.lower > s->page_size)
		return 0;
	for (size_t i = 0; r == 0 && sizeof(p) + 2 * i + 2 <= p.lower; i++) {
		uint16_t at;

		memcpy(&at, page + sizeof(p) + 2 * i, sizeof(at));
		r = node(s, page, at, leaf, depth);
	}
	return r;
}

/* The newer of the meta pages that make sense. False: none does. */
static bool find_meta(int fd, uint64_t bytes, struct meta *ret)
{
	bool found = false;

	for (uint64_t size = 512; size <= MAX_PAGE; size *= 2)
		for (uint64_t which = 0; which < 2; which++) {
			struct {
				struct page page;
				struct meta meta;
			} m;

			if (pread_full(fd, &m, sizeof(m), (off_t)(which * size)) !=
				    (ssize_t)sizeof(m) ||
			    m.meta.magic != 0xbeefc0de || m.meta.version != 1 ||
			    m.meta.free.pad != size || m.meta.main.root == NO_PAGE ||
			    m.meta.main.root >= bytes / size)
				continue;
			if (found && m.meta.txnid < ret->txnid)
				continue;
			*ret = m.meta;
			found = true;
		}
	return found;
}

int salvage_each(int data_fd, uint64_t bytes,
		 int (*fn)(void *arg, struct kv_val table, struct kv_val key, struct kv_val raw),
		 void *arg)
{
	auto_free uint8_t *seen = NULL;
	struct salvage s = {.fd = data_fd, .fn = fn, .arg = arg};
	struct meta m;

	if (!find_meta(data_fd, bytes, &m))
		return 0;
	s.page_size = m.free.pad;
	s.n_pages = bytes / m.free.pad;
	s.seen = seen = calloc(1, s.n_pages / 8 + 1);
	return seen ? walk(&s, m.main.root, 0) : -ENOMEM;
}
