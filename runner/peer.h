/* SPDX-License-Identifier: MIT */
/*
 * peer.h - private to runner/: sockets of the step and who is at the other end of an address, as the
 * kernel's sock_diag(7) tells anybody. A socket is known by its inode number, as in /proc/PID/fd.
 */
#ifndef MLFS_PEER_H
#define MLFS_PEER_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../index/index.h"

/* An address, as the caller of the system call gave it. */
struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage room;
	};
	socklen_t len;
};
/* ::ffff:1.2.3.4 becomes 1.2.3.4. */
void address_simplify(struct address *a);
/* "127.0.0.1:80", "[::1]:80", "an address of family 40". */
void address_text(const struct address *a, char *out, size_t n);
unsigned address_port(const struct address *a); /* AF_INET, AF_INET6; else 0 */

/* A socket of a process of the step. */
struct target_socket {
	int fd; /* a duplicate in this process; keep it for moments only: it keeps the socket alive */
	uint32_t ino;
	int domain, type, protocol;
	uint64_t netns; /* 0: cannot be told */
};
/* 1: it is a socket, 0: it is none, and the call will fail, -errno: cannot be told. */
int target_socket_get(pid_t tid, int fd, struct target_socket *ret) must_check;
void target_socket_put(struct target_socket *s);
#define auto_target_socket __attribute__((cleanup(target_socket_put)))

struct peer; /* the socket to ask the kernel through */
int peer_new(struct peer **ret);
void peer_free(struct peer *p);
/* The network namespace of this process; 0: cannot be told. */
uint64_t peer_netns(const struct peer *p);
/* Does the address lead back into this network namespace? 1, 0, -errno. */
int peer_is_local(const struct address *a) must_check;
/* The inode of the socket that takes what is sent to the local address: for IPPROTO_TCP the one that listens
 * or, with `from`, the one at this end of a connection from there; for IPPROTO_UDP. 0: none. -errno. */
int64_t peer_find(struct peer *p, int protocol, const struct address *to,
		  const struct address *from) must_check;
/* The same for a Unix socket with an abstract name, or bound to the file. */
int64_t peer_find_abstract(struct peer *p, const struct address *to) must_check;
int64_t peer_find_bound(struct peer *p, dev_t dev, ino_t ino) must_check;

/* Datagrams that arrived in this network namespace: all, and those for a port that nobody had. */
struct udp_counts {
	uint64_t in, no_port;
};
int peer_udp_counts(struct udp_counts *ret) must_check;

#endif
