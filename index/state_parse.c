/* SPDX-License-Identifier: MIT */
/* state_parse.c - what the canonical bytes of a path's state say (state.c makes them; docs/format.md has the grammar). */
#include <errno.h>
#include <string.h>

#include "record.h"

static void parse_part(struct cur *c, uint8_t tag, struct state_parts *s)
{
	switch (tag) {
	case 'M':
		s->has_mode = true;
		s->mode = (mode_t)cur_varint(c);
		return;
	case 'O':
		s->has_owner = true;
		s->uid = (uid_t)cur_varint(c);
		s->gid = (gid_t)cur_varint(c);
		return;
	case 'P':
		s->has_rights = true;
		s->rights = cur_u8(c);
		return;
	case 'C':
		s->has_size = s->has_content = true;
		s->size = cur_varint(c);
		get_raw(c, s->content.b, sizeof(s->content.b));
		return;
	case 'S':
		s->has_size = true;
		s->size = cur_varint(c);
		return;
	case 'T':
		s->has_mtime = true;
		s->mtime_ns = (int64_t)cur_u64(c);
		return;
	case 'R':
		s->has_rdev = true;
		s->rdev = cur_varint(c);
		return;
	case 'L':
		free(s->target);
		s->target = cur_str(c);
		return;
	case 'N':
		s->has_list = true;
		get_raw(c, s->list.b, sizeof(s->list.b));
		return;
	case 'X':
		s->has_xattrs = true;
		get_raw(c, s->xattrs.b, sizeof(s->xattrs.b));
		return;
	default:
		c->bad = true;
	}
}

int state_parse(const void *p, size_t n, struct state_parts *ret)
{
	struct cur c = {p, (const uint8_t *)p + n, false};
	struct state_parts s = {.type = (char)cur_u8(&c)};

	if (s.type == 'E')
		s.err = (int)cur_varint(&c);
	else if (!s.type || !strchr("afdlpscb?", s.type))
		c.bad = true;
	while (!c.bad && c.p < c.end && strchr("fdlpscb?", s.type))
		parse_part(&c, cur_u8(&c), &s);
	if (c.bad || c.p != c.end) {
		free(s.target);
		return -EBADMSG;
	}
	*ret = s;
	return 0;
}

void state_parts_free(struct state_parts *s)
{
	free(s->target);
	*s = (struct state_parts){0};
}
