#!/bin/sh
# Creates the virtual environment from the hashed lock, with python3 or the program that PYTHON names: environment.sh VENV
set -eu
venv=$1
python=${PYTHON:-python3}

too_old() {
    echo "Python 3.11 or newer is needed, and $python is $1: install one, and name it, as in PYTHON=python3.12 make up" >&2
    exit 69
}

create() { "$python" -m venv "$venv" 2>/dev/null; }

command -v "$python" >/dev/null || too_old "not there"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || too_old "$("$python" -V 2>&1)"

if ! create; then
    # Debian splits the module that makes environments from its python3.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        rm -rf "$venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
        create
    else
        echo "$python cannot make virtual environments: install the package python3-venv, then try again" >&2
        exit 69
    fi
fi
echo "Installing into $venv (once) …"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
