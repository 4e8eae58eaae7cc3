#!/bin/sh
# SPDX-License-Identifier: MIT
# Few descriptors, several file systems, read-only ones, deep trees.
. "$(dirname "$0")/lib.sh"

say "far more files than descriptors"
mkdir files
seq 1 3000 | while read -r i; do echo "$i" >"files/$i"; done
(
	ulimit -n 200
	miss -- sh -c 'cat files/* | sha256sum; for i in 1 2 3; do cat files/1* >/dev/null; done'
	hit -- sh -c 'cat files/* | sha256sum; for i in 1 2 3; do cat files/1* >/dev/null; done'
)
cat >hold.py <<'END'
import os
held = [open(f"files/{i}") for i in range(1, 801)]
out = [open(f"out.{i}", "w") for i in range(100)]
for i, f in enumerate(out):
    f.write(f"{i}\n")
os.unlink("files/5")
print(sum(int(f.read()) for f in held))
END
miss -- $python hold.py
printed 320400
echo 5 >files/5
rm out.*
hit -- $python hold.py
same "$(cat out.99)" 99
[ ! -e files/5 ] || fail "files/5 is there"

say "several file systems with the same inode numbers"
private()
{
	if is_root; then
		unshare -m "$@"
	else
		unshare -Urm "$@"
	fi
}
cat >two.sh <<'END'
set -eu
mkdir -p m1 m2 ro
mount -t tmpfs none m1
mount -t tmpfs none m2
mount -t tmpfs none ro
echo from one >m1/f
echo from two >m2/f
echo fixed >ro/f
mount -o remount,ro none ro
mlfs exec --report "$IO/report" -- sh -c 'cat m1/f m2/f; cp m1/f m2/copy; ln m1/f m2/link 2>/dev/null || echo EXDEV
	mv m2/copy m1/moved; cat m1/moved; touch ro/x 2>/dev/null || echo EROFS; cat ro/f
	[ "$(stat -c %i m1/f)" != "$(stat -c %i m2/f)" ] && echo apart'
END
if private true 2>/dev/null; then
	private sh two.sh >"$IO/out" 2>"$IO/err"
	printed "from one
from two
EXDEV
from one
EROFS
fixed
apart"
	grep -q '"stored": *true' "$IO/report" || fail "not stored"
	private sh two.sh >"$IO/out" 2>"$IO/err"
	grep -q '"result": *"hit"' "$IO/report" || fail "no hit: $(cat "$IO/report")"
fi

say "long paths"
cat >deep.py <<'END'
import os
for i in range(60):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
with open("f", "w") as f:
    f.write("deep\n")
print(open("f").read(), end="")
END
mkdir deep
(
	cd deep
	cp ../deep.py .
	step -- $python deep.py
	printed deep
)
rm -rf deep 2>/dev/null || true
