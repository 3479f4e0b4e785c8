#!/usr/bin/env python3
"""Measures the CPU time of a front proxy and the server behind it together, and prints a markdown table for each load.

    make bench
    benches/.venv/bin/python benches/fronts.py --binary target/release/appliance [--load echo] [--rounds 5]

The loads are a hello at several numbers of connections, a POST whose body comes back, and a large answer; pages.py is the
application. How it measures is told in measure.py, how the servers are set up in servers.py.
"""
import sys
from statistics import median

import pages
import servers
from measure import Load, parser, run, setting

CONTENDERS = [servers.appliance, servers.nginx_granian, servers.nginx_uwsgi, servers.haproxy_granian]
ECHO_BYTES = 16 * 1024
LOADS = {
    "hello, 1 connection": Load(1),
    "hello, 4 connections": Load(4),
    "hello, 64 connections": Load(64),
    "hello, 256 connections": Load(256),
    "16 KiB POST echo, 64 connections": Load(64, "/echo", ECHO_BYTES),
    "64 KiB answer, 64 connections": Load(64, "/large"),
}
# A load client that is busier than this may have been slower than the server that it measured.
BUSY = 0.95


def check(route):
    """Each server must give the very bytes that the application says, before anything is measured."""
    sent = bytes(number % 251 for number in range(ECHO_BYTES))
    head = b"Host: localhost\r\nConnection: close\r\n"
    post = b"POST /echo HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(sent), sent)
    for request, expected in [
        (b"GET / HTTP/1.1\r\n%s\r\n" % head, pages.HELLO),
        (post, sent),
        (b"GET /large HTTP/1.1\r\n%s\r\n" % head, pages.LARGE),
    ]:
        got, _, body = servers.ask(route.address, request).partition(b"\r\n\r\n")
        if not got.startswith(b"HTTP/1.1 200") or body != expected:
            asked = request.split(b"\r\n")[0].decode()
            raise RuntimeError(f"{route.name}: to {asked} it answers {len(body)} bytes after {got[:40]!r}")


def table(name, samples):
    """Markdown; the first route is 1.00."""
    base = median(sample.micros for sample in next(iter(samples.values())))
    first = next(iter(samples)).name.partition(",")[0]
    lines = [f"| {name} | CPU µs a request | min–max | × {first} | requests/s |", "|---|--:|--:|--:|--:|"]
    for route, found in samples.items():
        micros = [sample.micros for sample in found]
        rate = median(sample.rate for sample in found)
        mark = " ²" if max(sample.client for sample in found) > BUSY else ""
        lines.append(
            f"| {route.name} | {median(micros):.1f} | {min(micros):.1f}–{max(micros):.1f} | {median(micros) / base:.2f} "
            f"| {rate:,.0f}{mark} |"
        )
    return "\n".join(lines) + "\n"


def main():
    options = parser(__doc__.split("\n")[0], seconds=3)
    options.add_argument("--load", default="", metavar="TEXT", help="only loads whose name contains this")
    options = options.parse_args()
    loads = {name: load for name, load in LOADS.items() if options.load.lower() in name.lower()}
    if not loads:
        sys.exit(f"fronts.py: no load is called {options.load!r}; there are: {'; '.join(LOADS)}")

    def is_wanted(route):
        return route.group == servers.FRONTED and options.only.lower() in route.name.lower()

    samples = run(CONTENDERS, "pages", is_wanted, list(loads.values()), options, check)
    print(
        f"{setting(['granian', 'uwsgi'], ['nginx', 'haproxy'])}; one proxy thread and one worker each, {options.rounds} rounds "
        f"of about {options.seconds:g} s.\n"
    )
    for name, load in loads.items():
        print(table(name, {route: found for (of, route), found in samples.items() if of == load}))
    if any(sample.client > BUSY for found in samples.values() for sample in found):
        print("² the load client used a whole CPU: the rate may be its own, the CPU time is the server's.")


if __name__ == "__main__":
    main()
