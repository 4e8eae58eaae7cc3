/* SPDX-License-Identifier: MIT */
/*
 * lineage_graph.c - a lineage for other tools: a graph for Graphviz (https://graphviz.org/doc/info/lang.html), and W3C
 * PROV-JSON (https://www.w3.org/submissions/prov-json/): files are entities, steps are activities.
 */
#include <string.h>

#include "lineage.h"
#include "tell.h"

/* ---- Graphviz ---- */

/* Within quotes: names may hold any bytes, and \n and the like would be escapes of the label. */
static void dot_text(struct buf *b, const char *text)
{
	auto_buf struct buf plain = {0};

	add_plain(&plain, text);
	if (!is_utf8((char *)plain.data, plain.len))
		for (size_t i = 0; i < plain.len; i++)
			if (plain.data[i] >= 0x80)
				plain.data[i] = '?'; /* it would be refused */
	for (size_t i = 0; i < plain.len; i++) {
		if (plain.data[i] == '"' || plain.data[i] == '\\')
			buf_u8(b, '\\');
		buf_u8(b, plain.data[i]);
	}
}

static void dot_file(const struct lin_file *f, size_t i, const struct lin_output *o, struct buf *b)
{
	static const char *const notes[] = {[LIN_SAME] = "",
					    [LIN_CHANGED] = "changed since",
					    [LIN_GONE] = "not there now",
					    [LIN_UNREADABLE] = "cannot be read now"};
	bool broken = f->origin == LIN_EDITED || f->origin == LIN_LOST;
	char size[32];

	buf_addf(b, "\tf%zu [shape=box, label=\"", i);
	dot_text(b, f->is_stdin ? "standard input" : shown_path(o->cwd, f->path));
	if (!f->no_content)
		buf_addf(b, "\\n%s", human_size(f->size, size, sizeof(size)));
	if (f->now != LIN_SAME)
		buf_addf(b, "\\n%s", notes[f->now]);
	if (broken)
		buf_addf(b, "\\nmade by no recorded step");
	buf_addf(b, "\"%s%s];\n", f->origin == LIN_SOURCE ? ", style=filled, fillcolor=gray90" : "",
		 broken ? ", color=red" : "");
}

static void dot_step(const struct lin_step *s, size_t i, struct buf *b)
{
	auto_free char *command = command_line(s->argv, s->n_argv);
	char digits[9];

	hex(&s->key, 4, digits);
	buf_addf(b, "\ts%zu [shape=ellipse, label=\"", i);
	dot_text(b, s->name);
	buf_addf(b, "\\n%s\", tooltip=\"", digits);
	dot_text(b, command);
	buf_addf(b, "\"%s];\n", s->followed && !s->inputs_known ? ", color=red" : "");
}

static void dot_edges(const struct lineage *l, struct buf *b)
{
	for (size_t i = 0; i < l->n_files; i++) {
		const struct lin_file *f = &l->files[i];

		if (f->origin == LIN_COPY)
			buf_addf(b, "\tf%zu -> f%zu [label=\"copied\"];\n", f->copy_of, i);
		else if (f->maker != LIN_NONE)
			buf_addf(b, "\ts%zu -> f%zu%s;\n", f->maker, i,
				 f->origin == LIN_EDITED   ? " [style=dashed, color=red]"
				 : f->origin == LIN_STDOUT ? " [label=\"stdout\"]"
							   : "");
		for (size_t k = 0; k < f->n_also; k++)
			buf_addf(b, "\ts%zu -> f%zu [style=dotted];\n", f->also[k], i);
	}
	for (size_t i = 0; i < l->n_steps; i++)
		for (size_t k = 0; k < l->steps[i].n_inputs; k++)
			buf_addf(b, "\tf%zu -> s%zu;\n", l->steps[i].inputs[k], i);
}

void lineage_dot(const struct lineage *l, const struct lin_output *o)
{
	auto_buf struct buf b = {0};

	buf_addf(&b, "digraph lineage {\n\trankdir=LR;\n");
	for (size_t i = 0; i < l->n_files; i++)
		dot_file(&l->files[i], i, o, &b);
	for (size_t i = 0; i < l->n_steps; i++)
		dot_step(&l->steps[i], i, &b);
	dot_edges(l, &b);
	buf_addf(&b, "}\n");
	(void)fwrite(b.data, 1, b.len, stdout); /* an error is said by printed_status */
}

/* ---- PROV-JSON ---- */

/* Names stay the same from one call to the next: of a file by its path and content, of a step by its key. */
static char *file_id(const struct lin_file *f)
{
	char content[2 * sizeof(f->content) + 1];

	hex(&f->content, sizeof(f->content), content);
	return xasprintf("mlfs:file-%s-%016llx", f->no_content ? "gone" : content,
			 (unsigned long long)xxh64_of(f->path, strlen(f->path)));
}

static char *step_id(const struct lin_step *s)
{
	char key[2 * sizeof(s->key) + 1];

	hex(&s->key, sizeof(s->key), key);
	return xasprintf("mlfs:step-%s", key);
}

static void prov_entities(const struct lineage *l, struct json *j)
{
	json_object(j, "entity");
	for (size_t i = 0; i < l->n_files; i++) {
		const struct lin_file *f = &l->files[i];
		auto_free char *id = file_id(f);

		json_object(j, id);
		json_text(j, "mlfs:path", f->path);
		if (!f->no_content) {
			json_uint(j, "mlfs:size", f->size);
			json_hex(j, "mlfs:xxh3", &f->content, sizeof(f->content));
		}
		if (f->has_oid)
			json_hex(j, "mlfs:sha256", &f->oid, sizeof(f->oid));
		json_end(j);
	}
	json_end(j);
}

static void prov_activities(const struct lineage *l, struct json *j)
{
	json_object(j, "activity");
	for (size_t i = 0; i < l->n_steps; i++) {
		const struct lin_step *s = &l->steps[i];
		auto_free char *id = step_id(s), *command = command_line(s->argv, s->n_argv);

		json_object(j, id);
		json_time(j, "prov:startTime", s->started_ns);
		json_time(j, "prov:endTime", s->started_ns + s->wall_ns);
		json_text(j, "mlfs:name", s->name);
		json_text(j, "mlfs:command", command);
		json_text(j, "mlfs:directory", s->cwd);
		json_end(j);
	}
	json_end(j);
}

/* One more relation, under a name that means nothing ("_:g1"). */
static void relation(struct json *j, char kind, size_t *n, const char *from, char *from_id,
		     const char *to, char *to_id)
{
	auto_free char *name = xasprintf("_:%c%zu", kind, ++*n), *a = from_id, *b = to_id;

	json_object(j, name);
	json_text(j, from, a);
	json_text(j, to, b);
	json_end(j);
}

static void prov_generated(const struct lineage *l, struct json *j)
{
	size_t n = 0;

	json_object(j, "wasGeneratedBy");
	for (size_t i = 0; i < l->n_files; i++) {
		const struct lin_file *f = &l->files[i];

		if (f->origin == LIN_MADE || f->origin == LIN_STDOUT)
			relation(j, 'g', &n, "prov:entity", file_id(f), "prov:activity",
				 step_id(&l->steps[f->maker]));
	}
	json_end(j);
}

static void prov_used(const struct lineage *l, struct json *j)
{
	size_t n = 0;

	json_object(j, "used");
	for (size_t i = 0; i < l->n_steps; i++)
		for (size_t k = 0; k < l->steps[i].n_inputs; k++)
			relation(j, 'u', &n, "prov:activity", step_id(&l->steps[i]), "prov:entity",
				 file_id(&l->files[l->steps[i].inputs[k]]));
	json_end(j);
}

/* What was made, or copied, from what; what was edited is influenced by the step that left it otherwise. */
static void prov_derived(const struct lineage *l, struct json *j)
{
	size_t n = 0;

	json_object(j, "wasDerivedFrom");
	for (size_t i = 0; i < l->n_files; i++) {
		const struct lin_file *f = &l->files[i];

		if (f->origin == LIN_COPY)
			relation(j, 'd', &n, "prov:generatedEntity", file_id(f), "prov:usedEntity",
				 file_id(&l->files[f->copy_of]));
		if (f->origin != LIN_MADE && f->origin != LIN_STDOUT)
			continue;
		for (size_t k = 0; k < l->steps[f->maker].n_inputs; k++)
			relation(j, 'd', &n, "prov:generatedEntity", file_id(f), "prov:usedEntity",
				 file_id(&l->files[l->steps[f->maker].inputs[k]]));
	}
	json_end(j);
	n = 0;
	json_object(j, "wasInfluencedBy");
	for (size_t i = 0; i < l->n_files; i++) {
		const struct lin_file *f = &l->files[i];

		if (f->origin == LIN_EDITED)
			relation(j, 'i', &n, "prov:influencee", file_id(f), "prov:influencer",
				 step_id(&l->steps[f->maker]));
	}
	json_end(j);
}

void lineage_prov(const struct lineage *l)
{
	struct json j = {.to = stdout};

	json_object(&j, NULL);
	json_object(&j, "prefix");
	json_text(&j, "mlfs", "urn:mlfs:");
	json_end(&j);
	prov_entities(l, &j);
	prov_activities(l, &j);
	prov_generated(l, &j);
	prov_used(l, &j);
	prov_derived(l, &j);
	json_end(&j);
	json_done(&j);
}
