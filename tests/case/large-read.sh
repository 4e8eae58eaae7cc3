#!/bin/sh
# SPDX-License-Identifier: MIT
# A large file that a step reads among the first: as root, where the kernel can, it is read by the kernel itself (fs/ops_open.c).
. "$(dirname "$0")/lib.sh"

large_file large 65
for i in $(seq 0 299); do
	echo "$i" >small.$i
done

# The requests of the step that ran last, of a kind.
requests()
{
	sed -n 's/.*fuse requests: //p' "$IO/err" | tr ' ' '\n' | sed -n "s/^$1=//p" | grep . || echo 0
}

say "read, hit, changed"
export MLFS_DEBUG=1
miss -- sh -c 'mark; cksum <large'
if is_root && [ "$(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n 1)" = 6.9 ] && ! grep -q 'no passthrough' "$IO/err"; then
	passed=yes
	[ "$(requests READ)" -lt 100 ] || fail "65 MB were read by $(requests READ) requests"
else
	passed=no
	[ "$(requests OPEN)" -le 1 ] || fail "$(requests OPEN) opens were sent"
	say "(through the server: this is not root, or the kernel, or the file system, has no passthrough)"
fi
unset MLFS_DEBUG
want=$(cksum <large)
printed "$want"
hit -- sh -c 'mark; cksum <large'
printed "$want"
touch -r large stamp
printf x | dd of=large bs=1 seek=60000000 conv=notrunc 2>/dev/null
touch -r stamp large
miss_because '*large*' -- sh -c 'mark; cksum <large'
printed "$(cksum <large)"
ran 2

say "only opened: it counts as read"
miss -- sh -c 'mark; exec 3<large; echo opened'
hit -- sh -c 'mark; exec 3<large; echo opened'
ran 3

say "who has it open sees what others of the step do to it"
cp large kept
cat >others.py <<'END'
import mmap, os, subprocess, sys
def at(fd, off, n=8):
    return os.pread(fd, n, off)
r = os.open("large", os.O_RDONLY)
m = mmap.mmap(r, 0, prot=mmap.PROT_READ)
print(len(os.pread(r, 1 << 20, 0)), m[5 << 20:(5 << 20) + 4] == at(r, 5 << 20, 4))
w = os.open("large", os.O_RDWR)
os.pwrite(w, b"written!", 5 << 20)
print(at(r, 5 << 20), m[5 << 20:(5 << 20) + 8], at(w, 5 << 20))
subprocess.run(["sh", "-c", "printf appended >>large"], check=True)
size = os.fstat(r).st_size
print(size, at(r, size - 8), os.stat("large").st_size)
mw = mmap.mmap(w, 0)
mw[6 << 20:(6 << 20) + 7] = b"mapped!"
print(at(r, 6 << 20), m[6 << 20:(6 << 20) + 8] == at(w, 6 << 20))
os.truncate("large", 1 << 20)
print(os.fstat(r).st_size, at(r, 5 << 20), at(r, (1 << 20) - 4, 100) == at(w, (1 << 20) - 4, 4))
os.rename("large", "large.2")
os.unlink("large.2")
print(os.fstat(r).st_nlink, len(os.pread(r, 2 << 20, 0)))
mw.close(), m.close(), os.close(r), os.close(w)
os.rename("kept", "large")
with open("large", "r+b") as w, open("large", "rb") as r, mmap.mmap(r.fileno(), 0, prot=mmap.PROT_READ) as m:
    w.write(b"first")
    w.flush()
    print(r.read(5), m[:5])
with open("large", "rb") as r, open("large", "rb") as again:
    print(r.read(9) == again.read(9))
print(subprocess.run(["cksum", "large"], stdout=subprocess.PIPE).stdout)
END
cp kept again
$python others.py >native.out
mv again kept
cp kept large
step -- "$python" others.py
printed "$(cat native.out)"

say "changed in part by the step while it is read: both are right, and a hit makes the change"
printf '%s\n' 'exec 3<large 4<>large' 'dd bs=1M count=1 status=none <&3 | cksum' 'printf begun >&4' 'cksum <&3' >part.sh
cp large kept
sh part.sh >native.out
mv large native.large
cp kept large
miss -- sh part.sh
printed "$(cat native.out)"
cmp large native.large
cp kept large
hit -- sh part.sh
printed "$(cat native.out)"
cmp large native.large
mv kept large

say "opened without an answer, later: it can be mapped"
cat >late.py <<'END'
import mmap, sys
def small():
    return sum(int(open("small.%d" % i).read()) for i in range(300))
with open("large", "rb") as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
if sys.argv[1] == "mapped":
    print(small(), m[-1])
    with open("large", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as n:
        print(n[-1])
m.close()
print(small())
with open("large", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    print(m[-1], m[1 << 20])
with open("large", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    m[0] = m[0]
    print(m[2 << 20])
END
for how in mapped closed; do
	$python late.py $how >native.out
	miss -- "$python" late.py $how
	printed "$(cat native.out)"
	hit -- "$python" late.py $how
	printed "$(cat native.out)"
done

say "written to by others: while it is open, and before"
mkfifo "$WITNESS/at" "$WITNESS/go"
printf '%s\n' 'exec 3<large' 'echo x >"$WITNESS/at"' 'read -r x <"$WITNESS/go"' 'cksum <&3' >slow.sh
{ await at; printf y >>large; cksum <large >now; echo x >"$WITNESS/go"; } &
not_stored '*large was changed by another process*' -- sh slow.sh
wait
[ $passed = no ] || printed "$(cat now)"
say "written to by others between what the step writes to it, while the step has it open to read"
printf '%s\n' 'exec 3<large 4<>large' 'printf one >&4' 'echo x >"$WITNESS/at"' 'read -r x <"$WITNESS/go"' 'printf two >&4' >two.sh
{ await at; printf other | dd of=large bs=1 seek=60000000 conv=notrunc 2>/dev/null; echo x >"$WITNESS/go"; } &
not_stored '*large was changed by another process*' -- sh two.sh
wait
say "open for writing elsewhere"
exec 3<>large
not_stored '*large*' -- sh -c 'cksum <large'
exec 3>&-
[ $passed = yes ] || say "(none of this was passed through)"
