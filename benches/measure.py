"""Measures what running servers spend on a request: their CPU time, from /proc, over a number of requests that the load
client has counted. Used by compare.py, fronts.py, beside.py and idle.py, which say what is compared and print the tables.

All servers run at the same time and are measured in turn, round by round, so that a disturbance of the machine meets all of
them. What counts is user + system time of a server's whole process tree between two readings, divided by the number of
requests answered in between; the load client's own time is left out. CPU time depends far less on what else the machine does
than throughput, yet close other programs for numbers to publish. setup.sh must have run.
"""
import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cpu
import servers

CLIENT = servers.HERE / "build" / "load"
WARM_UP_REQUESTS = 3000


@dataclass(frozen=True)
class Load:
    """What the clients ask for, and how many ask at once."""

    connections: int
    target: str = "/"
    body: int = 0  # bytes of a POST that must come back unchanged; 0: GET


@dataclass(frozen=True)
class Sample:
    """One measurement: CPU microseconds for each request, all and in the kernel; requests per second; how busy the load
    client was meanwhile (1: a whole CPU, which means that it was slower than the server); and how many microseconds half
    and 99 of 100 requests took at most."""

    micros: float
    system: float
    rate: float
    client: float
    p50: float
    p99: float


def drive(route, load, requests):
    """Runs the load client; returns what it counted."""
    command = [CLIENT, route.address, load.connections, requests, "reuse" if route.reuse else "close", load.target, load.body]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{route.name}, {load.target}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def sample(contender, route, load, seconds):
    """One sample; as many requests as take about `seconds`, counted after a warm-up that finds the rate."""
    warm = drive(route, load, max(WARM_UP_REQUESTS, load.connections))
    requests = max(WARM_UP_REQUESTS, int(warm["responses"] / warm["seconds"] * seconds))
    before = cpu.usage(contender.roots())
    counted = drive(route, load, requests)
    after = cpu.usage(contender.roots())
    if before.pids != after.pids:
        raise RuntimeError(f"{route.name}: processes came or went while it was measured")
    user, system = after.user - before.user, after.system - before.system
    answered, took = counted["responses"], counted["seconds"]
    return Sample(
        (user + system) / answered * 1e6, system / answered * 1e6, answered / took, counted["cpu"] / took,
        counted["p50"], counted["p99"],
    )  # fmt: skip


def rounds(contenders, loads, options):
    """{(load, route): samples}, one sample a round. Those that are compared follow each other as closely as possible."""
    samples = defaultdict(list)
    for number in range(1, options.rounds + 1):
        for load in loads:
            for contender in contenders:
                for route in contender.routes:
                    found = sample(contender, route, load, options.seconds)
                    samples[load, route].append(found)
                    what = f"{load.target} × {load.connections}"
                    print(f"round {number}  {what:12} {route.name:34} {found.micros:7.1f} µs", file=sys.stderr, flush=True)
    return samples


@contextmanager
def running(contenders, log):
    """All of them serve inside of the `with`."""
    started = []
    try:
        for contender in contenders:
            started.append(contender)
            contender.start(log)
        yield
    finally:
        for contender in started:
            contender.stop()


def run(makers, module, is_wanted, loads, options, check=None):
    """Starts what `makers` make with the application of `module`, as far as the routes are wanted, and measures it; `check`
    is called first with each route. Ends the program with a sentence if anything fails."""
    folder = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    place = servers.Place(folder, options.binary and options.binary.absolute(), module)
    contenders = [make(place) for make in makers if options.binary or make not in (servers.appliance, servers.appliance_threads)]
    for contender in contenders:
        contender.routes = [route for route in contender.routes if is_wanted(route)]
    contenders = [contender for contender in contenders if contender.routes]
    if not contenders:
        sys.exit(f"nothing that is measured here contains {options.only!r} in its name")
    place.release()
    try:
        with (folder / "servers.log").open("ab") as log, running(contenders, log):
            for route in [route for contender in contenders for route in contender.routes if check]:
                check(route)
            samples = rounds(contenders, loads, options)
    except RuntimeError as problem:
        sys.exit(f"{problem}; the servers' output is in {folder}/servers.log")
    shutil.rmtree(folder)
    return samples


def parser(description, seconds):
    """The options that both programs have."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--binary", type=Path, help="our server, a release build; without it only the others are measured")
    result.add_argument("--only", default="", metavar="TEXT", help="only routes whose name contains this")
    result.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    result.add_argument("--seconds", type=float, default=seconds, help="length of one measurement (default: %(default)s)")
    return result


def setting(packages, programs):
    """The machine, and the versions of Python packages and of programs (each with the option that tells), in a sentence."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")
    found = [f"CPython {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    for program in programs:
        told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        words = (told.stdout + told.stderr).replace("/", " ").split()
        found.append(f"{program} " + next(word for word in words if word[0].isdigit()))
    return f"{model}, Linux {platform.release()}, {', '.join(found)}"
