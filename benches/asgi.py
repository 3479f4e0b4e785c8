#!/usr/bin/env python3
"""Measures the CPU time that ASGI servers spend on a request, side by side, and prints markdown tables.

    make bench
    benches/.venv/bin/python benches/asgi.py --binary target/release/appliance [--rounds 5]

Three loads: a bare application, Starlette, and a body of 16 KiB that Starlette sends back. Beside us: uvicorn with uvloop and
httptools, and granian. How it measures is told in measure.py.
"""
from compare import table
from measure import Load, parser, run, setting
from servers import ALONE, BIN, Contender, Route, appliance

PACKAGES = ("uvicorn", "uvloop", "httptools", "granian", "starlette")
KIB_16 = 16 * 1024


def uvicorn(place):
    address = place.tcp()
    host, port = address.split(":")
    command = [BIN / "uvicorn", "--host", host, "--port", port, "--loop", "uvloop", "--http", "httptools",
               "--no-access-log", "--log-level", "warning", place.application]  # fmt: skip
    return Contender([command], [Route("uvicorn (uvloop, httptools)", ALONE, address)])


def granian(place):
    address = place.tcp()
    host, port = address.split(":")
    command = [BIN / "granian", "--interface", "asgi", "--workers", 1, "--http", "1", "--no-ws", "--log-level", "warning",
               "--host", host, "--port", port, place.application]  # fmt: skip
    return Contender([command], [Route("granian", ALONE, address)])


def main():
    options = parser(__doc__.split("\n")[0], seconds=3)
    options.add_argument("--connections", type=int, default=32, help="kept busy at once (default: %(default)s)")
    options = options.parse_args()
    loads = [Load(options.connections), Load(options.connections, "/starlette"), Load(options.connections, "/echo", KIB_16)]
    wanted = options.only.lower()
    samples = run([appliance, uvicorn, granian], "hello_asgi", lambda route: wanted in route.name.lower(), loads, options)
    print(f"{setting(PACKAGES, [])}; one worker each, {options.connections} connections, {options.rounds} rounds.")
    for load in loads:
        print("", f"`{load.target}`", "", sep="\n")
        print(table({route: found for (measured, route), found in samples.items() if measured == load}))


if __name__ == "__main__":
    main()
