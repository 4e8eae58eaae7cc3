/* SPDX-License-Identifier: MIT */
/* mount_lazy.c - outputs in a persistent mount that are not real yet: the mount's side; see mount_lazy.h. */
#include "mount_lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "realize.h"
#include "screen.h"

/* Putting placeholders in place takes milliseconds; who takes longer is stopped, or means ill. */
#define PATIENCE_S 2

struct mount_lazy {
	int root;
	char *src, *cache;
	bool of_each;
	uid_t uid;
	pthread_mutex_t mutex;
	pthread_cond_t fewer;
	unsigned placing, running;
	unsigned slow;		/* of those placing: they are not waited for any more */
	bool any;		/* there may be some */
	pthread_t settler;	/* when `settles` */
	bool settles, settled;	/* it was started; it is done */
	pthread_mutex_t making; /* taken before the other */
};

struct mount_lazy *mount_lazy_new(const struct mount_lazy_options *o)
{
	struct mount_lazy *m = xcalloc(1, sizeof(*m));
	pthread_condattr_t a;

	m->root = fcntl(o->root, F_DUPFD_CLOEXEC, 0);
	m->src = xstrdup(o->src);
	m->cache = o->cache ? xstrdup(o->cache) : NULL;
	m->of_each = o->of_each;
	m->uid = geteuid();
	m->any = true; /* of an earlier mount */
	pthread_mutex_init(&m->mutex, NULL);
	pthread_mutex_init(&m->making, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&m->fewer, &a);
	pthread_condattr_destroy(&a);
	return m;
}

void mount_lazy_free(struct mount_lazy *m)
{
	if (!m)
		return;
	if (m->settles)
		(void)pthread_join(m->settler, NULL); /* cannot fail */
	pthread_mutex_destroy(&m->mutex);
	pthread_mutex_destroy(&m->making);
	pthread_cond_destroy(&m->fewer);
	base_close(&m->root);
	free(m->src);
	free(m->cache);
	free(m);
}

/* ---- caches ---- */

static char *cache_path(const struct mount_lazy *m, uid_t owner)
{
	if (!m->cache || (!m->of_each && owner != m->uid))
		return NULL;
	return m->of_each ? xasprintf("%s/" CACHE_USERS "/%u", m->cache, (unsigned)owner)
			  : xstrdup(m->cache);
}

int mount_lazy_cache(void *arg, uid_t owner)
{
	auto_free char *path = cache_path(arg, owner);
	auto_close int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct stat st;

	if (!path)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return st.st_uid == owner ? take_fd(&fd) : -EACCES;
}

char *mount_lazy_answer(const struct mount_lazy *m, uid_t uid)
{
	auto_free char *path = cache_path(m, uid);

	return path && !strchr(path, '\n') ? xasprintf("%s\n%s", path, m->src) : NULL;
}

/* ---- all of them ---- */

struct caches {
	int *v;
	size_t n;
};

static void caches_free(struct caches *c)
{
	for (size_t k = 0; k < c->n; k++)
		close(c->v[k]);
	free(c->v);
}

struct gathering {
	const struct mount_lazy *m;
	struct realize *r;
	struct caches *caches;
};

static void add_cache(void *arg, uid_t owner)
{
	struct gathering *g = arg;
	struct caches *c = g->caches;
	int fd = mount_lazy_cache((void *)g->m, owner);

	if (fd < 0)
		return;
	c->v = xrealloc(c->v, (c->n + 1) * sizeof(*c->v));
	c->v[c->n++] = fd;
	realize_add(g->r, fd, owner);
}

static void add_all(const struct mount_lazy *m, struct realize *r, struct caches *c)
{
	struct gathering g = {m, r, c};
	auto_free char *users = m->cache ? xasprintf("%s/" CACHE_USERS, m->cache) : NULL;

	if (!m->of_each)
		add_cache(&g, m->uid);
	else if (users)
		(void)realize_users(users, add_cache, &g); /* or there are none yet */
}

uint64_t mount_lazy_bytes(const struct mount_lazy *m, size_t *ret_files)
{
	__attribute__((cleanup(caches_free))) struct caches c = {0};
	auto_realize struct realize r = {.root = m->root, .src = m->src};

	add_all(m, &r, &c);
	return realize_size(&r, ret_files);
}

/* How many were made real; -EIO: not all could be. Under `making`. */
static int make_all_real(struct mount_lazy *m, bool remove_lost)
{
	__attribute__((cleanup(caches_free))) struct caches c = {0};
	auto_realize struct realize r = {
		.root = m->root, .src = m->src, .remove_lost = remove_lost};
	char size[32];

	add_all(m, &r, &c);
	realize_all(&r);
	if (r.made)
		log_debug("made %zu outputs real: %s", r.made,
			  human_size(r.bytes, size, sizeof(size)));
	pthread_mutex_lock(&m->mutex);
	m->any = r.failed > 0;
	pthread_mutex_unlock(&m->mutex);
	return r.failed ? -EIO : (int)(r.made + r.lost);
}

void mount_lazy_settle(struct mount_lazy *m)
{
	pthread_mutex_lock(&m->making);
	if (m->any)
		(void)make_all_real(m, false); /* what cannot be was said */
	pthread_mutex_unlock(&m->making);
}

static void *settle_apart(void *arg)
{
	struct mount_lazy *m = arg;

	mount_lazy_settle(m);
	pthread_mutex_lock(&m->mutex);
	m->settled = true;
	pthread_mutex_unlock(&m->mutex);
	return NULL;
}

char *mount_lazy_settling(struct mount_lazy *m, uid_t uid)
{
	uint64_t bytes = 0;
	size_t files = 0;
	bool goes_on, begins;

	if (uid != 0 && uid != m->uid)
		return NULL;
	pthread_mutex_lock(&m->mutex);
	begins = !m->settles && m->any;
	pthread_mutex_unlock(&m->mutex);
	if (begins) /* what there is to do, before any of it is done */
		bytes = mount_lazy_bytes(m, &files);
	pthread_mutex_lock(&m->mutex);
	if (m->settles && m->settled) {
		(void)pthread_join(m->settler, NULL); /* cannot fail */
		m->settles = m->settled = false;
	} else if (!m->settles && m->any) {
		m->settled = false;
		m->settles = pthread_create(&m->settler, NULL, settle_apart, m) == 0;
	}
	goes_on = m->settles;
	pthread_mutex_unlock(&m->mutex);
	if (!begins)
		bytes = mount_lazy_bytes(m, &files);
	return xasprintf("%d %llu %zu", goes_on, (unsigned long long)bytes, files);
}

/* ---- steps and placeholders keep out of each other's way ---- */

/* Steps lock the tree while they run (lazy_step.c): those too that a server before this one knew of, and that run on. */
static bool others_run(const struct mount_lazy *m)
{
	auto_close int fd = openat(m->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static int begin_placing(struct mount_lazy *m)
{
	bool may;

	pthread_mutex_lock(&m->mutex);
	may = m->cache && !m->running && !others_run(m);
	if (may) {
		m->placing++;
		m->any = true;
	}
	pthread_mutex_unlock(&m->mutex);
	return may;
}

static int begin_running(struct mount_lazy *m)
{
	struct timespec until;
	int n = 0;
	bool any;

	(void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&m->mutex);
	m->running++; /* from now on nobody begins */
	while (m->placing > m->slow && pthread_cond_timedwait(&m->fewer, &m->mutex, &until) == 0)
		;
	m->slow = m->placing;
	pthread_mutex_unlock(&m->mutex);
	pthread_mutex_lock(&m->making);
	pthread_mutex_lock(&m->mutex);
	any = m->any;
	pthread_mutex_unlock(&m->mutex);
	if (any)
		n = make_all_real(m, true);
	pthread_mutex_unlock(&m->making);
	if (n < 0)
		mount_lazy_end(m, LAZY_RUN); /* it does not run here */
	return n;
}

int mount_lazy_begin(void *arg, enum fs_lazy what)
{
	return what == LAZY_PLACE ? begin_placing(arg) : begin_running(arg);
}

void mount_lazy_end(void *arg, enum fs_lazy what)
{
	struct mount_lazy *m = arg;
	bool late;

	pthread_mutex_lock(&m->mutex);
	m->placing -= what == LAZY_PLACE;
	m->slow = m->slow < m->placing ? m->slow : m->placing;
	m->running -= what == LAZY_RUN;
	late = what == LAZY_PLACE && m->running;
	pthread_cond_broadcast(&m->fewer);
	pthread_mutex_unlock(&m->mutex);
	if (!late)
		return;
	/* A step may be waiting for him no longer. */
	pthread_mutex_lock(&m->making);
	(void)make_all_real(m, true);
	pthread_mutex_unlock(&m->making);
}
