/* SPDX-License-Identifier: MIT */
/*
 * capture.c - from what was recorded to a result: which paths are inputs and in what state, which are outputs,
 * and whether it may be stored at all (design 4; docs/design.md says the same in prose).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"

#define MANY 10000 /* paths */

int capture_refuse(struct work *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!w->cannot[0])
		vsnprintf(w->cannot, sizeof(w->cannot), fmt, ap);
	va_end(ap);
	return -ECANCELED;
}

/* An empty file sends no read: whether the step read it cannot be known. */
static bool may_have_been_read(const struct trace_path *p)
{
	return S_ISREG(p->st.st_mode) && p->st.st_size == 0;
}

bool capture_is_own(const struct trace_path *p)
{
	if (!p->changed || !p->replaced)
		return false;
	if (!was_there(p))
		return true;
	/* Of a socket or a device nothing could be said at a later lookup but what it looks like. */
	if (!S_ISREG(p->st.st_mode) && !S_ISDIR(p->st.st_mode) && !S_ISLNK(p->st.st_mode) &&
	    !S_ISFIFO(p->st.st_mode))
		return false;
	return !p->partial && !(p->obs & (OBS_CONTENT | OBS_LINK | OBS_LIST | OBS_XATTR)) &&
	       !may_have_been_read(p);
}

size_t capture_find(const struct work *w, const char *path)
{
	size_t lo = 0, hi = w->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int r = strcmp(w->v[mid]->path, path);

		if (r == 0)
			return mid;
		if (r < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return w->n;
}

/* As lstat. In a view (mlfs in mlfs) the kernel may have kept attributes for a while: it is told to ask. */
static int look_at(const struct work *w, const char *path, struct stat_kept *ret)
{
	struct statx sx;
	struct stat st;

	if (idx_in_view(w->c->idx))
		(void)statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW,
			    STATX_BASIC_STATS, &sx);
	if (lstat(path, &st) < 0)
		return errno;
	*ret = stat_keep(&st);
	return 0;
}

/* A directory comes before what is in it. Where it is none any more (a link, say) nothing is at the paths below. */
static void look_now(struct work *w)
{
	auto_free char *dir = xstrdup("");
	size_t len, parent = 0;

	w->now = xcalloc(w->n + 1, sizeof(*w->now));
	w->now_err = xcalloc(w->n + 1, sizeof(*w->now_err));
	for (size_t k = 0; k < w->n; k++) {
		const char *path = w->v[k]->path;

		len = (size_t)(strrchr(path, '/') - path);
		if (strlen(dir) != len || memcmp(dir, path, len) != 0) {
			free(dir);
			dir = xstrndup(path, len);
			parent = capture_find(w, dir);
		}
		if (len && parent < w->n &&
		    (w->now_err[parent] == ENOENT ||
		     (!w->now_err[parent] && !S_ISDIR(w->now[parent].st_mode))))
			w->now_err[k] = ENOENT;
		else
			w->now_err[k] = look_at(w, path, &w->now[k]);
		if (w->now_err[k] == ENOTDIR)
			w->now_err[k] = ENOENT;
	}
}

/* ---- the rest of the result ---- */

static int add_console(struct work *w)
{
	const struct console_record *rec = w->c->console;

	if (rec->spoiled)
		return capture_refuse(w, "%s", rec->spoiled);
	w->r->console_merged = rec->merged;
	w->r->console_len = rec->len;
	w->r->n_chunks = rec->n_chunks;
	w->r->chunks = xcalloc(rec->n_chunks + 1, sizeof(*w->r->chunks));
	if (rec->n_chunks)
		memcpy(w->r->chunks, rec->chunks, rec->n_chunks * sizeof(*w->r->chunks));
	return 0;
}

static int add_stdin(struct work *w)
{
	const struct stdin_used *in = w->c->in;

	if (in->spoiled)
		return capture_refuse(w, "%s", in->spoiled);
	w->r->stdin_kind = in->kind;
	w->r->stdin_len = in->len;
	w->r->stdin_fp = in->fp;
	w->r->stdin_eof = in->eof;
	return 0;
}

/* What went to standard output alone; all is the digest of both streams. Where it cannot be read again: nothing is known. */
static void digest_stdout(struct work *w, const struct fp *all)
{
	const struct console_record *rec = w->c->console;
	auto_free uint8_t *part = NULL;
	struct fp_state *s;
	off_t at = 0;
	uint64_t len = 0;

	for (size_t i = 0; i < rec->n_chunks; i++)
		len += rec->chunks[i].fd == 1 ? rec->chunks[i].len : 0;
	if (w->c->step->tty_out || !len)
		return;
	if (len == rec->len) {
		w->r->stdout_fp = *all;
		w->r->stdout_len = len;
		return;
	}
	s = fp_begin();
	w->r->stdout_len = len;
	for (size_t i = 0; i < rec->n_chunks; at += rec->chunks[i++].len) {
		uint32_t n = rec->chunks[i].len;

		if (rec->chunks[i].fd != 1)
			continue;
		part = xrealloc(part, n);
		if (pread_full(rec->spool, part, n, at) != (ssize_t)n)
			w->r->stdout_len = 0;
		else
			fp_update(s, part, n);
	}
	w->r->stdout_fp = fp_end(s);
}

/* What was printed and read; of a file that was stdin the step key has the content. */
static int put_streams(struct work *w)
{
	const struct console_record *rec = w->c->console;
	const struct stdin_used *in = w->c->in;
	struct idx *x = w->c->idx;
	struct result *r = w->r;
	struct err e = {0};
	struct fp fp;
	uint64_t size;

	if (rec->len && store_put_fd(x, rec->spool, &r->console_oid, &fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store the console: %s", e.msg);
	digest_stdout(w, &fp);
	if (in->len && in->spool >= 0 &&
	    store_put_fd(x, in->spool, &r->stdin_oid, &fp, &size, &e) < 0)
		return cache_trouble(w, "cannot store what was read from stdin: %s", e.msg);
	return 0;
}

static void describe(struct work *w)
{
	const struct capture *c = w->c;
	struct result *r = w->r;

	r->step_key = c->step->key;
	r->name = xstrdup(c->step->name);
	r->cwd = xstrdup(c->step->cwd);
	r->env_note = xstrdup(c->step->env_note ? c->step->env_note : "");
	r->n_argv = (size_t)c->opts->argc;
	r->argv = xcalloc(r->n_argv + 1, sizeof(char *));
	for (size_t k = 0; k < r->n_argv; k++)
		r->argv[k] = xstrdup(c->opts->argv[k]);
	r->exit_status = c->out->exit_status;
	r->started_ns = c->out->started_ns;
	r->wall_ns = c->out->wall_ns;
	r->stored_ns = now_ns();
	r->strict = c->opts->strict;
	buf_add(&r->description, c->step->description.data, c->step->description.len);
}

/* The key of a run that read from stdin: what it read counts. */
static struct fp stdin_key(const struct fp *base, const struct stdin_used *in)
{
	auto_buf struct buf b = {0};

	buf_add(&b, base, sizeof(*base));
	buf_add(&b, &in->fp, sizeof(in->fp));
	buf_u64(&b, in->len);
	buf_u8(&b, in->eof);
	return fp_of(b.data, b.len);
}

/* Once it is known what stood where the outputs went. */
static void compute_key(struct work *w)
{
	w->r->input_key = input_key_own(&w->r->base_key, w->r);
	if (w->c->in->kind != STDIN_UNUSED)
		w->r->input_key = stdin_key(&w->r->input_key, w->c->in);
	w->ret->input_key = w->r->input_key;
	w->ret->has_key = true;
}

/* An object that was there, so that there was no need to write it, may be gone since: no other result referred to it, and
 * another process collected garbage. Then all are put once more. */
static int put(struct work *w)
{
	struct idx *x = w->c->idx;
	struct err e = {0};
	int r, k;

	for (int tries = 0; (r = idx_result_put(x, w->r, &w->set, &e)) == -ESTALE && tries < 3;
	     tries++) {
		k = capture_objects(w);
		if (k == 0)
			k = put_streams(w);
		if (k < 0)
			return k;
	}
	return r < 0 ? cache_trouble(w, "cannot store the result: %s", e.msg) : 0;
}

/* Reasons that are known without looking at anything. */
static int may_store(struct work *w)
{
	const struct exec_opts *o = w->c->opts;

	if (w->ret->reason[0])
		return capture_refuse(w, "%s", w->ret->reason);
	if (o->read_only)
		return capture_refuse(w, "--read-only");
	if (w->ret->exit_status && !o->cache_failures)
		return capture_refuse(w, "its exit status was %d", w->ret->exit_status);
	if (trace_spoiled(w->c->trace))
		return capture_refuse(w, "%s", trace_spoiled(w->c->trace));
	return 0;
}

static int store(struct work *w)
{
	int r = may_store(w);

	if (r == 0)
		r = capture_inputs(w);
	w->ret->inputs = w->set.n;
	if (r == 0) {
		capture_same(w);
		input_key_set_base(w->r, &w->set);
		r = capture_outputs(w);
		compute_key(w);
		/* Nothing looks at these any more, and what comes wants memory. */
		free(take(w->now));
		free(take(w->now_err));
		free(take(w->made));
		w->n_made = 0;
	}
	if (r == 0)
		r = add_console(w);
	if (r == 0)
		r = add_stdin(w);
	if (r == 0)
		r = put_streams(w);
	if (r == 0)
		r = put(w);
	w->ret->stored = r == 0;
	if (r == 0)
		store_counts(w->c->idx, &w->ret->put_bytes, &w->ret->new_bytes);
	return r;
}

/* --verify: a run that could not have been stored proves nothing, but what it left is compared all the same. */
static int compare(struct work *w)
{
	const char *spoiled = w->ret->reason[0]	  ? w->ret->reason
			      : w->c->in->spoiled ? w->c->in->spoiled
						  : trace_spoiled(w->c->trace);
	int r = spoiled ? capture_refuse(w, "%s", spoiled) : 0;

	if (r == 0)
		r = capture_inputs(w);
	verify_run(w, r == 0 ? VERIFY_ALL : VERIFY_OUTPUTS);
	return r;
}

/* The result stands without them; only the next lookup is slower. */
static void remember(struct work *w)
{
	struct err e;

	if (w->ret->stored && idx_digest_put(w->c->idx, w->digests, w->n_digests, &e) < 0)
		log_debug("%s", e.msg);
}

void capture(const struct capture *c, struct outcome *ret)
{
	struct work w = {.c = c, .ret = ret, .r = xcalloc(1, sizeof(*w.r))};
	int r;

	trace_settle(c->trace);
	w.v = trace_sorted(c->trace, &w.n);
	look_now(&w);
	describe(&w);
	r = c->expected ? compare(&w) : store(&w);
	if (r < 0)
		snprintf(ret->reason, sizeof(ret->reason), "%s", w.cannot);
	free(w.v);
	free(w.now);
	free(w.now_err);
	free(w.made);
	path_set_free(&w.set);
	result_free(w.r);
	if (w.n > MANY)
		(void)malloc_trim(0); /* to write that many digests wants memory as well */
	remember(&w);
	free(w.digests);
}
