/* SPDX-License-Identifier: MIT */
/*
 * replay_times.c - the modification times that the outputs of a hit get; see replay_times.h.
 *
 * Times that the step chose itself are kept. The others are new, since a hit stands for a run: what
 * was made of an earlier state of an output must be older than it. They are given in the order
 * recorded, for who compares one output with another (make).
 *
 * ninja does more: .ninja_log, an output as well, says when each file was built, and ninja takes a
 * file that is younger for changed since. So its tree gets back the very times that were recorded,
 * where nothing speaks for newer ones: nothing else has taken the place of what is restored, and no
 * input is younger than the run.
 */
#include "replay_times.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static struct timespec to_timespec(int64_t ns)
{
	int64_t sec = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		sec--;
	}
	return (struct timespec){.tv_sec = sec, .tv_nsec = rest};
}

static int by_mtime(const void *a, const void *b)
{
	const struct output *x = *(const struct output *const *)a;
	const struct output *y = *(const struct output *const *)b;

	if (x->mtime_ns != y->mtime_ns)
		return x->mtime_ns < y->mtime_ns ? -1 : 1;
	return strcmp(x->path, y->path);
}

/* The present time of a file that stays. */
static int64_t kept_mtime(const struct output *out)
{
	struct stat st;

	return lstat(out->path, &st) < 0 ? INT64_MAX : timespec_ns(st.st_mtim);
}

/* ---- ninja ---- */

static bool has_ninja_log(const struct result *r)
{
	for (size_t i = 0; i < r->n_outputs; i++) {
		const char *slash = strrchr(r->outputs[i].path, '/');

		if (slash && strcmp(slash, "/.ninja_log") == 0 &&
		    r->outputs[i].now.type == OUT_FILE)
			return true;
	}
	return false;
}

static bool replaces_something(const struct result *r, const struct place *places)
{
	struct stat st;

	for (size_t i = 0; i < r->n_outputs; i++)
		if (places[i].action == PLACE_WRITE && r->outputs[i].now.type == OUT_FILE &&
		    lstat(r->outputs[i].path, &st) == 0)
			return true;
	return false;
}

static int is_younger(void *arg, const char *path, unsigned kinds)
{
	int64_t *started_ns = arg;
	struct stat st;

	if (!(kinds & (OBS_CONTENT | OBS_ATTR)) || lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return timespec_ns(st.st_mtim) > *started_ns;
}

static bool as_recorded(struct idx *x, const struct result *r, const struct place *places)
{
	int64_t started_ns = r->started_ns;
	struct err e;

	return has_ninja_log(r) && !replaces_something(r, places) &&
	       idx_path_set_each(x, &r->path_set_id, is_younger, &started_ns, &e) == 0;
}

/* ---- all others ---- */

/* Two that stay may have times with nothing between: what was written between them gets that of the earlier one. */
static void not_before(const struct output **order, size_t n, const struct result *r,
		       const struct place *places, struct timespec *times)
{
	struct timespec earliest = {0};

	for (size_t k = 0; k < n; k++) {
		size_t i = (size_t)(order[k] - r->outputs);

		if (places[i].action == PLACE_KEEP)
			earliest = times[i];
		else if (timespec_ns(times[i]) < timespec_ns(earliest))
			times[i] = earliest;
	}
}

/*
 * Times for the files to be placed: now, a nanosecond apart in the order recorded, equal ones
 * equal; but before those of files that stay as they are and were written later, as if what is
 * restored had never been gone (else `make` would take what stayed for stale).
 */
static void new_times(const struct output **order, size_t n, const struct result *r,
		      const struct place *places, int64_t now_ns, struct timespec *ret)
{
	int64_t limit = INT64_MAX; /* the time of the next one */
	int64_t kept = INT64_MAX;  /* of the next one that stays */

	qsort(order, n, sizeof(*order), by_mtime);
	for (size_t k = n; k-- > 0;) {
		size_t i = (size_t)(order[k] - r->outputs);
		int64_t t = now_ns - (int64_t)(n - 1 - k);

		if (places[i].action == PLACE_KEEP)
			t = kept_mtime(order[k]);
		else if (k + 1 < n && order[k]->mtime_ns == order[k + 1]->mtime_ns)
			t = limit;
		else if (t >= limit)
			t = limit - 1;
		limit = t < limit ? t : limit;
		if (places[i].action == PLACE_KEEP)
			kept = t < kept ? t : kept;
		ret[i] = to_timespec(places[i].action == PLACE_KEEP ? kept : limit);
	}
	not_before(order, n, r, places, ret);
}

void replay_times(struct idx *x, const struct result *r, const struct place *places, int64_t now_ns,
		  struct timespec *ret)
{
	auto_free const struct output **order = xmalloc((r->n_outputs + 1) * sizeof(*order));
	bool recorded = as_recorded(x, r, places);
	size_t n = 0;

	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *out = &r->outputs[i];

		if (out->mtime_set || recorded)
			ret[i] = to_timespec(out->mtime_ns);
		else if (out->now.type == OUT_FILE)
			order[n++] = out;
	}
	new_times(order, n, r, places, now_ns, ret);
}
