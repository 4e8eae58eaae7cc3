#!/bin/sh
# SPDX-License-Identifier: MIT
# apt-get update, download and source from a repository in a directory: dpkg-deb, apt-ftparchive, apt's own methods
# (processes that become another user where root starts them).
. "$(dirname "$0")/lib.sh"

[ -x /usr/bin/apt-get ] || skip "needs apt-get: not Debian"

# Where the user that root's apt becomes may read.
chmod 755 .
mkdir -p package/DEBIAN package/usr/share/tiny repository
echo content >package/usr/share/tiny/file
cat >package/DEBIAN/control <<'END'
Package: tiny-test
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a package of a test
END
cat >build.sh <<'END'
set -e
export SOURCE_DATE_EPOCH=1700000000
dpkg-deb --root-owner-group -b package repository/tiny-test_1.0_all.deb
cd repository
apt-ftparchive packages . >Packages
gzip -9nk Packages
dpkg-deb -c tiny-test_1.0_all.deb
END
say "dpkg-deb and apt-ftparchive"
cat >fresh.sh <<'END'
mkdir -p repository && exec sh build.sh
END
like_native fresh.sh repository

echo "deb [trusted=yes] file:$PWD/repository ./" >sources.list
cat >fetch.sh <<END
set -e
mkdir -p state/lists/partial cache/archives/partial down
set -- -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$PWD/state" \\
	-o Dir::State::status=/dev/null -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User="\$(id -un)" -qq
apt-get "\$@" update
apt-cache "\$@" policy tiny-test | grep Candidate
cd down
apt-get "\$@" download tiny-test
dpkg-deb -x tiny-test_1.0_all.deb x
cat x/usr/share/tiny/file
ls
END
# Apt's caches hold the times of its lists.
steady_tree()
{
	tree "$@" | grep -v 'pkgcache\.bin'
}
say "update and download"
like_native fetch.sh state cache down
say "the restored lists serve"
mkdir elsewhere
same "$(cd elsewhere && apt-get -o Dir::Etc::sourcelist="$PWD/../sources.list" -o Dir::Etc::sourceparts=- \
	-o Dir::State="$PWD/../state" -o Dir::State::status=/dev/null -o Dir::Cache="$PWD/../cache" \
	-o APT::Sandbox::User="$(id -un)" download --print-uris tiny-test | cut -d' ' -f2)" tiny-test_1.0_all.deb

if is_root; then
	say "as root: the methods become the user _apt"
	sed 's/-o APT::Sandbox::User="$(id -un)"//' fetch.sh >sandbox.sh
	like_native sandbox.sh state cache down
fi
