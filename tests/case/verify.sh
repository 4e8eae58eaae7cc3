#!/bin/sh
# SPDX-License-Identifier: MIT
# --verify: a hit is run all the same, and what it leaves is compared with what the cache has.
#
# What makes a step differ comes from $WITNESS, which the view does not trace: no input says so.
. "$(dirname "$0")/lib.sh"

# once ARGS…: the first run, which is stored. verified, differs, unsure: the second one, with --verify.
once()
{
	echo 1 >"$WITNESS/n"
	: >"$WITNESS/ran"
	miss "$@"
	echo 2 >"$WITNESS/n"
}

verified()
{
	step --verify "$@"
	same "$r_result" hit "result of: $*"
	same "$r_stored" false "stored, of: $*"
	same "$r_verified" true "verified, of: $*"
	! grep '^mlfs: ' "$IO/err" || fail "something was said: $*"
}

# differs PATTERN ARGS…: there is one difference, "path|what|offset|cause|text"
differs()
{
	pattern=$1
	shift
	step =125 --verify "$@"
	same "$r_result" hit "result of: $*"
	same "$r_stored" false "stored, of: $*"
	same "$r_verified" false "verified, of: $*"
	matches "$r_differences" "$pattern" "differences of: $*"
	grep -q '^mlfs: differs: ' "$IO/err" || fail "no difference was told: $*"
	grep -q '^mlfs: differs .*from the cached result' "$IO/err" || fail "the result was not told: $*"
}

# unsure PATTERN ARGS…: nothing differs, but that proves nothing
unsure()
{
	pattern=$1
	shift
	step --verify "$@"
	same "$r_result" hit "result of: $*"
	same "$r_verified" "" "verified, of: $*"
	matches "$r_reason" "$pattern" "reason of: $*"
	grep -q '^mlfs: not verified ' "$IO/err" || fail "that it is not verified was not told: $*"
}

echo 1 >in

say "a step that does the same again"
once -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
verified -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
same "$r_outputs_written" 3
printed said
ran 2
say "it really ran, from what was there: outputs that are gone are made again"
rm -r out link d
verified -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
same "$(cat out d/f)" "1
x"
ran 3
say "a plain hit afterwards runs nothing"
hit -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
ran 3
say "a miss runs and stores, as without --verify"
echo 2 >in
miss --verify -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
same "$r_verified" "" "verified, of a miss"
matches "$r_reason" 'in changed'
hit -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
say "an output that somebody edited: a miss as well"
echo edited >out
miss --verify -- sh -c 'mark; cat in >out; ln -sf out link; mkdir -p d; echo x >d/f; echo said; echo also >&2'
matches "$r_reason" '*out was changed since*'

say "a timestamp"
once -- sh -c 'date --iso-8601=ns >out'
differs "$PWD/out|content|*|a timestamp|at offset * (line 1): a timestamp (\"20* then, \"20* now)" \
	-- sh -c 'date --iso-8601=ns >out'
grep -q '^mlfs: differs: out: at offset ' "$IO/err" || fail "the path is not relative"
once -- sh -c 'date +%s%N'
differs "None|stdout|*|a timestamp|*" -- sh -c 'date +%s%N'
# shellcheck disable=SC2016
tarred='touch -d "2026-01-02 03:04:0$(cat "$WITNESS/n")" f; tar cf out.tar f'
once --ignore f -- sh -c "$tarred"
differs "*/out.tar|content|*|a timestamp in a tar header *|*2026-01-02T03:04:01Z then, 2026-01-02T03:04:02Z now)" \
	--ignore f -- sh -c "$tarred"
say "a random seed"
once -- $python -I -c 'import random; print("x =", random.random())'
differs "None|stdout|*random seed*" -- $python -I -c 'import random; print("x =", random.random())'
verified_seed='import random; random.seed(7); print("x =", random.random())'
once -- $python -I -c "$verified_seed"
verified -- $python -I -c "$verified_seed"
say "random bytes"
once -- sh -c 'head -c 3000 /dev/urandom >out'
differs "*/out|content|*|random, *" -- sh -c 'head -c 3000 /dev/urandom >out'
say "an address"
once -- $python -I -c 'print(object())'
differs "None|stdout|*|an address*|*0x* then, *0x* now)" -- $python -I -c 'print(object())'
say "an ordering"
sets='import sys; open("out", "w").write(repr(set("abcdefghijklmnopqrstuvwxyz")))'
once -- $python -E -c "$sets"
differs "*/out|content|*|an ordering: the same words*" -- $python -E -c "$sets"
# shellcheck disable=SC2016
lines='for i in 1 2 3 4; do echo "$i $i"; done | if [ "$(cat "$WITNESS/n")" = 1 ]; then sort; else sort -r; fi >out'
once -- sh -c "$lines"
differs "*/out|content|0|an ordering: the same lines*|at offset 0 (line 1)*" -- sh -c "$lines"
say "where nothing is plain nothing is guessed"
# shellcheck disable=SC2016
once -- sh -c 'echo "left $(cat "$WITNESS/n") over" >out'
# shellcheck disable=SC2016
differs "*/out|content|5|None|at offset 5 (line 1): \"1\" then, \"2\" now" \
	-- sh -c 'echo "left $(cat "$WITNESS/n") over" >out'

say "the cached result stays: the next run is a hit, and puts it back"
same "$(cat out)" "left 2 over" "what the step left"
# shellcheck disable=SC2016
hit -- sh -c 'echo "left $(cat "$WITNESS/n") over" >out'
same "$(cat out)" "left 1 over" "what the hit left"
say "--refresh replaces it"
# shellcheck disable=SC2016
miss --refresh -- sh -c 'echo "left $(cat "$WITNESS/n") over" >out'
# shellcheck disable=SC2016
verified -- sh -c 'echo "left $(cat "$WITNESS/n") over" >out'

# n FIRST SECOND: a step that does one or the other
two()
{
	# shellcheck disable=SC2016
	printf 'if [ "$(cat "$WITNESS/n")" = 1 ]; then %s; else %s; fi' "$1" "$2"
}
# one PATTERN FIRST SECOND: the difference between the two
one()
{
	rm -rf out*
	once -- sh -c "$(two "$2" "$3")"
	rm -rf out*
	differs "$1" -- sh -c "$(two "$2" "$3")"
}

say "what else can differ of an output"
one '*/out|mode|None|None|mode 0600 then, 0755 now' 'echo x >out; chmod 600 out' 'echo x >out; chmod 755 out'
one '*/out|target|None|None|points to a then, to b now' 'ln -s a out' 'ln -s b out'
one '*/out|type|None|None|a file then, a directory now' 'echo x >out' 'mkdir out'
one '*/out|missing|*' 'echo x >out' 'rm -f out'
one '*/out2|extra|None|None|was made now, not then' 'echo x >out' 'echo x >out; echo y >out2'
one '*/out2|links|None|None|was a hard link of */out then, not now' 'echo x >out; ln -f out out2' 'echo x >out; rm -f out2; echo x >out2'
one '*/out2|links|None|None|is a hard link of */out now, not then' 'echo x >out; echo x >out2' 'echo x >out; ln -f out out2'
one '*/out|content|2|None|at offset 2 (line 2), 2 bytes then, 4 now: the end, "b" now' 'echo a >out' 'echo a >out; echo b >>out'
if setfattr -n user.t -v 1 in 2>/dev/null; then
	setfattr -x user.t in
	one '*/out|xattrs|*' 'echo x >out; setfattr -n user.t -v 1 out' 'echo x >out; setfattr -n user.t -v 2 out'
fi
# What was there before
echo old >o1
one '*/out|not removed|*' 'echo x >out; rm out' 'echo x >out'
one '*/o1|extra|None|None|was changed now, not then' 'cat o1 >out' 'cat o1 >out; echo new >o1'
echo old >o1
one '*/o1|removed|*' ':' 'rm o1'
echo old >o1
say "written again as it was: nothing differs"
once -- sh -c "$(two 'cat o1' 'cat o1; echo old >o1')"
verified -- sh -c "$(two 'cat o1' 'cat o1; echo old >o1')"

say "names drawn at random"
one '*/out.f00dcafe|extra|None|a random name|*its name holds a random name (*beef1234* then, *f00dcafe* now)*' \
	'echo x >out.beef1234' 'echo x >out.f00dcafe'

say "console and status"
one 'None|stderr|4|None|at offset 4 (line 2): "c" then, "d" now' 'echo a; echo b; echo abc >&2; echo c >&2' 'echo a; echo abc >&2; echo d >&2; echo b'
one 'None|stdout|*' 'echo a' 'echo b'
rm -f "$IO/report"
echo 1 >"$WITNESS/n"
mlfs exec -- sh -c "$(two 'echo a; echo b >&2' 'echo b >&2; echo a')" >"$IO/out" 2>&1
echo 2 >"$WITNESS/n"
status=0
mlfs exec --verify --report "$IO/report" -- sh -c "$(two 'echo a; echo b >&2' 'echo b >&2; echo a')" >"$IO/out" 2>&1 || status=$?
same "$status" 125 "status where both streams are one"
grep -q '"what": "console"' "$IO/report" || fail "no difference of the joined streams"
once -- sh -c "$(two : 'exit 3')"
differs 'None|exit status|None|None|0 then, 3 now' -- sh -c "$(two : 'exit 3')"
echo 1 >"$WITNESS/n"
miss =3 --cache-failures -- sh -c 'echo x >out; exit 3'
step =3 --cache-failures --verify -- sh -c 'echo x >out; exit 3'
same "$r_verified" true "the same failure again"

say "several at once, all listed"
step_two="$(two 'echo a >out; echo a >o2; echo a' 'echo b >out; echo b >o2; echo b')"
once -- sh -c "$step_two"
step =125 --verify -- sh -c "$step_two"
same "$(echo "$r_differences" | cut -d'|' -f2 | sort | tr '\n' ' ')" "content content stdout "
same "$(grep -c '^mlfs: differs: ' "$IO/err")" 3 "lines"
matches "$r_reason" 'differs from the cached result: * (and 2 more)'
say "-q does not hide them"
step =125 -q --verify -- sh -c "$step_two"
same "$(grep -c '^mlfs: differs: ' "$IO/err")" 3 "lines under -q"

say "a step that finds its outputs and skips: nothing differs, and it is said that nothing was made"
once -- sh -c 'mark; [ -e made ] || cat in >made'
verified -- sh -c 'mark; [ -e made ] || cat in >made'
same "$r_outputs_written" 0
mlfs exec -v --verify -- sh -c 'mark; [ -e made ] || cat in >made' 2>"$IO/err"
grep -q '^mlfs: verified sh .*1 output is the same, 1 of them stood there and was not written again' "$IO/err" ||
	fail "nothing is said of what was not written"
rm made
verified -- sh -c 'mark; [ -e made ] || cat in >made'
same "$r_outputs_written" 1
say "… and that a step fails over what it made itself is a difference, with a hint"
once -- sh -c 'ln -s in made2'
differs 'None|exit status|None|None|0 then, 1 now*' -- sh -c 'ln -s in made2'
grep -q '^mlfs: note: 1 of its 1 outputs stood there and was not written again' "$IO/err" || fail "no hint"
rm made2
verified -- sh -c 'ln -s in made2'
say "… and one that keeps what it made of another input is caught: a hit would replace it"
# shellcheck disable=SC2016
keeps='read -r x <in; [ -e made ] || echo "$x" >made'
rm -f made
once -- sh -c "$keeps"
cp in saved
echo other >in
rm made
once -- sh -c "$keeps"
cp saved in
differs '*/made|content|0|None|*"2" then, "other" now' -- sh -c "$keeps"

say "an object that somebody changed"
once -- sh -c 'seq 20000 >big'
object=$(find "$MLFS_CACHE/cas" -type f -size "$(stat -c %s big)c")
[ -n "$object" ] || fail "no object"
chmod u+w "$object"
printf X | dd of="$object" bs=1 seek=70000 conv=notrunc status=none
differs '*/big|damaged|None|None|its object in the cache is damaged: not what the step left, from offset 70000 on' -- sh -c 'seq 20000 >big'
grep -q 'which was damaged and is dropped' "$IO/err" || fail "that it is dropped is not said"
miss -- sh -c 'seq 20000 >big'
verified -- sh -c 'seq 20000 >big'
object=$(find "$MLFS_CACHE/cas" -type f -size "$(stat -c %s big)c")
rm -f "$object"
differs '*/big|damaged|*missing*' -- sh -c 'seq 20000 >big'

say "a large one: the offset is told, nothing runs out"
once -- sh -c "$(two 'head -c 40000000 /dev/zero >big' 'head -c 39999999 /dev/zero >big; printf x >>big')"
differs '*/big|content|39999999|None|*too large to be searched*' -- \
	sh -c "$(two 'head -c 40000000 /dev/zero >big' 'head -c 39999999 /dev/zero >big; printf x >>big')"
rm big

say "a run that could not have been stored proves nothing"
mkfifo "$WITNESS/go" "$WITNESS/there"
# shellcheck disable=SC2016
slow='cat in; if [ "$(cat "$WITNESS/n")" = 2 ]; then echo here >"$WITNESS/there"; read -r x <"$WITNESS/go"; fi'
once -- sh -c "$slow"
cp -p in saved
(
	await there
	echo 3 >in
	echo on >"$WITNESS/go"
) &
unsure '*not verified: *in was changed by another process*' -- sh -c "$slow"
wait
cp -p saved in
# shellcheck disable=SC2016
busy='if [ "$(cat "$WITNESS/n")" = 2 ]; then sleep 1000 >/dev/null 2>&1 & echo $! >"$WITNESS/pid"; fi; echo x >out'
once -- sh -c "$busy"
unsure '*not verified: *still running (sleep*' -- sh -c "$busy"
kill "$(cat "$WITNESS/pid")"
say "… unless it shows a difference"
# shellcheck disable=SC2016
busy='if [ "$(cat "$WITNESS/n")" = 2 ]; then sleep 1000 >/dev/null 2>&1 & echo $! >"$WITNESS/pid"; fi; cat "$WITNESS/n" >out'
once -- sh -c "$busy"
differs '*/out|content|0|*' -- sh -c "$busy"
kill "$(cat "$WITNESS/pid")"
grep -q '^mlfs: note: the run could not have been stored: .*still running' "$IO/err" || fail "the reason is not told"
# shellcheck disable=SC2016
net='import os, socket
if open(os.environ["WITNESS"] + "/n").read() == "2\n": socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))'
once -- $python -I -c "$net"
unsure '*not verified: network was used*' -- $python -I -c "$net"
verified --allow-network -- $python -I -c "$net"

say "what it looks at is only noted"
# shellcheck disable=SC2016
probe='[ -e "probe-$(cat "$WITNESS/n")" ] || echo x >out'
once -- sh -c "$probe"
rm out
verified -- sh -c "$probe"
matches "$r_notes" "*looked at 1 path that it did not look at then: $PWD/probe-2*"

say "so are times that it sets: they are no observations"
# shellcheck disable=SC2016
times='echo x >out; touch -d "2020-01-01 00:00:0$(cat "$WITNESS/n")" out'
once -- sh -c "$times"
verified -- sh -c "$times"
matches "$r_notes" "*it set another time than then of 1 output: $PWD/out*"

say "standard input is the step's"
printf 'a\nb\n' >"$IO/in"
echo 1 >"$WITNESS/n"
# shellcheck disable=SC2002
cat "$IO/in" | mlfs exec -- sh -c 'read -r x; echo "$x" >out'
# shellcheck disable=SC2002
rest=$(cat "$IO/in" | { mlfs exec --verify --report "$IO/report" -- sh -c 'read -r x; echo "$x" >out' && cat; })
grep -q '"verified": true' "$IO/report" || fail "with standard input: $(cat "$IO/report")"
same "$rest" b "what was left of standard input"

say "what a terminal is told"
script -qec 'mlfs exec -- sh -c "cat in >out"' /dev/null >/dev/null
script -qec 'mlfs exec --verify -- sh -c "cat in >out"' /dev/null >"$IO/out"
grep -q '^mlfs: verified sh [0-9a-f]\{8\} (took [^)]*).$' "$IO/out" || fail "nothing is said of a verified hit"
script -qec 'mlfs exec -- sh -c "[ -e out ] || cat in >out"' /dev/null >/dev/null
rm out
script -qec 'mlfs exec -- sh -c "[ -e out ] || cat in >out"' /dev/null >/dev/null
script -qec 'mlfs exec --verify -- sh -c "[ -e out ] || cat in >out"' /dev/null >"$IO/out"
grep -q '^mlfs: verified .*not written again' "$IO/out" || fail "nothing is said of what stood there"

say "in a step of another mlfs: a difference found there is no result to keep"
# shellcheck disable=SC2016
inner='mlfs exec --verify -- sh -c "cat \"$WITNESS/n\" >out" 2>/dev/null || echo "status $?"'
echo 1 >"$WITNESS/n"
rm -f out
miss -- sh -c "$inner"
printed ""
echo 2 >"$WITNESS/n"
rm out
not_stored '*--verify*' --refresh -- sh -c "$inner"
printed "status 125"

say "with the other options"
once -- sh -c 'mark; cat in >out'
verified --read-only -- sh -c 'mark; cat in >out'
ran 2
not_stored '*' --read-only --verify -- sh -c 'mark; cat in in >out'
ran 3
rm out # nobody knows who wrote this one
for other in --refresh --no-cache --only-if-cached; do
	status=0
	mlfs exec --verify $other -- true 2>"$IO/err" || status=$?
	same "$status" 125 "status of --verify $other"
	grep -q '^mlfs: .*exclude each other' "$IO/err" || fail "--verify $other"
done
say "mlfs.conf: verify = yes, and the command line wins"
echo 'verify = yes' >"$IO/conf"
: >"$WITNESS/ran"
step --config "$IO/conf" -- sh -c 'mark; cat in >out'
same "$r_verified" true "verify = yes"
hit --config "$IO/conf" --verify=no -- sh -c 'mark; cat in >out'
hit --config "$IO/conf" --only-if-cached -- sh -c 'mark; cat in >out'
ran 1
miss --config "$IO/conf" --refresh -- sh -c 'mark; cat in >out'
echo 'no-cache = yes' >>"$IO/conf"
uncached '*' --config "$IO/conf" -- sh -c 'mark; cat in >out'
step --config "$IO/conf" --verify -- sh -c 'mark; cat in >out'
same "$r_verified" true "--verify overrules no-cache = yes"
