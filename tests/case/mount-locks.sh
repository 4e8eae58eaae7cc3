#!/bin/sh
# SPDX-License-Identifier: MIT
# Locks taken in a persistent mount are those of the files: seen by who uses the tree itself, and the other way round; who waits for
# one can be interrupted, and stops nobody else.
. "$(dirname "$0")/lib.sh"

unmount()
{
	if is_root; then umount "$1"; else fusermount3 -u "$1"; fi
}
trap 'unmount mnt' EXIT
umask 022
mkdir src mnt
: >src/lock
ask mount src mnt
$python -I -B "$cases/mount-locks.py" mnt src || fail "see above"
