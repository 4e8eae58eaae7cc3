#!/bin/sh
# SPDX-License-Identifier: MIT
# In a persistent mount, programs that are steps are cached, whoever starts them and however.
. "$(dirname "$0")/lib.sh"

is_root || command -v fusermount3 >/dev/null || skip "fusermount3 is not here"
mkdir -p src/bin src/jobs/slow src/lib mnt
cp /usr/bin/sort src/bin/sort
cat >src/bin/count <<'END'
#!/bin/sh
mark
echo "$0 counts $*"
cat "${1:-data}" >/dev/null
wc -l <"${1:-data}" >count.out
END
cat >src/jobs/train.sh <<'END'
#!/bin/sh
# A step that runs a step.
mark
bin/count data && cp count.out model && echo trained >&2
exit "${1:-0}"
END
cat >src/jobs/slow/wait.sh <<'END'
#!/bin/sh
mark
echo up >"$WITNESS/up"
read -r line <"$WITNESS/go"
END
printf '#!/bin/sh\nmark\n' >src/lib/helper
chmod +x src/bin/count src/jobs/train.sh src/jobs/slow/wait.sh src/lib/helper
seq 10 >src/data
real=$(sha256sum <src/bin/count)
mkfifo "$WITNESS/up" "$WITNESS/go"

away()
{
	cd "$top"
	if is_root; then umount mnt; else fusermount3 -u mnt; fi
}
top=$PWD
# Everybody's own: the cache of this test, not one for each user of the mount.
mlfs mount --step 'bin/*' --step 'jobs/**/*.sh' --step '*.sh' --no-step 'bin/sort' \
	--step-command '*python3 *train.py*' --step-command 'sh tools/*' --step-command 'perl *.pl *' src mnt
trap away EXIT
cd mnt
last()
{
	mlfs log --json | $python -c 'import json, sys
r = json.load(sys.stdin)[0]
print(r["result"], r["name"])'
}

say "a script: its arguments, console, outputs; and again"
bin/count data >"$IO/out"
printed "bin/count counts data"
ran 1
same "$(cat count.out)" 10 "the output, seen at once"
same "$(last)" "miss count"
rm count.out
bin/count data >"$IO/out"
printed "bin/count counts data"
same "$(cat count.out)" 10 "what the hit placed, seen at once"
same "$(cat ../src/count.out)" 10 "and below"
same "$(last)" "hit count"
ran 1

say "everybody reads the real bytes"
same "$(sha256sum <bin/count)" "$real" "bytes of a step"

say "an input that changed through the mount, and one that changed below it"
seq 11 >data
bin/count data >/dev/null
same "$(cat count.out)" 11
ran 2
seq 12 >../src/data
bin/count data >/dev/null
same "$(cat count.out)" 12
ran 3

say "a step that runs a step: one step, and its status"
jobs/train.sh 2>"$IO/err"
same "$(cat "$IO/err")" trained "stderr"
ran 5
jobs/train.sh 2>"$IO/err"
same "$(cat "$IO/err")" trained "stderr of the hit"
ran 5
status=0
jobs/train.sh 7 2>/dev/null || status=$?
same "$status" 7 "status"
ran 7

say "whoever starts it: make, find, xargs, env -i, python, through PATH, by its absolute path"
printf 'count.out: data\n\tbin/count data >/dev/null\n' >Makefile
rm count.out
make -s -j2
same "$(cat count.out)" 12
ran 8
rm count.out
make -s -j2
same "$(cat count.out)" 12 "what a hit under make left"
ran 8
find . -name data -exec bin/count {} \; >"$IO/out"
printed "bin/count counts ./data"
ran 9
echo ./data | xargs bin/count >/dev/null
ran 9
env -i "PATH=$PATH" "WITNESS=$WITNESS" "MLFS_CACHE=$MLFS_CACHE" bin/count data >/dev/null
ran 10
env -i "PATH=$PATH" "WITNESS=$WITNESS" "MLFS_CACHE=$MLFS_CACHE" bin/count data >/dev/null
ran 10
$python -I -c 'import subprocess; subprocess.run(["bin/count", "data"], check=True)' >"$IO/out"
printed "bin/count counts data"
PATH=$PWD/bin:$PATH count data >"$IO/out"
printed "$PWD/bin/count counts data"

say "what is no step runs as ever"
before=$(mlfs log --json | $python -c 'import json, sys; print(len(json.load(sys.stdin)))')
lib/helper
lib/helper
ran 13
bin/sort data >/dev/null
same "$(mlfs log --json | $python -c 'import json, sys; print(len(json.load(sys.stdin)))')" "$before" "runs"

say "signals, and stdin"
jobs/slow/wait.sh &
read -r line <"$WITNESS/up"
kill $!
status=0
wait $! || status=$?
same "$status" 143 "status of a step that was ended"
cat >bin/upper <<'END'
#!/bin/sh
mark
tr a-z A-Z
END
chmod +x bin/upper
same "$(echo ada | bin/upper)" ADA
same "$(echo ada | bin/upper)" ADA
same "$(echo bob | bin/upper)" BOB
ran 16

say "settings in the tree: the nearest holds; what others could have written does not"
echo 'no-step = count' >.mlfs.conf
bin/count data >/dev/null
bin/count data >/dev/null
ran 18
echo 'step = count' >bin/.mlfs.conf
bin/count data >/dev/null
ran 18
printf '[step "count"]\nsalt = a\n' >>bin/.mlfs.conf
bin/count data >/dev/null
ran 19
bin/count data >/dev/null
ran 19
chmod g+w bin/.mlfs.conf
bin/count data >/dev/null
ran 20
rm .mlfs.conf bin/.mlfs.conf

say "wrong settings, and no cache: the job runs"
echo 'salz = a' >.mlfs.conf
bin/count data >/dev/null 2>"$IO/err"
grep -q "salz.*running without the cache" "$IO/err" || fail "not said"
ran 21
rm .mlfs.conf
MLFS_CACHE=/dev/null/none bin/count data >"$IO/out" 2>"$IO/err"
printed "bin/count counts data"
grep -q "running uncached" "$IO/err" || fail "not said"
ran 22

say "mlfs exec in the mount: by the directory itself, and the same as elsewhere"
miss -- sort data
hit -- sort data
mlfs show --json "$r_input_key" >"$IO/out"
same "$(printf '%s' "$r_cwd")" "$PWD"

say "interpreters outside of the mount, by their command line"
mkdir tools
cat >train.py <<'END'
import subprocess, sys
subprocess.run(["mark"])
print("trained", sys.argv[1:], open("data").readline().strip(), __file__)
END
cat >tools/join.sh <<'END'
mark
echo "joined $0 [$1] [$2]"
exit 3
END
printf 'system("mark"); print "perl @ARGV\\n";\n' >say.pl
for twice in 1 2; do
	$python -I train.py a 'b "c" $d @e' >"$IO/out"
	printed "trained ['a', 'b \"c\" \$d @e'] 1 $PWD/train.py"
	status=0
	sh tools/join.sh "it's" "$(printf 'two\nlines')" >"$IO/out" || status=$?
	same "$status" 3
	printed "joined tools/join.sh [it's] [two
lines]"
	perl say.pl 'a@b' "\$c" >"$IO/out"
	printed "perl a@b \$c"
done
ran 26 # join.sh fails, so it is not stored
cp train.py other.py
$python -I other.py >/dev/null
$python -I other.py >/dev/null
ran 28
same "$(head -n 1 train.py)" "import subprocess, sys" "what others read of a script"
MLFS_CACHE=/dev/null/none $python -I train.py plainly >"$IO/out" 2>/dev/null
printed "trained ['plainly'] 1 $PWD/train.py"

if is_root; then
	say "who gets rights by executing it gets them"
	printf '#include <unistd.h>\n#include <stdio.h>\nint main(void) { printf("%%d\\n", (int)geteuid()); }\n' >id.c
	cc -o bin/id id.c
	chmod 4755 bin/id
	same "$(setpriv --reuid 54321 --clear-groups bin/id)" 0 "user of a set-user-id program"
fi

say "a tree that is no longer where it was when it was mounted: through the mount, and others are not concerned"
cd "$top"
mv src moved
mkdir src
miss -- echo elsewhere
hit -- echo elsewhere
cd mnt
echo 13 >data
bin/count data >"$IO/out"
printed "bin/count counts data"
bin/count data >"$IO/out"
printed "bin/count counts data"
same "$(last)" "hit count"
same "$(cat ../moved/count.out)" 1
