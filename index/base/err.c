/* SPDX-License-Identifier: MIT */
/* err.c - filling a struct err where something fails, and putting context in front of it. */
#include <errno.h>
#include <string.h>

#include "base.h"

static int positive(int code)
{
	if (code == 0)
		return EIO; /* a failure that names no cause must not turn into success */
	return code < 0 ? -code : code;
}

static void fill(struct err *e, int code, bool with_text, const char *fmt, va_list ap)
{
	int n;
	char text[128];

	e->code = code;
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	if (n < 0)
		e->msg[n = 0] = '\0';
	if (with_text && (size_t)n < sizeof(e->msg))
		(void)snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s",
			       strerror_r(code, text, sizeof(text))); /* cut off when too long */
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	code = positive(code);
	if (e) {
		va_start(ap, fmt);
		fill(e, code, true, fmt, ap);
		va_end(ap);
	}
	return -code;
}

int err_text(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	code = positive(code);
	if (e) {
		va_start(ap, fmt);
		fill(e, code, false, fmt, ap);
		va_end(ap);
	}
	return -code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;
	int n;

	if (!e)
		return -EIO; /* the caller asked for no text, so it has the code at hand */
	memcpy(old, e->msg, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(e->msg))
		(void)snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %.500s", old);
	return -positive(e->code);
}
