/* SPDX-License-Identifier: MIT */
/* target.c - looking into a process of the step; see target.h. */
#include "target.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

/* CPU time in which a thread has surely got through a lock that it does not wait for. */
#define THROUGH_NS 2000000u

int target_next(DIR *d)
{
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			return atoi(e->d_name);
	return -1;
}

int target_read(pid_t pid, uint64_t addr, void *p, size_t n)
{
	struct iovec local = {.iov_base = p, .iov_len = n};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)addr, .iov_len = n};
	ssize_t got = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	if (got < 0)
		return -errno;
	return (size_t)got == n ? 0 : -EFAULT;
}

int target_write(pid_t pid, uint64_t addr, const void *p, size_t n)
{
	struct iovec local = {.iov_base = (void *)p, .iov_len = n};
	struct iovec remote = {.iov_base = (void *)(uintptr_t)addr, .iov_len = n};
	ssize_t put = process_vm_writev(pid, &local, 1, &remote, 1, 0);

	if (put < 0)
		return -errno;
	return (size_t)put == n ? 0 : -EFAULT;
}

/* The whole of a small file of /proc/TID, NUL-terminated; its length or -errno. */
static ssize_t slurp(pid_t tid, const char *name, char *out, size_t n)
{
	char path[64];
	auto_close int fd = -1;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -errno : read_full(fd, out, n - 1);
	out[len > 0 ? len : 0] = '\0';
	return len;
}

/* The text after "\nKEY:" and blanks, or NULL. */
static const char *field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, key, n) == 0 && p[n] == ':')
			return p + n + 1 + strspn(p + n + 1, " \t");
	}
	return NULL;
}

pid_t target_process(pid_t tid)
{
	char status[4096];
	const char *p;

	/* Most often it is the first thread, and then this is the cheapest way to know. */
	if (syscall(SYS_tgkill, tid, tid, 0) == 0)
		return tid;
	if (slurp(tid, "status", status, sizeof(status)) <= 0)
		return tid;
	p = field(status, "Tgid");
	return p && atoi(p) > 0 ? atoi(p) : tid;
}

/* ---- locks as /proc shows them ---- */

bool lock_line_parse(const char *line, struct lock_line *ret)
{
	char kind[16], hold[16], end[32];
	unsigned major, minor;
	unsigned long ino;
	long long start;
	int pid;

	/* "1: POSIX  ADVISORY  WRITE 715 00:2b:1234 0 EOF"; those who wait have "->" in front. */
	if (sscanf(line, "%*[^:]: %15s %*s %15s %d %x:%x:%lu %lld %31s", kind, hold, &pid, &major,
		   &minor, &ino, &start, end) != 8)
		return false;
	if (strcmp(kind, "FLOCK") == 0)
		ret->kind = LOCK_FLOCK;
	else if (strcmp(kind, "POSIX") == 0)
		ret->kind = LOCK_POSIX;
	else if (strcmp(kind, "OFDLCK") == 0)
		ret->kind = LOCK_OFD;
	else
		return false;
	ret->hold = strcmp(hold, "READ") == 0 ? HOLD_READ : HOLD_WRITE;
	ret->pid = pid;
	ret->dev = makedev(major, minor);
	ret->ino = ino;
	ret->start = start;
	ret->end = strcmp(end, "EOF") == 0 ? INT64_MAX : strtoll(end, NULL, 10);
	return true;
}

/* ---- descriptors ---- */

/* The next lock that fdinfo tells of, and where to go on; NULL: there is none. */
static const char *next_lock(const char *text, struct lock_line *ret)
{
	while ((text = strstr(text, "\nlock:"))) {
		text += 6;
		if (lock_line_parse(text, ret))
			return text;
	}
	return NULL;
}

static void get_held(const char *text, struct target_file *f)
{
	struct lock_line l;

	while ((text = next_lock(text, &l)))
		ranges_raise(&f->held[l.kind], l.start, l.end, l.hold);
}

int target_file_get(pid_t tid, int fd, struct target_file *ret)
{
	char name[32], text[4096];
	const char *pos, *flags, *mnt, *ino;
	ssize_t n;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	n = slurp(tid, name, text, sizeof(text));
	if (n < 0)
		return (int)n;
	pos = field(text, "pos");
	flags = field(text, "flags");
	mnt = field(text, "mnt_id");
	ino = field(text, "ino"); /* Linux 5.14 */
	if (!pos || !flags || !mnt || !ino)
		return -ENOSYS;
	*ret = (struct target_file){
		.ino = strtoull(ino, NULL, 10),
		.mnt_id = atoi(mnt),
		.flags = (unsigned)strtoul(flags, NULL, 8),
		.pos = strtoll(pos, NULL, 10),
	};
	get_held(text, ret);
	return 0;
}

enum hold target_flock(pid_t pid, int fd, dev_t dev, ino_t ino)
{
	char name[32], text[4096];
	struct lock_line l;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	if (slurp(pid, name, text, sizeof(text)) <= 0)
		return HOLD_NONE;
	for (const char *p = text; (p = next_lock(p, &l));)
		if (l.kind == LOCK_FLOCK && l.dev == dev && l.ino == ino)
			return l.hold;
	return HOLD_NONE;
}

void target_file_free(struct target_file *f)
{
	for (int k = 0; k < 3; k++)
		ranges_free(&f->held[k]);
}

int target_device(pid_t tid, int fd, dev_t *ret)
{
	struct statx sx;
	char path[64];

	if (fd < 0)
		snprintf(path, sizeof(path), "/proc/%d/root", (int)tid);
	else
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, fd);
	/* Asked for nothing, FUSE gives the device, to everybody and without a request. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, 0, &sx) < 0)
		return -errno;
	*ret = makedev(sx.stx_dev_major, sx.stx_dev_minor);
	return 0;
}

bool target_mount_is_view(pid_t tid, int mnt_id)
{
	char path[64];
	auto_free char *line = NULL;
	auto_fclose FILE *f = NULL;
	size_t cap = 0;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)tid);
	f = fopen(path, "re");
	while (f && getline(&line, &cap, f) > 0)
		if (atoi(line) == mnt_id)
			return strstr(line, " - fuse.mlfs ") != NULL;
	return false;
}

/* The view shows the number below, with bits of the device mixed in above it for other file systems
 * than the root's (fs/ids.c). */
static bool same_number(ino_t below, ino_t shown)
{
	return below == shown || below == (shown & ((UINT64_C(1) << 48) - 1));
}

int target_open(pid_t tid, int fd, ino_t shown, int flags)
{
	char link[64], path[PATH_MAX];
	auto_close int at = -1;
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)tid, fd);
	n = readlink(link, path, sizeof(path));
	if (n < 0)
		return -errno;
	if (n == sizeof(path))
		return -ENAMETOOLONG;
	path[n] = '\0';
	at = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0 || fstat(at, &st) < 0)
		return -errno;
	if (!same_number(st.st_ino, shown) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return -ESTALE;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
	fd = open(link, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

/* ---- what a thread is doing ---- */

/* It runs, perhaps still on its way: once it has computed for a while it is past that. */
static bool has_run(pid_t tid, uint64_t *seen)
{
	char text[128];
	uint64_t ns;

	if (slurp(tid, "schedstat", text, sizeof(text)) <= 0)
		return ++*seen > 100; /* cannot be told here: some time will do */
	ns = strtoull(text, NULL, 10);
	if (*seen == 0)
		*seen = ns + 1;
	return ns + 1 - *seen > THROUGH_NS;
}

bool target_has_left(pid_t tid, int nr, uint64_t arg0, uint64_t arg1, uint64_t *seen)
{
	char text[256];
	unsigned long long a, b;
	int now;
	ssize_t n = slurp(tid, "syscall", text, sizeof(text));

	if (n == -ENOENT || n == -ESRCH)
		return true;
	if (n <= 0 || strncmp(text, "running", 7) == 0)
		return has_run(tid, seen);
	if (sscanf(text, "%d %llx %llx", &now, &a, &b) != 3)
		return true; /* "-1": in none */
	return now != nr || a != arg0 || b != arg1;
}

enum signals target_signals(pid_t tid, pid_t process)
{
	char status[4096];
	const char *own, *shared, *blocked, *threads;
	uint64_t mask;

	if (slurp(tid, "status", status, sizeof(status)) <= 0)
		return SIGNAL_NONE;
	own = field(status, "SigPnd");
	shared = field(status, "ShdPnd");
	blocked = field(status, "SigBlk");
	threads = field(status, "Threads");
	if (!own || !shared || !blocked || !threads)
		return SIGNAL_NONE;
	mask = ~strtoull(blocked, NULL, 16);
	if (strtoull(own, NULL, 16) & mask)
		return SIGNAL_OWN;
	/* The kernel prefers the first thread for what is sent to the process. */
	if (strtoull(shared, NULL, 16) & mask)
		return tid == process || atoi(threads) == 1 ? SIGNAL_OWN : SIGNAL_SHARED;
	return SIGNAL_NONE;
}

bool target_would_heed(pid_t tid, int sig)
{
	char status[4096];
	const char *blocked, *ignored;

	if (slurp(tid, "status", status, sizeof(status)) <= 0)
		return false;
	blocked = field(status, "SigBlk");
	ignored = field(status, "SigIgn");
	return blocked && ignored &&
	       !((strtoull(blocked, NULL, 16) | strtoull(ignored, NULL, 16)) >> (sig - 1) & 1);
}
