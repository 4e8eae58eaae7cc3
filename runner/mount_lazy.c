/* SPDX-License-Identifier: MIT */
/* mount_lazy.c - outputs in a persistent mount that are not real yet: the mount's side; see mount_lazy.h. */
#include "mount_lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "realize.h"
#include "screen.h"

struct mount_lazy {
	int root;
	char *src, *cache;
	bool of_each;
	uid_t uid;
	pthread_mutex_t mutex;
	pthread_t settler;     /* when `settles` */
	bool settles, settled; /* it was started; it is done */
};

struct mount_lazy *mount_lazy_new(const struct mount_lazy_options *o)
{
	struct mount_lazy *m = xcalloc(1, sizeof(*m));

	m->root = fcntl(o->root, F_DUPFD_CLOEXEC, 0);
	m->src = xstrdup(o->src);
	m->cache = o->cache ? xstrdup(o->cache) : NULL;
	m->of_each = o->of_each;
	m->uid = geteuid();
	pthread_mutex_init(&m->mutex, NULL);
	return m;
}

void mount_lazy_free(struct mount_lazy *m)
{
	if (!m)
		return;
	if (m->settles)
		(void)pthread_join(m->settler, NULL); /* cannot fail */
	pthread_mutex_destroy(&m->mutex);
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

static uint64_t measure(const struct mount_lazy *m, size_t *ret_files, size_t *ret_records)
{
	__attribute__((cleanup(caches_free))) struct caches c = {0};
	auto_realize struct realize r = {.root = m->root, .src = m->src};

	add_all(m, &r, &c);
	*ret_records = r.n;
	return realize_size(&r, ret_files);
}

uint64_t mount_lazy_bytes(const struct mount_lazy *m, size_t *ret_files)
{
	size_t records;

	return measure(m, ret_files, &records);
}

void mount_lazy_settle(struct mount_lazy *m)
{
	__attribute__((cleanup(caches_free))) struct caches c = {0};
	auto_realize struct realize r = {.root = m->root, .src = m->src};
	char size[32];

	add_all(m, &r, &c);
	realize_all(&r); /* what cannot be was said */
	if (r.made)
		log_debug("made %zu outputs real: %s", r.made,
			  human_size(r.bytes, size, sizeof(size)));
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
	size_t files = 0, records = 0;
	uint64_t bytes = 0;
	bool goes_on, begins;

	if (uid != 0 && uid != m->uid)
		return NULL;
	pthread_mutex_lock(&m->mutex);
	begins = !m->settles;
	pthread_mutex_unlock(&m->mutex);
	if (begins) /* what there is to do, before any of it is done */
		bytes = measure(m, &files, &records);
	pthread_mutex_lock(&m->mutex);
	if (m->settles && m->settled) {
		(void)pthread_join(m->settler, NULL); /* cannot fail */
		m->settles = m->settled = false;
	} else if (!m->settles && records) {
		m->settled = false;
		m->settles = pthread_create(&m->settler, NULL, settle_apart, m) == 0;
	}
	goes_on = m->settles;
	pthread_mutex_unlock(&m->mutex);
	if (!begins)
		bytes = measure(m, &files, &records);
	return xasprintf("%d %llu %zu", goes_on, (unsigned long long)bytes, files);
}
