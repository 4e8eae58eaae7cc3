#!/bin/sh
# SPDX-License-Identifier: MIT
# Locks in a PID namespace, as in a container: /proc/locks leaves out there what was locked by a process that has ended.
. "$(dirname "$0")/lib.sh"
is_root || skip "needs root: a PID namespace and its /proc"

exec unshare --pid --fork --mount-proc sh "$(dirname "$0")/locks.sh"
