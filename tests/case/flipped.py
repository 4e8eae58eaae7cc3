# SPDX-License-Identifier: MIT
"""Bits of the index flipped with no time moved, one after the other: LMDB believes what it finds. The job is done all the
same, with at most one line of warning, and what a hit leaves is right."""
import os
import shutil
import subprocess

PAGE = 4096
CACHE = os.environ["MLFS_CACHE"]
GOOD = os.environ["IO"] + "/good"
KEPT = os.environ["IO"] + "/data.mdb"
DATA = CACHE + "/index/data.mdb"
HIT = ("sh", "-c", "echo a3; seq 3 3000 >f3")
MISS = ("sh", "-c", "echo made; echo x >made")


def step(*words):
    r = subprocess.run(("mlfs", "exec", "-v", "--") + words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    lines = r.stderr.decode().splitlines()
    if "Sanitizer" in r.stderr.decode():  # of the process that LMDB made an end of
        lines = [x for x in lines if x.startswith("mlfs: ")]
    said = [x for x in lines if x.split()[1] in ("hit", "miss", "uncached")]
    assert r.returncode == 0 and len(lines) - len(said) <= 1, r
    return r.stdout, said[-1].split()[1] if said else "", [x for x in lines if x not in said]


def restore(good, times, at, bit):
    """All but data.mdb comes anew; that keeps its inode and its times, for which index/checked vouches."""
    os.rename(DATA, KEPT)
    shutil.rmtree(CACHE)
    subprocess.run(("cp", "-a", GOOD, CACHE), check=True)
    os.rename(KEPT, DATA)
    data = bytearray(good)
    data[at] ^= 1 << bit
    with open(DATA, "r+b") as f:
        f.truncate(len(data))
        f.write(data)
    os.utime(DATA, ns=times)


def places(size):
    """In the header of each page: its number, its kind, a flag (P_DIRTY) that LMDB has in memory only."""
    for page in range(2, size // PAGE):
        for at, bit in ((0, page % 4), (10, page % 3), (10, 4)):
            yield page * PAGE + at, bit


def main():
    for i in range(6):
        step("sh", "-c", f"echo a{i}; seq {i} 3000 >f{i}")
    assert step(*HIT)[1] == "hit"
    subprocess.run(("cp", "-a", CACHE, GOOD), check=True)
    with open(DATA, "rb") as f:
        good = f.read()
    st = os.stat(DATA)
    want = "".join(f"{i}\n" for i in range(3, 3001))
    warned = hits = 0
    for at, bit in places(len(good)):
        restore(good, (st.st_atime_ns, st.st_mtime_ns), at, bit)
        for name in ("f3", "made"):
            if os.path.exists(name):
                os.unlink(name)
        out, result, lines = step(*HIT)
        assert out == b"a3\n", (at, bit, out)
        with open("f3") as f:
            assert f.read() == want, (at, bit)
        hits += result == "hit"
        out, _, more = step(*MISS)
        assert out == b"made\n" and os.path.exists("made"), (at, bit, out)
        assert all("damaged" in x or "Input/output error" in x for x in lines + more), (at, bit, lines, more)
        warned += bool(lines or more)
    print(f"{hits} hits, {warned} of {len(good) // PAGE * 3} warned of")
    assert hits > 20 and warned > 20


main()
