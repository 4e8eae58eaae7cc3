#!/bin/sh
# SPDX-License-Identifier: MIT
# stdout and stderr: shown live, replayed byte for byte and in their order.
. "$(dirname "$0")/lib.sh"

say "bytes of every value, no newline at the end, both streams apart"
cat >bytes.py <<'END'
import os, sys
os.write(1, bytes(range(256)) * 300)
os.write(2, b"warn\0\xff\r\n no newline")
os.system("mark")
END
miss -- $python bytes.py
sha256sum <"$IO/out" >"$IO/first.out"
sha256sum <"$IO/err" >"$IO/first.err"
same "$(sha256sum <"$IO/out")" "$($python bytes.py 2>/dev/null | sha256sum)"
hit -- $python bytes.py
same "$(sha256sum <"$IO/out")" "$(cat "$IO/first.out")" stdout
same "$(sha256sum <"$IO/err")" "$(cat "$IO/first.err")" stderr

say "the order of the two, into one file"
cat >order.sh <<'END'
i=0
while [ $i -lt 50 ]; do
	i=$((i + 1))
	echo "out $i"
	echo "err $i" >&2
done
END
sh order.sh >native 2>&1
for run in 1 2; do
	mlfs exec --report "$IO/report" -- sh order.sh >"$IO/both" 2>&1
	cmp native "$IO/both" || fail "order, run $run"
done
grep -q '"hit"' "$IO/report" || fail "no hit"

say "the order of the two, to two files and then to one: whatever is done, nothing is lost or mixed up"
mlfs exec -- sh order.sh >"$IO/o" 2>"$IO/e"
same "$(cat "$IO/o")" "$(grep out native)"
same "$(cat "$IO/e")" "$(grep err native)"
mlfs exec -- sh order.sh >"$IO/o" 2>"$IO/e"
same "$(cat "$IO/o")" "$(grep out native)"
same "$(cat "$IO/e")" "$(grep err native)"

say "much output"
miss -- seq 1 1000000
sum=$(sha256sum <"$IO/out")
hit -- seq 1 1000000
same "$(sha256sum <"$IO/out")" "$sum"

say "shown live: a line arrives while the step is still running"
mkfifo "$WITNESS/lines" "$WITNESS/go"
mlfs exec -- sh -c 'echo early; read x <$WITNESS/go; echo late' >"$WITNESS/lines" &
pid=$!
exec 5<"$WITNESS/lines"
read -r line <&5
same "$line" early
echo go >"$WITNESS/go"
read -r line <&5
same "$line" late
exec 5<&-
wait $pid

say "appended to the caller's file, offset shared"
{
	echo before
	mlfs exec -- sh -c 'echo from step'
	echo after
} >"$IO/shared"
same "$(cat "$IO/shared")" "before
from step
after"
{
	echo before
	mlfs exec -- sh -c 'echo from step'
	echo after
} >"$IO/shared"
same "$(cat "$IO/shared")" "before
from step
after"

say "a reader that goes away: SIGPIPE ends the step, as natively"
mlfs exec -- sh -c 'mark; yes; echo not reached >&2' 2>"$IO/err" | head -n 1 >"$IO/out"
printed y
mlfs exec -- $python -c 'print("x" * 5000000)' 2>"$IO/err" | head -c 10 >/dev/null || true

say "closed streams stay closed"
mlfs exec -- sh -c 'exec 9>$WITNESS/open; [ -e /proc/self/fd/1 ] && echo open >&9 || echo closed >&9' >&- || true
same "$(cat "$WITNESS/open")" closed "stdout"
mlfs exec -- sh -c 'exec 9>$WITNESS/open; [ -e /proc/self/fd/2 ] && echo open >&9 || echo closed >&9' 2>&-
same "$(cat "$WITNESS/open")" closed "stderr"
mlfs exec -- sh -c 'exec 9>$WITNESS/open; [ -e /proc/self/fd/0 ] && echo open >&9 || echo closed >&9' <&-
same "$(cat "$WITNESS/open")" closed "stdin"

say "/dev/stdout, /dev/stderr, /dev/fd"
miss -- sh -c 'echo a >/dev/stdout; echo b >/dev/stderr; echo c >/dev/fd/1; cat </dev/null /proc/self/fd/0'
printed "a
c"
same "$(cat "$IO/err")" b
hit -- sh -c 'echo a >/dev/stdout; echo b >/dev/stderr; echo c >/dev/fd/1; cat </dev/null /proc/self/fd/0'
printed "a
c"

say "stdout is /dev/null"
mlfs exec -- sh -c 'echo x; echo y >&2' >/dev/null 2>"$IO/err"
same "$(cat "$IO/err")" y

say "a full device: the command learns of it or mlfs says so, as natively status is not 0"
status=0
mlfs exec --no-cache -- sh -c 'echo x' >/dev/full 2>"$IO/err" || status=$?
[ $status -ne 0 ] || fail "status 0 though nothing could be written"
