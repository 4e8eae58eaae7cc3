#!/bin/sh
# SPDX-License-Identifier: MIT
# Large outputs of hits in a persistent mount are served from their objects, and become files when that is needed.
. "$(dirname "$0")/lib.sh"

is_root || command -v fusermount3 >/dev/null || skip "fusermount3 is not here"
mb=${MLFS_LAZY_MB:-64} # of the large output
top=$PWD
chmod 755 .
mkdir -p src/bin mnt
cat >src/bin/make <<'END'
#!/bin/sh
mark
cat seed >big
head -c 2000000 seed >also
head -c 1000 seed >small
chmod 640 also
END
cat >src/bin/use <<'END'
#!/bin/sh
mark
ls -l >/dev/null
[ -L big ] && echo "it is a link" >&2
cksum <big >sum
END
cat >src/bin/build <<'END'
#!/bin/sh
mark
cp "$(readlink -f /usr/bin/python3)" tool
END
cat >src/bin/pick <<'END'
#!/bin/sh
mark
{ echo "$1"; head -c 2000000 seed; } >picked
END
printf '#!/bin/sh\ncksum <picked\n' >src/bin/read
cat >src/bin/list <<'END'
#!/bin/sh
mark
ls -F also small >names
END
cat >src/bin/wait <<'END'
#!/bin/sh
echo up >"$WITNESS/up"
read -r line <"$WITNESS/go"
cat seed | cksum >waited
END
chmod 755 src/bin/*
mkfifo "$WITNESS/up" "$WITNESS/go"
head -c "${mb}000000" /dev/urandom >src/seed
seed=$(cksum <src/seed)
also=$(head -c 2000000 src/seed | cksum)
if is_root; then
	cache=$top/cache # of each user, as for a mount of many
	own=$cache/users/0
	unset MLFS_CACHE
	attach()
	{
		mlfs mount --cache "$cache" --step 'bin/*' "$@" src mnt
	}
else
	own=$MLFS_CACHE
	cache=$own
	attach()
	{
		mlfs mount --step 'bin/*' "$@" src mnt
	}
fi

away()
{
	cd "$top"
	[ -z "$server" ] || kill -CONT "$server" 2>/dev/null || :
	mlfs umount -l mnt 2>/dev/null || :
}
server=
server_of_mount()
{
	mlfs status --json "$top/mnt" | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])'
}
attach
trap away EXIT
cd mnt

# Which outputs are not real, in the directory itself.
unreal()
{
	(cd "$top/src" && find . -type l | sort | tr '\n' ' ')
}
# How many objects the cache has to keep for them.
kept()
{
	find "$own/lazy" -type l 2>/dev/null | wc -l
}
# Of the large output: is it the object still, with its own bytes?
object()
{
	find "$own/cas" -type f -size +"$((mb * 900))k" -size -"$((mb * 1100))k"
}
# A hit that leaves them: what there is goes first.
lazily()
{
	rm -rf big also small
	bin/make
	same "$(unreal)" "./also ./big " "what is not real after a hit"
	same "$(kept)" 2 "objects that are kept for it"
}

say "a hit leaves what is large to its object"
bin/make
ran 1
same "$(unreal)" "" "nothing of a miss"
same "$(ls "$own/lock")" "" "locks of steps that are over"
lazily
ran 1
whole=$(cksum <"$(object)")
same "$whole" "$seed" "the object of the large one"
[ -f "$top/src/small" ] || fail "a small one is not there"
! cat ../src/big 2>"$IO/err" || fail "past the mount there are bytes"
grep -q "No such file" "$IO/err" || fail "past the mount it is not told"

say "it is the file, by all that reads it"
[ -f big ] && [ ! -L big ] || fail "it is no file"
same "$(stat -c '%F %a %s' also)" "regular file 640 2000000" "attributes"
same "$(stat -c '%Y %U' big)" "$(stat -c '%Y %U' ../src/big)" "time and owner"
same "$(find . -type l)" "" "links in a listing"
same "$(find . -type f -name big -size +"$((mb * 900))k")" ./big "found by size"
cmp big seed || fail "other bytes"
cp big "$top/copy" && cmp "$top/copy" seed || fail "cp copies something else"
tar cf - big also | tar xOf - big | cmp - seed || fail "tar packs something else"
tar -S -cf - big | tar xOf - big | cmp - seed || fail "tar -S packs something else"
same "$(tail -c 5000 big | cksum)" "$(tail -c 5000 seed | cksum)" "its end"
same "$(dd if=big bs=1000 skip=777 count=3 2>/dev/null | cksum)" \
	"$(dd if=seed bs=1000 skip=777 count=3 2>/dev/null | cksum)" "a part"
$python -c '
import mmap
with open("big", "rb") as a, open("seed", "rb") as b:
    x, y = mmap.mmap(a.fileno(), 0, prot=mmap.PROT_READ), mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ)
    assert x[:] == y[:]
' || fail "mapped, it has other bytes"
same "$(unreal)" "./also ./big " "reading makes nothing real"
mlfs status . >"$IO/out"
grep -q "^not real .* in 2 outputs" "$IO/out" || fail "status does not tell"
mlfs status --json . | grep -q '"unreal_outputs": *2,' || fail "status --json does not tell"

say "a hit over it, and one of a step that reads it"
bin/make
ran 1
same "$(unreal)" "./also ./big " "they are as they were"
bin/use
ran 2
same "$(unreal)" "" "what a step looks at, as ls -l does, is real"
same "$(kept)" 0 "and nothing is kept for it"
same "$(cat sum)" "$seed" "what it read"
cmp ../src/big seed || fail "the real one has other bytes"
same "$(stat -c %a ../src/also)" 640 "mode of a real one"
lazily
rm sum
bin/use
ran 2
same "$(cat sum)" "$seed" "what a hit left that was made of it"
same "$(unreal)" "./also ./big " "a hit needs nothing to be real"
bin/list
ran 3
lazily
rm names
bin/list
ran 3
same "$(cat names | tr '\n' ' ')" "also small " "in listings it is no link"

say "a step makes real what it meets, and no more"
step()
{
	mlfs exec ${cache:+--cache "$own"} "$@"
}
step sh -c 'mark; head -c 100 seed | cksum >part'
ran 4
same "$(unreal)" "./also ./big " "beside a step that does not touch them"
step sh -c 'mark; cksum <also >part'
ran 5
same "$(cat part)" "$also" "what a step read"
same "$(unreal)" "./big " "only what it read is real"
same "$(stat -c '%a %s' ../src/also)" "640 2000000"
step sh -c 'mark; cksum <also >part'
ran 5
lazily
rm part
step sh -c 'mark; cksum <also >part'
ran 5
same "$(cat part)" "$also" "a hit of what was recorded with one that was made real"
same "$(unreal)" "./also ./big " "a hit needs nothing to be real"
# Recorded with real files, and with those that were not: one key.
mlfs materialize ${cache:+--cache "$own"} . >/dev/null
look='find . -printf "%p %y %m %s %u\n" | sort && cksum also big'
key()
{
	step --refresh --report "$IO/report" -- sh -c "$look" >"$IO/out" || fail "the step fails"
	$python -c 'import json, sys; print(json.load(open(sys.argv[1]))["input_key"])' "$IO/report"
}
bin/make # it sees what it has left, as in lazily
real_key=$(key)
mv "$IO/out" "$IO/real"
lazily
lazy_key=$(key)
same "$lazy_key" "$real_key" "the key of a step that reads them"
cmp "$IO/out" "$IO/real" || fail "it sees something else"
lazily
rm "$IO/out"
step --report "$IO/report" -- sh -c "$look" >"$IO/out"
grep -q '"result": "hit"' "$IO/report" || fail "no hit with what is not real"
cmp "$IO/out" "$IO/real" || fail "the hit says something else"
same "$(unreal)" "./also ./big " "a hit needs nothing to be real"

say "what a step sees in listings"
types='import os; print(sorted((e.name, e.is_symlink(), e.is_file(follow_symlinks=False)) for e in os.scandir(".") if e.name in ("also", "big", "small")))'
step $python -c "$types" >"$IO/out"
printed "[('also', False, True), ('big', False, True), ('small', False, True)]"
same "$(unreal)" "./also ./big " "a listing makes nothing real"
mlfs materialize ${cache:+--cache "$own"} . >/dev/null
step --report "$IO/report" -- $python -c "$types" >"$IO/out"
grep -q '"result": "hit"' "$IO/report" || fail "with real ones it is another step"
lazily

say "a step moves, copies and removes them"
tree()
{
	rm -rf tree
	lazily
	mkdir tree
	mv big also tree
	same "$(unreal)" "./tree/also ./tree/big "
}
tree
step sh -c 'cp -a tree copied && cmp copied/big seed && cmp tree/big seed && [ ! -L copied/also ]' || fail "cp -a"
same "$(stat -c '%a %s' ../src/copied/also)" "640 2000000"
rm -rf copied
tree
step --report "$IO/report" -- sh -c 'mv tree moved' || fail "mv"
grep -q '"stored": true' "$IO/report" || fail "mv is not stored"
same "$(unreal)" "" "what was moved is real"
cmp ../src/moved/big seed || fail "what was moved"
rm -rf moved
tree
step --report "$IO/report" -- sh -c 'mv tree moved' || fail "mv once more"
grep -q '"result": "hit"' "$IO/report" || fail "the same mv, of what is not real again, is no hit"
cmp moved/big seed || fail "what a hit has moved"
same "$(stat -c '%a %s' moved/also)" "640 2000000"
rm -rf moved
tree
step --report "$IO/report" -- rm -rf tree || fail "rm -rf"
[ ! -e ../src/tree ] || fail "rm -rf leaves something"
grep -q '"stored": true' "$IO/report" || fail "rm -rf is not stored"
same "$(kept)" 0 "what was removed is not kept"
tree
step sh -c 'rm tree/big && echo anew >tree/big && mv tree/big tree/also && cat tree/also' >"$IO/out"
printed "anew"
rm -rf tree
lazily

say "what was read of stdin by the lookup, a command that runs plainly has"
(cd "$top" && seq 100000 >one && { seq 50000; seq 100000; } >two)
# shellcheck disable=SC2002 # it is to be a pipe
cat ../one | step cksum >/dev/null
cat ../two | {
	step --read-only sh -c 'cksum; cksum <big' 2>/dev/null
	cksum
} >"$IO/out"
printed "$(cksum <../two)
$seed
$(printf '' | cksum)"
cat ../two | step --read-only --report "$IO/report" cksum >"$IO/out"
printed "$(cksum <../two)"
same "$(unreal)" "./also ./big " "of a command that runs plainly"

say "while a step runs, hits leave them"
bin/wait &
read -r line <"$WITNESS/up"
rm -f big also
bin/make
same "$(unreal)" "./also ./big " "of a hit beside a step"
echo >"$WITNESS/go"
wait
step --report "$IO/report" sh -c 'cksum <big; echo up >"$WITNESS/up"; read -r line <"$WITNESS/go"' >"$IO/out" &
read -r line <"$WITNESS/up"
same "$(unreal)" "./also " "what a step has read"
rm -f big
bin/make
same "$(unreal)" "./also ./big " "of a hit beside a step that has read it"
echo >"$WITNESS/go"
wait
printed "$seed"
grep -q '"stored": false' "$IO/report" || fail "what another process has replaced meanwhile is no input of a result"
step sh -c 'echo up >"$WITNESS/up"; read -r line <"$WITNESS/go"; cksum <big; cksum <also' >"$IO/out" &
read -r line <"$WITNESS/up"
lazily
echo >"$WITNESS/go"
wait
same "$(cat "$IO/out")" "$seed
$also" "what a hit has left while the step ran"
lazily

say "a step elsewhere keeps nobody from unmounting"
cd "$top"
old=$(server_of_mount)
# shellcheck disable=SC2016
mlfs exec ${cache:+--cache "$cache"} sh -c 'echo up >"$WITNESS/up"; read -r line <"$WITNESS/go"' &
read -r line <"$WITNESS/up"
if is_root; then umount mnt; else fusermount3 -u mnt; fi || fail "the mount is in use"
echo >"$WITNESS/go"
wait
# It makes all real at its end, also what a later one serves by then.
ended()
{
	! kill -0 "$old" 2>/dev/null
}
wait_for ended
attach
cd mnt

say "a server that is killed while a step runs"
lazily
step sh -c 'echo up >"$WITNESS/up"; read -r line <"$WITNESS/go"; cksum <big; cksum <also' killed >"$IO/out" &
read -r line <"$WITNESS/up"
kill -KILL "$(server_of_mount)"
echo >"$WITNESS/go"
wait $! || fail "the step fails"
same "$(cat "$IO/out")" "$seed
$also" "what the step read"
cd "$top"
same "$(unreal)" "" "and it is real"
wait_for mlfs umount mnt
attach
cd mnt
lazily

say "who waits for a copy can be interrupted"
# The server is stopped in the middle of one.
huge=${MLFS_LAZY_HUGE_MB:-400}
server=$(server_of_mount)
copies()
{
	ls -l "/proc/$server/fd" 2>/dev/null | grep -q '#.*(deleted)'
}
hugely()
{
	rm -f huge
	step truncate -s "${huge}M" huge
	[ -L "$top/src/huge" ] || fail "the huge one is real"
}
job_gone()
{
	! grep -q '^State:.[^Z]' "/proc/$job/status"
}
cat_gone()
{
	! ps -o comm= -s "$job" | grep -qx cat
}
# "$@" is $job, and has begun a copy, in the middle of which the server is stopped. False: it was quicker.
stopped_in_copy()
{
	hugely
	setsid "$@" >/dev/null 2>"$IO/err" &
	job=$!
	until copies; do
		kill -0 $job 2>/dev/null || return 1
	done
	kill -STOP "$server"
	[ ! -L "$top/src/huge" ] || return 0
	kill -CONT "$server"
	wait $job
	return 1
}
# What is started by "$@" waits for a copy; by a signal $gone comes about while that goes on.
interrupted()
{
	gone=$1
	shift
	tries=0
	until stopped_in_copy "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 10 ] || fail "the server is never seen in the middle of a copy"
	done
	kill -s INT -- -$job
	wait_for $gone
	[ -L "$top/src/huge" ] || fail "the copy is done already"
	kill -CONT "$server"
	status=0
	wait $job || status=$? # the server is told that the step is over
	same "$status" "130" "status of who was interrupted"
	wait_for [ -f "$top/src/huge" ]
	same "$(ls -A "$top/src" | grep -c '^[.]mlfs')" 0 "names left behind"
}
# A shell has what it starts in the background ignore SIGINT.
unignore='import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])'
step truncate -s "${huge}M" huge
interrupted job_gone $python -c "$unignore" mlfs materialize ${cache:+--cache "$own"} huge
interrupted cat_gone $python -c "$unignore" mlfs exec --refresh ${cache:+--cache "$own"} cat huge
rm huge

say "the first write makes it real, and leaves the object alone"
echo more >>big
same "$(unreal)" "./also " "the other one stays"
same "$(stat -c %s ../src/big)" "$((mb * 1000000 + 5))" "its size"
same "$(head -c "${mb}000000" big | cksum)" "$seed" "what was in it"
same "$(cksum <"$(object)")" "$whole" "the object"
bin/make
ran 6
same "$(cksum <big)" "$seed" "what somebody has edited is not taken for the step's"
lazily
printf X | dd of=big bs=1 seek=5000 conv=notrunc 2>/dev/null
same "$(cksum <"$(object)")" "$whole" "the object after a write in the middle"
same "$(dd if=big bs=1 skip=5000 count=1 2>/dev/null)" X
same "$(tail -c +5002 big | cksum)" "$(tail -c +5002 seed | cksum)" "the rest"
lazily
: >big
same "$(stat -c %s big ../src/big | tr '\n' ' ')" "0 0 " "emptied"
same "$(cksum <"$(object)")" "$whole" "the object after that"
lazily
truncate -s 1000 big
same "$(cksum <big)" "$(head -c 1000 seed | cksum)" "cut short"
lazily
$python -c '
import os
fd = os.open("big", os.O_RDONLY)
os.fchmod(fd, 0o604)
assert os.fstat(fd).st_mode & 0o777 == 0o604, oct(os.fstat(fd).st_mode)
os.utime(fd, (1000000000, 1000000000))
assert os.stat("big").st_mtime == 1000000000
os.lseek(fd, 4321, 0)
with open("seed", "rb") as f:
    f.seek(4321)
    assert os.read(fd, 100) == f.read(100)
w = os.open("big", os.O_RDWR)
os.pwrite(w, b"new", 0)
os.close(w)
with open("big", "rb") as f:
    assert f.read(3) == b"new"
' || fail "changed by a descriptor that reads"
same "$(stat -c %a ../src/big)" 604
same "$(cksum <"$(object)")" "$whole" "the object after that"

say "a program that was made by a step"
rm also
bin/build
rm tool
bin/build
ran 7
same "$(unreal)" "./tool "
same "$(./tool -c 'print(6 * 7)')" 42 "what it prints"
same "$(unreal)" "" "what is executed is real"
same "$(./tool -c 'print(6 * 7)')" 42 "what it prints, once more"
rm tool

say "another hit over it"
bin/pick 1
bin/pick 2
bin/pick 1
same "$(unreal)" "./picked "
same "$(kept)" 1
bin/pick 2
same "$(unreal)" "./picked "
same "$(kept)" 1 "nothing is kept for what was replaced"
same "$(head -c 1 picked)" 2
ran 9
rm picked

say "names: another, a link, none"
lazily
mkdir deep
mv big deep/moved
cmp deep/moved seed || fail "a moved one has other bytes"
same "$(unreal)" "./also ./deep/moved " "it is moved as it is"
mv deep deeper
chmod 600 also
same "$(unreal)" "./deeper/moved "
same "$(stat -c '%a' also ../src/also | tr '\n' ' ')" "600 600 " "a mode that was changed"
ln deeper/moved linked
same "$(unreal)" "" "what has two names is real"
same "$(stat -c '%h %i' linked)" "$(stat -c '%h %i' deeper/moved)" "both names"
rm -r deeper linked
lazily
mv big also
same "$(kept)" 1 "what was replaced is not kept"
cmp also seed || fail "it replaces another"
rm also
same "$(kept)" 0 "what was removed is not kept"

say "what was moved with its directory is found"
lazily
mkdir sub
mv big sub/there
mv "$top/src/sub" "$top/src/elsewhere"
! bin/use 2>/dev/null || fail "it has found what is gone"
ran 10
step --refresh sh -c 'cksum <elsewhere/there' >"$IO/out"
printed "$seed"
same "$(kept)" 0
rm -r elsewhere
lazily
mkdir sub
mv big sub/there
mv "$top/src/sub" "$top/src/elsewhere"
cd "$top"
mlfs umount mnt
same "$(unreal)" "" "all is real when there is no mount"
cmp src/elsewhere/there src/seed || fail "what was moved"
same "$(kept)" 0
rm -r src/elsewhere
attach
cd mnt

say "a new server serves on, whatever became of the last one"
lazily
cd "$top"
pid=$(server_of_mount)
kill -KILL "$pid"
wait_for mlfs umount mnt
same "$(unreal)" "./also ./big "
attach
cd mnt
cmp big seed || fail "served by a new server it has other bytes"
bin/make
ran 10
same "$(unreal)" "./also ./big " "a hit over what the last server had"

say "its object stays, whatever is dropped"
mlfs forget --all ${cache:+--cache "$cache"} >/dev/null
mlfs gc ${cache:+--cache "$cache"} >/dev/null
mlfs fsck ${cache:+--cache "$cache"} >"$IO/out" || fail "fsck finds fault"
mlfs fsck --repair ${cache:+--cache "$cache"} >"$IO/out" || fail "fsck finds fault"
cmp big seed || fail "after gc it has other bytes"
same "$(cksum <also)" "$also"

say "an unmount makes it real"
cd "$top"
mlfs umount mnt 2>"$IO/err"
grep -q "making 2 outputs in .* real" "$IO/err" || fail "umount does not tell"
same "$(unreal)" ""
cmp src/big src/seed || fail "after umount it has other bytes"
same "$(stat -c %a src/also)" 640
attach
cd mnt
rm -f big also small
bin/make
ran 11
lazily
cd "$top"
if is_root; then umount mnt; else fusermount3 -u mnt; fi
wait_for [ ! -L src/big ]
wait_for [ ! -L src/also ]
cmp src/big src/seed || fail "after an unmount by others it has other bytes"

say "materialize: in a mount, past it, of all that the cache knows"
attach
cd mnt
lazily
mlfs materialize ${cache:+--cache "$cache"} also >"$IO/out"
printed "made 1 output real: 1.9 MB"
same "$(unreal)" "./big "
mlfs materialize ${cache:+--cache "$cache"} . >"$IO/out"
grep -q "^made 1 output real" "$IO/out" || fail "the rest"
same "$(unreal)" ""
lazily
mlfs materialize ${cache:+--cache "$cache"} --json "$top/src/big" >"$IO/out"
grep -q '"made": *1' "$IO/out" || fail "past the mount"
same "$(unreal)" "./also "
same "$(cksum <big)" "$seed" "seen in the mount"
lazily
cd "$top"
kill -KILL "$(server_of_mount)"
wait_for mlfs umount mnt
mlfs exec ${cache:+--cache "$cache"} true
same "$(unreal)" "" "before a step runs there is no mount, and all is real"
attach
(cd mnt && lazily)
kill -KILL "$(server_of_mount)"
wait_for mlfs umount mnt
mv src/big src/moved
mlfs materialize ${cache:+--cache "$cache"} >"$IO/out"
grep -q "^made 2 outputs real" "$IO/out" || fail "with no mount"
same "$(unreal)" ""
cmp src/moved src/seed || fail "what was moved"
rm src/moved
status=0
mlfs materialize ${cache:+--cache "$cache"} nowhere 2>/dev/null || status=$?
same "$status" 1 "status where there is nothing"

say "a damaged object is an error, never other bytes"
attach
cd mnt
lazily
chmod u+w "$(object)"
printf Y | dd of="$(object)" bs=1 seek=33333 conv=notrunc 2>/dev/null
! cat big >/dev/null 2>"$IO/err" || fail "a damaged one can be read"
grep -q "Input/output error" "$IO/err" || fail "it is not said"
mlfs fsck ${cache:+--cache "$cache"} >"$IO/out" && fail "fsck finds nothing"
grep -q "placeholder .*big" "$IO/out" || fail "fsck does not say which"
same "$(cksum <also)" "$also" "the other one"
bin/make # the step makes it anew
ran 12
same "$(cksum <big)" "$seed"
cmp ../src/big seed || fail "made anew"

say "without"
cd "$top"
mlfs umount mnt
for how in --no-lazy "-o no-lazy"; do
	# shellcheck disable=SC2086
	attach $how
	rm -f mnt/big mnt/also
	(cd mnt && bin/make)
	ran 12
	same "$(unreal)" "" "with $how"
	mlfs umount mnt
done
echo 'no-lazy = yes' >src/.mlfs.conf
attach
rm -f mnt/big mnt/also
(cd mnt && bin/make)
ran 12
same "$(unreal)" "" "with a file of settings"
rm src/.mlfs.conf

is_root || exit 0
cd mnt
say "what it may be"
chmod 1777 .
ada=54321
bob=54322
as()
{
	who=$1
	shift
	setpriv --reuid "$who" --regid "$who" --clear-groups env HOME=/nonexistent "$@"
}
chmod 711 "$WITNESS/.." "$WITNESS" 2>/dev/null || :
chmod 777 "$WITNESS/ran"
rm -f big also small
as $ada bin/make
rm -f big also small
as $ada bin/make
ran 13
same "$(unreal)" "./also ./big "
same "$(stat -c '%u %a' big also | tr '\n' ' ')" "$ada 644 $ada 640 "
cmp big seed || fail "as root"
as $bob cmp big seed || fail "as another user"
! as $bob cat also >/dev/null 2>&1 || fail "another user reads what its mode forbids"
! as $bob sh -c 'echo >>big' 2>/dev/null || fail "another user writes to it"
as $bob mkdir bob
as $bob sh -c 'cd bob && cp -r ../bin ../seed . && cat ../big >seen'
cmp bob/seen seed || fail "another user's copy"
as $bob ln -s bob/seed mine
rm mine
rm -f sum
as $bob bin/use || fail "a step of another user"
same "$(unreal)" "" "another user's step"
same "$(stat -c '%u %a' ../src/big ../src/also | tr '\n' ' ')" "$ada 644 $ada 640 " "owner of real ones"

say "a link by hand gives nobody what is not his"
rm -f big also small
as $ada bin/make
rm -f big also small
as $ada bin/make
target=$(readlink ../src/also)
name=${target#/.mlfs-lazy/1/}
name=${name%%/*}
! as $bob ln -s "$target" bob/forged 2>"$IO/err" || fail "made in the mount"
grep -q "Operation not permitted" "$IO/err" || fail "why not"
as $bob ln -s "$target" "$top/src/bob/forged"
wait_for [ -f bob/forged ]
! as $bob cat bob/forged >/dev/null 2>&1 || fail "a link to another's object"
# In his own cache: a link, or another name, of somebody's object.
there=$(printf %s "$name" | cut -c1-2)/$(printf %s "$name" | cut -c3-)
as $bob mkdir -p "$cache/users/$bob/cas/${there%%/*}" 2>/dev/null || :
chmod 755 "$cache/users/$ada"
as $bob ln -s "$cache/users/$ada/cas/$there" "$cache/users/$bob/cas/$there"
! as $bob cat bob/forged >/dev/null 2>&1 || fail "through a link in his own cache"
rm -f "$cache/users/$bob/cas/$there"
ln "$cache/users/$ada/cas/$there" "$cache/users/$bob/cas/$there"
! as $bob cat bob/forged >/dev/null 2>"$IO/err" || fail "by another name of it in his own cache"
rm -f "$cache/users/$bob/cas/$there"
chmod 700 "$cache/users/$ada"
for bad in "/.mlfs-lazy/1/$name" "/.mlfs-lazy/1/$name/00/12/644" "${target%/*}/7777" "${target%/*}/0640" \
	"/.mlfs-lazy/2/${target#/.mlfs-lazy/1/}" "$target/" "/.mlfs-lazy/1/../../etc/passwd"; do
	as $bob ln -sfn "$bad" bob/garbled || fail "a link to '$bad'"
	[ -L bob/garbled ] || fail "'$bad' is shown as something else than a link"
	same "$(readlink bob/garbled)" "$bad"
done
as $bob ln -s "/.mlfs-lazy/1/$(printf %064d 0)/$(printf %032d 0)/99999999999/4755" bob/suid
[ -L bob/suid ] || fail "a set-id bit"
# A record that leads nowhere, or to somebody else's.
as $bob mkdir -p "$cache/users/$bob/lazy/$name"
as $bob ln -s "$top/src//also" "$cache/users/$bob/lazy/$name/1-1"
as $bob ln -s "$top/src//../../etc/passwd" "$cache/users/$bob/lazy/$name/1-2"
bin/list || fail "root's step"
same "$(stat -c '%u %a' ../src/also)" "$ada 640" "what ada had"
cd "$top"
mlfs umount mnt
cmp src/big src/seed || fail "what ada had"
same "$(find "$cache/users/$bob/lazy" -type l)" "" "records that lead nowhere"
attach
cd mnt

say "a step of another user makes real what it may look at"
rm -rf big also small bob
as $ada bin/make
rm -rf big also small
as $ada bin/make
as $bob mlfs exec --cache "$cache/users/$bob" sh -c 'stat -c %s also; cat also || echo "no right"; cksum <big' \
	>"$IO/out" 2>/dev/null || fail "bob's step"
printed "2000000
no right
$seed"
same "$(stat -c '%u %a' ../src/big ../src/also | tr '\n' ' ')" "$ada 644 $ada 640 " "owner of real ones"
as $ada rm -f big also
as $ada bin/make
mkdir shut
mv also shut
chmod 700 shut
! as $bob mlfs exec --cache "$cache/users/$bob" cat shut/also >/dev/null 2>&1 || fail "a directory that is shut"
same "$(unreal)" "./big ./shut/also " "where another user may not look"
rm -r shut

say "where there is no room to make it real, a step is told"
cd "$top"
mlfs umount mnt
mkdir full
mount -t tmpfs -o size=12m none full
trap 'cd "$top"; mlfs umount -l mnt 2>/dev/null || :; umount -l full' EXIT
cp -r src/bin full/
head -c 5000000 src/seed >full/seed
mlfs mount --cache "$cache" --step 'bin/*' full mnt
cd mnt
bin/pick a
rm picked
bin/pick a
[ -L ../full/picked ] || fail "it is real"
dd if=/dev/zero of=fill bs=64k 2>/dev/null || :
truncate -s -200000 fill
status=0
step cat picked >"$IO/out" 2>"$IO/err" || status=$?
same "$status" 1 "status"
same "$(cat "$IO/err")" "mlfs: cannot make $PWD/picked real: No space left on device
cat: picked: No space left on device"
printed ""
[ -L ../full/picked ] || fail "there was room"
same "$(ls -A ../full | tr '\n' ' ')" "bin fill picked seed " "what is left"
rm fill
step cat picked >"$IO/out"
same "$(cksum <"$IO/out")" "$({ echo a; head -c 2000000 seed; } | cksum)" "what the step read"
