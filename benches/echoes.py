#!/usr/bin/env python3
"""Measures WebSockets: the CPU time of an echoed message, with 1,000 connections open, ours (in Python and in
native:echo, through the proxy and on a worker's own listener) and uvicorn's with both of its protocol libraries, and the memory
of a connection. Prints a markdown table.

    make bench
    benches/.venv/bin/python benches/echoes.py --binary target/release/appliance [--connections 1000] [--rounds 5]

How it measures is told in measure.py: all servers run, each is measured in turn. sockets.py is the application. A client sends
a text of 32 bytes on every connection, and the next one when its echo has come. Nobody pings, and nobody compresses.
"""
import argparse
import resource
import selectors
import socket
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cpu
import servers
from measure import running

ROLES = {"proxy": ": proxy", "worker": ": worker"}
SPARE_DESCRIPTORS = 200
TEXT = b"x" * 32
# Masked with zeros, which is a mask like any other.
FRAME = bytes([0x81, 0x80 | len(TEXT), 0, 0, 0, 0]) + TEXT
ECHO = bytes([0x81, len(TEXT)]) + TEXT
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def ours(place, name, application, says):
    front, native_port, run_dir = place.tcp(), place.port(), place.folder / name
    command = [
        place.binary, "run", application, "--listen", front, "--workers", 1, "--cores", 3000,
        "--native-base-port", native_port - 1, "--venv", servers.HERE / ".venv", "--log-level", "warn",
        "--set", f"app.chdir={servers.HERE}", "--set", f"admin.run_dir={run_dir}", "--set", "log.access=false",
        "--set", "websocket.ping_interval=0",
    ]  # fmt: skip
    routes = [
        servers.Route(f"{name}, native listener", servers.ALONE, f"127.0.0.1:{native_port}"),
        servers.Route(f"{name}, through its proxy", servers.FRONTED, front),
    ]
    return servers.Contender([command], routes, says=says)


def python(place):
    return ours(place, "appliance", place.application, b"Hello, world!\n")


def native(place):
    return ours(place, "native:echo", "native:echo", b"")


def uvicorn(library):
    def contender(place):
        address = place.tcp()
        host, port = address.split(":")
        command = [servers.BIN / "uvicorn", f"{place.module}:asgi", "--host", host, "--port", port, "--ws", library,
                   "--log-level", "warning", "--no-access-log", "--lifespan", "off",
                   "--ws-per-message-deflate", "false", "--ws-ping-interval", "3600"]  # fmt: skip
        return servers.Contender([command], [servers.Route(f"uvicorn ({library})", servers.ALONE, address)])

    return contender


def connect(address):
    """An open WebSocket."""
    host, port = address.split(":")
    client = socket.create_connection((host, int(port)), 30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(HANDSHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(4096)
        if not part:
            raise RuntimeError(f"{address} closes instead of {head!r}")
        head += part
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"{address} answers {head!r}")
    return client


def echo(clients, seconds):
    """Sends on each connection whenever its echo has come; how many came."""
    selector = selectors.EpollSelector()
    for client in clients:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
        client.send(FRAME)
    count, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        for key, _ in selector.select(1):
            got = key.fileobj.recv(4096)
            if got != ECHO:
                raise RuntimeError(f"{key.fileobj.getpeername()} echoes {got!r}")
            count += 1
            key.fileobj.send(FRAME)
    for client in clients:
        client.setblocking(True)
        client.settimeout(30)
        if client.recv(4096) != ECHO:
            raise RuntimeError("a last echo is missing")
    selector.close()
    return count


def micros(contender, clients, seconds):
    """CPU microseconds of the server for each message."""
    before = cpu.usage(contender.roots())
    count = echo(clients, seconds)
    after = cpu.usage(contender.roots())
    return (after.user + after.system - before.user - before.system) * 1e6 / (count + len(clients))


def memory(contender):
    """KiB that the server's processes hold of their own (Pss), so that what they share counts once."""
    total = 0
    for pid in cpu.tree(contender.roots()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def measure(contenders, options):
    """For each route: CPU microseconds of a message, one figure a round, and KiB of a connection."""
    found = {}
    for number in range(1, options.rounds + 1):
        for contender, route in [(contender, route) for contender in contenders for route in contender.routes]:
            before = memory(contender)
            clients = [connect(route.address) for _ in range(options.connections)]
            echo(clients, 1)
            # Later rounds find what the first one has left to its process.
            each = (memory(contender) - before) / options.connections
            figures, _ = found.setdefault(route.name, ([], each))
            figures.append(micros(contender, clients, options.seconds))
            for client in clients:
                client.close()
            print(f"round {number}  {route.name}: {figures[-1]:.1f} µs", file=sys.stderr, flush=True)
    return found


def table(found):
    lines = ["| | CPU µs a message | lowest to highest | ratio | KiB a connection |", "|---|--:|--:|--:|--:|"]
    first = None
    for name, (figures, each) in found.items():
        figure = median(figures)
        first = first or figure
        spread = f"{min(figures):.1f} to {max(figures):.1f}"
        lines.append(f"| {name} | {figure:.1f} | {spread} | {figure / first:.2f} | {each:.1f} |")
    return "\n".join(lines)


def arguments():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--binary", type=Path, required=True, help="our release binary")
    options.add_argument("--connections", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=3, help="of each measurement")
    options.add_argument("--rounds", type=int, default=5)
    return options.parse_args()


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < options.connections + SPARE_DESCRIPTORS:
        sys.exit(f"more descriptors are needed; raise that with `ulimit -Hn {options.connections + SPARE_DESCRIPTORS}`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    makers = [python, native, uvicorn("websockets"), uvicorn("wsproto")]
    with tempfile.TemporaryDirectory(prefix="appliance-bench-") as folder:
        place = servers.Place(Path(folder), options.binary.resolve(), "sockets")
        contenders = [make(place) for make in makers]
        place.release()
        with open(Path(folder) / "log", "w") as log, running(contenders, log):
            found = measure(contenders, options)
    print(table(found))


if __name__ == "__main__":
    main()
