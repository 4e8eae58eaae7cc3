#!/bin/sh
# SPDX-License-Identifier: MIT
# What happens outside while a step runs is seen in it (within a second or so), and the other way round.
. "$(dirname "$0")/lib.sh"

say "a step waits for a file that appears outside"
mkfifo "$WITNESS/ready"
mlfs exec --report "$IO/report" -- sh -c '[ ! -e signal ]; echo r >"$WITNESS/ready"; while [ ! -e signal ]; do sleep 0.05; done; cat signal' >"$IO/out" &
pid=$!
await ready
echo go >signal.tmp
mv signal.tmp signal
wait $pid
printed go
grep -q '"stored": *false' "$IO/report" || fail "stored, though an input changed meanwhile: $(cat "$IO/report")"

say "a growing file is followed"
echo 1 >growing
mlfs exec --no-cache -- true
mlfs exec -- sh -c 'cat growing; echo r >"$WITNESS/ready"; until grep -q 3 growing; do sleep 0.05; done; cat growing' >"$IO/out" &
pid=$!
await ready
echo 2 >>growing
echo 3 >>growing
wait $pid
printed "1
1
2
3"

say "what the step writes is seen outside at once"
mkfifo "$WITNESS/go"
mlfs exec -- sh -c 'echo half >progress; echo r >"$WITNESS/ready"; read x <"$WITNESS/go"; echo whole >>progress' &
pid=$!
await ready
same "$(cat progress)" half
echo x >"$WITNESS/go"
wait $pid
same "$(cat progress)" "half
whole"

say "a directory filled outside"
mkdir spool
mlfs exec -- sh -c 'ls spool; echo r >"$WITNESS/ready"; until [ "$(ls spool)" ]; do sleep 0.05; done; ls spool' >"$IO/out" &
pid=$!
await ready
echo x >spool/job
wait $pid
printed job

say "a file replaced outside by one of the same size"
echo aaa >swap
mlfs exec -- sh -c 'cat swap; echo r >"$WITNESS/ready"; until [ "$(cat swap)" = bbb ]; do sleep 0.05; done; cat swap' >"$IO/out" &
pid=$!
await ready
echo bbb >swap.tmp
mv swap.tmp swap
wait $pid
printed "aaa
bbb"

say "a file that is replaced outside while it is open"
echo opened >replaced
echo opened >removed
mlfs exec --report "$IO/report" -- sh -c '
	exec 3<replaced 4<removed
	echo r >"$WITNESS/ready"
	read x <"$WITNESS/go"
	cat <&3
	cat <&4' >"$IO/out" &
pid=$!
await ready
echo new >replaced.tmp
mv replaced.tmp replaced
rm removed
echo x >"$WITNESS/go"
wait $pid
printed "opened
opened"

say "a file that is replaced outside while it is mapped, and much else was read since"
mkdir much
cat >map.py <<'END2'
import mmap, os, sys
for i in range(1000):
    open("much/%d" % i, "w").write("x")
f = open("mapped", "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
m[0]
os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
f.close()
for i in range(1000):
    open("much/%d" % i).read()
open(os.environ["WITNESS"] + "/ready", "w").write("r\n")
open(os.environ["WITNESS"] + "/go").read()
print(m[-5:].decode(), end="")
END2
head -c 50000000 /dev/zero >mapped
echo last >>mapped
mlfs exec -- $python map.py >"$IO/out" &
pid=$!
await ready
echo new >mapped.tmp
mv mapped.tmp mapped
echo x >"$WITNESS/go"
wait $pid
printed last
