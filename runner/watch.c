/* SPDX-License-Identifier: MIT */
/*
 * watch.c - was the network used? A seccomp filter in the step hands connect, listen and addressed sends to the
 * supervisor before they happen (seccomp_unotify(2)); the supervisor reads the address from the caller's memory,
 * remembers the first that is not of this machine's own kind (AF_UNIX, netlink) and lets every call go on.
 * The same way come the calls that lock files, which are for locks.c.
 *
 * This observes, it does not confine: the caller could change the address after it was read. A call that cannot
 * be looked into counts as network use, so that the result is not stored. io_uring, whose requests no filter
 * sees, counts too. Not seen: programs of another ABI than mlfs itself (32-bit ones), and datagrams received
 * on a socket that never sent any.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runner.h"
#include "locks.h"
#include "target.h"

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define FOREIGN_NR  0x40000000u /* x32 calls have this bit */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define FOREIGN_NR  0xffffffffu
#else
#error "watch.c knows x86_64 and aarch64"
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#endif

/* Flags of the one sendmsg that the filter lets pass unseen: watch_send's. Linux gives the three TCP names no
 * meaning in sendmsg, so no program sets them. */
#define SEND_FLAGS (MSG_NOSIGNAL | MSG_FIN | MSG_SYN | MSG_RST)

struct watch {
	int listener;
	int stop; /* eventfd */
	pthread_t thread;
	bool running;
	struct locks *locks; /* NULL: not to be had */
	struct seccomp_notif *req;
	struct seccomp_notif_resp *resp;
	size_t req_size, resp_size;
	char text[160];
	_Atomic(const char *) network; /* NULL, or text */
};

/* ---- in the step ---- */

#define ARG_LOW(n)	     (offsetof(struct seccomp_data, args) + 8 * (n)) /* both are little endian */
#define ARG_HIGH(n)	     (ARG_LOW(n) + 4)
#define LOAD(off)	     BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(off))
#define EQUAL(v, yes, no)    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(v), (yes), (no))
#define AT_LEAST(v, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(v), (yes), (no))
#define RETURN(v)	     BPF_STMT(BPF_RET | BPF_K, (v))

/* A jump counts the instructions to skip; TO gives it from the place of the jump and that of its target. The
 * kernel itself knows from the filter which calls it always allows, and asks it about the others only. */
#define TO(here, there) ((there) - (here)-1)
#define LOCKS		10
#define ALLOW		25
#define NOTIFY		26
static const struct sock_filter filter[] = {
	/*  0 */ LOAD(offsetof(struct seccomp_data, arch)),
	/*  1 */ EQUAL(NATIVE_ARCH, 0, TO(1, ALLOW)),
	/*  2 */ LOAD(offsetof(struct seccomp_data, nr)),
	/*  3 */ AT_LEAST(FOREIGN_NR, TO(3, ALLOW), 0),
	/*  4 */ EQUAL(__NR_connect, TO(4, NOTIFY), 0),
	/*  5 */ EQUAL(__NR_listen, TO(5, NOTIFY), 0),
	/*  6 */ EQUAL(__NR_sendmmsg, TO(6, NOTIFY), 0),
	/*  7 */ EQUAL(__NR_io_uring_setup, TO(7, NOTIFY), 0),
	/*  8 */ EQUAL(__NR_sendto, TO(8, 19), 0),
	/*  9 */ EQUAL(__NR_sendmsg, TO(9, 23), 0),
	/* LOCKS */ EQUAL(__NR_flock, TO(10, NOTIFY), 0),
	/* 11 */ EQUAL(__NR_fcntl, 0, TO(11, ALLOW)),
	/* fcntl: is it about a lock? */
	/* 12 */ LOAD(ARG_LOW(1)),
	/* 13 */ EQUAL(F_SETLK, TO(13, NOTIFY), 0),
	/* 14 */ EQUAL(F_SETLKW, TO(14, NOTIFY), 0),
	/* 15 */ EQUAL(F_GETLK, TO(15, NOTIFY), 0),
	/* 16 */ EQUAL(F_OFD_SETLK, TO(16, NOTIFY), 0),
	/* 17 */ EQUAL(F_OFD_SETLKW, TO(17, NOTIFY), 0),
	/* 18 */ EQUAL(F_OFD_GETLK, TO(18, NOTIFY), TO(18, ALLOW)),
	/* sendto: is there an address? */
	/* 19 */ LOAD(ARG_LOW(4)),
	/* 20 */ EQUAL(0, 0, TO(20, NOTIFY)),
	/* 21 */ LOAD(ARG_HIGH(4)),
	/* 22 */ EQUAL(0, TO(22, ALLOW), TO(22, NOTIFY)),
	/* sendmsg: is it watch_send's? */
	/* 23 */ LOAD(ARG_LOW(2)),
	/* 24 */ EQUAL(SEND_FLAGS, TO(24, ALLOW), TO(24, NOTIFY)),
	/* ALLOW */ RETURN(SECCOMP_RET_ALLOW),
	/* NOTIFY */ RETURN(SECCOMP_RET_USER_NOTIF),
};
#define FILTER_SIZE (sizeof(filter) / sizeof(*filter))

/* The same without the network. */
static void leave_out_network(struct sock_filter *f)
{
	f[4] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, TO(4, LOCKS));
}

static int seccomp(unsigned op, unsigned flags, void *args)
{
	return (int)syscall(SYS_seccomp, op, flags, args);
}

int watch_install(bool network, struct err *e)
{
	struct sock_filter f[FILTER_SIZE];
	struct sock_fprog prog = {.len = FILTER_SIZE, .filter = f};
	/* SPEC_ALLOW: the step is not to run slower for being watched. WAIT_KILLABLE_RECV: signals do not
	 * interrupt a call while it is being looked at. */
	unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	int fd;

	memcpy(f, filter, sizeof(f));
	if (!network)
		leave_out_network(f);
	fd = seccomp(SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		     &prog);
	if (fd < 0 && errno == EINVAL)
		fd = seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
	if (fd < 0)
		return err_set(e, errno, "cannot watch the step's network use");
	return fd;
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
		if (sendmsg(sock, &msg, SEND_FLAGS) == 1)
			return 0;
		if (errno != EINTR)
			return err_set(e, errno, "cannot hand on the watch of network use");
	}
}

/* ---- in the supervisor ---- */

static void address_text(const struct sockaddr_storage *sa, char *out, size_t n)
{
	const struct sockaddr_in *in4 = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;
	char host[INET6_ADDRSTRLEN];

	if (sa->ss_family == AF_INET) {
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(out, n, "%s:%u", host, ntohs(in4->sin_port));
	} else if (sa->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
		snprintf(out, n, "%s:%u", host, ntohs(in6->sin6_port));
	} else if (sa->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(out, n, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		snprintf(out, n, "an address of family %d", sa->ss_family);
	}
}

/* Is the address one of the network? Fills `out` with its text then. 1, 0, or what target_read returns. */
static int address_is_network(pid_t pid, uint64_t addr, uint64_t len, char *out, size_t n)
{
	struct sockaddr_storage sa = {0};
	int r;

	if (!addr || len < sizeof(sa.ss_family))
		return 0; /* none, or the call fails */
	r = target_read(pid, addr, &sa, len < sizeof(sa) ? len : sizeof(sa));
	if (r < 0)
		return r;
	switch (sa.ss_family) {
	case AF_UNSPEC: /* dissolves a connection */
	case AF_UNIX:
	case AF_NETLINK:
		return 0;
	case AF_INET:
		if (len < sizeof(struct sockaddr_in))
			return 0;
		break;
	case AF_INET6:
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return 0;
		break;
	}
	address_text(&sa, out, n);
	return 1;
}

/* The same for the address in the struct msghdr at `addr`. */
static int message_is_network(pid_t pid, uint64_t addr, char *out, size_t n)
{
	struct msghdr msg;
	int r = target_read(pid, addr, &msg, sizeof(msg));

	if (r < 0)
		return r;
	return address_is_network(pid, (uintptr_t)msg.msg_name, msg.msg_namelen, out, n);
}

static int messages_are_network(pid_t pid, uint64_t addr, uint64_t count, char *out, size_t n)
{
	if (count > UIO_MAXIOV) /* as the kernel caps it */
		count = UIO_MAXIOV;
	for (uint64_t i = 0; i < count; i++) {
		int r = message_is_network(pid, addr + i * sizeof(struct mmsghdr), out, n);

		if (r != 0)
			return r;
	}
	return 0;
}

/* Is the socket one of the network? 1, 0, -errno. */
static int socket_is_network(pid_t pid, int target_fd, char *out, size_t n)
{
	auto_close int pidfd = -1, fd = -1;
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof(sa);

	pidfd = (int)syscall(SYS_pidfd_open, target_process(pid), 0);
	if (pidfd < 0)
		return -errno;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, target_fd, 0);
	if (fd < 0)
		return errno == EBADF ? 0 : -errno;
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 || sa.ss_family == AF_UNIX)
		return 0;
	address_text(&sa, out, n);
	return 1;
}

/* What a call that was caught would do: 1 network use (`call` and `address` say what), 0 not, -errno. */
static int look(const struct seccomp_notif *req, const char **ret_call, char *address, size_t n)
{
	const __u64 *a = req->data.args;
	pid_t pid = (pid_t)req->pid;

	switch (req->data.nr) {
	case __NR_connect:
		*ret_call = "connect to ";
		return address_is_network(pid, a[1], (unsigned)a[2], address, n);
	case __NR_sendto:
		*ret_call = "send to ";
		return address_is_network(pid, a[4], (unsigned)a[5], address, n);
	case __NR_sendmsg:
		*ret_call = "send to ";
		return message_is_network(pid, a[1], address, n);
	case __NR_sendmmsg:
		*ret_call = "send to ";
		return messages_are_network(pid, a[1], (unsigned)a[2], address, n);
	case __NR_listen:
		*ret_call = "listen on ";
		return socket_is_network(pid, (int)a[0], address, n);
	case __NR_io_uring_setup:
		*ret_call = "io_uring, which cannot be watched,";
		return 1;
	}
	return 0;
}

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

static void note(struct watch *w)
{
	char address[80] = "", name[32];
	const char *call = "";
	int r = look(w->req, &call, address, sizeof(address));

	if (r == 0 || r == -EFAULT || r == -ESRCH)
		return;
	if (r < 0) {
		call = "a call that may not be looked into";
		address[0] = 0;
	}
	process_name(target_process((pid_t)w->req->pid), name, sizeof(name));
	/* What was read belongs to the caller only if the caller is still waiting. */
	if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &w->req->id) < 0)
		return;
	snprintf(w->text, sizeof(w->text), "network was used: %s%s by %s", call, address, name);
	atomic_store_explicit(&w->network, w->text, memory_order_release);
}

static bool is_lock_call(int nr)
{
	return nr == __NR_flock || nr == __NR_fcntl;
}

/* What becomes of a call about a lock. False: that is told later. */
static bool lock_call(struct watch *w)
{
	int error = 0;

	switch (w->locks ? locks_ask(w->locks, w->req, &error) : LOCKS_CONTINUE) {
	case LOCKS_CONTINUE:
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		return true;
	case LOCKS_ERROR:
		w->resp->error = -error;
		return true;
	case LOCKS_DONE:
		return true;
	case LOCKS_LATER:
		break;
	}
	return false;
}

static void answer(struct watch *w)
{
	memset(w->req, 0, w->req_size);
	if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_RECV, w->req) < 0)
		return; /* ENOENT: killed meanwhile; EINTR: poll says so again */
	memset(w->resp, 0, w->resp_size);
	w->resp->id = w->req->id;
	if (is_lock_call(w->req->data.nr)) {
		if (!lock_call(w))
			return;
	} else {
		if (!atomic_load_explicit(&w->network, memory_order_relaxed))
			note(w);
		w->resp->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	/* Fails only when the caller is gone. */
	(void)ioctl(w->listener, SECCOMP_IOCTL_NOTIF_SEND, w->resp);
}

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	struct pollfd p[2] = {
		{.fd = w->listener, .events = POLLIN},
		{.fd = w->stop, .events = POLLIN},
	};

	for (;;) {
		if (poll(p, 2, w->locks ? locks_retry(w->locks) : -1) < 0)
			continue; /* EINTR; nothing else can be */
		if (p[0].revents & POLLIN)
			answer(w);
		else if (p[0].revents) /* POLLHUP: no process has the filter any more */
			return NULL;
		if (p[1].revents)
			return NULL;
	}
}

/* The kernel may know longer structs than the headers did. */
static int buffers_alloc(struct watch *w, struct err *e)
{
	struct seccomp_notif_sizes sizes = {0};

	if (seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
		return err_set(e, errno, "cannot watch the step's network use");
	w->req_size = sizes.seccomp_notif > sizeof(*w->req) ? sizes.seccomp_notif : sizeof(*w->req);
	w->resp_size = sizes.seccomp_notif_resp > sizeof(*w->resp) ? sizes.seccomp_notif_resp
								   : sizeof(*w->resp);
	w->req = xcalloc(1, w->req_size);
	w->resp = xcalloc(1, w->resp_size);
	return 0;
}

int watch_start(int listener_fd, pid_t command, struct fs *fs, struct watch **ret, struct err *e)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	sigset_t all, old;
	int r;

	w->listener = w->stop = -1;
	r = buffers_alloc(w, e);
	if (r < 0)
		goto fail;
	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->stop < 0) {
		r = err_set(e, errno, "cannot watch the step's network use");
		goto fail;
	}
	w->listener = listener_fd;
	/* Who calls and who answers take turns: both are quicker on one processor. */
	(void)ioctl(listener_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	if (fs)
		w->locks = locks_new(listener_fd, command, fs);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&w->thread, NULL, watch_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		w->listener = -1; /* still the caller's */
		err_set(e, r, "cannot start a thread");
		goto fail;
	}
	w->running = true;
	*ret = w;
	return 0;
fail:
	watch_free(w);
	return r;
}

const char *watch_network(struct watch *w)
{
	return atomic_load_explicit(&w->network, memory_order_acquire);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	if (w->running) {
		uint64_t one = 1;

		(void)!write(w->stop, &one, sizeof(one)); /* an eventfd at 0 takes it */
		pthread_join(w->thread, NULL);
	}
	locks_free(w->locks);
	base_close(&w->listener);
	base_close(&w->stop);
	free(w->req);
	free(w->resp);
	free(w);
}
