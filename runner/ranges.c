/* SPDX-License-Identifier: MIT */
/* ranges.c - a map from bytes of a file to how they are locked. A handful of ranges: plain arrays
 * do. */
#include "ranges.h"

static void append(struct ranges *r, int64_t start, int64_t end, enum hold hold)
{
	struct range *last = r->n ? &r->v[r->n - 1] : NULL;

	if (hold == HOLD_NONE || start > end)
		return;
	if (last && last->hold == hold && last->end + 1 == start) {
		last->end = end;
		return;
	}
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 4;
		r->v = xrealloc(r->v, r->cap * sizeof(*r->v));
	}
	r->v[r->n++] = (struct range){start, end, hold};
}

enum hold ranges_at(const struct ranges *r, int64_t at, int64_t *ret_end)
{
	for (size_t k = 0; k < r->n; k++) {
		if (at > r->v[k].end)
			continue;
		if (at >= r->v[k].start) {
			*ret_end = r->v[k].end;
			return r->v[k].hold;
		}
		*ret_end = r->v[k].start - 1;
		return HOLD_NONE;
	}
	*ret_end = INT64_MAX;
	return HOLD_NONE;
}

void ranges_set(struct ranges *r, int64_t start, int64_t end, enum hold hold)
{
	struct ranges out = {0};
	bool placed = false;

	for (size_t k = 0; k < r->n; k++) {
		const struct range *o = &r->v[k];

		if (o->start < start)
			append(&out, o->start, o->end < start ? o->end : start - 1, o->hold);
		if (!placed && o->end >= start) {
			append(&out, start, end, hold);
			placed = true;
		}
		if (o->end > end)
			append(&out, o->start > end ? o->start : end + 1, o->end, o->hold);
	}
	if (!placed)
		append(&out, start, end, hold);
	free(r->v);
	*r = out;
}

void ranges_raise(struct ranges *r, int64_t start, int64_t end, enum hold hold)
{
	for (int64_t at = start, last; at <= end; at = last + 1) {
		enum hold now = ranges_at(r, at, &last);

		if (last > end)
			last = end;
		if (now < hold)
			ranges_set(r, at, last, hold);
		if (last == end)
			return; /* also where one more would overflow */
	}
}

bool ranges_cover(const struct ranges *r, int64_t start, int64_t end, enum hold hold)
{
	for (int64_t at = start, last;; at = last + 1) {
		if (ranges_at(r, at, &last) < hold)
			return false;
		if (last >= end)
			return true;
	}
}

void ranges_free(struct ranges *r)
{
	free(r->v);
	*r = (struct ranges){0};
}
