# SPDX-License-Identifier: MIT
"""Check a report of `mlfs exec --report` against its contract and print its fields as shell variables."""
import json
import re
import shlex
import sys

text, number, boolean = str, (int, float), bool
maybe = (str, type(None))
FIELDS = {
    "result": text, "stored": boolean, "reason": maybe, "name": text, "step_key": maybe,
    "input_key": maybe, "argv": list, "cwd": text, "exit_status": int, "wall_seconds": number,
    "saved_seconds": number, "inputs": int, "outputs": int, "output_bytes": int, "started": text, "shared_by": maybe,
}

with open(sys.argv[1], "rb") as f:
    raw = f.read()
report = json.loads(raw.decode("utf-8"))
for field, kind in FIELDS.items():
    if field not in report:
        sys.exit(f"no field {field}")
    if not isinstance(report[field], kind) or (kind is int and isinstance(report[field], bool)):
        sys.exit(f"field {field} is {report[field]!r}")
if report["result"] not in ("hit", "miss", "uncached"):
    sys.exit(f"result is {report['result']!r}")
if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", report["started"]):
    sys.exit(f"started is {report['started']!r}")
if report["result"] == "hit" and report["input_key"] is None:
    sys.exit("a hit without a key")
if "verified" in report:  # --verify
    FIELDS.update(verified=(bool, type(None)), outputs_written=int, differences=list, notes=list)
    for field in ("verified", "outputs_written", "differences", "notes"):
        if field not in report or not isinstance(report[field], FIELDS[field]):
            sys.exit(f"field {field} is {report.get(field)!r}")
    for d in report["differences"]:
        if set(d) != {"path", "what", "offset", "cause", "text"} or not isinstance(d["offset"], (int, type(None))):
            sys.exit(f"a difference is {d!r}")
    if (report["verified"] is False) != bool(report["differences"]):
        sys.exit("verified and differences contradict each other")
    # One line each, for the shell.
    report["differences"] = "\n".join(
        "|".join(str(d[k]) for k in ("path", "what", "offset", "cause", "text")) for d in report["differences"])
    report["notes"] = "\n".join(report["notes"])
for field in FIELDS:
    value = report[field]
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif value is None:
        value = ""
    elif isinstance(value, list):
        value = json.dumps(value)
    print(f"r_{field}={shlex.quote(str(value))}")
