# SPDX-License-Identifier: MIT
"""One workload through its rounds: native, recorded, hit, restored and the peers take turns in each.

Outputs and what is printed are compared with the first native run's after every run; a "hit" must say that it was one.
"""
import json
import os
import re
import shutil
import statistics
import time

from measure import Failure, count_calls, differences, digests, perf_counts, run, warn
from place import free_bytes, fs_type
from workloads import read_whole

MAX_HITS, HIT_SECONDS = 20, 0.5  # hits in place a round: so many, or so long
SETTLE_TRIES = 20
PEER_PATIENCE = 50  # times native: then a peer hangs


class Bench:
    """A workload in its directory."""

    def __init__(self, name, w, place, options):
        self.name, self.w, self.place, self.o = name, w, place, options
        self.dir = place.work(name, w.on_tmpfs)
        self.cache = f"{place.base}/cache/{name}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MLFS_")}
        self.env.update(w.env, LC_ALL="C.UTF-8", MLFS_CACHE=self.cache)
        self.want = self.want_out = None  # of the first native run
        self.recorded_out = self.nothing_out = None
        self.failed = {}  # peers, and why

    # ---- the state before a run ----

    def begin(self):
        """As if it had never run: outputs moved away, a source tree copied anew."""
        for path in self.w.outputs:
            if os.path.lexists(path):
                os.rename(path, f"{self.place.old(self.dir)}/{os.path.basename(path)}")
        if self.w.tree:
            os.mkdir(self.w.tree)
            run(["cp", "-a", f"{self.place.data}/{self.w.tree}-configured/.", self.w.tree], self.env, self.place.io)
        self.settle()

    def settle(self):
        """Nobody pays for what the one before has written; inputs are in the page cache."""
        if self.w.heavy:
            os.sync()
            for path in self.w.touched:
                read_whole(path)

    def forget_digests(self):
        for path in self.w.touched:
            os.utime(path)

    # ---- the state after it ----

    def check(self, r, what, out):
        """out: what it should have printed, or None."""
        got = digests(self.w.outputs, self.w.ignored)
        if got != self.want:
            raise Failure(f"{self.name}: {what} left something else than the native run: "
                          f"{differences(self.want, got)}")
        if out is not None and r.out != out:
            raise Failure(f"{self.name}: {what} printed something else: {r.out[:200]!r}, wanted {out[:200]!r}")
        return r

    def run(self, argv, **env):
        return run(argv, dict(self.env, **env), self.place.io)

    def mlfs(self, *options):
        return [self.place.mlfs, "exec", "-v", *options, "--"] + self.w.command

    def native(self):
        self.begin()
        r = self.run(self.w.command)
        if self.want is None:
            self.want = digests(self.w.outputs, self.w.ignored)
            self.want_out = r.out if self.w.steady_out else None
            if self.w.outputs and not self.want:
                raise Failure(f"{self.name}: the native run left nothing")
        return self.check(r, "the native run", self.want_out)

    def record(self, *options, **env):
        self.begin()
        self.forget_digests()
        r = self.run(self.mlfs("--refresh", *options), **env)
        if not r.said("miss"):
            raise Failure(f"{self.name}: was not recorded: {r.err[-1000:]}")
        self.recorded_out = r.out
        return self.check(r, "the recording", self.want_out)

    def hit(self, r, what):
        if not r.said("hit"):
            raise Failure(f"{self.name}: {what}: no hit: {r.err[-1000:]}")
        return r

    def restore(self):
        self.begin()
        if self.w.copied:
            self.warm_object()
        r = self.hit(self.run(self.mlfs()), "restore")
        return self.check(r, "the restoring hit", self.recorded_out)

    def come_to_rest(self):
        """Until a hit with all in place changes nothing any more (fresh digests are remembered, and the quick look-up
        by lstat alone is possible, only when the files are a moment old). A build that stands is another state of
        its inputs than a clean one: then what is recorded is the make that finds nothing to do. Returns
        (the hit's report, whether it was so)."""
        report = f"{self.place.io}/report"
        for _ in range(SETTLE_TRIES):
            r = self.run(self.mlfs("--report", report))
            with open(report) as f:
                j = json.load(f)
            if j["result"] == "hit":
                standing = r.out == self.nothing_out
                self.check(r, "the hit", self.nothing_out if standing else self.recorded_out)
                self.standing_out = r.out
                self.hit(self.run(self.mlfs()), "hit")
                return j, standing
            if not self.w.tree or not j["stored"]:
                break
            self.nothing_out = r.out
        raise Failure(f"{self.name}: no hit with everything in place: {j['reason']}")

    def hits(self):
        """Hits with everything in place, one after the other."""
        self.come_to_rest()
        runs = []
        start = time.perf_counter()
        while not runs or (len(runs) < MAX_HITS and time.perf_counter() - start < HIT_SECONDS):
            runs.append(self.hit(self.run(self.mlfs()), "hit"))
            if runs[-1].out != self.standing_out:
                raise Failure(f"{self.name}: a hit printed something else than its recording")
        self.check(runs[-1], "the hits", None)
        return runs

    def warm_object(self):
        """A large object is written past the page cache; what cp is compared with is to be no colder than its source."""
        files = [f"{d}/{name}" for d, _, names in os.walk(self.cache) for name in names]
        read_whole(max((p for p in files if not p.endswith(".mdb")), key=os.path.getsize))

    def copy(self):
        """cp of the output that a restoring hit puts in place, warm as the cache's object is."""
        source = f"{self.place.old(self.dir)}/source"
        os.rename(self.w.copied, source)
        os.sync()
        r = self.run(["cp", source, self.w.copied])
        return self.check(r, "cp", None)


def median(values):
    return statistics.median(values) if values else None


def spread(values):
    """What a column of rounds comes to."""
    v = sorted(values)
    if not v:
        return None
    quartiles = statistics.quantiles(v, n=4, method="inclusive") if len(v) > 1 else [v[0]] * 3
    return {"median": median(v), "min": v[0], "max": v[-1], "q1": quartiles[0], "q3": quartiles[2]}


def run_peer(b, v, r):
    """One that fails, or hangs, is left out from then on, and said."""
    if v.fresh:
        b.begin()
    v.prepare()
    try:
        done = run(v.argv, v.env, b.place.io, limit=60 + PEER_PATIENCE * r["native"])
        v.finish()
        if v.checked:
            b.check(done, v.label, None)
        r[f"peer:{v.label}"] = done.seconds
    except Failure as e:
        b.failed[v.label] = str(e).split("\n")[0]
        warn(f"{b.name} under {v.label}: {e}")


def one_round(b, k, peers):
    """Native and recorded swap places from round to round."""
    r = {}
    order = [b.native, b.record] if k % 2 == 0 else [b.record, b.native]
    runs = {"native": [], "record": []}
    for _ in range(b.w.records):
        for action in order:
            runs[action.__name__].append(action())
    for name, done in runs.items():
        r[name] = median([x.seconds for x in done])
        r[f"{name}_cpu"] = median([x.cpu for x in done])
    if order[-1] != b.record:  # what stands is to be of the last recording
        b.restore()
    hits = b.hits()
    r["hit"] = median([x.seconds for x in hits])
    r["hit_cpu"] = median([x.cpu for x in hits])
    if b.w.outputs:
        done = b.restore()
        r["restore"], r["restore_cpu"] = done.seconds, done.cpu
    if b.w.copied:
        r["cp"] = b.copy().seconds
    for v in [v for p in peers for v in p.variants(b)]:
        if v.label not in b.failed:
            run_peer(b, v, r)
    if b.w.heavy or b.dir.startswith(b.place.tmpfs or "\0"):
        b.place.clear_old()
    return r


def counts(b):
    """What takes runs of its own: requests, memory, system calls, instructions."""
    c = {}
    first = b.record("--report", f"{b.place.io}/report", MLFS_DEBUG="1")
    with open(f"{b.place.io}/report") as f:
        report = json.load(f)
    c["inputs"], c["outputs"], c["output_bytes"] = report["inputs"], report["outputs"], report["output_bytes"]
    c["first_record_seconds"] = first.seconds
    m = re.search(r"fuse requests: (.*)$", first.err, re.M)
    if not m:
        raise Failure(f"{b.name}: no FUSE requests were counted: {first.err[-1000:]}")
    c["requests"] = {k: int(v) for k, v in (word.split("=") for word in m.group(1).split())}
    c["supervisor_peak_kb"] = int(re.search(r"peak memory: (\d+)", first.err).group(1))
    report, standing = b.come_to_rest()
    c["hit_paths"] = report["inputs"] + report["outputs"]  # that the hit with all in place has to look at
    c["hit_is_of_nothing_to_do"] = standing
    c["hit_calls"] = count_calls(b.mlfs(), b.env, b.place.io)
    if b.w.outputs:
        b.begin()
        c["restore_calls"] = count_calls(b.mlfs(), b.env, b.place.io)
        b.check(None, "the restoring hit under strace", None)
    if b.o.instructions:
        c["hit_perf"] = perf_counts(b.mlfs(), b.env, b.place.io) if not b.w.outputs else None
        b.begin()
        c["native_perf"] = perf_counts(b.w.command, b.env, b.place.io)
        b.begin()
        c["record_perf"] = perf_counts(b.mlfs("--refresh"), b.env, b.place.io)
    return c


def summary(b, rounds):
    """Medians over the rounds, and of the ratios of each round."""
    s = {}
    for key in rounds[0]:
        having = [r for r in rounds if key in r]
        s[key] = spread([r[key] for r in having])
        if key.startswith("peer:"):
            s[f"{key}:ratio"] = spread([r[key] / r["native"] for r in having])
    s["ratio"] = spread([r["record"] / r["native"] for r in rounds])
    s["cpu_ratio"] = spread([r["record_cpu"] / max(r["native_cpu"], 1e-6) for r in rounds])
    if b.w.copied:
        s["restore_speed_of_cp"] = spread([r["cp"] / r["restore"] for r in rounds])
    for key in ("native", "record"):
        if s[key]["q3"] > 1.25 * s[key]["q1"]:
            warn(f"{b.name}: {key} differs much from round to round ({s[key]['min']:.3f} to {s[key]['max']:.3f} s): "
                 "the machine is busy, or more rounds are needed")
            s["noisy"] = True
    return s


def busy(load):
    """Others keep the processors from us, so that wall times say little."""
    return load > max(0.5, 0.25 * len(os.sched_getaffinity(0)))


def measure(name, w, place, options):
    b = Bench(name, w, place, options)
    os.makedirs(b.dir)
    need = w.room * options.scale
    if free_bytes(b.dir) < need:
        raise Failure(f"{name} needs {need / (1 << 30):.0f} GB free in {b.dir}; there are "
                      f"{free_bytes(b.dir) / (1 << 30):.1f}: see --dir")
    os.chdir(b.dir)
    load = os.getloadavg()[0]
    if busy(load):
        warn(f"{name}: the load average is {load:.1f} before it begins: compare CPU times rather than wall times")
    if w.prepare:
        w.prepare(options.scale)
    b.native()  # warm-up, and what all others are compared with
    c = counts(b)
    peers = [p for p in options.peers if p.does(b)]
    missed = {p.name: p.why_not(b) for p in options.peers if p not in peers}
    for k in range(options.warmup):
        one_round(b, k, peers)
    rounds = [one_round(b, k, peers) for k in range(options.runs)]
    result = {"workload": name, "about": w.about, "file_system": fs_type(b.dir), "rounds": rounds,
              "summary": summary(b, rounds), "counts": c, "load_average": [load, os.getloadavg()[0]],
              "peers": {v.label: v.how for p in peers for v in p.variants(b) if v.label not in b.failed},
              "peers_not_run": missed | b.failed}
    os.chdir("/")
    place.clear_old()
    shutil.rmtree(b.dir)
    shutil.rmtree(b.cache)
    return result
