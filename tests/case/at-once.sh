#!/bin/sh
# SPDX-License-Identifier: MIT
# Several at once: two identical steps (the second waits and hits), many different ones on one cache.
. "$(dirname "$0")/lib.sh"

say "two identical steps: the command runs once"
mkfifo "$WITNESS/ready" "$WITNESS/go"
# Only the process that runs the command opens the fifos.
set -- sh -c 'mark; echo r >"$WITNESS/ready"; read x <"$WITNESS/go"; echo "made $x" >out; echo end'
mlfs exec --report "$IO/r1" -- "$@" >"$IO/o1" &
first=$!
await ready
mlfs exec --report "$IO/r2" -- "$@" >"$IO/o2" &
second=$!
mlfs exec --report "$IO/r3" -- "$@" >"$IO/o3" &
third=$!
echo now >"$WITNESS/go"
wait $first
wait $second
wait $third
ran 1
grep -q '"result": *"miss"' "$IO/r1" || fail "the first: $(cat "$IO/r1")"
for n in 2 3; do
	grep -q '"result": *"hit"' "$IO/r$n" || fail "number $n: $(cat "$IO/r$n")"
	same "$(cat "$IO/o$n")" end
done
same "$(cat out)" "made now"

say "a step that fails while another waits for it: the other runs"
: >"$WITNESS/ran"
set -- sh -c 'mark; if mkdir "$WITNESS/once" 2>/dev/null; then echo r >"$WITNESS/ready"; read x <"$WITNESS/go"; exit 1; fi; echo good'
mlfs exec -- "$@" >"$IO/o1" &
first=$!
await ready
mlfs exec -- "$@" >"$IO/o2" &
second=$!
echo now >"$WITNESS/go"
status=0
wait $first || status=$?
same "$status" 1
wait $second
same "$(cat "$IO/o2")" good
ran 2

say "twenty different ones on one new cache"
rm -rf "$MLFS_CACHE"
pids=
for n in $(seq 20); do
	mlfs exec --report "$IO/r$n" -- sh -c "echo $n >o$n; cat o$n" >"$IO/o$n" &
	pids="$pids $!"
done
for pid in $pids; do
	wait "$pid"
done
for n in $(seq 20); do
	grep -q '"stored": *true' "$IO/r$n" || fail "number $n: $(cat "$IO/r$n")"
	rm "o$n"
	hit -- sh -c "echo $n >o$n; cat o$n"
	same "$(cat "o$n")" "$n"
done

say "mlfs in mlfs"
miss -- sh -c 'echo in >a; mlfs exec -- sh -c "cat a; echo inner >b"; cat b'
printed "in
inner"
rm b
hit -- sh -c 'echo in >a; mlfs exec -- sh -c "cat a; echo inner >b"; cat b'
same "$(cat b)" inner
