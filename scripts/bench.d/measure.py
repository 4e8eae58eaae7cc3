# SPDX-License-Identifier: MIT
"""One command: its wall and CPU time, what it printed, its peak memory, its system calls; and what it left behind."""
import ctypes
import hashlib
import os
import re
import resource
import shutil
import signal
import stat
import sys
import threading
import time
from dataclasses import dataclass

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36
LIMIT = 3600  # seconds; a command that takes longer hangs


class Failure(Exception):
    """Said in one line, and the suite ends: a figure of something that went wrong is worth nothing."""


def adopt_orphans():
    """So that the CPU time of processes that outlive the command (a server of a mount) is counted, too."""
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failure("cannot become the reaper of what commands leave")


@dataclass
class Run:
    seconds: float  # wall, until the command itself has ended
    cpu: float  # user + system, of all it started
    out: bytes
    err: str

    def said(self, what):
        """Is there a line `mlfs: hit …`?"""
        return re.search(rf"^mlfs: {what} ", self.err, re.M) is not None


def cpu_of_children():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def spawn(argv, env, io):
    """The command with stdin from /dev/null and its output in files: no thread of ours runs beside it."""
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, f"{io}/out", write, 0o600),
               (os.POSIX_SPAWN_OPEN, 2, f"{io}/err", write, 0o600)]
    return os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsigdef=[signal.SIGPIPE])


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(word) for word in f.read().split()]
    except OSError:
        return []


def end_all():
    """Kill what we have started, and what that has."""
    def kill(pid):
        for child in children(pid):
            kill(child)
        if pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    for _ in range(3):  # orphans have come to us meanwhile
        kill(os.getpid())


def wait(pid, start, limit):
    """(status of pid, seconds until it ended); also waits for what it left. Kills all of it after so many seconds."""
    def late(_signal, _frame):
        end_all()
        raise Failure(f"took longer than {limit:.0f} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(max(1, int(limit)))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.perf_counter() - start
    reap()
    signal.alarm(0)
    return status, seconds


def reap():
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def show(argv):
    text = " ".join(argv).replace("\n", " ")
    return text if len(text) < 200 else text[:197] + "..."


def run(argv, env, io, watch=None, status=0, limit=LIMIT):
    """watch(pid) is called when it runs, in this thread (see Peak). status: how it has to end."""
    before = cpu_of_children()
    start = time.perf_counter()
    pid = spawn(argv, env, io)
    if watch:
        watch(pid)
    ended, seconds = wait(pid, start, limit)
    with open(f"{io}/out", "rb") as f:
        out = f.read()
    with open(f"{io}/err", errors="replace") as f:
        err = f.read()
    if ended != status:
        raise Failure(f"{show(argv)}: status {ended}\n{err[-2000:]}")
    return Run(seconds, cpu_of_children() - before, out, err)


# ---- what was left ----

def digest(path):
    """One digest over the names, types, modes, link targets and contents below path; and one for each name."""
    each = {}

    def add(p, st):
        h = hashlib.sha256()
        h.update(f"{stat.S_IFMT(st.st_mode):o} {stat.S_IMODE(st.st_mode):o} ".encode())
        if stat.S_ISLNK(st.st_mode):
            h.update(os.readlink(p).encode())
        elif stat.S_ISREG(st.st_mode):
            with open(p, "rb", buffering=0) as f:
                while block := f.read(1 << 20):
                    h.update(block)
        each[os.path.relpath(p, path)] = h.hexdigest()

    add(path, os.lstat(path))
    if os.path.isdir(path):
        for top, dirs, files in os.walk(path):
            for name in dirs + files:
                p = os.path.join(top, name)
                add(p, os.lstat(p))
    return each


def digests(paths, ignored=()):
    """Of several outputs; one that is not there has none. ignored: patterns of names that differ from run to run."""
    all_of_them = {}
    for path in paths:
        if os.path.lexists(path):
            for name, value in digest(path).items():
                name = os.path.normpath(os.path.join(path, name))
                if not any(re.search(pattern, name) for pattern in ignored):
                    all_of_them[name] = value
    return all_of_them


def differences(want, got):
    """Names in which two trees differ, some of them."""
    names = sorted(n for n in want.keys() | got.keys() if want.get(n) != got.get(n))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


# ---- counting, in runs that are not timed ----

def count_calls(argv, env, io):
    """System calls of the command and all it starts, by name; None where strace is missing."""
    if not shutil.which("strace"):
        return None
    run(["strace", "-f", "-qq", "-c", "-o", f"{io}/calls"] + argv, env, io)
    calls = {}
    with open(f"{io}/calls") as f:
        for line in f:
            words = line.split()
            if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
                calls[words[-1]] = calls.get(words[-1], 0) + int(words[3])
    if not calls:
        raise Failure(f"strace counted no calls of {show(argv)}")
    return calls


def perf_counts(argv, env, io):
    """{"instructions": n, "cycles": n} of the command and all it starts; None where the machine counts none."""
    if not shutil.which("perf"):
        return None
    try:
        run(["perf", "stat", "-x,", "-e", "instructions,cycles", "-o", f"{io}/perf", "--"] + argv, env, io)
    except Failure as e:
        if "perf" not in str(e):
            raise
        return None
    found = {}
    with open(f"{io}/perf") as f:
        for line in f:
            fields = line.split(",")
            if len(fields) > 2 and fields[0].isdigit():
                found[fields[2].split(":")[0]] = int(fields[0])
    return found or None


def counts_instructions(io):
    """Why not, or None when it does."""
    if not shutil.which("perf"):
        return "perf is not installed (apt-get install linux-perf)"
    if not perf_counts(["true"], dict(os.environ), io):
        return "this machine counts no instructions (perf stat: not supported)"
    return None


class Peak(threading.Thread):
    """The highest resident set of each mlfs process of a run, in KB: VmHWM, looked at every few milliseconds.

    (ru_maxrss would not do: it begins with that of the process that started the command.)"""

    def __init__(self, mlfs):
        super().__init__(daemon=True)
        self.mlfs = os.path.realpath(mlfs)
        self.front = self.others = 0
        self.stopped = threading.Event()
        self.pid = 0

    def watch(self, pid):
        self.pid = pid
        self.start()

    def finish(self):
        self.stopped.set()
        self.join()

    def look(self, pid):
        """VmHWM of a process that executes mlfs; 0 of others."""
        try:
            if os.readlink(f"/proc/{pid}/exe") != self.mlfs:
                return 0
            with open(f"/proc/{pid}/status") as f:
                m = re.search(r"^VmHWM:\s+(\d+)", f.read(), re.M)
            return int(m.group(1)) if m else 0
        except OSError:
            return 0

    def run(self):
        while not self.stopped.wait(0.003):
            self.front = max(self.front, self.look(self.pid))
            for pid in children(self.pid):
                self.others = max(self.others, self.look(pid))


def warn(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)
