#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 60
# A tmux server inside a step: its sessions live on pseudo-terminals of the view; one that outlives the step goes on.
. "$(dirname "$0")/lib.sh"

cat >whole.sh <<'END'
export SHELL=/bin/sh TERM=screen PS1="$ "
t="tmux -S $PWD/sock -f /dev/null"
$t new-session -d -x 60 -y 10 -s one "sh"
$t new-window -t one -n two "echo up; exec cat"
# What is typed before somebody is there may be lost.
until $t capture-pane -p -t one:0 | grep -q '^[$]'; do sleep 0.02; done
until $t capture-pane -p -t one:two | grep -qx up; do sleep 0.02; done
$t send-keys -t one:0 "cat in; stty size; tty >/dev/null && touch on-terminal" Enter
until [ -e on-terminal ]; do sleep 0.02; done
until $t capture-pane -p -t one:0 | grep -qx data; do sleep 0.02; done
$t send-keys -t one:two "typed" Enter
until [ "$($t capture-pane -p -t one:two | grep -cx typed)" = 2 ]; do sleep 0.02; done
$t capture-pane -p -t one:0 | grep -x -e data -e '[0-9]* [0-9]*'
$t list-windows -t one -F '#{window_name}' | tail -n 1
pid=$($t display-message -p '#{pid}')
$t kill-server
while kill -0 $pid 2>/dev/null; do sleep 0.02; done
rm -f sock
END
echo data >in
sh whole.sh >"$IO/native" || fail "natively: $?"
rm -f on-terminal
say "the server is ended by the step"
miss -- sh whole.sh
cmp "$IO/native" "$IO/out" || fail "$(diff "$IO/native" "$IO/out")"
[ -e on-terminal ] || fail "nothing made"
rm on-terminal
hit -- sh whole.sh
[ -e on-terminal ] || fail "not restored"
rm on-terminal
echo other >in
sed -i s/data/other/ whole.sh
miss -- sh whole.sh
grep -qx other "$IO/out" || fail "not run"

say "the server outlives the step"
mkfifo "$WITNESS/go"
cat >leave.sh <<'END'
export SHELL=/bin/sh
tmux -S $PWD/sock2 -f /dev/null new-session -d 'read -r x <"$WITNESS/go"; echo "got $x" >late; cat in >>late'
tmux -S $PWD/sock2 display-message -p '#{pid}' >server
END
not_stored "a process of the step was still running (tmux*" -- sh leave.sh
pid=$(cat server)
kill -0 "$pid" || fail "the server is gone"
echo word >"$WITNESS/go"
wait_for sh -c "! kill -0 $pid"
same "$(cat late)" "got word
other"
