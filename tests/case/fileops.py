# SPDX-License-Identifier: MIT
"""File operations of every kind in the current directory, each printing what came of it. What a native run prints
and leaves behind is what a run in the view must print and leave behind (fileops.sh compares)."""
import ctypes
import errno
import fcntl
import mmap
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x100, 0x1000, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 0x10
tests = []


def test(fn):
    tests.append(fn)
    return fn


def say(*words):
    print(" ", *words)


def attempt(what, fn, *args, **kw):
    """Say the result, or the name of the error."""
    try:
        result = fn(*args, **kw)
        say(what, "->", "ok" if result is None else result)
        return result
    except OSError as e:
        say(what, "->", errno.errorcode.get(e.errno, e.errno))


def call(name, *args):
    """A libc function that Python lacks."""
    r = getattr(libc, name)(*args)
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return r


def put(path, data=b"data\n", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def look(path, follow=False):
    s = os.stat(path, follow_symlinks=follow)
    kind = stat.filemode(s.st_mode)
    size = s.st_size if not stat.S_ISDIR(s.st_mode) else "-"
    links = s.st_nlink if not stat.S_ISDIR(s.st_mode) else "-"
    return f"{kind} size={size} links={links} uid={s.st_uid} gid={s.st_gid}"


@test
def open_flags():
    attempt("excl", lambda: os.close(os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)))
    attempt("excl again", os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    say(look("f"))
    attempt("missing", os.open, "no", os.O_RDONLY)
    attempt("not a directory", os.open, "f/x", os.O_RDONLY)
    attempt("directory for writing", os.open, ".", os.O_WRONLY)
    attempt("O_DIRECTORY of a file", os.open, "f", os.O_DIRECTORY)
    os.symlink("f", "l")
    attempt("nofollow", os.open, "l", os.O_NOFOLLOW)
    attempt("create through a dangling link", lambda: (os.symlink("t", "d"), put("d"), look("t"))[2])
    attempt("excl of a link", os.open, "l", os.O_CREAT | os.O_EXCL)
    fd = os.open("f", os.O_PATH)
    attempt("write to O_PATH", os.write, fd, b"x")
    attempt("reopened through /proc", lambda: get(f"/proc/self/fd/{fd}"))
    os.close(fd)
    os.close(os.open("f", os.O_RDONLY | os.O_NOATIME))
    attempt("trailing slash", os.open, "f/", os.O_RDONLY)
    attempt("name too long", os.open, "x" * 256, os.O_CREAT)
    attempt("longest name", put, "x" * 255)
    attempt("empty path", os.open, "", os.O_RDONLY)


@test
def modes_of_new():
    for mask in (0o022, 0o077, 0, 0o027):
        old = os.umask(mask)
        os.close(os.open(f"f{mask:o}", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(f"d{mask:o}", 0o777)
        os.mkfifo(f"p{mask:o}", 0o666)
        say(oct(os.umask(old)), look(f"f{mask:o}"), look(f"d{mask:o}"), look(f"p{mask:o}"))
        os.unlink(f"p{mask:o}")
    fd = os.open("readonly", os.O_CREAT | os.O_WRONLY, 0o444)
    attempt("write to a new file of mode 0444", os.write, fd, b"x" * 10)
    attempt("truncate it through the descriptor", os.ftruncate, fd, 4)
    os.close(fd)
    say(look("readonly"), get("readonly"))
    fd = os.open("none", os.O_CREAT | os.O_RDWR, 0)
    os.write(fd, b"hidden")
    attempt("read back mode 0", os.pread, fd, 10, 0)
    os.close(fd)
    os.mkdir("sg")
    os.chmod("sg", 0o2775)
    os.mkdir("sg/sub")
    put("sg/f")
    say("setgid", look("sg/sub"), look("sg/f"))


@test
def read_write():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    say(os.write(fd, b"0123456789"), os.pread(fd, 4, 3), os.pwrite(fd, b"AB", 2), os.lseek(fd, 0, 1))
    say(os.lseek(fd, -3, 2), os.read(fd, 10), os.read(fd, 10))
    say(os.pwrite(fd, b"far", 100000), os.fstat(fd).st_size, os.pread(fd, 4, 99998))
    say(os.pwritev(fd, [b"a", b"bc", b"def"], 5), os.preadv(fd, [bytearray(3), bytearray(9)], 4))
    attempt("negative offset", os.pread, fd, 1, -1)
    say(os.lseek(fd, 5 << 30, 0), os.write(fd, b"end"), os.fstat(fd).st_size)
    attempt("before the start", os.lseek, fd, -1, 0)
    attempt("fsync", os.fsync, fd)
    attempt("fdatasync", os.fdatasync, fd)
    attempt("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
    say(os.pread(fd, 3, 5 << 30), os.pread(fd, 12, 0))
    os.ftruncate(fd, 20)
    say(os.pread(fd, 30, 0))
    os.close(fd)
    attempt("write to a reader", lambda: os.write(os.open("f", os.O_RDONLY), b"x"))
    attempt("read from a writer", lambda: os.read(os.open("f", os.O_WRONLY), 1))
    big = bytes(range(256)) * 40000
    put("big", big)
    say(get("big") == big, os.stat("big").st_size)
    attempt("O_TRUNC", lambda: os.close(os.open("big", os.O_WRONLY | os.O_TRUNC)))
    say(os.stat("big").st_size, get("big"))
    attempt("fsync of a directory", lambda: os.fsync(os.open(".", os.O_RDONLY)))
    os.sync()


@test
def append():
    put("a", b"start\n")
    pids = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            fd = os.open("a", os.O_WRONLY | os.O_APPEND)
            for n in range(200):
                os.write(fd, b"%d%03d\n" % (i, n))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = get("a").split()
    say(len(lines), len(set(lines)), lines[0])
    fd = os.open("a", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, 0)
    os.write(fd, b"last")
    say(os.lseek(fd, 0, 1) == os.fstat(fd).st_size, os.pread(fd, 5, 0))
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.lseek(fd, 0, 0)
    os.write(fd, b"START")
    say(os.pread(fd, 5, 0))
    # Two descriptors, each with its own idea of the size.
    other = os.open("a", os.O_WRONLY | os.O_APPEND)
    os.write(other, b"!")
    say(os.pread(fd, 10, os.fstat(fd).st_size - 5))
    # 'a' again after it was truncated by somebody else
    os.truncate("a", 3)
    os.write(other, b"X")
    say(get("a"))


@test
def truncate():
    put("t", b"0123456789")
    os.truncate("t", 4)
    say(get("t"))
    os.truncate("t", 8)
    say(get("t"))
    fd = os.open("t", os.O_RDWR)
    os.ftruncate(fd, 100000)
    say(os.fstat(fd).st_size, os.pread(fd, 5, 99995))
    os.ftruncate(fd, 0)
    os.write(fd, b"new")
    say(get("t"))
    attempt("negative", os.ftruncate, fd, -1)
    attempt("directory", os.truncate, ".", 0)
    attempt("missing", os.truncate, "no", 0)


@test
def allocate():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    attempt("posix_fallocate", os.posix_fallocate, fd, 0, 10000)
    say(os.fstat(fd).st_size)
    os.pwrite(fd, b"x" * 20000, 0)
    c = ctypes.c_long
    attempt("keep size", call, "fallocate", fd, KEEP_SIZE, c(0), c(1 << 20))
    say(os.fstat(fd).st_size)
    attempt("punch hole", call, "fallocate", fd, KEEP_SIZE | PUNCH_HOLE, c(4096), c(8192))
    say(os.pread(fd, 6, 4093), os.pread(fd, 6, 12285), os.fstat(fd).st_size)
    attempt("zero range", call, "fallocate", fd, ZERO_RANGE, c(15000), c(10000))
    say(os.pread(fd, 6, 14997), os.fstat(fd).st_size)
    attempt("past the largest size", call, "fallocate", fd, 0, c(0), c(-5))


@test
def holes():
    fd = os.open("h", os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, 10 << 20)
    os.pwrite(fd, b"data", 4 << 20)
    os.fsync(fd)
    for start in (0, 4 << 20, (4 << 20) + 1, 5 << 20):
        attempt(f"data from {start}", os.lseek, fd, start, os.SEEK_DATA)
        attempt(f"hole from {start}", os.lseek, fd, start, os.SEEK_HOLE)
    attempt("beyond the end", os.lseek, fd, 11 << 20, os.SEEK_DATA)
    say("sparse", os.stat("h").st_blocks < 1000)
    subprocess.run(["cp", "--sparse=auto", "h", "h2"], check=True)
    say("copy sparse", os.stat("h2").st_blocks < 1000, get("h2") == get("h"))


@test
def copy():
    put("a", bytes(range(256)) * 1000)
    src, dst = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_CREAT, 0o644)
    attempt("copy_file_range", os.copy_file_range, src, dst, 1000, 10, 5000)
    say(os.fstat(dst).st_size, os.pread(dst, 4, 5000))
    os.lseek(dst, 0, 0)
    attempt("sendfile", os.sendfile, dst, src, 0, 256000)
    say(get("b") == get("a"))
    r, w = os.pipe()
    say("splice", os.splice(src, w, 4096, offset_src=256), os.read(r, 4096) == get("a")[256:4352])
    os.write(w, b"from pipe")
    say("splice in", os.splice(r, dst, 9, offset_dst=0), os.pread(dst, 9, 0))
    attempt("within one file", os.copy_file_range, dst, dst, 100, 0, 100000)
    subprocess.run(["cp", "--reflink=auto", "-p", "a", "c"], check=True)
    say(get("c") == get("a"))
    shutil.copy2("a", "d")
    say(os.stat("d").st_mtime_ns == os.stat("a").st_mtime_ns)


@test
def direct():
    try:
        fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    except OSError as e:
        # A clean refusal would do, but is no result to compare.
        print("  refused", e.errno == errno.EINVAL, file=sys.stderr)
        return
    m = mmap.mmap(-1, 8192)
    m[:8192] = b"D" * 8192
    say(os.writev(fd, [m]))
    os.lseek(fd, 0, 0)
    back = mmap.mmap(-1, 8192)
    say(os.readv(fd, [back]), back[:8192] == m[:8192])
    say(get("f") == m[:8192])
    os.close(fd)


@test
def mapped():
    put("m", b"a" * 10000)
    with open("m", "r+b") as f:
        shared = mmap.mmap(f.fileno(), 0)
        private = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        shared[0:5] = b"SHARE"
        say("private sees", private[0:5], "file", os.pread(f.fileno(), 5, 0))
        private[5000:5004] = b"mine"
        say("file after private write", os.pread(f.fileno(), 4, 5000))
        os.pwrite(f.fileno(), b"written", 6000)
        say("map after write", shared[6000:6007])
        pid = os.fork()
        if pid == 0:
            shared[9000:9005] = b"child"
            os._exit(0)
        os.waitpid(pid, 0)
        say("after the child", shared[9000:9005])
        shared.flush()
        f.truncate(20000)
        longer = mmap.mmap(f.fileno(), 20000)
        longer[15000:15003] = b"new"
        longer.close()
        shared.close()
    say(get("m")[:5], get("m")[9000:9005], get("m")[15000:15003], len(get("m")))
    # Writes that only the unmapping at exit brings to the file.
    subprocess.run([sys.executable, "-c", "import mmap; f = open('m', 'r+b'); m = mmap.mmap(f.fileno(), 0); "
                    "f.close(); m[1:4] = b'xyz'"], check=True)
    say(get("m")[:6])
    # The mapping outlives the name.
    with open("m", "rb") as f:
        m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    os.unlink("m")
    say(m[:6], len(m))


@test
def tmpfile():
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    except OSError as e:
        print("  refused", errno.errorcode[e.errno], file=sys.stderr)
        return
    os.write(fd, b"unnamed")
    say(os.fstat(fd).st_nlink, os.pread(fd, 10, 0))
    attempt("linked", call, "linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"named", AT_SYMLINK_FOLLOW)
    say(look("named"), get("named"))
    os.write(fd, b" more")
    os.close(fd)
    say(get("named"))
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    attempt("not linkable", call, "linkat", AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"n2", AT_SYMLINK_FOLLOW)
    os.close(fd)


@test
def unlinked():
    put("u", b"0123456789")
    fd = os.open("u", os.O_RDWR)
    os.unlink("u")
    say(os.path.exists("u"), os.fstat(fd).st_nlink, os.pread(fd, 20, 0))
    os.pwrite(fd, b"still", 3)
    os.ftruncate(fd, 9)
    say(os.pread(fd, 20, 0), os.fstat(fd).st_size)
    os.fchmod(fd, 0o600)
    say(oct(os.fstat(fd).st_mode))
    put("u", b"another")
    say(os.pread(fd, 20, 0), get("u"), os.fstat(fd).st_ino != os.stat("u").st_ino)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    say("reopened", os.read(again, 20))
    pid = os.fork()
    if pid == 0:
        os.pwrite(fd, b"CHILD", 0)
        os._exit(0)
    os.waitpid(pid, 0)
    say(os.pread(fd, 20, 0))
    # Replaced by rename while open.
    put("r1", b"old")
    fd = os.open("r1", os.O_RDONLY)
    put("r2", b"new")
    os.rename("r2", "r1")
    say(os.read(fd, 10), get("r1"))
    # A directory removed while open, and while it is the working directory.
    os.mkdir("gone")
    d = os.open("gone", os.O_RDONLY)
    os.rmdir("gone")
    say(os.listdir(d))
    attempt("create in it", os.open, "x", os.O_CREAT, dir_fd=d)
    os.mkdir("cwd")
    here = os.getcwd()
    os.chdir("cwd")
    os.rmdir("../cwd")
    attempt("getcwd", os.getcwd)
    os.chdir(here)


@test
def rename():
    put("a", b"a")
    put("b", b"b")
    os.rename("a", "c")
    say(os.path.exists("a"), get("c"))
    os.rename("c", "b")
    say(sorted(os.listdir()), get("b"))
    put("x", b"x")
    attempt("noreplace", call, "renameat2", AT_FDCWD, b"x", AT_FDCWD, b"b", RENAME_NOREPLACE)
    attempt("noreplace free", call, "renameat2", AT_FDCWD, b"x", AT_FDCWD, b"free", RENAME_NOREPLACE)
    attempt("exchange", call, "renameat2", AT_FDCWD, b"free", AT_FDCWD, b"b", RENAME_EXCHANGE)
    say(get("free"), get("b"))
    attempt("exchange missing", call, "renameat2", AT_FDCWD, b"free", AT_FDCWD, b"no", RENAME_EXCHANGE)
    attempt("both flags", call, "renameat2", AT_FDCWD, b"free", AT_FDCWD, b"b", 3)
    os.makedirs("d1/sub")
    os.mkdir("d2")
    put("d1/sub/f", b"deep")
    fd = os.open("d1/sub/f", os.O_RDWR)
    dfd = os.open("d1/sub", os.O_RDONLY)
    os.rename("d1", "d3")
    say(os.pread(fd, 10, 0), get("d3/sub/f"), os.path.exists("d1"))
    os.write(fd, b"DEEP")
    say(get("d3/sub/f"), os.listdir(dfd))
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=dfd))
    say(sorted(os.listdir("d3/sub")))
    attempt("dir over file", os.rename, "d3", "b")
    attempt("file over dir", os.rename, "b", "d2")
    attempt("dir over empty dir", os.rename, "d3", "d2")
    attempt("into itself", os.rename, "d2", "d2/sub/x")
    os.mkdir("full")
    put("full/f")
    attempt("dir over full dir", os.rename, "d2", "full")
    attempt("exchange file and dir", call, "renameat2", AT_FDCWD, b"b", AT_FDCWD, b"d2", RENAME_EXCHANGE)
    say(look("b")[:10], get("d2"))
    os.link("d2", "same")
    attempt("onto its own hard link", os.rename, "d2", "same")
    say(os.path.exists("d2"), os.path.exists("same"))
    attempt("missing", os.rename, "no", "x")
    os.rename("b/sub/f", "up")
    say(get("up"), os.getcwd().endswith("rename"))


@test
def links():
    put("a", b"a")
    os.link("a", "b")
    s, t = os.stat("a"), os.stat("b")
    say(s.st_ino == t.st_ino, s.st_nlink, t.st_nlink)
    with open("b", "ab") as f:
        f.write(b"more")
    say(get("a"), os.stat("a").st_size)
    os.unlink("a")
    say(look("b"))
    attempt("over existing", lambda: (put("c"), os.link("b", "c")))
    attempt("of a directory", os.link, ".", "d")
    os.symlink("b", "s")
    os.symlink("/absolute/nowhere", "abs")
    os.symlink("loop2", "loop1")
    os.symlink("loop1", "loop2")
    os.symlink("x" * 4000, "long")
    say(os.readlink("s"), os.readlink("abs"), len(os.readlink("long")), look("s"), os.lstat("long").st_size)
    attempt("loop", get, "loop1")
    attempt("readlink of a file", os.readlink, "b")
    attempt("over existing", os.symlink, "b", "s")
    os.link("s", "hardlink-of-link", follow_symlinks=False)
    say(look("hardlink-of-link"))
    os.unlink("s")
    say(get("hardlink-of-link"))
    os.makedirs("d/e")
    os.symlink("d/e", "way")
    put("way/f", b"through")
    say(get("d/e/f"), sorted(os.listdir("way")), os.path.realpath("way/..").endswith("links/d"))


@test
def directories():
    os.mkdir("d")
    attempt("again", os.mkdir, "d")
    attempt("below missing", os.mkdir, "no/d")
    put("d/f")
    attempt("rmdir full", os.rmdir, "d")
    attempt("rmdir file", os.rmdir, "d/f")
    attempt("unlink dir", os.unlink, "d")
    os.unlink("d/f")
    attempt("rmdir", os.rmdir, "d")
    os.mkdir("many")
    for i in range(3000):
        os.close(os.open(f"many/{i:04}", os.O_CREAT | os.O_WRONLY))
    with os.scandir("many") as it:
        entries = {e.name: (e.is_file(follow_symlinks=False), e.inode() == os.lstat(e.path).st_ino) for e in it}
    say(len(entries), all(a and b for a, b in entries.values()))
    # Removed while it is listed: everything goes.
    with os.scandir("many") as it:
        for e in it:
            os.unlink(e.path)
    say(os.listdir("many"))
    os.makedirs("/".join(["deep"] * 150))
    put("/".join(["deep"] * 150) + "/f")
    say(sum(len(f) for _, _, f in os.walk("deep")))
    for name in (b"sp ace", b"new\nline", b"caf\xc3\xa9", b"\xff\xfe", b"-dash", b"'q\"", b"tab\t", b"*?[x]"):
        put(name, name)
    say(sorted(n for n in os.listdir(b".") if n not in (b"many", b"deep")))
    say(all(get(n) == n for n in (b"new\nline", b"\xff\xfe")))
    d = os.open("many", os.O_RDONLY)
    os.mkdir("sub", dir_fd=d)
    say(os.listdir(d), os.listdir("many"))
    os.rmdir("sub", dir_fd=d)
    say(os.listdir("many"))


@test
def attributes():
    put("f")
    os.chmod("f", 0o4751)
    say(look("f"))
    with open("f", "ab") as f:
        f.write(b"x")
    say("after a write", look("f"))
    os.utime("f", ns=(1_000_000_001, 2_000_000_003))
    s = os.stat("f")
    say(s.st_atime_ns, s.st_mtime_ns)
    os.utime("f", ns=(5_000_000_000, s.st_mtime_ns))
    say(os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns)
    os.symlink("f", "l")
    os.utime("l", ns=(7, 8), follow_symlinks=False)
    say(os.lstat("l").st_mtime_ns, os.stat("f").st_mtime_ns)
    os.utime("f", ns=(-1_000_000_000, -2_000_000_000))
    say(os.stat("f").st_mtime_ns)
    before = os.stat("f")
    os.utime("f")
    say(os.stat("f").st_mtime_ns > before.st_mtime_ns, os.stat("f").st_ctime_ns >= before.st_ctime_ns)
    # A write moves mtime and ctime of the file, an entry those of its directory.
    os.utime("f", ns=(0, 0))
    with open("f", "ab") as f:
        f.write(b"y")
    say(os.stat("f").st_mtime_ns > 0)
    os.mkdir("d")
    os.utime("d", ns=(0, 0))
    put("d/x")
    say(os.stat("d").st_mtime_ns > 0)
    os.utime("d", ns=(0, 0))
    os.unlink("d/x")
    say(os.stat("d").st_mtime_ns > 0)
    attempt("chown to oneself", os.chown, "f", os.getuid(), os.getgid())
    if os.getuid() == 0:  # ids that do not exist in an ordinary user's view: refused there with another errno
        attempt("chown to another", os.chown, "f", 12345, 12346)
        say(look("f"))
        attempt("lchown", os.chown, "l", 12345, -1, follow_symlinks=False)
        say(look("l"))
    attempt("chmod of the owner's own", os.chmod, "f", 0o600)
    attempt("access", os.access, "f", os.X_OK)
    os.chmod("f", 0)
    attempt("open of mode 0", lambda: os.close(os.open("f", os.O_RDONLY)))
    os.chmod("f", 0o644)
    os.chmod("d", 0o600)
    attempt("in a directory without x", os.stat, "d/x") if os.getuid() else None
    os.chmod("d", 0o755)
    attempt("write to another's", os.open, "/etc/passwd", os.O_WRONLY) if os.getuid() else None
    v, w = os.statvfs("."), os.statvfs("/proc/self/cwd")
    say(v.f_bsize, v.f_frsize, v.f_namemax, v.f_blocks > 0, v.f_blocks == w.f_blocks)


@test
def special():
    os.mkfifo("p")
    pid = os.fork()
    if pid == 0:
        fd = os.open("p", os.O_WRONLY)
        os.write(fd, b"through the fifo")
        os._exit(0)
    fd = os.open("p", os.O_RDONLY)
    say(os.read(fd, 100), look("p"))
    os.waitpid(pid, 0)
    os.unlink("p")
    s = socket.socket(socket.AF_UNIX)
    s.bind("sock")
    s.listen(1)
    say(look("sock")[:1])
    c = socket.socket(socket.AF_UNIX)
    attempt("connect", c.connect, "sock")
    a, _ = s.accept()
    c.sendall(b"hello")
    say(a.recv(10))
    os.unlink("sock")
    attempt("connect to nothing", c.connect, "sock")
    attempt("device", os.mknod, "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    if os.path.exists("dev"):
        say(stat.S_ISCHR(os.stat("dev").st_mode), os.major(os.stat("dev").st_rdev), os.minor(os.stat("dev").st_rdev))
        os.unlink("dev")
    attempt("mknod of a file", os.mknod, "reg", stat.S_IFREG | 0o640)
    say(look("reg"))
    say(os.path.exists("/dev/null"), get("/dev/null"), len(open("/dev/urandom", "rb").read(16)))
    say(os.readlink("/proc/self/cwd") == os.getcwd(), os.path.exists("/proc/self/status"))


@test
def xattrs():
    put("f")
    if attempt("set", os.setxattr, "f", "user.one", b"1") is None and not os.listxattr("f"):
        return
    os.setxattr("f", "user.two", b"\0\xff" * 100)
    say(sorted(os.listxattr("f")), os.getxattr("f", "user.one"), len(os.getxattr("f", "user.two")))
    attempt("create existing", os.setxattr, "f", "user.one", b"2", os.XATTR_CREATE)
    attempt("replace missing", os.setxattr, "f", "user.three", b"3", os.XATTR_REPLACE)
    attempt("missing", os.getxattr, "f", "user.no")
    os.removexattr("f", "user.one")
    say(os.listxattr("f"))
    attempt("remove missing", os.removexattr, "f", "user.one")
    attempt("trusted", os.setxattr, "f", "trusted.x", b"1")
    attempt("name space", os.setxattr, "f", "nonsense.x", b"1")
    os.symlink("f", "l")
    attempt("of a link", os.setxattr, "l", "user.x", b"1", follow_symlinks=False)
    os.mkdir("d")
    attempt("of a directory", os.setxattr, "d", "user.d", b"d")
    fd = os.open("f", os.O_RDONLY)
    say(os.listxattr(fd), os.getxattr(fd, "user.two")[:2])
    attempt("large", os.setxattr, "f", "user.big", b"x" * 3000)
    say(subprocess.run(["cp", "--preserve=xattr", "f", "g"]).returncode, os.listxattr("g"))


@test
def acls():
    if not shutil.which("setfacl") or os.getuid():  # an ordinary user's view has no ACLs
        return

    def facl(path):
        return subprocess.run(["getfacl", "-cnp", path], capture_output=True, text=True).stdout.split()

    put("f")
    r = subprocess.run(["setfacl", "-m", "u:12345:rw,g:12346:r", "f"]).returncode
    say(r, facl("f"), oct(os.stat("f").st_mode))
    os.chmod("f", 0o600)
    say(facl("f"))
    os.mkdir("d")
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx,g::r,o::-", "d"])
    say(facl("d"))
    put("d/f", mode=0o666)
    os.mkdir("d/sub")
    say(facl("d/f"), oct(os.stat("d/f").st_mode), facl("d/sub"))
    subprocess.run(["cp", "-p", "f", "g"])
    say(facl("g"))
    subprocess.run(["setfacl", "-b", "f"])
    say(facl("f"))
    subprocess.run(["setfacl", "-k", "d"])
    say(facl("d"))


@test
def locks():
    put("l", b"x" * 100)
    a, b = os.open("l", os.O_RDWR), os.open("l", os.O_RDWR)
    attempt("flock", fcntl.flock, a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    attempt("flock of another", fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    attempt("shared of another", fcntl.flock, b, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    attempt("freed", fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(b)
    attempt("freed by close", fcntl.flock, a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    attempt("fcntl", fcntl.lockf, a, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    pid = os.fork()
    if pid == 0:
        c = os.open("l", os.O_RDWR)
        attempt("child, same range", fcntl.lockf, c, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)
        attempt("child, another range", fcntl.lockf, c, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 50)
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0)
        kind, _, start, length, owner = struct.unpack("hhqqi4x", fcntl.fcntl(c, fcntl.F_GETLK, query))
        say("F_GETLK", kind == fcntl.F_WRLCK, start, length, owner == os.getppid())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    # A blocking wait, ended by the holder's exit.
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        c = os.open("l", os.O_RDWR)
        fcntl.lockf(c, fcntl.LOCK_EX, 1, 90)
        os.write(w, b"x")
        signal.pause()
    os.read(r, 1)
    os.kill(pid, signal.SIGKILL)
    attempt("after the holder was killed", fcntl.lockf, a, fcntl.LOCK_EX, 1, 90)
    os.waitpid(pid, 0)
    attempt("unlock", fcntl.lockf, a, fcntl.LOCK_UN)
    # Interrupted while waiting.
    pid = os.fork()
    if pid == 0:
        c = os.open("l", os.O_RDWR)
        fcntl.flock(c, fcntl.LOCK_EX)
        os.write(w, b"x")
        signal.pause()
    os.read(r, 1)

    def on_alarm(*_):
        raise InterruptedError(errno.EINTR, "")
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    attempt("interrupted flock", fcntl.flock, a, fcntl.LOCK_EX)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # Locks of an open file description
    o = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 10, 0)
    d = os.open("l", os.O_RDWR)
    attempt("OFD", lambda: fcntl.fcntl(a, 37, o) and None)
    attempt("OFD of another", lambda: fcntl.fcntl(d, 37, o) and None)
    import sqlite3
    db = sqlite3.connect("db")
    db.execute("pragma journal_mode=wal")
    db.execute("create table t(x)")
    db.executemany("insert into t values (?)", [(i,) for i in range(1000)])
    db.commit()
    other = sqlite3.connect("db", timeout=0)
    say("sqlite", other.execute("select sum(x) from t").fetchone())
    db.execute("begin immediate")
    try:
        other.execute("begin immediate")
        say("two writers")
    except sqlite3.OperationalError as e:
        say("second writer:", e)
    db.rollback()
    other.close()
    db.close()
    for name in os.listdir():
        if name.startswith("db"):
            os.unlink(name)


@test
def execute():
    for i in range(30):
        shutil.copy("/bin/true", "prog")
        r = subprocess.run(["./prog"]).returncode
        if r:
            say("copied program, round", i, r)
    with open("s", "w") as f:
        f.write("#!/bin/sh\necho script $0 $1\n")
    os.chmod("s", 0o755)
    say(subprocess.run(["./s", "arg"], capture_output=True).stdout)
    shutil.copy("/bin/sleep", "busy")
    p = subprocess.Popen(["./busy", "10"])
    attempt("write to a running program", os.open, "busy", os.O_WRONLY)
    p.kill()
    p.wait()
    fd = os.open("prog", os.O_WRONLY)
    attempt("run a program open for writing", lambda: subprocess.run(["./prog"]).returncode)
    os.close(fd)
    attempt("run it closed", lambda: subprocess.run(["./prog"]).returncode)
    os.chmod("prog", 0o644)
    attempt("run without x", lambda: subprocess.run(["./prog"]).returncode)
    fd = os.open("s", os.O_RDONLY)
    say("fexecve", subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=[fd], capture_output=True).returncode)
    say("exe", subprocess.run([sys.executable, "-c", "import os; print(os.path.basename(os.readlink('/proc/self/exe'))[:7])"],
                              capture_output=True).stdout)


@test
def notify():
    fd = call("inotify_init1", 0)
    wd = call("inotify_add_watch", fd, b".", 0x100 | 0x200 | 0x80 | 0x8)  # create delete moved_to close_write
    put("n")
    os.rename("n", "n2")
    os.unlink("n2")
    seen = []
    while select.select([fd], [], [], 0.2)[0]:
        data = os.read(fd, 4096)
        while data:
            _, mask, _, n = struct.unpack_from("iIII", data)
            seen.append((mask, data[16:16 + n].rstrip(b"\0")))
            data = data[16 + n:]
    say(wd > 0, seen)


@test
def programs():
    """Programs that look at files closely."""
    def run(*argv, **kw):
        r = subprocess.run(argv, capture_output=True, text=True, **kw)
        say(argv[0], r.returncode, r.stdout.strip(), r.stderr.strip()[:200])

    os.makedirs("src/sub")
    put("src/a", b"a\n" * 100)
    put("src/sub/b", b"b\n", 0o755)
    os.symlink("a", "src/l")
    os.link("src/a", "src/hard")
    run("tar", "-C", "src", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-cf", "t.tar", ".")
    os.mkdir("x")
    run("tar", "-C", "x", "-xf", "t.tar")
    run("diff", "-r", "src", "x")
    run("cp", "-a", "src", "y")
    run("diff", "-r", "src", "y")
    run("find", "src", "-newer", "src/a", "-name", "zzz")
    run("sh", "-c", "find src -printf '%P %y %m %n\n' | grep -v ' d ' | sort")
    run("sed", "-i", "s/a/A/", "src/sub/b", "src/a")
    run("sh", "-c", "sort -u src/a src/sub/b; ls src | wc -l; du -a src >/dev/null && echo du")
    run("install", "-m", "640", "src/a", "inst")
    run("sh", "-c", "stat -c '%A %s' inst; touch -d @5 inst; stat -c %Y inst; ln -f inst inst2; stat -c %h inst")
    run("sh", "-c", "set -C; echo x >noclobber && echo y >noclobber || echo kept; cat noclobber")
    run("sh", "-c", "mkdir rm && touch rm/-f && rm -rf rm && ls -d rm 2>&1 | tail -c 28")
    if shutil.which("git"):
        env = dict(os.environ, HOME=os.getcwd(), GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_DATE="@0 +0000",
                   GIT_COMMITTER_DATE="@0 +0000")
        git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
        for words in (["init", "-q", "repo"], ["-C", "repo", "add", "."], ["-C", "repo", "commit", "-qm", "one"],
                      ["-C", "repo", "status", "--short"], ["-C", "repo", "log", "--format=%h %s"],
                      ["-C", "repo", "fsck", "--no-progress"], ["-C", "repo", "gc", "-q"]):
            if words[1] == "repo" and words[2:3] == ["add"]:
                shutil.copytree("src", "repo/src", symlinks=True)
            r = subprocess.run(git + words, capture_output=True, text=True, env=env)
            say("git", words, r.returncode, r.stdout.strip(), r.stderr.strip()[:200])
        shutil.rmtree("repo")  # its index has inode numbers


def main():
    top = os.getcwd()
    wanted = sys.argv[1:]
    for fn in tests:
        if wanted and fn.__name__ not in wanted:
            continue
        os.mkdir(fn.__name__)
        os.chdir(fn.__name__)
        print(fn.__name__)
        try:
            fn()
        except Exception as e:
            say("unexpected:", repr(e))
        sys.stdout.flush()
        os.chdir(top)


main()
