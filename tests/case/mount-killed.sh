#!/bin/sh
# SPDX-License-Identifier: MIT
# The process of a persistent mount ends, gently or not, while steps of it run: they go on, and a new mount takes the place.
. "$(dirname "$0")/lib.sh"

is_root || command -v fusermount3 >/dev/null || skip "fusermount3 is not here"
top=$PWD
mkdir -p src/bin mnt
cat >src/bin/slow <<'END'
#!/bin/sh
mark
cat data
echo up >"$WITNESS/up"
read -r line <"$WITNESS/go"
cat data
echo "$line" >out
exit 0
END
chmod +x src/bin/slow
mkfifo "$WITNESS/up" "$WITNESS/go"

serve()
{
	mlfs mount -f --step 'bin/*' "$top/src" "$top/mnt" &
	server=$!
	wait_for cmp "$top/src/data" "$top/mnt/data" # what a dead one cannot give
}
clear_mount()
{
	cd "$top"
	if is_root; then umount -l mnt; else fusermount3 -uz mnt; fi 2>/dev/null || :
}
trap clear_mount EXIT

for signal in KILL TERM; do
	say "$signal"
	echo "for $signal" >src/data
	serve
	cd mnt
	bin/slow >"$IO/out" &
	step=$!
	await up
	kill -$signal $server
	[ $signal = TERM ] || wait $server || :
	echo "after $signal" >"$WITNESS/go"
	status=0
	wait $step || status=$?
	same "$status" 0 "status of the step"
	same "$(cat "$IO/out")" "for $signal
for $signal" "what it printed"
	same "$(cat "$top/src/out")" "after $signal" "its output"
	cd "$top"
	if [ $signal = TERM ]; then
		status=0
		wait $server || status=$?
		same "$status" 0 "status of mlfs mount -f, ended by TERM"
		! grep -q "$top/mnt fuse.mlfs" /proc/self/mounts || fail "the mount is still there"
	fi
done
ran 2

say "a new one in its place serves what was stored"
echo "for KILL" >src/data
rm src/out
mlfs mount --step 'bin/*' src mnt
cd mnt
bin/slow >"$IO/out"
same "$(cat "$IO/out" out)" "for KILL
for KILL
after KILL" "a hit of the step whose mount was killed"
ran 2
