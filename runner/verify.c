/* SPDX-License-Identifier: MIT */
/*
 * verify.c - a hit whose step was run all the same: is what it left what a hit would have left?
 *
 * What counts is the state in the end: each output of the cached result is compared with what stands at its path now,
 * whoever wrote it, and what the step changed elsewhere is an output too many. So a step that finds its outputs in
 * place and writes nothing differs in nothing. Then the console, by stream, and the exit status. What the step looked at is
 * only noted: other looks with the same outputs are no wrong hit.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "verify.h"

/* ---- what is said ---- */

static void mark(struct check *k, const char *path)
{
	size_t i = path ? capture_find(k->w, path) : k->w->n;

	if (i < k->w->n)
		k->differs[i] = true;
}

void verify_differ(struct check *k, const char *path, const char *what, const char *fmt, ...)
{
	char text[2 * GUESS_TEXT + 512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut off is good enough */
	va_end(ap);
	verdict_add(&k->v, path, what, -1, NULL, text);
	mark(k, path);
}

void verify_differ_at(struct check *k, const char *path, const char *what,
		      const struct comparison *c)
{
	auto_buf struct buf b = {0};

	compare_describe(c, &b);
	buf_u8(&b, 0);
	verdict_add(&k->v, path, what, (int64_t)c->at, c->guess.cause, (char *)b.data);
	mark(k, path);
}

void verify_unsure(struct check *k, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* as above */
	va_end(ap);
	if (!k->v.unsure)
		k->v.unsure = xstrdup(text);
}

/* ---- what is asked ---- */

bool verify_in_cached(const struct check *k, const char *path)
{
	return result_output(k->cached, path) != NULL;
}

bool verify_changed(const struct check *k, const char *path)
{
	size_t i = capture_find(k->w, path);

	return i < k->w->n && k->w->v[i]->changed;
}

mode_t verify_type_bits(enum out_type t)
{
	static const mode_t bits[] = {[OUT_FILE] = S_IFREG,
				      [OUT_DIR] = S_IFDIR,
				      [OUT_LINK] = S_IFLNK,
				      [OUT_FIFO] = S_IFIFO};

	return bits[t];
}

/* ---- console and status ---- */

static void compare_stream(struct check *k, int then_fd, uint8_t stream, const char *what)
{
	const struct console_record *rec = k->w->c->console;
	struct source then =
		source_console(then_fd, k->cached->chunks, k->cached->n_chunks, stream);
	struct source now = source_console(rec->spool, rec->chunks, rec->n_chunks, stream);
	struct comparison c = {0};
	int r = compare_streams(&then, &now, &k->context, true, &c);

	if (r < 0)
		verify_unsure(k, "%s could not be compared: %s", what, strerror(-r));
	else if (!c.same)
		verify_differ_at(k, NULL, what, &c);
}

static void compare_console(struct check *k)
{
	const struct console_record *rec = k->w->c->console;
	struct err e = {0};
	auto_close int then = -1;

	if (rec->spoiled) {
		verify_unsure(k, "%s", rec->spoiled);
		return;
	}
	if (k->cached->console_len) {
		then = store_open(k->x, &k->cached->console_oid, k->cached->console_len, &e);
		if (then == -ENOENT || then == -EUCLEAN ||
		    (then >= 0 &&
		     store_check(k->x, &k->cached->console_oid, k->cached->console_len) == 0)) {
			k->damaged = true;
			verify_differ(k, NULL, "console",
				      "its object in the cache is missing or damaged");
			return;
		}
		if (then < 0) {
			verify_unsure(k, "%s", e.msg);
			return;
		}
	}
	/* Which of the two spoke first is a matter of chance; where they were one file it is not. */
	if (k->cached->console_merged || rec->merged) {
		compare_stream(k, then, 0, "console");
		return;
	}
	compare_stream(k, then, 1, "stdout");
	compare_stream(k, then, 2, "stderr");
}

static void compare_status(struct check *k)
{
	int then = k->cached->exit_status, now = k->w->c->out->exit_status;

	if (then != now)
		verify_differ(k, NULL, "exit status", "%d then, %d now", then, now);
}

/* ---- what it looked at ---- */

/* Paths of `a` that `b` has not, without those that are outputs. The first and how many there are. */
static size_t only_in(const struct check *k, const struct path_set *a, const struct path_set *b,
		      const char **ret_first)
{
	size_t n = 0;

	for (size_t i = 0, j = 0; i < a->n; i++) {
		while (j < b->n && strcmp(b->v[j].path, a->v[i].path) < 0)
			j++;
		if (j < b->n && strcmp(b->v[j].path, a->v[i].path) == 0)
			continue;
		if (verify_in_cached(k, a->v[i].path) || verify_changed(k, a->v[i].path))
			continue;
		if (!n++)
			*ret_first = a->v[i].path;
	}
	return n;
}

static void note_looks(struct check *k)
{
	struct path_set_list sets = {0};
	const struct path_set *then = NULL;
	const char *first = NULL;
	struct err e = {0};
	size_t n;

	if (idx_path_sets(k->x, &k->cached->step_key, &sets, &e) < 0)
		log_debug("%s", e.msg); /* a note is all that is lost */
	for (size_t i = 0; i < sets.n; i++)
		if (fp_eq(&sets.ids[i], &k->cached->path_set_id))
			then = &sets.sets[i];
	if (then) {
		n = only_in(k, &k->w->set, then, &first);
		if (n)
			verdict_note(&k->v,
				     "it looked at %zu path%s that it did not look at then: %s%s",
				     n, n == 1 ? "" : "s", first, n == 1 ? "" : ", ...");
		n = only_in(k, then, &k->w->set, &first);
		if (n)
			verdict_note(&k->v,
				     "it did not look at %zu path%s that it looked at then: %s%s",
				     n, n == 1 ? "" : "s", first, n == 1 ? "" : ", ...");
	}
	path_set_list_free(&sets);
}

static void note_stdin(struct check *k)
{
	const struct stdin_used *in = k->w->c->in;

	if (in->len != k->cached->stdin_len)
		verdict_note(&k->v, "it read %llu bytes of standard input, %llu then",
			     (unsigned long long)in->len, (unsigned long long)k->cached->stdin_len);
}

/* ---- all of it ---- */

static void look_at_outputs(struct check *k)
{
	const struct result *r = k->cached;

	k->now = xcalloc(r->n_outputs + 1, sizeof(*k->now));
	k->now_err = xcalloc(r->n_outputs + 1, sizeof(*k->now_err));
	for (size_t i = 0; i < r->n_outputs; i++) {
		const struct output *o = &r->outputs[i];

		if (lstat(o->path, &k->now[i]) < 0)
			k->now_err[i] = errno == ENOTDIR ? ENOENT : errno;
		if (o->now.type == OUT_ABSENT || o->now.type == OUT_DIR || o->link_group)
			continue;
		k->v.outputs++;
		k->v.written += verify_changed(k, o->path);
	}
}

/* Process ids are given out in turn: those of the step lie between its own and the last one. */
static int last_pid(void)
{
	auto_free char *text = NULL;
	size_t n;
	const char *space =
		read_file("/proc/loadavg", &text, &n, NULL) < 0 ? NULL : strrchr(text, ' ');

	return space ? atoi(space + 1) : 0;
}

static void set_context(struct check *k, char *host, size_t n_host)
{
	const struct outcome *out = k->w->c->out;

	k->context.then.from_ns = k->cached->started_ns;
	k->context.then.to_ns = k->cached->started_ns + k->cached->wall_ns;
	k->context.now.from_ns = out->started_ns;
	k->context.now.to_ns = out->started_ns + out->wall_ns;
	k->context.now.first_pid = k->w->c->command;
	k->context.now.last_pid = last_pid();
	if (gethostname(host, n_host) == 0) {
		host[n_host - 1] = '\0';
		k->context.host = host;
	}
}

/* That the step left this there must be known at the next lookup, or it would be taken for a person's edit. */
static void note_left(struct check *k)
{
	struct work *w = k->w;
	auto_free struct output *v = xcalloc(w->n + 1, sizeof(*v));
	struct err e = {0};
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		struct left *l = &v[n].now;
		struct stat st = now_of(w, i);

		if (!k->differs[i] || !w->v[i]->changed || w->now_err[i])
			continue;
		v[n].path = (char *)w->v[i]->path;
		n += capture_describe_left(k->x, w->v[i]->path, &st, l);
	}
	if (n && idx_left_add(k->x, v, n, &e) < 0)
		log_debug("%s", e.msg); /* the next lookup is a miss then, nothing worse */
	for (size_t i = 0; i < n; i++)
		left_free(&v[i].now);
}

static void compare_all(struct check *k, enum verify_what what)
{
	look_at_outputs(k);
	compare_status(k);
	if (what != VERIFY_RUNNING)
		compare_console(k);
	verify_outputs(k);
	verify_extra(k);
	if (what == VERIFY_ALL)
		note_looks(k);
	if (what != VERIFY_RUNNING)
		note_stdin(k);
}

/* mlfs forget may have dropped it. */
static bool is_kept(const struct check *k)
{
	struct result *r;
	struct err e = {0};

	if (idx_result_get_brief(k->x, &k->cached->input_key, &r, &e) <= 0)
		return false;
	result_free(r);
	return true;
}

void verify_run(struct work *w, enum verify_what what)
{
	struct check k = {.w = w, .x = w->c->idx, .cached = w->c->expected};
	struct err e = {0};
	char host[256];

	set_context(&k, host, sizeof(host));
	k.differs = xcalloc(w->n + 1, sizeof(*k.differs));
	if (w->cannot[0])
		verify_unsure(&k, "%s", w->cannot);
	if (is_kept(&k))
		compare_all(&k, what);
	else
		verify_unsure(&k, "its result was dropped from the cache meanwhile");
	if (!w->c->opts->read_only) {
		note_left(&k);
		/* As when a hit meets one: the next run is a miss, which stores it anew. */
		k.v.dropped = k.damaged && idx_result_drop(k.x, &k.cached->input_key, &e) >= 0;
	}
	if (verdict_write(&k.v, w->c->verdict_fd, &e) < 0)
		log_warn("%s", e.msg); /* the front finds nothing there, and says so */
	verdict_free(&k.v);
	free(k.now);
	free(k.now_err);
	free(k.differs);
}

void verify_running(const struct capture *c, struct outcome *ret)
{
	struct work w = {.c = c, .ret = ret};

	(void)capture_refuse(&w, "%s", ret->reason);
	verify_run(&w, VERIFY_RUNNING);
}
