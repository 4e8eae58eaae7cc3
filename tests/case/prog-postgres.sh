#!/bin/sh
# SPDX-License-Identifier: MIT
# PostgreSQL: initdb, a server on a Unix socket, pgbench, stop, all in one step; then the server again, natively, on
# what the step left. The server refuses root: there an ordinary user is taken.
. "$(dirname "$0")/lib.sh"

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
[ -n "$bin" ] || bin=/usr/bin
[ -x "$bin/initdb" ] || fail "no PostgreSQL"
export bin LC_ALL=C.UTF-8 PGUSER=tester PGDATABASE=postgres
export PGDATA="$PWD/run/data" PGHOST="$PWD/run"

cat >start.sh <<'END'
"$bin/pg_ctl" -D "$PGDATA" -w -t 60 -l "$PGHOST/log" start >/dev/null \
	-o "-c listen_addresses= -c unix_socket_directories=$PGHOST -c shared_buffers=16MB -c fsync=off -c autovacuum=off"
END
cat >whole.sh <<'END'
set -e
mkdir -p "$PGHOST"
"$bin/initdb" -N -D "$PGDATA" -U tester -A trust >/dev/null
sh start.sh || { cat "$PGHOST/log"; exit 1; }
"$bin/pgbench" -i -q -s 1 2>/dev/null >/dev/null
"$bin/pgbench" -n -c 4 -j 2 -t 25 | grep processed
"$bin/psql" -Atc "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i; CREATE INDEX ON t (i); CHECKPOINT"
"$bin/psql" -Atc "SELECT count(*), sum(hashtext(md5)) FROM t; SELECT count(*) FROM pgbench_history"
"$bin/pg_ctl" -D "$PGDATA" -w -m fast stop >/dev/null
END
cat >again.sh <<'END'
set -e
sh start.sh
"$bin/psql" -Atc "SELECT count(*), sum(hashtext(md5)) FROM t; SELECT count(*) FROM pgbench_history"
"$bin/psql" -Atc "SELECT sum(abalance) = (SELECT sum(delta) FROM pgbench_history) FROM pgbench_accounts"
"$bin/pg_ctl" -D "$PGDATA" -w -m fast stop >/dev/null
END
# As root the step becomes another user; mlfs does not.
as=
if is_root; then
	as="setpriv --reuid nobody --regid nogroup --clear-groups --"
	chmod 755 .
	chown nobody:nogroup .
fi

say "natively"
$as sh whole.sh >"$IO/native"
$as sh again.sh >"$IO/native.again"
rm -rf run
say "in a view"
miss -- $as sh whole.sh
cmp "$IO/native" "$IO/out"
say "the server starts outside on what the step left"
$as sh again.sh >"$IO/again"
cmp "$IO/native.again" "$IO/again"
say "by a hit, and the server on what that restored"
rm -rf run
hit -- $as sh whole.sh
cmp "$IO/native" "$IO/out"
$as sh again.sh >"$IO/again"
cmp "$IO/native.again" "$IO/again"

say "a server that goes on running: not stored; it is stopped from outside"
not_stored '*still*' -- $as sh start.sh
$as "$bin/pg_ctl" -D "$PGDATA" -w -m fast stop >/dev/null
$as sh again.sh >"$IO/again"
cmp "$IO/native.again" "$IO/again"
