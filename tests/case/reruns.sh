#!/bin/sh
# SPDX-License-Identifier: MIT
# Each of these makes a step run again.
. "$(dirname "$0")/lib.sh"

say "an input's content, size and mtime kept"
echo aaaa >in
touch -d '2020-01-01 00:00:00.123456789' in
miss -- sh -c 'mark; cat in'
hit -- sh -c 'mark; cat in'
printf bbbb | dd of=in conv=notrunc 2>/dev/null
touch -d '2020-01-01 00:00:00.123456789' in
miss_because '*in changed*' -- sh -c 'mark; cat in'
printed bbbb
ran 2

say "the same through another file of equal size and mtime renamed over it"
echo cccc >in.new
touch -d '2020-01-01 00:00:00.123456789' in.new
mv in.new in
miss_because '*in changed*' -- sh -c 'mark; cat in'
printed cccc
ran 3

say "changed twice within the same moment: many times over, no change is missed"
n=0
while [ $n -lt 20 ]; do
	n=$((n + 1))
	echo "v$n" >quick
	step -- sh -c 'cat quick'
	printed "v$n"
done

say "a file looked for and absent appears"
: >"$WITNESS/ran"
miss -- sh -c 'mark; if [ -e config ]; then echo there; else echo none; fi'
printed none
hit -- sh -c 'mark; if [ -e config ]; then echo there; else echo none; fi'
echo x >config
miss_because '*config*' -- sh -c 'mark; if [ -e config ]; then echo there; else echo none; fi'
printed there
rm config
hit -- sh -c 'mark; if [ -e config ]; then echo there; else echo none; fi'
printed none
ran 2

say "a file looked for in a directory that was absent too"
miss -- sh -c 'cat no/such/file 2>/dev/null || echo none'
mkdir -p no/such
step -- sh -c 'cat no/such/file 2>/dev/null || echo none'
echo now >no/such/file
miss -- sh -c 'cat no/such/file 2>/dev/null || echo none'
printed now

say "earlier in PATH"
: >"$WITNESS/ran"
mkdir bin1 bin2
printf '#!/bin/sh\necho two\n' >bin2/tool
chmod +x bin2/tool
export PATH="$PWD/bin1:$PWD/bin2:$PATH"
miss -- sh -c 'mark; tool'
printed two
hit -- sh -c 'mark; tool'
printf '#!/bin/sh\necho one\n' >bin1/tool
chmod +x bin1/tool
miss -- sh -c 'mark; tool'
printed one
say "the command itself earlier in PATH"
miss -- tool
printed one
rm bin1/tool
miss -- tool
printed two
hit -- tool
printed two
ran 2

say "a new file in a listed directory"
: >"$WITNESS/ran"
mkdir dir
touch dir/a
miss -- sh -c 'mark; ls dir'
hit -- sh -c 'mark; ls dir'
touch dir/b
miss_because '*dir*' -- sh -c 'mark; ls dir'
printed "a
b"
rm dir/a
miss_because '*dir*' -- sh -c 'mark; ls dir'
printed b
ran 3
say "a glob"
miss -- sh -c 'echo dir/*'
touch dir/c
miss -- sh -c 'echo dir/*'
printed "dir/b dir/c"
say "a file became a directory"
miss -- sh -c 'ls -F dir'
rm dir/b
mkdir dir/b
miss -- sh -c 'ls -F dir'
printed "b/
c"

say "a symbolic link pointed elsewhere"
: >"$WITNESS/ran"
echo 1 >one
echo 1 >uno
ln -s one link
miss -- sh -c 'mark; cat link'
hit -- sh -c 'mark; cat link'
ln -sfn uno link
miss_because '*link*' -- sh -c 'mark; cat link'
miss -- sh -c 'mark; readlink link'
printed uno
ln -sfn one link
miss_because '*link*' -- sh -c 'mark; readlink link'
printed one
hit -- sh -c 'mark; cat link'
ran 4
say "what a link points at"
echo 2 >one
miss -- sh -c 'mark; cat link'
printed 2

say "a variable that is not noise"
: >"$WITNESS/ran"
miss -- sh -c 'mark; echo "$FLAVOUR"'
export FLAVOUR=mint
miss -- sh -c 'mark; echo "$FLAVOUR"'
printed mint
unset FLAVOUR
hit -- sh -c 'mark; echo "$FLAVOUR"'
printed ""
ran 2

say "the arguments, the directory, the umask"
: >"$WITNESS/ran"
miss -- sh -c 'mark; echo "$1"' sh a
miss -- sh -c 'mark; echo "$1"' sh b
miss -- sh -c 'mark; echo "$1"' sh 'a b'
miss -- sh -c 'mark; echo "$1"' sh a b
mkdir elsewhere
cd elsewhere
miss -- sh -c 'mark; echo "$1"' sh a
cd ..
umask 077
miss -- sh -c 'mark; echo "$1"' sh a
umask 022
hit -- sh -c 'mark; echo "$1"' sh a
ran 6

say "a script's own change"
: >"$WITNESS/ran"
printf '#!/bin/sh\nmark\necho 1\n' >script
chmod +x script
miss -- ./script
hit -- ./script
printf '#!/bin/sh\nmark\necho 2\n' >script
miss_because '*script*' -- ./script
printed 2
say "a program called by a script"
printf '#!/bin/sh\n./script\n' >caller
chmod +x caller
miss -- ./caller
printf '#!/bin/sh\nmark\necho 3\n' >script
miss_because '*script*' -- ./caller
printed 3
ran 4
say "a binary, and a library it is linked to"
cat >lib.c <<'END'
int value(void) { return VALUE; }
END
cat >prog.c <<'END'
#include <stdio.h>
int value(void);
int main(void) { printf("%d\n", value()); return 0; }
END
gcc -shared -fPIC -DVALUE=1 -o libvalue.so lib.c
gcc -o prog prog.c -L. -lvalue -Wl,-rpath,"$PWD"
miss -- ./prog
printed 1
hit -- ./prog
gcc -shared -fPIC -DVALUE=2 -o libvalue.so lib.c
miss_because '*libvalue.so*' -- ./prog
printed 2
echo 'int unused;' >>prog.c
gcc -g -o prog prog.c -L. -lvalue -Wl,-rpath,"$PWD"
miss_because '*prog*' -- ./prog

say "the mode of an executed file"
printf '#!/bin/sh\necho hi\n' >tool
chmod 755 tool
miss -- sh -c './tool 2>/dev/null || echo refused'
hit -- sh -c './tool 2>/dev/null || echo refused'
chmod 644 tool
miss_because '*tool*' -- sh -c './tool 2>/dev/null || echo refused'
printed refused
chmod 755 tool
hit -- sh -c './tool 2>/dev/null || echo refused'
printed hi
say "the mode of the command itself"
miss -- ./tool
chmod 644 tool
step =126 -- ./tool
[ "$r_result" != hit ] || fail "a hit of a program that may not be executed"
chmod 755 tool
hit -- ./tool

say "the mode of an input that is read"
echo x >secret
miss -- sh -c 'stat -c %a secret; cat secret'
chmod 600 secret
miss_because '*secret*' -- sh -c 'stat -c %a secret; cat secret'

say "an output of another step that is an input of this one, gone"
miss -- sh -c 'echo made >product'
miss -- sh -c 'cat product || true'
rm product
miss_because '*product*' -- sh -c 'cat product || true'

say "extended attributes that were read"
if setfattr -n user.test -v 1 in 2>/dev/null; then
	miss -- getfattr --only-values -n user.test in
	hit -- getfattr --only-values -n user.test in
	setfattr -n user.test -v 2 in
	miss -- getfattr --only-values -n user.test in
	printed 2
fi

say "a directory removed, an input removed"
mkdir there
miss -- sh -c '[ -d there ] && echo yes || echo no'
rmdir there
miss -- sh -c '[ -d there ] && echo yes || echo no'
printed no
echo x >input
miss -- sh -c 'cat input 2>/dev/null || echo gone'
rm input
miss -- sh -c 'cat input 2>/dev/null || echo gone'
printed gone
