/* SPDX-License-Identifier: MIT */
/* share_ask.c - the process of a step asks for results of others, and offers its own; see share.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "keep.h"
#include "share.h"

#define SAY_SECONDS  10 /* until the server has said hello; it may be busy with others */
#define LOOK_SECONDS 70 /* somewhat longer than it gives itself */
#define PASS_SECONDS 20 /* between two pieces of an object */

/* ---- the connection ---- */

static int reach(const char *path)
{
	auto_free char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	auto_close int at = open(*dir ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	char hello;
	int r;

	if (at < 0 || sock < 0)
		return -errno;
	share_address(at, strrchr(path, '/') + 1, &a);
	r = share_limit(sock, SAY_SECONDS);
	if (r < 0)
		return r;
	if (connect(sock, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	r = share_recv_byte(sock, &hello);
	if (r == 0 && hello != SHARE_HELLO)
		r = -EPROTO;
	return r < 0 ? r : take_fd(&sock);
}

/* A socket, once the server says that this user may. -EPERM: he may not. */
static int ask(const struct share_asker *a, char kind, const char *home)
{
	auto_buf struct buf step = {0}, b = {0};
	auto_close int sock = -1;
	char answer;
	int r = step_shared(a->o, a->step, a->in, home != NULL, &step);

	if (r < 0)
		return r;
	sock = reach(a->base->share);
	if (sock < 0) {
		*a->gone = true;
		return sock;
	}
	buf_u8(&b, (uint8_t)kind);
	buf_str(&b, a->base->program);
	buf_str(&b, home ? home : "");
	buf_bytes(&b, step.data, step.len);
	r = share_send_frame(sock, &b);
	if (r == 0)
		r = share_recv_byte(sock, &answer);
	if (r == 0 && answer != SHARE_YES)
		r = -EPERM;
	return r < 0 ? r : take_fd(&sock);
}

static bool can_share(const struct share_asker *a)
{
	return a->base && a->base->share && a->base->program && strchr(a->base->share, '/') &&
	       !a->o->private_ && !a->o->read_only && !*a->gone;
}

/* ---- a result of somebody else ---- */

/* What is told of it, and what hangs on who has it. */
static int make_own(const struct share_asker *a, struct result *r, const struct path_set *s,
		    const char *by)
{
	for (size_t i = 0; i < s->n; i++) {
		struct buf own = {0};
		struct stat st;
		bool there = lstat(s->v[i].path, &st) == 0;
		int k = state_with_owner(r->states[i].data, r->states[i].len, s->v[i].kinds,
					 there ? &st : NULL, &own);

		buf_free(&r->states[i]);
		r->states[i] = own;
		if (k < 0)
			return k;
	}
	for (size_t i = 0; i < r->n_outputs; i++) {
		r->outputs[i].uid = geteuid();
		r->outputs[i].gid = getegid();
	}
	free(r->env_note);
	r->env_note = share_mark(a->step->env_note, by);
	free(r->name);
	r->name = xstrdup(a->step->name);
	buf_add(&r->description, a->step->description.data, a->step->description.len);
	return 0;
}

static void set_keys(const struct share_asker *a, struct result *r, const struct path_set *s)
{
	r->step_key = a->step->key;
	input_key_set_base(r, s);
	r->input_key = input_key_own(&r->base_key, r);
}

struct received {
	char *by;
	struct path_set set;
	struct result *r;
};

static void received_free(struct received *g)
{
	free(g->by);
	path_set_free(&g->set);
	if (g->r)
		result_free(g->r);
}

/* It comes from root's process; but no length in it is believed either. */
static int receive(int sock, const char *home, struct received *ret)
{
	__attribute__((cleanup(received_free))) struct received g = {0};
	auto_buf struct buf b = {0};
	const void *set, *record;
	size_t n_set, n_record;
	struct cur c;
	int r = share_recv_frame(sock, SHARE_MAX_FRAME, &b);

	if (r < 0)
		return r;
	c = (struct cur){b.data, b.data + b.len, false};
	g.by = cur_str(&c);
	set = cur_bytes(&c, &n_set);
	record = cur_bytes(&c, &n_record);
	if (c.bad || !g.by)
		return -EBADMSG;
	r = path_set_decode(set, n_set, &g.set);
	if (r == 0)
		r = result_decode(record, n_record, &g.r);
	if (r == 0)
		r = share_copy(g.r, &g.set, home ? SHARE_HOME : NULL, home, &ret->r, &ret->set);
	if (r == 0)
		ret->by = take(g.by);
	return r;
}

static int import(struct idx *x, const struct share_asker *a, int sock, const char *home,
		  struct err *e)
{
	__attribute__((cleanup(received_free))) struct received g = {0};
	auto_free struct share_object *objects = NULL;
	size_t n;
	char end;
	int r = receive(sock, home, &g);

	if (r < 0)
		return err_set(e, r, "no result of others can be used");
	n = share_objects(g.r, &objects);
	r = share_limit(sock, PASS_SECONDS);
	if (r == 0)
		r = make_own(a, g.r, &g.set, g.by);
	if (r < 0)
		return err_set(e, r, "a result of others cannot be used");
	set_keys(a, g.r, &g.set);
	r = share_recv_objects(sock, x, objects, n, e);
	if (r == 0 && (r = share_recv_byte(sock, &end)) < 0)
		r = err_set(e, r, "a result of others did not come whole");
	if (r == 0)
		r = idx_result_put(x, g.r, &g.set, e);
	if (r == 0 && idx_gc_past_limit(x, keep_max_size(x, a->o->max_size),
					keep_max_age(a->o->max_age), e) < 0)
		log_debug("%s", e->msg); /* the next one tries again */
	return r;
}

bool share_fetch(struct idx *x, const struct share_asker *a)
{
	auto_free char *home = NULL;
	auto_close int sock = -1;
	struct err e = {0};

	if (!can_share(a))
		return false;
	home = share_home(a->step->cwd);
	sock = ask(a, SHARE_USE, home);
	if (sock < 0 || share_limit(sock, LOOK_SECONDS) < 0) {
		log_debug("results of others: %s", strerror(sock < 0 ? -sock : EIO));
		return false;
	}
	if (import(x, a, sock, home, &e) < 0) {
		log_debug("%s", e.msg);
		return false;
	}
	return true;
}

/* ---- one's own for others ---- */

/* Paths that are meant themselves begin otherwise. */
static bool is_mistakable(const struct path_set *s)
{
	size_t n = strlen(SHARE_HOME);

	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->v[i].path, SHARE_HOME, n) == 0 &&
		    (!s->v[i].path[n] || s->v[i].path[n] == '/'))
			return true;
	return false;
}

static int send_result(struct idx *x, int sock, const struct result *r, const struct path_set *s,
		       const struct oid *inputs, struct err *e)
{
	auto_buf struct buf b = {0}, set = {0}, record = {0};
	auto_free struct share_object *objects = NULL;
	size_t n = share_objects(r, &objects);
	char answer;
	int k;

	path_set_encode(s, &set);
	result_encode(r, &record);
	buf_bytes(&b, inputs, sizeof(*inputs));
	buf_bytes(&b, set.data, set.len);
	buf_bytes(&b, record.data, record.len);
	k = share_send_frame(sock, &b);
	if (k < 0)
		return err_set(e, k, "cannot send it");
	k = share_send_objects(sock, x, objects, n, e);
	if (k == 0 && ((k = share_recv_byte(sock, &answer)) < 0 || answer != SHARE_YES))
		k = err_text(e, k < 0 ? -k : EPROTO, "the shared cache does not take it");
	return k;
}

/* Of the result as it is in the user's own cache. */
static int offer(struct idx *x, const struct share_asker *a, const struct result *r,
		 const struct path_set *s, struct err *e)
{
	auto_free char *home = share_home(a->step->cwd);
	const char *why = is_mistakable(s) ? "a path begins with " SHARE_HOME
					   : share_refusal(r, s, geteuid(), home);
	auto_close int sock = -1;
	struct path_set set = {0};
	struct result *copy = NULL;
	struct share_seen seen = {0};
	struct oid inputs;
	int k = 0;

	if (!why) {
		sock = ask(a, SHARE_STORE, home);
		if (sock < 0)
			return err_set(e, sock, "the shared cache cannot be asked");
		k = share_copy(r, s, home, home ? SHARE_HOME : NULL, &copy, &set);
		if (k < 0)
			return err_set(e, k, "its record cannot be read");
		if (!share_inputs(x, copy, &set, home, r->started_ns, &seen, &inputs, &why))
			why = why ? why : "its inputs cannot be read";
		share_seen_free(&seen);
	}
	if (why)
		k = err_text(e, EOPNOTSUPP, "%s", why);
	if (k == 0 && (k = share_limit(sock, PASS_SECONDS)) < 0)
		(void)err_set(e, k, "the shared cache cannot be asked");
	if (k == 0)
		k = send_result(x, sock, copy, &set, &inputs, e);
	path_set_free(&set);
	if (copy)
		result_free(copy);
	return k;
}

void share_offer(struct idx *x, const struct share_asker *a, const struct fp *key)
{
	struct path_set_list sets = {0};
	struct result *r = NULL;
	struct err e = {0};
	int k = -ENOENT;

	if (!can_share(a))
		return;
	if (idx_result_get(x, key, &r, &e) > 0 && idx_path_sets(x, &r->step_key, &sets, &e) == 0)
		for (size_t i = 0; i < sets.n && k == -ENOENT; i++)
			if (fp_eq(&sets.ids[i], &r->path_set_id))
				k = offer(x, a, r, &sets.sets[i], &e);
	if (k < 0 && k != -EPERM) /* who may not is not told of it each time */
		log_info("the result is not shared: %s", e.code ? e.msg : "it is gone");
	path_set_list_free(&sets);
	if (r)
		result_free(r);
}
