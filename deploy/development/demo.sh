#!/bin/sh
# A command runs on two nodes that accept no inbound connection: demo.sh TRUNKLINE
set -eu
trunkline=$(command -v "$1")
state=$(mktemp -d "${TMPDIR:-/tmp}/trunkline-demo.XXXXXX")

stop() { "$trunkline" down --state "$state" || true; rm -rf "$state"; }
trap stop EXIT
trap 'exit 130' INT TERM

show() { printf '\n$ trunkline %s\n' "$*"; "$trunkline" "$@" --state "$state"; }

"$trunkline" up --nodes 2 --state "$state" --detach
printf '\n$ trunkline run --all -- uname -a\n'
"$trunkline" run --state "$state" --all -- uname -a
show node list
