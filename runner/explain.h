/* SPDX-License-Identifier: MIT */
/* explain.h - private to runner/: which recorded results are nearest to a step, and all that differs. */
#ifndef MLFS_EXPLAIN_H
#define MLFS_EXPLAIN_H

#include "decide.h"

/* ---- other steps of a name ---- */

struct other_step {
	struct fp key;
	struct diffs diffs;
	bool same_command; /* words and directory are the same */
};
/* Those with the fewest differences first, of the same command before others. */
struct other_steps {
	struct other_step *v;
	size_t n;
};
/* description: of the step (struct step). same: only steps of the same command, which costs little. */
void other_steps(struct idx *x, const struct buf *description, const char *name, bool same,
		 struct other_steps *ret);
void other_steps_free(struct other_steps *o);

/* ---- recorded results that are near ---- */

struct near_result {
	struct fp key, step_key;
	char *name;
	char *shared_by; /* the other user who stored it, or NULL */
	int64_t started_ns, stored_ns, wall_ns;
	struct diffs diffs; /* none: it would be the hit, or was the same */
};
struct explanation {
	bool hit;
	struct near_result
		found; /* the hit; also when it is another than the one that was asked about */
	char *reason;  /* no hit: what mlfs exec would say */
	struct near_result *v; /* nearest first: the fewest differences, then the latest */
	size_t n;
	bool others; /* nothing is recorded of the step itself: these are of others with its name */
};
/*
 * Would the step be a hit now? Asks what `mlfs exec` asks (decide), and where that says no, gathers what differs from each
 * recorded result with the same code, going on where that stops. in: NULL: what it reads from stdin is not compared. only:
 * this result alone; NULL: all of the step. Never fails: what could not be read is the reason.
 */
void explain_now(struct idx *x, const struct exec_opts *o, const struct step *s,
		 struct stdin_src *in, const struct fp *only, struct explanation *ret);
/* What differed when m ran from the nearest result recorded before it: 1 and *ret, 0: there is none. */
int explain_then(struct idx *x, const struct result *m, struct near_result *ret);
void explanation_free(struct explanation *e);
void near_result_free(struct near_result *n);

#endif
