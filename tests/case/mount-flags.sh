#!/bin/sh
# SPDX-License-Identifier: MIT
# What a mount forbids is forbidden in the view; a step that has nothing to do with such mounts does not depend on them.
. "$(dirname "$0")/lib.sh"

unshare -Ur true 2>/dev/null || skip "no user namespaces here"
if is_root; then
	own="unshare -m"
	other=54321
else
	own="unshare -Urm"
	other=
fi

cat >try.sh <<'END'
# NAME COMMAND…: what comes of it
try()
{
	name=$1
	shift
	"$@" >out 2>err
	echo "$name: $? $(cat out) $(sed 's/.*: //' err)"
}
try noexec "no exec/true"
try noexec-inside "no exec/in/true"
try readonly touch ro/new
try readonly-copy cp /etc/hostname ro/new
[ -z "$1" ] || {
	try nosuid setpriv --reuid "$1" --clear-groups nosuid/id -u
	try suid setpriv --reuid "$1" --clear-groups here/id -u
	try nodev cat nosuid/null
	try dev cat here/null
}
END
cat >all.sh <<'END'
set -eu
[ "$(readlink /proc/self/ns/mnt)" != "$2" ] # not where everybody is
mkdir "no exec" ro nosuid here
mount -t tmpfs -o noexec none "no exec"
mkdir "no exec/in"
mount -t tmpfs none "no exec/in"
cp /bin/true "no exec"
cp /bin/true "no exec/in"
mount -t tmpfs none ro
mount -o remount,ro,bind ro
mount -t tmpfs -o nosuid,nodev,mode=755 none nosuid
mount -t tmpfs -o mode=755 none here
if [ -n "$1" ]; then
	for d in nosuid here; do
		cp /usr/bin/id $d
		chmod 4755 $d/id
		mknod $d/null c 1 3
	done
fi
sh try.sh "$1" >"$IO/native"
mlfs exec -q --require -- sh try.sh "$1" >"$IO/view"
look()
{
	mlfs exec -v --require -- sh -c 'echo elsewhere' 2>&1
}
look >"$IO/without"
umount "no exec/in" "no exec" ro nosuid here
rmdir "no exec" ro nosuid here
look >"$IO/again"
END
$own sh all.sh "$other" "$(readlink /proc/self/ns/mnt)" || fail "all.sh"
diff "$IO/native" "$IO/view" || fail "what is forbidden natively (<) is not in the view (>)"
grep -q '^noexec: 126' "$IO/native" || fail "nothing was forbidden: $(cat "$IO/native")"
grep -q '^noexec-inside: 0' "$IO/native" || fail "all was forbidden: $(cat "$IO/native")"
grep -q '^readonly: 1 .*Read-only' "$IO/native" || fail "not read-only: $(cat "$IO/native")"
[ -z "$other" ] || grep -q "^nosuid: 0 $other" "$IO/native" || fail "set-user-id worked: $(cat "$IO/native")"
[ -z "$other" ] || grep -q "^suid: 0 0" "$IO/native" || fail "set-user-id did not work: $(cat "$IO/native")"
grep -q '^mlfs: hit' "$IO/again" || fail "not a hit without those mounts: $(cat "$IO/without" "$IO/again")"
