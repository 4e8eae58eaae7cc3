/* SPDX-License-Identifier: MIT */
/* share_result.c - from a result to one for others, and back; see share.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "share.h"

/* Lines of the environment of a shared result; in keys there are no variables of such names. */
#define LINE_STEP   "MLFS_SHARED_STEP="
#define LINE_INPUTS "MLFS_SHARED_INPUTS="
#define LINE_UID    "MLFS_SHARED_UID="
#define LINE_BY	    "MLFS_SHARED_BY="

char *share_home(const char *cwd)
{
	const char *given = getenv("HOME");
	char *home;

	if (!given || *given != '/')
		return NULL;
	home = realpath(given, NULL); /* paths in records have no links in them */
	if (!home)
		home = xstrdup(given);
	if (home[1] && home[strlen(home) - 1] != '/' && !strstr(home, "//") &&
	    !strstr(home, "/.") && !path_is_in(cwd, home))
		return home;
	free(home);
	return NULL;
}

/* ---- what may be given to others ---- */

/* A step that changed, moved or removed what was there did so with its user's rights. */
static const char *output_refusal(const struct output *o, uid_t uid, const char *home)
{
	if (!o->own || o->in_place || o->untouched || o->as_before || o->spilled)
		return "it changed what was there";
	if (o->link_group || o->linked_before)
		return "it made hard links";
	if (o->now.unknown || o->now.type == OUT_FIFO)
		return "it left a fifo";
	if (o->xattrs)
		return "it left extended attributes";
	if (home && path_is_in(o->path, home))
		return "it wrote to the home of its user";
	if (o->now.type == OUT_ABSENT)
		return NULL;
	if (o->uid != uid)
		return "it left files of other users";
	return o->now.type == OUT_FILE && (o->now.mode & 06000) ? "it left a set-id program" : NULL;
}

const char *share_refusal(const struct result *r, const struct path_set *s, uid_t uid,
			  const char *home)
{
	const char *why = NULL;

	if (s->n != r->n_states)
		return "its record is damaged";
	if (r->stdin_kind != STDIN_UNUSED || r->stdin_len)
		return "it read standard input";
	if (r->n_same)
		return "inputs of it are one file";
	for (size_t i = 0; i < s->n && !why; i++) {
		struct state_parts p = {0};

		if (state_parse(r->states[i].data, r->states[i].len, &p) < 0)
			return "its record is damaged";
		if (p.type == 'E')
			why = "it was refused a look at something";
		state_parts_free(&p);
	}
	for (size_t i = 0; i < r->n_outputs && !why; i++)
		why = output_refusal(&r->outputs[i], uid, home);
	return why;
}

/* ---- copies ---- */

static char *moved(const char *path, const char *from, const char *to)
{
	return from && path_is_in(path, from) ? xasprintf("%s%s", to, path + strlen(from))
					      : xstrdup(path);
}

struct entry {
	struct path_entry p;
	struct buf state;
};

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->p.path, ((const struct entry *)b)->p.path);
}

static char **copy_words(char *const *v, size_t n)
{
	char **copy = xcalloc(n + 1, sizeof(*copy));

	for (size_t k = 0; k < n; k++)
		copy[k] = xstrdup(v[k]);
	return copy;
}

/* The path set and its states, in the order of the new paths. */
static int copy_set(const struct result *r, const struct path_set *s, const char *from,
		    const char *to, struct result *ret, struct path_set *ret_set)
{
	auto_free struct entry *v = xcalloc(s->n + 1, sizeof(*v));
	int k = 0;

	for (size_t i = 0; i < s->n; i++) {
		v[i].p = (struct path_entry){.path = moved(s->v[i].path, from, to),
					     .kinds = s->v[i].kinds,
					     .excluded = copy_words(s->v[i].excluded,
								    s->v[i].n_excluded),
					     .n_excluded = s->v[i].n_excluded};
		if (k == 0)
			k = state_without_owner(r->states[i].data, r->states[i].len, &v[i].state);
	}
	if (s->n)
		qsort(v, s->n, sizeof(*v), by_path);
	for (size_t i = 0; i < ret->n_states; i++)
		buf_free(&ret->states[i]);
	free(ret->states);
	ret->states = xcalloc(s->n + 1, sizeof(*ret->states));
	ret->n_states = ret_set->n = s->n;
	ret_set->v = xcalloc(s->n + 1, sizeof(*ret_set->v));
	for (size_t i = 0; i < s->n; i++) {
		ret->states[i] = v[i].state;
		ret_set->v[i] = v[i].p;
		if (i && strcmp(v[i - 1].p.path, v[i].p.path) == 0)
			k = -EBADMSG;
	}
	return k;
}

int share_copy(const struct result *r, const struct path_set *s, const char *from, const char *to,
	       struct result **ret, struct path_set *ret_set)
{
	auto_buf struct buf b = {0};
	struct path_set set = {0};
	struct result *copy;
	int k;

	result_encode(r, &b);
	k = result_decode(b.data, b.len, &copy);
	if (k < 0)
		return k;
	if (copy->n_states != s->n) {
		result_free(copy);
		return -EBADMSG;
	}
	k = copy_set(r, s, from, to, copy, &set);
	free(copy->env_note);
	copy->env_note = xstrdup("");
	/* What stood there was the user's business, and is none of others. */
	for (size_t i = 0; i < copy->n_outputs; i++) {
		left_free(&copy->outputs[i].before);
		copy->outputs[i].before = (struct left){.type = OUT_ABSENT};
	}
	if (k < 0) {
		result_free(copy);
		path_set_free(&set);
		return k;
	}
	*ret = copy;
	*ret_set = set;
	return 0;
}

/* ---- the note ---- */

static struct fp key_of(const struct oid *o)
{
	struct fp fp;

	memcpy(fp.b, o->b, sizeof(fp.b));
	return fp;
}

int share_sign(struct result *r, const struct path_set *s, const struct share_note *n)
{
	auto_buf struct buf key = {0}, note = {0};
	char step[65], inputs[65];
	struct oid oid;
	int k;

	r->step_key = key_of(&n->step);
	input_key_set_base(r, s);
	/* Of each user one, so that what goes with his right leaves the others'. */
	buf_str(&key, "mlfs shared result 1");
	buf_add(&key, &n->step, sizeof(n->step));
	buf_add(&key, &n->inputs, sizeof(n->inputs));
	buf_u32(&key, n->uid);
	k = oid_of(key.data, key.len, &oid);
	if (k < 0)
		return k;
	r->input_key = key_of(&oid);
	hex(n->step.b, sizeof(n->step.b), step);
	hex(n->inputs.b, sizeof(n->inputs.b), inputs);
	buf_addf(&note, LINE_STEP "%s\n" LINE_INPUTS "%s\n" LINE_UID "%u\n" LINE_BY "%s\n", step,
		 inputs, (unsigned)n->uid, n->name);
	buf_u8(&note, 0);
	free(r->env_note);
	r->env_note = (char *)take(note.data);
	return 0;
}

/* The value of a line. Caller frees; NULL: there is none. */
static char *line_of(const char *text, const char *name)
{
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (strncmp(p, name, strlen(name)) == 0)
			return xstrndup(p + strlen(name), strcspn(p + strlen(name), "\n"));
	return NULL;
}

bool share_note_of(const struct result *r, struct share_note *ret)
{
	auto_free char *step = line_of(r->env_note, LINE_STEP);
	auto_free char *inputs = line_of(r->env_note, LINE_INPUTS);
	auto_free char *uid = line_of(r->env_note, LINE_UID);
	struct share_note n = {0};
	char *end;

	if (!step || !inputs || !uid || !*uid || !unhex(step, n.step.b, sizeof(n.step.b)) ||
	    !unhex(inputs, n.inputs.b, sizeof(n.inputs.b)))
		return false;
	n.uid = (uid_t)strtoul(uid, &end, 10);
	n.name = *end ? NULL : line_of(r->env_note, LINE_BY);
	if (!n.name)
		return false;
	*ret = n;
	return true;
}

char *share_mark(const char *env_note, const char *by)
{
	return xasprintf("%s" LINE_BY "%.*s\n", env_note ? env_note : "", (int)strcspn(by, "\n"),
			 by);
}

char *share_marked(const struct result *r)
{
	return line_of(r->env_note, LINE_BY);
}

/* ---- objects ---- */

static int by_oid(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct oid));
}

size_t share_objects(const struct result *r, struct share_object **ret)
{
	struct share_object *v = xcalloc(r->n_outputs + 1, sizeof(*v));
	size_t n = 0, kept = 0;

	if (r->console_len)
		v[n++] = (struct share_object){r->console_oid, r->console_len};
	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_FILE && r->outputs[i].now.size)
			v[n++] = (struct share_object){r->outputs[i].oid, r->outputs[i].now.size};
	if (n)
		qsort(v, n, sizeof(*v), by_oid);
	for (size_t i = 0; i < n; i++)
		/* One that is said to have two lengths is asked for twice, and then refused. */
		if (!kept || !oid_eq(&v[kept - 1].oid, &v[i].oid) || v[kept - 1].size != v[i].size)
			v[kept++] = v[i];
	*ret = v;
	return kept;
}
