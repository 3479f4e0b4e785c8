#!/bin/sh
# Prints the CPythons of this machine that can host an application, one "MINOR EXECUTABLE" a line: first the default one,
# then at most two others for the tests, the lowest and the highest minor. Called by setup.sh and venvs.sh; installs and
# changes nothing. $PYTHON, if set, is the default instead of python3.
set -eu

# Succeeds and prints "3.11 /path/python3.11" if the interpreter $1 can be used: CPython 3.10 or newer with the GIL, able
# to make a virtual environment, and with a shared libpython, because that is what the server loads.
probe() {
    "$1" - 2>/dev/null <<'PYTHON'
import os, platform, sys, sysconfig
import ensurepip, venv  # Debian ships these in a package of their own
value = sysconfig.get_config_var
library = value("INSTSONAME") or ""
folders = [value("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
usable = (
    platform.python_implementation() == "CPython"
    and sys.version_info >= (3, 10)
    and not value("Py_GIL_DISABLED")
    and ".so" in library
    and any(os.path.exists(os.path.join(folder, library)) for folder in folders)
)
if not usable:
    sys.exit(1)
print("%d.%d" % sys.version_info[:2], os.path.realpath(sys.executable))
PYTHON
}

default=$(probe "${PYTHON:-python3}" || { [ -z "${PYTHON:-}" ] && probe /usr/bin/python3; } || true)
[ -n "$default" ] || exit 0
echo "$default"

# A pattern that matches nothing stays as it is, and probing it fails like any other missing file.
others=$(for python in /usr/bin/python3.?? /usr/local/bin/python3.?? "$HOME"/.pyenv/versions/3.*/bin/python3; do
    probe "$python" || true
done |
    awk -v default="${default%% *}" '$1 != default && !seen[$1]++' | sort -t. -k2 -n)
[ -z "$others" ] || { echo "$others" | head -n 1; echo "$others" | tail -n 1; } | uniq
