#!/bin/sh
# SPDX-License-Identifier: MIT
# Namespaces, mounts and sandboxes inside a step: what is read through a mount of the view is seen wherever it is bound;
# what a mount brings in from elsewhere, or would have left behind, is not stored.
. "$(dirname "$0")/lib.sh"

unshare -Ur true 2>/dev/null || skip "no user namespaces here"
if is_root; then
	own="unshare -m"
else
	own="unshare -Urm"
fi
mkdir mnt tmp
echo data >in

# seen ARGS…: what it reads of `in` makes a miss when it changes
seen()
{
	echo data >in
	miss "$@"
	cp "$IO/out" "$IO/first"
	hit "$@"
	cmp "$IO/first" "$IO/out" || fail "the hit printed something else"
	echo changed >in
	miss_because "in changed*" "$@"
	grep -q changed "$IO/out" || fail "not changed"
}

say "a bind mount of the view, with a file system in memory beside it"
seen -- $own sh -c 'mount --bind . mnt; mount -t tmpfs none tmp; cp mnt/in tmp/copy; cat tmp/copy'
[ ! -e tmp/copy ] || fail "written through"
say "written through a bind mount: an output"
miss -- $own sh -c 'mount --bind . mnt; echo made >mnt/made'
rm made
hit -- $own sh -c 'mount --bind . mnt; echo made >mnt/made'
same "$(cat made)" made
say "an overlay"
seen -- $own sh -c 'mount -t tmpfs none tmp; mkdir tmp/u tmp/w; mount -t overlay -o lowerdir=.,upperdir=tmp/u,workdir=tmp/w none mnt; cat mnt/in; echo x >mnt/in'
same "$(cat in)" changed
say "chroot, pivot_root"
mkdir root root/bin root/old
cp /bin/busybox root/bin/sh
ln root/bin/sh root/bin/cat
seen -- $own sh -c 'cp in root/in; chroot root sh -c "cat /in"'
seen -- $own sh -c 'mount --bind root mnt; cp in root/in; cd mnt; pivot_root . old; exec ./bin/sh -c "cat /in"'
say "namespaces of processes and networks"
seen -- unshare -Urpf --mount-proc sh -c 'echo $$; cat in'
printed "1
changed"
seen -- unshare -Urn sh -c 'ls /sys/class/net >/dev/null; cat in'
say "bubblewrap"
seen -- bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind "$PWD" "$PWD" --chdir "$PWD" --unshare-all \
	sh -c 'cat in; cat in >/tmp/x; cp /tmp/x out; ls /proc | head -n 1'
rm out
hit -- bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind "$PWD" "$PWD" --chdir "$PWD" --unshare-all \
	sh -c 'cat in; cat in >/tmp/x; cp /tmp/x out; ls /proc | head -n 1'
same "$(cat out)" changed
seen -- bwrap --ro-bind /usr /usr --ro-bind /bin /bin --ro-bind /lib /lib --ro-bind-try /lib64 /lib64 --ro-bind "$PWD" /work \
	--chdir /work --unshare-all sh -c 'ls /; cat in'

say "mounting that is refused leaves the result as it is"
if ! is_root; then
	miss -- sh -c 'mount -t tmpfs none mnt 2>/dev/null || cat in'
	miss -- sh -c 'nsenter -t $PPID -m true 2>/dev/null || cat in'
fi
say "a file system from elsewhere"
not_stored "a file system was mounted that cannot be seen into (ext4 on */mnt)" -- \
	$own sh -c 'mount -t ext4 /dev/no-such-disk mnt 2>/dev/null; cat in'

say "an inner mlfs has a view of its own"
miss -- $own mlfs exec -- sh -c 'cat in'
hit -- $own mlfs exec -- sh -c 'cat in'

is_root || exit 0
say "mounts that would have stayed"
not_stored "a mount on */mnt was made or changed*" -- sh -c 'mount -t tmpfs none mnt; cat in'
not_stored "a mount on */mnt was made or changed*" -- sh -c 'mount --bind . mnt; cat in'
! grep -q "$PWD/mnt" /proc/self/mounts || fail "left mounted"
not_stored "mounts of the view were changed*" -- sh -c 'umount /no-such-mount 2>/dev/null; cat in'
not_stored "a mount on */mnt was made or changed*" -- mlfs exec --report "$WITNESS/inner" -- sh -c 'mount -t tmpfs none mnt; cat in'
grep -q '"stored": *false.*a mount on' "$WITNESS/inner" || fail "the inner one was stored"
say "another mount namespace"
not_stored "another mount namespace was entered" -- nsenter -t $$ -m cat "$PWD/in"
seen -- nsenter -t $$ -n cat "$PWD/in"
say "the cache is not seen twice"
mlfs exec -- mount >"$IO/out"
same "$(grep -c ' on / type fuse.mlfs' "$IO/out")" 1
! grep -F " on $MLFS_CACHE/" "$IO/out" || fail "the mount is seen in itself"
