#!/bin/sh
# SPDX-License-Identifier: MIT
# Unix sockets that others made: a step reaches them wherever they lie, and is not stored then.
. "$(dirname "$0")/lib.sh"

cat >server.py <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
os.chdir(os.path.dirname(sys.argv[1]))
s.bind(os.path.basename(sys.argv[1]))
s.listen(5)
with open(os.environ["WITNESS"] + "/up", "w") as f:
    f.write("up\n")
while True:
    c, _ = s.accept()
    uid = int.from_bytes(c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], "little")
    word = c.recv(10).decode()
    c.sendall(f"{word} of {uid}".encode())
    c.close()
    if word == "quit":
        break
END
cat >client.py <<'END'
import os, socket, sys
os.system("mark")
c = socket.socket(socket.AF_UNIX)
c.connect(sys.argv[1])
c.sendall(sys.argv[2].encode())
print(c.recv(100).decode())
END
mkfifo "$WITNESS/up"
mkdir dir
$python server.py "$PWD/dir/sock" &
server=$!
await up
say "below the view"
not_stored "unix socket used: $PWD/dir/sock by python3" -- $python client.py "$PWD/dir/sock" hello
printed "hello of $(id -u)"
say "by a relative path, through a link"
ln -s dir/sock link
not_stored "unix socket used: $PWD/dir/sock by python3" -- $python client.py link hello
printed "hello of $(id -u)"
say "--allow-network"
miss --allow-network -- $python client.py dir/sock hello
hit --allow-network -- $python client.py dir/sock hello
printed "hello of $(id -u)"
ran 3
say "in a directory that is shown natively"
$python server.py "$WITNESS/sock" &
native=$!
await up
not_stored "unix socket used: $WITNESS/sock by python3" -- $python client.py "$WITNESS/sock" quit
printed "quit of $(id -u)"
wait $native
sed "s,\"own\",\"$WITNESS/own\",g" >within-native.py <<'END'
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind("own")
s.listen(1)
c = socket.socket(socket.AF_UNIX)
c.connect("own")
print("connected")
os.unlink("own")
END
miss -- $python within-native.py
printed connected
say "one that does not wait"
not_stored "unix socket used: *" -- $python -c "
import socket
c = socket.socket(socket.AF_UNIX)
c.setblocking(False)
c.connect('dir/sock')
c.setblocking(True)
c.sendall(b'x')
print(c.recv(100).decode(), c.getblocking())"
printed "x of $(id -u) True"
say "one made in the step is its own business"
cat >within.py <<'END'
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind("own")
s.listen(1)
c = socket.socket(socket.AF_UNIX)
c.connect("own")
a, _ = s.accept()
a.sendall(b"inside")
print(c.recv(10).decode())
os.unlink("own")
END
miss -- $python within.py
printed inside
say "managers of multiprocessing"
miss -- $python -c "
import multiprocessing as m
if __name__ == '__main__':
    with m.Manager() as manager:
        d = manager.dict(); d['a'] = 1
        print(dict(d))"
say "nobody behind it any more"
$python client.py dir/sock quit >/dev/null
wait $server
not_stored "its exit status was 1" =1 -- $python client.py dir/sock hello
matches "$(tail -n 1 "$IO/err")" "ConnectionRefusedError*"
