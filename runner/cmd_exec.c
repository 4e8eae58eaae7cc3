/* SPDX-License-Identifier: MIT */
/* cmd_exec.c - `mlfs exec`: decide, then replay, or run and record, or run plainly. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inherited.h"
#include "lazy_step.h"
#include "mounted.h"
#include "plain.h"
#include "share.h"
#include "supervise.h"
#include "verdict.h"

struct exec {
	struct exec_opts o;
	struct step step;
	struct stdin_src *in;
	struct inherited *passed;
	struct idx *idx;
	struct idx_lock *lock;
	char *cache;	   /* the cache directory's real path */
	char *other_cache; /* that of an mlfs which the command may run, or NULL */
	sigset_t mask;
	int64_t begun; /* mono_ns */
	struct report rep;
	bool hands_off; /* the cache is not to be written to at all */
	char *why_miss;
	struct mounteds mounted;
	struct lazy_step lazy;
	const struct exec_base *base; /* of a step of a mount, or NULL */
	bool others_gone;	      /* share_asker.gone */
	int apart; /* the pipe to the process that runs this one; -1: nobody does */
	int hand;  /* with it: a socket between them, for stdin */
	int fed;   /* in that process: what the command is to have as stdin, or -1 */
};

/*
 * Where there are persistent mounts, run_cached runs in a child (see mounted.h), which then tells how it went, and what the
 * front needs to run the command plainly itself.
 */
struct news {
	bool plain;	/* to be run, and no more was done */
	bool fed;	/* its stdin comes from here, since some of that was read already */
	char result[9]; /* as in struct report */
	bool has_key;
	struct fp step_key;
	double saved_seconds;
	bool shared; /* a hit by a result of another user */
	char name[256], reason[512];
};

static void note_run(struct exec *x)
{
	if (!x->hands_off)
		run_note(x->idx, &x->o, &x->rep);
}

/* ---- running plainly ---- */

static void tell_apart(const struct exec *x, bool plain, bool fed)
{
	struct news n = {.plain = plain,
			 .fed = fed,
			 .saved_seconds = x->rep.saved_seconds,
			 .shared = x->rep.shared_by != NULL};

	if (x->apart < 0)
		return;
	snprintf(n.result, sizeof(n.result), "%s", x->rep.result);
	snprintf(n.name, sizeof(n.name), "%s", x->rep.name);
	snprintf(n.reason, sizeof(n.reason), "%s", x->rep.reason ? x->rep.reason : "");
	n.has_key = x->rep.step_key != NULL;
	if (n.has_key)
		n.step_key = *x->rep.step_key;
	if (write_all(x->apart, &n, sizeof(n)) < 0)
		log_debug("cannot tell how the step ended: %s", strerror(errno));
}

static void write_report(struct exec *x)
{
	struct err e = {0};

	if (x->o.report && report_write(x->o.report, &x->rep, &e) < 0)
		log_warn("%s", e.msg);
}

/* To the process in which the command has its rights. */
static int leave_plain(struct exec *x)
{
	bool fed = x->in && stdin_holds(x->in);
	struct err e = {0};

	if (fed && plain_hand(x->in, x->hand, x->apart, &e) < 0) {
		log_warn("%s", e.msg);
		return EXIT_MLFS;
	}
	if (fed)
		x->in = NULL; /* ended here, it would be ended there */
	tell_apart(x, true, fed);
	return EXIT_MLFS; /* nobody asks */
}

/* As if mlfs were not there. reason: why (for the report). */
static int run_plain(struct exec *x, const char *reason)
{
	struct plain p = {.argv = x->o.argv,
			  .mask = x->mask,
			  .mounted = &x->mounted,
			  .in = x->in,
			  .fed = &x->fed};
	struct stdin_used used;
	struct err e = {0};
	bool fed = x->fed >= 0;

	x->rep.reason = reason;
	x->rep.stored = false;
	if (x->apart >= 0)
		return leave_plain(x);
	if (!x->o.report && !fed && !(x->in && stdin_holds(x->in))) {
		x->rep.exit_status = -1; /* not known to us, nor how long it takes */
		x->rep.wall_seconds = -1;
		note_run(x);
		return plain_exec(&p);
	}
	x->begun = mono_ns();
	x->rep.exit_status = plain_run(&p);
	if (fed)
		plain_handed(x->hand);
	if (x->in && stdin_finish(x->in, &used, &e) < 0)
		log_warn("%s", e.msg);
	x->rep.wall_seconds = report_seconds(mono_ns() - x->begun);
	write_report(x);
	note_run(x);
	return x->rep.exit_status;
}

/* The step cannot be traced or the cache not be used: said once, then it simply runs. */
static int run_uncached(struct exec *x, const char *why)
{
	if (x->o.require || x->o.only_if_cached) {
		log_warn("%s", why);
		x->rep.reason = why;
		x->rep.exit_status = EXIT_MLFS;
		write_report(x);
		note_run(x);
		return EXIT_MLFS;
	}
	if (x->o.verbosity >= 0)
		log_warn("%s; running uncached", why);
	x->rep.result = "uncached";
	return run_plain(x, why);
}

/* ---- a hit ---- */

static void count_outputs(const struct result *r, struct report *ret)
{
	ret->outputs = ret->output_bytes = 0;
	for (size_t k = 0; k < r->n_outputs; k++) {
		const struct output *o = &r->outputs[k];

		ret->outputs += !(o->own && o->now.type == OUT_ABSENT); /* made and gone again */
		ret->output_bytes += o->now.size;
	}
}

static void fill_hit(struct exec *x, const struct result *r)
{
	x->rep.result = "hit";
	x->rep.input_key = &r->input_key;
	x->rep.inputs = r->n_inputs;
	free(x->rep.shared_by);
	x->rep.shared_by = share_marked(r);
	count_outputs(r, &x->rep);
}

/* 1: served (*ret_status). 0: it could not be; the step is to run, *why says why. */
static int serve_hit(struct exec *x, const struct decision *d, int *ret_status, char **why)
{
	const struct result *r = d->result;
	auto_free void *console = NULL;
	auto_free char *by = NULL;
	struct err e = {0};
	size_t n = 0;
	int got;

	if (r->console_len && store_get_mem(x->idx, &r->console_oid, &console, &n, &e) < 0) {
		*why = xasprintf("its console is no longer whole in the cache");
		return 0;
	}
	got = replay_outputs(x->idx, d, &e);
	if (got <= 0) {
		*why = xasprintf("%s", got < 0 || e.code
					       ? e.msg
					       : "an object of it is no longer whole in the cache");
		if (got < 0)
			log_warn("cannot place the outputs: %s; running the command", e.msg);
		return 0;
	}
	if (stdin_consume(x->in, r, &e) < 0)
		log_warn("%s", e.msg);
	fill_hit(x, r);
	x->rep.exit_status = *ret_status = r->exit_status;
	x->rep.wall_seconds = report_seconds(mono_ns() - x->begun);
	x->rep.saved_seconds = report_seconds(r->wall_ns) - x->rep.wall_seconds;
	if (x->rep.saved_seconds < 0)
		x->rep.saved_seconds = 0;
	if (console_replay(console, n, r->chunks, r->n_chunks, &e) < 0) {
		if (e.code == EPIPE)
			raise(SIGPIPE); /* as the command would have been told */
		log_warn("%s", e.msg);
	}
	report_line(&x->rep, x->o.verbosity);
	write_report(x);
	if (idx_result_touch(x->idx, r, &e) < 0)
		log_debug("%s", e.msg);
	by = x->rep.shared_by ? xasprintf("stored by %s", x->rep.shared_by) : NULL;
	x->rep.reason = by; /* for the log */
	note_run(x);
	x->rep.reason = NULL;
	return 1;
}

/* 1: it was a hit and is served. 0: x->why_miss says why not. */
static int try_hit(struct exec *x, int *ret_status)
{
	struct decision d = {0};
	int served = 0;

	free(take(x->why_miss));
	decide(x->idx, &x->o, &x->step, x->in, &d);
	d.lazy = x->lazy.src ? &x->lazy : NULL;
	if (d.hit)
		served = serve_hit(x, &d, ret_status, &x->why_miss);
	else
		x->why_miss = xstrdup(d.reason ? d.reason : "not seen before");
	decision_free(&d);
	return served;
}

/* ---- other users ---- */

static struct share_asker asker(struct exec *x)
{
	return (struct share_asker){.base = x->base,
				    .o = &x->o,
				    .step = &x->step,
				    .in = x->in ? stdin_type(x->in) : IN_CLOSED,
				    .gone = &x->others_gone};
}

/* What was stored just now. */
static void offer(struct exec *x, const struct fp *key)
{
	const struct share_asker a = asker(x);
	struct err e = {0};

	if (!x->idx && idx_open_for_job(x->cache, true, &x->idx, &e) < 0)
		log_debug("%s", e.msg);
	else
		share_offer(x->idx, &a, key);
}

/* 1: a result of somebody else is a hit, and served. */
static int try_others(struct exec *x, int *ret_status)
{
	const struct share_asker a = asker(x);

	return share_fetch(x->idx, &a) && try_hit(x, ret_status);
}

/* ---- a miss ---- */

static int after_run(struct exec *x, const struct outcome *out)
{
	if (out->cache_trouble && x->o.verbosity >= 0)
		log_warn("%s; the result is not kept", out->reason);
	x->rep.result = "miss";
	x->rep.stored = out->stored;
	x->rep.reason = out->stored ? x->why_miss : out->reason[0] ? out->reason : x->why_miss;
	x->rep.input_key = out->has_key ? &out->input_key : NULL;
	x->rep.exit_status = out->exit_status;
	x->rep.started_ns = out->started_ns;
	x->rep.wall_seconds = report_seconds(out->wall_ns);
	x->rep.inputs = out->inputs;
	x->rep.outputs = out->outputs;
	x->rep.output_bytes = out->output_bytes;
	x->rep.put_bytes = out->put_bytes;
	x->rep.new_bytes = out->new_bytes;
	report_line(&x->rep, x->o.verbosity);
	write_report(x);
	note_run(x);
	if (out->stored && x->base && x->base->share)
		offer(x, &out->input_key);
	return out->exit_status;
}

/* The run of a hit: what was found is told, and is the exit status when it is a difference. */
static int after_verify(struct exec *x, const struct result *expected, int fd,
			const struct outcome *out)
{
	auto_free char *reason = NULL;
	struct verdict v = {0};
	struct err e = {0};
	char said[64];
	int status;

	if (verdict_read(fd, &v, &e) < 0)
		v.unsure = xstrdup(out->cache_trouble ? out->reason : e.msg);
	reason = verdict_reason(&v, x->rep.cwd);
	status = v.total ? EXIT_MLFS : out->exit_status;
	if (v.total) /* a status that nothing the step read accounts for */
		(void)!idx_ask_view(IDX_LOOKED_XATTR, said, sizeof(said));
	fill_hit(x, expected);
	x->rep.verdict = &v;
	x->rep.reason = reason;
	x->rep.exit_status = status;
	x->rep.started_ns = out->started_ns;
	x->rep.wall_seconds = report_seconds(out->wall_ns);
	verdict_tell(&v, &x->rep, x->o.verbosity);
	write_report(x);
	if (idx_open_for_job(x->cache, true, &x->idx, &e) == 0) {
		if (!v.total && idx_result_touch(x->idx, expected, &e) < 0)
			log_debug("%s", e.msg);
		if (!reason)
			x->rep.reason = "verified"; /* for the log: it did run */
		note_run(x);
	}
	x->rep.verdict = NULL;
	x->rep.reason = NULL;
	x->rep.input_key = NULL;
	verdict_free(&v);
	return status;
}

/* expected: see struct supervised; with it, after_verify tells of the run. */
static int run_recorded(struct exec *x, const struct result *expected, int verdict_fd)
{
	struct supervised s = {.opts = &x->o,
			       .step = &x->step,
			       .in = x->in,
			       .passed = x->passed,
			       .lock = x->lock,
			       .cache_dir = x->cache,
			       .other_cache = x->other_cache,
			       .lazy = idx_lazy_of(x->idx),
			       .mask = x->mask,
			       .expected = expected,
			       .verdict_fd = verdict_fd};
	struct outcome out = {0};
	struct err e = {0};

	idx_close(x->idx); /* the supervisor opens it for itself */
	x->idx = NULL;
	if (supervise(&s, &out, &e) < 0) {
		log_warn("%s", e.msg);
		return EXIT_MLFS;
	}
	if (out.not_executed) {
		x->rep.exit_status = plain_cannot_run(x->o.argv[0], out.exec_errno);
		x->rep.result = "uncached";
		x->rep.reason = "the command cannot be executed";
		write_report(x);
		note_run(x);
		return x->rep.exit_status;
	}
	if (!out.ran)
		return run_uncached(x,
				    out.failure[0] ? out.failure : "the step cannot be recorded");
	return expected ? after_verify(x, expected, verdict_fd, &out) : after_run(x, &out);
}

/*
 * May the lock be waited for? In a step of another mlfs, which waits for this one and holds the lock of its own step,
 * only when this key comes after all that are held around: then no waiting is ever in a circle. A step that runs itself is
 * the simplest.
 */
static bool may_wait(const struct exec *x)
{
	char own[2 * sizeof(x->step.key.b) + 1], held[4096], *rest = held, *word;

	hex(x->step.key.b, sizeof(x->step.key.b), own);
	if (idx_ask_view(IDX_KEYS_XATTR, held, sizeof(held)) < 0)
		return true;
	while ((word = strsep(&rest, " ")))
		if (*word && strcmp(own, word) <= 0)
			return false;
	return true;
}

/* The lock of this step. True: it had to be waited for. Trouble with it is no reason not to run. */
static bool lock_step(struct exec *x)
{
	struct err e = {0};
	int r = idx_lock(x->idx, &x->step.key, false, &x->lock, &e);

	if (r != -EWOULDBLOCK || !may_wait(x))
		return false;
	do
		r = idx_lock(x->idx, &x->step.key, true, &x->lock, &e);
	while (r == -EINTR);
	return true;
}

/* ---- a hit that is run all the same ---- */

/* A step may take longer than gc waits: it leaves a result alone that is locked. False: it is gone already. */
static bool keep_result(struct exec *x, const struct fp *key, struct idx_lock **ret)
{
	struct result *r;
	struct err e = {0};

	if (idx_lock(x->idx, key, false, ret, &e) < 0)
		log_debug("%s", e.msg); /* it is there for ten minutes all the same */
	if (idx_result_get_brief(x->idx, key, &r, &e) <= 0)
		return false;
	result_free(r);
	return true;
}

/* 1: it was a hit, and was run. 0: x->why_miss says why not. */
static int try_verify(struct exec *x, int *ret_status)
{
	auto_close int fd = memfd_create("mlfs-verdict", MFD_CLOEXEC);
	struct idx_lock *kept = NULL;
	struct decision d = {0};
	bool hit;

	decide(x->idx, &x->o, &x->step, x->in, &d);
	hit = d.hit && keep_result(x, &d.result->input_key, &kept);
	if (hit && fd < 0) {
		*ret_status = run_uncached(x, "cannot verify: there is no memory for it");
	} else if (hit) {
		*ret_status = run_recorded(x, d.result, fd);
	} else {
		x->why_miss = xstrdup(d.hit	 ? "its result was dropped a moment ago"
				      : d.reason ? d.reason
						 : "not seen before");
	}
	decision_free(&d);
	idx_unlock(kept);
	return hit;
}

static int run_cached(struct exec *x)
{
	struct err e = {0};
	char said[64];
	int status = 0;

	if (x->o.only_if_cached)
		(void)!idx_ask_view(IDX_LOOKED_XATTR, said, sizeof(said));

	if (step_of_caller(x->idx, &x->o, &x->in, &x->passed, &x->step, &e) < 0)
		return run_uncached(x, e.msg);
	x->rep.name = x->step.name;
	x->rep.step_key = &x->step.key;
	x->rep.cwd = x->step.cwd;
	/* Nobody else is to write the outputs while they are compared. */
	if (x->o.verify)
		(void)lock_step(x);
	if (x->o.refresh)
		x->why_miss = xstrdup("--refresh");
	else if (x->o.verify ? try_verify(x, &status)
			     : try_hit(x, &status) || try_others(x, &status))
		return status;
	x->rep.result = "miss";
	if (x->o.only_if_cached) {
		log_warn("no hit: %s", x->why_miss);
		x->rep.reason = x->why_miss;
		x->rep.exit_status = EXIT_MLFS;
		write_report(x);
		note_run(x);
		return EXIT_MLFS;
	}
	if (x->o.read_only) { /* nothing is to be stored, so nothing needs to be seen */
		idx_unlock(take(x->lock));
		return run_plain(x, x->why_miss);
	}
	/* Who waited for the lock looks again. */
	if (!x->o.verify && lock_step(x) && !x->o.refresh && try_hit(x, &status))
		return status;
	/* What is not real was not looked at where no mount is. */
	if (lazy_step_orphans(&x->lazy, x->idx) > 0 && !x->o.verify && !x->o.refresh &&
	    try_hit(x, &status))
		return status;
	return run_recorded(x, NULL, -1);
}

/* Where the default cache is another one than this, an mlfs in the step will find it natively as well. */
static void find_other_cache(struct exec *x)
{
	auto_free char *dir = default_cache();
	auto_free char *real = dir ? realpath(dir, NULL) : NULL;
	auto_free char *version = real ? xasprintf("%s/version", real) : NULL;

	if (real && strcmp(real, x->cache) != 0 && access(version, F_OK) == 0)
		x->other_cache = take(real);
}

static int run_in_cache(struct exec *x)
{
	struct err e = {0};

	if (idx_open_for_job(x->o.cache_dir, true, &x->idx, &e) < 0)
		return run_uncached(x, e.msg);
	x->cache = realpath(x->o.cache_dir, NULL);
	if (!x->cache) {
		err_set(&e, errno, "cannot find the cache %s", x->o.cache_dir);
		return run_uncached(x, e.msg);
	}
	find_other_cache(x);
	if (x->apart >= 0)
		lazy_step_begin(&x->lazy, &x->mounted, x->idx, x->o.no_lazy);
	return run_cached(x);
}

static void exec_end(struct exec *x)
{
	idx_unlock(x->lock);
	idx_close(x->idx);
	stdin_free(x->in);
	inherited_free(x->passed);
	step_free(&x->step);
	free(x->why_miss);
	free(x->rep.shared_by);
	free(x->cache);
	free(x->other_cache);
	base_close(&x->hand);
	lazy_step_end(&x->lazy);
	mounted_free(&x->mounted);
	exec_opts_free(&x->o);
}

/* ---- where there are persistent mounts ---- */

static int in_child(struct exec *x, pid_t front)
{
	struct err e = {0};
	int status;

	/* The front would be killed as the step's; what it leaves is ended as when it is not apart. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != front)
		return EXIT_MLFS;
	if (mounted_enter(&x->mounted, &e) < 0)
		return run_uncached(x, e.msg);
	status = run_in_cache(x);
	tell_apart(x, false, false);
	return status;
}

/* How the child's report begins, for that of the command run plainly. */
static void take_news(struct exec *x, struct news *n)
{
	static const char *const results[] = {"hit", "miss", "uncached"};

	for (size_t k = 0; k < 3; k++)
		if (strcmp(n->result, results[k]) == 0)
			x->rep.result = results[k];
	x->rep.name = n->name;
	x->rep.step_key = n->has_key ? &n->step_key : NULL;
}

static int run_apart(struct exec *x)
{
	struct news n = {0};
	pid_t front = getpid(), child;
	auto_close int from = -1;
	char told[64];
	int ends[2], hands[2], status;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return run_uncached(x, "cannot make a pipe");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, hands) < 0) {
		close(ends[0]);
		close(ends[1]);
		return run_uncached(x, "cannot make a socket pair");
	}
	child = fork();
	if (child == 0) {
		close(ends[0]);
		close(hands[0]);
		x->apart = ends[1];
		x->hand = hands[1];
		status = in_child(x, front);
		exec_end(x);
		exit(status);
	}
	close(ends[1]);
	close(hands[1]);
	from = ends[0];
	x->hand = hands[0];
	if (child < 0)
		return run_uncached(x, "cannot fork");
	status = plain_wait(child, &x->mask);
	if (read_full(from, &n, sizeof(n)) != sizeof(n))
		snprintf(n.result, sizeof(n.result), "uncached"); /* it was killed */
	snprintf(told, sizeof(told), "%s %.6f%s", n.result, n.saved_seconds,
		 n.shared ? MOUNT_TOLD_SHARED : "");
	mounted_done(&x->mounted, told);
	if (!n.plain)
		return status;
	take_news(x, &n);
	if (n.fed)
		x->fed = plain_take(x->hand);
	return run_plain(x, n.reason[0] ? n.reason : NULL);
}

static int run_exec(struct exec *x)
{
	struct err e = {0};
	auto_free char *cwd = getcwd(NULL, 0);

	x->begun = mono_ns();
	x->rep = (struct report){.result = "uncached",
				 .argv = x->o.argv,
				 .cwd = cwd,
				 .name = x->o.name ? x->o.name : x->o.argv[0],
				 .started_ns = now_ns(),
				 .verify = x->o.verify};
	mounted_find(&x->mounted);
	if (x->o.no_cache) {
		x->hands_off = cache_in_view(x->o.cache_dir);
		return run_plain(x, "--no-cache");
	}
	if (cache_in_view(x->o.cache_dir)) {
		x->hands_off = true;
		err_text(
			&e, EXDEV,
			"cannot use the cache %s in a step of another mlfs; set MLFS_CACHE to it for that one, "
			"too",
			x->o.cache_dir);
		return run_uncached(x, e.msg);
	}
	return x->mounted.n ? run_apart(x) : run_in_cache(x);
}

int cmd_exec(int argc, char **argv)
{
	return exec_in(argc, argv, NULL);
}

/* A job that knows nothing of mlfs does not fail for what is wrong in mlfs.conf. */
static int run_unread(char **argv, const sigset_t *mask)
{
	auto_mounteds struct mounteds m;

	mounted_find(&m);
	return plain_exec(&(struct plain){.argv = argv, .mask = *mask, .mounted = &m});
}

int exec_in(int argc, char **argv, const struct exec_base *base)
{
	struct exec x = {.apart = -1, .hand = -1, .fed = -1, .base = base};
	int status, r = exec_opts_parse_in(argc, argv, base, &x.o);

	sigprocmask(SIG_SETMASK, NULL, &x.mask);
	if (r < 0 && base)
		return run_unread(argv + 2, &x.mask);
	if (r)
		return r < 0 ? EXIT_MLFS : r - 1;
	status = run_exec(&x);
	exec_end(&x);
	return status;
}
