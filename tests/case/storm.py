# SPDX-License-Identifier: MIT
"""storm.py RUNS WORKERS SEED: many mlfs at once on one cache, in the working directory.

Each worker runs steps of a few kinds, the same ones as others and different ones. Meanwhile inputs are edited and
processes killed; outputs are removed while no step of the kind runs (else their going would be the step's doing). Killed are the one that was started, the one that serves the view, the command, or all. What a run that was
not killed prints must fit the input that it says it has read. In the end every result that a run called stored must
be a hit, with the right files.
"""
import json, os, random, re, signal, subprocess, sys, threading, time

runs, workers, seed = map(int, sys.argv[1:])
KINDS = 16
STEP = """
read -r v <in
i=0
while [ $i -lt 5 ]; do i=$((i + 1)); echo "$1 $v $i" >"part.$i"; done
cat part.1 part.2 part.3 part.4 part.5 >whole.tmp
mv whole.tmp whole
rm part.1 part.2
seq "$v" 2500 >big
echo "$1 $v"
"""
io, lock = os.environ["IO"], threading.Lock()
counts = {"hit": 0, "miss": 0, "killed": 0, "stored": 0}
stored = set()
active = [0] * KINDS
dirty = [False] * KINDS  # a killed step has left something there, which is an input of the next
left = runs


def fail(text):
    sys.stdout.write("FAIL: %s (seed %d)\n" % (text, seed))
    sys.stdout.flush()
    os._exit(1)


def whole(kind, v):
    return "".join("%d %s %d\n" % (kind, v, i) for i in range(1, 6))


def command(kind, *options):
    return ["mlfs", "exec", *options, "--", "sh", "../step.sh", str(kind)]


def write(path, text):
    with open(path + ".new%d" % threading.get_ident(), "w") as f:
        f.write(text)
    os.rename(f.name, path)


def edit(rng, path):
    """By another file, or in place with the times set back; once, or there and back."""
    if rng.random() < 0.4:
        write(path, "%d\n" % rng.choice([1, 2]))
        return
    with open(path, "r+b", buffering=0) as f:
        st = os.fstat(f.fileno())
        old = os.pread(f.fileno(), 1, 0)
        os.pwrite(f.fileno(), b"1" if old == b"2" else b"2", 0)
        if rng.random() < 0.5:
            time.sleep(rng.random() * 0.02)  # while somebody reads it, perhaps
            os.pwrite(f.fileno(), old, 0)
        os.utime(f.fileno(), ns=(st.st_atime_ns, st.st_mtime_ns))


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    except (OSError, ValueError):
        return []


def shoot(rng, front):
    """Kill a part of what runs below front. It may be gone already, or not there yet."""
    part = rng.choice(["front", "supervisor", "step", "all"])
    supervisors = children(front)
    steps = [p for s in supervisors for p in children(s)]
    victims = {"front": [front], "supervisor": supervisors, "step": steps, "all": [front] + supervisors + steps}[part]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def one(rng, n):
    kind = rng.randrange(KINDS)
    cwd = "d%d" % kind
    report = "%s/report.%d" % (io, n)
    what = rng.random()
    if what < 0.3:
        edit(rng, cwd + "/in")
    with lock:
        if not active[kind]:
            names = [name for name in os.listdir(cwd) if name != "in" and not name.startswith(".")]
            for name in names if dirty[kind] else rng.sample(names, len(names) // 2) if what > 0.5 else []:
                os.unlink("%s/%s" % (cwd, name))
            dirty[kind] = False
        active[kind] += 1
    try:
        run(rng, n, kind, cwd, report)
    finally:
        with lock:
            active[kind] -= 1


def run(rng, n, kind, cwd, report):
    p = subprocess.Popen(command(kind, "--report", report), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    shot = rng.random() < 0.4
    if shot:
        with lock:
            dirty[kind] = True
        time.sleep(rng.random() * 0.08)  # any moment will do
        shoot(rng, p.pid)
    try:
        out, err = p.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        fail("a run does not end: pid %d" % p.pid)
    if p.returncode != 0:
        if not shot and "Terminated" not in err:
            fail("status %d: %s" % (p.returncode, err))
        with lock:
            counts["killed"] += 1
        return
    m = re.fullmatch(r"(\d+) ([12])\n", out)
    if not m or int(m.group(1)) != kind:
        fail("kind %d printed %r, %s" % (kind, out, err))
    with open(report) as f:
        r = json.load(f)
    os.unlink(report)
    with lock:
        counts[r["result"]] = counts.get(r["result"], 0) + 1
        if r["stored"]:
            counts["stored"] += 1
        if r["stored"] and not dirty[kind]:
            stored.add((kind, m.group(2)))


def work(n):
    global left
    rng = random.Random(seed * 1000 + n)
    while True:
        with lock:
            if not left:
                return
            left -= 1
        one(rng, n)


def main():
    with open("step.sh", "w") as f:
        f.write(STEP)
    for kind in range(KINDS):
        os.mkdir("d%d" % kind)
        write("d%d/in" % kind, "1\n")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for kind, v in sorted(stored):
        cwd = "d%d" % kind
        write(cwd + "/in", v + "\n")
        for name in os.listdir(cwd):  # what a killed step left, too: it is nobody's, and would be an input
            if name != "in":
                os.unlink("%s/%s" % (cwd, name))
        p = subprocess.run(command(kind, "--only-if-cached"), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if p.returncode != 0:
            fail("a record was lost: kind %d, input %s: %s" % (kind, v, p.stderr))
        if p.stdout != "%d %s\n" % (kind, v) or open(cwd + "/whole").read() != whole(kind, v):
            fail("a wrong hit: kind %d, input %s" % (kind, v))
        big = "".join("%d\n" % i for i in range(int(v), 2501))
        if open(cwd + "/big").read() != big or sorted(os.listdir(cwd)) != ["big", "in", "part.3", "part.4", "part.5", "whole"]:
            fail("wrong files: kind %d, input %s: %s" % (kind, v, sorted(os.listdir(cwd))))
    print(counts, "distinct results", len(stored))
    if runs >= 100 and not (counts["hit"] and counts["killed"] and stored):
        fail("this was no storm")


main()
