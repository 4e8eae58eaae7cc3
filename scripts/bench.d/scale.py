# SPDX-License-Identifier: MIT
"""What depends on size alone: an index full of results (index), and 100,000 files seen by one step (memory)."""
import json
import os
import shutil
import time

from measure import Failure, Peak, run, warn
from place import free_bytes, fs_type
from rounds import median, spread
from tables import number, span, table
from workloads import PYTHON, write

ABOUT = {
    "index": "look-ups in an index of 100,000 results and 1,000 path sets under one command (--full: 1,000,000 and "
             "10,000), against an empty one",
    "memory": "peak memory when a step sees 100,000 files",
}
REPEATS, FEWEST, LONG = 15, 3, 3.0  # of each look-up a round; so few when they take so many seconds
SALT = "nobody has run this"

READ_ALL = """
import os
n = 0
for top, dirs, files in os.walk("in"):
    for name in files:
        with open(os.path.join(top, name), "rb", buffering=0) as f:
            n += len(f.read())
print(n)
"""


class Caches:
    """Two caches, an empty and a full one, and the same commands on both in turn."""

    def __init__(self, place, options):
        self.place, self.o = place, options
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MLFS_")}
        self.env["LC_ALL"] = "C.UTF-8"
        self.dir = {"empty": f"{place.base}/cache/empty", "full": f"{place.base}/cache/full"}

    def mlfs(self, which, said, *words, status=0):
        """said: what its -v must have told ("hit", "miss", None)."""
        r = run([self.place.mlfs, "exec", "-v", *words], dict(self.env, MLFS_CACHE=self.dir[which]), self.place.io,
                status=status)
        if said and not r.said(said):
            raise Failure(f"index: no {said} in the {which} cache: {r.err[-500:]}")
        return r

    def step_key(self, which, *words):
        """Of a hit."""
        report = f"{self.place.io}/report"
        self.mlfs(which, None, "--report", report, *words)
        with open(report) as f:
            return json.load(f)["step_key"]

    def forget_stamps(self, which):
        try:
            os.unlink(f"{self.dir[which]}/index/stamps")
        except FileNotFoundError:
            pass

    def both(self, said, *words, status=0, unstamped=False):
        """Each round: the medians of REPEATS for each cache, taken in turn, in seconds."""
        rounds = []
        for _ in range(self.o.runs):
            runs = {"empty": [], "full": []}
            begun = time.perf_counter()
            for k in range(REPEATS):
                if k >= FEWEST and time.perf_counter() - begun > LONG:
                    break
                for which, done in runs.items():
                    if unstamped:
                        self.forget_stamps(which)
                    done.append(self.mlfs(which, said, *words, status=status))
            rounds.append({which: {"wall": median([r.seconds for r in done]), "cpu": median([r.cpu for r in done])}
                           for which, done in runs.items()})
        return rounds


def ratio(rounds, what):
    return spread([r["full"][what] / r["empty"][what] for r in rounds])


def fill(c, name, key, results, sets):
    os.makedirs(f"{c.place.base}/work/index", exist_ok=True)
    start = time.perf_counter()
    run([c.place.filler, "fill", f"{c.place.base}/cache/{name}", key, str(results), str(sets),
         f"{c.place.base}/work/index"], c.env, c.place.io)
    return time.perf_counter() - start


def look(c, name, key, results, sets):
    r = run([c.place.filler, "look", f"{c.place.base}/cache/{name}", key, str(results), str(sets), "5000"], c.env,
            c.place.io)
    return json.loads(r.out)


def measure_index(place, options):
    if not os.access(place.filler, os.X_OK):
        raise Failure("index needs index-fill, which the build makes beside mlfs (tests/index-fill): see --mlfs")
    results = max(640, int((1000000 if options.full else 100000) * options.scale))
    sets = max(64, results // 100)
    if free_bytes(place.base) < results * 8192:
        raise Failure(f"index needs {results * 8192 >> 30} GB free in {place.base}: see --dir")
    c = Caches(place, options)
    load = os.getloadavg()[0]
    same, other = ("--", "true"), ("--", "printf", "other")
    # The keys of a step are the same in every cache.
    c.dir["probe"] = f"{place.base}/cache/probe"
    c.mlfs("probe", "miss", *same)
    key = c.step_key("probe", *same)
    seconds = fill(c, "full", key, results, sets)
    fill(c, "small", key, 64, 64)
    for which in ("empty", "full"):
        c.mlfs(which, "miss", *other)
    rows = {"other_miss": c.both(None, "--only-if-cached", "--salt", SALT, *other, status=125),
            "same_miss": c.both(None, "--only-if-cached", *same, status=125)}
    for which in ("empty", "full"):
        c.mlfs(which, "miss", *same)
        if c.step_key(which, *same) != key:
            raise Failure("index: the step key of `true` is another than that the index was filled for")
        c.mlfs(which, "hit", *same)
    rows["hit"] = c.both("hit", *same)
    rows["lookup"] = c.both("hit", *same, unstamped=True)
    rows["other_lookup"] = c.both("hit", *other, unstamped=True)
    rows["record"] = c.both("miss", "--refresh", *other)
    calls = {"small": look(c, "small", key, 64, 64), "full": look(c, "full", key, results, sets)}
    size = os.stat(f"{c.dir['full']}/index/data.mdb").st_blocks * 512
    for name in ("empty", "full", "small", "probe"):
        shutil.rmtree(f"{place.base}/cache/{name}")
    shutil.rmtree(f"{place.base}/work/index")
    ratios = {k: ratio(v, "wall") for k, v in rows.items()}
    ratios |= {f"{k}_cpu": ratio(v, "cpu") for k, v in rows.items()}
    return {"workload": "index", "about": ABOUT["index"], "full": results == 1000000,
            "file_system": fs_type(place.base), "results": results, "path_sets": sets, "fill_seconds": seconds,
            "index_bytes": size, "rounds": rows, "ratios": ratios, "calls_us": calls,
            "load_average": [load, os.getloadavg()[0]],
            "figures": {f"{k}_ratio": v["median"] for k, v in ratios.items()},
            "table": index_table(results, sets, size, rows, ratios, calls)}


def index_table(results, sets, size, rows, ratios, calls):
    words = {"hit": "hit of the command with all these results", "lookup": "the same without its stamp",
             "same_miss": "the same command, no result fits (`--only-if-cached`)",
             "other_lookup": "hit of another command, without its stamp", "other_miss": "a command never seen",
             "record": "another command is recorded"}
    lines = [[words[k], *(number(median([r[which]["wall"] for r in rows[k]]) * 1e3) for which in ("empty", "full")),
              span(ratios, k), number(ratios[f"{k}_cpu"]["median"])] for k in words]
    names = {"result_us": "a result", "absent_us": "a result that is not there",
             "path_sets_us": "the path sets of the command (64)"}
    inside = [[names[k], number(calls["small"][k]), number(calls["full"][k]),
               number(calls["full"][k] / calls["small"][k])] for k in names]
    return (f"`index`: {results:,} results, {sets:,} path sets under one command, {size / 1e6:,.0f} MB:\n\n" +
            table(["`mlfs exec`", "empty ms", "full ms", "full / empty", "CPU time full / empty"], lines) + "\n\n" +
            table(["look-up in the index alone", "64 results µs", "full µs", "ratio"], inside))


def measure_memory(place, options):
    work, files = f"{place.base}/work/memory", max(100, int(100000 * options.scale))
    os.makedirs(work)
    os.chdir(work)
    write("read.py", READ_ALL)
    for i in range(files):
        if i % 1000 == 0:
            os.makedirs(f"in/{i // 1000:03}")
        write(f"in/{i // 1000:03}/{i % 1000:03}", f"{i}\n")
    cache = f"{place.base}/cache/memory"
    env = dict({k: v for k, v in os.environ.items() if not k.startswith("MLFS_")}, LC_ALL="C.UTF-8", MLFS_CACHE=cache)
    command = [PYTHON, "read.py"]
    native = run(command, env, place.io)
    load = os.getloadavg()[0]
    f = {}

    def step(said, what, *words, status=0):
        peak = Peak(place.mlfs)
        r = run([place.mlfs, "exec", "-v", *words, "--", *command], env, place.io, watch=peak.watch, status=status)
        peak.finish()
        if said and not r.said(said):
            raise Failure(f"memory: no {said}: {r.err[-500:]}")
        if said and r.out != native.out:
            raise Failure(f"memory: printed {r.out!r}, not {native.out!r}")
        f[f"{what}_seconds"] = r.seconds
        return peak

    p = step("miss", "record")
    f["front_mb"], f["supervisor_mb"] = p.front / 1024, p.others / 1024
    step("hit", "first")  # digests of fresh files are remembered only now
    step("hit", "second")
    f["hit_mb"] = step("hit", "hit").front / 1024
    os.unlink(f"{cache}/index/stamps")
    f["lookup_mb"] = step("hit", "lookup").front / 1024
    write("in/000/000", "changed\n")
    f["miss_mb"] = step(None, "miss", "--only-if-cached", status=125).front / 1024
    if not all(f[k] for k in ("front_mb", "supervisor_mb", "lookup_mb")):
        warn("memory: some process was never seen running")
    os.chdir("/")
    shutil.rmtree(work)
    shutil.rmtree(cache)
    head = ["", "s", "front MB", "supervisor MB"]
    rows = [["native", number(native.seconds), "", ""],
            ["recorded", number(f["record_seconds"]), number(f["front_mb"]), number(f["supervisor_mb"])],
            ["hit", number(f["hit_seconds"]), number(f["hit_mb"]), ""],
            ["hit without its stamp", number(f["lookup_seconds"]), number(f["lookup_mb"]), ""],
            ["one file changed (`--only-if-cached`)", number(f["miss_seconds"]), number(f["miss_mb"]), ""]]
    return {"workload": "memory", "about": ABOUT["memory"], "file_system": fs_type(place.base), "files": files,
            "figures": f, "native_seconds": native.seconds, "load_average": [load, os.getloadavg()[0]],
            "table": f"`memory`: {files:,} files in {(files + 999) // 1000} directories, each read:\n\n" +
                     table(head, rows)}


MEASURE = {"index": measure_index, "memory": measure_memory}
