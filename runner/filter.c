/* SPDX-License-Identifier: MIT */
/*
 * filter.c - the seccomp filter that a step runs under: it stops the calls of call.c's list and lets
 * all others pass. It is built from that list.
 *
 * A program of the filter asks for the ABI, then for one call number after the other. The kernel
 * itself works out which numbers pass whatever their arguments are, and does not ask the filter
 * about them again.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runner.h"
#include "call.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define MAX_PROGRAM 512

struct program {
	struct sock_filter v[MAX_PROGRAM];
	size_t n;
};

#define ARG_LOW(n)  (offsetof(struct seccomp_data, args) + 8 * (n)) /* both are little endian */
#define ARG_HIGH(n) (ARG_LOW(n) + 4)

static void add(struct program *p, uint16_t code, uint32_t k, size_t yes, size_t no)
{
	/* The list is fixed: that it fits is known as soon as the program has run once. */
	if (p->n == MAX_PROGRAM || yes > UINT8_MAX || no > UINT8_MAX)
		abort();
	p->v[p->n++] = (struct sock_filter){code, (uint8_t)yes, (uint8_t)no, k};
}

static void load(struct program *p, size_t off)
{
	add(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)off, 0, 0);
}

static void answer(struct program *p, uint32_t action)
{
	add(p, BPF_RET | BPF_K, action, 0, 0);
}

/* The loaded value being v, skip `yes` instructions, else `no`. */
static void if_equal(struct program *p, uint32_t v, size_t yes, size_t no)
{
	add(p, BPF_JMP | BPF_JEQ | BPF_K, v, yes, no);
}

/* The loaded value must be one of these, or the call is looked at. */
static void must_be(struct program *p, const uint32_t *v, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if_equal(p, v[k], n - k, 0);
	answer(p, SECCOMP_RET_USER_NOTIF);
}

/*
 * socket(family, type, protocol): what its later calls tell all about passes. Raw and packet
 * sockets receive without any call that names a peer; of other families and protocols nothing is
 * known.
 */
static void add_odd_socket(struct program *p)
{
	static const uint32_t types[] = {SOCK_STREAM, SOCK_DGRAM};
	static const uint32_t protocols[] = {0,		  IPPROTO_ICMP, IPPROTO_ICMPV6,
					     IPPROTO_TCP, IPPROTO_UDP,	IPPROTO_MPTCP};

	load(p, ARG_LOW(0));
	if_equal(p, AF_UNIX, 2, 0);
	if_equal(p, AF_NETLINK, 1, 0);
	if_equal(p, AF_ALG, 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
	must_be(p, (const uint32_t[]){AF_INET, AF_INET6}, 2);
	load(p, ARG_LOW(1));
	add(p, BPF_ALU | BPF_AND | BPF_K, 0xf, 0, 0); /* without SOCK_CLOEXEC and SOCK_NONBLOCK */
	must_be(p, types, sizeof(types) / sizeof(*types));
	load(p, ARG_LOW(2));
	must_be(p, protocols, sizeof(protocols) / sizeof(*protocols));
	answer(p, SECCOMP_RET_ALLOW);
}

/* What is done about a call with the rule's number. */
static void add_body(struct program *p, const struct call_rule *r)
{
	switch (r->when) {
	case WHEN_ALWAYS:
		answer(p, SECCOMP_RET_USER_NOTIF);
		break;
	case WHEN_SET:
		load(p, ARG_LOW(r->arg));
		if_equal(p, 0, 0, 2);
		load(p, ARG_HIGH(r->arg));
		if_equal(p, 0, 1, 0);
		answer(p, SECCOMP_RET_USER_NOTIF);
		answer(p, SECCOMP_RET_ALLOW);
		break;
	case WHEN_NOT:
		load(p, ARG_LOW(r->arg));
		if_equal(p, r->values[0], 1, 0);
		answer(p, SECCOMP_RET_USER_NOTIF);
		answer(p, SECCOMP_RET_ALLOW);
		break;
	case WHEN_ONE_OF:
		load(p, ARG_LOW(r->arg));
		for (size_t k = 0; k < r->n_values; k++)
			if_equal(p, r->values[k], r->n_values - k, 0);
		answer(p, SECCOMP_RET_ALLOW);
		answer(p, SECCOMP_RET_USER_NOTIF);
		break;
	case WHEN_ODD:
		add_odd_socket(p);
		break;
	}
}

/* With the call's number loaded: past the body where it is another one. */
static void add_rule(struct program *p, const struct call_rule *r)
{
	size_t at = p->n;

	if_equal(p, r->nr, 0, 0);
	add_body(p, r);
	if (p->n - at - 1 > UINT8_MAX)
		abort();
	p->v[at].jf = (uint8_t)(p->n - at - 1);
}

static void build(struct program *p, bool network, bool terminal)
{
	size_t n;
	const struct call_abi *abis = call_abis(&n);

	load(p, offsetof(struct seccomp_data, arch));
	for (size_t a = 0; a < n; a++) {
		size_t at = p->n;

		/* A jump that may be a long one. */
		if_equal(p, abis[a].arch, 1, 0);
		add(p, BPF_JMP | BPF_JA, 0, 0, 0);
		load(p, offsetof(struct seccomp_data, nr));
		for (size_t k = 0; k < abis[a].n_rules; k++)
			if ((network || !abis[a].rules[k].network) &&
			    (terminal || !abis[a].rules[k].terminal))
				add_rule(p, &abis[a].rules[k]);
		answer(p, SECCOMP_RET_ALLOW);
		p->v[at + 1].k = (uint32_t)(p->n - at - 2);
	}
	answer(p, SECCOMP_RET_ALLOW);
}

int watch_install(bool network, bool terminal, struct err *e)
{
	struct program p = {.n = 0};
	struct sock_fprog prog = {.filter = p.v};
	/* SPEC_ALLOW: the step is not to run slower for being watched. WAIT_KILLABLE_RECV: signals do not
	 * interrupt a call while it is being looked at. */
	unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	long fd;

	build(&p, network, terminal);
	prog.len = (unsigned short)p.n;
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	if (fd < 0)
		return err_set(e, errno, "cannot watch the step's network use");
	return (int)fd;
}

int watch_send(int sock, int listener_fd, struct err *e)
{
	char byte = 0;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &listener_fd, sizeof(int));
	for (;;) {
		if (sendmsg(sock, &msg, CALL_SEND_FLAGS) == 1)
			return 0;
		if (errno != EINTR)
			return err_set(e, errno, "cannot hand on the watch of network use");
	}
}
