# SPDX-License-Identifier: MIT
"""What the figures should be. A target is met when the median is within it."""
from dataclasses import dataclass


@dataclass
class Target:
    workload: str
    what: str
    figure: str  # name in figures()
    limit: float
    unit: str
    at_least: bool = False
    user: float = None  # another limit as an ordinary user

    def bound(self, root):
        return self.limit if root or self.user is None else self.user

    def met(self, value, root):
        return value >= self.bound(root) if self.at_least else value <= self.bound(root)


TARGETS = [
    Target("true", "recorded", "record_ms", 8, "ms"),
    Target("true", "hit", "hit_ms", 2, "ms"),
    Target("import", "recorded / native", "ratio", 1.20, "×"),
    Target("import", "hit", "hit_ms", 5, "ms"),
    Target("import", "hit, per observed path", "hit_us_a_path", 1.5, "µs"),
    Target("train", "recorded / native", "ratio", 1.01, "×"),
    Target("xz", "recorded / native", "ratio", 1.12, "×"),
    Target("redis", "recorded / native", "ratio", 1.12, "×"),
    Target("redis", "hit", "hit_ms", 20, "ms"),
    Target("redis", "hit, per observed path", "hit_us_a_path", 1.5, "µs"),
    Target("many", "recorded / native", "ratio", 3, "×"),
    Target("many", "hit", "hit_ms", 60, "ms"),
    Target("many", "hit, per observed path", "hit_us_a_path", 1.5, "µs"),
    Target("many", "hit, outputs deleted", "restore_ms", 500, "ms"),
    Target("big", "recorded / native", "ratio", 1.10, "×", user=2.0),
    Target("big", "hit", "hit_ms", 5, "ms"),
    Target("big", "hit, outputs deleted: speed of cp", "restore_percent_of_cp", 90, "%", at_least=True),
    # "costs no wall time": what the noise of a quiet machine leaves of it
    Target("compute-big", "recorded / native", "ratio", 1.02, "×"),
    Target("index", "hit, full / empty index", "hit_ratio", 1.3, "×"),
    Target("index", "hit without its stamp, full / empty", "lookup_ratio", 1.3, "×"),
    Target("index", "miss of another command, full / empty", "other_miss_ratio", 1.3, "×"),
    Target("index", "miss of the same command, full / empty", "same_miss_ratio", 1.3, "×"),
    Target("memory", "supervisor, recording", "supervisor_mb", 64, "MB"),
    Target("memory", "front, recording", "front_mb", 64, "MB"),
    Target("memory", "hit", "hit_mb", 64, "MB"),
    Target("memory", "hit without its stamp", "lookup_mb", 64, "MB"),
]


def figures(result):
    """The figures of one workload that targets speak of."""
    if "figures" in result:
        return result["figures"]
    s, c = result["summary"], result["counts"]
    f = {"ratio": s["ratio"]["median"], "record_ms": s["record"]["median"] * 1e3, "hit_ms": s["hit"]["median"] * 1e3}
    f["hit_us_a_path"] = s["hit"]["median"] * 1e6 / c["hit_paths"]
    if s.get("restore"):
        f["restore_ms"] = s["restore"]["median"] * 1e3
    if s.get("restore_speed_of_cp"):
        f["restore_percent_of_cp"] = s["restore_speed_of_cp"]["median"] * 100
    return f


def judge(results, root, scale):
    """[{workload, what, measured, target, met}]; met is None at another size than the targets are for."""
    rows = []
    for t in TARGETS:
        r = results.get(t.workload)
        value = figures(r).get(t.figure) if r else None
        if value is None:
            continue
        full = scale == 1 and r.get("full", True)
        sign = "≥" if t.at_least else "≤"
        rows.append({"workload": t.workload, "what": t.what, "measured": value, "unit": t.unit,
                     "target": t.bound(root), "sign": sign, "met": t.met(value, root) if full else None})
    return rows
