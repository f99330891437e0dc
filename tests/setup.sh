#!/bin/sh
# What the tests need from the system: taken from it, else installed by apt when root, else named.
# Usage: setup.sh python | node | redis
set -eu

install() {  # install PACKAGE…: by apt, as root
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "needed and not found: $*. Install it with your system's package manager, then try again." >&2
        exit 1
    fi
    echo "installing $*"
    (apt-get install -y -qq "$@" || { apt-get update -qq && apt-get install -y -qq "$@"; }) >/dev/null
}

case "$1" in
python)
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Python 3.11 or newer is needed as python3." >&2
        exit 1
    fi
    python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
    ;;
node)
    command -v node >/dev/null && command -v npm >/dev/null || install nodejs npm
    ;;
redis)
    command -v redis-server >/dev/null || install redis-server
    command -v promtool >/dev/null || install prometheus
    ;;
*)
    echo "usage: $0 python | node | redis" >&2
    exit 2
    ;;
esac
