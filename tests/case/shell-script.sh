#!/bin/sh
# SPDX-License-Identifier: MIT
# A shell script of some 30 lines: pipes, here-documents, temporary files, globs, links, a function.
. "$(dirname "$0")/lib.sh"

mkdir logs
for day in mon tue wed; do
	seq 1 200 | sed "s/.*/$day & GET \/page\/&/" >logs/$day.log
done
cat >summary.sh <<'END'
#!/bin/bash
set -euo pipefail
mark
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
out=report
mkdir -p "$out/days"

count() {
	local pattern=$1
	shift
	grep -c "$pattern" "$@" || true
}

for log in logs/*.log; do
	day=$(basename "$log" .log)
	sort -k4 "$log" | uniq -c >"$tmp/$day"
	awk '{ sum += $3 } END { print sum }' "$tmp/$day" >"$out/days/$day.sum"
	count 'page/1' "$log" >"$out/days/$day.count"
done

cat >"$out/index.txt" <<-INNER
	days: $(ls "$out/days" | wc -l)
	total: $(cat "$out"/days/*.sum | paste -sd+ | bc 2>/dev/null || cat "$out"/days/*.sum | awk '{s += $1} END {print s}')
INNER
tar -cf - --sort=name --mtime=@0 --owner=0 --group=0 -C "$out" days | gzip -n >"$out/days.tar.gz"
ln -sf index.txt "$out/latest"
chmod 640 "$out/index.txt"
[ -e "$out/old" ] && rm -f "$out/old"
diff "$out/days/mon.sum" "$out/days/tue.sum" && echo "same days"
echo "summary of $(ls logs | wc -l) logs done" >&2
END
chmod +x summary.sh
miss -- ./summary.sh
first=$(tree report)
cp "$IO/out" "$IO/first.out"
cp "$IO/err" "$IO/first.err"
matches "$(cat report/index.txt)" '*days: *total: *'
hit -- ./summary.sh
cmp "$IO/out" "$IO/first.out"
cmp "$IO/err" "$IO/first.err"
rm -r report
hit -- ./summary.sh
same "$(tree report)" "$first" outputs
same "$(readlink report/latest)" index.txt
ran 1
echo 'thu 1 GET /' >logs/thu.log
miss_because '*logs*' -- ./summary.sh
ran 2
