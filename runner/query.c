/* SPDX-License-Identifier: MIT */
/* query.c - what the commands that ask the cache have in common. */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "words.h"

#define MAX_TOLD 5

char *query_cache(const struct query *q)
{
	char *dir = find_cache(q->cache);

	if (!dir)
		log_warn("cannot find a home directory for the cache; set --cache");
	return dir;
}

bool cache_in_view(const char *dir)
{
	auto_free char *path = xstrdup(dir);
	char keys[4096], *slash;

	while (getxattr(path, IDX_KEYS_XATTR, keys, sizeof(keys)) < 0) {
		slash = strrchr(path, '/');
		if ((errno != ENOENT && errno != ENOTDIR) || !slash || !path[1])
			return false;
		slash[slash == path] = '\0';
	}
	return true;
}

/* Opened to write, one would be made where there is none. */
static bool is_cache(const char *dir)
{
	auto_free char *version = xasprintf("%s/version", dir);

	return access(version, F_OK) == 0;
}

int query_dir(const struct query *q, char **ret)
{
	auto_free char *dir = query_cache(q);
	char said[64];

	if (!dir)
		return -ENOENT;
	/* In a step of another mlfs: what is told here is no input that could be compared. */
	(void)!idx_ask_view(IDX_LOOKED_XATTR, said, sizeof(said));
	if (cache_in_view(dir)) {
		log_warn(
			"cannot use the cache %s in a step of another mlfs; set MLFS_CACHE to it for that one, too",
			dir);
		return -EXDEV;
	}
	*ret = take(dir);
	return 0;
}

enum open_for { TO_READ, TO_READ_FEW, TO_WRITE };

static int open_cache(const struct query *q, enum open_for what, struct idx **ret)
{
	auto_free char *dir = NULL;
	struct err e = {0};
	int r = query_dir(q, &dir);

	if (r < 0)
		return r;
	if (what == TO_READ_FEW)
		r = idx_open_few(dir, ret, &e);
	else if (what == TO_READ || is_cache(dir))
		r = idx_open(dir, what == TO_READ, ret, &e);
	else
		r = -ENOENT;
	if (r == -ENOENT)
		log_warn("there is no cache at %s", dir);
	else if (r < 0)
		log_warn("%s", e.msg);
	return r < 0 ? r : 0;
}

int query_open(const struct query *q, struct idx **ret)
{
	return open_cache(q, TO_READ, ret);
}

int query_open_few(const struct query *q, struct idx **ret)
{
	return open_cache(q, TO_READ_FEW, ret);
}

int query_open_to_write(const struct query *q, struct idx **ret)
{
	return open_cache(q, TO_WRITE, ret);
}

/* ---- a result by the beginning of its key ---- */

/* The result of a step that was stored last. 1, 0: it has none, -errno. */
static int latest_of(struct idx *x, const struct fp *step, struct fp *ret, struct err *e)
{
	auto_free struct fp *keys = NULL;
	struct result *res;
	size_t n = 0;
	int r = idx_step_results(x, step, &keys, &n, e);

	for (size_t i = 0; r >= 0 && i < n; i++) {
		r = idx_result_get_brief(x, &keys[i], &res, e);
		if (r <= 0)
			continue; /* dropped since */
		result_free(res);
		*ret = keys[i];
		return 1;
	}
	return r < 0 ? r : 0;
}

/* "3f2a91c0… (train.py)"; of a step, the name of its latest result. */
static char *key_text(struct idx *x, const struct fp *key, enum idx_key_kind kind)
{
	char text[2 * sizeof(key->b) + 1];
	struct fp named = *key;
	struct result *r;
	struct err e;
	char *told;

	hex(key, sizeof(*key), text);
	if ((kind == IDX_KEY_STEP && latest_of(x, key, &named, &e) <= 0) ||
	    idx_result_get_brief(x, &named, &r, &e) <= 0)
		return xstrdup(text);
	told = xasprintf("%s (%s)", text, r->name ? r->name : "");
	result_free(r);
	return told;
}

static int not_unique(struct idx *x, const char *prefix, enum idx_key_kind kind,
		      const struct fp *keys, size_t n)
{
	auto_buf struct buf list = {0};

	for (size_t i = 0; i < n && i < MAX_TOLD; i++) {
		auto_free char *text = key_text(x, &keys[i], kind);

		buf_addf(&list, "%s%s", i ? ", " : "", text);
	}
	buf_addf(&list, "%s", n > MAX_TOLD ? ", …" : "");
	buf_u8(&list, 0);
	log_warn("several keys begin with %s: %s", prefix, (const char *)list.data);
	return -ENOTUNIQ;
}

int query_seek(struct idx *x, const char *prefix, struct fp *ret, bool *ret_step, struct err *e)
{
	struct fp keys[MAX_TOLD + 1];
	size_t n = 0;
	int r = idx_keys(x, IDX_KEY_RESULT, prefix, keys, MAX_TOLD + 1, &n, e);

	if (ret_step)
		*ret_step = false;
	if (r == 0 && n == 1)
		*ret = keys[0];
	if (r == 0 && n > 1)
		return not_unique(x, prefix, IDX_KEY_RESULT, keys, n);
	if (r < 0 || n == 1)
		return r;
	if (ret_step)
		*ret_step = true;
	r = idx_keys(x, IDX_KEY_STEP, prefix, keys, MAX_TOLD + 1, &n, e);
	if (r == 0 && n > 1)
		return not_unique(x, prefix, IDX_KEY_STEP, keys, n);
	if (r == 0)
		r = n ? latest_of(x, &keys[0], ret, e) : 0;
	if (r > 0)
		return 0;
	return r < 0 ? r : err_text(e, ENOENT, "no result has a key that begins with %s", prefix);
}

int query_find(struct idx *x, const char *prefix, struct fp *ret)
{
	struct err e = {0};
	int r = query_seek(x, prefix, ret, NULL, &e);

	if (r < 0 && e.code)
		log_warn("%s", e.msg);
	return r;
}

char *query_path(const char *path)
{
	auto_free char *copy = xstrdup(path), *dir = NULL, *cwd = getcwd(NULL, 0);
	size_t n = strlen(copy);
	char *slash;

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	if (slash && (!slash[1] || strcmp(slash + 1, ".") == 0 || strcmp(slash + 1, "..") == 0))
		return realpath(copy, NULL);
	if (strcmp(copy, ".") == 0 || strcmp(copy, "..") == 0)
		return realpath(copy, NULL);
	if (!slash)
		return cwd ? xasprintf("%s/%s", cwd[1] ? cwd : "", copy) : NULL;
	*slash = '\0';
	dir = realpath(*copy ? copy : "/", NULL);
	if (dir)
		return xasprintf("%s/%s", dir[1] ? dir : "", slash + 1);
	/* The directory is gone; steps that knew it are found by its plain name. */
	return *path == '/' ? xasprintf("%s/%s", copy, slash + 1)
	       : cwd	    ? xasprintf("%s/%s/%s", cwd[1] ? cwd : "", copy, slash + 1)
			    : NULL;
}

int query_status(int r)
{
	return r >= 0 ? EXIT_SUCCESS : r == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
}

int printed_status(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	log_warn("cannot write to standard output: %s", strerror(errno));
	return EXIT_USAGE;
}
