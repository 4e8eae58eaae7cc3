/* SPDX-License-Identifier: MIT */
/* sha256_plain.c - SHA-256 as FIPS 180-4 writes it down, for few bytes: see sha256.c. */
#include <string.h>

#include "sha256.h"

#define BLOCK  64u
#define ROUNDS 64u

static const uint32_t constants[ROUNDS] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t rotated(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static void schedule(const uint8_t *block, uint32_t w[ROUNDS])
{
	for (unsigned i = 0; i < 16; i++)
		w[i] = get_be32(block + 4 * i);
	for (unsigned i = 16; i < ROUNDS; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];
		uint32_t s0 = rotated(a, 7) ^ rotated(a, 18) ^ a >> 3;
		uint32_t s1 = rotated(b, 17) ^ rotated(b, 19) ^ b >> 10;

		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
}

static void add_block(uint32_t state[8], const uint8_t *block)
{
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	uint32_t w[ROUNDS];

	schedule(block, w);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint32_t s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
		uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + constants[i] + w[i];
		uint32_t s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
		uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));

		h = g;
		g = f;
		f = e;
		e = d + t1;
		d = c;
		c = b;
		b = a;
		a = t1 + t2;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

/* What is left of the message (less than a block), a one bit, zeros, and the message's length in bits. */
static void add_end(uint32_t state[8], const uint8_t *rest, size_t n, uint64_t size)
{
	uint8_t end[2 * BLOCK] = {0};
	size_t len = n + 1 + 8 <= BLOCK ? BLOCK : 2 * BLOCK;

	if (n)
		memcpy(end, rest, n);
	end[n] = 0x80;
	for (unsigned i = 0; i < 8; i++)
		end[len - 1 - i] = (uint8_t)(size * 8 >> (8 * i));
	for (size_t at = 0; at < len; at += BLOCK)
		add_block(state, end + at);
}

struct oid sha256_plain(const void *p, size_t n)
{
	uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	const uint8_t *at = p;
	size_t left = n;
	struct oid oid;

	for (; left >= BLOCK; left -= BLOCK, at += BLOCK)
		add_block(state, at);
	add_end(state, at, left, n);
	for (unsigned i = 0; i < sizeof(oid.b); i++)
		oid.b[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
	return oid;
}
