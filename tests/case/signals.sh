#!/bin/sh
# SPDX-License-Identifier: MIT
# Signals sent to mlfs reach the command; its traps run; stop and continue work.
. "$(dirname "$0")/lib.sh"

cat >trap.sh <<'END'
trap 'echo "got TERM"; exit 7' TERM
trap 'echo "got HUP"; exit 8' HUP
trap 'echo "got USR1"; exit 9' USR1
trap 'echo "got INT"; exit 10' INT
echo ready >"$WITNESS/ready"
while :; do
	sleep 0.05
done
END
mkfifo "$WITNESS/ready"
for pair in TERM:7 HUP:8 USR1:9; do
	say "${pair%:*}"
	mlfs exec -- sh trap.sh >"$IO/out" 2>"$IO/err" &
	pid=$!
	await ready
	kill "-${pair%:*}" $pid
	status=0
	wait $pid || status=$?
	same "$status" "${pair#*:}"
	printed "got ${pair%:*}"
done

say "INT to the whole group"
cat >group.py <<'END'
import os, signal, subprocess, sys
# A group of its own, and SIGINT as it is by default (a shell's background jobs ignore it).
p = subprocess.Popen(["mlfs", "exec", "--", "sh", "trap.sh"], stdout=subprocess.PIPE,
                     preexec_fn=lambda: (os.setpgid(0, 0), signal.signal(signal.SIGINT, signal.SIG_DFL)))
with open(os.environ["WITNESS"] + "/ready") as f:
    f.read()
os.killpg(p.pid, signal.SIGINT)
out = p.communicate()[0]
# The terminal's comes once; that of a process is passed on as well, since it could have been sent to mlfs alone.
assert out in (b"got INT\n", 2 * b"got INT\n"), out
assert p.returncode == 10, p.returncode
END
$python group.py

say "a command that dies of the signal: mlfs says 128+N, or dies of it too"
mlfs exec -- sh -c 'echo ready >"$WITNESS/ready"; exec sleep 60' &
pid=$!
await ready
kill -TERM $pid
status=0
wait $pid || status=$?
same "$status" 143

say "stop and continue"
cat >stop.py <<'END'
import os, signal, subprocess, time

witness = os.environ["WITNESS"]
STEP = """
import os, time
with open(os.environ["WITNESS"] + "/ready", "w") as f:
    f.write(str(os.getpid()))
while not os.path.exists(os.environ["WITNESS"] + "/end"):
    time.sleep(0.02)
print("end")
"""
p = subprocess.Popen(["mlfs", "exec", "--", "/usr/bin/python3", "-c", STEP],
                     stdout=subprocess.PIPE, preexec_fn=lambda: os.setpgid(0, 0))
with open(witness + "/ready") as f:
    step = int(f.read())

def state(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]

def wait_for(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, (state(p.pid), state(step))
        time.sleep(0.01)

# Ctrl-Z: the terminal stops the whole group; whoever waits for mlfs learns that it stopped.
os.killpg(p.pid, signal.SIGTSTP)
pid, status = os.waitpid(p.pid, os.WUNTRACED)
assert os.WIFSTOPPED(status), status
wait_for(lambda: state(step) == "T")
os.killpg(p.pid, signal.SIGCONT)
wait_for(lambda: state(step) != "T")
open(witness + "/end", "w").close()
out = p.communicate()[0]
assert out == b"end\n", out
assert p.returncode == 0, p.returncode
os.unlink(witness + "/end")
END
$python stop.py

say "ignored signals stay ignored, blocked ones blocked, as outside"
cat >dispositions.sh <<'END'
grep -E '^Sig(Blk|Ign)' /proc/self/status
END
trap '' USR2
sh dispositions.sh >"$IO/native"
mlfs exec -- sh dispositions.sh >"$IO/out"
cmp "$IO/native" "$IO/out" || fail "$(cat "$IO/native") against $(cat "$IO/out")"

say "a result of a step that was ended by a signal is not stored"
mlfs exec --report "$IO/report" -- sh trap.sh >"$IO/out" &
pid=$!
await ready
kill -TERM $pid
wait $pid || true
grep -q '"stored": *false' "$IO/report" || fail stored

say "while waiting for another mlfs, a signal ends the waiting one at once"
mkfifo "$WITNESS/go"
mlfs exec -- sh -c 'echo r >"$WITNESS/ready"; read x <"$WITNESS/go"' &
first=$!
await ready
mlfs exec -- sh -c 'echo r >"$WITNESS/ready"; read x <"$WITNESS/go"' &
second=$!
# It waits: neither ended nor reading the fifo.
wait_for sh -c "grep -q '^State:.*sleeping' /proc/$second/status"
kill -TERM $second
status=0
wait $second || status=$?
same "$status" 143
echo x >"$WITNESS/go"
wait $first
