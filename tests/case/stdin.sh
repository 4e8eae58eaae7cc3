#!/bin/sh
# SPDX-License-Identifier: MIT
# stdin is read only as far as the command reads it, and what it read is an input.
. "$(dirname "$0")/lib.sh"

reset()
{
	: >"$WITNESS/ran"
}
# Like miss, hit: but of a pipeline, whose report is checked afterwards.
was()
{
	[ -s "$IO/report" ] || fail "no report"
	eval "$($python -I -B "$cases/report.py" "$IO/report")"
	same "$r_result" "$1" "result ($r_reason)"
	[ "$1" != miss ] || same "$r_stored" true "stored ($r_reason)"
	rm "$IO/report"
}
m()
{
	mlfs exec --report "$IO/report" "$@"
}

say "a pipe read to its end"
printf 'one\ntwo\n' | m -- sh -c 'mark; cat' >"$IO/out"
was miss
printed "one
two"
printf 'one\ntwo\n' | m -- sh -c 'mark; cat' >"$IO/out"
was hit
printed "one
two"
printf 'one\ntwo\nthree\n' | m -- sh -c 'mark; cat' >"$IO/out"
was miss
printf 'one\ntwX\n' | m -- sh -c 'mark; cat' >"$IO/out"
was miss
printed "one
twX"
printf 'one\ntwo' | m -- sh -c 'mark; cat' >"$IO/out"
was miss
printf '' | m -- sh -c 'mark; cat' >"$IO/out"
was miss
ran 5
printf '' | m -- sh -c 'mark; cat' >"$IO/out"
was hit

say "the loop around mlfs keeps its lines"
reset
for round in miss hit; do
	printf 'a\nb\nc\n' | while read -r line; do
		m -- sh -c 'mark; echo "got $1"' sh "$line"
		was $round
	done >"$IO/out"
	printed "got a
got b
got c"
done
ran 3

say "one line read by the command, the next by the caller (read of one byte at a time)"
reset
for round in miss hit; do
	printf 'first\nsecond\nthird\n' | {
		m -- sh -c 'mark; read x; echo "step: $x"'
		read -r rest
		echo "caller: $rest"
		m -- sh -c 'mark; read x; echo "step: $x"'
	} >"$IO/out"
	printed "step: first
caller: second
step: third"
done
ran 2

say "head -c: exactly so many bytes"
reset
$python -c 'print("".join("%07d\n" % i for i in range(40000)), end="")' >"$WITNESS/lines"
for round in miss hit; do
	cat "$WITNESS/lines" | {
		m -- sh -c 'mark; dd bs=8 count=1000 status=none | sha256sum'
		was $round
		head -c 8
		cat >/dev/null
	} >"$IO/out"
	same "$(sed -n 2p "$IO/out")" 0001000
done
ran 1

say "much more than a pipe holds, read to the end"
reset
for round in miss hit; do
	cat "$WITNESS/lines" "$WITNESS/lines" "$WITNESS/lines" | m -- sh -c 'mark; sha256sum' >"$IO/out"
	was $round
	same "$(cat "$IO/out")" "$(cat "$WITNESS/lines" "$WITNESS/lines" "$WITNESS/lines" | sha256sum)"
done
ran 1

say "a difference far behind"
{ cat "$WITNESS/lines" "$WITNESS/lines"; sed 's/0039999/0039998/' "$WITNESS/lines"; } |
	m -- sh -c 'mark; sha256sum' >"$IO/out"
was miss
same "$(cat "$IO/out")" "$({ cat "$WITNESS/lines" "$WITNESS/lines"; sed 's/0039999/0039998/' "$WITNESS/lines"; } | sha256sum)"
ran 2

say "longer than recorded: the writer's rest is kept for the command"
{ cat "$WITNESS/lines" "$WITNESS/lines" "$WITNESS/lines"; echo more; } | m -- sh -c 'mark; tail -n 1' >"$IO/out"
was miss
printed more
{ cat "$WITNESS/lines" "$WITNESS/lines" "$WITNESS/lines"; echo less; } | m -- sh -c 'mark; tail -n 1' >"$IO/out"
was miss
printed less

say "a pipe that nobody reads is no input"
reset
echo a | m -- sh -c 'mark; echo done' >"$IO/out"
was miss
echo b | m -- sh -c 'mark; echo done' >"$IO/out"
was hit
say "and a writer that never ends keeps nobody waiting"
mkfifo "$WITNESS/never"
exec 4<>"$WITNESS/never"
m -- sh -c 'mark; echo done' <&4 4>&- >"$IO/out"
was hit
m -- sh -c 'mark; echo else' <&4 4>&- >"$IO/out"
was miss
exec 4>&-
ran 2

say "a line at a time from a writer that waits for the answer"
reset
mkfifo "$WITNESS/q" "$WITNESS/a"
for round in miss hit; do
	m -- sh -c 'mark; read x; echo "re: $x"' <"$WITNESS/q" >"$WITNESS/a" &
	exec 5>"$WITNESS/q" 6<"$WITNESS/a"
	echo ping >&5
	read -r answer <&6
	same "$answer" "re: ping"
	wait $! # before the writer goes: whether its end was at hand would be chance
	exec 5>&- 6<&-
	was $round
done
ran 1

say "a file: its content is an input, its offset moves on"
reset
printf 'l1\nl2\nl3\n' >file
for round in miss hit; do
	{
		m -- sh -c 'mark; read x; echo "step $x"'
		was $round
		read -r x
		echo "caller $x"
	} <file >"$IO/out"
	printed "step l1
caller l2"
done
m -- sh -c 'mark; cat' <file >"$IO/out"
was miss
m -- sh -c 'mark; cat' <file >"$IO/out"
was hit
printed "l1
l2
l3"
echo l4 >>file
m -- sh -c 'mark; cat' <file >"$IO/out"
was miss
ran 3

mlfs fsck >"$IO/out" || fail "fsck finds something broken"

say "a file that somebody is still writing"
exec 7>>file
echo l5 >&7
not_stored '*another process has open for writing*' -- sh -c 'mark; cat' <file 7>&-
exec 7>&-
miss -- sh -c 'mark; cat' <file
hit -- sh -c 'mark; cat' <file
ran 5

say "/dev/null, closed"
reset
m -- sh -c 'mark; cat' </dev/null
was miss
m -- sh -c 'mark; cat' </dev/null
was hit
m -- sh -c 'mark; cat 2>/dev/null; echo $?' <&- >"$IO/out"
was miss
printed 1
m -- sh -c 'mark; cat 2>/dev/null; echo $?' <&- >"$IO/out"
was hit
ran 2

say "a socket"
reset
cat >sock.py <<'END'
import os, socket, subprocess, sys
for word in (b"miss", b"hit"):
    a, b = socket.socketpair()
    a.sendall(b"12345678rest")
    out = subprocess.run(["mlfs", "exec", "--report", os.environ["IO"] + "/report", "--", "sh", "-c",
                          "mark; dd bs=8 count=1 status=none"], stdin=b, stdout=subprocess.PIPE).stdout
    assert out == b"12345678", out
    assert b.recv(100, socket.MSG_DONTWAIT) == b"rest"
    assert b'"' + word + b'"' in open(os.environ["IO"] + "/report", "rb").read(), word
END
$python sock.py
ran 1
