/* SPDX-License-Identifier: MIT */
/* supervise.h - private to runner/: run a step in a view, record it, store the result. */
#ifndef MLFS_SUPERVISE_H
#define MLFS_SUPERVISE_H

#include "runner.h"
#include "../fs/fs.h"

/* How a recorded run ended; plain bytes, sent from the supervisor to the front. */
struct outcome {
	bool ran; /* the command was executed (else `failure` says why, and the caller runs it plainly) */
	bool not_executed; /* it was found not to be executable: exec_errno */
	bool stored, has_key;
	bool cache_trouble; /* not stored because of the cache itself (a full disk): worth a warning */
	bool left_running; /* processes of the step are alive: the supervisor goes on serving them */
	int exec_errno;
	int exit_status; /* 0-255, 128+N */
	int64_t started_ns, wall_ns;
	struct fp input_key;
	uint64_t inputs, outputs, output_bytes;
	uint64_t put_bytes, new_bytes; /* given to the store; those it did not have yet */
	char reason[512];	       /* why it was not stored, or "" */
	char failure[512];	       /* why it could not be recorded, or "" */
};

struct supervised {
	const struct exec_opts *opts;
	const struct step *step;
	struct stdin_src *in;
	struct inherited *passed;
	struct idx_lock *lock; /* of the step key, or NULL */
	const char *cache_dir;
	const char *other_cache; /* of an mlfs that the command runs, when it is another; or NULL */
	const struct lazy_trees *lazy; /* of mounts, or NULL */
	sigset_t mask;		       /* the signal mask the command is to have */
	/* --verify: not stored, but compared with this result; the verdict (verdict.h) goes to this memfd */
	const struct result *expected;
	int verdict_fd;
};
/* In the front: fork the supervisor, pass signals on, wait. -errno only when nothing was started. */
int supervise(const struct supervised *s, struct outcome *ret, struct err *e) must_check;

/* supervisor.c: the forked side. Never returns. control: SOCK_SEQPACKET to the front. */
void supervisor_main(const struct supervised *s, int control) __attribute__((noreturn));

/* ---- capture.c: from what was recorded to a result ---- */
struct capture {
	struct idx *idx;
	struct fs *fs; /* for what was stored while the step ran */
	const struct exec_opts *opts;
	const struct step *step;
	struct trace *trace;
	const struct console_record *console;
	const struct stdin_used *in;
	const struct outcome *out; /* exit status and times */
	pid_t command;
	const struct result *expected; /* as in struct supervised */
	int verdict_fd;
};
/*
 * Decide whether the run may be stored, capture its outputs and store the result. Fills ret's counts and key;
 * ret->stored, or ret->reason. Trouble is a reason, never an error.
 * With c->expected nothing is stored: the run is compared with that, and the reason says why it could not have been.
 */
void capture(const struct capture *c, struct outcome *ret);
/* verify.c: the same while processes of the step are still alive (ret->reason says so): only its outputs and status are
 * compared, the trace, console and stdin are not looked at. */
void verify_running(const struct capture *c, struct outcome *ret);

#endif
