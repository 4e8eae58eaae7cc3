#!/bin/sh
# SPDX-License-Identifier: MIT
# Each kind of change from outside is seen by a running step that looks again and again, never pausing for longer
# than what the kernel remembers would hold; and a result made of what changed meanwhile is not stored.
. "$(dirname "$0")/lib.sh"

cat >wait.py <<'END'
import mmap, os, stat, sys, time
ready = os.environ["WITNESS"] + "/" + sys.argv[1]

def names(d):
    return sorted(os.listdir(d))

def content(p):
    with open(p) as f:
        return f.read()

def absent(p):
    try:
        os.lstat(p)
    except FileNotFoundError:
        return True
    return False

# What an open descriptor shows: kept over the whole wait.
held = {}
def hold(p):
    if p not in held:
        held[p] = os.open(p, os.O_RDONLY)
    return held[p]

def mapped(p):
    fd = hold(p)
    os.fstat(fd)   # a mapping alone asks the kernel nothing
    if ("m", p) not in held:
        held["m", p] = mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ)
    return held["m", p][:]

kinds = {
    "content": lambda: content("content"),
    "same-size": lambda: content("same-size"),
    "replaced": lambda: content("replaced"),
    "grown": lambda: os.stat("grown").st_size,
    "shrunk": lambda: os.stat("shrunk").st_size,
    "new": lambda: absent("new"),
    "gone": lambda: absent("gone"),
    "renamed": lambda: (absent("renamed"), absent("renamed-to")),
    "renamed-dir": lambda: (absent("renamed-dir/x"), absent("renamed-dir-to/x")),
    "mode": lambda: stat.S_IMODE(os.stat("mode").st_mode),
    "mtime": lambda: int(os.stat("mtime").st_mtime),
    "target": lambda: os.readlink("target"),
    "through": lambda: content("through"),
    "type": lambda: stat.S_IFMT(os.stat("type").st_mode),
    "xattr": lambda: os.getxattr("xattr", "user.k"),
    "listing-more": lambda: names("listing-more"),
    "listing-less": lambda: names("listing-less"),
    "listing-other": lambda: names("listing-other"),
    "deep": lambda: absent("deep/a/b/c"),
    "descriptor": lambda: os.pread(hold("descriptor"), 100, 0),
    "descriptor-same-size": lambda: os.pread(hold("descriptor-same-size"), 100, 0),
    "appended": lambda: os.pread(hold("appended"), 100, 2),
    "descriptor-mode": lambda: stat.S_IMODE(os.fstat(hold("descriptor-mode")).st_mode),
    "mapped": lambda: mapped("mapped"),
}
look = kinds[sys.argv[1]]
before = look()
with open(ready, "w") as f:
    f.write("r\n")
end = time.monotonic() + 60
# Changes of two names are seen one after the other; a file that is being written, in its parts.
while (seen := f"{before!r} {look()!r}") != sys.argv[2]:
    if time.monotonic() > end:
        sys.exit("last seen: " + seen)
    time.sleep(0.02)
print(seen)
END

for f in content same-size replaced grown shrunk gone renamed mode mtime type xattr descriptor descriptor-same-size \
	appended descriptor-mode mapped; do
	echo aaaa >$f
done
mkdir renamed-dir listing-more listing-less listing-other deep
touch renamed-dir/x listing-less/a listing-less/b listing-other/a
ln -s one target
echo aaaa >through.a
echo bbbb >through.b
ln -s through.a through
touch -d 2001-01-01Z mtime
setfattr -n user.k -v v1 xattr

# outside KIND WANTED COMMAND: run the command when the step has seen the state before. All kinds wait at once.
outside()
{
	mkfifo "$WITNESS/$1"
	(
		mlfs exec --report "$IO/report.$1" -- $python -I -B wait.py "$1" "$2" >"$IO/out.$1" 2>&1 &
		await "$1"
		sh -c "$3"
		wait $! || fail "$1: status $?"
		same "$(cat "$IO/out.$1")" "$2" "$1: stdout"
		grep -q '"result": *"miss"' "$IO/report.$1" || fail "not a miss, though $1 changed meanwhile"
		grep -q '"stored": *false' "$IO/report.$1" || fail "stored, though $1 changed meanwhile"
	) &
	pids="$pids $!"
}

mlfs exec --no-cache -- true
pids=
outside content "'aaaa\\n' 'longer\\n'" 'echo longer >content'
outside same-size "'aaaa\\n' 'bbbb\\n'" 'echo bbbb >same-size'
outside replaced "'aaaa\\n' 'bbbb\\n'" 'echo bbbb >replaced.new; mv replaced.new replaced'
outside grown "5 10" 'echo bbbb >>grown'
outside shrunk "5 2" 'truncate -s 2 shrunk'
outside new "True False" 'touch new'
outside gone "False True" 'rm gone'
outside renamed "(False, True) (True, False)" 'mv renamed renamed-to'
outside renamed-dir "(False, True) (True, False)" 'mv renamed-dir renamed-dir-to'
outside mode "420 384" 'chmod 600 mode'
outside mtime "978307200 1009843200" 'touch -d 2002-01-01Z mtime'
outside target "'one' 'two'" 'ln -sfn two target'
outside through "'aaaa\\n' 'bbbb\\n'" 'ln -sfn through.b through'
outside type "32768 16384" 'rm type; mkdir type'
outside xattr "b'v1' b'v2'" 'setfattr -n user.k -v v2 xattr'
outside listing-more "[] ['job']" 'touch listing-more/job'
outside listing-less "['a', 'b'] ['b']" 'rm listing-less/a'
outside listing-other "['a'] ['z']" 'mv listing-other/a listing-other/z'
outside deep "True False" 'mkdir -p deep/a/b; touch deep/a/b/c'
outside descriptor "b'aaaa\\n' b'longer\\n'" 'echo longer >descriptor'
outside descriptor-same-size "b'aaaa\\n' b'bbbb\\n'" 'printf bbbb | dd of=descriptor-same-size conv=notrunc status=none'
outside appended "b'aa\\n' b'aa\\nbbbb\\n'" 'echo bbbb >>appended'
outside descriptor-mode "420 384" 'chmod 600 descriptor-mode'
outside mapped "b'aaaa' b'bbbb'" 'printf bbbb | dd of=mapped conv=notrunc status=none'

for pid in $pids; do
	wait "$pid" || failed=1
done
[ -z "${failed:-}" ] || exit 1
