/* SPDX-License-Identifier: MIT */
/*
 * index.h - the cache: hashes, remembered digests, path sets, results, runs (LMDB) and objects.
 *
 * The words are those of docs/design.md: a step key names what is known before running; a path set
 * says which paths were observed and how; an input key is step key + path set + the state of every
 * path; a result is what an input key maps to; an object is the bytes of one output, named by
 * SHA-256.
 *
 * Threads: a struct idx may be used by several threads at once; every call is one LMDB transaction
 * at most.
 * Processes: any number may use one cache directory; writers take turns. A killed process leaves
 * nothing locked (robust mutexes of LMDB; stale readers are cleared on open).
 * fork: an open struct idx must not be used in a child (not even closed); open it again there. Open
 * a cache only once in a process: LMDB's file locks are the process's, and closing one would
 * release the other's.
 */
#ifndef MLFS_INDEX_H
#define MLFS_INDEX_H

#include <sys/stat.h>

#include "base/base.h"

/* ---- hash.c ---- */

/* XXH3-128 canonical bytes: fingerprints of inputs and keys in a private cache. Not
 * collision-resistant. */
struct fp {
	uint8_t b[16];
};
/* SHA-256: names objects. */
struct oid {
	uint8_t b[32];
};
static inline bool fp_eq(const struct fp *a, const struct fp *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}
static inline bool oid_eq(const struct oid *a, const struct oid *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}
struct fp fp_of(const void *p, size_t n);
struct fp_state *fp_begin(void); /* never NULL; freed by fp_end */
void fp_update(struct fp_state *s, const void *p, size_t n);
struct fp fp_end(struct fp_state *s);
uint64_t xxh64_of(const void *p, size_t n); /* XXH3-64, guards records */

/* Digest of an open file's bytes [off, off+len) (len -1: to its end), read with pread. *ret_size
 * may be NULL. */
int hash_fd(int fd, off_t off, off_t len, struct fp *ret, uint64_t *ret_size) must_check;
/* Both digests in one pass, from offset 0 to the end. */
int hash_fd_both(int fd, struct fp *ret_fp, struct oid *ret_oid, uint64_t *ret_size) must_check;
int oid_of(const void *p, size_t n, struct oid *ret) must_check;

/* ---- dir.c (and env.c for what is in LMDB) ---- */

struct idx;
#define IDX_SCHEMA 2 /* of everything kept; see docs/format.md for its history */

/*
 * Open (create: mode 0700) the cache in `dir`. Layout: dir/index/{data.mdb,lock.mdb},
 * dir/cas/xx/<62 hex>, dir/tmp/, dir/lock/, dir/version (docs/format.md). Grows the map by itself,
 * MDB_MAP_FULL never reaches a caller.
 * Errors: ENOTDIR (dir is a file), EACCES, EROFS; EUCLEAN (not
 * a cache or damaged; message says the remedy); ENOTSUP (written by a newer mlfs; message says so);
 * EREMOTE (on a network file system); ENOENT (read_only, and there is none). With read_only,
 * digests, uses and runs are silently not kept, other writes give -EROFS.
 */
int idx_open(const char *dir, bool read_only, struct idx **ret, struct err *e) must_check;
/* To read only, by who looks at few records: the disk is asked for these alone. */
int idx_open_few(const char *dir, struct idx **ret, struct err *e) must_check;
/*
 * As idx_open, to write, for who runs a job, which damage in the index must not end. LMDB believes what it finds; reading
 * is guarded (a fault in it is an error, -EUCLEAN), but a write transaction may end the process it is made in.
 * apart: each is made in a process of its own, whose death is an error like any other. Else none is made before
 * idx_release: what idx_digest_add gathers waits, and who then stores has seen to it that the job survives it.
 */
int idx_open_for_job(const char *dir, bool apart, struct idx **ret, struct err *e) must_check;
void idx_release(struct idx *x);
/* The next who opens the cache in dir walks all of its index: a process died of it. */
void idx_distrust(const char *dir);
/* Was a temporary file, whose name begins with its process' number and a dash, left behind by one that is gone? */
bool idx_left_behind(const struct stat *st, const char *name);
void idx_close(struct idx *x);
const char *idx_dir(const struct idx *x);
/* A new name for a file in dir/tmp, which goes with what killed processes left behind; caller frees. */
char *idx_temp_path(struct idx *x);
/* Between these the calling thread reads one snapshot without a transaction a call (nests;
 * thousands of state_of or idx_digest_get). What this thread itself writes meanwhile it sees.
 * Always pair them: an open one keeps the map from growing for other threads. */
int idx_begin_read(struct idx *x, struct err *e) must_check;
void idx_end_read(struct idx *x);

/* ---- digest.c: remembered digests under (device, inode, size, mtime, ctime) ---- */

/*
 * 1: found, 0: not. Only regular files.
 */
int idx_digest_get(struct idx *x, const struct stat *st, struct fp *ret);
struct idx_digest {
	struct stat st; /* fstat before and after hashing, which the caller found equal */
	struct fp fp;
	int64_t hashed_at; /* CLOCK_REALTIME ns when hashing began */
};
/*
 * Remember a digest, with the next writing of many: by idx_close at the latest. One whose mtime or ctime is not older than hashed_at by at
 * least 2 s is silently left out (git's racy rule: with coarse clocks a later write could leave the
 * same times), unless the file system's timestamps are known fine (then a ctime 20 ms old will do; see
 * digest.c). Never one of a file system without ctime. The caller has seen to it that nobody had the
 * file open for writing when hashing began (fd_has_writer).
 */
void idx_digest_add(struct idx *x, const struct idx_digest *d);
/* Likewise n digests, with all that are gathered, now; very many in several transactions. */
int idx_digest_put(struct idx *x, const struct idx_digest *d, size_t n, struct err *e) must_check;
/* Likewise that of a file which the caller has just written, and which by its mtime nobody else has since. It is remembered
 * where each change after lstat gave st shows in the ctime, however soon it comes (multigrain timestamps, Linux 6.13), and
 * silently left out elsewhere. */
void idx_digest_written(struct idx *x, const struct idx_digest *d);
/* The digest of the file at path whose lstat is *st: remembered, or read and hashed (O_NOFOLLOW;
 * -ESTALE when it is not the same (dev, inode, size, mtime, ctime) before and after) and
 * remembered as by idx_digest_add. 1: somebody has it open for
 * writing, so that it holds for this moment only.
 */
int idx_digest_file(struct idx *x, const char *path, const struct stat *st,
		    struct fp *ret) must_check;

/* ---- below.c: files of a view (fs/) seen from inside it ---- */

/* Extended attributes that every file of a view has: "DEV INO SIZE MTIME CTIME WRITER" (decimal, times in ns) of the file below
 * it; WRITER is 1 when somebody outside has it open for writing. Asking for the second counts as reading the file. */
#define IDX_BELOW_XATTR	 "user.mlfs.below"
#define IDX_READ_XATTR	 "user.mlfs.read"
#define IDX_BELOW_SIZE	 128
/* The step keys that are being recorded around a process in a view, in hex, blanks between. */
#define IDX_KEYS_XATTR	 "user.mlfs.keys"
/* Asking for it says that the step did what depends on the state of a cache: its result is not stored. */
#define IDX_LOOKED_XATTR "user.mlfs.looked"
/* Was the cache opened by a process that lives in a view? */
bool idx_in_view(const struct idx *x);
/* A regular file that st describes, as lstat gave it: when it lies in a view, put the device and inode below into
 * st. reading: what is remembered of its content is about to be used. x may be NULL. 1: so done; 0: not in a view;
 * -ESTALE: st is not what the file is now. */
int idx_below(const struct idx *x, const char *path, bool reading, struct stat *st) must_check;
/* What a view answers. */
void idx_below_tell(const char *path, const struct stat *st, bool reading, bool writer,
		    char text[IDX_BELOW_SIZE]);
/* Ask the view that this process lives in for an extended attribute: its length (text is NUL-terminated), or
 * -ENODATA: in none. */
ssize_t idx_ask_view(const char *question, char *text, size_t n) must_check;

/* May what was found at `at` (CLOCK_REALTIME ns) about the file with these times be believed as long as
 * the times stay the same? No while they are so fresh that a later change could leave them as they are
 * (the racy rule of idx_digest_put). x NULL: as on a file system that is not known. */
bool idx_times_settled(struct idx *x, const struct stat *st, int64_t at);
/* The same for a type of file system, as /proc/self/mountinfo names it. */
bool idx_times_settled_on(const char *type, const struct stat *st, int64_t at);

/* ---- writers.c ---- */

/* Has somebody, this process included, the file open for writing, so that a mapping may change its
 * bytes without its times? Known of one's own files, or as root, on local file systems; elsewhere no. */
bool fd_has_writer(int fd);
/* This process is about to open fd's file for writing, and will write nothing (a lock wants it so): fd_has_writer
 * speaks of others only, until own_writer_end after that was closed. Any thread. */
void own_writer_begin(int fd);
void own_writer_end(dev_t dev, ino_t ino);

/* ---- state.c: the state of one path ---- */

/* What was observed of a path; bits of path_entry.kinds. */
enum obs {
	OBS_ABSENT = 1,	 /* nothing there */
	OBS_EXISTS = 2,	 /* something of this file type is there (it was removed by the step) */
	OBS_ATTR = 4,	 /* type and mode; of a regular file also size and mtime */
	OBS_CONTENT = 8, /* regular file: type, mode, size, digest */
	OBS_LINK = 16,	 /* symlink target */
	OBS_LIST = 32,	 /* directory: type, mode, names and types but for the excluded ones */
	OBS_XATTR = 64,	 /* all extended attributes of it (names and values) */
};

/*
 * State of a path as a canonical byte string appended to `out`, for the kinds in `kinds`
 * (ABSENT/EXISTS/ATTR/CONTENT/LINK/LIST/XATTR as wanted). What is there now is described, whatever
 * the kinds hoped for: a path with OBS_ABSENT that exists yields a state that differs from the
 * absent one. Total over file types.
 * st: lstat of path, or NULL with st_err = the errno of lstat
 * (ENOENT and ENOTDIR are "absent"; another errno is a state of its own, "error N").
 * digest: the content digest when kinds has OBS_CONTENT and st is a regular file; NULL lets the
 * function ask idx_digest_file.
 * excluded: sorted names to leave out of OBS_LIST.
 * Returns 0, or -errno when it could not be determined (then no hit).
 */
int state_of(struct idx *x, const char *path, unsigned kinds, const struct stat *st, int st_err,
	     const struct fp *digest, char *const *excluded, size_t n_excluded,
	     struct buf *out) must_check;
/* state_parse.c: what a state says. */
struct state_parts {
	char type; /* 'a': nothing there; 'E': lstat failed with err; else one of f d l p s c b */
	int err;
	bool has_mode, has_owner, has_rights, has_size, has_content, has_mtime, has_rdev, has_list,
		has_xattrs;
	mode_t mode; /* 07777 bits */
	uid_t uid;
	gid_t gid;
	uint8_t rights; /* of somebody else's: what the user may do, rwx */
	uint64_t size;
	struct fp content;
	int64_t mtime_ns;
	uint64_t rdev;
	char *target; /* of a link, or NULL */
	struct fp list, xattrs;
};
int state_parse(const void *p, size_t n, struct state_parts *ret) must_check; /* -EBADMSG */
void state_parts_free(struct state_parts *s);
/* The same from facts gathered earlier instead of from the file system (what the trace saw first).
 * list: the names with their types as "tname" (t one of f d l p s c b), sorted by name. xattrs: see
 * xattr_blob. */
struct facts {
	bool present;
	mode_t mode; /* st_mode */
	uid_t uid;
	gid_t gid;
	uint64_t size; /* regular files */
	int64_t mtime_ns;
	struct fp digest;   /* OBS_CONTENT */
	const char *target; /* OBS_LINK */
	char *const *list;  /* OBS_LIST */
	size_t n_list;
	const void *xattrs; /* OBS_XATTR */
	size_t n_xattrs;
	uint64_t rdev; /* st_rdev of device nodes */
};
/* The letter of a type of file, in states and in listings: f d l p s c b, or ?. */
char state_type(mode_t mode);
void state_of_facts(unsigned kinds, const struct facts *f, char *const *excluded, size_t n_excluded,
		    struct buf *out);
/* owner.c: the part of a state that says whose it is; nothing when it is one's own. */
void owner_put(mode_t mode, uid_t uid, gid_t gid, struct buf *out);
/* state_owner.c: a state without that part, and with the one of the user of this process (st: lstat of the path now; NULL:
 * nothing is there). -EBADMSG: it is no state. */
int state_without_owner(const void *p, size_t n, struct buf *out) must_check;
int state_with_owner(const void *p, size_t n, unsigned kinds, const struct stat *st,
		     struct buf *out) must_check;
/* Names and types of a directory sorted by name ("fname"), "." and ".." left out. Caller frees with
 * strv_free. */
int list_dir(int dirfd_, char ***ret, size_t *ret_n) must_check;
/* For who reads a directory by itself: one name as list_dir gives it (type: d_type), malloc'ed; and their order. */
char *list_entry(int dirfd_, const char *name, unsigned char type);
void list_sort(char **list, size_t n);
void strv_free(char **v, size_t n);
/* All extended attributes of path (not followed) as one canonical blob (sorted; security.selinux
 * and security.ima left out); empty when there are none or the file system has none. fd >= 0: of
 * that file instead. */
int xattr_blob(const char *path, int fd, struct buf *out) must_check;
/* Make path's (or fd's) extended attributes those of the blob. */
int xattr_apply(const char *path, int fd, const void *blob, size_t n, struct err *e) must_check;

/* ---- record.c: path sets and results, and their bytes ---- */

struct path_entry {
	char *path;	 /* absolute, as in the view */
	unsigned kinds;	 /* enum obs bits */
	char **excluded; /* OBS_LIST: sorted names the step itself makes there */
	size_t n_excluded;
};
/* Sorted by path (strcmp), each path once. */
struct path_set {
	struct path_entry *v;
	size_t n;
	bool paths_borrowed; /* `path` of each is somebody else's, and outlives the set */
};
void path_set_free(struct path_set *s);
void path_set_encode(const struct path_set *s, struct buf *out); /* paths prefix-compressed */
int path_set_decode(const void *p, size_t n, struct path_set *ret) must_check; /* -EBADMSG */
/* Whether path_set_decode would work, without its memory. */
int path_set_check(const void *p, size_t n) must_check;

#define OUT_ANY_ID UINT32_MAX
/* What stands at a path: an output's final state, or what was there when the step ran. */
enum out_type { OUT_ABSENT, OUT_FILE, OUT_DIR, OUT_LINK, OUT_FIFO };
struct left {
	enum out_type type;
	mode_t mode; /* 07777 bits */
	uint64_t size;
	struct fp fp; /* OUT_FILE: content fingerprint */
	char *target; /* OUT_LINK */
	bool unknown; /* was there, but its content was not determined (matches nothing) */
};
struct output {
	char *path;
	struct left now; /* as the step left it; OUT_ABSENT: it removed it */
	bool own; /* licence of design 4: earlier state not in the key; `before` has meaning */
	struct left before; /* what was there when recorded (own outputs) */
	/* It is the very file or directory that was there, changed or not; else the step made a new one. */
	bool in_place;
	/* in_place, and never changed: the step only made or removed names of it (see link_group). */
	bool untouched;
	/* in_place, its content and mode as they were (changed back, moved and moved back, given another time): what is here
	 * is no work of the step's. */
	bool as_before;
	/* The file that was there went on elsewhere: the step changed it, under all its names, before it replaced it, or
	 * moved it away. Then link_group is that of what it is now, where it is an output. */
	bool spilled;
	/* A directory of the step's making that it looked into: nothing else may be in it at a later lookup. */
	bool listed;
	struct oid oid;	   /* OUT_FILE: the object */
	uint32_t uid, gid; /* OUT_ANY_ID: as it is (in_place) */
	int64_t mtime_ns;
	bool mtime_set;	     /* the step set the time: restored exactly; else the order is kept */
	uint32_t link_group; /* 0, or outputs with the same number are hard links of one file */
	/* 0, or what stood at the outputs with the same number when the step began was one file. */
	uint32_t linked_before;
	void *xattrs; /* blob of xattr_blob; NULL: none, or as they are (in_place) */
	size_t n_xattrs;
};
/* Two paths of a path set, by their places in it, that were names of one file. */
struct same_file {
	uint32_t a, b; /* a < b */
};
/* Is it the step's work, so that it says whence what is there came? */
static inline bool output_is_work(const struct output *o)
{
	return !o->untouched && !o->as_before;
}
/* One piece of console output, in the order written. */
struct console_chunk {
	uint8_t fd; /* 1 or 2 */
	uint32_t len;
};
/* How stdin was used. */
enum stdin_kind { STDIN_UNUSED, STDIN_BYTES };
struct result {
	struct fp input_key, step_key, path_set_id;
	/* Only for idx_result_put: the key without what was read from stdin and without what stood where own outputs
	 * went. Where that is not input_key, idx_variants finds input_key under it. Not kept in the record. */
	struct fp base_key;
	char *name; /* --name, or the base name of the command */
	char **argv;
	size_t n_argv;
	char *cwd;
	char *env_note;	    /* "NAME=VALUE\n…" that was in the key, for explain */
	int exit_status;    /* 0-255; 128+N for signal N */
	int64_t started_ns; /* CLOCK_REALTIME */
	int64_t wall_ns;
	int64_t stored_ns;
	uint64_t n_inputs;
	bool strict;
	/* console: the bytes of both streams concatenated are object console_oid (none when
	 * console_len 0) */
	bool console_merged; /* stdout and stderr were one file: chunks all say 1 */
	struct oid console_oid;
	uint64_t console_len;
	struct console_chunk *chunks;
	size_t n_chunks;
	enum stdin_kind stdin_kind;
	uint64_t stdin_len; /* bytes the step consumed */
	struct fp stdin_fp;
	struct oid stdin_oid;	/* the bytes themselves; zeros: not kept, see result_stdin */
	bool stdin_eof;		/* it was at the end when the step was done */
	struct output *outputs; /* sorted by path: directories precede what is in them */
	size_t n_outputs;
	/* state of each path of the path set at recording time, for explain; same order; each
	 * malloc'ed */
	struct buf *states;
	size_t n_states;
	/* Inputs that were one file: what a step makes of two names of it (to rename one to the other does nothing) is
	 * not what it makes of two files. */
	struct same_file *same;
	size_t n_same;
	/* Only for idx_result_put, which keeps them beside the record: what is in the directories listed, and the bytes that
	 * the step key is the hash of. May be missing. */
	struct names_kept *listings;
	size_t n_listings;
	struct buf description;
	/* The same of what it wrote to standard output alone, where that was no terminal. */
	struct fp stdout_fp;
	uint64_t stdout_len; /* 0: nothing, or not known */
};
/* The names in a directory, in bytes of their own, by the fingerprint that its state has. */
struct names_kept {
	struct fp fp;
	struct buf names;
};
void result_free(struct result *r); /* frees the members and r */
/* The object of what the step read from stdin, borrowed. NULL: nothing was read, or stdin was a file, whose content is in
 * the step key. */
const struct oid *result_stdin(const struct result *r);
/* What it left at path, or NULL: nothing. Borrowed; outputs are sorted by path. */
const struct output *result_output(const struct result *r, const char *path);
void left_free(struct left *l);
void result_encode(const struct result *r, struct buf *out);
int result_decode(const void *p, size_t n, struct result **ret) must_check; /* -EBADMSG */
/* What a record says of the states of its path set, without memory of its own. */
struct result_states {
	struct fp path_set_id;
	int64_t stored_ns;
	size_t n;
	struct cur
		at; /* each of the n states is what cur_bytes gives next, in the order of the path set */
};
int result_states(const void *p, size_t n, struct result_states *ret) must_check; /* -EBADMSG */
/* Checks the states, but leaves them out. */
int result_decode_brief(const void *p, size_t n, struct result **ret) must_check;
/* The paths of a path set in turn, from its bytes, which are borrowed. path_iter_begin and path_iter_next: -EBADMSG */
struct path_iter {
	struct cur at;
	struct buf path; /* the last one, NUL-terminated */
	unsigned kinds;	 /* of it */
	size_t left;	 /* paths to come */
};
int path_iter_begin(const void *p, size_t n, struct path_iter *ret) must_check;
int path_iter_next(struct path_iter *i) must_check; /* 1; 0: there is no more */
void path_iter_end(struct path_iter *i);	    /* {0} is fine */
/* Goes through those to come, or through the bytes of a path set, as idx_path_set_each. -EBADMSG */
int path_iter_each(struct path_iter *i, int (*fn)(void *arg, const char *path, unsigned kinds),
		   void *arg) must_check;
int path_set_each(const void *p, size_t n, int (*fn)(void *arg, const char *path, unsigned kinds),
		  void *arg) must_check;

/* input key = hash of step key, path set id and every path's state in path-set order */
struct key_state *input_key_begin(const struct fp *step_key, const struct fp *path_set_id);
void input_key_add(struct key_state *k, const void *state, size_t n);
struct fp input_key_end(struct key_state *k); /* frees k */
/* That of a result: of its step, path set and states. */
struct fp input_key_base(const struct result *r);
/* Into r: its path_set_id, which is that of s, and its base_key. */
void input_key_set_base(struct result *r, const struct path_set *s);
/* That key, with what stood where the own outputs of r went when there was something, and which paths were names of one
 * file: so a run in another such world is another result, though its inputs are the same. */
struct fp input_key_own(const struct fp *key, const struct result *r);

/* ---- results.c ---- */

#define IDX_MAX_PATH_SETS 64 /* a step key keeps so many, the most recently useful */

/* The path sets seen for a step key, most recently useful first. Frees: path_set_list_free. An
 * undecodable one is skipped. 0 with n = 0 where there are none. */
struct path_set_list {
	struct fp *ids;
	struct path_set *sets;
	size_t n;
	/* Private to results.c: ids[next] to ids[end - 1] are those of sets not read yet. */
	size_t next, end;
};
int idx_path_sets(struct idx *x, const struct fp *step_key, struct path_set_list *ret,
		  struct err *e) must_check;
/* The same one by one: at first n is 0, and each idx_path_sets_next reads another, which then is the last of l. 1, or 0:
 * these were all. What was read stays where it is. */
int idx_path_sets_begin(struct idx *x, const struct fp *step_key, struct path_set_list *ret,
			struct err *e) must_check;
int idx_path_sets_next(struct idx *x, struct path_set_list *l, struct err *e) must_check;
void path_set_list_free(struct path_set_list *l);
/* 1 and *ret (caller: result_free), 0 when there is none or it is damaged (its checksum fails). */
int idx_result_get(struct idx *x, const struct fp *input_key, struct result **ret,
		   struct err *e) must_check;
/* Calls fn with what a result says of the states of its path set, borrowed for the call. 1; 0 when there is no such result, or
 * it is damaged: then fn was not called. -errno. */
int idx_result_states(struct idx *x, const struct fp *input_key,
		      void (*fn)(void *arg, const struct result_states *s), void *arg);
/* The input keys of results that have this base key and differ in what they read from stdin or in what stood where
 * their own outputs went, latest first; *ret is malloc'ed (NULL for none). */
int idx_variants(struct idx *x, const struct fp *base_key, struct fp **ret, size_t *ret_n,
		 struct err *e) must_check;
/* The same without the states (n_states 0), of which a hit has no need. */
int idx_result_get_brief(struct idx *x, const struct fp *input_key, struct result **ret,
			 struct err *e) must_check;
/* idx_path_iter: to go through the paths of a path set, in its order, between idx_begin_read and idx_end_read. -ENOENT as below.
 * idx_path_set_each: calls fn for each; path is borrowed for the call. Stops when fn
 * returns non-zero, and returns that. -ENOENT: there is no such path set, or it is damaged (fn may have
 * been called). */
int idx_path_iter(struct idx *x, const struct fp *id, struct path_iter *ret,
		  struct err *e) must_check;
int idx_path_set_each(struct idx *x, const struct fp *id,
		      int (*fn)(void *arg, const char *path, unsigned kinds), void *arg,
		      struct err *e) must_check;
/* The input keys of the results of a step, the one stored last first, at most IDX_MAX_PATH_SETS; *ret is malloc'ed
 * (NULL for none). Some may have been dropped since. */
int idx_step_results(struct idx *x, const struct fp *step_key, struct fp **ret, size_t *ret_n,
		     struct err *e) must_check;
/* Store result and path set, put the path set first under the step key, and note for each output
 * what was left there (for idx_left_known): one transaction, with the small objects gathered so
 * far. r->path_set_id and r->input_key are already filled. -EINVAL: s is not sorted, or r
 * contradicts itself (chunks and console_len). */
int idx_result_put(struct idx *x, const struct result *r, const struct path_set *s,
		   struct err *e) must_check;
/* Move a path set to the front of its step key (best effort, after a hit) and mark the result used
 * now. Only noted at once, without waiting for anybody (uses.c); done by the next idx_result_put,
 * here or elsewhere. */
int idx_result_touch(struct idx *x, const struct result *r, struct err *e) must_check;
int idx_result_drop(struct idx *x, const struct fp *input_key, struct err *e) must_check;
/* Has some recorded step left exactly this at path? 1 / 0 / -errno */
int idx_left_known(struct idx *x, const char *path, const struct left *l) must_check;
/* Note that a recorded step left these n outputs so, though its result is not stored (absent and unknown ones are left
 * out). */
int idx_left_add(struct idx *x, const struct output *v, size_t n, struct err *e) must_check;
/* Does what l describes equal? (unknown equals nothing) */
bool left_eq(const struct left *a, const struct left *b);

/* ---- stamps.c: the last hit of a step, to be found again by lstat alone (runner/stamp.c) ---- */

struct stamp {
	struct fp options;     /* of the lookup, beyond the step key */
	struct fp path_set_id; /* of the result */
	struct fp input_key;   /* of the result */
	struct fp world;       /* of what lstat says of all it depends on */
};
/* 1: found, 0: not. */
int idx_stamp_get(struct idx *x, const struct fp *step_key, struct stamp *ret) must_check;
/* One a step key; with many thousands of them the older give way. */
int idx_stamp_put(struct idx *x, const struct fp *step_key, const struct stamp *s,
		  struct err *e) must_check;

/* ---- runs.c: one record each `mlfs exec`, for log and stats ---- */

enum run_result { RUN_MISS, RUN_HIT, RUN_UNCACHED };
struct run {
	int64_t started_ns;
	int64_t wall_ns;	   /* -1: not known (the command took the place of mlfs) */
	int64_t saved_ns;	   /* >= 0 */
	char *name, *reason, *cwd; /* or NULL */
	char **argv; /* what is there of the n_argc words of the command; NULL: see `command` */
	size_t n_argv, argc;
	bool argv_cut; /* the last of them was longer */
	char *command; /* of records made before argv was: the words with blanks between. Not written */
	uint8_t result; /* enum run_result */
	bool stored;
	int exit_status; /* -1: not known */
	uint64_t inputs, outputs, output_bytes;
	uint64_t put_bytes, new_bytes; /* given to the store; those that it did not have yet */
	struct fp step_key, input_key; /* zeros: none */
};
void run_clear(struct run *r); /* frees the members */
/* How much history is kept: older segments (4 MB) go when the newest one is closed. 0: without this limit. */
struct runs_keep {
	int64_t age_ns;
	uint64_t bytes;
};
/* One write, in no order with anything; argc, argv_cut and command are not looked at. read_only: nothing is done. */
int idx_run_add(struct idx *x, const struct run *r, const struct runs_keep *keep,
		struct err *e) must_check;
/* The same without opening the index; -errno when there is no cache in dir. */
int idx_run_note(const char *dir, const struct run *r, const struct runs_keep *keep,
		 struct err *e) must_check;
/* Drop what is not to be kept, as far as segments go. */
int idx_runs_prune(const char *dir, const struct runs_keep *keep, struct err *e) must_check;

/* ---- history.c: reading the runs ---- */

#define RUN_KEY_BYTES 8 /* so much of a key is known at once */
struct history;
/* dir: of a cache; none of runs is no error. What is read is what was there when it was opened, or a little later, and
 * nothing twice. LMDB is not needed. Errors: ENOENT (no cache), ENOTSUP (a newer mlfs made it), EACCES, … */
int history_open(const char *dir, struct history **ret, struct err *e) must_check;
void history_close(struct history *h);
struct run_filter {
	const char *name;	    /* glob; NULL: any */
	unsigned results;	    /* of 1 << enum run_result; 0: any */
	int stored;		    /* 1: only stored, -1: only not stored, 0: any */
	bool failed;		    /* only those with a known exit status other than 0 */
	int64_t since_ns, until_ns; /* started_ns is in [since, until); 0: no such bound */
	const char *key; /* hex digits that the step key or the input key begins with; NULL: any */
	/* Is this input key one of those wanted? Asked once for each; NULL: any. */
	bool (*has)(void *arg, const struct fp *input_key);
	void *has_arg;
};
/* What is known of a run at once; texts are borrowed until history_close. */
struct run_row {
	int64_t started_ns, wall_ns, saved_ns; /* wall_ns -1: not known */
	uint64_t bytes; /* of a hit: of its outputs; else given to the store */
	uint64_t new_bytes;
	enum run_result result;
	bool stored;
	int exit_status;	   /* -1: not known */
	const char *name, *reason; /* "": none; NULL: none */
	unsigned name_id;	   /* the same for the same name, from 0 up */
	uint8_t step_key[RUN_KEY_BYTES], input_key[RUN_KEY_BYTES]; /* as they begin; zeros: none */
	const void *where; /* for the calls below, until history_close */
	size_t at;
};
/* Those that pass the filter, the one added last first; stops when fn returns non-zero, and returns that. -errno: the
 * history cannot be read. */
int history_each(struct history *h, const struct run_filter *f,
		 int (*fn)(void *arg, const struct run_row *row), void *arg,
		 struct err *e) must_check;
/* All of it, from the journal (caller: run_clear). -EBADMSG: it is damaged there. */
int history_run(struct history *h, const struct run_row *row, struct run *ret) must_check;
/* The same number for the same reason, from 0 up; only of a row with one. */
unsigned history_reason_id(struct history *h, const struct run_row *row);

/* ---- notes.c: what is kept to explain results; no lookup needs it, and it may be missing ---- */

/* The names of a directory ("tname", sorted by name) without the excluded ones, to be kept. False: too many. */
bool names_make(char *const *list, size_t n, char *const *excluded, size_t n_excluded,
		struct names_kept *ret) must_check;
/* The names under the fingerprint of a state. 1 and *ret (caller: strv_free), 0: not kept. */
int idx_listing_get(struct idx *x, const struct fp *fp, char ***ret, size_t *ret_n,
		    struct err *e) must_check;
/* The bytes that a step key is made of (result.description), appended to ret. 1, 0: not kept. */
int idx_description_get(struct idx *x, const struct fp *step_key, struct buf *ret,
			struct err *e) must_check;
/* The keys of steps of this name, that stored a result last first; as idx_step_results. */
int idx_steps_named(struct idx *x, const char *name, struct fp **ret, size_t *ret_n,
		    struct err *e) must_check;

/* ---- io.c: which results left a content or a path, which looked at a path ---- */

struct io;
/* Reads a row of each result (100,000 in some 20 ms). Use it for several questions. */
int idx_io_open(struct idx *x, struct io **ret, struct err *e) must_check;
void idx_io_close(struct io *io);
/* Calls fn for each output with this content, or at this path, that its result made; r and o are borrowed. Stops when fn
 * returns non-zero, and returns that. What a step wrote to standard output is such a content, too: o->path is IDX_STDOUT then. */
#define IDX_STDOUT "/dev/stdout"
int idx_io_made(struct io *io, const struct fp *content,
		int (*fn)(void *arg, const struct result *r, const struct output *o), void *arg,
		struct err *e) must_check;
int idx_io_left(struct io *io, const char *path,
		int (*fn)(void *arg, const struct result *r, const struct output *o), void *arg,
		struct err *e) must_check;

/* The results that looked at a path (absolute), or have it among their outputs. */
struct idx_touching;
int idx_results_reading(struct idx *x, const char *path, struct idx_touching **ret,
			struct err *e) must_check;
int idx_results_writing(struct idx *x, const char *path, struct idx_touching **ret,
			struct err *e) must_check;
/* There are none: nothing needs to be asked. */
bool idx_touching_none(const struct idx_touching *t);
/* Is this result one of them? What is costly to tell is told once. */
bool idx_touching_has(struct idx_touching *t, const struct fp *input_key);
void idx_touching_free(struct idx_touching *t);

/* ---- find.c ---- */

/* The first keys, in their order, that start with the hex prefix, at most max of them. -EINVAL: not hex. */
enum idx_key_kind {
	IDX_KEY_RESULT, /* input keys of results */
	IDX_KEY_STEP	/* step keys that have results */
};
int idx_keys(struct idx *x, enum idx_key_kind kind, const char *hex_prefix, struct fp *ret,
	     size_t max, size_t *ret_n, struct err *e) must_check;
/* Every result whose key starts with the hex prefix ("" for all; -EINVAL: not hex); stops when fn
 * returns non-zero, and returns that. fn may drop results. Damaged ones are left out. */
int idx_results(struct idx *x, const char *hex_prefix, int (*fn)(void *arg, const struct result *r),
		void *arg, struct err *e) must_check;

/* ---- scan.c: all results, or the paths they speak of, a few at a time: no transaction lasts longer than a moment ---- */

/* What can be told of a result at once. name: n_name bytes, without a NUL; borrowed for the call. */
struct idx_head {
	struct fp input_key, step_key, path_set_id;
	const char *name;
	size_t n_name;
	int exit_status;
	int64_t started_ns, wall_ns, stored_ns;
};
struct idx_scan_filter {
	const char *name;   /* only results of this name */
	const char *reads;  /* only those that looked at this path (absolute) */
	const char *writes; /* only those that made what is there, or its being gone */
};
/* Calls fn for each result that passes, in the order of keys, from behind the key `after` (NULL: from the first); stops when fn
 * returns non-zero, and returns that. fn runs in a transaction: it writes nothing to the cache, and is short. Damaged results are
 * left out; those stored or dropped meanwhile may be. */
int idx_scan(struct idx *x, const struct idx_scan_filter *f, const struct fp *after,
	     int (*fn)(void *arg, const struct idx_head *h), void *arg, struct err *e) must_check;
/* The same of one result; 0 also when there is none that passes. */
int idx_scan_one(struct idx *x, const struct idx_scan_filter *f, const struct fp *key,
		 int (*fn)(void *arg, const struct idx_head *h), void *arg,
		 struct err *e) must_check;
/* Calls fn for each path that is `dir` ("": the root) or below it and that a result looked at (first), or left something at
 * (written); some of them often. Otherwise as idx_scan. */
int idx_scan_paths(struct idx *x, const char *dir,
		   int (*fn)(void *arg, const char *path, bool written), void *arg,
		   struct err *e) must_check;

/* ---- early.c: an object of a file that is still being written ---- */

/* Not thread-safe; several may be in the making at once, each in a thread of its own. */
struct early;
/* Of the file behind fd (duplicated). -EOPNOTSUPP: the file system shares blocks, so that storing it at the end costs
 * little; -ENOSPC: there is no room to spare for something that may not be kept. */
int early_begin(struct idx *x, int fd, struct early **ret, struct err *e) must_check;
/* Copy and hash up to `upto`, an offset: all before it has been written and will not change; `written`: so much has been by now. 0;
 * -ESTALE: the file ends before that; -ENOSPC, -errno. After an error it can only be freed. */
int early_take_in(struct early *t, uint64_t upto, uint64_t written) must_check;
/* The file is as it will stay: take in the rest, and put the object into the store. What was taken in has not been written
 * since by those the caller knows of; -ESTALE when it was by others. To be freed in any case. */
int early_finish(struct early *t, struct oid *ret_oid, struct fp *ret_fp, uint64_t *ret_size,
		 struct err *e) must_check;
void early_free(struct early *t);

/* ---- store.c: objects ---- */

#define STORE_INLINE_MAX 4096 /* objects up to this size live inside LMDB */

/*
 * Put the bytes of fd (a regular file, read from offset 0; reflinked where the file system can,
 * else copied) into the store and give its names. The bytes hashed are those stored (copy first,
 * then hash the copy). Already there: nothing is written. Atomic: temporary file in dir/tmp,
 * rename. Not fsync'ed one by one.
 */
int store_put_fd(struct idx *x, int fd, struct oid *ret_oid, struct fp *ret_fp, uint64_t *ret_size,
		 struct err *e) must_check;
int store_put_mem(struct idx *x, const void *p, size_t n, struct oid *ret_oid,
		  struct err *e) must_check;
/* Bytes of the objects put since x was opened, and of those among them that were not there before. */
void store_counts(const struct idx *x, uint64_t *ret_put, uint64_t *ret_new);
/* 1: there, whole and of the right bytes (read and checked); 0: missing or damaged. */
int store_check(struct idx *x, const struct oid *o, uint64_t size) must_check;
/* Write the object's bytes to out (a new empty file; reflink, else copy), checking them against o
 * on the way: -EUCLEAN when damaged, -ENOENT when missing. One whose file has not been touched since it was written or
 * checked, by its times as for any digest, is not read for that, unless the machine was started again meanwhile. */
int store_get_fd(struct idx *x, const struct oid *o, uint64_t size, int out,
		 struct err *e) must_check;
/* The object in memory (checked); caller frees. */
int store_get_mem(struct idx *x, const struct oid *o, void **ret, size_t *ret_n,
		  struct err *e) must_check;
/*
 * A descriptor to read the object's bytes from (the caller closes it), for those that are not to be in memory at
 * once. They are not compared with its name: ask store_check. -ENOENT when missing, -EUCLEAN when it has another
 * length.
 */
int store_open(struct idx *x, const struct oid *o, uint64_t size, struct err *e) must_check;
/* Small objects gather in memory (found by the gets all the same) and are written in one
 * transaction: when there are 4 MB of them, by idx_result_put in its own, by idx_close, or here. */
int store_flush(struct idx *x, struct err *e) must_check;

/* ---- fsck.c: is everything in a cache as it was put there? ---- */

struct fsck_found {
	bool broken;	    /* else left over: it does no harm, and nobody will use it */
	const char *what;   /* "result", "object", "path set", "index", "file", ... */
	const char *name;   /* a key in hex, or a path in the cache */
	const char *detail; /* "its bytes are not those of its name" */
	bool mended;	    /* dropped, or set right */
};
struct fsck_counts {
	uint64_t results, path_sets, objects, object_bytes, digests, runs;
	uint64_t broken, left_over, left_over_bytes, mended; /* mended: of both kinds */
	bool in_use; /* others had the cache open: what needs it for itself alone was not mended */
};
struct fsck_options {
	bool repair;
	unsigned threads; /* that read; 0: one a processor */
	/* Called by the thread that called idx_fsck, for each thing found, when its fate is known. */
	void (*found)(void *arg, const struct fsck_found *f);
	/* Now and then, by that thread: bytes of this kind read ("pages", "records", "objects"), of about so many. May
	 * be NULL. */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t all);
	void *arg;
};
/*
 * Check every page, record and object of the cache in dir. repair: drop what is broken and what is left
 * over, keep all else; what cannot be done while others have the cache open is left (ret->in_use).
 * Steps may run on the same cache meanwhile: what they are about to use is not taken for left over.
 * 0: looked at everything (ret->broken says whether it is well). Errors: ENOENT (no cache), those of
 * opening files, ENOTSUP (a newer mlfs made it), EUCLEAN (no cache at all).
 */
int idx_fsck(const char *dir, const struct fsck_options *o, struct fsck_counts *ret,
	     struct err *e) must_check;

/* ---- gc.c: what the cache takes, and keeping that within limits ---- */

struct idx_size {
	uint64_t results;
	uint64_t bytes;	       /* of results and the objects they refer to: what a limit is about */
	uint64_t doomed_bytes; /* that no result refers to any more, still to be removed */
	uint64_t index_bytes;  /* of data.mdb */
	uint64_t index_in_use; /* of it; the rest is free */
};
/* Known without looking at anything: sums are kept with each result. */
int idx_size(struct idx *x, struct idx_size *ret, struct err *e) must_check;
/* IDX_DEFAULT_SIZE, or a fifth of the file system when that is less. */
#define IDX_DEFAULT_SIZE (UINT64_C(50) << 30)
uint64_t idx_default_max_size(const struct idx *x);

struct idx_gc_gone { /* a result that is dropped */
	struct fp key;
	const char *name; /* NULL: it made no sense */
	int64_t used_ns;  /* when it was last used */
	uint64_t bytes;	  /* that nothing else needs */
};
struct idx_gc_counts {
	uint64_t before, after;	 /* idx_size.bytes */
	uint64_t results, bytes; /* dropped, and what nothing needs with them */
	uint64_t objects, freed; /* removed, and their bytes */
	uint64_t
		waiting; /* bytes of objects that are not removed yet, since others have the cache open */
	uint64_t lefts, digests;	    /* records of TAB_LEFT and TAB_DIGEST dropped */
	uint64_t index_before, index_after; /* of data.mdb */
	bool unfinished;		    /* the time was up */
};
#define IDX_NO_LIMIT UINT64_MAX
struct idx_gc_options {
	uint64_t
		max_size; /* drop results, least recently used first, until no more than this; or IDX_NO_LIMIT */
	int64_t max_age_ns; /* drop results not used for so long; < 0: none */
	int64_t budget_ns;  /* end after about so long; the next run goes on. 0: when all is done */
	bool all; /* also what takes a walk: leftovers of killed processes; and the index's file is shrunk */
	bool locked_too;      /* also results that are locked (idx_lock) */
	bool dry_run;	      /* only say what would be dropped */
	uint64_t table_bytes; /* bound of the tables that are no part of results; 0: 256 MB each */
	void (*gone)(void *arg, const struct idx_gc_gone *g);
	void (*progress)(void *arg, uint64_t done, uint64_t of); /* bytes; may be NULL */
	void *arg;
};
/*
 * Any number may run at once, beside steps and hits. Objects are removed when no result refers to them; when others
 * have the cache open only ten minutes later, so that a hit that is being served keeps what it needs.
 */
int idx_gc(struct idx *x, const struct idx_gc_options *o, struct idx_gc_counts *ret,
	   struct err *e) must_check;
/* After a store: returns at once while nothing is past its limit, else drops down to nine tenths of it, for a moment. */
int idx_gc_past_limit(struct idx *x, uint64_t max_size, int64_t max_age_ns,
		      struct err *e) must_check;
/* Drop these results: one transaction for many. gone may be NULL. */
int idx_results_drop(struct idx *x, const struct fp *keys, size_t n, bool dry_run,
		     void (*gone)(void *arg, const struct idx_gc_gone *g), void *arg,
		     struct err *e) must_check;
/* When was this result last used? 1; 0: not known. */
int idx_result_used(struct idx *x, const struct fp *input_key, int64_t *ret,
		    struct err *e) must_check;

/* ---- lazy.c: outputs of hits that are not real yet: symbolic links that stand for an object; see docs/design.md ---- */

/* From this size on an output may be one. */
#define LAZY_MIN  (UINT64_C(1) << 20)
#define LAZY_TEXT 160
/* What such a link says. */
struct lazy {
	struct oid oid;
	struct fp fp;
	uint64_t size;
	mode_t mode; /* 0777 bits */
};
struct lazy_link {
	struct lazy l;
	struct stat st; /* of the link: its owner and time are those of the output */
};
/* The target of a link that says l. */
void lazy_text(const struct lazy *l, char text[LAZY_TEXT]);
/* Does this target say anything of the kind? */
bool lazy_parse(const char *text, struct lazy *ret);
/* Quickly: could a file of this st_mode and st_size be one? */
bool lazy_may_be(mode_t mode, off_t size);
/* Is name in dir (or dir itself, O_PATH, with "") such a link? 1; 0; -errno. Anybody can make one: whose it is says which cache it
 * may be about. */
int lazy_read(int dir, const char *name, struct lazy *ret) must_check;
int lazy_at(int dir, const char *name, struct lazy_link *ret) must_check;
/* st, of the link, becomes that of the file it stands for. */
void lazy_shown(const struct lazy *l, struct stat *st);

/* Below, `cache` is the directory of a cache, which may be another user's: nothing in it is trusted. */

/* The object, open to read: a file of the owner's, as long as it should be; its bytes are not looked at. -ENOENT, -EUCLEAN, … */
int lazy_open(int cache, const struct lazy *l, uid_t owner) must_check;
/* Reads all of it. 0; -EUCLEAN: they are other bytes; -errno. */
int lazy_verify(int fd, const struct lazy *l) must_check;
/* It was found to be damaged. */
void lazy_drop(int cache, const struct lazy *l);
bool lazy_there(int cache, const struct lazy *l);
/*
 * The file comes in the place of the link k, which is name in dir; its record goes. *ret_fd (unless NULL; caller closes): the very
 * file, O_PATH, whatever has the name by now. -ESTALE: k is not there any more. -ENOENT,
 * -EUCLEAN: its object is missing, or damaged. e: a reason only.
 */
int lazy_realize(int dir, const char *name, const struct lazy_link *k, int cache, int *ret_fd,
		 struct err *e) must_check;

/*
 * k could not be made real, for this reason. Is that because its object is lost? Then it is removed, that nobody may wait for it. Not where
 * the cache itself does not seem to be there.
 */
bool lazy_lost(int dir, const char *name, const struct lazy_link *k, int cache, int reason);

/* A record that there is a placeholder, which keeps its object in the cache. Made before the placeholder is. path: where it is
 * to be; its device and inode say which it is, also when it was moved. */
struct lazy_record {
	struct oid oid;
	dev_t dev;
	ino_t ino;
	const char *path; /* borrowed for the call */
};
int lazy_note(int cache, const struct oid *o, dev_t dev, ino_t ino, const char *path) must_check;
void lazy_unnote(int cache, const struct oid *o, dev_t dev, ino_t ino);
/* Is there a record of this object? */
bool lazy_pinned(int cache, const struct oid *o);
/* Stops when fn returns other than 0, and returns that. */
int lazy_each(int cache, int (*fn)(void *arg, const struct lazy_record *r), void *arg);

/* The directory of the cache; borrowed. */
int idx_dirfd(const struct idx *x);
/* Where such links stand for files, to steps and to who looks on their behalf: the trees of the mounts that one sees. */
struct lazy_trees {
	char **dirs; /* absolute */
	size_t n;
	/*
	 * The one at path is to be real now. 0: look again, it is so, or gone; -errno: why not, which was said. Any thread, and
	 * it may take as long as a copy does: -EINTR when given_up(given_arg), asked now and then, says so (NULL: it never does).
	 */
	int (*real)(void *arg, const char *path, bool (*given_up)(void *arg), void *given_arg);
	void *arg;
};
/* In states and lookups of x; t: NULL, or borrowed as long as x is open. */
void idx_lazy_trees(struct idx *x, const struct lazy_trees *t);
const struct lazy_trees *idx_lazy_of(const struct idx *x);
bool lazy_is_in(const struct lazy_trees *t, const char *path); /* false when t is NULL */
/* Is name in dir, which is at path and st describes, one in these trees (NULL: there are none)? Whosever it is. */
bool lazy_stands(const struct lazy_trees *t, const char *path, int dir, const char *name,
		 const struct stat *st, struct lazy *ret);
/* Those in the list of list_dir, of the directory at path that is open as fd, become files. */
void lazy_list(const struct lazy_trees *t, const char *path, int fd, char **list, size_t n);

/* ---- placing.c: temporary names outside the cache, tidied up by the next to open it when we are killed ---- */

struct idx_placing;
int idx_placing_begin(struct idx *x, struct idx_placing **ret, struct err *e) must_check;
/* Before the name temp ("/dir/.mlfs-XXXXXX") is made. path: what lies at path is about to be moved there, and is to be moved
 * back when nothing is at path then; NULL: it is to be removed, a directory with all in it. */
int idx_placing_note(struct idx_placing *p, const char *temp, const char *path,
		     struct err *e) must_check;
/* None of them is there any more. NULL is fine. */
void idx_placing_end(struct idx_placing *p);

/* ---- lock.c: one lock a step key, so that two identical steps take turns; and one a result that gc is to leave alone ---- */

struct idx_lock;
/* Take the lock of this key; wait: block until it is free (EINTR-safe: -EINTR is returned so that
 * the caller can look at signals), else -EWOULDBLOCK. Released by idx_unlock and by the kernel when
 * the process dies (flock / OFD lock on dir/lock/<hex>; the file is removed when unused, without a
 * race). */
int idx_lock(struct idx *x, const struct fp *key, bool wait, struct idx_lock **ret,
	     struct err *e) must_check;
void idx_unlock(struct idx_lock *l);

#endif
