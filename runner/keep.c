/* SPDX-License-Identifier: MIT */
/* keep.c - limits of the cache, and how results that go are told of; see keep.h. */
#include "keep.h"

#include <unistd.h>

#include "screen.h"

#define BAR_AFTER_NS INT64_C(500000000)
#define BAR_EVERY_NS INT64_C(100000000)

uint64_t keep_max_size(const struct idx *x, uint64_t setting)
{
	return setting == MAX_SIZE_DEFAULT ? idx_default_max_size(x) : setting;
}

int64_t keep_max_age(double seconds)
{
	if (seconds < 0)
		return -1;
	return seconds > 9e9 ? INT64_MAX : (int64_t)(seconds * 1e9);
}

void going_begin(struct going *g, const struct query *q, bool dry_run, bool list)
{
	*g = (struct going){.q = q, .dry_run = dry_run, .list = list, .begun = mono_ns()};
	if (q->json)
		json_array(&g->json, NULL);
}

void going_end_bar(struct going *g)
{
	if (g->bar)
		fprintf(stderr, "\r\033[K");
	g->bar = false;
}

static void add_json(struct json *j, const struct idx_gc_gone *gone)
{
	json_object(j, NULL);
	json_hex(j, "key", gone->key.b, sizeof(gone->key.b));
	json_text(j, "name", gone->name);
	if (gone->used_ns)
		json_time(j, "used", gone->used_ns);
	else
		json_null(j, "used");
	json_uint(j, "bytes", gone->bytes);
	json_end(j);
}

void going_gone(void *arg, const struct idx_gc_gone *gone)
{
	struct going *g = arg;
	char key[2 * sizeof(gone->key.b) + 1], size[32];
	auto_buf struct buf name = {0};

	g->results++;
	g->bytes += gone->bytes;
	if (g->q->json) {
		add_json(&g->json, gone);
		return;
	}
	if (!g->list)
		return;
	going_end_bar(g);
	hex(gone->key.b, sizeof(gone->key.b), key);
	add_plain(&name, gone->name ? gone->name : "?");
	buf_u8(&name, 0);
	printf("%s %.8s %s (%s)\n", g->dry_run ? "would drop" : "dropped", key, (char *)name.data,
	       human_size(gone->bytes, size, sizeof(size)));
}

void going_progress(void *arg, uint64_t done, uint64_t of)
{
	struct going *g = arg;
	int64_t now = mono_ns();
	char a[32], b[32];

	if (now - g->begun < BAR_AFTER_NS || !isatty(STDERR_FILENO) || g->q->verbosity < 0)
		return;
	g->begun = now - BAR_AFTER_NS + BAR_EVERY_NS; /* the next not before */
	fprintf(stderr, "\rmlfs: %s of %s dropped\033[K", human_size(done, a, sizeof(a)),
		human_size(of, b, sizeof(b)));
	(void)fflush(stderr); /* it is only for looking at */
	g->bar = true;
}
