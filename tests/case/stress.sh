#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 300
# The file-system stressors of stress-ng and fio's verified I/O run in the view as they do natively.
# MLFS_CASE_SLOW: how many times as long.
. "$(dirname "$0")/lib.sh"

command -v stress-ng >/dev/null && command -v fio >/dev/null || fail "stress-ng and fio are missing: run scripts/test"
slow=${MLFS_CASE_SLOW:-1}

# Of the class "filesystem" not here: binderfs, bind-mount, fanotify, procfs (not of files in the view), eventfd, ioprio
# (nothing of files). chown as an ordinary user: other ids do not exist in the view, so EINVAL for EPERM.
files="access chattr chdir chmod copy-file dentry dir dirdeep dirmany dnotify dup fallocate fcntl fiemap file-ioctl
filename fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease link mknod open rename symlink
sync-file touch utime verity xattr aio aiol mmap mmapmany msync readahead revio seek sendfile splice"
is_root && files="$files chown"
# Calls that wait until the supervisor has looked at them can be interrupted by the signal that ends a stressor after
# its time: these get a number of operations instead.
counted="flock lockf locka lockofd io-uring"

small="--mmap-bytes 8m --hdd-bytes 8m --iomix-bytes 8m --aiol-requests 16 --dentries 500 --fallocate-bytes 8m
--readahead-bytes 8m --sync-file-bytes 4m"

# run OUT PREFIX… -- STRESSOR…: the names of those that failed
run()
{
	out=$1 prefix='' timed='' by_count=''
	shift
	while [ "$1" != -- ]; do
		prefix="$prefix $1"
		shift
	done
	shift
	for name; do
		case " $counted " in
		*" $name "*) by_count="$by_count --$name 1 --$name-ops $((200 * slow))" ;;
		*) timed="$timed --$name 1" ;;
		esac
	done
	rm -rf stress
	mkdir stress
	: >"$out"
	# shellcheck disable=SC2086
	[ -z "$timed" ] || $prefix stress-ng --temp-path stress --verify $small -t $((2 * slow)) $timed >>"$out" 2>&1 || true
	# shellcheck disable=SC2086
	[ -z "$by_count" ] || $prefix stress-ng --temp-path stress --verify -t 200 $by_count >>"$out" 2>&1 || true
	grep -q 'successful run completed' "$out" || fail "stress-ng did not run: $(tail -n 5 "$out")"
	sed -n 's/.*process \[[0-9]*\] (\(.*\)) terminated.*/\1/p; s/.*fail: *\[[0-9]*\] \([a-z-]*\):.*/\1/p' "$out" | sort -u
}

say "stress-ng"
# shellcheck disable=SC2086
failed=$(run view.out mlfs exec -q --require --refresh -- -- $files $counted)
for name in $failed; do
	# What does not pass natively either is nothing of ours.
	[ -n "$(run native.out -- "$name")" ] || fail "stress-ng --$name fails in the view: $(grep "$name" view.out | head -n 5)"
	say "$name fails natively as well"
done
rm -rf stress

say "fio"
for engine in psync sync mmap libaio io_uring; do
	for direct in 0 1; do
		[ $engine$direct != mmap1 ] || continue # fio has no such thing
		set -- fio --name=f --filename=fio.data --size=$((4 * slow))M --rw=randrw --bsrange=4k-64k --ba=4k --ioengine=$engine \
			--direct=$direct --iodepth=4 --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --fallocate=none \
			--output=fio.out
		rm -f fio.data
		if ! mlfs exec -q --require --refresh -- "$@"; then
			cp fio.out fio.view
			rm -f fio.data
			! "$@" || fail "fio with $engine, direct=$direct fails in the view: $(cat fio.view)"
			say "$engine, direct=$direct: fails natively as well"
		fi
	done
done
