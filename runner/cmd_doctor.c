/* SPDX-License-Identifier: MIT */
/* cmd_doctor.c - `mlfs doctor`: can this machine, user and directory run mlfs, and what mends it where not? */
#include <errno.h>
#include <string.h>

#include "commands.h"
#include "doctor.h"
#include "json.h"
#include "screen.h"
#include "view.h"

struct doctor_query {
	struct query q;
};

static const struct word_def doctor_defs[] = {
	{"config", 0, WORD_TEXT, offsetof(struct query, config), "FILE",
	 "the settings to look at (DIR/mlfs.conf)"},
	{"json", 0, WORD_FLAG, offsetof(struct query, json), NULL, "print one JSON object"},
	{"quiet", 'q', WORD_LEVEL, offsetof(struct query, verbosity), NULL,
	 "print only what is not well", .level = -1},
};

const struct word_table doctor_words = {
	.command = "doctor",
	.usage = "[OPTIONS]",
	.what = "Try all that mlfs exec needs of this machine, this user and this directory, and say\n"
		"what is missing and what mends it.\n",
	.status =
		"Exit status: 0 steps are recorded here; 1 they would run uncached; 2 wrong usage.\n",
	.v = doctor_defs,
	.n = sizeof(doctor_defs) / sizeof(*doctor_defs),
	.size = sizeof(struct doctor_query),
	.no_config = true, /* a mistake in it is one of the findings */
};

static void (*const checks[])(struct doctor *d) = {
	doctor_kernel, doctor_libfuse,	doctor_proc,  doctor_device,
	doctor_cache,  doctor_settings, doctor_view,  doctor_watch,
	doctor_limits, doctor_reflinks, doctor_clock, doctor_step,
};

static const char *const status_words[] = {"ok", "note", "bad"};

static void print_json(const struct doctor *d)
{
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	json_bool(&j, "can_trace", !doctor_is_bad(d));
	json_text(&j, "cache", d->cache);
	json_text(&j, "view", view_kind() == VIEW_ROOT ? "root" : "user");
	json_array(&j, "checks");
	for (size_t i = 0; i < d->n; i++) {
		json_object(&j, NULL);
		json_text(&j, "check", d->v[i].check);
		json_text(&j, "status", status_words[d->v[i].status]);
		json_text(&j, "found", d->v[i].found);
		json_text(&j, "mend", d->v[i].mend);
		json_end(&j);
	}
	json_end(&j);
	json_end(&j);
	json_done(&j);
}

static int print_text(const struct doctor *d)
{
	static const enum paint paints[] = {PAINT_GOOD, PAINT_NOTE, PAINT_BAD};
	struct screen *s = screen_open(false);

	for (size_t i = 0; i < d->n; i++) {
		const struct finding *f = &d->v[i];
		auto_free char *word = xasprintf("%-5s", status_words[f->status]);

		if (f->status == FINDING_OK && d->q->verbosity < 0)
			continue;
		screen_painted(s, paints[f->status], word);
		screen_addf(s, "%-11s ", f->check);
		screen_text(s, f->found);
		screen_addf(s, "\n");
		if (f->mend) {
			screen_addf(s, "%17smend: ", "");
			screen_text(s, f->mend);
			screen_addf(s, "\n");
		}
	}
	if (doctor_is_bad(d))
		screen_addf(s, "mlfs exec runs every command uncached here\n");
	return screen_close(s, doctor_is_bad(d) ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int run(const struct doctor_query *w)
{
	struct doctor d = {.q = &w->q, .cache = query_cache(&w->q)};
	char said[64];
	int status;

	if (!d.cache)
		return EXIT_USAGE;
	/* What is told here is no input that could be compared. */
	d.inside = idx_ask_view(IDX_LOOKED_XATTR, said, sizeof(said)) != -ENODATA;
	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		checks[i](&d);
	doctor_clean(&d);
	if (w->q.json) {
		print_json(&d);
		status = printed_status(doctor_is_bad(&d) ? EXIT_FAILURE : EXIT_SUCCESS);
	} else {
		status = print_text(&d);
	}
	for (size_t i = 0; i < d.n; i++) {
		free(d.v[i].found);
		free(d.v[i].mend);
	}
	free(d.v);
	free(d.cache);
	return status;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor_query w = {0};
	int r = words_parse(&doctor_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&doctor_words, &w);
	return status;
}
