# SPDX-License-Identifier: MIT
"""Programs that live on a terminal, each natively and in a step."""
import fcntl
import os
import re
import signal
import struct
import sys
import termios
import time

from ptys import REPORT, Terminal, check, note, report

WITNESS = os.environ["WITNESS"]
signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def wait_for(what, why):
    deadline = time.monotonic() + 20
    while not what():
        if time.monotonic() > deadline:
            sys.exit(f"FAIL: waited for {why}")
        time.sleep(0.01)


def both(what, talk, *argv):
    """talk(terminal) natively and in a step; both must end with the same status, and return the same."""
    note(what)
    outcome = []
    for prefix in (), ("mlfs", "exec", "-q", "--report", REPORT, "--"):
        t = Terminal(*prefix, *argv)
        said = talk(t)
        outcome.append((said, t.end()[1]))
    check(what, outcome[1], outcome[0])
    check(what + ": stored", report()["stored"], False)


def says(*pairs):
    """Type each first of a pair when the second of the one before was seen."""
    def talk(t):
        for keys, pattern in pairs:
            at = len(t.seen)
            if keys:
                t.type(keys)
            t.read_until(rb"(?s).{%d}.*?" % at + pattern)
    return talk


with open("long", "w") as f:
    f.writelines(f"line {i}\n" for i in range(200))

both("more", says((b"", b"More"), (b" ", b"line 55"), (b"q", b"")), "more", "long")
both("less", says((b"", b"line 20"), (b" ", b"line 55"), (b"q", b"")), "less", "long")
both("less in a pipeline", says((b"", b"line 20"), (b"/line 77\r", b"line 77"), (b"q", b"")), "sh", "-c", "cat long | less")
both("a password prompt", says((b"", b"assword"), (b"secret\n", b"<secret>")), "/usr/bin/python3", "-c",
     "import getpass; print('<' + getpass.getpass() + '>')")
both("one key", says((b"", rb"key\?"), (b"z", b"<z>")), "bash", "-c", "read -rsn1 -p 'key? ' k; echo \"<$k>\"")
both("reading stdout's and stderr's terminal", says((b"", b"one"), (b"a\n", b"<a>"), (b"b\n", b"<b>")), "sh", "-c",
     "echo one; read -r x <&1; echo \"<$x>\"; read -r x <&2; echo \"<$x>\"")
both("script", says((b"", b"ready"), (b"word\n", b"got word")), "script", "-qec",
     "echo ready; read x; echo got $x; exit 5", "/dev/null")
both("top", says((b"", b"load average"), (b"q", b"")), "top")

# ---- vim ----


def edit(t):
    if os.path.exists("text"):
        os.unlink("text")
    t.read_until(b"text")
    t.type(b"ihello\x1b")
    t.read_until(b"hello")
    t.type(b":pre\r")  # :preserve, so that the swap file is there
    wait_for(lambda: os.path.exists(".text.swp"), "the swap file")
    t.type(b":w\r")
    t.read_until(b"written")
    with open("text") as text:
        first = text.read()
    t.type(b":!echo sh''ell; cat text\r")
    t.read_until(rb"(?s)shell\r?\n.*hello.*ENTER")
    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 66, 0, 0))
    t.type(b"\r:r !stty size\r")
    t.read_until(rb"20 66")
    t.type(b"Go\x1bu:silent! set undofile\r:w\r:q\r")
    return first


def left(t):
    first = edit(t)
    wait_for(lambda: not os.path.exists(".text.swp"), "vim's end")
    with open("text") as text:
        second = text.read()
    return first, second, sorted(os.listdir("."))


both("vim", left, os.environ["VI"], "-u", "NONE", "-N", "text")
check("vim's text", open("text").read(), "hello\n20 66\n")


def from_pipe(t):
    t.read_until(b"line 20")
    t.type(b":w! copy\r")
    t.read_until(b"written")
    t.type(b":q!\r")


both("vim that reads the text from stdin and the keys from stderr", from_pipe, "sh", "-c", "cat long | $VI -u NONE -N -")
check("copied", open("copy").read(), open("long").read())

# ---- shells ----


class Shell(Terminal):
    """An interactive shell; do() types a line and waits for a pattern in what comes then."""

    def __init__(self, *argv):
        super().__init__(*argv)
        self.type(b"PS1='prom''pt> '\n")
        self.at = 0
        self.wait(rb"prompt> ")

    def wait(self, pattern):
        self.read_until(rb"(?s).{%d}.*?" % self.at + pattern)
        self.at = re.search(rb"(?s).{%d}.*?" % self.at + pattern, self.seen).end()

    def do(self, line, pattern):
        self.type(line)
        self.wait(pattern)


def asleep(name):
    """Some process of this name sleeps in our terminal."""
    return b"sleep" in os.popen(f"ps -o wchan= -C {name}").read().encode()


def state_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


SLEEP = b"sh -c 'echo $$ >\"$WITNESS/pid\"; exec sleep 60'\n"


def started():
    path = WITNESS + "/pid"
    wait_for(lambda: os.path.exists(path) and open(path).read().endswith("\n"), "a job")
    pid = int(open(path).read())
    os.unlink(path)
    wait_for(lambda: open(f"/proc/{pid}/comm").read() == "sleep\n", "sleep")
    return pid


def job_control(t):
    t.type(SLEEP)
    pid = started()
    t.do(b"\x1a", rb"Stopped")
    check("state", state_of(pid), "T")
    t.do(b"jobs; echo listed\n", rb"Stopped[^\n]*\n[^S]*listed\r")
    t.do(b"bg\n", rb"prompt> ")
    wait_for(lambda: state_of(pid) == "S", "bg")
    t.do(b"jobs\n", rb"Running")
    t.type(b"fg\n")
    wait_for(lambda: os.tcgetpgrp(t.fd) == os.getpgid(pid), "the foreground")
    t.do(b"\x03", rb"prompt> ")
    t.do(b"echo st=$?\n", rb"st=130")
    t.type(SLEEP)
    started()
    t.do(b"\x1c", rb"prompt> ")
    t.do(b"echo st=$?\n", rb"st=131")
    t.do(b"cat &\n", rb"prompt> ")
    t.do(b"sleep 0.1; jobs\n", rb"Stopped[^\n]*(cat|tty input)")
    t.do(b"kill -s KILL -- -$!; wait 2>/dev/null; echo go''ne\n", rb"gone\r")
    t.do(b"stty tostop; (stty -a; echo never) & sleep 0.1; stty -tostop; kill -s KILL -- -$!; wait 2>/dev/null; echo kil''led\n", rb"killed\r")
    t.do(b"set -m; sleep 0.05 & wait $!; echo st=$?\n", rb"st=0")
    t.type(b"exit 7\n")


def bash(t):
    t.__class__ = Shell
    t.at = 0
    t.do(b"PS1='prom''pt> '\n", rb"prompt> ")
    assert b"no job control" not in t.seen and b"cannot set" not in t.seen, t.seen
    job_control(t)


both("bash", bash, "bash", "--norc", "-i")
both("dash", bash, "dash", "-i")

note("mlfs as a job of a shell")
t = Shell("bash", "--norc", "-i")
t.do(b"mlfs exec -q -- bash --norc -i\n", rb"[$#] ")
t.do(b"PS1='inn''er> '\n", rb"inner> ")
t.do(b"suspend\n", rb"Stopped")
t.do(b"echo out''er\n", rb"outer\r")
t.do(b"fg\n", rb"mlfs exec")
t.do(b"echo ag''ain\n", rb"again\r")
t.do(b"exit 3\n", rb"prompt> ")
t.do(b"echo st=$?\n", rb"st=3\r")
t.do(b"mlfs exec -q -- sh -c 'read x <\"$WITNESS/go\"; echo back''ground' &\n", rb"\[1\]")
t.do(b"mkfifo \"$WITNESS/fifo\"; echo ma''de\n", rb"made\r")
t.do(b"kill %1; wait; echo st''opped\n", rb"stopped\r")
t.do(b"mlfs exec -q -- sh -c 'read x <\"$WITNESS/fifo\"; echo back''ground' &\n", rb"\[1\]")
t.do(b"echo x >\"$WITNESS/fifo\"; wait; echo st=$?\n", rb"background\r.*?st=0\r")
t.do(b"mlfs exec -q -- cat &\n", rb"\[1\]")
t.do(b"sleep 0.3\n", rb"prompt> ")
t.do(b"jobs\n", rb"Stopped[^\n]*mlfs")
t.do(b"kill -s KILL -- -$!; wait 2>/dev/null; fg; echo no''ne\n", rb"none\r")
t.type(b"mlfs exec -q -- " + SLEEP)
pid = started()
t.do(b"\x1a", rb"Stopped")
check("state", state_of(pid), "T")
t.type(b"fg\n")
wait_for(lambda: state_of(pid) == "S", "fg")
t.do(b"\x1c", rb"prompt> ")
t.do(b"echo st=$?\n", rb"st=131\r")
t.do(b"mlfs exec -q -- seq 1000000 | mlfs exec -q -- cat | head -n 1; echo \"${PIPESTATUS[*]}\"\n", rb"\r1\r\n141 141 0\r")
t.do(b"timeout --foreground 0.2 mlfs exec -q -- sleep 60; echo st=$?\n", rb"st=124\r")
t.do(b"timeout 0.2 mlfs exec -q -- sleep 60; echo st=$?\n", rb"st=124\r")
t.do(b"mlfs exec -q -- timeout --foreground 0.2 sleep 60; echo st=$?\n", rb"st=124\r")
t.do(b"mlfs exec -q -- timeout 0.2 sleep 60; echo st=$?\n", rb"st=124\r")
t.do(b"stty -a | grep -o ' echo '; echo mo''des\n", rb" echo \r\nmodes\r")
t.type(b"exit 0\n")
check("status", t.end()[1], 0)
