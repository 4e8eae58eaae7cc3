#!/bin/sh
# SPDX-License-Identifier: MIT
# Several users of one persistent mount: the lines of "Who is trusted with what" in docs/design.md.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root: steps of several users"
top=$PWD
ada=54321
bob=54322
chmod 755 .
mkdir -p src/bin src/private src/shared mnt cache
cat >src/bin/sum <<'END'
#!/bin/sh
# FILE OUT
echo >>"$OUTSIDE/$(id -u)"
sha256sum <"$1" >"$2"
END
chmod 755 src/bin/sum
mkdir -m 1777 "$WITNESS/outside"
chmod 711 "$WITNESS/.." "$WITNESS" 2>/dev/null || :
export OUTSIDE="$WITNESS/outside"
echo common >src/common
echo secret >src/private/secret
chown -R $ada src/private
chmod 700 src/private
chmod 1777 src/shared
unset MLFS_CACHE
mlfs mount --cache "$top/cache" --step 'bin/*' src mnt
trap 'cd "$top"; umount -l mnt' EXIT
cd mnt

# as USER COMMAND…
as()
{
	who=$1
	shift
	setpriv --reuid "$who" --regid "$who" --clear-groups env HOME=/nonexistent "$@"
}
# USER was asked to run N steps so far
ran_by()
{
	same "$(wc -l <"$OUTSIDE/$1")" "$2" "steps run by $1"
}

say "each has a cache that nobody else may look into"
as $ada bin/sum common shared/ada
as $ada bin/sum common shared/ada
ran_by $ada 1
same "$(stat -c '%u %a' "$top/cache/users/$ada")" "$ada 700" "owner and mode of a cache"
! as $bob ls "$top/cache/users/$ada" >/dev/null 2>&1 || fail "bob may look into ada's cache"
as $ada mlfs log --cache "$top/cache" >"$IO/out"
grep -q " hit .* sum " "$IO/out" || fail "ada does not find her own runs"

say "what one stored is not used for another"
as $bob bin/sum common shared/bob
ran_by $bob 1
same "$(stat -c %u shared/bob)" $bob "owner of an output"
rm shared/bob
as $bob bin/sum common shared/bob
ran_by $bob 1
same "$(stat -c %u shared/bob)" $bob "owner of an output of a hit"

say "a step reads with the rights of who runs it, hit or not"
as $ada bin/sum private/secret private/out
as $ada bin/sum private/secret private/out
ran_by $ada 2
status=0
as $bob bin/sum private/secret shared/stolen 2>"$IO/err" || status=$?
same "$status" 2 "status of bob's"
grep -q "Permission denied" "$IO/err" || fail "bob is not told"
[ ! -s shared/stolen ] || fail "bob has it"
chmod 711 private # that it is there is no secret any more, what is in it is
chmod 600 private/secret
status=0
as $bob bin/sum private/secret shared/stolen 2>/dev/null || status=$?
same "$status" 2 "status of bob's, once more"

say "settings of one user do not hold for another"
mkdir -m 755 jobs
cp bin/sum jobs/sum
chown $ada jobs
as $ada sh -c 'printf "step = sum\nignore = ../common\n" >jobs/.mlfs.conf'
as $bob jobs/sum common shared/bob2
as $bob jobs/sum common shared/bob2
ran_by $bob 5
as $ada jobs/sum common shared/ada2
as $ada jobs/sum common shared/ada2
ran_by $ada 3

say "nor does a cache that is not one's own stand in the place of one"
carl=54323
as $ada ln -s "$top/cache/users/$ada" "$IO/link" 2>/dev/null || :
ln -s "$top/cache/users/$ada" "$top/cache/users/$carl"
as $carl bin/sum common shared/carl 2>"$IO/err"
ran_by $carl 1
same "$(stat -L -c %u "$top/cache/users/$carl")" $ada "the link is as it was"

say "root's steps leave nothing that others could change in what root uses"
find "$top/cache/users/0" ! -user 0 -o -perm /022 ! -type l >"$IO/out" 2>/dev/null || :
printed ""
