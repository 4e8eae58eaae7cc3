#!/bin/sh
# SPDX-License-Identifier: MIT
# scripts/bench runs, checks what it measures, and writes JSON that holds together. No figure is looked at.
. "$(dirname "$0")/lib.sh"

real=$(command -v mlfs)
mkdir t
bench()
{
	"$BENCH/bench" --dir "$PWD/t" --runs 2 --scale 0.002 "$@" >"$IO/out" 2>"$IO/err"
}

say "a workload with outputs, one without"
bench --mlfs "$real" --json j.json true many || fail "status $?"
$python -I -B - j.json <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert list(d["workloads"]) == ["true", "many"], list(d["workloads"])
for name, w in d["workloads"].items():
    assert len(w["rounds"]) == 2 and len(w["peers"]) == 0
    for r in w["rounds"]:
        assert r["native"] > 0 and r["record"] > 0 and r["hit"] > 0, r
    assert w["counts"]["requests"]["total"] == sum(v for k, v in w["counts"]["requests"].items() if k != "total")
many = d["workloads"]["many"]
assert many["counts"]["inputs"] > 40, many["counts"]
assert many["counts"]["outputs"] == 41, many["counts"]  # 40 files and their directory
assert many["counts"]["requests"]["READ"] >= 40 and many["rounds"][0]["restore"] > 0
assert {t["workload"] for t in d["targets"]} == {"true", "many"}
assert all(t["met"] is None for t in d["targets"])  # at this size nothing is said of them
END
grep -q '^| `many`: ' "$IO/out" || fail "no table"
[ -z "$(ls t)" ] || fail "left behind: $(ls t)"
"$BENCH/bench" --render j.json >again
cmp again "$IO/out" || fail "the JSON does not hold what was printed"

say "a hit that is none is noticed"
cat >never <<END
#!/bin/sh
[ "\$1" != exec ] || { shift; set -- exec --refresh "\$@"; }
exec "$real" "\$@"
END
chmod +x never
! bench --mlfs "$PWD/never" true || fail "a miss was measured as a hit"
grep -q 'no hit' "$IO/err" || fail "not for that reason"

say "outputs that are wrong are noticed"
cat >wrong <<END
#!/bin/sh
"$real" "\$@" || exit
[ ! -e out/00007 ] || echo spoilt >out/00007
END
chmod +x wrong
! bench --mlfs "$PWD/wrong" many || fail "wrong outputs were measured"
grep -q 'left something else than the native run: out/00007$' "$IO/err" || fail "not for that reason"
[ -z "$(ls t)" ] || fail "left behind: $(ls t)"
