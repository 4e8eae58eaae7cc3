#!/bin/sh
# SPDX-License-Identifier: MIT
# Pagers, editors, shells with job control and others that live on a terminal, in a step as outside of it.
# time limit: 60
. "$(dirname "$0")/lib.sh"

export TERM=xterm EDITOR=false VISUAL=false LESS= HISTFILE=/dev/null
VI=$(command -v vim.tiny || command -v vim) || skip "needs vim"
export VI
$python -B "$cases/prog-terminal.py" || fail "see above"
