/* SPDX-License-Identifier: MIT */
/* browse_names.c - names of results and of paths as names of files. */
#include <string.h>
#include <time.h>

#include "browse.h"

#define MAX_NAME 255
#define KEPT	 200 /* bytes of a name that is too long */

void result_name(int64_t started_ns, const struct fp *key, char name[RESULT_NAME_SIZE])
{
	time_t t = (time_t)(started_ns / 1000000000);
	char when[32], digits[9];
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm))
		(void)snprintf(when, sizeof(when), "unknown"); /* fits */
	hex(key, 4, digits);
	(void)snprintf(name, RESULT_NAME_SIZE, "%s-%s", when, digits); /* fits */
}

static void add_escaped(struct buf *b, uint8_t c)
{
	buf_addf(b, "\\x%02x", c);
}

char *name_escape(const char *name)
{
	struct buf b = {0};
	/* No file can be called so. */
	bool reserved = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;

	if (!*name)
		buf_addf(&b, "\\x");
	for (const char *p = name; *p; p++)
		if (reserved || (uint8_t)*p < 0x20 || *p == 0x7f || *p == '/' || *p == '\\')
			add_escaped(&b, (uint8_t)*p);
		else
			buf_u8(&b, (uint8_t)*p);
	if (b.len > MAX_NAME) {
		struct fp fp = fp_of(name, strlen(name));
		char digits[17];

		/* Not within a character of UTF-8. */
		for (b.len = KEPT; b.len && (b.data[b.len] & 0xc0) == 0x80;)
			b.len--;
		hex(&fp, 8, digits);
		buf_addf(&b, "\\~%s", digits);
	}
	buf_u8(&b, 0);
	return (char *)b.data;
}

/* "\x2f" at *at. */
static bool get_escaped(const char **at, struct buf *b)
{
	uint8_t c;
	char digits[3];

	if ((*at)[1] != 'x' || !(*at)[2] || !(*at)[3])
		return false;
	(void)snprintf(digits, sizeof(digits), "%.2s", *at + 2); /* fits */
	if (!unhex(digits, &c, 1) || !c)
		return false;
	buf_u8(b, c);
	*at += 4;
	return true;
}

char *name_unescape(const char *text)
{
	auto_buf struct buf b = {0};
	auto_free char *again = NULL;
	char *name;

	if (strcmp(text, "\\x") == 0)
		return xstrdup("");
	for (const char *p = text; *p;)
		if (*p != '\\')
			buf_u8(&b, (uint8_t)*p++);
		else if (!get_escaped(&p, &b))
			return NULL;
	buf_u8(&b, 0);
	name = xstrdup((char *)b.data);
	again = name_escape(name);
	if (strcmp(again, text) == 0)
		return name;
	free(name); /* written otherwise than we write it */
	return NULL;
}

static bool is_reserved(const char *part, size_t n)
{
	return (n == 5 && memcmp(part, "@read", n) == 0) ||
	       (n == 6 && memcmp(part, "@wrote", n) == 0) || (n && *part == '\\');
}

char *part_escape(const char *part, size_t n)
{
	return is_reserved(part, n)
		       ? xasprintf("\\x%02x%.*s", (uint8_t)*part, (int)(n - 1), part + 1)
		       : xstrndup(part, n);
}

char *part_unescape(const char *text)
{
	auto_buf struct buf b = {0};
	const char *p = text;

	if (*text != '\\')
		return xstrdup(text);
	if (!get_escaped(&p, &b))
		return NULL;
	buf_add(&b, p, strlen(p) + 1);
	return is_reserved((char *)b.data, b.len - 1) ? xstrdup((char *)b.data) : NULL;
}
