/* SPDX-License-Identifier: MIT */
/* browse_shown.c - the results that were looked at last, and texts made of them. */
#include <errno.h>
#include <string.h>

#include "browse.h"

#define FRESH_NS   1000000000 /* what is newer than this is not looked up again */
#define MAX_WEIGHT ((size_t)32 << 20)

static void shown_free(struct shown *s)
{
	result_free(s->r);
	for (int i = 0; i < TEXT_COUNT; i++)
		buf_free(&s->texts[i]);
	free(s);
}

/* Under the mutex. */
static void unref(struct shown *s)
{
	if (--s->users == 0)
		shown_free(s);
}

void shown_put(struct browse *b, struct shown *s)
{
	if (!s)
		return;
	(void)pthread_mutex_lock(&b->mutex);
	unref(s);
	(void)pthread_mutex_unlock(&b->mutex);
}

struct shown *shown_ref(struct browse *b, struct shown *s)
{
	(void)pthread_mutex_lock(&b->mutex);
	s->users++;
	(void)pthread_mutex_unlock(&b->mutex);
	return s;
}

static void drop_at(struct browse *b, size_t i)
{
	unref(b->shown[i]);
	memmove(&b->shown[i], &b->shown[i + 1], (MAX_SHOWN - i - 1) * sizeof(*b->shown));
	b->shown[MAX_SHOWN - 1] = NULL;
}

void shown_drop(struct browse *b)
{
	(void)pthread_mutex_lock(&b->mutex);
	while (b->shown[0])
		drop_at(b, 0);
	(void)pthread_mutex_unlock(&b->mutex);
}

/* To the front; what is too much goes. */
static void remember(struct browse *b, struct shown *s)
{
	size_t weight = 0;

	if (b->shown[MAX_SHOWN - 1])
		drop_at(b, MAX_SHOWN - 1);
	memmove(&b->shown[1], &b->shown[0], (MAX_SHOWN - 1) * sizeof(*b->shown));
	b->shown[0] = s;
	s->users++;
	for (size_t i = 0; i < MAX_SHOWN && b->shown[i]; i++) {
		weight += b->shown[i]->weight;
		if (i && weight > MAX_WEIGHT)
			drop_at(b, i--);
	}
}

static int take_stored(void *arg, const struct idx_head *h)
{
	*(int64_t *)arg = h->stored_ns;
	return 1;
}

/* 1: what is kept of this key is what the index has; 0: it is not kept, or gone. */
static int find(struct browse *b, struct idx *x, const struct fp *key, struct shown **ret,
		struct err *e)
{
	static const struct idx_scan_filter any;
	int64_t stored = 0;
	size_t i = 0;
	struct shown *s;
	int r;

	while (i < MAX_SHOWN && b->shown[i] && !fp_eq(&b->shown[i]->r->input_key, key))
		i++;
	if (i == MAX_SHOWN || !b->shown[i])
		return 0;
	s = b->shown[i];
	if (mono_ns() - s->checked_ns > FRESH_NS) {
		r = idx_scan_one(x, &any, key, take_stored, &stored, e);
		if (r < 0)
			return r;
		if (r == 0 || stored != s->r->stored_ns) {
			drop_at(b, i);
			return 0;
		}
		s->checked_ns = mono_ns();
	}
	s->users++;
	if (i) {
		s->users++;
		drop_at(b, i);
		remember(b, s);
		unref(s);
	}
	*ret = s;
	return 1;
}

static struct shown *make(struct result *r)
{
	struct shown *s = xcalloc(1, sizeof(*s));

	s->r = r;
	s->users = 1;
	s->checked_ns = mono_ns();
	s->weight = sizeof(*s) + r->n_chunks * sizeof(*r->chunks);
	for (size_t i = 0; i < r->n_outputs; i++)
		s->weight +=
			sizeof(struct output) + strlen(r->outputs[i].path) + r->outputs[i].n_xattrs;
	for (size_t i = 0; i < r->n_chunks; i++)
		s->stream[r->chunks[i].fd - 1] += r->chunks[i].len;
	return s;
}

int shown_get(struct browse *b, struct idx *x, const struct fp *key, struct shown **ret,
	      struct err *e)
{
	struct result *res;
	struct shown *s;
	int r;

	(void)pthread_mutex_lock(&b->mutex);
	r = find(b, x, key, ret, e);
	if (r == 0) {
		r = idx_result_get_brief(x, key, &res, e);
		if (r > 0) {
			s = make(res);
			remember(b, s);
			*ret = s;
		}
	}
	(void)pthread_mutex_unlock(&b->mutex);
	return r;
}

/* ---- texts ---- */

bool shown_removed(const struct result *r)
{
	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_ABSENT)
			return true;
	return false;
}

static void removed_text(const struct result *r, struct buf *out)
{
	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_ABSENT) {
			browse_plain(out, r->outputs[i].path);
			buf_u8(out, '\n');
		}
}

static int make_text(struct browse *b, struct idx *x, const struct shown *s, enum node_text what,
		     struct buf *out, struct err *e)
{
	struct result *whole;
	int r;

	if (what == TEXT_REMOVED) {
		removed_text(s->r, out);
		return 0;
	}
	if (what == TEXT_STEP)
		return b->o.text(b->o.arg, x, BROWSE_STEP, s->r, out, e);
	r = idx_result_get(x, &s->r->input_key, &whole, e); /* with the states */
	if (r <= 0)
		return r < 0 ? r : err_text(e, ESTALE, "the result was dropped");
	r = b->o.text(b->o.arg, x, BROWSE_INPUTS, whole, out, e);
	result_free(whole);
	return r;
}

int shown_text(struct browse *b, struct idx *x, struct shown *s, enum node_text what,
	       const struct buf **ret, struct err *e)
{
	auto_buf struct buf text = {0};
	int r = 0;

	(void)pthread_mutex_lock(&b->mutex);
	if (!s->made[what]) {
		r = make_text(b, x, s, what, &text, e);
		if (r >= 0) {
			s->texts[what] = text;
			s->made[what] = true;
			s->weight += text.len;
			text = (struct buf){0};
		}
	}
	(void)pthread_mutex_unlock(&b->mutex);
	*ret = &s->texts[what];
	return r < 0 ? r : 0;
}
