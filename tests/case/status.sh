#!/bin/sh
# SPDX-License-Identifier: MIT
# Exit statuses: the command's own, 128+N for a signal, 125, 126, 127.
. "$(dirname "$0")/lib.sh"

status_of()
{
	status=0
	mlfs exec "$@" >"$IO/out" 2>"$IO/err" || status=$?
}

for n in 1 2 3 42 125 126 127 128 200 255; do
	status_of -- sh -c "exit $n"
	same "$status" $n "exit $n"
done
for pair in HUP:129 INT:130 QUIT:131 KILL:137 SEGV:139 PIPE:141 TERM:143; do
	status_of -- sh -c "ulimit -c 0; kill -${pair%:*} \$\$"
	same "$status" "${pair#*:}" "killed by ${pair%:*}"
done
say "replayed on a hit"
miss =3 --cache-failures -- sh -c 'mark; exit 3'
hit =3 --cache-failures -- sh -c 'mark; exit 3'
miss =143 --cache-failures -- sh -c 'mark; kill -TERM $$'
hit =143 --cache-failures -- sh -c 'mark; kill -TERM $$'
ran 2
say "not found"
status_of -- no-such-command
same "$status" 127
same "$(grep -c '^mlfs: .*no-such-command' "$IO/err")" 1 "lines said"
status_of -- ./no/such/path
same "$status" 127
say "cannot be run"
echo 'echo hi' >plain
status_of -- ./plain
same "$status" 126
mkdir directory
status_of -- ./directory
same "$status" 126
status_of -- "$PWD"
same "$status" 126
say "a script whose interpreter is missing"
printf '#!/no/such/interpreter\n' >orphan
chmod +x orphan
status_of -- ./orphan
[ "$status" = 127 ] || [ "$status" = 126 ] || fail "status $status"
say "no #! line: as execvp, the shell runs it"
printf 'echo shell\n' >noline
chmod +x noline
status_of -- ./noline
same "$status" 0
printed shell
say "such a command may be there the next time"
printf '#!/bin/sh\necho found\n' >later
status_of -- ./later
same "$status" 126
chmod +x later
status_of -- ./later
same "$status" 0
say "the same from plain runs"
status_of --no-cache -- no-such-command
same "$status" 127
status_of --no-cache -- ./plain
same "$status" 126
status_of --no-cache -- sh -c 'kill -TERM $$'
same "$status" 143
