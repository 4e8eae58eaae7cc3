#!/bin/sh
# SPDX-License-Identifier: MIT
# An ordinary user in a view does with other people's files what that user may: remove and rename them in a directory
# of one's own; and nothing else.
. "$(dirname "$0")/lib.sh"

is_root || skip "needs root: files of two users"
user=12345

as_user()
{
	setpriv --reuid $user --regid $user --clear-groups -- "$@"
}

prepare()
{
	rm -rf own
	mkdir own own/dir own/empty own/sticky foreign
	touch own/gone own/moved own/replaced own/dir/in own/sticky/f foreign/f
	echo secret >own/secret
	chmod 600 own/secret
	ln -s nowhere own/link
	chmod 1777 own/sticky
	chown -h $user:$user own
	chmod 755 foreign
}

cat >ops <<'END'
cd own
try() { "$@" 2>/dev/null && echo "ok: $*" || echo "refused: $*"; }
try rm -f gone
try mv moved here
echo new >new
try mv -f new replaced
try cat replaced
try rm -f link
try rmdir empty
try rm dir/in
try rmdir dir
try mv dir dir2
try rm sticky/f
try mv sticky/f f
try rm ../foreign/f
try mv ../foreign/f f
try mkdir dir2/x
try touch -d @5 secret
try chmod 777 secret
try chown 0 secret
try chown 77 new2
try cat secret
try sh -c 'echo more >>secret'
try sh -c ': >secret'
try chmod 777 /etc/passwd
try ln secret hard
try cp -p replaced copy
echo text >mine
try chmod 600 mine
try mv mine foreign
ls
END

rm -rf foreign
prepare
as_user sh ops >native 2>&1 </dev/null || fail "native run: $(cat native)"
find own -printf '%p %y %m %U\n' | sort >native.tree
rm -rf foreign
prepare
as_user mkdir own/c # the cache, which is bound into the view
as_user mlfs exec -q --require --refresh --cache "$PWD/own/c/cache" -- sh ops >view 2>&1 </dev/null ||
	fail "in the view: $(cat view)"
rm -rf own/c
sed -i '/^c$/d' view
find own -printf '%p %y %m %U\n' | sort >view.tree
diff native view || fail "other results in the view (>)"
diff native.tree view.tree || fail "left behind in another state by the view (>)"
matches "$(cat view)" "*ok: rm -f gone*ok: mv moved here*refused: rm sticky/f*"
