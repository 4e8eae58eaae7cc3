/* SPDX-License-Identifier: MIT */
/* fs/mount*.c with a mount: what others are asked and told by it, and that it forgets. In a mount namespace of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../fs/fs.h"
#include "../../runner/view.h"

#define PROGRAM "#!/bin/sh\necho the program itself\n"

static struct world {
	char dir[64];
	char *src, *mnt;
	struct fs_mount *fs;
	int fd;
	pthread_t server;
	bool untried; /* no mount can be made here */
	sem_t entered, go_on;
	bool holds; /* intercept waits for go_on */
	char asked[256], told[256];
	pid_t pid;
} w;

static char *at(const char *dir, const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
	auto_free char *path = at(dir, name);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static char *get(const char *dir, const char *name)
{
	auto_free char *path = at(dir, name);
	char *text;
	size_t n;
	struct err e;

	return read_file(path, &text, &n, &e) < 0 ? NULL : text;
}

/* ---- the hooks ---- */

static char *intercept(void *arg, const struct fs_request *q, const struct stat *st, size_t *ret)
{
	(void)arg;
	if (strcmp(q->path, "bin/step") != 0)
		return NULL;
	assert_int_equal(st->st_size, strlen(PROGRAM));
	assert_int_equal(q->uid, geteuid());
	w.pid = q->pid;
	sem_post(&w.entered);
	if (w.holds)
		sem_wait(&w.go_on);
	*ret = strlen("#!/bin/echo instead\n");
	return xstrdup("#!/bin/echo instead\n");
}

static char *answer(void *arg, const struct fs_request *q, const char *question)
{
	(void)arg;
	return strcmp(question, "user.mlfs.test") == 0
		       ? xasprintf("%s %u %d", q->path, q->uid, q->pid == getpid())
		       : NULL;
}

static int told(void *arg, const struct fs_request *q, const char *name, const void *value,
		size_t size)
{
	(void)arg;
	snprintf(w.told, sizeof(w.told), "%s %s %.*s", q->path, name, (int)size,
		 (const char *)value);
	return strcmp(name, "user.mlfs.no") == 0 ? -EPERM : 0;
}

/* ---- the mount ---- */

static void *serve(void *arg)
{
	struct err e = {0};

	(void)arg;
	return fs_mount_serve(w.fs, w.fd, &e) < 0 ? xstrdup(e.msg) : NULL;
}

static int set_up(void **state)
{
	struct fs_mount_options o = {.intercept = intercept, .answer = answer, .told = told};
	struct view v = {.kind = view_kind()};
	struct err e = {0};
	auto_free char *bin = NULL;

	(void)state;
	strcpy(w.dir, "/tmp/mlfs-mount.XXXXXX");
	if (!mkdtemp(w.dir))
		return -1;
	w.src = at(w.dir, "src");
	w.mnt = at(w.dir, "mnt");
	bin = at(w.src, "bin");
	sem_init(&w.entered, 0, 0);
	sem_init(&w.go_on, 0, 0);
	if (mkdir(w.src, 0755) < 0 || mkdir(w.mnt, 0755) < 0 || mkdir(bin, 0755) < 0)
		return -1;
	v.mountpoint = w.mnt;
	w.untried = view_unshare(v.kind, &e) < 0 || view_mount_fuse(&v, &w.fd, &e) < 0;
	if (w.untried) {
		print_message("no mount here: %s\n", e.msg);
		return getenv("CI") ? -1 : 0;
	}
	o.root = open(w.src, O_PATH | O_DIRECTORY | O_CLOEXEC);
	o.passthrough = v.kind == VIEW_ROOT;
	if (fs_mount_new(&o, &w.fs, &e) < 0)
		return -1;
	return pthread_create(&w.server, NULL, serve, NULL) ? -1 : 0;
}

static int tear_down(void **state)
{
	auto_free char *command = xasprintf("rm -rf %s", w.dir);
	void *wrong = NULL;

	(void)state;
	if (!w.untried) {
		if (umount2(w.mnt, MNT_DETACH) < 0 || pthread_join(w.server, &wrong) || wrong)
			return -1;
		fs_mount_free(w.fs);
	}
	free(w.src);
	free(w.mnt);
	return system(command) ? -1 : 0;
}

/* Execute a file of the mount; what it prints (caller frees). */
static char *run(const char *name, pid_t *ret_pid)
{
	auto_free char *path = at(w.mnt, name);
	char *text = xcalloc(1, 512);
	int p[2], status;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		execl(path, path, "arg", (char *)NULL);
		_exit(99);
	}
	close(p[1]);
	assert_true(read_full(p[0], text, 511) >= 0);
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	if (ret_pid)
		*ret_pid = pid;
	return text;
}

static void *run_step(void *arg)
{
	(void)arg;
	return run("bin/step", NULL);
}

/* ---- tests ---- */

static void other_bytes_for_who_executes(void **state)
{
	auto_free char *a = NULL, *b = NULL, *said = xasprintf("instead %s/bin/step arg\n", w.mnt);
	pid_t pid;

	(void)state;
	if (w.untried)
		skip();
	put(w.src, "bin/step", PROGRAM, 0755);
	put(w.src, "bin/other", PROGRAM, 0755);
	a = run("bin/step", &pid);
	assert_string_equal(a, said);
	assert_int_equal(w.pid, pid);
	b = run("bin/other", NULL);
	assert_string_equal(b, "the program itself\n");
	sem_wait(&w.entered);
}

/* While one is being executed, and the hook takes its time. */
static void everybody_else_has_the_file(void **state)
{
	auto_free char *path = at(w.mnt, "bin/step"), *read_now = NULL, *after = NULL;
	auto_close int fd = -1;
	pthread_t t;
	void *said;
	char *map;

	(void)state;
	if (w.untried)
		skip();
	put(w.src, "bin/step", PROGRAM, 0755);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	w.holds = true;
	assert_int_equal(pthread_create(&t, NULL, run_step, NULL), 0);
	sem_wait(&w.entered);
	assert_memory_equal(map, PROGRAM, strlen(PROGRAM));
	read_now = get(w.mnt, "bin/step");
	assert_string_equal(read_now, PROGRAM);
	put(w.mnt, "bin/new", "x", 0644);
	sem_post(&w.go_on);
	assert_int_equal(pthread_join(t, &said), 0);
	w.holds = false;
	assert_non_null(strstr(said, "instead"));
	free(said);
	after = get(w.mnt, "bin/step");
	assert_string_equal(after, PROGRAM);
	assert_memory_equal(map, PROGRAM, strlen(PROGRAM));
	assert_int_equal(munmap(map, 4096), 0);
}

static void questions_are_answered(void **state)
{
	auto_free char *path = at(w.mnt, "bin/step"),
		       *wanted = xasprintf("bin/step %u 1", geteuid());
	char text[256] = {0};

	(void)state;
	if (w.untried)
		skip();
	put(w.src, "bin/step", PROGRAM, 0755);
	assert_int_equal(getxattr(path, "user.mlfs.test", text, sizeof(text)), strlen(wanted));
	assert_string_equal(text, wanted);
	assert_int_equal(getxattr(w.mnt, "user.mlfs.test", NULL, 0), strlen(wanted) - 8);
	assert_int_equal(getxattr(path, "user.mlfs.nothing", text, sizeof(text)), -1);
	assert_int_equal(errno, ENODATA);
	assert_int_equal(setxattr(path, "user.mlfs.yes", "abc", 3, 0), 0);
	assert_string_equal(w.told, "bin/step user.mlfs.yes abc");
	assert_int_equal(setxattr(path, "user.mlfs.no", "abc", 3, 0), -1);
	assert_int_equal(errno, EPERM);
}

static void what_changed_past_it_is_seen_at_once(void **state)
{
	auto_free char *absent = at(w.mnt, "later"), *gone = at(w.mnt, "sooner"),
		       *in_src = at(w.src, "sooner"), *text = NULL;
	struct stat st;

	(void)state;
	if (w.untried)
		skip();
	put(w.src, "sooner", "x", 0644);
	for (int k = 0; k < 3; k++) {
		assert_int_equal(stat(gone, &st), 0);
		assert_int_equal(stat(absent, &st), -1);
	}
	put(w.src, "later", "now", 0644);
	assert_int_equal(unlink(in_src), 0);
	assert_int_equal(getxattr(w.mnt, FS_ASK_REFRESH, NULL, 0), 0);
	assert_int_equal(stat(absent, &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(stat(gone, &st), -1);
	put(w.src, "later", "and then", 0600);
	assert_int_equal(getxattr(w.mnt, FS_ASK_REFRESH, NULL, 0), 0);
	assert_int_equal(stat(absent, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(st.st_mode & 07777, 0644); /* put does not change it */
	text = get(w.mnt, "later");
	assert_string_equal(text, "and then");
}

static size_t nodes(void)
{
	auto_buf struct buf b = {0};
	size_t n;

	fs_mount_counts(w.fs, &b, &n);
	return n;
}

static void what_is_gone_is_forgotten(void **state)
{
	auto_free char *dir = at(w.mnt, "d");
	size_t before;

	(void)state;
	if (w.untried)
		skip();
	before = nodes();
	for (int k = 0; k < 3000; k++) {
		auto_free char *name = xasprintf("d/%d", k), *path = at(w.mnt, name);

		assert_true(k % 1000 != 0 || mkdir(dir, 0755) == 0 || errno == EEXIST);
		put(w.mnt, name, "x", 0644);
		if (k % 2) {
			auto_free char *to = at(w.mnt, "renamed");

			assert_int_equal(rename(path, to), 0);
		} else {
			assert_int_equal(unlink(path), 0);
		}
	}
	assert_int_equal(rmdir(dir), 0);
	/* The last of FORGET and RELEASE are answered by nobody. */
	for (int k = 0; k < 500 && nodes() > before + 20; k++)
		usleep(10000);
	assert_in_range(nodes(), 1, before + 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_bytes_for_who_executes),
		cmocka_unit_test(everybody_else_has_the_file),
		cmocka_unit_test(questions_are_answered),
		cmocka_unit_test(what_changed_past_it_is_seen_at_once),
		cmocka_unit_test(what_is_gone_is_forgotten),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
