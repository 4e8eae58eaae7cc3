#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 400
# make -j2 of a Debian source package, from clean.
. "$(dirname "$0")/lib.sh"

[ -d "$DATA/xz-configured" ] || fail "no configured source tree: run scripts/test-data"

fresh()
{
	rm -rf xz
	cp -a "$DATA/xz-configured" xz
}

fresh
say "miss"
miss -- make -C xz -j2
first=$(tree xz)
cp "$IO/out" "$IO/first.out"
cp "$IO/err" "$IO/first.err"
"xz/src/xz/xz" --version >/dev/null
say "hit, from clean"
fresh
hit -- make -C xz -j2
same "$(tree xz)" "$first" "the tree"
cmp "$IO/out" "$IO/first.out"
cmp "$IO/err" "$IO/first.err"
"xz/src/xz/xz" --version >/dev/null
say "with everything in place: another state of its inputs (what it read and then wrote), the same outcome"
miss -- make -C xz -j2
same "$(tree xz)" "$first" "the tree"
hit -- make -C xz -j2
same "$(tree xz)" "$first" "the tree"
say "hit again without cleaning: nothing was touched, make itself finds nothing to do"
[ -z "$(make -C xz -q 2>&1)" ] || fail "make would rebuild"
say "a source file changed"
fresh
echo '/* changed */' >>xz/src/xz/main.c
miss_because '*main.c*' -- make -C xz -j2
say "and back"
fresh
hit -- make -C xz -j2
same "$(tree xz)" "$first" "the tree"
