/* SPDX-License-Identifier: MIT */
/* report.c - what is told about a run: a JSON object for programs, one line for people. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner.h"
#include "verdict.h"

/* ---- the JSON object of the contract: these fields, in this order; --verify adds its own ---- */

static void put_text(struct buf *b, const char *name, const char *text)
{
	buf_addf(b, "\"%s\": ", name);
	if (text)
		json_string(b, text, strlen(text));
	else
		buf_addf(b, "null");
	buf_addf(b, ", ");
}

static void put_key(struct buf *b, const char *name, const struct fp *key)
{
	char text[2 * sizeof(*key) + 1];

	if (key)
		hex(key, sizeof(*key), text);
	put_text(b, name, key ? text : NULL);
}

static void put_argv(struct buf *b, char *const *argv)
{
	buf_addf(b, "\"argv\": [");
	for (size_t i = 0; argv && argv[i]; i++) {
		if (i)
			buf_addf(b, ", ");
		json_string(b, argv[i], strlen(argv[i]));
	}
	buf_addf(b, "], ");
}

static void put_report(struct buf *b, const struct report *r)
{
	char started[40];

	buf_addf(b, "{");
	put_text(b, "result", r->result);
	buf_addf(b, "\"stored\": %s, ", r->stored ? "true" : "false");
	put_text(b, "reason", r->reason);
	put_text(b, "name", r->name);
	put_key(b, "step_key", r->step_key);
	put_key(b, "input_key", r->input_key);
	put_argv(b, r->argv);
	put_text(b, "cwd", r->cwd);
	buf_addf(b, "\"exit_status\": %d, ", r->exit_status);
	buf_addf(b, "\"wall_seconds\": %.6f, ", r->wall_seconds);
	buf_addf(b, "\"saved_seconds\": %.6f, ", r->saved_seconds);
	buf_addf(b, "\"inputs\": %llu, ", (unsigned long long)r->inputs);
	buf_addf(b, "\"outputs\": %llu, ", (unsigned long long)r->outputs);
	buf_addf(b, "\"output_bytes\": %llu, ", (unsigned long long)r->output_bytes);
	buf_addf(b, "\"started\": \"%s\"", rfc3339(r->started_ns, started, sizeof(started)));
	if (r->verify)
		verdict_json(r->verdict, b);
	buf_addf(b, "}\n");
}

/* ---- where it goes ---- */

static int write_there(int fd, const char *path, const struct buf *b, struct err *e)
{
	ssize_t n = write_all(fd, b->data, b->len);

	return n < 0 ? err_set(e, (int)n, "cannot write %s", path) : 0;
}

/* Not a plain file (/dev/stdout, a fifo), or a link to a file that is yet to be: nothing to rename
 * over. */
static int write_direct(const char *path, const struct buf *b, struct err *e)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return err_set(e, errno, "cannot open %s", path);
	return write_there(fd, path, b, e);
}

static mode_t default_mode(void)
{
	mode_t mask = umask(077);

	(void)umask(mask); /* cannot fail; it was read by setting it */
	return 0666 & ~mask;
}

static int write_beside(const char *path, mode_t mode, const struct buf *b, struct err *e)
{
	auto_free char *tmp = xasprintf("%s.XXXXXX", path);
	auto_close int fd = mkostemp(tmp, O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_set(e, errno, "cannot write %s", path);
	r = write_there(fd, path, b, e);
	if (r >= 0 && fchmod(fd, mode) < 0)
		r = err_set(e, errno, "cannot write %s", path);
	if (r >= 0 && rename(tmp, path) < 0)
		r = err_set(e, errno, "cannot write %s", path);
	if (r < 0)
		(void)unlink(tmp); /* the failure that counts is told already */
	return r;
}

int report_write(const char *path, const struct report *r, struct err *e)
{
	auto_buf struct buf b = {0};
	auto_free char *real = NULL;
	struct stat st;

	put_report(&b, r);
	if (strcmp(path, "-") == 0)
		return write_there(STDOUT_FILENO, "standard output", &b, e);
	if (stat(path, &st) < 0) {
		if (lstat(path, &st) < 0 && errno == ENOENT)
			return write_beside(path, default_mode(), &b, e);
		return write_direct(path, &b, e);
	}
	/* A link to a file stays one. */
	real = S_ISREG(st.st_mode) ? realpath(path, NULL) : NULL;
	if (!real)
		return write_direct(path, &b, e);
	return write_beside(real, st.st_mode & 07777, &b, e);
}

/* ---- the line ---- */

/* Names and reasons hold what paths hold; a terminal must not act on it. */
static void add_plain(struct buf *b, const char *text)
{
	for (; *text; text++) {
		uint8_t c = (uint8_t)*text;

		buf_u8(b, c < 0x20 || c == 0x7f ? '?' : c);
	}
}

static void add_key(struct buf *b, const struct report *r)
{
	const struct fp *key = r->input_key ? r->input_key : r->step_key;
	char text[9];

	if (!key)
		return;
	hex(key, 4, text);
	buf_addf(b, " %s", text);
}

void report_line(const struct report *r, int verbosity)
{
	auto_buf struct buf b = {0};
	bool hit = strcmp(r->result, "hit") == 0;
	double seconds = hit ? r->saved_seconds : r->wall_seconds;
	char time[40];

	if (verbosity < 0 || (verbosity == 0 && !isatty(STDERR_FILENO)))
		return;
	buf_addf(&b, "mlfs: %s ", r->result);
	add_plain(&b, r->name ? r->name : "");
	add_key(&b, r);
	human_seconds(seconds > 0 ? seconds : 0, time, sizeof(time));
	buf_addf(&b, " (%s %s)", hit ? "saved" : "took", time);
	if (verbosity > 0 && r->reason) {
		buf_addf(&b, ": ");
		add_plain(&b, r->reason);
	}
	buf_u8(&b, '\n');
	if (write_all(STDERR_FILENO, b.data, b.len) < 0)
		return; /* nowhere is left to say it */
}
