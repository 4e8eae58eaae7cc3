#!/bin/sh
# SPDX-License-Identifier: MIT
# What one user has to wait for stops nobody else: the tree has another file system in it, which does not answer.
. "$(dirname "$0")/lib.sh"

unmount()
{
	if is_root; then umount "$1"; else fusermount3 -u "$1"; fi
}
mkdir src src/slow mnt behind
for k in 1 2 3 4 5 6; do
	echo "text $k" >"behind/f$k"
done
head -c 3000000 /dev/zero >behind/large
mlfs mount -f behind src/slow &
slow=$!
trap 'kill -CONT $slow 2>/dev/null; exec 3<&- 5<&-; unmount mnt; wait_for unmount src/slow' EXIT # whose files the server has
wait_for mountpoint -q src/slow
ask mount src mnt
# (Not open for writing: whoever closes that, and all that inherit it do, waits as well.)
exec 3<mnt/slow/large 5<mnt/slow
stopped()
{
	for task in "/proc/$slow/task"/*; do
		grep -q '^State:.T' "$task/status" || return 1
	done
}
kill -STOP "$slow"
wait_for stopped # each thread of it: until then some are still answered

say "several wait: for a name, a file, bytes, a listing, attributes, a write to disk"
pids=
n=0
waits()
{
	n=$((n + 1))
	"$@" >"$IO/waits.$n" 2>&1 &
	pids="$pids $!"
}
waits cat mnt/slow/f1
waits ls mnt/slow/
waits sh -c 'ls /proc/self/fd/5/'
waits sync mnt/slow/f6
waits mkdir mnt/slow/new
waits chmod 600 mnt/slow/f2
waits touch mnt/slow/f3
waits rm mnt/slow/f4
waits mv mnt/slow/f5 mnt/slow/moved
waits df mnt/slow
sleep_state()
{
	for p in $pids; do
		grep -q '^State:.[DS]' "/proc/$p/status" || return 1
	done
}
(wait_for sleep_state) || fail "one does not wait: $(ps -o pid,stat,wchan:20,args; grep . "$IO"/waits.*)"

say "others go on"
timeout 30 sh -ec '
	for k in $(seq 50); do
		echo $k >mnt/new$k
		cat mnt/new$k >>mnt/all
		mv mnt/new$k mnt/old$k
		ls -l mnt/old$k >/dev/null
		rm mnt/old$k
	done
	mkdir mnt/d
	sync mnt/all' || fail "they had to wait as well"
same "$(cat src/all)" "$(seq 50)"
for p in $pids; do
	kill -0 "$p" || fail "one did not wait at all"
done

say "and when it answers, all get what they waited for"
kill -CONT "$slow"
for p in $pids; do
	wait "$p" || fail "status $?: $(grep . "$IO"/waits.*)"
done
same "$(stat -c '%a' behind/f2) $(ls behind | tr '\n' ' ')" "600 f1 f2 f3 f6 large moved new " "what was done"
exec 3<&- 5<&-
