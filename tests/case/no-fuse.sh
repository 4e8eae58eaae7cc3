#!/bin/sh
# SPDX-License-Identifier: MIT
# Where a step cannot be traced: one line of warning that names the cause, and the command runs plainly.
. "$(dirname "$0")/lib.sh"

# /dev/fuse that is no FUSE device, in a mount namespace of our own.
without_fuse()
{
	if is_root; then
		unshare -m sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' sh "$@"
	else
		unshare -Urm sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' sh "$@"
	fi
}

without_fuse true 2>/dev/null || skip "no mount namespace can be made here"

say "runs plainly, with its own status"
status=0
without_fuse mlfs exec --report "$IO/report" -- sh -c 'mark; echo ran; echo said >&2; exit 5' >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 5
printed ran
same "$(grep -c '^mlfs: ' "$IO/err")" 1 "lines of warning"
grep -q '^mlfs: .*/dev/fuse' "$IO/err" || fail "the warning does not name /dev/fuse"
same "$(grep -vc '^mlfs: ' "$IO/err")" 1 "lines of the command"
eval "$($python -I -B "$cases/report.py" "$IO/report")"
same "$r_result" uncached
same "$r_stored" false
matches "$r_reason" '*/dev/fuse*'
ran 1
say "--require"
status=0
without_fuse mlfs exec --require -- sh -c 'mark; echo ran' >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 125
printed ""
grep -q '^mlfs: .*/dev/fuse' "$IO/err" || fail "the message does not name /dev/fuse"
ran 1
say "a signal that ends the command"
status=0
without_fuse mlfs exec -- sh -c 'kill -TERM $$' 2>"$IO/err" || status=$?
same "$status" 143
say "not found"
status=0
without_fuse mlfs exec -- no-such-command 2>"$IO/err" || status=$?
same "$status" 127
say "-q: no warning"
without_fuse mlfs exec -q -- sh -c 'echo fine' >"$IO/out" 2>"$IO/err"
printed fine
same "$(cat "$IO/err")" ""

say "hits need no FUSE"
miss -- sh -c 'mark; echo cached >file'
rm file
if is_root; then
	without_fuse mlfs exec --report "$IO/report" -- sh -c 'mark; echo cached >file'
	grep -q '"result": *"hit"' "$IO/report" || fail "no hit: $(cat "$IO/report")"
	same "$(cat file)" cached
	ran 2
fi

if ! is_root; then
	say "no user namespaces"
	# None may be made below one whose limit is 0.
	status=0
	unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all --inh-caps -all -- "$@"' sh \
		mlfs exec --report "$IO/report" -- sh -c 'echo plain; exit 6' >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" 6
	printed plain
	same "$(grep -c '^mlfs: ' "$IO/err")" 1 "lines of warning"
fi
no_mount_left || fail "a mount was left"
