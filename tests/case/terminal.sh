#!/bin/sh
# SPDX-License-Identifier: MIT
# On a terminal: the step has one too, with its size and modes; the line of mlfs is shown; keys reach the command.
. "$(dirname "$0")/lib.sh"

$python "$cases/terminal.py" || fail "see above"
