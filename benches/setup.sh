#!/bin/bash
# Installs what compare.py and fronts.py measure and need: nginx, haproxy and libev through apt, the Python servers into
# benches/.venv, uWSGI built with its Tornado loop and greenlet inside, the load client. Called by `make bench`; quick when
# all is there.
set -eu
cd "$(dirname "$0")"

packages="nginx-light haproxy libev-dev"
python=$(../packaging/pythons.sh | head -n 1 | cut -d' ' -f2)
case $python in
/usr/bin/*) packages="$packages python3-dev" ;; # a Python built from source has its headers
esac
# shellcheck disable=SC2086 # one word per package
../packaging/setup.sh $packages

if [ ! -x .venv/bin/uwsgi ] || [ requirements.txt -nt .venv/bin/uwsgi ]; then
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    # uWSGI compiles greenlet's header in and pip's isolated builds do not see it; the package has no switch for plugins.
    headers=$(echo "$PWD"/.venv/include/site/python3.*)
    echo "building uWSGI with its Tornado loop (takes a minute)"
    CFLAGS="-I$headers" UWSGI_EMBED_PLUGINS=tornado,greenlet .venv/bin/python -m pip install --quiet \
        --disable-pip-version-check --no-build-isolation --no-cache-dir --force-reinstall --no-deps uwsgi
    touch .venv/bin/uwsgi
fi

mkdir -p build
if [ ! -x build/load ] || [ load.c -nt build/load ]; then
    cc -O2 -Wall -Wextra -Werror -o build/load load.c
fi
