/* SPDX-License-Identifier: MIT */
/*
 * share_look.c - is what a shared result rests on there, for the user of this process? See share.h.
 *
 * Nothing that is remembered stands in for a look: a file is opened and read, with this user's rights. In two rounds: the first opens
 * nothing (what watches files does not tell of it), so that paths which a user may not read, or that are of another size, end it before
 * anything is touched.
 *
 * Digests are SHA-256 besides those of the states: a user who may not store anything could make a file that has the same XXH3
 * as one that a result rests on, and have others take the result for that of his file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "share.h"

struct share_digests {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtim, ctim;
	struct fp fp;
	struct oid oid;
};

struct looking {
	struct share_seen *seen;
	struct idx *x;
	const char *home;
	int64_t since;
	const char *why;
};

static bool no(struct looking *l, const char *why)
{
	l->why = why;
	return false;
}

static char type_of(mode_t mode)
{
	return S_ISREG(mode)	? 'f'
	       : S_ISDIR(mode)	? 'd'
	       : S_ISLNK(mode)	? 'l'
	       : S_ISFIFO(mode) ? 'p'
				: '?'; /* sockets and devices say nothing of what is in them */
}

/* Of a path that has no links in it. -ENOENT: nothing is there; -errno */
static int open_path(const char *path)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	if (fd < 0)
		/* A path of a record has no links in it: what is behind one is another. */
		return errno == ENOTDIR || errno == ELOOP ? -ENOENT : -errno;
	return fd;
}

/* Where a path of a shared result is for this user. NULL: nowhere, he has no home. Caller frees. */
static char *place_of(const char *path, const char *home)
{
	size_t n = strlen(SHARE_HOME);

	if (strncmp(path, SHARE_HOME, n) != 0 || (path[n] && path[n] != '/'))
		return xstrdup(path);
	return home ? xasprintf("%s%s", home, path + n) : NULL;
}

static void path_of(int fd, char text[32])
{
	snprintf(text, 32, "/proc/self/fd/%d", fd);
}

static bool may(int fd, int how)
{
	char path[32];

	path_of(fd, path);
	return faccessat(AT_FDCWD, path, how, AT_EACCESS) == 0;
}

/* ---- the first round ---- */

/* Could the step have seen of it what is recorded? */
static bool within_reach(struct looking *l, const struct path_entry *p, const struct stat *st,
			 int fd)
{
	if (S_ISREG(st->st_mode) && l->since && !idx_times_settled(l->x, st, l->since))
		return no(l, "an input was changed since, or shortly before");
	if (S_ISREG(st->st_mode) && p->kinds & OBS_CONTENT &&
	    (!may(fd, R_OK) || (st->st_mode & 0111 && !may(fd, X_OK))))
		return no(l, "an input cannot be read");
	if (S_ISDIR(st->st_mode) && p->kinds & OBS_LIST && !may(fd, R_OK))
		return no(l, "a directory cannot be listed");
	return true;
}

static bool could_be(struct looking *l, const struct path_entry *p, const struct buf *state)
{
	struct state_parts was = {0};
	auto_free char *path = place_of(p->path, l->home);
	auto_close int fd = path ? open_path(path) : -EINVAL;
	struct stat st;
	bool same;

	if ((fd < 0 && fd != -ENOENT) || state_parse(state->data, state->len, &was) < 0)
		return no(l, "an input cannot be looked at");
	if (fd < 0) {
		same = was.type == 'a';
	} else {
		same = fstat(fd, &st) == 0 && was.type == type_of(st.st_mode) &&
		       (!was.has_mode || was.mode == (st.st_mode & 07777)) &&
		       (!was.has_size || was.size == (uint64_t)st.st_size);
	}
	state_parts_free(&was);
	if (!same)
		return no(l, "an input is another");
	return fd < 0 || within_reach(l, p, &st, fd);
}

/* ---- the second ---- */

/* What is at a path now; freed together. */
struct found {
	struct facts facts;
	char **list;
	char *target;
	struct buf xattrs;
	struct buf sha; /* of what is in it */
};

static void found_free(struct found *f)
{
	strv_free(f->list, f->facts.n_list);
	free(f->target);
	buf_free(&f->xattrs);
	buf_free(&f->sha);
}

static int add_sha(struct buf *to, const void *p, size_t n)
{
	struct oid oid;
	int r = oid_of(p, n, &oid);

	buf_add(to, &oid, sizeof(oid));
	return r;
}

static int open_again(int fd, int flags)
{
	char path[32];
	int again;

	path_of(fd, path);
	again = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return timespec_ns(a) == timespec_ns(b);
}

/* Where a file is among those seen, or would be. */
static struct share_digests *seen_at(const struct share_seen *s, const struct stat *st)
{
	size_t i = (size_t)xxh64_of(&st->st_ino, sizeof(st->st_ino)) & (s->cap - 1);

	while (s->v[i].ino && (s->v[i].ino != st->st_ino || s->v[i].dev != st->st_dev))
		i = (i + 1) & (s->cap - 1);
	return &s->v[i];
}

static void seen_grow(struct share_seen *s)
{
	struct share_seen was = *s;

	s->cap = was.cap ? was.cap * 2 : 256;
	s->v = xcalloc(s->cap, sizeof(*s->v));
	for (size_t i = 0; i < was.cap; i++)
		if (was.v[i].ino)
			*seen_at(s, &(struct stat){.st_ino = was.v[i].ino,
						   .st_dev = was.v[i].dev}) = was.v[i];
	free(was.v);
}

void share_seen_free(struct share_seen *s)
{
	free(s->v);
	*s = (struct share_seen){0};
}

/* The bytes of a file, read once for all results that rest on it: this process has just done it, with this user's rights. */
static int read_content(struct looking *l, int fd, const struct stat *st, struct found *f)
{
	auto_close int in = open_again(fd, O_RDONLY);
	struct share_digests *d;
	struct stat after;
	uint64_t size = 0;
	int r = 0;

	if (in < 0)
		return in;
	if (l->seen->n * 2 >= l->seen->cap)
		seen_grow(l->seen);
	d = seen_at(l->seen, st);
	if (!d->ino || d->size != st->st_size || !same_time(d->mtim, st->st_mtim) ||
	    !same_time(d->ctim, st->st_ctim)) {
		l->seen->n += !d->ino;
		*d = (struct share_digests){.dev = st->st_dev,
					    .ino = st->st_ino,
					    .size = st->st_size,
					    .mtim = st->st_mtim,
					    .ctim = st->st_ctim};
		r = hash_fd_both(in, &d->fp, &d->oid, &size);
		if (r == 0 && (size != (uint64_t)st->st_size || fstat(in, &after) < 0 ||
			       !same_time(after.st_ctim, st->st_ctim)))
			r = -ESTALE;
		if (r < 0)
			d->size = -1; /* to be read again */
	}
	f->facts.digest = d->fp;
	buf_add(&f->sha, &d->oid, sizeof(d->oid));
	return r;
}

static int read_names(int fd, const struct path_entry *p, struct found *f)
{
	auto_close int in = open_again(fd, O_RDONLY | O_DIRECTORY);
	auto_buf struct buf names = {0};
	size_t n = 0, at = 0;
	int r = in < 0 ? in : list_dir(in, &f->list, &n);

	if (r < 0)
		return r;
	f->facts.list = f->list;
	f->facts.n_list = n;
	for (size_t i = 0; i < n; i++) {
		while (at < p->n_excluded && strcmp(p->excluded[at], f->list[i] + 1) < 0)
			at++;
		if (at == p->n_excluded || strcmp(p->excluded[at], f->list[i] + 1) != 0)
			buf_add(&names, f->list[i], strlen(f->list[i]) + 1);
	}
	return add_sha(&f->sha, names.data, names.len);
}

static int read_target(int fd, size_t size, struct found *f)
{
	f->target = xcalloc(size + 2, 1);
	f->facts.target = f->target;
	return readlinkat(fd, "", f->target, size + 1) == (ssize_t)size ? 0 : -ESTALE;
}

static int find(struct looking *l, int fd, const char *path, const struct path_entry *p,
		struct found *f)
{
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* As in the first round, but now it is what is read. */
	if (S_ISREG(st.st_mode) && l->since && !idx_times_settled(l->x, &st, l->since))
		return -ESTALE;
	f->facts = (struct facts){.present = true,
				  .mode = st.st_mode,
				  .uid = st.st_uid,
				  .gid = st.st_gid,
				  .size = (uint64_t)st.st_size,
				  .mtime_ns = timespec_ns(st.st_mtim)};
	if (p->kinds & OBS_CONTENT && S_ISREG(st.st_mode))
		r = read_content(l, fd, &st, f);
	if (r == 0 && p->kinds & OBS_LIST && S_ISDIR(st.st_mode))
		r = read_names(fd, p, f);
	if (r == 0 && p->kinds & OBS_LINK && S_ISLNK(st.st_mode))
		r = read_target(fd, (size_t)st.st_size, f);
	if (r == 0 && p->kinds & OBS_XATTR) {
		r = xattr_blob(path, -1, &f->xattrs);
		f->facts.xattrs = f->xattrs.data;
		f->facts.n_xattrs = f->xattrs.len;
		if (r == 0)
			r = add_sha(&f->sha, f->xattrs.data, f->xattrs.len);
	}
	return r;
}

/* Its state is the one recorded: what is said of it by SHA-256 goes to `all`. */
static bool is_same(struct looking *l, const struct path_entry *p, const struct buf *state,
		    struct buf *all)
{
	__attribute__((cleanup(found_free))) struct found f = {0};
	auto_buf struct buf with = {0}, now = {0};
	auto_free char *path = place_of(p->path, l->home);
	auto_close int fd = path ? open_path(path) : -EINVAL;
	int r = fd == -ENOENT ? 0 : fd;

	if (fd >= 0)
		r = find(l, fd, path, p, &f);
	if (r < 0)
		return no(l, "an input cannot be read");
	state_of_facts(p->kinds, &f.facts, p->excluded, p->n_excluded, &with);
	if (state_without_owner(with.data, with.len, &now) < 0 || now.len != state->len ||
	    memcmp(now.data, state->data, now.len) != 0)
		return no(l, "an input is another");
	buf_bytes(all, now.data, now.len);
	buf_bytes(all, f.sha.data, f.sha.len);
	return true;
}

int share_inputs(struct idx *x, const struct result *r, const struct path_set *s, const char *home,
		 int64_t since, struct share_seen *seen, struct oid *ret, const char **ret_why)
{
	struct looking l = {.x = x, .home = home, .since = since, .seen = seen};
	auto_buf struct buf all = {0};
	bool same = r->n_states == s->n;

	buf_str(&all, "mlfs shared inputs 1");
	path_set_encode(s, &all);
	for (size_t i = 0; same && i < s->n; i++)
		same = could_be(&l, &s->v[i], &r->states[i]);
	for (size_t i = 0; same && i < s->n; i++)
		same = is_same(&l, &s->v[i], &r->states[i], &all);
	*ret_why = l.why;
	return same && oid_of(all.data, all.len, ret) == 0;
}

/* ---- outputs ---- */

static bool in_groups(gid_t gid)
{
	int n = getgroups(0, NULL);
	auto_free gid_t *v = xcalloc(n > 0 ? (size_t)n : 1, sizeof(*v));
	bool found = gid == getegid();

	n = getgroups(n > 0 ? n : 0, v);
	for (int k = 0; k < n; k++)
		found |= v[k] == gid;
	return found;
}

/* By the mode that it was made with. Of a group that has no number in the namespace of who recorded it nothing is known. */
static bool may_see(const struct output *o)
{
	const gid_t nobody = 65534;
	mode_t wanted = o->now.type == OUT_DIR ? 5 : 4, group = o->now.mode >> 3 & 7;
	mode_t others = o->now.mode & 7;

	if (geteuid() == 0 || o->now.type == OUT_LINK || o->now.type == OUT_ABSENT)
		return true;
	if (o->uid == geteuid())
		return true;
	if (o->gid == nobody)
		return (group & others & wanted) == wanted;
	return ((in_groups(o->gid) ? group : others) & wanted) == wanted;
}

/* Its directory is there and may be written to, or is an output as well. */
static bool has_room(const struct result *r, const struct output *o)
{
	auto_free char *dir = xstrndup(o->path, (size_t)(strrchr(o->path, '/') - o->path));
	auto_close int fd = -1;

	if (result_output(r, dir))
		return true;
	fd = open_path(*dir ? dir : "/");
	return fd >= 0 && may(fd, W_OK | X_OK);
}

bool share_outputs(const struct result *r)
{
	for (size_t i = 0; i < r->n_outputs; i++)
		if (!may_see(&r->outputs[i]) ||
		    (r->outputs[i].now.type != OUT_ABSENT && !has_room(r, &r->outputs[i])))
			return false;
	return true;
}
