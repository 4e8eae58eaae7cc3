#!/bin/sh
# SPDX-License-Identifier: MIT
# SQLite: several writers in one view, in two views, in a view and outside; rollback journals and the write-ahead log.
# Nothing is lost and no database is damaged; a restored one is whole.
. "$(dirname "$0")/lib.sh"

cat >new.py <<'END'
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=" + sys.argv[2])
c.executescript("""CREATE TABLE counter(v); INSERT INTO counter VALUES(0);
CREATE TABLE t(tag, process, n, x); CREATE INDEX t_n ON t(tag, process, n); CREATE INDEX t_x ON t(x)""")
END
# Each of some processes counts up and adds a row, so and so often.
cat >write.py <<'END'
import hashlib, multiprocessing, sqlite3, sys
db, tag, processes, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def work(k):
    c = sqlite3.connect(db, timeout=100, isolation_level=None)
    for n in range(times):
        c.execute("BEGIN IMMEDIATE")
        v = c.execute("SELECT v FROM counter").fetchone()[0]
        c.execute("UPDATE counter SET v=?", (v + 1,))
        x = hashlib.sha512(b"%d %d" % (k, n)).hexdigest()
        c.execute("INSERT INTO t VALUES(?,?,?,?)", (tag, k, n, x))
        c.execute("COMMIT")
    c.close()

if __name__ == "__main__":
    all = [multiprocessing.Process(target=work, args=(k,)) for k in range(processes)]
    for p in all:
        p.start()
    for p in all:
        p.join()
    sys.exit(any(p.exitcode for p in all))
END

# The counter, the rows of each, and what SQLite itself finds.
state()
{
	sqlite3 "$1" "SELECT v FROM counter; SELECT tag, count(*), count(DISTINCT x) FROM t GROUP BY tag ORDER BY tag;
		PRAGMA integrity_check"
}

for mode in delete truncate persist wal; do
	say "$mode: three processes in one view"
	rm -f db*
	$python new.py db $mode
	cp db db.0
	miss -- $python write.py db a 3 20
	same "$(state db)" "60
a|60|60
ok"
	dump=$(sqlite3 db .dump | sort)
	rm -f db db-wal db-shm db-journal
	cp db.0 db
	hit -- $python write.py db a 3 20
	same "$(state db)" "60
a|60|60
ok"
	same "$(sqlite3 db .dump | sort)" "$dump" "the restored database"
	$python write.py db b 1 5
	same "$(state db)" "65
a|60|60
b|5|5
ok" "the restored database, written to"
done

say "the shell, from nothing"
cat >shell.sh <<'END'
set -e
sqlite3 made.db "PRAGMA journal_mode=wal; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
	WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, hex(i) FROM n;
	CREATE INDEX i ON t(b); DELETE FROM t WHERE a % 3 = 0; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)"
sqlite3 made.db "ATTACH 'second.db' AS s; CREATE TABLE s.u AS SELECT * FROM t WHERE a % 2; PRAGMA s.integrity_check"
sqlite3 made.db .dump | sha256sum
sqlite3 second.db .dump | sha256sum
ls made.db* second.db*
END
like_native shell.sh made.db second.db
same "$(sqlite3 made.db 'PRAGMA integrity_check')" ok
same "$(sqlite3 second.db 'PRAGMA integrity_check')" ok

# In a write-ahead log's case whoever comes second waits until the first has closed the database: see mirror.c.
for mode in delete wal; do
	say "$mode: two views and a process outside at once"
	rm -f db*
	$python new.py db $mode
	mlfs exec -- $python write.py db one 2 25 &
	first=$!
	mlfs exec -- $python write.py db two 2 25 &
	second=$!
	$python write.py db outside 2 25
	wait $first
	wait $second
	same "$(state db)" "150
one|50|50
outside|50|50
two|50|50
ok"
done

# Holds the database open; "read" and "write" on the fifo, or its end.
cat >hold.py <<'END'
import os, sqlite3
w = os.environ["WITNESS"]
c = sqlite3.connect("db", timeout=0, isolation_level=None)
c.execute("UPDATE counter SET v = v + 1")
with open(w + "/held", "w") as f:
    f.write("held\n")
with open(w + "/release") as f:
    f.read()
c.execute("UPDATE counter SET v = v + 1")
print(c.execute("SELECT v FROM counter").fetchone()[0])
END
mkfifo "$WITNESS/held" "$WITNESS/release"
touch_db="UPDATE counter SET v = v + 100"

say "wal: open in a view, another is told that it is locked"
rm -f db*
$python new.py db wal
mlfs exec -- $python hold.py >"$IO/out" &
pid=$!
await held
same "$(sqlite3 db "$touch_db" 2>&1 | grep -o 'database is locked')" "database is locked" "outside"
same "$(mlfs exec -- sqlite3 db "$touch_db" 2>&1 | grep -o 'database is locked')" "database is locked" "in another view"
echo x >"$WITNESS/release"
wait $pid
printed 2
sqlite3 db "$touch_db"
same "$(state db)" "102
ok"

say "wal: open outside, a view is told that it is locked"
rm -f db*
$python new.py db wal
$python hold.py >"$IO/out" &
pid=$!
await held
same "$(mlfs exec -- sqlite3 db "$touch_db" 2>&1 | grep -o 'database is locked')" "database is locked"
sqlite3 db "$touch_db"
echo x >"$WITNESS/release"
wait $pid
printed 102
mlfs exec -- sqlite3 db "$touch_db"
same "$(state db)" "202
ok"

say "wal: open in a view, the others in it go on"
rm -f db*
$python new.py db wal
cat >both.sh <<'END'
$python hold.py &
read -r x <"$WITNESS/held"
sqlite3 db "UPDATE counter SET v = v + 100"
echo x >"$WITNESS/release"
wait
END
python=$python mlfs exec -- sh both.sh >"$IO/out"
printed 102
