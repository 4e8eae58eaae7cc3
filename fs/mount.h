/* SPDX-License-Identifier: MIT */
/*
 * mount.h - private to fs/: the server of a persistent mount. See "The persistent mount" in docs/design.md.
 *
 * Several threads serve it. What they share is the table of nodes, under one lock that is never held over a system call that
 * could wait. Files are reached by descriptors, never by paths that somebody could change under a server with more rights
 * than he has.
 */
#ifndef MLFS_MOUNT_H
#define MLFS_MOUNT_H

#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>

#include "trace.h"
#include "wire.h"

#define MOUNT_IO_MAX  (1u << 20) /* most bytes of one READ or WRITE */
/* Names and attributes are good for this long: what others change in the tree is seen within it. */
#define MOUNT_VALID_S 1.0
#define OPENING_LOCKS 64
#define VERIFIED_MAX  512

/* A file that the kernel knows. */
struct node {
	dev_t dev;
	ino_t ino;
	int64_t born;	   /* time of birth, ns: tells a file from a later one of the same number */
	mode_t type;	   /* S_IFMT bits */
	uint64_t nlookup;  /* references the kernel holds */
	unsigned held;	   /* handlers that use it: neither freed nor its descriptor closed */
	unsigned children; /* nodes whose parent this is */
	int fd;		   /* O_PATH; -1: closed, to be opened again by its name */
	/* The name it was found by last; both NULL for the root, and when that name was removed: then fd stays open. */
	struct node *parent;
	char *name;
	struct node *next;	    /* hash chain */
	struct node *newer, *older; /* ring of those whose descriptor may be closed */
	_Atomic int64_t told;	    /* mono_ns of when the kernel was last told of it */
	_Atomic bool real;	    /* it stood for an object, and is a file now: fd is that */
	_Atomic bool locked;	    /* fcntl(2) locks were taken: whoever closes it is to say so */
	/* Of regular files, under the opening lock: how the kernel has them open (file.c), */
	unsigned cached, passed;
	int backing; /* and the kernel's name of the file behind it, when passed */
	/* ... and what it was when it was opened last: while that stays, what is in the page cache holds. */
	struct stat_kept seen;
};

struct nodes {
	pthread_mutex_t lock;
	struct node **table;
	size_t n, mask;
	struct node root, ring;
	size_t n_fds, max_fds; /* in the ring */
};

struct locker;

/* Names of which the kernel was told lately that there is nothing; mount_fresh.c. */
struct absents {
	pthread_mutex_t lock;
	struct absent *first, *last;
};

struct fs_mount {
	struct fs_mount_options o;
	struct nodes nodes;
	struct absents absents;
	struct fuse_session *se;
	pthread_mutex_t opening[OPENING_LOCKS];	  /* of a node's cached, passed, backing, seen */
	pthread_mutex_t realizing[OPENING_LOCKS]; /* while a node is made real */
	/* Objects whose bytes are known to be those of their names, as long as they are so. */
	struct {
		pthread_mutex_t lock;
		struct stat_kept v[VERIFIED_MAX];
		size_t next;
	} verified;
	/* What this process is: a caller that is the same needs no change. */
	uid_t uid;
	gid_t gid;
	struct __user_cap_data_struct caps[2];
	uint32_t offered;		/* the kernel's flags of INIT */
	bool init_pending, killpriv_v2; /* mount_protocol.c */
	bool can_expire;		/* the kernel: names, without being thrown out */
	bool has_epochs;		/* ... all of them at once */
	bool stacked;			/* the tree lies on an overlay */
	_Atomic bool passthrough;
	_Atomic dev_t refused; /* files of this device cannot be, it was seen lately */
	_Atomic bool ended;
	/* serving: one thread waits for requests, the others for their turn */
	pthread_mutex_t turn;
	pthread_cond_t turn_free, work_comes, all_ended;
	struct worker *turn_of; /* NULL: free */
	unsigned threads, waiting;
	/* Since when the one whose turn it is handles a request (mono_ns); 0: it waits for one. */
	_Atomic int64_t busy_since;
	_Atomic bool watched; /* the watchdog is awake */
	_Atomic uint64_t counts[MAX_OPCODES];
	struct locker *locker;
};

/* A thread's own. */
struct worker {
	struct fs_mount *m;
	char *io; /* MOUNT_IO_MAX bytes, at the start of a page */
	mode_t umask;
	bool assumed;	/* as_caller */
	bool kill_suid; /* the request in hand takes set-id bits away */
	int backing;	/* > 0: the reply to an open names this file to the kernel */
};
/* The worker that runs this. */
struct worker *mount_worker(void);
/* The request in hand may take long, or wait for what other requests do. */
void mount_let_others(void);

static inline struct fs_mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
static inline struct node *node_of(struct fs_mount *m, fuse_ino_t n)
{
	return n == FUSE_ROOT_ID ? &m->nodes.root : (struct node *)(uintptr_t)n;
}
static inline fuse_ino_t node_id(const struct fs_mount *m, const struct node *n)
{
	return n == &m->nodes.root ? FUSE_ROOT_ID : (uintptr_t)n;
}

/* ---- mount_nodes.c ---- */
int nodes_init(struct nodes *t, int root, struct err *e) must_check; /* takes root */
void nodes_free(struct nodes *t);
/* The node of the file that is open as fd (O_PATH; taken) and that name in parent stands for; a reference more for the kernel. */
struct node *node_looked_up(struct nodes *t, struct node *parent, const char *name, int fd,
			    const struct statx *x);
/* The kernel dropped n references. */
void node_forget(struct nodes *t, struct node *n, uint64_t count);
/* Its descriptor, borrowed until node_release; -errno (then it is not held): -ESTALE, it is not there any more. */
int node_hold(struct nodes *t, struct node *n) must_check;
void node_release(struct nodes *t, struct node *n);
/* The node of the file that st describes, held with its descriptor open, or NULL: the kernel does not know it. */
struct node *node_find(struct nodes *t, int dirfd, const char *name);
/* It goes by another name now; name NULL: by none. */
void node_renamed(struct nodes *t, struct node *n, struct node *parent, const char *name);
bool node_is_named(struct nodes *t, const struct node *n, const struct node *parent,
		   const char *name);
/* Its path from the root, without a slash before it. Caller frees; NULL: it has none. */
char *node_path(struct nodes *t, struct node *n);
/* Its parent, held without a descriptor, and its name (the caller frees), or NULL. */
struct node *node_whence(struct nodes *t, struct node *n, char **ret_name);
/* It stood for an object, and is the file open as fd (O_PATH, borrowed) now. The name is that file's, of which there is no node yet. */
int node_made_real(struct nodes *t, struct node *n, int fd) must_check;
/* The kernel is about to be told its attributes. */
void node_told(struct node *n);
/* Close descriptors of nodes that can be had again. False: there were none. */
bool nodes_shrink(struct nodes *t);

struct held {
	struct nodes *t;
	struct node *n;
	int fd; /* or -errno */
};
static inline struct held hold(struct fs_mount *m, fuse_ino_t ino)
{
	struct held h = {.t = &m->nodes, .n = node_of(m, ino)};

	h.fd = node_hold(h.t, h.n);
	return h;
}
static inline void held_release(struct held *h)
{
	if (h->fd >= 0)
		node_release(h->t, h->n);
}
#define auto_held __attribute__((cleanup(held_release)))

/* "/proc/self/fd/N" */
struct proc_path {
	char s[32];
};
static inline struct proc_path proc_path(int fd)
{
	struct proc_path p;

	snprintf(p.s, sizeof(p.s), "/proc/self/fd/%d", fd);
	return p;
}
void stat_of(const struct fs_mount *m, const struct statx *x, struct stat *ret);
/* What the kernel is told of an open file: 0 or -errno. */
int stat_shown(const struct fs_mount *m, int fd, struct stat *ret) must_check;
int statx_fd(int fd, struct statx *ret) must_check;

/* ---- mount_lazy.c ---- */
/* When st is that of a placeholder, open as fd: the file it stands for. */
bool lazy_stat(const struct fs_mount *m, int fd, struct stat *st);
/* A descriptor of the placeholder's object, whose bytes are good; -errno. */
int lazy_bytes(struct fs_mount *m, struct held *h) must_check;
/* 0: it is no placeholder, or not any more. */
int lazy_make_real(struct fs_mount *m, struct held *h) must_check;
/* FS_ASK_MET. 1: it is removed. */
int lazy_met(struct fs_mount *m, struct held *h) must_check;
struct held hold_real(struct fs_mount *m, fuse_ino_t ino);
/* Is name in dir one? Then lazy_gone is for when it has been removed. */
bool lazy_look(const struct fs_mount *m, int dir, const char *name, struct lazy_link *ret);
void lazy_gone(struct fs_mount *m, const struct lazy_link *k);

/* ---- mount_caller.c ---- */
/* Until own_rights this thread makes files as the caller would: owner, group, umask. */
void as_caller(struct worker *w, const struct fuse_ctx *c);
void own_rights(struct worker *w);
/* Set-id bits of the file open as fd (O_PATH will do) go, as the kernel has it for a caller without the right to keep them. */
void kill_suid(fuse_req_t req, int fd);
void caller_init(struct fs_mount *m);

/* ---- mount_protocol.c ---- */
void mount_handle(struct worker *w, const struct fuse_buf *b);
ssize_t mount_writev(int fd, struct iovec *iov, int count, void *userdata);

/* ---- mount_fresh.c ---- */
void mount_told_absent(struct fs_mount *m, const struct node *parent, const char *name);
void absents_free(struct absents *a);

/* ---- the handlers ---- */
void mount_name_ops(struct fuse_lowlevel_ops *o);
void mount_attr_ops(struct fuse_lowlevel_ops *o);
void mount_file_ops(struct fuse_lowlevel_ops *o);
void mount_dir_ops(struct fuse_lowlevel_ops *o);
void mount_lock_ops(struct fuse_lowlevel_ops *o);
struct locker *locker_new(void);
void locker_free(struct locker *l);
/* The owner has closed a descriptor of the file: his fcntl(2) locks go. */
void locks_drop(struct fs_mount *m, const struct node *n, uint64_t owner);
/* The reply that name in parent is the file open as fd (taken). */
struct node *mount_entry(struct fs_mount *m, struct node *parent, const char *name, int fd,
			 struct fuse_entry_param *ret, int *ret_err);

#endif
