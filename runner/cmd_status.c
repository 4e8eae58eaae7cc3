/* SPDX-License-Identifier: MIT */
/* cmd_status.c - `mlfs status MNT`: what the server of a mount is doing. */
#include <errno.h>
#include <string.h>

#include "commands.h"
#include "mount_ask.h"
#include "mount_status.h"

struct status_query {
	struct query q;
};

static const struct word_def status_defs[] = {
	{"json", 0, WORD_FLAG, offsetof(struct status_query, q.json), NULL, "print one object"},
};

const struct word_table mount_status_words = {
	.command = "status",
	.usage = "[OPTIONS] MNT",
	.what = "What a mount of mlfs is doing: how long it has been there, steps that are\n"
		"running and how far they are, hits, misses and saved time, requests by kind.\n"
		"MNT is the mount, or any file in it.\n",
	.status = "Exit status: 0 shown; 1 it is no mount of mlfs, or its server does not\n"
		  "answer; 2 wrong usage.\n",
	.v = status_defs,
	.n = sizeof(status_defs) / sizeof(*status_defs),
	.size = sizeof(struct status_query),
	.arg = "MNT",
	.min_args = 1,
	.max_args = 1,
	.no_config = true,
};

static int show(const struct status_query *w)
{
	const char *mnt = w->q.args.v[0];
	auto_free char *text = NULL;
	int r = mount_ask(mnt, w->q.json ? MOUNT_ASK_STATUS : MOUNT_ASK_TEXT, &text);

	if (r == 0) {
		fputs(text, stdout);
		return EXIT_SUCCESS;
	}
	if (r == -ENOTCONN)
		log_warn("cannot ask %s: its server is gone; 'mlfs umount' clears it", mnt);
	else if (r == -ETIMEDOUT)
		log_warn("cannot ask %s: its server does not answer", mnt);
	else if (r == -ENODATA)
		log_warn("cannot ask %s: it is no mount of mlfs", mnt);
	else
		log_warn("cannot ask %s: %s", mnt, strerror(-r));
	return EXIT_FAILURE;
}

int cmd_status(int argc, char **argv)
{
	struct status_query w = {0};
	int r = words_parse(&mount_status_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? EXIT_SUCCESS : show(&w);

	words_free(&mount_status_words, &w);
	return printed_status(status);
}
