#!/bin/sh
# SPDX-License-Identifier: MIT
# Unmodified jobs in a persistent mount, each started twice as by cron, make, a shell loop, a service manager and a scheduler; and
# many at once. None of them knows of mlfs.
. "$(dirname "$0")/lib.sh"

is_root || command -v fusermount3 >/dev/null || skip "fusermount3 is not here"
top=$PWD
mkdir -p src/jobs/daily src/in src/out mnt
for k in $(seq 64); do seq $k >src/in/$k; done
cat >src/jobs/daily/report <<'END'
#!/bin/sh
mark
cd "$(dirname "$0")/../.."
cat in/1 in/2 >out/report
echo "reported by $0"
END
cat >src/jobs/fold <<'END'
#!/bin/sh
mark
sort -r <"in/$1" >"out/$1"
END
cat >src/jobs/daemonlike <<'END'
#!/bin/sh
mark
cat in/3 >out/served
END
chmod +x src/jobs/daily/report src/jobs/fold src/jobs/daemonlike
cat >src/Makefile <<'END'
all: $(patsubst in/%,out/%,$(wildcard in/*))
out/%: in/%
	jobs/fold $*
END
mlfs mount --step 'jobs/*' --step 'jobs/*/*' src mnt
trap 'cd "$top"; if is_root; then umount -l mnt; else fusermount3 -uz mnt; fi' EXIT
cd mnt

# twice N COMMAND…: run twice, with what the first left gone; N steps are executed by the first, none by the second
done_before=0
twice()
{
	new=$1
	shift
	for round in first second; do
		rm -f out/*
		"$@" >"$IO/$round.out" 2>"$IO/$round.err" || fail "status $? of $*, $round: $(cat "$IO/$round.err")"
		(cd out && sha256sum -- *) >"$IO/$round.tree"
		ran $((done_before + new))
	done
	cmp "$IO/first.tree" "$IO/second.tree" || fail "the second run of $* left something else"
	cmp "$IO/first.out" "$IO/second.out" || fail "the second run of $* said something else"
	done_before=$((done_before + new))
}

say "cron: run-parts, with cron's environment"
if command -v run-parts >/dev/null; then
	twice 1 env -i HOME=/ SHELL=/bin/sh PATH=/usr/bin:/bin WITNESS="$WITNESS" MLFS_CACHE="$MLFS_CACHE" \
		"PATH=$PATH" run-parts --report "$PWD/jobs/daily"
	grep -q "reported by" "$IO/second.out" || fail "what the job said was not passed on"
fi

say "make -j, and a shell loop"
# make gives its own standard input to one job at a time, and an empty pipe to the others: which is which varies.
jobs()
{
	: | make -s -j8
}
twice 64 jobs
loop()
{
	for k in in/1?; do
		jobs/fold "${k#in/}" || return
	done
}
twice 10 loop

say "64 at once"
crowd()
{
	seq 64 | xargs -P 64 -I N jobs/fold N
}
twice 54 crowd # the loop ran ten of them

say "a service manager: a session of its own, no terminal, closed standard streams, and it waits for the process itself"
service()
{
	$python -I - jobs/daemonlike <<'END'
import os, sys
pid = os.fork()
if not pid:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.execve(sys.argv[1], [sys.argv[1]], dict(os.environ, INVOCATION_ID="x", NOTIFY_SOCKET="/nowhere"))
_, status = os.waitpid(pid, 0)
assert status == 0, status
END
}
twice 1 service

say "a scheduler: a launcher that ends at once, output to a log, a status in a file"
launched()
{
	(
		trap '' HUP
		exec </dev/null >"$IO/job.log" 2>&1
		(jobs/daemonlike; echo $? >"$IO/job.status.new"; mv "$IO/job.status.new" "$IO/job.status") &
	) &
	wait_for test -e "$IO/job.status"
	same "$(cat "$IO/job.status")" 0 "status that the launcher noted"
	rm "$IO/job.status"
}
twice 1 launched
