/* SPDX-License-Identifier: MIT */
/* test_index_record.c - hashes, path sets, results, what was left: bytes and back, and bytes that
 * lie. */
#include "index_util.h"
#include "record.h"
#include "sha256.h"

static void test_hashes(void **state)
{
	char digits[65];
	struct fp_state *s = fp_begin();
	struct fp fp;
	struct oid oid;

	(void)state;
	/* Published vectors: FIPS 180-2 "abc"; XXH3-128 of nothing (xxHash's sanity test). */
	assert_int_equal(oid_of("abc", 3, &oid), 0);
	hex(oid.b, 32, digits);
	assert_string_equal(digits,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	fp = fp_of("", 0);
	hex(fp.b, 16, digits);
	assert_string_equal(digits, "99aa06d3014798d86001c324468d497f");
	assert_true(xxh64_of("", 0) == UINT64_C(0x2d06800538d394c2));
	fp_update(s, "ab", 2);
	fp_update(s, NULL, 0);
	fp_update(s, "c", 1);
	fp = fp_end(s);
	assert_true(fp_eq(&fp, &(struct fp){0}) == false);
	assert_memory_equal(fp.b, fp_of("abc", 3).b, 16);
}

/* By libmd while they are few bytes, by libcrypto after that, and as libcrypto has them in pieces; whatever their length leaves of a
 * block. */
static void test_sha256_of(void **state)
{
	char *data = xmalloc(100000);
	char digits[65];
	struct oid of;

	(void)state;
	/* FIPS 180-2: two blocks. */
	assert_int_equal(
		oid_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, &of), 0);
	hex(of.b, 32, digits);
	assert_string_equal(digits,
			    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	fill_random(data, 100000, 1);
	for (size_t n = 0; n <= 100000; n += n < 300 ? 1 : 997) {
		struct sha256 *s;
		struct oid want;

		assert_int_equal(oid_of(data, n, &of), 0);
		assert_int_equal(sha256_begin(&s), 0);
		assert_int_equal(sha256_update(s, data, n), 0);
		assert_int_equal(sha256_end(s, &want), 0);
		sha256_free(s);
		assert_true(oid_eq(&of, &want));
	}
	free(data);
}

static void test_hash_fd(void **state)
{
	char *dir = scratch_new(), *path = in(dir, "f"), *data = xmalloc(1000001);
	struct fp fp, both;
	struct oid oid, want;
	uint64_t size;
	int fd;

	(void)state;
	fill_random(data, 1000001, 1);
	write_file(path, data, 1000001);
	fd = open(path, O_RDONLY);
	assert_int_equal(hash_fd(fd, 0, -1, &fp, &size), 0);
	assert_int_equal(size, 1000001);
	assert_memory_equal(fp.b, fp_of(data, 1000001).b, 16);
	assert_int_equal(hash_fd(fd, 5, 300000, &fp, &size), 0);
	assert_int_equal(size, 300000);
	assert_memory_equal(fp.b, fp_of(data + 5, 300000).b, 16);
	assert_int_equal(hash_fd(fd, 1000000, 50, &fp, &size), 0);
	assert_int_equal(size, 1);
	assert_int_equal(hash_fd(fd, 0, 0, &fp, NULL), 0);
	assert_memory_equal(fp.b, fp_of("", 0).b, 16);
	assert_int_equal(hash_fd_both(fd, &both, &oid, &size), 0);
	assert_int_equal(oid_of(data, 1000001, &want), 0);
	assert_true(oid_eq(&oid, &want));
	assert_memory_equal(both.b, fp_of(data, 1000001).b, 16);
	close(fd);
	assert_int_equal(hash_fd(-1, 0, -1, &fp, NULL), -EBADF);
	fd = open(dir, O_RDONLY);
	assert_int_equal(hash_fd(fd, 0, -1, &fp, NULL), -EISDIR);
	close(fd);
	free(data);
	free(path);
	scratch_free(dir);
}

static void test_path_set(void **state)
{
	struct path_set s = sample_set(1), t, empty = {0};
	auto_buf struct buf a = {0}, b = {0}, c = {0};

	(void)state;
	path_set_encode(&s, &a);
	assert_int_equal(path_set_decode(a.data, a.len, &t), 0);
	assert_int_equal(t.n, 3);
	assert_string_equal(t.v[2].path, "/usr/bin/cc");
	assert_int_equal(t.v[1].kinds, OBS_LIST | OBS_ATTR);
	assert_string_equal(t.v[1].excluded[1], "b");
	path_set_encode(&t, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
	path_set_free(&t);
	path_set_free(&t); /* what was freed is empty */
	path_set_encode(&empty, &c);
	assert_int_equal(path_set_decode(c.data, c.len, &t), 0);
	assert_int_equal(t.n, 0);
	/* unsorted, twice the same */
	free(s.v[2].path);
	s.v[2].path = xstrdup("/usr/bin");
	c.len = 0;
	path_set_encode(&s, &c);
	assert_int_equal(path_set_decode(c.data, c.len, &t), -EBADMSG);
	path_set_free(&s);
}

static void test_path_set_compresses(void **state)
{
	enum { N = 5000 };
	struct path_set s = {xcalloc(N, sizeof(*s.v)), N}, t;
	auto_buf struct buf b = {0};
	int64_t start;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		s.v[i] = (struct path_entry){
			.path = xasprintf(
				"/usr/lib/python3.11/site-packages/numpy/core/tests/file%05u.py",
				i),
			.kinds = OBS_CONTENT};
	path_set_encode(&s, &b);
	assert_true(b.len < N * 12);
	start = mono_ns();
	assert_int_equal(path_set_decode(b.data, b.len, &t), 0);
	print_message("decoded %d paths (%zu bytes) in %lld us\n", N, b.len,
		      (long long)(mono_ns() - start) / 1000);
	assert_string_equal(t.v[N - 1].path, s.v[N - 1].path);
	path_set_free(&s);
	path_set_free(&t);
}

static void test_path_set_lies(void **state)
{
	/* a count that cannot be; a shared prefix longer than what came before; prefixes that
	 * multiply */
	const uint8_t count[] = {1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, '/', 8, 0};
	const uint8_t prefix[] = {1, 1, 5, 1, '/', 8, 0};
	const uint8_t version[] = {2, 0};
	auto_buf struct buf bomb = {0};
	auto_free char *big = xcalloc(1, 60000);
	struct path_set t;

	(void)state;
	assert_int_equal(path_set_decode(count, sizeof(count), &t), -EBADMSG);
	assert_int_equal(path_set_decode(prefix, sizeof(prefix), &t), -EBADMSG);
	assert_int_equal(path_set_decode(version, sizeof(version), &t), -EBADMSG);
	assert_int_equal(path_set_decode("", 0, &t), -EBADMSG);
	memset(big, 'x', 59999);
	buf_u8(&bomb, 1);
	buf_varint(&bomb, 100000);
	put_path(&bomb, NULL, big);
	buf_u8(&bomb, 8);
	buf_u8(&bomb, 0);
	for (unsigned i = 1; i < 100000; i++) {
		buf_varint(&bomb, 59999 - 3 + i % 3);
		buf_str(&bomb, "yz");
		buf_u8(&bomb, 8);
		buf_u8(&bomb, 0);
	}
	assert_int_equal(path_set_decode(bomb.data, bomb.len, &t), -EBADMSG);
}

/* The paths of a record in turn: how many, or -EBADMSG. */
static int count_paths(const void *p, size_t n)
{
	struct path_iter i;
	int r = path_iter_begin(p, n, &i), count = 0;

	if (r < 0)
		return r;
	while ((r = path_iter_next(&i)) > 0)
		count++;
	path_iter_end(&i);
	return r < 0 ? r : count;
}

static void test_path_iter(void **state)
{
	const uint8_t none[] = {1, 0, 0}, shared[] = {1, 1, 1, 1, '/', 8, 0},
		      nul[] = {1, 1, 0, 2, '/', 0, 8, 0},
		      two[] = {1, 2, 0, 1, '/', 8, 0, 1, 1, 'a', 4, 0, 0};
	struct path_set s = sample_set(1);
	auto_buf struct buf b = {0};
	struct path_iter i;

	(void)state;
	path_set_encode(&s, &b);
	assert_int_equal(path_iter_begin(b.data, b.len, &i), 0);
	assert_int_equal(i.left, s.n);
	for (size_t k = 0; k < s.n; k++) {
		assert_int_equal(path_iter_next(&i), 1);
		assert_string_equal((char *)i.path.data, s.v[k].path);
		assert_int_equal(i.kinds, s.v[k].kinds);
	}
	assert_int_equal(path_iter_next(&i), 0);
	path_iter_end(&i);
	path_set_free(&s);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(count_paths(b.data, n), -EBADMSG);
	assert_int_equal(count_paths(none, 2), 0);
	assert_int_equal(count_paths(none, 3), -EBADMSG);
	assert_int_equal(count_paths(shared, sizeof(shared)), -EBADMSG);
	assert_int_equal(count_paths(nul, sizeof(nul)), -EBADMSG);
	assert_int_equal(count_paths(two, sizeof(two) - 1), 2);
	assert_int_equal(count_paths(two, sizeof(two)), -EBADMSG);
}

static void test_result(void **state)
{
	struct path_set s = sample_set(1);
	struct result *r = sample_result(1, &s), *t, *empty = xcalloc(1, sizeof(*empty));
	auto_buf struct buf a = {0}, b = {0}, c = {0};

	(void)state;
	result_encode(r, &a);
	assert_int_equal(result_decode(a.data, a.len, &t), 0);
	result_encode(t, &b);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
	assert_string_equal(t->name, "train");
	assert_null(t->argv[t->n_argv]);
	assert_int_equal(t->exit_status, 3);
	assert_true(t->strict && t->stdin_eof && !t->console_merged);
	assert_int_equal(t->chunks[1].fd, 2);
	assert_string_equal(t->outputs[1].path, "/out/file1");
	assert_true(t->outputs[1].before.unknown && t->outputs[1].mtime_set && !t->outputs[1].own);
	assert_int_equal(t->outputs[1].mtime_ns, -5);
	assert_int_equal(t->outputs[1].gid, UINT32_MAX);
	assert_memory_equal(t->outputs[1].xattrs, "blob", 4);
	assert_string_equal(t->outputs[2].now.target, "t");
	assert_true(left_eq(&r->outputs[1].now, &t->outputs[1].now));
	assert_int_equal(t->states[0].len, 6);
	assert_int_equal(t->states[1].len, 0);
	result_free(t);
	result_encode(empty, &c);
	assert_int_equal(result_decode(c.data, c.len, &t), 0);
	assert_null(t->name);
	assert_null(t->cwd);
	result_free(t);
	result_free(empty);
	result_free(r);
	result_free(NULL);
	path_set_free(&s);
}

/* What result_states says of a record is what result_decode says of it. */
static void assert_same_states(const struct buf *record, const struct result *r)
{
	struct result_states s;

	assert_int_equal(result_states(record->data, record->len, &s), 0);
	assert_true(fp_eq(&s.path_set_id, &r->path_set_id));
	assert_int_equal(s.stored_ns, r->stored_ns);
	assert_int_equal(s.n, r->n_states);
	for (size_t i = 0; i < s.n; i++) {
		size_t n;
		const void *p = cur_bytes(&s.at, &n);

		assert_int_equal(n, r->states[i].len);
		if (n)
			assert_memory_equal(p, r->states[i].data, n);
	}
	assert_false(s.at.bad);
	assert_ptr_equal(s.at.p, s.at.end);
}

/* Every truncation, and many changed bytes: an error or something sane, never a crash. */
static void test_mutations(void **state)
{
	struct path_set s = sample_set(1), t;
	struct result *r = sample_result(1, &s), *u;
	auto_buf struct buf a = {0}, b = {0};
	struct result_states states;
	uint64_t seed = 42;

	(void)state;
	path_set_encode(&s, &a);
	result_encode(r, &b);
	for (size_t i = 0; i < a.len; i++)
		assert_true(path_set_decode(a.data, i, &t) == -EBADMSG &&
			    path_set_check(a.data, i) == -EBADMSG);
	for (size_t i = 0; i < b.len; i++)
		assert_true(result_decode(b.data, i, &u) == -EBADMSG &&
			    result_states(b.data, i, &states) == -EBADMSG);
	assert_same_states(&b, r);
	for (unsigned i = 0; i < 200000; i++) {
		struct buf *x = i % 2 ? &a : &b;
		uint8_t old[4];
		size_t at[4];
		unsigned n = 1 + i % 4;

		for (unsigned j = 0; j < n; j++) {
			fill_random(&seed, sizeof(seed), seed + i * 7 + j);
			at[j] = seed % x->len;
			old[j] = x->data[at[j]];
			x->data[at[j]] = (uint8_t)(seed >> 40);
		}
		if (i % 2 && path_set_decode(a.data, a.len, &t) == 0) {
			assert_int_equal(path_set_check(a.data, a.len), 0);
			path_set_free(&t);
		} else if (i % 2) {
			assert_int_equal(path_set_check(a.data, a.len), -EBADMSG);
		}
		if (!(i % 2) && result_decode(b.data, b.len, &u) == 0) {
			assert_same_states(&b, u);
			result_free(u);
		} else if (!(i % 2)) { /* it looks at less: no more than that it ends well */
			(void)!result_states(b.data, b.len, &states);
		}
		while (n--)
			x->data[at[n]] = old[n];
	}
	result_free(r);
	path_set_free(&s);
}

static void test_left(void **state)
{
	struct left file = {.type = OUT_FILE, .mode = 0644, .size = 4, .fp = fp_n(1)}, other = file;
	struct left a = {.type = OUT_LINK, .target = (char *)"x"},
		    b = {.type = OUT_LINK, .target = (char *)"y"};

	(void)state;
	assert_true(left_eq(&file, &other));
	other.mode |= S_IFREG; /* only the 07777 bits count */
	assert_true(left_eq(&file, &other));
	other.mode = 0600;
	assert_false(left_eq(&file, &other));
	other = file;
	other.fp = fp_n(2);
	assert_false(left_eq(&file, &other));
	other = file;
	other.unknown = true;
	assert_false(left_eq(&other, &other));
	assert_false(left_eq(&a, &b));
	b.target = a.target;
	b.mode = 0777; /* a link's mode says nothing */
	assert_true(left_eq(&a, &b));
	assert_false(left_eq(&a, &file));
	assert_true(left_eq(&(struct left){0}, &(struct left){0}));
}

static struct fp key_of_states(const char *a, size_t na, const char *b, size_t nb)
{
	struct fp step = fp_n(1), set = fp_n(2);
	struct key_state *k = input_key_begin(&step, &set);

	input_key_add(k, a, na);
	input_key_add(k, b, nb);
	return input_key_end(k);
}

static void test_input_key(void **state)
{
	struct fp a = key_of_states("ab", 2, "c", 1), b = key_of_states("a", 1, "bc", 2),
		  c = key_of_states("ab", 2, "c", 1);

	(void)state;
	assert_true(fp_eq(&a, &c));
	assert_false(fp_eq(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_sha256_of),
		cmocka_unit_test(test_hash_fd),
		cmocka_unit_test(test_path_set),
		cmocka_unit_test(test_path_set_compresses),
		cmocka_unit_test(test_path_set_lies),
		cmocka_unit_test(test_path_iter),
		cmocka_unit_test(test_result),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_input_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
