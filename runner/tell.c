/* SPDX-License-Identifier: MIT */
/* tell.c - results, states and outputs in words. */
#include <errno.h>
#include <string.h>

#include "options.h"
#include "tell.h"

/* ---- states ---- */

const char *type_word(char type)
{
	switch (type) {
	case 'a':
		return "nothing there";
	case 'f':
		return "file";
	case 'd':
		return "directory";
	case 'l':
		return "link";
	case 'p':
		return "fifo";
	case 's':
		return "socket";
	case 'c':
		return "character device";
	case 'b':
		return "block device";
	default:
		return "of unknown type";
	}
}

void state_words(const struct state_parts *s, struct buf *out)
{
	char text[40];

	if (s->type == 'E') {
		buf_addf(out, "cannot be looked at: %s", strerror(s->err));
		return;
	}
	buf_addf(out, "%s", type_word(s->type));
	if (s->target) {
		buf_addf(out, " to ");
		add_plain(out, s->target);
	}
	if (s->has_size)
		buf_addf(out, ", %s", human_size(s->size, text, sizeof(text)));
	if (s->has_mode)
		buf_addf(out, ", mode %04o", s->mode);
	if (s->has_owner)
		buf_addf(out, ", owner %u:%u", s->uid, s->gid);
	if (s->has_mtime)
		buf_addf(out, ", modified %s", human_time(s->mtime_ns, text, sizeof(text)));
}

void state_json(struct json *j, const char *name, const struct state_parts *s)
{
	json_object(j, name);
	json_text(j, "type",
		  s->type == 'a'   ? "absent"
		  : s->type == 'E' ? "error"
				   : type_word(s->type));
	if (s->type == 'E')
		json_text(j, "error", strerror(s->err));
	if (s->has_mode) {
		char mode[8];

		(void)snprintf(mode, sizeof(mode), "%04o", s->mode & 07777);
		json_text(j, "mode", mode);
	}
	if (s->has_owner) {
		json_uint(j, "uid", s->uid);
		json_uint(j, "gid", s->gid);
	}
	if (s->has_rights)
		json_uint(j, "rights", s->rights);
	if (s->has_size)
		json_uint(j, "size", s->size);
	if (s->has_content)
		json_hex(j, "xxh3", &s->content, sizeof(s->content));
	if (s->has_mtime)
		json_time(j, "mtime", s->mtime_ns);
	if (s->has_rdev)
		json_uint(j, "rdev", s->rdev);
	if (s->target)
		json_text(j, "target", s->target);
	if (s->has_list)
		json_hex(j, "listing", &s->list, sizeof(s->list));
	if (s->has_xattrs)
		json_hex(j, "xattrs", &s->xattrs, sizeof(s->xattrs));
	json_end(j);
}

static const struct {
	unsigned kind;
	const char *word;
} kind_names[] = {
	{OBS_ABSENT, "absence"},  {OBS_EXISTS, "existence"}, {OBS_ATTR, "attributes"},
	{OBS_CONTENT, "content"}, {OBS_LINK, "link"},	     {OBS_LIST, "listing"},
	{OBS_XATTR, "xattrs"},
};
#define N_KINDS (sizeof(kind_names) / sizeof(*kind_names))

void kinds_words(unsigned kinds, struct buf *out)
{
	const char *between = "";

	for (size_t i = 0; i < N_KINDS; i++)
		if (kinds & kind_names[i].kind) {
			buf_addf(out, "%s%s", between, kind_names[i].word);
			between = ",";
		}
}

void kinds_json(struct json *j, const char *name, unsigned kinds)
{
	json_array(j, name);
	for (size_t i = 0; i < N_KINDS; i++)
		if (kinds & kind_names[i].kind)
			json_text(j, NULL, kind_names[i].word);
	json_end(j);
}

/* ---- outputs ---- */

static const char *const left_names[] = {
	[OUT_ABSENT] = "absent", [OUT_FILE] = "file", [OUT_DIR] = "directory",
	[OUT_LINK] = "link",	 [OUT_FIFO] = "fifo",
};

void left_words(const struct left *l, struct buf *out)
{
	char text[40];

	if (l->type == OUT_ABSENT) {
		buf_addf(out, "removed");
		return;
	}
	buf_addf(out, "%s", left_names[l->type]);
	if (l->type == OUT_LINK) {
		buf_addf(out, " to ");
		add_plain(out, l->target ? l->target : "");
		return;
	}
	if (l->type == OUT_FILE)
		buf_addf(out, ", %s", human_size(l->size, text, sizeof(text)));
	buf_addf(out, ", mode %04o", l->mode & 07777);
}

void left_json(struct json *j, const struct left *l)
{
	char mode[8];

	json_text(j, "type", left_names[l->type]);
	if (l->type == OUT_LINK)
		json_text(j, "target", l->target);
	if (l->type == OUT_FILE)
		json_uint(j, "size", l->size);
	if (l->type == OUT_ABSENT || l->type == OUT_LINK)
		return;
	(void)snprintf(mode, sizeof(mode), "%04o", l->mode & 07777);
	json_text(j, "mode", mode);
}

enum output_now output_now(struct look *l, const struct output *o)
{
	struct left present;
	int k = node_left(l, node_get(l, o->path, true), &present);
	bool gone = k > 0 && present.type == OUT_ABSENT;
	bool same = k > 0 && (o->now.type == OUT_ABSENT ? gone : left_eq(&present, &o->now));

	left_free(&present);
	return same ? OUTPUT_SAME : gone ? OUTPUT_GONE : OUTPUT_CHANGED;
}

/* ---- other words ---- */

static void add_quoted(struct buf *b, const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "%+,-./:=@_";

	if (*word && !word[strspn(word, plain)]) {
		buf_addf(b, "%s", word);
		return;
	}
	buf_u8(b, '\'');
	for (; *word; word++)
		if (*word == '\'')
			buf_addf(b, "'\\''");
		else
			buf_u8(b, (uint8_t)*word);
	buf_u8(b, '\'');
}

char *command_line(char *const *argv, size_t n)
{
	struct buf b = {0};

	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_u8(&b, ' ');
		add_quoted(&b, argv[i]);
	}
	buf_u8(&b, 0);
	return (char *)b.data;
}

bool is_system_path(const char *path)
{
	static const char *const dirs[] = {"/usr",    "/lib",  "/lib32", "/lib64",
					   "/libx32", "/bin",  "/sbin",	 "/etc",
					   "/opt",    "/boot", "/nix",	 "/var/lib"};

	if (strncmp(path, "/usr/local/", 11) == 0)
		return true;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		size_t n = strlen(dirs[i]);

		if (strncmp(path, dirs[i], n) == 0 && (!path[n] || path[n] == '/'))
			return true;
	}
	return strcmp(path, "/") == 0;
}

/* ---- results ---- */

int path_set_of(struct idx *x, const struct result *r, struct path_set *ret, struct err *e)
{
	struct path_set_list l = {0};
	int k = idx_path_sets(x, &r->step_key, &l, e);
	size_t i = 0;

	if (k < 0)
		return k;
	while (i < l.n && !fp_eq(&l.ids[i], &r->path_set_id))
		i++;
	k = i < l.n && l.sets[i].n == r->n_states;
	if (k) {
		*ret = l.sets[i];
		l.sets[i] = (struct path_set){0};
	}
	path_set_list_free(&l);
	return k;
}

int settings_of(const struct query *q, const struct result *r, struct exec_opts *ret)
{
	const char *named = q->config ? q->config : getenv("MLFS_CONFIG");
	auto_free char *dir = find_cache(q->cache);
	const char *names[] = {r->name, NULL};
	auto_free char *path = NULL;
	struct err e = {0};
	int k;

	exec_opts_init(ret);
	if (!dir && !(named && *named))
		return 0;
	path = named && *named ? xstrdup(named) : xasprintf("%s/mlfs.conf", dir);
	k = config_apply(path, names, &(struct config_to){.exec = ret}, &e);
	if (k >= 0 || k == -ENOENT || k == -ENOTDIR)
		return 0;
	log_warn("%s", e.msg);
	return -EINVAL;
}

/* ---- results ---- */

static void json_environment(struct json *j, const char *note)
{
	json_array(j, "environment");
	while (note && *note) {
		size_t n = strcspn(note, "\n");
		auto_free char *line = xstrndup(note, n);

		json_text(j, NULL, line);
		note += n + (note[n] == '\n');
	}
	json_end(j);
}

void result_json(struct json *j, const struct result *r)
{
	json_hex(j, "key", &r->input_key, sizeof(r->input_key));
	json_hex(j, "step_key", &r->step_key, sizeof(r->step_key));
	json_text(j, "name", r->name);
	json_texts(j, "argv", r->argv, r->n_argv);
	json_text(j, "cwd", r->cwd);
	json_environment(j, r->env_note);
	json_bool(j, "strict", r->strict);
	json_int(j, "exit_status", r->exit_status);
	json_time(j, "started", r->started_ns);
	json_seconds(j, "wall_seconds", (double)r->wall_ns / 1e9);
	json_time(j, "stored", r->stored_ns);
}

void output_json(struct json *j, const struct output *o)
{
	json_text(j, "path", o->path);
	left_json(j, &o->now);
	json_hex(j, "sha256", o->now.type == OUT_FILE ? &o->oid : NULL, sizeof(o->oid));
	json_bool(j, "own", o->own);
	json_bool(j, "untouched", !output_is_work(o));
}

void stdin_json(struct json *j, const struct result *r)
{
	json_object(j, "stdin");
	json_bool(j, "read", r->stdin_kind != STDIN_UNUSED);
	json_uint(j, "bytes", r->stdin_len);
	json_hex(j, "sha256", result_stdin(r), sizeof(r->stdin_oid));
	json_bool(j, "end_of_file", r->stdin_eof);
	json_end(j);
}
