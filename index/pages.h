/* SPDX-License-Identifier: MIT */
/*
 * pages.h - private to index/: how LMDB 0.9's data version 1 lies on disk (mdb.c: MDB_page, MDB_node, MDB_meta,
 * MDB_db), on 64-bit little-endian machines.
 */
#ifndef MLFS_INDEX_PAGES_H
#define MLFS_INDEX_PAGES_H

#include "index.h"

_Static_assert(sizeof(void *) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "LMDB's file format differs on other machines: describe it here first");

#define MAX_DEPTH 32 /* LMDB's CURSOR_STACK */
#define MAX_PAGE  65536u
#define MAX_MAP	  (UINT64_C(1) << 43) /* twice what env.c makes */
#define NO_PAGE	  UINT64_MAX	      /* P_INVALID: an empty tree */

/* Of a page in a tree these are all its flags: others (P_DIRTY, P_LOOSE, P_KEEP) it has in memory only, and LMDB would
 * believe one that it finds on disk: it would write to a page that is mapped to be read. */
enum { P_BRANCH = 0x01, P_LEAF = 0x02, P_OVERFLOW = 0x04, P_META = 0x08, P_KIND = 0x6f };
enum { F_BIGDATA = 0x01, F_SUBDATA = 0x02 };

struct page {
	uint64_t no;
	uint16_t pad, flags;
	union {
		struct {
			uint16_t lower, upper;
		};
		uint32_t pages; /* P_OVERFLOW */
	};
};
struct node {
	uint16_t lo, hi, flags,
		key_size; /* a leaf's data size, or lo, hi, flags: a branch's page number */
};
struct tree {
	uint32_t pad; /* of the first tree of a meta page: the page size */
	uint16_t flags, depth;
	uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};
struct meta {
	uint32_t magic, version;
	uint64_t address, map_size;
	struct tree free, main;
	uint64_t last_page, txnid;
};
_Static_assert(sizeof(struct page) == 16 && sizeof(struct node) == 8, "as in mdb.c");
_Static_assert(sizeof(struct tree) == 48 && sizeof(struct meta) == 136, "as in mdb.c");
/* What makes LMDB compare keys otherwise (lmdb.h: MDB_REVERSEKEY to MDB_REVERSEDUP); the free list has MDB_INTEGERKEY. */
enum { ORDER_FLAGS = 0x7e, F_INTEGERKEY = 0x08 };

#endif
