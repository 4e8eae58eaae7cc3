#!/bin/sh
# SPDX-License-Identifier: MIT
# cp -a, rsync, tar and find -delete, with hard links, symlinks, extended attributes, ACLs, sparse files, fifos, odd
# names and times.
. "$(dirname "$0")/lib.sh"

cat >make.py <<'END'
import os
os.makedirs(b"from/deep/er")
os.chdir("from")
odd = [b"with space", b"new\nline", b"tab\t", b"-dash", b"*", b"\xff\xfe not utf-8", b"quote'\"", b"back\\slash", b".hidden", b"a" * 255]
for n in odd:
    with open(n, "wb") as f:
        f.write(n + b" content\n")
    os.mkdir(b"deep/" + n)
    with open(b"deep/" + n + b"/" + n, "wb") as f:
        f.write(b"x")
with open("plain", "w") as f:
    f.write("plain\n" * 1000)
os.link("plain", "hard")
os.link("plain", "deep/harder")
os.symlink("plain", "soft")
os.symlink("nowhere/at all", "dangling")
os.symlink(b"new\nline", b"soft to\nodd")
os.symlink("../..", "deep/up")
with open("sparse", "wb") as f:
    f.seek(1 << 20)
    f.write(b"middle")
    f.truncate(8 << 20)
with open("empty", "w"):
    pass
os.mkfifo("fifo")
with open("setuid", "w") as f:
    f.write("x")
os.chmod("setuid", 0o4755)
os.mkdir("sticky")
os.chmod("sticky", 0o1777)
with open("readonly", "w") as f:
    f.write("r")
os.setxattr("hard", "user.comment", b"\x00binary\xff")
os.setxattr("deep", "user.dir", b"yes")
os.chmod("readonly", 0o400)
path = b"long"
for k in range(20):
    path += b"/" + (b"%02d" % k) * 20
os.makedirs(path)
with open(path + b"/end", "w") as f:
    f.write("end")
for top, dirs, files in os.walk(b".", topdown=False):
    for n in files + dirs:
        os.utime(top + b"/" + n, ns=(10**18 + 1, 10**18 + 123456789), follow_symlinks=False)
END
$python make.py
is_root && setfacl -m u:1234:rw from/plain -m d:g:77:rx from/deep
touch -d 2001-01-01 from

# Everything of a tree but the inodes' numbers: types, modes, sizes, blocks where it is sparse, links, times,
# attributes, ACLs, content.
whole()
{
	(
		cd "$1"
		find . -printf '%P|%y|%m|%n|%l|%U|%G|%T@|' \( -type d -printf '\n' -o -printf '%s\n' \) | sort
		find . -type f -print0 | sort -z | xargs -0 sha256sum
		getfattr -R -h -d -m user . 2>/dev/null
		[ ! -s "$IO/acl" ] || getfacl -R -n . 2>/dev/null
		[ "$(stat -c %b sparse)" -lt 1000 ] && echo sparse
	)
}
if is_root; then echo acl >"$IO/acl"; else : >"$IO/acl"; fi

# alike TREE-TEXT-FILE WHAT: the copy is as written down there
alike()
{
	whole to >"$IO/now"
	diff -a "$1" "$IO/now" >"$IO/diff" || fail "$2 (< wanted, > is): $(head -c 3000 "$IO/diff")"
}
whole from >"$IO/want"

# copied NAME COMMAND: the copy at `to` that the command makes natively, in a view and by a hit is the same
copied()
{
	say "$1"
	rm -rf to
	sh -c "$2" || fail "natively: status $?"
	alike "$IO/want" "$1, natively"
	rm -rf to
	miss -- sh -c "$2"
	alike "$IO/want" "$1, in a view"
	rm -rf to
	hit -- sh -c "$2"
	alike "$IO/want" "$1, by a hit"
}

copied "cp -a" 'cp -a from to'
copied "cp -a, sparse, reflink" 'cp -a --sparse=auto --reflink=auto from to'
copied "rsync" 'mkdir to; rsync -aHAX --sparse from/ to/'
say "rsync, again: nothing to do, outside and inside"
same "$(rsync -aHAX --sparse --delete -i from/ to/)" ""
miss -- rsync -aHAX --sparse --delete -i from/ to/
printed ""
alike "$IO/want" "rsync"
hit -- rsync -aHAX --sparse --delete -i from/ to/
say "rsync: what is superfluous goes, what was changed comes back"
damage()
{
	echo more >to/superfluous
	mkdir -p to/deep/superfluous/dir
	echo changed >>to/plain
	rm to/dangling
}
damage
miss -- rsync -aHAX --sparse --delete -i from/ to/
cp "$IO/out" "$IO/first"
alike "$IO/want" "rsync"
damage
hit -- rsync -aHAX --sparse --delete -i from/ to/
cmp "$IO/out" "$IO/first"
alike "$IO/want" "rsync, by a hit"
copied "tar" 'tar -C from --xattrs --acls --sparse --format=pax -cf t.tar . && mkdir to && tar -C to --xattrs --acls -xpf t.tar'
copied "tar through a pipe" 'mkdir to; tar -C from --xattrs --acls --sparse --format=pax -c . | tar -C to --xattrs --acls -xp'
say "tar: the archive itself"
tar -C from --sort=name --format=gnu -czf native.tar .
miss -- tar -C from --sort=name --format=gnu -czf view.tar .
cmp native.tar view.tar

say "find -delete"
rm -rf to
cp -a from to
find to -name '*a*' -delete 2>"$IO/native.err" || true
left=$(find to | sort)
errors=$(sed 's/.*: //' "$IO/native.err" | sort | uniq -c)
for how in miss hit; do
	rm -rf to
	cp -a from to
	$how -- sh -c "find to -name '*a*' -delete 2>errors || true"
	same "$(find to | sort)" "$left" "what is left"
	same "$(sed 's/.*: //' errors | sort | uniq -c)" "$errors" "errors"
done
rm -rf to
cp -a from to
miss -- find to -delete
[ ! -e to ] || fail "to is there"
cp -a from to
hit -- find to -delete
[ ! -e to ] || fail "to is there"
