# SPDX-License-Identifier: MIT
"""Run mlfs on a pseudo-terminal, as a person would, and check what it shows."""
import fcntl
import os
import re
import signal
import struct
import sys
import termios
import time

from ptys import Terminal, check, mlfs, note, report

note("the step sees terminals; mlfs says one line")
LOOK = ("sh", "-c", "test -t 0 && echo in; test -t 1 && echo out; test -t 2 && echo err; stty size; echo to stderr >&2")
shown, status = mlfs("--", *LOOK).end()
check("status", status, 0)
assert shown.startswith(b"in\r\nout\r\nerr\r\n31 97\r\nto stderr\r\n"), shown
assert re.search(rb"mlfs: miss sh", shown), shown
first = shown[:shown.index(b"mlfs: ")]
check("result", report()["result"], "miss")

note("a hit shows the same, and how much time was saved")
SLOW = ("sh", "-c", "sleep 0.3; printf 'a\\nb\\tc\\033[1m'; echo err >&2")
shown, _ = mlfs("--", *SLOW).end()
assert report()["stored"], report()
first = shown[:shown.index(b"mlfs: ")]
shown, _ = mlfs("--", *SLOW).end()
check("result", report()["result"], "hit")
check("bytes", shown[:shown.index(b"mlfs: ")], first)
assert re.search(rb"mlfs: hit sh [0-9a-f]{8} \(saved .*\)", shown), shown

note("-q says nothing")
shown, _ = mlfs("-q", "--", "echo", "quiet").end()
check("shown", shown, b"quiet\r\n")

note("stdout elsewhere, stderr on the terminal: the line is on stderr only")
shown, _ = mlfs("--", "echo", "elsewhere", redirect='>"$IO/out"').end()
check("in the file", open(os.environ["IO"] + "/out").read(), "elsewhere\n")
assert b"mlfs: miss echo" in shown and b"elsewhere" not in shown, shown
note("stderr elsewhere: no line at all")
shown, _ = mlfs("--", "echo", "on terminal", redirect='2>"$IO/err"').end()
check("shown", shown, b"on terminal\r\n")
check("in the file", open(os.environ["IO"] + "/err").read(), "")

note("typed input reaches the command; a step that read the terminal is not stored")
t = mlfs("--", "sh", "-c", "read x; echo \"got $x\"")
t.type(b"typed\n")
shown, status = t.end()
assert b"got typed\r\n" in shown, shown
check("stored", report()["stored"], False)
assert "terminal" in report()["reason"], report()

note("Ctrl-C interrupts the command, its trap runs")
t = mlfs("--", "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done")
t.read_until(b"ready")
t.type(b"\x03")
shown, status = t.end()
assert b"caught" in shown, shown
check("status", status, 9)
note("Ctrl-C without a trap")
# (dash loses a signal that comes while it starts a program: exec)
t = mlfs("--", "sh", "-c", "echo ready; exec sleep 60")
t.read_until(b"ready")
t.type(b"\x03")
shown, status = t.end()
assert status in (130, -signal.SIGINT), status

note("Ctrl-Z stops, fg goes on")
with open(os.environ["WITNESS"] + "/wait.py", "w") as f:
    f.write("import os, time\nprint('up', flush=True)\nwhile not os.path.exists(os.environ['WITNESS'] + '/end'):\n"
            "    time.sleep(0.05)\nprint('finished')\n")
t = Terminal("bash", "--norc", "-i")
t.type(b"PS1='prompt> '\n")
t.read_until(rb"prompt> (?!')")
t.type(b"mlfs exec -q -- /usr/bin/python3 \"$WITNESS/wait.py\"\n")
t.read_until(rb"\nup\r")
t.type(b"\x1a")
t.read_until(rb"Stopped")
open(os.environ["WITNESS"] + "/end", "w").close()
t.type(b"fg\n")
t.read_until(rb"\nfinished")
t.type(b"exit\n")
t.end()

note("window size changes are passed on")
t = mlfs("--", "bash", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
t.read_until(b"ready")
fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
shown, _ = t.end()
assert b"44 111" in shown, shown

note("modes set by the command are the terminal's, and end as they were")
t = Terminal("sh", "-c", "stty -g >\"$IO/before\"; mlfs exec -q -- sh -c 'stty -echo; read x; stty echo; echo \"<$x>\"'; "
             "stty -g >\"$IO/after\"")
time.sleep(0)
deadline = time.monotonic() + 20
while termios.tcgetattr(t.fd)[3] & termios.ECHO:
    assert time.monotonic() < deadline, "echo was not turned off on the real terminal"
    time.sleep(0.01)
t.type(b"secret\n")
shown, _ = t.end()
check("shown", shown, b"<secret>\r\n")
check("modes afterwards", open(os.environ["IO"] + "/before").read(), open(os.environ["IO"] + "/after").read())

note("a large output in one piece")
shown, _ = mlfs("-q", "--", "seq", "1", "50000").end()
check("last", shown[-7:], b"50000\r\n")
check("lines", shown.count(b"\r\n"), 50000)
again, _ = mlfs("-q", "--", "seq", "1", "50000").end()
check("the hit", again == shown, True)
check("result", report()["result"], "hit")

note("the terminal goes away: the command gets SIGHUP, nothing is left")
t = mlfs("--", "sh", "-c", "echo $$ >\"$WITNESS/hup\"; echo ready; exec sleep 60")
t.read_until(b"ready")
with open(os.environ["WITNESS"] + "/hup") as f:
    step = int(f.read())
os.close(t.fd)
deadline = time.monotonic() + 20
while os.waitpid(t.pid, os.WNOHANG)[0] == 0 or os.path.exists(f"/proc/{step}"):
    if time.monotonic() > deadline:
        os.kill(step, signal.SIGKILL)
        sys.exit("FAIL: the command is still there")
    time.sleep(0.02)
