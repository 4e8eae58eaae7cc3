/* SPDX-License-Identifier: MIT */
/*
 * mount_helper.c - mlfs as mount(8) calls it: `mount.fuse.mlfs SRC MNT [-sfnv] [-N NS] [-o OPTIONS] [-t TYPE]` for
 * `mount -t fuse.mlfs` and fstab (mount(8), "External helpers"); and, where that name is not in sbin, as mount.fuse(8) does:
 * `mlfs SRC MNT -o OPTIONS`.
 */
#include <string.h>
#include <unistd.h>

#include "runner.h"
#include "options.h"

/* What libmount puts in for whoever asked for the mount is not for us. */
static void add_options(struct strlist *to, const char *text)
{
	auto_free char *copy = xstrdup(text);
	char *rest = copy, *one;

	while ((one = strsep(&rest, ",")))
		if (*one && strncmp(one, "user=", 5) != 0 && strncmp(one, "uhelper=", 8) != 0 &&
		    strncmp(one, "helper=", 7) != 0) {
			strlist_add(to, xstrdup("-o"));
			strlist_add(to, xstrdup(one));
		}
}

int mount_helper(int argc, char **argv)
{
	struct strlist words = {0}, places = {0};
	bool fake = false;
	int c, status;

	strlist_add(&words, xstrdup("mount"));
	while ((c = getopt(argc, argv, "-sfnvN:o:t:")) != -1)
		if (c == 1)
			strlist_add(&places, xstrdup(optarg));
		else if (c == 'o')
			add_options(&words, optarg);
		else if (c == 'f')
			fake = true;
		else if (c == '?')
			return EXIT_USAGE; /* said */
	while (optind < argc)
		strlist_add(&places, xstrdup(argv[optind++]));
	strlist_add(&words, xstrdup("--"));
	for (size_t i = 0; i < places.n; i++)
		strlist_add(&words, xstrdup(places.v[i]));
	strlist_add(&words, NULL);
	status = fake ? EXIT_SUCCESS : cmd_mount((int)words.n - 1, words.v);
	words.n--; /* the end of the words */
	strlist_free(&words);
	strlist_free(&places);
	return status;
}
