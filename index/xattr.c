/* SPDX-License-Identifier: MIT */
/*
 * xattr.c - all extended attributes of a file as one blob, sorted by name, and back.
 *
 * blob: { name: varint length, bytes; value: varint length, bytes }*
 * Left out: what the system derives from the file itself (security.selinux, security.ima,
 * security.evm).
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "index.h"

#define MAX_TRIES 16 /* someone may be changing them meanwhile */

static bool left_out(const char *name)
{
	return strcmp(name, "security.selinux") == 0 || strcmp(name, "security.ima") == 0 ||
	       strcmp(name, "security.evm") == 0;
}

/* A descriptor opened with O_PATH has no f*xattr: its name under /proc does (and leads to the file
 * itself). */
struct target {
	const char *path; /* not followed */
	const char *fd_path;
	int fd;
};

static ssize_t list_names(const struct target *t, char *buf, size_t n)
{
	ssize_t k;

	if (t->fd < 0)
		return llistxattr(t->path, buf, n);
	k = flistxattr(t->fd, buf, n);
	return k < 0 && errno == EBADF ? listxattr(t->fd_path, buf, n) : k;
}

static ssize_t get_value(const struct target *t, const char *name, void *buf, size_t n)
{
	ssize_t k;

	if (t->fd < 0)
		return lgetxattr(t->path, name, buf, n);
	k = fgetxattr(t->fd, name, buf, n);
	return k < 0 && errno == EBADF ? getxattr(t->fd_path, name, buf, n) : k;
}

static int set_value(const struct target *t, const char *name, const void *p, size_t n)
{
	int r;

	if (t->fd < 0)
		return lsetxattr(t->path, name, p, n, 0);
	r = fsetxattr(t->fd, name, p, n, 0);
	return r < 0 && errno == EBADF ? setxattr(t->fd_path, name, p, n, 0) : r;
}

static int remove_value(const struct target *t, const char *name)
{
	int r;

	if (t->fd < 0)
		return lremovexattr(t->path, name);
	r = fremovexattr(t->fd, name);
	return r < 0 && errno == EBADF ? removexattr(t->fd_path, name) : r;
}

/* The names, NUL after each. */
static int read_names(const struct target *t, struct buf *out)
{
	for (int tries = 0; tries < MAX_TRIES; tries++) {
		ssize_t n = list_names(t, NULL, 0);

		if (n <= 0)
			return n == 0 || errno == ENOTSUP ? 0 : -errno;
		buf_reserve(out, (size_t)n);
		n = list_names(t, (char *)out->data, out->cap);
		if (n >= 0) {
			out->len = (size_t)n;
			return 0;
		}
		if (errno != ERANGE)
			return -errno;
	}
	return -EBUSY;
}

static int read_value(const struct target *t, const char *name, struct buf *out)
{
	for (int tries = 0; tries < MAX_TRIES; tries++) {
		ssize_t n = get_value(t, name, NULL, 0);

		if (n < 0)
			return -errno;
		buf_reserve(out, (size_t)n + 1);
		n = get_value(t, name, out->data, out->cap);
		if (n >= 0) {
			out->len = (size_t)n;
			return 0;
		}
		if (errno != ERANGE)
			return -errno;
	}
	return -EBUSY;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names worth keeping, sorted, pointing into `names`. Caller frees the array. */
static char **sorted_names(struct buf *names, size_t *ret_n)
{
	size_t n = 0, cap = 1;
	char **v;

	for (size_t i = 0; i < names->len; i++)
		cap += names->data[i] == 0;
	v = xcalloc(cap, sizeof(*v)); /* at most 64 KB of names: XATTR_LIST_MAX */
	for (size_t i = 0; i < names->len;) {
		char *s = (char *)names->data + i;

		if (!left_out(s))
			v[n++] = s;
		i += strlen(s) + 1;
	}
	qsort(v, n, sizeof(*v), by_name);
	*ret_n = n;
	return v;
}

static int blob_of(const struct target *t, struct buf *out)
{
	auto_buf struct buf names = {0}, value = {0};
	auto_free char **v = NULL;
	size_t n;
	int r = read_names(t, &names);

	if (r < 0)
		return r;
	v = sorted_names(&names, &n);
	for (size_t i = 0; i < n; i++) {
		value.len = 0;
		r = read_value(t, v[i], &value);
		if (r == -ENODATA)
			continue; /* gone meanwhile, or listed to all and readable by few */
		if (r < 0)
			return r;
		buf_str(out, v[i]);
		buf_bytes(out, value.data, value.len);
	}
	return 0;
}

int xattr_blob(const char *path, int fd, struct buf *out)
{
	char fd_path[40];
	struct target t = {path, fd_path, fd};
	size_t before = out->len;
	int r;

	(void)snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd); /* fits */
	r = blob_of(&t, out);
	if (r < 0)
		out->len = before;
	return r;
}

/* ---- apply ---- */

struct wanted {
	char *name;
	const void *value;
	size_t n;
};

/* Decode all of the blob before anything is changed. Names are malloc'ed. */
static int decode(const void *blob, size_t n, struct wanted **ret, size_t *ret_n)
{
	const uint8_t *p = n ? blob : (const uint8_t *)"";
	struct cur c = {p, p + n, false};
	struct wanted *v = NULL;
	size_t count = 0, cap = 0;

	while (c.p < c.end && !c.bad) {
		if (count == cap) {
			cap = cap ? cap * 2 : 8;
			v = xrealloc(v, cap * sizeof(*v));
		}
		v[count].name = cur_str(&c);
		v[count].value = cur_bytes(&c, &v[count].n);
		count++;
	}
	*ret = v;
	*ret_n = count;
	return c.bad ? -EBADMSG : 0;
}

static const struct wanted *find(const struct wanted *v, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].name, name) == 0)
			return &v[i];
	return NULL;
}

static int remove_others(const struct target *t, const struct wanted *v, size_t n,
			 const char **ret_name)
{
	auto_buf struct buf names = {0};
	int r = read_names(t, &names);

	for (size_t i = 0; r == 0 && i < names.len;) {
		const char *s = (const char *)names.data + i;

		if (!left_out(s) && !find(v, n, s) && remove_value(t, s) < 0 && errno != ENODATA) {
			r = -errno;
			*ret_name = "an attribute to be removed";
		}
		i += strlen(s) + 1;
	}
	return r;
}

static int set_missing(const struct target *t, const struct wanted *v, size_t n,
		       const char **ret_name)
{
	auto_buf struct buf value = {0};

	for (size_t i = 0; i < n; i++) {
		int r = read_value(t, v[i].name, &value);

		if (r == 0 && value.len == v[i].n &&
		    (v[i].n == 0 || memcmp(value.data, v[i].value, v[i].n) == 0))
			continue; /* as wanted; setting it may need privileges */
		if (set_value(t, v[i].name, v[i].value, v[i].n) < 0) {
			*ret_name = v[i].name;
			return -errno;
		}
	}
	return 0;
}

int xattr_apply(const char *path, int fd, const void *blob, size_t n, struct err *e)
{
	char fd_path[40];
	struct target t = {path, fd_path, fd};
	const char *name = "extended attributes";
	struct wanted *v;
	size_t count;
	int r;

	(void)snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd); /* fits */
	r = decode(blob, n, &v, &count);
	if (r == 0)
		r = remove_others(&t, v, count, &name);
	if (r == 0)
		r = set_missing(&t, v, count, &name);
	if (r < 0)
		r = err_set(e, r, "cannot set %s of %s", name, path ? path : fd_path);
	for (size_t i = 0; i < count; i++)
		free(v[i].name);
	free(v);
	return r;
}
