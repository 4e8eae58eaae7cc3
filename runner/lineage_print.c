/* SPDX-License-Identifier: MIT */
/* lineage_print.c - a lineage as a tree for people, and as JSON. */
#include <string.h>

#include "lineage.h"
#include "tell.h"

/* ---- text ---- */

struct tree {
	const struct lineage *l;
	const struct lin_output *o;
	struct screen *c;
	bool utf8;
	bool *told;	   /* of each step: its inputs stand above already */
	struct buf indent; /* of the lines below what is being told */
};

static void tell_file(struct tree *t, size_t file);

/* Runs fn for one more branch of the tree. */
static void branch(struct tree *t, bool last, void (*fn)(struct tree *t, size_t i), size_t i)
{
	size_t len = t->indent.len;

	screen_bytes(t->c, t->indent.data, len);
	screen_addf(t->c, "%s", t->utf8 ? last ? "└─ " : "├─ " : last ? "`- " : "|- ");
	buf_addf(&t->indent, "%s", last ? "   " : t->utf8 ? "│  " : "|  ");
	fn(t, i);
	t->indent.len = len;
}

static void tell_step(struct tree *t, size_t step)
{
	const struct lin_step *s = &t->l->steps[step];
	auto_free char *command = command_line(s->argv, s->n_argv);
	char digits[9], when[40], took[40];
	bool again = t->told[step];

	hex(&s->key, 4, digits);
	screen_painted(t->c, PAINT_GOOD, s->name);
	screen_addf(t->c, " ");
	screen_painted(t->c, PAINT_KEY, digits);
	screen_addf(t->c, "  %s, took %s: ", human_time(s->started_ns, when, sizeof(when)),
		    human_seconds((double)s->wall_ns / 1e9, took, sizeof(took)));
	screen_text(t->c, command);
	t->told[step] = true;
	if (again) {
		screen_addf(t->c, "  (as above)\n");
		return;
	}
	if (!s->inputs_known) {
		screen_painted(t->c, PAINT_BAD, "  (what it read is no longer in the cache)");
		screen_addf(t->c, "\n");
		return;
	}
	if (s->n_system)
		screen_addf(t->c, "  (and %zu inputs of the system)", s->n_system);
	screen_addf(t->c, "\n");
	for (size_t i = 0; i < s->n_inputs && !screen_gone(t->c); i++)
		branch(t, i + 1 == s->n_inputs, tell_file, s->inputs[i]);
}

static void tell_also(struct tree *t, size_t step)
{
	const struct lin_step *s = &t->l->steps[step];
	char digits[9], when[40];

	hex(&s->key, 4, digits);
	screen_addf(t->c, "also made by %s ", s->name);
	screen_painted(t->c, PAINT_KEY, digits);
	screen_addf(t->c, " of %s\n", human_time(s->started_ns, when, sizeof(when)));
}

/* What is to be said of a file behind its name, or "". */
static const char *origin_text(const struct lin_file *f)
{
	static const char *const texts[] = {
		[LIN_MADE] = "",
		[LIN_COPY] = "same content as ",
		[LIN_STDOUT] = "standard output of",
		[LIN_SOURCE] = "no recorded step made it",
		[LIN_EDITED] =
			"broken: no recorded step made this; here another content was left by",
		[LIN_LOST] = "broken: a step made it whose result is no longer in the cache",
	};

	return f->no_content ? "last left here by" : texts[f->origin];
}

static const char *now_text(const struct lin_file *f)
{
	static const char *const texts[] = {
		[LIN_SAME] = "",
		[LIN_CHANGED] = "changed since",
		[LIN_GONE] = "not there now",
		[LIN_UNREADABLE] = "cannot be read now",
	};

	return texts[f->now];
}

static void tell_file(struct tree *t, size_t file)
{
	const struct lin_file *f = &t->l->files[file];
	bool broken = f->origin == LIN_EDITED || f->origin == LIN_LOST;
	const char *between = "  ";
	char size[32];

	screen_painted(t->c, PAINT_BOLD,
		       f->is_stdin ? "standard input" : shown_path(t->o->cwd, f->path));
	if (!f->no_content) {
		screen_addf(t->c, "  %s", human_size(f->size, size, sizeof(size)));
		between = ", ";
	}
	if (f->now != LIN_SAME) {
		screen_addf(t->c, "%s", between);
		screen_painted(t->c, PAINT_NOTE, now_text(f));
		between = ", ";
	}
	if (*origin_text(f)) {
		screen_addf(t->c, "%s", between);
		screen_painted(t->c, broken ? PAINT_BAD : PAINT_FAINT, origin_text(f));
	}
	if (f->copy_of != LIN_NONE)
		screen_text(t->c, shown_path(t->o->cwd, t->l->files[f->copy_of].path));
	screen_addf(t->c, "\n");
	if (f->maker == LIN_NONE)
		return;
	branch(t, !f->n_also, tell_step, f->maker);
	for (size_t i = 0; i < f->n_also; i++)
		branch(t, i + 1 == f->n_also, tell_also, f->also[i]);
}

static int print_text(const struct lineage *l, const struct lin_output *o, int status)
{
	auto_free bool *told = xcalloc(l->n_steps + 1, sizeof(*told));
	struct tree t = {
		.l = l, .o = o, .c = screen_open(true), .utf8 = locale_is_utf8(), .told = told};

	for (size_t i = 0; i < l->n_roots && !screen_gone(t.c); i++)
		tell_file(&t, l->roots[i]);
	if (l->n_unmade)
		screen_addf(t.c, "%s%zu file%s that no recorded step made\n",
			    l->n_roots ? "and " : "", l->n_unmade, l->n_unmade > 1 ? "s" : "");
	buf_free(&t.indent);
	return screen_close(t.c, status);
}

/* ---- JSON ---- */

static const char *const origins[] = {
	[LIN_MADE] = "made",	 [LIN_COPY] = "copy",	  [LIN_STDOUT] = "stdout",
	[LIN_SOURCE] = "source", [LIN_EDITED] = "edited", [LIN_LOST] = "lost",
};
static const char *const nows[] = {
	[LIN_SAME] = "same",
	[LIN_CHANGED] = "changed",
	[LIN_GONE] = "gone",
	[LIN_UNREADABLE] = "unreadable",
};

static void json_indexes(struct json *j, const char *name, const size_t *v, size_t n)
{
	json_array(j, name);
	for (size_t i = 0; i < n; i++)
		json_uint(j, NULL, v[i]);
	json_end(j);
}

static void json_file(struct json *j, const struct lin_file *f, size_t id)
{
	json_object(j, NULL);
	json_uint(j, "id", id);
	json_text(j, "path", f->path);
	if (f->no_content) {
		json_null(j, "size");
		json_null(j, "xxh3");
	} else {
		json_uint(j, "size", f->size);
		json_hex(j, "xxh3", &f->content, sizeof(f->content));
	}
	json_hex(j, "sha256", f->has_oid ? &f->oid : NULL, sizeof(f->oid));
	json_text(j, "origin", origins[f->origin]);
	json_text(j, "now", nows[f->now]);
	if (f->maker == LIN_NONE)
		json_null(j, "step");
	else
		json_uint(j, "step", f->maker);
	if (f->copy_of == LIN_NONE)
		json_null(j, "copy_of");
	else
		json_uint(j, "copy_of", f->copy_of);
	json_indexes(j, "also", f->also, f->n_also);
	json_end(j);
}

static void json_step(struct json *j, const struct lin_step *s, size_t id)
{
	json_object(j, NULL);
	json_uint(j, "id", id);
	json_hex(j, "key", &s->key, sizeof(s->key));
	json_text(j, "name", s->name);
	json_texts(j, "argv", s->argv, s->n_argv);
	json_text(j, "cwd", s->cwd);
	json_time(j, "started", s->started_ns);
	json_seconds(j, "wall_seconds", (double)s->wall_ns / 1e9);
	if (!s->inputs_known) {
		json_null(j, "inputs");
	} else {
		json_indexes(j, "inputs", s->inputs, s->n_inputs);
		json_uint(j, "system_inputs", s->n_system);
	}
	json_end(j);
}

static void print_json(const struct lineage *l, const struct lin_output *o)
{
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	json_text(&j, "file", o->file);
	json_indexes(&j, "roots", l->roots, l->n_roots);
	json_uint(&j, "unmade", l->n_unmade);
	json_array(&j, "files");
	for (size_t i = 0; i < l->n_files; i++)
		json_file(&j, &l->files[i], i);
	json_end(&j);
	json_array(&j, "steps");
	for (size_t i = 0; i < l->n_steps; i++)
		json_step(&j, &l->steps[i], i);
	json_end(&j);
	json_end(&j);
	json_done(&j);
}

int lineage_print(const struct lineage *l, const struct lin_output *o, int status)
{
	if (strcmp(o->format, "text") == 0)
		return print_text(l, o, status);
	if (strcmp(o->format, "dot") == 0)
		lineage_dot(l, o);
	else if (strcmp(o->format, "prov") == 0)
		lineage_prov(l);
	else
		print_json(l, o);
	return printed_status(status);
}
