#!/bin/sh
# SPDX-License-Identifier: MIT
# The clock set backwards, and files dated in the future, do no harm. (mlfs and its step are told another time than
# the machine's; the times of files stay true.)
. "$(dirname "$0")/lib.sh"

command -v cc >/dev/null || skip "needs a C compiler"
cat >"$IO/shift.c" <<'END'
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *t)
{
	long r = syscall(SYS_clock_gettime, id, t);
	if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += atol(getenv("SHIFT_CLOCK") ? getenv("SHIFT_CLOCK") : "0");
	return (int)r;
}
END
cc -shared -fPIC -O1 -o "$IO/shift.so" "$IO/shift.c"

mkdir "$IO/bin"
cat >"$IO/bin/mlfs" <<END
#!/bin/sh
[ "\$(cat "$IO/offset")" = 0 ] || exec env LD_PRELOAD=$IO/shift.so SHIFT_CLOCK="\$(cat "$IO/offset")" $(command -v mlfs) "\$@"
exec $(command -v mlfs) "\$@"
END
chmod +x "$IO/bin/mlfs"
PATH=$IO/bin:$PATH
# What of this is in the environment is no part of the key.
set -- --ignore-env LD_PRELOAD --ignore-env SHIFT_CLOCK

# clock SECONDS: off by so much
clock()
{
	say "clock: $1"
	echo "$1" >"$IO/offset"
}

clock 172800
case $(mlfs exec --no-cache -- date -u +%F) in
"$(date -u -d '+2 days' +%F)") ;;
*) fail "the time is not as it was to be" ;;
esac

echo 1 >in
miss "$@" -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
hit "$@" -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
clock 0
rm one two
hit "$@" -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
same "$(cat one two)" "a
b"
say "a result from the future has no age: not used where it must not be too old"
miss_because '*dated in the future*' "$@" --expire-after PT1H -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
hit "$@" --expire-after PT1H -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
clock 7200
miss_because 'expired*' "$@" --expire-after PT1H -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'

clock -259200
say "what was stored before is there, what is stored now stays"
hit "$@" -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
rm one two three
hit "$@" -- sh -c 'cat in; echo a >one; echo b >two; seq 2000 >three'
[ one -ot two ] && [ two -ot three ] || [ ! one -nt three ] || fail "restored in another order"
miss "$@" -- sh -c 'cat in; echo of the past'
echo 2 >in
miss_because 'in changed*' "$@" -- sh -c 'cat in; echo of the past'
echo 1 >in
hit "$@" -- sh -c 'cat in; echo of the past'
clock 0
hit "$@" -- sh -c 'cat in; echo of the past'

say "an input dated in the future, edited with its time set back"
echo A >later
touch -d '+1 year' later
touch -r later "$IO/times"
miss "$@" -- cat later
hit "$@" -- cat later
echo B >later
touch -r "$IO/times" later
miss_because 'later changed*' "$@" -- cat later
printed B
echo A >later
touch -r "$IO/times" later
hit "$@" -- cat later
printed A

say "an output dated in the future"
miss "$@" -- sh -c 'echo x >next; touch -d 2100-01-01 next'
rm next
hit "$@" -- sh -c 'echo x >next; touch -d 2100-01-01 next'
same "$(stat -c %y next | cut -c1-4)" 2100
mlfs fsck >"$IO/out" || fail "the cache is not well"
