#!/bin/sh
# SPDX-License-Identifier: MIT
# 32 at once on one cache, the same steps and different ones, killed at random moments and at chosen system calls:
# no wrong result, no lost record, no deadlock, nothing left behind, and the cache is well.
# MLFS_CASE_SLOW: how many runs (120). MLFS_SEED: of the random choices.
# time limit: 6000
. "$(dirname "$0")/lib.sh"

others()
{
	for dir in /proc/[0-9]*; do
		[ "$(cat "$dir/comm" 2>/dev/null)" = mlfs ] || continue
		grep -qzxF "MLFS_CASE=$MLFS_CASE" "$dir/environ" 2>/dev/null || continue
		grep -q '^State:.Z' "$dir/status" 2>/dev/null || echo "${dir#/proc/}"
	done
}

all_gone()
{
	[ -z "$(others)" ]
}

well()
{
	wait_for all_gone
	no_mount_left || fail "a mount was left: $1"
	mlfs fsck -v >"$IO/out" 2>&1 || fail "the cache is broken: $1"
}

# What a restore that was killed has made goes with the next run.
tidy()
{
	mlfs exec --only-if-cached -- true 2>/dev/null || true
	same "$(find . -name '.mlfs-*')" "" "left behind by $1"
}

seed=${MLFS_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
say "a storm; seed $seed"
mkdir storm
cd storm
$python -I -B "$cases/storm.py" "${MLFS_CASE_SLOW:-120}" 32 "$seed"
well "a storm with seed $seed"
tidy "a storm with seed $seed"
cd ..

command -v strace >/dev/null || skip "strace is not installed"
strace -o "$IO/strace" true 2>/dev/null || skip "processes cannot be traced here"

cat >step.sh <<'END'
read -r x <in
seq 2000 >made/big
echo "$x" >made/small
chmod 640 made/small
ln -sf small made/link
echo "done $x"
END
echo 1 >in
prepare()
{
	rm -rf made
	mkdir made
}

right()
{
	same "$(cat "$IO/out")" "done 1" "what it printed: $1"
	seq 2000 | cmp -s - made/big || fail "made/big is wrong: $1"
	same "$(cat made/small) $(stat -c %a made/small) $(readlink made/link)" "1 640 small" "files: $1"
	same "$(ls -A made | tr '\n' ' ')" "big link small " "names: $1"
}

# killed SYSCALL N COMMAND…: the Nth time that a process of it makes this call is its last.
killed()
{
	call=$1 when=$2
	shift 2
	strace -f -qq -o "$IO/strace" -e trace="$call" -e inject="$call":signal=KILL:when="$when" "$@" \
		>/dev/null 2>&1 </dev/null || true
	! grep -q 'killed by SIGKILL' "$IO/strace" || kills=$((${kills:-0} + 1))
}

# Kept: where a run may not do what this says at all.
count=0
every=$([ "${MLFS_CASE_SLOW:-0}" -gt 1000 ] && echo 1 || echo 11)
turn()
{
	count=$((count + 1))
	[ $((count % every)) -eq 0 ]
}

say "a restore, killed at each of its changes"
prepare
miss -- sh step.sh
for call in openat rename renameat2 unlink unlinkat linkat symlink fchmod utimensat ioctl flock write fchown pread64 close; do
	for when in 1 2 3 4 5 6 7 8 9 10; do
		turn || continue
		prepare
		echo 1 >made/small # as it was left, but for its mode
		killed "$call" "$when" mlfs exec --only-if-cached -- sh step.sh
		wait_for all_gone
		tidy "$call $when"
		for file in made/*; do
			case $file in
			made/big) seq 2000 | cmp -s - "$file" || fail "torn by $call $when: $file" ;;
			made/small) same "$(cat "$file")" 1 "content after $call $when" ;;
			esac
		done
		prepare
		step -- sh step.sh
		right "after $call $when"
	done
done
well "killed restores"
say "$kills were killed"
[ "$kills" -ge 2 ] || fail "hardly any was killed"
kills=0

say "a run, killed at each kind of call of its processes"
for call in openat clone clone3 socketpair sendto recvfrom sendmsg fdatasync pwrite64 rename renameat renameat2 unlinkat ftruncate \
	flock mount pivot_root setns unshare execve exit_group read write poll wait4 mmap munmap fcntl statx newfstatat; do
	for when in 1 2 3 5 9 17 33; do
		turn || continue
		count=$((count + 1)) # a step of its own each
		killed "$call" "$when" mlfs exec --salt $count -- sh step.sh
		well "$call $when"
		prepare # what a killed step had made is nobody's, and not to be replaced
		step --salt $count -- sh step.sh
		right "after $call $when"
		hit --salt $count -- sh step.sh
		right "hit after $call $when"
	done
done
say "$kills were killed"
[ "$kills" -ge 3 ] || fail "hardly any was killed"
tidy "killed runs"
mlfs fsck --repair >"$IO/out" 2>&1 || fail "cannot repair"
same "$(ls "$MLFS_CACHE/tmp" "$MLFS_CACHE/lock" | grep -v : || true)" "" "left in the cache"
