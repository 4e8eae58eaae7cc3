#!/bin/sh
# SPDX-License-Identifier: MIT
# A process of the step that is alive at its end: mlfs returns at once, it keeps running, nothing is stored.
. "$(dirname "$0")/lib.sh"

cat >start.sh <<'END'
mark
setsid sh -c 'trap "echo ended >late; exit" TERM; echo $$ >"$WITNESS/pid"; while :; do sleep 0.05; done' </dev/null >/dev/null 2>&1 &
while [ ! -s "$WITNESS/pid" ]; do
	sleep 0.02
done
echo started
END
not_stored '*process*' -- sh start.sh
printed started
pid=$(cat "$WITNESS/pid")
kill -0 "$pid" || fail "the daemon is gone"
say "it still sees and changes files"
kill -TERM "$pid"
wait_for test -s late
same "$(cat late)" ended
wait_for sh -c "! kill -0 $pid"

say "one that keeps stdout open: mlfs waits no longer than for the command"
rm "$WITNESS/pid"
mkfifo "$WITNESS/hold"
cat >hold.sh <<'END'
sh -c 'echo $$ >"$WITNESS/pid"; read x <"$WITNESS/hold"; echo released' &
while [ ! -s "$WITNESS/pid" ]; do
	sleep 0.02
done
echo started
END
not_stored '*process*' -- sh hold.sh
matches "$(cat "$IO/out")" 'started*'
echo x >"$WITNESS/hold"
pid=$(cat "$WITNESS/pid")
wait_for sh -c "! kill -0 $pid"

say "children that end before it do: stored"
miss -- sh -c 'sh -c "echo child >c" & wait; cat c'
hit -- sh -c 'sh -c "echo child >c" & wait; cat c'

say "a child that goes on computing for a while, and ends: waited for"
late='(i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; echo late >l) & echo early'
miss -- sh -c "$late"
same "$(cat l)" late
rm l
hit -- sh -c "$late"
same "$(cat l)" late

say "a child that is nearly done: given a moment, or not stored, but never half"
step -- sh -c '(echo late >l) & echo early'
wait_for test -s l
if [ "$r_stored" = true ]; then
	rm l
	hit -- sh -c '(echo late >l) & echo early'
	same "$(cat l)" late
fi
