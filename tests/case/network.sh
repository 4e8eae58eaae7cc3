#!/bin/sh
# SPDX-License-Identifier: MIT
# A step that uses the network is not stored, unless allowed.
. "$(dirname "$0")/lib.sh"

cat >server.py <<'END'
import os, socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(5)
with open(os.environ["WITNESS"] + "/port", "w") as f:
    f.write(f"{s.getsockname()[1]}\n")
while True:
    c, _ = s.accept()
    word = c.recv(10)
    c.sendall(b"answer\n")
    c.close()
    if word == b"quit":
        break
END
mkfifo "$WITNESS/port"
$python server.py &
server=$!
await port
port=$line
cat >client.py <<END
import os, socket, sys
os.system("mark")
s = socket.create_connection(("127.0.0.1", $port))
s.sendall(sys.argv[1].encode())
print(s.recv(100).decode(), end="")
END
say "tcp"
not_stored "network was used: *127.0.0.1:$port*python3*" -- $python client.py x
printed answer
not_stored "network was used: *" -- $python client.py x
ran 2
say "--allow-network"
miss --allow-network -- $python client.py x
printed answer
hit --allow-network -- $python client.py x
printed answer
ran 3
say "from a program started by the step, in the background of it"
not_stored "network was used: *" -- sh -c "$python client.py y & wait"
say "udp"
not_stored "network was used: *" -- $python -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', $port))"
say "udp, with sendmsg"
not_stored "network was used: *" -- $python -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('127.0.0.1', $port))"
say "a refused connection counts as well"
not_stored "network was used: *" -- $python -c "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"
say "sockets of the machine's own do not count"
miss -- $python -c "
import socket
a, b = socket.socketpair()
a.sendall(b'x')
s = socket.socket(socket.AF_UNIX)
s.bind('\0mlfs-test-$$')
s.listen(1)
c = socket.socket(socket.AF_UNIX)
c.connect('\0mlfs-test-$$')
print(b.recv(1))"
say "a socket that is only made does not count"
miss -- $python -c "import socket; socket.socket(); print('made')"
say "multiprocessing does not count"
miss -- $python -c "
import multiprocessing as m
def f(x): return x * x
if __name__ == '__main__':
    with m.Pool(2) as p: print(p.map(f, range(4)))"
$python client.py quit
wait $server
