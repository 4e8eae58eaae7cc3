# SPDX-License-Identifier: MIT
"""mount-locks.py MNT SRC: locks of one file, taken by way of a mount and past it."""
import ctypes
import fcntl
import os
import signal
import subprocess
import sys

MNT, SRC = (f"{d}/lock" for d in sys.argv[1:3])
TRY = """
import fcntl, sys
f = open(sys.argv[1], "r+")
try:
    getattr(fcntl, sys.argv[2])(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("got")
except BlockingIOError:
    print("busy")
"""
# Says that it is about to wait, and when it has it.
WAIT = """
import fcntl, sys
f = open(sys.argv[1], "r+")
print("waiting", flush=True)
getattr(fcntl, sys.argv[2])(f, fcntl.LOCK_EX)
print("got", flush=True)
"""


def same(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")


def python(code, *args, **kw):
    return subprocess.Popen([sys.executable, "-I", "-c", code, *args], stdout=subprocess.PIPE, text=True, **kw)


def tried(path, kind):
    return python(TRY, path, kind).communicate(timeout=20)[0].strip()


def waiter(kind):
    p = python(WAIT, MNT, kind, stderr=subprocess.DEVNULL)
    same(f"{kind}, one that waits", p.stdout.readline(), "waiting\n")
    return p


def held(path, kind):
    f = open(path, "r+", encoding="ascii")
    getattr(fcntl, kind)(f, fcntl.LOCK_EX)
    return f


for kind in "flock", "lockf":
    for path in MNT, SRC:
        with held(path, kind):
            for other in MNT, SRC:
                same(f"{kind} held in {path}, tried in {other}", tried(other, kind), "busy")
        for other in MNT, SRC:
            same(f"{kind} given back in {path}, tried in {other}", tried(other, kind), "got")
    f = held(SRC, kind)
    p = waiter(kind)
    same(f"{kind}, tried while one waits", tried(MNT, kind), "busy")  # and is answered at once
    f.close()
    same(f"{kind}, waited for", p.communicate(timeout=20)[0], "got\n")
    for sig in signal.SIGINT, signal.SIGKILL:
        with held(SRC, kind):
            p = waiter(kind)
            p.send_signal(sig)
            same(f"{kind}, {sig.name} while waiting", p.wait(timeout=20), -sig)
        same(f"{kind} after {sig.name}", tried(MNT, kind), "got")

# fcntl(2): parts of a file, both kinds, and closing any descriptor gives them back.
a = open(MNT, "r+", encoding="ascii")
fcntl.lockf(a, fcntl.LOCK_EX, 10, 100)
fcntl.lockf(a, fcntl.LOCK_SH, 10, 200)
PART = """
import fcntl, sys
f = open(sys.argv[1], "r+")
for kind, start in ((fcntl.LOCK_EX, 0), (fcntl.LOCK_SH, 105), (fcntl.LOCK_EX, 110), (fcntl.LOCK_SH, 200), (fcntl.LOCK_EX, 209)):
    try:
        fcntl.lockf(f, kind | fcntl.LOCK_NB, 1, start)
        print("got", end=" ")
    except BlockingIOError:
        print("busy", end=" ")
"""
for path in MNT, SRC:
    same(f"parts, in {path}", python(PART, path).communicate(timeout=20)[0], "got busy got got busy ")
open(MNT, "r+", encoding="ascii").close()
for path in MNT, SRC:
    same(f"closed elsewhere, in {path}", tried(path, "lockf"), "got")
a.close()
a = open(f"{sys.argv[1]}/lock2", "x", encoding="ascii")  # which its owner cannot open again
os.chmod(f"{sys.argv[1]}/lock2", 0)
fcntl.lockf(a, fcntl.LOCK_EX)
os.chmod(f"{sys.argv[2]}/lock2", 0o600)
same("of mode 0", tried(f"{sys.argv[2]}/lock2", "lockf"), "busy")
a.close()
same("of mode 0, given back", tried(f"{sys.argv[2]}/lock2", "lockf"), "got")
with held(MNT, "lockf"):
    open(MNT, encoding="ascii").close()  # also for reading only
    for path in MNT, SRC:
        same(f"closed elsewhere after reading, in {path}", tried(path, "lockf"), "got")

# A file without a name, that gets one.
fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"text")
libc = ctypes.CDLL(None, use_errno=True)
same("linkat", libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, f"{sys.argv[1]}/named".encode(), 0x400), 0)
with open(f"{sys.argv[2]}/named", encoding="ascii") as f:
    same("named", f.read(), "text")
same("mode", os.stat(f"{sys.argv[2]}/named").st_mode & 0o777, 0o640)
os.unlink(f"{sys.argv[1]}/named")
same("unnamed again", os.pread(fd, 9, 0), b"text")
