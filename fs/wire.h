/* SPDX-License-Identifier: MIT */
/*
 * wire.h - private to fs/: what the file server of a view and that of a persistent mount share of the FUSE protocol and of
 * libfuse.
 *
 * Source: linux/fuse.h, Documentation/filesystems/fuse.rst.
 */
#ifndef MLFS_WIRE_H
#define MLFS_WIRE_H

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include "../index/index.h"

/* Of newer kernels than the headers here may be. */
#ifndef FUSE_HANDLE_KILLPRIV_V2
#define FUSE_HANDLE_KILLPRIV_V2 (1 << 28)
#endif
#ifndef FATTR_KILL_SUIDGID
#define FATTR_KILL_SUIDGID (1 << 11)
#endif
#ifndef FUSE_WRITE_KILL_SUIDGID
#define FUSE_WRITE_KILL_SUIDGID (1 << 2)
#endif
#ifndef FUSE_EXPIRE_ONLY
#define FUSE_EXPIRE_ONLY (1 << 0)
#endif
#ifndef FUSE_INIT_EXT
#define FUSE_INIT_EXT (1 << 30)
#endif
#define WIRE_TMPFILE 51 /* FUSE_TMPFILE, which is an enumerator: Linux 6.2 */

#define MAX_OPCODES 64

/* A session with these handlers over the /dev/fuse descriptor, which is the session's then, and closed on failure. writev: what
 * replies go out through. */
int wire_session(const struct fuse_lowlevel_ops *ops, void *userdata, int fuse_fd,
		 ssize_t (*writev)(int fd, struct iovec *iov, int count, void *userdata),
		 struct fuse_session **ret, struct err *e) must_check;
/* Any thread but one that answers what the kernel may wait for meanwhile. name follows the body; both may be NULL. */
void wire_notify(struct fuse_session *se, int code, const void *body, size_t size, const char *name,
		 size_t name_size);
/*
 * FUSE_PASSTHROUGH (Linux 6.9; Documentation/filesystems/fuse-passthrough.rst), of which libfuse 3.14 does not know: the kernel reads,
 * writes and maps the file behind an open one itself.
 */
/* Does the kernel offer it? body: of INIT. */
bool wire_offers_passthrough(const void *body, size_t size);
/* In the reply to INIT, about to be sent: these flags are wanted too, and with stack_depth > 0 passthrough of files whose file
 * systems lie over fewer than that many others. False: the reply is of no such form. */
bool wire_patch_init(struct iovec *iov, int count, uint32_t flags, uint32_t stack_depth) must_check;
/* In one to OPEN, CREATE or TMPFILE: the file behind it is this one. An error is left alone. */
void wire_patch_open(struct iovec *iov, int count, int backing);
/* Tell the kernel of the file open as fd, which may be closed then. > 0: the number that it is to be known by, until it is given
 * back and nobody has it open any more; or -errno: EPERM, ENOTTY: there is none of it; ELOOP, EOPNOTSUPP: not on this file
 * system. What is written is written with the rights that this thread has now. */
int wire_backing_open(struct fuse_session *se, int fd) must_check;
void wire_backing_close(struct fuse_session *se, int backing);
/* Are set-id bits to go with this write or truncation? libfuse does not tell. body: what follows the header. */
bool wire_kills_suid(const struct fuse_in_header *h, const void *body, size_t size);
/* Attributes as the protocol has them. */
void wire_attr(const struct stat *st, struct fuse_attr *a);
/* "LOOKUP=12 READ=3 … total=15" appended to out. */
void wire_counts(const uint64_t counts[MAX_OPCODES], struct buf *out);

/* Is the caller in the group? Has it the capability? Both read /proc: for rare cases. */
bool wire_in_group(fuse_req_t req, gid_t gid);
bool wire_capable(fuse_req_t req, int cap);

/* getdents64(2), which libc keeps to itself; so many bytes at a time. */
#define DIRENTS_SIZE 32768
struct kernel_dirent {
	uint64_t ino;
	int64_t off; /* to go on after this entry */
	unsigned short reclen;
	unsigned char type;
	char name[];
};

#endif
