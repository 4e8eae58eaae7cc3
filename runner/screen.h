/* SPDX-License-Identifier: MIT */
/*
 * screen.h - private to runner/: what people are shown on standard output. On a terminal: colours (unless $NO_COLOR is set, or
 * $TERM is dumb), and a pager ($MLFS_PAGER, $PAGER, or less) once it is longer than the screen. Elsewhere: the text.
 */
#ifndef MLFS_SCREEN_H
#define MLFS_SCREEN_H

#include "runner.h"

enum paint { PAINT_GOOD, PAINT_BAD, PAINT_NOTE, PAINT_KEY, PAINT_FAINT, PAINT_BOLD };

struct screen;
/* paged: it may be long. Caller: screen_close. */
struct screen *screen_open(bool paged);
/* Columns of the terminal; 0: it is none, lines may be as long as they are. */
unsigned screen_width(const struct screen *s);
/* Nobody looks any more (the pager was left): what follows may be left out. */
bool screen_gone(const struct screen *s);
/* Text of ours. */
void screen_addf(struct screen *s, const char *fmt, ...) printf_like(2, 3);
/* Names, reasons and the like: control characters become '?', so that a terminal does not act on them. */
void screen_text(struct screen *s, const char *text);
void screen_painted(struct screen *s, enum paint p, const char *text);
/* Bytes as they are. */
void screen_bytes(struct screen *s, const void *p, size_t n);
/* Waits for the pager. `status`, or 2 when it could not be written (said). */
int screen_close(struct screen *s, int status);

/* May other characters than those of ASCII be shown? */
bool locale_is_utf8(void);
/* How many columns a text takes, about: one for each character. */
size_t text_columns(const char *text);
/* For names shown on a terminal: appended to b with '?' for control characters. */
void add_plain(struct buf *b, const char *text);
/* "10:42" today, "Fri 10:42" within the last days, else "2026-11-21 10:42"; local time. buf of at least 32. */
char *human_time(int64_t unix_ns, char *buf, size_t n);

#endif
