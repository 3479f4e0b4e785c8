#!/usr/bin/env python3
"""Measures what slow clients cost fast ones: the latency of fast clients through our proxy, undisturbed and beside a slow
reader of a huge answer and a slow sender of a body, in turn; and the memory of proxy and worker. Prints a markdown table.

    make bench
    benches/.venv/bin/python benches/beside.py --binary target/release/appliance [--rounds 5] [--seconds 4]

How it measures is told in measure.py; pages.py is the application.
"""
import argparse
import shutil
import socket
import sys
import tempfile
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import cpu
import pages
import servers
from measure import Load, running, sample, setting

FAST = Load(50)
SLOW_BYTES = 1024  # that a slow client moves in a second
UPLOAD_BYTES = 1024 * 1024
SETTLE_SECONDS = 1
ROLES = ("proxy", "worker")
# What each column is, and the part of a sample that it shows.
COLUMNS = {
    "p50 µs": lambda found: found.p50,
    "p99 µs": lambda found: found.p99,
    "CPU µs a request": lambda found: found.micros,
    "requests/s": lambda found: found.rate,
}


class SlowClients:
    """One that reads a huge answer and one that sends a body, SLOW_BYTES a second each, until they are stopped."""

    def __init__(self, address):
        host, port = address.split(":")
        self.reader, self.sender = socket.socket(), socket.socket()
        # With little room in its kernel the slowness reaches the server at once.
        self.reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client in (self.reader, self.sender):
            client.connect((host, int(port)))
        self.reader.sendall(b"GET /huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.sender.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % UPLOAD_BYTES)
        self.received = b""
        self.problem = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopped.wait(1):
                self.received += self.reader.recv(SLOW_BYTES)
                self.sender.sendall(bytes(SLOW_BYTES))
        except OSError as problem:
            self.problem = problem

    def check(self):
        """Raises if they were not served: slow clients that were sent away disturb nobody."""
        self.sender.setblocking(False)
        try:
            raise RuntimeError(f"the slow sender got {self.sender.recv(100)!r} before it had sent its body")
        except BlockingIOError:
            pass
        body = self.received.partition(b"\r\n\r\n")[2]
        if self.problem or not body or not pages.LARGE.startswith(body[: len(pages.LARGE)]):
            raise RuntimeError(f"the slow reader got {self.received[:40]!r}: {self.problem or 'that is no answer'}")


@contextmanager
def slow_clients(address):
    """They are at work inside of the `with`, and have been for a moment."""
    clients = SlowClients(address)
    clients.thread.start()
    try:
        clients.stopped.wait(SETTLE_SECONDS)
        yield
        clients.check()
    finally:
        clients.stopped.set()
        clients.thread.join()
        clients.reader.close()
        clients.sender.close()


def memory(contender):
    """{role: MiB that the process holds}."""
    found = {}
    for pid in cpu.tree(contender.roots()):
        title = Path(f"/proc/{pid}/cmdline").read_text()
        role = next((role for role in ROLES if f": {role}" in title), None)
        if role:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            found[role] = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    return found


def measure(contender, options):
    """{situation: [(sample, memory)]}, one a round."""
    route = contender.routes[0]
    situations = {"undisturbed": nullcontext, "beside slow ones": lambda: slow_clients(route.address)}
    found = {situation: [] for situation in situations}
    for number in range(1, options.rounds + 1):
        for situation, surroundings in situations.items():
            with surroundings():
                one = sample(contender, route, FAST, options.seconds)
                found[situation].append((one, memory(contender)))
            print(f"round {number}  {situation:16} p99 {one.p99:.0f} µs", file=sys.stderr, flush=True)
    return found


def table(found):
    """Markdown: medians of the rounds, and what the second situation is of the first."""
    lines = [
        f"| {FAST.connections} fast clients | {' | '.join(COLUMNS)} | {' | '.join(f'{role} MiB' for role in ROLES)} |",
        "|---|" + "--:|" * (len(COLUMNS) + len(ROLES)),
    ]
    rows = []
    for situation, rounds in found.items():
        figures = [median(part(one) for one, _ in rounds) for part in COLUMNS.values()]
        sizes = [median(held[role] for _, held in rounds) for role in ROLES]
        rows.append(figures + sizes)
        shown = [*(f"{figure:,.0f}" for figure in figures), *(f"{size:.1f}" for size in sizes)]
        lines.append(f"| {situation} | {' | '.join(shown)} |")
    ratios = [f"{beside / alone:.2f}" for alone, beside in zip(*rows)]
    return "\n".join([*lines, f"| ratio | {' | '.join(ratios)} |"])


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--binary", type=Path, required=True, help="our server, a release build")
    options.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options.add_argument("--seconds", type=float, default=4, help="length of one measurement (default: %(default)s)")
    options = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    place = servers.Place(folder, options.binary.absolute(), "pages")
    contender = servers.appliance(place)
    contender.routes = [route for route in contender.routes if route.group == servers.FRONTED]
    place.release()
    try:
        with (folder / "servers.log").open("ab") as log, running([contender], log):
            found = measure(contender, options)
    except RuntimeError as problem:
        sys.exit(f"{problem}; the server's output is in {folder}/servers.log")
    shutil.rmtree(folder)
    print(f"{setting([], [])}; one proxy thread and one worker, {options.rounds} rounds of about {options.seconds:g} s.\n")
    print(table(found))


if __name__ == "__main__":
    main()
