#!/bin/sh
# SPDX-License-Identifier: MIT
# Working directory, umask, limits, ids, groups, environment, priority are those outside.
. "$(dirname "$0")/lib.sh"

cat >look.sh <<'END'
pwd; pwd -P; readlink /proc/self/cwd
umask
cat /proc/self/limits
id -u; id -g; id -un
grep -E '^(Uid|Gid|NoNewPrivs|Cpus_allowed|Mems_allowed|SigBlk|SigIgn|Umask)' /proc/self/status
[ -n "$SKIP_GROUPS" ] || grep -E '^Groups' /proc/self/status
env | sort
nice
cat /proc/self/oom_score_adj
hostname
cut -d' ' -f6 /proc/self/stat # session
ls -di / /etc /usr /tmp . .. | sed 's/  */ /g'
ls -ln look.sh
cat /proc/sys/kernel/ostype
ls -l /proc/self/fd | wc -l
[ -w /dev/null ] && [ -r /dev/zero ] && echo devices
ls /sys | wc -l
findmnt -no FSTYPE /proc 2>/dev/null
tty
stty size 2>&1 | head -c 30
sh -c 'echo $0' name
END
compare()
{
	sh look.sh </dev/null >"$IO/native" 2>"$IO/native.err"
	mlfs exec --refresh -- sh look.sh </dev/null >"$IO/out" 2>"$IO/err"
	diff "$IO/native" "$IO/out" >"$IO/diff" || fail "$1 (< native, > in the view):
$(cat "$IO/diff")"
	diff "$IO/native.err" "$IO/err" >"$IO/diff" || fail "$1, stderr: $(cat "$IO/diff")"
}

# Ids that are not mapped show as nobody's in an ordinary user's view; supplementary groups are such.
is_root || export SKIP_GROUPS=1
compare "as it is"
(
	umask 037
	ulimit -n 100
	ulimit -c 0
	ulimit -t 1000
	export STRANGE='a b
c=d' EMPTY=
	compare "umask, limits, variables"
)
mkdir -p "a dir/with ünicode"
cp look.sh "a dir/with ünicode"
(
	cd "a dir/with ünicode"
	compare "another directory"
)
ln -s "a dir" way
(
	cd way
	cp ../look.sh .
	compare "a directory entered through a link"
)
(
	cd /
	mlfs exec -- pwd >"$IO/out"
	printed /
	cd /dev/shm
	mlfs exec -- pwd >"$IO/out"
	printed /dev/shm
	cd /proc
	mlfs exec -- pwd >"$IO/out"
	printed /proc
)
nice -n 3 mlfs exec -- nice >"$IO/out"
same "$(cat "$IO/out")" "$(nice -n 3 nice)"
if is_root; then
	say "groups of root, another user by setpriv"
	setpriv --groups 7,8,9 sh look.sh >"$IO/native"
	setpriv --groups 7,8,9 mlfs exec -- sh look.sh >"$IO/out"
	diff "$IO/native" "$IO/out" || fail "groups"
	say "ownership as root: kept as it is made"
	miss -- sh -c 'echo x >theirs; chown 12345:12346 theirs; chmod 640 theirs; mkdir td; chown 5:6 td'
	same "$(stat -c '%u:%g %a' theirs td)" "12345:12346 640
5:6 755"
	rm -r theirs td
	hit -- sh -c 'echo x >theirs; chown 12345:12346 theirs; chmod 640 theirs; mkdir td; chown 5:6 td'
	same "$(stat -c '%u:%g %a' theirs td)" "12345:12346 640
5:6 755"
	say "becoming another user within the step"
	chmod 755 .
	miss -- setpriv --reuid 12345 --regid 12346 --clear-groups sh -c 'id -u; cat look.sh >/dev/null; touch denied 2>/dev/null || echo denied'
	printed "12345
denied"
else
	say "permissions hold for an ordinary user"
	miss -- sh -c 'touch /etc/mlfs-test 2>/dev/null || echo denied; cat /etc/shadow 2>/dev/null || echo hidden'
	printed "denied
hidden"
fi

say "an inherited descriptor works, and never gives a wrong hit"
echo one >inherited
mlfs exec -- sh -c 'cat <&7' 7<inherited >"$IO/out"
printed one
echo two >inherited
mlfs exec -- sh -c 'cat <&7' 7<inherited >"$IO/out"
printed two
mlfs exec -- sh -c 'echo three >&8' 8>written
same "$(cat written)" three
rm written
mlfs exec -- sh -c 'echo three >&8' 8>written
same "$(cat written)" three

say "beyond one digit it counts where an argument or a variable names it"
cat >pass.py <<'END'
import os, sys
os.dup2(os.open(sys.argv[2], os.O_RDONLY), int(sys.argv[1]))
os.execvp(sys.argv[3], sys.argv[3:])
END
pass()
{
	$python -I -B pass.py "$@"
}
for n in one two; do
	echo $n >inherited
	pass 63 inherited mlfs exec -- cat /dev/fd/63 >"$IO/out"
	printed $n
	echo $n >inherited
	FROM=64 pass 64 inherited mlfs exec -- sh -c 'cat "/proc/self/fd/$FROM"' >"$IO/out"
	printed $n
done
# Else the command cannot know of it: it counts for nothing.
for n in one two; do
	echo $n >inherited
	pass 65 inherited mlfs exec --report "$IO/leaked" -- sh -c 'echo /fd/650 /fd/065 65x' >"$IO/out"
done
grep -q '"result": "hit"' "$IO/leaked" || fail "$(cat "$IO/leaked")"

say "make's job server passes through"
printf 'all:\n\t+mlfs exec --no-cache -- $(MAKE) -f sub.mk\n\t+mlfs exec -- $(MAKE) -f sub.mk\n' >top.mk
printf 'all: a b\na b:\n\t@echo $@\n' >sub.mk
make -j2 -f top.mk >"$IO/out" 2>"$IO/err"
! grep -q jobserver "$IO/err" || fail "$(cat "$IO/err")"

say "descriptors of mlfs itself do not leak into the step"
mlfs exec -- sh -c 'ls -l /proc/self/fd' >"$IO/out"
! grep -qE 'fuse|mdb|cache' "$IO/out" || fail "leaked"
