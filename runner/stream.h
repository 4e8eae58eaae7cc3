/* SPDX-License-Identifier: MIT */
/*
 * stream.h - what console.c and stdin.c are made of: spools, threads, the feeding of a stream to
 * the command, pseudo-terminals, and the watch on terminals. Private to these files.
 */
#ifndef MLFS_STREAM_H
#define MLFS_STREAM_H

#include <poll.h>
#include <pthread.h>
#include <termios.h>

#include "../index/index.h"

/* ---- stream.c ---- */

/* Bytes kept for the record: in memory while few, in an unlinked file of `dir` from then on. */
struct spool {
	int fd;	      /* a regular file, bytes from offset 0; -1: none could be made */
	bool on_disk; /* no longer in memory (or never) */
	uint64_t len;
	char *dir; /* or NULL */
	int lost; /* 0, or the errno that kept bytes from being kept: the spool is of no use then */
};
void spool_init(struct spool *s, const char *dir); /* dir: copied, NULL allowed */
void spool_add(struct spool *s, const void *p, size_t n);
void spool_free(struct spool *s);

/* A thread that no signal is delivered to: those are the main thread's business, SIGPIPE is
 * wanted as EPIPE and SIGTTOU would stop the process. 0 or -errno. */
int stream_thread(pthread_t *ret, void *(*fn)(void *), void *arg) must_check;
/* poll() of one descriptor that does not wait; the events there are, 0 when none. */
short stream_ready(int fd, short events);
/* fd, or a copy in its place: above 2, so that the dup2 calls of the step cannot overwrite it.
 * -errno when there is none; fd may be the -1 of the call that failed to make it. */
int stream_above_std(int fd) must_check;
/* Is this standard descriptor closed, as far as the command is concerned? (O_PATH: kept busy by
 * main) */
bool stream_closed(int fd);
/* write_all that also waits where the other end of fd has made it non-blocking. 0 or -errno. */
int stream_write(int fd, const void *p, size_t n) must_check;

/* Take up to n bytes of a pipe or socket without waiting; 0 at the end, -EAGAIN when there is
 * nothing. Whoever else reads it may be faster, hence no plain read after a poll, and never
 * O_NONBLOCK: others would see it. */
ssize_t stream_take(int fd, bool socket, void *p, size_t n) must_check;
/* Up to n of the next bytes, without taking them. 0 at the end, -EAGAIN when there is nothing.
 * scratch: an empty pipe, for a pipe; NULL for a socket. *ret_full: it may be that no more can be
 * seen before some are taken. */
ssize_t stream_peek(int fd, const int *scratch, void *p, size_t n, bool *ret_full) must_check;

/* ---- feed.c: a pipe or socket of which no more is taken than the command takes ---- */

struct feed;
/* fd: the real stream, borrowed. dir: for the spool, NULL allowed. */
int feed_new(int fd, bool socket, const char *dir, struct feed **ret, struct err *e) must_check;
/* Does the stream go on with these n bytes (and end there, when eof)? See stdin_matches. Waits
 * for bytes as long as what is there agrees, but no longer than silence_ms without a new one
 * (-1: for ever). 1, 0, -errno; -EINTR when a signal came while it waited (it may be called
 * again). */
int feed_match(struct feed *f, const void *want, size_t n, bool eof, int silence_ms,
	       struct err *e) must_check;
/* Take n bytes from the stream, which feed_match has seen there. */
int feed_drop(struct feed *f, uint64_t n, struct err *e) must_check;
/* Has feed_match or feed_drop left bytes here that are no longer in the stream? */
bool feed_holds(const struct feed *f);
/* The read end for the command; the caller closes it after the fork. */
int feed_pipe(struct feed *f, struct err *e) must_check;
int feed_start(struct feed *f, struct err *e) must_check;
/* Stop, and settle what the command has taken of the last slot. Idempotent. */
void feed_stop(struct feed *f);
struct feed_used {
	int spool; /* borrowed */
	uint64_t len;
	struct fp fp;
	bool eof;	     /* the command was at the end, and could see it */
	const char *spoiled; /* borrowed, or NULL */
};
void feed_used(struct feed *f, struct feed_used *ret); /* after feed_stop */
void feed_free(struct feed *f);

/* ---- stdin.c ---- */

struct stdin_src;

/* ---- tty.c: terminals ---- */

/* Notices reads of stdin's terminal and of the controlling terminal from now on. */
struct tty_watch;
struct tty_watch *tty_watch_begin(bool stdin_is_tty);
/* Why a result must not be stored, or NULL: nobody read. */
const char *tty_watch_end(struct tty_watch *w);
void tty_watch_free(struct tty_watch *w);

/* A pseudo-terminal in front of the real terminal. */
struct tty_pair {
	int real;	      /* the real terminal, borrowed */
	int master;	      /* in packet mode: each read gives a TIOCPKT_* byte first */
	struct termios seen;  /* the modes of the pseudo-terminal when last looked at */
	struct termios saved; /* the modes of the real one before the first change */
	bool changed;
};
/* ret_slave: what the command gets; the caller closes it. p->master too. */
int tty_pair_open(struct tty_pair *p, int real, int *ret_slave, struct err *e) must_check;
void tty_pair_size(const struct tty_pair *p); /* the window size of the real one, passed on */
/* Give the real terminal the modes that the command has given the pseudo-terminal since the last
 * look. The calling thread has SIGTTOU blocked. */
void tty_pair_mirror(struct tty_pair *p);
void tty_pair_restore(struct tty_pair *p);

#endif
