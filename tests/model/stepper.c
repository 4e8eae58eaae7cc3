/* SPDX-License-Identifier: MIT */
/*
 * stepper.c - does the file operations that a script lists, and prints what each of them saw. A step for the
 * model test (oracle.py): small, deterministic, and what it does later depends on what it saw before.
 *
 *   stepper [-t LOG] SCRIPT-FILE
 *
 * A line is an operation and its arguments, with a blank between; %XX stands for a byte, # for the number that was
 * seen last, modulo 3, - alone for the empty word. `when K M OP …` does OP only if what was seen so far is K modulo
 * M. All that is seen (results, errnos, bytes) goes into one number, which is printed with each operation.
 *
 * -t: writes to LOG "C INO" for each file whose content was learned (of directories and links as well; reading past
 * the end tells no more than looking at the file) and
 * "T INO" for each that was truncated, "R INO" for each that was replaced or removed (but may be read on by who has
 * it open), so that oracle.py knows what an input is.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_WORDS 8
#define SLOTS	  4

static uint64_t seen = 14695981039346656037u;
static int slots[SLOTS] = {-1, -1, -1, -1};
static FILE *trace;

static void see(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		seen = (seen ^ ((const unsigned char *)p)[i]) * 1099511628211u;
}

static void see_number(long long v)
{
	see(&v, sizeof(v));
}

static void note(char what, const struct stat *st)
{
	if (trace)
		fprintf(trace, "%c %llu\n", what, (unsigned long long)st->st_ino);
}

static void note_fd(char what, int fd)
{
	struct stat st;

	if (trace && fstat(fd, &st) == 0)
		note(what, &st);
}

static void note_path(char what, const char *path)
{
	struct stat st;

	if (trace && lstat(path, &st) == 0)
		note(what, &st);
}

/* Everything below a directory moves with it. */
static void note_tree(char what, const char *path)
{
	DIR *d = trace ? opendir(path) : NULL;
	struct dirent *de;
	char name[PATH_MAX];
	struct stat st;

	note_path(what, path);
	if (trace && (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))) {
		if (d)
			closedir(d);
		return;
	}
	while (d && (de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if ((size_t)snprintf(name, sizeof(name), "%s/%s", path, de->d_name) < sizeof(name))
			note_tree(what, name);
	}
	if (d)
		closedir(d);
}

static int read_fd(int fd, off_t off, size_t want)
{
	char buf[8192];
	size_t done = 0;
	ssize_t n = 0;

	while (done < want) {
		size_t k = want - done < sizeof(buf) ? want - done : sizeof(buf);

		n = pread(fd, buf, k, off + (off_t)done);
		if (n <= 0)
			break;
		note_fd('C', fd);
		see(buf, (size_t)n);
		done += (size_t)n;
	}
	see_number((long long)done);
	return n < 0 ? -1 : (int)done;
}

static int do_read(const char *path, off_t off, size_t want)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -1;
	r = read_fd(fd, off, want);
	close(fd);
	return r;
}

static int write_open(int fd, off_t off, const char *data, bool part)
{
	size_t n = strlen(data);
	ssize_t r;

	if (fd < 0)
		return -1;
	if (part)
		note_fd('C', fd);
	r = off < 0 ? write(fd, data, n) : pwrite(fd, data, n, off);
	close(fd);
	return (int)r;
}

static int do_write(const char *path, int flags, off_t off, const char *data)
{
	struct stat st;
	bool there = stat(path, &st) == 0;
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0666);

	if (fd >= 0 && there && (flags & O_TRUNC))
		note('T', &st);
	return write_open(fd, off, data, there && !(flags & O_TRUNC));
}

static int do_stat(const char *path, bool follow)
{
	struct stat st;
	int r = follow ? stat(path, &st) : lstat(path, &st);

	if (r < 0)
		return r;
	see_number(st.st_mode);
	if (S_ISREG(st.st_mode))
		see_number(st.st_size);
	return (int)(st.st_mode & 07777);
}

static int do_list(const char *path)
{
	struct dirent **v;
	int n = scandir(path, &v, NULL, alphasort);

	if (n < 0)
		return -1;
	note_path('C', path);
	for (int i = 0; i < n; i++) {
		see(v[i]->d_name, strlen(v[i]->d_name) + 1);
		see_number(v[i]->d_type);
		free(v[i]);
	}
	free(v);
	return n;
}

static int do_readlink(const char *path)
{
	char buf[PATH_MAX];
	ssize_t n = readlink(path, buf, sizeof(buf));

	if (n < 0)
		return -1;
	note_path('C', path);
	see(buf, (size_t)n);
	return (int)n;
}

static int do_rename(const char *a, const char *b, unsigned flags)
{
	struct stat from, to;
	bool there = lstat(b, &to) == 0;

	if (lstat(a, &from) < 0 || (there && from.st_ino == to.st_ino))
		there = false;
	if (there && (S_ISDIR(to.st_mode) || (flags & RENAME_NOREPLACE)))
		note('C', &to);
	if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags) < 0)
		return -1;
	note_tree('C', b);
	if (flags & RENAME_EXCHANGE)
		note_tree('C', a);
	else if (there)
		note('R', &to);
	return 0;
}

static int do_remove(const char *path, bool dir)
{
	struct stat st;
	bool there = lstat(path, &st) == 0;

	if (there && dir)
		note('C', &st); /* whether it is empty */
	if ((dir ? rmdir(path) : unlink(path)) < 0)
		return -1;
	if (there)
		note('R', &st);
	return 0;
}

static int do_rmtree(const char *path)
{
	struct dirent **v;
	struct stat st;
	char name[PATH_MAX];
	int n;

	if (lstat(path, &st) < 0)
		return -1;
	if (!S_ISDIR(st.st_mode))
		return do_remove(path, false);
	n = scandir(path, &v, NULL, alphasort);
	note('C', &st);
	for (int i = 0; i < n; i++) {
		if (strcmp(v[i]->d_name, ".") && strcmp(v[i]->d_name, "..") &&
		    (size_t)snprintf(name, sizeof(name), "%s/%s", path, v[i]->d_name) <
			    sizeof(name))
			(void)!do_rmtree(name);
		free(v[i]);
	}
	if (n >= 0)
		free(v);
	return do_remove(path, true);
}

static int do_map(const char *path, const char *data)
{
	int fd = open(path, (data ? O_RDWR : O_RDONLY) | O_CLOEXEC), r = -1;
	struct stat st;
	char *p;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	note('C', &st);
	p = mmap(NULL, (size_t)st.st_size, data ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		 fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -1;
	if (data)
		for (size_t i = 0; data[i] && i < (size_t)st.st_size; i++)
			p[i] = data[i];
	see(p, (size_t)st.st_size);
	r = (int)st.st_size;
	munmap(p, (size_t)st.st_size);
	return r;
}

static int do_copy(const char *a, const char *b)
{
	int in = open(a, O_RDONLY | O_CLOEXEC), out;
	struct stat st;
	bool there = stat(b, &st) == 0;
	ssize_t n = -1;

	if (in < 0)
		return -1;
	out = open(b, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out >= 0) {
		if (there)
			note('T', &st);
		note_fd('C', in);
		while ((n = copy_file_range(in, NULL, out, NULL, 1 << 20, 0)) > 0)
			see_number(n);
		close(out);
	}
	close(in);
	return (int)n;
}

/* A file without a name, given one when it is done. */
static int do_tmpfile(const char *dir, const char *path, const char *data)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0640), r;
	char proc[40];

	if (fd < 0)
		return -1;
	r = (int)write(fd, data, strlen(data));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
		r = -1;
	close(fd);
	return r;
}

static int do_open(int slot, const char *path, const char *how)
{
	int flags = strchr(how, 'w') ? O_RDWR : O_RDONLY;
	struct stat st;
	bool there = stat(path, &st) == 0;

	if (strchr(how, 'c'))
		flags |= O_CREAT;
	if (strchr(how, 't'))
		flags |= O_TRUNC;
	if (slots[slot] >= 0)
		close(slots[slot]);
	slots[slot] = open(path, flags | O_CLOEXEC, 0666);
	if (slots[slot] >= 0 && there && (flags & O_TRUNC))
		note('T', &st);
	return slots[slot] < 0 ? -1 : 0;
}

static int do_touch(const char *path)
{
	note_path('C', path);
	return utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

static int do_chmod(const char *path, const char *mode)
{
	struct stat st;

	if (stat(path, &st) == 0)
		note('C', &st);
	return chmod(path, (mode_t)strtoul(mode, NULL, 8));
}

static int do_link(const char *a, const char *b)
{
	int r = linkat(AT_FDCWD, a, AT_FDCWD, b, 0);

	if (r == 0)
		note_path('C', a);
	return r;
}

static int do_truncate(const char *path, off_t size)
{
	struct stat st;

	if (stat(path, &st) == 0)
		note(size ? 'C' : 'T', &st);
	return truncate(path, size);
}

static int do_hole(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -1;
	note_fd('C', fd);
	r = (int)lseek(fd, 0, SEEK_DATA);
	close(fd);
	return r < 0 ? -1 : 0; /* where data begins differs by file system */
}

static int slot_of(const char *s)
{
	return (s[0] & 3) % SLOTS;
}

static int on_slot(const char *op, char **w)
{
	int fd = slots[slot_of(w[1])];
	struct stat st;

	if (!strcmp(op, "fread"))
		return fd < 0 ? (errno = EBADF, -1) : read_fd(fd, atoi(w[2]), (size_t)atoi(w[3]));
	if (!strcmp(op, "fwrite")) {
		if (fd >= 0)
			note_fd('C', fd);
		return (int)pwrite(fd, w[3], strlen(w[3]), atoi(w[2]));
	}
	if (!strcmp(op, "ftrunc")) {
		note_fd(atoi(w[2]) ? 'C' : 'T', fd);
		return ftruncate(fd, atoi(w[2]));
	}
	if (fstat(fd, &st) < 0)
		return -1;
	see_number(st.st_size);
	return (int)(st.st_mode & 07777);
}

static int perform(char **w)
{
	const char *op = w[0];

	if (!strcmp(op, "read"))
		return do_read(w[1], 0, SIZE_MAX / 2);
	if (!strcmp(op, "pread"))
		return do_read(w[1], atoi(w[2]), (size_t)atoi(w[3]));
	if (!strcmp(op, "probe"))
		return access(w[1], F_OK);
	if (!strcmp(op, "stat"))
		return do_stat(w[1], true);
	if (!strcmp(op, "lstat"))
		return do_stat(w[1], false);
	if (!strcmp(op, "list"))
		return do_list(w[1]);
	if (!strcmp(op, "readlink"))
		return do_readlink(w[1]);
	if (!strcmp(op, "create"))
		return do_write(w[1], O_CREAT | O_EXCL, -1, w[2]);
	if (!strcmp(op, "write"))
		return do_write(w[1], O_CREAT | O_TRUNC, -1, w[2]);
	if (!strcmp(op, "append"))
		return do_write(w[1], O_APPEND, -1, w[2]);
	if (!strcmp(op, "appendc"))
		return do_write(w[1], O_CREAT | O_APPEND, -1, w[2]);
	if (!strcmp(op, "pwrite"))
		return do_write(w[1], 0, atoi(w[2]), w[3]);
	if (!strcmp(op, "trunc"))
		return do_truncate(w[1], atoi(w[2]));
	if (!strcmp(op, "rename"))
		return do_rename(w[1], w[2], 0);
	if (!strcmp(op, "exchange"))
		return do_rename(w[1], w[2], RENAME_EXCHANGE);
	if (!strcmp(op, "renamenew"))
		return do_rename(w[1], w[2], RENAME_NOREPLACE);
	if (!strcmp(op, "unlink"))
		return do_remove(w[1], false);
	if (!strcmp(op, "rmdir"))
		return do_remove(w[1], true);
	if (!strcmp(op, "rmtree"))
		return do_rmtree(w[1]);
	if (!strcmp(op, "mkdir"))
		return mkdir(w[1], (mode_t)strtoul(w[2], NULL, 8));
	if (!strcmp(op, "chmod"))
		return do_chmod(w[1], w[2]);
	if (!strcmp(op, "mapread"))
		return do_map(w[1], NULL);
	if (!strcmp(op, "mapwrite"))
		return do_map(w[1], w[2]);
	if (!strcmp(op, "link"))
		return do_link(w[1], w[2]);
	if (!strcmp(op, "symlink"))
		return symlink(w[1], w[2]);
	if (!strcmp(op, "tmpfile"))
		return do_tmpfile(w[1], w[2], w[3]);
	if (!strcmp(op, "copy"))
		return do_copy(w[1], w[2]);
	if (!strcmp(op, "touch"))
		return do_touch(w[1]);
	if (!strcmp(op, "hole"))
		return do_hole(w[1]);
	if (!strcmp(op, "cd"))
		return chdir(w[1]);
	if (!strcmp(op, "open"))
		return do_open(slot_of(w[1]), w[2], w[3]);
	if (op[0] == 'f')
		return on_slot(op, w);
	fprintf(stderr, "stepper: unknown operation %s\n", op);
	exit(99);
}

static int hex(int c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static void decode(char *s)
{
	char *to = s;

	if (!strcmp(s, "-"))
		s[0] = '\0';
	for (; *s; s++) {
		if (*s == '%' && s[1] && s[2]) {
			*to++ = (char)(hex(s[1]) * 16 + hex(s[2]));
			s += 2;
		} else if (*s == '#') {
			*to++ = (char)('0' + seen % 3);
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static void line(char *s, int number)
{
	static char nothing[1];
	char *words[MAX_WORDS + 4], **w = words, *save = NULL;
	int n = 0, r;

	for (char *p = strtok_r(s, " \n", &save); p && n < MAX_WORDS;
	     p = strtok_r(NULL, " \n", &save))
		words[n++] = p;
	if (!n)
		return;
	for (int k = n; k < MAX_WORDS + 4; k++)
		words[k] = nothing;
	while (!strcmp(w[0], "when")) {
		if (seen % (unsigned)atoi(w[2]) != (unsigned)atoi(w[1]))
			return;
		w += 3;
	}
	for (char **p = w + 1; p < words + n; p++)
		decode(*p);
	if (!strcmp(w[0], "exit")) {
		fflush(NULL);
		_exit(atoi(w[1]));
	}
	errno = 0;
	r = perform(w);
	see_number(r);
	if (r < 0)
		see_number(errno);
	fprintf(number % 3 ? stdout : stderr, "%d %s %d %s %llx\n", number, w[0], r,
		r < 0 ? strerror(errno) : "", (unsigned long long)seen);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char buf[8192];
	FILE *f;

	if (argc == 4 && !strcmp(argv[1], "-t")) {
		trace = fopen(argv[2], "we");
		argv += 2;
		argc -= 2;
	}
	f = argc == 2 ? fopen(argv[1], "re") : NULL;
	if (!f) {
		fprintf(stderr, "usage: stepper [-t LOG] SCRIPT-FILE\n");
		return 98;
	}
	umask(022);
	for (int number = 1; fgets(buf, sizeof(buf), f); number++)
		line(buf, number);
	fclose(f);
	if (trace)
		fclose(trace);
	return (int)(seen % 5 == 0);
}
