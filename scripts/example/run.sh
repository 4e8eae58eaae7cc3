#!/bin/sh -eu
cd "$(dirname "$0")"
mlfs exec -- ./preprocess.py
mlfs exec -- ./train.py "${1:-300}"
mlfs exec -- ./evaluate.py
