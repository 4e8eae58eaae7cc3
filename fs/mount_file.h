/* SPDX-License-Identifier: MIT */
/* mount_file.h - private to fs/mount*.c: open files. */
#ifndef MLFS_MOUNT_FILE_H
#define MLFS_MOUNT_FILE_H

#include "mount.h"

/* What a file handle of the kernel's stands for. */
struct open_file {
	int fd; /* -1: `bytes` are served instead */
	char *bytes;
	size_t n_bytes;
	bool passed;	     /* the kernel reads and writes the file itself */
	bool locked;	     /* fcntl(2) locks were asked for through it: */
	uint64_t lock_owner; /* ... by him, last */
	bool counted;	     /* in its node's cached or passed */
	/* Of a directory: what was read of it and not told yet. */
	char *entries;
	size_t at, end;
	off_t off; /* where the next request goes on, if it goes on */
};
static inline struct open_file *open_file(const struct fuse_file_info *fi)
{
	return (struct open_file *)(uintptr_t)fi->fh;
}
void open_file_free(struct open_file *f);

/* passthrough.c: decide how the kernel is to have n open through f, and note it. 0: through the server; fi says whether its page
 * cache holds. > 0: itself; the number that it knows the file by, for struct worker's backing. */
int passthrough_open(struct fs_mount *m, struct node *n, struct open_file *f,
		     struct fuse_file_info *fi);
void passthrough_close(struct fs_mount *m, struct node *n, struct open_file *f);

/* Who asks, and for which file; *ret_path (caller frees) is borrowed by it. */
struct fs_request mount_request(fuse_req_t req, struct held *h, char **ret_path);

#endif
