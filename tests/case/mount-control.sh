#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs mount --list, mlfs status, mlfs umount: mounts that serve, are in use, whose server is stuck, or was killed.
. "$(dirname "$0")/lib.sh"

here=$PWD
trap 'cd /; for m in a b c; do mlfs umount -l -q "$here/$m" 2>/dev/null || :; done' EXIT

# listed MNT MEMBER: what --list says of it; empty: it is not there
listed()
{
	mlfs mount --list --json | $python -c '
import json, sys
for m in json.load(sys.stdin):
    if m["mountpoint"] == sys.argv[1]:
        print(m[sys.argv[2]])' "$here/$1" "$2"
}
state_is()
{
	[ "$(listed "$1" state)" = "$2" ]
}
ended()
{
	! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}

mkdir src a b c
echo one >src/one
miss -- true

say "usage"
ask mount =2 a
ask mount =2 --browse a b
ask mount =2 --list a
ask umount =2
ask status =2
ask umount =1 a
grep -q "^mlfs: cannot unmount a: it is no mount of mlfs$" "$IO/err" || fail "it is not said"
ask umount =1 missing/a
ask status =1 src
grep -q "^mlfs: cannot ask src: it is no mount of mlfs$" "$IO/err" || fail "it is not said"
for command in umount status; do
	ask $command --help
	[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"
done

say "which there are"
same "$(listed a state)" ""
ask mount src a
ask mount --browse b
same "$(listed a kind) $(listed a source) $(listed a state) $(listed a cache) $(listed a read_only)" "mount $here/src serving None False"
same "$(listed b kind) $(listed b source) $(listed b state) $(listed b cache) $(listed b read_only)" "browse $MLFS_CACHE serving $MLFS_CACHE True"
ask mount --list
has "^$here/a +$here/src +mount, pid $(listed a pid)$"
has "^$here/b +$MLFS_CACHE +browse, pid $(listed b pid)$"
same "$(cat "/proc/$(listed a pid)/comm")" mlfs

say "what they are doing"
cat a/one >/dev/null
ls b/by-name >/dev/null
for m in a b; do
	ask status --json $m
	$python -I - "$IO/out" "$here/$m" "$(listed $m pid)" <<'END' || fail "status of $m: $(cat "$IO/out")"
import json, sys
s = json.load(open(sys.argv[1]))
assert s["mountpoint"] == sys.argv[2] and s["pid"] == int(sys.argv[3]), s
assert 0 < s["uptime_seconds"] < 3600, s
assert s["requests"]["LOOKUP"] > 0 and s["requests"]["total"] > s["requests"]["LOOKUP"], s
END
done
ask status a/one
has "^mount +$here/a, showing $here/src$"
has "^server +pid $(listed a pid), up "
has "^requests +.*LOOKUP=[0-9]"
ask status b
has "^mount +$here/b, a look into the cache $MLFS_CACHE$"

say "taken away: its server has ended when the command returns"
pid=$(listed b pid)
ask umount b
same "$(listed b state)" ""
ended "$pid" || fail "its server is still there"
mount_pid=$(listed a pid)

say "in use: it stays, and who uses it is told"
exec 5<a/one
if is_root; then
	ask umount =1 a
	grep -q "it is in use by .*($$)" "$IO/err" || fail "who uses it is not told: $(cat "$IO/err")"
else
	ask umount =1 a
fi
same "$(listed a state)" serving
ask umount --lazy a
same "$(listed a state)" ""
same "$(cat <&5)" one "what is open goes on"
exec 5<&-
wait_for ended "$mount_pid"

say "its server was killed: seen, cleared, and another mount takes the place"
ask mount src a
pid=$(listed a pid)
kill -KILL "$pid"
wait_for state_is a dead
ask mount --list
has "^$here/a .*its server is gone"
ask status =1 a
grep -q "its server is gone" "$IO/err" || fail "it is not said"
ask umount a
same "$(listed a state)" ""
same "$(ls a)" ""
ask mount src a
kill -KILL "$(listed a pid)"
wait_for state_is a dead
ask mount src a
same "$(cat a/one)" one
ask umount a
same "$(grep -cF " $here/a " /proc/self/mountinfo)" 0

say "its server is stuck: nobody who asks is"
ask mount src a
pid=$(listed a pid)
kill -STOP "$pid"
wait_for state_is a silent
ask status =1 a
grep -q "does not answer" "$IO/err" || fail "it is not said"
ask umount --force a
same "$(listed a state)" ""
kill -CONT "$pid"
wait_for ended "$pid"

say "an end asked for by a signal: it is unmounted first"
ask mount --browse b
pid=$(listed b pid)
kill -TERM "$pid"
wait_for ended "$pid"
same "$(listed b state)" ""

say "in the foreground, as a service: systemd is told when it can be used"
cat >notified.py <<'END'
import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(20)
env = dict(os.environ, NOTIFY_SOCKET=sys.argv[1].replace("\0", "@"))
p = subprocess.Popen(["mlfs", "mount", "-f", "src", "a"], env=env)
assert s.recv(100) == b"READY=1"
assert open("a/one").read() == "one\n"
subprocess.run(["mlfs", "umount", "a"], check=True)
assert p.wait(20) == 0
END
$python -I notified.py "$here/notify"
$python -I -c "import sys; sys.argv[1] = '\\0' + sys.argv[1]; exec(open('notified.py').read())" "mlfs-case-$$"

say "several at once, and names that are not plain"
mkdir "c/a b	c" src2
ask mount src a
ask mount src2 "c/a b	c"
same "$(listed "c/a b	c" state)" serving
ask umount a "c/a b	c"
same "$(mlfs mount --list | grep -cF "$here")" 0

say "steps: what they did is told; unmounting waits for those that run"
mkdir -p src/bin
cat >src/bin/count <<'END'
#!/bin/sh
wc -l <one
END
cat >src/bin/wait <<END
#!/bin/sh
echo begun >"$WITNESS/begun"
read -r line <"$WITNESS/go"
echo done >"$here/done"
END
chmod +x src/bin/count src/bin/wait
mkfifo "$WITNESS/begun" "$WITNESS/go"
ask mount --step 'bin/*' src a
(cd a && bin/count && bin/count) >"$IO/counted" 2>&1
same "$(tail -1 "$IO/counted")" 1
ask status --json a
$python -I - "$IO/out" <<'END' || fail "status: $(cat "$IO/out")"
import json, sys
s = json.load(open(sys.argv[1]))
assert (s["hits"], s["misses"], s["steps_running"]) == (1, 1, 0), s
END
ask status a
has '^results +1 hits, 1 misses, 0 not cached; saved '
a/bin/wait &
await begun
ask status --json a
$python -I - "$IO/out" "$(id -u)" <<'END' || fail "status: $(cat "$IO/out")"
import json, sys
s = json.load(open(sys.argv[1]))
assert s["steps_running"] == 1, s
step, = s["steps"]
assert step["name"] == "bin/wait" and step["uid"] == int(sys.argv[2]) and step["running_seconds"] < 100, s
END
ask status a
has '^steps +1 running$'
has '^  bin/wait  pid [0-9]+, '
mlfs umount a 2>"$IO/waiting" &
umounting=$!
wait_for grep -q '^mlfs: waiting for 1 step that runs in ' "$IO/waiting"
same "$(listed a state)" serving
[ ! -e done ] || fail "the step ended by itself"
echo go >"$WITNESS/go"
wait $umounting
same "$(cat done)" "done" "the step was waited for"
same "$(listed a state)" ""

say "a step that has nothing to do with it is not waited for"
ask mount --step 'bin/*' src a
mlfs exec --refresh --cache "$here/other" -- sh -c 'echo a >"$0/begun"; read -r go <"$0/go"' "$WITNESS" &
waiting=$!
await begun
[ -n "$(listed a pid)" ] || fail "it is not there"
server=$(listed a pid)
ask umount a
same "$(listed a state)" ""
echo go >"$WITNESS/go"
wait $waiting
wait_for ended "$server"
same "$(ls other/lock)" "" "a lock was left"

say "how far a step is: as far as it got last time in this time"
ask mount --step 'bin/*' -o refresh=yes src a
a/bin/wait &
waiting=$!
await begun
ask status --json a
grep -q '"expected_seconds": null' "$IO/out" || fail "it ran for the first time: $(cat "$IO/out")"
echo go >"$WITNESS/go"
wait $waiting
a/bin/wait &
waiting=$!
await begun
ask status --json a
grep -q '"expected_seconds": [0-9]' "$IO/out" || fail "it ran before: $(cat "$IO/out")"
ask status a
has '^  bin/wait  pid [0-9]+, .* of about .* \([0-9]+ %\)$'
echo go >"$WITNESS/go"
wait $waiting
ask umount a
