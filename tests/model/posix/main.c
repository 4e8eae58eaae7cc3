/* SPDX-License-Identifier: MIT */
/* main.c - the sequence. See posix.h, and posix.py for how it is used. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct op *const tables[] = {name_ops, data_ops, attr_ops, special_ops};
#define N_TABLES (sizeof(tables) / sizeof(*tables))

struct plan {
	unsigned first, last; /* operations */
	unsigned epoch;	      /* length of one */
	unsigned every;	      /* operations between dumps */
	char *wanted;	      /* a byte an operation: do it; NULL: all */
};

static const struct op *pick_op(struct world *w)
{
	unsigned total = 0, r;

	for (size_t t = 0; t < N_TABLES; t++)
		for (const struct op *o = tables[t]; o->name; o++)
			total += o->weight;
	r = rnd(w, total);
	for (size_t t = 0; t < N_TABLES; t++)
		for (const struct op *o = tables[t]; o->name; o++) {
			if (r < o->weight)
				return o;
			r -= o->weight;
		}
	return NULL;
}

static void run(struct world *w, const struct plan *p)
{
	for (w->op = p->first; w->op < p->last; w->op++) {
		const struct op *o;

		if (w->op % p->epoch == 0 || w->op == p->first)
			start_over(w);
		w->rng = w->seed * 0x2545f4914f6cdd1du + (uint64_t)w->op * 0x9e3779b97f4a7c15u;
		o = pick_op(w);
		if (!p->wanted || p->wanted[w->op - p->first]) {
			say(w, "%u %s", w->op, o->name);
			o->fn(w);
			say(w, "\n");
		}
		if (w->op % p->every == p->every - 1)
			dump(w);
	}
	dump(w);
}

/* "3,7,12": those alone. */
static void read_wanted(struct plan *p, const char *file)
{
	FILE *f = fopen(file, "r");
	unsigned k;

	if (!f)
		stop(file);
	p->wanted = calloc(p->last - p->first, 1);
	while (fscanf(f, "%u%*[,\n]", &k) == 1)
		if (k >= p->first && k < p->last)
			p->wanted[k - p->first] = 1;
	fclose(f);
}

/* Every directory above the tree but the nearest few; see posix.py, which nests it. */
static void guard(struct world *w)
{
	struct stat st;
	int fd = w->top, up;

	if (fstat(fd, &st) < 0)
		stop("tree");
	w->guard.dev = st.st_dev;
	for (unsigned k = 0; k < 32; k++) {
		up = openat(fd, "..", O_PATH | O_DIRECTORY);
		if (up < 0 || fstat(up, &st) < 0)
			stop("directory above the tree");
		if (k >= 4 && st.st_dev == w->guard.dev)
			w->guard.ino[w->guard.n++] = st.st_ino;
		if (fd != w->top)
			close(fd);
		fd = up;
	}
	close(fd);
}

static void prepare(struct world *w, const char *dir)
{
	w->top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->top < 0 || fchdir(w->top) < 0)
		stop(dir);
	w->top_path = getcwd(NULL, 0);
	w->root = geteuid() == 0;
	if (w->root && chroot(".") < 0)
		stop("cannot make the tree the root directory");
	guard(w);
	for (int k = 0; k < SLOTS; k++)
		w->fds[k] = -1;
	w->inotify = -1;
	if (posix_memalign((void **)&w->buf, 65536, IO_MOST) != 0)
		stop("memory");
	if (pipe2(w->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		stop("pipe");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static void usage(void)
{
	fputs("Usage: posix [-v] [-s SEED] [-f FIRST] [-n LAST] [-e EPOCH] [-d EVERY] [-w FILE] "
	      "DIR LOG\n",
	      stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	struct world w = {.seed = 1};
	struct plan p = {.last = 1000, .epoch = 400, .every = 40};
	const char *wanted = NULL;
	int c;

	while ((c = getopt(argc, argv, "mvs:f:n:e:d:w:")) >= 0)
		switch (c) {
		case 'm':
			w.mount = true;
			break;
		case 'v':
			w.verbose = true;
			break;
		case 's':
			w.seed = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			p.first = (unsigned)atoi(optarg);
			break;
		case 'n':
			p.last = (unsigned)atoi(optarg);
			break;
		case 'e':
			p.epoch = (unsigned)atoi(optarg);
			break;
		case 'd':
			p.every = (unsigned)atoi(optarg);
			break;
		case 'w':
			wanted = optarg;
			break;
		default:
			usage();
		}
	if (argc - optind != 2 || p.last <= p.first || !p.epoch || !p.every)
		usage();
	if (wanted)
		read_wanted(&p, wanted);
	w.log = fopen(argv[optind + 1], "we");
	if (!w.log)
		stop(argv[optind + 1]);
	prepare(&w, argv[optind]);
	run(&w, &p);
	if (fclose(w.log) != 0)
		stop("log");
	return 0;
}
