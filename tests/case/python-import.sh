#!/bin/sh
# SPDX-License-Identifier: MIT
# A Python step importing numpy and pandas, with and without __pycache__ present.
. "$(dirname "$0")/lib.sh"

fresh()
{
	mkdir -p "$1/own"
	cd "$1"
	echo 'x,y
1,2
3,4' >in.csv
	echo 'from .part import double' >own/__init__.py
	echo 'def double(t): return t * 2' >own/part.py
	cat >step.py <<-'END'
	import os, sys
	sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
	import numpy, pandas
	from own import double
	t = double(pandas.read_csv("in.csv"))
	t.to_csv("out.csv", index=False)
	print(numpy.asarray(t).sum())
	os.system("mark")
	END
	cd ..
}

for bytecode in without with own; do
	say "$bytecode __pycache__"
	fresh $bytecode
	cd $bytecode
	: >"$WITNESS/ran"
	case $bytecode in
	with) $python -m compileall -q own ;;
	# Every module's byte-code, numpy's and pandas' too, is written by the step itself.
	own) export PYTHONPYCACHEPREFIX="$PWD/bytecode" ;;
	esac
	miss -- $python step.py
	printed 20
	before=$(tree .)
	hit -- $python step.py
	printed 20
	same "$(tree .)" "$before" "what is there"
	case $bytecode in
	without)
		rm -r own/__pycache__ out.csv
		hit -- $python step.py
		same "$(tree .)" "$before" "what is there"
		;;
	with)
		# The byte-code was read, so it is an input: gone, it is another state.
		rm out.csv
		hit -- $python step.py
		;;
	own)
		rm -r bytecode out.csv
		hit -- $python step.py
		same "$(tree .)" "$before" "what is there"
		;;
	esac
	[ -s out.csv ] || fail "out.csv was not restored"
	ran 1
	echo 'x,y
1,2
3,5' >in.csv
	miss_because '*in.csv*' -- $python step.py
	printed 22
	hit -- $python step.py
	printed 22
	echo 'def double(t): return t * 3' >own/part.py
	miss_because '*part*' -- $python step.py
	printed 33
	ran 3
	cd ..
done
