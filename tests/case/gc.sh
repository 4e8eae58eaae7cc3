#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs gc: the cache within its limits, least recently used first, by hand and by itself; beside hits and steps in progress.
# GC_STORM=N: N steps for each worker of the storm.
. "$(dirname "$0")/lib.sh"

cat >work.sh <<'END'
mark
seq "$1" 40000 >"out$1"
echo "small $1" >"small$1"
echo "made $1"
END

# gc [=STATUS] ARGS…; what it says in JSON is in $IO/out
gc()
{
	ask gc "$@"
}

# The value of a member of what gc said.
said()
{
	$python -I -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))[sys.argv[2]]))' "$IO/out" "$1"
}

clean()
{
	mlfs fsck >"$IO/out" 2>"$IO/err" || fail "fsck finds something broken"
}

work()
{
	how=$1
	n=$2
	shift 2
	rm -f "out$n" "small$n"
	$how "$@" -- sh work.sh "$n"
	printed "made $n"
	same "$(cat "small$n")" "small $n"
	seq "$n" 40000 | cmp - "out$n" || fail "out$n is not what the step makes"
}

say "usage"
gc =1
grep -q 'there is no cache' "$IO/err" || fail "no cache, and nothing is said"
[ ! -e "$MLFS_CACHE/version" ] || fail "a cache was made"
gc =2 --max-sise 5
grep -q "did you mean '--max-size'" "$IO/err" || fail "the right word is not named"
gc =2 --max-size lots
gc =2 --max-age 5
gc =2 more
gc --help
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"

say "least recently used first"
for n in 1 2 3 4; do
	work miss $n
done
work hit 1
gc --json --dry-run --max-size 600K
same "$(said results)" 2
mlfs gc -n --max-size 600K | grep -q '2 results would be dropped' || fail "not said in words"
gc --json
same "$(said results)" 0
gc --json --max-size 600K
same "$(said results)" 2
same "$(said objects_removed)" 6
same "$(said bytes_waiting)" 0
[ "$(said bytes_after)" -le 614400 ]
clean
work hit 4
work hit 1
work miss 2
work miss 3
ran 6

say "not used for so long"
gc --json --max-age PT1H
same "$(said results)" 0
gc --json --max-age PT0S --max-size none
same "$(said results)" 4
same "$(said bytes_after)" 0
same "$(find "$MLFS_CACHE/cas" -type f | wc -l)" 0
clean
work miss 1

say "by itself, after a store"
for n in 1 2 3 4 5 6 7 8; do
	work step $n --max-size 1M
done
gc --json --dry-run --max-size 0
[ "$(said bytes_before)" -le 1048576 ] || fail "larger than the limit"
[ "$(said results)" -ge 3 ] || fail "far too much was dropped"
work hit 8
echo 'max-size = 600K' >"$MLFS_CACHE/mlfs.conf"
work miss 9
gc --json --dry-run
same "$(said max_size)" 614400
[ "$(said bytes_before)" -le 614400 ] || fail "larger than the limit in mlfs.conf"
echo 'max-age = PT0S' >"$MLFS_CACHE/mlfs.conf"
work miss 10
work miss 10
rm "$MLFS_CACHE/mlfs.conf"

say "a hit that is waiting while its result is dropped: it is served; or, its objects gone by force, the step runs"
cat >cat.sh <<'END'
mark
cat >copy
seq 1 40000 >big
END
cat >"$IO/race.py" <<'END'
import json, os, subprocess, sys
io, force = sys.argv[1], sys.argv[2] == "force"
# More than a pipe holds: what was written is read, so the step's result is found, and compared with what comes.
first, rest = b"half, " * 50000, b"and the rest\n"

def start():
    for name in "copy", "big":
        if os.path.exists(name):
            os.unlink(name)
    return subprocess.Popen(["mlfs", "exec", "--report", io + "/report", "--", "sh", "cat.sh"], stdin=subprocess.PIPE)

def end(child, result):
    child.stdin.write(rest)
    child.stdin.close()
    assert child.wait() == 0
    said = json.load(open(io + "/report"))
    assert said["result"] == result, said
    assert open("copy", "rb").read() == first + rest
    assert open("big").read() == "".join("%d\n" % i for i in range(1, 40001))

child = start()
child.stdin.write(first)
end(child, "miss")
child = start()
child.stdin.write(first)
child.stdin.flush()
gone = json.loads(subprocess.run(["mlfs", "gc", "--json", "--max-size", "0"], stdout=subprocess.PIPE, check=True).stdout)
assert gone["results"] >= 1 and gone["objects_removed"] == 0 and gone["bytes_waiting"] > 100000, gone
if force:
    subprocess.run("rm -rf \"$MLFS_CACHE\"/cas/*", shell=True, check=True)
end(child, "miss" if force else "hit")
END
for how in mildly force; do
	$python -I "$IO/race.py" "$IO" $how || fail "the race ($how)"
	mlfs gc --max-size 0 >"$IO/out"
	clean
done

say "a step that is verified, stopped in its middle: its result stays, however long it takes; others go"
cat >slow.sh <<'END'
mark
seq 1 40000 >slow
if [ -p "$WITNESS/begun" ]; then
	echo begun >"$WITNESS/begun"
	read -r line <"$WITNESS/on"
fi
echo done
END
work miss 1
miss -- sh slow.sh
mkfifo "$WITNESS/begun" "$WITNESS/on"

# verify STATUS COMMAND…: run the command in the middle of mlfs exec --verify
verify()
{
	verdict=$1
	shift
	mlfs exec --verify --report "$IO/report" -- sh slow.sh >"$IO/verify.out" 2>&1 &
	pid=$!
	await begun
	"$@"
	echo >"$WITNESS/on"
	status=0
	wait $pid || status=$?
	same "$status" "$verdict" "status of --verify"
	eval "$($python -I -B "$cases/report.py" "$IO/report")"
}
verify 0 gc --json --max-size 0 --max-age PT0S
same "$r_result" hit
same "$r_verified" true
same "$(said results)" 1
verify 0 mlfs forget -q --all
same "$r_verified" "" "verified, though nothing is left to compare with"
matches "$r_reason" '*dropped from the cache meanwhile*' "reason"
rm "$WITNESS/begun" "$WITNESS/on"
clean

say "a step that finds its object stored already, and the object is gone when its result comes: it is stored again"
# Who has the cache open keeps gc from removing the object; who has LMDB's lock keeps the result waiting.
cat >"$IO/hold.py" <<'END'
import ctypes, glob, json, os, subprocess, sys, time
io, cache = sys.argv[1], os.environ["MLFS_CACHE"]
step = ["mlfs", "exec", "--report", io + "/report", "--", "sh", "slow.sh"]
subprocess.run(step, check=True)
key = json.load(open(io + "/report"))["input_key"]
[path] = glob.glob(cache + "/cas/*/*")

lmdb = ctypes.CDLL("liblmdb.so.0")
def call(name, *args):
    r = getattr(lmdb, name)(*args)
    assert r == 0, (name, r)
env, reader, writer = (ctypes.c_void_p() for _ in range(3))
call("mdb_env_create", ctypes.byref(env))
call("mdb_env_set_maxreaders", env, 1022)
call("mdb_env_set_mapsize", env, ctypes.c_size_t(1 << 30))
call("mdb_env_open", env, (cache + "/index").encode(), 0x200000 | 0x40000, 0o600) # MDB_NOTLS, MDB_NOMETASYNC
call("mdb_txn_begin", env, None, 0x20000, ctypes.byref(reader)) # MDB_RDONLY
subprocess.run(["mlfs", "forget", "-q", key], check=True)
assert os.path.exists(path)
os.utime(path, (1, 1))
call("mdb_txn_begin", env, None, 0, ctypes.byref(writer))
child = subprocess.Popen(step)
until = time.monotonic() + 20
while os.stat(path).st_mtime == 1:
    assert time.monotonic() < until and child.poll() is None
    time.sleep(0.02)
os.unlink(path) # as gc does in its transaction
lmdb.mdb_txn_abort(writer)
lmdb.mdb_txn_abort(reader)
assert child.wait() == 0
said = json.load(open(io + "/report"))
assert said["result"] == "miss" and said["stored"], said
assert os.path.exists(path)
lmdb.mdb_env_close(env)
os.unlink("slow")
subprocess.run(step, check=True)
assert json.load(open(io + "/report"))["result"] == "hit"
END
$python -I "$IO/hold.py" "$IO" || fail "the store"
clean
seq 1 40000 | cmp - slow || fail "slow is not what the step makes"
mlfs gc -q --max-size 0

say "a storm of steps and collectors"
cat >storm.sh <<'END'
head -c 20000 /dev/zero | tr '\0' "$1" >"big.$1"
echo "$1 $2" >"small.$1"
cat same.txt "small.$1" >"both.$1"
echo "console $1"
END
cat >"$IO/storm.py" <<'END'
import json, os, random, subprocess, sys
worker, n = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(worker)
if worker == 0:
    for i in range(n):
        limit = str(rng.choice([0, 1, 50000, 100000, 300000]))
        subprocess.run(["mlfs", "gc", "-q", "--max-size", limit], check=True)
    sys.exit()
home = "worker%d" % worker
os.mkdir(home)
os.chdir(home)
open("same.txt", "w").write("same\n")
hits = 0
for i in range(n):
    c, d = rng.choice("abcd"), rng.choice("12")
    for name in ("big", "small", "both"):
        if rng.random() < 0.7 and os.path.exists("%s.%s" % (name, c)):
            os.unlink("%s.%s" % (name, c))
    limit = ["--max-size", rng.choice(["100K", "200K", "1G"])]
    p = subprocess.run(["mlfs", "exec", "--require", "--report", "report"] + limit + ["--", "sh", "../storm.sh", c, d],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.returncode == 0 and p.stdout == b"console %s\n" % c.encode() and p.stderr == b"", p
    assert open("big." + c).read() == c * 20000
    assert open("both." + c).read() == "same\n%s %s\n" % (c, d)
    hits += json.load(open("report"))["result"] == "hit"
print(hits, "hits of", n, flush=True)
END
pids=
for worker in 0 1 2 3; do
	$python -I "$IO/storm.py" $worker "${GC_STORM:-40}" >"$IO/storm.$worker" 2>&1 &
	pids="$pids $!"
done
for pid in $pids; do
	wait "$pid" || fail "a worker of the storm: $(cat "$IO"/storm.*)"
done
cat "$IO"/storm.*
clean
gc --json --max-size 0
same "$(said bytes_after)" 0
same "$(find "$MLFS_CACHE/cas" "$MLFS_CACHE/tmp" -type f | wc -l)" 0
clean
