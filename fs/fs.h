/* SPDX-License-Identifier: MIT */
/*
 * fs.h - the view's file server and what it records.
 *
 * A `struct fs` serves one FUSE mount that shows the root of this process' own mount namespace, in no-open
 * mode: the kernel is told ENOSYS to OPEN and so sends neither OPEN nor RELEASE; content that is read is seen
 * as READ, once, since the page cache of a fresh mount is empty. Everything a process in the view observes or
 * changes is kept in a `struct trace`.
 *
 * Threads: fs_serve runs in one thread, and only that thread touches the trace until it has returned; the
 * digester (one thread more) digests what was read and shares only the digest of a path, under its own lock.
 */
#ifndef MLFS_FS_H
#define MLFS_FS_H

#include <sys/ioctl.h>
#include <sys/stat.h>

#include "../index/index.h"

struct fs;
struct trace;

struct fs_options {
	/* Borrowed; NULL: digests are not remembered. Where outputs may stand that are not real yet (idx_lazy_of) the step meets files. */
	struct idx *idx;
	bool own_ids_only; /* the mount lies in a user namespace that maps only this user */
	/* Let the kernel apply ACLs (mount of the initial user namespace). The root of the view has to be FS_ROOT of
	 * the mount then. */
	bool posix_acl;
	bool strict;	     /* the earlier content of what is replaced is wanted as well */
	char *const *ignore; /* globs: paths that are not traced; borrowed */
	size_t n_ignore;
	char *const *untraced; /* absolute directories that are not traced (the cache); borrowed */
	size_t n_untraced;
	/* The answer to a question of an mlfs that runs inside the view, or NULL. Called by the server's thread. */
	const char *(*answer)(void *arg, const char *question);
	void *answer_arg;
};
/*
 * The kernel makes the root of a mount before it learns that ACLs are kept here, and so asks for its ACL on each walk along an
 * absolute path, by everybody who is not its owner. So a mount with posix_acl shows nothing but this directory, which is `/` again,
 * under a node of its own.
 */
#define FS_ROOT "view"

/*
 * What makes the view looks up names in it as well. None of that is an observation, and no name is kept by the
 * kernel, until this question is asked of any file: now the step begins.
 */
#define FS_BEGIN "user.mlfs.begin"

/* Questions are extended attributes of any file of the view. Besides these there are those of index/below.c. */
#define FS_ASK_PREFIX  "user.mlfs."
/* the network use noticed so far; "": none */
#define FS_ASK_NETWORK "user.mlfs.network"
/* the mounting noticed so far that no result may rest on; "": none */
#define FS_ASK_MOUNTS  "user.mlfs.mounts"

/* Of libfuse, as it runs here: "3.14.0". */
const char *fs_library_version(void);
int fs_new(const struct fs_options *o, struct fs **ret, struct err *e) must_check;
/* Serve the mount behind the /dev/fuse descriptor until it is unmounted. Takes ownership of fuse_fd. */
int fs_serve(struct fs *fs, int fuse_fd, struct err *e) must_check;
/* Make fs_serve return soon (any thread, once); what is open in the view gets ENOTCONN. */
void fs_abort(struct fs *fs);
/* Others may have changed what the kernel was told lately: it is to ask again. And one file (as it is known here,
 * below the view): the view is to read it anew. Any thread but the one in fs_serve, and none before that has begun. */
void fs_refresh(struct fs *fs);
void fs_refresh_file(struct fs *fs, dev_t dev, ino_t ino);
/* After fs_serve has returned: was the output that st describes stored while the step wrote it? 1: what was taken from it is
 * an object now, and st holds; 0: it remains to be stored. Each file once. */
int fs_followed(struct fs *fs, const struct stat *st, struct oid *ret_oid, struct fp *ret_fp,
		uint64_t *ret_size) must_check;
/* After the last of them: what else was stored early is of no use, and goes. */
void fs_unfollow(struct fs *fs);
struct trace *fs_trace(struct fs *fs);
/* "LOOKUP=12 READ=3 … total=15" appended to out. */
void fs_request_counts(const struct fs *fs, struct buf *out);
void fs_free(struct fs *fs);

/* ---- what was recorded ---- */

/* One path. The facts of its earlier state were taken before the step's first change to it. */
struct trace_path {
	const char *path;
	struct stat_kept st; /* as first seen; st_mode 0 when nothing was there */
	int64_t seen_ns;     /* CLOCK_REALTIME before st was taken */
	int err;	     /* errno of looking, when neither present nor absent */
	uint8_t obs;	     /* enum obs bits learned from the earlier state */
	uint8_t hash_state;  /* the digester's: enum hash_state */
	bool changed : 1;    /* the step changed what is here */
	bool replaced : 1; /* what is here now is wholly of the step's making (or gone by its doing) */
	bool partial : 1;  /* changed in part: the earlier content went into the present one */
	bool written : 1;  /* changed as the file that is here, not only by its names */
	bool relinked : 1; /* the step changed its link count or name only: ctime moved */
	bool linked : 1;   /* the step gave it another name, under which it goes on */
	bool renewed : 1;  /* what was here went as a whole: a file here now is another one */
	bool unseen : 1;   /* the file here now got this name from one that is not traced */
	/* What was here went on elsewhere: it was changed before it went, or moved. */
	bool spilled : 1;
	bool own_listed : 1; /* the step looked into the directory of its own making that is here */
	bool mtime_set : 1;
	bool xattr_set : 1; /* the step set extended attributes */
	bool xattrs_kept : 1;
	bool mtime_moved : 1; /* mtime_set of what was renamed away from here */
	bool unhashable : 1;
	bool guarded : 1; /* watched, since its times would not show a change; see fs/guard.c */
	char *target;	  /* symlink: earlier target, when it was read or changed */
	char **list;	  /* directory: earlier listing, when OBS_LIST ("fname", sorted by name) */
	void *xattrs;	  /* earlier ones, when xattrs_kept */
	uint32_t n_list, n_xattrs;
	/* How the step's latest change left it (st_mode 0: gone); NULL: not known. See fs/latest.c. */
	struct stat_kept *latest;
	/* the digester's */
	struct fp fp;
	struct trace_path *hash_next;
	/* table */
	struct trace_path *next;
	uint32_t hash;
};
enum hash_state { HASH_NONE, HASH_QUEUED, HASH_RUNNING, HASH_DONE, HASH_FAILED };

/* After fs_serve has returned: the step may have read what is at `path`, in a tree that is not traced, and was as st says
 * at the time `at` (ns), before it began. */
void trace_native(struct trace *t, const char *path, const struct stat *st, int64_t at);
/* After fs_serve has returned. All paths, sorted; borrowed from the trace. Caller frees the array. */
struct trace_path **trace_sorted(struct trace *t, size_t *ret_n);
/* Wait until everything queued is hashed, then stop the digester. */
void trace_settle(struct trace *t);
/* The digest of an unchanged regular file as the step saw it; hashes now if that was not done.
 * -ESTALE: somebody else changed it. */
int trace_digest(struct trace *t, struct trace_path *p, struct fp *ret) must_check;
/* Is it still as the step first saw it? (identity, size, mode, times; only mode for directories) */
bool trace_same(const struct trace_path *p, const struct stat *now, int now_err);
/* Is what the step changed still as its latest change left it, as far as that is known? */
bool trace_as_left(const struct trace_path *p, const struct stat *now, int now_err);
/* The first name that others brought, took away or changed in directory p since its listing was kept, by the listing
 * now; NULL: none. Borrowed from either. */
const char *trace_listing_differs(const struct trace *t, const struct trace_path *p,
				  char *const *list, size_t n);
/* Why a result must not be stored, or NULL. */
const char *trace_spoiled(const struct trace *t);

/* ---- the persistent mount (mount.c): a tree shown as it is, to everybody, with no trace ---- */

struct fs_mount;

/* Somebody opens a file to execute it, or asks or tells something. Borrowed for the call. */
struct fs_request {
	const char *path; /* of the file, from the root of the mount: "bin/train"; "": the root */
	int fd;		  /* the file, O_PATH */
	bool exec;	  /* it is opened to be executed */
	pid_t pid;	  /* of the thread that asks; 0: not in this process' namespace */
	uid_t uid;
	gid_t gid;
};

/* The callbacks are called by several threads at once, and may take their time: others are served meanwhile. Each may be NULL. */
struct fs_mount_options {
	int root;	  /* the tree: a directory, O_PATH will do; taken by fs_mount_new */
	bool posix_acl;	  /* the mount is of the initial user namespace */
	bool passthrough; /* CAP_SYS_ADMIN: let the kernel read and write files itself, if it can */
	/* A regular file is opened to be read only: is intercept to be called for that as well? May not take its time. */
	bool (*may_intercept)(void *arg, const struct fs_request *q);
	/* Before a regular file is executed: the bytes to serve instead of it for this time (malloc'ed; *ret_size of them), or NULL:
	 * the file itself. Everybody else reads the file. */
	char *(*intercept)(void *arg, const struct fs_request *q, const struct stat *st,
			   size_t *ret_size);
	/* The answer (malloc'ed) to a question, an extended attribute that begins with FS_ASK_PREFIX; NULL: there is none. */
	char *(*answer)(void *arg, const struct fs_request *q, const char *question);
	/* The directory of the cache that this user's outputs which are not real yet are kept in (closed by who asks), or -errno. NULL:
	 * there are none, links are links. */
	int (*lazy_cache)(void *arg, uid_t owner);
	/* Such an attribute is set: 0, or -errno. The kernel lets nobody set one of a file that he may not write. */
	int (*told)(void *arg, const struct fs_request *q, const char *name, const void *value,
		    size_t size);
	void *arg;
};
/* A question that the mount answers itself: what the kernel was told of names and attributes is forgotten, since the tree was
 * changed past the mount. */
#define FS_ASK_REFRESH "user.mlfs.refresh"

/* Another: the file is to be real now. "1": it is, since just now; "0": it was; "-5": the errno why it cannot be. */
#define FS_ASK_REAL "user.mlfs.materialize"

/*
 * What a step has met: as FS_ASK_REAL, but one whose object is lost goes: FS_REMOVED; the step that made it can make it anew. Of a
 * directory: as FS_ASK_REFRESH. For a name that begins so the kernel wants the right to search on the way, and no more: that is
 * what the step's lookup takes.
 */
#define FS_ASK_MET "system.mlfs.met"
#define FS_REMOVED "removed"

int fs_mount_new(const struct fs_mount_options *o, struct fs_mount **ret, struct err *e) must_check;
/* Serve the mount behind the /dev/fuse descriptor until it is unmounted. Takes ownership of fuse_fd. */
int fs_mount_serve(struct fs_mount *m, int fuse_fd, struct err *e) must_check;
/* Any thread, while fs_mount_serve runs: what FS_ASK_REFRESH does; not from a callback. */
void fs_mount_refresh(struct fs_mount *m);
/* Any thread: "LOOKUP=12 … total=15", and how many files the kernel knows. */
void fs_mount_counts(struct fs_mount *m, struct buf *out, size_t *ret_nodes);
void fs_mount_free(struct fs_mount *m);

/* ---- browse.c: the cache as a tree to look at (`mlfs mount --browse`) ---- */

/* Requests, by kind. */
enum browse_count {
	BROWSE_LOOKUP,
	BROWSE_GETATTR,
	BROWSE_OPENDIR,
	BROWSE_READDIR,
	BROWSE_OPEN,
	BROWSE_READ,
	BROWSE_READLINK,
	BROWSE_XATTR,
	BROWSE_COUNTS
};
/* Texts about a result that others make. */
enum browse_text { BROWSE_INPUTS, BROWSE_STEP };

struct browse;
struct browse_options {
	const char *cache; /* its directory */
	bool allow_other;  /* all may look: modes say so */
	/* The text about r (BROWSE_INPUTS: with its states), appended to out. Called by several threads, one at a time. */
	int (*text)(void *arg, struct idx *x, enum browse_text what, const struct result *r,
		    struct buf *out, struct err *e);
	/* The answer to a question ("user.mlfs.…") that is asked of any file, malloc'ed, or NULL. May be NULL. */
	char *(*answer)(void *arg, const char *question);
	void *arg;
};
/* The index is opened when somebody looks, and closed a second after the last did. Errors: of idx_open. */
int browse_new(const struct browse_options *o, struct browse **ret, struct err *e) must_check;
/* Serve the mount behind the /dev/fuse descriptor until it is unmounted. Takes ownership of fuse_fd. */
int browse_serve(struct browse *b, int fuse_fd, struct err *e) must_check;
/* Make browse_serve return soon; any thread, and a handler of signals. */
void browse_abort(struct browse *b);
void browse_request_counts(const struct browse *b, uint64_t ret[BROWSE_COUNTS]);
void browse_free(struct browse *b);
/* A path as the texts have it: control characters and backslashes as "\x0a". */
void browse_plain(struct buf *out, const char *text);

#endif
