/* SPDX-License-Identifier: MIT */
/* report.c - what is told about a run: a JSON object for programs, one line for people. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "screen.h"
#include "verdict.h"

/* ---- the JSON object of the contract: these fields, in this order; --verify adds its own ---- */

static void put_report(struct json *j, const struct report *r)
{
	size_t argc = 0;

	while (r->argv && r->argv[argc])
		argc++;
	json_object(j, NULL);
	json_text(j, "result", r->result);
	json_bool(j, "stored", r->stored);
	json_text(j, "reason", r->reason);
	json_text(j, "name", r->name);
	json_hex(j, "step_key", r->step_key, sizeof(*r->step_key));
	json_hex(j, "input_key", r->input_key, sizeof(*r->input_key));
	json_texts(j, "argv", r->argv, argc);
	json_text(j, "cwd", r->cwd);
	json_int(j, "exit_status", r->exit_status);
	json_seconds(j, "wall_seconds", r->wall_seconds);
	json_seconds(j, "saved_seconds", r->saved_seconds);
	json_uint(j, "inputs", r->inputs);
	json_uint(j, "outputs", r->outputs);
	json_uint(j, "output_bytes", r->output_bytes);
	json_time(j, "started", r->started_ns);
	json_text(j, "shared_by", r->shared_by);
	if (r->verify)
		verdict_json(r->verdict, j);
	json_end(j);
	json_done(j);
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

static int write_to(const char *path, const struct buf *b, struct err *e)
{
	auto_free char *real = NULL;
	struct stat st;

	if (strcmp(path, "-") == 0)
		return write_there(STDOUT_FILENO, "standard output", b, e);
	if (stat(path, &st) < 0) {
		if (lstat(path, &st) < 0 && errno == ENOENT)
			return write_beside(path, default_mode(), b, e);
		return write_direct(path, b, e);
	}
	/* A link to a file stays one. */
	real = S_ISREG(st.st_mode) ? realpath(path, NULL) : NULL;
	if (!real)
		return write_direct(path, b, e);
	return write_beside(real, st.st_mode & 07777, b, e);
}

int report_write(const char *path, const struct report *r, struct err *e)
{
	struct json j = {0};
	int k;

	put_report(&j, r);
	k = write_to(path, &j.b, e);
	buf_free(&j.b);
	return k;
}

/* ---- the line ---- */

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
	buf_addf(&b, " (%s %s%s", hit ? "saved" : "took", time, r->shared_by ? ", by " : ")");
	if (r->shared_by) {
		add_plain(&b, r->shared_by);
		buf_addf(&b, ")");
	}
	if (verbosity > 0 && r->reason) {
		buf_addf(&b, ": ");
		add_plain(&b, r->reason);
	}
	buf_u8(&b, '\n');
	if (write_all(STDERR_FILENO, b.data, b.len) < 0)
		return; /* nowhere is left to say it */
}
