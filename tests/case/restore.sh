#!/bin/sh
# SPDX-License-Identifier: MIT
# time limit: 300
# Outputs that are gone, many at once, in a directory that is there and in one that is gone as well: few calls for each,
# nothing half done and nothing left when it fails or is killed, whatever the file system can.
. "$(dirname "$0")/lib.sh"

command -v strace >/dev/null || skip "strace is not installed"
strace -o "$IO/strace" true 2>/dev/null || skip "processes cannot be traced here"

files=80
cat >step.sh <<'END'
mark
mkdir new new/a new/a/b new/a/shut
i=0
while [ $((i += 1)) -le "$1" ]; do
	echo "new $i" >new/$i
	echo "deep $i" >new/a/b/$i
	echo "here $i" >here/$i
done
echo changed >here/old
chmod 600 new/1
chmod 755 here/1
ln new/2 new/a/b/second
ln -s 2 new/link
ln -s 2 here/link
echo in it >new/a/shut/file
head -c 100000 /dev/zero >new/large
chmod 500 new/a/shut
chmod 2755 new/a
END

# Everything that the step made gone; aside, since deleting makes the next files slow on ext4.
n=0
clear()
{
	n=$((n + 1))
	mkdir -p aside/$n
	[ ! -e new ] || mv new aside/$n/
	[ ! -e here ] || mv here aside/$n/
	mkdir here
	echo before >here/old
}

litter()
{
	same "$(find . -path ./aside -prune -o -name '.mlfs-*' -print)" "" "left behind by $1"
}

right()
{
	[ "$(tree new) $(tree here)" = "$made" ] || fail "what stands there is wrong: $1"
	same "$(stat -c %a new/1 here/1 new/a new/a/shut | tr '\n' ' ')" "600 755 2755 500 " "modes: $1"
	same "$(stat -c %h new/2)" 2 "names of one file: $1"
	litter "$1"
}

clear
miss -- sh step.sh $files
made="$(tree new) $(tree here)"
right "the step"
# With what stood at here/old when it was recorded, and with what the step left there.
clear
hit -- sh step.sh $files
right "a hit"
hit -- sh step.sh $files

calls()
{
	strace -f -qq -o "$IO/strace" mlfs exec --only-if-cached -- sh step.sh $files >/dev/null
	grep -c '(' "$IO/strace"
}

say "calls for each"
in_place=$(calls)
dirs=$(grep -c 'mkdirat(' "$IO/strace") # the cache's own
clear
gone=$(calls)
right "counted"
per=$(((gone - in_place) * 10 / (3 * files)))
say "in place $in_place, gone $gone: $per tenths of a call for each file"
[ $per -ge 40 ] || fail "that cannot be: each is opened, written to, given its time and closed"
[ $per -le 85 ] || fail "too many calls for each file"

# injected WHAT OPTION…: a hit in spite of it.
injected()
{
	what=$1
	shift
	clear
	strace -f -qq -o "$IO/strace" "$@" mlfs exec --only-if-cached -- sh step.sh $files >"$IO/out" 2>&1 ||
		fail "no hit with $what: $(cat "$IO/out")"
	grep -q INJECTED "$IO/strace" || fail "$what: nothing was injected"
	right "$what"
}

say "a file system that cannot do this or that"
injected "renames that always replace" -e inject=renameat2:error=EINVAL
injected "the directory there meanwhile" -e inject=renameat2:error=EEXIST:when=1
injected "no directory to make things in" -e inject=mkdirat:error=EACCES:when=$((dirs + 1))+
ran 1

# strace counts the calls of each thread, of which there may be two.
say "failures"
for fault in pwrite64:error=ENOSPC:when=20 pwrite64:error=ENOSPC:when=90 utimensat:error=EIO:when=80 \
	mkdirat:error=ENOSPC:when=$((dirs + 3)) linkat:error=EPERM:when=1 symlinkat:error=ENOSPC:when=2; do
	clear
	if strace -f -qq -o "$IO/strace" -e inject="$fault" mlfs exec --only-if-cached -- sh step.sh $files \
		>"$IO/out" 2>&1; then
		grep -q INJECTED "$IO/strace" || fail "$fault: nothing was injected"
		fail "a hit with $fault"
	fi
	[ ! -e new ] || fail "half of new is there after $fault"
	same "$(ls -A here) $(cat here/old)" "old before" "here after $fault"
	litter "$fault"
done

say "killed"
for call in mkdirat:$((dirs + 1)) mkdirat:$((dirs + 3)) openat:90 pwrite64:90 utimensat:90 linkat:1 \
	renameat2:1 renameat2:2 renameat2:60 rmdir:1; do
	clear
	strace -f -qq -o "$IO/strace" -e inject="${call%:*}":signal=KILL:when="${call#*:}" \
		mlfs exec --only-if-cached -- sh step.sh $files >"$IO/out" 2>&1 || true
	grep -q 'killed by SIGKILL' "$IO/strace" || fail "$call: it was not killed"
	mlfs exec --only-if-cached -- true 2>/dev/null || true # tidies up
	litter "$call"
	for file in new/[0-9]* here/[0-9]*; do
		[ ! -e "$file" ] || same "$(cat "$file")" "$(echo "$file" | tr / ' ')" "torn by $call"
	done
done
clear
hit -- sh step.sh $files
right "after all"
ran 1

say "an object is gone"
clear
rm -r "$MLFS_CACHE/cas"
mkdir -m 700 "$MLFS_CACHE/cas"
step =125 --only-if-cached -- sh step.sh $files
[ ! -e new ] || fail "half of new is there"
same "$(ls -A here) $(cat here/old)" "old before" "here without an object"
litter "an object that is gone"
miss -- sh step.sh $files
right "without an object"
ran 2

say "a large file that was placed is not read by the next hit, and what is done to it is seen"
# Times that show each change, however soon it comes: multigrain timestamps.
exact()
{
	release=$(uname -r)
	minor=${release#*.}
	minor=${minor%%[!0-9]*}
	case $(stat -f -c %T .) in ext2/ext3 | xfs | btrfs | tmpfs) ;; *) return 1 ;; esac
	[ "${release%%.*}" -gt 6 ] || { [ "${release%%.*}" -eq 6 ] && [ "$minor" -ge 13 ]; }
}
cat >large.sh <<'END'
head -c 2000000 /dev/zero | tr '\0' x >large
END
large()
{
	mlfs exec --only-if-cached -- sh large.sh 2>/dev/null
}
change()
{
	printf y | dd of=large conv=notrunc bs=1 seek=77 status=none
}
mlfs exec -- sh large.sh
rm large
large
# In the tick of the clock in which it was placed.
change
! large || fail "a change right after it was not seen"
rm large
large
if exact; then
	strace -f -qq -o "$IO/strace" mlfs exec --only-if-cached -- sh large.sh
	! grep 'open.*large"' "$IO/strace" || fail "it was read"
	rm large
	# Nor is its object, which nobody has touched since it was written.
	strace -f -qq -o "$IO/strace" mlfs exec --only-if-cached -- sh large.sh
	! grep 'read.*262144' "$IO/strace" || fail "the object was read"
	same "$(wc -c <large)" 2000000
	# One that somebody has is, and is not given out.
	object=$(find "$MLFS_CACHE/cas" -type f -size +1000k)
	chmod u+w "$object"
	printf y | dd of="$object" conv=notrunc bs=1 seek=77 status=none
	rm large
	! large || fail "a damaged object was given out"
	mlfs exec -- sh large.sh
	rm large
	large
fi
touch -r large times
change
touch -r times large
! large || fail "a change behind the same time of modification was not seen"
