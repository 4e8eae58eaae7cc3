/* SPDX-License-Identifier: MIT */
/* screen.c - colours and the pager, for people at a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "screen.h"
#include "words.h"

#define DEFAULT_PAGER "less"

struct screen {
	bool color, paged;
	unsigned width, height; /* 0: no terminal */
	unsigned lines;		/* so far */
	struct buf waiting;	/* what may turn out to fit one screen */
	FILE *to;
	pid_t pager; /* 0: none */
	bool gone;
};

/* ---- the pager ---- */

static const char *set_variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* Is there a program of this name? */
static bool on_path(const char *program)
{
	const char *path = getenv("PATH");

	while (path && *path) {
		size_t n = strcspn(path, ":");
		auto_free char *file = xasprintf("%.*s/%s", (int)n, path, program);

		if (n && access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

/* A command of the shell, or NULL when none is wanted or to be had. */
static const char *pager_command(void)
{
	static const char *const names[] = {"MLFS_PAGER", "PAGER"};

	for (size_t i = 0; i < 2; i++) {
		const char *v = getenv(names[i]);

		if (v)
			return *v && strcmp(v, "cat") != 0 ? v : NULL;
	}
	return on_path(DEFAULT_PAGER) ? DEFAULT_PAGER : NULL;
}

static _Noreturn void become_pager(const char *command, int in)
{
	char *const argv[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};

	/* As git has it: quit when all fits, show colours, leave the text on the screen. */
	if (!getenv("LESS"))
		setenv("LESS", "FRX", 1);
	if (dup2(in, STDIN_FILENO) >= 0)
		execv("/bin/sh", argv);
	_exit(127);
}

/* Standard output goes there from now on. Where there is no pager it goes on as it was. */
static void start_pager(struct screen *s)
{
	const char *command = pager_command();
	int ends[2];

	s->paged = false;
	if (!command || pipe2(ends, O_CLOEXEC) < 0)
		return;
	s->pager = fork();
	if (s->pager == 0)
		become_pager(command, ends[0]);
	base_close(&ends[0]);
	s->to = s->pager > 0 ? fdopen(ends[1], "w") : NULL;
	if (s->to) {
		(void)signal(SIGPIPE, SIG_IGN); /* it may be left before the end */
		(void)signal(SIGINT, SIG_IGN);	/* is the pager's while it runs */
		return;
	}
	base_close(&ends[1]);
	s->to = stdout;
}

/* ---- writing ---- */

static void emit(struct screen *s, const void *p, size_t n)
{
	if (s->gone || !n || fwrite(p, 1, n, s->to) == n)
		return;
	s->gone = true;
}

static void emit_waiting(struct screen *s)
{
	emit(s, s->waiting.data, s->waiting.len);
	s->waiting.len = 0;
}

void screen_bytes(struct screen *s, const void *p, size_t n)
{
	const char *text = p;

	if (!s->paged) {
		emit(s, p, n);
		return;
	}
	buf_add(&s->waiting, p, n);
	for (size_t i = 0; i < n; i++)
		s->lines += text[i] == '\n';
	if (s->lines + 1 < s->height)
		return;
	start_pager(s);
	emit_waiting(s);
}

void screen_addf(struct screen *s, const char *fmt, ...)
{
	auto_free char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		no_memory();
	screen_bytes(s, text, (size_t)n);
}

void add_plain(struct buf *b, const char *text)
{
	for (; *text; text++) {
		uint8_t c = (uint8_t)*text, next = (uint8_t)text[1];

		/* The second: control characters of ISO 6429 in UTF-8. */
		if (c < 0x20 || c == 0x7f) {
			buf_u8(b, '?');
		} else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			buf_u8(b, '?');
			text++;
		} else {
			buf_u8(b, c);
		}
	}
}

void screen_text(struct screen *s, const char *text)
{
	auto_buf struct buf b = {0};

	add_plain(&b, text);
	screen_bytes(s, b.data, b.len);
}

void screen_painted(struct screen *s, enum paint p, const char *text)
{
	static const char *const codes[] = {
		[PAINT_GOOD] = "32", [PAINT_BAD] = "31",  [PAINT_NOTE] = "33",
		[PAINT_KEY] = "36",  [PAINT_FAINT] = "2", [PAINT_BOLD] = "1",
	};

	if (s->color)
		screen_addf(s, "\033[%sm", codes[p]);
	screen_text(s, text);
	if (s->color)
		screen_addf(s, "\033[m");
}

/* ---- the whole ---- */

struct screen *screen_open(bool paged)
{
	struct screen *s = xcalloc(1, sizeof(*s));
	const char *term = getenv("TERM");
	struct winsize w;

	s->to = stdout;
	if (!isatty(STDOUT_FILENO))
		return s;
	s->width = 80;
	s->height = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0) {
		s->width = w.ws_col ? w.ws_col : s->width;
		s->height = w.ws_row ? w.ws_row : s->height;
	}
	s->color = !set_variable("NO_COLOR") && term && *term && strcmp(term, "dumb") != 0;
	s->paged = paged && isatty(STDIN_FILENO);
	return s;
}

unsigned screen_width(const struct screen *s)
{
	return s->width;
}

bool screen_gone(const struct screen *s)
{
	return s->gone;
}

int screen_close(struct screen *s, int status)
{
	pid_t pager = s->pager;
	int how;

	emit_waiting(s);
	buf_free(&s->waiting);
	if (s->to != stdout)
		(void)fclose(s->to); /* EPIPE: it was left before the end, which is no failure */
	free(s);
	if (!pager)
		return printed_status(status);
	while (waitpid(pager, &how, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(how) && WEXITSTATUS(how) >= 126)
		log_warn("cannot run the pager '%s'; set MLFS_PAGER", pager_command());
	return status;
}

/* ---- text ---- */

bool locale_is_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	const char *v = NULL;

	for (size_t i = 0; !v && i < 3; i++)
		v = set_variable(names[i]);
	return v && (strcasestr(v, "UTF-8") || strcasestr(v, "UTF8"));
}

size_t text_columns(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((uint8_t)*text & 0xc0) != 0x80;
	return n;
}

char *human_time(int64_t unix_ns, char *buf, size_t n)
{
	int64_t now = now_ns();
	time_t t = (time_t)(unix_ns / 1000000000), t_now = (time_t)(now / 1000000000);
	struct tm tm, tm_now;
	const char *form = "%Y-%m-%d %H:%M";

	buf[0] = '\0';
	if (!localtime_r(&t, &tm) || !localtime_r(&t_now, &tm_now))
		return buf;
	if (tm.tm_year == tm_now.tm_year && tm.tm_yday == tm_now.tm_yday)
		form = "%H:%M";
	else if (unix_ns <= now && t_now - t < 6 * 86400)
		form = "%a %H:%M";
	(void)strftime(buf, n, form, &tm); /* fits */
	return buf;
}
