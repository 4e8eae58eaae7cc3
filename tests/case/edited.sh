#!/bin/sh
# SPDX-License-Identifier: MIT
# Others edit what a step reads, while it runs, at each point and in each way, most of them with the times set
# back: such a run is not stored; and whatever is stored is what the step makes of the files as they then are.
. "$(dirname "$0")/lib.sh"

mkfifo "$WITNESS/at" "$WITNESS/go"
# Does what its arguments say, one after the other. At "stop" it waits for the editor, if there is one.
cat >step.sh <<'END'
for op in "$@"; do
	name=${op#*:}
	case $op in
	stop) [ ! -e "$WITNESS/editing" ] || { echo x >"$WITNESS/at"; read -r x <"$WITNESS/go"; } ;;
	# The server is stopped while the step ends (the code for that is in memory then); the editor lets it go on.
	end)
		(exit 0)
		if [ -e "$WITNESS/editing" ]; then
			echo $$ $PPID >"$WITNESS/at"
			kill -STOP $PPID
		fi
		exit 0
		;;
	# Within a second it sees what others did.
	mode:*) while [ -e "$WITNESS/editing" ] && [ "$(stat -c %a "$name")" != 700 ]; do sleep 0.05; done ;;
	name:*) while [ -e "$WITNESS/editing" ] && ! ls "${name%/*}" | grep -qx "${name##*/}"; do sleep 0.05; done ;;
	look:*) if [ -e "$name" ]; then echo there; else echo none; fi ;;
	read:*) if read -r x <"$name"; then echo "$x"; else echo none; fi ;;
	open:*) exec 3<"$name" ;;
	first) dd bs=4096 count=1 status=none <&3 | cksum ;;
	rest) cksum <&3 ;;
	list:*) ls "$name" ;;
	link:*) readlink "$name" ;;
	stat:*) stat -c '%a %s %F' "$name" ;;
	esac
done 2>/dev/null
END

# The world that the edits start from. Its times are old, so that nothing about them is doubtful.
world()
{
	rm -rf w
	mkdir w w/d w/other
	echo A >w/f
	seq 20000 >w/big
	echo A >w/d/f
	echo B >w/other/f
	ln -s f w/l
	find w -exec touch -h -d '2020-01-01' {} +
}

# Now it is as it is, a run prints what it prints natively, whether it is a hit or not.
right_now()
{
	sh step.sh "$@" >native.out
	step --salt $n -- sh step.sh "$@"
	same "$(cat "$IO/out")" "$(cat native.out)" "what a $r_result printed"
}

# try WANTED "EDIT…" OP…: at the Nth stop the Nth edit is made. WANTED: refused, stored, or any.
try()
{
	wanted=$1 edits=$2
	shift 2
	n=$((${n:-0} + 1)) # each try is a step of its own
	say "$wanted: $edits: $*"
	world
	: >"$WITNESS/editing"
	mlfs exec --salt $n --report "$IO/report" -- sh step.sh "$@" >"$IO/out" 2>"$IO/err" &
	pid=$!
	for edit in $edits; do
		await at
		case $line in
		*' '*) wait_for grep -q '^State:.Z' "/proc/${line% *}/status" ;;
		esac
		at=$line
		$edit
		case $at in
		*' '*) kill -CONT "${at#* }" ;;
		*) echo x >"$WITNESS/go" ;;
		esac
	done
	wait $pid || fail "status $? of: $*"
	rm "$WITNESS/editing"
	stored=$(sed -n 's/.*"stored": *\([a-z]*\).*/\1/p' "$IO/report")
	case $wanted in
	refused)
		same "$stored" false "stored"
		grep -q 'another process' "$IO/report" || fail "another reason than wanted"
		;;
	stored) same "$stored" true "stored" ;;
	esac
	right_now "$@"
	world
	right_now "$@"
}

nothing()
{
	:
}

# change FILE COMMAND…: with the times as they were
change()
{
	file=$1
	shift
	touch -r "$file" "$IO/times"
	"$@"
	touch -r "$IO/times" "$file"
}

write()
{
	echo "$1" >"$2"
}

poke()
{
	printf X | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

to_B() { change w/f write B w/f; }
to_A() { change w/f write A w/f; }
there_and_back() { to_B; to_A; }
big_end() { change w/big poke w/big 100000; }
big_start() { change w/big poke w/big 5; }
big_back() { touch -r w/big "$IO/times"; seq 20000 >w/big; touch -r "$IO/times" w/big; }
swap() { touch -r w/f "$IO/times"; mv w/f w/other/saved; echo B >w/f; touch -r "$IO/times" w/f; }
unswap() { mv -f w/other/saved w/f; }
take_away() { mv w/f w/other/saved; }
chmod_f() { chmod 600 w/f; }
unchmod_f() { chmod 644 w/f; }
chmod_d() { chmod 700 w/d; }
unchmod_d() { chmod 755 w/d; }
appear() { echo new >w/new; }
vanish() { rm w/new; }
retarget() { ln -sfn other/f w/l; }
untarget() { ln -sfn f w/l; }
retarget_and_save() { mv w/l w/other/saved; ln -s other/f w/l; }
untarget_saved() { mv -f w/other/saved w/l; }
more() { echo x >w/d/more; }
less() { rm w/d/more; }
away() { mv w/d w/other/away; }
back() { mv w/other/away w/d; }
exchange() { mv w/d w/away; mv w/other w/d; }
unexchange() { mv w/d w/other; mv w/away w/d; }

# Content. What was there before the first look is what the step finds; nothing is wrong with that.
try stored to_B stop read:w/f
try refused to_B look:w/f stop read:w/f
try refused to_B read:w/f stop
try refused to_B read:w/f end
try refused there_and_back look:w/f stop read:w/f
try refused "to_B to_A" look:w/f stop read:w/f stop
try refused "to_B to_A" read:w/f stop read:w/f stop
try refused there_and_back read:w/f end
try refused "nothing to_B" read:w/f stop look:w/f end
# Between two reads of one file.
try refused big_end open:w/big first stop rest
try refused "big_end big_back" open:w/big first stop rest stop
try refused big_start open:w/big first stop rest
try refused big_end stat:w/big stop
# Replaced by a rename, and renamed back.
try refused swap look:w/f stop read:w/f
try refused "swap unswap" look:w/f stop read:w/f stop
try refused "swap unswap" stop read:w/f stop
try refused "swap unswap" read:w/f stop stop
try refused take_away read:w/f stop
try refused "take_away unswap" read:w/f stop stop
try refused "take_away unswap" stop look:w/f stop
# Modes.
try refused chmod_f stat:w/f stop
try refused "chmod_f unchmod_f" look:w/f stop stat:w/f stop
try refused chmod_d stat:w/d stop
try refused "chmod_d unchmod_d" stop stat:w/d stop
try refused "chmod_d unchmod_d" stat:w/d stop mode:w/d stop
# A name that appears.
try refused appear look:w/new stop
try refused "appear vanish" stop look:w/new stop
try stored "appear vanish" look:w/new stop stop
# Links.
try refused retarget link:w/l stop
try refused retarget read:w/l end
try refused "retarget untarget" look:w/l stop link:w/l stop
try refused "retarget untarget" stop link:w/l stop
try refused "retarget untarget" stop read:w/l stop
try refused "retarget_and_save untarget_saved" stop link:w/l stop
# Listings. What came and went unseen did no harm.
try refused more list:w/d stop
try refused more list:w/d end
try refused "more less" stop list:w/d stop
try refused "more less" list:w/d stop name:w/d/more stop
try stored "more less" list:w/d stop stop
# Directories.
try refused away read:w/d/f stop
try refused "away back" stop look:w/d/f stop
try any "away back" read:w/d/f stop stop
try refused "exchange unexchange" stop read:w/d/f stop
try refused "exchange unexchange" look:w/d stop read:w/d/f stop

say "a store through a mapping shows in no time"
cat >mapper.py <<'END'
import mmap, os, sys
f = open('w/f', 'r+b')
m = mmap.mmap(f.fileno(), 2)
m[0:1] = b'A'
f.close()
print('mapped', flush=True)
for line in sys.stdin:
    before = os.stat('w/f')
    m[0:1] = line[:1].encode()
    # The times show the first store after the page was written to disk, which anybody's sync(2) does.
    print('silent' if before.st_ctime_ns == os.stat('w/f').st_ctime_ns else 'seen', flush=True)
END
# Did it show in no time?
store()
{
	echo "$1" >&8
	read -r said <&9
	[ "$said" = silent ]
}
world
mkfifo "$WITNESS/ask" "$WITNESS/say"
$python -I -B mapper.py <"$WITNESS/ask" >"$WITNESS/say" &
mapper=$!
exec 8>"$WITNESS/ask" 9<"$WITNESS/say"
read -r said <&9
same "$said" mapped
# The step is not to be given these.
being_stored()
{
	not_stored '*w/f was read while another process had it open for writing*' "$@" 8>&- 9<&-
}
for other in B A B A B A none; do
	[ $other != none ] || fail "each store showed in the times"
	being_stored -- sh step.sh read:w/f
	silent=no
	store $other && silent=yes
	being_stored -- sh step.sh read:w/f
	printed $other
	[ $silent = no ] || break
done
being_stored -- mlfs exec --report "$WITNESS/inner" -- sh step.sh read:w/f
grep -q 'another process had it open for writing' "$WITNESS/inner" || fail "an mlfs inside did not notice: $(cat "$WITNESS/inner")"
for other in B A B A B A none; do
	[ $other != none ] || fail "each store showed in the times"
	miss --refresh -- sh step.sh stat:w/f 8>&- 9<&- # which says nothing of its content
	! store $other || break
done
hit -- sh step.sh stat:w/f 8>&- 9<&-
store A || :
exec 8>&- 9<&-
wait $mapper
miss -- sh step.sh read:w/f
printed A
hit -- sh step.sh read:w/f

say "nor does one make a stale hit"
mkfifo "$WITNESS/ask2"
$python -I -B mapper.py <"$WITNESS/ask2" >"$WITNESS/say" &
mapper=$!
exec 8>"$WITNESS/ask2" 9<"$WITNESS/say"
read -r said <&9
store A || : # which makes it likely that the next shows in no time
for n in 1 2; do
	hit -- sh step.sh read:w/f 8>&- 9<&-
done
store B || :
being_stored -- sh step.sh read:w/f
printed B
exec 8>&- 9<&-
wait $mapper
miss -- sh step.sh read:w/f
printed B

if is_root; then
	say "the step itself, by a way past the view"
	echo A >w/f
	not_stored '*another process*' -- sh -c "read -r x <w/f; echo B >/proc/$$/root$PWD/w/f; echo \$x"
	printed A
fi
