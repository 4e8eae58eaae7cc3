#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs doctor: what it says is what mlfs exec then does, wherever something is taken away; it leaves nothing behind.
. "$(dirname "$0")/lib.sh"

rm -rf "$MLFS_CACHE"
work=$PWD

# examine STATUS COMMAND…: doctor as a child of the command has that status, in JSON and as text; and exec, with a cache that is
# not there yet, can record a step just when the status is 0.
examine()
{
	wanted=$1
	shift
	for how in --json --quiet; do
		status=0
		timeout 60 "$@" mlfs doctor $how >"$IO/doctor$how" 2>"$IO/err" || status=$?
		same "$status" "$wanted" "status of doctor $how; $(cat "$IO/doctor$how")"
		same "$(cat "$IO/err")" "" "stderr of doctor"
	done
	$python -I -B "$cases/doctor.py" "$wanted" "$IO/doctor--json" "$IO/doctor--quiet" >"$IO/findings" || fail "wrong JSON"
	traced=0
	# It is asked again whether it is a hit: what cannot be stored is not recorded either.
	for mode in --require --only-if-cached; do
		"$@" mlfs exec -q $mode -- true 2>"$IO/err" || traced=1
	done
	same "$traced" "$wanted" "exec"
}

# finding CHECK STATUS PATTERN: one finding is so
finding()
{
	while read -r check status rest; do
		[ "$check $status" = "$1 $2" ] || continue
		# shellcheck disable=SC2254
		case $rest in $3) return ;; esac
	done <"$IO/findings"
	fail "no finding $1 $2 $3: $(cat "$IO/findings")"
}

say "here: all is well, and nothing is left behind"
mlfs doctor >"$IO/out"
[ ! -e "$MLFS_CACHE" ] || fail "it made a cache"
same "$(find "$(dirname "$MLFS_CACHE")" -name 'doctor-*')" "" "left behind"
if is_root; then
	export VIEW=root
else
	export VIEW=user
fi
examine 0 env
unset VIEW
for check in kernel libfuse proc fuse cache settings namespaces mount seccomp clock step; do
	finding $check ok '*'
done
same "$(ls "$MLFS_CACHE/tmp")" "" "left in the cache"
same "$(ls -A "$work")" "" "left in the directory"
same "$(mlfs log --json -n0 | grep -c started)" 2 "runs in the history"
no_mount_left || fail "a mount was left"

say "reflinks: as cp finds them"
echo some >"$MLFS_CACHE/tmp/here"
if cp --reflink=always "$MLFS_CACHE/tmp/here" "$MLFS_CACHE/tmp/there" 2>/dev/null; then
	finding reflinks '[on]*' '*'
else
	finding reflinks note "the cache's file system has none*mend:*"
fi
rm -f "$MLFS_CACHE/tmp/"*here

say "what a doctor that was killed left goes"
mkdir "$MLFS_CACHE/tmp/doctor-999999999-abcdef" "$MLFS_CACHE/tmp/doctor-$$-abcdef"
touch "$MLFS_CACHE/tmp/doctor-999999999-abcdef/file"
touch -d '2 hours ago' "$MLFS_CACHE"/tmp/doctor-*
mlfs doctor >"$IO/out"
same "$(ls "$MLFS_CACHE/tmp")" "doctor-$$-abcdef"
rmdir "$MLFS_CACHE/tmp/doctor-$$-abcdef"

say "no FUSE device"
if is_root; then
	ns='unshare -m'
else
	ns='unshare -Urm'
fi
# shellcheck disable=SC2016
# shellcheck disable=SC2086
if $ns sh -c 'mount --bind /dev/null /dev/fuse' 2>/dev/null; then
	examine 1 $ns sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' sh
	finding fuse bad '/dev/fuse is not the FUSE device mend: as root: rm /dev/fuse; mknod*'
	finding step bad '/dev/fuse is not the FUSE device'
	examine 1 $ns sh -c 'mount -t tmpfs none /dev && exec "$@"' sh
	finding fuse bad 'cannot open /dev/fuse: No such file or directory mend: as root: modprobe fuse*'
fi
if ! is_root; then
	say "no user namespaces"
	examine 1 unshare -Ur sh -c \
		'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all -- "$@"' sh
	finding namespaces bad 'cannot make a user namespace: * mend: as root: sysctl *user.max_user_namespaces=10000*'
fi

say "no seccomp notification"
examine 1 $python -I -B "$cases/doctor.py" no-seccomp
finding seccomp bad '* mend: *'

if is_root; then
	say "a chroot, without /proc"
	mkdir "$work/root"
	# shellcheck disable=SC2016
	in_chroot='mount --bind / "$1" && mount --rbind /dev "$1/dev" && r=$1 && shift && exec chroot "$r" "$@"'
	status=0
	unshare -m sh -c "$in_chroot" sh "$work/root" timeout 60 mlfs doctor >"$IO/out" 2>"$IO/err" || status=$?
	grep -q '^note proc .*there is no /proc' "$IO/out" || fail "it does not miss /proc: $(cat "$IO/out")"
	grep -q '^ *mend: as root: mount -t proc proc /proc' "$IO/out" || fail "nothing mends it"
	traced=0
	for mode in --require --only-if-cached; do
		unshare -m sh -c "$in_chroot" sh "$work/root" mlfs exec --cache "$IO/c2" -q $mode -- /bin/true 2>/dev/null || traced=1
	done
	same $traced 1 "without /proc nothing is stored"
	same "$status" $traced "status in a chroot without /proc"
	rmdir "$work/root"
fi

say "limits"
examine 0 prlimit --nofile=1024
finding limits note 'at most 1024 open files* mend: *'

say "settings"
printf 'expire-after = P1D\nexpire-afte = P1D\n' >"$MLFS_CACHE/mlfs.conf"
examine 1 env
finding settings bad "*/mlfs.conf:2: unknown setting 'expire-afte'; did you mean 'expire-after'* mend: *"
rm "$MLFS_CACHE/mlfs.conf"
examine 1 env MLFS_CONFIG=/nonexistent/mlfs.conf
finding settings bad '*/nonexistent/mlfs.conf*'

say "the clock went back"
touch -d 'tomorrow' "$MLFS_CACHE/version"
examine 0 env
finding clock note 'the clock was set back*'

say "caches that cannot be used"
printf 'mlfs cache 999\n' >"$MLFS_CACHE/version"
examine 1 env
finding cache bad '*999* mend: *'
examine 1 env MLFS_CACHE=/proc/none
finding cache bad '* mend: *MLFS_CACHE*'
if ! is_root; then
	mkdir -m 500 "$IO/closed"
	examine 1 env MLFS_CACHE="$IO/closed/cache"
	finding cache bad 'cannot make a directory in *: Permission denied mend: *'
fi

say "in a step"
rm -rf "$MLFS_CACHE"
not_stored '*' -- mlfs doctor
grep -q '^ok   step ' "$IO/out" || fail "a step in a step is not well"
grep -q '^bad ' "$IO/out" && fail "something is not well in a step"

say "wrong words"
status=0
mlfs doctor --jsn 2>"$IO/err" || status=$?
same "$status" 2
matches "$(cat "$IO/err")" "mlfs: unknown option '--jsn'; did you mean '--json'?"
