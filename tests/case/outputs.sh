#!/bin/sh
# SPDX-License-Identifier: MIT
# A step's own outputs (design 4): restored when gone, never put over somebody else's edit, and back and forth
# between parameters.
. "$(dirname "$0")/lib.sh"

say "deleted: restored"
echo 1 >in
miss -- sh -c 'mark; cp in out'
rm out
hit -- sh -c 'mark; cp in out'
same "$(cat out)" 1
ran 1
say "edited: the command runs; the edit is never replaced from the cache"
echo edited >out
miss_because '*out*' -- sh -c 'mark; cp in out'
ran 2
echo edited again >out
miss_because '*out*' -- sh -c 'mark; cp in out'
ran 3
say "edited, and nothing may run: the edit stays"
echo edited a third time >out
status=0
mlfs exec --only-if-cached -- sh -c 'mark; cp in out' 2>"$IO/err" || status=$?
same "$status" 125
same "$(cat out)" "edited a third time"
ran 3

say "a parameter changed and back"
: >"$WITNESS/ran"
rm -f out
for n in 1 2 3; do
	miss -- sh -c "mark; echo $n >result; echo now $n"
done
for n in 1 2 3 1 3; do
	hit -- sh -c "mark; echo $n >result; echo now $n"
	same "$(cat result)" $n
	printed "now $n"
done
ran 3
say "edited since, then another parameter: runs"
echo mine >result
miss -- sh -c "mark; echo 2 >result; echo now 2"
ran 4

say "modes, links, directories, empty files, holes come back"
cat >make.sh <<'END'
mark
umask 027
mkdir -p d/sub d/empty
echo x >d/sub/plain
: >d/nothing
printf '#!/bin/sh\n' >d/tool
chmod 755 d/tool
chmod 2770 d/sub
ln -s ../in d/link
ln -s nowhere d/dangling
ln d/sub/plain d/hard
truncate -s 1M d/hole
mkfifo d/fifo
chmod 400 d/tool2 2>/dev/null || { echo ro >d/tool2; chmod 400 d/tool2; }
END
: >"$WITNESS/ran"
miss -- sh make.sh
first=$(tree d)
chmod -R u+rwX d
rm -r d
hit -- sh make.sh
same "$(tree d)" "$first" "outputs"
same "$(stat -c %i d/hard)" "$(stat -c %i d/sub/plain)" "hard links"
ran 1

say "a mode changed by hand: not a hit that loses it silently"
chmod 600 d/tool
step -- sh make.sh
same "$r_result" miss "result after chmod"
rm -r d

say "outputs already as wanted are not touched"
miss -- sh -c 'echo same >kept; echo same >other'
before=$(stat -c '%i %y %z' kept)
rm other
hit -- sh -c 'echo same >kept; echo same >other'
same "$(stat -c '%i %y %z' kept)" "$before" "the kept file"
same "$(cat other)" same

say "output in a directory that is gone"
mkdir -p deep/er
miss -- sh -c 'echo x >deep/er/f'
rm deep/er/f
hit -- sh -c 'echo x >deep/er/f'
same "$(cat deep/er/f)" x

say "what stands where an output was is something else"
miss -- sh -c 'echo x >thing'
rm thing
mkdir thing
step =2 -- sh -c 'echo x >thing'
same "$r_result" miss
[ -d thing ] || fail "thing was replaced"
rmdir thing
ln -s in thing
step -- sh -c 'echo x >thing'
same "$r_result" miss
[ -L thing ] || fail "the link was replaced"
same "$(cat in)" x
