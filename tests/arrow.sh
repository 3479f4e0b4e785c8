#!/bin/bash
# Checks which package may depend on which, as cargo resolves it: the proxy and the worker never meet, Python stays in the
# engine library, the configuration stays free of effects. Called by `make arrow`; builds nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
broken=0

# dependencies PACKAGE [cargo tree options]: names of what PACKAGE is built with, itself left out, tests not counted.
dependencies() {
    cargo tree --locked --quiet --edges normal,build --prefix none --format '{p}' --package "$1" "${@:2}" |
        tail -n +2 | cut -d' ' -f1 | sort -u
}

# forbid HOW PACKAGE NAME...: HOW is "directly" (its own Cargo.toml) or "at all" (anything below it as well).
forbid() {
    local how=$1 package=$2 name names
    if [ "$how" = directly ]; then names=$(dependencies "$package" --depth 1); else names=$(dependencies "$package"); fi
    for name in "${@:3}"; do
        if grep -qx -e "$name" <<<"$names"; then
            echo "arrow: $package must not depend on $name $how; see: cargo tree -p $package -i $name" >&2
            broken=1
        fi
    done
}

# allow_only PACKAGE NAME...: the whole list that PACKAGE's own Cargo.toml may name.
allow_only() {
    local package=$1 name names
    names=$(dependencies "$package" --depth 1)
    for name in $names; do
        case " ${*:2} " in
        *" $name "*) ;;
        *)
            echo "arrow: $package may depend on ${*:2} only, not on $name" >&2
            broken=1
            ;;
        esac
    done
}

allow_only appliance-config figment serde thiserror toml_edit
allow_only appliance-link bytes itoa memchr serde_json thiserror
allow_only appliance-app httparse nix
allow_only appliance-package
forbid directly appliance-proxy nix mio libc
forbid "at all" appliance-proxy appliance-worker appliance-python pyo3 pyo3-ffi
forbid "at all" appliance-worker appliance-proxy pingora tokio pyo3 pyo3-ffi
forbid "at all" appliance-python appliance-proxy pingora tokio
forbid directly appliance mio pingora tokio pyo3
forbid "at all" appliance appliance-python pyo3 pyo3-ffi

[ "$broken" = 0 ] && echo "arrow: every package depends only on what it may"
exit "$broken"
