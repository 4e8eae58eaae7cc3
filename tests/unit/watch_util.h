/* SPDX-License-Identifier: MIT */
/* watch_util.h - a child under the filter, and what watch.c says of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../runner/runner.h"

#define NO_FILTER 77

static inline int receive_fd(int sock)
{
	char byte;
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
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* A child with the filter that runs `fn`; *ret_listener is -1 where a filter cannot be had. */
static inline pid_t spawn(int (*fn)(void), int *ret_listener)
{
	int sock[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct err e = {0};
		int listener;

		prctl(PR_SET_NAME, "stepper");
		close(sock[0]);
		if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0)
			_exit(NO_FILTER);
		listener = watch_install(true, false, &e);
		if (listener < 0 || watch_send(sock[1], listener, &e) < 0)
			_exit(NO_FILTER);
		close(listener);
		close(sock[1]);
		_exit(fn());
	}
	close(sock[1]);
	*ret_listener = receive_fd(sock[0]);
	close(sock[0]);
	if (*ret_listener < 0) {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), NO_FILTER);
	}
	return pid;
}

/* Run fn watched; what was said of it (caller frees), or NULL. It must have returned 0. */
static inline char *watched(int (*fn)(void))
{
	struct err e = {0};
	struct watch *w;
	const char *text;
	char *copy;
	int listener, status;
	pid_t pid = spawn(fn, &listener);

	if (listener < 0)
		skip();
	assert_int_equal(watch_start(listener, 0, 0, NULL, NULL, true, &w, &e), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	text = watch_spoiled(w);
	copy = text ? xstrdup(text) : NULL;
	watch_free(w);
	return copy;
}

static inline void expect(int (*fn)(void), const char *want)
{
	auto_free char *got = watched(fn);

	if (got && !want)
		print_error("said: %s\n", got);
	if (want) {
		assert_non_null(got);
		assert_string_equal(got, want);
	} else {
		assert_null(got);
	}
}
