/* SPDX-License-Identifier: MIT */
/*
 * index-fill.c - fills a cache's index with results as if one command had been run on ever other inputs, and
 * times look-ups in it (scripts/bench index); or its history with runs.
 *
 *   index-fill fill CACHE STEP-KEY RESULTS PATH-SETS DIR    results of the step with this key (32 hex digits); what
 *                                                           is only theirs among the paths lies in DIR
 *   index-fill look CACHE STEP-KEY RESULTS PATH-SETS N      N look-ups of each kind; prints JSON, microseconds
 *   index-fill runs CACHE N DAYS                            N runs of 200 steps, over so many days until now: of ten
 *                                                           eight hits, one and a half misses, the rest uncached
 *
 * A record speaks of 40 paths (36 of the system, 4 of its path set's own) and two outputs: about 2 KB.
 *
 * Each result is a transaction of its own, as it is when a step is recorded. That each of these waits for the disk is not
 * what is measured, so fdatasync of this program does nothing; the whole is synced at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index.h"

#define COMMON 36
#define OWN    4

static unsigned long syncs;

/* In place of libc's, for LMDB too: the program's symbols come first. */
int fdatasync(int fd)
{
	(void)fd;
	syncs++;
	return 0;
}

static void die(const char *what, const struct err *e)
{
	fprintf(stderr, "index-fill: %s: %s\n", what, e ? e->msg : strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct fp fp_text(const char *what, unsigned n)
{
	auto_free char *text = xasprintf("index-fill %s %u", what, n);

	return fp_of(text, strlen(text));
}

static struct fp parse_key(const char *hex_)
{
	struct fp key = {{0}};

	if (strlen(hex_) != 2 * sizeof(key.b))
		goto bad;
	for (size_t i = 0; i < sizeof(key.b); i++)
		if (sscanf(hex_ + 2 * i, "%2hhx", &key.b[i]) != 1)
			goto bad;
	return key;
bad:
	fprintf(stderr, "index-fill: not a key: %s\n", hex_);
	exit(2);
}

/* ---- records ---- */

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct path_entry *)a)->path, ((const struct path_entry *)b)->path);
}

/* Files that every machine has some of, so that a look-up finds what it looks for. */
static void common_paths(const char **ret)
{
	static glob_t g;
	size_t n = 0;

	if (glob("/usr/bin/*", GLOB_NOSORT, NULL, &g) != 0 || g.gl_pathc < COMMON)
		die("/usr/bin", NULL);
	for (size_t i = 0; n < COMMON; i += g.gl_pathc / COMMON)
		ret[n++] = g.gl_pathv[i];
}

/* Path set m: the common paths and four of its own. */
static struct path_set make_set(const char *const *common, const char *dir, unsigned m)
{
	struct path_set s = {xcalloc(COMMON + OWN, sizeof(*s.v)), COMMON + OWN};

	for (unsigned i = 0; i < COMMON; i++)
		s.v[i] = (struct path_entry){.path = xstrdup(common[i]), .kinds = OBS_ATTR};
	for (unsigned i = 0; i < OWN; i++)
		s.v[COMMON + i] = (struct path_entry){
			.path = xasprintf("%s/part-%06u.%u.csv", dir, m, i), .kinds = OBS_CONTENT};
	qsort(s.v, s.n, sizeof(*s.v), by_path);
	return s;
}

/* All outputs are the same object: the records are what is measured. */
static const char the_output[1000] = "index-fill";
static struct oid the_oid;

static void fill_outputs(struct result *r, const char *dir, unsigned n)
{
	static const char *const names[] = {"metrics.json", "model.bin"};

	r->n_outputs = 2;
	r->outputs = xcalloc(2, sizeof(*r->outputs));
	for (unsigned i = 0; i < 2; i++) {
		struct output *o = &r->outputs[i];

		*o = (struct output){.path = xasprintf("%s/%s", dir, names[i]), .own = true};
		o->now = (struct left){.type = OUT_FILE,
				       .mode = 0644,
				       .size = sizeof(the_output),
				       .fp = fp_text(names[i], n)};
		o->mtime_ns = now_ns();
		o->oid = the_oid;
	}
}

/* Result n of the step. States are about as long as true ones (docs/format.md): their bytes mean nothing here. */
static struct result *make_result(const struct fp *step, const struct fp *set_id,
				  const struct path_set *s, const char *dir, unsigned n)
{
	struct result *r = xcalloc(1, sizeof(*r));
	struct fp fill = fp_text("state", n);

	r->input_key = fp_text("input", n);
	r->step_key = *step;
	r->path_set_id = *set_id;
	r->name = xstrdup("train.py");
	r->n_argv = 2;
	r->argv = xcalloc(2, sizeof(char *));
	r->argv[0] = xstrdup("python3");
	r->argv[1] = xstrdup("train.py");
	r->cwd = xstrdup(dir);
	r->env_note = xstrdup("HOME=/root\nLANG=C.UTF-8\nPATH=/usr/local/bin:/usr/bin:/bin\n");
	r->started_ns = r->stored_ns = now_ns();
	r->wall_ns = 60000000000;
	r->n_inputs = s->n;
	fill_outputs(r, dir, n);
	r->n_states = s->n;
	r->states = xcalloc(s->n, sizeof(*r->states));
	for (size_t i = 0; i < s->n; i++) {
		buf_u8(&r->states[i], 'f');
		buf_add(&r->states[i], fill.b, sizeof(fill.b));
		buf_add(&r->states[i], &n, sizeof(n));
	}
	return r;
}

static int fill(struct idx *x, const struct fp *step, unsigned results, unsigned sets,
		const char *dir)
{
	const char *common[COMMON];
	unsigned n = 0;
	struct err e = {0};

	common_paths(common);
	if (store_put_mem(x, the_output, sizeof(the_output), &the_oid, &e) < 0)
		die("cannot store an object", &e);
	for (unsigned m = 0; m < sets; m++) {
		struct path_set s = make_set(common, dir, m);
		auto_buf struct buf bytes = {0};
		struct fp id;

		path_set_encode(&s, &bytes);
		id = fp_of(bytes.data, bytes.len);
		for (; n < (uint64_t)results * (m + 1) / sets; n++) {
			struct result *r = make_result(step, &id, &s, dir, n);

			if (idx_result_put(x, r, &s, &e) < 0)
				die("cannot store a result", &e);
			result_free(r);
		}
		path_set_free(&s);
	}
	fprintf(stderr, "index-fill: %u results, %u path sets, %lu syncs left out\n", n, sets,
		syncs);
	return 0;
}

/* ---- look-ups ---- */

static int by_number(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

enum look { LOOK_PRESENT, LOOK_ABSENT, LOOK_SETS };

static double look_once(struct idx *x, enum look what, const struct fp *key)
{
	struct path_set_list l;
	struct result *r;
	struct err e = {0};
	double start = now_us();
	int k;

	if (what == LOOK_SETS) {
		k = idx_path_sets(x, key, &l, &e);
		start = now_us() - start;
		if (k < 0 || !l.n)
			die("no path sets", &e);
		path_set_list_free(&l);
		return start;
	}
	k = idx_result_get_brief(x, key, &r, &e);
	start = now_us() - start;
	if (k != (what == LOOK_PRESENT))
		die(k < 0 ? "cannot look up"
		    : k	  ? "found what is not there"
			  : "a result is missing",
		    &e);
	if (k)
		result_free(r);
	return start;
}

static double median_of(struct idx *x, enum look what, const struct fp *step, unsigned results,
			unsigned n)
{
	auto_free double *times = xcalloc(n, sizeof(*times));
	uint64_t seed = 1;

	for (unsigned i = 0; i < n; i++) {
		struct fp key = *step;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		if (what == LOOK_PRESENT)
			key = fp_text("input", (unsigned)((seed >> 33) % results));
		else if (what == LOOK_ABSENT)
			key = fp_text("nobody's", i);
		times[i] = look_once(x, what, &key);
	}
	qsort(times, n, sizeof(*times), by_number);
	return times[n / 2];
}

static int look(struct idx *x, const struct fp *step, unsigned results, unsigned n)
{
	double present = median_of(x, LOOK_PRESENT, step, results, n),
	       absent = median_of(x, LOOK_ABSENT, step, results, n),
	       sets = median_of(x, LOOK_SETS, step, results, n / 10 + 1);

	printf("{\"result_us\": %.2f, \"absent_us\": %.2f, \"path_sets_us\": %.2f}\n", present,
	       absent, sets);
	return 0;
}

/* ---- history ---- */

static void add_run(struct idx *x, unsigned n, int64_t when)
{
	static const struct runs_keep all;
	auto_free char *name = xasprintf("step-%03u.py", n * 7919 % 200);
	auto_free char *script = xasprintf("--config=conf/%s.yaml", name);
	auto_free char *reason = xasprintf("data/part-%05u.csv changed", n * 31 % 5000);
	unsigned dice = n * 2654435761u >> 16;
	char *argv[] = {(char *)"python3", name, script, NULL};
	struct run r = {.started_ns = when,
			.wall_ns = 3000000 + dice * 1000,
			.name = name,
			.cwd = (char *)"/home/someone/work/project",
			.argv = argv,
			.n_argv = 3,
			.result = dice % 20 < 16   ? RUN_HIT
				  : dice % 20 < 19 ? RUN_MISS
						   : RUN_UNCACHED,
			.inputs = 40,
			.outputs = 2,
			.output_bytes = dice,
			.step_key = fp_text("step", n % 200),
			.input_key = fp_text("input", n % 10000)};
	struct err e = {0};

	if (r.result == RUN_HIT) {
		r.saved_ns = INT64_C(60000000000) + dice;
	} else {
		r.wall_ns = INT64_C(60000000000) + dice;
		r.stored = r.result == RUN_MISS;
		r.reason = r.stored ? reason : (char *)"no /dev/fuse";
		r.put_bytes = r.stored ? dice : 0;
		r.new_bytes = r.put_bytes / 2;
	}
	if (idx_run_add(x, &r, &all, &e) < 0)
		die("cannot add a run", &e);
}

static int fill_runs(const char *cache, unsigned n, unsigned days)
{
	int64_t end = now_ns(), span = (int64_t)days * 86400 * 1000000000;
	struct err e = {0};
	struct idx *x;

	if (idx_open(cache, false, &x, &e) < 0)
		die("cannot open the cache", &e);
	for (unsigned i = 0; i < n; i++)
		add_run(x, i, end - span + span / n * i);
	idx_close(x);
	return 0;
}

int main(int argc, char **argv)
{
	struct err e = {0};
	struct fp step;
	struct idx *x;
	unsigned results, sets;
	bool filling;

	if (argc == 5 && strcmp(argv[1], "runs") == 0)
		return fill_runs(argv[2], (unsigned)strtoul(argv[3], NULL, 10),
				 (unsigned)strtoul(argv[4], NULL, 10));
	if (argc != 7 || (strcmp(argv[1], "fill") != 0 && strcmp(argv[1], "look") != 0)) {
		fprintf(stderr, "usage: index-fill fill CACHE STEP-KEY RESULTS PATH-SETS DIR\n"
				"       index-fill look CACHE STEP-KEY RESULTS PATH-SETS N\n"
				"       index-fill runs CACHE N DAYS\n");
		return 2;
	}
	filling = strcmp(argv[1], "fill") == 0;
	step = parse_key(argv[3]);
	results = (unsigned)strtoul(argv[4], NULL, 10);
	sets = (unsigned)strtoul(argv[5], NULL, 10);
	if (!results || !sets || sets > results) {
		fprintf(stderr, "index-fill: at least one result a path set\n");
		return 2;
	}
	if (idx_open(argv[2], false, &x, &e) < 0)
		die("cannot open the cache", &e);
	if (filling)
		fill(x, &step, results, sets, argv[6]);
	else
		look(x, &step, results, (unsigned)strtoul(argv[6], NULL, 10));
	idx_close(x);
	if (filling)
		sync();
	return 0;
}
