#!/bin/sh
# SPDX-License-Identifier: MIT
# mlfs show: all that is kept of a result, for people and for programs.
. "$(dirname "$0")/lib.sh"

# show [=STATUS] ARGS…
show()
{
	ask show "$@"
}

say "usage"
show =1 0
grep -q '^mlfs: there is no cache at ' "$IO/err" || fail "no cache, and it is not said"
show =2 --jsn 3f
grep -q "did you mean '--json'" "$IO/err" || fail "the right word is not named"
show =2
show --help
[ "$(awk '{ print length }' "$IO/out" | sort -n | tail -1)" -le 80 ] || fail "the help is too wide"

printf 'one line\n' >in
ln -s in link
mkdir listed
: >listed/name
odd=$(printf 'b\377d')
printf 'odd\n' >"$odd"
cat >work.sh <<'END2'
cat in link b*d
ls listed
[ -e missing ] || echo none
read -r line
echo "read $line"
mkdir made
seq 2000 >made/big
ln -s big made/link
chmod 600 made/big
echo trouble >&2
END2
mkfifo "$WITNESS/pipe"
printf 'from stdin\nrest\n' >"$WITNESS/pipe" &
miss --name 'my step' -- sh work.sh <"$WITNESS/pipe"
key=$r_input_key

say "a unique beginning of the key will do, of the step's as well"
show "$(echo "$key" | cut -c1-8)"
cp "$IO/out" text
show "$(echo "$r_step_key" | cut -c1-8)"
cmp -s "$IO/out" text || fail "the step's key does not show its result"
show "$(echo "$key" | cut -c1-8 | tr a-f A-F)"

say "what is shown"
has '^name +my step$'
has '^command +sh work.sh$'
has "^in +$PWD\$"
has '^run .*, took .*, exit status 0$'
has '^  content +in  file, 9 B, mode 0644$'
has '^  link +link  link to in$'
has '^  listing +listed  directory, mode 0755$'
has '^  absence +missing  nothing there$'
has '^  made/big  file, 8.7 KB, mode 0600, sha256 [0-9a-f]+…  now as recorded$'
has '^  made/link  link to big  now as recorded$'
has '^stdin +11 B$'
has '^  read from stdin$'
has '^  trouble$'
if grep -q '/usr/' "$IO/out"; then
	fail "the system's files are shown without --all"
fi
show --all "$key"
has '^  content +/usr/'
has "^  HOME="

say "outputs as they are now"
rm made/link
echo more >>made/big
show "$key"
has '^  made/big .*  another now$'
has '^  made/link .*  not there now$'

say "the streams, raw"
show --stdout "$key"
printf 'one line\none line\nodd\nname\nnone\nread from stdin\n' | cmp -s - "$IO/out" || fail "stdout is another"
show --stderr "$key"
printed trouble

say "JSON, exact"
show --json "$key"
$python -I -c '
import base64, hashlib, json, os, sys
r = json.load(open(sys.argv[1]))
assert r["key"] == sys.argv[2] and r["name"] == "my step" and r["argv"] == ["sh", "work.sh"], r
assert r["cwd"] == os.getcwd() and r["exit_status"] == 0 and r["expires"] is None, r
inputs = {(base64.b64decode(i["path_base64"]) if "path_base64" in i else i["path"].encode()): i for i in r["inputs"]}
def at(name):
    return inputs[os.path.join(os.getcwdb(), name)]
assert at(b"b\xffd")["state"]["size"] == 4
assert at(b"in")["observed"] == ["content"] and at(b"in")["state"]["type"] == "file"
assert at(b"link")["state"]["target"] == "in" and at(b"missing")["state"]["type"] == "absent"
assert "listing" in at(b"listed")["state"]
outs = {os.path.relpath(o["path"]): o for o in r["outputs"]}
big = "".join("%d\n" % n for n in range(1, 2001)).encode()
assert outs["made/big"]["sha256"] == hashlib.sha256(big).hexdigest() and outs["made/big"]["now"] == "changed"
assert outs["made/link"]["now"] == "gone" and outs["made"]["now"] == "as recorded", outs
assert r["console"]["stderr"] == "trouble\n" and r["console"]["stdout"].endswith("read from stdin\n")
assert r["stdin"]["sha256"] == hashlib.sha256(b"from stdin\n").hexdigest() and not r["stdin"]["end_of_file"]
assert any(e.startswith("HOME=") for e in r["environment"])' "$IO/out" "$key"

say "when it expires is a setting of the step"
printf '[step "my *"]\nexpire-after = P1D\n' >"$MLFS_CACHE/mlfs.conf"
show "$key"
has '^expires +in 23 h 59 m|^expires +in 1 d'
printf 'expire-after = PT0S\n' >"$MLFS_CACHE/mlfs.conf"
show "$key"
has '^expired +.* ago$'
echo 'expire-aftr = P1D' >"$MLFS_CACHE/mlfs.conf"
show =2 "$key"
grep -q "did you mean 'expire-after'" "$IO/err" || fail "the wrong setting is not named"
rm "$MLFS_CACHE/mlfs.conf"

say "keys that are none, or several"
show =1 "$(echo "$key" | sed 's/^......../00000000/')"
show =2 xyz
n=0
while [ $n -lt 20 ]; do
	mlfs exec -q -- true $n
	n=$((n + 1))
done
for digit in 0 1 2 3 4 5 6 7 8 9 a b c d e f; do
	status=0
	mlfs show $digit >"$IO/out" 2>"$IO/err" || status=$?
	! grep -q several "$IO/err" || break
done
same $status 1 "status for a key that is not the only one"
grep -q '^mlfs: several keys begin with .: .*(true)' "$IO/err" || fail "the keys are not named"

say "a terminal: colours and a pager; NO_COLOR; neither elsewhere"
if grep -q "$(printf '\033')" text; then
	fail "colours without a terminal"
fi
terminal()
{
	TERM=xterm "$python" -I -c '
import os, pty, sys
out = b""
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try:
        part = os.read(fd, 4096)
    except OSError:
        break
    if not part:
        break
    out += part
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$@" >"$IO/out" || fail "status $? of $* on a terminal"
}
MLFS_PAGER='sed s/^/paged:/' terminal mlfs show --all "$key"
grep -q '^paged:.*result' "$IO/out" || fail "no pager"
grep -q "$(printf '\033\\[')" "$IO/out" || fail "no colours"
NO_COLOR=1 MLFS_PAGER=cat terminal mlfs show "$key"
if grep -q "$(printf '\033\\[')" "$IO/out"; then
	fail "colours in spite of NO_COLOR"
fi
MLFS_PAGER='exit 0' terminal mlfs show --all "$key"
