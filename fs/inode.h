/* SPDX-License-Identifier: MIT */
/*
 * inode.h - private to fs/: the inodes and names the kernel knows, and the descriptors kept for them.
 *
 * A device and inode number name a file (several file systems lie under one view). An inode is referred to by
 * the kernel (nlookup) and by its children's names; a name (dentry) by the table and its inode. Operations go
 * by path, from the server's own root; a bounded set of descriptors is kept for reading and writing.
 * One thread only, but for inode_known.
 */
#ifndef MLFS_INODE_H
#define MLFS_INODE_H

#include <pthread.h>
#include <sys/stat.h>

#include "trace.h"

struct inode;
struct listing;

struct dentry {
	struct inode *parent, *inode;
	struct dentry *next; /* hash chain */
	struct dentry *next_of_inode;
	struct trace_path *trace; /* valid while gen is the table's */
	uint32_t gen, hash;
	uint16_t name_len;
	char name[];
};

struct inode {
	dev_t dev;
	ino_t ino;
	mode_t type;	   /* S_IFMT bits */
	unsigned open;	   /* so many times, as far as that is known; ops_open.c */
	uint64_t nlookup;  /* references the kernel holds */
	uint32_t children; /* dentries whose parent this is */
	bool hashed;
	bool read_noted;  /* trace_read was called for all its names */
	bool part_noted;  /* trace_change was called for all its names */
	bool xattr_noted; /* trace_xattr was called for all its names */
	bool mtime_set;	  /* the step chose its modification time */
	bool suid_checked;
	bool own;	   /* shown as this user's own; ids.c */
	bool system;	   /* below /usr and the like: see steady() in ops_name.c */
	bool was_input;	   /* when its last name went it still was what the step had found */
	bool was_passed;   /* its bytes may have changed past the kernel's page cache of the view */
	uint64_t written;  /* so many bytes the step wrote from its start on, in a row; follow.h */
	int rfd, wfd, pfd; /* reading, writing, O_PATH of one that has no name any more; -1 */
	int lfd;	/* O_PATH of what was there when it was looked up lately; unchecked; -1 */
	unsigned lslot; /* lfd >= 0: where it is in `looked` */
	int backing; /* > 0: the kernel, which knows it by this number, reads it itself for all who have it open */
	struct dentry *names;
	struct trace_path *last_trace; /* of its last name, once that is gone */
	/* Of where it was when the step began, once it has been moved away from there while it had other names. */
	struct trace_path *spilled;
	struct listing *listing; /* of a directory that is being listed; listing.c */
	struct inode *next;	 /* hash chain */
	struct inode *lru_prev, *lru_next;
};

#define LOOKED_FDS 256

struct inodes {
	struct inode **table;
	size_t n, mask;
	struct dentry **dtable;
	size_t dn, dmask;
	uint32_t gen; /* grows when a directory is renamed: paths below it are others now */
	struct inode root;
	struct inode lru; /* ring of inodes with rfd or wfd, most recently used first */
	unsigned n_fds, max_fds;
	/* Told of each inode before it is freed; NULL: nobody. */
	void (*gone)(void *arg, struct inode *i);
	void *gone_arg;
	/* Files that were looked up lately: one that somebody else replaces by a rename between being opened in the view
	 * and its first READ (there is no OPEN) can be read all the same. */
	struct inode *looked[LOOKED_FDS];
	unsigned looked_next, max_looked;
	pthread_mutex_t
		mutex; /* of `table`, for inode_known: held where the one thread changes it */
};

/* listing.c */
void listing_free(struct listing *l);

/* max_looked: 1 to LOOKED_FDS. */
int inodes_init(struct inodes *t, unsigned max_fds, unsigned max_looked, struct err *e) must_check;
void inodes_free(struct inodes *t);

/* The inode of st, made when new. An entry whose file type has changed is set aside (the number was reused). */
struct inode *inode_get(struct inodes *t, const struct stat *st);
/* The inode of st, or NULL. */
struct inode *inode_find(const struct inodes *t, const struct stat *st);
/* The address of a file's inode, 0 when there is none: any thread may ask, and may not use it as a pointer. */
uintptr_t inode_known(struct inodes *t, dev_t dev, ino_t ino);
/* The kernel dropped n references. Frees when nothing refers to it. */
void inode_forget(struct inodes *t, struct inode *i, uint64_t n);

struct dentry *dentry_find(const struct inodes *t, const struct inode *parent, const char *name);
/* Make name in parent stand for i (whatever it stood for before). */
struct dentry *dentry_set(struct inodes *t, struct inode *parent, const char *name,
			  struct inode *i);
/* The name is gone. The inode lives on while it is referred to. */
void dentry_drop(struct inodes *t, struct dentry *d);

/* A path, ready for the *at() calls: dirfd AT_FDCWD and the whole path, or, when that is longer than PATH_MAX,
 * an open directory and the rest. */
struct at {
	int dirfd;
	const char *name; /* into full */
	char *full;	  /* absolute path */
	size_t len;
	char small[512];
};
void at_free(struct at *a);
#define auto_at __attribute__((cleanup(at_free)))
/* Path of name in parent; name NULL: of parent itself. -ESTALE when it has no name any more. */
int at_child(struct inodes *t, struct inode *parent, const char *name, struct at *ret) must_check;
static inline int at_inode(struct inodes *t, struct inode *i, struct at *ret)
{
	return at_child(t, i, NULL, ret);
}

/* The regular file that a has just been found to be: keep hold of it for a while. */
void inode_looked(struct inodes *t, struct inode *i, const struct at *a);

/* lstat of the inode by a descriptor that is held, or else by its path; -ESTALE when another file is there. */
int inode_stat(struct inodes *t, struct inode *i, struct stat *ret) must_check;
/* "/proc/self/fd/N" of a nameless inode, or its path; for calls that know only paths. */
int inode_path(struct inodes *t, struct inode *i, struct at *ret, char proc[32],
	       const char **ret_path) must_check;
/* A descriptor to read (also directories) or write; kept, borrowed until the next call. -errno. */
int inode_rfd(struct inodes *t, struct inode *i) must_check;
int inode_wfd(struct inodes *t, struct inode *i) must_check;
/* Give the inode a descriptor opened for writing by a create. Takes ownership. */
void inode_set_wfd(struct inodes *t, struct inode *i, int fd);
void inode_close_wfd(struct inodes *t, struct inode *i);
/* Keep the file reachable although its last name is about to go. */
void inode_pin(struct inodes *t, struct inode *i);

#endif
