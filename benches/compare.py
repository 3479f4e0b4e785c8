#!/usr/bin/env python3
"""Measures the CPU time that servers spend on one request, side by side, and prints a markdown table.

    make bench
    benches/.venv/bin/python benches/compare.py --binary target/release/appliance [--only nginx] [--rounds 5]

All servers run at the same time and are measured in turn, round by round, so that a disturbance of the machine meets all of
them. What counts is user + system time of a server's whole process tree between two readings, divided by the number of
requests answered in between; the load client's own time is left out. CPU time depends far less on what else the machine does
than throughput, yet close other programs for numbers to publish. benches/setup.sh must have run.
"""
import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import cpu
import servers

LOAD = servers.HERE / "build" / "load"
WARM_UP_REQUESTS = 3000


@dataclass(frozen=True)
class Sample:
    """One round of one route: CPU microseconds for each request, all and in the kernel, and the rate reached."""

    micros: float
    system: float
    rate: float


def load(route, connections, requests):
    """Runs the load client; returns what it counted."""
    command = [LOAD, route.address, str(connections), str(requests), "reuse" if route.reuse else "close"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{route.name}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def measure(contender, route, options):
    """One sample; as many requests as take about `options.seconds`, counted after a warm-up that finds the rate."""
    warm = load(route, options.connections, max(WARM_UP_REQUESTS, options.connections))
    requests = max(WARM_UP_REQUESTS, int(warm["responses"] / warm["seconds"] * options.seconds))
    before = cpu.usage(contender.roots())
    counted = load(route, options.connections, requests)
    after = cpu.usage(contender.roots())
    if before.pids != after.pids:
        raise RuntimeError(f"{route.name}: processes came or went while it was measured")
    user, system = after.user - before.user, after.system - before.system
    answered = counted["responses"]
    return Sample((user + system) / answered * 1e6, system / answered * 1e6, answered / counted["seconds"])


def start_all(options, folder):
    """The contenders whose routes were asked for, running."""
    place = servers.Place(folder, options.binary)
    chosen = []
    for make in servers.CONTENDERS:
        if make is servers.appliance and options.binary is None:
            continue
        contender = make(place)
        contender.routes = [route for route in contender.routes if options.only.lower() in route.name.lower()]
        if contender.routes:
            chosen.append(contender)
    place.release()
    log = (folder / "servers.log").open("ab")
    started = []
    try:
        for contender in chosen:
            started.append(contender)
            contender.start(log)
    except BaseException:
        stop_all(started)
        raise
    return started


def stop_all(contenders):
    for contender in contenders:
        contender.stop()


def run_rounds(contenders, options):
    """{route: samples}, one sample a round."""
    samples = defaultdict(list)
    for number in range(1, options.rounds + 1):
        for contender in contenders:
            for route in contender.routes:
                sample = measure(contender, route, options)
                samples[route].append(sample)
                print(f"round {number}  {route.name:34} {sample.micros:7.1f} µs", file=sys.stderr, flush=True)
    return samples


def table(samples):
    """Markdown; in each group the first route is 1.00."""
    lines = []
    for group in (servers.ALONE, servers.FRONTED):
        routes = [route for route in samples if route.group == group]
        if not routes:
            continue
        base = median(sample.micros for sample in samples[routes[0]])
        lines += [
            f"| {group} | CPU µs a request | min–max | of it kernel | × {routes[0].name} | requests/s |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for route in routes:
            micros = [sample.micros for sample in samples[route]]
            system = median(sample.system for sample in samples[route])
            rate = median(sample.rate for sample in samples[route])
            close = "" if route.reuse else " ¹"
            lines.append(
                f"| {route.name}{close} | {median(micros):.1f} | {min(micros):.1f}–{max(micros):.1f} | {system:.1f} "
                f"| {median(micros) / base:.2f} | {rate:,.0f} |"
            )
        lines.append("")
    if any(not route.reuse for route in samples):
        lines.append("¹ a new connection for each request; the server knows no keep-alive.")
    return "\n".join(lines)


def setting(options):
    """What was measured where, in a sentence."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
    packages = ", ".join(f"{name} {version(name)}" for name in ("bjoern", "granian", "gunicorn", "uwsgi", "tornado"))
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr.strip().rpartition("/")[2]
    return (
        f"{model}, Linux {platform.release()}, CPython {platform.python_version()}, {packages}, nginx {nginx}; "
        f"one worker each, {options.connections} connections, {options.rounds} rounds of about {options.seconds:g} s."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=Path, help="our server, a release build; without it only the others are measured")
    parser.add_argument("--only", default="", metavar="TEXT", help="only routes whose name contains this")
    parser.add_argument("--connections", type=int, default=32, help="kept busy at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (default: %(default)s)")
    options = parser.parse_args()
    if options.binary is not None:
        options.binary = options.binary.absolute()
    folder = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    try:
        contenders = start_all(options, folder)
        try:
            samples = run_rounds(contenders, options)
        finally:
            stop_all(contenders)
    except RuntimeError as problem:
        sys.exit(f"compare.py: {problem}; the servers' output is in {folder}/servers.log")
    shutil.rmtree(folder)
    print(setting(options), "", table(samples), sep="\n")


if __name__ == "__main__":
    main()
