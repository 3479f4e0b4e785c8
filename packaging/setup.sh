#!/bin/sh
# Installs the system packages that building and running from this folder needs, and only those that are missing: a C
# compiler and cmake (ring and zlib-ng in the proxy are C), a CPython with venv and a shared libpython. Names given as
# arguments are further Debian packages to have. Called by the Makefile each time, so it must be quick when all is there;
# it never touches Rust, Python packages or this folder.
set -eu
cd "$(dirname "$0")"

# Installs the packages "$@", as root or through sudo, or says what to type.
install() {
    echo "setup: missing system packages: $*"
    if ! command -v apt-get >/dev/null; then
        echo "setup: there is no apt-get here; install what these Debian packages hold, then try again" >&2
        exit 1
    fi
    root=
    if [ "$(id -u)" != 0 ]; then
        root=sudo
        if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
            echo "setup: not root and no sudo without a password; run as root: apt-get install $*" >&2
            exit 1
        fi
    fi
    $root apt-get update -qq </dev/null
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null
}

installed() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing; install Rust first, see https://rustup.rs" >&2
    exit 1
fi

missing=
command -v cc >/dev/null && command -v c++ >/dev/null || missing="$missing build-essential"
command -v cmake >/dev/null || missing="$missing cmake"
for package in "$@"; do
    installed "$package" || missing="$missing $package"
done
python=$(./pythons.sh)
[ -n "$python" ] || [ -n "${PYTHON:-}" ] || missing="$missing python3 python3-venv"
# shellcheck disable=SC2086 # one word per package
[ -z "$missing" ] || install $missing

# The library's package is named for the minor version, which is known only once python3 is there.
if [ -z "$python" ] && [ -z "${PYTHON:-}" ]; then
    minor=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    install "libpython$minor" "python$minor-venv"
    python=$(./pythons.sh)
fi
if [ -z "$python" ]; then
    echo "setup: ${PYTHON:-python3} cannot host applications: needed is CPython 3.10 or newer with venv and a shared" \
        "libpython (a pyenv Python is built with PYTHON_CONFIGURE_OPTS=--enable-shared); name another one:" \
        "make PYTHON=/usr/bin/python3" >&2
    exit 1
fi
