#!/bin/sh
# SPDX-License-Identifier: MIT
# Large files are copied into the cache while they are written: whatever the step does to them after that, what a hit
# restores is what it left.
. "$(dirname "$0")/lib.sh"

cat >big.py <<'END'
import ctypes, mmap, os, random, sys
MB = 1 << 20
r = random.Random(1)
blocks = [r.randbytes(MB) for _ in range(8)]

def rows(name, n, mode="wb"):
    """n MB from the start on; flushed, so that all of it may have been taken already"""
    f = open(name, mode, buffering=0)
    for k in range(n):
        f.write(blocks[(k * 5 + len(name)) % 8])
    return f

def fallocate(f, mode, off, n):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    if libc.fallocate(f.fileno(), mode, off, n) and ctypes.get_errno() != 95:  # EOPNOTSUPP: not on this file system
        raise OSError(ctypes.get_errno(), "fallocate")

def plain():
    rows("plain", 14).write(b"end")

def header():
    f = rows("header", 14)
    os.pwrite(f.fileno(), b"14 blocks follow", 0)

def middle():
    f = rows("middle", 14)
    os.pwrite(f.fileno(), b"x" * 5000, 10 * MB + 77)
    f.write(blocks[0])

def last_page():
    f = rows("last", 14)
    os.pwrite(f.fileno(), b"x", 14 * MB - 1)

def cut():
    f = rows("cut", 14)
    f.truncate(9 * MB)
    f.seek(0, 2)
    f.write(blocks[7])
    f.truncate(30 * MB)

def again():
    rows("again", 14).close()
    rows("again", 12).close()

def emptied():
    rows("emptied", 14).close()
    open("emptied", "w").close()

def holes():
    f = rows("holes", 12)
    f.seek(5 * MB, 1)
    f.write(blocks[3])
    os.pwrite(f.fileno(), b"in the hole", 13 * MB)

def punched():
    f = rows("punched", 14)
    fallocate(f, 3, 2 * MB, MB)
    f.write(blocks[1])

def zeroed():
    f = rows("zeroed", 14)
    fallocate(f, 16, 4 * MB, 25 * MB)

def copied():
    f = rows("copied", 14)
    with open("plain", "rb") as g:
        os.copy_file_range(g.fileno(), f.fileno(), 3 * MB, 0, 6 * MB)
        os.copy_file_range(g.fileno(), f.fileno(), 3 * MB, 0, 14 * MB)

def mapped():
    f = rows("mapped", 14, "w+b")
    m = mmap.mmap(f.fileno(), 0)
    m[3 * MB : 3 * MB + 6] = b"mapped"
    m[-3:] = b"end"
    m.flush()

def replaced():
    rows("replaced.old", 14).close()
    rows("replaced.new!", 14).close()
    os.rename("replaced.new!", "replaced.old")
    rows("one", 16).close()
    rows("other", 16).close()
    os.rename("one", "x")
    os.rename("other", "one")
    os.rename("x", "other")

def removed():
    rows("removed", 14).close()
    os.unlink("removed")
    rows("removed", 12).close()

def linked():
    f = rows("linked", 12)
    os.link("linked", "linked.too")
    g = open("linked.too", "r+b", buffering=0)
    g.write(b"by the other name")
    f.write(blocks[4])

def many():
    files = [rows("many.%d" % k, 9) for k in range(12)]
    for k, f in enumerate(files):
        f.write(blocks[k % 8])

def inplace():
    f = open("inplace", "r+b", buffering=0)
    for k in range(10):
        f.write(blocks[k % 8])

def appended():
    for k in range(14):
        with open("appended", "ab") as f:
            f.write(blocks[k % 8][: 1000000 + k])

for name in sys.argv[1:]:
    globals()[name]()
END

content()
{
	find . -type f ! -name big.py -exec sha256sum {} + | sort -k 2
}

seq 2000000 | head -c 13000000 >old
for what in plain header middle last_page cut again emptied holes punched zeroed mapped replaced removed linked many inplace \
	appended "plain copied"; do
	say "$what"
	cp old inplace
	$python big.py $what
	content >"$IO/native"
	find . -type f ! -name big.py ! -name old -delete
	cp old inplace
	miss -- $python big.py $what
	content >"$IO/recorded"
	cmp "$IO/native" "$IO/recorded" || fail "recorded otherwise: $what"
	find . -type f ! -name big.py ! -name old -delete
	cp old inplace
	hit -- $python big.py $what
	content >"$IO/restored"
	cmp "$IO/native" "$IO/restored" || fail "restored otherwise: $what"
	find . -type f ! -name big.py ! -name old -delete
done
same "$(ls "$MLFS_CACHE/tmp")" "" "left in the cache"
