/* SPDX-License-Identifier: MIT */
/* Who is in the step and who is not, as watch.c says of a child and of those it talks to. No packet leaves the
 * machine. This process itself and its other children are outside of the step. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>

#include "watch_util.h"

/* ---- small helpers; 0 or a descriptor is good ---- */

static struct sockaddr_in local(unsigned port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static unsigned port_of(int fd)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);

	return getsockname(fd, (void *)&sa, &len) < 0 ? 0 : ntohs(sa.sin_port);
}

static int bound_socket(int type, unsigned port)
{
	struct sockaddr_in sa = local(port);
	int fd = socket(AF_INET, type, 0), one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (void *)&sa, sizeof(sa)))
		return -1;
	return fd;
}

static int server(unsigned port)
{
	int fd = bound_socket(SOCK_STREAM, port);

	return fd < 0 || listen(fd, 8) < 0 ? -1 : fd;
}

static int client(unsigned port)
{
	struct sockaddr_in sa = local(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (void *)&sa, sizeof(sa)) == 0)
		return fd;
	close(fd);
	return -1;
}

static unsigned free_port(int type)
{
	int fd = bound_socket(type, 0);
	unsigned port = port_of(fd);

	close(fd);
	return port;
}

/* Runs fn in a process of its own; its result later, by wait_for. */
static pid_t start(int (*fn)(void))
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	return pid;
}

static int wait_for(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int said[2]; /* a pipe on which the step says a port */

static void say(unsigned port)
{
	(void)!write(said[1], &port, sizeof(port));
}

static unsigned hear(void)
{
	unsigned port = 0;

	(void)!read(said[0], &port, sizeof(port));
	return port;
}

/* ---- TCP within the step ---- */

static unsigned the_port;

static int talk(void)
{
	char c;
	int fd = client(the_port);

	return fd >= 0 && write(fd, "q", 1) == 1 && read(fd, &c, 1) == 1 && c == 'a' ? 0 : 1;
}

static int serve_one(int listener, int flags)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	char c;
	int fd = accept4(listener, (void *)&peer, &len, flags);

	if (fd < 0)
		return 10;
	if (len != sizeof(peer) || peer.sin_family != AF_INET ||
	    peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK) || !peer.sin_port)
		return 11;
	if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) != !(flags & SOCK_CLOEXEC) ||
	    !(fcntl(fd, F_GETFL) & O_NONBLOCK) != !(flags & SOCK_NONBLOCK))
		return 12;
	(void)fcntl(fd, F_SETFL, 0);
	if (read(fd, &c, 1) != 1 || c != 'q' || write(fd, "a", 1) != 1)
		return 13;
	return close(fd);
}

/* The server waits in accept before the client comes, and the other way round. */
static int inside_blocking(void)
{
	int fd = server(0), r = 0;

	the_port = port_of(fd);
	for (int k = 0; k < 20 && r == 0; k++) {
		pid_t pid = start(talk);

		r = serve_one(fd, k % 2 ? SOCK_CLOEXEC : SOCK_NONBLOCK);
		if (r == 0)
			r = wait_for(pid);
	}
	return r;
}

static int inside_polled(void)
{
	int fd = server(0), r = 0;

	the_port = port_of(fd);
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	if (accept(fd, NULL, NULL) >= 0 || errno != EAGAIN)
		return 1;
	for (int k = 0; k < 20 && r == 0; k++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		pid_t pid = start(talk);

		if (poll(&p, 1, -1) != 1)
			return 2;
		r = serve_one(fd, 0);
		if (r == 0)
			r = wait_for(pid);
	}
	return r ? r : fcntl(fd, F_GETFL) & O_NONBLOCK ? 0 : 3;
}

/* Who has connected and gone again before it is accepted. */
static int inside_gone(void)
{
	int fd = server(0);

	for (int k = 0; k < 5; k++) {
		close(client(port_of(fd)));
		if (close(accept(fd, NULL, NULL)))
			return 1;
	}
	return 0;
}

/* First refused, then there. */
static int inside_late(void)
{
	int fd = bound_socket(SOCK_STREAM, 0);

	the_port = port_of(fd);
	if (client(the_port) >= 0 || errno != ECONNREFUSED)
		return 1;
	return listen(fd, 1) || client(the_port) < 0 ? 2 : 0;
}

static int inside_other_addresses(void)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
	struct sockaddr_in any = {.sin_family = AF_INET};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	socklen_t len = sizeof(sa);

	if (fd < 0)
		return 0; /* no IPv6 here */
	if (bind(fd, (void *)&sa, sizeof(sa)) || listen(fd, 8) ||
	    getsockname(fd, (void *)&sa, &len))
		return 1;
	any.sin_port = sa.sin6_port; /* 0.0.0.0 means this machine */
	if (client(ntohs(sa.sin6_port)) < 0 ||
	    connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&any, sizeof(any)))
		return 2;
	return close(accept(fd, NULL, NULL)) || close(accept(fd, NULL, NULL));
}

static void test_inside(void **state)
{
	expect(inside_blocking, NULL);
	expect(inside_polled, NULL);
	expect(inside_gone, NULL);
	expect(inside_late, NULL);
	expect(inside_other_addresses, NULL);
}

/* ---- a waiting accept ends as it does without us ---- */

static void on_signal(int sig)
{
	(void)sig;
}

static pid_t waiting;

static int interrupt_accept(void)
{
	int fd = server(0);
	struct sigaction sa = {.sa_handler = on_signal};
	struct itimerval t = {.it_value = {.tv_usec = 30000}, .it_interval = {.tv_usec = 30000}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	return accept(fd, NULL, NULL) < 0 && errno == EINTR ? 0 : 1;
}

static int accept_and_wait(void)
{
	int fd = server(the_port);

	say(the_port);
	(void)accept(fd, NULL, NULL);
	return 1;
}

/* Nothing keeps the port in use when who waited there is gone. */
static int kill_in_accept(void)
{
	int r = 0;

	the_port = free_port(SOCK_STREAM);
	for (int k = 0; k < 20 && r == 0; k++) {
		waiting = start(accept_and_wait);
		hear();
		kill(waiting, SIGKILL);
		wait_for(waiting);
		r = close(server(the_port));
	}
	return r;
}

static int bad_accept(void)
{
	int fd = server(0), conn = client(port_of(fd));
	socklen_t len = (socklen_t)-1;
	struct sockaddr_in sa;

	if (conn < 0 || accept(conn, NULL, NULL) >= 0 || errno != EINVAL)
		return 1;
	if (accept4(fd, NULL, NULL, 12345) >= 0 || errno != EINVAL)
		return 2;
	if (accept(fd, (void *)&sa, &len) >= 0 || errno != EINVAL)
		return 3;
	return accept(-1, NULL, NULL) < 0 && errno == EBADF ? 0 : 4;
}

static void test_accept(void **state)
{
	assert_int_equal(pipe(said), 0);
	expect(interrupt_accept, NULL);
	expect(kill_in_accept, NULL);
	expect(bad_accept, NULL);
}

/* ---- TCP with others ---- */

static int connect_only(void)
{
	return client(the_port) < 0;
}

static int serve_said(void)
{
	int fd = server(0);

	say(port_of(fd));
	return serve_one(fd, 0);
}

static int serve_polled(void)
{
	int fd = server(0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	say(port_of(fd));
	return poll(&p, 1, -1) == 1 ? serve_one(fd, 0) : 1;
}

static int call_said(void)
{
	the_port = hear();
	return talk();
}

static int listen_again_on_it(void)
{
	int fd = server(the_port);

	return fd < 0 && errno == EADDRINUSE ? connect_only() : 1;
}

static int refused(void)
{
	return client(the_port) < 0 && errno == ECONNREFUSED ? 0 : 1;
}

static void expect_from_outside(int (*fn)(void))
{
	pid_t pid = start(call_said);
	auto_free char *text = watched(fn);

	assert_int_equal(wait_for(pid), 0);
	assert_non_null(text);
	assert_int_equal(strncmp(text, "network was used: connection from 127.0.0.1:", 44), 0);
	assert_non_null(strstr(text, " by stepper"));
}

static void test_outside(void **state)
{
	char want[96];
	int fd = server(0);

	the_port = port_of(fd);
	snprintf(want, sizeof(want), "network was used: connect to 127.0.0.1:%u by stepper",
		 the_port);
	expect(connect_only, want);
	expect(listen_again_on_it, want);
	close(fd);
	expect(refused, want);
	assert_int_equal(pipe(said), 0);
	expect_from_outside(serve_said);
	expect_from_outside(serve_polled);
}

/* ---- UDP ---- */

static int udp_inside(void)
{
	int a = bound_socket(SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in sa = local(port_of(a)), from;
	socklen_t len = sizeof(from);
	char c;

	if (sendto(b, "x", 1, 0, (void *)&sa, sizeof(sa)) != 1 ||
	    recvfrom(a, &c, 1, 0, (void *)&from, &len) != 1)
		return 1;
	return sendto(a, "y", 1, 0, (void *)&from, len) == 1 && read(b, &c, 1) == 1 ? 0 : 2;
}

/* A socket that talks to itself, as some servers have one. */
static int udp_self(void)
{
	int a = bound_socket(SOCK_DGRAM, 0);
	struct sockaddr_in sa = local(port_of(a));
	char c;

	return connect(a, (void *)&sa, sizeof(sa)) == 0 && write(a, "x", 1) == 1 &&
			       read(a, &c, 1) == 1
		       ? 0
		       : 1;
}

static int udp_connect(void)
{
	struct sockaddr_in sa = local(the_port);

	return connect(socket(AF_INET, SOCK_DGRAM, 0), (void *)&sa, sizeof(sa));
}

static int udp_connect_and_send(void)
{
	struct sockaddr_in sa = local(the_port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	return connect(fd, (void *)&sa, sizeof(sa)) == 0 && write(fd, "x", 1) == 1 ? 0 : 1;
}

static int udp_receive(void)
{
	int fd = bound_socket(SOCK_DGRAM, 0);
	char c;

	say(port_of(fd));
	return read(fd, &c, 1) == 1 ? 0 : 1;
}

static int udp_send_said(void)
{
	the_port = hear();
	return udp_connect_and_send();
}

static void test_udp(void **state)
{
	auto_free char *text = NULL;
	char want[96];
	pid_t pid;
	int fd = bound_socket(SOCK_DGRAM, 0);

	expect(udp_inside, NULL);
	expect(udp_self, NULL);
	the_port = port_of(fd);
	snprintf(want, sizeof(want), "network was used: connect to 127.0.0.1:%u by stepper",
		 the_port);
	expect(udp_connect, want);
	close(fd);
	expect(udp_connect, NULL);
	snprintf(want, sizeof(want), "network was used: send to 127.0.0.1:%u", the_port);
	expect(udp_connect_and_send, want);
	assert_int_equal(pipe(said), 0);
	pid = start(udp_send_said);
	text = watched(udp_receive);
	assert_int_equal(wait_for(pid), 0);
	assert_non_null(text);
	assert_int_equal(
		strncmp(text, "network was used: datagrams may have come to 127.0.0.1:", 55), 0);
}

/* ---- other sockets ---- */

static int packet_socket(void)
{
	close(socket(AF_PACKET, SOCK_RAW, 0)); /* forbidden to most: it was tried */
	return 0;
}

static int raw_socket(void)
{
	close(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP));
	return 0;
}

static int odd_protocol(void)
{
	close(socket(AF_INET, SOCK_STREAM, 132 /* SCTP */));
	return 0;
}

static int usual_sockets(void)
{
	close(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
	close(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP));
	close(socket(AF_NETLINK, SOCK_RAW, 0));
	close(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	return 0;
}

static void test_odd_sockets(void **state)
{
	expect(usual_sockets, NULL);
	expect(packet_socket,
	       "network was used: a socket of family 17, type 3, protocol 0 by stepper");
	expect(raw_socket,
	       "network was used: a socket of family 2, type 3, protocol 17 by stepper");
	expect(odd_protocol,
	       "network was used: a socket of family 2, type 1, protocol 132 by stepper");
}

/* In a network namespace of its own there is nobody else. */
static int own_namespace(void)
{
	struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(80)};

	inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0)
		return 0; /* cannot be had here */
	return connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&far, sizeof(far)) < 0 ? 0 : 1;
}

/* But a socket that was made before is not in it. */
static int old_socket(void)
{
	struct sockaddr_in sa = local(the_port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)!unshare(CLONE_NEWUSER | CLONE_NEWNET);
	return connect(fd, (void *)&sa, sizeof(sa));
}

static void test_namespaces(void **state)
{
	char want[96];
	int fd = server(0);

	expect(own_namespace, NULL);
	the_port = port_of(fd);
	snprintf(want, sizeof(want), "network was used: connect to 127.0.0.1:%u by stepper",
		 the_port);
	expect(old_socket, want);
	close(fd);
}

/* ---- Unix sockets ---- */

static struct sockaddr_un named;
static socklen_t named_len;

static int connect_named(void)
{
	return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&named, named_len);
}

static int connect_named_fails(void)
{
	return connect_named() < 0 ? 0 : 1;
}

static int serve_named_inside(void)
{
	struct sockaddr_un was = named;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), r;

	if (named.sun_path[0])
		strcat(named.sun_path, ".in"); /* NOLINT: it fits */
	else
		named.sun_path[1] = 'X';
	if (named.sun_path[0])
		named_len = sizeof(named);
	r = bind(fd, (void *)&named, named_len) || listen(fd, 1) || connect_named();
	(void)!unlink(named.sun_path);
	named = was;
	return r;
}

static int send_named(void)
{
	return sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "x", 1, 0, (void *)&named, named_len) == 1
		       ? 0
		       : 1;
}

static int outside_named(int type)
{
	int fd = socket(AF_UNIX, type, 0);

	assert_int_equal(bind(fd, (void *)&named, named_len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 5), 0);
	return fd;
}

static void test_abstract(void **state)
{
	char name[64], want[160];
	int fd;

	named.sun_family = AF_UNIX;
	snprintf(name, sizeof(name), "mlfs-test-%d", (int)getpid());
	memcpy(named.sun_path + 1, name, strlen(name));
	named_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	snprintf(want, sizeof(want), "unix socket used: @%s by stepper", name);
	expect(connect_named_fails, NULL);
	expect(serve_named_inside, NULL);
	fd = outside_named(SOCK_STREAM);
	expect(connect_named, want);
	close(fd);
	fd = outside_named(SOCK_DGRAM);
	expect(send_named, want);
	close(fd);
}

static int connect_relative(void)
{
	return chdir("/tmp") || connect_named();
}

static void test_path(void **state)
{
	char want[160];
	int fd;

	memset(&named, 0, sizeof(named));
	named.sun_family = AF_UNIX;
	named_len = sizeof(named);
	snprintf(named.sun_path, sizeof(named.sun_path), "/tmp/mlfs-test-%d", (int)getpid());
	expect(connect_named_fails, NULL);
	expect(serve_named_inside, NULL);
	fd = outside_named(SOCK_STREAM);
	snprintf(want, sizeof(want), "unix socket used: %s by stepper", named.sun_path);
	expect(connect_named, want);
	memmove(named.sun_path, named.sun_path + 5, sizeof(named.sun_path) - 5);
	snprintf(want, sizeof(want), "unix socket used: %s by stepper", named.sun_path);
	expect(connect_relative, want);
	memmove(named.sun_path + 5, named.sun_path, sizeof(named.sun_path) - 5);
	memcpy(named.sun_path, "/tmp/", 5);
	close(fd);
	expect(connect_named_fails, NULL); /* refused */
	unlink(named.sun_path);
}

/* ---- System V ---- */

static key_t the_key;
static int the_id;

static int shm_inside(void)
{
	int id = shmget(the_key, 4096, IPC_CREAT | 0600), other = shmget(IPC_PRIVATE, 4096, 0600);
	char *p = shmat(id, NULL, 0);

	if (id < 0 || other < 0 || p == (void *)-1 || shmget(the_key, 4096, 0) != id)
		return 1;
	return shmctl(id, IPC_RMID, NULL) || shmctl(other, IPC_RMID, NULL);
}

static int shm_left(void)
{
	return shmget(the_key, 4096, IPC_CREAT | 0600) < 0;
}

static int shm_by_key(void)
{
	return shmget(the_key, 4096, 0) < 0;
}

static int shm_by_id(void)
{
	return shmat(the_id, NULL, 0) == (void *)-1;
}

static int sem_inside(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600);

	return id < 0 || semctl(id, 0, IPC_RMID);
}

static int sem_left(void)
{
	return semget(the_key, 1, IPC_CREAT | 0600) < 0;
}

static int msg_by_key(void)
{
	return msgget(the_key, 0) < 0;
}

static int open_queue(void)
{
	(void)!syscall(SYS_mq_open, "mlfs-test-none", O_RDONLY, 0, NULL);
	return 0;
}

static void test_ipc(void **state)
{
	int id;

	the_key = 0x6d6c0000 | (getpid() & 0xffff);
	expect(shm_inside, NULL);
	expect(sem_inside, NULL);
	expect(shm_left, "System V shared memory was left behind");
	expect(shm_by_key, "System V shared memory of another process was used");
	the_id = shmget(the_key, 0, 0);
	expect(shm_by_id, "System V shared memory of another process was used");
	assert_int_equal(shmctl(the_id, IPC_RMID, NULL), 0);
	expect(sem_left, "System V semaphore set was left behind");
	assert_int_equal(semctl(semget(the_key, 1, 0), 0, IPC_RMID), 0);
	id = msgget(the_key, IPC_CREAT | 0600);
	expect(msg_by_key, "System V message queue of another process was used");
	assert_int_equal(msgctl(id, IPC_RMID, NULL), 0);
	expect(open_queue, "a POSIX message queue was opened");
}

/* ---- 32-bit programs ---- */

#ifdef __x86_64__
static long narrow_call(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return r;
}

/* Memory that a 32-bit pointer reaches. */
static void *low(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
		    0);
}

static int narrow_connect(void)
{
	struct sockaddr_in *sa = low();
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	long r;

	*sa = local(the_port);
	r = narrow_call(362, fd, (long)sa, sizeof(*sa));
	return r == 0 || r == -ENOSYS ? 0 : 1;
}

static int narrow_socketcall(void)
{
	struct sockaddr_in *sa = low();
	uint32_t *args = (void *)(sa + 1);
	long r;

	*sa = local(the_port);
	args[0] = (uint32_t)socket(AF_INET, SOCK_STREAM, 0);
	args[1] = (uint32_t)(uintptr_t)sa;
	args[2] = sizeof(*sa);
	r = narrow_call(102, 3, (long)args, 0);
	return r == 0 || r == -ENOSYS ? 0 : 1;
}

/* Its connections within the step are as good as any. */
static int narrow_inside(void)
{
	int fd = server(0);

	the_port = port_of(fd);
	return narrow_connect() || narrow_socketcall();
}

static int narrow_shm(void)
{
	return narrow_call(395, the_key, 4096, 0) == -1;
}

static void test_narrow(void **state)
{
	char want[96];
	int fd = server(0);
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(narrow_call(20, 0, 0, 0) > 0 ? 0 : 1); /* getpid */
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		skip(); /* the kernel runs no 32-bit programs */
	expect(narrow_inside, NULL);
	the_port = port_of(fd);
	snprintf(want, sizeof(want), "network was used: connect to 127.0.0.1:%u by stepper",
		 the_port);
	expect(narrow_connect, want);
	expect(narrow_socketcall, want);
	close(fd);
	the_key = 0x6d6d0000 | (getpid() & 0xffff);
	the_id = shmget(the_key, 4096, IPC_CREAT | 0600);
	expect(narrow_shm, "System V shared memory of another process was used");
	assert_int_equal(shmctl(the_id, IPC_RMID, NULL), 0);
}
#endif

/* ---- alone ---- */

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	(void)!write(fd, text, strlen(text));
	close(fd);
}

/* The counters of datagrams are those of the network namespace: in one of our own nobody else counts. Where it
 * cannot be had, somebody else may. */
static void be_alone(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];
	int fd;

	if (unshare(uid ? CLONE_NEWUSER | CLONE_NEWNET : CLONE_NEWNET) < 0)
		return;
	if (uid) {
		write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
		write_text("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
		write_text("/proc/self/gid_map", map);
	}
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	(void)!ioctl(fd, SIOCSIFFLAGS, &lo);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inside),	    cmocka_unit_test(test_accept),
		cmocka_unit_test(test_outside),	    cmocka_unit_test(test_udp),
		cmocka_unit_test(test_odd_sockets), cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_abstract),    cmocka_unit_test(test_path),
		cmocka_unit_test(test_ipc),
#ifdef __x86_64__
		cmocka_unit_test(test_narrow),
#endif
	};

	be_alone();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
