#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs fsck: finds what is broken, repairs it, keeps the rest; and a broken cache gives misses, never wrong files.
# (tests/unit/test_fsck.c flips bits by the thousand; here the whole program is asked.)
. "$(dirname "$0")/lib.sh"

# fsck [=STATUS] ARGS…
fsck()
{
	ask fsck "$@"
}

cat >work.sh <<'END'
seq "$1" 3000 >"out$1"
echo "small $1" >"small$1"
chmod 640 "small$1"
echo "made $1"
END

works()
{
	for n in 1 2 3; do
		rm -f "out$n" "small$n"
		step -- sh work.sh $n
		printed "made $n"
		same "$(cat "small$n")" "small $n"
		same "$(stat -c %a "small$n")" 640
		seq $n 3000 | cmp - "out$n" || fail "out$n is not what the step makes"
	done
}

say "usage"
fsck =1
grep -q 'cannot check the cache' "$IO/err" || fail "no cache, and nothing is said"
fsck =2 --rpair
grep -q "did you mean '--repair'" "$IO/err" || fail "the right word is not named"
fsck =2 --cache
fsck =2 more
fsck --help
grep -q '^usage: mlfs fsck' "$IO/out"
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"
fsck --version
same "$(cat "$IO/out")" "$(mlfs --version)"
echo nonsense >"$IO/conf"
mlfs fsck --config "$IO/conf" >"$IO/out" 2>"$IO/err" || [ $? -eq 1 ] || fail "mlfs.conf keeps a cache from being checked"

say "a good cache"
works
fsck
grep -q '3 results, .* clean$' "$IO/out" || fail "not clean"
fsck -q
printed ""
fsck --json
$python -I -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert r["clean"] is True and r["results"] == 3 and r["objects"] >= 6 and r["runs"] == 3, r
assert r["problems"] == [] and r["broken"] == 0, r' "$IO/out"
cp -a "$MLFS_CACHE" good

say "progress is for a terminal"
grep -q ' of ' "$IO/err" && fail "progress in a file: $(cat "$IO/err")"
$python -I -c '
import os, pty, re, sys
said = b""
def read(fd):
    global said
    data = os.read(fd, 4096)
    said += data
    return data
status = pty.spawn(sys.argv[1:], read)
assert status == 0, status
assert re.search(rb"mlfs: records: [0-9.]+ [KM]?B of [0-9.]+ KB", said), said
assert said.rstrip().endswith(b": clean"), said' mlfs fsck >"$IO/out"

restore()
{
	rm -rf "$MLFS_CACHE"
	cp -a good "$MLFS_CACHE"
}

# One bit of the file is the other way round.
flip()
{
	$python -I -c '
import os, sys
name, at = sys.argv[1], int(sys.argv[2])
os.chmod(name, 0o600)
f = open(name, "r+b")
f.seek(at)
b = f.read(1)
f.seek(at)
f.write(bytes([b[0] ^ 1 << at % 8]))' "$1" "$2"
}

say "a damaged object"
object=$(find "$MLFS_CACHE/cas" -type f | sort | head -1)
flip "$object" 1000
fsck =1
grep -q '^object .*: its bytes are not those of its name$' "$IO/out" || fail "the object is not named"
grep -q '^result .*(work.sh): an output (object .*) is damaged$' "$IO/out" || fail "the result is not named"
fsck --repair
grep -q '^object .*; mended$' "$IO/out"
fsck
grep -q '^2 results' "$IO/out"
works
fsck

say "a missing object"
restore
rm "$object"
fsck =1
grep -q 'is missing' "$IO/out" || fail "not found"
fsck --repair --json
$python -I -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert r["clean"] is True and r["broken"] == 1 == r["mended"], r
assert r["problems"][0]["what"] == "result" and r["problems"][0]["mended"] is True, r' "$IO/out"
fsck
works

say "what is left over is no damage, and goes when it is asked for"
restore
echo x >"$MLFS_CACHE/tmp/1-1-1"
: >"$MLFS_CACHE/lock/0123456789abcdef0123456789abcdef"
mkdir -p "$MLFS_CACHE/cas/2e"
seq 9000 >left
name=$(sha256sum <left | cut -c1-64)
mkdir -p "$MLFS_CACHE/cas/$(echo "$name" | cut -c1-2)"
cp left "$MLFS_CACHE/cas/$(echo "$name" | cut -c1-2)/$(echo "$name" | cut -c3-)"
fsck
fsck --repair -v
grep -q "^object $name: no result refers to it; removed" "$IO/out" || fail "the object stays"
grep -q '^file tmp/1-1-1: .*; removed' "$IO/out" || fail "the temporary file stays"
grep -q '^file lock/0123.*; removed' "$IO/out" || fail "the lock stays"
[ ! -e "$MLFS_CACHE/tmp/1-1-1" ]
rm left
works
for n in 1 2 3; do
	hit -- sh work.sh $n
done

say "while a step runs nothing of its doing is left over; damage is repaired all the same"
restore
flip "$object" 1000
mkfifo "$WITNESS/ready" "$WITNESS/go"
mlfs exec --report "$IO/running" -- sh -c 'seq 5000 >big; echo r >"$WITNESS/ready"; read -r x <"$WITNESS/go"' &
running=$!
await ready
: >"$MLFS_CACHE/tmp/1-1-1"
fsck --repair
grep -q '^object .*; mended$' "$IO/out" || fail "not mended"
[ -e "$MLFS_CACHE/tmp/1-1-1" ] || fail "removed, while somebody may need it"
echo x >"$WITNESS/go"
wait $running
grep -q '"stored": *true' "$IO/running" || fail "not stored: $(cat "$IO/running")"
fsck
works

say "a flipped bit in each file of the cache: found, or without meaning; no wrong file either way"
restore
works
rm -rf good
cp -a "$MLFS_CACHE" good
(cd good && find . -type f ! -name lock.mdb) | sort >files
while read -r file; do
	size=$(stat -c %s "good/$file")
	case $file in
	*/data.mdb) places="100 $((size / 3 + 1001)) $((size * 2 / 3))" ;;
	*/stamps) continue ;; # sparse; the unit test has it
	./cas/[4-f]*) continue ;; # enough of them
	*) places="$((size / 2))" ;;
	esac
	for at in $places; do
		restore
		flip "$MLFS_CACHE/$file" "$at"
		status=0
		mlfs fsck >"$IO/out" 2>&1 || status=$?
		case $file in
		*/data.mdb) ;;
		*) same $status 1 "status of fsck with a flipped bit in $file" ;;
		esac
		works
		mlfs fsck --repair >"$IO/out" 2>&1 || grep -q 'made by a newer mlfs' "$IO/out" ||
			fail "cannot repair $file, byte $at: $(cat "$IO/out")"
		step -- sh work.sh 2
		printed "made 2"
	done
done <files

say "an index full of nonsense is made anew from what can be read"
restore
dd if=/dev/urandom of="$MLFS_CACHE/index/data.mdb" bs=4096 seek=4 count=1 conv=notrunc status=none
works
status=0
mlfs fsck >"$IO/out" 2>&1 || status=$?
if [ $status -ne 0 ]; then
	fsck --repair
fi
fsck
works
fsck
