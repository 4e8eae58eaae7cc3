#!/bin/sh
# SPDX-License-Identifier: MIT
# timeout, nohup, setsid, daemons, closed standard descriptors, pipelines: around mlfs and inside the step as without it.
# time limit: 90
. "$(dirname "$0")/lib.sh"

status_of()
{
	status=0
	"$@" || status=$?
}
# alike COMMAND…: the same output and status natively and in a step
alike()
{
	say "$*"
	status_of "$@" >"$IO/native" 2>"$IO/native.err"
	native=$status
	status_of mlfs exec -q --refresh -- "$@" >"$IO/out" 2>"$IO/err"
	same "$status" "$native" "status of $*"
	cmp "$IO/native" "$IO/out" || fail "$(diff "$IO/native" "$IO/out")"
	# A shell says of a command that died of a signal; mlfs exits with 128 + N instead.
	for f in "$IO/native.err" "$IO/err"; do sed -i "/^Killed$/d; /^Terminated$/d" "$f"; done
	cmp "$IO/native.err" "$IO/err" || fail "$(diff "$IO/native.err" "$IO/err")"
}

alike timeout 0.2 sleep 60
alike timeout -s KILL 0.2 sleep 60
alike timeout --preserve-status -s INT 0.2 sleep 60
alike timeout --foreground 0.2 sleep 60
alike timeout -k 0.1 0.1 sh -c 'trap "" TERM; while :; do sleep 0.05; done'
alike timeout 10 sh -c 'exit 5'
alike sh -c 'kill -TERM $$'
alike bash -c 'set -o pipefail; seq 1000000 | head -n 1; echo "${PIPESTATUS[*]}"'
alike bash -c 'trap "" PIPE; seq 100000 2>/dev/null | true; echo "${PIPESTATUS[0]}"'
alike setsid -w sh -c 'cut -d" " -f6 /proc/self/stat | grep -qx $$ && echo leader; exit 6'
alike sh -c 'nohup sh -c "grep SigIgn /proc/self/status" 2>&1'
alike sh -c 'sleep 0.1 & wait $!; echo $?; sleep 60 & kill -9 $!; wait $!; echo $?'

say "timeout around mlfs"
for how in "timeout 0.3" "timeout --foreground 0.3"; do
	# shellcheck disable=SC2086
	status_of $how mlfs exec -q -- sleep 61
	same $status 124
done
cat >hold.sh <<'END'
echo $$ >"$WITNESS/pid"
trap '' TERM
while :; do sleep 0.05; done
END
say "timeout -s KILL: nothing of the step is left"
status_of timeout -s KILL 1 mlfs exec -q -- sh hold.sh
same $status 137
pid=$(cat "$WITNESS/pid")
wait_for sh -c "! kill -0 $pid"
rm "$WITNESS/pid"
say "timeout -k"
status_of timeout -k 0.2 0.5 mlfs exec -q -- sh hold.sh
same $status 137
pid=$(cat "$WITNESS/pid")
wait_for sh -c "! kill -0 $pid"

say "nohup around mlfs"
mkfifo "$WITNESS/ready" "$WITNESS/go"
nohup mlfs exec -q -- sh -c 'echo r >"$WITNESS/ready"; read -r x <"$WITNESS/go"; echo "got $x"' >nohup.log 2>/dev/null </dev/null &
pid=$!
await ready
kill -HUP $pid
echo word >"$WITNESS/go"
wait $pid
same "$(cat nohup.log)" "got word"

say "closed standard descriptors"
cat >closed.sh <<'END'
for fd in 0 1 2; do
	[ -e /proc/self/fd/$fd ] && echo "$fd open" >>"$1"
done
echo done >>"$1"
END
for close in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
	rm -f native.log view.log
	eval "sh closed.sh native.log $close"
	eval "mlfs exec -q -- sh closed.sh view.log $close"
	cmp native.log view.log || fail "$close: $(diff native.log view.log)"
	rm view.log
	eval "mlfs exec -q --report '$IO/report' -- sh closed.sh view.log $close"
	grep -q '"result": *"hit"' "$IO/report" || fail "$close: no hit"
	cmp native.log view.log || fail "$close: the hit"
done

say "a daemon that forks twice, and is ended by the step: stored; one that is not: not"
cat >daemon.py <<'END'
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for fd in 0, 1, 2:
    os.dup2(null, fd)
with open(sys.argv[1] + ".tmp", "w") as f:
    f.write(f"{os.getpid()}\n")
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
with open("late", "w") as f:
    f.write("written at the end\n")
os.unlink(sys.argv[1])
END
miss -- sh -c '/usr/bin/python3 -I -B daemon.py pid stop; while [ ! -e pid ]; do sleep 0.02; done; touch stop; while [ -e pid ]; do sleep 0.02; done'
same "$(cat late)" "written at the end"
rm stop late
not_stored "a process of the step was still running (python3*" -- sh -c '/usr/bin/python3 -I -B daemon.py pid2 stop; while [ ! -e pid2 ]; do sleep 0.02; done'
pid=$(cat pid2)
kill -0 "$pid" || fail "the daemon is gone"
touch stop
wait_for sh -c "! kill -0 $pid"
same "$(cat late)" "written at the end"
rm stop late

say "start-stop-daemon"
not_stored "a process of the step was still running (*" -- start-stop-daemon --start --background --make-pidfile --pidfile "$PWD/ssd" \
	--startas /usr/bin/python3 --chdir "$PWD" -- -I -B daemon.py "$PWD/pid3" stop
wait_for test -s pid3
touch stop
wait_for test ! -e pid3
same "$(cat late)" "written at the end"
