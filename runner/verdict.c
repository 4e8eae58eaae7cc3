/* SPDX-License-Identifier: MIT */
/* verdict.c - what --verify found: gathered, carried, told. */
#include "screen.h"
#include "verdict.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT 1 /* both sides are the same program; it guards against a file that is none */

/* ---- gathered ---- */

static char *copy_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

void verdict_add(struct verdict *v, const char *path, const char *what, int64_t offset,
		 const char *cause, const char *text)
{
	v->total++;
	if (v->n == VERDICT_MAX_LISTED)
		return;
	if (v->n == v->cap) {
		v->cap = v->cap ? 2 * v->cap : 16;
		v->v = xrealloc(v->v, v->cap * sizeof(*v->v));
	}
	v->v[v->n++] = (struct difference){.path = copy_or_null(path),
					   .what = xstrdup(what),
					   .text = xstrdup(text),
					   .cause = copy_or_null(cause),
					   .offset = offset};
}

void verdict_note(struct verdict *v, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut off is good enough */
	va_end(ap);
	v->notes.v = xrealloc(v->notes.v, (v->notes.n + 1) * sizeof(*v->notes.v));
	v->notes.v[v->notes.n++] = xstrdup(text);
}

void verdict_free(struct verdict *v)
{
	for (size_t i = 0; i < v->n; i++) {
		free(v->v[i].path);
		free(v->v[i].what);
		free(v->v[i].text);
		free(v->v[i].cause);
	}
	for (size_t i = 0; i < v->notes.n; i++)
		free(v->notes.v[i]);
	free(v->v);
	free(v->notes.v);
	free(v->unsure);
	*v = (struct verdict){0};
}

/* ---- carried ---- */

static void put_opt(struct buf *b, const char *s)
{
	buf_u8(b, s != NULL);
	if (s)
		buf_str(b, s);
}

static char *get_opt(struct cur *c)
{
	return cur_u8(c) ? cur_str(c) : NULL;
}

int verdict_write(const struct verdict *v, int fd, struct err *e)
{
	auto_buf struct buf b = {0};
	ssize_t n;

	buf_u8(&b, FORMAT);
	buf_u64(&b, v->total);
	buf_u64(&b, v->outputs);
	buf_u64(&b, v->written);
	buf_u8(&b, v->dropped);
	put_opt(&b, v->unsure);
	buf_varint(&b, v->notes.n);
	for (size_t i = 0; i < v->notes.n; i++)
		buf_str(&b, v->notes.v[i]);
	buf_varint(&b, v->n);
	for (size_t i = 0; i < v->n; i++) {
		put_opt(&b, v->v[i].path);
		buf_str(&b, v->v[i].what);
		buf_str(&b, v->v[i].text);
		put_opt(&b, v->v[i].cause);
		buf_u64(&b, (uint64_t)v->v[i].offset);
	}
	if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(e, errno, "cannot hand on what was compared");
	n = write_all(fd, b.data, b.len);
	return n < 0 ? err_set(e, (int)n, "cannot hand on what was compared") : 0;
}

static void get_difference(struct cur *c, struct verdict *v)
{
	auto_free char *path = get_opt(c), *what = cur_str(c), *text = cur_str(c),
		       *cause = get_opt(c);
	int64_t offset = (int64_t)cur_u64(c);

	if (!c->bad)
		verdict_add(v, path, what, offset, cause, text);
}

static void decode(struct cur *c, struct verdict *v)
{
	uint64_t total, n;

	c->bad |= cur_u8(c) != FORMAT;
	total = cur_u64(c);
	v->outputs = cur_u64(c);
	v->written = cur_u64(c);
	v->dropped = cur_u8(c);
	v->unsure = get_opt(c);
	n = cur_varint(c);
	for (uint64_t i = 0; i < n && !c->bad; i++) {
		auto_free char *note = cur_str(c);

		if (note)
			verdict_note(v, "%s", note);
	}
	n = cur_varint(c);
	for (uint64_t i = 0; i < n && !c->bad; i++)
		get_difference(c, v);
	v->total = total;
}

int verdict_read(int fd, struct verdict *ret, struct err *e)
{
	auto_free uint8_t *bytes = NULL;
	struct verdict v = {0};
	struct stat st;
	struct cur c;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "cannot learn what was compared");
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return err_set(e, ENOMEM, "cannot learn what was compared");
	n = pread_full(fd, bytes, (size_t)st.st_size, 0);
	if (n < 0)
		return err_set(e, (int)n, "cannot learn what was compared");
	c = (struct cur){bytes, bytes + n, false};
	decode(&c, &v);
	if (c.bad || c.p != c.end) {
		verdict_free(&v);
		return err_text(e, EBADMSG, "the comparison did not come to its end");
	}
	*ret = v;
	return 0;
}

/* ---- told ---- */

char *difference_line(const struct difference *d, const char *cwd)
{
	struct buf b = {0};

	add_plain(&b, d->path ? shown_path(cwd, d->path) : d->what);
	buf_addf(&b, ": ");
	add_plain(&b, d->text);
	buf_u8(&b, 0);
	return (char *)b.data;
}

char *verdict_reason(const struct verdict *v, const char *cwd)
{
	auto_free char *first = v->n ? difference_line(&v->v[0], cwd) : NULL;

	if (v->total > 1)
		return xasprintf("differs from the cached result: %s (and %llu more)", first,
				 (unsigned long long)v->total - 1);
	if (first)
		return xasprintf("differs from the cached result: %s", first);
	return v->unsure ? xasprintf("not verified: %s", v->unsure) : NULL;
}

static void tell_notes(const struct verdict *v)
{
	for (size_t i = 0; i < v->notes.n; i++)
		log_warn("note: %s", v->notes.v[i]);
}

/* "2 outputs are the same, 1 of them stood there and was not written again" */
static char *what_agreed(const struct verdict *v)
{
	uint64_t stood = v->outputs - v->written;
	auto_free char *rest = NULL;

	if (!v->outputs)
		return xstrdup("its console and status are the same");
	if (stood)
		rest = xasprintf(", %llu of them stood there and %s not written again",
				 (unsigned long long)stood, stood == 1 ? "was" : "were");
	return xasprintf("%llu output%s the same%s", (unsigned long long)v->outputs,
			 v->outputs == 1 ? " is" : "s are", rest ? rest : "");
}

void verdict_tell(const struct verdict *v, const struct report *r, int verbosity)
{
	uint64_t stood = v->outputs - v->written;
	auto_free char *agreed = NULL;
	struct report line = *r;

	for (size_t i = 0; i < v->n; i++) {
		auto_free char *text = difference_line(&v->v[i], r->cwd);

		log_warn("differs: %s", text);
	}
	if (v->total > v->n)
		log_warn("differs: %llu more", (unsigned long long)(v->total - v->n));
	if (v->total || verbosity > 0)
		tell_notes(v);
	if (v->total && stood)
		log_warn("note: %llu of its %llu outputs stood there and %s not written again; "
			 "remove them to see the step make them",
			 (unsigned long long)stood, (unsigned long long)v->outputs,
			 stood == 1 ? "was" : "were");
	if (v->total && v->unsure)
		log_warn("note: the run could not have been stored: %s", v->unsure);
	if (v->total) {
		line.result = "differs";
		line.reason = agreed =
			xasprintf("%llu difference%s from the cached result, which %s",
				  (unsigned long long)v->total, v->total == 1 ? "" : "s",
				  v->dropped ? "was damaged and is dropped" : "stays as it is");
		report_line(&line, 1);
		return;
	}
	if (v->unsure) {
		line.result = "not verified";
		line.reason = v->unsure;
		report_line(&line, verbosity < 0 ? verbosity : 1);
		return;
	}
	agreed = what_agreed(v);
	line.result = "verified";
	line.reason = agreed;
	/* That something was not made anew is never left out of the line. */
	report_line(&line, verbosity == 0 && stood && isatty(STDERR_FILENO) ? 1 : verbosity);
}

void verdict_json(const struct verdict *v, struct json *j)
{
	if (v && (v->total || !v->unsure))
		json_bool(j, "verified", !v->total);
	else
		json_null(j, "verified");
	json_uint(j, "outputs_written", v ? v->written : 0);
	json_array(j, "differences");
	for (size_t i = 0; v && i < v->n; i++) {
		const struct difference *d = &v->v[i];

		json_object(j, NULL);
		json_text(j, "path", d->path);
		json_text(j, "what", d->what);
		if (d->offset < 0)
			json_null(j, "offset");
		else
			json_int(j, "offset", d->offset);
		json_text(j, "cause", d->cause);
		json_text(j, "text", d->text);
		json_end(j);
	}
	json_end(j);
	json_texts(j, "notes", v ? v->notes.v : NULL, v ? v->notes.n : 0);
}
