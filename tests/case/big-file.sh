#!/bin/sh
# SPDX-License-Identifier: MIT
# A large file in and out (256 MB; scripts/bench does 2 GB).
. "$(dirname "$0")/lib.sh"

large_file big.in 256
miss -- sh -c 'mark; tr a-z A-Z <big.in >big.out'
want=$(tr a-z A-Z <big.in | sha256sum)
same "$(sha256sum <big.out)" "$want"
say "in place"
hit -- sh -c 'mark; tr a-z A-Z <big.in >big.out'
same "$(sha256sum <big.out)" "$want"
say "gone"
rm big.out
hit -- sh -c 'mark; tr a-z A-Z <big.in >big.out'
same "$(sha256sum <big.out)" "$want"
say "truncated in the middle: somebody else's edit, so the command runs"
truncate -s 100M big.out
miss -- sh -c 'mark; tr a-z A-Z <big.in >big.out'
same "$(sha256sum <big.out)" "$want"
ran 2
say "one byte changed, size and time kept"
touch -r big.in stamp
printf x | dd of=big.in bs=1 seek=200000000 conv=notrunc 2>/dev/null
touch -r stamp big.in
miss_because '*big.in*' -- sh -c 'mark; tr a-z A-Z <big.in >big.out'
ran 3
say "only looked at, never read: not hashed, still right"
miss -- sh -c 'mark; stat -c %s big.in'
hit -- sh -c 'mark; stat -c %s big.in'
ran 4
say "as root it is read in large pieces"
if is_root && [ -w /sys/class/bdi ] && ! grep -q '^[^ ]* /sys [^ ]* ro[, ]' /proc/mounts; then
	miss -- sh -c 'cat "/sys/class/bdi/$(mountpoint -d /)/read_ahead_kb"'
	same "$(cat "$IO/out")" 1024
fi
