/* SPDX-License-Identifier: MIT */
/* call.c - the list of calls that are looked at; see call.h. */
#include "call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "target.h"

#ifndef __NR_mount_setattr /* Linux 5.12 */
#define __NR_mount_setattr 442
#endif

#define LIST(...) \
	(const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)
#define NET(kind, nr)                                                 \
	{                                                             \
		CALL_##kind, nr, WHEN_ALWAYS, 0, NULL, 0, true, false \
	}
#define NET_IF(kind, nr, when, ...)                                    \
	{                                                              \
		CALL_##kind, nr, WHEN_##when, __VA_ARGS__, true, false \
	}
#define ANY(kind, nr)                                                  \
	{                                                              \
		CALL_##kind, nr, WHEN_ALWAYS, 0, NULL, 0, false, false \
	}

static const struct call_rule native[] = {
	ANY(CONNECT, __NR_connect),
	NET(BIND, __NR_bind),
	NET(LISTEN, __NR_listen),
	NET(ACCEPT, __NR_accept),
	NET(ACCEPT, __NR_accept4),
	NET(SENDMMSG, __NR_sendmmsg),
	NET(RING, __NR_io_uring_setup),
	ANY(SETNS, __NR_setns),
	ANY(MOUNT, __NR_mount),
	ANY(MOUNT_CHANGE, __NR_umount2),
	ANY(MOUNT_CHANGE, __NR_pivot_root),
	ANY(MOUNT_CHANGE, __NR_move_mount),
	ANY(MOUNT_CHANGE, __NR_mount_setattr),
	ANY(FSOPEN, __NR_fsopen),
	ANY(HANDLE, __NR_open_by_handle_at),
	NET_IF(SENDTO, __NR_sendto, SET, 4, NULL, 0),
	NET_IF(SENDMSG, __NR_sendmsg, NOT, 2, LIST(CALL_SEND_FLAGS)),
	NET_IF(SOCKET, __NR_socket, ODD, 0, NULL, 0),
	ANY(SHMGET, __NR_shmget),
	ANY(SHMAT, __NR_shmat),
	ANY(SEMGET, __NR_semget),
	ANY(MSGGET, __NR_msgget),
	ANY(MQ_OPEN, __NR_mq_open),
	{CALL_JOB_CONTROL, __NR_ioctl, WHEN_ONE_OF, 1, LIST(TIOCGPGRP, TIOCSPGRP, TIOCGSID), false,
	 true},
	ANY(LOCK, __NR_flock),
	{CALL_LOCK, __NR_fcntl, WHEN_ONE_OF, 1,
	 LIST(F_SETLK, F_SETLKW, F_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK), false, false},
#if defined(__x86_64__)
	/* x32: a program that makes sockets through it is not understood any further. */
	NET(FOREIGN, 0x40000000u | __NR_socket),
	NET(FOREIGN, 0x40000000u | __NR_io_uring_setup),
#endif
};

/* The numbers of 32-bit programs, which no header of a 64-bit system has. */
#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define NARROW_ARCH AUDIT_ARCH_I386
#define SOCKETCALL  102
#define IPC	    117
static const struct call_rule narrow[] = {
	/* socket, bind, connect, listen, accept, sendto, sendmsg, accept4, sendmmsg: linux/net.h */
	NET_IF(CONNECT, SOCKETCALL, ONE_OF, 0, LIST(1, 2, 3, 4, 5, 11, 16, 18, 20)),
	NET_IF(SOCKET, 359, ODD, 0, NULL, 0),
	NET(BIND, 361),
	ANY(CONNECT, 362),
	NET(LISTEN, 363),
	NET(ACCEPT, 364),
	NET_IF(SENDTO, 369, SET, 4, NULL, 0),
	NET(SENDMSG, 370),
	NET(SENDMMSG, 345),
	NET(RING, 425),
	ANY(SETNS, 346),
	ANY(MOUNT, 21),
	ANY(MOUNT_CHANGE, 22), /* umount */
	ANY(MOUNT_CHANGE, 52),
	ANY(MOUNT_CHANGE, 217),
	ANY(MOUNT_CHANGE, 429),
	ANY(MOUNT_CHANGE, 442),
	ANY(FSOPEN, 430),
	ANY(HANDLE, 342),
	/* semget, msgget, shmat, shmget: linux/ipc.h */
	{CALL_SHMGET, IPC, WHEN_ONE_OF, 0, LIST(2, 13, 21, 23), false, false},
	ANY(SEMGET, 393),
	ANY(SHMGET, 395),
	ANY(SHMAT, 397),
	ANY(MSGGET, 399),
	{CALL_JOB_CONTROL, 54, WHEN_ONE_OF, 1, LIST(TIOCGPGRP, TIOCSPGRP, TIOCGSID), false, true},
	ANY(MQ_OPEN, 277),
};
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define NARROW_ARCH AUDIT_ARCH_ARM
#define SOCKETCALL  UINT32_MAX /* not there */
#define IPC	    UINT32_MAX
static const struct call_rule narrow[] = {
	NET_IF(SOCKET, 281, ODD, 0, NULL, 0),
	NET(BIND, 282),
	ANY(CONNECT, 283),
	NET(LISTEN, 284),
	NET(ACCEPT, 285),
	NET(ACCEPT, 366),
	NET_IF(SENDTO, 290, SET, 4, NULL, 0),
	NET(SENDMSG, 296),
	NET(SENDMMSG, 374),
	NET(RING, 425),
	ANY(SETNS, 375),
	ANY(MOUNT, 21),
	ANY(MOUNT_CHANGE, 52),
	ANY(MOUNT_CHANGE, 218),
	ANY(MOUNT_CHANGE, 429),
	ANY(MOUNT_CHANGE, 442),
	ANY(FSOPEN, 430),
	ANY(HANDLE, 371),
	ANY(SEMGET, 299),
	ANY(MSGGET, 303),
	ANY(SHMAT, 305),
	ANY(SHMGET, 307),
	{CALL_JOB_CONTROL, 54, WHEN_ONE_OF, 1, LIST(TIOCGPGRP, TIOCSPGRP, TIOCGSID), false, true},
	ANY(MQ_OPEN, 274),
};
#else
#error "call.c knows x86_64 and aarch64"
#endif

static const struct call_abi abis[] = {
	{NATIVE_ARCH, false, native, sizeof(native) / sizeof(*native)},
	{NARROW_ARCH, true, narrow, sizeof(narrow) / sizeof(*narrow)},
};

const struct call_abi *call_abis(size_t *ret_n)
{
	*ret_n = sizeof(abis) / sizeof(*abis);
	return abis;
}

/* socketcall(what, arguments in memory). */
static int unpack_socketcall(struct call *c)
{
	static const struct {
		enum call_kind kind;
		size_t n;
	} calls[] = {
		[1] = {CALL_SOCKET, 3},	  [2] = {CALL_BIND, 3},	   [3] = {CALL_CONNECT, 3},
		[4] = {CALL_LISTEN, 2},	  [5] = {CALL_ACCEPT, 3},  [11] = {CALL_SENDTO, 6},
		[16] = {CALL_SENDMSG, 3}, [18] = {CALL_ACCEPT, 4}, [20] = {CALL_SENDMMSG, 4},
	};
	uint32_t what = (uint32_t)c->arg[0], v[6] = {0};
	int r;

	if (what >= sizeof(calls) / sizeof(*calls))
		return -EINVAL;
	r = target_read(c->tid, c->arg[1], v, calls[what].n * sizeof(*v));
	if (r < 0)
		return r;
	c->kind = calls[what].kind;
	for (size_t k = 0; k < 6; k++)
		c->arg[k] = v[k];
	return 0;
}

/* ipc(what, first, second, third, pointer): the arguments that matter are in their places then. */
static int unpack_ipc(struct call *c)
{
	switch (c->arg[0] & 0xffff) {
	case 2:
		c->kind = CALL_SEMGET;
		break;
	case 13:
		c->kind = CALL_MSGGET;
		break;
	case 21:
		c->kind = CALL_SHMAT;
		break;
	case 23:
		c->kind = CALL_SHMGET;
		break;
	default:
		return -EINVAL;
	}
	memmove(c->arg, c->arg + 1, 5 * sizeof(*c->arg));
	return 0;
}

int call_decode(const struct seccomp_notif *req, struct call *ret)
{
	*ret = (struct call){.kind = CALL_NONE, .tid = (pid_t)req->pid};
	memcpy(ret->arg, req->data.args, sizeof(ret->arg));
	for (size_t a = 0; a < sizeof(abis) / sizeof(*abis); a++) {
		const struct call_abi *abi = &abis[a];

		if (abi->arch != req->data.arch)
			continue;
		ret->narrow = abi->narrow;
		for (size_t k = 0; k < abi->n_rules; k++)
			if (abi->rules[k].nr == (uint32_t)req->data.nr) {
				ret->kind = abi->rules[k].kind;
				break;
			}
		if (abi->narrow && (uint32_t)req->data.nr == SOCKETCALL)
			return unpack_socketcall(ret);
		if (abi->narrow && (uint32_t)req->data.nr == IPC)
			return unpack_ipc(ret);
	}
	/* accept has no flags; what lies in that register means nothing. */
	if (ret->kind == CALL_ACCEPT && !ret->narrow && req->data.nr == __NR_accept)
		ret->arg[3] = 0;
	return 0;
}
