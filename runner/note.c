/* SPDX-License-Identifier: MIT */
/* note.c - one run, into the history. */
#include <string.h>

#include "runner.h"

#define NS_MAX 9e18 /* what fits into 63 bits */

double report_seconds(int64_t ns)
{
	int64_t us = ns / 1000 + (ns % 1000 >= 500) - (ns % 1000 <= -500);

	return (double)us / 1e6;
}

static int64_t ns_of(double seconds)
{
	double us = seconds * 1e6;

	return us >= NS_MAX / 1e3 ? (int64_t)NS_MAX : (int64_t)(us + (us < 0 ? -0.5 : 0.5)) * 1000;
}

static struct runs_keep keep_of(const struct exec_opts *o)
{
	struct runs_keep k = {.bytes = o->keep_runs_size};

	if (o->keep_runs >= 0)
		k.age_ns = ns_of(o->keep_runs) + 1; /* 0 would be: for ever */
	return k;
}

static enum run_result result_of(const char *result)
{
	if (strcmp(result, "hit") == 0)
		return RUN_HIT;
	return strcmp(result, "miss") == 0 ? RUN_MISS : RUN_UNCACHED;
}

void run_note(struct idx *x, const struct exec_opts *o, const struct report *rep)
{
	const struct runs_keep keep = keep_of(o);
	struct run r = {.started_ns = rep->started_ns,
			.wall_ns = rep->wall_seconds < 0 ? -1 : ns_of(rep->wall_seconds),
			.saved_ns = ns_of(rep->saved_seconds),
			.name = (char *)rep->name,
			.reason = (char *)rep->reason,
			.cwd = (char *)rep->cwd,
			.argv = o->argv,
			.n_argv = (size_t)o->argc,
			.result = result_of(rep->result),
			.stored = rep->stored,
			.exit_status = rep->exit_status,
			.inputs = rep->inputs,
			.outputs = rep->outputs,
			.output_bytes = rep->output_bytes,
			.put_bytes = rep->put_bytes,
			.new_bytes = rep->new_bytes};
	struct err e = {0};
	int k;

	if (rep->step_key)
		r.step_key = *rep->step_key;
	if (rep->input_key)
		r.input_key = *rep->input_key;
	k = x ? idx_run_add(x, &r, &keep, &e) : idx_run_note(o->cache_dir, &r, &keep, &e);
	if (k < 0)
		log_debug("%s", e.msg);
}
