#!/bin/sh
# SPDX-License-Identifier: MIT
# A persistent mount shows a tree as it is, for plain work; it is there when the command returns, and gone when it is unmounted.
. "$(dirname "$0")/lib.sh"

unmount()
{
	if is_root; then umount "$1"; else fusermount3 -u "$1"; fi
}
shown()
{
	grep -F " $PWD/$1 " /proc/self/mountinfo
}
gone()
{
	! shown "$1" >/dev/null && ! mlfs_runs
}
# The process of this case that serves.
mlfs_runs()
{
	for p in $(grep -lszxF "MLFS_CASE=$MLFS_CASE" /proc/[0-9]*/environ 2>/dev/null); do
		[ "$(cat "${p%environ}comm" 2>/dev/null)" != mlfs ] || return 0
	done
	return 1
}
trap 'for m in mnt src src/in; do unmount "$m" 2>/dev/null || :; done' EXIT

mkdir src src/in mnt
echo one >src/a

say "there when the command returns, with type and source"
ask mount "$PWD/src" "$PWD/mnt"
same "$(cat mnt/a)" one
matches "$(shown mnt)" "* - fuse.mlfs $PWD/src *" "mountinfo"
mlfs_runs || fail "nobody serves"

say "files, links, directories, times, modes"
echo two >mnt/b
same "$(cat src/b)" two
echo more >>mnt/b
same "$(cat src/b mnt/b)" "two
more
two
more"
(umask 027 && mkdir mnt/d && : >mnt/d/f)
same "$(stat -c '%a %u %g' src/d src/d/f)" "$(printf '750 %s %s\n640 %s %s' "$(id -u)" "$(id -g)" "$(id -u)" "$(id -g)")"
ln -s a mnt/l
ln mnt/a mnt/a2
mv mnt/a2 mnt/d/a2
touch -h -d '2020-01-01 00:00:00' mnt/l mnt/d/f
same "$(stat -c '%Y' src/l src/d/f)" "$(printf '%s\n' "$(date -d '2020-01-01' +%s)" "$(date -d '2020-01-01' +%s)")"
chmod 4711 mnt/b
same "$(stat -c %a src/b)" 4711
truncate -s 3 mnt/b
mkfifo mnt/fifo
same "$(cd mnt && find . -printf '%p %y %m %l %n %s %i %T@\n' | sort)" "$(cd src && find . -printf '%p %y %m %l %n %s %i %T@\n' | sort)" "the two trees"
rm mnt/fifo
rmdir mnt/in
mkdir mnt/in

say "what is open goes on without its name"
exec 3>mnt/nameless
rm mnt/nameless
echo still >&3
same "$(cat /proc/self/fd/3)" still
exec 3>&-

say "what others change is seen within a second"
echo three >src/c
wait_for test -e mnt/c
same "$(cat mnt/c)" three
echo four >src/c
wait_for grep -q four mnt/c
mv src/c src/c2
wait_for test -e mnt/c2
wait_for test ! -e mnt/c

say "programs"
printf '#!/bin/sh\necho ran "$@"\n' >mnt/script
chmod +x mnt/script
same "$(mnt/script x)" "ran x"
cp /bin/echo mnt/program
same "$(mnt/program y)" y

say "a tree copied in and out"
cp -a /etc/default mnt/copy 2>/dev/null || :
cp -a mnt/copy copy
same "$(cd copy && tree .)" "$(cd src/copy && tree .)" "copies"
rm -r mnt/copy

say "gone when it is unmounted"
unmount mnt
wait_for gone mnt
same "$(ls mnt)" ""

say "over SRC itself; in SRC (root only)"
ask mount src src
same "$(cat src/a)" one
unmount src
wait_for gone src
if is_root; then
	ask mount src src/in
	same "$(cat src/in/a)" one
	same "$(ls src/in/in)" ""
	unmount src/in
	wait_for gone src/in
else
	ask mount =1 src src/in
	grep -q 'only root' "$IO/err" || fail "not refused"
fi

say "options of mount(8)"
ask mount -o ro,noexec,_netdev,nofail,x-systemd.automount,step=bin/*:jobs/*.sh,expire-after=P1D src mnt
! echo x 2>/dev/null >mnt/new || fail "written"
! mnt/script 2>/dev/null || fail "executed"
matches "$(shown mnt)" "*ro,*noexec*" "mountinfo"
unmount mnt
wait_for gone mnt

say "what is wrong is said by the command"
ask mount =1 nowhere mnt
grep -q '^mlfs: cannot open nowhere: No such file' "$IO/err" || fail "no reason"
ask mount =1 src nowhere
grep -q '^mlfs: cannot mount on nowhere: No such file' "$IO/err" || fail "no reason"
ask mount =2 src
ask mount =2 -o frobnicate src mnt
ask mount =2 -o expire-after=soon src mnt
same "$(ls mnt)" ""

say "in the foreground, until it is told to stop"
mlfs mount -f src mnt &
server=$!
wait_for shown mnt
same "$(cat mnt/a)" one
kill "$server"
wait "$server" || fail "status $?"
wait_for gone mnt

say "a server that was killed leaves a mount, which the next one clears"
mlfs mount -f src mnt &
server=$!
wait_for shown mnt
kill -9 "$server"
wait "$server" 2>/dev/null || :
! ls mnt >/dev/null 2>&1 || fail "it is still served"
ask mount src mnt
same "$(cat mnt/a)" one
unmount mnt
wait_for gone mnt
