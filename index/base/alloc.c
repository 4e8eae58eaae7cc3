/* SPDX-License-Identifier: MIT */
/* alloc.c - cleanup helpers, and allocation that ends the process when memory is out. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

#define EXIT_NO_MEMORY 125

void base_close(int *fd)
{
	int saved = errno;

	/* Nothing can be done about an error here; writers check fsync or write. */
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

void base_fclose(FILE **f)
{
	int saved = errno;

	if (*f)
		(void)fclose(*f); /* as above: writers that care call fclose themselves */
	errno = saved;
}

_Noreturn void no_memory(void)
{
	static const char text[] = "mlfs: cannot go on: out of memory\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(EXIT_NO_MEMORY); /* nowhere is left to say it */
	_exit(EXIT_NO_MEMORY);
}

static void *check(void *p)
{
	if (!p)
		no_memory();
	return p;
}

void *xmalloc(size_t n)
{
	return check(malloc(n ? n : 1));
}

void *io_alloc(size_t n)
{
	void *p;

	return posix_memalign(&p, (size_t)sysconf(_SC_PAGESIZE), n) == 0 ? p : NULL;
}

void *xcalloc(size_t n, size_t size)
{
	return check(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
	return check(realloc(p, n ? n : 1));
}

char *xstrdup(const char *s)
{
	return check(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return check(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return check(n < 0 ? NULL : s);
}

/* ---- arenas ---- */

#define ARENA_CHUNK ((size_t)64 << 10)
#define ARENA_ALIGN 8u

struct arena_chunk {
	struct arena_chunk *next;
	uint64_t data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_chunk *c;
	void *p;

	n = (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	if (!a->chunks || n > a->size - a->used) {
		a->size = n > ARENA_CHUNK - sizeof(*c) ? n : ARENA_CHUNK - sizeof(*c);
		c = xcalloc(1, sizeof(*c) + a->size);
		c->next = a->chunks;
		a->chunks = c;
		a->used = 0;
	}
	p = (char *)a->chunks->data + a->used;
	a->used += n;
	return p;
}

void arena_free(struct arena *a)
{
	for (struct arena_chunk *c = a->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	*a = (struct arena){0};
}
