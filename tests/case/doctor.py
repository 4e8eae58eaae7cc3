# SPDX-License-Identifier: MIT
"""For doctor.sh.

  doctor.py STATUS JSON QUIET   what `mlfs doctor` said is well-formed, says the same in both forms, and fits its exit status;
                                the findings, one a line, are printed
  doctor.py no-seccomp ARGS…    run a command that may install no seccomp filter
"""
import ctypes
import json
import os
import struct
import sys

CHECKS = ("kernel", "libfuse", "proc", "fuse", "cache", "settings", "namespaces", "mount", "seccomp", "limits", "reflinks", "clock",
          "space", "step")


def findings(status, as_json, quiet):
    with open(as_json) as f:
        text = f.read()
    d = json.loads(text)
    assert text.count("\n") == 1 and list(d) == ["can_trace", "cache", "view", "checks"], text
    assert d["view"] == os.environ.get("VIEW", d["view"]) and d["view"] in ("root", "user") and d["cache"].startswith("/"), d
    assert d["can_trace"] is (status == "0") is all(c["status"] != "bad" for c in d["checks"]), d
    shown = ""
    for c in d["checks"]:
        assert list(c) == ["check", "status", "found", "mend"] and c["check"] in CHECKS, c
        assert c["status"] in ("ok", "note", "bad") and (c["mend"] is None or c["status"] != "ok"), c
        print(c["check"], c["status"], c["found"], *(["mend: " + c["mend"]] if c["mend"] else []))
        if c["status"] != "ok" and c["check"] != "step":
            shown += c["found"] + "\n" + (c["mend"] or "") + "\n"
    with open(quiet) as f:
        text = f.read()
    for line in shown.splitlines():
        assert line in text, (line, text)
    assert "\nok " not in "\n" + text and ("uncached here" in text) == (status == "1"), text


def no_seccomp(argv):
    """seccomp(2) gives EPERM, as in a container that forbids it."""
    number = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
    code = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000))
    program = b"".join(struct.pack("HBBI", *c) for c in code)
    held = ctypes.create_string_buffer(program)
    fprog = struct.pack("HxxxxxxP", len(code), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
    assert libc.prctl(22, 2, ctypes.create_string_buffer(fprog)) == 0, os.strerror(ctypes.get_errno())
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    if sys.argv[1] == "no-seccomp":
        no_seccomp(sys.argv[2:])
    findings(*sys.argv[1:])
