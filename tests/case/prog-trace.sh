#!/bin/sh
# SPDX-License-Identifier: MIT
# strace and gdb in a step: ptrace and the seccomp listener, which looks at some of the same calls, get on with each other.
# time limit: 90
. "$(dirname "$0")/lib.sh"

cat >p.c <<'END'
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

int lock(int x)
{
	struct flock l = {.l_type = F_WRLCK};
	int fd = open("locked", O_RDWR | O_CREAT, 0644);

	if (flock(fd, LOCK_EX) < 0 || fcntl(fd, F_SETLK, &l) < 0)
		perror("lock");
	return x + 1;
}

static void network(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof(a)) < 0)
		perror("connect");
}

int main(int argc, char **argv)
{
	char text[20] = "";
	FILE *f = fopen("in", "r");

	printf("%d %s", lock(argc), f && fgets(text, sizeof(text), f) ? text : "");
	fflush(stdout);
	if (argc > 1)
		network();
	if (argc > 2)
		abort();
	return 0;
}
END
gcc -g -O0 -o p p.c
echo data >in

say "strace"
strace -f -qq -e trace=flock,fcntl,openat -e signal=none -o native.trace ./p >"$IO/native"
rm locked
miss -- strace -f -qq -e trace=flock,fcntl,openat -e signal=none -o view.trace ./p
printed "2 data"
without_numbers()
{
	sed 's/^[0-9]* *//; s/0x[0-9a-f]*/ADDRESS/g' "$1"
}
without_numbers native.trace >native.calls
without_numbers view.trace | diff native.calls - || fail "other calls"
grep -q 'flock(.*LOCK_EX) *= 0' view.trace || fail "flock not traced"
cp view.trace kept
rm view.trace locked
hit -- strace -f -qq -e trace=flock,fcntl,openat -e signal=none -o view.trace ./p
cmp view.trace kept
[ -e locked ] || fail "not restored"
not_stored "network was used*" -- strace -f -o net.trace ./p x
grep -q 'connect(.*= -1 ECONNREFUSED' net.trace || fail "connect not traced"
say "every call of a shell and its children"
miss -- strace -f -o all.trace sh -c 'cat in | sort >sorted; ls . >/dev/null'
same "$(cat sorted)" data
say "strace attaches to a process of the step"
miss -- sh -c 'sleep 60 & pid=$!; strace -p $pid -o attach.trace & until [ -s attach.trace ] || grep -q "^TracerPid:.[1-9]" /proc/$pid/status; do sleep 0.02; done; kill $pid; wait $pid; wait; grep -c SIGTERM attach.trace'

gdb="gdb -nx -batch -iex 'set debuginfod enabled off' -iex 'set startup-with-shell off'"
say "gdb: run, break, a backtrace, step over watched calls"
miss -- sh -c "$gdb -ex 'break lock' -ex run -ex bt -ex finish -ex continue ./p"
matches "$(cat "$IO/out")" "*Breakpoint 1, lock (x=1)*#1 *in main (argc=1*Value returned is ?1 = 2*2 data*exited normally*"
echo changed >in
miss -- sh -c "$gdb -ex 'break lock' -ex run -ex bt -ex finish -ex continue ./p"
matches "$(cat "$IO/out")" "*changed*"
say "stopped within watched calls"
not_stored "network was used*" -- sh -c "$gdb -ex 'catch syscall flock' -ex 'catch syscall connect' -ex run -ex bt -ex c -ex bt -ex c -ex bt -ex c -ex c --args ./p x"
same "$(grep -c '^Catchpoint .* syscall' "$IO/out")" 4 "catchpoints"
matches "$(cat "$IO/out")" "*call to syscall flock*returned from syscall flock*call to syscall connect*returned from syscall connect*exited normally*"
say "ended while stopped in one"
miss -- sh -c "$gdb -ex 'catch syscall flock' -ex run -ex kill ./p; echo \$?"
say "attached to a process of the step; a core by gcore"
cat >attach.sh <<'END'
sleep 60 &
pid=$!
gdb -nx -batch -iex 'set debuginfod enabled off' -p $pid -ex 'info proc' -ex "generate-core-file core.$1" -ex detach 2>/dev/null | grep -c "^exe = '/usr/bin/sleep'"
kill -0 $pid && kill $pid
wait $pid
[ -s core.$1 ] && gdb -nx -batch -iex 'set debuginfod enabled off' /usr/bin/sleep core.$1 2>/dev/null | grep -c '^#0'
END
step -- sh attach.sh made
printed "1
1"

if [ "$(cat /proc/sys/kernel/core_pattern)" = core ]; then
	say "a core file that the kernel writes"
	mkdir cores
	not_stored "network was used*" -- sh -c 'cd cores; ulimit -c unlimited; ln -s ../in; ../p x y; [ $? -eq 134 ]; gdb -nx -batch -ex bt ../p core* 2>/dev/null | grep -c "in main (argc=3"'
	printed "4 changed
1"
fi
