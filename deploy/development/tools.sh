#!/bin/sh
# Installs, from the distribution, the programs that tests, benchmark or soak drive: tools.sh test|bench|soak
# Without root it only says what is missing; the tests that need such a program then say why they are skipped.
set -eu
case $1 in
    test) wanted="cc:gcc curl:curl openssl:openssl go:golang-go node:nodejs npm:npm softhsm2-util:softhsm2
            haproxy:haproxy"
        libraries="golang-github-hashicorp-yamux-dev libc6-dev" ;;
    bench) wanted="cc:gcc nginx:nginx-light wrk:wrk" libraries="" ;;
    soak) wanted="haproxy:haproxy" libraries="" ;;
    *) echo "usage: tools.sh test|bench|soak" >&2; exit 64 ;;
esac

missing=""
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
for library in $libraries; do
    dpkg -s "$library" >/dev/null 2>&1 || missing="$missing $library"
done
# What the compiler needs of Python; those that were not installed by the distribution bring it along.
include=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$include/Python.h" ] || missing="$missing python3-dev"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing …"
    apt-get update -qq
    # shellcheck disable=SC2086 — a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "Not installed:$missing (install them with: apt-get install$missing)" >&2
    [ "$1" = test ]
fi
