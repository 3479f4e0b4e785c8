#!/usr/bin/env python3
"""Runs checks.py against the real `appliance` binary, which it starts once per group of checks.

    run.py --binary target/debug/appliance --venv .venv [--door proxy|native] [GROUP ...]

The checks go through two doors, at the same time: the proxy, and the listener of the first worker's own, where the worker's
HTTP parser reads what the clients send.

Every server gets free ports, a directory of its own and the configuration that its group asks for; it is stopped by its
process id, whatever happens. Checks that cannot pass yet stand in waivers.txt with a reason, those that need a proxy by
their nature in waivers-native.txt, and those that need greenlets in waivers-threads.txt; a waived check that passes is a failure, so that no list outlives its reasons. The last
line is "N passed, N failed, N waived"; the exit status is 0 if nothing failed. Never starts anything but the binary and checks.py, which must run under a Python that has `websockets`:
the one that runs this file.
"""
import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 60  # importing Tornado on a busy machine takes seconds, not tens of them
STOP_SECONDS = 40  # more than timeouts.graceful, 30 s by default
CHECKS_SECONDS = 300  # the longest group takes about one minute
POLL_SECONDS = 0.02
DOORS = ("proxy", "native")


@dataclass(frozen=True)
class Group:
    """One group of checks: the module in apps/ whose `application` it asks, how much runs at once and how, the name of the
    checks if it is not that of the group, a file in config/ and further settings, in which {peer}, {peer_rpc} and {udp} are
    ports, and the name of a second instance that the first one talks to."""

    module: str
    workers: int = 1
    cores: int = 100
    native: bool = False  # the application listens by itself, on KIT_NATIVE_BASE + worker id
    suspend: str = "greenlet"
    checks: str = ""
    config: str = ""
    settings: tuple = ()  # ("key", value) each
    peer: str = ""


GROUPS = {
    "seed_fetch": Group("seed_fetch"),
    "seed_fetch_workers": Group("seed_fetch", workers=2),
    "seed_sleeper": Group("seed_sleeper"),
    "seed_generator": Group("seed_generator"),
    "seed_postfork": Group("seed_postfork", workers=2, native=True, config="loop"),
    "api": Group("api", workers=2, config="api"),
    "api_remote": Group(
        "api", config="api_remote", peer="api_peer", settings=(("cache.sync.nodes", '["127.0.0.1:{udp}"]'),)
    ),
    "ws": Group("ws", cores=64),
    "wsgi": Group("wsgi"),
    "wsgi_threads": Group("wsgi", suspend="thread", checks="wsgi"),
    "loop": Group("loop", cores=8, config="loop"),
    "loop_stuck": Group("loop", cores=8, config="loop"),
    "loop_slow": Group("loop", cores=8, config="loop"),
    "events": Group("events", workers=2, cores=50, config="events"),
    "sys": Group("loop", workers=2, cores=20),
    "sys_harakiri": Group("loop", cores=20, settings=(("timeouts.request", "2s"),)),
    "sys_max": Group("loop", cores=20, settings=(("workers.max_requests", 10),)),
}

# Second instances, which no checks ask by themselves.
PEERS = {
    "api_peer": Group(
        "api",
        config="api_remote",
        settings=(
            ("cache.kit.listen", '["127.0.0.1:{peer}"]'),
            ("rpc.listen", '["127.0.0.1:{peer_rpc}"]'),
            ("cache.sync.udp", "127.0.0.1:{udp}"),
        ),
    ),
}


class Broken(Exception):
    """The server did not start or stop as it should; the text says what happened."""


# ------------------------------------------------------------------ the server


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base(count):
    """A port that is followed by `count` ports that nobody listens on, below the range the kernel gives to clients."""
    for _ in range(1000):
        base = random.randrange(10000, 32000)
        if all(is_free(port) for port in range(base + 1, base + 1 + count)):
            return base
    raise Broken(f"found no {count} free ports side by side")


def wait_for(condition, seconds, what):
    """Returns what `condition` returns once that is true; gives up after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Broken(f"{what} did not happen within {seconds} s")
        time.sleep(POLL_SECONDS)
    return result


class Server:
    """One running appliance; use it as a context manager."""

    def __init__(self, options, door, name, folder, peer=None):
        self.name, self.group = name, GROUPS.get(name) or PEERS[name]
        self.is_native_door, self.peer = door == "native", peer
        # Side by side: the application's own listeners, those of the engine, the backend, and for others to talk to it.
        workers = self.group.workers
        self.native_base = free_base(2 * workers + 4)
        self.door_base = self.native_base + workers
        self.backend_port = self.door_base + workers + 1
        self.ports = dict(zip(("peer", "peer_rpc", "udp"), range(self.backend_port + 1, self.backend_port + 4), strict=True))
        self.log = folder / f"{name}-{door}.log"
        self.command = [
            str(options.binary), "run", f"{self.group.module}:application",
            "--listen", "127.0.0.1:0", "--log-format", "json",
            "--workers", str(workers), "--cores", str(self.group.cores),
        ]  # fmt: skip
        settings = {
            "app.chdir": str(HERE / "apps"),
            "app.venv": str(options.venv),
            "admin.run_dir": str(folder / f"{name}-{door}"),
            "app.suspend": self.group.suspend,
            "app.env.KIT_BACKEND": f"http://127.0.0.1:{self.backend_port}/services",
            "app.env.KIT_NATIVE_BASE": str(self.native_base),
            "app.env.KIT_SLEEP": str(options.sleep),
            "app.env.KIT_WATCH": str(folder / f"{name}-{door}.watch"),
        }
        ports = (peer or self).ports
        for key, value in self.group.settings:
            settings[key] = value.format(**ports) if isinstance(value, str) else value
        if self.is_native_door:
            settings["native.base_port"] = self.door_base
        if self.group.config:
            self.command += ["--config", str(HERE / "config" / f"{self.group.config}.toml")]
        for key, value in settings.items():
            self.command += ["--set", f"{key}={value}"]

    def __enter__(self):
        # A folder without an appliance.toml, and no settings inherited from whoever runs the tests.
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith("APPLIANCE_") or key == "APPLIANCE_ENGINE"}  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.url = wait_for(self.announced_url, START_SECONDS, "the start (a log line with a url)")
            if self.group.native:
                self.wait_for_ports(self.native_base)
            if self.is_native_door:
                self.wait_for_ports(self.door_base)
                self.url = f"http://127.0.0.1:{self.door_base + 1}"
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def announced_url(self):
        """The public address, once the server has logged it."""
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                url = json.loads(line).get("url", "")
            except (ValueError, AttributeError):  # an application's own output, or a line that is not finished yet
                continue
            if url.startswith("http://"):
                return url
        if self.process.poll() is not None:
            raise Broken(f"the server ended with status {self.process.returncode} before it served")
        return None

    def wait_for_ports(self, base):
        """Waits until every worker takes connections on `base` + its id."""

        def all_answer():
            for worker in range(1, self.group.workers + 1):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", base + worker)) != 0:
                        return False
            return True

        wait_for(all_answer, START_SECONDS, f"listening on ports from {base + 1} on")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Broken(f"the server had not stopped {STOP_SECONDS} s after SIGTERM") from None
        if status != 0:
            raise Broken(f"the server ended with status {status} after SIGTERM, expected 0")


# ------------------------------------------------------------------ the checks


def known_checks():
    """The names of all checks."""
    known = subprocess.run([sys.executable, HERE / "checks.py", "--list"], capture_output=True, text=True, check=True)
    return {line.split()[1] for line in known.stdout.splitlines()}


def read_waivers(path, names):
    """{check: reason} from lines `check: reason`; everything after # and empty lines do not count."""
    waivers = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        name, _, reason = (part.strip() for part in line.partition(":"))
        if name not in names or not reason:
            sys.exit(f"{path}:{number}: write `check: reason`, with a check that `checks.py --list` prints, or GROUP.server")
        waivers[name] = reason
    return waivers


def run_checks(name, server, options):
    """Yields (check, None or why it failed) for each check of the group `name`."""
    command = [
        sys.executable, str(HERE / "checks.py"), server.group.checks or name, server.url,
        "--workers", str(server.group.workers), "--cores", str(server.group.cores), "--sleep", str(options.sleep),
        "--backend-port", str(server.backend_port), "--native-base", str(server.native_base),
        "--master-pid", str(server.process.pid),
    ]  # fmt: skip
    if server.peer:
        command += [
            "--peer-url", server.peer.url, "--peer-addr", f"127.0.0.1:{server.peer.ports['peer']}",
            "--peer-rpc-addr", f"127.0.0.1:{server.peer.ports['peer_rpc']}",
        ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=CHECKS_SECONDS, check=False)
    for line in result.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        if verdict == "ok":
            yield rest, None
        elif verdict == "FAIL":
            check, _, why = rest.partition(": ")
            yield check, why
    if result.returncode not in (0, 1) or result.stderr:
        yield f"{name}.checks", f"checks.py ended with status {result.returncode}: {result.stderr[-600:]}"


def judge(check, why, waivers):
    """The verdict on one result, and the line to print."""
    waiver = waivers.get(check)
    if why is None and waiver is None:
        return "passed", f"ok {check}"
    if why is None:
        return "failed", f"FAIL {check}: it passes; remove the waiver"
    if waiver is None:
        return "failed", f"FAIL {check}: {why}"
    return "waived", f"waived {check}: {waiver}"


def run_group(door, name, options, folder, waivers):
    """Prints the results of one group, all at once, and returns how many there were of each verdict."""
    peer = GROUPS[name].peer and Server(options, door, GROUPS[name].peer, folder)
    server = Server(options, door, name, folder, peer)
    results = []
    try:
        with peer or nullcontext(), server:
            results += [judge(check, why, waivers) for check, why in run_checks(name, server, options)]
    except (Broken, subprocess.TimeoutExpired) as problem:
        results.append(judge(f"{name}.server", str(problem), waivers))
    counts = Counter(verdict for verdict, _ in results)
    lines = [f"{name}, {door}:", *(f"  {line}" for _, line in results)]
    if counts["failed"] and options.tail:
        tail = server.log.read_text(errors="replace").splitlines()[-options.tail :]
        lines += [f"  the end of {server.log}:", *(f"     {line}" for line in tail)]
    print("\n".join(lines), flush=True)
    return counts


def run_door(door, options, folder):
    """Runs all groups that are wanted through one door; how many results of each verdict there were."""
    names = known_checks() | {f"{name}.server" for name in GROUPS}
    waivers = read_waivers(HERE / "waivers.txt", names)
    if door == "native":
        waivers |= read_waivers(HERE / "waivers-native.txt", names)
    with_threads = waivers | read_waivers(HERE / "waivers-threads.txt", names)
    counts = Counter()
    for name in options.groups or GROUPS:
        is_threaded = GROUPS[name].suspend == "thread"
        counts += run_group(door, name, options, folder, with_threads if is_threaded else waivers)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="default: all of " + ", ".join(GROUPS))
    parser.add_argument("--binary", type=Path, required=True, help="the appliance to test")
    parser.add_argument("--venv", type=Path, required=True, help="virtual environment of the applications")
    parser.add_argument("--door", choices=DOORS, help="where the checks ask (default: both)")
    parser.add_argument("--sleep", type=float, default=2, help="seconds that seed_sleeper waits (default: %(default)s)")
    parser.add_argument("--tail", type=int, default=15, help="log lines to show of a group that failed")
    options = parser.parse_args()
    options.binary, options.venv = options.binary.absolute(), options.venv.absolute()
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"{options.binary} is not there; build it with `make build`")
    if unknown := [name for name in options.groups if name not in GROUPS]:
        sys.exit(f"unknown group {unknown[0]}; the groups are {', '.join(GROUPS)}")

    folder = Path(tempfile.mkdtemp(prefix="appliance-kit-"))
    doors = [options.door] if options.door else DOORS
    with ThreadPoolExecutor(len(doors)) as pool:
        counts = sum(pool.map(lambda door: run_door(door, options, folder), doors), Counter())
    if counts["failed"]:
        print(f"logs in {folder}")
    else:
        shutil.rmtree(folder)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['waived']} waived")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
