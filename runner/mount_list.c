/* SPDX-License-Identifier: MIT */
/* mount_list.c - `mlfs mount --list`: which mounts of mlfs there are. */
#include "json.h"
#include "mount.h"
#include "mount_ask.h"
#include "screen.h"

static const char *const states[] = {
	[MOUNT_SERVING] = "serving", [MOUNT_DEAD] = "dead", [MOUNT_SILENT] = "silent",
	[MOUNT_PRIVATE] = "private", [MOUNT_VIEW] = "view",
};
static const char *const remarks[] = {
	[MOUNT_SERVING] = "",
	[MOUNT_DEAD] = "its server is gone; 'mlfs umount' clears it",
	[MOUNT_SILENT] = "its server does not answer",
	[MOUNT_PRIVATE] = "of another user",
	[MOUNT_VIEW] = "",
};

static void list_json(const struct mount_seen *v, size_t n)
{
	struct json j = {.to = stdout};

	json_array(&j, NULL);
	for (size_t i = 0; i < n; i++) {
		json_object(&j, NULL);
		json_text(&j, "mountpoint", v[i].mnt);
		json_text(&j, "source", v[i].source);
		json_text(&j, "kind", v[i].kind);
		json_text(&j, "state", states[v[i].state]);
		if (v[i].pid)
			json_int(&j, "pid", v[i].pid);
		else
			json_null(&j, "pid");
		json_text(&j, "cache", v[i].cache);
		json_bool(&j, "read_only", v[i].read_only);
		json_end(&j);
	}
	json_end(&j);
	json_done(&j);
}

static void cell(struct screen *s, const char *text, size_t width)
{
	size_t n = text_columns(text);

	screen_text(s, text);
	screen_addf(s, "%*s", (int)(width > n ? width - n : 0) + 2, "");
}

static int list_text(const struct mount_seen *v, size_t n)
{
	struct screen *s = screen_open(true);
	size_t mnt = 0, source = 0;

	for (size_t i = 0; i < n; i++) {
		size_t a = text_columns(v[i].mnt), b = text_columns(v[i].source);

		mnt = a > mnt ? a : mnt;
		source = b > source ? b : source;
	}
	for (size_t i = 0; i < n; i++) {
		cell(s, v[i].mnt, mnt);
		cell(s, v[i].source, source);
		if (v[i].state == MOUNT_SERVING)
			screen_addf(s, "%s, pid %ld\n", v[i].kind ? v[i].kind : "mount",
				    (long)v[i].pid);
		else
			screen_addf(s, "%s\n", remarks[v[i].state]);
	}
	return screen_close(s, EXIT_SUCCESS);
}

int mount_list(const struct query *q)
{
	struct mount_seen *v;
	size_t n = mounts_seen(&v);
	int status = EXIT_SUCCESS;

	if (q->json)
		list_json(v, n);
	else
		status = list_text(v, n);
	mounts_seen_free(v, n);
	return status;
}
