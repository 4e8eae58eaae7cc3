# SPDX-License-Identifier: MIT
"""Each setting of `mlfs exec` has an effect, a function below that returns what came of a step. It is to be the one effect where the
setting is given on the command line, in a file ($MLFS_CONFIG, --config, or mlfs.conf of the cache) or in its [step] section, and the
other where it is not given, given in the section of another step, or overruled by the command line."""
import json
import os
import re
import shutil
import socket
import subprocess

IO = os.environ["IO"]
CACHE = IO + "/settings-cache"
CONF = IO + "/settings.conf"
REPORT = IO + "/settings-report"


class Way:
    """How a setting is given to a run, for the step called `this`."""

    def __init__(self, how, setting, value, other):
        self.args, text, self.env = [], None, {}
        line = f"{setting} = {value}\n"
        if how == "option":
            self.args = [f"--{setting}={value}"]
        elif how == "MLFS_CONFIG":
            text = line
        elif how == "--config":
            text, self.args = line, ["--config", CONF]
        elif how == "mlfs.conf":
            text = line
        elif how == "its section":
            text = f'# of this step\n[step "t*s"]\n{line}[step "nobody"]\n'
        elif how == "the section of another":
            text = f'[step "that"]\n{line}[step "these"]\n{line}'
        elif how == "overruled":
            text, self.args = line, other
        if how == "mlfs.conf":
            os.makedirs(CACHE, 0o700, exist_ok=True)
            with open(CACHE + "/mlfs.conf", "w", encoding="ascii") as f:
                f.write(text)
        elif text:
            with open(CONF, "w", encoding="ascii") as f:
                f.write(text)
            if how != "--config":
                self.env = {"MLFS_CONFIG": CONF}


PLAIN = Way("not given", "", "", [])
PLAIN.env = {"MLFS_CONFIG": "/dev/null"}  # nor what mlfs.conf of the cache says


def run(way, script, name="this", env=None, status=0, before=(), report=True):
    """A step `sh -c script`; its report, with what it printed and said. name None: the setting is to give one."""
    args = ["mlfs", "exec", "--cache", CACHE, *(["--report", REPORT] if report else []), *(["--name", name] if name else []),
            *way.args, "--", "sh", "-c", script]
    p = subprocess.run([*before, *args], capture_output=True, text=True, check=False, env={**os.environ, **way.env, **(env or {})},
                       stdin=subprocess.DEVNULL)
    assert p.returncode in (status, 125), (args, p)
    r = {}
    if report:
        with open(REPORT, encoding="utf-8") as f:
            r = json.load(f)
    return {**r, "status": p.returncode, "out": p.stdout, "err": p.stderr}


def write(name, text):
    with open(name, "w", encoding="ascii") as f:
        f.write(text)


def primed(**kw):
    """A step that is in the cache, then the way's."""
    def effect(way):
        run(PLAIN, "echo same")
        return run(way, "echo same", **kw)["result"]
    return effect


def verified(way):
    mark = os.environ["WITNESS"] + "/settings"
    write(mark, "")
    for w in (PLAIN, way):
        run(w, f"echo x >>{mark}")
    with open(mark, encoding="ascii") as f:
        return f.read().count("x")


def variable(name):
    def effect(way):
        for value in ("1", "2"):
            r = run(way, "echo same", env={name: value})
        return r["result"]
    return effect


def ignored(way):
    for text in ("1", "2"):
        write("noise.log", text)
        r = run(way, "cat noise.log >/dev/null")
    return r["result"]


def strict(way):
    for _ in range(2):
        r = run(way, "[ -e left ]; echo $? >/dev/null; echo x >left")
    os.unlink("left")
    return r["result"]


def network(way):
    with socket.create_server(("127.0.0.1", 0)) as s:
        r = run(way, "/usr/bin/python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", %d))'" % s.getsockname()[1])
    return r["stored"]


def untraced(way):
    ns = "unshare -m sh -c" if os.getuid() == 0 else "unshare -Urm sh -c"
    return run(way, "true", before=[*ns.split(), 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh"])["status"]


def quiet(way):
    with open(CACHE, "w", encoding="ascii"):
        pass  # a file, not a directory: the step runs, with a warning
    r = run(way, "echo same")
    os.unlink(CACHE)
    return r["err"].count("mlfs: ")


def report(way):
    path = IO + "/report-of-settings"
    run(way, "true", report=False)
    there = os.path.exists(path)
    if there:
        os.unlink(path)
    return there


def log_shows(way):
    run(PLAIN, "true")
    p = subprocess.run(["mlfs", "log", "--json", "--cache", CACHE, *way.args], capture_output=True, text=True, check=True,
                       env={**os.environ, **way.env})
    return len(json.loads(p.stdout))


# setting: its value, what overrules it, the effect, what it is with and without the setting
SETTINGS = {
    "expire-after": ("PT0S", ["--expire-after", "never"], primed(), "miss", "hit"),
    "no-cache": ("yes", ["--no-cache=no"], primed(), "uncached", "hit"),
    "refresh": ("on", ["--refresh=off"], primed(), "miss", "hit"),
    "read-only": ("1", ["--read-only=0"], lambda w: run(w, "true")["stored"], False, True),
    "only-if-cached": ("true", ["--only-if-cached=false"], lambda w: run(w, "true")["status"], 125, 0),
    "require": ("yes", ["--require=no"], untraced, 125, 0),
    "env": ("SSH_TTY", None, variable("SSH_TTY"), "miss", "hit"),
    "ignore-env": ("SOME_*", None, variable("SOME_THING"), "hit", "miss"),
    "clean-env": ("yes", ["--clean-env=no"], variable("SOME_THING"), "hit", "miss"),
    "strict": ("yes", ["--strict=no"], strict, "miss", "hit"),
    "ignore": ("*.log", None, ignored, "hit", "miss"),
    "allow-network": ("yes", ["--allow-network=no"], network, True, False),
    "cache-failures": ("yes", ["--cache-failures=no"], lambda w: run(w, "exit 3", status=3)["stored"], True, False),
    "salt": ("a-b", ["--salt="], primed(), "miss", "hit"),
    "name": ("other", ["--name", "sh"], lambda w: run(w, "true", name=None)["name"], "other", "sh"),
    "verify": ("yes", ["--verify=no"], verified, 2, 1),
    "report": (IO + "/report-of-settings", ["--report", "/dev/null"], report, True, False),
    "keep-runs": ("PT0S", ["--keep-runs", "never"], log_shows, 0, 1),
    "quiet": ("yes", ["--quiet=no"], quiet, 0, 1),
    "verbose": ("yes", ["--verbose=no"], lambda w: run(w, "true")["err"].count("mlfs: miss"), 1, 0),
}
# How much is kept takes many runs or bytes to see; unit tests look at these. Others mean something in mounts only: mount-shared, mount-lazy.
ELSEWHERE = {"keep-runs-size", "max-size", "max-age", "private", "no-lazy"}
ONLY_WORDS = {"cache", "config", "help", "version"}


def main():
    text = subprocess.run(["mlfs", "exec", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  (?:-\w,|   ) --([a-z-]+)", text, re.M))
    assert set(SETTINGS) <= known and known - ELSEWHERE - ONLY_WORDS == set(SETTINGS), known ^ set(SETTINGS)
    for setting, (value, other, effect, given, not_given) in SETTINGS.items():
        for how in ("option", "MLFS_CONFIG", "--config", "mlfs.conf", "its section", "not given", "the section of another", "overruled"):
            if how == "overruled" and other is None:  # these add up
                continue
            if setting == "name" and "section" in how or setting == "keep-runs" and "section" in how:
                continue  # a section is chosen by the name; the history is the whole cache's
            if setting == "quiet" and how == "mlfs.conf":
                continue  # this file lies in what is not to be had
            want = given if how in ("option", "MLFS_CONFIG", "--config", "mlfs.conf", "its section") else not_given
            shutil.rmtree(CACHE, ignore_errors=True)
            got = effect(Way(how, setting, value, other))
            assert got == want, f"{setting}, {how}: got {got}, want {want}"


main()
