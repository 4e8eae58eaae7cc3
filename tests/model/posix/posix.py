# SPDX-License-Identifier: MIT
"""The model of the view without the cache, and of a persistent mount: a plain directory. A random sequence of file-system calls
(main.c and the files beside it) is run in a directory natively and again in the view; every result, errno, byte and attribute it logged
must be the same, and so must what is left behind as seen from outside. A difference is minimised and printed with the
seed."""
import argparse
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

NEST = "/n" * 8  # so that no ".." leads far


class Trial:
    def __init__(self, args, base, logs):
        self.args, self.base, self.logs = args, base, logs
        self.tree = f"{base}/tree{NEST}"

    def fresh(self):
        subprocess.run(["chmod", "-R", "u+rwx", f"{self.base}/tree"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(f"{self.base}/tree", ignore_errors=True)
        os.makedirs(self.tree)

    def run(self, view, options):
        log = f"{self.logs}/{'view' if view else 'native'}"
        report = f"{self.logs}/report"
        argv = [self.args.program, *options, self.tree, log]
        mounted = view and self.args.mount
        if view and not mounted:
            argv = [self.args.mlfs, "exec", "--cache", f"{self.logs}/cache", "--refresh", "--require", "-q",
                    "--report", report, "--", *argv]
        self.fresh()
        if mounted:  # over itself
            subprocess.run([self.args.mlfs, "mount", f"{self.base}/tree", f"{self.base}/tree"], check=True)
        r = subprocess.run(["timeout", "-k", "5", str(self.args.limit), *argv], capture_output=True, text=True,
                           errors="replace", check=False)
        if mounted:
            os.chdir("/")
            unmount = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
            subprocess.run([*unmount, f"{self.base}/tree"], check=True)
        elif view and r.returncode == 0:
            with open(report) as f:
                if json.load(f)["result"] != "miss":
                    sys.exit("posix: this did not run in the view")
        with open(log, encoding="utf-8", errors="replace") as f:
            lines = f.read().split("\n")
        if r.returncode:
            lines.append(f"status {r.returncode}: {r.stderr.strip()}")
        return lines

    def left(self):
        """What is there now, seen from outside."""
        out = {}
        for path, dirs, files in os.walk(self.tree):
            for name in dirs + files:
                full = os.path.join(path, name)
                try:
                    st = os.lstat(full)
                except OSError as e:
                    out[full] = e.strerror
                    continue
                what = (stat.filemode(st.st_mode), st.st_nlink, st.st_size, st.st_uid, st.st_gid)
                if stat.S_ISREG(st.st_mode) and os.access(full, os.R_OK):
                    with open(full, "rb") as f:
                        what += (hashlib.sha256(f.read(32 << 20)).hexdigest(),)
                if stat.S_ISLNK(st.st_mode):
                    what += (os.readlink(full),)
                out[full] = what
        return out

    def differ(self, options):
        """The first difference, as text; None."""
        a = self.run(False, options)
        left = self.left()
        b = self.run(True, options)
        for x, y in zip(a, b):
            if x != y:
                return f"native: {x}\nview:   {y}"
        if len(a) != len(b):
            return f"native: {len(a)} lines, {a[-1]}\nview:   {len(b)} lines, {b[-1]}"
        now = self.left()
        for path in sorted(set(left) | set(now)):
            if left.get(path) != now.get(path):
                return f"{path} was left behind as\nnative: {left.get(path)}\nview:   {now.get(path)}"
        return None


def number(text, default):
    m = re.search(r"^native: (\d+) ", text)
    return int(m[1]) if m else default


def minimise(trial, common, first, last, text):
    """Leave operations out as long as something still differs. The whole sequence, and the last difference."""
    wanted = list(range(first, last + 1))
    listed = f"{trial.logs}/wanted"
    options = [*common, "-v", "-d", "1", "-f", str(first), "-n", str(last + 1), "-w", listed]

    def try_with(ops):
        with open(listed, "w") as f:
            f.write("".join(f"{k}\n" for k in ops))
        return trial.differ(options)

    text = try_with(wanted) or text
    size = max(1, len(wanted) // 2)
    while True:
        k, shorter = 0, False
        while k < len(wanted):
            rest = wanted[:k] + wanted[k + size:]
            found = try_with(rest) if rest else None
            if found:
                wanted, text, shorter = rest, found, True
            else:
                k += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    try_with(wanted)
    with open(f"{trial.logs}/native", errors="replace") as f:
        lines = [line.rstrip() for line in f if re.match(r"\d+ (?!dump)", line)]
    return wanted, lines, text


def main():
    p = argparse.ArgumentParser(prog="tests/model/posix/run")
    p.add_argument("--mlfs", required=True, help=argparse.SUPPRESS)
    p.add_argument("--program", required=True, help=argparse.SUPPRESS)
    p.add_argument("--mount", action="store_true", help="in a persistent mount, not in a view")
    p.add_argument("--dir", help="where the trees are (a directory of the temporary one)")
    p.add_argument("--epoch", type=int, default=400, help="operations that begin with an empty tree (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    p.add_argument("--seeds", type=int, default=3, help="how many (%(default)s)")
    p.add_argument("--ops", type=int, default=4000, help="operations a seed (%(default)s)")
    p.add_argument("--limit", type=int, default=600, help="seconds a run may take (%(default)s)")
    p.add_argument("--keep-going", action="store_true", help="on to the next seed after a difference")
    args = p.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(dir=args.dir) as base, tempfile.TemporaryDirectory(dir="/dev/shm") as logs:
        os.chmod(base, 0o755)
        trial = Trial(args, base, logs)
        for seed in range(args.seed, args.seed + args.seeds):
            common = ["-s", str(seed), "-e", str(args.epoch), *(["-m"] if args.mount else [])]
            text = trial.differ([*common, "-n", str(args.ops)])
            if not text:
                continue
            bad += 1
            last = number(text, args.ops - 1)
            first = last // args.epoch * args.epoch
            print(f"seed {seed}: a difference at or before operation {last}\n{text}", flush=True)
            wanted, lines, text = minimise(trial, common, first, last, text)
            print(f"again: -s {seed} -e {args.epoch} -f {first} -n {last + 1} -w FILE, FILE having {wanted}")
            print("natively:", *lines, sep="\n  ")
            print(text, flush=True)
            if not args.keep_going:
                break
        trial.fresh()
    print(f"{args.seeds} seeds of {args.ops} operations: {'the same' if not bad else 'DIFFERENT'}")
    return 1 if bad else 0


sys.exit(main())
