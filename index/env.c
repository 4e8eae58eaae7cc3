/* SPDX-License-Identifier: MIT */
/*
 * env.c - LMDB: read views, write transactions, a map that grows, guarded values, error codes.
 *
 * The only file that includes lmdb.h. Durability: MDB_NOMETASYNC. A commit waits for its pages (one
 * fdatasync) and leaves the meta page to the next one, so a power cut may undo the last transaction
 * and can damage nothing. MDB_NOSYNC could (the meta page may reach the disk before what it points
 * to), so what happens on every hit is kept out of LMDB instead: see uses.c and runs.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <stdatomic.h>

#include "check.h"
#include "env.h"

#ifndef MAP_MIN			  /* tests choose a small one */
#define MAP_MIN ((size_t)1 << 30) /* address space only: the file grows by what is written */
#endif
#define MAP_SPARE   ((size_t)64 << 20) /* what is asked for where address space is limited */
#define MAP_MAX	    ((size_t)1 << 42)
#define MAX_READERS 512
#define MAX_TRIES   8 /* other processes may grow the map between our steps, but not for ever */
#define GUARD	    8
#define NO_DBI	    ((MDB_dbi)-1)
#define LATER_TABLES                                                                        \
	(1u << TAB_IO | 1u << TAB_NOTE | 1u << TAB_LRU | 1u << TAB_REF | 1u << TAB_DOOMED | \
	 1u << TAB_TALLY)

static const char *const tab_names[TAB_COUNT] = {
	[TAB_OBJECT] = "object", [TAB_RESULT] = "result", [TAB_PATH_SET] = "path-set",
	[TAB_STEP] = "step",	 [TAB_LEFT] = "left",	  [TAB_DIGEST] = "digest",
	[TAB_USED] = "used",	 [TAB_IO] = "io",	  [TAB_NOTE] = "note",
	[TAB_LRU] = "lru",	 [TAB_REF] = "ref",	  [TAB_DOOMED] = "doomed",
	[TAB_TALLY] = "tally",
};

struct kv_txn {
	struct kv *kv;
	MDB_txn *txn;
	bool full; /* write: the map is full, the transaction must be done again */
	bool live; /* read view: holds `map` and sees a snapshot */
	unsigned depth;
	struct kv_txn *prev, *next;
};

struct kv {
	char *dir;
	int dirfd;
	MDB_env *env;
	MDB_dbi dbi[TAB_COUNT];
	bool read_only;
	atomic_bool wrote;
	pthread_rwlock_t map;
	pthread_key_t mine; /* the calling thread's read view */
	pthread_mutex_t mu; /* guards `readers` */
	struct kv_txn *readers;
};

/* ---- errors ---- */

static int code_of(int rc)
{
	switch (rc) {
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
	case MDB_CURSOR_FULL:
	case MDB_BAD_DBI:
		return EUCLEAN;
	case MDB_VERSION_MISMATCH:
		return ENOTSUP;
	case MDB_MAP_FULL:
		return ENOSPC;
	case MDB_READERS_FULL:
		return EUSERS;
	case MDB_TXN_FULL:
		return EFBIG;
	default:
		return rc > 0 ? rc : EIO;
	}
}

/* The one place that makes sentences of LMDB's codes. */
static int fail(const struct kv *k, int rc, const char *what, struct err *e)
{
	switch (code_of(rc)) {
	case EUCLEAN:
		return err_text(
			e, EUCLEAN,
			"cannot %s the index %s: it is damaged (%s); remove %s or run `mlfs fsck "
			"--repair`",
			what, k->dir, mdb_strerror(rc), k->dir);
	case ENOTSUP:
		return err_text(e, ENOTSUP,
				"cannot %s the index %s: it is in use by another version of LMDB",
				what, k->dir);
	case EUSERS:
		return err_text(e, EUSERS, "cannot %s the index %s: more than %d readers use it",
				what, k->dir, MAX_READERS);
	default:
		return err_set(e, code_of(rc), "cannot %s the index %s", what, k->dir);
	}
}

/* ---- the map's size ---- */

/* The caller holds no transaction and not `map`. */
static int set_map(struct kv *k, size_t size)
{
	int rc;

	(void)pthread_rwlock_wrlock(&k->map); /* fails for misuse only */
	rc = mdb_env_set_mapsize(k->env, size);
	(void)pthread_rwlock_unlock(&k->map);
	return rc;
}

/* Another process has made the file larger than our map. */
static int adopt_map(struct kv *k)
{
	return set_map(k, 0);
}

static int grow_map(struct kv *k, size_t seen)
{
	MDB_envinfo info;
	int rc = 0;

	(void)pthread_rwlock_wrlock(&k->map); /* as above */
	rc = mdb_env_info(k->env, &info);
	if (rc == 0 && info.me_mapsize <= seen)
		rc = seen >= MAP_MAX ? EFBIG : mdb_env_set_mapsize(k->env, seen * 2);
	(void)pthread_rwlock_unlock(&k->map);
	return rc;
}

/* ---- read views ---- */

static void reader_free(void *arg)
{
	struct kv_txn *t = arg;
	struct kv *k = t->kv;

	(void)pthread_mutex_lock(&k->mu);
	if (t->prev)
		t->prev->next = t->next;
	else
		k->readers = t->next;
	if (t->next)
		t->next->prev = t->prev;
	(void)pthread_mutex_unlock(&k->mu);
	mdb_txn_abort(t->txn);
	if (t->live)
		(void)pthread_rwlock_unlock(&k->map);
	free(t);
}

static struct kv_txn *reader_new(struct kv *k)
{
	struct kv_txn *t = xcalloc(1, sizeof(*t));

	t->kv = k;
	(void)pthread_mutex_lock(&k->mu);
	t->next = k->readers;
	if (t->next)
		t->next->prev = t;
	k->readers = t;
	(void)pthread_mutex_unlock(&k->mu);
	if (pthread_setspecific(k->mine, t) == 0)
		return t;
	reader_free(t);
	return NULL;
}

/* Take a snapshot; the reader's slot and its buffers are kept from one view to the next. */
static int reader_start(struct kv_txn *t)
{
	struct kv *k = t->kv;
	int rc = 0;

	for (int tries = 0; tries < MAX_TRIES; tries++) {
		(void)pthread_rwlock_rdlock(&k->map); /* fails for misuse only */
		rc = t->txn ? mdb_txn_renew(t->txn)
			    : mdb_txn_begin(k->env, NULL, MDB_RDONLY, &t->txn);
		t->live = rc == 0;
		if (t->live)
			return 0;
		(void)pthread_rwlock_unlock(&k->map);
		if (rc == MDB_MAP_RESIZED)
			rc = adopt_map(k);
		else if (rc == MDB_READERS_FULL)
			rc = mdb_reader_check(k->env, NULL); /* slots of the dead */
		else
			break;
		if (rc)
			break;
		rc = MDB_READERS_FULL;
	}
	return rc;
}

static void reader_stop(struct kv_txn *t)
{
	mdb_txn_reset(t->txn);
	t->live = false;
	(void)pthread_rwlock_unlock(&t->kv->map);
}

int kv_begin(struct kv *k, struct kv_txn **ret, struct err *e)
{
	struct kv_txn *t = pthread_getspecific(k->mine);
	int rc;

	if (!t)
		t = reader_new(k);
	if (!t)
		return err_set(e, ENOMEM, "cannot read the index %s", k->dir);
	if (!t->live) {
		rc = reader_start(t);
		if (rc)
			return fail(k, rc, "read", e);
	}
	t->depth++;
	*ret = t;
	return 0;
}

void kv_end(struct kv *k)
{
	struct kv_txn *t = pthread_getspecific(k->mine);

	if (t && t->depth && --t->depth == 0 && t->live)
		reader_stop(t);
}

uint64_t kv_snapshot(struct kv_txn *t)
{
	return mdb_txn_id(t->txn);
}

void kv_pause(struct kv *k)
{
	struct kv_txn *t = pthread_getspecific(k->mine);

	if (t && t->live)
		reader_stop(t);
}

void kv_resume(struct kv *k)
{
	struct kv_txn *t = pthread_getspecific(k->mine);

	/* A view that cannot be resumed is taken anew by the next kv_begin, which reports why
	 * not. */
	if (t && t->depth && !t->live && reader_start(t) != 0)
		log_debug("cannot resume reading the index %s", k->dir);
}

/* ---- records ---- */

static uint64_t guard_of(const void *key, size_t nkey, const void *p, size_t n)
{
	/* The key is in it so that a value that strayed to another key is not believed. */
	return xxh64_of(p, n) + xxh64_of(key, nkey);
}

bool kv_unguard(struct kv_val key, struct kv_val raw, struct kv_val *ret)
{
	struct cur c;

	if (raw.n < GUARD)
		return false;
	c.p = (const uint8_t *)raw.p + raw.n - GUARD;
	c.end = c.p + GUARD;
	c.bad = false;
	if (cur_u64(&c) != guard_of(key.p, key.n, raw.p, raw.n - GUARD))
		return false;
	*ret = (struct kv_val){raw.p, raw.n - GUARD};
	return true;
}

static bool unguard(const MDB_val *key, const MDB_val *v, struct kv_val *ret)
{
	return kv_unguard((struct kv_val){key->mv_data, key->mv_size},
			  (struct kv_val){v->mv_data, v->mv_size}, ret);
}

enum tab kv_table(struct kv_val name)
{
	int i = 0;

	while (i < TAB_COUNT &&
	       (strlen(tab_names[i]) != name.n || memcmp(tab_names[i], name.p, name.n) != 0))
		i++;
	return (enum tab)i;
}

bool kv_tables_whole(struct kv_txn *t)
{
	MDB_val k, v;
	MDB_cursor *c;
	MDB_dbi names;
	unsigned known = 0; /* a bit each */
	enum tab tab;
	int rc = mdb_dbi_open(t->txn, NULL, 0, &names);

	if (rc == 0)
		rc = mdb_cursor_open(t->txn, names, &c);
	if (rc)
		return false;
	while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
		if ((tab = kv_table((struct kv_val){k.mv_data, k.mv_size})) == TAB_COUNT)
			break;
		else
			known |= 1u << tab;
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND && (known | LATER_TABLES) == (1u << TAB_COUNT) - 1;
}

uint64_t kv_count(struct kv_txn *t, enum tab tab)
{
	MDB_stat st;

	if (t->kv->dbi[tab] == NO_DBI || mdb_stat(t->txn, t->kv->dbi[tab], &st) != 0)
		return 0;
	return st.ms_entries;
}

static MDB_val val_of(const void *p, size_t n)
{
	return (MDB_val){.mv_size = n, .mv_data = (void *)(uintptr_t)p}; /* LMDB only reads it */
}

int kv_get(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, struct kv_val *ret,
	   struct err *e)
{
	MDB_val k = val_of(key, nkey), v;
	int rc;

	if (t->kv->dbi[tab] == NO_DBI)
		return 0;
	rc = mdb_get(t->txn, t->kv->dbi[tab], &k, &v);
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc)
		return fail(t->kv, rc, "read", e);
	return unguard(&k, &v, ret);
}

int kv_put(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, const void *p, size_t n,
	   struct err *e)
{
	MDB_val k = val_of(key, nkey), v = {.mv_size = n + GUARD};
	uint64_t guard = guard_of(key, nkey, p, n);
	uint8_t *to;
	int rc = mdb_put(t->txn, t->kv->dbi[tab], &k, &v, MDB_RESERVE);

	if (rc) {
		t->full |= rc == MDB_MAP_FULL;
		return fail(t->kv, rc, "write", e);
	}
	to = v.mv_data;
	if (n)
		memcpy(to, p, n);
	for (unsigned i = 0; i < GUARD; i++)
		to[n + i] = (uint8_t)(guard >> (8 * i));
	return 0;
}

int kv_del(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, struct err *e)
{
	MDB_val k = val_of(key, nkey);
	int rc = mdb_del(t->txn, t->kv->dbi[tab], &k, NULL);

	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc) {
		t->full |= rc == MDB_MAP_FULL;
		return fail(t->kv, rc, "write", e);
	}
	return 1;
}

int kv_each(struct kv_txn *t, enum tab tab, const void *start, size_t nstart,
	    int (*fn)(void *arg, struct kv_val key, struct kv_val value), void *arg, struct err *e)
{
	MDB_val k = val_of(start, nstart), v;
	MDB_cursor *c;
	int rc, r = 0;

	if (t->kv->dbi[tab] == NO_DBI)
		return 0;
	rc = mdb_cursor_open(t->txn, t->kv->dbi[tab], &c);
	if (rc)
		return fail(t->kv, rc, "read", e);
	rc = mdb_cursor_get(c, &k, &v, nstart ? MDB_SET_RANGE : MDB_FIRST);
	while (rc == 0 && r == 0) {
		struct kv_val value = {NULL, 0};

		(void)unguard(&k, &v, &value); /* the callback sees NULL */
		r = fn(arg, (struct kv_val){k.mv_data, k.mv_size}, value);
		if (r == 0)
			rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(c);
	if (rc && rc != MDB_NOTFOUND)
		return fail(t->kv, rc, "read", e);
	return r;
}

int kv_clear(struct kv_txn *t, enum tab tab, struct err *e)
{
	int rc = mdb_drop(t->txn, t->kv->dbi[tab], 0);

	if (!rc)
		return 0;
	t->full |= rc == MDB_MAP_FULL;
	return fail(t->kv, rc, "write", e);
}

/* ---- sizes ---- */

int kv_size(struct kv_txn *t, enum tab tab, uint64_t *ret_n, uint64_t *ret_bytes, struct err *e)
{
	MDB_stat st = {0};
	int rc = t->kv->dbi[tab] == NO_DBI ? 0 : mdb_stat(t->txn, t->kv->dbi[tab], &st);

	if (rc)
		return fail(t->kv, rc, "read", e);
	*ret_n = st.ms_entries;
	*ret_bytes = (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) * st.ms_psize;
	return 0;
}

int kv_file_size(struct kv *k, uint64_t *ret, struct err *e)
{
	MDB_envinfo info;
	MDB_stat st;
	int rc = mdb_env_info(k->env, &info);

	if (rc == 0)
		rc = mdb_env_stat(k->env, &st);
	if (rc)
		return fail(k, rc, "read", e);
	*ret = ((uint64_t)info.me_last_pgno + 1) * st.ms_psize;
	return 0;
}

/* A line of LMDB's table of readers: "    pid   thread txnid". */
static int count_other(const char *line, void *arg)
{
	bool *others = arg;
	long pid = strtol(line, NULL, 10);

	if (pid > 0 && pid != (long)getpid())
		*others = true;
	return 0;
}

bool kv_others(struct kv *k)
{
	bool others = false;

	/* A reader is in the table before it takes its snapshot, and until it closes the cache. */
	return mdb_reader_check(k->env, NULL) != 0 ||
	       mdb_reader_list(k->env, count_other, &others) < 0 || others;
}

int kv_copy(struct kv *k, const char *dir, struct err *e)
{
	int rc = mdb_env_copy2(k->env, dir, MDB_CP_COMPACT);

	return rc ? fail(k, rc, "copy", e) : 0;
}

/* ---- writing ---- */

/* One try. 1: the map was too small, *ret_size being its size; nothing was written. */
static int write_once(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e),
		      void *arg, size_t *ret_size, struct err *e)
{
	struct kv_txn t = {.kv = k};
	MDB_envinfo info;
	int r, rc;

	rc = mdb_txn_begin(k->env, NULL, 0, &t.txn);
	if (rc == MDB_MAP_RESIZED) {
		*ret_size = 0;
		return 1;
	}
	if (rc)
		return fail(k, rc, "write", e);
	rc = mdb_env_info(k->env, &info);
	*ret_size = rc ? MAP_MIN : info.me_mapsize;
	r = fn(arg, &t, e);
	if (r < 0 || t.full) {
		mdb_txn_abort(t.txn);
		return t.full ? 1 : r;
	}
	rc = mdb_txn_commit(t.txn);
	if (rc == MDB_MAP_FULL)
		return 1;
	if (rc)
		return fail(k, rc, "write", e);
	atomic_store(&k->wrote, true);
	return 0;
}

static int write_growing(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e),
			 void *arg, struct err *e)
{
	size_t size = 0;
	int r, rc;

	for (;;) {
		(void)pthread_rwlock_rdlock(&k->map); /* fails for misuse only */
		r = write_once(k, fn, arg, &size, e);
		(void)pthread_rwlock_unlock(&k->map);
		if (r <= 0)
			return r;
		rc = size ? grow_map(k, size) : adopt_map(k);
		if (rc)
			return fail(k, rc, "grow", e);
	}
}

int kv_write(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e), void *arg,
	     struct err *e)
{
	int r;

	if (k->read_only)
		return err_text(e, EROFS, "cannot write the index %s: it was opened to read only",
				k->dir);
	kv_pause(k); /* else growing the map would wait for ourselves */
	r = write_growing(k, fn, arg, e);
	kv_resume(k);
	return r;
}

/* ---- opening and closing ---- */

static int close_on_exec(MDB_env *env)
{
	int fd, rc = mdb_env_get_fd(env, &fd);

	return rc ? rc : fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? errno : 0;
}

static int create_env(struct kv *k, size_t map)
{
	unsigned flags = MDB_NOTLS | MDB_NOMETASYNC | (k->read_only ? MDB_RDONLY : 0);
	int rc = mdb_env_create(&k->env);

	if (rc)
		return rc;
	rc = mdb_env_set_maxdbs(k->env, TAB_COUNT);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(k->env, MAX_READERS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(k->env, map);
	if (rc == 0)
		rc = mdb_env_open(k->env, k->dir, flags, 0600);
	/* LMDB 0.9 marks only the lock file so; the commands that mlfs runs must not inherit the
	 * index. */
	if (rc == 0)
		rc = close_on_exec(k->env);
	if (rc) {
		mdb_env_close(k->env); /* as lmdb.h demands after a failure too */
		k->env = NULL;
	}
	return rc;
}

static int open_env(struct kv *k, uint64_t bytes, struct err *e)
{
	size_t map = MAP_MIN;
	int rc;

	while (map < bytes * 2)
		map *= 2;
	rc = create_env(k, map);
	if (rc == ENOMEM)
		rc = create_env(k, (size_t)bytes + MAP_SPARE); /* ulimit -v */
	return rc ? fail(k, rc, "open", e) : 0;
}

static int open_tables_in(struct kv *k, MDB_txn *txn, bool create)
{
	for (int i = 0; i < TAB_COUNT; i++) {
		int rc = mdb_dbi_open(txn, tab_names[i], create ? MDB_CREATE : 0, &k->dbi[i]);

		if (rc == MDB_NOTFOUND)
			k->dbi[i] = NO_DBI;
		else if (rc)
			return rc;
	}
	return 0;
}

static int open_tables(struct kv *k, bool create, struct err *e)
{
	unsigned flags = create ? 0 : MDB_RDONLY;
	MDB_txn *txn;
	int rc = mdb_txn_begin(k->env, NULL, flags, &txn);

	if (rc == MDB_MAP_RESIZED && (rc = adopt_map(k)) == 0)
		rc = mdb_txn_begin(k->env, NULL, flags, &txn);
	if (rc)
		return fail(k, rc, "open", e);
	rc = open_tables_in(k, txn, create);
	if (rc == 0)
		return (rc = mdb_txn_commit(txn)) ? fail(k, rc, "open", e) : 0;
	mdb_txn_abort(txn);
	return fail(k, rc, "open", e);
}

static bool tables_missing(const struct kv *k)
{
	for (int i = 0; i < TAB_COUNT; i++)
		if (k->dbi[i] == NO_DBI)
			return true;
	return false;
}

/* e is not NULL: the reason that check_data gives becomes part of the message. */
static int open_checked(struct kv *k, bool held, struct err *e)
{
	uint64_t bytes;
	int r;

	k->dirfd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->dirfd < 0)
		return err_set(e, errno, "cannot open the index %s", k->dir);
	/* Any other error: a file system without locks, where no repair is possible either. */
	if (!held && flock(k->dirfd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_text(e, EBUSY, "cannot open the index %s: it is being repaired", k->dir);
	r = check_data(k->dirfd, !k->read_only, &bytes, e);
	if (r == -EUCLEAN) {
		struct err why = *e;

		return err_text(
			e, EUCLEAN,
			"the index %s is damaged (%.200s); remove it or run `mlfs fsck --repair`",
			k->dir, why.msg);
	}
	if (r < 0)
		return err_prefix(e, "cannot open the index %s", k->dir);
	r = open_env(k, bytes, e);
	if (r < 0)
		return r;
	(void)mdb_reader_check(k->env, NULL); /* slots of killed processes would pin old pages */
	r = open_tables(k, false, e);
	if (r == 0 && tables_missing(k) && !k->read_only) {
		atomic_store(&k->wrote, true);
		r = open_tables(k, true, e);
	}
	return r;
}

int kv_open(const char *dir, bool read_only, bool held, struct kv **ret, struct err *e)
{
	struct kv *k = xcalloc(1, sizeof(*k));
	struct err own = {0};
	int r;

	k->dir = xstrdup(dir);
	k->dirfd = -1;
	k->read_only = read_only;
	(void)pthread_rwlock_init(&k->map, NULL); /* cannot fail on Linux */
	(void)pthread_mutex_init(&k->mu, NULL);	  /* likewise */
	r = pthread_key_create(&k->mine, reader_free);
	if (r) {
		free(k->dir);
		free(k);
		return err_set(e, r, "cannot open the index %s", dir);
	}
	r = open_checked(k, held, e ? e : &own);
	if (r < 0) {
		kv_close(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kv_close(struct kv *k)
{
	MDB_envinfo info;

	if (!k)
		return;
	(void)pthread_key_delete(k->mine); /* from here on no thread's end touches a reader */
	while (k->readers)
		reader_free(k->readers);
	/* The number first, then the file's times: the other way round another writer's commit in
	 * between would make a good file look meddled with. */
	if (k->env && atomic_load(&k->wrote) && mdb_env_info(k->env, &info) == 0)
		check_stamp(k->dirfd, info.me_last_txnid);
	if (k->env)
		mdb_env_close(k->env);
	base_close(&k->dirfd);
	(void)pthread_rwlock_destroy(&k->map);
	(void)pthread_mutex_destroy(&k->mu);
	free(k->dir);
	free(k);
}
