/* SPDX-License-Identifier: MIT */
/*
 * doctor.h - private to runner/: what `mlfs doctor` looks at. Each check tries the thing itself, where need be in a process of its
 * own that ends with it, and adds what it found.
 */
#ifndef MLFS_DOCTOR_H
#define MLFS_DOCTOR_H

#include "words.h"

enum finding_status {
	FINDING_OK,
	FINDING_NOTE, /* steps are recorded, but something is slower, or is missing */
	FINDING_BAD,  /* mlfs exec runs every command plainly */
};
struct finding {
	const char *check; /* one word */
	enum finding_status status;
	char *found;
	char *mend; /* the line that mends it, or NULL */
};
struct doctor {
	const struct query *q;
	char *cache;   /* absolute; may not be there */
	char *scratch; /* a directory in it, or where it would be made; NULL: none could be made */
	bool inside; /* in a step of another mlfs, which takes what is mounted there for the step's doing */
	struct finding *v;
	size_t n;
};

/* Takes found and mend; both may be NULL. */
void doctor_add(struct doctor *d, enum finding_status status, const char *check, char *found,
		char *mend);
/* An error whose message may say in brackets what mends it; else `mend` does (borrowed, may be NULL). */
void doctor_add_err(struct doctor *d, enum finding_status status, const char *check,
		    const char *message, const char *mend);

/* Is any of it FINDING_BAD? */
bool doctor_is_bad(const struct doctor *d);

/* doctor_machine.c */
void doctor_kernel(struct doctor *d);
void doctor_libfuse(struct doctor *d);
void doctor_proc(struct doctor *d);
void doctor_limits(struct doctor *d);
/* doctor_view.c */
void doctor_device(struct doctor *d);
void doctor_view(struct doctor *d); /* namespaces, and a mount in them */
void doctor_watch(struct doctor *d);
/* doctor_cache.c */
void doctor_cache(struct doctor *d); /* makes the scratch directory */
void doctor_settings(struct doctor *d);
void doctor_reflinks(struct doctor *d);
void doctor_clock(struct doctor *d);
void doctor_clean(struct doctor *d); /* removes the scratch directory */
/* doctor_step.c: a whole step, recorded and replayed */
void doctor_step(struct doctor *d);

/*
 * Run fn in a child process, which ends within `seconds` or is killed; what it writes to the descriptor it is given (at most some
 * kilobytes) is *ret (malloc'ed, NUL-terminated). fn's return value is the exit status. The child's exit status, 128+N for signal N, or
 * -errno. meanwhile (may be NULL) is called with the child's number while it runs.
 */
int doctor_try(int (*fn)(void *arg, int out), void (*meanwhile)(void *arg, pid_t child), void *arg,
	       unsigned seconds, char **ret) must_check;

#endif
