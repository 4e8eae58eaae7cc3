# SPDX-License-Identifier: MIT
"""Where things are done: the directories, a private tmpfs, the ordinary user, the machine in words."""
import ctypes
import os
import platform
import pwd
import re
import shutil
import subprocess
import tempfile

from measure import LIBC, Failure

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def mount(source, target, kind, flags, data=None):
    text = [x.encode() if x else None for x in (source, target, kind)]
    if LIBC.mount(*text, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
        n = ctypes.get_errno()
        raise Failure(f"cannot mount {kind or 'private'} on {target}: {os.strerror(n)}")


def private_tmpfs(path):
    """A tmpfs that only this process and what it starts see, and that is gone with them."""
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise Failure(f"cannot make a mount namespace: {os.strerror(ctypes.get_errno())}")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("bench", path, "tmpfs", 0, "mode=755,size=75%")


def fs_type(path):
    """The type of the file system that path lies on."""
    best, found = "", "?"
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ")
            point = re.sub(r"\\(\d{3})", lambda m: chr(int(m.group(1), 8)), left.split()[4])
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, found = point, right.split()[0]
    return found


class Place:
    """base/work/NAME: a workload's directory; base/cache/NAME: its cache; base/old: moved-away outputs;
    base/io: what commands print; base/tmpfs: as root; base/bin: mlfs and its helpers, readable by everyone."""

    def __init__(self, base):
        self.base = base
        self.io = f"{base}/io"
        self.tmpfs = f"{base}/tmpfs" if os.path.ismount(f"{base}/tmpfs") else None
        self.mlfs = f"{base}/bin/mlfs"
        self.filler = f"{base}/bin/index-fill"
        self.data = f"{base}/data"

    def work(self, name, on_tmpfs=False):
        top = self.tmpfs if on_tmpfs and self.tmpfs else self.base
        return f"{top}/work/{name}"

    def old(self, path):
        """Where path is moved to instead of being deleted: on ext4, creating files right after thousands were
        deleted is slow by itself. Beside the directory it works in: a rename stays on one file system."""
        top = self.tmpfs if self.tmpfs and path.startswith(self.tmpfs + "/") else self.base
        return tempfile.mkdtemp(dir=f"{top}/old")

    def clear_old(self):
        for top in (self.base, self.tmpfs):
            if top:
                shutil.rmtree(f"{top}/old")
                os.mkdir(f"{top}/old")


def source(name, data):
    """A configured source tree of scripts/test-data."""
    subprocess.run([f"{TOP}/scripts/test-data", data, name], check=True, stdout=subprocess.DEVNULL)
    return f"{data}/{name}-configured"


def make_base(where, mlfs, sources):
    """The directories, with what an ordinary user could not read copied into them."""
    base = tempfile.mkdtemp(prefix="mlfs-bench.", dir=where)
    os.chmod(base, 0o755)
    for name in ("bin", "data", "cache", "work", "old", "io", "tmpfs"):
        os.mkdir(f"{base}/{name}")
    shutil.copy(mlfs, f"{base}/bin/mlfs")
    filler = f"{os.path.dirname(os.path.dirname(mlfs))}/tests/index-fill"
    if os.access(filler, os.X_OK):
        shutil.copy(filler, f"{base}/bin/index-fill")
    for name in sources:
        tree = source(name, os.path.join(TOP, "build", "test-data"))
        subprocess.run(["cp", "-a", tree, f"{base}/data/"], check=True)
    return base


def enter(base, user):
    """In the process that measures: root's tmpfs, then the ordinary user."""
    if os.geteuid() == 0:
        private_tmpfs(f"{base}/tmpfs")
        os.mkdir(f"{base}/tmpfs/work")
        os.mkdir(f"{base}/tmpfs/old")
    if user:
        become(user, base)
    return Place(base)


def become(user, base):
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Failure(f"there is no user {user}; as root: useradd --system {user}") from None
    subprocess.run(["chown", "-R", f"{entry.pw_uid}:{entry.pw_gid}", base], check=True)
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=base, USER=user, LOGNAME=user)


def text_of(argv):
    try:
        p = subprocess.run(argv, capture_output=True, text=True, check=False)
        return p.stdout.strip()
    except OSError:
        return ""


def machine(place):
    """What the figures were taken on."""
    with open("/proc/cpuinfo") as f:
        m = re.search(r"^model name\s*: (.*)", f.read(), re.M)
    release = platform.freedesktop_os_release() if os.path.exists("/etc/os-release") else {}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": m.group(1) if m else platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": os.uname().release,
        "system": release.get("PRETTY_NAME", "unknown"),
        "libfuse": text_of(["pkg-config", "--modversion", "fuse3"]) or "unknown",
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "root": os.geteuid() == 0,
        "dir": fs_type(place.base),
        "tmpfs": bool(place.tmpfs),
        "mlfs": text_of([place.mlfs, "--version"]),
    }


def free_bytes(path):
    s = os.statvfs(path)
    return s.f_bavail * s.f_frsize
