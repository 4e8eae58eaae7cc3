#!/bin/sh -eu
mkdir -p "$(dirname "$0")/results" && cd "$(dirname "$0")/results"
mlfs exec -- ../preprocess.py
mlfs exec -- ../train.py "${1:-300}"
mlfs exec -- ../evaluate.py
