#!/bin/sh
# SPDX-License-Identifier: MIT
# Trouble in the cache never fails the job: one line that names the cause, and the command runs plainly.
. "$(dirname "$0")/lib.sh"

# The command runs, with its status; exactly one line of warning that matches; nothing else.
plain()
{
	pattern=$1
	shift
	status=0
	rm -f "$IO/report"
	mlfs exec --report "$IO/report" "$@" -- sh -c 'echo ran; echo x >made; exit 5' >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" 5
	printed ran
	same "$(cat made)" x
	rm made
	matches "$(cat "$IO/err")" "$pattern" "the warning"
	same "$(wc -l <"$IO/err")" 1 "lines said"
	eval "$($python -I -B "$cases/report.py" "$IO/report")"
	same "$r_stored" false
	status=0
	mlfs exec --require "$@" -- sh -c 'echo ran' >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" 125 "status under --require"
	printed ""
}

say "the cache directory is a file"
echo precious >"$IO/file"
plain "mlfs: *$IO/file*" --cache "$IO/file"
same "$(cat "$IO/file")" precious

say "below a file"
plain "mlfs: *$IO/file*" --cache "$IO/file/cache"

say "it may not be written"
if is_root; then
	mkdir "$IO/ro"
	unshare -m sh -c 'mount -t tmpfs -o ro none "$IO/ro" && exec "$@"' sh \
		mlfs exec --cache "$IO/ro" --report "$IO/report" -- sh -c 'echo ran; exit 5' >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" 5 "status of a cache on a read-only file system"
	printed ran
	same "$(grep -c '^mlfs: ' "$IO/err")" 1 "lines of warning"
else
	mkdir "$IO/ro"
	chmod 500 "$IO/ro"
	plain "mlfs: *$IO/ro*" --cache "$IO/ro/cache"
	plain "mlfs: *$IO/ro*" --cache "$IO/ro"
fi

say "written by a newer mlfs: nothing changed"
mlfs exec --cache "$IO/newer" -- true
for f in $(find "$IO/newer" -maxdepth 1 -type f -name version); do
	echo 999 >"$f"
done
before=$(find "$IO/newer" -type f ! -name lock.mdb -exec sha256sum {} + | sort)
plain "mlfs: *newer*" --cache "$IO/newer"
same "$(find "$IO/newer" -type f ! -name lock.mdb -exec sha256sum {} + | sort)" "$before" "the newer cache"

say "not a cache at all: left alone"
mkdir "$IO/photos"
echo 1 >"$IO/photos/a.jpg"
plain "mlfs: *$IO/photos*" --cache "$IO/photos"
same "$(ls "$IO/photos")" a.jpg

say "the index is garbage"
mlfs exec --cache "$IO/garbage" -- true
head -c 100000 /dev/urandom >"$IO/garbage/index/data.mdb"
plain "mlfs: *$IO/garbage*" --cache "$IO/garbage"
say "the index is cut short"
mlfs exec --cache "$IO/short" -- sh -c 'seq 100000 >made'
truncate -s 5000 "$IO/short/index/data.mdb"
status=0
mlfs exec --cache "$IO/short" -- sh -c 'echo ran; exit 5' >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 5
printed ran

say "objects damaged: the step runs again, and its result is good again"
big='mark; seq 1 50000 >made; echo done'
: >"$WITNESS/ran"
miss -- sh -c "$big"
want=$(sha256sum <made)
rm made
find "$MLFS_CACHE/cas" -type f | while read -r f; do
	chmod u+w "$f"
	printf X | dd of="$f" bs=1 seek=1000 conv=notrunc 2>/dev/null
done
step -- sh -c "$big"
same "$r_result" miss
same "$(sha256sum <made)" "$want"
ran 2
rm made
hit -- sh -c "$big"
same "$(sha256sum <made)" "$want"
say "objects gone"
find "$MLFS_CACHE/cas" -type f -delete
rm made
step -- sh -c "$big"
same "$r_result" miss
same "$(sha256sum <made)" "$want"
say "objects of no bytes, as after a crash"
find "$MLFS_CACHE/cas" -type f | while read -r f; do
	chmod u+w "$f"
	: >"$f"
done
rm made
step -- sh -c "$big"
same "$r_result" miss
same "$(sha256sum <made)" "$want"

say "a full disk"
if is_root; then
	small() { unshare -m sh -c 'mkdir -p "$IO/small" && mount -t tmpfs -o size=8m none "$IO/small" && exec "$@"' sh "$@"; }
else
	small() { unshare -Urm sh -c 'mkdir -p "$IO/small" && mount -t tmpfs -o size=8m none "$IO/small" && exec "$@"' sh "$@"; }
fi
if small true 2>/dev/null; then
	for size in 9000000 100000000; do
		status=0
		small mlfs exec --cache "$IO/small/cache" --report "$IO/report" -- \
			sh -c "mark; head -c $size /dev/zero | tr '\\0' x >made; echo done" >"$IO/out" 2>"$IO/err" || status=$?
		same "$status" 0
		printed done
		same "$(stat -c %s made)" $size
		rm made
		eval "$($python -I -B "$cases/report.py" "$IO/report")"
		same "$r_stored" false "stored on a full disk"
		[ -n "$r_reason" ] || fail "no reason"
		same "$(grep -c '^mlfs: ' "$IO/err")" 1 "lines of warning"
	done
	# Nothing at all fits.
	small sh -c 'head -c 100M /dev/zero >"$IO/small/fill" 2>/dev/null
		mlfs exec --cache "$IO/small/cache" --report "$IO/report" -- sh -c "echo fits"' >"$IO/out" 2>"$IO/err"
	printed fits
	same "$(grep -c '^mlfs: ' "$IO/err")" 1 "lines of warning"
fi
say "the index damaged behind its back: where LMDB dies of it, the job does not"
rm -rf "$MLFS_CACHE"
$python -B "$cases/flipped.py" || fail "see above"
no_mount_left || fail "a mount was left"
