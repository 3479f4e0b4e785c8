#!/usr/bin/env python3
"""Measures what a crowd costs those who are served: the latency of 50 busy clients, alone and beside thousands of idle
connections and hundreds of slow clients, in turn; and the memory that an idle connection takes. Both through our proxy and
on the listener of a worker's own. Prints two markdown tables.

    make bench
    benches/.venv/bin/python benches/idle.py --binary target/release/appliance [--idle 5000] [--slow 500] [--rounds 5]

How it measures is told in measure.py; who is in the crowd in crowd.py; pages.py is the application.
"""
import argparse
import resource
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import cpu
import servers
from crowd import SlowBody, SlowHead, SlowReader, crowd, idle_clients
from measure import Load, drive, running, sample, setting

BUSY = Load(50)
WARM_UP_REQUESTS = 20_000
SPARE_DESCRIPTORS = 500
ROLES = ("proxy", "worker")
# What each column is, and the part of a sample that it shows.
COLUMNS = {
    "p50 µs": lambda found: found.p50,
    "p99 µs": lambda found: found.p99,
    "CPU µs a request": lambda found: found.micros,
    "requests/s": lambda found: found.rate,
}


def situations(options):
    """{name: the slow clients of each kind}; None: nobody else is there."""
    idle, slow = f"{options.idle:,} idle", f"{options.slow:,}"
    return {
        "alone": None,
        f"beside {idle}": {},
        f"beside {idle} and {slow} slow heads": {SlowHead: options.slow},
        f"beside {idle} and {slow} slow heads, bodies and readers each": dict.fromkeys(
            (SlowHead, SlowBody, SlowReader), options.slow
        ),
    }


def memory(contender):
    """{role: KiB that the process holds}."""
    found = {}
    for pid in cpu.tree(contender.roots()):
        title = Path(f"/proc/{pid}/cmdline").read_text()
        role = next((role for role in ROLES if f": {role}" in title), None)
        if role:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found[role] = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return found


def memory_of_idle(contender, route, idle):
    """{role: (KiB before, KiB with the idle connections)}. Requests come before each look, since they fill what the
    processes keep for themselves."""
    drive(route, BUSY, WARM_UP_REQUESTS)
    before = memory(contender)
    clients = idle_clients(route.address, idle)
    drive(route, BUSY, WARM_UP_REQUESTS)
    after = memory(contender)
    for client in clients:
        client.close()
    return {role: (before[role], after[role]) for role in ROLES}


def latencies(contender, options):
    """{(route, situation): samples}, one a round."""
    found = {(route, name): [] for route in contender.routes for name in situations(options)}
    for number in range(1, options.rounds + 1):
        for (route, name), samples in found.items():
            slow = situations(options)[name]
            with nullcontext() if slow is None else crowd(route.address, options.idle, slow):
                one = sample(contender, route, BUSY, options.seconds)
            samples.append(one)
            print(f"round {number}  {route.name}, {name}: p99 {one.p99:.0f} µs", file=sys.stderr, flush=True)
    return found


def latency_table(found):
    """Markdown: medians of the rounds, and in brackets what they are of the first situation of the same route."""
    lines = [f"| {BUSY.connections} busy clients | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    alone = {}
    for (route, name), samples in found.items():
        figures = [median(part(one) for one in samples) for part in COLUMNS.values()]
        first = alone.setdefault(route, figures)
        shown = [f"{figure:,.0f}" + ("" if figures is first else f" ({figure / of:.2f})") for figure, of in zip(figures, first)]
        lines.append(f"| {route.name}, {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def memory_table(found, idle):
    """Markdown: what each process held before and with the idle connections."""
    lines = [f"| {idle:,} idle connections | before, MiB | with them, MiB | KiB each |", "|---|--:|--:|--:|"]
    for route, roles in found.items():
        for role, (before, after) in roles.items():
            each = (after - before) / idle
            lines.append(f"| {route.name}: {role} | {before / 1024:.1f} | {after / 1024:.1f} | {each:.2f} |")
    return "\n".join(lines)


def raise_limit(needed):
    """Lets this process and the server have so many descriptors each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < needed:
        sys.exit(f"{needed} descriptors are needed and {most} allowed; raise that with `ulimit -Hn {needed}`, or lower --idle")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def arguments():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--binary", type=Path, required=True, help="our server, a release build")
    options.add_argument("--idle", type=int, default=5000, help="idle connections (default: %(default)s)")
    options.add_argument("--slow", type=int, default=500, help="slow clients of each kind (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options.add_argument("--seconds", type=float, default=4, help="length of one measurement (default: %(default)s)")
    return options.parse_args()


def main():
    options = arguments()
    raise_limit(options.idle + 3 * options.slow + SPARE_DESCRIPTORS)
    folder = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    place = servers.Place(folder, options.binary.absolute(), "pages")
    contender = servers.appliance(place)
    # Through the proxy first: what the worker takes for itself when it is used at all is no cost of its own listener.
    contender.routes = [route for route in reversed(contender.routes) if not route.address.startswith("unix:")]
    place.release()
    try:
        with (folder / "servers.log").open("ab") as log, running([contender], log):
            held = {route: memory_of_idle(contender, route, options.idle) for route in contender.routes}
            found = latencies(contender, options)
    except (OSError, RuntimeError) as problem:
        sys.exit(f"{problem}; the server's output is in {folder}/servers.log")
    shutil.rmtree(folder)
    print(f"{setting([], [])}; one proxy thread and one worker, {options.rounds} rounds of about {options.seconds:g} s.\n")
    print(latency_table(found), memory_table(held, options.idle), sep="\n\n")


if __name__ == "__main__":
    main()
