#!/bin/sh
# SPDX-License-Identifier: MIT
# Each of these does not make a step run again.
. "$(dirname "$0")/lib.sh"

mkdir dir
echo data >in
echo lib >dir/lib
printf '#!/bin/sh\nmark\ncat in; ls dir >/dev/null; cat dir/lib; [ -e absent ] || echo done >out\n' >step.sh
chmod +x step.sh
miss -- ./step.sh

say "touch of an input, of the script, of a directory"
touch in step.sh dir dir/lib
hit -- ./step.sh
touch -d '2001-02-03' in step.sh dir/lib
hit -- ./step.sh

say "a fresh checkout: other inodes, other times"
cp in in2
mv in2 in
cp -r dir dir2
rm -r dir
mv dir2 dir
cp step.sh s2
chmod 755 s2
mv s2 step.sh
hit -- ./step.sh

say "touch of a file that was only looked at"
miss -- sh -c 'mark; test -s in && test in -nt nothing; ls -l in >/dev/null; echo ok'
touch in
hit -- sh -c 'mark; test -s in && test in -nt nothing; ls -l in >/dev/null; echo ok'

say "a new file nobody looked at"
mkdir other
echo x >other/file
echo x >unrelated
rm unrelated
echo x >../beside
hit -- ./step.sh

say "a link to the same place made anew; a hard link more"
ln in in.hard
hit -- ./step.sh
rm in.hard

say "reading does not change a thing"
cat in dir/lib >/dev/null
hit -- ./step.sh

say "the time"
hit -- ./step.sh

say "another terminal, session or login environment"
(
	export TERM=vt100 COLUMNS=40 LINES=10 SHLVL=7 OLDPWD=/var _=/x WINDOWID=12 \
		SSH_CLIENT='1 2 3' SSH_CONNECTION='1.2.3.4 1 5.6.7.8 22' SSH_TTY=/dev/pts/9 \
		SSH_AUTH_SOCK=/run/a SSH_AGENT_PID=9 XDG_SESSION_ID=3 XDG_RUNTIME_DIR=/run/user/9 \
		XDG_SESSION_TYPE=tty XDG_SESSION_CLASS=user DISPLAY=:3 WAYLAND_DISPLAY=w \
		DBUS_SESSION_BUS_ADDRESS=unix:path=/run/x TMUX=/tmp/t,1,2 TMUX_PANE=%1 STY=1.x \
		GPG_AGENT_INFO=/a GPG_TTY=/dev/pts/1 COLORTERM=truecolor TERM_PROGRAM=x TERM_SESSION_ID=1 \
		VTE_VERSION=1 MAIL=/var/mail/x LS_COLORS='di=1' \
		XAUTHORITY=/x INVOCATION_ID=1 JOURNAL_STREAM=9:1
	hit -- ./step.sh
)
setsid -w mlfs exec --report "$IO/report" -- ./step.sh >/dev/null
grep -q '"result": *"hit"' "$IO/report" || fail "another session"

say "another parent process, another limit of open files, another priority"
(
	ulimit -S -n 700
	hit -- ./step.sh
)
nice -n 5 sh -c 'mlfs exec --report "$IO/report" -- ./step.sh' >/dev/null
grep -q '"result": *"hit"' "$IO/report" || fail "under nice"

say "outputs written by the step lie there"
same "$(cat out)" done
hit -- ./step.sh
ran 2
