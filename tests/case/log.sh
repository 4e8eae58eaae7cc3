#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs log: every run is there, as its report says; filters; what it looks like on a terminal.
. "$(dirname "$0")/lib.sh"

say "there is no cache yet"
status=0
mlfs log >"$IO/out" 2>&1 || status=$?
same "$status" 1 "status"
printed "mlfs: there is no cache at $MLFS_CACHE"
mlfs exec --no-cache -- true
[ ! -e "$MLFS_CACHE" ] || fail "--no-cache made a cache"
mlfs exec -q -- true
same "$(mlfs log --json | wc -l)" 3 "lines for one run"
rm -r "$MLFS_CACHE"
mlfs exec -q --cache "$MLFS_CACHE" --read-only -- true
rm "$MLFS_CACHE"/index/runs*

for n in $(seq 30); do
	kept uncached '--no-cache' --no-cache -- echo "$n"
done
cat >work.sh <<'EOF'
cat "data/$1"
echo "made of $1" >"out-$1"
exit "$2"
EOF
mkdir data
echo 1 >data/a
echo 2 >data/b
for n in a b; do
	kept miss -- sh work.sh $n 0
	kept hit -- sh work.sh $n 0
done
for n in 1 2 3 4 5; do
	kept miss --name "many$n" -- sh -c "echo $n"
	kept hit --name "many$n" -- sh -c "echo $n"
done
echo 3 >data/a
kept miss_because 'data/a changed' -- sh work.sh a 0
kept hit -- sh work.sh a 0
kept not_stored '*exit status was 3' =3 -- sh work.sh b 3
kept miss =4 --cache-failures -- sh work.sh b 4
kept hit =4 --cache-failures -- sh work.sh b 4
kept uncached '--no-cache' --no-cache -- sh work.sh a 0
echo 4 >data/b
kept step =125 --only-if-cached -- sh work.sh b 0
same "$r_result" miss
kept step --read-only -- sh work.sh b 0
same "$r_stored" false
kept miss -- sh work.sh b 0
kept miss_because 'expired *' --expire-after PT0S -- sh work.sh b 0
kept miss_because '--refresh' --refresh -- sh work.sh b 0
kept hit --verify -- sh work.sh b 0
kept hit --name "$(printf 'odd\nna\033[1mme with a %090d' 1)" -- sh work.sh a 0
$python -B "$cases/history.py" log
$python -B "$cases/history.py" filters

say "on a terminal"
$python -B "$cases/history.py" screen

say "who uses this file?"
names()
{
	mlfs log -n0 --json "$@" | $python -c 'import json, sys; print(len(json.load(sys.stdin)))'
}
n=$(names --reads data/b)
[ "$n" -gt 3 ] || fail "data/b was read $n times"
same "$(names --reads "$PWD/data/../data/b")" "$n"
same "$(cd data && names --reads ./b)" "$n"
same "$(names --reads data/b --name 'many*')" 0
same "$(names --reads data/c)" 0
[ "$(names --writes out-b)" -gt 1 ] || fail "nobody wrote out-b"
same "$(names --writes out-b --result uncached)" 0
same "$(names --writes data/b)" 0
rm -r data
same "$(names --reads data/b)" "$n"
mkdir data

say "with which parameters?"
for lr in 0.1 0.2 0.25; do
	LR=$lr SEED=1 mlfs exec -- sh -c 'echo "$LR" >model'
done
LR=0.1 SEED=2 mlfs exec -- sh -c 'echo "$LR" >model'
same "$(names --env LR=0.1)" 2
same "$(names --env 'LR=0.2*')" 2
same "$(names --env LR=0.1 --env SEED=2)" 1
same "$(names --env LR=0.1 --result hit)" 0
same "$(names --env R=0.1)" 0
mlfs log --env LR >"$IO/out" 2>"$IO/err" && fail "--env without a value is taken"
grep -q "'LR' is not NAME=GLOB" "$IO/err" || fail "what is wrong is not said: $(cat "$IO/err")"

say "what takes the place of mlfs leaves what is known before"
mlfs exec --no-cache -- true
mlfs log -n1 --json >"$IO/out"
grep -q '"result": "uncached", .*"exit_status": null, "wall_seconds": null' "$IO/out" || fail "another run"
mlfs log -n1 | grep -q 'uncached  true  *-  ' || fail "another line: $(mlfs log -n1)"
mlfs exec --read-only -- sh -c 'exit 0'
mlfs log -n1 --json | grep -q '"result": "miss", "stored": false, "reason": "not seen before"' || fail "no reason"

say "a cache that is not ours, or of a newer mlfs, is not written to"
mkdir -p "$IO/other/index" "$IO/newer/index"
printf 'mlfs cache 999\n' >"$IO/newer/version"
touch "$IO/other/notes"
for cache in other newer; do
	mlfs exec --cache "$IO/$cache" --no-cache -- true
	mlfs exec --cache "$IO/$cache" -q -- true
	same "$(ls "$IO/$cache/index")" "" "$cache"
done

say "settings"
all=$(names)
echo 'keep-runs = PT0S' >"$MLFS_CACHE/mlfs.conf"
same "$(names)" 0
same "$(names --keep-runs never)" "$all"
echo 'keep-runs = soon' >"$MLFS_CACHE/mlfs.conf"
status=0
mlfs log 2>"$IO/err" || status=$?
same "$status" 2
matches "$(cat "$IO/err")" "*mlfs.conf:1: setting 'keep-runs': 'soon' is not a duration*"
rm "$MLFS_CACHE/mlfs.conf"

say "wrong words"
# bad PATTERN ARGS…
bad()
{
	pattern=$1
	shift
	status=0
	mlfs log "$@" >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" 2 "status of: $*"
	printed ''
	same "$(wc -l <"$IO/err")" 1 "lines"
	# shellcheck disable=SC2254
	matches "$(cat "$IO/err")" "$pattern"
}
bad "mlfs: unknown option '--reslut'; did you mean '--result'?" --reslut hit
bad "mlfs: option '--result': 'hits' is none of hit, miss, uncached, stored, not-stored" --result hits
bad "mlfs: option '--since': '2026-13-01' is no time, such as P7D*" --since 2026-13-01
bad "mlfs: option '--until': 'noon' is no time*" --until noon
bad "mlfs: unexpected argument 'hit'*" hit
bad "mlfs: option '--count': *" -n many
bad "mlfs: option '--step': 'xyz' is no key*" --step xyz
