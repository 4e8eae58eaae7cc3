#!/bin/sh
# SPDX-License-Identifier: MIT
# The options of `mlfs exec`, each by what it promises.
. "$(dirname "$0")/lib.sh"

reset()
{
	: >"$WITNESS/ran"
}
echo 1 >in

say "--expire-after"
miss -- sh -c 'mark; cat in'
hit --expire-after PT1H -- sh -c 'mark; cat in'
hit --expire-after P1D -- sh -c 'mark; cat in'
hit --expire-after P7DT12H -- sh -c 'mark; cat in'
hit --expire-after=PT30M -- sh -c 'mark; cat in'
miss_because '*expired*' --expire-after PT0S -- sh -c 'mark; cat in'
miss --expire-after PT0.001S -- sh -c 'mark; cat in'
hit -- sh -c 'mark; cat in'
ran 3

say "--no-cache"
reset
uncached '*' --no-cache -- sh -c 'mark; cat in'
printed 1
uncached '*' --no-cache -- sh -c 'mark; cat in'
hit -- sh -c 'mark; cat in'
ran 2
uncached '*' =3 --no-cache -- sh -c 'exit 3'

say "--refresh"
reset
miss --refresh -- sh -c 'mark; cat in'
miss --refresh -- sh -c 'mark; cat in'
hit -- sh -c 'mark; cat in'
ran 2

say "--read-only"
reset
hit --read-only -- sh -c 'mark; cat in'
not_stored '*' --read-only -- sh -c 'mark; cat in in'
not_stored '*' --read-only -- sh -c 'mark; cat in in'
ran 2
miss -- sh -c 'mark; cat in in'
hit --read-only -- sh -c 'mark; cat in in'
ran 3

say "--only-if-cached"
reset
hit --only-if-cached -- sh -c 'mark; cat in'
rm -f "$IO/report"
status=0
mlfs exec --only-if-cached --report "$IO/report" -- sh -c 'mark; echo never' >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 125
printed ""
ran 0
grep -q '^mlfs: ' "$IO/err" || fail "nothing was said"
same "$(wc -l <"$IO/err")" 1 "lines said"

say "--env: only these are in the key once named, with --clean-env"
reset
export A_ONE=1 A_TWO=2 B=3
miss --clean-env --env B -- sh -c 'mark; echo "$B"'
A_ONE=x
hit --clean-env --env B -- sh -c 'mark; echo "$B"'
B=4
miss --clean-env --env B -- sh -c 'mark; echo "$B"'
printed 4
miss --clean-env --env 'A_*' -- sh -c 'mark; echo ok'
A_TWO=y
miss --clean-env --env 'A_*' -- sh -c 'mark; echo ok'
B=5
hit --clean-env --env 'A_*' -- sh -c 'mark; echo ok'
ran 4
say "--env NAME=VALUE: as if it had this value"
reset
miss --env B=9 -- sh -c 'mark; echo ok'
B=6
hit --env B=9 -- sh -c 'mark; echo ok'
miss --env B=8 -- sh -c 'mark; echo ok'
ran 2
say "--env of a variable that is noise by default"
reset
miss --env SSH_TTY -- sh -c 'mark; echo t'
export SSH_TTY=/dev/pts/77
miss --env SSH_TTY -- sh -c 'mark; echo t'
unset SSH_TTY
hit --env SSH_TTY -- sh -c 'mark; echo t'
ran 2
say "--ignore-env"
reset
miss --ignore-env B -- sh -c 'mark; echo ok'
B=7
hit --ignore-env B -- sh -c 'mark; echo ok'
A_ONE=z
miss --ignore-env B -- sh -c 'mark; echo ok'
hit --ignore-env B -- sh -c 'mark; echo ok'
ran 2
reset
miss --ignore-env 'A_*' --ignore-env=B -- sh -c 'mark; echo two'
A_ONE=q A_TWO=r B=s
hit --ignore-env 'A_*' --ignore-env=B -- sh -c 'mark; echo two'
ran 1
unset A_ONE A_TWO B

say "--strict: what an earlier run left is an input"
reset
miss --strict -- sh -c 'mark; [ -e state ] && echo again || echo first; echo x >state'
printed first
miss --strict -- sh -c 'mark; [ -e state ] && echo again || echo first; echo x >state'
printed again
hit --strict -- sh -c 'mark; [ -e state ] && echo again || echo first; echo x >state'
printed again
rm state
hit --strict -- sh -c 'mark; [ -e state ] && echo again || echo first; echo x >state'
printed first
ran 2

say "--ignore: neither inputs nor outputs"
reset
echo 1 >noise.log
miss --ignore '*.log' -- sh -c 'mark; cat noise.log >/dev/null; echo t >own.log; echo r >result.txt'
echo 2 >noise.log
rm own.log result.txt
hit --ignore '*.log' -- sh -c 'mark; cat noise.log >/dev/null; echo t >own.log; echo r >result.txt'
[ -e result.txt ] || fail "result.txt was not restored"
[ ! -e own.log ] || fail "own.log was restored"
ran 1
reset
mkdir tmp
miss --ignore "$PWD/tmp" --ignore '*.log' -- sh -c 'mark; date +%N >tmp/now; ls tmp'
touch tmp/more
hit --ignore "$PWD/tmp" --ignore '*.log' -- sh -c 'mark; date +%N >tmp/now; ls tmp'
ran 1

say "--cache-failures"
reset
not_stored '*status*' =3 -- sh -c 'mark; echo bad >&2; exit 3'
not_stored '*status*' =3 -- sh -c 'mark; echo bad >&2; exit 3'
miss =3 --cache-failures -- sh -c 'mark; echo bad >&2; exit 3'
hit =3 --cache-failures -- sh -c 'mark; echo bad >&2; exit 3'
same "$(cat "$IO/err")" bad "stderr"
ran 3
say "a stored failure is not used without the option"
step =3 -- sh -c 'mark; echo bad >&2; exit 3'
same "$r_result" miss
ran 4

say "--salt"
reset
miss --salt a -- sh -c 'mark; cat in'
hit --salt a -- sh -c 'mark; cat in'
miss --salt b -- sh -c 'mark; cat in'
hit --salt a -- sh -c 'mark; cat in'
hit -- sh -c 'mark; cat in'
ran 2

say "--name"
miss -- sh -c 'echo name'
same "$r_name" sh
step --name train -- sh -c 'echo name'
same "$r_name" train

say "--report: argv, cwd, counts, times"
miss -- sh -c 'cat in >copy; echo é "\"q\""; : \\'
same "$r_argv" "$($python -c 'import json,sys; print(json.dumps(sys.argv[1:]))' sh -c 'cat in >copy; echo é "\"q\""; : \\')"
same "$r_cwd" "$PWD"
same "$r_outputs" 1
same "$r_output_bytes" 2
[ "$r_inputs" -ge 1 ] || fail "$r_inputs inputs"
$python -c "import sys; sys.exit(not 0 < $r_wall_seconds < 60)" || fail "wall_seconds $r_wall_seconds"
key=$r_input_key
matches "$r_step_key" '????????????????????????????????'
hit -- sh -c 'cat in >copy; echo é "\"q\""; : \\'
same "$r_input_key" "$key" "the key of the hit"
same "$r_outputs" 1
# On a busy machine the hit of so short a step may take longer than the step did: then nothing was saved.
$python -c "import sys; sys.exit(not 0 <= $r_saved_seconds < 60)" || fail "saved_seconds $r_saved_seconds"
say "--report - is stdout"
mlfs exec --report - -- true >"$IO/out"
$python -I -B "$cases/report.py" "$IO/out" >/dev/null
say "--report where it cannot be written: the step's status stays"
status=0
mlfs exec --report /nonexistent/report -- sh -c 'exit 4' 2>"$IO/err" || status=$?
same "$status" 4
grep -q '^mlfs: .*/nonexistent/report' "$IO/err" || fail "nothing was said"

say "-q and -v"
mlfs exec -q -- sh -c 'echo q' >"$IO/out" 2>"$IO/err"
same "$(cat "$IO/err")" "" "stderr under -q"
mlfs exec -- sh -c 'echo q' >"$IO/out" 2>"$IO/err"
same "$(cat "$IO/err")" "" "stderr that is no terminal"
mlfs exec -v -- sh -c 'echo v' >"$IO/out" 2>"$IO/err"
printed v
grep -q '^mlfs: miss sh' "$IO/err" || fail "-v says nothing of a miss"
mlfs exec -v -- sh -c 'echo v' >"$IO/out" 2>"$IO/err"
grep -q '^mlfs: hit sh [0-9a-f]\{8\} (saved ' "$IO/err" || fail "-v says nothing of a hit"
echo 2 >in
mlfs exec -v -- sh -c 'cat in' >"$IO/out" 2>"$IO/err"
mlfs exec -v --name n1 -- sh -c 'cat in' >"$IO/out" 2>"$IO/err"
grep -q '^mlfs: hit n1' "$IO/err" || fail "--name is not in the line"
echo 3 >in
mlfs exec -v -- sh -c 'cat in' >"$IO/out" 2>"$IO/err"
grep -q '^mlfs: miss .*in' "$IO/err" || fail "-v does not say why"

say "--cache, and MLFS_CACHE, XDG_CACHE_HOME, HOME in their order"
mlfs exec --cache "$IO/c1" -- true
[ -e "$IO/c1" ] || fail "--cache"
same "$(stat -c %a "$IO/c1")" 700 "mode of the cache"
(
	unset MLFS_CACHE
	XDG_CACHE_HOME=$IO/xdg mlfs exec -- true
	[ -d "$IO/xdg/mlfs" ] || fail "XDG_CACHE_HOME"
	HOME=$IO/home mlfs exec -- true
	[ -d "$IO/home/.cache/mlfs" ] || fail "HOME"
)

say "options end at the first word that is none"
miss -- sh -c 'echo "$@"' sh --salt x -q
mlfs exec sh -c 'echo "$@"' sh --no-such-option >"$IO/out"
printed --no-such-option

say "a configuration file: the same settings, an option wins"
mkdir -p "$MLFS_CACHE"
reset
printf 'salt = from-file\n' >"$IO/conf"
miss --config "$IO/conf" -- sh -c 'mark; echo conf'
hit --salt from-file -- sh -c 'mark; echo conf'
miss --config "$IO/conf" --salt other -- sh -c 'mark; echo conf'
MLFS_CONFIG="$IO/conf" mlfs exec --report "$IO/report" -- sh -c 'mark; echo conf' >"$IO/out"
grep -q '"result": *"hit"' "$IO/report" || fail "MLFS_CONFIG"
printf 'salt = from-file\n' >"$MLFS_CACHE/mlfs.conf"
hit -- sh -c 'mark; echo conf'
ran 2

say "--help and --version"
mlfs --version >"$IO/out"
matches "$(cat "$IO/out")" 'mlfs 0.*'
for command in --help 'exec --help'; do
	# shellcheck disable=SC2086
	mlfs $command >"$IO/out" 2>"$IO/err"
	same "$(cat "$IO/err")" "" "stderr of --help"
	same "$($python -c 'import sys; print(max(len(l.rstrip("\n")) for l in open(sys.argv[1])) <= 80)' "$IO/out")" True "80 columns"
done
