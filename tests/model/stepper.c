/* SPDX-License-Identifier: MIT */
/*
 * stepper.c - does the file operations that a script lists, and prints what each of them saw. A step for the
 * model test (oracle.py): small, deterministic, and what it does later depends on what it saw before.
 *
 *   stepper [-t LOG] SCRIPT-FILE
 *
 * A line is an operation and its arguments, with a blank between. In an argument %XX stands for a byte, # for what
 * was seen so far modulo 3, ^ for the first word of what was read last, ~ for one of the names listed last (which,
 * depends on what was seen); - alone is the empty word. All that is seen (results, errnos, bytes) goes into one
 * number, which is printed with each operation. Before an operation may stand:
 *
 *   when K M    only if what was seen so far is K modulo M
 *   each D      for every name in the directory D, in order, as ~
 *   child       in a process of its own, which is waited for
 *   orphan      in a process whose parent is gone, to its end
 *   bg          in a process beside this one, until the line `wait`
 *   late        in a process that begins when this one is gone
 *
 * -t: what was learned and done goes to LOG; see stepper.h.
 */
#include "stepper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_BG 16

uint64_t seen = 14695981039346656037u;
char word[256] = "a", name[1024] = "b";
static pid_t bg[MAX_BG];
static int n_bg;
static bool quiet;

void see(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		seen = (seen ^ ((const unsigned char *)p)[i]) * 1099511628211u;
}

void see_number(long long v)
{
	see(&v, sizeof(v));
}

static int hex(int c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static void decode(const char *s, char *to, size_t room)
{
	char *end = to + room - 1;

	if (!strcmp(s, "-"))
		s++;
	for (; *s && to < end; s++) {
		const char *put = *s == '^' ? word : *s == '~' ? name : NULL;

		if (put) {
			to += snprintf(to, (size_t)(end - to), "%s", put);
			if (to > end)
				to = end;
		} else if (*s == '%' && s[1] && s[2]) {
			*to++ = (char)(hex(s[1]) * 16 + hex(s[2]));
			s += 2;
		} else {
			*to++ = *s == '#' ? (char)('0' + seen % 3) : *s;
		}
	}
	*to = '\0';
}

static void run(char **w, int n, int number);

static pid_t start(char **w, int n, int number)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		n_bg = 0;
		run(w, n, number);
		fflush(NULL);
		_exit((int)(seen % 61));
	}
	return pid;
}

static void reap(pid_t pid)
{
	int status = -1;

	if (pid > 0 && waitpid(pid, &status, 0) == pid)
		see_number(status);
}

/* What waits for the other end of the pipe to close, which all but the child keep open until they end. */
static void start_late(char **w, int n, int number)
{
	int p[2];
	char c;

	if (pipe2(p, O_CLOEXEC) < 0)
		abort();
	fflush(NULL);
	if (fork() == 0) {
		close(p[1]);
		n_bg = 0;
		if (read(p[0], &c, 1) != 0)
			abort();
		run(w, n, number);
		fflush(NULL);
		_exit(0);
	}
	close(p[0]);
}

static void run_orphan(char **w, int n, int number)
{
	int p[2];
	char c;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		abort();
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(p[0]);
		if (fork() == 0) {
			n_bg = 0;
			run(w, n, number);
			fflush(NULL);
		}
		_exit(0);
	}
	close(p[1]);
	reap(pid);
	if (read(p[0], &c, 1) != 0)
		abort();
	close(p[0]);
}

static void each(const char *dir, char **w, int n, int number)
{
	char path[512];
	struct dirent **v;
	int k;

	decode(dir, path, sizeof(path));
	k = scandir(path, &v, NULL, alphasort);
	if (k < 0)
		return;
	note_name('P', path);
	note_followed('C', path);
	note_followed('L', path);
	for (int i = 0; i < k; i++) {
		see(v[i]->d_name, strlen(v[i]->d_name) + 1);
		see_number(v[i]->d_type);
		snprintf(name, sizeof(name), "%s/%s", path, v[i]->d_name);
		if (strcmp(v[i]->d_name, ".") && strcmp(v[i]->d_name, ".."))
			run(w, n, number);
		free(v[i]);
	}
	free(v);
}

static int perform(char **w)
{
	static const struct op *const tables[] = {ops_data, ops_name};

	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		for (const struct op *op = tables[i]; op->name; op++)
			if (!strcmp(op->name, w[0]))
				return op->fn(w);
	fprintf(stderr, "stepper: unknown operation %s\n", w[0]);
	exit(99);
}

/* The operation itself. */
static void act(char **w, int n, int number)
{
	static char text[MAX_WORDS + 1][1024];
	char *words[MAX_WORDS + 1] = {w[0]};
	int r;

	for (int k = 1; k <= MAX_WORDS; k++) {
		decode(k < n ? w[k] : "", text[k], sizeof(text[k]));
		words[k] = text[k];
	}
	if (!strcmp(w[0], "exit")) {
		fflush(NULL);
		_exit(atoi(words[1]));
	}
	errno = 0;
	r = perform(words);
	see_number(r);
	if (r < 0)
		see_number(errno);
	if (quiet)
		return;
	fprintf(number % 3 ? stdout : stderr, "%d %s %d %s %llx\n", number, w[0], r,
		r < 0 ? strerror(errno) : "", (unsigned long long)seen);
	fflush(stdout);
}

static void run(char **w, int n, int number)
{
	while (n > 3 && !strcmp(w[0], "when")) {
		if (seen % (unsigned)atoi(w[2]) != (unsigned)atoi(w[1]))
			return;
		w += 3;
		n -= 3;
	}
	if (n > 2 && !strcmp(w[0], "each")) {
		each(w[1], w + 2, n - 2, number);
	} else if (n > 1 && !strcmp(w[0], "child")) {
		reap(start(w + 1, n - 1, number));
	} else if (n > 1 && !strcmp(w[0], "orphan")) {
		run_orphan(w + 1, n - 1, number);
	} else if (n > 1 && !strcmp(w[0], "late")) {
		start_late(w + 1, n - 1, number);
	} else if (n > 1 && !strcmp(w[0], "bg") && n_bg < MAX_BG) {
		quiet = true;
		bg[n_bg++] = start(w + 1, n - 1, number);
		quiet = false;
	} else if (!strcmp(w[0], "wait")) {
		for (int k = 0; k < n_bg; k++)
			reap(bg[k]);
		n_bg = 0;
	} else {
		act(w, n, number);
	}
}

static void line(char *s, int number)
{
	char *words[MAX_WORDS], *save = NULL;
	int n = 0;

	for (char *p = strtok_r(s, " \n", &save); p && n < MAX_WORDS;
	     p = strtok_r(NULL, " \n", &save))
		words[n++] = p;
	if (n)
		run(words, n, number);
}

int main(int argc, char **argv)
{
	char wait_line[] = "wait", buf[8192];
	FILE *f;

	if (argc == 4 && !strcmp(argv[1], "-t")) {
		notes_open(argv[2]);
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
	line(wait_line, 0);
	notes_close();
	return (int)(seen % 11 == 0);
}
