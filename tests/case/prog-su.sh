#!/bin/sh
# SPDX-License-Identifier: MIT
# A step that becomes another user: permissions are as natively, what it makes belongs to that user, and whose a file is
# belongs to what the step saw.
. "$(dirname "$0")/lib.sh"

if ! is_root; then
	say "set-user-id programs gain nothing in an ordinary user's view, and say so"
	not_stored "its exit status was *" =1 -- su -c true
	[ -s "$IO/err" ] || fail "su said nothing"
	say "what is another's and cannot be read"
	miss -- sh -c 'cat /etc/shadow 2>/dev/null || echo hidden'
	printed hidden
	hit -- sh -c 'cat /etc/shadow 2>/dev/null || echo hidden'
	exit 0
fi

user=nobody
group=$(id -gn $user)
other=$(id -u daemon)
umask 022
chmod 755 . ..
mkdir theirs closed
chown $user theirs
chmod 700 closed
echo data >in
echo secret >secret
chmod 600 secret
cat >look.sh <<'END'
id
cat in
cat secret
ls closed
echo made >theirs/made
mkdir theirs/dir
ln -s made theirs/link
umask 027
echo private >theirs/private
touch denied
chown root theirs/made
kill -0 1
rm -f theirs/none
stat -c '%n %U:%G %a' theirs/* in
true
END
for how in "su -s /bin/sh $user -c" "runuser -u $user -- sh -c" "setpriv --reuid $user --regid $group --init-groups sh -c" \
	"su - -s /bin/sh $user -c" "start-stop-daemon --start --chuid $user --chdir $PWD --pidfile $PWD/none --startas /bin/sh -- -c"; do
	say "$how"
	rm -rf theirs/*
	$how "cd $PWD; sh look.sh" >"$IO/native" 2>"$IO/native.err"
	tree theirs >"$IO/native.tree"
	rm -rf theirs/*
	# shellcheck disable=SC2086
	miss -- $how "cd $PWD; sh look.sh"
	cmp "$IO/native" "$IO/out" || fail "$(diff "$IO/native" "$IO/out")"
	cmp "$IO/native.err" "$IO/err" || fail "$(diff "$IO/native.err" "$IO/err")"
	tree theirs | cmp - "$IO/native.tree" || fail "other files"
	rm -rf theirs/*
	# shellcheck disable=SC2086
	hit -- $how "cd $PWD; sh look.sh"
	cmp "$IO/native" "$IO/out" || fail "the hit prints otherwise"
	same "$(stat -c '%U:%G %a' theirs/made theirs/dir theirs/private)" "$user:$group 644
$user:$group 755
$user:$group 640"
done

say "what could not be read then, and can now"
read_secret()
{
	"$@" -- su -s /bin/sh $user -c 'cat secret 2>/dev/null || echo denied'
}
read_secret miss
printed denied
read_secret hit
chown $user secret
read_secret miss_because "secret changed*"
printed secret
chown $other secret
read_secret miss
printed denied
chown root secret
read_secret hit
printed denied
chgrp $group secret
chmod 640 secret
read_secret miss
printed secret
look_closed()
{
	"$@" -- runuser -u $user -- sh -c 'ls closed 2>/dev/null || echo denied'
}
echo x >closed/x
look_closed miss
printed denied
chown $user closed
look_closed miss_because "closed changed*"
printed x

say "whose a file is"
miss -- stat -c '%U' in
printed root
chown $user in
miss_because "in changed*" -- stat -c '%U' in
printed $user
miss -- sh -c 'tar c in theirs | tar tv | cut -d" " -f2'
hit -- sh -c 'tar c in theirs | tar tv | cut -d" " -f2'
chown -h daemon theirs
miss_because "*theirs changed*" -- sh -c 'tar c in theirs | tar tv | cut -d" " -f2'

say "the same for an mlfs that an ordinary user runs"
mkdir cache
chown $other cache
echo text >file
chmod 600 file
as_other()
{
	MLFS_CACHE=$PWD/cache setpriv --reuid "$other" --clear-groups mlfs exec -v -- \
		sh -c 'cat file 2>/dev/null || echo denied' >"$IO/out" 2>"$IO/err"
}
as_other
printed denied
as_other
printed denied
grep -q "^mlfs: hit" "$IO/err" || fail "no hit: $(cat "$IO/err")"
chown "$other" file
as_other
printed text
chown 54321 file
as_other
printed denied

say "the ACL of the root is not asked for at each look"
cat >looks.sh <<'END'
for k in 1 2 3 4 5 6 7 8 9 10; do
	for l in 1 2 3 4 5 6 7 8 9 10; do
		test -e /etc/passwd
	done
done
END
MLFS_DEBUG=1 mlfs exec -q --require -- setpriv --reuid "$other" --clear-groups sh looks.sh 2>"$IO/err"
asked=$(sed -n 's/.*fuse requests:.* GETXATTR=\([0-9]*\) .*/\1/p' "$IO/err")
[ "${asked:?}" -lt 100 ] || fail "asked for $asked extended attributes in 100 looks"
