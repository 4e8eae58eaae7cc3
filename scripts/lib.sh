# SPDX-License-Identifier: MIT
# Shared by scripts/*: sourced, not run.
# shellcheck shell=bash

set -eu
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

note()
{
	echo "== $*"
}

is_root()
{
	[ "$(id -u)" -eq 0 ]
}

# Descriptors that whoever started us let through would be passed to every command, and mlfs stores no result of
# a command that may have talked through one.
close_descriptors()
{
	local fd
	for fd in /proc/self/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || [ "$fd" -eq 255 ] || eval "exec $fd>&-"
	done
}

package_manager()
{
	if command -v apt-get >/dev/null; then
		echo apt
	elif command -v dnf >/dev/null; then
		echo dnf
	else
		echo none
	fi
}

installed()
{
	case $1 in
	apt) dpkg-query -W -f '${Status}\n' "$2" 2>/dev/null | grep -q '^install ok installed' ;;
	dnf) rpm -q "$2" >/dev/null 2>&1 ;;
	esac
}

# need WORD…: install what is missing. A word is the package's name for apt and dnf, "apt-name:dnf-name" where
# they differ, with an empty half where one has no such package.
need()
{
	local manager word name missing=()
	manager=$(package_manager)
	if [ "$manager" = none ]; then
		echo "neither apt-get nor dnf is here; what is needed, in Debian's names: $(printf '%s ' "${@%%:*}")" >&2
		return 0
	fi
	for word in "$@"; do
		case $manager in
		apt) name=${word%%:*} ;;
		dnf) name=${word#*:} ;;
		esac
		if [ -n "$name" ] && ! installed "$manager" "$name"; then
			missing+=("$name")
		fi
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! is_root; then
		echo "${0##*/}: packages are missing; run this, then start again:" >&2
		case $manager in
		apt) echo "  sudo apt-get install -y ${missing[*]}" >&2 ;;
		dnf) echo "  sudo dnf install -y ${missing[*]}" >&2 ;;
		esac
		exit 1
	fi
	note "installing ${missing[*]}"
	case $manager in
	apt)
		export DEBIAN_FRONTEND=noninteractive
		apt-get install -y --no-install-recommends "${missing[@]}" ||
			{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
		;;
	dnf) dnf install -y "${missing[@]}" ;;
	esac
}

need_for_build()
{
	need gcc meson ninja-build pkg-config:pkgconf-pkg-config \
		libc6-dev:glibc-devel libfuse3-dev:fuse3-devel liblmdb-dev:lmdb-devel \
		libxxhash-dev:xxhash-devel libssl-dev:openssl-devel \
		libmd-dev:libmd-devel
}

need_for_example()
{
	need python3 python3-numpy python3-pandas python3-sklearn:python3-scikit-learn
}

# build DIR OPTION…: configure (again) and build there.
build()
{
	local dir=$1
	shift
	if [ -f "$dir/build.ninja" ]; then
		meson configure "$dir" "$@" >/dev/null
	else
		meson setup "$dir" "$top" "$@" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; return 1; }
		rm -f "$dir.log"
	fi
	ninja -C "$dir" >"$dir/build.log" 2>&1 || { tail -n 60 "$dir/build.log" >&2; return 1; }
}
