/* SPDX-License-Identifier: MIT */
/* mount_steps.c - which programs of a persistent mount are steps; see mount_steps.h. */
#include "mount_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mount_command.h"
#include "mount_tree.h"
#include "mounted.h"
#include "options.h"

#define LINE_MAX_BYTES 255 /* of a line `#!`, Linux 5.1; one more is the end of it */

struct real;

/* How long a program took when it was run last. */
struct took {
	char *path;
	int64_t ns;
};
#define N_TOOK 256

struct mount_steps {
	pthread_mutex_t mutex;
	char *source, *mountpoint, *cache, *share_socket;
	bool cache_of_each;
	uid_t owner;
	struct stat root;
	struct strlist settings;
	struct tree *tree;
	char *mlfs; /* its path */
	struct statx self;
	char *line; /* what stands for a step */
	uint64_t hits, misses, uncached, shared_hits;
	double saved_seconds;
	struct mount_step *running;
	size_t n_running;
	struct took took[N_TOOK]; /* by a hash of the path; two of one hash take turns */
	struct real *real;
	size_t n_real;
};

/* A process that is to read scripts as they are. */
struct real {
	pid_t pid;
	uint64_t start;
};

/* ---- the program that stands for a step ---- */

/* Which file it is, asking no file server: it may lie in this very mount. */
static bool file_of(const char *path, struct statx *ret)
{
	return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
		     STATX_TYPE | STATX_MODE | STATX_INO, ret) == 0;
}

static int find_self(struct mount_steps *m, struct err *e)
{
	m->mlfs = realpath("/proc/self/exe", NULL);
	if (!m->mlfs || !file_of("/proc/self/exe", &m->self))
		return err_set(e, errno, "cannot find the program of mlfs");
	m->line = xasprintf("#!%s --mounted\n", m->mlfs);
	if (strpbrk(m->mlfs, " \t\n") || strlen(m->line) > LINE_MAX_BYTES)
		return err_text(e, ENAMETOOLONG,
				"cannot run steps by %s: its path has blanks, or is too long",
				m->mlfs);
	return 0;
}

static bool same_file(const struct statx *a, const struct statx *b)
{
	return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor &&
	       a->stx_ino == b->stx_ino;
}

/*
 * Is there an mlfs where the caller looks for it, and is the caller itself another program? mlfs executes a step only
 * when it is to run plainly. What may not be looked into is left alone.
 */
static bool may_stand_in(const struct mount_steps *m, pid_t pid)
{
	auto_free char *there = xasprintf("/proc/%d/root%s", (int)pid, m->mlfs);
	struct statx caller, mlfs;
	char exe[32];

	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
	return file_of(exe, &caller) && file_of(there, &mlfs) && S_ISREG(mlfs.stx_mode) &&
	       (mlfs.stx_mode & 0111) && !same_file(&caller, &mlfs) &&
	       !same_file(&caller, &m->self);
}

/* A program that gives rights to who executes it would not through mlfs. */
static bool gives_rights(const struct fs_request *q, const struct stat *st)
{
	char file[32];

	snprintf(file, sizeof(file), "/proc/self/fd/%d", q->fd);
	return (st->st_mode & (S_ISUID | S_ISGID)) ||
	       getxattr(file, "security.capability", NULL, 0) > 0;
}

/* ---- interpreters ---- */

static bool reads_as_they_are(struct mount_steps *m, pid_t pid)
{
	uint64_t start = process_start(pid);
	bool found = false;

	pthread_mutex_lock(&m->mutex);
	for (size_t k = 0; k < m->n_real; k++)
		found |= m->real[k].pid == pid && m->real[k].start == start;
	pthread_mutex_unlock(&m->mutex);
	return found;
}

static void note_real(struct mount_steps *m, pid_t pid)
{
	uint64_t start = process_start(pid);

	pthread_mutex_lock(&m->mutex);
	for (size_t k = m->n_real; k-- > 0;)
		if (m->real[k].pid == pid || process_start(m->real[k].pid) != m->real[k].start)
			m->real[k] = m->real[--m->n_real];
	m->real = xrealloc(m->real, (m->n_real + 1) * sizeof(*m->real));
	m->real[m->n_real++] = (struct real){.pid = pid, .start = start};
	pthread_mutex_unlock(&m->mutex);
}

/* What an interpreter gets for the script q->path, or NULL: what is there. */
static char *script_instead(struct mount_steps *m, const struct fs_request *q)
{
	struct strlist patterns = {0};
	auto_free char *file = NULL;
	char *text = NULL;

	if (tree_may_be_commanded(m->tree, q->path, q->uid, &patterns) && may_stand_in(m, q->pid) &&
	    !reads_as_they_are(m, q->pid)) {
		file = xasprintf("%s/%s", m->mountpoint, q->path);
		text = command_script(&patterns, q->pid, m->mlfs, file);
	}
	strlist_free(&patterns);
	return text;
}

bool mount_steps_may_intercept(void *arg, const struct fs_request *q)
{
	struct mount_steps *m = arg;
	struct strlist patterns = {0};
	bool may = q->pid && tree_may_be_commanded(m->tree, q->path, q->uid, &patterns);

	strlist_free(&patterns);
	return may;
}

char *mount_steps_intercept(void *arg, const struct fs_request *q, const struct stat *st,
			    size_t *ret_size)
{
	struct mount_steps *m = arg;
	char *text;

	if (!q->exec) {
		text = script_instead(m, q);
		*ret_size = text ? strlen(text) : 0;
		return text;
	}
	if (!q->pid || gives_rights(q, st) || !tree_is_step(m->tree, q->path, q->uid) ||
	    !may_stand_in(m, q->pid))
		return NULL;
	*ret_size = strlen(m->line);
	return xstrdup(m->line);
}

/* ---- steps that run ---- */

static bool is_alive(pid_t pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

static void drop_running(struct mount_steps *m, size_t k)
{
	free(m->running[k].path);
	m->running[k] = m->running[--m->n_running];
}

static void drop_dead(struct mount_steps *m)
{
	for (size_t k = m->n_running; k-- > 0;)
		if (!is_alive(m->running[k].pid))
			drop_running(m, k);
}

/* The place that the program at path has among those remembered, or that it is to have. */
static struct took *took_at(struct mount_steps *m, const char *path)
{
	return &m->took[xxh64_of(path, strlen(path)) % N_TOOK];
}

static void begin(struct mount_steps *m, const struct fs_request *q)
{
	const struct took *t;

	pthread_mutex_lock(&m->mutex);
	drop_dead(m);
	t = took_at(m, q->path);
	m->running = xrealloc(m->running, (m->n_running + 1) * sizeof(*m->running));
	m->running[m->n_running++] = (struct mount_step){
		.pid = q->pid,
		.uid = q->uid,
		.path = xstrdup(q->path),
		.begun_ns = now_ns(),
		.took_ns = t->path && strcmp(t->path, q->path) == 0 ? t->ns : 0};
	pthread_mutex_unlock(&m->mutex);
}

/* It was run, to its end. */
static void note_took(struct mount_steps *m, const struct mount_step *s)
{
	struct took *t = took_at(m, s->path);

	free(t->path);
	*t = (struct took){xstrdup(s->path), now_ns() - s->begun_ns};
}

/* "hit 5.3" of a step that began here; others are none of ours. */
static void done(struct mount_steps *m, const struct fs_request *q, const char *told)
{
	pthread_mutex_lock(&m->mutex);
	for (size_t k = m->n_running; k-- > 0;) {
		if (m->running[k].pid != q->pid)
			continue;
		/* What is not cached tells before it runs. */
		if (strncmp(told, "miss ", 5) == 0)
			note_took(m, &m->running[k]);
		drop_running(m, k);
		m->hits += strncmp(told, "hit ", 4) == 0;
		m->shared_hits += strncmp(told, "hit ", 4) == 0 && strstr(told, MOUNT_TOLD_SHARED);
		m->misses += strncmp(told, "miss ", 5) == 0;
		m->uncached += strncmp(told, "uncached ", 9) == 0;
		m->saved_seconds += strtod(told + strcspn(told, " "), NULL);
		break;
	}
	pthread_mutex_unlock(&m->mutex);
}

static int by_start(const void *a, const void *b)
{
	const struct mount_step *x = a, *y = b;

	return (x->begun_ns > y->begun_ns) - (x->begun_ns < y->begun_ns);
}

void mount_steps_status(struct mount_steps *m, struct mount_steps_status *ret)
{
	pthread_mutex_lock(&m->mutex);
	drop_dead(m);
	*ret = (struct mount_steps_status){.hits = m->hits,
					   .misses = m->misses,
					   .uncached = m->uncached,
					   .shared_hits = m->shared_hits,
					   .saved_seconds = m->saved_seconds,
					   .v = xcalloc(m->n_running + 1, sizeof(*ret->v)),
					   .n = m->n_running};
	for (size_t k = 0; k < ret->n; k++) {
		ret->v[k] = m->running[k];
		ret->v[k].path = xstrdup(ret->v[k].path);
	}
	pthread_mutex_unlock(&m->mutex);
	qsort(ret->v, ret->n, sizeof(*ret->v), by_start);
	ret->ignored = tree_ignored(m->tree);
}

void mount_steps_status_free(struct mount_steps_status *s)
{
	for (size_t k = 0; k < s->n; k++)
		free(s->v[k].path);
	for (char **p = s->ignored; p && *p; p++)
		free(*p);
	free(s->v);
	free(s->ignored);
	*s = (struct mount_steps_status){0};
}

/* ---- questions ---- */

static void add_record(struct buf *b, char what, const char *text)
{
	if (!strchr(text, '\n')) /* it could not be told from two */
		buf_addf(b, "%c%s\n", what, text);
}

/* The cache of a user below the mount's: made when it is first needed, since only its owner may. NULL: it cannot be. */
static char *cache_of(const struct mount_steps *m, uid_t uid, gid_t gid)
{
	auto_free char *dir = xasprintf("%s/" CACHE_USERS "/%u", m->cache, (unsigned)uid);
	struct stat st;

	if (mkdir(dir, 0700) == 0) {
		if (lchown(dir, uid, gid) < 0)
			log_warn("cannot give %s to its user: %s", dir, strerror(errno));
	} else if (errno != EEXIST) {
		log_warn("cannot make %s: %s", dir, strerror(errno));
		return NULL;
	}
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != uid)
		return NULL;
	return take(dir);
}

/* How the caller is to run the step q->path. */
static char *step_words(struct mount_steps *m, const struct fs_request *q)
{
	auto_free char *cache = !m->cache	   ? NULL
				: m->cache_of_each ? cache_of(m, q->uid, q->gid)
						   : xstrdup(m->cache);
	auto_free char *owner = xasprintf("%u", (unsigned)m->owner);
	auto_buf struct buf b = {0};
	struct strlist files = {0};

	add_record(&b, STEP_OWNER, owner);
	if (cache) {
		auto_free char *setting = xasprintf("cache=%s", cache);

		add_record(&b, STEP_SETTING, setting);
	}
	for (size_t k = 0; k < m->settings.n; k++)
		add_record(&b, STEP_SETTING, m->settings.v[k]);
	if (m->share_socket && tree_shares(m->tree, q->path, NULL)) {
		add_record(&b, STEP_SHARE, m->share_socket);
		add_record(&b, STEP_PROGRAM, q->path);
	}
	tree_files(m->tree, q->path, q->uid, &files);
	for (size_t k = 0; k < files.n; k++) {
		auto_free char *file = xasprintf("%s/%s", m->mountpoint, files.v[k]);

		add_record(&b, STEP_FILE, file);
	}
	strlist_free(&files);
	buf_u8(&b, 0);
	return (char *)take(b.data);
}

char *mount_steps_answer(void *arg, const struct fs_request *q, const char *question)
{
	struct mount_steps *m = arg;
	size_t n = strlen(MOUNT_TELL_DONE);

	if (strcmp(question, MOUNT_ASK_STEP) == 0) {
		begin(m, q);
		return step_words(m, q);
	}
	if (strcmp(question, MOUNT_ASK_FACTS) == 0)
		return xasprintf("%llu %llu %s", (unsigned long long)m->root.st_dev,
				 (unsigned long long)m->root.st_ino, m->source);
	if (strcmp(question, MOUNT_ASK_REAL) == 0) {
		note_real(m, q->pid);
		return xstrdup("");
	}
	if (strncmp(question, MOUNT_TELL_DONE, n) != 0)
		return NULL;
	done(m, q, question + n);
	return xstrdup("");
}

/* ---- beginning and end ---- */

/* Where those of all users are to be. Only root can give each his own. */
static int make_caches(const struct mount_steps *m, struct err *e)
{
	auto_free char *users = xasprintf("%s/" CACHE_USERS, m->cache);
	int r = mkdir_p(m->cache, 0755, e);

	if (r == 0 && mkdir(users, 0711) < 0 && errno != EEXIST)
		r = err_set(e, errno, "cannot make %s", users);
	return r;
}

int mount_steps_new(const struct mount_steps_options *o, struct mount_steps **ret, struct err *e)
{
	struct mount_steps *m = xcalloc(1, sizeof(*m));
	int r;

	pthread_mutex_init(&m->mutex, NULL);
	m->source = xstrdup(o->source);
	m->mountpoint = xstrdup(o->mountpoint);
	m->cache = o->cache ? xstrdup(o->cache) : NULL;
	m->share_socket = o->share_socket ? xstrdup(o->share_socket) : NULL;
	m->cache_of_each = o->cache_of_each;
	m->owner = geteuid();
	for (size_t k = 0; k < o->settings->n; k++)
		strlist_add(&m->settings, xstrdup(o->settings->v[k]));
	r = m->cache && m->cache_of_each ? make_caches(m, e) : 0;
	if (r == 0)
		r = tree_new(o->root, o->steps, o->not_steps, o->commands, o->share, &m->tree, e);
	if (r == 0)
		r = find_self(m, e);
	if (r == 0 && fstat(o->root, &m->root) < 0)
		r = err_set(e, errno, "cannot look at %s", o->source);
	if (r < 0) {
		mount_steps_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void mount_steps_free(struct mount_steps *m)
{
	if (!m)
		return;
	while (m->n_running)
		drop_running(m, m->n_running - 1);
	free(m->running);
	for (size_t k = 0; k < N_TOOK; k++)
		free(m->took[k].path);
	free(m->real);
	free(m->source);
	free(m->mountpoint);
	free(m->cache);
	free(m->share_socket);
	free(m->mlfs);
	free(m->line);
	strlist_free(&m->settings);
	tree_free(m->tree);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}
