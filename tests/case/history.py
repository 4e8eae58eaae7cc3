# SPDX-License-Identifier: MIT
"""What `mlfs log` and `mlfs stats` say, against the reports of the runs themselves ($IO/reports, in their order).

  history.py log               the log is these runs, newest first, field by field
  history.py filters           each filter gives what the same condition on the reports gives
  history.py sums              what stats sums up is what the reports sum up to
  history.py screen            on a terminal: fitted to its width, colours, the pager
"""
import datetime
import fnmatch
import glob
import json
import os
import re
import subprocess
import sys

from ptys import Terminal, check, note

REPORTS = [json.load(open(name)) for name in sorted(glob.glob(os.environ["IO"] + "/reports/*"))]
FIELDS = ("result", "stored", "reason", "name", "step_key", "input_key", "argv", "cwd", "exit_status", "wall_seconds",
          "saved_seconds", "inputs", "outputs", "output_bytes", "started")


def run(*args, status=0):
    p = subprocess.run(("mlfs",) + args, capture_output=True, check=False)
    check(f"status of mlfs {' '.join(args)} ({p.stderr.decode()})", p.returncode, status)
    return p.stdout.decode() if status == 0 else p.stderr.decode()


def log(*args):
    text = run("log", "--json", *args)
    runs = json.loads(text)
    check("one a line", len(text.splitlines()), len(runs) + 2 if runs else 1)
    return runs


def same(what, got, want):
    """Runs of the log and reports: the same ones, newest first."""
    check(what, [r["started"] + " " + str(r["name"]) for r in got],
          [r["started"] + " " + r["name"] for r in reversed(want)])


def whole():
    got = log("-n", "0")
    same("all runs", got, REPORTS)
    for r, want in zip(got, reversed(REPORTS)):
        for field in FIELDS:
            if field == "reason" and want.get("verified"):
                check("reason of a verified hit", r[field], "verified")
            else:
                check(f"{field} of {want}", r[field], want[field])
        check("argv_cut", r["argv_cut"], False)
        put = r["stored_bytes"] + r["shared_bytes"]
        assert (put > 0) <= r["stored"], r
    check("results", {r["result"] for r in got}, {"hit", "miss", "uncached"})


def filters():
    by = lambda f: [r for r in REPORTS if f(r)]  # noqa: E731
    for what in ("hit", "miss", "uncached"):
        same(what, log("-n0", "--result", what), by(lambda r, w=what: r["result"] == w))
    same("two", log("-n0", "--result", "hit", "--result=uncached"), by(lambda r: r["result"] != "miss"))
    same("stored", log("-n0", "--result", "stored"), by(lambda r: r["stored"]))
    same("not stored", log("-n0", "--result", "miss", "--result", "not-stored"),
         by(lambda r: r["result"] == "miss" and not r["stored"]))
    same("failed", log("-n0", "--failed"), by(lambda r: r["exit_status"]))
    same("name", log("-n0", "--name", "w*"), by(lambda r: fnmatch.fnmatch(r["name"], "w*")))
    same("no such name", log("-n0", "--name", "W*"), [])
    same("latest", log("-n", "3"), REPORTS[-3:])
    same("by default", log(), REPORTS[-50:])
    middle = REPORTS[len(REPORTS) // 2]
    same("since", log("-n0", "--since", middle["started"]), by(lambda r: r["started"] >= middle["started"]))
    same("until", log("-n0", "--until", middle["started"]), by(lambda r: r["started"] < middle["started"]))
    when = datetime.datetime.fromisoformat(middle["started"].replace("Z", "+00:00"))
    for zone in (0, 330, -570):
        there = when.astimezone(datetime.timezone(datetime.timedelta(minutes=zone)))
        same("another zone", log("-n0", "--since", there.isoformat(timespec="milliseconds")),
             by(lambda r: r["started"] >= middle["started"]))
    same("local time", json.loads(subprocess.check_output(
        ("mlfs", "log", "--json", "-n0", "--since", when.strftime("%Y-%m-%d %H:%M:%S.%f")), env={**os.environ, "TZ": "UTC"})),
        by(lambda r: r["started"] >= middle["started"]))
    same("an hour", log("-n0", "--since", "PT1H"), REPORTS)
    same("before that", log("-n0", "--until", "PT1H"), [])
    same("today and yesterday", log("-n0", "--since", "yesterday"), REPORTS)
    key = next(r["step_key"] for r in REPORTS if r["step_key"])
    for n in (4, 8, 15, 20, 32):
        same(f"step, {n} digits", log("-n0", "--step", key[:n]), by(
            lambda r, n=n: (r["step_key"] or "").startswith(key[:n]) or (r["input_key"] or "").startswith(key[:n])))
    key = next(r["input_key"] for r in REPORTS if r["result"] == "hit")
    same("input key", log("-n0", "--step", key[:8].upper()), by(lambda r: r["input_key"] == key))
    results = {r["input_key"] for r in REPORTS if r["stored"] or r["result"] == "hit"}
    for n in ("a", "b"):
        of = by(lambda r, n=n: r["input_key"] in results and r["argv"][1:3] == ["work.sh", n])
        assert len(of) > 4, of
        same(f"reads data/{n}", log("-n0", "--reads", "data/" + n), of)
        same(f"writes out-{n}", log("-n0", "--writes", "out-" + n), of)
        same("both", log("-n0", "--writes", "out-" + n, "--reads", f"./data/{n}", "--result", "hit"),
             [r for r in of if r["result"] == "hit"])
    same("not kept", log("-n0", "--keep-runs", "PT0S"), [])


def shown(*args, command="log", columns=100, rows=200, **env):
    p = Terminal("env", "TERM=xterm", *(f"{k}={v}" for k, v in env.items()), "mlfs", command, *args, columns=columns, rows=rows)
    text, status = p.end()
    check("status", status, 0)
    return text.decode()


def plain(text):
    return re.sub(r"\033\[[0-9;]*m", "", text).replace("\r", "").splitlines()


def screen():
    note("lines fit the terminal, whatever its width; nothing but their text is missing elsewhere")
    for columns in (200, 100, 80, 60):
        lines = plain(shown("-n0", columns=columns))
        check("lines", len(lines), len(REPORTS) + 1)
        for line in lines:
            assert len(line) <= columns, (columns, line)
            assert line == line.rstrip(), line
    wide, narrow = plain(shown("-n0", columns=400)), plain(shown("-n0", columns=80))
    assert any("…" in line for line in narrow) and not any("…" in line for line in wide)
    assert not any("…" in line for line in plain(shown("-n0", columns=80, LC_ALL="C")))
    assert any("..." in line for line in plain(shown("-n0", columns=80, LC_ALL="C")))
    text = run("log", "-n0")
    assert "\033" not in text and "…" not in text
    for line, r in zip(text.splitlines()[1:], reversed(REPORTS)):
        assert r["name"].replace("\n", "?").replace("\033", "?") in line and f" {r['result']} " in line, (line, r)
        if r["reason"]:
            assert r["reason"].replace("\n", "?") in line, (line, r)
        key = r["input_key"] or r["step_key"]
        assert key is None or f" {key[:8]}" in line, (line, r)
    note("colours")
    assert "\033[32mhit\033[m" in shown("-n0")
    assert "\033" not in shown("-n0", NO_COLOR="1")
    assert "\033" not in shown("-n0", TERM="dumb")
    note("a pager when it is longer than the screen; leaving it early is no failure")
    assert "through it" not in shown("-n2", rows=20, MLFS_PAGER="echo through it; cat")
    assert "through it" in shown("-n0", rows=20, MLFS_PAGER="echo through it; cat")
    check("left", shown("-n0", rows=20, MLFS_PAGER="head -n 1").count("\n"), 1)
    note("nothing to show")
    check("none", plain(shown("--name", "nobody")), ["no runs"])
    check("none, elsewhere", run("log", "--name", "nobody"), "")
    check("none, JSON", run("log", "--json", "--name", "nobody"), "[]\n")


def bars_of(columns):
    return [line.count("█") for line in plain(shown("--by=name", command="stats", columns=columns))]


def sums():
    """Whole microseconds of the reports, added up here, are what stats says, in all, by name and by day."""
    us = lambda r, f: round(r[f] * 1e6)  # noqa: E731
    log_of = log("-n0")

    def check_sums(what, got, of):
        want = {"runs": len(of), "hits": sum(r["result"] == "hit" for r in of), "misses": sum(r["result"] == "miss" for r in of),
                "uncached": sum(r["result"] == "uncached" for r in of),
                "served_bytes": sum(r["output_bytes"] for r in of if r["result"] == "hit")}
        for k, v in want.items():
            check(f"{what}: {k}", got[k], v)
        for f in ("saved_seconds", "wall_seconds"):
            check(f"{what}: {f}", round(got[f] * 1e6), sum(us(r, f) for r in of))
        asked = want["hits"] + want["misses"]
        check(f"{what}: rate", got["hit_rate"], round(want["hits"] / asked, 6) if asked else None)
        of_log = [r for r in log_of if any(r["started"] == o["started"] and r["name"] == o["name"] for o in of)]
        for f in ("stored_bytes", "shared_bytes"):
            check(f"{what}: {f}", got[f], sum(r[f] for r in of_log))

    note("what is kept: no less than the objects of the store, and no more than the cache's files")
    kept = json.loads(run("stats", "--json"))
    cas = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.environ["MLFS_CACHE"] + "/cas") for f in files)
    everything = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.environ["MLFS_CACHE"]) for f in files)
    assert cas <= kept["kept_bytes"] <= everything and cas, (cas, kept, everything)
    check("results kept", kept["kept_results"], len({r["input_key"] for r in REPORTS if r["stored"]}))
    stats = lambda *a: json.loads(run("stats", "--json", *a))  # noqa: E731
    every = stats()
    check_sums("all", every, REPORTS)
    assert every["saved_seconds"] > 0 and every["stored_bytes"] > 0 and every["shared_bytes"] > 0, every
    names = stats("--by", "name")["names"]
    check("names", {n["name"] for n in names}, {r["name"] for r in REPORTS})
    for n in names:
        check_sums(n["name"], n, [r for r in REPORTS if r["name"] == n["name"]])
    check("order", [n["saved_seconds"] for n in names], sorted((n["saved_seconds"] for n in names), reverse=True))
    days = json.loads(subprocess.check_output(("mlfs", "stats", "--json", "--by=day"), env={**os.environ, "TZ": "UTC"}))["days"]
    check("days", [d["day"] for d in days], sorted({r["started"][:10] for r in REPORTS}))
    for d in days:
        check_sums(d["day"], d, [r for r in REPORTS if r["started"][:10] == d["day"]])
    check_sums("name", stats("--name", "w*"), [r for r in REPORTS if r["name"].startswith("w")])
    check_sums("since", stats("--since", REPORTS[3]["started"]), [r for r in REPORTS if r["started"] >= REPORTS[3]["started"]])
    check_sums("none", stats("--until", "P1D"), [])
    for rate, per in (("0.23/h", 0.23 / 3600), ("$3/min", 3 / 60), ("2 EUR/day", 2 / 86400), ("100/s", 100)):
        got = stats("--rate", rate)["saved_money"]
        assert abs(got - every["saved_seconds"] * per) < 1e-6, (rate, got)
    assert f"money saved ${every['saved_seconds'] * 3:.2f}\n" in run("stats", "--rate", "$3/s")
    assert f"money saved {every['saved_seconds'] * 3:.2f} EUR\n" in run("stats", "--rate", "3 EUR/s")
    reasons = [r["reason"] for r in REPORTS if r["result"] == "miss" and r["reason"]]
    for r in every["miss_reasons"]:
        check("reason " + r["reason"], r["misses"], reasons.count(r["reason"]))
    check("first reason", every["miss_reasons"][0]["misses"], max(reasons.count(r) for r in reasons))
    for word in ("fast", "1", "1/year", "-1/h", "x/h", "1.2.3/h", "0,23/h", "1e5/h", "0x1f/h", "1/2/h", "h/1", "."):
        assert f"'{word}' is no rate" in run("stats", "--rate", word, status=2)
    assert "is neither name nor day" in run("stats", "--by", "week", status=2)
    note("a bar chart on a terminal, and only there: each bar as long as its share of the longest")
    saved = {n["name"]: n["saved_seconds"] for n in names}
    for columns, longest in ((100, 20), (65, None), (40, 0)):
        lines = [line for line in plain(shown("--by=name", command="stats", columns=columns)) if line.endswith(tuple(saved))]
        bars = {line.split()[-1]: line.count("█") for line in lines}
        check("lines", set(bars), set(saved))
        check("longest", max(bars.values()), max(bars.values()) if longest is None else longest)
        for name, bar in bars.items():
            exact = saved[name] / max(saved.values()) * max(bars.values())
            assert abs(bar - exact) <= 0.51, (name, bar, exact)
        assert columns < 60 or all(len(line) <= columns for line in lines), lines
    assert 0 < max(bars_of(65)) < 20, bars_of(65)
    assert "#####" in shown("--by=name", command="stats", LC_ALL="C")
    assert "█" not in run("stats", "--by=name") and "#" not in run("stats", "--by=name")
    assert "█" in shown(command="stats") and "days" not in json.loads(run("stats", "--json"))
    assert "\033" not in shown(command="stats", NO_COLOR="1")
    check("none", plain(shown("--name", "nobody", command="stats"))[0], "0 hits, 0 misses, 0 uncached")


if __name__ == "__main__":
    {"log": whole, "filters": filters, "screen": screen, "sums": sums}[sys.argv[1]]()
