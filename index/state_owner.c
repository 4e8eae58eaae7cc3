/* SPDX-License-Identifier: MIT */
/*
 * state_owner.c - a state without the part that says whose it is, and that part put in again.
 *
 * What one user's step observed can be compared with what another would: only whose a file is, and what that user may do with
 * it, is told otherwise for each (owner.c).
 */
#include <errno.h>
#include <string.h>

#include "index.h"

/* Where the parts before and behind the owner end and begin. */
struct cut {
	const uint8_t *head_end, *tail;
	bool has_mode;
};

static int find_cut(const uint8_t *p, size_t n, struct cut *ret)
{
	struct cur c = {p, p + n, false};
	uint8_t type = cur_u8(&c);

	*ret = (struct cut){0};
	if (type != 'a' && type != 'E' && c.p < c.end && *c.p == 'M') {
		(void)cur_u8(&c);
		(void)cur_varint(&c);
		ret->has_mode = true;
	}
	ret->head_end = c.p;
	if (type != 'a' && type != 'E' && c.p < c.end && (*c.p == 'O' || *c.p == 'P')) {
		bool ids = cur_u8(&c) == 'O';

		if (ids)
			(void)cur_varint(&c);
		(void)(ids ? cur_varint(&c) : cur_u8(&c));
	}
	ret->tail = c.p;
	return c.bad ? -EBADMSG : 0;
}

int state_without_owner(const void *p, size_t n, struct buf *out)
{
	struct cut cut;
	int r = find_cut(p, n, &cut);

	if (r < 0)
		return r;
	buf_add(out, p, (size_t)(cut.head_end - (const uint8_t *)p));
	buf_add(out, cut.tail, (size_t)((const uint8_t *)p + n - cut.tail));
	return 0;
}

int state_with_owner(const void *p, size_t n, unsigned kinds, const struct stat *st,
		     struct buf *out)
{
	const uint8_t *from = p;
	struct cut cut;
	int r = find_cut(p, n, &cut);

	if (r < 0)
		return r;
	buf_add(out, p, (size_t)(cut.head_end - from));
	if (st && *from != 'a' && *from != 'E' &&
	    kinds & (OBS_ATTR | OBS_CONTENT | OBS_LIST | OBS_LINK))
		owner_put(st->st_mode, st->st_uid, st->st_gid, out);
	buf_add(out, cut.tail, (size_t)(from + n - cut.tail));
	return 0;
}
