/* SPDX-License-Identifier: MIT */
/*
 * browse_texts.c - inputs.txt and step.json of a result, as `mlfs mount --browse` shows them.
 *
 * Made to be compared: a line an input, the same input the same line wherever and whenever it is looked at.
 */
#include "browse_texts.h"

#include "tell.h"

/* "content	/data/in.csv	file, mode 0644, 8907 bytes, xxh3 5f…" */
static void add_state(struct buf *out, const struct state_parts *p)
{
	char text[2 * sizeof(struct fp) + 1];

	if (p->type == 'E') {
		buf_addf(out, "error %d", p->err);
		return;
	}
	buf_addf(out, "%s", type_word(p->type));
	if (p->target) {
		buf_addf(out, " to ");
		browse_plain(out, p->target);
	}
	if (p->has_mode)
		buf_addf(out, ", mode %04o", p->mode);
	if (p->has_owner)
		buf_addf(out, ", owner %u:%u", p->uid, p->gid);
	if (p->has_rights)
		buf_addf(out, ", rights %u", p->rights);
	if (p->has_size)
		buf_addf(out, ", %llu bytes", (unsigned long long)p->size);
	if (p->has_content) {
		hex(&p->content, sizeof(p->content), text);
		buf_addf(out, ", xxh3 %s", text);
	}
	if (p->has_mtime)
		buf_addf(out, ", modified %s", rfc3339(p->mtime_ns, text, sizeof(text)));
	if (p->has_rdev)
		buf_addf(out, ", device %llu", (unsigned long long)p->rdev);
	if (p->has_list) {
		hex(&p->list, sizeof(p->list), text);
		buf_addf(out, ", names %s", text);
	}
	if (p->has_xattrs) {
		hex(&p->xattrs, sizeof(p->xattrs), text);
		buf_addf(out, ", extended attributes %s", text);
	}
}

static int add_inputs(struct idx *x, const struct result *r, struct buf *out, struct err *e)
{
	struct path_set set;
	int k = path_set_of(x, r, &set, e);

	if (k < 0)
		return k;
	if (k == 0) {
		buf_addf(out, "which they are is no longer in the cache\n");
		return 0;
	}
	for (size_t i = 0; i < set.n; i++) {
		struct state_parts parts;

		if (state_parse(r->states[i].data, r->states[i].len, &parts) < 0)
			continue; /* damaged: fsck finds it */
		kinds_words(set.v[i].kinds, out);
		buf_u8(out, '\t');
		browse_plain(out, set.v[i].path);
		buf_u8(out, '\t');
		add_state(out, &parts);
		buf_u8(out, '\n');
		state_parts_free(&parts);
	}
	path_set_free(&set);
	return 0;
}

static void add_step(const struct result *r, struct buf *out)
{
	struct json j = {0};

	json_object(&j, NULL);
	result_json(&j, r);
	json_uint(&j, "inputs", r->n_inputs);
	json_array(&j, "outputs");
	for (size_t i = 0; i < r->n_outputs; i++) {
		json_object(&j, NULL);
		output_json(&j, &r->outputs[i]);
		json_end(&j);
	}
	json_end(&j);
	json_uint(&j, "console_bytes", r->console_len);
	json_bool(&j, "console_merged", r->console_merged);
	stdin_json(&j, r);
	json_end(&j);
	json_done(&j);
	buf_add(out, j.b.data, j.b.len);
	buf_free(&j.b);
}

int browse_text_of(void *arg, struct idx *x, enum browse_text what, const struct result *r,
		   struct buf *out, struct err *e)
{
	(void)arg;
	if (what == BROWSE_INPUTS)
		return add_inputs(x, r, out, e);
	add_step(r, out);
	return 0;
}
