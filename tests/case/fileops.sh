#!/bin/sh
# SPDX-License-Identifier: MIT
# Every kind of file operation works in the view as it does natively, and a hit leaves the same behind.
. "$(dirname "$0")/lib.sh"

# All that is below w: names, types, modes, links, owners, contents, extended attributes and ACLs.
all_of()
{
	(
		cd "$1"
		find . -printf '%p %y %m %l %U %G\n' | sort
		find . ! -type d -printf '%p %n %s\n' | sort
		find . -type f -print0 | sort -z | xargs -0r sha256sum 2>/dev/null || true
		getfattr -Rhd -m - . 2>/dev/null | sort
	)
}

trial()
{
	rm -rf w
	mkdir w
	cd w
	"$@"
	cd ..
}

trial sh -c '"$1" "$2" >"$IO/native" 2>"$IO/native.err"' sh "$python" "$cases/fileops.py"
grep -n unexpected "$IO/native" && fail "the native run is broken"
all_of w >"$IO/native.tree"
trial step -- "$python" "$cases/fileops.py"
all_of w >"$IO/view.tree"
diff "$IO/native" "$IO/out" >"$IO/diff" || fail "what the operations gave (< native, > in the view):
$(cat "$IO/diff")"
diff "$IO/native.err" "$IO/err" >"$IO/diff" || fail "stderr: $(cat "$IO/diff")"
diff "$IO/native.tree" "$IO/view.tree" >"$IO/diff" || fail "what was left behind (< native, > in the view):
$(cat "$IO/diff")"
same "$r_result" miss
same "$r_stored" true "stored ($r_reason)"
say "a hit leaves the same"
trial hit -- "$python" "$cases/fileops.py"
cmp "$IO/native" "$IO/out"
all_of w >"$IO/hit.tree"
diff "$IO/native.tree" "$IO/hit.tree" >"$IO/diff" || fail "what a hit left behind (< native, > hit):
$(cat "$IO/diff")"
