#!/bin/sh
# SPDX-License-Identifier: MIT
# Disks and secrets that are mounted below /run: a step that goes there is not stored, others are.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root (to mount)"
if [ "${1:-}" != alone ]; then
	exec unshare -m --propagation private "$0" alone
fi
# Over what is there, so that nothing is made below the real /run; the witness must stay where it is.
mkdir run run/media run/media/me "run/media/me/a disk" run/secrets run/lock disk
mkdir -p "run${WITNESS#/run}"
mount --bind "$WITNESS" "run${WITNESS#/run}"
mount --rbind run /run
echo one >disk/data
mount --bind disk "/run/media/me/a disk"
mount -t tmpfs none /run/secrets
echo secret >/run/secrets/token
miss -- echo elsewhere
hit -- echo elsewhere
not_stored "/run/media/me/a disk was used*" -- cat "/run/media/me/a disk/data"
printed one
not_stored "/run/media/me/a disk was used*" -- sh -c '[ -e "/run/media/me/a disk/none" ] || echo none'
not_stored "/run/secrets was used*" -- cat /run/secrets/token
miss -- ls /run

say "data below /run: steps that run there, or are told of it"
mkdir /run/data
echo one >/run/data/in
: >/run/lock/empty
not_stored "its command names /run/data/in,*" -- cat /run/data/in
not_stored "its command names /run/data/in,*" -- grep --file=/run/data/in /run/data/in
not_stored "its command names /run/data,*" -- find /run/data
ln -s /run link
not_stored "its command names $PWD/link/../run/data/in,*" -- cat "$PWD/link/../run/data/in"
miss -- flock /run/lock/empty echo locked
hit -- flock /run/lock/empty echo locked
cd /run
not_stored "it ran in /run,*" -- cat data/in
cd /run/data
not_stored "it ran in /run/data,*" -- cat in
printed one
