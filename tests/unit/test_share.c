/* SPDX-License-Identifier: MIT */
/* test_share.c - results of one user for others: what is left out, what is hashed, who may, what is said. */
#include <sys/socket.h>

#include "../runner/share.h"
#include "index_util.h"

#include "index_cache.h"

/* ---- a result with one input, at dir/in, and one output, dir/out ---- */

struct sample {
	struct result *r;
	struct path_set s;
};

static struct sample sample_of(unsigned kinds, char **excluded, size_t n_excluded)
{
	struct sample a = {.r = xcalloc(1, sizeof(*a.r))};
	auto_free char *path = in(dir, "in");
	struct stat st;
	bool there = lstat(path, &st) == 0;

	a.s.v = xcalloc(1, sizeof(*a.s.v));
	a.s.n = 1;
	a.s.v[0] = (struct path_entry){.path = xstrdup(path), .kinds = kinds};
	a.s.v[0].excluded = xcalloc(n_excluded + 1, sizeof(char *));
	a.s.v[0].n_excluded = n_excluded;
	for (size_t k = 0; k < n_excluded; k++)
		a.s.v[0].excluded[k] = xstrdup(excluded[k]);
	a.r->name = xstrdup("step");
	a.r->cwd = xstrdup(dir);
	a.r->env_note = xstrdup("SECRET=1\n");
	a.r->states = xcalloc(1, sizeof(*a.r->states));
	a.r->n_states = 1;
	assert_ok(state_of(x, path, kinds, there ? &st : NULL, there ? 0 : ENOENT, NULL, excluded,
			   n_excluded, &a.r->states[0]));
	a.r->outputs = xcalloc(1, sizeof(*a.r->outputs));
	a.r->n_outputs = 1;
	a.r->outputs[0] = (struct output){.path = in(dir, "out"),
					  .own = true,
					  .uid = geteuid(),
					  .gid = getegid(),
					  .now = {.type = OUT_FILE, .mode = 0644, .size = 3},
					  .before = {.type = OUT_LINK}};
	a.r->outputs[0].before.target = xstrdup("/private");
	assert_ok(oid_of("out", 3, &a.r->outputs[0].oid));
	return a;
}

static void sample_free(struct sample *a)
{
	result_free(a->r);
	path_set_free(&a->s);
}
#define auto_sample __attribute__((cleanup(sample_free)))

static struct sample shared(const struct sample *a, const char *from)
{
	struct sample b = {0};

	assert_ok(share_copy(a->r, &a->s, from, from ? SHARE_HOME : NULL, &b.r, &b.s));
	return b;
}

static void make(const char *name, const char *text)
{
	auto_free char *path = in(dir, name);

	write_file(path, text, strlen(text));
}

/* 1 and what is hashed, 0 */
static int look(const struct sample *a, const char *home, int64_t since, struct oid *ret)
{
	struct share_seen seen = {0};
	const char *why;
	int r = share_inputs(x, a->r, &a->s, home, since, &seen, ret, &why);

	share_seen_free(&seen);
	return r;
}

/* ---- inputs ---- */

static void add_sha(struct buf *all, const char *text, size_t n)
{
	struct oid oid;

	assert_ok(oid_of(text, n, &oid));
	buf_bytes(all, &oid, sizeof(oid));
}

/* The words of docs/format.md: SHA-256 of the bytes is in it. */
static void test_inputs_by_sha256(void **state)
{
	char *excluded[] = {(char *)"b"};
	auto_sample struct sample a = {0}, b = {0};
	auto_free char *list = in(dir, "in/a"), *other = in(dir, "in/b"), *path = in(dir, "in");
	struct oid got, want;

	(void)state;
	for (int k = 0; k < 3; k++) {
		auto_buf struct buf all = {0};

		if (k == 1)
			make("in", "some bytes");
		if (k == 2) {
			assert_int_equal(unlink(path), 0);
			assert_int_equal(mkdir(path, 0755), 0);
			write_file(list, "x", 1);
			write_file(other, "x", 1);
		}
		sample_free(&a);
		sample_free(&b);
		a = sample_of(k == 2 ? OBS_LIST : OBS_CONTENT | OBS_ABSENT, excluded, k == 2);
		b = shared(&a, NULL);
		buf_str(&all, "mlfs shared inputs 1");
		path_set_encode(&b.s, &all);
		buf_bytes(&all, b.r->states[0].data, b.r->states[0].len);
		if (k == 0)
			buf_bytes(&all, "", 0);
		else if (k == 1)
			add_sha(&all, "some bytes", 10);
		else
			add_sha(&all, "fa", 3);
		assert_int_equal(look(&b, NULL, 0, &got), 1);
		assert_ok(oid_of(all.data, all.len, &want));
		assert_memory_equal(&got, &want, sizeof(got));
	}
	assert_int_equal(unlink(list), 0);
	assert_int_equal(look(&b, NULL, 0, &got), 0);
	write_file(list, "x", 1);
	assert_int_equal(look(&b, NULL, 0, &got), 1);
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(look(&b, NULL, 0, &got), 0);
}

static void test_inputs_changed(void **state)
{
	auto_sample struct sample a = {0}, b = {0};
	auto_free char *path = in(dir, "in"), *aside = in(dir, "aside");
	struct stat st;
	struct oid got;

	(void)state;
	make("in", "one");
	a = sample_of(OBS_CONTENT, NULL, 0);
	b = shared(&a, NULL);
	assert_int_equal(look(&b, NULL, 0, &got), 1);
	make("in", "two");
	assert_int_equal(look(&b, NULL, 0, &got), 0);
	make("in", "one");
	assert_int_equal(look(&b, NULL, 0, &got), 1);
	/* Bytes that were written since may be others than those that were read, for all that is known. */
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(look(&b, NULL, timespec_ns(st.st_ctim) - 1, &got), 0);
	assert_int_equal(look(&b, NULL, timespec_ns(st.st_ctim) + INT64_C(3000000000), &got), 1);
	/* What is reached through a link is another. */
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(symlink(aside, path), 0);
	assert_int_equal(look(&b, NULL, 0, &got), 0);
}

/* Several results that rest on a file have it read once; one that changed since is read again. */
static void test_inputs_seen(void **state)
{
	auto_sample struct sample a = {0}, b = {0};
	struct share_seen seen = {0};
	const char *why;
	struct oid first, again;

	(void)state;
	make("in", "one");
	a = sample_of(OBS_CONTENT, NULL, 0);
	b = shared(&a, NULL);
	assert_int_equal(share_inputs(x, b.r, &b.s, NULL, 0, &seen, &first, &why), 1);
	assert_int_equal(share_inputs(x, b.r, &b.s, NULL, 0, &seen, &again, &why), 1);
	assert_memory_equal(&first, &again, sizeof(first));
	assert_int_equal(seen.n, 1);
	make("in", "longer");
	assert_int_equal(share_inputs(x, b.r, &b.s, NULL, 0, &seen, &again, &why), 0);
	share_seen_free(&seen);
}

static void test_home(void **state)
{
	auto_sample struct sample a = {0}, b = {0};
	auto_free char *elsewhere = in(dir, "elsewhere"), *there = in(dir, "elsewhere/in");
	struct oid got, own;

	(void)state;
	make("in", "mine");
	a = sample_of(OBS_CONTENT, NULL, 0);
	assert_int_equal(mkdir(elsewhere, 0755), 0);
	b = shared(&a, dir);
	assert_string_equal(b.s.v[0].path, "/~/in");
	assert_int_equal(look(&b, dir, 0, &own), 1);
	assert_int_equal(look(&b, NULL, 0, &got), 0);
	assert_int_equal(look(&b, elsewhere, 0, &got), 0);
	write_file(there, "mine", 4);
	assert_int_equal(look(&b, elsewhere, 0, &got), 1);
	assert_memory_equal(&got, &own, sizeof(got));
}

/* ---- what is left out ---- */

static void test_copy(void **state)
{
	auto_sample struct sample a = {0}, b = {0};

	(void)state;
	make("in", "x");
	a = sample_of(OBS_CONTENT, NULL, 0);
	b = shared(&a, NULL);
	assert_string_equal(b.r->env_note, "");
	assert_int_equal(b.r->outputs[0].before.type, OUT_ABSENT);
	assert_null(b.r->outputs[0].before.target);
	assert_string_equal(a.r->env_note, "SECRET=1\n");
}

static void test_refusals(void **state)
{
	uid_t me = geteuid();

	(void)state;
	make("in", "x");
#define REFUSED(change)                                                        \
	do {                                                                   \
		auto_sample struct sample a = sample_of(OBS_CONTENT, NULL, 0); \
		struct result *r = a.r;                                        \
		struct output *o = &a.r->outputs[0];                           \
                                                                               \
		(void)r;                                                       \
		(void)o;                                                       \
		assert_null(share_refusal(r, &a.s, me, NULL));                 \
		change;                                                        \
		assert_non_null(share_refusal(r, &a.s, me, NULL));             \
	} while (0)
	REFUSED(o->own = false);
	REFUSED(o->in_place = true);
	REFUSED(o->spilled = true);
	REFUSED(o->link_group = 1);
	REFUSED(o->linked_before = 1);
	REFUSED(o->now.type = OUT_FIFO);
	REFUSED(o->now.mode = 04755);
	REFUSED(o->now.mode = 02755);
	REFUSED(o->uid++);
	REFUSED(o->xattrs = xstrdup(""));
	REFUSED(r->stdin_kind = STDIN_BYTES);
	REFUSED(r->n_same = 1);
	REFUSED(r->states[0].data[0] = 'E');
	REFUSED(buf_free(&r->states[0]); r->n_states = 0);
#undef REFUSED
	{
		auto_sample struct sample a = sample_of(OBS_CONTENT, NULL, 0);

		assert_non_null(share_refusal(a.r, &a.s, me, dir));
	}
}

/* ---- notes ---- */

static void test_note(void **state)
{
	struct share_note n = {.uid = 1234, .name = (char *)"ada"}, got;
	auto_sample struct sample a = {0};
	auto_free char *by = NULL, *marked = NULL;
	struct fp first;

	(void)state;
	a = sample_of(OBS_ABSENT, NULL, 0);
	assert_ok(oid_of("step", 4, &n.step));
	assert_ok(oid_of("inputs", 6, &n.inputs));
	assert_false(share_note_of(a.r, &got));
	assert_ok(share_sign(a.r, &a.s, &n));
	assert_true(share_note_of(a.r, &got));
	assert_true(oid_eq(&got.step, &n.step) && oid_eq(&got.inputs, &n.inputs));
	assert_int_equal(got.uid, 1234);
	assert_string_equal(got.name, "ada");
	free(got.name);
	assert_memory_equal(a.r->step_key.b, n.step.b, sizeof(a.r->step_key.b));
	first = a.r->input_key;
	n.uid++;
	assert_ok(share_sign(a.r, &a.s, &n));
	assert_false(fp_eq(&first, &a.r->input_key)); /* each user's own */
	n.inputs.b[0] ^= 1;
	n.uid--;
	assert_ok(share_sign(a.r, &a.s, &n));
	assert_false(fp_eq(&first, &a.r->input_key));

	marked = share_mark("A=1\nB=2\n", "bob\nX=1");
	assert_string_equal(marked, "A=1\nB=2\nMLFS_SHARED_BY=bob\n");
	free(a.r->env_note);
	a.r->env_note = xstrdup(marked);
	by = share_marked(a.r);
	assert_string_equal(by, "bob");
}

static void test_objects(void **state)
{
	auto_sample struct sample a = {0};
	auto_free struct share_object *v = NULL;
	size_t n;

	(void)state;
	a = sample_of(OBS_ABSENT, NULL, 0);
	a.r->outputs = xrealloc(a.r->outputs, 3 * sizeof(*a.r->outputs));
	a.r->outputs[1] = a.r->outputs[2] = (struct output){.now = {.type = OUT_FILE, .size = 3}};
	a.r->outputs[1].oid = a.r->outputs[0].oid;
	a.r->outputs[2].oid = a.r->outputs[0].oid;
	a.r->outputs[1].path = xstrdup("/p");
	a.r->outputs[2].path = xstrdup("/q");
	a.r->n_outputs = 3;
	n = share_objects(a.r, &v);
	assert_int_equal(n, 1);
	free(take(v));
	a.r->outputs[2].now.size = 4; /* a lie, which is to be found out */
	n = share_objects(a.r, &v);
	assert_int_equal(n, 2);
}

/* ---- who ---- */

static bool listed(const char *who, uid_t uid)
{
	struct strlist l = {.v = (char **)&who, .n = 1};

	return share_names(&l, uid);
}

static void test_names(void **state)
{
	(void)state;
	assert_true(listed("*", 54321));
	assert_false(listed("*", 0));
	assert_true(listed("0", 0));
	assert_true(listed("root", 0));
	assert_true(listed("nobody, 54321", 54321));
	assert_true(listed("1:54321", 54321));
	assert_false(listed("5432", 54321));
	assert_false(listed("", 0));
	assert_false(listed("54321x", 54321));
	assert_false(listed("@0", 54321)); /* nobody of that number is known */
	assert_true(listed("@root", 0));
	assert_true(listed("@0", 0));
	assert_false(listed("@nogroup-of-this-name", 0));
	assert_false(listed("@", 0));
}

/* ---- what is said ---- */

static void pair(int v[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v), 0);
	assert_ok(share_limit(v[0], 5));
	assert_ok(share_limit(v[1], 5));
}

static void test_frames(void **state)
{
	auto_buf struct buf b = {0}, got = {0};
	int v[2];

	(void)state;
	pair(v);
	buf_str(&b, "some words");
	assert_ok(share_send_frame(v[0], &b));
	assert_ok(share_recv_frame(v[1], 100, &got));
	assert_int_equal(got.len, b.len);
	assert_memory_equal(got.data, b.data, b.len);
	assert_ok(share_send_frame(v[0], &b));
	assert_int_equal(share_recv_frame(v[1], b.len - 1, &got), -EMSGSIZE);
	close(v[0]);
	close(v[1]);
	pair(v);
	assert_int_equal(write(v[0], "\x08\0\0\0half", 8), 8);
	close(v[0]);
	assert_int_equal(share_recv_frame(v[1], 100, &got), -ECONNRESET);
	close(v[1]);
	pair(v);
	assert_ok(share_limit(v[1], 1));
	assert_int_equal(share_recv_frame(v[1], 100, &got), -EAGAIN);
	close(v[0]);
	close(v[1]);
}

/* Bytes that are not those of the name are not kept, whatever their number. */
static void test_objects_sent(void **state)
{
	static const size_t sizes[] = {1, 100, 5000, (1u << 20) + 7};

	(void)state;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++)
		for (int wrong = 0; wrong < 2; wrong++) {
			auto_free char *bytes = xcalloc(sizes[k], 1);
			struct share_object o = {.size = sizes[k]};
			struct err e = {0};
			int v[2], r;
			pid_t child;

			memset(bytes, 'a' + (int)k + 10 * wrong, sizes[k]);
			assert_ok(oid_of(bytes, sizes[k], &o.oid));
			bytes[sizes[k] - 1] ^= wrong;
			pair(v);
			child = fork();
			if (child == 0)
				_exit(write_all(v[0], bytes, sizes[k]) < 0);
			r = share_recv_objects(v[1], x, &o, 1, &e);
			assert_int_equal(waitpid(child, NULL, 0), child);
			assert_int_equal(r, wrong ? -EBADMSG : 0);
			assert_int_equal(store_check(x, &o.oid, o.size), !wrong);
			close(v[0]);
			close(v[1]);
		}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_inputs_by_sha256),
		T(test_inputs_changed),
		T(test_inputs_seen),
		T(test_home),
		T(test_copy),
		T(test_refusals),
		T(test_note),
		T(test_objects),
		T(test_names),
		T(test_frames),
		T(test_objects_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
