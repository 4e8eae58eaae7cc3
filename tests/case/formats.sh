#!/bin/sh
# SPDX-License-Identifier: MIT
# Caches as each mlfs so far wrote them (tests/case/formats): they are read as they were meant, and upgraded; one of a newer
# mlfs is left alone.
. "$(dirname "$0")/lib.sh"

formats=$cases/formats
MLFS=$(command -v mlfs)
FIXTURE=$IO
export formats MLFS FIXTURE cases python

unpack()
{
	rm -rf "$MLFS_CACHE"
	mkdir -p "$IO/unpacked"
	tar -C "$IO/unpacked" -xf "$1"
	mv "$IO/unpacked/cache" "$MLFS_CACHE"
}

# Every byte of the cache but those that opening it to read makes.
sum_of_cache()
{
	(cd "$MLFS_CACHE" && find . -type f ! -name lock.mdb -exec sha256sum {} + | sort | sha256sum)
}

# Are the results there, with all that was recorded? $1: the version of their records
check_results()
{
	ask show --json "$first"
	$python -I -c '
import hashlib, json, sys
r = json.load(open(sys.argv[1]))
assert r["argv"][:2] == ["/bin/sh", "-c"] and len(r["argv"]) == 3 and r["cwd"] == "/mnt" and r["exit_status"] == 0, r
assert r["name"] == "train" and r["environment"] == [] and not r["strict"] and r["wall_seconds"] > 0, r
inputs = {i["path"]: (i["observed"], i["state"]) for i in r["inputs"]}
assert inputs["/mnt/data"][0] == ["content"] and inputs["/mnt/data"][1]["size"] == 6, inputs
assert inputs["/mnt/conf/link"][1] == {"type": "link", "target": "rate"}, inputs
assert inputs["/mnt/conf/local"] == (["absence"], {"type": "absent"}), inputs
assert inputs["/mnt/conf"][0] == ["listing"], inputs
outputs = {o["path"]: o for o in r["outputs"]}
assert sorted(outputs) == ["/mnt/out"] + ["/mnt/out/" + n for n in ("empty", "latest", "log", "model", "same")], outputs
model = "".join("line %d of first\n" % i for i in range(2000)).encode()
assert outputs["/mnt/out/model"]["sha256"] == hashlib.sha256(model).hexdigest(), outputs
assert outputs["/mnt/out/log"]["mode"] == "0640" and outputs["/mnt/out/latest"]["target"] == "model", outputs
assert outputs["/mnt/out"]["type"] == "directory" and outputs["/mnt/out/empty"]["size"] == 0, outputs' "$IO/out" ||
		fail "mlfs show $first"
	ask show "$first"
	grep -q '^  rate = 0.1$' "$IO/out" || fail "the console is not there"
	for key in $second $pipe $file; do
		ask show "$key"
	done
	ask show --json "$pipe"
	grep -q '"end_of_file": true' "$IO/out" || fail "what was read from stdin is not there"
}

check_log()
{
	ask log --json -n 100 --keep-runs P36500D
	$python -I -c '
import json, sys
runs = [r for r in json.load(open(sys.argv[1])) if r["name"] not in ("dropped", "keeper")][::-1]
told = [(r["name"], r["result"]) for r in runs]
assert told[:4] == [("train", "miss"), ("train", "miss"), ("pipe", "miss"), ("file", "miss")], told
assert len(told) > 4 and all(t == ("train", "hit") for t in told[4:]), told
assert runs[1]["reason"] == "data changed" and runs[4]["saved_seconds"] > 0 and runs[0]["stored"], runs
print(*(runs[i]["input_key"] for i in range(4)))' "$IO/out" >"$IO/keys" || fail "mlfs log"
	read -r first second pipe file <"$IO/keys"
}

# In a mount namespace of its own, /mnt is what it was when the fixture was made, and so are user and groups.
cat >"$IO/hits" <<'END'
set -eu
mount -t tmpfs tmpfs /mnt
cd /mnt
. "$formats/steps.sh"
was()
{
	grep -q "\"result\": \"$1\"" "$FIXTURE/report" || {
		cat "$FIXTURE/report"
		exit 1
	}
}
for data in second first; do
	make_inputs $data
	train
	was "$1"
	[ "$(wc -l <out/model)" = 2000 ]
	[ "$(head -1 out/model)" = "line 0 of $data" ]
	[ "$(cat out/log)" = small ]
	[ out/log -ef out/same ]
	[ "$(stat -c %a out/log)" = 640 ]
	[ "$(readlink out/latest)" = model ]
	[ "$(cat "$FIXTURE/out")" = "$(printf '%s\nrate = 0.1\nlink\nrate' $data)" ]
	grep -qx noted "$FIXTURE/err"
done
from_pipe
was "$1"
[ "$(cat "$FIXTURE/out")" = "over the pipe" ]
from_file
END
check_hits()
{
	is_root && [ "$(uname -m)" = x86_64 ] || return 0 # what is in the keys
	unshare -m sh -x "$IO/hits" "$1" >"$IO/hits.out" 2>&1 || fail "not each is a $1: $(tail -5 "$IO/hits.out")"
}

mlfs exec -- true
version=$(cat "$MLFS_CACHE/version")
[ -n "$(find "$formats" -name "cache-${version#mlfs cache }-*")" ] ||
	fail "there is no fixture of the format that is written now: see tests/case/formats/make-fixture"

for fixture in "$formats"/cache-*.tar.xz; do
	name=$(basename "$fixture" .tar.xz)
	say "$name is read, and not written to by what only reads"
	unpack "$fixture"
	before=$(sum_of_cache)
	was=$(cat "$MLFS_CACHE/version")
	records=${name##*-}
	check_log
	ask fsck
	grep -q ': clean$' "$IO/out" || fail "fsck finds something"
	if [ "$records" = 3 ]; then
		check_results
	else
		ask show =1 "$first"
	fi
	case $name in
	cache-1-*) ;;
	*)
		ask show =1 f36a2c24 # dropped
		;;
	esac
	same "$(sum_of_cache)" "$before" "the cache was changed"

	say "$name serves hits; what its records do not say is a miss"
	check_hits "$([ "$records" = 3 ] && echo hit || echo miss)"
	unpack "$fixture"

	say "$name is upgraded by who writes to it, and keeps what it has"
	mlfs exec -- true
	same "$(cat "$MLFS_CACHE/version")" "$version" "version"
	ask fsck
	grep -q ': clean$' "$IO/out" || fail "fsck finds something"
	if [ "$records" = 3 ]; then
		check_results
	fi
	find "$MLFS_CACHE/cas" -type f -exec touch -d @1000 {} + # what nothing refers to goes when it is not young
	ask gc --json --max-size 0
	grep -q '"bytes_waiting": 0' "$IO/out" || fail "something is left"
	same "$(find "$MLFS_CACHE/cas" -type f | wc -l)" 0 "objects"
	ask fsck --repair
	grep -q '^0 results' "$IO/out" || fail "not everything is gone"
	say "$name was of $was"
done

say "of a newer mlfs: nothing is read, nothing is changed"
unpack "$fixture"
echo 'mlfs cache 99' >"$MLFS_CACHE/version"
before=$(sum_of_cache)
for words in log stats gc fsck 'fsck --repair' 'gc --max-size 0' 'forget --all' "show $first"; do
	# shellcheck disable=SC2086
	set -- $words
	command=$1
	shift
	ask "$command" =1 "$@"
	grep -q 'format 99, made by a newer mlfs; this one knows formats up' "$IO/err" || fail "not said: $words"
	same "$(cat "$IO/out")" "" "printed by $words"
done
uncached '*made by a newer mlfs*' -- echo still
printed still
same "$(sum_of_cache)" "$before" "the cache was changed"
