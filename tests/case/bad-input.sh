#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input: one clear line that names the wrong word, the documented status, nothing run, nothing changed.
. "$(dirname "$0")/lib.sh"

# refused STATUS PATTERN ARGS…
refused()
{
	want=$1 pattern=$2
	shift 2
	status=0
	mlfs "$@" >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" "$want" "status of: mlfs $*"
	printed ""
	matches "$(cat "$IO/err")" "mlfs: $pattern" "what mlfs $* said"
	same "$(wc -l <"$IO/err")" 1 "lines said by: mlfs $*"
}

refused 125 '*--refesh*--refresh*' exec --refesh -- mark
refused 125 '*--expire-afer*--expire-after*' exec --expire-afer P1D -- mark
refused 125 '*--expire*' exec --expire-after
refused 125 '*-x*' exec -x -- mark
refused 125 '*command*' exec
refused 125 '*command*' exec --
refused 125 '*command*' exec --refresh
for garbage in tomorrow 1h P P1 PT '' -P1D P1X 'P1D ' 10; do
	refused 125 "*$garbage*" exec --expire-after "$garbage" -- mark
done
refused 125 '*--refresh*' exec --refresh=maybe -- mark
refused 125 '*' exec --env '' -- mark
refused 125 '*' exec --env =x -- mark
refused 125 '*/no/such/conf*' exec --config /no/such/conf -- mark
printf 'salt = x\nslat = y\n' >"$IO/conf"
refused 125 '*conf*2*slat*salt*' exec --config "$IO/conf" -- mark
refused 2 '*exce*exec*' exce -- mark
refused 2 '*' frobnicate
refused 2 '*--vresion*--version*' --vresion
refused 2 '*' ''
status=0
mlfs >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 2 "status of: mlfs"
[ -s "$IO/err" ] || fail "mlfs alone says nothing"
ran 0
[ ! -e "$MLFS_CACHE" ] || fail "a cache was made"
say "contradictions"
for pair in '--refresh --read-only' '--no-cache --only-if-cached' '--refresh --only-if-cached'; do
	status=0
	# shellcheck disable=SC2086
	mlfs exec $pair -- sh -c 'exit 9' >"$IO/out" 2>"$IO/err" || status=$?
	case $status in
	125 | 9) ;;
	*) fail "$pair: status $status" ;;
	esac
done
