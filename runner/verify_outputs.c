/* SPDX-License-Identifier: MIT */
/* verify_outputs.c - each output of the cached result with what stands at its path now. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "verify.h"

/* ---- content ---- */

static void damaged(struct check *k, const struct output *o, const struct comparison *c)
{
	k->damaged = true;
	if (c && !c->same)
		verify_differ(
			k, o->path, "damaged",
			"its object in the cache is damaged: not what the step left, from offset %llu on",
			(unsigned long long)c->at);
	else
		verify_differ(k, o->path, "damaged",
			      "its object in the cache is missing or damaged");
}

/* The object is read as it is; whether it is whole is asked afterwards, so that damage can be told from a step that
 * left something else. */
static void compare_content(struct check *k, const struct output *o, const struct stat *st)
{
	struct err e = {0};
	auto_close int now = capture_open(o->path, st);
	auto_close int then = store_open(k->x, &o->oid, o->now.size, &e);
	struct source a = source_file(then), b = source_file(now);
	struct comparison c = {0};
	int r;

	if (then == -ENOENT || then == -EUCLEAN) {
		damaged(k, o, NULL);
		return;
	}
	if (then < 0 || now < 0) {
		verify_unsure(k, "%s could not be compared: %s", o->path,
			      then < 0 ? e.msg : strerror(errno));
		return;
	}
	r = compare_streams(&a, &b, &k->context, k->guesses < VERIFY_MAX_GUESSES, &c);
	if (r < 0) {
		verify_unsure(k, "%s could not be compared: %s", o->path, strerror(-r));
		return;
	}
	if (store_check(k->x, &o->oid, o->now.size) == 0) {
		damaged(k, o, &c);
		return;
	}
	if (c.same)
		return;
	k->guesses++;
	verify_differ_at(k, o->path, "content", &c);
}

/* ---- one output ---- */

static const char *type_name(const struct stat *st)
{
	return S_ISREG(st->st_mode)    ? "a file"
	       : S_ISDIR(st->st_mode)  ? "a directory"
	       : S_ISLNK(st->st_mode)  ? "a symbolic link"
	       : S_ISFIFO(st->st_mode) ? "a fifo"
				       : "a special file";
}

static void compare_target(struct check *k, const struct output *o)
{
	char target[PATH_MAX];
	ssize_t n = readlink(o->path, target, sizeof(target) - 1);
	const char *then = o->now.target ? o->now.target : "";

	if (n < 0) {
		verify_unsure(k, "the link %s cannot be read: %s", o->path, strerror(errno));
		return;
	}
	target[n] = '\0';
	if (strcmp(target, then) != 0)
		verify_differ(k, o->path, "target", "points to %.200s then, to %.200s now", then,
			      target);
}

static void compare_xattrs(struct check *k, const struct output *o)
{
	auto_buf struct buf b = {0};
	int r = xattr_blob(o->path, -1, &b);

	if (r < 0)
		verify_unsure(k, "the extended attributes of %s cannot be read: %s", o->path,
			      strerror(-r));
	else if (b.len != o->n_xattrs || (b.len && memcmp(b.data, o->xattrs, b.len) != 0))
		verify_differ(k, o->path, "xattrs", "other extended attributes%s",
			      !b.len	     ? ": none now"
			      : !o->n_xattrs ? ": none then"
					     : "");
}

static void compare_attributes(struct check *k, const struct output *o, const struct stat *st)
{
	if (o->now.type != OUT_LINK && (st->st_mode & 07777) != (o->now.mode & 07777))
		verify_differ(k, o->path, "mode", "mode %04o then, %04o now",
			      (unsigned)o->now.mode & 07777, (unsigned)st->st_mode & 07777);
	/* Only root can give files away, so only then owners are part of a result. */
	if (geteuid() == 0 && o->uid != OUT_ANY_ID &&
	    (st->st_uid != o->uid || st->st_gid != o->gid))
		verify_differ(k, o->path, "owner", "owner %u:%u then, %u:%u now", o->uid, o->gid,
			      st->st_uid, st->st_gid);
	/* Times are no observations, so the same inputs may well bring others (cp -p). */
	if (o->mtime_set && timespec_ns(st->st_mtim) != o->mtime_ns && !k->times++)
		k->first_time = o->path;
	if (!o->in_place || o->xattrs)
		compare_xattrs(k, o);
}

static void compare_output(struct check *k, size_t i)
{
	const struct output *o = &k->cached->outputs[i];
	const struct stat *st = &k->now[i];

	if (k->now_err[i] && k->now_err[i] != ENOENT) {
		verify_unsure(k, "%s cannot be looked at: %s", o->path, strerror(k->now_err[i]));
	} else if (k->now_err[i]) {
		if (o->now.type != OUT_ABSENT)
			verify_differ(k, o->path, "missing", "was left then, is not there now");
	} else if (o->now.type == OUT_ABSENT) {
		verify_differ(k, o->path, "not removed", "was gone then, is there now");
	} else if ((st->st_mode & S_IFMT) != verify_type_bits(o->now.type)) {
		struct stat then = {.st_mode = verify_type_bits(o->now.type)};

		verify_differ(k, o->path, "type", "%s then, %s now", type_name(&then),
			      type_name(st));
	} else {
		if (o->now.type == OUT_FILE)
			compare_content(k, o, st);
		else if (o->now.type == OUT_LINK)
			compare_target(k, o);
		compare_attributes(k, o, st);
	}
}

/* ---- hard links ---- */

struct name {
	const struct stat *st; /* borrowed */
	const struct output *o;
};

static int by_inode(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->st->st_dev != y->st->st_dev)
		return x->st->st_dev < y->st->st_dev ? -1 : 1;
	if (x->st->st_ino != y->st->st_ino)
		return x->st->st_ino < y->st->st_ino ? -1 : 1;
	return strcmp(x->o->path, y->o->path);
}

static int by_group(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	if (x->o->link_group != y->o->link_group)
		return x->o->link_group < y->o->link_group ? -1 : 1;
	return strcmp(x->o->path, y->o->path);
}

static bool same_file(const struct name *a, const struct name *b)
{
	return a->st->st_dev == b->st->st_dev && a->st->st_ino == b->st->st_ino;
}

/* Names that are of one file now and were of two then, or the other way round. */
static void compare_links(struct check *k)
{
	const struct result *r = k->cached;
	auto_free struct name *v = xcalloc(r->n_outputs + 1, sizeof(*v));
	size_t n = 0, first = 0;

	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_FILE && !k->now_err[i] &&
		    S_ISREG(k->now[i].st_mode))
			v[n++] = (struct name){&k->now[i], &r->outputs[i]};
	qsort(v, n, sizeof(*v), by_inode);
	for (size_t i = 1; i < n; i++)
		if (same_file(&v[i], &v[i - 1]) &&
		    (!v[i].o->link_group || v[i].o->link_group != v[i - 1].o->link_group))
			verify_differ(k, v[i].o->path, "links",
				      "is a hard link of %.200s now, not then", v[i - 1].o->path);
	qsort(v, n, sizeof(*v), by_group);
	for (size_t i = 1; i < n; i++) {
		if (v[i].o->link_group != v[first].o->link_group)
			first = i;
		else if (v[i].o->link_group && !same_file(&v[i], &v[first]))
			verify_differ(k, v[i].o->path, "links",
				      "was a hard link of %.200s then, not now", v[first].o->path);
	}
}

/* ---- all of them ---- */

void verify_outputs(struct check *k)
{
	for (size_t i = 0; i < k->cached->n_outputs; i++)
		compare_output(k, i);
	compare_links(k);
	if (k->times)
		verdict_note(&k->v, "it set another time than then of %zu output%s: %s%s", k->times,
			     k->times == 1 ? "" : "s", k->first_time, k->times == 1 ? "" : ", ...");
}
