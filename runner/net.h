/* SPDX-License-Identifier: MIT */
/*
 * net.h - private to runner/: what of the step's use of sockets comes from, or goes to, somebody outside of it.
 *
 * Between processes of the step sockets are as good as pipes. So an address is looked up before the call that
 * uses it happens: a peer that is no socket of the step is noted, and the result is not stored. Which sockets
 * are the step's is known because it cannot listen, bind or connect without asking here. Everything that
 * cannot be told counts as use.
 *
 * net.c has the rules, net_accept.c the connections that a server of the step takes, net_unix.c Unix sockets.
 */
#ifndef MLFS_NET_H
#define MLFS_NET_H

#include <linux/seccomp.h>

#include "call.h"
#include "peer.h"

struct net;
/* listener: where calls are answered; command: a process in the view, or 0; both borrowed.
 * allowed: nothing is noted. */
struct net *net_new(int listener, pid_t command, bool allowed);
void net_free(struct net *n);

enum net_answer {
	NET_CONTINUE, /* let the call happen */
	NET_DONE,     /* it has succeeded */
	NET_ERROR,    /* it fails with *ret_error (positive) */
	NET_ANSWERED, /* it has been answered, or will be by net_retry */
};
enum net_answer net_ask(struct net *n, const struct seccomp_notif *req, const struct call *c,
			int *ret_error);
/* A call that cannot be looked into. */
void net_blind(struct net *n, const struct seccomp_notif *req);
/* Look again after calls that wait. Milliseconds until it is to be called next, -1: none waits. */
int net_retry(struct net *n);
/* The step is gone: why its result must not be stored, or NULL. Valid until freed. */
const char *net_spoiled(struct net *n);
/* While it runs, any thread: did any two talk to each other by a socket, be it within the step? Or NULL. */
const char *net_touched(struct net *n);

/* ---- between net*.c ---- */

/* A socket of the step that listens for connections. */
struct server {
	uint32_t ino;
	unsigned port;
	uint64_t connects, accepts; /* from within the step; all */
	int kept;		    /* a connection taken for a call that had gone, or -1 */
};
/* An address of this machine where nobody was. */
struct absent {
	struct address address;
	char text[128];
};
/* A UDP socket that takes datagrams from anybody. */
struct bound {
	uint32_t ino;
	char text[64];
};
/* An accept that waits. */
struct held {
	struct seccomp_notif req;
	struct call call;
};
struct net {
	int listener;
	pid_t command;
	struct peer *peer;
	uint32_t *known; /* sockets of the step; open addressing, 0 is free */
	size_t n_known, cap_known;
	struct server *servers;
	size_t n_servers;
	struct absent *absent;
	size_t n_absent;
	struct bound *bound;
	size_t n_bound;
	struct held *held;
	size_t n_held;
	int64_t retried_ns;
	unsigned eager; /* so often the next looks come soon */
	bool allowed;
	bool done; /* the call of the moment was made in the caller's place, with `error` (0: it succeeded) */
	int error;
	bool udp, entered;  /* udp_start is valid; a network namespace that was there was entered */
	uint64_t datagrams; /* sent by the step to itself, as far as they were seen */
	struct udp_counts udp_start;
	char nobody[128]; /* a UDP socket was connected to an address that nobody had */
	char text[256];	  /* why the result must not be stored, or "" */
	_Atomic bool touched;
};

/* One call. */
struct ask {
	struct net *n;
	const struct seccomp_notif *req;
	const struct call *c;
};

/* Note what was used; the first note stays. */
void net_note(const struct ask *a, const char *fmt, ...) printf_like(2, 3);
/* Something of the step talked to something else, be it of the step. */
void net_touch(struct net *n);
void net_know(struct net *n, uint32_t ino);
bool net_knows(const struct net *n, int64_t ino);
struct server *net_server(struct net *n, uint32_t ino);
/* Is the socket in the network namespace of mlfs itself? In another one it reaches nobody but the step, unless
 * the step entered one that was there before: that is noted. */
bool net_is_here(const struct ask *a, const struct target_socket *s);

enum net_answer net_accept(const struct ask *a, int *ret_error);
void net_unix(const struct ask *a, const struct target_socket *s, const struct address *to);

#endif
