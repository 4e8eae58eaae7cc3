#!/bin/sh
# SPDX-License-Identifier: MIT
# The example: all miss; all hit; one hyperparameter changed: preprocess hits, the others run.
. "$(dirname "$0")/lib.sh"

cp -r "$EXAMPLE" pipeline
real=$(command -v mlfs)
mkdir shim
# run.sh knows nothing of reports: an mlfs in front of the real one asks for them.
cat >shim/mlfs <<END
#!/bin/sh
shift
n=\$(cat "$IO/n")
echo \$((n + 1)) >"$IO/n"
exec "$real" exec --report "$IO/report.\$n" "\$@"
END
chmod +x shim/mlfs
PATH=$PWD/shim:$PATH
cd pipeline

# What the three steps were, in their order, as "result result result".
pipeline()
{
	echo 1 >"$IO/n"
	./run.sh "$@" >"$IO/out" 2>"$IO/err" || fail "run.sh $*: status $?"
	results=
	for n in 1 2 3; do
		eval "$($python -I -B "$cases/report.py" "$IO/report.$n")"
		results="$results $r_result"
		[ "$r_result" = hit ] || same "$r_stored" true "step $n stored ($r_reason)"
	done
	echo "${results# }"
}

say "all miss"
same "$(pipeline)" "miss miss miss"
first=$(tree results)
cp "$IO/out" "$IO/first"
say "all hit"
same "$(pipeline)" "hit hit hit"
same "$(tree results)" "$first" outputs
cmp "$IO/out" "$IO/first"
say "another hyperparameter"
same "$(pipeline 50)" "hit miss miss"
grep -q '"trees": 50' results/metrics.json
say "and back"
same "$(pipeline)" "hit hit hit"
same "$(tree results)" "$first" outputs
say "every output gone"
rm -r results
same "$(pipeline)" "hit hit hit"
same "$(tree results)" "$first" outputs
say "a script changed"
echo '# a comment' >>evaluate.py
same "$(pipeline)" "hit hit miss"
