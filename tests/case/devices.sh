#!/bin/sh
# SPDX-License-Identifier: MIT
# Several file systems in one view: names cannot be moved or linked from one to another, and equal inode numbers are not
# taken for hard links.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root: mounts"

if [ "${1:-}" != inside ]; then
	unshare -m --propagation private "$0" inside
	exit
fi
mkdir one two plain
mount -t tmpfs one one
mount -t tmpfs two two
for dir in one two; do
	mkdir $dir/d
	echo $dir >$dir/d/a
	ln $dir/d/a $dir/d/b
done
same "$(stat -c %i one/d/a)" "$(stat -c %i two/d/a)" "two file systems that number their files alike"
echo plain >plain/f

cat >ops.py <<'END'
import errno, os
def attempt(what, fn):
    try:
        fn()
        print(what, "ok")
    except OSError as e:
        print(what, errno.errorcode[e.errno])
attempt("rename", lambda: os.rename("one/d/a", "two/d/c"))
attempt("rename of a directory", lambda: os.rename("one/d", "plain/d"))
attempt("link", lambda: os.link("one/d/a", "plain/l"))
attempt("rename of a mount point", lambda: os.rename("one", "three"))
attempt("removal of a mount point", lambda: os.rmdir("one"))
attempt("within one", lambda: (os.rename("one/d/a", "one/c"), os.rename("one/c", "one/d/a")))
s = [os.stat(f) for f in ("one/d/a", "one/d/b", "two/d/a", "two/d/b")]
print([[(a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) for b in s] for a in s])
with os.scandir("two/d") as it:
    print(all(e.inode() == os.stat(e.path).st_ino for e in it))
print(os.statvfs("one").f_files == os.statvfs("plain").f_files)
END
cat >ops <<'END'
/usr/bin/python3 ops.py
tar -cf - one two | tar -tv | awk '{ print $1, $NF, $(NF - 2) }' | sort
mkdir copy && cp -a one two copy
find copy -printf '%p %y %n %s\n' | sort
cat copy/one/d/b copy/two/d/b
rm -rf copy
mv plain/f two/f && cat two/f && mv two/f plain/f
find one two -links 2 -type f -samefile one/d/a | sort
du -a --apparent-size one two | awk '{ print $2 }' | sort
END
sh ops >native
step -- sh ops
diff native "$IO/out" || fail "other results in the view (>)"

say "a name that could not be made is not one that the step made and removed: what another step makes there stays"
miss -- sh -c 'ln plain/f one/new 2>/dev/null || echo no'
miss -- sh -c 'echo new >one/new'
miss -- sh -c 'ln plain/f one/new 2>/dev/null || echo no'
same "$(cat one/new)" new
rm one/new
hit -- sh -c 'ln plain/f one/new 2>/dev/null || echo no'

say "a directory that could not be renamed"
not_stored '*could not be renamed*' -- sh -c 'mv -T one three 2>/dev/null || echo no'
printed no
