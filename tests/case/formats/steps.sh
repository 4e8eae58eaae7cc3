# SPDX-License-Identifier: MIT
# Sourced by make-fixture and by the case formats.sh, in /mnt: the steps whose results a fixture has. The commands are in
# the keys: when one is changed, the fixtures have to be made anew. $FIXTURE is a directory outside of the view.

# Nothing of the machine is an input: only what is in /mnt. What is printed goes to $FIXTURE/out and err.
fixture_exec()
{
	setpriv --clear-groups env -i PATH=/usr/bin:/bin "$MLFS" exec --cache "$MLFS_CACHE" --clean-env --ignore '/[!m]*' \
		--report "$FIXTURE/report" "$@" >"$FIXTURE/out" 2>"$FIXTURE/err"
}

make_inputs()
{
	umask 022
	mkdir -p conf
	echo 'rate = 0.1' >conf/rate
	ln -sf rate conf/link
	echo "$1" >data
	rm -rf out
}

# Small and large outputs, a directory, symbolic and hard links, an absent name, a listing, both streams.
train()
{
	fixture_exec --name train -- /bin/sh -c 'cat data conf/link; ls conf; test ! -e conf/local; mkdir out
d=$(cat data); i=0; while [ $i -lt 2000 ]; do echo "line $i of $d"; i=$((i + 1)); done >out/model
echo small >out/log; ln out/log out/same; ln -s model out/latest; : >out/empty; chmod 640 out/log; echo noted >&2' </dev/null
}

# What comes through a pipe is kept; a file is in the step key.
from_pipe()
{
	printf 'over the pipe\n' | fixture_exec --name pipe -- /bin/cat
}

from_file()
{
	fixture_exec --name file -- /bin/cat <data
}

make_cache()
{
	for data in first second; do
		make_inputs $data
		train
	done
	from_pipe
	from_file
	close_segment
	[ "$(cat "$MLFS_CACHE/version")" = "mlfs cache 1" ] || drop_one # no such thing in the first format
	# Hits with all in place leave a stamp as soon as the times are settled; what they add to the journal of uses stays.
	until [ -s "$MLFS_CACHE/index/stamps" ]; do
		train
	done
	train
	[ -s "$MLFS_CACHE/index/uses" ]
}

# The history so far becomes a segment, as it does when it is long.
close_segment()
{
	"$MLFS" log --help >"$FIXTURE/help" 2>&1 || return 0 # the first programs had no such thing
	mv "$MLFS_CACHE/index/runs" "$MLFS_CACHE/index/runs.1"
	"$MLFS" log >/dev/null
	[ -s "$MLFS_CACHE/index/rows.1" ]
}

# A result that is dropped while somebody has the cache open: its objects wait to be removed.
drop_one()
{
	fixture_exec --name dropped -- /bin/sh -c 'echo dropped >gone; cat gone' </dev/null
	mkfifo "$FIXTURE/begun" "$FIXTURE/on"
	fixture_exec --name keeper -- /bin/sh -c 'echo >"$1"; read x <"$2"' sh "$FIXTURE/begun" "$FIXTURE/on" </dev/null &
	read -r _ <"$FIXTURE/begun"
	"$MLFS" forget -q --name dropped
	echo >"$FIXTURE/on"
	wait $!
}
