/* SPDX-License-Identifier: MIT */
/*
 * history.c - reading the runs, newest first: rows (runs_rows.c) are looked through, records only where they are asked for.
 *
 * What was added last is read first: the journal, then the segments by their numbers, downwards; of each what came
 * after its rows were made, then these. The journal is opened before the segments are listed, so one that is closed
 * meanwhile is there twice, is known by its inode, and is counted once.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"
#include "runs.h"

/* Texts by their hashes. Two that have one hash would count as one: of a million there is a chance of 3e-8. */
struct intern {
	uint64_t *hash;
	uint32_t *id; /* + 1; 0: a free slot */
	size_t n_slots;
	unsigned n;
};

/* Rows, and where they come from. */
struct chunk {
	const struct rows_head *head;
	void *map; /* to be unmapped; NULL: in `made` */
	size_t map_size;
	struct buf made;
	int journal;		       /* open, or -1 */
	unsigned segment;	       /* 0: the active one */
	uint32_t *name_id, *reason_id; /* by text: id + 1, 0: not known yet */
	uint8_t *matches;	       /* by text: 1 no, 2 yes, 0 not tried */
	struct chunk *next;	       /* older */
};

struct history {
	char *dir;
	struct idx x; /* as far as runs.c needs it */
	int active;
	ino_t active_ino;
	unsigned *segments;
	size_t n_segments;
	struct intern names, reasons;
	struct chunk *first, *last;
	bool has_active;
	uint64_t n_made, n_rows, n_runs; /* rows made of records, rows looked at, runs read */
	size_t next; /* segments[next - 1] is the next to be opened; 0: all are */
};

/* ---- texts ---- */

static uint32_t *slot_of(struct intern *t, uint64_t hash)
{
	size_t at = (hash ^ hash >> 32) & (t->n_slots - 1);

	while (t->id[at] && t->hash[at] != hash)
		at = (at + 1) & (t->n_slots - 1);
	t->hash[at] = hash;
	return &t->id[at];
}

static void intern_grow(struct intern *t)
{
	struct intern old = *t;

	t->n_slots = old.n_slots ? old.n_slots * 2 : 1024;
	t->hash = xcalloc(t->n_slots, sizeof(*t->hash));
	t->id = xcalloc(t->n_slots, sizeof(*t->id));
	for (size_t i = 0; i < old.n_slots; i++)
		if (old.id[i])
			*slot_of(t, old.hash[i]) = old.id[i];
	free(old.hash);
	free(old.id);
}

static unsigned intern_id(struct intern *t, uint64_t hash)
{
	uint32_t *id;

	if (2 * (size_t)t->n >= t->n_slots)
		intern_grow(t);
	id = slot_of(t, hash);
	if (!*id)
		*id = ++t->n;
	return *id - 1;
}

/* The id of text n of a chunk. */
static unsigned text_id(struct intern *t, const struct chunk *c, uint32_t **cache, uint32_t n)
{
	uint64_t hash = 0;

	if (!*cache)
		*cache = xcalloc(le32toh(c->head->n_texts) + 1, sizeof(**cache));
	if (n >= le32toh(c->head->n_texts))
		return intern_id(t, 0); /* no text */
	if (!(*cache)[n]) {
		(void)rows_text(c->head, n, &hash);
		(*cache)[n] = intern_id(t, hash) + 1;
	}
	return (*cache)[n] - 1;
}

/* ---- chunks ---- */

static void chunk_free(struct chunk *c)
{
	if (c->map)
		(void)munmap(c->map, c->map_size); /* cannot fail: it is ours */
	buf_free(&c->made);
	base_close(&c->journal);
	free(c->name_id);
	free(c->reason_id);
	free(c->matches);
	free(c);
}

static struct chunk *chunk_new(unsigned segment, int journal)
{
	struct chunk *c = xcalloc(1, sizeof(*c));

	c->segment = segment;
	c->journal = journal;
	return c;
}

static void add_chunk(struct history *h, struct chunk *c)
{
	*(h->last ? &h->last->next : &h->first) = c;
	h->last = c;
}

/* Rows made here and now of the journal from a place on. */
static int chunk_make(struct history *h, unsigned segment, int fd, uint64_t from, uint64_t size,
		      struct err *e)
{
	auto_buf struct buf bytes = {0};
	struct chunk *c;
	ssize_t n;

	buf_reserve(&bytes, (size_t)(size - from) + 1);
	n = pread_full(fd, bytes.data, (size_t)(size - from), (off_t)from);
	if (n < 0)
		return err_set(e, (int)n, "cannot read the runs of %s", h->dir);
	c = chunk_new(segment, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	rows_make(bytes.data, (size_t)n, from, &c->made);
	c->head = (const struct rows_head *)c->made.data;
	h->n_made += le32toh(c->head->n_rows);
	add_chunk(h, c);
	return 0;
}

/* The rows that are kept; NULL when there are none, or they are damaged. */
static struct chunk *chunk_map(struct history *h, unsigned segment)
{
	char name[RUNS_NAME_SIZE];
	auto_close int fd = -1;
	struct chunk *c;
	struct stat st;
	void *p;

	runs_segment_name(name, RUNS_ROWS, segment);
	fd = openat(h->x.dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0)
		return NULL;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (!rows_whole(p, (size_t)st.st_size)) {
		(void)munmap(p, (size_t)st.st_size);
		return NULL;
	}
	c = chunk_new(segment, -1);
	c->map = p;
	c->map_size = (size_t)st.st_size;
	c->head = p;
	return c;
}

static int open_active(struct history *h, struct err *e)
{
	struct stat st;

	h->has_active = true;
	if (h->active < 0)
		return 0;
	if (fstat(h->active, &st) < 0)
		return err_set(e, errno, "cannot look at %s/" RUNS_ACTIVE, h->dir);
	return chunk_make(h, 0, h->active, 0, (uint64_t)st.st_size, e);
}

/* One that is there no more was pruned meanwhile. */
static int open_segment(struct history *h, unsigned segment, struct err *e)
{
	char name[RUNS_NAME_SIZE];
	auto_close int fd = -1;
	struct chunk *rows;
	struct stat st;
	struct err why;
	uint64_t from;
	int r = 0;

	runs_segment_name(name, RUNS_SEGMENT, segment);
	if (fstatat(h->x.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0
				       : err_set(e, errno, "cannot look at %s/%s", h->dir, name);
	if (h->active >= 0 && st.st_ino == h->active_ino)
		return 0;
	rows = chunk_map(h, segment);
	if (!rows) {
		/* Where we may not write, or it fails, it takes longer each time. */
		if (rows_write(&h->x, segment, true, &why) < 0)
			log_debug("%s", why.msg);
		rows = chunk_map(h, segment);
	}
	from = rows ? le64toh(rows->head->covered) : 0;
	if ((uint64_t)st.st_size > from) {
		fd = openat(h->x.dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		r = fd < 0 ? err_set(e, errno, "cannot open %s/%s", h->dir, name)
			   : chunk_make(h, segment, fd, from, (uint64_t)st.st_size, e);
	}
	if (rows)
		add_chunk(h, rows);
	return r;
}

/* The chunk after c (NULL: the first), opened when need be. 1: *ret; 0: there is none. */
static int next_chunk(struct history *h, const struct chunk *c, struct chunk **ret, struct err *e)
{
	for (;;) {
		int r;

		*ret = c ? c->next : h->first;
		if (*ret)
			return 1;
		if (h->has_active && !h->next)
			return 0;
		r = h->has_active ? open_segment(h, h->segments[--h->next], e) : open_active(h, e);
		if (r < 0)
			return r;
	}
}

/* ---- open, close ---- */

int history_open(const char *dir, struct history **ret, struct err *e)
{
	struct history *h = xcalloc(1, sizeof(*h));
	struct stat st;
	int r = 0;

	h->dir = xstrdup(dir);
	h->active = -1;
	h->x.dir = h->dir;
	h->x.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->x.dirfd < 0)
		r = err_set(e, errno, "cannot open the cache %s", dir);
	if (r == 0)
		r = idx_version_check(h->x.dirfd, dir, e);
	if (r == -EUCLEAN)
		r = err_text(
			e, EUCLEAN,
			"%s is damaged (its file \"version\" makes no sense); run `mlfs fsck --repair`",
			dir);
	if (r == 0) {
		h->active = openat(h->x.dirfd, RUNS_ACTIVE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (h->active >= 0 && fstat(h->active, &st) == 0)
			h->active_ino = st.st_ino;
		else if (errno != ENOENT)
			r = err_set(e, errno, "cannot open %s/" RUNS_ACTIVE, dir);
	}
	if (r == 0 && (r = runs_segments(h->x.dirfd, false, &h->segments, &h->n_segments)) < 0)
		(void)err_set(e, r, "cannot read %s/index", dir);
	if (r < 0) {
		history_close(h);
		return r;
	}
	h->next = h->n_segments;
	*ret = h;
	return 0;
}

void history_close(struct history *h)
{
	struct chunk *next;

	if (!h)
		return;
	log_debug("history: %llu rows made, %llu rows, %llu runs looked at",
		  (unsigned long long)h->n_made, (unsigned long long)h->n_rows,
		  (unsigned long long)h->n_runs);
	for (struct chunk *c = h->first; c; c = next) {
		next = c->next;
		chunk_free(c);
	}
	base_close(&h->x.dirfd);
	base_close(&h->active);
	free(h->names.hash);
	free(h->names.id);
	free(h->reasons.hash);
	free(h->reasons.id);
	free(h->segments);
	free(h->dir);
	free(h);
}

/* ---- looking through ---- */

/* A filter, ready for use. */
struct sieve {
	const struct run_filter *f;
	unsigned results;
	int64_t until;
	uint8_t key[RUN_KEY_BYTES], key_mask[RUN_KEY_BYTES]; /* of f->key */
	bool key_longer;
	struct intern asked; /* f->has of input keys, by their first bytes */
	struct buf answers;
};

static bool nibble(char digit, uint8_t *ret)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = digit ? strchr(digits, digit | 0x20) : NULL;

	*ret = (uint8_t)(at ? at - digits : 0);
	return at != NULL;
}

static int sieve_begin(const struct run_filter *f, struct sieve *s, struct err *e)
{
	*s = (struct sieve){.f = f,
			    .results = f->results ? f->results : ~0u,
			    .until = f->until_ns ? f->until_ns : INT64_MAX};
	for (size_t i = 0; f->key && f->key[i]; i++) {
		uint8_t v;

		if (!nibble(f->key[i], &v) || i >= 2 * sizeof(struct fp))
			return err_text(e, EINVAL, "'%s' is no key: keys are 32 hex digits",
					f->key);
		if (i >= sizeof(s->key) * 2) {
			s->key_longer = true;
			continue;
		}
		s->key[i / 2] |= (uint8_t)(i % 2 ? v : v << 4);
		s->key_mask[i / 2] |= i % 2 ? 0x0f : 0xf0;
	}
	return 0;
}

static void sieve_end(struct sieve *s)
{
	free(s->asked.hash);
	free(s->asked.id);
	buf_free(&s->answers);
}

static bool begins(const uint8_t b[RUN_KEY_BYTES], const struct sieve *s)
{
	for (unsigned i = 0; i < RUN_KEY_BYTES; i++)
		if ((b[i] & s->key_mask[i]) != s->key[i])
			return false;
	return true;
}

static bool key_begins(const struct fp *key, const char *prefix)
{
	char digits[2 * sizeof(key->b) + 1];

	hex(key->b, sizeof(key->b), digits);
	return strncasecmp(digits, prefix, strlen(prefix)) == 0;
}

/* What the rows do not tell: the records do. */
static bool long_key_matches(struct history *h, const char *prefix, const struct run_row *row)
{
	struct run r = {0};
	bool ok = history_run(h, row, &r) == 0 &&
		  (key_begins(&r.step_key, prefix) || key_begins(&r.input_key, prefix));

	run_clear(&r);
	return ok;
}

/* The record is read once for each key. */
static bool is_wanted(struct history *h, struct sieve *s, const struct run_row *row)
{
	static const uint8_t none[RUN_KEY_BYTES];
	struct run r = {0};
	uint64_t begin;
	unsigned n;

	if (memcmp(row->input_key, none, sizeof(none)) == 0)
		return false;
	memcpy(&begin, row->input_key, sizeof(begin));
	n = intern_id(&s->asked, begin);
	if (n == s->answers.len) {
		buf_u8(&s->answers,
		       history_run(h, row, &r) == 0 && s->f->has(s->f->has_arg, &r.input_key));
		run_clear(&r);
	}
	return s->answers.data[n];
}

static bool name_matches(struct chunk *c, const char *glob, uint32_t n)
{
	const char *text = rows_text(c->head, n, NULL);

	if (!text)
		return fnmatch(glob, "", 0) == 0;
	if (!c->matches[n])
		c->matches[n] = fnmatch(glob, text, 0) == 0 ? 2 : 1;
	return c->matches[n] == 2;
}

static bool row_passes(struct chunk *c, const struct sieve *s, const struct rows_row *row)
{
	const struct run_filter *f = s->f;
	int64_t started = (int64_t)le64toh(row->started_ns);
	bool known = row->flags & RUN_STATUS_KNOWN;

	return s->results >> row->result & 1 && (!f->since_ns || started >= f->since_ns) &&
	       started < s->until &&
	       (!f->stored || (f->stored > 0) == ((row->flags & RUN_STORED) != 0)) &&
	       (!f->failed || (known && row->exit_status)) &&
	       (!f->key || begins(row->step_key, s) || begins(row->input_key, s)) &&
	       (!f->name || name_matches(c, f->name, le32toh(row->name)));
}

static struct run_row show(struct history *h, struct chunk *c, size_t i)
{
	const struct rows_row *row = rows_first(c->head) + i;
	uint32_t name = le32toh(row->name);
	const char *text = rows_text(c->head, name, NULL);
	struct run_row ret = {
		.started_ns = (int64_t)le64toh(row->started_ns),
		.wall_ns = (int64_t)le64toh(row->wall_ns),
		.saved_ns = (int64_t)le64toh(row->saved_ns),
		.bytes = le64toh(row->bytes),
		.new_bytes = le64toh(row->new_bytes),
		.result = row->result,
		.stored = row->flags & RUN_STORED,
		.exit_status = row->flags & RUN_STATUS_KNOWN ? row->exit_status : -1,
		.name = text ? text : "",
		.reason = rows_text(c->head, le32toh(row->reason), NULL),
		.name_id = text_id(&h->names, c, &c->name_id, name),
		.where = c,
		.at = i,
	};

	memcpy(ret.step_key, row->step_key, sizeof(ret.step_key));
	memcpy(ret.input_key, row->input_key, sizeof(ret.input_key));
	return ret;
}

static int each_in(struct history *h, struct chunk *c, struct sieve *s,
		   int (*fn)(void *arg, const struct run_row *row), void *arg)
{
	const struct run_filter *f = s->f;
	size_t n = le32toh(c->head->n_rows);
	int r = 0;

	if (!n || (f->since_ns && (int64_t)le64toh(c->head->last_ns) < f->since_ns) ||
	    (int64_t)le64toh(c->head->first_ns) >= s->until)
		return 0;
	free(take(c->matches));
	if (f->name)
		c->matches = xcalloc(le32toh(c->head->n_texts) + 1, 1);
	while (r == 0 && n--) {
		struct run_row row;

		h->n_rows++;
		if (!row_passes(c, s, rows_first(c->head) + n))
			continue;
		row = show(h, c, n);
		if ((s->key_longer && !long_key_matches(h, f->key, &row)) ||
		    (f->has && !is_wanted(h, s, &row)))
			continue;
		r = fn(arg, &row);
	}
	return r;
}

int history_each(struct history *h, const struct run_filter *f,
		 int (*fn)(void *arg, const struct run_row *row), void *arg, struct err *e)
{
	struct chunk *c = NULL;
	struct sieve s;
	int r = sieve_begin(f, &s, e), more;

	while (r == 0 && (more = next_chunk(h, c, &c, e)))
		r = more < 0 ? more : each_in(h, c, &s, fn, arg);
	sieve_end(&s);
	return r;
}

unsigned history_reason_id(struct history *h, const struct run_row *row)
{
	struct chunk *c = (struct chunk *)row->where; /* it was ours before it was const */

	return text_id(&h->reasons, c, &c->reason_id, le32toh(rows_first(c->head)[row->at].reason));
}

/* ---- whole records ---- */

static char *text_copy(const struct run_text *t)
{
	return t->p ? xstrndup(t->p, t->n) : NULL;
}

void run_clear(struct run *r)
{
	for (size_t i = 0; r->argv && i < r->n_argv; i++)
		free(r->argv[i]);
	free(r->argv);
	free(r->name);
	free(r->reason);
	free(r->cwd);
	free(r->command);
	*r = (struct run){0};
}

static void run_from(struct run_view *v, struct run *ret)
{
	*ret = (struct run){
		.started_ns = v->started_ns,
		.wall_ns = v->wall_ns,
		.saved_ns = v->saved_ns,
		.name = text_copy(&v->name),
		.reason = text_copy(&v->reason),
		.cwd = text_copy(&v->cwd),
		.command = text_copy(&v->command),
		.argc = (size_t)v->argc,
		.n_argv = v->n_argv,
		.argv_cut = v->flags & RUN_ARGV_CUT,
		.result = v->result,
		.stored = v->flags & RUN_STORED,
		.exit_status = v->flags & RUN_STATUS_KNOWN ? v->exit_status : -1,
		.inputs = v->inputs,
		.outputs = v->outputs,
		.output_bytes = v->output_bytes,
		.put_bytes = v->put_bytes,
		.new_bytes = v->new_bytes,
		.step_key = v->step_key,
		.input_key = v->input_key,
	};
	if (v->argc)
		ret->argv = xcalloc(v->n_argv + 1, sizeof(char *));
	for (size_t i = 0; ret->argv && i < v->n_argv; i++)
		ret->argv[i] = cur_str(&v->argv);
}

static int journal_of(struct history *h, struct chunk *c)
{
	char name[RUNS_NAME_SIZE];

	if (c->journal >= 0 || !c->segment)
		return c->journal;
	runs_segment_name(name, RUNS_SEGMENT, c->segment);
	c->journal = openat(h->x.dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return c->journal;
}

int history_run(struct history *h, const struct run_row *row, struct run *ret)
{
	struct chunk *c = (struct chunk *)row->where; /* as above */
	uint32_t at = le32toh(rows_first(c->head)[row->at].at);
	int fd = journal_of(h, c);
	auto_buf struct buf b = {0};
	struct cur head;
	struct run_view v;
	ssize_t n;

	h->n_runs++;
	buf_reserve(&b, RUNS_HEAD_SIZE);
	if (fd < 0 || pread_full(fd, b.data, RUNS_HEAD_SIZE, at) != RUNS_HEAD_SIZE)
		return -EBADMSG;
	head = (struct cur){b.data + 4, b.data + RUNS_HEAD_SIZE, false};
	n = (ssize_t)cur_u32(&head);
	if (n > RUNS_PAYLOAD_MAX)
		return -EBADMSG;
	buf_reserve(&b, RUNS_HEAD_SIZE + (size_t)n);
	n = pread_full(fd, b.data, RUNS_HEAD_SIZE + (size_t)n, at);
	if (n < 0 || runs_record_at(b.data, (size_t)n) != (size_t)n ||
	    !runs_view(b.data, (size_t)n, &v))
		return -EBADMSG;
	run_from(&v, ret);
	return 0;
}
