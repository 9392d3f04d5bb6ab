#!/bin/sh
# A command goes to nodes that accept no inbound connection, in waves behind a canary; a faulty one stops there: demo.sh TRUNKLINE
set -eu
trunkline=$(command -v "$1")
state=$(mktemp -d "${TMPDIR:-/tmp}/trunkline-demo.XXXXXX")

stop() { "$trunkline" down --state "$state" || true; rm -rf "$state"; }
trap stop EXIT
trap 'exit 130' INT TERM

show() { printf '\n$ trunkline %s\n' "$*"; "$trunkline" "$@" --state "$state"; }
run() { printf '\n$ trunkline run %s -- sh -c "%s"\n' "$1" "$2"; "$trunkline" run --state "$state" $1 -- sh -c "$2"; }

"$trunkline" up --nodes 4 --state "$state" --detach
show node list
run "--all --canary 1 --wave 2" 'for step in 1 2 3; do echo step $step; sleep 0.3; done; uname -sr'
run "--all --canary 1" 'echo this one is faulty; exit 3' || printf '\n(exit status %s: the canary failed, and no other node has heard of it)\n' "$?"
