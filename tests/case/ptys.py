# SPDX-License-Identifier: MIT
"""A command on a pseudo-terminal, as a person would use it."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

REPORT = os.environ["IO"] + "/report"


class Terminal:
    """A command on a new terminal; the caller types and reads."""

    def __init__(self, *argv, rows=31, columns=97, redirect=""):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            if redirect:
                argv = ("sh", "-c", 'exec "$@" ' + redirect, "sh") + argv
            os.execvp(argv[0], argv)

    def read_until(self, pattern):
        deadline = time.monotonic() + 20
        while not re.search(pattern, self.seen):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {pattern}, saw {self.seen[-600:]}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    data = b""
                if not data:
                    break
                self.seen += data
        assert re.search(pattern, self.seen), f"ended before {pattern}: {self.seen[-600:]}"

    def type(self, data):
        os.write(self.fd, data)

    def end(self):
        """Everything shown, and the exit status."""
        deadline = time.monotonic() + 20
        while True:
            if not select.select([self.fd], [], [], 0.1)[0]:
                if time.monotonic() > deadline:
                    raise AssertionError(f"it does not end; saw {self.seen[-600:]}")
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return self.seen, os.waitstatus_to_exitcode(status)


def mlfs(*args, **kw):
    if os.path.exists(REPORT):
        os.unlink(REPORT)
    return Terminal("mlfs", "exec", "--report", REPORT, *args, **kw)


def report():
    with open(REPORT) as f:
        return json.load(f)


def check(what, got, want):
    if got != want:
        sys.exit(f"FAIL: {what}: got {got!r}, want {want!r}")


def note(what):
    print("-", what, flush=True)
