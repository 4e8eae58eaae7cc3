/* SPDX-License-Identifier: MIT */
/*
 * left.c - what stands at a path: its bytes, its equality.
 *
 * left: type (u8, bit 7: content unknown), then mode, size and fingerprint of a file; mode of a
 * directory or a fifo; the target of a link.
 */
#include <string.h>

#include "record.h"

#define UNKNOWN_BIT 0x80u

void left_free(struct left *l)
{
	free(l->target);
	*l = (struct left){0};
}

void left_encode(const struct left *l, struct buf *out)
{
	buf_u8(out, (uint8_t)(l->type | (l->unknown ? UNKNOWN_BIT : 0)));
	switch (l->type) {
	case OUT_ABSENT:
		break;
	case OUT_FILE:
		buf_varint(out, l->mode & 07777);
		buf_varint(out, l->size);
		buf_add(out, l->fp.b, sizeof(l->fp.b));
		break;
	case OUT_DIR:
	case OUT_FIFO:
		buf_varint(out, l->mode & 07777);
		break;
	case OUT_LINK:
		buf_str(out, l->target ? l->target : "");
		break;
	}
}

static mode_t get_mode(struct cur *c)
{
	uint64_t mode = cur_varint(c);

	if (mode > 07777)
		c->bad = true;
	return (mode_t)(mode & 07777);
}

void left_decode(struct cur *c, struct left *ret)
{
	uint8_t head = cur_u8(c);

	*ret = (struct left){.unknown = head & UNKNOWN_BIT};
	switch (head & ~UNKNOWN_BIT) {
	case OUT_ABSENT:
		break;
	case OUT_FILE:
		ret->type = OUT_FILE;
		ret->mode = get_mode(c);
		ret->size = cur_varint(c);
		get_raw(c, ret->fp.b, sizeof(ret->fp.b));
		break;
	case OUT_DIR:
	case OUT_FIFO:
		ret->type = (head & ~UNKNOWN_BIT) == OUT_DIR ? OUT_DIR : OUT_FIFO;
		ret->mode = get_mode(c);
		break;
	case OUT_LINK:
		ret->type = OUT_LINK;
		ret->target = cur_str(c);
		break;
	default:
		c->bad = true;
	}
}

bool left_eq(const struct left *a, const struct left *b)
{
	if (a->unknown || b->unknown || a->type != b->type)
		return false;
	switch (a->type) {
	case OUT_ABSENT:
		return true;
	case OUT_FILE:
		return (a->mode & 07777) == (b->mode & 07777) && a->size == b->size &&
		       fp_eq(&a->fp, &b->fp);
	case OUT_DIR:
	case OUT_FIFO:
		return (a->mode & 07777) == (b->mode & 07777);
	case OUT_LINK:
		return strcmp(a->target ? a->target : "", b->target ? b->target : "") == 0;
	}
	return false;
}
