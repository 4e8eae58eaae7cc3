/* SPDX-License-Identifier: MIT */
/* mount_status.c - a mount's server about itself, for programs and for people; see mount_status.h. */
#include "mount_status.h"

#include <string.h>
#include <unistd.h>

#include "json.h"
#include "screen.h"

/* An extended attribute holds 64 KB. */
#define MAX_STEPS 100

static void add_line(struct buf *b, const char *name, const char *value)
{
	buf_addf(b, "%s=", name);
	add_plain(b, value);
	buf_u8(b, '\n');
}

static void mount_lines(const struct mount_told *t, struct buf *b)
{
	char pid[16];

	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid()); /* fits */
	add_line(b, "kind", t->browse ? "browse" : "mount");
	add_line(b, "source", t->src);
	add_line(b, "mountpoint", t->mnt);
	if (t->cache)
		add_line(b, "cache", t->cache);
	add_line(b, "pid", pid);
	if (t->shared)
		add_line(b, "shared", t->shared);
}

/* ---- JSON ---- */

static void json_steps(struct json *j, const struct mount_steps_status *s)
{
	json_uint(j, "steps_running", s->n);
	json_array(j, "steps");
	for (size_t i = 0; i < s->n && i < MAX_STEPS; i++) {
		const struct mount_step *n = &s->v[i];

		json_object(j, NULL);
		json_text(j, "name", n->path);
		json_int(j, "pid", n->pid);
		json_uint(j, "uid", n->uid);
		json_time(j, "started", n->begun_ns);
		json_seconds(j, "running_seconds", (double)(now_ns() - n->begun_ns) / 1e9);
		if (n->took_ns > 0)
			json_seconds(j, "expected_seconds", (double)n->took_ns / 1e9);
		else
			json_null(j, "expected_seconds");
		json_end(j);
	}
	json_end(j);
	json_uint(j, "hits", s->hits);
	json_uint(j, "misses", s->misses);
	json_uint(j, "uncached", s->uncached);
	json_seconds(j, "saved_seconds", s->saved_seconds);
	json_uint(j, "unreal_outputs", s->unreal);
	json_uint(j, "unreal_bytes", s->unreal_bytes);
	json_uint(j, "shared_hits", s->shared_hits);
	json_array(j, "ignored_settings");
	for (char *const *v = s->ignored; v && *v; v++)
		json_text(j, NULL, *v);
	json_end(j);
}

static void json_requests(struct json *j, const char *text)
{
	auto_free char *copy = xstrdup(text);
	char *rest = copy, *one, *value;

	json_object(j, "requests");
	while ((one = strsep(&rest, " ")))
		if ((value = strchr(one, '='))) {
			*value++ = '\0';
			json_uint(j, one, strtoull(value, NULL, 10));
		}
	json_end(j);
}

static void status_json(const struct mount_told *t, const struct mount_steps_status *s,
			const char *requests, struct buf *b)
{
	struct json j = {0};

	json_object(&j, NULL);
	json_text(&j, "kind", t->browse ? "browse" : "mount");
	json_text(&j, "source", t->src);
	json_text(&j, "mountpoint", t->mnt);
	json_text(&j, "cache", t->cache);
	json_int(&j, "pid", getpid());
	json_time(&j, "mounted", t->began_ns);
	json_seconds(&j, "uptime_seconds", (double)(now_ns() - t->began_ns) / 1e9);
	if (s)
		json_steps(&j, s);
	json_requests(&j, requests);
	json_end(&j);
	json_done(&j);
	buf_add(b, j.b.data, j.b.len);
	buf_free(&j.b);
}

/* ---- text ---- */

static void text_step(const struct mount_step *n, struct buf *b)
{
	int64_t ran = now_ns() - n->begun_ns;
	char took[32], all[32];

	buf_addf(b, "  ");
	add_plain(b, n->path);
	buf_addf(b, "  pid %ld, %s", (long)n->pid,
		 human_seconds((double)(ran > 0 ? ran : 0) / 1e9, took, sizeof(took)));
	if (n->took_ns > 0)
		buf_addf(b, " of about %s (%d %%)",
			 human_seconds((double)n->took_ns / 1e9, all, sizeof(all)),
			 (int)(ran < n->took_ns ? 100 * ran / n->took_ns : 99));
	buf_u8(b, '\n');
}

static void text_steps(const struct mount_steps_status *s, struct buf *b)
{
	char saved[32], size[32];

	buf_addf(b, "steps     %zu running\n", s->n);
	for (size_t i = 0; i < s->n && i < MAX_STEPS; i++)
		text_step(&s->v[i], b);
	if (s->n > MAX_STEPS)
		buf_addf(b, "  and %zu more\n", s->n - MAX_STEPS);
	buf_addf(b, "results   %llu hits, %llu misses, %llu not cached; saved %s\n",
		 (unsigned long long)s->hits, (unsigned long long)s->misses,
		 (unsigned long long)s->uncached,
		 human_seconds(s->saved_seconds, saved, sizeof(saved)));
	if (s->unreal)
		buf_addf(b, "not real  %s in %zu output%s, served from the cache\n",
			 human_size(s->unreal_bytes, size, sizeof(size)), s->unreal,
			 s->unreal == 1 ? "" : "s");
	if (s->shared_hits)
		buf_addf(b, "shared    %llu of the hits by results of other users\n",
			 (unsigned long long)s->shared_hits);
	for (char *const *v = s->ignored; v && *v; v++) {
		buf_addf(b, "ignored   ");
		add_plain(b, *v);
		buf_u8(b, '\n');
	}
}

static void status_text(const struct mount_told *t, const struct mount_steps_status *s,
			const char *requests, struct buf *b)
{
	char up[32];

	buf_addf(b, "mount     ");
	add_plain(b, t->mnt);
	buf_addf(b, t->browse ? ", a look into the cache " : ", showing ");
	add_plain(b, t->src);
	buf_addf(b, "\nserver    pid %ld, up %s\n", (long)getpid(),
		 human_seconds((double)(now_ns() - t->began_ns) / 1e9, up, sizeof(up)));
	if (!t->browse) {
		buf_addf(b, "cache     ");
		add_plain(b, t->cache ? t->cache : "each user's own");
		buf_u8(b, '\n');
	}
	if (s)
		text_steps(s, b);
	buf_addf(b, "requests  %s\n", requests);
}

char *mount_answer(const struct mount_told *t, const struct mount_steps_status *s,
		   const char *requests, const char *question)
{
	struct buf b = {0};

	if (strcmp(question, MOUNT_ASK_ABOUT) == 0)
		mount_lines(t, &b);
	else if (strcmp(question, MOUNT_ASK_STATUS) == 0)
		status_json(t, s, requests, &b);
	else if (strcmp(question, MOUNT_ASK_TEXT) == 0)
		status_text(t, s, requests, &b);
	else if (strcmp(question, MOUNT_ASK_RUNNING) == 0)
		buf_addf(&b, "%zu", s ? s->n : 0);
	else
		return NULL;
	buf_u8(&b, 0);
	return (char *)b.data;
}
