/* SPDX-License-Identifier: MIT */
/* peer.c - who is at the other end of an address; see peer.h. */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "target.h"

#ifndef SO_NETNS_COOKIE /* Linux 5.14 */
#define SO_NETNS_COOKIE 71
#endif

/* ---- addresses ---- */

void address_simplify(struct address *a)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET};

	if (a->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return;
	memcpy(&in4.sin_addr, &a->in6.sin6_addr.s6_addr[12], sizeof(in4.sin_addr));
	in4.sin_port = a->in6.sin6_port;
	a->in4 = in4;
	a->len = sizeof(in4);
}

void address_text(const struct address *a, char *out, size_t n)
{
	char host[INET6_ADDRSTRLEN];

	switch (a->any.sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &a->in4.sin_addr, host, sizeof(host));
		snprintf(out, n, "%s:%u", host, ntohs(a->in4.sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host));
		snprintf(out, n, "[%s]:%u", host, ntohs(a->in6.sin6_port));
		break;
	default:
		snprintf(out, n, "an address of family %d", a->any.sa_family);
	}
}

unsigned address_port(const struct address *a)
{
	return a->any.sa_family == AF_INET    ? ntohs(a->in4.sin_port)
	       : a->any.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port)
					      : 0;
}

/* ---- sockets of the step ---- */

static int int_option(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

static uint64_t netns_of(int fd)
{
	uint64_t v = 0;
	socklen_t len = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &v, &len) < 0 ? 0 : v;
}

/* A thread may have a table of descriptors of its own, which cannot be asked. */
static bool has_fd(pid_t tid, int fd)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, fd);
	return lstat(path, &st) == 0;
}

int target_socket_get(pid_t tid, int target_fd, struct target_socket *ret)
{
	auto_close int pidfd = -1, fd = -1;
	struct stat st;

	pidfd = (int)syscall(SYS_pidfd_open, target_process(tid), 0);
	if (pidfd < 0)
		return -errno;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, target_fd, 0);
	if (fd < 0)
		return errno == EBADF && !has_fd(tid, target_fd) ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return 0;
	*ret = (struct target_socket){
		.ino = (uint32_t)st.st_ino,
		.domain = int_option(fd, SO_DOMAIN),
		.type = int_option(fd, SO_TYPE),
		.protocol = int_option(fd, SO_PROTOCOL),
		.netns = netns_of(fd),
	};
	ret->fd = take_fd(&fd);
	return 1;
}

void target_socket_put(struct target_socket *s)
{
	base_close(&s->fd);
}

/* ---- asking the kernel ---- */

struct peer {
	int fd;
	uint64_t netns;
	char buf[32768]; /* the kernel's messages are at most this long */
};

int peer_new(struct peer **ret)
{
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	struct peer *p;

	if (fd < 0)
		return -errno;
	p = xcalloc(1, sizeof(*p));
	p->fd = fd;
	p->netns = netns_of(fd);
	*ret = p;
	return 0;
}

void peer_free(struct peer *p)
{
	if (!p)
		return;
	close(p->fd);
	free(p);
}

uint64_t peer_netns(const struct peer *p)
{
	return p ? p->netns : 0;
}

static bool is_loopback(const struct address *a)
{
	if (a->any.sa_family == AF_INET)
		return ntohl(a->in4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET ||
		       a->in4.sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr) ||
	       IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

static bool same_host(const struct address *a, const struct sockaddr *b)
{
	if (!b || b->sa_family != a->any.sa_family)
		return false;
	if (b->sa_family == AF_INET)
		return a->in4.sin_addr.s_addr ==
		       ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
	if (b->sa_family == AF_INET6)
		return memcmp(&a->in6.sin6_addr,
			      &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
			      sizeof(struct in6_addr)) == 0;
	return false;
}

int peer_is_local(const struct address *a)
{
	struct ifaddrs *list;
	bool found = false;

	if (is_loopback(a))
		return 1;
	if (getifaddrs(&list) < 0)
		return -errno;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
		found = same_host(a, i->ifa_addr);
	freeifaddrs(list);
	return found;
}

/* Send a request; the messages that answer it are taken with receive. */
static int request(struct peer *p, void *req, size_t n, unsigned flags)
{
	struct nlmsghdr h = {.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + n),
			     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			     .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
	struct iovec v[2] = {{&h, NLMSG_HDRLEN}, {req, n}};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct msghdr m = {
		.msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = v, .msg_iovlen = 2};

	if (!p)
		return -ENOTCONN;
	/* What an earlier question that was given up left. */
	while (recv(p->fd, p->buf, sizeof(p->buf), MSG_DONTWAIT) > 0)
		;
	return sendmsg(p->fd, &m, 0) < 0 ? -errno : 0;
}

static ssize_t receive(struct peer *p)
{
	ssize_t n;

	do
		n = recv(p->fd, p->buf, sizeof(p->buf), MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n > sizeof(p->buf) ? -EMSGSIZE : n;
}

static int error_of(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);

	return h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)) ? -EPROTO : e->error;
}

static void put_host(const struct address *a, __be32 *host, __be16 *port)
{
	if (a->any.sa_family == AF_INET) {
		host[0] = a->in4.sin_addr.s_addr;
		/* To nobody in particular is to this machine. */
		if (!host[0])
			host[0] = htonl(INADDR_LOOPBACK);
		*port = a->in4.sin_port;
	} else {
		struct in6_addr in = a->in6.sin6_addr;

		if (IN6_IS_ADDR_UNSPECIFIED(&in))
			in = in6addr_loopback;
		memcpy(host, &in, sizeof(in));
		*port = a->in6.sin6_port;
	}
}

int64_t peer_find(struct peer *p, int protocol, const struct address *to,
		  const struct address *from)
{
	struct inet_diag_req_v2 req = {.sdiag_family = (uint8_t)to->any.sa_family,
				       .sdiag_protocol = (uint8_t)protocol,
				       .idiag_states = ~0U};
	struct inet_diag_sockid *id = &req.id;
	const struct nlmsghdr *h;
	const struct inet_diag_msg *m;
	ssize_t n;
	int r;

	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	/* The kernel takes the two ends in the other order for UDP. */
	if (protocol == IPPROTO_UDP) {
		put_host(to, id->idiag_dst, &id->idiag_dport);
		put_host(from, id->idiag_src, &id->idiag_sport);
	} else {
		put_host(to, id->idiag_src, &id->idiag_sport);
		if (from)
			put_host(from, id->idiag_dst, &id->idiag_dport);
	}
	r = request(p, &req, sizeof(req), 0);
	n = r < 0 ? r : receive(p);
	if (n < 0)
		return n;
	h = (const void *)p->buf;
	m = NLMSG_DATA(h);
	if (!NLMSG_OK(h, n))
		return -EPROTO;
	if (h->nlmsg_type == NLMSG_ERROR) {
		r = error_of(h);
		return r == -ENOENT ? 0 : r < 0 ? r : -EPROTO;
	}
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EPROTO;
	/* Of a connection that nobody has any more the inode is 0. */
	return m->idiag_inode ? m->idiag_inode : UINT32_MAX;
}

/* ---- Unix sockets ---- */

/* Does the socket have the name, or lie on the file? */
struct unix_wanted {
	const char *name; /* abstract: from its NUL on; NULL: look at dev and ino */
	size_t len;
	uint32_t dev, ino; /* as the kernel gives them */
};

static bool is_wanted(const struct unix_wanted *w, const struct nlmsghdr *h)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	const struct nlattr *a = (const void *)(m + 1);
	size_t left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*m));

	/* The end of a connection has its listener's name as well. */
	if (m->udiag_type != SOCK_DGRAM && m->udiag_state != 10 /* TCP_LISTEN */)
		return false;
	while (left >= sizeof(*a) && a->nla_len >= sizeof(*a) && a->nla_len <= left) {
		const void *data = a + 1;
		size_t n = a->nla_len - sizeof(*a), step = NLA_ALIGN(a->nla_len);

		if (w->name && a->nla_type == UNIX_DIAG_NAME)
			return n == w->len && memcmp(data, w->name, n) == 0;
		if (!w->name && a->nla_type == UNIX_DIAG_VFS && n >= sizeof(struct unix_diag_vfs)) {
			const struct unix_diag_vfs *v = data;

			return v->udiag_vfs_dev == w->dev && v->udiag_vfs_ino == w->ino;
		}
		if (step >= left)
			break;
		left -= step;
		a = (const void *)((const char *)a + step);
	}
	return false;
}

static int64_t find_unix(struct peer *p, const struct unix_wanted *w)
{
	struct unix_diag_req req = {.sdiag_family = AF_UNIX,
				    .udiag_states = ~0U,
				    .udiag_show = w->name ? UDIAG_SHOW_NAME : UDIAG_SHOW_VFS};
	int64_t found = 0;
	int r = request(p, &req, sizeof(req), NLM_F_DUMP);

	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = receive(p);

		if (n < 0)
			return n;
		for (const struct nlmsghdr *h = (const void *)p->buf; NLMSG_OK(h, n);
		     h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return found;
			if (h->nlmsg_type == NLMSG_ERROR)
				return error_of(h) < 0 ? error_of(h) : -EPROTO;
			if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg)) &&
			    is_wanted(w, h))
				found = ((const struct unix_diag_msg *)NLMSG_DATA(h))->udiag_ino;
		}
	}
}

int64_t peer_find_abstract(struct peer *p, const struct address *to)
{
	struct unix_wanted w = {.name = to->un.sun_path,
				.len = to->len - offsetof(struct sockaddr_un, sun_path)};

	return find_unix(p, &w);
}

int64_t peer_find_bound(struct peer *p, dev_t dev, ino_t ino)
{
	/* The kernel's own form of device numbers, and the lower half of inode numbers. */
	struct unix_wanted w = {.dev = (uint32_t)(major(dev) << 20 | minor(dev)),
				.ino = (uint32_t)ino};

	return find_unix(p, &w);
}

/* ---- counters ---- */

/* The value under `name` in a table of two lines, "Udp: In Out\nUdp: 1 2". */
static uint64_t snmp_value(const char *text, const char *name)
{
	const char *heads = strstr(text, "\nUdp: "),
		   *values = heads ? strstr(heads + 1, "\nUdp: ") : NULL;
	size_t column = 0, len = strlen(name);

	if (!values)
		return 0;
	for (const char *p = heads + 5; p < values && *p == ' '; column++) {
		size_t n = strcspn(++p, " \n");

		if (n == len && strncmp(p, name, n) == 0) {
			const char *v = values + 5;

			for (; column; column--)
				v = strchr(v + 1, ' ');
			return strtoull(v, NULL, 10);
		}
		p += n;
	}
	return 0;
}

static uint64_t snmp6_value(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) : 0;
}

int peer_udp_counts(struct udp_counts *ret)
{
	auto_free char *v4 = NULL, *v6 = NULL;
	struct err e = {0};
	size_t n;
	int r = read_file("/proc/self/net/snmp", &v4, &n, &e);

	if (r < 0)
		return r;
	if (!strstr(v4, "\nUdp: "))
		return -EPROTO;
	*ret = (struct udp_counts){.in = snmp_value(v4, "InDatagrams"),
				   .no_port = snmp_value(v4, "NoPorts")};
	/* A machine may be without IPv6. */
	if (read_file("/proc/self/net/snmp6", &v6, &n, &e) == 0) {
		ret->in += snmp6_value(v6, "\nUdp6InDatagrams");
		ret->no_port += snmp6_value(v6, "\nUdp6NoPorts");
	}
	return 0;
}
