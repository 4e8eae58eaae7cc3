#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs mount --browse: the cache as a tree: by name, by key, by file; read-only; what is there is what steps left and printed.
. "$(dirname "$0")/lib.sh"

unmount()
{
	if is_root; then umount "$1"; else fusermount3 -u "$1"; fi
}
trap 'cd / && unmount "$here/mnt" 2>/dev/null || :' EXIT
here=$PWD

# server: its process
server()
{
	mlfs status --json "$here/mnt" | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])'
}
index_closed()
{
	! grep -qF "$MLFS_CACHE/index/data.mdb" "/proc/$1/maps"
}
# refused COMMAND…: it fails, since nothing here can be written
refused()
{
	! "$@" 2>"$IO/why" || fail "it was not refused: $*"
	grep -q 'Read-only file system' "$IO/why" || fail "another reason: $* $(cat "$IO/why")"
}

# How many directories are in one is not told here.
steady_tree()
{
	find "$@" -type d -printf '%p %y %m\n' -o -printf '%p %y %m %l %n %T@\n' | sort
	find "$@" -type f -print0 | sort -z | xargs -0r sha256sum
}

mkdir mnt work
ask mount =1 --browse mnt
grep -q '^mlfs: there is no cache at ' "$IO/err" || fail "no cache, and it is not said"
cd work
echo one >in
echo two >gone
cat >work.sh <<'END'
cat in
echo trouble >&2
echo more
mkdir -p made/sub
seq 20000 >made/big
ln made/big made/again
ln -s big made/link
echo small >made/sub/small
: >made/empty
chmod 640 made/big
chmod 750 made/sub
touch -d '2020-01-01 00:00:00.123456789' made/sub/small
setfattr -n user.colour -v blue made/big
rm gone
END
miss --name a/b -- sh work.sh
key=$r_input_key
steady_tree made >"$IO/native"
miss -- cat in
other=$r_input_key
cd ..
ask mount =1 --browse "$MLFS_CACHE"
grep -q 'the cache lies in it$' "$IO/err" || fail "over the cache: $(cat "$IO/err")"
ask mount --browse mnt
same "$(ls mnt)" "$(printf 'by-file\nby-key\nby-name')"

say "who may look"
same "$(stat -c '%a %u %g' mnt mnt/by-key "mnt/by-key/$key")" "$(printf '500 %s %s\n' "$(id -u) $(id -g)" "" | sed 's/ $//; p; p')"
! grep -F " $here/mnt " /proc/self/mountinfo | grep -q allow_other || fail "others are let in"

say "by name: what cannot be a file's name is escaped"
same "$(ls mnt/by-name)" "$(printf 'a\\x2fb\ncat')"
same "$(ls 'mnt/by-name/a\x2fb')" "$(date -d "$(mlfs show --json "$key" | sed -n 's/.*"started": "\([^"]*\)".*/\1/p')" +%Y-%m-%dT%H:%M:%S)-$(echo "$key" | cut -c1-8)"
result=$(echo "mnt/by-name/a\\x2fb"/*)
same "$(ls "$result")" "$(printf 'inputs.txt\noutputs\nremoved.txt\nstderr\nstdout\nstep.json')"
! ls mnt/by-name/nothing 2>/dev/null || fail "a name that no step has"

say "by key: the same, and by the beginning of a key"
same "$(ls mnt/by-key | sort)" "$(printf '%s\n' "$key" "$other" | sort)"
same "$(readlink "mnt/by-key/$(echo "$key" | cut -c1-8)")" "$key"
diff -r --no-dereference "$result" "mnt/by-key/$key" >"$IO/diff" 2>&1 || grep -v fifo "$IO/diff" || fail "by name and by key differ"
! ls mnt/by-key/0123456789abcdef0123456789abcdef 2>/dev/null || fail "a key that nobody has"

say "outputs: as they were left"
outputs=$here/$result/outputs$here/work
(cd "$outputs" && steady_tree made) >"$IO/shown"
diff "$IO/native" "$IO/shown" || fail "the outputs are not what the step left"
same "$(stat -c '%y %a' "$outputs/made/sub/small")" "2020-01-01 00:00:00.123456789 +0000 644"
same "$(stat -c %i "$outputs/made/big")" "$(stat -c %i "$outputs/made/again")" "names of one file"
same "$(getfattr --only-values -n user.colour "$outputs/made/big")" blue
same "$(getfattr -d "$outputs/made/sub")" ""
same "$(cat "$result/removed.txt")" "$here/work/gone"
[ ! -e "$outputs/gone" ] || fail "what was removed is there"
cp -a "$outputs/made" copy
(cd work && steady_tree made) >"$IO/native"
(mkdir -p other && mv copy other/made && cd other && steady_tree made) >"$IO/shown"
diff "$IO/native" "$IO/shown" || fail "a copy is not what the step left"
find mnt -print >/dev/null

say "what changed is seen by the times, also where the step sets those of its outputs"
before=$(stat -c %z "$outputs/made/sub/small")
(cd work && echo two >gone && rm -r made && step --refresh --name a/b -- sh work.sh)
changed()
{
	[ "$(stat -c %z "mnt/by-key/$key/outputs$here/work/made/sub/small")" != "$before" ]
}
wait_for changed
result=$(echo "mnt/by-name/a\\x2fb"/*)
outputs=$here/$result/outputs$here/work

say "what it printed, read and is"
same "$(cat "$result/stdout")" "$(printf 'one\nmore')"
same "$(cat "$result/stderr")" trouble
same "$(stat -c %s "$result/stdout" "$result/stderr")" "$(printf '9\n8')"
same "$(tail -c +5 "$result/stdout")" more "from the middle"
grep -q "^content	$here/work/in	file, mode 0644, .*4 bytes, xxh3 [0-9a-f]*" "$result/inputs.txt" || fail "inputs: $(grep work "$result/inputs.txt")"
same "$(wc -c <"$result/inputs.txt")" "$(stat -c %s "$result/inputs.txt")" "size"
mlfs show --json "$key" >"$IO/show"
$python -I - "$result/step.json" "$IO/show" <<'END' || fail "step.json"
import json, sys
step, show = (json.load(open(name)) for name in sys.argv[1:])
for member in "key step_key name argv cwd environment exit_status started wall_seconds stored stdin".split():
    assert step[member] == show[member], member
assert step["inputs"] == len(show["inputs"])
assert [{k: v for k, v in o.items() if k != "now"} for o in show["outputs"]] == step["outputs"]
END

say "by file: who wrote it, who read it"
by=mnt/by-file$here/work
same "$(ls "$by" | grep -vx '@read')" "$(printf 'gone\nin\nmade\nwork.sh')"
same "$(ls "$by/in/@read" | wc -l)" 2
same "$(ls "$by/made/big")" @wrote
cmp "$by/made/big/@wrote/"* work/made/big || fail "what was written is not there"
same "$(readlink -f "$by/in/@read/"*"$(echo "$other" | cut -c1-8)")" "$here/mnt/by-key/$other"
same "$(cat "$by/gone/@wrote/"*)" "$here/work/gone"
! ls "$by/nothing" 2>/dev/null || fail "a file that nobody saw"
[ -d "mnt/by-file$here" ] || fail "a directory on the way"

say "read-only"
refused touch "$result/new"
refused rm "$result/stdout"
refused mkdir "$outputs/new"
refused chmod 600 "$outputs/made/big"
refused mv "$outputs/made/big" "$outputs/made/bigger"
refused ln -s x "$outputs/l"
refused setfattr -n user.x -v y "$outputs/made/big"
refused truncate -s 1 "$outputs/made/big"

say "new results are there within a second"
cd work
echo three >in
miss -- cat in
cd ..
wait_for test -d "mnt/by-key/$r_input_key"
same "$(ls mnt/by-name/cat | wc -l)" 2
same "$(cat "mnt/by-key/$r_input_key/stdout")" three

say "a large output is not read into memory, of either end"
cat >large.sh <<'END'
truncate -s 300M large
echo end >>large
END
miss -- sh large.sh
wait_for test -d "mnt/by-key/$r_input_key"
pid=$(server)
cmp large "mnt/by-key/$r_input_key/outputs$here/large" || fail "the large output differs"
memory=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status")
[ "$memory" -lt 150000 ] || fail "the server took $memory kB"

say "what is dropped while it is open can be read to its end; the cache is not held"
wait_for index_closed "$pid"
exec 5<"$outputs/made/big" 6<"$outputs/made/sub/small" 7<"$result/stdout"
ask forget --all
ask gc
ask fsck --repair
wait_for sh -c "! ls '$result' 2>/dev/null"
cmp - work/made/big <&5 || fail "an object of its own"
same "$(cat <&6)" small "an object in the index"
same "$(cat <&7)" "$(printf 'one\nmore')"
exec 5<&- 6<&- 7<&-
same "$(ls mnt/by-name mnt/by-key mnt/by-file)" "$(printf 'mnt/by-file:\n\nmnt/by-key:\n\nmnt/by-name:')"

if is_root && id mlfs-test >/dev/null 2>&1; then
	say "others: only when that is asked for, and then as the outputs' modes say"
	as_other()
	{
		setpriv --reuid mlfs-test --regid mlfs-test --clear-groups "$@"
	}
	chmod a+rx .
	miss -- sh -c 'echo open >open; echo closed >closed; chmod 600 closed; echo said'
	! as_other ls mnt 2>"$IO/why" || fail "another user is let in"
	grep -q 'Permission denied' "$IO/why" || fail "another reason: $(cat "$IO/why")"
	ask umount mnt
	ask mount --browse --allow-other mnt
	result=mnt/by-key/$r_input_key
	same "$(as_other cat "$result/stdout" "$result/outputs$here/open")" "$(printf 'said\nopen')"
	! as_other cat "$result/outputs$here/closed" 2>/dev/null || fail "what only its owner may read"
	refused touch "$result/new"
	! as_other touch "$result/new" 2>/dev/null || fail "another user writes"
fi

say "taken away"
ask umount mnt
! grep -qF " $here/mnt " /proc/self/mountinfo || fail "it is still mounted"
