/* SPDX-License-Identifier: MIT */
/*
 * net.c - was somebody outside of the step talked to? See net.h.
 *
 * This observes, it does not confine: the caller could change an address after it was read here.
 */
#include "net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "target.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* ---- notes ---- */

static void process_name(pid_t pid, char *out, size_t n)
{
	char path[64];
	auto_fclose FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(out, (int)n, f))
		snprintf(out, n, "process %d", (int)pid);
	out[strcspn(out, "\n")] = 0;
}

void net_touch(struct net *n)
{
	atomic_store(&n->touched, true);
}

void net_note(const struct ask *a, const char *fmt, ...)
{
	char what[160], name[32];
	va_list ap;

	net_touch(a->n);
	if (a->n->allowed || a->n->text[0])
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	process_name(target_process(a->c->tid), name, sizeof(name));
	/* What was read belongs to the caller only if the caller is still waiting. */
	if (ioctl(a->n->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &a->req->id) < 0)
		return;
	snprintf(a->n->text, sizeof(a->n->text), "%s by %s", what, name);
}

void net_blind(struct net *n, const struct seccomp_notif *req)
{
	struct call c = {.tid = (pid_t)req->pid};
	struct ask a = {n, req, &c};

	net_note(&a, "network was used: a call that may not be looked into");
}

/* ---- what is known of the step ---- */

static size_t slot_of(const struct net *n, uint32_t ino)
{
	size_t k = ino * 2654435761u % n->cap_known;

	while (n->known[k] && n->known[k] != ino)
		k = (k + 1) % n->cap_known;
	return k;
}

static void grow_known(struct net *n)
{
	uint32_t *old = n->known;
	size_t cap = n->cap_known;

	n->cap_known = cap ? cap * 2 : 64;
	n->known = xcalloc(n->cap_known, sizeof(*n->known));
	for (size_t k = 0; k < cap; k++)
		if (old[k])
			n->known[slot_of(n, old[k])] = old[k];
	free(old);
}

void net_know(struct net *n, uint32_t ino)
{
	if (n->n_known * 2 >= n->cap_known)
		grow_known(n);
	if (net_knows(n, ino))
		return;
	n->known[slot_of(n, ino)] = ino;
	n->n_known++;
}

bool net_knows(const struct net *n, int64_t ino)
{
	return ino > 0 && n->cap_known && n->known[slot_of(n, (uint32_t)ino)] == (uint32_t)ino;
}

struct server *net_server(struct net *n, uint32_t ino)
{
	for (size_t k = 0; k < n->n_servers; k++)
		if (n->servers[k].ino == ino)
			return &n->servers[k];
	return NULL;
}

static struct server *server_of_port(struct net *n, unsigned port)
{
	for (size_t k = n->n_servers; k--;)
		if (n->servers[k].port == port)
			return &n->servers[k];
	return NULL;
}

bool net_is_here(const struct ask *a, const struct target_socket *s)
{
	uint64_t here = peer_netns(a->n->peer);

	if (!here || !s->netns || s->netns == here)
		return true;
	if (a->n->entered)
		net_note(a, "network was used: a socket of another network namespace");
	return false;
}

/* ---- IPv4 and IPv6 ---- */

static const char *verb(const struct ask *a)
{
	return a->c->kind == CALL_CONNECT ? "connect" : "send";
}

static void note_inet(const struct ask *a, const struct address *to)
{
	char text[96];

	address_text(to, text, sizeof(text));
	net_note(a, "network was used: %s to %s", verb(a), text);
}

/* Nobody listens there. That is use as well, unless it is the step that comes to listen there: who waits for a
 * server asks until it is up. */
static void add_absent(const struct ask *a, const struct address *to)
{
	struct net *n = a->n;
	struct absent *x;
	char name[32], text[64];

	for (size_t k = 0; k < n->n_absent; k++)
		if (address_port(&n->absent[k].address) == address_port(to))
			return;
	n->absent = xrealloc(n->absent, (n->n_absent + 1) * sizeof(*n->absent));
	x = &n->absent[n->n_absent++];
	x->address = *to;
	process_name(target_process(a->c->tid), name, sizeof(name));
	address_text(to, text, sizeof(text));
	snprintf(x->text, sizeof(x->text), "network was used: %s to %s by %s", verb(a), text, name);
}

static uint8_t tcp_state(const struct target_socket *s)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	return getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ? TCP_CLOSE
									 : info.tcpi_state;
}

static void use_tcp(const struct ask *a, const struct target_socket *s, const struct address *to)
{
	struct net *n = a->n;
	struct server *server;
	int64_t owner;

	if (tcp_state(s) != TCP_CLOSE)
		return; /* connected, or on its way: that was looked at */
	net_know(n, s->ino);
	owner = peer_find(n->peer, IPPROTO_TCP, to, NULL);
	/* It may have asked to listen and not be there yet. */
	server = net_knows(n, owner) ? net_server(n, (uint32_t)owner)
		 : owner == 0	     ? server_of_port(n, address_port(to))
				     : NULL;
	if (server) {
		server->connects++;
		n->eager = 20;
	} else if (owner == 0) {
		add_absent(a, to);
	} else {
		note_inet(a, to);
	}
}

static void start_udp(struct net *n)
{
	if (!n->udp)
		n->udp = peer_udp_counts(&n->udp_start) == 0;
}

static void remove_bound(struct net *n, uint32_t ino)
{
	for (size_t k = 0; k < n->n_bound; k++)
		if (n->bound[k].ino == ino)
			n->bound[k--] = n->bound[--n->n_bound];
}

static void use_udp(const struct ask *a, const struct target_socket *s, const struct address *to)
{
	struct address from = *to, own = {.len = sizeof(own.room)};
	struct net *n = a->n;
	int64_t owner;
	char text[96];

	if (getsockname(s->fd, &own.any, &own.len) == 0) {
		address_simplify(&own);
		if (from.any.sa_family == AF_INET)
			from.in4.sin_port = htons((uint16_t)address_port(&own));
		else
			from.in6.sin6_port = htons((uint16_t)address_port(&own));
	}
	net_know(n, s->ino);
	start_udp(n);
	owner = peer_find(n->peer, IPPROTO_UDP, to, &from);
	if (net_knows(n, owner)) {
		if (a->c->kind == CALL_CONNECT)
			remove_bound(n, s->ino);
		else
			n->datagrams++;
	} else if (owner == 0 && a->c->kind == CALL_CONNECT && n->udp) {
		/* getaddrinfo does so to compare addresses, and sends nothing. */
		address_text(to, text, sizeof(text));
		snprintf(n->nobody, sizeof(n->nobody), "network was used: send to %s", text);
		remove_bound(n, s->ino);
	} else {
		note_inet(a, to);
	}
}

static void use_inet(const struct ask *a, const struct target_socket *s,
		     const struct address *given)
{
	struct address to = *given;

	if (!net_is_here(a, s))
		return;
	net_touch(a->n);
	address_simplify(&to);
	if (peer_is_local(&to) != 1)
		note_inet(a, &to);
	else if (s->type == SOCK_STREAM &&
		 (s->protocol == IPPROTO_TCP || s->protocol == IPPROTO_MPTCP))
		use_tcp(a, s, &to);
	else if (s->type == SOCK_DGRAM && s->protocol == IPPROTO_UDP)
		use_udp(a, s, &to);
	else
		note_inet(a, &to);
}

/* ---- calls with an address ---- */

/* The call uses the address. flags: of a send. */
static void use_address(const struct ask *a, const struct target_socket *s,
			const struct address *to, unsigned flags)
{
	bool connect = a->c->kind == CALL_CONNECT;

	/* On a stream an address means something only when it is to be connected with the first bytes. */
	if (!connect && s->type == SOCK_STREAM && !(flags & MSG_FASTOPEN))
		return;
	switch (to->any.sa_family) {
	case AF_UNSPEC: /* dissolves a connection; in a send it may stand for AF_INET */
		if (connect || s->domain != AF_INET)
			return;
		break;
	case AF_UNIX:
		if (s->domain == AF_UNIX)
			net_unix(a, s, to);
		return;
	case AF_NETLINK:
	case AF_ALG:
		return;
	case AF_INET:
		if (to->len >= sizeof(to->in4))
			use_inet(a, s, to);
		return;
	case AF_INET6:
		if (to->len >= offsetof(struct sockaddr_in6, sin6_scope_id))
			use_inet(a, s, to);
		return;
	}
	note_inet(a, to);
}

/* The address in memory of the caller. 1, 0: there is none or the call fails, -errno. */
static int read_address(const struct ask *a, uint64_t addr, uint64_t len, struct address *ret)
{
	int r;

	*ret = (struct address){0};
	if (!addr || len < sizeof(ret->any.sa_family) || len > sizeof(ret->room))
		return 0;
	ret->len = (socklen_t)len;
	r = target_read(a->c->tid, addr, &ret->room, len);
	return r == -EFAULT ? 0 : r < 0 ? r : 1;
}

/* The address of the message header at `addr`, the same. */
static int read_message(const struct ask *a, uint64_t addr, struct address *ret)
{
	struct {
		uint32_t name, len;
	} narrow;
	struct msghdr wide;
	int r;

	r = a->c->narrow ? target_read(a->c->tid, addr, &narrow, sizeof(narrow))
			 : target_read(a->c->tid, addr, &wide, sizeof(wide));
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	return a->c->narrow ? read_address(a, narrow.name, narrow.len, ret)
			    : read_address(a, (uintptr_t)wide.msg_name, wide.msg_namelen, ret);
}

static int look_socket(const struct ask *a, const struct address *to, unsigned flags)
{
	auto_target_socket struct target_socket s = {.fd = -1};
	int r = target_socket_get(a->c->tid, (int)a->c->arg[0], &s);

	if (r == 1)
		use_address(a, &s, to, flags);
	return r < 0 ? r : 0;
}

static int look_messages(const struct ask *a)
{
	uint64_t count = (unsigned)a->c->arg[2], size = a->c->narrow ? 32 : sizeof(struct mmsghdr);

	if (count > UIO_MAXIOV) /* as the kernel caps it */
		count = UIO_MAXIOV;
	for (uint64_t k = 0; k < count; k++) {
		struct address to;
		int r = read_message(a, a->c->arg[1] + k * size, &to);

		if (r == 1)
			r = look_socket(a, &to, (unsigned)a->c->arg[3]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* connect and sends. 0 or -errno. */
static int look_address(const struct ask *a)
{
	const uint64_t *arg = a->c->arg;
	struct address to;
	unsigned flags = 0;
	int r;

	if (a->c->kind == CALL_CONNECT) {
		r = read_address(a, arg[1], (uint32_t)arg[2], &to);
	} else if (a->c->kind == CALL_SENDTO) {
		r = read_address(a, arg[4], (uint32_t)arg[5], &to);
		flags = (unsigned)arg[3];
	} else {
		r = read_message(a, arg[1], &to);
		flags = (unsigned)arg[2];
	}
	return r == 1 ? look_socket(a, &to, flags) : r;
}

/* ---- servers ---- */

static void add_server(struct net *n, const struct target_socket *s)
{
	struct address own = {.len = sizeof(own.room)};
	struct server *v = net_server(n, s->ino);

	if (getsockname(s->fd, &own.any, &own.len) < 0)
		return;
	if (!v) {
		n->servers = xrealloc(n->servers, (n->n_servers + 1) * sizeof(*n->servers));
		v = &n->servers[n->n_servers++];
		*v = (struct server){.ino = s->ino, .kept = -1};
	}
	v->port = address_port(&own);
	for (size_t k = 0; k < n->n_absent; k++) {
		if (!v->port || address_port(&n->absent[k].address) != v->port)
			continue;
		v->connects++; /* it may have come just in time */
		n->absent[k--] = n->absent[--n->n_absent];
	}
}

static int look_listen(const struct ask *a)
{
	auto_target_socket struct target_socket s = {.fd = -1};
	int r = target_socket_get(a->c->tid, (int)a->c->arg[0], &s);

	if (r != 1)
		return r;
	if (s.domain == AF_UNIX) {
		net_know(a->n, s.ino);
	} else if (net_is_here(a, &s)) {
		net_touch(a->n);
		net_know(a->n, s.ino);
		add_server(a->n, &s);
	}
	return 0;
}

static void add_bound(const struct ask *a, const struct target_socket *s)
{
	struct net *n = a->n;
	struct address own;
	struct bound *b;

	if (read_address(a, a->c->arg[1], (uint32_t)a->c->arg[2], &own) != 1 ||
	    (own.any.sa_family != AF_INET && own.any.sa_family != AF_INET6))
		return;
	net_touch(n);
	remove_bound(n, s->ino);
	n->bound = xrealloc(n->bound, (n->n_bound + 1) * sizeof(*n->bound));
	b = &n->bound[n->n_bound++];
	b->ino = s->ino;
	address_text(&own, b->text, sizeof(b->text));
	start_udp(n);
	if (!n->udp)
		net_note(a, "network was used: bind to %s", b->text);
}

static int look_bind(const struct ask *a)
{
	auto_target_socket struct target_socket s = {.fd = -1};
	int r = target_socket_get(a->c->tid, (int)a->c->arg[0], &s);

	if (r != 1 || s.type != SOCK_DGRAM)
		return r < 0 ? r : 0;
	if (s.domain == AF_UNIX) {
		net_know(a->n, s.ino);
	} else if ((s.domain == AF_INET || s.domain == AF_INET6) && net_is_here(a, &s)) {
		net_know(a->n, s.ino);
		add_bound(a, &s);
	}
	return 0;
}

/* ---- all calls ---- */

enum net_answer net_ask(struct net *n, const struct seccomp_notif *req, const struct call *c,
			int *ret_error)
{
	struct ask a = {n, req, c};
	int r = 0;

	/* Most steps never come here. Without it nothing is found, and everything counts as use. */
	if (!n->peer && peer_new(&n->peer) < 0)
		n->peer = NULL;
	n->done = false;
	switch (c->kind) {
	case CALL_CONNECT:
	case CALL_SENDTO:
	case CALL_SENDMSG:
		r = look_address(&a);
		break;
	case CALL_SENDMMSG:
		r = look_messages(&a);
		break;
	case CALL_LISTEN:
		r = look_listen(&a);
		break;
	case CALL_BIND:
		r = look_bind(&a);
		break;
	case CALL_ACCEPT:
		return net_accept(&a, ret_error);
	case CALL_SOCKET:
		net_note(&a, "network was used: a socket of family %d, type %d, protocol %d",
			 (int)c->arg[0], (int)c->arg[1] & 0xf, (int)c->arg[2]);
		break;
	case CALL_RING:
		net_note(&a, "network was used: io_uring, which cannot be watched,");
		break;
	case CALL_FOREIGN:
		net_note(&a, "network was used: a socket of an x32 program");
		break;
	case CALL_SETNS:
		if (!c->arg[1] || (c->arg[1] & CLONE_NEWNET))
			n->entered = true;
		break;
	default:
		break;
	}
	if (r < 0 && r != -ESRCH)
		net_blind(n, req);
	if (!n->done)
		return NET_CONTINUE;
	*ret_error = n->error;
	return n->error ? NET_ERROR : NET_DONE;
}

/* ---- at the end ---- */

/* Datagrams leave no other trace than the machine's counters. */
static void settle_udp(struct net *n)
{
	struct udp_counts now;

	if (!n->udp || n->text[0])
		return;
	if (peer_udp_counts(&now) < 0)
		snprintf(n->text, sizeof(n->text), "network use cannot be told: no counters");
	else if (n->nobody[0] && now.no_port != n->udp_start.no_port)
		snprintf(n->text, sizeof(n->text), "%s", n->nobody);
	else if (n->n_bound && now.in - n->udp_start.in > n->datagrams)
		snprintf(n->text, sizeof(n->text),
			 "network was used: datagrams may have come to %s", n->bound[0].text);
}

const char *net_spoiled(struct net *n)
{
	if (n->allowed)
		return NULL;
	if (!n->text[0] && n->n_absent)
		snprintf(n->text, sizeof(n->text), "%s", n->absent[0].text);
	settle_udp(n);
	return n->text[0] ? n->text : NULL;
}

const char *net_touched(struct net *n)
{
	return atomic_load(&n->touched) ? "network or sockets were used in the step around this one"
					: NULL;
}

struct net *net_new(int listener, pid_t command, bool allowed)
{
	struct net *n = xcalloc(1, sizeof(*n));

	n->listener = listener;
	n->command = command;
	n->allowed = allowed;
	return n;
}

void net_free(struct net *n)
{
	if (!n)
		return;
	for (size_t k = 0; k < n->n_servers; k++)
		base_close(&n->servers[k].kept);
	peer_free(n->peer);
	free(n->known);
	free(n->servers);
	free(n->absent);
	free(n->bound);
	free(n->held);
	free(n);
}
