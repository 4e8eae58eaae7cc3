# SPDX-License-Identifier: MIT
"""The same steps under what Debian ships of the same kind, in the same rounds. Each says how it is run."""
import os
import shutil
from dataclasses import dataclass
from pathlib import Path


def nothing():
    pass


@dataclass
class Variant:
    label: str
    argv: list
    env: dict
    how: str
    prepare: callable = nothing  # after the outputs were moved away; not timed
    finish: callable = nothing
    fresh: bool = True  # outputs are moved away before
    checked: bool = True  # outputs stand in the working directory afterwards


class Peer:
    name = package = program = ""

    def missing(self):
        return not shutil.which(self.program or self.name)

    def why_not(self, b):
        """Why it cannot run this workload; None when it can."""
        return None

    def does(self, b):
        return self.why_not(b) is None

    def variants(self, b):
        raise NotImplementedError


class Strace(Peer):
    name = package = "strace"

    def variants(self, b):
        argv = ["strace", "-f", "-qq", "-e", "trace=file,desc", "-o", f"{b.place.io}/strace"] + b.w.command
        return [Variant("strace", argv, b.env, "`strace -f -e trace=file,desc -o FILE`: every call with a path or a "
                        "descriptor is written down, nothing is made of it")]


class Ccache(Peer):
    name = package = "ccache"
    masquerade = "/usr/lib/ccache"

    def missing(self):
        return super().missing() or not os.path.isdir(self.masquerade)

    def why_not(self, b):
        return None if b.w.tree else "it caches compilers only"

    def variants(self, b):
        cache = f"{b.place.base}/cache/ccache"
        env = dict(b.env, PATH=f"{self.masquerade}:{b.env['PATH']}", CCACHE_DIR=cache)
        return [Variant("ccache, empty", b.w.command, env,
                        f"PATH begins with {self.masquerade}; an empty CCACHE_DIR", lambda: self.move_away(b, cache)),
                Variant("ccache, full", b.w.command, env, "the same again from clean, all of it hits")]

    @staticmethod
    def move_away(b, cache):
        if os.path.isdir(cache):
            os.rename(cache, f"{b.place.old(b.place.base)}/ccache")


class Mount(Peer):
    """A FUSE file system that shows the whole machine, and the step in it by chroot, as mlfs has it."""

    script = """
set -eu
mnt=$1 dir=$2 program=$3
shift 3
mount --make-rprivate /
{mount}
for d in proc sys dev; do mount --rbind /$d "$mnt/$d"; done
status=0
chroot "$mnt" env -C "$dir" "$@" || status=$?
umount -l "$mnt"
exit $status
"""
    mount = how = ""

    def why_not(self, b):
        return None if os.geteuid() == 0 else "chroot needs root"

    def variants(self, b):
        mnt = f"{b.place.base}/{self.name}.mnt"
        scratch = f"{b.place.base}/{self.name}.d"

        def prepare():
            shutil.rmtree(scratch, ignore_errors=True)
            for d in (mnt, f"{scratch}/root", f"{scratch}/upper", f"{scratch}/work"):
                os.makedirs(d, exist_ok=True)

        script = self.script.format(mount=self.mount)
        argv = ["unshare", "-m", "sh", "-c", script, "sh", mnt, b.dir, self.name] + b.w.command
        return [Variant(self.name, argv, dict(b.env, scratch=scratch), self.how, prepare,
                        checked=self.checked, finish=lambda: self.finish(b, scratch))]

    checked = True

    def finish(self, b, scratch):
        pass


class Bindfs(Mount):
    name = package = "bindfs"
    mount = 'bindfs -o dev,suid / "$mnt"'
    how = "`bindfs / MNT`, then the step in `chroot MNT`; making the mount is part of the time, as it is for mlfs exec"


class FuseOverlayfs(Mount):
    name = package = "fuse-overlayfs"
    # It looks at every entry of a directory, and would wait for itself at its own mount point: hence a bind mount of /.
    mount = """mount --bind / "$scratch/root"
fuse-overlayfs -o lowerdir="$scratch/root",upperdir="$scratch/upper",workdir="$scratch/work" "$mnt"
umount -l "$scratch/root\""""
    how = ("`fuse-overlayfs -o lowerdir=ROOT,upperdir=…,workdir=… MNT` (ROOT: a bind mount of /), then the step in "
           "`chroot MNT`; making the mount is part of the time; outputs stay in the upper directory")
    checked = False

    def why_not(self, b):
        if b.place.tmpfs and b.dir.startswith(b.place.tmpfs + "/"):
            return "its lower directory does not show what is mounted below it (the tmpfs)"
        return super().why_not(b)

    def finish(self, b, scratch):
        """What it has written is in its upper directory: it is put where the check looks."""
        for path in b.w.outputs:
            if os.path.lexists(f"{scratch}/upper{b.dir}/{path}") and not b.w.tree:
                os.rename(f"{scratch}/upper{b.dir}/{path}", path)
                b.check(None, "fuse-overlayfs", None)


class Tup(Peer):
    name = package = "tup"

    def why_not(self, b):
        if b.w.tree:
            return "every output has to be named beforehand, and make writes what it read"
        if b.name == "true":
            return "a rule needs an output or an input"
        return None

    def variants(self, b):
        inputs = {"many": "in/*"}.get(b.name, "")

        def clear():
            """Gone from the directory, whose listing is an input of many a step."""
            for name in (".tup", "Tupfile"):
                if os.path.lexists(name):
                    os.rename(name, f"{b.place.old(b.dir)}/{name}")

        def first():
            clear()
            # Outputs are named; what they are was seen in the native run.
            names = " ".join(n for n in b.want if n != "out")
            if "out" in b.want:
                os.mkdir("out")
            Path("Tupfile").write_text(f": {inputs} |> {' '.join(b.w.command)} |> {names}\n")
            os.makedirs(f"{b.place.base}/cache/tup", exist_ok=True)
            b.run(["tup", "init"])

        how = "a Tupfile of one rule with each output named; libraries and programs outside the directory are not seen"
        return [Variant("tup, first", ["tup", "--quiet"], b.env, how, first),
                Variant("tup, again", ["tup", "--quiet"], b.env, "nothing to do, outputs in place", fresh=False,
                        finish=clear)]


ALL = {p.name: p for p in (Tup(), Ccache(), Bindfs(), FuseOverlayfs(), Strace())}


def chosen(names):
    """(those that are installed, the package names of the others)"""
    found = [ALL[n] for n in names if not ALL[n].missing()]
    return found, [ALL[n].package for n in names if ALL[n].missing()]
