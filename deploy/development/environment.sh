#!/bin/sh
# Creates the virtual environment from the hashed lock: environment.sh VENV
set -eu
venv=$1

create() { python3 -m venv "$venv" 2>/dev/null; }

if ! create; then
    # Debian splits the module that makes environments from its python3.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        rm -rf "$venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        create
    else
        echo "python3 cannot make virtual environments: install the package python3-venv, then try again" >&2
        exit 69
    fi
fi
echo "Installing into $venv (once) …"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
