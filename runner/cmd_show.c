/* SPDX-License-Identifier: MIT */
/* cmd_show.c - `mlfs show`: all that is kept of one result. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "tell.h"

struct show_query {
	struct query q;
	bool all, out, err;
};

static const struct word_def show_defs[] = {
	{"all", 'a', WORD_FLAG, offsetof(struct show_query, all), NULL,
	 "also inputs of the system, and the environment"},
	{"stdout", 0, WORD_FLAG, offsetof(struct show_query, out), NULL,
	 "only what it wrote to standard output"},
	{"stderr", 0, WORD_FLAG, offsetof(struct show_query, err), NULL,
	 "only what it wrote to standard error"},
};

const struct word_table show_words = {
	.command = "show",
	.usage = "[OPTIONS] KEY",
	.what = "Show a result: its command, inputs, outputs, console and times. KEY is its\n"
		"key or the beginning of it; the key of a step stands for its latest result.\n",
	.status = "Exit status: 0 shown; 1 there is no such result; 2 wrong usage.\n",
	.v = show_defs,
	.n = sizeof(show_defs) / sizeof(*show_defs),
	.size = sizeof(struct show_query),
	.arg = "KEY",
	.min_args = 1,
	.max_args = 1,
};

struct shown_result {
	const struct show_query *w;
	struct idx *x;
	struct result *r;
	struct path_set set;
	bool has_set;
	void *console; /* its bytes */
	size_t n_console;
	double expire_after; /* seconds; < 0: never */
	struct step step;    /* for look: where it ran */
	struct look look;
};

/* ---- the console ---- */

/* fd: 1, 2; 0: both, as they came. */
static void add_console(const struct shown_result *s, int fd, struct buf *out)
{
	const uint8_t *p = s->console;
	size_t at = 0;

	for (size_t i = 0; s->console && i < s->r->n_chunks && at < s->n_console; i++) {
		const struct console_chunk *c = &s->r->chunks[i];
		size_t n = c->len < s->n_console - at ? c->len : s->n_console - at;

		if (!fd || c->fd == fd)
			buf_add(out, p + at, n);
		at += n;
	}
}

static int print_stream(const struct shown_result *s)
{
	auto_buf struct buf b = {0};

	if (s->r->console_len && !s->console) {
		log_warn("cannot show what it printed: that is no longer whole in the cache");
		return EXIT_FAILURE;
	}
	add_console(s, s->w->out && s->w->err ? 0 : s->w->out ? 1 : 2, &b);
	(void)fwrite(b.data, 1, b.len, stdout); /* an error is said by printed_status */
	return EXIT_SUCCESS;
}

/* ---- JSON ---- */

static const char *now_word(enum output_now now)
{
	return now == OUTPUT_SAME ? "as recorded" : now == OUTPUT_GONE ? "gone" : "changed";
}

static void json_inputs(struct json *j, const struct shown_result *s)
{
	json_array(j, "inputs");
	for (size_t i = 0; s->has_set && i < s->set.n; i++) {
		const struct path_entry *p = &s->set.v[i];
		struct state_parts parts;

		json_object(j, NULL);
		json_text(j, "path", p->path);
		kinds_json(j, "observed", p->kinds);
		if (p->n_excluded)
			json_texts(j, "without", p->excluded, p->n_excluded);
		if (state_parse(s->r->states[i].data, s->r->states[i].len, &parts) == 0) {
			state_json(j, "state", &parts);
			state_parts_free(&parts);
		}
		json_end(j);
	}
	json_end(j);
}

static void json_outputs(struct json *j, struct shown_result *s)
{
	json_array(j, "outputs");
	for (size_t i = 0; i < s->r->n_outputs; i++) {
		const struct output *o = &s->r->outputs[i];

		json_object(j, NULL);
		output_json(j, o);
		json_text(j, "now", now_word(output_now(&s->look, o)));
		json_end(j);
	}
	json_end(j);
}

static void json_console(struct json *j, const struct shown_result *s)
{
	auto_buf struct buf out = {0}, err = {0};

	add_console(s, 1, &out);
	add_console(s, 2, &err);
	json_object(j, "console");
	json_bool(j, "merged", s->r->console_merged);
	json_uint(j, "bytes", s->r->console_len);
	if (s->r->console_len && !s->console) {
		json_null(j, "stdout");
		json_null(j, "stderr");
	} else {
		json_bytes(j, "stdout", out.data, out.len);
		json_bytes(j, "stderr", err.data, err.len);
	}
	json_end(j);
	stdin_json(j, s->r);
}

static void show_json(struct shown_result *s)
{
	const struct result *r = s->r;
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	result_json(&j, r);
	if (s->expire_after < 0)
		json_null(&j, "expires");
	else
		json_time(&j, "expires", r->stored_ns + (int64_t)(s->expire_after * 1e9));
	json_inputs(&j, s);
	json_outputs(&j, s);
	json_console(&j, s);
	json_end(&j);
	json_done(&j);
}

/* ---- text ---- */

static void row(struct screen *c, const char *name, const char *value)
{
	char left[16];

	(void)snprintf(left, sizeof(left), "%-10s", name); /* ours are shorter */
	screen_painted(c, PAINT_FAINT, left);
	screen_text(c, value);
	screen_addf(c, "\n");
}

static void show_times(struct screen *c, const struct shown_result *s)
{
	const struct result *r = s->r;
	char when[40], took[40];
	auto_free char *text = NULL, *expires = NULL;
	double left;

	text = xasprintf("%s, took %s, exit status %d",
			 human_time(r->started_ns, when, sizeof(when)),
			 human_seconds((double)r->wall_ns / 1e9, took, sizeof(took)),
			 r->exit_status);
	row(c, "run", text);
	if (s->expire_after < 0)
		return;
	left = (double)(r->stored_ns - now_ns()) / 1e9 + s->expire_after;
	human_seconds(left < 0 ? -left : left, took, sizeof(took));
	expires = left < 0 ? xasprintf("%s ago", took) : xasprintf("in %s", took);
	row(c, left < 0 ? "expired" : "expires", expires);
}

static void show_environment(struct screen *c, const struct shown_result *s)
{
	const char *note = s->r->env_note ? s->r->env_note : "";
	auto_free char *text = NULL;
	size_t n = 0;

	for (const char *p = note; *p; p++)
		n += *p == '\n';
	text = xasprintf("%zu variables%s", n, s->w->all || !n ? "" : " (--all shows them)");
	row(c, "environ", text);
	while (s->w->all && *note) {
		size_t len = strcspn(note, "\n");
		auto_free char *line = xstrndup(note, len);

		screen_addf(c, "  ");
		screen_text(c, line);
		screen_addf(c, "\n");
		note += len + (note[len] == '\n');
	}
}

static void show_input(struct screen *c, struct shown_result *s, size_t i)
{
	const struct path_entry *p = &s->set.v[i];
	auto_buf struct buf b = {0}, kinds = {0};
	struct state_parts parts;

	if (state_parse(s->r->states[i].data, s->r->states[i].len, &parts) < 0)
		return;
	state_words(&parts, &b);
	state_parts_free(&parts);
	buf_u8(&b, 0);
	kinds_words(p->kinds, &kinds);
	buf_u8(&kinds, 0);
	screen_addf(c, "  %-10s ", (char *)kinds.data);
	screen_painted(c, PAINT_BOLD, shown(&s->look, p->path));
	screen_addf(c, "  %s\n", (char *)b.data);
}

static void show_inputs(struct screen *c, struct shown_result *s)
{
	size_t hidden = 0;

	screen_painted(c, PAINT_FAINT, "inputs");
	screen_addf(c, "    %llu\n", (unsigned long long)s->r->n_inputs);
	if (!s->has_set)
		screen_addf(c, "  which they are is no longer in the cache\n");
	for (size_t i = 0; s->has_set && i < s->set.n && !screen_gone(c); i++)
		if (!s->w->all && is_system_path(s->set.v[i].path))
			hidden++;
		else
			show_input(c, s, i);
	if (hidden)
		screen_addf(c, "  and %zu of the system (--all shows them)\n", hidden);
}

static void show_outputs(struct screen *c, struct shown_result *s)
{
	screen_painted(c, PAINT_FAINT, "outputs");
	screen_addf(c, "   %zu\n", s->r->n_outputs);
	for (size_t i = 0; i < s->r->n_outputs && !screen_gone(c); i++) {
		const struct output *o = &s->r->outputs[i];
		enum output_now now = output_now(&s->look, o);
		auto_buf struct buf b = {0};
		char digits[17];

		left_words(&o->now, &b);
		buf_u8(&b, 0);
		screen_addf(c, "  ");
		screen_painted(c, PAINT_BOLD, shown(&s->look, o->path));
		screen_addf(c, "  %s", (char *)b.data);
		if (o->now.type == OUT_FILE) {
			hex(&o->oid, 8, digits);
			screen_addf(c, ", sha256 %s…", digits);
		}
		screen_addf(c, "  ");
		screen_painted(c,
			       now == OUTPUT_SAME   ? PAINT_GOOD
			       : now == OUTPUT_GONE ? PAINT_NOTE
						    : PAINT_BAD,
			       now == OUTPUT_SAME   ? "now as recorded"
			       : now == OUTPUT_GONE ? "not there now"
						    : "another now");
		screen_addf(c, "\n");
	}
}

/* Line by line, so that a terminal does not act on what is in it. */
static void show_console(struct screen *c, const struct shown_result *s)
{
	auto_buf struct buf b = {0};
	char size[32];
	char *line, *rest;

	if (s->r->stdin_kind != STDIN_UNUSED) {
		auto_free char *text =
			xasprintf("%s%s", human_size(s->r->stdin_len, size, sizeof(size)),
				  s->r->stdin_eof ? ", to its end" : "");

		row(c, "stdin", text);
	}
	screen_painted(c, PAINT_FAINT, "console");
	screen_addf(c, "   %s\n", human_size(s->r->console_len, size, sizeof(size)));
	if (s->r->console_len && !s->console)
		screen_addf(c, "  it is no longer whole in the cache\n");
	add_console(s, 0, &b);
	buf_u8(&b, 0);
	rest = (char *)b.data;
	while ((line = strsep(&rest, "\n")) && !screen_gone(c)) {
		if (!rest && !*line)
			break; /* behind the last newline */
		screen_addf(c, "  ");
		screen_text(c, line);
		screen_addf(c, "\n");
	}
}

static int show_text(struct shown_result *s)
{
	struct screen *c = screen_open(true);
	auto_free char *command = command_line(s->r->argv, s->r->n_argv);
	char digits[2 * sizeof(struct fp) + 1];

	screen_painted(c, PAINT_FAINT, "result    ");
	hex(&s->r->input_key, sizeof(struct fp), digits);
	screen_painted(c, PAINT_KEY, digits);
	screen_addf(c, "\n");
	row(c, "name", s->r->name ? s->r->name : "");
	row(c, "command", command);
	row(c, "in", s->r->cwd ? s->r->cwd : "");
	show_times(c, s);
	hex(&s->r->step_key, sizeof(struct fp), digits);
	row(c, "step", digits);
	show_environment(c, s);
	show_inputs(c, s);
	show_outputs(c, s);
	show_console(c, s);
	return screen_close(c, EXIT_SUCCESS);
}

/* ---- the command ---- */

static int load(struct shown_result *s, struct err *e)
{
	int k = path_set_of(s->x, s->r, &s->set, e);

	if (k < 0)
		return k;
	s->has_set = k > 0;
	if (s->r->console_len &&
	    store_get_mem(s->x, &s->r->console_oid, &s->console, &s->n_console, e) < 0)
		s->console = NULL; /* said where it would stand */
	s->step.cwd = s->r->cwd;
	s->look = (struct look){.x = s->x, .s = &s->step};
	return 0;
}

static int show(struct shown_result *s)
{
	struct exec_opts settings;
	struct err e = {0};
	int status, k = settings_of(&s->w->q, s->r, &settings);

	s->expire_after = settings.expire_after;
	exec_opts_free(&settings);
	if (k < 0)
		return EXIT_USAGE;
	if (load(s, &e) < 0) {
		log_warn("%s", e.msg);
		return EXIT_FAILURE;
	}
	if (s->w->q.json) {
		show_json(s);
		status = printed_status(EXIT_SUCCESS);
	} else if (s->w->out || s->w->err) {
		status = printed_status(print_stream(s));
	} else {
		status = show_text(s);
	}
	look_free(&s->look);
	path_set_free(&s->set);
	free(s->console);
	return status;
}

static int run(const struct show_query *w)
{
	struct shown_result s = {.w = w};
	struct err e = {0};
	struct fp key;
	int status, k = query_open_few(&w->q, &s.x);

	if (k < 0)
		return EXIT_FAILURE;
	k = query_find(s.x, w->q.args.v[0], &key);
	status = query_status(k);
	if (k == 0) {
		k = idx_result_get(s.x, &key, &s.r, &e);
		if (k > 0)
			status = show(&s);
		else
			log_warn("cannot read the result: %s",
				 k < 0 ? e.msg : "it is damaged, or was just dropped");
		if (k <= 0)
			status = EXIT_FAILURE;
	}
	result_free(s.r);
	idx_close(s.x);
	return status;
}

int cmd_show(int argc, char **argv)
{
	struct show_query w = {0};
	int r = words_parse(&show_words, argc, argv, &w);
	int status = r < 0 ? EXIT_USAGE : r > 0 ? printed_status(EXIT_SUCCESS) : run(&w);

	words_free(&show_words, &w);
	return status;
}
