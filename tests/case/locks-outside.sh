#!/bin/sh
# SPDX-License-Identifier: MIT
# Advisory locks of a step are seen outside the view, and those outside are seen in it.
. "$(dirname "$0")/lib.sh"

cat >lock.py <<'END'
import fcntl, os, sys
kind, mode, path = sys.argv[1:4]
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
take = fcntl.flock if kind == "flock" else fcntl.lockf
try:
    take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("busy")
    sys.exit()
print("taken", flush=True)
if mode == "hold":
    with open(os.environ["WITNESS"] + "/held", "w") as f:
        f.write("x\n")
    with open(os.environ["WITNESS"] + "/release") as f:
        f.read()
END
mkfifo "$WITNESS/held" "$WITNESS/release"
for kind in flock lockf; do
	say "$kind held in the view"
	mlfs exec --no-cache -- true
	mlfs exec -- $python lock.py $kind hold "lock.$kind" >"$IO/out" &
	pid=$!
	await held
	same "$($python lock.py $kind try "lock.$kind")" busy "outside, while held"
	same "$(mlfs exec -- $python lock.py $kind try "lock.$kind")" busy "in another view, while held"
	echo x >"$WITNESS/release"
	wait $pid
	same "$($python lock.py $kind try "lock.$kind")" taken "outside, after"

	say "$kind held outside"
	$python lock.py $kind hold "lock.$kind" >/dev/null &
	pid=$!
	await held
	same "$(mlfs exec --refresh -- $python lock.py $kind try "lock.$kind")" busy "in the view, while held"
	echo x >"$WITNESS/release"
	wait $pid
	same "$(mlfs exec --refresh -- $python lock.py $kind try "lock.$kind")" taken "in the view, after"

	say "$kind: the holder in the view is killed"
	mlfs exec --refresh -- $python lock.py $kind hold "lock.$kind" >"$IO/out" &
	pid=$!
	await held
	kill -9 $pid
	wait $pid 2>/dev/null || true
	wait_for sh -c "[ \"\$($python lock.py $kind try lock.$kind)\" = taken ]"
done

say "a file that is locked for writing and then read is an input like any other"
cat >count.py <<'END'
import fcntl, sys
with open("counter", "r+") as f:
    (fcntl.flock if sys.argv[1] == "flock" else fcntl.lockf)(f, fcntl.LOCK_EX)
    n = int(f.read())
    f.seek(0)
    f.write(str(n + 1))
END
for kind in flock lockf; do
	echo 5 >counter
	miss -- $python -I -B count.py $kind
	same "$(cat counter)" 6
	echo 5 >counter
	hit -- $python -I -B count.py $kind
	same "$(cat counter)" 6
done
