#!/bin/sh
# SPDX-License-Identifier: MIT
# A statically linked program: nothing of mlfs depends on the dynamic loader.
. "$(dirname "$0")/lib.sh"

cat >up.c <<'END'
#include <ctype.h>
#include <stdio.h>
int main(void)
{
	FILE *in = fopen("in", "r"), *out = fopen("out", "w");
	FILE *ran = fopen(RAN, "a");
	int c;

	if (!in || !out || !ran)
		return 1;
	fputs("ran\n", ran);
	while ((c = getc(in)) != EOF)
		putc(toupper(c), out);
	puts("done");
	return 0;
}
END
gcc -static -O1 -DRAN="\"$WITNESS/ran\"" -o up up.c
if file up 2>/dev/null | grep -q 'dynamically linked'; then
	fail "up is not static"
fi
echo hello >in
miss -- ./up
printed done
same "$(cat out)" HELLO
hit -- ./up
printed done
rm out
hit -- ./up
same "$(cat out)" HELLO
ran 1
echo bye >in
miss_because '*in changed*' -- ./up
same "$(cat out)" BYE
ran 2
