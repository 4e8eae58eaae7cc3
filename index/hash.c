/* SPDX-License-Identifier: MIT */
/*
 * hash.c - XXH3-128 fingerprints, XXH3-64 record guards and SHA-256 object names, of memory and of
 * files.
 *
 * The only file that includes xxhash.h. XXH3 is stable since xxHash 0.8.0, and
 * the canonical (big-endian) form is kept, so that a cache means the same to every later library
 * and machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <xxhash.h>

#include "hash.h"
#include "sha256.h"

_Static_assert(XXH_VERSION_NUMBER >= 800, "XXH3 has a fixed result since xxHash 0.8.0");

static struct fp fp_canonical(XXH128_hash_t h)
{
	XXH128_canonical_t c;
	struct fp fp;

	XXH128_canonicalFromHash(&c, h);
	memcpy(fp.b, c.digest, sizeof(fp.b));
	return fp;
}

struct fp fp_of(const void *p, size_t n)
{
	return fp_canonical(XXH3_128bits(p, n));
}

uint64_t xxh64_of(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

/* XXH3's state wants 64-byte alignment: only its own allocator gives that. */
struct fp_state {
	XXH3_state_t *xxh;
};

struct fp_state *fp_begin(void)
{
	struct fp_state *s = xcalloc(1, sizeof(*s));

	s->xxh = XXH3_createState();
	if (!s->xxh || XXH3_128bits_reset(s->xxh) != XXH_OK)
		no_memory();
	return s;
}

void fp_update(struct fp_state *s, const void *p, size_t n)
{
	if (n)
		(void)XXH3_128bits_update(s->xxh, p, n); /* fails for NULL only */
}

struct fp fp_end(struct fp_state *s)
{
	struct fp fp = fp_canonical(XXH3_128bits_digest(s->xxh));

	(void)XXH3_freeState(s->xxh); /* always XXH_OK */
	free(s);
	return fp;
}

/* ---- both at once ---- */

struct hasher {
	struct fp_state *fp;
	struct sha256 *sha;
};

int hasher_begin(bool want_fp, bool want_oid, struct hasher **ret)
{
	struct hasher *h = xcalloc(1, sizeof(*h));

	if (want_fp)
		h->fp = fp_begin();
	if (want_oid) {
		int r = sha256_begin(&h->sha);

		if (r < 0) {
			hasher_free(h);
			return r;
		}
	}
	*ret = h;
	return 0;
}

int hasher_update(struct hasher *h, const void *p, size_t n)
{
	if (h->fp)
		fp_update(h->fp, p, n);
	return h->sha ? sha256_update(h->sha, p, n) : 0;
}

int hasher_end(struct hasher *h, struct fp *ret_fp, struct oid *ret_oid)
{
	int r = 0;

	if (ret_oid)
		r = h->sha ? sha256_end(h->sha, ret_oid) : -EIO;
	if (r == 0 && ret_fp)
		*ret_fp = fp_end(take(h->fp));
	return r;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	if (h->fp)
		(void)fp_end(h->fp); /* for its freeing only */
	sha256_free(h->sha);
	free(h);
}

int oid_of(const void *p, size_t n, struct oid *ret)
{
	return sha256_of(p, n, ret);
}

/* ---- files ---- */

static int hash_range(int fd, off_t off, off_t len, struct fp *ret_fp, struct oid *ret_oid,
		      uint64_t *ret_size)
{
	auto_hasher struct hasher *h = NULL;
	auto_free char *chunk = io_alloc(HASH_CHUNK);
	uint64_t done = 0;
	int r;

	if (!chunk)
		return -ENOMEM;
	r = hasher_begin(ret_fp, ret_oid, &h);
	if (r < 0)
		return r;
	while (len < 0 || done < (uint64_t)len) {
		size_t want = HASH_CHUNK;
		ssize_t k;

		if (len >= 0 && (uint64_t)len - done < want)
			want = (size_t)((uint64_t)len - done);
		k = pread_full(fd, chunk, want, off + (off_t)done);
		if (k < 0)
			return (int)k;
		r = hasher_update(h, chunk, (size_t)k);
		if (r < 0)
			return r;
		done += (uint64_t)k;
		if ((size_t)k < want)
			break;
	}
	r = hasher_end(h, ret_fp, ret_oid);
	if (r == 0 && ret_size)
		*ret_size = done;
	return r;
}

int hash_fd(int fd, off_t off, off_t len, struct fp *ret, uint64_t *ret_size)
{
	return hash_range(fd, off, len, ret, NULL, ret_size);
}

int hash_fd_both(int fd, struct fp *ret_fp, struct oid *ret_oid, uint64_t *ret_size)
{
	return hash_range(fd, 0, -1, ret_fp, ret_oid, ret_size);
}
