/* SPDX-License-Identifier: MIT */
/*
 * net_accept.c - who connects to a server of the step?
 *
 * The kernel tells who it was only to the one who accepts. So accept(2) on a TCP socket of the step is done here,
 * in place of the caller, and the connection is put among its descriptors. A call that would wait is held, and
 * looked at again soon after a process of the step connects to a server of the step, else every 20 ms: who waits
 * may be interrupted by a signal, and the socket must not be kept here, since it would stay in use when its
 * last owner closes it.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>

#include "target.h"

#ifndef SECCOMP_ADDFD_FLAG_SEND /* Linux 5.14 */
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

#define SOON_MS	 1
#define LATER_MS 20

/* ---- who is it? ---- */

static void look_at_peer(const struct ask *a, struct server *v, int fd)
{
	struct address peer = {.len = sizeof(peer.room)}, own = {.len = sizeof(own.room)};
	struct net *n = a->n;
	int64_t owner = -1;
	char from[80], to[80];
	int local;

	net_touch(n);
	v->accepts++;
	/* Gone already: its address is not told any more. */
	if (getpeername(fd, &peer.any, &peer.len) < 0 || getsockname(fd, &own.any, &own.len) < 0) {
		if (v->accepts > v->connects)
			net_note(a, "network was used: a connection to port %u", v->port);
		return;
	}
	address_simplify(&peer);
	address_simplify(&own);
	local = peer_is_local(&peer);
	if (local == 1)
		owner = peer_find(n->peer, IPPROTO_TCP, &peer, &own);
	/* Whose it was is not known when it has been closed: then they are counted. */
	if (local == 1 && (net_knows(n, owner) ||
			   ((owner == 0 || owner == UINT32_MAX) && v->accepts <= v->connects)))
		return;
	address_text(&peer, from, sizeof(from));
	address_text(&own, to, sizeof(to));
	net_note(a, "network was used: connection from %s to %s", from, to);
}

/* ---- accept ---- */

/* 0 or -errno. */
static int write_address(const struct ask *a, const struct address *peer)
{
	const uint64_t *arg = a->c->arg;
	int32_t room, len = (int32_t)peer->len;
	int r;

	if (!arg[1])
		return 0;
	r = target_read(a->c->tid, arg[2], &room, sizeof(room));
	if (r == 0 && room < 0)
		r = -EINVAL;
	if (r == 0)
		r = target_write(a->c->tid, arg[1], &peer->room, (size_t)(room < len ? room : len));
	if (r == 0)
		r = target_write(a->c->tid, arg[2], &len, sizeof(len));
	return r;
}

/* Put the connection among the caller's descriptors, which answers the call. A connection that cannot be given
 * away is kept for the next call. */
static enum net_answer give(const struct ask *a, struct server *v, int *fd, int *ret_error)
{
	struct seccomp_notif_addfd add = {
		.id = a->req->id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (uint32_t)*fd,
		.newfd_flags = (uint32_t)a->c->arg[3] & O_CLOEXEC,
	};
	struct seccomp_notif_resp resp = {.id = a->req->id};
	int r = ioctl(a->n->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);

	if (r < 0 && errno == EINVAL) {
		add.flags = 0;
		r = ioctl(a->n->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		resp.val = r;
		if (r >= 0)
			(void)ioctl(a->n->listener, SECCOMP_IOCTL_NOTIF_SEND,
				    &resp); /* or it is gone */
	}
	if (r >= 0)
		return NET_ANSWERED;
	*ret_error = errno;
	v->kept = take_fd(fd);
	return *ret_error == ENOENT || *ret_error == EINPROGRESS ? NET_ANSWERED : NET_ERROR;
}

/* Without waiting, whatever the mode of the socket is, which the step shares. */
static int accept_now(int fd, struct address *peer, int flags)
{
	int mode = fcntl(fd, F_GETFL), conn, error;

	if (!(mode & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, mode | O_NONBLOCK);
	conn = accept4(fd, &peer->any, &peer->len, flags);
	error = errno;
	if (!(mode & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, mode);
	errno = error;
	return conn;
}

static bool has_time_limit(int fd)
{
	struct timeval t = {0};
	socklen_t len = sizeof(t);

	return getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len) == 0 && (t.tv_sec || t.tv_usec);
}

static bool is_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* NET_ANSWERED with *ret_wait: it is to be held. */
static enum net_answer try_accept(const struct ask *a, bool *ret_wait, int *ret_error)
{
	auto_target_socket struct target_socket s = {.fd = -1};
	struct address peer = {.len = sizeof(peer.room)};
	int flags = (int)a->c->arg[3] & (SOCK_NONBLOCK | SOCK_CLOEXEC);
	auto_close int conn = -1;
	struct server *v;
	int r;

	*ret_wait = false;
	if (((int)a->c->arg[3] & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) ||
	    target_socket_get(a->c->tid, (int)a->c->arg[0], &s) != 1)
		return NET_CONTINUE;
	v = net_server(a->n, s.ino);
	if (!v || s.type != SOCK_STREAM)
		return NET_CONTINUE;
	if (v->kept >= 0) {
		conn = take_fd(&v->kept);
		if (getpeername(conn, &peer.any, &peer.len) < 0)
			peer.len = 0;
	} else if (is_ready(s.fd)) {
		conn = accept_now(s.fd, &peer, flags);
		if (conn < 0 && errno != EAGAIN) {
			*ret_error = errno;
			return NET_ERROR;
		}
		if (conn >= 0)
			look_at_peer(a, v, conn);
	}
	if (conn >= 0) {
		r = write_address(a, &peer);
		if (r == 0)
			return give(a, v, &conn, ret_error);
		*ret_error = -r;
		return NET_ERROR;
	}
	if (fcntl(s.fd, F_GETFL) & O_NONBLOCK) {
		*ret_error = EAGAIN;
		return NET_ERROR;
	}
	if (has_time_limit(s.fd)) {
		v->accepts++; /* what it will take is not seen */
		return NET_CONTINUE;
	}
	if (target_signals(a->c->tid, target_process(a->c->tid)) != SIGNAL_NONE)
		return NET_CONTINUE; /* which interrupts it */
	*ret_wait = true;
	return NET_ANSWERED;
}

enum net_answer net_accept(const struct ask *a, int *ret_error)
{
	struct net *n = a->n;
	bool wait;
	enum net_answer r = try_accept(a, &wait, ret_error);

	if (!wait)
		return r;
	n->held = xrealloc(n->held, (n->n_held + 1) * sizeof(*n->held));
	n->held[n->n_held++] = (struct held){*a->req, *a->c};
	return NET_ANSWERED;
}

/* ---- calls that wait ---- */

static void respond(const struct net *n, uint64_t id, enum net_answer r, int error)
{
	struct seccomp_notif_resp resp = {.id = id};

	if (r == NET_CONTINUE)
		resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else
		resp.error = -error;
	/* Fails only when the caller is gone. */
	(void)ioctl(n->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/* False: it is not held any more. */
static bool retry_one(struct net *n, const struct held *h)
{
	struct ask a = {n, &h->req, &h->call};
	enum net_answer r;
	int error = 0;
	bool wait;

	if (ioctl(n->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &h->req.id) < 0)
		return false;
	r = try_accept(&a, &wait, &error);
	if (r != NET_ANSWERED)
		respond(n, h->req.id, r, error);
	return wait;
}

int net_retry(struct net *n)
{
	int pause = n->eager ? SOON_MS : LATER_MS;
	int64_t now;
	size_t kept = 0;

	if (!n->n_held)
		return -1;
	now = mono_ns();
	if (now - n->retried_ns < pause * INT64_C(1000000) - 100000)
		return pause;
	n->retried_ns = now;
	if (n->eager)
		n->eager--;
	for (size_t k = 0; k < n->n_held; k++)
		if (retry_one(n, &n->held[k]))
			n->held[kept++] = n->held[k];
	n->n_held = kept;
	return kept ? pause : -1;
}
