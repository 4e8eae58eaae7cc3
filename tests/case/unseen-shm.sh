#!/bin/sh
# SPDX-License-Identifier: MIT
# /dev/shm: what lies there counts, what is left there is noticed, what comes and goes is the step's own business.
. "$(dirname "$0")/lib.sh"

# run-cases gives a case a /dev/shm of its own where it can.
[ -z "$(ls -A /dev/shm)" ] || skip "needs root (for a /dev/shm of its own)"

say "memory shared by processes of the step (Python's helper ends after the step)"
cat >share.py <<'END'
import multiprocessing as m, os
from multiprocessing import shared_memory
def f(name):
    s = shared_memory.SharedMemory(name)
    s.buf[0] = 42
    s.close()
if __name__ == "__main__":
    os.system("mark")
    s = shared_memory.SharedMemory(create=True, size=100)
    q = m.Semaphore(1)
    p = m.Process(target=f, args=(s.name,))
    p.start(); p.join()
    print(s.buf[0])
    s.close(); s.unlink()
END
miss -- $python share.py
printed 42
hit -- $python share.py
ran 1

say "data that is kept there"
mkdir /dev/shm/stage
echo one >/dev/shm/stage/data
miss -- cat /dev/shm/stage/data
hit -- cat /dev/shm/stage/data
printed one
miss -- sh -c 'echo elsewhere'
echo two >/dev/shm/stage/data
miss_because "/dev/shm/stage/data changed" -- cat /dev/shm/stage/data
printed two
touch -d yesterday /dev/shm/stage/data
hit -- cat /dev/shm/stage/data
rm -r /dev/shm/stage
not_stored "its exit status was 1" =1 -- cat /dev/shm/stage/data
mkdir /dev/shm/stage
echo two >/dev/shm/stage/data
hit -- cat /dev/shm/stage/data
say "steps that do not go there"
hit -- sh -c 'echo elsewhere'

say "data put there at the very moment before"
for k in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	echo $k >/dev/shm/stage/data
	mlfs exec --report "$IO/report.$k" -- cat /dev/shm/stage/data >>"$IO/stage"
done
same "$(tr '\n' ' ' <"$IO/stage")" "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 "
! grep -h '"stored": false' "$IO"/report.* || fail "taken for a change that the step made"

say "what is left, changed or removed there"
echo three >/dev/shm/stage/more
not_stored "/dev/shm/new was changed or left behind" -- sh -c 'echo x >/dev/shm/new'
same "$(cat /dev/shm/new)" x
rm /dev/shm/new
not_stored "/dev/shm/stage/data was changed or left behind" -- sh -c 'echo x >>/dev/shm/stage/data'
not_stored "/dev/shm/stage was changed or left behind" -- rm /dev/shm/stage/more
not_stored "/dev/shm/sem.left was changed or left behind" -- $python -c "
import _multiprocessing
_multiprocessing.SemLock(1, 1, 1, '/left', False)"

say "memory of others"
not_stored "memory of others (/dev/shm/sem.left) may have been used" -- $python share.py --refresh
miss -- sh -c 'echo not there'
rm /dev/shm/sem.left

say "--ignore"
miss --ignore '/dev/shm/log*' -- sh -c 'echo x >>/dev/shm/logged'
hit --ignore '/dev/shm/log*' -- sh -c 'echo x >>/dev/shm/logged'
