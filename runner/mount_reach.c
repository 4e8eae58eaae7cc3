/* SPDX-License-Identifier: MIT */
/*
 * mount_reach.c - where steps find the tree that a persistent mount shows, when the mount lies over it.
 *
 * Such a tree has no path any more. So it is bound to a place below /run, which everybody may pass through to what he may see,
 * as he could before.
 */
#include "mount.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "view.h"

#define PLACES "/run/mlfs"

static char *place_of(const char *mnt)
{
	struct fp fp = fp_of(mnt, strlen(mnt));
	char name[17];

	hex(fp.b, 8, name);
	return xasprintf(PLACES "/%s", name);
}

void mount_unreach(const char *mnt)
{
	auto_free char *place = place_of(mnt);

	/* Also what a server that was killed left; mostly there is nothing. */
	if (umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL)
		(void)rmdir(place);
}

int mount_reach(const struct mount_opts *o, char **ret_path, struct err *e)
{
	auto_free char *place = NULL;
	int r;

	if (!path_is_in(o->src, o->mnt) ||
	    (view_kind() != VIEW_ROOT && !o->steps.n && !o->commands.n)) { /* nobody asks */
		*ret_path = xstrdup(o->src);
		return 0;
	}
	if (view_kind() != VIEW_ROOT)
		return err_text(
			e, EPERM,
			"cannot run steps in %s: the mount hides %s itself, which only root can keep in reach",
			o->mnt, o->src);
	place = place_of(o->mnt);
	mount_unreach(o->mnt);
	r = mkdir_p(PLACES, 0755, e);
	if (r == 0)
		r = mkdir_p(place, 0755, e);
	if (r < 0)
		return r;
	if (mount(o->src, place, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_set(e, errno, "cannot bind %s to %s", o->src, place);
	/* What is mounted at one of the two places later is not to be seen at the other. */
	if (mount("none", place, NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		log_debug("cannot make %s private: %s", place, strerror(errno));
	*ret_path = take(place);
	return 0;
}
