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
say "a server that is contacted from outside"
mkfifo "$WITNESS/step"
cat >served.py <<'END'
import os, socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(5)
with open(os.environ["WITNESS"] + "/step", "w") as f:
    f.write(f"{s.getsockname()[1]}\n")
c, _ = s.accept()
print(c.recv(10).decode())
END
(
	read -r port <"$WITNESS/step"
	exec $python -c "import socket; socket.create_connection(('127.0.0.1', $port)).sendall(b'outside')"
) &
caller=$!
not_stored "network was used: connection from 127.0.0.1:* to 127.0.0.1:* by python3" -- $python served.py
printed outside
wait $caller

say "a server and its clients within the step"
cat >within.py <<'END'
import http.client, http.server, threading, os
os.system("mark")
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *a):
        pass
s = http.server.ThreadingHTTPServer(("localhost", 0), H)
threading.Thread(target=s.serve_forever, daemon=True).start()
for i in range(20):
    c = http.client.HTTPConnection("localhost", s.server_port)
    c.request("GET", "/")
    print(c.getresponse().read().decode())
    c.close()
s.shutdown()
END
miss -- $python within.py
hit -- $python within.py
say "in processes of their own, the client waiting until the server is up"
cat >pair.sh <<END
$python -c "
import socket, time
p = socket.socket(); p.bind(('127.0.0.1', 0)); port = p.getsockname()[1]; p.close()
open('port', 'w').write(str(port))
s = socket.create_server(('127.0.0.1', port))
c, _ = s.accept()
c.sendall(c.recv(10))" &
$python -c "
import socket, time
while True:
    try:
        c = socket.create_connection(('127.0.0.1', int(open('port').read())))
        break
    except (OSError, ValueError):
        time.sleep(0.01)
c.sendall(b'echo')
print(c.recv(10).decode())"
wait
rm port
END
miss -- sh pair.sh
printed echo
hit -- sh pair.sh
say "asyncio"
miss -- $python -c "
import asyncio
async def serve(r, w):
    w.write(await r.read(10)); await w.drain(); w.close()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = s.sockets[0].getsockname()[1]
    async def ask(n):
        r, w = await asyncio.open_connection('127.0.0.1', port)
        w.write(str(n).encode()); w.write_eof()
        return await r.read(10)
    print(await asyncio.gather(*[ask(n) for n in range(30)]))
asyncio.run(main())"
say "a name that is looked up in /etc/hosts"
miss -- $python -c "import socket; print(len(socket.getaddrinfo('localhost', 80)) > 0)"

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
say "a Unix socket of somebody else"
$python -c "
import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind('\0mlfs-outside-$$')
s.listen(5)
open(os.environ['WITNESS'] + '/port', 'w').write('up\\n')
s.accept()[0].sendall(b'told')
s.accept()[0].sendall(b'told')" &
other=$!
await port
cat >ask.py <<END
import socket
c = socket.socket(socket.AF_UNIX)
c.connect('\0mlfs-outside-$$')
print(c.recv(10).decode())
END
not_stored "unix socket used: @mlfs-outside-$$ by python3" -- $python ask.py
printed told
miss --allow-network -- $python ask.py
wait $other
say "one that does not answer"
not_stored "its exit status was 1" =1 --refresh --allow-network -- $python ask.py
not_stored "its exit status was 1" =1 --refresh -- $python ask.py
$python client.py quit
wait $server
