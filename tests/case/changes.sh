#!/bin/sh
# SPDX-License-Identifier: MIT
# Files that were there before and are changed by the step (design 4): read and then changed, appended to, written
# in part, removed, renamed away; temporary files; listings without one's own names.
. "$(dirname "$0")/lib.sh"

reset()
{
	: >"$WITNESS/ran"
}

say "appended to: the earlier content is an input, so each run is another state"
echo 0 >log
miss -- sh -c 'mark; echo line >>log'
same "$(cat log)" "0
line"
miss -- sh -c 'mark; echo line >>log'
same "$(wc -l <log)" 3
echo 0 >log
hit -- sh -c 'mark; echo line >>log'
same "$(cat log)" "0
line"
ran 2

say "read and changed"
reset
echo 5 >counter
miss -- sh -c 'mark; n=$(cat counter); echo $((n + 1)) >counter'
same "$(cat counter)" 6
miss -- sh -c 'mark; n=$(cat counter); echo $((n + 1)) >counter'
echo 5 >counter
hit -- sh -c 'mark; n=$(cat counter); echo $((n + 1)) >counter'
same "$(cat counter)" 6
ran 2

say "written in part"
reset
printf aaaaaaaa >part
miss -- sh -c 'mark; printf BB | dd of=part bs=1 seek=3 conv=notrunc 2>/dev/null'
same "$(cat part)" aaaBBaaa
printf aaaaaaaa >part
hit -- sh -c 'mark; printf BB | dd of=part bs=1 seek=3 conv=notrunc 2>/dev/null'
same "$(cat part)" aaaBBaaa
printf cccccccc >part
miss_because '*part*' -- sh -c 'mark; printf BB | dd of=part bs=1 seek=3 conv=notrunc 2>/dev/null'
same "$(cat part)" cccBBccc
ran 2

say "removed: that it was there is an input, that it is gone an output"
reset
echo x >victim
miss -- sh -c 'mark; rm victim; echo removed'
[ ! -e victim ] || fail "victim is there"
echo y >victim
hit -- sh -c 'mark; rm victim; echo removed'
[ ! -e victim ] || fail "victim is there"
ran 1
step =1 -- sh -c 'mark; rm victim || exit 1; echo removed'
same "$r_result" miss

say "renamed away: its content is an input"
reset
echo one >old
miss -- sh -c 'mark; mv old new'
same "$(cat new)" one
rm new
echo one >old
hit -- sh -c 'mark; mv old new'
same "$(cat new)" one
[ ! -e old ] || fail "old is there"
echo two >old
miss -- sh -c 'mark; mv old new'
same "$(cat new)" two
ran 2

say "replaced as editors do: temporary name, then rename"
reset
echo 1 >doc
miss -- sh -c 'mark; echo new >doc.tmp$$; mv doc.tmp$$ doc'
echo 1 >doc
hit -- sh -c 'mark; echo new >doc.tmp$$; mv doc.tmp$$ doc'
same "$(cat doc)" new
rm doc
hit -- sh -c 'mark; echo new >doc.tmp$$; mv doc.tmp$$ doc'
same "$(cat doc)" new
ran 1

say "temporary files of random name"
reset
miss -- sh -c 'mark; t=$(mktemp); d=$(mktemp -d); echo a >$t; echo b >$d/x; cat $t $d/x >sum; rm -r $t $d'
hit -- sh -c 'mark; t=$(mktemp); d=$(mktemp -d); echo a >$t; echo b >$d/x; cat $t $d/x >sum; rm -r $t $d'
ran 1

say "a listing is compared without the names the step makes there"
reset
mkdir list
touch list/a list/b
miss -- sh -c 'mark; ls list >list/names; cat list/names >copy'
hit -- sh -c 'mark; ls list >list/names; cat list/names >copy'
rm list/names
hit -- sh -c 'mark; ls list >list/names; cat list/names >copy'
ran 1
touch list/c
miss_because '*list*' -- sh -c 'mark; ls list >list/names; cat list/names >copy'
ran 2

say "a directory made if missing"
reset
miss -- sh -c 'mark; mkdir -p made/deep; echo x >made/deep/x'
hit -- sh -c 'mark; mkdir -p made/deep; echo x >made/deep/x'
rm -r made
hit -- sh -c 'mark; mkdir -p made/deep; echo x >made/deep/x'
same "$(cat made/deep/x)" x
ran 1

say "a tree removed"
reset
mkdir -p gone/a/b
echo 1 >gone/a/b/f
miss -- sh -c 'mark; rm -r gone'
[ ! -e gone ] || fail "gone is there"
mkdir -p gone/a/b
echo 1 >gone/a/b/f
hit -- sh -c 'mark; rm -r gone'
[ ! -e gone ] || fail "gone is there"
ran 1

say "a hit's outputs are the inputs of the next step"
reset
echo 1 >src
miss -- sh -c 'mark; cp src mid'
miss -- sh -c 'mark; cp mid end'
echo 2 >src
miss -- sh -c 'mark; cp src mid'
miss -- sh -c 'mark; cp mid end'
echo 1 >src
hit -- sh -c 'mark; cp src mid'
hit -- sh -c 'mark; cp mid end'
same "$(cat end)" 1
ran 4

say "an input changed by somebody else meanwhile: not stored"
reset
echo before >shared
mkfifo "$WITNESS/go" "$WITNESS/ready"
(
	await ready
	echo after >shared
	echo go >"$WITNESS/go"
) &
not_stored '*shared*' -- sh -c 'mark; cat shared; echo r >$WITNESS/ready; read x <$WITNESS/go; echo end'
wait
same "$(cat shared)" after
ran 1
