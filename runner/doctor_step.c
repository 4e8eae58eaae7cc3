/* SPDX-License-Identifier: MIT */
/* doctor_step.c - a step of this very program, recorded in a cache of its own, and replayed: all of it together. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"

#define SECONDS 20

struct step_try {
	const char *cache;
	const char *self;
	bool replay;
};

/* Where this program lies; /proc may be missing. Caller frees. */
static char *own_path(void)
{
	char *path = realpath("/proc/self/exe", NULL);
	const char *name = (const char *)getauxval(AT_EXECFN);

	return path ? path : name ? realpath(name, NULL) : NULL;
}

static int run_exec(void *arg, int out)
{
	const struct step_try *t = arg;
	const char *mode = t->replay ? "--only-if-cached" : "--require";
	char *argv[] = {(char *)"exec",	  (char *)"-v",	       (char *)"--cache",
			(char *)t->cache, (char *)mode,	       (char *)"--",
			(char *)t->self,  (char *)"--version", NULL};
	int in[2];

	unsetenv("MLFS_CONFIG");
	/* An empty standard input; nothing of what the caller was given is the step's. */
	if (pipe(in) < 0 || dup2(in[0], 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		return EXIT_MLFS;
	if (syscall(SYS_close_range, 3, ~0U, 0) < 0)
		for (int fd = 3; fd < 256; fd++)
			close(fd);
	return cmd_exec(8, argv);
}

/* The line in which mlfs says it; malloc'ed. */
static char *said(const char *text)
{
	const char *at = strstr(text, "mlfs: ");
	char *line = xstrdup(at ? at + 6 : text);

	line[strcspn(line, "\n")] = '\0';
	return line;
}

void doctor_step(struct doctor *d)
{
	auto_free char *cache = NULL, *self = own_path(), *first = NULL, *again = NULL, *why = NULL;
	struct step_try t = {.self = self};
	int64_t begun = mono_ns(), between;
	bool known;
	int r;

	if (!d->scratch || !self) {
		doctor_add(d, FINDING_BAD, "step",
			   xstrdup(self ? "not tried: there is no directory for it"
					: "not tried: this program's own file cannot be found"),
			   NULL);
		return;
	}
	t.cache = cache = xasprintf("%s/cache", d->scratch);
	r = doctor_try(run_exec, NULL, &t, SECONDS, &first);
	between = mono_ns();
	if (r != 0) {
		why = r > 0 ? said(first) : xstrdup(strerror(-r));
		known = doctor_is_bad(d);
		doctor_add_err(d, FINDING_BAD, "step", why, NULL);
		if (known) /* and said what mends it */
			free(take(d->v[d->n - 1].mend));
		return;
	}
	t.replay = true;
	r = doctor_try(run_exec, NULL, &t, SECONDS, &again);
	if (r == 0) {
		doctor_add(d, FINDING_OK, "step",
			   xasprintf("recorded in %.0f ms, replayed in %.0f ms",
				     (double)(between - begun) / 1e6,
				     (double)(mono_ns() - between) / 1e6),
			   NULL);
		return;
	}
	why = said(first);
	doctor_add(d, FINDING_BAD, "step", xasprintf("it was recorded, but is no hit: %s", why),
		   NULL);
}
