#!/bin/sh
# Runs the tests of the relay's data path against the compiled build: test-compiled.sh BIN DIRECTORY [PYTEST ARGUMENT ...]
# They run from a copy, since a test run in the checkout would find the Python files first. Without paths in the arguments
# it is every test of what is compiled, and of whatever of an agent has to do with links.
set -eu
bin=$(cd "$1" && pwd) site=$(cd "$2/site" && pwd)
shift 2
# What Python has compiled of the tests in the checkout is good for the copy as well, and the workers share the rest.
unset PYTHONDONTWRITEBYTECODE
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -Rp pyproject.toml docs deploy tests bench "$copy"
cd "$copy"
PYTHONPATH="$site:$copy" "$bin/python" -P -c '
import relay.calls.exchange, trunkline.channel.session
for module in (relay.calls.exchange, trunkline.channel.session):
    if not module.__file__.endswith(".so"):
        raise SystemExit(f"{module.__name__} is not compiled: {module.__file__}")
'
chosen=""
for argument in "$@"; do
    case $argument in tests/*) chosen=yes ;; esac
done
if [ -z "$chosen" ]; then
    set -- "$@" tests/relay tests/trunkline/channel tests/trunkline/client tests/properties tests/node_agent/test_*.py
    for room in api exchanges files links shells; do
        set -- "$@" "tests/node_agent/$room"
    done
fi
# What mypyc makes of an await throws exceptions into it in the way of Pythons before 3.12; those since then warn of it.
PYTHONPATH="$site:$copy" "$bin/python" -P -m pytest -q -p no:cacheprovider \
    -W "ignore:the (type, exc, tb) signature of throw() is deprecated:DeprecationWarning" "$@"
