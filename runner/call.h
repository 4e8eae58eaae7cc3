/* SPDX-License-Identifier: MIT */
/*
 * call.h - private to runner/: the system calls of a step that are looked at before they happen,
 * in one list for the filter that catches them and for who is told of them.
 */
#ifndef MLFS_CALL_H
#define MLFS_CALL_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum call_kind {
	CALL_NONE,
	CALL_LOCK, /* flock, or fcntl about a lock; of mlfs' own ABI only */
	CALL_SOCKET,
	CALL_BIND,
	CALL_CONNECT,
	CALL_LISTEN,
	CALL_ACCEPT,
	CALL_SENDTO,
	CALL_SENDMSG,
	CALL_SENDMMSG,
	CALL_RING, /* io_uring_setup */
	CALL_SETNS,
	CALL_MOUNT,
	CALL_MOUNT_CHANGE, /* umount2, pivot_root, move_mount, mount_setattr */
	CALL_FSOPEN,
	CALL_HANDLE,	  /* open_by_handle_at */
	CALL_JOB_CONTROL, /* ioctl on terminals, about process groups and sessions */
	CALL_SHMGET,
	CALL_SHMAT,
	CALL_SEMGET,
	CALL_MSGGET,
	CALL_MQ_OPEN,
	CALL_FOREIGN, /* of an ABI whose calls are not understood */
};

/* The flags of the one sendmsg that the filter lets pass unseen: watch_send's. Linux gives three of
 * them no meaning in sendmsg, so no program sets them. */
#define CALL_SEND_FLAGS (MSG_NOSIGNAL | MSG_FIN | MSG_SYN | MSG_RST)

/* Which of the calls with a number are caught; the rest of the arguments cannot be seen by a filter. */
enum call_when {
	WHEN_ALWAYS,
	WHEN_SET,    /* argument `arg` (a pointer) is not 0 */
	WHEN_NOT,    /* the low half of argument `arg` is not values[0] */
	WHEN_ONE_OF, /* the low half of argument `arg` is one of the values */
	WHEN_ODD,    /* socket(2) of a kind that the other calls do not say all about */
};
struct call_rule {
	enum call_kind kind;
	uint32_t nr;
	enum call_when when;
	unsigned arg;
	const uint32_t *values;
	size_t n_values;
	bool network;  /* left out when network use is allowed */
	bool terminal; /* left out when neither stdout nor stderr is a terminal */
};
/* One ABI. mlfs' own comes first. */
struct call_abi {
	uint32_t arch; /* AUDIT_ARCH_… */
	bool narrow;   /* pointers and lengths have 32 bits */
	const struct call_rule *rules;
	size_t n_rules;
};
const struct call_abi *call_abis(size_t *ret_n);

struct call {
	enum call_kind kind;
	pid_t tid;
	bool narrow;
	uint64_t
		arg[6]; /* of the call itself, also where it came through socketcall(2) or ipc(2) */
};
/* What a call that was caught is. 0, or what target_read returns. */
int call_decode(const struct seccomp_notif *req, struct call *ret);

#endif
