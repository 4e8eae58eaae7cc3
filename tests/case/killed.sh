#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs killed with SIGKILL at any moment: no mount left, no stray process, files as the command had written them,
# the cache usable.
. "$(dirname "$0")/lib.sh"

mkfifo "$WITNESS/ready"
cat >step.sh <<'END'
mark
echo partial >out
echo $$ >"$WITNESS/ready"
while :; do
	sleep 0.05
done
END

# Processes of the case that are mlfs, other than the argument; newest last.
others()
{
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		[ "$pid" != "$1" ] || continue
		[ "$(cat "$dir/comm" 2>/dev/null)" = mlfs ] || continue
		grep -qzxF "MLFS_CASE=$MLFS_CASE" "$dir/environ" 2>/dev/null || continue
		echo "$pid"
	done
}

gone()
{
	[ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}

usable()
{
	no_mount_left || fail "a mount was left: $(grep fuse /proc/self/mounts)"
	same "$(cat out)" partial "what the command had written"
	n=$((${n:-0} + 1))
	miss -- sh -c "echo usable $n; cp step.sh copy$n"
	hit -- sh -c "echo usable $n; cp step.sh copy$n"
	step -- sh -c 'rm -f out; echo again >out'
	rm -f out
}

say "the one the user started"
mlfs exec -- sh step.sh &
front=$!
await ready
command=$line
kill -9 $front
wait $front 2>/dev/null || true
wait_for gone "$command"
for pid in $(others $front); do
	wait_for gone "$pid"
done
usable

say "the one that serves the mount"
mlfs exec -- sh step.sh >"$IO/out" 2>"$IO/err" &
front=$!
await ready
command=$line
for pid in $(others $front); do
	kill -9 "$pid"
done
status=0
wait $front 2>/dev/null || status=$?
[ $status -ne 0 ] || fail "status 0 though the step was cut off"
wait_for gone "$command"
usable

say "both, at once"
mlfs exec -- sh step.sh >"$IO/out" 2>"$IO/err" &
front=$!
await ready
command=$line
# shellcheck disable=SC2046
kill -9 $front $(others $front)
wait $front 2>/dev/null || true
wait_for gone "$command"
usable

say "the whole process group and session of a job system"
setsid -w mlfs exec -- sh step.sh >"$IO/out" 2>"$IO/err" &
job=$!
await ready
command=$line
for pid in $(others 0); do
	kill -9 "$pid" 2>/dev/null || true
done
wait $job 2>/dev/null || true
wait_for gone "$command"
usable

say "at random moments of a short step that writes a lot"
cat >burst.sh <<'END'
i=0
while [ $i -lt 40 ]; do
	i=$((i + 1))
	echo "$1 $i" >"burst/$i"
done
seq 1 200000 >burst/big
END
mkdir burst
for n in $(seq 1 20); do
	timeout -s KILL "0.0$((n * 37 % 90 + 10))" mlfs exec -- sh burst.sh "$n" 2>/dev/null || true
	timeout -s KILL "0.$((n * 53 % 40 + 10))" mlfs exec -- sh burst.sh "$n" 2>/dev/null || true
done
for pid in $(others 0); do
	wait_for gone "$pid"
done
no_mount_left || fail "a mount was left"
rm -rf burst
mkdir burst
for n in 1 7 20; do
	step -- sh burst.sh "$n"
	same "$(cat burst/40)" "$n 40"
	same "$(tail -n 1 burst/big)" 200000
	hit -- sh burst.sh "$n"
	rm -r burst
	mkdir burst
	hit -- sh burst.sh "$n"
	same "$(cat burst/40)" "$n 40"
	same "$(tail -n 1 burst/big)" 200000
done
[ -z "$(ls "$MLFS_CACHE/tmp" 2>/dev/null)" ] || fail "left in the cache: $(ls "$MLFS_CACHE/tmp")"
