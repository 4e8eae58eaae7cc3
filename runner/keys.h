/* SPDX-License-Identifier: MIT */
/*
 * keys.h - private to runner/: keys for who reads the pseudo-terminal in front of the real one.
 *
 * Keys belong to the real terminal, and most programs read them there: from fd 0, or /dev/tty. But less, more and `vim -`
 * read stdout's or stderr's terminal. So, when something was typed and nobody takes it while a process of the
 * foreground waits to read the pseudo-terminal, it is handed on to that. What a process waits for, /proc tells.
 *
 * The real terminal has done its part with the keys (editing, echo, signals): its modes are those of the
 * pseudo-terminal (tty_pair_mirror), and EXTPROC keeps that from doing it again. An end of file is not handed on.
 */
#ifndef MLFS_KEYS_H
#define MLFS_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct keys {
	int real, master; /* borrowed */
	int fd; /* the real terminal, opened anew so that reading does not wait; -1: cannot be had */
	struct stat real_st, slave_st;
	int64_t next_ns; /* CLOCK_MONOTONIC: look then; 0: wait for keys */
	unsigned wait_ms;
	bool used; /* something was handed on */
};
/* slave: what the command gets. */
void keys_init(struct keys *k, int real, int master, int slave);
/* For poll: the events of k->real to wait for, and for how long (-1: for ever). */
short keys_events(const struct keys *k);
int keys_timeout(const struct keys *k);
/* After poll: what came of these events. The calling thread has SIGTTIN and SIGTTOU blocked. */
void keys_turn(struct keys *k, short revents);
void keys_free(struct keys *k);

#endif
