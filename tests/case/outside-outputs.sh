#!/bin/sh
# SPDX-License-Identifier: MIT
# What a step changed is changed by somebody else while it still runs: nothing is stored, however the step goes on.
# What it changes many times itself is.
. "$(dirname "$0")/lib.sh"

mkfifo "$WITNESS/ready" "$WITNESS/go"

# tampered BEFORE OUTSIDE AFTER: the step does BEFORE and AFTER, somebody else OUTSIDE in between
tampered()
{
	say "$1 | $2 | $3"
	rm -rf log d
	mkdir d
	echo start >log
	mlfs exec --refresh --report "$IO/report" -- \
		sh -c "$1; echo r >\"\$WITNESS/ready\"; read -r x <\"\$WITNESS/go\"; $3" >"$IO/out" 2>"$IO/err" &
	pid=$!
	await ready
	sh -c "$2"
	echo g >"$WITNESS/go"
	wait $pid || fail "status $?"
}

refused()
{
	tampered "$@"
	grep -q '"stored": *false' "$IO/report" || fail "stored"
	grep -q "\"reason\": *\"[^\"]*$4 was changed by another process" "$IO/report" || fail "another reason"
}

refused 'echo one >>log' 'echo foreign >>log' 'echo two >>log' /log
refused 'echo one >>log' 'echo foreign >>log' 'true' /log
refused 'echo one >>log' 'echo foreign >>log' ': >log' /log
refused 'echo one >>log' 'echo foreign >>log' 'rm log' /log
refused 'echo one >>log' 'echo foreign >>log' 'mv log moved' /log
refused 'echo one >log' 'rm log' 'true' /log
refused 'echo one >log' 'echo one >new; mv new log' 'true' /log
refused 'echo one >log' 'rm log' 'rm -f log' /log
refused 'echo one >log; ln log d/other' 'echo foreign >>d/other' 'true' /d/other
refused 'rm log' 'echo x >log' 'true' /log
refused 'rm log' 'echo x >log' 'cat log; rm log' /log
refused 'mv log moved' 'echo x >log' 'true' /log
refused 'mkdir d/a; echo 1 >d/a/f' 'echo 2 >d/a/f' 'mv d/a d/b' /d/a/f
refused 'mkdir d/a' 'rmdir d/a; echo x >d/a' 'true' /d/a
refused 'ln -s one d/l' 'ln -sf two d/l' 'true' /d/l

say "everything by the step itself"
tampered 'mkdir d/a; echo 1 >d/a/f; mv d/a d/b; echo 3 >d/b/f; mkdir d/a; mv d/b/f d/a/g; ln d/a/g d/h; chmod 600 d/h' 'true' \
	'touch -d 2001-01-01 d/h; truncate -s 100 d/h; cp d/h d/i; rm d/h; echo 5 >>d/i; rm -r d/a; mkdir d/a; ln -s x d/s;
	ln -sf y d/s; mkfifo d/p; rm d/p; fallocate -l 4096 d/i; mv d e; mv e d; cat d/i >log; echo more >>log; mv log d/i'
grep -q '"stored": *true' "$IO/report" || fail "not stored"

say "two steps that append to one log: none of the two is stored with a line of the other"
echo start >log
mlfs exec --report "$IO/report" -- sh -c 'echo a1 >>log; echo r >"$WITNESS/ready"; read -r x <"$WITNESS/go"; echo a2 >>log' &
pid=$!
await ready
mlfs exec --report "$IO/report2" -- sh -c 'echo b >>log'
echo g >"$WITNESS/go"
wait $pid
same "$(cat log)" "start
a1
b
a2"
grep -q '"stored": *false' "$IO/report" || fail "stored"
