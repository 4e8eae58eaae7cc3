/* SPDX-License-Identifier: MIT */
/*
 * runner.h - private to runner/: what its files offer each other. One section a file.
 *
 * Processes of one recorded step:
 *   front      the process the user started (`mlfs exec`): decides, forks the supervisor, passes signals on,
 *              exits as the command exited. Lives in the caller's process group.
 *   supervisor forked by the front; own process group; serves the FUSE mount (one thread), hashes (one
 *              thread), moves console and stdin (threads), is the child subreaper of the step.
 *   step       forked by the supervisor; makes the view (mount namespace), then executes the command.
 */
#ifndef MLFS_RUNNER_H
#define MLFS_RUNNER_H

#include <sys/socket.h>
#include <sys/stat.h>

#include "../index/index.h"

#define EXIT_MLFS	125 /* mlfs itself failed */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND	127
#define EXIT_USAGE	2 /* wrong usage, of every command but exec */

/* ---- options.c / config.c: the command line and mlfs.conf ---- */

struct strlist {
	char **v;
	size_t n;
};
#define MAX_SIZE_DEFAULT (UINT64_MAX - 1) /* idx_default_max_size */
struct exec_opts {
	char *cache_dir; /* resolved: --cache, $MLFS_CACHE, $XDG_CACHE_HOME/mlfs, ~/.cache/mlfs */
	char *config;	 /* file read, or NULL */
	double expire_after; /* seconds; < 0: never */
	bool no_cache, refresh, read_only, only_if_cached, require;
	bool no_lazy; /* outputs of hits are real files at once, in a persistent mount as well */
	bool strict, allow_network, cache_failures, verify;
	bool private_; /* nothing is had from other users, nor given to them */
	bool clean_env;
	struct strlist env;	   /* --env NAME or NAME=VALUE, NAME may have '*' */
	struct strlist ignore_env; /* --ignore-env */
	struct strlist ignore;	   /* --ignore GLOB */
	char *salt, *name, *report;
	int verbosity;	   /* -q: -1, default 0, -v: 1 */
	uint64_t max_size; /* bytes; MAX_SIZE_DEFAULT, IDX_NO_LIMIT */
	double max_age;	   /* seconds; < 0: none */
	double keep_runs;  /* seconds of history; < 0: all of it */
	uint64_t keep_runs_size;
	char **argv; /* the command, NULL-terminated; borrowed from main's argv */
	int argc;
};
/* Parse `mlfs exec` words (argv[0] is "exec"). 0: go on; > 0: exit status + 1 of a finished request (--help
 * printed: 1); < 0: usage error, already reported on stderr in one line; the caller exits EXIT_MLFS. */
int exec_opts_parse(int argc, char **argv, struct exec_opts *ret);
/* What holds for a step besides, since it was executed in a persistent mount: over mlfs.conf, under the words. */
struct exec_base {
	char *cache;		 /* or NULL */
	struct strlist settings; /* "name=value" */
	struct strlist files;	 /* of settings, the outermost first */
	uid_t owner;		 /* whose files hold, beside root's and one's own */
	/* share.h: where results of others may be had, and what the program is called there; or NULL */
	char *share, *program;
};
int exec_opts_parse_in(int argc, char **argv, const struct exec_base *base, struct exec_opts *ret);
void exec_opts_free(struct exec_opts *o);
/* The cache directory: as given (--cache; may be NULL), or by the environment; absolute, malloc'ed. NULL: there is no home. Where
 * a directory holds a cache for each user, as that of a mount with allow_other, it is one's own. */
#define CACHE_USERS "users"
char *find_cache(const char *given);
/* The cache of an mlfs that is not given --cache; NULL: cannot be told. Caller frees. */
char *default_cache(void);
/* query.c: does the cache, or where it would be made, lie in the view of another mlfs? LMDB shares memory with all who use
 * it, and through a view one does not see the same as outside of it. */
bool cache_in_view(const char *dir);
/* The nearest of `words` (NULL-terminated) to `wrong`, or NULL when none is near. */
const char *nearest_word(const char *wrong, const char *const *words);

/* ---- step.c: the step key ---- */

/* How fd 0 is given to the step. */
enum stdin_type {
	IN_CLOSED,
	IN_NULL,
	IN_TTY,
	IN_FILE,
	IN_STREAM /* pipe, fifo, socket */,
	IN_DEVICE
};
struct step {
	struct fp key;
	char *cwd;
	char *name;
	char *env_note; /* the variables in the key, "NAME=VALUE\n" sorted */
	bool tty_out, tty_err;
	bool merged; /* stdout and stderr are the same open file or terminal */
	struct buf
		description; /* what the key is the hash of: n, what descriptors were passed; then the rest */
};
/* Describe what is about to run. The command's environment is the caller's; env rules only shape the key. */
int step_describe(const struct exec_opts *o, enum stdin_type in, const struct fp *stdin_file_fp,
		  int64_t stdin_off, struct step *ret, struct err *e) must_check;
/* What descriptors the caller passes on (inherited.h) counts as well. */
void step_passes(struct step *s, const struct buf *passed);
void step_free(struct step *s);
/*
 * What the step is, whoever runs it (share.h): the words, the directory, the environment but for whose it is, umask, streams,
 * settings. home: is what is below $HOME meant for each his own? -EOPNOTSUPP: it cannot be told safely.
 */
int step_shared(const struct exec_opts *o, const struct step *s, enum stdin_type in, bool home,
		struct buf *ret) must_check;
/* --ignore: is this path, or this name in a directory, neither input nor output? */
bool opts_ignored(const struct exec_opts *o, const char *path);
bool opts_ignored_in(const struct exec_opts *o, const char *dir, const char *name);
/* A path as it is said to people who are in cwd (NULL: nowhere): relative when below. Points into path, or is ".". */
const char *shown_path(const char *cwd, const char *path);

/* ---- stdin.c: what of fd 0 the command reads ---- */

struct stdin_src;
/* Look at fd 0. For IN_FILE its whole content's digest and its offset are parts of the step key. */
int stdin_open(struct idx *x, struct stdin_src **ret, struct err *e) must_check;
enum stdin_type stdin_type(const struct stdin_src *s);
const struct fp *stdin_file_fp(const struct stdin_src *s); /* IN_FILE, else NULL */
int64_t stdin_file_off(const struct stdin_src *s);
/*
 * Lookup, IN_STREAM: would the next bytes be those r recorded (r->stdin_*), to the end of file when it saw
 * that? Waits for bytes that the recorded step read as well; what is looked at stays unread for others as long
 * as it fits what the kernel lets one peek (tee(2) for pipes, MSG_PEEK for sockets), else it is kept here and
 * given to the step first. 1 same, 0 different, -errno. Other types: 1. Call it last, when all else matches.
 */
int stdin_matches(struct stdin_src *s, struct idx *x, const struct result *r,
		  struct err *e) must_check;
/* Hit: take what the recorded step read (IN_STREAM: read and drop stdin_len bytes; IN_FILE: move the shared
 * offset to where the recorded step left it: start + stdin_len). */
int stdin_consume(struct stdin_src *s, const struct result *r, struct err *e) must_check;
/*
 * Miss: the descriptor to be the command's fd 0. IN_STREAM: the read end of a private one-page pipe that a
 * thread (stdin_start) fills by tee/MSG_PEEK, taking from the real stdin exactly what the command has taken
 * from the pipe. Otherwise a dup of fd 0 (-1 when closed). Caller closes.
 */
int stdin_child_fd(struct stdin_src *s, struct err *e) must_check;
int stdin_start(struct stdin_src *s,
		struct err *e) must_check; /* in the supervisor, after the fork */
struct stdin_used {
	enum stdin_kind kind;
	uint64_t len;
	struct fp fp;
	int spool; /* fd of the bytes consumed (IN_STREAM); owned by s */
	bool eof;
	const char
		*spoiled; /* why a result must not be stored ("the terminal was read"), or NULL */
};
/* The command is gone: stop the thread, settle what was consumed. IN_TTY: notices whether the terminal was
 * read (its access time, set back before the start, has moved). Idempotent. */
int stdin_finish(struct stdin_src *s, struct stdin_used *ret, struct err *e) must_check;
/* Has the lookup taken bytes from the real stdin? Then a command that is run plainly must not get
 * fd 0 itself, but what stdin_child_fd and stdin_start give (they work in any process). */
bool stdin_holds(const struct stdin_src *s);
void stdin_free(struct stdin_src *s);

/* ---- console.c: stdout and stderr ---- */

struct console;
/*
 * Make what the command gets as fd 1 and 2: pipes, or a pseudo-terminal (raw output, window size of the real
 * one) for a stream that is a terminal. merged: one for both. Streams that are closed stay closed.
 * A spool file in `spool_dir` (unlinked; memory when that fails) keeps the bytes.
 */
int console_open(const struct step *s, const char *spool_dir, struct console **ret,
		 struct err *e) must_check;
void console_child_fds(const struct console *c, int *ret_out,
		       int *ret_err);		 /* borrowed; -1: closed */
void console_close_child_fds(struct console *c); /* in the supervisor, after the fork */
/* Threads that copy to the real fd 1 / 2 and into the spool. A reader that went away (EPIPE) closes the pipe so
 * that the command gets SIGPIPE as it would natively; window size changes are passed on by console_winch.
 * Terminal modes that the command sets on the pseudo-terminal are mirrored to the real terminal. */
int console_start(struct console *c, struct err *e) must_check;
void console_winch(struct console *c);
/* The pseudo-terminals: at most 2 of them. Returns how many. */
struct front;
size_t console_fronts(const struct console *c, struct front *ret);
/* Wait until everything written so far has reached the real descriptors. */
void console_flush(struct console *c);
struct console_record {
	int spool; /* borrowed */
	uint64_t len;
	struct console_chunk *chunks; /* borrowed */
	size_t n_chunks;
	bool merged;
	const char *spoiled; /* the output could not be recorded, or NULL */
};
/* All writers are gone: join the threads. */
void console_finish(struct console *c, struct console_record *ret);
void console_free(struct console *c);
/* Write recorded bytes to fd 1 and 2 in their order. */
int console_replay(const void *bytes, size_t n, const struct console_chunk *chunks, size_t n_chunks,
		   struct err *e) must_check;
/* Could a result with this console be replayed onto streams laid out so? (merged onto split only when nothing was
 * written; split onto merged only when at most one stream was written) */
bool console_compatible(const struct result *r, bool merged);

/* ---- decide*.c: is this a hit? ---- */

struct lazy_step;
struct decision {
	bool hit;
	struct result *result; /* hit: caller frees through decision_free */
	char *reason; /* miss: a sentence for people: "data/raw.csv changed", "not seen before" */
	struct place
		*places; /* hit: what is to be done to each output, same order as result->outputs */
	struct lazy_step *
		lazy; /* lazy_step.h: some may be placeholders; NULL: none. Set by who places them */
};
enum place_action {
	PLACE_KEEP,
	PLACE_WRITE,
	/* into the file that is there, which has other names, or lies where no other can take its place */
	PLACE_THROUGH,
	PLACE_REMOVE
};
struct place {
	enum place_action action;
	bool gone; /* nothing stood there */
};
/* Two-stage lookup (design 3, 4). Never an error that the caller must treat as fatal: trouble is a miss with
 * its reason. */
void decide(struct idx *x, const struct exec_opts *o, const struct step *s, struct stdin_src *in,
	    struct decision *ret);
void decision_free(struct decision *d);

/* ---- stamp.c: the quick way to a hit ---- */

/* What lstat said of a path: 0 and *ret, or its errno. */
typedef int stamp_facts_fn(void *arg, const char *path, struct stat *ret);
/*
 * A lookup found that r is a hit and all its outputs are in place. Remember what lstat said of every path of
 * its path set and outputs, so that stamp_find finds it again. facts must give what lstat said *before* anything
 * else was looked at of that path; at: CLOCK_REALTIME ns, no later than the first of these lstats. Nothing is kept when
 * times are too fresh to show a change.
 */
void stamp_keep(struct idx *x, const struct exec_opts *o, const struct step *s,
		const struct result *r, int64_t at, stamp_facts_fn *facts, void *arg);
/* The result (caller: result_free; it has no states) that stamp_keep was last told of for this step, when nothing that it
 * depends on has changed since and all its outputs are in place; else NULL. */
struct result *stamp_find(struct idx *x, const struct exec_opts *o, const struct step *s);

/* ---- replay.c: put the outputs of a hit in place ---- */

/*
 * Verify that every object needed is there and whole (before anything is touched), then place what d->places
 * says: directories first, files by temporary name + rename, links, modes, owners (root), xattrs, times, hard
 * links; removals last, deepest first. 1: done. 0: an object is missing or damaged (nothing was touched; the
 * result is dropped; the caller runs the step). -errno: could not place (e says the path); the caller runs the
 * step, which will write its outputs itself.
 */
int replay_outputs(struct idx *x, const struct decision *d, struct err *e) must_check;

/* ---- report.c ---- */

struct verdict;
struct report {
	const char *result; /* "hit", "miss", "uncached" */
	bool stored;
	const char *reason; /* or NULL */
	const char *name;
	const struct fp *step_key, *input_key; /* or NULL */
	char *const *argv;
	const char *cwd;
	int exit_status; /* -1: not known, nor is wall_seconds: the command takes our place */
	double wall_seconds, saved_seconds; /* from report_seconds */
	uint64_t inputs, outputs, output_bytes;
	char *shared_by; /* the user who stored the result of a hit, when it is another one; or NULL */
	uint64_t put_bytes, new_bytes; /* when stored: as in struct run; not in the JSON object */
	int64_t started_ns;
	bool verify;		       /* --verify: verdict.h's fields are in it as well */
	const struct verdict *verdict; /* or NULL: there was nothing to compare with */
};
/* Write the JSON object to path ("-": stdout), atomically for a regular file. */
int report_write(const char *path, const struct report *r, struct err *e) must_check;
/* The one line on stderr: "mlfs: hit train.py 3f2a91c0 (saved 5 m 3 s)", unless quiet or not a terminal; with -v
 * always, and with the reason. */
void report_line(const struct report *r, int verbosity);

/* Whole microseconds, as the JSON object has them: sums over reports and over the history are the same. */
double report_seconds(int64_t ns);

/* ---- note.c: what `mlfs log` and `mlfs stats` will know of a run ---- */

/* x: the cache when it is open, or NULL. Trouble is nobody's trouble. */
void run_note(struct idx *x, const struct exec_opts *o, const struct report *rep);

/* ---- filter.c, watch.c: calls that are looked at before they happen, through seccomp user notification ---- */

struct watch;
struct fs;
/* In the step's process, before exec, with CAP_SYS_ADMIN in its user namespace: install the filter; returns the
 * listener descriptor (close-on-exec), or -errno: -EBUSY when a listener is there already (mlfs in mlfs),
 * -EINVAL/-ENOSYS/-EACCES when it cannot be had.
 * network: false leaves out what is about noticing network use. terminal: is stdout or stderr one?
 * From now on this process must not make any call of the list in call.c until the supervisor answers: it would
 * wait for ever. Hand the listener over with watch_send, which the filter lets pass, then close it. */
int watch_install(bool network, bool terminal, struct err *e) must_check;
/* Send the listener (one byte with SCM_RIGHTS) over the connected AF_UNIX socket. */
int watch_send(int sock, int listener_fd, struct err *e) must_check;
/* In the supervisor: a thread answers notifications until the step is gone. Takes listener_fd on success.
 * command: a process in the view that fs (borrowed) serves; fs NULL: locks are left alone. view: that view's mount
 * namespace, from mounts_namespace (mounts.h). console: what its terminals are, borrowed; or NULL.
 * network: as for watch_install. */
int watch_start(int listener_fd, pid_t command, unsigned long view, struct fs *fs,
		const struct console *console, bool network, struct watch **ret,
		struct err *e) must_check;
/* What was mounted that no result may rest on, or NULL. Any thread; valid until freed. */
const char *watch_mounts(struct watch *w);
/* No process of the step is left: ends the thread. Why the result must not be stored ("network was used: connect to
 * 93.184.216.34:443 by curl"), or NULL. Valid until freed. */
const char *watch_spoiled(struct watch *w);
/* While the step runs, any thread: what a step within it must know, since it does not notice it itself: that
 * sockets or memory connected any two. Or NULL. */
const char *watch_touched(struct watch *w);
/* Ends the thread and closes the listener: with processes of the step still alive (daemons), their watched calls
 * fail with ENOSYS from then on, so keep the watch until they are gone. NULL is fine. */
void watch_free(struct watch *w);

/* ---- commands ---- */
int cmd_exec(int argc, char **argv);
/* The same; base: what holds besides the words, or NULL. */
int exec_in(int argc, char **argv, const struct exec_base *base);
int cmd_log(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_forget(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_lineage(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_materialize(int argc, char **argv);
int cmd_status(int argc, char **argv);
/* As mount(8) calls its helpers: mount.fuse.mlfs SRC MNT [-sfnv] [-o OPTIONS]. */
int mount_helper(int argc, char **argv);

#endif
