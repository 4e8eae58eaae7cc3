#!/bin/sh
# SPDX-License-Identifier: MIT
# Locks of a step and locks outside it exclude each other, in every way in which they are taken and given up.
. "$(dirname "$0")/lib.sh"
command -v flock >/dev/null || skip "needs flock"

# Steps here are run for what they do: no result may stand in for them.
view()
{
	mlfs exec --refresh -- "$@"
}

# Where steps and the case wait for each other; the view does not trace it.
mkfifo "$WITNESS/ready" "$WITNESS/go"
go()
{
	echo >"$WITNESS/go"
}
cat >meet.sh <<'EOF'
ready() { echo >"$WITNESS/ready"; }
wait_go() { read -r _ <"$WITNESS/go"; }
EOF

free()
{
	flock -n "$1" true
}
busy()
{
	! flock -n "$1" true
}
free_in_view()
{
	view flock -n "$1" true
}

touch f

say "flock held in the view is seen outside and in another view, and gone when it ends"
view sh -c '. ./meet.sh; exec 9<f; flock 9; ready; wait_go' &
pid=$!
await ready
busy f || fail "free outside"
! free_in_view f || fail "free in another view"
go
wait $pid
free f || fail "busy after the step"

say "one held outside is seen in the view"
exec 8<f
flock 8
# Without the descriptor that has the lock: the step would have it as well.
! free_in_view f 8<&- || fail "free in the view"
exec 8<&-
free_in_view f || fail "busy in the view afterwards"

say "shared ones go together, an exclusive one does not join them"
view sh -c '. ./meet.sh; exec 9<f; flock -s 9; ready; wait_go' &
pid=$!
await ready
flock -sn f true || fail "shared and shared exclude each other"
busy f || fail "exclusive beside shared"
go
wait $pid

say "unlocked without being closed: free at once, as natively"
view sh -c '. ./meet.sh; exec 9<f; flock 9; flock -u 9; ready; wait_go' &
pid=$!
await ready
free f || fail "busy after flock -u"
go
wait $pid

say "closed without being unlocked: free soon"
view sh -c '. ./meet.sh; exec 9<f; flock 9; exec 9<&-; ready; wait_go' &
pid=$!
await ready
wait_for free f
go
wait $pid

say "inherited by children: held until the last has closed it"
view sh -c '. ./meet.sh; exec 9<f; flock 9; sleep 1000 & p=$!; exec 9<&-; ready; wait_go
	kill $p; wait $p; ready; wait_go' 2>/dev/null &
pid=$!
await ready
for _ in 1 2 3 4 5 6 7 8 9 10; do # for longer than any sweep takes
	busy f || fail "free although a child holds it"
	sleep 0.02
done
go
await ready
wait_for free f
go
wait $pid

say "inherited by exec"
view sh -c 'exec 9<f; flock -n 9; exec sh -c ". ./meet.sh; ready; wait_go"' &
pid=$!
await ready
for _ in 1 2 3 4 5 6 7 8 9 10; do
	busy f || fail "free although it was inherited by exec"
	sleep 0.02
done
go
wait $pid

say "the holder is killed"
view sh -c '. ./meet.sh
	sh -c ". ./meet.sh; exec 9<f; flock 9; echo \$\$ >pid; ready; wait_go" || true
	ready; wait_go' 2>/dev/null &
pid=$!
await ready
busy f || fail "free outside"
kill -9 "$(cat pid)"
await ready
wait_for free f
go
wait $pid

# Let the step say who is going to wait in the file `pid`, and call this.
waits()
{
	wait_for grep -q '^State:.S' "/proc/$(cat pid)/status"
	# In flock(2), or in fcntl(2).
	wait_for grep -Eq '^(32|72|73|25) ' "/proc/$(cat pid)/syscall"
}
say "a wait in the view ends when the lock is given up outside"
exec 8<f
flock 8
view sh -c '. ./meet.sh; exec 9<f; (sh -c "echo \$PPID >pid"; ready; exec flock 9); ready' 8<&- &
pid=$!
await ready
is_root && waits
flock -u 8
await ready
wait $pid
exec 8<&-

say "a wait outside ends when the lock is given up in the view"
view sh -c '. ./meet.sh; exec 9<f; flock 9; ready; wait_go; flock -u 9; ready; wait_go' &
pid=$!
await ready
flock f true &
waiter=$!
go
await ready
wait $waiter
go
wait $pid

say "a wait in the view is interrupted by a signal: flock -w"
exec 8<f
flock 8
! view flock -w 0.2 f true 8<&- || fail "got what is held outside"
say "… and by one that ends it"
view sh -c '. ./meet.sh; exec 9<f; flock 9 & p=$!; ready; wait_go; kill $p; wait $p; echo $? >status' 8<&- 2>/dev/null &
pid=$!
await ready
go
wait $pid
same "$(cat status)" 143 "status of the killed flock"
exec 8<&-

say "a wait in the view gets its turn where the lock is handed on outside"
cat >hog.sh <<'EOF'
exec 9<f
until [ -e "$WITNESS/enough" ]; do
	flock 9
	sleep 0.01
	flock -u 9
done
EOF
sh hog.sh &
a=$!
sh hog.sh &
b=$!
timeout 20 mlfs exec --refresh -- sh -c 'flock f true && flock f true && flock f true' || fail "starved"
touch "$WITNESS/enough"
wait $a
wait $b

say "steps in two views and processes outside count together"
echo 0 >count
cat >count.sh <<'EOF'
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	exec 9<f
	flock 9
	read -r n <count
	echo $((n + 1)) >count
	exec 9<&-
done
EOF
view sh count.sh &
a=$!
view sh ./count.sh &
b=$!
sh count.sh
wait $a
wait $b
same "$(cat count)" 60 "sum"

# ranges.py KIND WORD…: "w,START,LENGTH" locks for writing (r: reading, u: unlocks; a capital: waits), "?w,…" asks
# who is in the way; each prints a line.
cat >ranges.py <<'EOF'
import errno, fcntl, os, struct, sys
kind, words = sys.argv[1], sys.argv[2:]
f = os.open("r", os.O_RDWR | os.O_CREAT, 0o644)
types = {"w": fcntl.F_WRLCK, "r": fcntl.F_RDLCK, "u": fcntl.F_UNLCK}
names = {v: k for k, v in types.items()}
setlk, setlkw, getlk = {"posix": (fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_GETLK), "ofd": (37, 38, 36)}[kind]

def call(cmd, t, start, length):
    s = struct.pack("hhqqi4x", types[t], 0, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(f, cmd, s))

def do(word):
    t, start, length = word.split(",")
    start, length = int(start), int(length)
    if t[0] == "?":
        got = call(getlk, t[1:], start, length)
        return "none" if got[0] == fcntl.F_UNLCK else f"{names[got[0]]},{got[2]},{got[3]}"
    call(setlkw if t.isupper() else setlk, t.lower(), start, length)
    return "ok"

for word in words:
    if word == "ready":
        sys.stdout.flush()
        with open(os.environ["WITNESS"] + "/ready", "w") as m:
            m.write("x\n")
    elif word == "go":
        with open(os.environ["WITNESS"] + "/go") as m:
            m.read()
    elif word == "reopen":
        os.close(os.open("r", os.O_RDONLY))
    else:
        try:
            print(do(word))
        except OSError as e:
            print(errno.errorcode[e.errno])
EOF
ranges()
{
	"$@" | tr '\n' ' '
}
for kind in posix ofd; do
	say "$kind: ranges held in the view"
	view $python ranges.py $kind w,0,10 r,20,10 ready go u,4,2 r,0,3 ready go u,0,0 ready go >"$IO/view" &
	pid=$!
	await ready
	same "$(ranges $python ranges.py $kind w,9,1 w,10,10 r,20,5 w,29,1 w,30,0)" \
		"EAGAIN ok ok EAGAIN ok " "tried outside"
	same "$(ranges $python ranges.py $kind '?w,0,5' '?r,25,1' '?w,15,100')" "w,0,10 none r,20,10 " "asked outside"
	go
	await ready
	same "$(ranges $python ranges.py $kind w,4,2 w,6,1 r,0,3 w,2,1)" "ok EAGAIN ok EAGAIN " "part was unlocked"
	go
	await ready
	same "$($python ranges.py $kind w,0,0)" ok "after all was unlocked"
	go
	wait $pid
	same "$(tr '\n' ' ' <"$IO/view")" "ok ok ok ok ok " "in the view"

	say "$kind: ranges held outside"
	$python ranges.py $kind w,0,10 r,20,10 ready go >/dev/null &
	pid=$!
	await ready
	same "$(ranges view $python ranges.py $kind w,9,1 w,10,10 r,20,5 w,29,1 w,30,0)" \
		"EAGAIN ok ok EAGAIN ok " "tried in the view"
	same "$(ranges view $python ranges.py $kind '?w,0,5' '?r,25,1' '?w,15,100')" "w,0,10 none r,20,10 " "asked in the view"
	say "$kind: waiting in the view"
	view $python ranges.py $kind ready W,5,1 ready >"$IO/view" &
	waiter=$!
	await ready
	go
	wait $pid
	await ready
	wait $waiter
	same "$(cat "$IO/view")" ok "wait"
done

say "posix: closing any descriptor of the file gives up all"
view $python ranges.py posix w,0,0 reopen ready go >/dev/null &
pid=$!
await ready
wait_for sh -c "[ \"\$($python ranges.py posix w,0,0)\" = ok ]"
go
wait $pid

say "--allow-network changes nothing about it"
exec 8<f
flock 8
! mlfs exec --refresh --allow-network -- flock -n f true 8<&- || fail "free in the view"

say "mlfs in mlfs"
! view mlfs exec --refresh -- flock -n f true 8<&- || fail "free in the inner view"
exec 8<&-
view mlfs exec --refresh -- sh -c '. ./meet.sh; exec 9<f; flock 9; ready; wait_go' &
pid=$!
await ready
busy f || fail "free outside, of an inner view"
go
wait $pid

say "sqlite"
cat >db.py <<'EOF'
import os, sqlite3, sys
what = sys.argv[1]
db = sqlite3.connect("db", timeout=60 if what == "add" else 0, isolation_level=None)
if what == "make":
    db.execute("create table t (n)")
    db.execute("insert into t values (0)")
elif what == "add":
    for _ in range(int(sys.argv[2])):
        db.execute("begin immediate")
        n = db.execute("select n from t").fetchone()[0]
        db.execute("update t set n = ? where rowid = 1", (n + 1,))
        db.execute("insert into t values (?)", ("x" * 500,))
        db.execute("commit")
elif what == "sum":
    print(db.execute("select n from t").fetchone()[0], db.execute("select count(*) from t").fetchone()[0],
          db.execute("pragma integrity_check").fetchone()[0])
else:
    try:
        db.execute(what)
        print("ok", flush=True)
        if len(sys.argv) > 2:
            with open(os.environ["WITNESS"] + "/ready", "w") as m:
                m.write("x\n")
            with open(os.environ["WITNESS"] + "/go") as m:
                m.read()
        db.execute("commit")
    except sqlite3.OperationalError as e:
        print(e)
EOF
if ! $python -c 'import sqlite3'; then
	say "this python has no sqlite3"
	exit 0
fi
$python db.py make
for mode in exclusive immediate; do
	view $python db.py "begin $mode" hold >/dev/null &
	pid=$!
	await ready
	same "$($python db.py "begin $mode")" "database is locked" "$mode in the view, outside"
	same "$(view $python db.py "begin $mode")" "database is locked" "$mode in the view, another view"
	go
	wait $pid
	$python db.py "begin $mode" hold >/dev/null &
	pid=$!
	await ready
	same "$(view $python db.py "begin $mode")" "database is locked" "$mode outside, in the view"
	go
	wait $pid
done
view $python db.py add 20 &
a=$!
view $python ./db.py add 20 &
b=$!
$python db.py add 20
wait $a
wait $b
same "$($python db.py sum)" "60 61 ok" "the database"
same "$(view $python db.py sum)" "60 61 ok" "the database, as the view sees it"
