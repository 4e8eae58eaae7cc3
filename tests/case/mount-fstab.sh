#!/bin/sh
# SPDX-License-Identifier: MIT
# mount -t fuse.mlfs, fstab, umount: mlfs as mount(8) calls it; in a mount namespace with mount.fuse.mlfs in /usr/sbin.
. "$(dirname "$0")/lib.sh"

mkdir -p src mnt look sbin old
echo one >src/one
mlfs=$(command -v mlfs)
ln -s "$mlfs" mount.fuse.mlfs
here=$PWD

shown()
{
	grep -F " $here/$1 " /proc/self/mountinfo | sed 's/^[0-9]* [0-9]* [^ ]* [^ ]* [^ ]* //'
}

say "the helper by itself"
trap 'cd /; for m in mnt look; do mlfs umount -l -q "$here/$m" 2>/dev/null || :; done' EXIT
./mount.fuse.mlfs "$here/src" "$here/mnt" -f -o rw
same "$(shown mnt)" "" "-f: nothing is done"
./mount.fuse.mlfs "$here/src" "$here/mnt" -n -o "rw,ro,noexec,_netdev,nofail,noauto,user=$(id -un),x-systemd.automount,uhelper=mlfs,step=bin/*:jobs/*.sh"
matches "$(shown mnt)" "ro,*noexec*fuse.mlfs $here/src *" "options"
same "$(cat mnt/one)" one
! touch mnt/new 2>/dev/null || fail "it is not read-only"
mlfs umount mnt
status=0
./mount.fuse.mlfs "$here/src" "$here/mnt" -o nonsense 2>"$IO/err" || status=$?
same "$status" 2
grep -q "there is no option 'nonsense'" "$IO/err" || fail "the wrong option is not named: $(cat "$IO/err")"
status=0
./mount.fuse.mlfs "$here/missing" "$here/mnt" 2>"$IO/err" || status=$?
same "$status" 1

say "as mount.fuse(8) calls it, where there is no such helper"
mlfs "$here/src" "$here/mnt" -o rw,nodev
matches "$(shown mnt)" "rw,*nodev*fuse.mlfs $here/src *" "options"
mlfs umount mnt

is_root || exit 0
trap - EXIT

miss -- true
cat >fstab <<END
$here/src $here/mnt fuse.mlfs step=bin/*:jobs/*.sh,cache=$here/shared,allow_other,ro,noexec,_netdev,nofail,x-systemd.requires=x 0 0
none $here/look fuse.mlfs browse,cache=$MLFS_CACHE,noauto 0 0
END
cat >user.fstab <<END
$here/src $here/mnt fuse.mlfs noauto,user 0 0
END
cat >inside.sh <<'END'
. "$cases/lib.sh"
here=$PWD
shown()
{
	grep -F " $here/$1 " /proc/self/mountinfo | sed 's/^[0-9]* [0-9]* [^ ]* [^ ]* [^ ]* //'
}
mount --bind /usr/sbin old
for f in old/*; do ln -s "$here/$f" sbin/; done
ln -s "$mlfs" sbin/mount.fuse.mlfs
mount --bind sbin /usr/sbin

say "mount -t"
mount -t fuse.mlfs -o nosuid "$here/src" "$here/mnt"
matches "$(shown mnt)" "rw,nosuid*fuse.mlfs $here/src *" "mount -t"
same "$(cat mnt/one)" one
umount mnt
same "$(shown mnt)" ""

say "lines of fstab"
mount -T fstab mnt
matches "$(shown mnt)" "ro,*noexec*fuse.mlfs $here/src *allow_other*" "fstab"
mlfs status --json mnt | grep -qF "\"cache\": \"$here/shared\"" || fail "cache="
umount mnt
mount -T fstab -a
matches "$(shown mnt)" "ro,*" "mount -a"
same "$(shown look)" "" "noauto"
umount mnt
mount -T fstab look
same "$(ls look/by-name)" true
umount look

say "a line with \"user\": an ordinary user mounts and unmounts"
if id mlfs-test >/dev/null 2>&1; then
	mount --bind user.fstab /etc/fstab
	chown mlfs-test mnt
	as_user()
	{
		setpriv --reuid mlfs-test --regid mlfs-test --clear-groups "$@"
	}
	as_user mount "$here/mnt"
	matches "$(shown mnt)" "rw,nosuid,nodev,noexec*fuse.mlfs $here/src *" "user"
	same "$(as_user cat mnt/one)" one
	as_user umount "$here/mnt"
	same "$(shown mnt)" ""
fi
END
export cases mlfs
chmod a+rx . src mnt
unshare -m --propagation private sh inside.sh
