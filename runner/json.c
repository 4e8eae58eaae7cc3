/* SPDX-License-Identifier: MIT */
/* json.c - a JSON writer. */
#include <string.h>

#include "json.h"

#define FLUSH_AT (64 << 10)

static void flush(struct json *j)
{
	if (!j->to)
		return;
	(void)fwrite(j->b.data, 1, j->b.len,
		     j->to); /* its error stays in the stream, for who closes it */
	j->b.len = 0;
}

/* What stands before a value. */
static void lead(struct json *j, const char *name, const char *suffix)
{
	if (j->begun && j->depth)
		buf_addf(&j->b, ", ");
	j->begun = true;
	if (!name)
		return;
	buf_addf(&j->b, "\"%s%s\": ", name, suffix);
}

static void open_it(struct json *j, const char *name, char begin, char end)
{
	lead(j, name, "");
	buf_u8(&j->b, (uint8_t)begin);
	if (j->depth < sizeof(j->closes))
		j->closes[j->depth] = end;
	j->depth++;
	j->begun = false;
}

void json_object(struct json *j, const char *name)
{
	open_it(j, name, '{', '}');
}

void json_array(struct json *j, const char *name)
{
	open_it(j, name, '[', ']');
}

void json_end(struct json *j)
{
	j->depth--;
	buf_u8(&j->b, (uint8_t)(j->depth < sizeof(j->closes) ? j->closes[j->depth] : '}'));
	j->begun = true;
	if (!j->depth && j->lines)
		buf_u8(&j->b, '\n');
	if (j->b.len > FLUSH_AT)
		flush(j);
}

static void put_base64(struct buf *b, const uint8_t *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	buf_u8(b, '"');
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < n)
			v |= p[i + 2];
		buf_u8(b, (uint8_t)digits[v >> 18]);
		buf_u8(b, (uint8_t)digits[v >> 12 & 63]);
		buf_u8(b, i + 1 < n ? (uint8_t)digits[v >> 6 & 63] : '=');
		buf_u8(b, i + 2 < n ? (uint8_t)digits[v & 63] : '=');
	}
	buf_u8(b, '"');
}

void json_bytes(struct json *j, const char *name, const void *p, size_t n)
{
	lead(j, name, "");
	json_string(&j->b, p, n);
	if (!name || is_utf8(p, n))
		return;
	lead(j, name, "_base64");
	put_base64(&j->b, p, n);
}

void json_text(struct json *j, const char *name, const char *text)
{
	if (text)
		json_bytes(j, name, text, strlen(text));
	else
		json_null(j, name);
}

void json_texts(struct json *j, const char *name, char *const *v, size_t n)
{
	bool exact = true;

	json_array(j, name);
	for (size_t i = 0; i < n; i++) {
		json_text(j, NULL, v[i]);
		exact &= is_utf8(v[i], strlen(v[i]));
	}
	json_end(j);
	if (exact || !name)
		return;
	lead(j, name, "_base64");
	buf_u8(&j->b, '[');
	for (size_t i = 0; i < n; i++) {
		buf_addf(&j->b, "%s", i ? ", " : "");
		put_base64(&j->b, (const uint8_t *)v[i], strlen(v[i]));
	}
	buf_u8(&j->b, ']');
}

void json_int(struct json *j, const char *name, int64_t v)
{
	lead(j, name, "");
	buf_addf(&j->b, "%lld", (long long)v);
}

void json_uint(struct json *j, const char *name, uint64_t v)
{
	lead(j, name, "");
	buf_addf(&j->b, "%llu", (unsigned long long)v);
}

void json_bool(struct json *j, const char *name, bool v)
{
	lead(j, name, "");
	buf_addf(&j->b, "%s", v ? "true" : "false");
}

void json_null(struct json *j, const char *name)
{
	lead(j, name, "");
	buf_addf(&j->b, "null");
}

void json_seconds(struct json *j, const char *name, double v)
{
	lead(j, name, "");
	buf_addf(&j->b, "%.6f", v);
}

void json_time(struct json *j, const char *name, int64_t ns)
{
	char text[40];

	json_text(j, name, rfc3339(ns, text, sizeof(text)));
}

void json_hex(struct json *j, const char *name, const void *p, size_t n)
{
	char text[2 * 64 + 1];

	if (!p || n > 64) {
		json_null(j, name);
		return;
	}
	hex(p, n, text);
	json_text(j, name, text);
}

bool is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n && !*b)
		b++, n--;
	return !n;
}

void json_key(struct json *j, const char *name, const struct fp *key)
{
	json_hex(j, name, is_zero(key, sizeof(*key)) ? NULL : key, sizeof(*key));
}

void json_raw(struct json *j, const char *name, const struct buf *value)
{
	lead(j, name, "");
	buf_add(&j->b, value->data, value->len);
}

void json_done(struct json *j)
{
	if (!j->lines)
		buf_u8(&j->b, '\n');
	if (!j->to)
		return;
	flush(j);
	buf_free(&j->b);
}
