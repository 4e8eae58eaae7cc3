/* SPDX-License-Identifier: MIT */
/* index_util.h - what the tests of index/ share: a private cache directory, files, sample
 * records. */
#ifndef MLFS_TEST_INDEX_UTIL_H
#define MLFS_TEST_INDEX_UTIL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "index.h"

#define assert_ok(r) check_ok((r), &the_err, #r, __FILE__, __LINE__)

__attribute__((unused)) static struct err the_err;

__attribute__((unused)) static void check_ok(long r, const struct err *e, const char *what,
					     const char *file, int line)
{
	if (r >= 0)
		return;
	print_error("%s = %ld (%s)\n", what, r, e->msg);
	_fail(file, line);
}

/* A new directory; freed and removed by scratch_free. */
__attribute__((unused)) static char *scratch_new(void)
{
	const char *base = getenv("TEST_DIR");
	char *dir = xasprintf("%s/test_index.XXXXXX", base ? base : "/tmp");

	assert_non_null(mkdtemp(dir));
	return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

__attribute__((unused)) static void scratch_free(char *dir)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* what stays is in /tmp */
	free(dir);
}

__attribute__((unused)) static char *in(const char *dir, const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

__attribute__((unused)) static void write_file(const char *path, const void *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, p, n), (ssize_t)n);
	close(fd);
}

/* Bytes that are the same for the same seed. */
__attribute__((unused)) static void fill_random(void *p, size_t n, uint64_t seed)
{
	uint8_t *b = p;

	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	for (size_t i = 0; i < n; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		b[i] = (uint8_t)(seed >> 24);
	}
}

__attribute__((unused)) static struct fp fp_n(unsigned n)
{
	return fp_of(&n, sizeof(n));
}

__attribute__((unused)) static struct path_set sample_set(unsigned n)
{
	struct path_set s = {xcalloc(3, sizeof(*s.v)), 3};

	s.v[0] = (struct path_entry){.path = xasprintf("/data/in%u", n), .kinds = OBS_CONTENT};
	s.v[1] = (struct path_entry){
		.path = xstrdup("/usr/bin"), .kinds = OBS_LIST | OBS_ATTR, .n_excluded = 2};
	s.v[1].excluded = xcalloc(2, sizeof(char *));
	s.v[1].excluded[0] = xstrdup("a.out");
	s.v[1].excluded[1] = xstrdup("b");
	s.v[2] = (struct path_entry){.path = xstrdup("/usr/bin/cc"), .kinds = OBS_ABSENT};
	return s;
}

/* A result with something in every field; n makes its keys its own. */
__attribute__((unused)) static struct result *sample_result(unsigned n, const struct path_set *s)
{
	struct result *r = xcalloc(1, sizeof(*r));
	auto_buf struct buf b = {0};

	path_set_encode(s, &b);
	r->input_key = fp_n(n);
	r->step_key = fp_n(n / 100 + 1000000);
	r->path_set_id = fp_of(b.data, b.len);
	r->name = xstrdup("train");
	r->n_argv = 2;
	r->argv = xcalloc(2, sizeof(char *));
	r->argv[0] = xstrdup("cp");
	r->argv[1] = xstrdup("");
	r->cwd = xstrdup("/home");
	r->env_note = xstrdup("A=b\n");
	r->exit_status = 3;
	r->started_ns = 123456789;
	r->wall_ns = 5000000000;
	r->stored_ns = now_ns();
	r->n_inputs = 3;
	r->strict = true;
	r->console_len = 7;
	r->n_chunks = 2;
	r->chunks = xcalloc(2, sizeof(*r->chunks));
	r->chunks[0] = (struct console_chunk){1, 4};
	r->chunks[1] = (struct console_chunk){2, 3};
	r->stdin_kind = STDIN_BYTES;
	r->stdin_len = 9;
	r->stdin_eof = true;
	r->n_outputs = 4;
	r->outputs = xcalloc(4, sizeof(*r->outputs));
	r->outputs[0] = (struct output){
		.path = xstrdup("/out"), .now = {.type = OUT_DIR, .mode = 0755}, .own = true};
	r->outputs[1] = (struct output){
		.path = xasprintf("/out/file%u", n),
		.now = {.type = OUT_FILE, .mode = 0644, .size = 10, .fp = fp_n(n + 7)},
		.before = {.type = OUT_FILE, .mode = 0600, .size = 3, .unknown = true},
		.uid = 1000,
		.gid = UINT32_MAX,
		.mtime_ns = -5,
		.mtime_set = true,
		.link_group = 2,
		.linked_before = 3,
		.xattrs = xstrdup("blob"),
		.n_xattrs = 4};
	r->outputs[2] = (struct output){.path = xstrdup("/out/link"),
					.now = {.type = OUT_LINK, .target = xstrdup("t")}};
	r->outputs[3] = (struct output){.path = xstrdup("/out/z"), .now = {.type = OUT_ABSENT}};
	r->n_same = 1;
	r->same = xcalloc(1, sizeof(*r->same));
	r->same[0] = (struct same_file){0, 1};
	r->n_states = 3; /* one a path */
	r->states = xcalloc(3, sizeof(*r->states));
	buf_str(&r->states[0], "state");
	return r;
}

/* Put objects of the right lengths into the cache and have r refer to them. */
__attribute__((unused)) static void sample_objects(struct idx *x, struct result *r, unsigned seed)
{
	uint8_t bytes[64];

	fill_random(bytes, sizeof(bytes), seed);
	assert_ok(store_put_mem(x, bytes, r->console_len, &r->console_oid, &the_err));
	assert_ok(store_put_mem(x, bytes, r->stdin_len, &r->stdin_oid, &the_err));
	for (size_t i = 0; i < r->n_outputs; i++)
		if (r->outputs[i].now.type == OUT_FILE)
			assert_ok(store_put_mem(x, bytes, r->outputs[i].now.size,
						&r->outputs[i].oid, &the_err));
}

#endif
