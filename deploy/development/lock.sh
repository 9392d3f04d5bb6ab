#!/bin/sh
# Resolves the dependencies and writes requirements/*.lock, each with hashes, for plain pip: lock.sh BIN
set -eu
bin=$1
compile() {
    output=$1
    shift
    "$bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
        --output-file "requirements/$output.lock" "$@" pyproject.toml
}
compile dev --extra dev --extra agent --extra control-plane --extra pkcs11 --extra postgresql --extra relay --extra speed
compile agent --extra agent --extra speed
compile relay --extra relay --extra speed
compile control-plane --extra control-plane --extra pkcs11 --extra postgresql --extra speed
