#!/bin/sh
# SPDX-License-Identifier: MIT
# Every setting of mlfs exec, by each of the ways in which it can be given: what it does is done, and only then.
. "$(dirname "$0")/lib.sh"
$python -I -B "$cases/settings.py"
no_mount_left || fail "a mount was left"
