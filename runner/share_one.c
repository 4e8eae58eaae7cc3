/* SPDX-License-Identifier: MIT */
/*
 * share_one.c - the server of a shared cache, with one who asks: for a result, or to have his own kept for others. See share.h.
 *
 * Who it is the kernel says (SO_PEERCRED); what he says of himself, his step and his result is believed only as far as he harms himself.
 */
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keep.h"
#include "mount_tree.h"
#include "options.h"
#include "share_one.h"

#define ALL_SECONDS   900
#define IDLE_SECONDS  10
#define STORE_SECONDS 300 /* who is about to give a result reads all of its inputs first */
#define MAX_QUESTION  (8u << 20)
#define MAX_RECORD    (8u << 20)

struct talk {
	const struct share_one *base;
	int sock;
	struct share_peer peer;
	/* What was said. */
	char kind;
	char *program, *home;
	struct oid step;
	struct tree_share who; /* the rules for the program */
	struct idx *x;
};

/* ---- who, and what ---- */

static int know_peer(struct talk *t)
{
	struct ucred who;
	socklen_t n = sizeof(who), size = 65536 * sizeof(gid_t);

	if (getsockopt(t->sock, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0)
		return -errno;
	t->peer = (struct share_peer){.uid = who.uid, .gid = who.gid, .groups = xmalloc(size)};
	if (getsockopt(t->sock, SOL_SOCKET, SO_PEERGROUPS, t->peer.groups, &size) < 0)
		return -errno;
	t->peer.n_groups = size / sizeof(gid_t);
	return 0;
}

/* A path that can stand in front of others. */
static bool is_plain(const char *home)
{
	return home[0] == '/' && home[1] && !strstr(home, "//") && !strstr(home, "/.") &&
	       strlen(home) < 4096;
}

static int understand(struct talk *t, const struct buf *b)
{
	struct cur c = {b->data, b->data + b->len, false};
	auto_buf struct buf step = {0};
	const void *description;
	size_t n;

	t->kind = (char)cur_u8(&c);
	t->program = cur_str(&c);
	t->home = cur_str(&c);
	description = cur_bytes(&c, &n);
	if (c.bad || c.p != c.end || !t->program || !t->home || (*t->home && !is_plain(t->home)))
		return -EBADMSG;
	buf_str(&step, "mlfs shared program 1");
	buf_str(&step, t->program);
	buf_bytes(&step, description, n);
	return oid_of(step.data, step.len, &t->step);
}

/* ---- for a result ---- */

static const struct path_set *set_of(const struct path_set_list *sets, const struct fp *id)
{
	for (size_t i = 0; i < sets->n; i++)
		if (fp_eq(&sets->ids[i], id))
			return &sets->sets[i];
	return NULL;
}

/* Is it of this step, and by somebody who may still store? */
static bool is_good(const struct talk *t, const struct path_set_list *sets, struct result *r,
		    struct share_found *ret)
{
	const struct path_set *s = set_of(sets, &r->path_set_id);
	struct share_note note;

	if (!s || s->n != r->n_states || !share_note_of(r, &note))
		return false;
	if (!oid_eq(&note.step, &t->step) || !share_names(&t->who.store, note.uid)) {
		free(note.name);
		return false;
	}
	*ret = (struct share_found){.r = r, .set = *s, .note = note};
	return true;
}

static size_t find(const struct talk *t, const struct path_set_list *sets, const struct fp *keys,
		   size_t n_keys, struct share_found *v)
{
	struct result *r;
	struct err e = {0};
	size_t n = 0;

	for (size_t k = 0; k < n_keys; k++) {
		if (idx_result_get(t->x, &keys[k], &r, &e) <= 0)
			continue;
		if (is_good(t, sets, r, &v[n]))
			n++;
		else
			result_free(r);
	}
	return n;
}

static void give(struct talk *t, const struct share_found *f)
{
	auto_buf struct buf b = {0}, set = {0}, record = {0};
	auto_free struct share_object *objects = NULL;
	size_t n = share_objects(f->r, &objects);
	struct err e = {0};
	int r;

	free(f->r->env_note);
	f->r->env_note = xstrdup("");
	path_set_encode(&f->set, &set);
	result_encode(f->r, &record);
	buf_str(&b, f->note.name);
	buf_bytes(&b, set.data, set.len);
	buf_bytes(&b, record.data, record.len);
	r = share_send_frame(t->sock, &b);
	if (r == 0)
		r = share_send_objects(t->sock, t->x, objects, n, &e);
	if (r == 0)
		r = share_send_byte(t->sock, SHARE_YES);
	if (r < 0)
		log_debug("cannot give a result: %s", e.code ? e.msg : strerror(-r));
	else if (idx_result_touch(t->x, f->r, &e) < 0)
		log_debug("%s", e.msg);
}

static void serve_use(struct talk *t)
{
	struct path_set_list sets = {0};
	auto_free struct share_found *v = NULL;
	auto_free struct fp *keys = NULL;
	size_t n_keys = 0, n = 0;
	struct err e = {0};
	struct fp key;
	int best;

	memcpy(key.b, t->step.b, sizeof(key.b));
	if (idx_path_sets(t->x, &key, &sets, &e) < 0 ||
	    idx_step_results(t->x, &key, &keys, &n_keys, &e) < 0) {
		log_warn("the shared cache cannot be read: %s", e.msg);
		return;
	}
	v = xcalloc(n_keys + 1, sizeof(*v));
	n = find(t, &sets, keys, n_keys, v);
	/* Also where there is none, so that it takes as long. */
	best = share_check(v, n, &t->peer, *t->home ? t->home : NULL);
	if (best >= 0)
		give(t, &v[best]);
	for (size_t k = 0; k < n; k++) {
		result_free(v[k].r);
		free(v[k].note.name);
	}
	path_set_list_free(&sets);
}

/* ---- to have one kept ---- */

/* How large the shared cache may be is said as for any other: in its mlfs.conf. */
static void read_limits(const struct talk *t, uint64_t *ret_size, int64_t *ret_age)
{
	auto_free char *path = xasprintf("%s/mlfs.conf", t->base->dir);
	struct exec_opts o;
	struct err e = {0};
	int r;

	exec_opts_init(&o);
	r = config_apply(path, NULL, &(struct config_to){.exec = &o}, &e);
	if (r < 0 && r != -ENOENT)
		log_warn("%s", e.msg);
	*ret_size = keep_max_size(t->x, o.max_size);
	*ret_age = keep_max_age(o.max_age);
	exec_opts_free(&o);
}

static char *name_of(uid_t uid)
{
	const struct passwd *p = getpwuid(uid);

	return p && !strchr(p->pw_name, '\n') ? xstrdup(p->pw_name)
					      : xasprintf("%u", (unsigned)uid);
}

static uint64_t bytes_of(const struct share_object *v, size_t n)
{
	uint64_t all = 0;

	for (size_t k = 0; k < n; k++)
		all = v[k].size > UINT64_MAX - all ? UINT64_MAX : all + v[k].size;
	return all;
}

/* All bytes are asked for, also of objects that are there: who could only name one is not to get it back as his. */
static int keep(struct talk *t, struct result *r, const struct path_set *s, struct err *e)
{
	auto_free struct share_object *objects = NULL;
	size_t n = share_objects(r, &objects);
	uint64_t max_size;
	int64_t max_age;
	int k;

	read_limits(t, &max_size, &max_age);
	/* One that leaves hardly anything of others is not worth it. */
	if (bytes_of(objects, n) > max_size / 4)
		return err_text(e, EFBIG, "a result is too large to be shared");
	k = share_recv_objects(t->sock, t->x, objects, n, e);
	if (k == 0)
		k = idx_result_put(t->x, r, s, e);
	if (k == 0 && idx_gc_past_limit(t->x, max_size, max_age, e) < 0)
		log_debug("%s", e->msg); /* the next one tries again */
	return k;
}

static int take_result(struct talk *t, const struct buf *b, struct err *e)
{
	struct cur c = {b->data, b->data + b->len, false};
	struct share_note note = {.step = t->step, .uid = t->peer.uid};
	auto_free char *name = name_of(t->peer.uid);
	struct path_set s = {0};
	struct result *r = NULL;
	const void *inputs, *set, *record;
	size_t n_inputs, n_set, n_record;
	const char *why;
	int k;

	inputs = cur_bytes(&c, &n_inputs);
	set = cur_bytes(&c, &n_set);
	record = cur_bytes(&c, &n_record);
	if (c.bad || n_inputs != sizeof(note.inputs) || path_set_decode(set, n_set, &s) < 0)
		return err_text(e, EBADMSG, "what was offered is no result");
	memcpy(&note.inputs, inputs, sizeof(note.inputs));
	note.name = name;
	k = result_decode(record, n_record, &r);
	why = k < 0 ? "it is no result" : share_refusal(r, &s, t->peer.uid, SHARE_HOME);
	if (why)
		k = err_text(e, EBADMSG, "what was offered cannot be shared: %s", why);
	if (k == 0 && r->stored_ns > now_ns())
		r->stored_ns = now_ns();
	if (k == 0 && (k = share_sign(r, &s, &note)) < 0)
		(void)err_set(e, k, "cannot compute a SHA-256");
	if (k == 0)
		k = keep(t, r, &s, e);
	if (r)
		result_free(r);
	path_set_free(&s);
	return k;
}

static void serve_store(struct talk *t)
{
	auto_buf struct buf b = {0};
	struct err e = {0};
	int r = share_limit(t->sock, STORE_SECONDS);

	if (r == 0)
		r = share_recv_frame(t->sock, MAX_RECORD, &b);
	if (r == 0)
		r = share_limit(t->sock, IDLE_SECONDS);
	if (r < 0)
		return; /* its user has found that it cannot be shared */
	r = take_result(t, &b, &e);
	if (r < 0)
		log_warn("a result of user %u is not shared: %s", (unsigned)t->peer.uid, e.msg);
	(void)!share_send_byte(t->sock, r < 0 ? SHARE_NO : SHARE_YES);
}

/* ---- all of it ---- */

static bool may(struct talk *t)
{
	if (!tree_shares(t->base->tree, t->program, &t->who))
		return false;
	if (!t->who.use.n)
		strlist_add(&t->who.use, xstrdup("*"));
	return t->kind == SHARE_USE	? share_names(&t->who.use, t->peer.uid)
	       : t->kind == SHARE_STORE ? share_names(&t->who.store, t->peer.uid)
					: false;
}

static int listen_to(struct talk *t)
{
	auto_buf struct buf b = {0};
	int r = know_peer(t);

	if (r == 0)
		r = share_limit(t->sock, IDLE_SECONDS);
	if (r == 0)
		r = share_send_byte(t->sock, SHARE_HELLO);
	if (r == 0)
		r = share_recv_frame(t->sock, MAX_QUESTION, &b);
	return r < 0 ? r : understand(t, &b);
}

void share_one(const struct share_one *base, int sock)
{
	struct talk t = {.base = base, .sock = sock};
	struct err e = {0};

	(void)alarm(ALL_SECONDS); /* the end of this process */
	if (listen_to(&t) < 0)
		return; /* the process ends, and with it what is open and allocated */
	if (!may(&t)) {
		(void)!share_send_byte(sock, SHARE_NO);
		return;
	}
	if (idx_open(base->dir, false, &t.x, &e) < 0) {
		log_warn("the shared cache cannot be used: %s", e.msg);
		return;
	}
	if (share_send_byte(sock, SHARE_YES) == 0) {
		if (t.kind == SHARE_USE)
			serve_use(&t);
		else
			serve_store(&t);
	}
	idx_close(t.x);
}
