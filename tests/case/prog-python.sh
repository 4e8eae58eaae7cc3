#!/bin/sh
# SPDX-License-Identifier: MIT
# Python: a virtual environment, byte-code, zipimport, multiprocessing (spawn and fork), subprocess, tempfile, mmap,
# shelve; a restored environment runs.
. "$(dirname "$0")/lib.sh"

export PYTHONHASHSEED=0
mkdir pkg
echo 'from . import inner; VALUE = inner.VALUE + 1' >pkg/__init__.py
echo 'VALUE = 41' >pkg/inner.py

cat >venv.sh <<END
set -e
$python -m venv --without-pip env
site=\$(env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r pkg "\$site/"
env/bin/python -m compileall -q "\$site"
cd /
"\$OLDPWD/env/bin/python" -c 'import pkg, sys; print(pkg.VALUE, sys.prefix != sys.base_prefix)'
END
say "a virtual environment"
# The byte-code holds the times of its sources.
steady_tree()
{
	tree "$@" | grep -v '\.pyc$'
}
like_native venv.sh env
same "$(env/bin/python -c 'import pkg, sys; print(pkg.VALUE, sys.prefix)')" "42 $PWD/env" "the restored environment"
miss -- env/bin/python -c 'import pkg; print(pkg.VALUE)'
printed 42
hit -- env/bin/python -c 'import pkg; print(pkg.VALUE)'

say "byte-code: written by the first import, valid outside, and no reason for another run"
rm -rf pkg/__pycache__
miss -- $python -c 'import pkg; print(pkg.VALUE)'
[ -s pkg/__pycache__/inner.cpython-3*.pyc ] || fail "no byte-code"
before=$(stat -c '%i %Y' pkg/__pycache__/*)
$python -c 'import pkg'
same "$(stat -c '%i %Y' pkg/__pycache__/*)" "$before" "the byte-code"
hit -- $python -c 'import pkg; print(pkg.VALUE)'
rm -rf pkg/__pycache__
hit -- $python -c 'import pkg; print(pkg.VALUE)'
echo 'VALUE = 1' >pkg/inner.py
miss -- $python -c 'import pkg; print(pkg.VALUE)'
printed 2

cat >all.py <<'END'
import hashlib, json, mmap, multiprocessing, multiprocessing.forkserver, multiprocessing.resource_tracker, os, pathlib, shelve, shutil, subprocess, sys, tempfile, threading, zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def square(n):
    with open("out/square.%d" % n, "w") as f:
        f.write(str(n * n))
    return n * n

def count(n):
    return n, hashlib.sha256(b"x" * n).hexdigest()[:8]

def fill(queue, n):
    for k in range(n):
        queue.put(k)
    queue.put(None)

def main():
    os.mkdir("out")
    for method in "fork", "spawn", "forkserver":
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            print(method, pool.map(square, range(5)))
        queue = context.Queue()
        p = context.Process(target=fill, args=(queue, 3))
        p.start()
        print(list(iter(queue.get, None)))
        p.join()
        print(p.exitcode)
    with ProcessPoolExecutor(2) as pool:
        print(list(pool.map(count, [1, 10, 100])))
    with ThreadPoolExecutor(4) as pool:
        print(sorted(pool.map(square, range(5, 15))))

    print(subprocess.run(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in", capture_output=True))
    with subprocess.Popen(["sort", "-n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        print(p.communicate("3\n1\n2\n")[0].split())

    with tempfile.TemporaryDirectory(dir="out") as d, tempfile.NamedTemporaryFile(dir=d) as f, \
            tempfile.TemporaryFile(dir=d) as g:
        f.write(b"named")
        f.flush()
        g.write(b"nameless")
        g.seek(0)
        print(pathlib.Path(f.name).read_bytes(), g.read(), os.fstat(g.fileno()).st_nlink)

    with open("out/mapped", "w+b") as f:
        f.truncate(1 << 20)
        with mmap.mmap(f.fileno(), 0) as m:
            m[:5] = b"begin"
            m[-3:] = b"end"
            m.flush()
            print(os.pread(f.fileno(), 5, 0), m.find(b"end"))
        # Without a flush: what was written to the mapping is read from the file all the same.
        m = mmap.mmap(f.fileno(), 4096)
        m[100:104] = b"late"
        print(os.pread(f.fileno(), 4, 100))
        pid = os.fork()
        if not pid:
            m[200:205] = b"child"
            os._exit(0)
        os.waitpid(pid, 0)
        print(m[200:205])

    with zipfile.ZipFile("out/lib.zip", "w") as z:
        z.writestr(zipfile.ZipInfo("zipped/__init__.py"), "import pkgutil\nDATA = pkgutil.get_data(__name__, 'data')\n")
        z.writestr(zipfile.ZipInfo("zipped/data"), b"from the archive")
    sys.path.insert(0, "out/lib.zip")
    import zipped
    print(zipped.DATA, type(zipped.__loader__).__name__)

    for flag in "n", "w":
        with shelve.open("out/shelf", flag) as s:
            s["k%s" % flag] = [1, 2, {"deep": flag}]
            print(sorted(s))
    os.replace("out/square.1", "out/renamed")
    shutil.copytree("pkg", "out/copy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.make_archive("out/archive", "tar", "out/copy")
    os.remove("out/archive.tar")
    with open("out/a.json", "w") as f:
        json.dump({"b": 1}, f)
    fd = os.open("out", os.O_RDONLY | os.O_DIRECTORY)
    print(os.listdir(fd) == os.listdir("out"), os.stat("a.json", dir_fd=fd).st_size)
    os.sendfile(os.open("out/sent", os.O_WRONLY | os.O_CREAT, 0o644), os.open("out/a.json", os.O_RDONLY), 0, 100)
    os.copy_file_range(os.open("out/a.json", os.O_RDONLY), os.open("out/ranged", os.O_WRONLY | os.O_CREAT, 0o644), 100)
    memory = os.memfd_create("m")
    os.write(memory, b"memory")
    print(os.pread(memory, 6, 0))
    for name in "out/sent", "out/ranged":
        print(open(name).read())
    # Helpers of multiprocessing that nobody waits for: a process that outlives its step is a reason not to store.
    multiprocessing.forkserver._forkserver._stop()
    multiprocessing.resource_tracker._resource_tracker._stop()

if __name__ == "__main__":
    main()
END
say "processes, threads, temporary files, mappings, archives, databases"
cat >all.sh <<END
exec $python -B all.py
END
steady_tree()
{
	tree "$@" | grep -v 'out/shelf'
}
like_native all.sh out
same "$($python -c 'import shelve; print(sorted(shelve.open("out/shelf", "r")))')" "['kn', 'kw']" "the restored database"
