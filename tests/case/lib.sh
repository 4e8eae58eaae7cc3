# SPDX-License-Identifier: MIT
# Sourced by every case. A case runs in a private, empty directory ($PWD) with a private cache ($MLFS_CACHE).
#
#   miss [=STATUS] ARGS…          `mlfs exec ARGS…` runs the command and stores its result
#   hit [=STATUS] ARGS…           … is a hit
#   not_stored PATTERN [=STATUS] ARGS…   … runs the command, stores nothing, and the reason matches PATTERN
#   uncached PATTERN [=STATUS] ARGS…     … runs the command plainly for that reason
#   miss_because PATTERN ARGS…    … is a miss whose reason matches PATTERN
#
# Each leaves the command's stdout, stderr and report in $IO/out, $IO/err, $IO/report, and the report's fields in
# r_result, r_stored, r_reason, ….
#
#   mark (a program)   notes in a place the view does not trace that the step was really executed
#   ran N              fails unless `mark` was run exactly N times since the case began
#   skip REASON        ends the case with status 77
#   await NAME         until somebody writes a line to the fifo $WITNESS/NAME, which is then in $line
#   wait_for COMMAND…  until it succeeds, 20 seconds at most
#   like_native SCRIPT PATH…  the script behaves in a view as it does natively, and is a hit the second time

set -eu
umask 022
cases=$(cd "$(dirname "$0")" && pwd)
python=/usr/bin/python3
: "${IO:?run me through tests/run-cases}" "${WITNESS:?}" "${MLFS_CACHE:?}"

fail()
{
	echo "FAIL: $*"
	if [ -s "$IO/report" ]; then
		echo "--- report"
		cat "$IO/report"
	fi
	for stream in out err; do
		if [ -s "$IO/$stream" ]; then
			echo "--- std$stream"
			head -c 2000 "$IO/$stream"
		fi
	done
	exit 1
}

skip()
{
	echo "skip: $*"
	exit 77
}

is_root()
{
	[ "$(id -u)" = 0 ]
}

# What is being tried, for the log of a failure.
say()
{
	echo "- $*"
}

same()
{
	[ "$1" = "$2" ] || fail "${3:-texts differ}: got '$1', want '$2'"
}

matches()
{
	# shellcheck disable=SC2254
	case $1 in
	$2) ;;
	*) fail "${3:-text}: '$1' does not match '$2'" ;;
	esac
}

ran()
{
	same "$(wc -l <"$WITNESS/ran")" "$1" "times executed"
}

# large_file NAME N: N MiB, no two of them the same, but the same each time
large_file()
{
	$python - "$@" <<-'END'
	import random, sys
	block = random.Random(1).randbytes(1 << 20)
	with open(sys.argv[1], "wb") as f:
	    for i in range(int(sys.argv[2])):
	        f.write(block[i:] + block[:i])
	END
}

wait_for()
{
	tries=0
	until "$@" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 400 ] || fail "waited in vain for: $*"
		sleep 0.05
	done
}

# ask COMMAND [=STATUS] ARGS…: run `mlfs COMMAND ARGS…`; what it prints is in $IO/out and $IO/err.
ask()
{
	asked=$1
	shift
	wanted=0
	case ${1:-} in
	=*)
		wanted=${1#=}
		shift
		;;
	esac
	status=0
	mlfs "$asked" "$@" >"$IO/out" 2>"$IO/err" || status=$?
	same "$status" "$wanted" "status of mlfs $asked $*"
}

# A pattern of what `ask` was told.
has()
{
	grep -qE -- "$1" "$IO/out" || fail "mlfs $asked does not say '$1'"
}

# Run `mlfs exec`, read the report. "=STATUS" as the first word is the status wanted.
step()
{
	wanted=0
	case $1 in
	=*)
		wanted=${1#=}
		shift
		;;
	esac
	rm -f "$IO/report"
	status=0
	mlfs exec --report "$IO/report" "$@" >"$IO/out" 2>"$IO/err" || status=$?
	[ -s "$IO/report" ] || fail "no report, status $status: mlfs exec $*"
	fields=$($python -I -B "$cases/report.py" "$IO/report") || fail "malformed report: mlfs exec $*"
	eval "$fields"
	same "$status" "$wanted" "status of: $*"
	same "$r_exit_status" "$wanted" "exit_status in the report of: $*"
}

miss()
{
	step "$@"
	same "$r_result" miss "result of: $*"
	same "$r_stored" true "stored, of: $*"
}

hit()
{
	step "$@"
	same "$r_result" hit "result of: $*"
}

miss_because()
{
	pattern=$1
	shift
	miss "$@"
	matches "$r_reason" "$pattern" "reason of: $*"
}

not_stored()
{
	pattern=$1
	shift
	step "$@"
	same "$r_result" miss "result of: $*"
	same "$r_stored" false "stored, of: $*"
	matches "$r_reason" "$pattern" "reason of: $*"
}

# kept COMMAND…: and its report is kept, as $IO/reports/NUMBER
kept()
{
	mkdir -p "$IO/reports"
	"$@"
	count=$((${count:-100} + 1))
	cp "$IO/report" "$IO/reports/$count"
}

uncached()
{
	pattern=$1
	shift
	step "$@"
	same "$r_result" uncached "result of: $*"
	same "$r_stored" false "stored, of: $*"
	matches "$r_reason" "$pattern" "reason of: $*"
}

# Names, types, modes, link targets and contents below the paths given, as one text.
tree()
{
	find "$@" -printf '%p %y %m %l %n\n' | sort
	find "$@" -type f -print0 | sort -z | xargs -0r sha256sum
}

# The parts of what a program leaves that are the same each time; a case defines it anew where not all of it is.
steady_tree()
{
	tree "$@"
}

# Run a script natively, as a step, and as a step again, each time without what it makes (the PATHs): what is printed,
# the status and what is left are the same, and the second step is a hit.
like_native()
{
	script=$1
	shift
	rm -rf "$@"
	native_status=0
	sh "$script" </dev/null >"$IO/native.out" 2>"$IO/native.err" || native_status=$?
	same "$native_status" 0 "native status of $script, $(tail -n 5 "$IO/native.err")"
	steady_tree "$@" >"$IO/native.tree"
	for how in miss hit; do
		rm -rf "$@"
		$how -- sh "$script" </dev/null
		steady_tree "$@" >"$IO/view.tree"
		for what in out err tree; do
			[ $what = tree ] || cp "$IO/$what" "$IO/view.$what"
			diff "$IO/native.$what" "$IO/view.$what" >"$IO/diff" ||
				fail "$how of $script, $what (< native, > in the view): $(head -n 40 "$IO/diff")"
		done
	done
}

# The text in a file, or on stdin, that the step printed.
printed()
{
	same "$(cat "$IO/out")" "$1" "stdout"
}

# The line that somebody writes to the fifo, in $line. (An earlier writer that has not closed it yet may give an
# end of file first.)
await()
{
	until read -r line <"$WITNESS/$1"; do
		:
	done
}

# Of the case's own: others may have theirs.
no_mount_left()
{
	! grep -F " ${IO%/*}/" /proc/self/mounts | grep -q 'fuse\.mlfs'
}
