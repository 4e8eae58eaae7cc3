#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs forget: results that are dropped are not used again, and nothing else goes.
. "$(dirname "$0")/lib.sh"

# forget [=STATUS] ARGS…
forget()
{
	ask forget "$@"
}

step_of()
{
	step --name "$1" -- sh -c 'mark; cat in >"$0.out"; seq 1 2000 >>"$0.out"' "$2"
}

say "usage"
forget =1 --all
grep -q 'there is no cache' "$IO/err" || fail "no cache, and nothing is said"
echo 1 >in
step_of train a
first=$r_input_key
train_step=$r_step_key
step_of evaluate b
forget =2
forget =2 --all "$first"
forget =2 --all --name train
forget =2 --nam train
forget =2 xyz!
grep -q 'beginning of a key' "$IO/err" || fail "what is wrong with the key is not said"
forget =1 0123456789abcdef0123456789abcdef
forget =1 --name nobody
grep -q 'called nobody' "$IO/err" || fail "the name is not said"
forget --help
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"

say "one result, by the beginning of its key"
echo 2 >in
step_of train a
second=$r_input_key
forget --dry-run "$(printf %.10s "$first")"
grep -q "^would drop $(printf %.8s "$first") train (" "$IO/out" || fail "not said what would be dropped"
echo 1 >in
step_of train a
same "$r_result" hit
forget --json "$(printf %.10s "$first")"
$python -I -c '
import json, sys
r = json.load(open(sys.argv[1]))
assert r["results"] == 1 and r["dry_run"] is False and r["bytes"] > 1000, r
assert [(d["key"], d["name"]) for d in r["dropped"]] == [(sys.argv[2], "train")], r' "$IO/out" "$first"
forget =1 "$first"
step_of train a
same "$r_result" miss
same "$r_stored" true
echo 2 >in
step_of train a
same "$r_result" hit
same "$r_input_key" "$second"

say "all of a step"
forget "$(printf %.12s "$train_step")"
grep -q '^2 results dropped' "$IO/out" || fail "not two"
step_of train a
same "$r_result" miss
step_of evaluate b
same "$r_result" miss # other input

say "by name"
forget -q --name 'train'
printed ""
step_of evaluate b
same "$r_result" hit
step_of train a
same "$r_result" miss
forget --name 'tr*' --name evaluate
step_of train a
same "$r_result" miss

say "everything"
step_of evaluate b
forget --all --dry-run
grep -q '^2 results would be dropped' "$IO/out" || fail "not two"
forget --all
grep -q '^2 results dropped' "$IO/out" || fail "not two"
same "$(find "$MLFS_CACHE/cas" -type f | wc -l)" 0
forget --all
same "$(cat a.out)" "$(echo 2; seq 1 2000)" # what was made stays
mlfs fsck >"$IO/out" || fail "fsck finds something broken"
step_of train a
same "$r_result" miss
