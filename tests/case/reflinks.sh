#!/bin/sh
# SPDX-License-Identifier: MIT
# Where the file system can share blocks between files, outputs share theirs with the cache, when they are stored and when they
# are placed.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root: mounts"
grep -qw xfs /proc/filesystems && [ -e /dev/loop-control ] || skip "needs a kernel with XFS and loop devices"

# All in a mount namespace of its own, so that nothing is left mounted.
truncate -s 320M "$IO/image"
mkfs.xfs -q -m reflink=1 "$IO/image" >"$IO/out" 2>&1 || fail "$(cat "$IO/out")"
mkdir "$IO/fs"
cat >"$IO/inside.sh" <<'END'
set -e
mount -o loop "$IO/image" "$IO/fs"
mkdir "$IO/fs/work"
cd "$IO/fs/work"
# The physical blocks of a file, a line each. XFS may keep blocks past the end of a file that was just written (speculative
# preallocation, which a busy machine leaves there): those are no part of it.
blocks() {
	filefrag -v -b4096 "$1" | awk -v n=$((($(stat -c %s "$1") + 4095) / 4096)) '
		/^ *[0-9]+: *[0-9]+\.\. *[0-9]+:/ {
			gsub(/[:.]+/, " ")
			for (i = $2; i <= $3 && i < n; i++)
				print i, $4 + i - $2
		}'
}
mlfs exec -v -- sh -c 'head -c 20000000 /dev/urandom >big'
sync
object=$(find "$MLFS_CACHE/cas" -type f)
echo "stored $(blocks big | md5sum) $(blocks "$object" | md5sum) $(blocks big | wc -l)"
rm big
mlfs exec -v -- sh -c 'head -c 20000000 /dev/urandom >big'
sync
echo "placed $(blocks big | md5sum) $(blocks "$object" | md5sum) $(blocks big | wc -l)"
printf X | dd of=big bs=1 seek=100 conv=notrunc status=none # the cache's stays as it was
mlfs fsck
mlfs doctor || [ $? -eq 1 ]
END
MLFS_CACHE=$IO/fs/cache unshare -m sh "$IO/inside.sh" >"$IO/out" 2>"$IO/err" || fail "$(cat "$IO/err")"
grep -q 'mlfs: hit' "$IO/err" || fail "no hit"
for what in stored placed; do
	read -r _ one _ other _ n <<-END
		$(grep "^$what " "$IO/out")
	END
	[ "$n" -gt 0 ] || fail "filefrag says nothing of the blocks"
	same "$one" "$other" "blocks of the output that was $what, and of its object"
done
grep -q '^1 results, 1 objects .*: clean$' "$IO/out" || fail "a write to the output reached the cache"
grep -q 'reflinks *outputs share their blocks with the cache' "$IO/out" || fail "doctor does not say so: $(cat "$IO/out")"
