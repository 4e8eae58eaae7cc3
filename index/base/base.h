/* SPDX-License-Identifier: MIT */
/*
 * base.h - errors, ownership helpers, buffers and text helpers used by every folder.
 *
 * Conventions of the whole tree:
 *  - a function that can fail returns a value >= 0, or -errno, and fills a `struct err` at the
 * origin;
 *  - `ret_` parameters are untouched on failure;
 *  - destructors accept NULL and half-built objects.
 */
#ifndef MLFS_BASE_H
#define MLFS_BASE_H

#include <stdarg.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

#define must_check	  __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a), nonnull(f)))

/* ---- errors ---- */

/* Why something failed: filled where it failed; callers put context in front. */
struct err {
	int code;      /* positive errno; 0: no error */
	char msg[512]; /* "cannot open /x/y: Permission denied"; lower case, no full stop */
};

/* Fill e (NULL allowed) with the formatted text, followed by ": strerror(code)". Returns -code.
 * `code` may be negative or positive. */
int err_set(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);
/* As err_set, without the strerror part. */
int err_text(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);
/* Put "context: " in front of what e holds. Returns -e->code. */
int err_prefix(struct err *e, const char *fmt, ...) printf_like(2, 3);

/* ---- ownership ---- */

static inline void base_free(void *p)
{
	free(*(void **)p);
}
void base_close(int *fd); /* closes *fd when >= 0, keeping errno; -1 then */
void base_fclose(FILE **f);
#define auto_free   __attribute__((cleanup(base_free)))
#define auto_close  __attribute__((cleanup(base_close)))
#define auto_fclose __attribute__((cleanup(base_fclose)))
/* Hand ownership on: yields the pointer and leaves NULL behind. */
#define take(p)                             \
	({                                  \
		__typeof__(p) _taken = (p); \
		(p) = NULL;                 \
		_taken;                     \
	})
static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Allocation that cannot fail: the process is told and ended (exit status 125) when memory is out.
 * For bookkeeping of bounded size only; anything sized by input uses malloc and reports ENOMEM. */
void *xmalloc(size_t n);
/*
 * n bytes for pieces of files, from the start of a page on; NULL when memory is out. Caller frees. Copying from the page cache to a
 * buffer that begins 1 to 63 bytes behind the start of a page, as malloc's large ones do, takes AMD processors (`rep movsb`)
 * four to eight times as long; see docs/performance.md.
 */
void *io_alloc(size_t n) must_check;
void *xcalloc(size_t n, size_t size);

static inline int64_t timespec_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* What is kept of a struct stat where there are very many: in all other respects the same. */
struct stat_kept {
	dev_t st_dev, st_rdev;
	ino_t st_ino;
	off_t st_size;
	struct timespec st_mtim, st_ctim;
	uint32_t st_nlink;
	mode_t st_mode;
	uid_t st_uid;
	gid_t st_gid;
};

static inline struct stat_kept stat_keep(const struct stat *st)
{
	return (struct stat_kept){.st_dev = st->st_dev,
				  .st_rdev = st->st_rdev,
				  .st_ino = st->st_ino,
				  .st_size = st->st_size,
				  .st_mtim = st->st_mtim,
				  .st_ctim = st->st_ctim,
				  .st_nlink = (uint32_t)st->st_nlink,
				  .st_mode = st->st_mode,
				  .st_uid = st->st_uid,
				  .st_gid = st->st_gid};
}

/* What was not kept is 0. */
static inline struct stat stat_again(const struct stat_kept *k)
{
	return (struct stat){.st_dev = k->st_dev,
			     .st_rdev = k->st_rdev,
			     .st_ino = k->st_ino,
			     .st_size = k->st_size,
			     .st_mtim = k->st_mtim,
			     .st_ctim = k->st_ctim,
			     .st_nlink = k->st_nlink,
			     .st_mode = k->st_mode,
			     .st_uid = k->st_uid,
			     .st_gid = k->st_gid};
}

/* Many small things that live and go together, without malloc's overhead and apart from what comes and goes. All zero:
 * empty. Not for several threads at once. */
struct arena {
	struct arena_chunk *chunks;
	size_t used, size; /* of the first chunk */
};
/* n zeroed bytes, aligned for any of our structures, until arena_free. Never NULL. */
void *arena_alloc(struct arena *a, size_t n);
void arena_free(struct arena *a);

void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) printf_like(1, 2);
/* What they do when there is none. */
_Noreturn void no_memory(void);

/* ---- growable byte buffer; {0} is an empty one ---- */
struct buf {
	uint8_t *data;
	size_t len, cap;
};
void buf_reserve(struct buf *b, size_t extra);
void buf_shrink(struct buf *b); /* to no more memory than what is in it takes */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_addf(struct buf *b, const char *fmt, ...) printf_like(2, 3);
void buf_u8(struct buf *b, uint8_t v);
void buf_u32(struct buf *b, uint32_t v); /* little endian */
void buf_u64(struct buf *b, uint64_t v);
void buf_varint(struct buf *b, uint64_t v);		/* LEB128 */
void buf_bytes(struct buf *b, const void *p, size_t n); /* varint length, then bytes */
void buf_str(struct buf *b, const char *s);		/* buf_bytes without the NUL */
void buf_free(struct buf *b);
#define auto_buf __attribute__((cleanup(buf_free)))

/* ---- reader over bytes; every get checks the bounds. After the first failure `bad` stays set and
 * gets give zeros, so that a decoder checks once at its end. ---- */
struct cur {
	const uint8_t *p, *end;
	bool bad;
};
uint8_t cur_u8(struct cur *c);
uint32_t cur_u32(struct cur *c);
uint64_t cur_u64(struct cur *c);
uint64_t cur_long_varint(struct cur *c);
static inline uint64_t cur_varint(struct cur *c)
{
	return !c->bad && c->p < c->end && *c->p < 0x80 ? *c->p++ : cur_long_varint(c);
}
/* A view into the buffer; *ret_n is its length. NULL with *ret_n = 0 when bad. */
const void *cur_bytes(struct cur *c, size_t *ret_n);
/* A malloc'ed NUL-terminated copy; NULL when bad (a string with a NUL inside is bad). */
char *cur_str(struct cur *c);

/* ---- text ---- */
/* ISO 8601 duration (PnYnMnWnDTnHnMnS; a year is 365 days, a month 30; fractions in the last field)
 * to seconds. */
int parse_duration(const char *s, double *ret_seconds) must_check; /* -EINVAL */
/* "123", "4K", "2M", "1.5G", "1T" (powers of 1024) to bytes. */
int parse_size(const char *s, uint64_t *ret_bytes) must_check; /* -EINVAL, -ERANGE */
/* "5 m 3 s", "1 h 2 m", "240 ms"; for people. buf of at least 32 bytes; returns buf. */
char *human_seconds(double seconds, char *buf, size_t n);
/* "1.5 GB" style; returns buf. */
char *human_size(uint64_t bytes, char *buf, size_t n);
/* RFC 3339 in UTC with milliseconds: 2026-11-21T10:42:00.123Z; returns buf (>= 32). */
char *rfc3339(int64_t unix_ns, char *buf, size_t n);
/* lower-case hex; out has room for 2*n+1. */
void hex(const void *p, size_t n, char *out);
/* The n bytes that `digits` say: 2 * n of them, as hex() writes them, and no more. False: it is something else. */
bool unhex(const char *digits, void *to, size_t n);
/* Damerau-Levenshtein distance, for "did you mean". */
unsigned edit_distance(const char *a, const char *b);
/* Is path the directory dir, or in it? Both absolute and plain. */
bool path_is_in(const char *path, const char *dir);
/* Text of n bytes as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void json_string(struct buf *b, const char *s, size_t n);
bool is_utf8(const char *s, size_t n);

/* ---- time ---- */
int64_t now_ns(void);  /* CLOCK_REALTIME */
int64_t mono_ns(void); /* CLOCK_MONOTONIC */

/* ---- I/O that continues after short counts and EINTR; return bytes moved or -errno ---- */
ssize_t write_all(int fd, const void *p, size_t n) must_check;
ssize_t read_full(int fd, void *p, size_t n) must_check; /* less than n only at end of file */
ssize_t pread_full(int fd, void *p, size_t n, off_t off) must_check;
/* The whole file, NUL-terminated beyond *ret_n. Caller frees. */
int read_file(const char *path, char **ret, size_t *ret_n, struct err *e) must_check;
/* The same of what is open already; path: what to call it. */
int read_opened(int fd, const char *path, char **ret, size_t *ret_n, struct err *e) must_check;
int mkdir_p(const char *path, mode_t mode, struct err *e) must_check;
/* This process may open files up to the hard limit now: how many that is, 0 when it cannot be told. */
uint64_t raise_open_files(void);
/* How many processors this process may use: those it may run on, or fewer by the quota of its control groups; at least 1. */
unsigned cpus_allowed(void);
/* The threads of the machine that run now or could, this one included. loadavg: of /proc/loadavg. 0: it cannot be told. */
unsigned cpus_running(int loadavg);
/* How many processors this process would find idle now, with the one it is on. For what takes some milliseconds: the quota, which is
 * of 100 ms, does not count, since to find it takes 0.1 ms. */
unsigned cpus_idle(void);
/* That quota, from the text of /proc/self/cgroup in file `groups` and the tree below root, in whole processors; 0: there is none. */
unsigned cpus_quota(const char *groups, const char *root);

/* ---- log; the only global state besides the runner's signal flag ---- */
enum log_level { LOG_QUIET = -1, LOG_WARN = 0, LOG_INFO = 1, LOG_DEBUG = 2 };
void log_set_level(enum log_level l); /* $MLFS_DEBUG=1 also gives LOG_DEBUG */
/* "mlfs: …\n" on stderr in one write. */
void log_warn(const char *fmt, ...) printf_like(1, 2);
void log_info(const char *fmt, ...) printf_like(1, 2);
void log_debug(const char *fmt, ...) printf_like(1, 2);

/* io.c: all signals, for threads that are to get none. But not SIGSEGV and SIGBUS, which are a thread's own doing: blocked
 * ones could not be caught (index/trap.h). */
void signals_all(sigset_t *ret);

#endif
