/* SPDX-License-Identifier: MIT */
/* cmd_browse.c - `mlfs mount --browse MNT`: the cache as a tree to look at. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "browse_texts.h"
#include "daemon.h"
#include "mount.h"
#include "mount_ask.h"
#include "mount_status.h"

struct browsing {
	struct mount_opts *o;
	struct browse *fs;
	struct mount_told told;
};

static char *answer(void *arg, const char *question)
{
	static const char *const names[BROWSE_COUNTS] = {
		[BROWSE_LOOKUP] = "LOOKUP",	[BROWSE_GETATTR] = "GETATTR",
		[BROWSE_OPENDIR] = "OPENDIR",	[BROWSE_READDIR] = "READDIR",
		[BROWSE_OPEN] = "OPEN",		[BROWSE_READ] = "READ",
		[BROWSE_READLINK] = "READLINK", [BROWSE_XATTR] = "GETXATTR",
	};
	const struct browsing *b = arg;
	uint64_t counts[BROWSE_COUNTS], total = 0;
	auto_buf struct buf text = {0};

	browse_request_counts(b->fs, counts);
	for (int i = 0; i < BROWSE_COUNTS; i++) {
		total += counts[i];
		if (counts[i])
			buf_addf(&text, "%s=%llu ", names[i], (unsigned long long)counts[i]);
	}
	buf_addf(&text, "total=%llu", (unsigned long long)total);
	buf_u8(&text, 0);
	return mount_answer(&b->told, NULL, (char *)text.data, question);
}

static void stop(void *arg, int times)
{
	(void)times;
	mount_stop(((const struct browsing *)arg)->o->mnt);
}

static int serve(struct mount_opts *o, struct daemon *d, struct err *e)
{
	struct browsing b = {.o = o};
	struct browse_options bo = {.cache = o->src,
				    .allow_other = o->allow_other,
				    .text = browse_text_of,
				    .answer = answer,
				    .arg = &b};
	const struct daemon_handlers h = {.stop = stop, .arg = &b};
	int fd, r = browse_new(&bo, &b.fs, e);

	if (r < 0)
		return r;
	b.told = (struct mount_told){.browse = true,
				     .src = o->src,
				     .mnt = o->mnt,
				     .cache = o->src,
				     .began_ns = now_ns()};
	fd = mount_attach(o, -1, e);
	r = fd < 0 ? fd : daemon_signals(d, &h, e);
	if (r == 0) {
		daemon_ready(d);
		r = browse_serve(b.fs, fd, e);
	}
	browse_free(b.fs);
	return r;
}

int mount_browse(struct mount_opts *o)
{
	const char *mnt = o->q.args.v[o->q.args.n - 1];
	auto_free char *dir = NULL;
	struct err e = {0};
	int r = query_dir(&o->q, &dir);

	if (r < 0)
		return EXIT_FAILURE;
	o->ro = true;
	o->nosuid = o->nodev = true;
	o->src = realpath(dir, NULL);
	if (!o->src || access(o->src, R_OK | X_OK) < 0)
		r = errno == ENOENT ? err_text(&e, ENOENT, "there is no cache at %s", dir)
				    : err_set(&e, errno, "cannot open the cache %s", dir);
	if (r == 0)
		r = mount_find(o, mnt, &e);
	if (r == 0 &&
	    path_is_in(o->src, o->mnt)) /* the server would look for it in its own mount */
		r = err_text(&e, EINVAL, "cannot mount on %s: the cache lies in it", o->mnt);
	return mount_in_background(o, r, &e, serve);
}
