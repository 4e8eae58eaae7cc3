#!/bin/sh
# SPDX-License-Identifier: MIT
# With many runs and results recorded, log, show, stats, explain, a hit and a miss look at no more of them than with few. What is
# counted are records and rows, not time. A look-up reads path sets until one fits, and results only as far as needed to say why none does.
. "$(dirname "$0")/lib.sh"

command -v index-fill >"$IO/null" || skip "no index-fill beside this mlfs"
FEW=5000 MANY=20000

# count CACHE NAME WORDS…: records of the index, rows and runs of the history that `mlfs WORDS` looks at.
count()
{
	cache=$1 name=$2
	shift 2
	MLFS_DEBUG=1 mlfs "$@" --cache "$cache" >"$IO/out" 2>"$IO/err" || [ $? -eq 1 ] || fail "$* does not work"
	sums "$cache" "$name"
}

sums()
{
	awk '/index: .* records looked at/ { records += $(NF - 3) }
		/history: .* looked at/ { rows += $(NF - 5); runs += $(NF - 3); made += $(NF - 8) }
		END { print records + 0, rows + 0, runs + 0, made + 0 }' "$IO/err" >"$1.$2"
}

# At most a tenth and 20 more: pages of a list, another segment.
bounded()
{
	read -r records rows runs made <"$IO/$FEW.$1"
	read -r records2 rows2 runs2 made2 <"$IO/$MANY.$1"
	echo "$1: records $records $records2, rows $rows $rows2, runs $runs $runs2, made $made $made2"
	[ $((records + rows)) -gt 0 ] || fail "$1: nothing was counted"
	[ "$records2" -le $((records + records / 10 + 20)) ] || fail "$1: too many records"
	[ "$runs2" -le $((runs + 20)) ] || fail "$1: too many runs"
	# Rows are made of what was added after the last segment was closed, 4 MB at most.
	[ "$made2" -le 40000 ] || fail "$1: too many rows made"
	# Sums are of all runs, and so is the search for the last miss of a step: 72 bytes a run, 25 to 60 ms of a million.
	[ "$1" = stats ] || [ "$1" = explain ] || [ "$rows2" -le $((rows + rows / 10 + 20)) ] || fail "$1: too many rows"
}

for n in $FEW $MANY; do
	cache=$IO/$n
	mkdir "parts$n"
	mlfs exec --cache "$cache" --report "$IO/report" -- true
	key=$($python -c 'import json, sys; print(json.load(open(sys.argv[1]))["step_key"])' "$IO/report")
	index-fill fill "$cache" "$key" "$n" $((n / 10)) "$PWD/parts$n" 2>"$IO/null"
	index-fill runs "$cache" "$n" 90
	result=$(mlfs show --cache "$cache" --json "$key" | $python -c 'import json, sys; print(json.load(sys.stdin)["key"])')
	count "$cache" log log -n 20
	count "$cache" named log -n 20 --name 'step-007.py'
	count "$cache" show show "$result"
	count "$cache" step show "$key"
	count "$cache" stats stats
	count "$cache" explain explain "$result"
	MLFS_DEBUG=1 mlfs explain --cache "$cache" -- true >"$IO/out" 2>"$IO/err" || [ $? -eq 1 ]
	sums "$cache" command
	MLFS_DEBUG=1 mlfs exec --cache "$cache" --only-if-cached -- true >"$IO/out" 2>"$IO/err" || [ $? -eq 125 ]
	sums "$cache" miss
	mlfs exec --cache "$cache" -- true
	mlfs exec --cache "$cache" -- true
	rm -f "$cache/index/stamps"
	MLFS_DEBUG=1 mlfs exec -v --cache "$cache" -- true >"$IO/out" 2>"$IO/err"
	grep -q 'mlfs: hit' "$IO/err" || fail "no hit"
	sums "$cache" lookup
	MLFS_DEBUG=1 mlfs exec -v --cache "$cache" -- true >"$IO/out" 2>"$IO/err"
	sums "$cache" hit
done
# The step's list, the path set that fits, its result, what its output's place was left with: not all 64 path sets.
for n in $FEW $MANY; do
	read -r records rest <"$IO/$n.lookup"
	[ "$records" -le 12 ] || fail "a hit without its stamp looks at $records records"
done

# Sixty results that differ in one file each: the one stored last says it all, so no other is looked at.
cache=$IO/sixty
for i in $(seq 60); do
	echo "$i" >differs
	mlfs exec --cache "$cache" -- sh -c 'read -r line <differs && echo "$line"' >"$IO/null"
done
echo other >differs
MLFS_DEBUG=1 mlfs exec --cache "$cache" --only-if-cached -- sh -c 'read -r line <differs && echo "$line"' >"$IO/out" 2>"$IO/err" ||
	[ $? -eq 125 ]
grep -qx 'mlfs: no hit: differs changed' "$IO/err" || fail "another reason: $(cat "$IO/err")"
sums "$cache" differs
read -r records rest <"$cache.differs"
echo "differs: records $records"
[ "$records" -le 20 ] || fail "a miss that differs in one file looks at $records records"

for what in log named show step stats explain command miss lookup hit; do
	bounded $what
done
