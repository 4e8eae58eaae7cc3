/* SPDX-License-Identifier: MIT */
/* What watch.c says of a process that uses the network, or does not. No packet leaves the machine. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "watch_util.h"

/* ---- what the children do; 0 is good ---- */

static const struct sockaddr_in local4 = {
	.sin_family = AF_INET,
	.sin_port = 0x0900, /* 9 in network order on little endian */
	.sin_addr = {.s_addr = 0x0100007f},
};

static int nothing(void)
{
	return 0;
}

static int connect_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* Nobody listens: the call went on and the kernel's own answer came back. */
	return connect(fd, (const void *)&local4, sizeof(local4)) < 0 && errno == ECONNREFUSED ? 0
											       : 1;
}

/* In an address range that is for documents only. There may be no IPv6 here: it was tried. */
static int connect_udp6(void)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	inet_pton(AF_INET6, "2001:db8::1", &sa.sin6_addr);
	(void)!connect(fd, (void *)&sa, sizeof(sa));
	return 0;
}

static int connect_mapped(void)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &sa.sin6_addr);
	(void)!connect(fd, (void *)&sa, sizeof(sa));
	return 0;
}

static int connect_twice(void)
{
	struct sockaddr_in second = local4;

	second.sin_port = htons(10);
	connect_tcp();
	(void)!connect(socket(AF_INET, SOCK_DGRAM, 0), (void *)&second, sizeof(second));
	return 0;
}

static int connect_in_thread_of_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "grandchild");
		_exit(connect_tcp());
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

static int send_with_address(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return sendto(fd, "x", 1, 0, (const void *)&local4, sizeof(local4)) == 1 ? 0 : 1;
}

static int send_message(void)
{
	struct sockaddr_in sa = local4;
	struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
	struct msghdr msg = {
		.msg_name = &sa, .msg_namelen = sizeof(sa), .msg_iov = &iov, .msg_iovlen = 1};

	return sendmsg(socket(AF_INET, SOCK_DGRAM, 0), &msg, 0) == 1 ? 0 : 1;
}

static int send_messages(void)
{
	struct sockaddr_in sa = local4;
	struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
	struct mmsghdr msgs[2] = {
		{.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}},
		{.msg_hdr = {.msg_name = &sa,
			     .msg_namelen = sizeof(sa),
			     .msg_iov = &iov,
			     .msg_iovlen = 1}},
	};

	/* The first fails, having no address, but the second was looked at. */
	(void)!sendmmsg(socket(AF_INET, SOCK_DGRAM, 0), msgs, 2, 0);
	return 0;
}

static int ring(void)
{
	char params[256] = {0};

	(void)syscall(SYS_io_uring_setup, 1, params); /* may be forbidden here: it was tried */
	return 0;
}

/* Unix sockets by name and by pair, all kinds of calls; a disconnect; bad pointers. */
static int local_only(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct mmsghdr many = {.msg_hdr = msg};
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len;
	int pair[2];

	snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "mlfs-test-%d", (int)getpid());
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(sa.sun_path + 1));
	if (bind(server, (void *)&sa, len) || listen(server, 1) ||
	    connect(client, (void *)&sa, len))
		return 1;
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
		return 2;
	if (send(pair[0], "x", 1, 0) != 1 || sendmsg(pair[0], &msg, 0) != 1 ||
	    sendmmsg(pair[0], &many, 1, 0) != 1)
		return 3;
	if (connect(socket(AF_INET, SOCK_DGRAM, 0), &none, sizeof(none)))
		return 4;
	if (connect(client, (void *)8, 16) == 0 || errno != EFAULT)
		return 5;
	if (sendmsg(client, (void *)8, 0) >= 0 || errno != EFAULT)
		return 6;
	return listen(-1, 1) < 0 && errno == EBADF ? 0 : 7;
}

static int connect_for_ever(void)
{
	for (;;)
		connect_tcp();
	return 1;
}

/* ---- the tests ---- */

static void test_quiet(void **state)
{
	expect(nothing, NULL);
	expect(local_only, NULL);
}

static void test_connect(void **state)
{
	expect(connect_tcp, "network was used: connect to 127.0.0.1:9 by stepper");
	expect(connect_udp6, "network was used: connect to [2001:db8::1]:53 by stepper");
	expect(connect_mapped, "network was used: connect to 127.0.0.1:9 by stepper");
}

static void test_first_is_kept(void **state)
{
	expect(connect_twice, "network was used: connect to 127.0.0.1:9 by stepper");
}

static void test_descendant(void **state)
{
	expect(connect_in_thread_of_child,
	       "network was used: connect to 127.0.0.1:9 by grandchild");
}

static void test_send(void **state)
{
	expect(send_with_address, "network was used: send to 127.0.0.1:9 by stepper");
	expect(send_message, "network was used: send to 127.0.0.1:9 by stepper");
	expect(send_messages, "network was used: send to 127.0.0.1:9 by stepper");
}

static void test_ring(void **state)
{
	expect(ring, "network was used: io_uring, which cannot be watched, by stepper");
}

/* Killed in the middle of calls: the thread ends by itself, nothing hangs. */
static void test_killed(void **state)
{
	for (int i = 0; i < 50; i++) {
		struct err e = {0};
		struct watch *w;
		int listener, status;
		pid_t pid = spawn(connect_for_ever, &listener);

		if (listener < 0)
			skip();
		assert_int_equal(watch_start(listener, 0, 0, NULL, NULL, true, &w, &e), 0);
		while (i % 2 && !watch_touched(w))
			sched_yield();
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		watch_free(w);
	}
}

/* Freed with the step alive. */
static void test_free_early(void **state)
{
	struct err e = {0};
	struct watch *w;
	int listener, status;
	pid_t pid = spawn(pause, &listener);

	if (listener < 0)
		skip();
	assert_int_equal(watch_start(listener, 0, 0, NULL, NULL, true, &w, &e), 0);
	watch_free(w);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	watch_free(NULL);
}

/* A second listener in the same process tree cannot be had. */
static int install_again(void)
{
	struct err e = {0};

	return watch_install(true, false, &e) == -EBUSY ? 0 : 1;
}

static void test_nested(void **state)
{
	expect(install_again, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet),	      cmocka_unit_test(test_connect),
		cmocka_unit_test(test_first_is_kept), cmocka_unit_test(test_descendant),
		cmocka_unit_test(test_send),	      cmocka_unit_test(test_ring),
		cmocka_unit_test(test_killed),	      cmocka_unit_test(test_free_early),
		cmocka_unit_test(test_nested),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
