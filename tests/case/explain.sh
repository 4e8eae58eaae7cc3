#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs explain: each kind of difference is named, against the nearest result, and mlfs exec says the same.
. "$(dirname "$0")/lib.sh"

# explain [=STATUS] ARGS…
explain()
{
	ask explain "$@"
}

has_not()
{
	! grep -qE -- "$1" "$IO/out" || fail "mlfs explain says '$1'"
}

# differs LINE… -- [OPTIONS] -- COMMAND…: it would not be a hit; just these things differ from the nearest result (regular
# expressions, in the order shown); and exec, asked the same, has the same reason.
differs()
{
	: >"$IO/lines"
	while [ "$1" != -- ]; do
		echo "$1" >>"$IO/lines"
		shift
	done
	shift
	mlfs explain --json "$@" >"$IO/json" 2>"$IO/err" && fail "it would be a hit: $*"
	same "$(wc -c <"$IO/err")" 0 "bytes of messages"
	mlfs exec --report "$IO/report" --only-if-cached "$@" >"$IO/out" 2>"$IO/err" && fail "exec has a hit: $*"
	$python -I -c '
import json, re, sys
x, r = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
lines = open(sys.argv[3]).read().splitlines()
def why(o):
    return re.sub("expired .* ago", "expired", o["reason"]) # time goes on
assert x["hit"] is False and why(x) == why(r), (x["reason"], r["reason"])
assert x["step_key"] == r["step_key"] and x["argv"] == r["argv"] and x["cwd"] == r["cwd"], x
got = [d["text"] for d in x["nearest"][0]["differences"]]
assert len(got) == len(lines), got
for line, text in zip(lines, got):
    assert re.fullmatch(line, text), (line, got)' "$IO/json" "$IO/report" "$IO/lines" || fail "explain $*"
}

# alike ARGS…: it would be a hit, and is one
alike()
{
	explain "$@"
	has 'would be a hit'
	hit "$@"
}

say "usage"
explain =1 -- true
grep -q '^mlfs: there is no cache at ' "$IO/err" || fail "no cache, and it is not said"
explain =2 --jsn
grep -q "did you mean '--json'" "$IO/err" || fail "the right word is not named"
explain =2 --strct -- true
grep -q "did you mean '--strict'" "$IO/err" || fail "the right option of exec is not named"
explain =2 --
explain =2 a b
explain --help
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"

say "nothing of the kind is recorded"
miss -- true
explain =1 -- sh -c 'exit 0'
has 'would not be a hit: not seen before$'
explain
has_not 'against'

mkdir conf dir
printf 'first line\n' >data.csv
ln -s data.csv link
echo old >conf/old
: >dir/name
cat >step.sh <<'END2'
cat link
[ ! -e conf/local.yaml ] || echo local
[ ! -e conf/old ] || cat conf/old
ls dir
echo "$LR" >model.bin
END2
export LR=0.1
miss -- sh step.sh
nearest=$r_input_key
alike -- sh step.sh

say "content, and when it was changed"
printf 'first line, and more\n' >data.csv
differs 'data.csv: content changed \(11 B → 21 B, modified [0-9]+:[0-9]+\)' -- -- sh step.sh
printf 'First line\n' >data.csv
differs 'data.csv: content changed \(11 B, modified [0-9]+:[0-9]+\)' -- -- sh step.sh
printf 'first line\n' >data.csv
alike -- sh step.sh

say "absent and there"
echo x >conf/local.yaml
differs 'conf/local.yaml: was absent, now exists' -- -- sh step.sh
rm conf/local.yaml conf/old
differs 'conf/old: existed, now absent' -- -- sh step.sh
mkdir conf/old
differs 'conf/old: was a file, now a directory' -- -- sh step.sh
rmdir conf/old
echo old >conf/old

say "names in a listing"
touch dir/foo.py
differs 'dir: new name foo.py in a listed directory' -- -- sh step.sh
rm dir/name
differs 'dir: new name foo.py in a listed directory, name name gone from a listed directory' -- -- sh step.sh
rm dir/foo.py
mkdir dir/name
differs 'dir: name name of another type in a listed directory' -- -- sh step.sh
rmdir dir/name
touch dir/name dir/a dir/b dir/c dir/d dir/e dir/f dir/g
differs 'dir: new names a, b, c, d, e and 2 more in a listed directory' -- -- sh step.sh
rm dir/[a-g]

say "mode, link"
chmod 600 data.csv
differs 'data.csv: mode 0644 → 0600' -- -- sh step.sh
chmod 644 data.csv
cp data.csv other.csv
ln -sfn other.csv link
differs 'link: link target data.csv → other.csv' -- -- sh step.sh
ln -sfn data.csv link
alike -- sh step.sh

say "an output that somebody edited"
echo mine >>model.bin
differs 'output model.bin was edited since \(4 B → 9 B, modified [0-9]+:[0-9]+\)' -- -- sh step.sh
differs 'expired .* ago' 'output model.bin was edited since .*' -- --expire-after PT0S -- sh step.sh
echo 0.1 >model.bin
miss --name two -- sh -c 'echo 1 >one; echo 2 >two'
echo mine | tee -a one >>two
differs 'output one was edited since \(2 B → 7 B, .*' 'output two was edited since .*' -- --name two -- \
	sh -c 'echo 1 >one; echo 2 >two'
rm one two

say "several at once, the nearest result first, all of them with --all"
printf 'second\n' >data.csv
miss -- sh step.sh
printf 'third\n' >data.csv
rm conf/old
differs 'conf/old: existed, now absent' 'data.csv: content changed .*' -- -- sh step.sh
printf 'first line\n' >data.csv
differs 'conf/old: existed, now absent' -- -- sh step.sh
explain =1 -- sh step.sh
has "^against $(echo "$nearest" | cut -c1-8) of "
has_not 'data.csv'
has '1 more recorded result'
explain =1 --all -- sh step.sh
has '^  data.csv: content changed'
echo old >conf/old
alike -- sh step.sh

say "variables, words, directory"
LR=0.2 differs 'environment LR: 0.1 → 0.2' -- -- sh step.sh
same "$($python -I -c 'import json, sys; print(json.load(open(sys.argv[1]))["nearest"][0]["differences"][0]["variable"])' "$IO/json")" LR
LR=0.2 explain =1 -- sh step.sh
has 'would not be a hit: environment LR changed$'
LR=0.2 MORE=1 explain =1 -- sh step.sh
has 'would not be a hit: environment LR changed \(and 1 more\)$'
MORE=1 differs 'environment MORE: \(unset\) → 1' -- -- sh step.sh
(
	unset LR
	differs 'environment LR: 0.1 → \(unset\)' -- -- sh step.sh
)
differs 'environment LR: 0.1 → \(unset\)' -- --ignore-env LR -- sh step.sh
touch conf/local.yaml
LR=0.2 differs 'environment LR: 0.1 → 0.2' 'conf/local.yaml: was absent, now exists' -- -- sh step.sh
rm conf/local.yaml
differs 'argument 2: \(none\) → --rate 0.1' -- -- sh step.sh --rate 0.1
mkdir elsewhere
(
	cd elsewhere
	differs "directory: .*[^/]/?[^/]* → .*/elsewhere" -- -- sh step.sh
)
miss --name calc -- sh -c 'echo $0 $1' 1 2
differs 'argument 3: 1 → 7' 'argument 4: 2 → 8' -- --name calc -- sh -c 'echo $0 $1' 7 8

say "what it is called makes no difference"
alike --name another -- sh step.sh

say "options, umask, streams"
differs '--salt: \(none\) → x' -- --salt x -- sh step.sh
differs '--ignore: \(none\) → \*/\*\.log' -- --ignore '*.log' -- sh step.sh
differs '--strict: was not set, now set' -- --strict -- sh step.sh
(
	umask 077
	differs 'umask: 0022 → 0077' -- -- sh step.sh
)
differs 'expired .* ago' -- --expire-after PT0S -- sh step.sh
explain =1 --refresh -- sh step.sh
has 'would not be a hit: --refresh$'
has 'nothing that it looked at differs'
echo in >in
differs 'standard input: was [a-z/ ]*, now a file' -- -- sh step.sh <in
miss -- cat <in
echo other >in
differs 'standard input: content of the file changed' -- -- cat <in
echo one | miss --name reads -- head -n1
echo two | explain =1 --name reads -- head -n1
has '^  standard input differs$'
echo one | explain --name reads -- head -n1
miss =3 --cache-failures -- sh -c 'exit 3'
differs 'it failed \(exit status 3\) when recorded' -- -- sh -c 'exit 3'

say "the program itself, and another that comes before it"
mkdir bin first
printf '#!/bin/sh\necho 1\n' >bin/prog
chmod 755 bin/prog
path=$PATH
PATH=$PWD/first:$PWD/bin:$PATH
miss -- prog
printf '#!/bin/sh\necho 22\n' >bin/prog
differs 'bin/prog: content changed \(17 B → 18 B, .*\)' -- -- prog
printf '#!/bin/sh\necho 1\n' >bin/prog
printf '#!/bin/sh\necho 3\n' >first/prog
chmod 755 first/prog
differs 'first/prog: was absent, now exists' -- -- prog
rm first/prog
alike -- prog
PATH=$path

say "a large file that was only looked at"
truncate -s 20M big
touch -d '2026-01-02 03:04:05Z' big
miss --name sizes -- stat -c '%s %y' big
touch -d '2026-01-02 03:04:06Z' big
differs 'big: modified 2026-01-02T03:04:05.000Z → 2026-01-02T03:04:06.000Z' -- --name sizes -- stat -c '%s %y' big
truncate -s 21M big
differs 'big: size 20.0 MB → 21.0 MB, modified .* → .*' -- --name sizes -- stat -c '%s %y' big

say "extended attributes"
if setfattr -n user.note -v one data.csv 2>/dev/null; then
	miss -- getfattr -d data.csv
	setfattr -n user.note -v two data.csv
	differs 'data.csv: extended attributes changed' -- -- getfattr -d data.csv
	setfattr -x user.note data.csv
	differs 'data.csv: extended attributes gone' -- -- getfattr -d data.csv
else
	echo "  (none on this file system)"
fi

say "a key: the environment is that of then; why its last miss was one"
printf 'fourth, longer\n' >data.csv
miss -- sh step.sh
LR=9 explain "$(echo "$r_input_key" | cut -c1-12)"
has 'would be a hit'
has '^the last miss was at [0-9]+:[0-9]+: data.csv changed$'
has '^  data.csv: content changed \(.* → 15 B\)$'
explain
has '^  data.csv: content changed \(.* → 15 B\)$'
explain --name 'step.*'
has 'sh step.sh'
explain =1 --name calc # exec was asked --only-if-cached
has "^calc .*no result of it is recorded"
LR=9 explain =1 "$nearest"
has 'would not be a hit: another result of the step would be the hit, '
has '^  data.csv: content changed \(11 B → 15 B, modified '
(cd / && explain "$r_step_key" && has '^  data.csv: content')
explain =1 0000000000000000
explain =2 xyz
touch dir/added
LR=0.5 miss -- sh step.sh
explain
has '^  environment LR: 0.1 → 0.5$'
has '^  dir: new name added in a listed directory$'
rm dir/added

say "a step that was not stored, and why"
cat >net.py <<'END2'
import socket
try:
    socket.create_connection(("127.0.0.1", 1), 1)
except OSError:
    pass
END2
not_stored '*network*' -- $python -I net.py
for key in '' "$r_step_key"; do
	explain =1 $key
	has 'no result of it is recorded'
	has '^the last miss was at [0-9]+:[0-9]+, and was not stored: .*network'
done

say "what is damaged in the cache is no hit"
seq 20000 >numbers
miss -- cp numbers copy
rm copy
alike -- cp numbers copy
rm copy
find "$MLFS_CACHE/cas" -type f -size +20 -exec chmod u+w {} \; -exec truncate -s 0 {} \;
explain =1 -- cp numbers copy
has 'an object of it is no longer whole in the cache'
[ ! -e copy ] || fail "explain put something in place"

say "JSON of a key"
explain =1 --json "$r_step_key"
cp "$IO/out" "$IO/json"
$python -I -c '
import json, sys
x = json.load(open(sys.argv[1]))
assert x["hit"] is False and x["found"] is None and x["argv"] == ["cp", "numbers", "copy"], x
assert x["last_miss"]["reason"] == "not seen before" and x["last_miss"]["against"] is None, x' "$IO/json"

say "where the explanation goes is no difference of the step; without a terminal it is as it is"
$python -I -c '
import os, pty, sys
status = pty.spawn(["sh", "-c", """
mlfs exec -- cat numbers
mlfs explain -- cat numbers >"$IO/paged" || echo "$?" >>"$IO/paged"
mlfs explain -- cat numbers || echo not
mlfs exec -- wc numbers >"$IO/counted"
mlfs explain -- wc numbers >"$IO/paged2" || echo "$?" >>"$IO/paged2"
mlfs explain -- wc numbers >"$IO/here" 2>"$IO/err" || echo "$?" >>"$IO/here"
mlfs explain -- wc numbers >"$IO/null"
mlfs explain --all -- wc numbers
"""])' >"$IO/screen"
grep -q 'would be a hit' "$IO/paged" || fail "a pager makes a difference: $(cat "$IO/paged")"
grep -q 'would be a hit' "$IO/screen" || fail "no hit in the terminal: $(cat "$IO/screen")"
grep -q 'would be a hit' "$IO/paged2" || fail "redirected as it was, and no hit: $(cat "$IO/paged2")"
grep -q 'would not be a hit' "$IO/here" || fail "stderr went elsewhere, too: $(cat "$IO/here")"
grep -q 'standard output' "$IO/screen" || fail "that it would be another in this terminal is not said: $(cat "$IO/screen")"

say "keep-runs is a setting here, too"
explain --json "$r_step_key"
grep -q '"last_miss": {' "$IO/out" || fail "no last miss"
explain --json --keep-runs PT0S "$r_step_key"
grep -q '"last_miss": null' "$IO/out" || fail "a miss that is older than --keep-runs is told"
echo 'keep-runs = PT0S' >"$IO/short.conf"
explain --json --config "$IO/short.conf" "$r_step_key"
grep -q '"last_miss": null' "$IO/out" || fail "keep-runs of the configuration is not read"
