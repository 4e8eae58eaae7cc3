# SPDX-License-Identifier: MIT
"""What is measured: steps that are run natively, recorded, and as hits (rounds.py). See also scale.py."""
import hashlib
import math
import os
import subprocess
import time
from dataclasses import dataclass, field

PYTHON = "/usr/bin/python3"  # the distribution's, which has its numpy
MB = 1 << 20

IMPORT = "import numpy, pandas\nprint(numpy.arange(3).sum(), len(pandas.DataFrame()))\n"
TRAIN = """
import pandas
from sklearn.ensemble import RandomForestRegressor
d = pandas.read_csv("train.csv")
m = RandomForestRegressor(n_estimators=4, max_depth=8, random_state=0, n_jobs=1)
m.fit(d.iloc[:, :-1], d.iloc[:, -1])
print(round(m.score(d.iloc[:5000, :-1], d.iloc[:5000, -1]), 6))
open("model.txt", "w").write(repr([t.tree_.node_count for t in m.estimators_]))
"""
TRAIN_DATA = """
import numpy, pandas, sys
r = numpy.random.RandomState(0)
a = r.rand(int(sys.argv[1]), 10)
pandas.DataFrame(numpy.c_[a, a.sum(1)]).to_csv("train.csv", index=False)
"""
MANY = """
import os
os.makedirs("out", exist_ok=True)
for n in os.listdir("in"):
    with open("in/" + n) as f, open("out/" + n, "w") as g:
        g.write(f.read().upper())
"""
BIG = """
with open("big.in", "rb") as f, open("big.out", "wb") as g:
    table = bytes(255 - i for i in range(256))
    while block := f.read(1 << 20):
        g.write(block.translate(table))
"""
COMPUTE = """
import hashlib
h = hashlib.sha256()
with open("big.in", "rb", buffering=0) as f:
    while block := f.read(1 << 20):
        for _ in range({whole}):
            h.update(block)
        h.update(memoryview(block)[:{rest}])
print(h.hexdigest())
"""


@dataclass
class Workload:
    about: str
    command: list
    prepare: callable = None  # prepare(scale), once, in the working directory
    outputs: list = field(default_factory=list)  # what is moved away before each run but hits in place
    tree: str = None  # a source tree of scripts/test-data, copied anew before each such run
    env: dict = field(default_factory=dict)
    steady_out: bool = True  # prints the same each time
    ignored: list = field(default_factory=list)  # patterns of names in outputs that differ from run to run
    touched: list = field(default_factory=list)  # inputs whose digest is to be unknown when recording
    on_tmpfs: bool = False
    heavy: bool = False  # gigabytes: what was moved away is deleted each round; the disk is awaited before each run
    room: int = 0  # free bytes it takes, at scale 1
    records: int = 1  # recordings, and native runs, a round: the median of these counts
    copied: str = None  # an output; restoring it is compared with cp


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def prepare_import(_scale):
    write("import.py", IMPORT)


def prepare_train(scale):
    write("train.py", TRAIN)
    subprocess.run([PYTHON, "-c", TRAIN_DATA, str(max(5000, int(270000 * scale)))], check=True)


def prepare_many(scale):
    write("many.py", MANY)
    os.mkdir("in")
    for i in range(int(20000 * scale)):
        write(f"in/{i:05}", f"line {i}\n" * 8)


def make_big(scale):
    block = os.urandom(MB)
    with open("big.in", "wb") as f:
        for i in range(max(16, int(2048 * scale))):
            f.write(i.to_bytes(8, "little") + block[8:])


def prepare_big(scale):
    write("big.py", BIG)
    make_big(scale)


def seconds(action, n=3):
    best = math.inf
    for _ in range(n):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def read_whole(path):
    with open(path, "rb", buffering=0) as f:
        while f.read(MB):
            pass


def prepare_compute(scale):
    """Computes nine times as long as native reading takes, so that the whole takes ten times over."""
    make_big(scale)
    blocks = os.path.getsize("big.in") // MB
    reading = seconds(lambda: read_whole("big.in")) / blocks
    sample = os.urandom(16 * MB)
    rate = len(sample) / seconds(lambda: hashlib.sha256(sample).digest())
    n = int(9 * reading * rate)
    write("compute.py", COMPUTE.format(whole=n // MB, rest=n % MB))


# Of redis: the date in it comes from SOURCE_DATE_EPOCH instead of the clock.
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}

WORKLOADS = {
    "true": Workload("`true`", ["true"], records=10),
    "import": Workload("Python imports numpy and pandas", [PYTHON, "import.py"], prepare_import, records=3),
    "train": Workload("scikit-learn trains on a CSV file of 53 MB", [PYTHON, "train.py"], prepare_train,
                      ["model.txt"]),
    "xz": Workload("`make -j2` of xz-utils", ["make", "-s", "-j2", "-C", "xz"], outputs=["xz"], tree="xz",
                   steady_out=False, env=EPOCH, room=1 << 30),
    "redis": Workload("`make -j2` of redis", ["make", "-s", "-j2", "-C", "redis", "MALLOC=libc"], outputs=["redis"],
                      tree="redis", steady_out=False, env=EPOCH, room=2 << 30),
    "many": Workload("20,000 small files read, 20,000 written", [PYTHON, "many.py"], prepare_many, ["out"],
                     on_tmpfs=True),
    "big": Workload("2 GB read, transformed, written", [PYTHON, "big.py"], prepare_big, ["big.out"],
                    touched=["big.in"], heavy=True, room=16 << 30, copied="big.out"),
    "compute-big": Workload("2 GB read, and computed on for nine times as long", [PYTHON, "compute.py"],
                            prepare_compute, touched=["big.in"], heavy=True, room=4 << 30),
}
