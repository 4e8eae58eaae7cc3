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
	mlfs umount -l mnt 2>/dev/null || :
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
	find "$own/cas" -type f -size +"$((mb * 900))k"
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
same "$(unreal)" "" "before a step runs all is made real"
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

say "while a step runs, hits leave real files"
bin/wait &
read -r line <"$WITNESS/up"
same "$(unreal)" ""
rm -f big also
bin/make
ran 3
same "$(unreal)" "" "of a hit beside a step"
echo >"$WITNESS/go"
wait
lazily

say "a step elsewhere keeps nobody from unmounting"
cd "$top"
# shellcheck disable=SC2016
mlfs exec ${cache:+--cache "$cache"} sh -c 'echo up >"$WITNESS/up"; read -r line <"$WITNESS/go"' &
read -r line <"$WITNESS/up"
if is_root; then umount mnt; else fusermount3 -u mnt; fi || fail "the mount is in use"
echo >"$WITNESS/go"
wait
attach
cd mnt

say "also of a step that a killed server knew of"
bin/wait 2 &
read -r line <"$WITNESS/up"
cd "$top"
kill -KILL "$(mlfs status --json mnt | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
wait_for mlfs umount mnt
attach
cd mnt
rm -f big also
bin/make
ran 3
same "$(unreal)" "" "of a hit beside a step that goes on"
echo >"$WITNESS/go"
wait
lazily

say "the first write makes it real, and leaves the object alone"
echo more >>big
same "$(unreal)" "./also " "the other one stays"
same "$(stat -c %s ../src/big)" "$((mb * 1000000 + 5))" "its size"
same "$(head -c "${mb}000000" big | cksum)" "$seed" "what was in it"
same "$(cksum <"$(object)")" "$whole" "the object"
bin/make
ran 4
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
bin/build
rm tool
bin/build
ran 5
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
ran 7
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
ran 8
same "$(unreal)" "" "all is real before a step runs"
cmp elsewhere/there seed || fail "what was moved"
same "$(kept)" 0
rm -r elsewhere

say "a new server serves on, whatever became of the last one"
lazily
cd "$top"
pid=$(mlfs status --json mnt | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
kill -KILL "$pid"
wait_for mlfs umount mnt
same "$(unreal)" "./also ./big "
attach
cd mnt
cmp big seed || fail "served by a new server it has other bytes"
bin/make
ran 8
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
ran 9
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
kill -KILL "$(mlfs status --json mnt | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
wait_for mlfs umount mnt
mlfs exec ${cache:+--cache "$cache"} true
same "$(unreal)" "" "before a step runs there is no mount, and all is real"
attach
(cd mnt && lazily)
kill -KILL "$(mlfs status --json mnt | $python -c 'import json, sys; print(json.load(sys.stdin)["pid"])')"
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
ran 10
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
	ran 10
	same "$(unreal)" "" "with $how"
	mlfs umount mnt
done
echo 'no-lazy = yes' >src/.mlfs.conf
attach
rm -f mnt/big mnt/also
(cd mnt && bin/make)
ran 10
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
ran 11
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
cmp ../src/big seed || fail "what ada had"
same "$(find "$cache/users/$bob/lazy" -type l)" "" "records that lead nowhere"

say "who has leave to make placeholders, and takes his time, does not stop others"
rm -rf big also small bob
as $bob $python -c '
import fcntl, os, sys
fd = os.open(".", os.O_RDONLY)
assert fcntl.ioctl(fd, 0x6de1) == 1
os.write(1, b"up\n")
sys.stdin.read()
' <"$WITNESS/go" >"$WITNESS/up" &
exec 4>"$WITNESS/go"
read -r line <"$WITNESS/up"
same "$line" up "leave"
as $ada bin/make
same "$(unreal)" "./also ./big " "a hit of another"
bin/list anew
same "$(unreal)" "" "before a step runs"
as $ada rm big
as $ada bin/make
same "$(unreal)" "./big " "a hit after it"
exec 4>&-
wait

say "where there is no room to make it real, a step runs plainly in the mount"
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
bin/read >"$IO/out" 2>"$IO/err" || fail "it fails"
[ -L ../full/picked ] || fail "there was room"
grep -q "outputs in a mount cannot be made real; running uncached" "$IO/err" || fail "it is not told"
same "$(cat "$IO/out")" "$({ echo a; head -c 2000000 seed; } | cksum)" "what the step read"
