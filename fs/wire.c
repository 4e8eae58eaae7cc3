/* SPDX-License-Identifier: MIT */
/* wire.c - the FUSE protocol and libfuse, for all file servers; see wire.h. */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- the session ---- */

static ssize_t read_request(int fd, void *buf, size_t n, void *userdata)
{
	ssize_t got = read(fd, buf, n);

	(void)userdata;
	/* Unmounted while a request that nobody waits for (RELEASE) was handed over; libfuse would print it. */
	if (got < 0 && errno == ECONNABORTED)
		errno = ENODEV;
	return got;
}

static ssize_t send_spliced(int in, off_t *off_in, int out, off_t *off_out, size_t n,
			    unsigned flags, void *userdata)
{
	(void)userdata;
	return splice(in, off_in, out, off_out, n, flags);
}

int wire_session(const struct fuse_lowlevel_ops *ops, void *userdata, int fuse_fd,
		 ssize_t (*writev)(int fd, struct iovec *iov, int count, void *userdata),
		 struct fuse_session **ret, struct err *e)
{
	char *argv[] = {(char *)"mlfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	const struct fuse_custom_io io = {
		.writev = writev, .read = read_request, .splice_send = send_spliced};
	struct fuse_session *se = fuse_session_new(&args, ops, sizeof(*ops), userdata);
	int r;

	fuse_opt_free_args(&args);
	if (!se) {
		close(fuse_fd);
		return err_text(e, EINVAL, "cannot make a FUSE session");
	}
	r = fuse_session_custom_io(se, &io, fuse_fd);
	if (r != 0) {
		fuse_session_destroy(se);
		close(fuse_fd);
		return err_set(e, -r, "libfuse does not take the mount's descriptor");
	}
	*ret = se;
	return 0;
}

void wire_counts(const uint64_t counts[MAX_OPCODES], struct buf *out)
{
	static const char *const names[MAX_OPCODES] = {
		[1] = "LOOKUP",	       [2] = "FORGET",	   [3] = "GETATTR",
		[4] = "SETATTR",       [5] = "READLINK",   [6] = "SYMLINK",
		[8] = "MKNOD",	       [9] = "MKDIR",	   [10] = "UNLINK",
		[11] = "RMDIR",	       [12] = "RENAME",	   [13] = "LINK",
		[14] = "OPEN",	       [15] = "READ",	   [16] = "WRITE",
		[17] = "STATFS",       [18] = "RELEASE",   [20] = "FSYNC",
		[21] = "SETXATTR",     [22] = "GETXATTR",  [23] = "LISTXATTR",
		[24] = "REMOVEXATTR",  [25] = "FLUSH",	   [26] = "INIT",
		[27] = "OPENDIR",      [28] = "READDIR",   [29] = "RELEASEDIR",
		[30] = "FSYNCDIR",     [34] = "ACCESS",	   [35] = "CREATE",
		[36] = "INTERRUPT",    [38] = "DESTROY",   [39] = "IOCTL",
		[42] = "BATCH_FORGET", [43] = "FALLOCATE", [44] = "READDIRPLUS",
		[45] = "RENAME2",      [46] = "LSEEK",	   [47] = "COPY_FILE_RANGE",
		[51] = "TMPFILE",      [52] = "STATX",
	};
	uint64_t total = 0;

	for (int k = 0; k < MAX_OPCODES; k++) {
		if (!counts[k])
			continue;
		total += counts[k];
		if (names[k])
			buf_addf(out, "%s=%llu ", names[k], (unsigned long long)counts[k]);
		else
			buf_addf(out, "OP%d=%llu ", k, (unsigned long long)counts[k]);
	}
	buf_addf(out, "total=%llu", (unsigned long long)total);
}

/* ---- passthrough ---- */

#define FLAG2_PASSTHROUGH (1u << 5) /* FUSE_PASSTHROUGH, 1 << 37 */
#define OPEN_PASSTHROUGH  (1u << 7) /* FOPEN_PASSTHROUGH */

/* As Linux 6.9 has them: 7.36's flags2, and what the next word means since. */
struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
};
struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing;
};
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN  _IOW(FUSE_DEV_IOC_MAGIC, 1, struct backing_map)
#define BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)

bool wire_offers_passthrough(const void *body, size_t size)
{
	struct init_in in = {0};

	memcpy(&in, body, size < sizeof(in) ? size : sizeof(in));
	return (in.flags & FUSE_INIT_EXT) && (in.flags2 & FLAG2_PASSTHROUGH);
}

/* The body of the reply, when n bytes of it are in one piece. */
static void *body_of(struct iovec *iov, int count, size_t n)
{
	size_t at = sizeof(struct fuse_out_header);

	for (int k = 0; k < count; k++) {
		if (at < iov[k].iov_len)
			return at + n <= iov[k].iov_len ? (char *)iov[k].iov_base + at : NULL;
		at -= iov[k].iov_len;
	}
	return NULL;
}

bool wire_patch_init(struct iovec *iov, int count, uint32_t flags, uint32_t stack_depth)
{
	void *p = body_of(iov, count, sizeof(struct init_out));
	struct init_out out;

	if (!p)
		return false;
	memcpy(&out, p, sizeof(out));
	out.flags |= flags;
	if (stack_depth) {
		out.flags |= FUSE_INIT_EXT;
		out.flags2 |= FLAG2_PASSTHROUGH;
		out.max_stack_depth = stack_depth;
	}
	memcpy(p, &out, sizeof(out));
	return true;
}

/* Such a reply ends with struct open_out, in its last piece. */
void wire_patch_open(struct iovec *iov, int count, int backing)
{
	struct iovec *last = &iov[count - 1];
	struct open_out out;
	char *p;

	if (last->iov_len < sizeof(out))
		return; /* an error */
	p = (char *)last->iov_base + last->iov_len - sizeof(out);
	memcpy(&out, p, sizeof(out));
	out.open_flags = (out.open_flags & ~(uint32_t)FOPEN_KEEP_CACHE) | OPEN_PASSTHROUGH;
	out.backing = backing;
	memcpy(p, &out, sizeof(out));
}

int wire_backing_open(struct fuse_session *se, int fd)
{
	struct backing_map map = {.fd = fd};
	int id = ioctl(fuse_session_fd(se), BACKING_OPEN, &map);

	return id < 0 ? -errno : id;
}

void wire_backing_close(struct fuse_session *se, int backing)
{
	uint32_t v = (uint32_t)backing;

	if (ioctl(fuse_session_fd(se), BACKING_CLOSE, &v) < 0)
		log_debug("cannot close the file behind an open one: %s", strerror(errno));
}

/* ---- messages ---- */

void wire_notify(struct fuse_session *se, int code, const void *body, size_t size, const char *name,
		 size_t name_size)
{
	struct fuse_out_header h = {.len = (uint32_t)(sizeof(h) + size + name_size), .error = code};
	struct iovec v[3] = {{&h, sizeof(h)}, {(void *)body, size}, {(void *)name, name_size}};

	if (writev(fuse_session_fd(se), v, name ? 3 : body ? 2 : 1) < 0 && errno != ENOENT)
		log_debug("cannot notify the kernel: %s", strerror(errno));
}

bool wire_kills_suid(const struct fuse_in_header *h, const void *body, size_t size)
{
	struct fuse_setattr_in attr;
	struct fuse_write_in w;

	if (h->opcode == FUSE_SETATTR && size >= sizeof(attr)) {
		memcpy(&attr, body, sizeof(attr));
		return attr.valid & FATTR_KILL_SUIDGID;
	}
	if (h->opcode == FUSE_WRITE && size >= sizeof(w)) {
		memcpy(&w, body, sizeof(w));
		return w.write_flags & FUSE_WRITE_KILL_SUIDGID;
	}
	return false;
}

void wire_attr(const struct stat *st, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

/* ---- the caller ---- */

bool wire_in_group(fuse_req_t req, gid_t gid)
{
	gid_t list[256];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, sizeof(list) / sizeof(*list), list);
	for (int k = 0; k < n && k < (int)(sizeof(list) / sizeof(*list)); k++)
		if (list[k] == gid)
			return true;
	return false;
}

bool wire_capable(fuse_req_t req, int cap)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);
	unsigned long long set = 0;
	auto_fclose FILE *f = NULL;
	char path[40], line[128];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)c->pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "CapEff: %llx", &set) == 1;
	return found ? set >> cap & 1 : c->uid == 0;
}
