/* SPDX-License-Identifier: MIT */
/*
 * onefile.c - random operations on the bytes of one file, each checked against a copy in memory: reads and writes
 * through several descriptors, mappings, truncation, holes, copies within the file, O_DIRECT, asynchronous I/O. The
 * idea is that of fsx (Avadis Tevanian, NeXT, 1991).
 *
 *   onefile [-s SEED] [-n OPERATIONS] [-d] FILE
 *
 * -d: all reads and writes are O_DIRECT. Status 1, with the seed, the operation and the place, when the file is not as
 * the copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST  (512u << 10)
#define ALIGN 4096u
#define LOG   12 /* operations shown after a failure */

struct file {
	const char *path;
	int fd[3]; /* read and write; read and write; append */
	char *good, *buf;
	size_t size;
	uint64_t rng, seed;
	unsigned op;
	bool direct;
	aio_context_t aio; /* 0: none */
	char log[LOG][100];
};

static unsigned rnd(struct file *f, unsigned n)
{
	f->rng ^= f->rng << 13;
	f->rng ^= f->rng >> 7;
	f->rng ^= f->rng << 17;
	return (unsigned)((f->rng >> 11) % n);
}

static void fail(struct file *f, const char *what) __attribute__((noreturn));
static void fail(struct file *f, const char *what)
{
	printf("onefile: seed %llu, operation %u: %s (%s)\n", (unsigned long long)f->seed, f->op,
	       what, strerror(errno));
	for (unsigned k = f->op < LOG ? 0 : f->op - LOG + 1; k <= f->op; k++)
		printf("  %s\n", f->log[k % LOG]);
	exit(1);
}

#define note(f, ...) snprintf((f)->log[(f)->op % LOG], sizeof((f)->log[0]), __VA_ARGS__)

static void compare(struct file *f, const char *got, size_t off, size_t n)
{
	char text[120];

	for (size_t k = 0; k < n; k++) {
		if (got[k] == f->good[off + k])
			continue;
		snprintf(text, sizeof(text), "byte %zu is %02x and should be %02x", off + k,
			 (unsigned char)got[k], (unsigned char)f->good[off + k]);
		fail(f, text);
	}
}

static void check_size(struct file *f)
{
	struct stat st;

	if (fstat(f->fd[rnd(f, 3)], &st) < 0)
		fail(f, "fstat");
	if ((size_t)st.st_size != f->size)
		fail(f, "the size is wrong");
	if (lseek(f->fd[0], 0, SEEK_END) != (off_t)f->size)
		fail(f, "the end is elsewhere");
}

/* What the copy becomes when n bytes of buf are written at off. */
static void written(struct file *f, size_t off, size_t n)
{
	memcpy(f->good + off, f->buf, n);
	if (off + n > f->size)
		f->size = off + n;
}

static void fill(struct file *f, size_t n)
{
	for (size_t k = 0; k < n; k += 8) {
		uint64_t v = f->rng += 0x9e3779b97f4a7c15u;

		memcpy(f->buf + k, &v, 8);
	}
}

/* A stretch within [0, limit), aligned for O_DIRECT. False: there is none. */
static bool stretch(struct file *f, size_t limit, size_t *ret_off, size_t *ret_n)
{
	size_t n = rnd(f, 4) ? rnd(f, 9000) : rnd(f, 100000), off;

	if (limit == 0)
		return false;
	off = rnd(f, (unsigned)limit);
	if (f->direct) {
		off &= ~(size_t)(ALIGN - 1);
		n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	}
	if (n > limit - off)
		n = limit - off;
	if (f->direct)
		n &= ~(size_t)(ALIGN - 1);
	*ret_off = off;
	*ret_n = n;
	return n > 0;
}

/* ---- operations ---- */

static void op_read(struct file *f)
{
	size_t off, n;
	ssize_t got, want;

	if (!stretch(f, MOST, &off, &n))
		return;
	note(f, "read %zu+%zu", off, n);
	got = pread(f->fd[rnd(f, 2)], f->buf, n, (off_t)off);
	want = off >= f->size ? 0 : (ssize_t)(n < f->size - off ? n : f->size - off);
	if (got != want)
		fail(f, got < 0 ? "read" : "another number of bytes than there are was read");
	compare(f, f->buf, off, (size_t)got);
}

static void op_write(struct file *f)
{
	size_t off, n;

	if (!stretch(f, MOST, &off, &n))
		return;
	note(f, "write %zu+%zu", off, n);
	fill(f, n);
	if (pwrite(f->fd[rnd(f, 2)], f->buf, n, (off_t)off) != (ssize_t)n)
		fail(f, "write");
	written(f, off, n);
}

static void op_append(struct file *f)
{
	size_t n = f->direct ? ALIGN : 1 + rnd(f, 9000);

	if (n > MOST - f->size || (f->direct && f->size % ALIGN))
		return;
	note(f, "append %zu", n);
	fill(f, n);
	if (write(f->fd[2], f->buf, n) != (ssize_t)n)
		fail(f, "append");
	written(f, f->size, n);
}

static void op_truncate(struct file *f)
{
	size_t size = rnd(f, 3) ? rnd(f, MOST) : rnd(f, 10000);

	note(f, "truncate %zu", size);
	if ((rnd(f, 2) ? truncate(f->path, (off_t)size) : ftruncate(f->fd[0], (off_t)size)) < 0)
		fail(f, "truncate");
	if (size > f->size)
		memset(f->good + f->size, 0, size - f->size);
	f->size = size;
	memset(f->good + size, 0, MOST - size);
}

static void op_map_read(struct file *f)
{
	size_t off, n, start;
	char *p;

	if (!stretch(f, f->size, &off, &n))
		return;
	note(f, "mapped read %zu+%zu", off, n);
	start = off & ~(size_t)(ALIGN - 1);
	p = mmap(NULL, n + off - start, PROT_READ, rnd(f, 2) ? MAP_SHARED : MAP_PRIVATE, f->fd[0],
		 (off_t)start);
	if (p == MAP_FAILED)
		fail(f, "mmap");
	compare(f, p + (off - start), off, n);
	munmap(p, n + off - start);
}

static void op_map_write(struct file *f)
{
	size_t off, n, start;
	bool sync = rnd(f, 2);
	char *p;

	if (!stretch(f, f->size, &off, &n))
		return;
	note(f, "mapped write %zu+%zu", off, n);
	start = off & ~(size_t)(ALIGN - 1);
	p = mmap(NULL, n + off - start, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd[1], (off_t)start);
	if (p == MAP_FAILED)
		fail(f, "mmap");
	fill(f, n);
	memcpy(p + (off - start), f->buf, n);
	if (sync && msync(p, n + off - start, MS_SYNC) < 0)
		fail(f, "msync");
	munmap(p, n + off - start);
	written(f, off, n);
}

static void op_allocate(struct file *f)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE};
	int mode = modes[rnd(f, 5)];
	size_t off, n, end;

	if (!stretch(f, MOST, &off, &n))
		return;
	note(f, "fallocate %x %zu+%zu", mode, off, n);
	if (fallocate(f->fd[0], mode, (off_t)off, (off_t)n) < 0) {
		if (errno == EOPNOTSUPP) /* not every file system has every mode */
			return;
		fail(f, "fallocate");
	}
	end = off + n < f->size ? off + n : f->size;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && end > off)
		memset(f->good + off, 0, end - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + n > f->size)
		f->size = off + n;
}

static void op_copy(struct file *f)
{
	size_t from, to, n, m;
	off_t in, out;
	ssize_t got;

	if (!stretch(f, f->size, &from, &n) || !stretch(f, MOST, &to, &m))
		return;
	n = n < m ? n : m;
	if (from < to + n && to < from + n)
		return; /* they overlap */
	note(f, "copy %zu+%zu to %zu", from, n, to);
	for (in = (off_t)from, out = (off_t)to; n > 0; n -= (size_t)got) {
		got = copy_file_range(f->fd[0], &in, f->fd[1], &out, n, 0);
		if (got <= 0)
			fail(f, "copy_file_range");
		memcpy(f->buf, f->good + in - got, (size_t)got);
		written(f, (size_t)(out - got), (size_t)got);
	}
}

static void op_reopen(struct file *f)
{
	unsigned k = rnd(f, 3);
	int flags = O_RDWR | (k == 2 ? O_APPEND : 0) | (f->direct ? O_DIRECT : 0);

	note(f, "close and open %u", k);
	close(f->fd[k]);
	f->fd[k] = open(f->path, flags);
	if (f->fd[k] < 0)
		fail(f, "open");
}

static void op_sync(struct file *f)
{
	note(f, "fsync");
	if (fsync(f->fd[rnd(f, 3)]) < 0)
		fail(f, "fsync");
	if (posix_fadvise(f->fd[0], 0, 0, POSIX_FADV_DONTNEED) != 0)
		fail(f, "fadvise");
}

static void op_async(struct file *f)
{
	struct iocb c = {0}, *list = &c;
	struct io_event done;
	size_t off, n;
	bool write = rnd(f, 2);

	if (!f->aio || !stretch(f, write ? MOST : f->size, &off, &n))
		return;
	note(f, "asynchronous %s %zu+%zu", write ? "write" : "read", off, n);
	if (write)
		fill(f, n);
	c.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
	c.aio_fildes = (uint32_t)f->fd[0];
	c.aio_buf = (uintptr_t)f->buf;
	c.aio_nbytes = n;
	c.aio_offset = (int64_t)off;
	if (syscall(SYS_io_submit, f->aio, 1L, &list) != 1 ||
	    syscall(SYS_io_getevents, f->aio, 1L, 1L, &done, NULL) != 1)
		fail(f, "asynchronous I/O");
	if (done.res != (int64_t)n)
		fail(f, "asynchronous I/O did another number of bytes");
	if (write)
		written(f, off, n);
	else
		compare(f, f->buf, off, n);
}

static void (*const ops[])(struct file *) = {
	op_read,     op_read,	   op_write,	op_write, op_append, op_truncate, op_map_read,
	op_map_read, op_map_write, op_allocate, op_copy,  op_reopen, op_sync,	  op_async,
};

static void whole(struct file *f)
{
	int fd = open(f->path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, f->buf, MOST);

	if (n != (ssize_t)f->size)
		fail(f, "the file as a whole cannot be read");
	compare(f, f->buf, 0, f->size);
	close(fd);
}

int main(int argc, char **argv)
{
	struct file f = {.seed = 1};
	unsigned n = 1000;
	int c;

	while ((c = getopt(argc, argv, "s:n:d")) >= 0)
		switch (c) {
		case 's':
			f.seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			n = (unsigned)atoi(optarg);
			break;
		case 'd':
			f.direct = true;
			break;
		default:
			return 2;
		}
	if (argc - optind != 1)
		return 2;
	f.path = argv[optind];
	f.rng = f.seed * 0x9e3779b97f4a7c15u + 1;
	f.good = calloc(MOST, 1);
	if (posix_memalign((void **)&f.buf, ALIGN, MOST) != 0)
		return 2;
	(void)syscall(SYS_io_setup, 4, &f.aio); /* without: op_async does nothing */
	for (int k = 0; k < 3; k++) {
		f.fd[k] = open(f.path,
			       O_RDWR | O_CREAT | (k == 2 ? O_APPEND : 0) | (k == 0 ? O_TRUNC : 0) |
				       (f.direct ? O_DIRECT : 0),
			       0644);
		if (f.fd[k] < 0)
			fail(&f, "open");
	}
	for (; f.op < n; f.op++) {
		ops[rnd(&f, sizeof(ops) / sizeof(*ops))](&f);
		check_size(&f);
	}
	whole(&f);
	printf("%u operations, %zu bytes in the end\n", n, f.size);
	return 0;
}
