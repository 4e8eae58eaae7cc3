#!/bin/sh
# SPDX-License-Identifier: MIT
# One cache for several users of a persistent mount: the lines of "Results of others" in docs/design.md.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root: steps of several users"
top=$PWD
ada=54321  # may store
bob=54322  # may use, as everybody
carl=54323
dora=54324
group=54399
chmod 755 .
mkdir -p src/bin src/in src/dora mnt cache
mkdir -m 1777 "$WITNESS/outside" src/out
chmod 711 "$WITNESS/.." "$WITNESS" 2>/dev/null || :
export OUTSIDE="$WITNESS/outside"
for who in 0 $ada $bob $carl $dora; do
	mkdir -p "home/$who"
	chown $who "home/$who"
done
cat >src/bin/sum <<'END2'
#!/bin/sh
# FILE OUT: notes that it was really run, and by whom
echo >>"$OUTSIDE/$(id -u)"
echo "summing $1"
[ ! -e "$HOME/.no" ] || echo no >"$2"
sha256sum <"$1" >>"$2"
echo "the end" >>"$2"
END2
cat >src/bin/hide <<'END2'
#!/bin/sh
echo >>"$OUTSIDE/$(id -u)"
umask 077
cat "$1" >"$2"
END2
cat >src/bin/copy <<'END2'
#!/bin/sh
echo >>"$OUTSIDE/$(id -u)"
cat "$1" >"$2"
END2
cat >src/bin/append <<'END2'
#!/bin/sh
echo >>"$OUTSIDE/$(id -u)"
cat "$1" >>"$2"
END2
chmod 755 src/bin/*
cp src/bin/sum src/bin/alone
cp src/bin/sum src/dora/sum
chown -R $dora src/dora
for n in 1 2 3 4 5 6 7 8; do echo "common $n" >src/in/$n; done
echo secret >src/in/secret
chown $ada src/in/secret
chmod 600 src/in/secret
echo group >src/in/group
chown $ada:$group src/in/group
chmod 640 src/in/group
unset MLFS_CACHE
mlfs mount --cache "$top/cache" --step 'bin/*' --step 'dora/*' --share 'bin/*' --no-share bin/alone --share-store "$ada, 0" src mnt
trap 'cd "$top"; umount -l mnt' EXIT
cd mnt

# as USER COMMAND…
as()
{
	who=$1
	shift
	setpriv --reuid "$who" --regid "$who" --clear-groups env HOME="$top/home/$who" USER="u$who" LOGNAME="u$who" "$@"
}
# USER was asked to run N steps so far
ran_by()
{
	same "$(cat "$OUTSIDE/$1" 2>/dev/null | wc -l)" "$2" "steps run by $1"
}
# How many results USER has in his own cache
kept_by()
{
	mlfs stats --json --cache "$top/cache/users/$1" | $python -I -c 'import json, sys; print(json.load(sys.stdin)["kept_results"])'
}
# FILE was not changed for so long that what is read of it now is what is read of it later
is_settled()
{
	[ $(($(date +%s%N) - $(date -r "$1" +%s%N))) -gt 100000000 ]
}
forged()
{
	$python -I -B "$cases/mount-shared.py" "$@"
}
the_socket()
{
	echo "$top"/cache/share-*
}
the_mount()
{
	mlfs mount --list --json |
		$python -I -c 'import json, sys; print(next(m["pid"] for m in json.load(sys.stdin) if m["mountpoint"] == sys.argv[1]))' "$top/mnt"
}
# The process that serves the shared cache.
the_server()
{
	pgrep -P "$(the_mount)"
}
wait_for is_settled in/group

say "what one made who may store is a hit of another, as his own file"
as $ada bin/sum in/1 out/1 >"$IO/ada"
ran_by $ada 1
mv out/1 "$IO/1"
as $bob bin/sum in/1 out/1 >"$IO/out"
ran_by $bob 0
cmp out/1 "$IO/1"
cmp "$IO/out" "$IO/ada"
same "$(stat -c '%u %a' out/1)" "$bob 644" "owner and mode of an output"
rm out/1
as $bob bin/sum in/1 out/1 >"$IO/out" # his own cache has it now
ran_by $bob 0

say "it is said whose it is"
as $bob mlfs log --cache "$top/cache" >"$IO/out"
grep -q " hit .* stored by $ada" "$IO/out" || fail "log does not say who stored it"
mlfs status . >"$IO/out"
grep -q "^shared  *2 of the hits" "$IO/out" || fail "status does not tell"
mlfs status --json . >"$IO/out"
grep -q '"shared_hits": *2' "$IO/out" || fail "status --json does not tell"

say "what one made who may not store is for himself"
as $bob bin/sum in/2 out/2
rm out/2
as $carl bin/sum in/2 out/2
ran_by $bob 1
ran_by $carl 1

say "nor is a step for others that is not named so, or that a user keeps to himself"
as $ada bin/alone in/3 out/3
rm out/3
as $bob bin/alone in/3 out/3
ran_by $ada 2
ran_by $bob 2
rm out/3
as $ada bin/sum in/3 out/3
rm out/3
echo 'private = yes' >"$IO/private.conf"
as $bob env MLFS_CONFIG="$IO/private.conf" bin/sum in/3 out/3
ran_by $bob 3
rm out/3
as $ada env MLFS_CONFIG="$IO/private.conf" bin/sum in/4 out/4
rm out/4
as $carl bin/sum in/4 out/4
ran_by $carl 2
rm out/4

say "root's steps use what users stored only where they are named"
as 0 bin/sum in/3 out/3
ran_by 0 1
rm out/3

say "another environment is another step; whose it is does not count"
rm out/1
as $bob env MODE=fast bin/sum in/1 out/1
ran_by $bob 4
rm out/1
as $carl bin/sum in/1 out/1
ran_by $carl 2
rm out/1

say "what is looked for at home is looked for in one's own"
as $dora touch "$top/home/$dora/.no"
as $dora bin/sum in/1 out/1
ran_by $dora 1
same "$(sed -n 1p out/1)" no "what dora's has"
rm out/1


# MODE FILE COMMAND…: ada's process says what it says to the server through another one of hers
through()
{
	mode=$1
	file=$2
	shift 2
	rm -f "$IO/proxied"
	mkfifo "$IO/proxied"
	mv "$sock" "$sock.real"
	chmod 777 "$top/cache" # for this connection only
	setpriv --reuid $ada --regid $ada --clear-groups $python -I -B "$cases/mount-shared.py" between \
		"$sock" "$sock.real" "$mode" "$file" >"$IO/proxied" 2>"$OUTSIDE/proxy" &
	read -r line <"$IO/proxied"
	as $ada "$@"
	wait $! || fail "nobody in between: $(cat "$OUTSIDE/proxy")"
	chmod 755 "$top/cache"
	mv "$sock.real" "$sock"
}
sock=$(the_socket)

say "no result of what one could not have read, however one asks"
as $ada bin/copy in/secret out/s
rm out/s
status=0
as $bob bin/copy in/secret out/s 2>/dev/null || status=$?
same "$status" 1 "status of bob's"
[ ! -s out/s ] || fail "bob has it"
rm -f out/s
# What ada's process asks when it looks for that very result.
mv "$top/cache/users/$ada" "$IO/ada-cache"
through note-use "$OUTSIDE/question" bin/copy in/secret out/s
same "$(cat out/s)" secret "what ada's has"
rm out/s
as $ada $python -I -B "$cases/mount-shared.py" say "$sock" "$OUTSIDE/question" >"$IO/out"
grep -q secret "$IO/out" || fail "the question is none: $(cat "$IO/out")"
as $bob $python -I -B "$cases/mount-shared.py" say "$sock" "$OUTSIDE/question" >"$IO/out"
printed "b'y'"
for who in $ada $bob; do
	as $who $python -I -B "$cases/mount-shared.py" watch "$top/src/bin/copy" "$sock" "$OUTSIDE/question" >"$IO/out"
	tail -n 1 "$IO/out" >>"$IO/seen"
done
printf 'seen\nnothing seen\n' | cmp - "$IO/seen" || fail "bob sees what is looked at in vain"

say "nor with a guess in the place of what one may not read"
echo secret >"$OUTSIDE/guess"
as $bob unshare -Urm sh -c 'mount --bind "$1/guess" "$2/src/in/secret" && mount --bind "$1/guess" "$2/mnt/in/secret" &&
	exec "$3" -I -B "$4/mount-shared.py" say "$5" "$1/question"' sh "$OUTSIDE" "$top" "$python" "$cases" "$sock" >"$IO/out" 2>&1
printed "b'y'"

say "nor one whose outputs he may not see, or could not have made"
as $ada bin/hide in/5 out/h
rm out/h
as $bob bin/hide in/5 out/h
ran_by $bob 6
rm out/h
as $ada sh -c 'mkdir -m 755 out/ada && bin/copy in/5 out/ada/c && rm out/ada/c'
kept_by $bob >"$IO/before"
as $bob bin/copy in/5 out/ada/c 2>/dev/null && fail "bob wrote where he may not"
kept_by $bob | cmp - "$IO/before" || fail "bob has it in his cache"
ran_by $bob 7

say "nor one that changed what was there"
for who in $ada $bob; do
	rm -f out/log
	echo before >out/log
	chmod 666 out/log
	wait_for is_settled out/log
	as $who bin/append in/5 out/log
	same "$(wc -l <out/log)" 2 "lines"
done
ran_by $bob 8
rm out/log

say "what a group may read is for the group"
as $ada bin/copy in/group out/g
rm out/g
as $carl bin/copy in/group out/g 2>/dev/null && fail "carl has it"
rm -f out/g
ran_by $carl 3
setpriv --reuid $carl --regid $carl --groups $group env HOME="$top/home/$carl" USER=carl LOGNAME=carl bin/copy in/group out/g
same "$(cat out/g)" group "what the group has"
ran_by $carl 3
rm out/g

say "an offer of one who may not store is none, whatever he says"
as $dora bin/sum in/6 out/6
rm out/6
through note-store "$OUTSIDE/offer" bin/sum in/6 out/6
rm out/6
as $dora $python -I -B "$cases/mount-shared.py" say "$sock" "$OUTSIDE/offer" >"$IO/out"
printed "b'n'"

say "nor are bytes that are not those of their names, or that do not come"
through flip "$OUTSIDE/offer" bin/sum in/7 out/7
same "$(tail -n 1 out/7)" "the end" "what ada has"
rm out/7
through end "$OUTSIDE/offer" bin/sum in/8 out/8
rm out/8
as $bob bin/sum in/7 out/7
as $bob bin/sum in/8 out/8
ran_by $bob 10
rm out/7 out/8
forged huge "$sock" >"$IO/out"
printed "b''"

say "settings of a user share nothing"
as $dora sh -c 'printf "step = sum\nshare = sum\nshare-store = *\n" >dora/.mlfs.conf'
as $dora dora/sum in/1 out/d
rm out/d
as $carl dora/sum in/1 out/d
ran_by $carl 4
rm out/d
printf 'step = dora/sum\nshare = dora/sum\nshare-store = %s\n' $ada >.mlfs.conf # root's do, but of whom root says
as $dora dora/sum in/2 out/d
rm out/d
as $carl dora/sum in/2 out/d # is not dora's
ran_by $carl 5
rm out/d
as $ada dora/sum in/3 out/d
rm out/d
as $carl dora/sum in/3 out/d
ran_by $carl 5
rm out/d
echo 'no-share = bin/copy' >>.mlfs.conf
as $ada bin/copy in/3 out/d
rm out/d
as $carl bin/copy in/3 out/d
ran_by $carl 6
rm out/d .mlfs.conf

say "what one stored who has lost the right is of no more use"
as $ada bin/copy in/7 out/7
rm out/7
echo 'share-store = 0' >.mlfs.conf
as $bob bin/copy in/7 out/7
ran_by $bob 11
rm out/7 .mlfs.conf
as $dora bin/copy in/7 out/7
ran_by $dora 4 # that is, ada has it again
rm out/7

say "the process that looks for a user cannot be looked into by him"
truncate -s 200M in/large
wait_for is_settled in/large
as $ada bin/sum in/large out/l
rm out/l
mkfifo "$IO/caught"
as $bob $python -I -B "$cases/mount-shared.py" catch "$(the_server)" $bob >"$IO/caught" &
catcher=$!
exec 8<"$IO/caught"
read -r line <&8
as $bob bin/sum in/large out/l # a miss, since he ended it
read -r line <&8
same "$line" "could:" "what bob could do to it"
wait $catcher
ran_by $bob 12
rm out/l in/large
exec 8<&-

say "who says nothing stops nobody else"
mkfifo "$IO/held" "$IO/let-go"
as $bob $python -I -B "$cases/mount-shared.py" hold "$sock" 60 <"$IO/let-go" >"$IO/held" &
holder=$!
exec 8>"$IO/let-go"
read -r line <"$IO/held"
as $carl bin/copy in/7 out/7
ran_by $carl 6
rm out/7
exec 8>&-
wait $holder

say "16 at once of two users"
for n in 1 2 3 4 5 6 7 8; do
	as $ada bin/copy in/$n out/p$n
	as $ada bin/copy in/$n out/q$n
done
rm out/[pq]?
for n in 1 2 3 4 5 6 7 8; do
	as $bob bin/copy in/$n out/p$n &
	as $carl bin/copy in/$n out/q$n &
done
wait
ran_by $bob 12
ran_by $carl 6
for n in 1 2 3 4 5 6 7 8; do
	cmp in/$n out/p$n
	cmp in/$n out/q$n
done
rm out/[pq]?

say "it is kept as small as its settings say"
printf 'max-size = 2M\n' >"$top/cache/shared/mlfs.conf"
for n in 1 2 3 4 5 6 7 8; do
	head -c 400000 /dev/urandom >in/random.$n
done
head -c 3000000 /dev/urandom >in/too-large
wait_for is_settled in/too-large
for n in 1 2 3 4 5 6 7 8; do
	as $ada bin/copy in/random.$n out/r
	rm out/r
done
as $ada bin/copy in/too-large out/r
rm out/r
mlfs stats --json --cache "$top/cache/shared" >"$IO/out"
$python -I -c 'import json, sys; s = json.load(sys.stdin); assert 400000 < s["kept_bytes"] <= 2 << 20, s' <"$IO/out" || fail "its size"
as $bob bin/copy in/too-large out/r
ran_by $bob 13
rm out/r
as $bob bin/copy in/random.8 out/r
cmp out/r in/random.8
ran_by $bob 13
rm out/r
ask fsck --cache "$top/cache/shared"

say "damage in it is a miss, and no more"
for f in "$top"/cache/shared/cas/*/*; do
	chmod u+w "$f"
	printf "not what it was" | dd of="$f" conv=notrunc status=none
done
as $carl bin/copy in/random.8 out/r
cmp out/r in/random.8
ran_by $carl 7
rm out/r
head -c 100000 /dev/zero | dd of="$top/cache/shared/index/data.mdb" conv=notrunc status=none
as $ada bin/copy in/1 out/r
rm out/r
as $bob bin/copy in/1 out/r
cmp out/r in/1
ran_by $bob 14
rm out/r

say "nor is the death of who serves it, or of the mount"
kill -9 "$(the_server)"
as $bob bin/copy in/2 out/r
cmp out/r in/2
as $ada bin/copy in/2 out/r2
rm -f out/r out/r2
cd "$top"
mlfs umount mnt
rm -rf cache/shared
mlfs mount --cache "$top/cache" --step 'bin/*' -o "share=bin/*,share-store=$ada:@$group" src mnt
server=$(the_mount)
sharer=$(the_server)
kill -9 "$server"
gone()
{
	! kill -0 "$1" 2>/dev/null
}
wait_for gone "$sharer"
mlfs mount --cache "$top/cache" --step 'bin/*' -o "share=bin/*,share-store=$ada" src mnt
cd mnt
as $ada bin/copy in/3 out/r
rm out/r
as $bob bin/copy in/3 out/r
ran_by $bob 15 # as before, and once while nobody served it
same "$(find "$top/cache" -maxdepth 1 -name 'share-*' | wc -l)" 1 "sockets"
