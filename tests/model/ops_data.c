/* SPDX-License-Identifier: MIT */
/* ops_data.c - the stepper's operations on what files hold. Each says what it saw through see(), and to the log what
 * it learned. */
#include "stepper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS	   4
/* Never wait for the other end of a fifo. */
#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static int slots[SLOTS] = {-1, -1, -1, -1};

/* ---- reading ---- */

/* The first word of what was read, when it can be a name: what comes later may use it. */
static void keep_word(const char *p, size_t n)
{
	size_t k = 0;

	while (k < n && k < sizeof(word) - 1 &&
	       (strchr("/._", p[k]) || (p[k] | 32) - 'a' + 0u < 26) && p[k])
		k++;
	if (!k || p[0] == '/')
		return;
	memcpy(word, p, k);
	word[k] = '\0';
}

static int read_fd(int fd, off_t off, size_t want, bool stream)
{
	char buf[8192];
	size_t done = 0;
	ssize_t n = 0;

	while (done < want) {
		size_t k = want - done < sizeof(buf) ? want - done : sizeof(buf);

		n = stream ? read(fd, buf, k) : pread(fd, buf, k, off + (off_t)done);
		if (n <= 0)
			break;
		if (!stream)
			note_fd('C', fd);
		if (!done)
			keep_word(buf, (size_t)n);
		see(buf, (size_t)n);
		done += (size_t)n;
	}
	see_number((long long)done);
	return n < 0 ? -1 : (int)done;
}

static int do_read(const char *path, off_t off, size_t want)
{
	int fd = open(path, O_RDONLY | OPEN_FLAGS), r;

	note_name('P', path);
	if (fd < 0)
		return -1;
	r = read_fd(fd, off, want, false);
	close(fd);
	return r;
}

static int op_read(char **w)
{
	return do_read(w[1], 0, SIZE_MAX / 2);
}

static int op_pread(char **w)
{
	return do_read(w[1], atoi(w[2]), (size_t)atoi(w[3]));
}

static int op_probe(char **w)
{
	note_name('P', w[1]);
	return access(w[1], w[2][0] ? atoi(w[2]) : F_OK);
}

static int do_stat(const char *path, bool follow)
{
	struct stat st;
	int r = follow ? stat(path, &st) : lstat(path, &st);

	note_name('P', path);
	if (r < 0)
		return r;
	see_number(st.st_mode);
	if (S_ISREG(st.st_mode))
		see_number(st.st_size);
	return (int)(st.st_mode & 07777);
}

static int op_stat(char **w)
{
	return do_stat(w[1], true);
}

static int op_lstat(char **w)
{
	return do_stat(w[1], false);
}

static int op_list(char **w)
{
	struct dirent **v;
	int n = scandir(w[1], &v, NULL, alphasort);

	note_name('P', w[1]);
	if (n < 0)
		return -1;
	note_followed('C', w[1]);
	note_followed('L', w[1]);
	for (int i = 0; i < n; i++) {
		see(v[i]->d_name, strlen(v[i]->d_name) + 1);
		see_number(v[i]->d_type);
	}
	for (int i = 0; i < n; i++) {
		if (i == (int)(seen % (unsigned)n) && v[i]->d_name[0] != '.')
			snprintf(name, sizeof(name), "%s%s%s", w[1], w[1][0] ? "/" : "",
				 v[i]->d_name);
		free(v[i]);
	}
	free(v);
	return n;
}

static int op_readlink(char **w)
{
	char buf[PATH_MAX];
	ssize_t n = readlink(w[1], buf, sizeof(buf));

	note_name('P', w[1]);
	if (n < 0)
		return -1;
	note_path('C', w[1]);
	see(buf, (size_t)n);
	return (int)n;
}

static int op_stdin(char **w)
{
	return read_fd(0, 0, w[1][0] ? (size_t)atoi(w[1]) : SIZE_MAX / 2, true);
}

static int op_cwd(char **w)
{
	char buf[PATH_MAX];

	(void)w;
	if (!getcwd(buf, sizeof(buf)))
		return -1;
	see(buf, strlen(buf));
	return 0;
}

/* ---- writing ---- */

/* Open for writing what a path leads to. A file there goes, or goes on. */
static int open_for(const char *path, int flags, mode_t mode)
{
	struct stat st;
	bool there = stat(path, &st) == 0;
	int fd = open(path, flags | OPEN_FLAGS, mode);

	note_name('P', path);
	if (fd < 0)
		return -1;
	if (there && (flags & O_TRUNC) && S_ISREG(st.st_mode))
		note_fd('T', fd);
	if (!there && (flags & O_CREAT))
		note_followed('N', path);
	return fd;
}

static int do_write(const char *path, int flags, off_t off, const char *data)
{
	int fd = open_for(path, O_WRONLY | flags, 0666);
	size_t n = strlen(data);
	struct stat st;
	ssize_t r;

	if (fd < 0)
		return -1;
	if (!(flags & O_TRUNC) && fstat(fd, &st) == 0 && st.st_size)
		note_fd('C', fd);
	r = off < 0 ? write(fd, data, n) : pwrite(fd, data, n, off);
	close(fd);
	return (int)r;
}

static int op_create(char **w)
{
	return do_write(w[1], O_CREAT | O_EXCL, -1, w[2]);
}

static int op_write(char **w)
{
	return do_write(w[1], O_CREAT | O_TRUNC, -1, w[2]);
}

static int op_append(char **w)
{
	return do_write(w[1], O_APPEND, -1, w[2]);
}

static int op_appendc(char **w)
{
	return do_write(w[1], O_CREAT | O_APPEND, -1, w[2]);
}

static int op_pwrite(char **w)
{
	return do_write(w[1], 0, atoi(w[2]), w[3]);
}

static int op_trunc(char **w)
{
	off_t size = atoll(w[2]);

	note_name('P', w[1]);
	note_followed(size ? 'C' : 'T', w[1]);
	return truncate(w[1], size);
}

static int op_falloc(char **w)
{
	int fd = open_for(w[1], O_RDWR, 0), r;

	if (fd < 0)
		return -1;
	note_fd('C', fd);
	r = fallocate(fd, atoi(w[4]), atoll(w[2]), atoll(w[3]));
	close(fd);
	return r;
}

static int op_map(char **w)
{
	const char *data = !strcmp(w[0], "mapwrite") ? w[2] : NULL;
	int fd = open(w[1], (data ? O_RDWR : O_RDONLY) | OPEN_FLAGS), r = -1;
	struct stat st;
	char *p;

	note_name('P', w[1]);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	note_fd('C', fd);
	p = mmap(NULL, (size_t)st.st_size, data ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		 fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -1;
	if (data)
		for (size_t i = 0; data[i] && i < (size_t)st.st_size; i++)
			p[i] = data[i];
	see(p, st.st_size < 1 << 20 ? (size_t)st.st_size : 1 << 20);
	r = (int)st.st_size;
	munmap(p, (size_t)st.st_size);
	return r;
}

static int op_copy(char **w)
{
	int in = open(w[1], O_RDONLY | OPEN_FLAGS), out;
	ssize_t n = -1;

	note_name('P', w[1]);
	if (in < 0)
		return -1;
	out = open_for(w[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (out >= 0) {
		note_fd('C', in);
		while ((n = !strcmp(w[0], "send")
				    ? sendfile(out, in, NULL, 1 << 20)
				    : copy_file_range(in, NULL, out, NULL, 1 << 20, 0)) > 0)
			see_number(n);
		close(out);
	}
	close(in);
	return (int)n;
}

/* A file without a name, given one when it is done. */
static int op_tmpfile(char **w)
{
	int fd = open(w[1], O_TMPFILE | O_RDWR | O_CLOEXEC, 0640), r;
	char proc[40];

	if (fd < 0)
		return -1;
	note_name('P', w[2]);
	r = (int)write(fd, w[3], strlen(w[3]));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, AT_FDCWD, w[2], AT_SYMLINK_FOLLOW) < 0)
		r = -1;
	else
		note_name('N', w[2]);
	close(fd);
	return r;
}

/* Where data begins differs by file system; whether there is some does not. Of small files copies of a world may hold zeros
 * where there was a hole (tree.py). */
static int op_hole(char **w)
{
	int fd = open(w[1], O_RDONLY | OPEN_FLAGS), r;
	struct stat st;

	note_name('P', w[1]);
	if (fd < 0)
		return -1;
	note_fd('C', fd);
	r = lseek(fd, 0, SEEK_DATA) < 0 && fstat(fd, &st) == 0 && st.st_size >= 1 << 20 ? -1 : 0;
	close(fd);
	return r;
}

/* ---- files that stay open ---- */

static int *slot_of(const char *s)
{
	return &slots[(s[0] & 3) % SLOTS];
}

static int op_open(char **w)
{
	static const struct {
		char letter;
		int flag;
	} letters[] = {{'c', O_CREAT},	  {'t', O_TRUNC},     {'a', O_APPEND}, {'x', O_EXCL},
		       {'n', O_NOFOLLOW}, {'d', O_DIRECTORY}, {'p', O_PATH}};
	int *slot = slot_of(w[1]), flags = strchr(w[3], 'w') ? O_RDWR : O_RDONLY;

	for (size_t i = 0; i < sizeof(letters) / sizeof(*letters); i++)
		if (strchr(w[3], letters[i].letter))
			flags |= letters[i].flag;
	if (*slot >= 0)
		close(*slot);
	*slot = open_for(w[2], flags, 0666);
	return *slot < 0 ? -1 : 0;
}

static int op_fread(char **w)
{
	return read_fd(*slot_of(w[1]), atoi(w[2]), (size_t)atoi(w[3]), false);
}

/* What is in the file goes on; in one that has no name any more nowhere. */
static void note_kept(int fd)
{
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink)
		note_fd('C', fd);
}

static int op_fwrite(char **w)
{
	int fd = *slot_of(w[1]);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size)
		note_kept(fd);
	return (int)pwrite(fd, w[3], strlen(w[3]), atoi(w[2]));
}

static int op_ftrunc(char **w)
{
	int fd = *slot_of(w[1]);

	if (atoi(w[2]))
		note_kept(fd);
	else if (fd >= 0)
		note_fd('T', fd);
	return ftruncate(fd, atoi(w[2]));
}

static int op_fchmod(char **w)
{
	int fd = *slot_of(w[1]);

	note_kept(fd);
	return fchmod(fd, (mode_t)strtoul(w[2], NULL, 8));
}

static int op_fstat(char **w)
{
	struct stat st;

	if (fstat(*slot_of(w[1]), &st) < 0)
		return -1;
	see_number(st.st_mode);
	if (S_ISREG(st.st_mode))
		see_number(st.st_size);
	return (int)(st.st_mode & 07777);
}

/* A script of the world. */
static int op_exec(char **w)
{
	int status, code = 0, p[2];
	pid_t pid;

	/* A file that is open for writing cannot be executed; the view does not know that it is. */
	for (int i = 0; i < SLOTS; i++) {
		if (slots[i] >= 0)
			close(slots[i]);
		slots[i] = -1;
	}
	note_name('P', w[1]);
	if (pipe2(p, O_CLOEXEC) < 0)
		abort();
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl(w[1], w[1], w[2], NULL);
		code = errno;
		if (write(p[1], &code, sizeof(code)) != sizeof(code))
			abort();
		_exit(100 + (code & 31));
	}
	close(p[1]);
	if (pid > 0 && read(p[0], &code, sizeof(code)) < 0)
		abort();
	close(p[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	if (code != ENOENT && code != ENOTDIR && code != EACCES && code != ELOOP)
		note_followed('C', w[1]);
	if (!code) { /* the scripts of the worlds read it */
		note_name('P', "a");
		note_followed('C', "a");
	}
	see_number(status);
	return WEXITSTATUS(status);
}

const struct op ops_data[] = {
	{"append", op_append}, {"appendc", op_appendc},	  {"copy", op_copy},
	{"create", op_create}, {"cwd", op_cwd},		  {"exec", op_exec},
	{"falloc", op_falloc}, {"fchmod", op_fchmod},	  {"fread", op_fread},
	{"fstat", op_fstat},   {"ftrunc", op_ftrunc},	  {"fwrite", op_fwrite},
	{"hole", op_hole},     {"list", op_list},	  {"lstat", op_lstat},
	{"mapread", op_map},   {"mapwrite", op_map},	  {"open", op_open},
	{"pread", op_pread},   {"probe", op_probe},	  {"pwrite", op_pwrite},
	{"read", op_read},     {"readlink", op_readlink}, {"send", op_copy},
	{"stat", op_stat},     {"stdin", op_stdin},	  {"tmpfile", op_tmpfile},
	{"trunc", op_trunc},   {"write", op_write},	  {NULL, NULL},
};
