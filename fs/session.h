/* SPDX-License-Identifier: MIT */
/* session.h - private to fs/: the server's state and what its handlers share. */
#ifndef MLFS_SESSION_H
#define MLFS_SESSION_H

#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "follow.h"
#include "inode.h"
#include "trace.h"
#include "wire.h"

#define IO_MAX (1u << 20) /* most bytes of one READ or WRITE */

/* Names and attributes are good for this long, so that waiting loops see what others do. */
#define TIMEOUT_S	 1.0
/* What is installed on the system does not change under a running step's eyes; if it does, the comparison at the
 * end finds it and nothing is stored. */
#define SYSTEM_TIMEOUT_S 60.0

/* await.c: how the server waits for requests. */
struct await {
	sigset_t mask;	 /* while asleep */
	int score;	 /* whether requests came quickly of late */
	unsigned cpus;	 /* that may be used; 0: not looked up yet */
	int loadavg;	 /* a descriptor, or -1 */
	bool room;	 /* a processor was idle when it was last looked ... */
	unsigned looked; /* ... so many times of being awake ago */
	int latency;	 /* a descriptor while idle processors are to stay awake, else -1 */
	bool latency_known,
		no_latency; /* it was looked whether that pays; it does not, or may not be asked for */
};
/* In the server's thread; abort_signal is blocked, and interrupts the waiting only. fd is the session's. */
int await_init(struct await *a, int fd, int abort_signal, struct err *e) must_check;
/* As fuse_session_receive_buf; -EINTR also by the signal, -EAGAIN: call again. */
int await_request(struct await *a, struct fuse_session *se, struct fuse_buf *b) must_check;
void await_done(struct await *a);

/* What the kernel was told lately; fresh.c. */
struct fresh {
	pthread_mutex_t mutex;
	struct told *first, *last;
};

/* Whether times of modification prove something, for the devices met; latest.c. */
#define LATEST_DEVICES 16
struct latest {
	struct {
		dev_t dev;
		bool hold;
	} devices[LATEST_DEVICES];
	size_t n;
	/* In hand: it changes something, and is not answered yet. */
	const struct fuse_in_header *request;
	const char *body;
	size_t size;
};

struct fs {
	struct inodes inodes;
	struct trace *trace;
	struct fuse_session *se;
	struct await await;
	bool own_ids_only, posix_acl;
	bool begun; /* FS_BEGIN was asked */
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int n_groups;
	mode_t umask; /* of this process now */
	struct __user_cap_data_struct caps[2];
	bool assumed; /* ids_assume */
	char *io;     /* IO_MAX bytes, at the start of a page */
	_Atomic bool aborted;
	pthread_t thread;  /* that runs the loop */
	pthread_t freeing; /* that frees the inodes after that, when letting_go */
	bool letting_go;
	pthread_mutex_t refreshing; /* held while a notification uses se, and while that goes */
	bool serving;		    /* se may be used for it; under `refreshing` */
	struct fresh fresh;
	struct latest latest;
	struct {
		bool passthrough; /* it is there, and opens are answered */
		unsigned n;	  /* opens that were */
		unsigned passed;  /* open files that the kernel reads itself */
		int reply;	  /* > 0: the reply to an open names this file to the kernel */
	} opens;		  /* ops_open.c */
	struct follower *follower;
	const struct lazy_trees *lazy; /* of the index; NULL: nothing is to be made real */
	struct {
		pthread_mutex_t mutex;
		struct lazy_wait *first;
		_Atomic bool any_done;
	} waits;	 /* ops_lazy.c */
	bool can_expire; /* names, without being thrown out */
	const char *(*answer)(void *arg, const char *question); /* see fs.h */
	void *answer_arg;
	bool init_pending, killpriv_v2; /* protocol.c */
	bool kill_suid;			/* the request in hand takes set-id bits away */
	uint64_t counts[MAX_OPCODES];
};

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
static inline struct inode *inode_of(struct fs *fs, fuse_ino_t n)
{
	return n == FUSE_ROOT_ID ? &fs->inodes.root : (struct inode *)(uintptr_t)n;
}
/* The number that the kernel knows it by. */
static inline fuse_ino_t node_of(const struct fs *fs, const struct inode *i)
{
	return i == &fs->inodes.root && !fs->posix_acl ? FUSE_ROOT_ID : (uintptr_t)i;
}
static inline struct trace_path *trace_at(struct fs *fs, const struct at *a)
{
	return trace_get(fs->trace, a->full, a->len);
}

/* latest.c: before a request is handled, and before it is answered; body: what follows the header, size bytes. Both are
 * borrowed until latest_end. */
void latest_begin(struct fs *fs, const struct fuse_in_header *h, const char *body, size_t size);
void latest_end(struct fs *fs);

/*
 * ops_lazy.c: outputs of hits that are not real yet, where the step meets them.
 */
/* A lookup has found the file st at a. True: it is such an output, and the lookup is begun anew when that is real. */
bool lazy_meet(fuse_req_t req, fuse_ino_t parent, const char *name, const struct at *a,
	       const struct stat *st, unsigned tries);
/* The one at path, if it is one, is made real before this returns. What fails spoils. */
void lazy_meet_now(struct fs *fs, const char *path);
/* May there be any in the directory? */
bool lazy_is_below(struct fs *fs, struct inode *dir);
/* In the loop, when waits.any_done; and after it. */
void lazy_answer(struct fs *fs);
void lazy_end(struct fs *fs);
/* ops_name.c. tries: so many times it was begun anew. */
void look_up(fuse_req_t req, fuse_ino_t parent, const char *name, unsigned tries);
/* session.c: any thread; the loop looks about. */
void session_wake(struct fs *fs);

/* protocol.c: counts the request and answers it, itself or through libfuse */
void protocol_handle(struct fs *fs, const struct fuse_buf *b);
/* From now on protocol_notify may speak to the kernel, or may not any more. */
void protocol_serving(struct fs *fs, bool serving);
/* Any thread but the loop's: the kernel may wait for that. name: follows the body; may be NULL. */
void protocol_notify(struct fs *fs, int code, const void *body, size_t size, const char *name,
		     size_t name_size);
ssize_t protocol_writev(int fd, struct iovec *iov, int count, void *userdata);

/* fresh.c: before a reply with attributes that the kernel may keep; name NULL: of i only. i NULL: the reply is that
 * there is nothing of that name. */
void fresh_told(struct fs *fs, const struct inode *parent, const char *name, const struct inode *i,
		const struct stat *st);
void fresh_free(struct fresh *f);

/* ids.c: what the view shows of a file below it */
void ids_init(struct fs *fs);
/* From what stat says to what the kernel is told of i: inode numbers unique in one view, ids that exist in it.
 * dir: where it is; a: its path, for the question what this user may do with it; both may be NULL. */
void ids_show(const struct fs *fs, struct inode *i, const struct inode *dir, const struct at *a,
	      struct stat *st);
ino_t ids_ino(const struct fs *fs, dev_t dev, ino_t ino);
/* Until ids_resume this thread makes files as the caller would (the server may be root, the caller not): owner, group
 * and set-id bits are then the kernel's affair. The rights stay the server's own. */
void ids_assume(struct fs *fs, const struct fuse_ctx *c);
void ids_resume(struct fs *fs);
/* Take the caller's umask for the creation that follows. */
void ids_umask(struct fs *fs, const struct fuse_ctx *c);

/* ops_open.c: the reply to a CREATE; as fuse_reply_create. */
int opens_reply_created(fuse_req_t req, struct inode *i, const struct fuse_entry_param *e,
			struct fuse_file_info *fi) must_check;

/* listing.c: the entries of dir (open as fd) from offset off on, in fs->io. Returns the bytes, 0 at the end, -errno. p: the
 * directory's record, or NULL. */
ssize_t listing_serve(fuse_req_t req, struct fs *fs, struct inode *dir, struct trace_path *p,
		      int fd, size_t size, off_t off) must_check;

/* ops_*.c: the handlers */
void ops_name_init(struct fuse_lowlevel_ops *o);
void ops_rename_init(struct fuse_lowlevel_ops *o);
void ops_attr_init(struct fuse_lowlevel_ops *o);
void ops_open_init(struct fuse_lowlevel_ops *o);
void ops_data_init(struct fuse_lowlevel_ops *o);

/* The trace of a name; of every name of an inode, through fn. */
struct trace_path *dentry_trace(struct fs *fs, struct dentry *d);
static inline double timeout_of(const struct inode *i)
{
	return i->system ? SYSTEM_TIMEOUT_S : TIMEOUT_S;
}

/* Set-id bits go when somebody without the right to keep them changes the file's bytes. */
void drop_suid(fuse_req_t req, struct inode *i, int fd);
/* Before the first byte is read: is somebody else writing to it? fd: open for reading. */
void note_writers(struct fs *fs, struct inode *i, int fd);
/* ops_data.c: bytes from `size` on are about to go, or to change otherwise than by being written. */
void note_truncation(struct fs *fs, struct inode *i, uint64_t size);
/* ops_name.c: a name is about to go: note it, and keep the file within reach for those who have it open. */
void part_from_name(struct fs *fs, struct dentry *d, enum change c);
/* What was found at a, a name that the kernel knows or does not: it may be one of a file that the step has changed under others. */
void note_other_name(struct fs *fs, const struct at *a, const struct stat *st, bool known);
/* What is in a directory is about to matter, though it is not listed. */
void note_listing(struct fs *fs, const struct at *a);
/* The inode's earlier content is read / changes. */
void note_read(struct fs *fs, struct inode *i);
void note_change(struct fs *fs, struct inode *i, enum change c);
/* The change noted last failed. */
void note_kept(struct fs *fs, struct inode *i);

#endif
