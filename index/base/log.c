/* SPDX-License-Identifier: MIT */
/* log.c - one line on stderr, in one write, when the level lets it through. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

#define LEVEL_UNSET (-2)

static atomic_int the_level = LEVEL_UNSET; /* the global state base.h speaks of */

void log_set_level(enum log_level l)
{
	atomic_store(&the_level, (int)l);
}

static bool wants(enum log_level l)
{
	int now = atomic_load(&the_level);
	const char *debug;

	if (now >= (int)l)
		return true;
	/* Asked for only when the line would be lost: lines that pass cost no getenv. */
	debug = getenv("MLFS_DEBUG");
	if (debug && strcmp(debug, "1") == 0)
		return true;
	return now == LEVEL_UNSET && l <= LOG_WARN;
}

static void emit(enum log_level l, const char *fmt, va_list ap)
{
	int saved = errno, n;
	char line[2048] = "mlfs: ";
	const size_t head = 6;

	if (!wants(l))
		return;
	n = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - head - 2)
		n = (int)(sizeof(line) - head - 2); /* cut off: the write must be one */
	line[head + (size_t)n] = '\n';
	if (write_all(STDERR_FILENO, line, head + (size_t)n + 1) < 0) {
		/* Nowhere is left to say it. */
	}
	errno = saved;
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_WARN, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_INFO, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOG_DEBUG, fmt, ap);
	va_end(ap);
}
