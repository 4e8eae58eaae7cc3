/* SPDX-License-Identifier: MIT */
/*
 * env.c - LMDB: read views, write transactions, a map that grows, guarded values, error codes.
 *
 * The only file that includes lmdb.h. Durability: MDB_NOMETASYNC. A commit waits for its pages (one
 * fdatasync) and leaves the meta page to the next one, so a power cut may undo the last transaction
 * and can damage nothing. MDB_NOSYNC could (the meta page may reach the disk before what it points
 * to), so what happens on every hit is kept out of LMDB instead: see uses.c and runs.c.
 *
 * LMDB believes its pages. Where they are not as it wrote them (and check.c had no reason to look), it may go
 * anywhere: faults of reading are caught (trap.h), and nothing is read from the environment any more. A write transaction
 * has pages on the heap and the lock of all writers, so there the process ends: the lock is robust, nothing was committed.
 * Who must not end makes them in a process apart.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <string.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdatomic.h>

#include "check.h"
#include "env.h"
#include "trap.h"

#ifndef MAP_MIN			  /* tests choose a small one */
#define MAP_MIN ((size_t)1 << 30) /* address space only: the file grows by what is written */
#endif
#define MAP_SPARE   ((size_t)64 << 20) /* what is asked for where address space is limited */
#define MAP_MAX	    ((size_t)1 << 42)
#define MAX_READERS 512
#define MAX_TRIES   8 /* other processes may grow the map between our steps, but not for ever */
#define GUARD	    8
/* KV_FEW: reading ahead costs more than it gains in an index larger than this, values from this size on excepted. */
#define READ_WHOLE  ((uint64_t)4 << 20)
#define BIG_VALUE   ((size_t)64 << 10)
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
	unsigned how;	    /* enum kv_how */
	bool random;	    /* the kernel reads nothing ahead */
	atomic_bool broken; /* a fault: nothing is read from it any more */
	atomic_bool wrote;
	_Atomic uint64_t n_read; /* records */
	char *last_words;
	pthread_rwlock_t map;
	pthread_key_t mine; /* the calling thread's read view */
	pthread_mutex_t mu; /* guards `readers` */
	struct kv_txn *readers;
};

/* ---- errors ---- */

static int code_of(int rc)
{
	switch (rc) {
	case MDB_VERSION_MISMATCH:
		return ENOTSUP;
	case MDB_MAP_FULL:
		return ENOSPC;
	case MDB_READERS_FULL:
		return EUSERS;
	case MDB_TXN_FULL:
		return EFBIG;
	case MDB_BAD_RSLOT:
	case MDB_TLS_FULL:
	case MDB_MAP_RESIZED: /* who sees it adopts the size; not so often */
		return EIO;
	default: /* LMDB's others say that something cannot be */
		return rc > 0 ? rc : EUCLEAN;
	}
}

/* The one place that makes sentences of LMDB's codes. */
static int fail(const struct kv *k, int rc, const char *what, struct err *e)
{
	switch (code_of(rc)) {
	case EUCLEAN:
		check_distrust(k->dirfd); /* the next one is told more */
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
	case EIO: /* the disk's, or LMDB's of pages that have no good length */
		check_distrust(k->dirfd);
		/* fall through */
	default:
		return err_set(e, code_of(rc), "cannot %s the index %s", what, k->dir);
	}
}

/* ---- damage that LMDB does not see ---- */

/* fn reads the map. Its LMDB code, or the one for damage. */
static int reading(struct kv *k, int (*fn)(void *arg), void *arg)
{
	int rc = atomic_load(&k->broken) ? MDB_CORRUPTED : trap_run(fn, arg, MDB_PANIC);

	if (rc == MDB_PANIC || rc == MDB_PAGE_NOTFOUND) {
		atomic_store(&k->broken, true);
		rc = MDB_CORRUPTED;
	}
	return rc;
}

/* In a signal handler, perhaps. */
static void die(void *arg)
{
	struct kv *k = arg;

	check_distrust(k->dirfd);
	if (!(k->how & KV_QUIET))
		(void)!write(STDERR_FILENO, k->last_words, strlen(k->last_words));
	_exit(KV_DIED);
}

static void on_assert(MDB_env *env, const char *what)
{
	(void)env;
	(void)what;
	trap_spring(); /* else LMDB says it and aborts */
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

static int begin_in(void *arg)
{
	struct kv_txn *t = arg;

	return t->txn ? mdb_txn_renew(t->txn)
		      : mdb_txn_begin(t->kv->env, NULL, MDB_RDONLY, &t->txn);
}

/* Take a snapshot; the reader's slot and its buffers are kept from one view to the next. */
static int reader_start(struct kv_txn *t)
{
	struct kv *k = t->kv;
	int rc = 0;

	for (int tries = 0; tries < MAX_TRIES; tries++) {
		(void)pthread_rwlock_rdlock(&k->map); /* fails for misuse only */
		rc = reading(k, begin_in, t);
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

struct stat_of {
	struct kv_txn *t;
	enum tab tab;
	MDB_stat st;
};

static int stat_in(void *arg)
{
	struct stat_of *s = arg;

	if (s->t->kv->dbi[s->tab] == NO_DBI)
		return 0;
	return mdb_stat(s->t->txn, s->t->kv->dbi[s->tab], &s->st);
}

uint64_t kv_count(struct kv_txn *t, enum tab tab)
{
	struct stat_of s = {.t = t, .tab = tab};

	return reading(t->kv, stat_in, &s) == 0 ? s.st.ms_entries : 0;
}

static MDB_val val_of(const void *p, size_t n)
{
	return (MDB_val){.mv_size = n, .mv_data = (void *)(uintptr_t)p}; /* LMDB only reads it */
}

/* The pages of a value are wanted, all of them. */
static void read_ahead(const MDB_val *v)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)v->mv_data & -page;

	/* Only advice. */
	(void)madvise((void *)begin, (uintptr_t)v->mv_data + v->mv_size - begin, MADV_WILLNEED);
}

struct get {
	MDB_txn *txn;
	MDB_dbi dbi;
	bool random;
	MDB_val key;
	struct kv_val *ret;
	bool whole;
};

static int get_in(void *arg)
{
	struct get *g = arg;
	MDB_val v;
	int rc = mdb_get(g->txn, g->dbi, &g->key, &v);

	if (rc == 0 && g->random && v.mv_size >= BIG_VALUE)
		read_ahead(&v);
	g->whole = rc == 0 && unguard(&g->key, &v, g->ret);
	return rc;
}

int kv_get(struct kv_txn *t, enum tab tab, const void *key, size_t nkey, struct kv_val *ret,
	   struct err *e)
{
	struct get g = {.txn = t->txn,
			.dbi = t->kv->dbi[tab],
			.random = t->kv->random,
			.key = val_of(key, nkey),
			.ret = ret};
	int rc;

	if (g.dbi == NO_DBI)
		return 0;
	atomic_fetch_add_explicit(&t->kv->n_read, 1, memory_order_relaxed);
	rc = reading(t->kv, get_in, &g);
	if (rc == MDB_NOTFOUND)
		return 0;
	return rc ? fail(t->kv, rc, "read", e) : g.whole;
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

struct step { /* of a walk through a table */
	MDB_cursor *c;
	MDB_cursor_op op;
	MDB_val key;
	struct kv_val value; /* p NULL: damaged */
};

static int step_in(void *arg)
{
	struct step *s = arg;
	MDB_val v;
	int rc = mdb_cursor_get(s->c, &s->key, &v, s->op);

	s->op = MDB_NEXT;
	s->value = (struct kv_val){NULL, 0};
	if (rc == 0)
		(void)unguard(&s->key, &v, &s->value); /* the callback sees NULL */
	return rc;
}

int kv_each(struct kv_txn *t, enum tab tab, const void *start, size_t nstart,
	    int (*fn)(void *arg, struct kv_val key, struct kv_val value), void *arg, struct err *e)
{
	struct step s = {.key = val_of(start, nstart), .op = nstart ? MDB_SET_RANGE : MDB_FIRST};
	int rc, r = 0;

	if (t->kv->dbi[tab] == NO_DBI)
		return 0;
	rc = mdb_cursor_open(t->txn, t->kv->dbi[tab], &s.c);
	if (rc)
		return fail(t->kv, rc, "read", e);
	rc = reading(t->kv, step_in, &s);
	while (rc == 0 && r == 0) {
		atomic_fetch_add_explicit(&t->kv->n_read, 1, memory_order_relaxed);
		r = fn(arg, (struct kv_val){s.key.mv_data, s.key.mv_size}, s.value);
		if (r == 0)
			rc = reading(t->kv, step_in, &s);
	}
	mdb_cursor_close(s.c);
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
	struct stat_of s = {.t = t, .tab = tab};
	int rc = reading(t->kv, stat_in, &s);

	if (rc)
		return fail(t->kv, rc, "read", e);
	*ret_n = s.st.ms_entries;
	*ret_bytes = (s.st.ms_branch_pages + s.st.ms_leaf_pages + s.st.ms_overflow_pages) *
		     s.st.ms_psize;
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
	int rc;

	trap_last(die, k);
	rc = mdb_env_copy2(k->env, dir, MDB_CP_COMPACT);
	trap_last(NULL, NULL);
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

struct answer { /* of a process apart */
	int r;
	struct err e;
};

static void write_for(const char *dir, int (*fn)(void *arg, struct kv_txn *t, struct err *e),
		      void *arg, int to) __attribute__((noreturn));
static void write_for(const char *dir, int (*fn)(void *arg, struct kv_txn *t, struct err *e),
		      void *arg, int to)
{
	struct answer a = {0};
	struct kv *own;
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (nowhere >= 0) /* what libc says of a ruined heap; the parent says it better */
		(void)dup2(nowhere, STDERR_FILENO);
	/* LMDB's environment is that of the process that opened it. */
	a.r = kv_open(dir, KV_QUIET | KV_FEW, &own, &a.e);
	if (a.r == 0) {
		a.r = kv_write(own, fn, arg, &a.e);
		kv_close(own);
	}
	(void)!write(to, &a, sizeof(a)); /* a short one is none */
	_exit(0);
}

static bool died_of_it(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return true; /* SIGCHLD is ignored: nobody knows */
	return WIFEXITED(status) || WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS ||
	       WTERMSIG(status) == SIGABRT;
}

static int write_apart(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e),
		       void *arg, struct err *e)
{
	struct answer a;
	int pair[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		write_for(k->dir, fn, arg, pair[1]);
	close(pair[1]);
	n = pid < 0 ? -errno : read_full(pair[0], &a, sizeof(a));
	close(pair[0]);
	if (pid < 0)
		return err_set(e, (int)n, "cannot fork");
	if (n != sizeof(a) && !died_of_it(pid))
		return err_text(e, EINTR, "cannot write the index %s: who wrote it was killed",
				k->dir);
	if (n != sizeof(a))
		return fail(k, MDB_CORRUPTED, "write", e);
	(void)died_of_it(pid); /* only to wait for it */
	if (a.r < 0 && e)
		*e = a.e;
	return a.r;
}

int kv_write(struct kv *k, int (*fn)(void *arg, struct kv_txn *t, struct err *e), void *arg,
	     struct err *e)
{
	int r;

	if (k->how & KV_READ_ONLY)
		return err_text(e, EROFS, "cannot write the index %s: it was opened to read only",
				k->dir);
	if (atomic_load(&k->broken))
		return fail(k, MDB_CORRUPTED, "write", e);
	kv_pause(k); /* else growing the map would wait for ourselves */
	if (k->how & KV_APART) {
		r = write_apart(k, fn, arg, e);
	} else {
		trap_last(die, k);
		r = write_growing(k, fn, arg, e);
		trap_last(NULL, NULL);
	}
	kv_resume(k);
	return r;
}

/* ---- opening and closing ---- */

static int close_on_exec(MDB_env *env)
{
	int fd, rc = mdb_env_get_fd(env, &fd);

	return rc ? rc : fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? errno : 0;
}

static int open_in(void *arg)
{
	struct kv *k = arg;
	/* Who writes apart only reads here, and is spared the 3 MB of room that LMDB makes for writing. */
	unsigned flags = MDB_NOTLS | MDB_NOMETASYNC |
			 (k->how & (KV_READ_ONLY | KV_APART) ? MDB_RDONLY : 0) |
			 (k->random ? MDB_NORDAHEAD : 0);

	return mdb_env_open(k->env, k->dir, flags, 0600);
}

static int create_env(struct kv *k, size_t map)
{
	int rc = mdb_env_create(&k->env);

	if (rc)
		return rc;
	rc = mdb_env_set_maxdbs(k->env, TAB_COUNT);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(k->env, MAX_READERS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(k->env, map);
	if (rc == 0)
		rc = mdb_env_set_assert(k->env, on_assert);
	if (rc == 0)
		rc = reading(k, open_in, k);
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

static int nothing_in(void *arg, struct kv_txn *t, struct err *e)
{
	(void)arg;
	(void)t;
	(void)e;
	return 0;
}

/* Who opens the index to write makes what is missing. */
static int make_apart(struct kv *k, struct err *e)
{
	return write_apart(k, nothing_in, NULL, e);
}

static int open_env(struct kv *k, uint64_t bytes, struct err *e)
{
	size_t map = MAP_MIN;
	int rc, r = !bytes && (k->how & KV_APART) ? make_apart(k, e) : 0;

	if (r < 0)
		return r;
	while (map < bytes * 2)
		map *= 2;
	k->random = (k->how & KV_FEW) && bytes > READ_WHOLE;
	rc = create_env(k, map);
	if (rc == ENOMEM)
		rc = create_env(k, (size_t)bytes + MAP_SPARE); /* ulimit -v */
	return rc ? fail(k, rc, "open", e) : 0;
}

struct tables {
	struct kv *k;
	MDB_txn *txn;
	bool create;
};

static int open_tables_in(void *arg)
{
	const struct tables *o = arg;

	for (int i = 0; i < TAB_COUNT; i++) {
		int rc = mdb_dbi_open(o->txn, tab_names[i], o->create ? MDB_CREATE : 0,
				      &o->k->dbi[i]);

		if (rc == MDB_NOTFOUND)
			o->k->dbi[i] = NO_DBI;
		else if (rc)
			return rc;
	}
	return 0;
}

static int open_tables(struct kv *k, bool create, struct err *e)
{
	struct tables o = {.k = k, .create = create};
	unsigned flags = create ? 0 : MDB_RDONLY;
	int rc;

	if (create)
		trap_last(die, k);
	rc = mdb_txn_begin(k->env, NULL, flags, &o.txn);
	if (rc == MDB_MAP_RESIZED && (rc = adopt_map(k)) == 0)
		rc = mdb_txn_begin(k->env, NULL, flags, &o.txn);
	if (rc == 0) {
		rc = create ? open_tables_in(&o) : reading(k, open_tables_in, &o);
		if (rc == 0)
			rc = mdb_txn_commit(o.txn);
		else
			mdb_txn_abort(o.txn);
	}
	trap_last(NULL, NULL);
	return rc ? fail(k, rc, "open", e) : 0;
}

static bool tables_missing(const struct kv *k)
{
	for (int i = 0; i < TAB_COUNT; i++)
		if (k->dbi[i] == NO_DBI)
			return true;
	return false;
}

/* e is not NULL: the reason that check_data gives becomes part of the message. */
static int make_tables(struct kv *k, struct err *e)
{
	int r;

	if (!(k->how & KV_APART)) {
		atomic_store(&k->wrote, true);
		return open_tables(k, true, e);
	}
	r = make_apart(k, e);
	return r < 0 ? r : open_tables(k, false, e);
}

static int open_checked(struct kv *k, struct err *e)
{
	uint64_t bytes;
	int r;

	k->dirfd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->dirfd < 0)
		return err_set(e, errno, "cannot open the index %s", k->dir);
	/* Any other error: a file system without locks, where no repair is possible either. */
	if (!(k->how & KV_HELD) && flock(k->dirfd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_text(e, EBUSY, "cannot open the index %s: it is being repaired", k->dir);
	r = check_data(k->dirfd, !(k->how & KV_READ_ONLY), &bytes, e);
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
	if (r == 0 && tables_missing(k) && !(k->how & KV_READ_ONLY))
		r = make_tables(k, e);
	return r;
}

int kv_open(const char *dir, unsigned how, struct kv **ret, struct err *e)
{
	struct kv *k = xcalloc(1, sizeof(*k));
	struct err own = {0};
	int r;

	k->dir = xstrdup(dir);
	k->dirfd = -1;
	k->how = how;
	k->last_words = xasprintf("mlfs: the index %s is damaged; remove it or run `mlfs fsck "
				  "--repair`\n",
				  dir);
	trap_install();
	(void)pthread_rwlock_init(&k->map, NULL); /* cannot fail on Linux */
	(void)pthread_mutex_init(&k->mu, NULL);	  /* likewise */
	r = pthread_key_create(&k->mine, reader_free);
	if (r) {
		free(k->last_words);
		free(k->dir);
		free(k);
		return err_set(e, r, "cannot open the index %s", dir);
	}
	r = open_checked(k, e ? e : &own);
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
	log_debug("index: %llu records looked at", (unsigned long long)atomic_load(&k->n_read));
	if (k->env)
		mdb_env_close(k->env);
	base_close(&k->dirfd);
	(void)pthread_rwlock_destroy(&k->map);
	(void)pthread_mutex_destroy(&k->mu);
	free(k->last_words);
	free(k->dir);
	free(k);
}
