#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 300
# 20,000 inputs and outputs.
. "$(dirname "$0")/lib.sh"

count=20000
mkdir in
$python - $count <<'END'
import sys
for i in range(int(sys.argv[1])):
    with open(f"in/{i}.txt", "w") as f:
        f.write(f"input {i}\n" * (i % 50 + 1))
END
cat >step.py <<'END'
import os
for name in sorted(os.listdir("in")):
    folder = "out/" + name[:2]
    os.makedirs(folder, exist_ok=True)
    with open("in/" + name) as f, open(f"{folder}/{name}", "w") as g:
        g.write(f.read().upper())
os.system("mark")
END
miss -- $python step.py
[ "$r_inputs" -ge $count ] || fail "$r_inputs inputs"
[ "$r_outputs" -ge $count ] || fail "$r_outputs outputs"
first=$(tree out)
say "everything in place"
hit -- $python step.py
same "$(tree out)" "$first" outputs
say "everything gone"
mv out moved # ext4 is slow to make many files just after many were deleted
hit -- $python step.py
[ "$(tree out)" = "$first" ] || fail "the outputs differ"
say "one gone, one touched"
rm out/77/7777.txt
touch out/12/12.txt
hit -- $python step.py
[ "$(tree out)" = "$first" ] || fail "the outputs differ"
ran 1
say "one input changed"
echo x >>in/19999.txt
miss_because '*19999.txt*' -- $python step.py
ran 2
