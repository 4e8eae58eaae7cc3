#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 300
# A persistent mount at work: git, make, many processes at once, two users, much coming and going without growing.
. "$(dirname "$0")/lib.sh"

unmount()
{
	if is_root; then umount "$1"; else fusermount3 -u "$1"; fi
}
trap 'unmount mnt' EXIT
mkdir src mnt
mlfs mount -f src mnt 2>"$IO/err" &
server=$!
wait_for mountpoint -q mnt

say "git"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null
git init -q mnt/repo
cp -a "$cases" mnt/repo/files
git -C mnt/repo add .
git -C mnt/repo commit -qm one
git -C mnt/repo status --porcelain >status
same "$(cat status)" "" "git status"
git clone -q mnt/repo mnt/clone
diff -r mnt/clone/files "$cases"
git -C src/repo fsck --strict 2>&1 | grep -v '^notice' >fsck || :
same "$(cat fsck)" "" "git fsck"

say "make, many jobs at once, twice"
mkdir mnt/build
$python -I - mnt/build <<'END'
import sys
with open(sys.argv[1] + "/Makefile", "w") as f:
    f.write("all: total\n%.o: %.c\n\tsleep 0; cp $< $@\ntotal: " + " ".join(f"{k}.o" for k in range(60)) + "\n\tcat $^ >$@\n")
for k in range(60):
    with open(f"{sys.argv[1]}/{k}.c", "w") as f:
        f.write(f"{k}\n")
END
make -s -j 16 -C mnt/build
same "$(cat src/build/total)" "$(seq 0 59)" "what was made"
make -q -C mnt/build || fail "make would make it again"

say "64 processes at once, each in a directory of its own and all in one"
cat >one.py <<'END'
import os, sys
own, shared = f"{sys.argv[1]}/p{sys.argv[2]}", f"{sys.argv[1]}/shared"
os.makedirs(own)
os.makedirs(shared, exist_ok=True)
for k in range(10):
    text = f"{sys.argv[2]} {k}\n" * 50
    for d in own, shared:
        path = f"{d}/{sys.argv[2]}-{k}"
        with open(path + ".tmp", "w") as f:
            f.write(text)
        os.rename(path + ".tmp", path)
        with open(path) as f:
            assert f.read() == text, path
    with open(f"{shared}/log", "a") as f:
        f.write(f"{sys.argv[2]} {k}\n")
    if k % 2:
        os.unlink(f"{own}/{sys.argv[2]}-{k}")
assert len(os.listdir(own)) == 5
END
pids=
for k in $(seq 64); do
	$python -I one.py mnt "$k" &
	pids="$pids $!"
done
for p in $pids; do
	wait "$p" || fail "one of them failed"
done
same "$(find mnt/shared -name '*-*' | wc -l)" 640 "shared files"
same "$(sort mnt/shared/log | uniq | wc -l)" 640 "lines that all appended"
same "$(cd mnt && find . | sort | sha256sum)" "$(cd src && find . | sort | sha256sum)" "the two trees"

if is_root; then
	say "two users: permissions are the kernel's affair, what they make is theirs"
	chmod 755 .
	mkdir mnt/open mnt/closed
	chmod 1777 mnt/open
	chmod 700 mnt/closed
	echo secret >mnt/closed/f
	as()
	{
		uid=$1
		shift
		setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
	}
	as 54321 sh -c 'umask 077; echo mine >mnt/open/one; mkdir mnt/open/dir'
	as 54322 sh -c 'umask 002; echo mine >mnt/open/two'
	same "$(stat -c '%u %g %a' src/open/one src/open/dir src/open/two)" "54321 54321 600
54321 54321 700
54322 54322 664"
	as 54322 test -r mnt/open/two
	for what in 'cat mnt/open/one' 'ls mnt/open/dir' 'rm -f mnt/open/one' 'cat mnt/closed/f' 'touch mnt/new' \
		'chmod 777 mnt/open/one' 'ln mnt/open/one mnt/open/three' 'mv mnt/open/one mnt/open/three'; do
		! as 54322 sh -c "$what" 2>/dev/null || fail "allowed: $what"
	done
	same "$(as 54322 cat mnt/open/two)" mine
	if setfacl -m u:54322:r mnt/open/one 2>/dev/null; then
		same "$(as 54322 cat mnt/open/one)" mine "by an ACL"
	fi

	say "nobody leads a server with more rights astray by links"
	mkdir mnt/open/trap outside
	chown 54321 mnt/open/trap
	echo mine >mnt/open/trap/f
	chown 54321 mnt/open/trap/f
	echo theirs >outside/f
	chmod 600 outside/f
	cat >astray.py <<'END'
import os, sys, threading
mnt, src, out = sys.argv[1:]
fd = os.open(mnt + "/open/trap", os.O_PATH)
stop = False
def swap():
    while not stop:
        os.rename(src + "/open/trap", src + "/open/was")
        os.symlink(out, src + "/open/trap")
        os.unlink(src + "/open/trap")
        os.rename(src + "/open/was", src + "/open/trap")
t = threading.Thread(target=swap)
t.start()
for k in range(300):
    for fn in (lambda: os.chmod("f", 0o666, dir_fd=fd), lambda: os.chmod(mnt + "/open/trap/f", 0o666),
               lambda: os.truncate(mnt + "/open/trap/f", 0), lambda: os.unlink(mnt + "/open/trap/g"),
               lambda: os.link(mnt + "/open/trap/f", mnt + "/open/trap/g")):
        try:
            fn()
        except OSError:
            pass
stop = True
t.join()
END
	chown 54321 src/open
	as 54321 $python -I astray.py mnt src "$PWD/outside"
	same "$(stat -c '%a %h' outside/f) $(cat outside/f)" "600 1 theirs" "the file outside"
fi

say "much comes and goes, and is forgotten"
cat >churn.py <<'END'
import os, sys
top, n = sys.argv[1], int(sys.argv[2])
os.makedirs(top)
for k in range(n // 5):
    path = f"{top}/{k}"
    with open(path, "w") as f:
        f.write("x")
    os.rename(path, path + "r")
    os.stat(path + "r")
    os.unlink(path + "r")
END
rss()
{
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$server/status"
}
fds()
{
	find "/proc/$server/fd" | wc -l
}
operations=${MLFS_CHURN:-20000}
$python -I churn.py mnt/churn 5000
before=$(rss)
had=$(fds)
pids=
for k in 1 2 3 4; do
	$python -I churn.py "mnt/churn$k" $((operations / 4)) &
	pids="$pids $!"
done
for p in $pids; do
	wait "$p" || fail "churn"
done
few() { [ "$(fds)" -lt $((had + 200)) ]; }
wait_for few
echo "RSS: $before KB, after $operations operations $(rss) KB; descriptors: $had, $(fds)"
[ "$(rss)" -lt $((before + 8192)) ] || fail "it has grown from $before KB to $(rss) KB"

unmount mnt
wait "$server" || fail "status $? of the server"
trap - EXIT
same "$(cat "$IO/err")" "" "what the server said"
