# SPDX-License-Identifier: MIT
"""Results as Markdown tables."""


def number(v, digits=3):
    """So many significant digits, without an exponent."""
    if v is None:
        return "–"
    if v == 0 or isinstance(v, int):
        return f"{v:,}"
    if abs(v) >= 1000:
        return f"{v:,.0f}"
    for size, decimals in ((100, digits - 3), (10, digits - 2), (1, digits - 1), (0, digits)):
        if abs(v) >= size:
            return f"{v:.{max(0, decimals)}f}"
    return str(v)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(str(x) for x in row) + " |" for row in rows]
    return "\n".join(lines)


def med(s, key, scale=1.0):
    return number(s[key]["median"] * scale) if s.get(key) else "–"


def span(s, key, scale=1.0):
    """Median and, in brackets, least to greatest."""
    if not s.get(key):
        return "–"
    v = s[key]
    if v["min"] == v["max"]:
        return number(v["median"] * scale)
    return f"{number(v['median'] * scale)} ({number(v['min'] * scale)}–{number(v['max'] * scale)})"


def main_table(results):
    head = ["workload", "native s", "recorded s", "recorded / native", "CPU time / native", "hit ms", "hit CPU ms",
            "outputs deleted: hit ms"]
    rows = []
    for name, r in results.items():
        s = r["summary"]
        note = " *" if r["counts"]["hit_is_of_nothing_to_do"] else ""
        rows.append([f"`{name}`: {r['about']}" + (" (noisy)" if s.get("noisy") else ""), span(s, "native"),
                     span(s, "record"), span(s, "ratio"), med(s, "cpu_ratio"), span(s, "hit", 1e3) + note,
                     med(s, "hit_cpu", 1e3), span(s, "restore", 1e3)])
    text = table(head, rows)
    if any(r["counts"]["hit_is_of_nothing_to_do"] for r in results.values()):
        text += "\n\n\\* of the make that finds nothing to do: a tree that was built is another input than a clean one."
    return text


def counts_table(results):
    def total(calls):
        return number(sum(calls.values())) if calls else "–"

    def perf(c, key):
        p = c.get(f"{key}_perf")
        return number(p["instructions"] / 1e6) if p and "instructions" in p else "–"

    head = ["workload", "inputs", "outputs", "requests", "of which", "calls: hit", "calls: outputs deleted",
            "supervisor's peak MB", "first recording s", "M instructions: native", "recorded"]
    rows = []
    for name, r in results.items():
        c = r["counts"]
        kinds = sorted(((v, k) for k, v in c["requests"].items() if k != "total"), reverse=True)[:5]
        rows.append([f"`{name}`", number(c["inputs"]), number(c["outputs"]), number(c["requests"]["total"]),
                     ", ".join(f"{k} {v:,}" for v, k in kinds), total(c["hit_calls"]), total(c.get("restore_calls")),
                     number(c["supervisor_peak_kb"] / 1024), number(c["first_record_seconds"]),
                     perf(c, "native"), perf(c, "record")])
    drop = [i for i in (9, 10) if all(row[i] == "–" for row in rows)]
    return table([h for i, h in enumerate(head) if i not in drop],
                 [[x for i, x in enumerate(row) if i not in drop] for row in rows])


def peers_table(results):
    rows, hows = [], {}
    for name, r in results.items():
        s = r["summary"]
        labels = list(r["peers"])
        if labels:
            rows.append([f"`{name}`", "native", med(s, "native"), "1"])
            rows.append(["", "mlfs, recording", med(s, "record"), span(s, "ratio")])
            last = "restore" if s.get("restore") else "hit"
            rows.append(["", "mlfs, hit" + (", outputs deleted" if last == "restore" else ""), med(s, last), ""])
        for label in labels:
            rows.append(["", label, med(s, f"peer:{label}"), span(s, f"peer:{label}:ratio")])
            hows[label] = r["peers"][label]
    if not rows:
        return ""
    return table(["workload", "under", "s", "/ native"], rows) + "\n\n" + "\n".join(
        f"- {label}: {how}." for label, how in hows.items())


def targets_table(rows):
    words = {True: "met", False: "**not met**", None: "other size"}
    return table(["workload", "figure", "measured", "target", ""],
                 [[f"`{r['workload']}`", r["what"], f"{number(r['measured'])} {r['unit']}",
                   f"{r['sign']} {number(r['target'])} {r['unit']}", words[r["met"]]] for r in rows])


def machine_line(d):
    m = d["machine"]
    where = f"{m['dir']}" + (", `many` on tmpfs" if m["tmpfs"] else "")
    return (f"{m['mlfs']}; {m['processors']} processors ({m['processor']}), {m['memory_bytes'] >> 30} GB, "
            f"Linux {m['kernel']}, {m['system']}, libfuse {m['libfuse']}, {where}, as {m['user']}; {d['date']}; "
            f"load average {d['load_average'][0]:.1f} at the begin, {d['load_average'][1]:.1f} at the end; "
            f"`{d['command']}`")


def render(d):
    """The whole, from what goes into the JSON file."""
    parts = [machine_line(d)]
    plain = {k: r for k, r in d["workloads"].items() if "summary" in r}
    if plain:
        parts += [main_table(plain), counts_table(plain)]
        peers = peers_table(plain)
        if peers:
            parts.append(peers)
    for r in d["workloads"].values():
        if "table" in r:
            parts.append(r["table"])
    if d["targets"]:
        parts.append(targets_table(d["targets"]))
    if d["notes"]:
        parts.append("\n".join(f"- {n}" for n in d["notes"]))
    return "\n\n".join(parts)
