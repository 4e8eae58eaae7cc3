#!/bin/sh
# SPDX-License-Identifier: MIT
# gcc, clang, make, ninja and cmake: what is built is the same bytes; after a view or a hit nothing is to be done
# outside, a change outside is built inside and the other way round.
. "$(dirname "$0")/lib.sh"

mkdir project
cd project
cat >all.h <<'END'
#ifndef ALL_H
#define ALL_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int add(int, int);
int mul(int, int);
const char *version(void);
#endif
END
for f in add mul; do
	cat >$f.c <<END
#include "all.h"
int $f(int a, int b) { return $([ $f = add ] && echo 'a + b' || echo 'a * b'); }
END
done
cat >version.c <<'END'
#include "all.h"
const char *version(void) { return VERSION; }
END
cat >main.c <<'END'
#include "all.h"
int main(void) { printf("%d %d %s\n", add(2, 3), mul(2, 3), version()); return 0; }
END
cat >pch.h <<'END'
#include <algorithm>
#include <map>
#include <string>
#include <vector>
END
cat >cxx.cc <<'END'
#include "pch.h"
int main() { std::map<std::string, std::vector<int>> m; m["a"] = {3, 1, 2}; std::sort(m["a"].begin(), m["a"].end());
	return m["a"][0] - 1; }
END
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.13)
project(p C)
add_library(two STATIC add.c mul.c)
add_library(ver SHARED version.c)
target_compile_definitions(ver PRIVATE VERSION="1.0")
add_executable(p main.c)
target_link_libraries(p two ver)
add_custom_command(OUTPUT gen.txt COMMAND p > gen.txt DEPENDS p)
add_custom_target(gen ALL DEPENDS gen.txt)
END
cat >Makefile <<'END'
CFLAGS = -O1 -g -MMD -MP -DVERSION='"1.0"'
prog: main.o version.o libtwo.a
	$(CC) -o $@ main.o version.o -L. -ltwo
libtwo.a: add.o mul.o
	$(AR) rcD $@ $^
-include *.d
END
cd ..

cat >tools.sh <<'END'
set -e
mkdir -p out
cd out
$CC -flto -O2 -DVERSION='"x"' -o lto ../project/main.c ../project/add.c ../project/mul.c ../project/version.c
$CC -c -g -fPIC -MD -MF add.d -o add.o ../project/add.c
$CC -c -g -fPIC -o mul.o ../project/mul.c
$CC -shared -Wl,--build-id=none -o lib.so add.o mul.o
ar rcsD lib.a add.o mul.o
ar t lib.a
ld -r -o both.o add.o mul.o
objcopy --only-keep-debug add.o add.debug
strip -o stripped lto
strip --strip-debug mul.o
nm both.o
size both.o | tail -1
cp ../project/pch.h .
$CXX -x c++-header -o pch.h.$PCH pch.h
cp ../project/cxx.cc .
$CXX $USE_PCH -Winvalid-pch -o cxx cxx.cc
./cxx
./lto
rm pch.h.$PCH # its bytes are not the same each time
END
for cc in gcc clang; do
	say "$cc: link-time optimisation, libraries, precompiled headers, ar, ld, strip, objcopy"
	if [ $cc = gcc ]; then
		export CC=gcc CXX=g++ PCH=gch USE_PCH=
		else
		export CC=clang CXX=clang++ PCH=pch USE_PCH='-include-pch pch.h.pch'
		fi
	like_native tools.sh out
done
unset CC CXX PCH USE_PCH

# Nothing is left to do.
up_to_date()
{
	case $1 in
	make) make -C project -q || fail "make has something to do" ;;
	*) same "$(cmake --build build -- -n 2>&1 | grep -vE '^ninja: (Entering|no work)|Nothing to be done|Built target' |
		grep -E '\.o\b|\.c\b|Linking|gen.txt' || true)" "" "$1 has something to do" ;;
	esac
}

say "make: dependency files"
cp -a project clean
miss -- make -C project
same "$(project/prog)" "5 6 1.0"
up_to_date make
rm -rf project
cp -a clean project
hit -- make -C project
same "$(project/prog)" "5 6 1.0"
up_to_date make
say "make: a header changed outside is built inside"
sed -i 's/a + b/a - b/' project/add.c
miss_because '*' -- make -C project
same "$(project/prog)" "-1 6 1.0"
up_to_date make
say "make: outside after inside"
sed -i 's/a \* b/a + b/' project/mul.c
make -C project >"$IO/out"
grep -q mul.c "$IO/out" || fail "mul.c is not built"
! grep -q add.c "$IO/out" || fail "add.c is built again"
same "$(project/prog)" "-1 5 1.0"
miss -- make -C project -q
rm -rf project
cp -a clean project

for generator in Ninja "Unix Makefiles"; do
	say "cmake, $generator"
	cat >cmake.sh <<END
cmake -S project -B build -G "$generator" >/dev/null && cmake --build build >/dev/null && cat build/gen.txt
END
	rm -rf build
	miss -- sh cmake.sh
	printed "5 6 1.0"
	up_to_date "$generator"
	cp build/p "$IO/p"
	rm -rf build
	hit -- sh cmake.sh
	printed "5 6 1.0"
	cmp build/p "$IO/p"
	up_to_date "$generator"
	say "cmake, $generator: with a source that is younger than the result, its outputs are younger still"
	touch project/add.c
	rm -rf build
	hit -- sh cmake.sh
	[ build/p -nt project/add.c ] || fail "what was restored is older than its source"
	cmake --build build >"$IO/out"
	say "cmake, $generator: a change, built outside, then one built inside"
	sed -i 's/a + b/a - b/' project/add.c
	cmake --build build >"$IO/out"
	same "$(cat build/gen.txt)" "-1 6 1.0"
	! grep -q 'mul\.c' "$IO/out" || fail "built again outside: $(cat "$IO/out")"
	sed -i 's/a \* b/a + b/' project/mul.c
	miss -- cmake --build build
	same "$(cat build/gen.txt)" "-1 5 1.0"
	! grep -q '/version\.c' "$IO/out" || fail "built again inside"
	up_to_date "$generator"
	say "cmake, $generator: a build in a view that another view goes on with"
	sed -i 's/"1.0"/"2.0"/' project/CMakeLists.txt
	miss -- cmake --build build
	same "$(cat build/gen.txt)" "-1 5 2.0"
	up_to_date "$generator"
	rm -rf project
	cp -a clean project
done
