#!/bin/sh
# Builds the wheel with the relay's data path compiled, and lays it out for PYTHONPATH: compile.sh BIN DIRECTORY
# It is built from a copy, so that no compiled module comes to lie beside the Python file that it was made of.
set -eu
bin=$1 directory=$2
if ! command -v cc >/dev/null 2>&1; then
    echo "no C compiler: install one (Debian: apt-get install gcc python3-dev), then try again" >&2
    exit 69
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
echo "Compiling the relay's data path (a minute) …"
cp -R pyproject.toml README.md LICENSE trunkline certs relay node_agent control_plane "$copy"
find "$copy" -name '*.so' -delete
rm -rf "$directory"
mkdir -p "$directory"
HATCH_BUILD_HOOK_ENABLE_MYPYC=1 "$bin/pip" wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$directory" "$copy"
"$bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$directory/site" "$directory"/*.whl
