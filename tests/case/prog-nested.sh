#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs in a step of mlfs: the inner cache works, and what the inner step depends on the outer one does, too, whether the
# inner one was run or was a hit.
. "$(dirname "$0")/lib.sh"

# inner WORD: what became of the inner step; "": there was none
inner()
{
	got=''
	if [ -e "$WITNESS/inner" ]; then
		got=$(sed 's/.*"result": *"\([a-z]*\)", *"stored": *\([a-z]*\).*/\1 \2/' "$WITNESS/inner")
		rm "$WITNESS/inner"
	fi
	case $got in
	"$1"*) ;;
	*) fail "the inner step: '$got', want '$1'" ;;
	esac
	[ -n "$1" ] || same "$got" ""
}
settled()
{
	wait_for sh -c "[ \$(date +%s) -gt \$((\$(stat -c %Z '$1') + 2)) ]"
}
# Other bytes, the same size and mtime.
edit_unseen()
{
	touch -r "$1" ref
	printf x | dd of="$1" conv=notrunc bs=1 seek=1 2>/dev/null
	touch -r ref "$1"
}

mkdir dir
echo data >in
head -c 17000000 /dev/zero >big # more than is digested for having been looked at
echo 1 >dir/1
cat >inner.sh <<'END'
mark
cat in
cksum <big
ls dir
cp in out
END
cat >outer.sh <<'END'
mlfs exec --report "$WITNESS/inner" -- sh inner.sh
echo outer >>out.outer
END
rm -f out.outer

say "both are run; the outer hit brings what the inner step left"
miss -- sh outer.sh
inner "miss true"
ran 1
rm out out.outer
hit -- sh outer.sh
inner ""
same "$(cat out out.outer)" "data
outer"
ran 1

say "an input of the inner step changes"
echo other >in
rm out.outer
miss_because "in changed*" -- sh outer.sh
inner "miss true"
ran 2
same "$(cat out)" other

say "recorded with an inner hit, and one whose inputs were only looked at (the way a second hit goes)"
settled dir
mlfs exec -- sh inner.sh >/dev/null
mlfs exec -- sh inner.sh >/dev/null
ran 2
rm out.outer
for salt in 1 2 3 hit; do
	miss --salt $salt -- sh outer.sh
	inner hit
	rm out.outer
done
hit --salt hit -- sh outer.sh
inner ""
ran 2
for file in big in; do
	say "unseen edit of $file"
	edit_unseen $file
	rm out.outer
	miss_because "$file changed*" --salt hit -- sh outer.sh
	inner "miss true"
done
ran 4
say "a new name in a directory that the inner step listed"
settled out
for salt in 4 5 6 list; do
	rm out.outer
	miss --salt $salt -- sh outer.sh
	inner hit
done
echo 2 >dir/2
rm out.outer
miss_because "*dir changed*" --salt list -- sh outer.sh
inner "miss true"
ran 5
say "something at a place where nothing was"
miss --salt absent -- mlfs exec -- sh -c 'mark; [ -e absent ] || echo absent'
miss --salt absent2 -- mlfs exec -- sh -c 'mark; [ -e absent ] || echo absent'
hit --salt absent2 -- mlfs exec -- sh -c 'mark; [ -e absent ] || echo absent'
ran 6
echo x >absent
miss --salt absent2 -- mlfs exec -- sh -c 'mark; [ -e absent ] || echo absent'
ran 7
say "a file as its standard input"
settled big
for salt in a b; do
	miss --salt $salt -- sh -c 'mlfs exec --report "$WITNESS/inner" -- cksum <big'
	hit --salt $salt -- sh -c 'mlfs exec --report "$WITNESS/inner" -- cksum <big'
done
inner hit
printf y | dd of=big conv=notrunc bs=1 seek=9 2>/dev/null
touch -r ref big
miss --salt b -- sh -c 'mlfs exec --report "$WITNESS/inner" -- cksum <big'
inner "miss true"

say "three deep"
three()
{
	"$@" -- mlfs exec -- mlfs exec --report "$WITNESS/inner" -- sh -c 'mark; cat in >three'
}
three miss
inner "miss true"
three hit
inner ""
rm three
three hit
echo third >in
three miss_because "in changed*"
same "$(cat three)" third
inner "miss true"
ran 9

say "the inner one's exit status, its not being stored, --no-cache"
rm -f "$WITNESS/inner"
not_stored "*status was 3" =3 -- mlfs exec -- sh -c 'cat in; exit 3'
miss -- sh -c 'mlfs exec --report "$WITNESS/inner" -- sh -c "cat in; exit 3" || echo $?'
inner "miss false"
hit -- sh -c 'mlfs exec --report "$WITNESS/inner" -- sh -c "cat in; exit 3" || echo $?'
printed "third
3"
miss -- mlfs exec --no-cache -- sh -c 'cat in >plain'
rm plain
hit -- mlfs exec --no-cache -- sh -c 'cat in >plain'
same "$(cat plain)" third
say "what depends on the cache's state is not stored"
not_stored "*--only-if-cached" -- sh -c 'mlfs exec --only-if-cached -- sh -c "cat in; echo never" 2>&1 || echo no'
mlfs exec -- sh -c "cat in; echo never" >/dev/null
not_stored "*--only-if-cached" -- sh -c 'mlfs exec --only-if-cached -- sh -c "cat in; echo never" 2>&1 || echo no'
printed "third
never"

say "network use counts for all of them"
cat >net.py <<'END'
import socket
print(socket.socket().connect_ex(("127.0.0.1", 1)))
END
not_stored "network was used*" -- mlfs exec -- mlfs exec --report "$WITNESS/inner" -- $python net.py
inner "miss false"
miss --allow-network -- mlfs exec --report "$WITNESS/inner" -- $python net.py
inner "miss false"

say "a step that runs itself"
cat >itself.sh <<'END'
n=$(($(cat "$WITNESS/depth") - 1))
echo $n >"$WITNESS/depth"
[ $n -eq 0 ] || exec timeout 60 mlfs exec -- sh itself.sh
echo deepest
END
echo 4 >"$WITNESS/depth"
step -- sh itself.sh
printed deepest
say "two that run each other"
cat >one.sh <<'END'
n=$(($(cat "$WITNESS/depth") - 1))
echo $n >"$WITNESS/depth"
[ $n -le 0 ] || exec timeout 60 mlfs exec -- sh two.sh
echo deepest
END
sed 's/two.sh/one.sh/' one.sh >two.sh
echo 6 >"$WITNESS/depth"
step -- sh one.sh
printed deepest

say "no waiting in a circle: a step whose key comes before that of the one around is not waited for"
mkfifo "$WITNESS/ready" "$WITNESS/go"
cat >circle.sh <<'END'
if [ -e "$WITNESS/held" ]; then
	echo beside
else
	: >"$WITNESS/held"
	echo r >"$WITNESS/ready"
	read -r x <"$WITNESS/go"
fi
END
key_of()
{
	rm -f "$WITNESS/key"
	mlfs exec --only-if-cached --report "$WITNESS/key" "$@" 2>/dev/null || true
	sed 's/.*"step_key": *"\([0-9a-f]*\)".*/\1/' "$WITNESS/key"
}
outer=$(key_of -- timeout 60 mlfs exec --salt 1 -- sh circle.sh)
salt=1
while [ "$(printf '%s\n%s\n' "$(key_of --salt $salt -- sh circle.sh)" "$outer" | sort | head -n 1)" = "$outer" ]; do
	salt=$((salt + 1))
	outer=$(key_of -- timeout 60 mlfs exec --salt $salt -- sh circle.sh)
done
mlfs exec --salt $salt -- sh circle.sh &
holder=$!
await ready
step -- timeout 60 mlfs exec --salt $salt -- sh circle.sh
printed beside
echo x >"$WITNESS/go"
wait $holder

say "signals reach the innermost command"
cat >trap.sh <<'END'
trap 'echo "got TERM"; exit 7' TERM
echo ready >"$WITNESS/ready"
while :; do
	sleep 0.05
done
END
mlfs exec -- mlfs exec -- sh trap.sh >"$IO/out" &
pid=$!
await ready
kill -TERM $pid
status=0
wait $pid || status=$?
same $status 7
printed "got TERM"

say "another cache: the default one is seen natively"
mlfs exec --cache "$HOME/outer" -- true
settled in
run_other()
{
	"$@" --cache "$HOME/outer" -- mlfs exec --report "$WITNESS/inner" -- sh -c 'mark; cat in >other'
}
run_other miss
inner "miss true"
run_other hit
inner ""
rm other
run_other miss --salt again
inner hit
run_other hit --salt again
edit_unseen in
run_other miss --salt again
inner "miss true"
ran 11
say "one that only the inner step knows is not to be used there"
mlfs exec --cache "$PWD/third" -- true
before=$(tree third)
miss -- sh -c 'mlfs exec --cache "$PWD/third" --report "$WITNESS/inner" -- cat in'
inner uncached
matches "$(cat "$IO/err")" "mlfs: cannot use the cache */third in a step of another mlfs*"
same "$(tree third)" "$before"
miss -- sh -c 'mlfs exec --cache "$PWD/fourth/cache" --report "$WITNESS/inner" -- cat in'
inner uncached
[ ! -e fourth ] || fail "made"
