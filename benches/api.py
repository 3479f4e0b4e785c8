#!/usr/bin/env python3
"""Measures what a call of the module `uwsgi` costs here and in uWSGI, side by side, and prints a markdown table.

    make bench
    benches/.venv/bin/python benches/api.py --binary target/release/appliance [--rounds 5]

Both run api_calls.py, which makes each call many times in one request and tells the CPU time of the thread that made them.
"""
import argparse
import json
import statistics
import tempfile
from pathlib import Path
from urllib.parse import quote

from api_calls import CALLS
from servers import ALONE, HERE, Contender, Place, Route, ask, uwsgi_command

TIMES = 50_000


def here(place):
    address, run_dir = place.tcp(), place.folder / "run"
    command = [
        place.binary, "run", place.application, "--listen", address, "--workers", 1, "--venv", HERE / ".venv",
        "--log-level", "error", "--set", f"app.chdir={HERE}", "--set", f"admin.run_dir={run_dir}",
        "--set", "log.access=false", "--set", "cache.bench.items=10000",
        "--set", 'metric=[{name="bench.hits"}]',
    ]  # fmt: skip
    return Contender([command], [Route("appliance", ALONE, address)])


def uwsgi(place):
    address = place.tcp()
    command = uwsgi_command(place, "--http-socket", address, "--cache2", "name=bench,items=10000", "--metric", "bench.hits")
    return Contender([command], [Route("uWSGI", ALONE, address)])


def measure(address, call, times):
    path = quote(call)
    request = f"GET /{path}?{times} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return json.loads(ask(address, request.encode()).partition(b"\r\n\r\n")[2])


def table(found):
    rows = ["| call | appliance, µs | uWSGI, µs | uWSGI / appliance |", "|---|---:|---:|---:|"]
    for call in CALLS:
        ours, theirs = (statistics.median(found[name, call]) for name in ("appliance", "uWSGI"))
        rows.append(f"| `{call}` | {ours:.2f} | {theirs:.2f} | {theirs / ours:.2f} |")
    return "\n".join(rows)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--binary", type=Path, required=True, help="the appliance to measure")
    options.add_argument("--rounds", type=int, default=5, help="the median of so many is shown (default: %(default)s)")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        place = Place(Path(folder), options.binary.resolve(), "api_calls")
        contenders = [here(place), uwsgi(place)]
        place.release()
        try:
            for contender in contenders:
                contender.start(log)
            found = {}
            for _ in range(options.rounds):
                for call in CALLS:
                    for contender in contenders:
                        route = contender.routes[0]
                        found.setdefault((route.name, call), []).append(measure(route.address, call, TIMES))
        finally:
            for contender in contenders:
                contender.stop()
    print(f"CPU time of one call in Python, median of {options.rounds} rounds of {TIMES} calls.\n\n{table(found)}")


if __name__ == "__main__":
    main()
