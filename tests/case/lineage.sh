#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs lineage: from a file back through every step to what no step made, by content; as text, JSON, dot and PROV-JSON.
. "$(dirname "$0")/lib.sh"

# lineage [=STATUS] ARGS…
lineage()
{
	ask lineage "$@"
}

# The tree on stdin, but for keys and times: is that what was printed?
tree_is()
{
	sed -E 's/ [0-9a-f]{8}  [^,]*, took [^:]*: /: /; s/ [0-9a-f]{8} of .*//; s/\(and [1-9][0-9]* inputs of/(and N inputs of/' \
		"$IO/out" >"$IO/tree"
	cat >"$IO/want"
	diff "$IO/want" "$IO/tree" >"$IO/diff" || fail "another tree (< wanted): $(cat "$IO/diff")"
}

# json CODE ARGS…: CODE asserts about x, the object; file(name) and step(name) are those of it
json()
{
	code=$1
	shift
	status=0
	mlfs lineage --format json "$@" >"$IO/out" 2>"$IO/err" || status=$?
	$python -I -c '
import json, os, sys
x = json.load(open(sys.argv[1]))
def file(name):
    return next(f for f in x["files"] if f["path"] == os.path.join(os.getcwd(), name))
def step(name):
    return next(s for s in x["steps"] if s["name"] == name)
for n, f in enumerate(x["files"]):
    assert f["id"] == n and (f["step"] is None or 0 <= f["step"] < len(x["steps"]))
for n, s in enumerate(x["steps"]):
    assert s["id"] == n and all(0 <= i < len(x["files"]) for i in s["inputs"] or [])
exec(sys.argv[2])' "$IO/out" "$code" || fail "JSON of lineage $*"
}

say "usage"
lineage =1 nothing
grep -q '^mlfs: there is no cache at ' "$IO/err" || fail "no cache, and it is not said"
lineage =2
lineage =2 --format dott x
grep -q "did you mean 'dot'" "$IO/err" || fail "the right format is not named"
lineage --help
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"

say "a chain of steps"
seq 100 >raw.csv
echo 0.1 >rate
cat >features.sh <<'END2'
sort -rn raw.csv >features
END2
cat >train.sh <<'END2'
cat features rate >model
: >model.log
END2
miss -- sh features.sh
miss -- sh train.sh
lineage model
tree_is <<'END2'
model  296 B
└─ train.sh: sh train.sh  (and N inputs of the system)
   ├─ features  292 B
   │  └─ features.sh: sh features.sh  (and N inputs of the system)
   │     ├─ features.sh  27 B, no recorded step made it
   │     └─ raw.csv  292 B, no recorded step made it
   ├─ rate  4 B, no recorded step made it
   └─ train.sh  38 B, no recorded step made it
END2
lineage =1 raw.csv
tree_is <<'END2'
raw.csv  292 B, no recorded step made it
END2
lineage --all model
grep -q ' /usr/bin/sort  ' "$IO/out" || fail "no files of the system with --all"
lineage =1 nothing
grep -q '^mlfs: nothing is at .*/nothing, and no recorded step left it$' "$IO/err" || fail "what is not there"

say "what was there before is no copy of what is made later, of it or by chance"
echo seven >seven
touch -d '1 minute ago' seven rate
miss --name later -- cp rate later
miss --name chance -- sh -c 'echo seven >chance'
lineage later
lineage chance
lineage =1 rate
lineage =1 seven
miss --name reader -- sh -c 'cat rate seven >read'
lineage read
grep -q '─ rate  4 B, no recorded step made it$' "$IO/out" || fail "an input is said to be a copy of its copy"
grep -q '─ seven  6 B, no recorded step made it$' "$IO/out" || fail "an input is said to be made later"
rm later seven chance read

say "a hit is the same step"
rm model
hit -- sh train.sh
lineage model
grep -q '^└─ train.sh ' "$IO/out" || fail "restored, and of no step"

say "copied, renamed, through a link, from elsewhere: by content"
mkdir elsewhere
mv model elsewhere/best.bin
ln -s best.bin elsewhere/link
(
	cd elsewhere
	lineage link
	sed -n 1p "$IO/out" | grep -q "^best.bin  296 B, same content as $(dirname "$PWD")/model\$" || fail "a renamed file is not known"
	grep -q '^└─ train.sh ' "$IO/out" || fail "a renamed file is of no step"
)
json '
best, model = file("elsewhere/best.bin"), file("model")
assert x["roots"] == [best["id"]] and best["origin"] == "copy" and best["copy_of"] == model["id"], best
assert model["now"] == "gone" and best["now"] == "same" and best["sha256"] == model["sha256"]' elsewhere/best.bin
mv elsewhere/best.bin model

say "a file without content is known by its place only"
lineage model.log
: >another.log
lineage =1 another.log

say "inputs that changed since, or are gone"
echo 101 >>raw.csv
rm rate
lineage model
tree_is <<'END2'
model  296 B
└─ train.sh: sh train.sh  (and N inputs of the system)
   ├─ features  292 B
   │  └─ features.sh: sh features.sh  (and N inputs of the system)
   │     ├─ features.sh  27 B, no recorded step made it
   │     └─ raw.csv  292 B, changed since, no recorded step made it
   ├─ rate  4 B, not there now, no recorded step made it
   └─ train.sh  38 B, no recorded step made it
END2
echo 0.1 >rate

say "a file that is gone"
mv features kept
lineage =1 features
tree_is <<'END2'
features  not there now, last left here by
└─ features.sh: sh features.sh  (and N inputs of the system)
   ├─ features.sh  27 B, no recorded step made it
   └─ raw.csv  292 B, changed since, no recorded step made it
END2
mv kept features

say "a chain that is broken: edited by hand between two steps"
echo by hand >>features
lineage =1 features
sed -n 1p "$IO/out" | grep -q '^features  300 B, broken: no recorded step made this; here another content was left by$' ||
	fail "an edited file"
miss -- sh train.sh
json '
f = file("features")
assert f["origin"] == "edited" and x["steps"][f["step"]]["name"] == "features.sh" and f["now"] == "same", f
assert file("model")["origin"] == "made" and f["id"] in step("train.sh")["inputs"]' model

say "a step whose result was replaced by that of another run"
echo 1 >seed
miss --ignore seed --name draw -- cp seed drawn
echo 2 >seed
rm drawn
miss --ignore seed --name draw --refresh -- cp seed drawn
echo 1 >drawn
lineage =1 drawn
tree_is <<'END2'
drawn  2 B, broken: a step made it whose result is no longer in the cache
END2

say "through standard input and output"
seq 30 >numbers
report=$IO/report
for run in miss hit; do
	mlfs exec --report "$report" --name backward -- sort -rn numbers >sorted
	mlfs exec --name last -- tail -n 5 <sorted >five
	mlfs exec --name two -- sh -c 'echo note >&2; cat five; echo more >&2; echo end' 2>notes | mlfs exec --name pipe -- sort >out
	lineage out
	tree_is <<'END2'
out  14 B, standard output of
└─ pipe: sort  (and N inputs of the system)
   └─ standard input  14 B, standard output of
      └─ two: sh -c 'echo note >&2; cat five; echo more >&2; echo end'  (and N inputs of the system)
         └─ five  10 B, standard output of
            └─ last: tail -n 5  (and N inputs of the system)
               └─ standard input  81 B, standard output of
                  └─ backward: sort -rn numbers  (and N inputs of the system)
                     └─ numbers  81 B, no recorded step made it
END2
	grep -q "\"result\": \"$run\"" "$report" || fail "no $run"
done
lineage =1 notes
lineage =1 numbers
json '
f = file("out")
assert f["origin"] == "stdout" and x["steps"][f["step"]]["name"] == "pipe", f
assert [x["files"][i]["path"] for i in step("pipe")["inputs"]] == ["/dev/stdin"], x' out

say "made by several steps"
miss --name first -- sh -c 'echo the same >twice'
rm twice
miss --name second -- sh -c 'echo the same >twice; :'
lineage twice
tree_is <<'END2'
twice  9 B
├─ second: sh -c 'echo the same >twice; :'  (and N inputs of the system)
└─ also made by first
END2
json '
f = file("twice")
assert x["steps"][f["step"]]["name"] == "second" and [x["steps"][s]["name"] for s in f["also"]] == ["first"], f' twice

say "a circle: each of two steps makes what the other read"
cat >toggle.sh <<'END2'
read -r v <state
if [ "$v" = on ]; then echo off >state; else echo on >state; fi
END2
echo on >state
miss --name toggle -- sh toggle.sh
miss --name toggle -- sh toggle.sh
same "$(cat state)" on
lineage state
tree_is <<'END2'
state  3 B
└─ toggle: sh toggle.sh  (and N inputs of the system)
   ├─ state  4 B, changed since
   │  └─ toggle: sh toggle.sh  (and N inputs of the system)
   │     ├─ state  3 B
   │     │  └─ toggle: sh toggle.sh  (as above)
   │     └─ toggle.sh  81 B, no recorded step made it
   └─ toggle.sh  81 B, no recorded step made it
END2

say "a directory: what steps made below it"
miss -- sh -c 'mkdir -p dir/deep; echo a >dir/a; echo b >dir/deep/b'
echo mine >dir/mine
lineage dir
tree_is <<'END2'
dir/a  2 B
└─ sh: sh -c 'mkdir -p dir/deep; echo a >dir/a; echo b >dir/deep/b'  (and N inputs of the system)
dir/deep/b  2 B
└─ sh: sh -c 'mkdir -p dir/deep; echo a >dir/a; echo b >dir/deep/b'  (as above)
and 1 file that no recorded step made
END2

say "names that mean something elsewhere"
odd=$(printf 'a "b" \\n <c> \n\033d\377')
seq 5 >"$odd"
cat >odd.sh <<'END2'
cat a*b* >'out "x".bin'
END2
miss --name 'odd "name" \' -- sh odd.sh
lineage 'out "x".bin'
if grep -q "$(printf '\033')" "$IO/out"; then
	fail "what a file is called acts on the terminal"
fi
json 'assert len(x["files"]) == 3 and any("path_base64" in f for f in x["files"]), x' 'out "x".bin'

say "Graphviz"
lineage --format dot 'out "x".bin'
if command -v dot >/dev/null; then
	dot -Tplain "$IO/out" >"$IO/plain" 2>"$IO/err" || fail "dot does not read it: $(cat "$IO/err" "$IO/out")"
	same "$(wc -c <"$IO/err")" 0 "bytes of warnings of dot"
	same "$(grep -c '^node ' "$IO/plain")" 4 "nodes"
	same "$(grep -c '^edge ' "$IO/plain")" 3 "edges"
	lineage --format dot model
	dot -Tplain "$IO/out" >"$IO/plain"
	same "$(grep -c '^node ' "$IO/plain")" 8 "nodes"
	same "$(grep -c '^edge ' "$IO/plain")" 7 "edges"
	lineage --format dot state
	dot -Tplain "$IO/out" >"$IO/plain"
	same "$(grep -c '^edge ' "$IO/plain")" 6 "edges of a circle"
else
	echo "  (Graphviz is not installed)"
fi
lineage --format dot model
grep -q 's[0-9]* -> f[0-9]* \[style=dashed, color=red\];' "$IO/out" || fail "a broken chain does not show in the graph"

say "PROV-JSON"
for name in model 'out "x".bin' state out; do
	lineage --format prov "$name"
	$python -I -c '
import datetime, json, re, sys
x = json.load(open(sys.argv[1]))
ends = {
    "wasGeneratedBy": {"prov:entity": "entity", "prov:activity": "activity"},
    "used": {"prov:entity": "entity", "prov:activity": "activity"},
    "wasDerivedFrom": {"prov:generatedEntity": "entity", "prov:usedEntity": "entity"},
    "wasInfluencedBy": {"prov:influencee": "entity", "prov:influencer": "activity"},
}
assert set(x) == {"prefix", "entity", "activity"} | set(ends), set(x)
prefixes = set(x["prefix"]) | {"prov"}
def known(name):
    prefix, local = name.split(":", 1)
    assert prefix in prefixes and re.fullmatch("[A-Za-z0-9_-]+", local), name
for kind in "entity", "activity":
    for name, attributes in x[kind].items():
        known(name)
        for a in attributes:
            known(a)
for a in x["activity"].values():
    begin, end = (datetime.datetime.fromisoformat(a["prov:" + t + "Time"].replace("Z", "+00:00")) for t in ("start", "end"))
    assert begin <= end
for relation, roles in ends.items():
    for name, r in x[relation].items():
        assert name.startswith("_:") and set(r) == set(roles), r
        for role, kind in roles.items():
            assert r[role] in x[kind], r
assert x["used"] and x["wasGeneratedBy"] and x["wasDerivedFrom"]' "$IO/out" || fail "PROV-JSON of $name"
done
lineage --format prov model
$python -I -c '
import json, sys
x = json.load(open(sys.argv[1]))
name = {k: v["mlfs:path"].rsplit("/", 1)[1] for k, v in x["entity"].items()}
step = {k: v["mlfs:name"] for k, v in x["activity"].items()}
made = {(name[r["prov:entity"]], step[r["prov:activity"]]) for r in x["wasGeneratedBy"].values()}
assert made == {("model", "train.sh")}, made
assert {(name[r["prov:influencee"]], step[r["prov:influencer"]]) for r in x["wasInfluencedBy"].values()} == {("features", "features.sh")}
used = {(step[r["prov:activity"]], name[r["prov:entity"]]) for r in x["used"].values()}
assert {("train.sh", "features"), ("train.sh", "rate"), ("features.sh", "raw.csv")} <= used, used
derived = {(name[r["prov:generatedEntity"]], name[r["prov:usedEntity"]]) for r in x["wasDerivedFrom"].values()}
assert derived == {("model", "features"), ("model", "rate"), ("model", "train.sh")}, derived' "$IO/out" || fail "PROV-JSON of model"
