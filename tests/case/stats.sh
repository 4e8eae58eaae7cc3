#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs stats: its sums are those of the reports, to the microsecond and the byte.
. "$(dirname "$0")/lib.sh"

for n in 1 2 3 4 5 6 7 8; do
	# The second half of them leaves what the first has left.
	kept miss --name "work$((n % 4))" -- sh -c "sleep 0.3; seq $((n % 4)) 3000 >out$n; echo $n"
	kept hit --name "work$((n % 4))" -- sh -c "sleep 0.3; seq $((n % 4)) 3000 >out$n; echo $n"
	rm "out$n"
	kept hit --name again -- sh -c "sleep 0.3; seq $((n % 4)) 3000 >out$n; echo $n"
done
kept uncached '--no-cache' --no-cache -- true
echo 1 >in
kept miss -- cat in
echo 2 >in
kept miss_because 'in changed' -- cat in
echo 3 >in
kept miss_because 'in changed' -- cat in
kept not_stored '*exit status was 1' =1 -- false

say "settings of a step: what is volatile is off, what is old runs again"
cat >"$MLFS_CACHE/mlfs.conf" <<'END'
expire-after = P30D
[step "volatile*"]
no-cache = yes
[step "fresh"]
expire-after = PT0S
END
kept uncached '--no-cache' --name volatile1 -- cat in
kept miss --name fresh -- cat ./in
kept miss_because 'expired *' --name fresh -- cat ./in
kept hit --name other -- cat ./in
kept hit --name fresh --expire-after P1D -- cat ./in
mlfs log --name fresh | grep -q 'expired ' || fail "the log does not say that it expired"
$python -B "$cases/history.py" sums
