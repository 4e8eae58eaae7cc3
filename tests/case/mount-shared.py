# SPDX-License-Identifier: MIT
"""Between a step and the server of a shared cache, for mount-shared.sh.

between SOCKET REAL MODE FILE   listen at SOCKET and pass on to REAL what comes, as whoever runs this:
    note-use, note-store   what the step says when it asks for a result, or offers one, is written to FILE
    flip     one byte of the last object that the step sends is another
    end      the connection ends when the step has said what it offers
say REAL FILE         say what FILE holds; print what is answered beside the hello, as it comes
watch PATH REAL FILE  the same, and print whether PATH was seen to be opened
hold REAL N           have N connections that say nothing; a line when they are there; until standard input ends
huge REAL             promise a question of 4 GB; print how it ended
catch SERVER UID      find the process that looks for UID, stop it, try to look into it, end it; print what could be done
"""
import ctypes
import os
import select
import signal
import socket
import sys
import time


def connect(path):
    """The path of a socket may be longer than the system takes."""
    d = os.open(os.path.dirname(path), os.O_PATH)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(f"/proc/self/fd/{d}/{os.path.basename(path)}")
    os.close(d)
    return s


def some_of(s):
    """Nothing at its end, also where that has not read all that was said to it."""
    try:
        return s.recv(1 << 20)
    except ConnectionResetError:
        return b""


def all_of(s):
    got = b""
    while part := some_of(s):
        got += part
    return got


def pass_on(step, server, mode):
    """What the step said."""
    said = b""
    while True:
        ready, _, _ = select.select([step, server], [], [], 30)
        if server in ready:
            part = some_of(server)
            if not part:
                return said
            step.sendall(part)
        if step in ready:
            part = some_of(step)
            if not part:
                return said
            said += part
            offers = said[4:5] == b"s"
            if mode == "flip" and offers:
                part = part.replace(b"the end\n", b"the enD\n")
            if mode == "end" and offers and len(said) > 4 + int.from_bytes(said[:4], "little"):
                return said
            try:
                server.sendall(part)
            except (BrokenPipeError, ConnectionResetError):  # it has had enough
                return said


def between(path, real, mode, file):
    d = os.open(os.path.dirname(path), os.O_PATH)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{d}/{os.path.basename(path)}")
    os.chmod(path, 0o666)
    listener.listen(8)
    listener.settimeout(30)
    print("ready", flush=True)
    wanted = b"u" if mode == "note-use" else b"s"
    said = b""
    while said[4:5] != wanted:
        step, _ = listener.accept()
        with step, connect(real) as server:
            said = pass_on(step, server, mode)
    with open(file, "wb") as f:
        f.write(said)


def say(real, file):
    s = connect(real)
    assert s.recv(1) == b"m"
    with open(file, "rb") as f:
        s.sendall(f.read())
    s.shutdown(socket.SHUT_WR)
    print(all_of(s))


def watch(file, real, question):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    assert fd >= 0 and libc.inotify_add_watch(fd, file.encode(), 0x21) >= 0  # IN_OPEN, IN_ACCESS
    say(real, question)
    try:
        os.read(fd, 65536)
        print("seen")
    except BlockingIOError:
        print("nothing seen")


def hold(real, n):
    kept = [connect(real) for _ in range(int(n))]
    print("ready", flush=True)
    sys.stdin.read()
    del kept


def huge(real):
    s = connect(real)
    assert s.recv(1) == b"m"
    s.sendall(b"\xff\xff\xff\xff" + b"u" * 4096)
    print(all_of(s))


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def looker(server, uid):
    for one in children(server):
        for pid in children(one):
            try:
                with open(f"/proc/{pid}/status") as f:
                    if f"\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in f.read():
                        return int(pid)
            except OSError:
                pass
    return None


def catch(server, uid):
    end = time.monotonic() + 30
    print("ready", flush=True)
    while not (pid := looker(server, uid)):
        assert time.monotonic() < end, "it never came"
    os.kill(pid, signal.SIGSTOP)  # it is his by its number: that he may
    could = []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0x4206, pid, None, None) == 0:  # PTRACE_SEIZE
        could.append("trace")
    for name in ("mem", "maps", "environ", "auxv"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as f:
                if f.read(1):
                    could.append(name)
        except OSError:
            pass
    try:
        os.listdir(f"/proc/{pid}/fd")
        could.append("fd")
    except OSError:
        pass
    os.kill(pid, signal.SIGKILL)
    print("could:", *could)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
