#!/bin/sh
# Makes the virtual environments of this folder: `venvs.sh default` makes .venv for the examples and the tests,
# `venvs.sh others` one .venv-MINOR for each other CPython that the tests shall also run on. Called by the Makefile when a
# list of requirements has changed; expects what setup.sh installs.
set -eu
cd "$(dirname "$0")/.."

# make_venv FOLDER INTERPRETER
make_venv() {
    echo "venv: $1 from $2"
    # An environment made by another interpreter cannot be repaired in place.
    [ "$("$1/bin/python" -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null)" = "$2" ] ||
        "$2" -m venv --clear "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r examples/requirements.txt -r tests/requirements.txt
}

pythons=$(packaging/pythons.sh)
case ${1:-} in
default)
    make_venv .venv "$(echo "$pythons" | head -n 1 | cut -d' ' -f2)"
    ;;
others)
    echo "$pythons" | tail -n +2 | while read -r minor python; do
        make_venv ".venv-$minor" "$python"
    done
    ;;
*)
    echo "venvs.sh: say which: default or others" >&2
    exit 64
    ;;
esac
