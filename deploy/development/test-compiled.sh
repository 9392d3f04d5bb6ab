#!/bin/sh
# Runs the tests of the relay's data path against the compiled build: test-compiled.sh BIN DIRECTORY [PYTEST ARGUMENT ...]
# They run from a copy, since a test run in the checkout would find the Python files first.
set -eu
bin=$(cd "$1" && pwd) site=$(cd "$2/site" && pwd)
shift 2
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R pyproject.toml docs deploy tests bench "$copy"
cd "$copy"
PYTHONPATH="$site:$copy" "$bin/python" -P -c '
import relay.exchange, trunkline.channel.session
for module in (relay.exchange, trunkline.channel.session):
    if not module.__file__.endswith(".so"):
        raise SystemExit(f"{module.__name__} is not compiled: {module.__file__}")
'
PYTHONPATH="$site:$copy" "$bin/python" -P -m pytest -q -p no:cacheprovider "$@" \
    tests/relay tests/trunkline/channel tests/trunkline/client tests/node_agent tests/properties
