#!/usr/bin/env python3
"""Measures native applications: the CPU time of a hello beside hyper on one current-thread runtime, and how a worker
serves a crowd whose requests wait 50 ms each. Prints markdown tables.

    make bench
    benches/.venv/bin/python benches/native.py --binary target/release/appliance [--only hello] [--rounds 5]

How it measures is told in measure.py. hyper is built from the folder hyper/, and a small application in C with cc.
"""
import subprocess
from statistics import median

import servers
from compare import table
from measure import Load, parser, run, setting

WAIT = 0.05
CROWD = 1000
HYPER = servers.HERE / "hyper"
INCLUDE = servers.HERE.parent / "packaging" / "include"
WAITS = f"""
#include <appliance.h>
static int32_t handle(void)
{{
    if (appliance_text(APPLIANCE_QUERY).length > 0 && appliance_sleep({int(WAIT * 1e6)}) < 0) return 1;
    return appliance_write("Hello, world!\\n", 14);
}}
APPLIANCE_APP(handle)
"""


def command(place, application, front, native_port, run_dir, cores):
    return [
        place.binary, "run", application, "--listen", front, "--workers", 1, "--cores", cores, "--native-base-port", native_port - 1,
        "--log-level", "warn", "--set", f"admin.run_dir={run_dir}", "--set", "log.access=false",
    ]  # fmt: skip


def hello(place):
    front, port, run_dir = place.tcp(), place.port(), place.folder / "hello"
    return servers.Contender(
        [command(place, "native:hello", front, port, run_dir, 100)],
        [
            servers.Route("native:hello, native listener", servers.ALONE, f"127.0.0.1:{port}"),
            servers.Route("native:hello, worker's unix socket", servers.ALONE, f"unix:{run_dir}/worker-1.sock"),
            servers.Route("native:hello, through its proxy", servers.FRONTED, front),
        ],
    )


def hyper(place):
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", HYPER / "Cargo.toml", "--target-dir", HYPER / "target"]
    subprocess.run(build, check=True)
    address = place.tcp()
    return servers.Contender([[HYPER / "target/release/hello-hyper", address]], [servers.Route("hyper", servers.ALONE, address)])


def waiting(place):
    source, library = place.folder / "waits.c", place.folder / "libwaits.so"
    source.write_text(WAITS)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-I", INCLUDE, "-o", library, source], check=True)
    front, port = place.tcp(), place.port()
    return servers.Contender(
        [command(place, library, front, port, place.folder / "waits", CROWD)],
        [servers.Route("waits in C, native listener", servers.ALONE, f"127.0.0.1:{port}")],
    )


def main():
    options = parser(__doc__.split("\n")[0], seconds=3)
    options = options.parse_args()

    def measured(makers, load):
        found = run(makers, "hello", lambda route: options.only.lower() in route.name.lower(), [load], options)
        return {route: samples for (_, route), samples in found.items()}

    print(f"{setting([], [])}; one worker each, {options.rounds} rounds of about {options.seconds:g} s.\n")
    print(table(measured([hello, hyper] if options.binary else [hyper], Load(32))))
    if not options.binary:
        return
    for route, samples in measured([waiting], Load(CROWD, "/?wait")).items():
        rate, ideal = median(sample.rate for sample in samples), CROWD / WAIT
        print(
            f"{route.name}, {CROWD} connections, {WAIT * 1000:.0f} ms each: {rate:,.0f} requests/s of {ideal:,.0f} ({rate / ideal:.0%}), "
            f"{median(sample.micros for sample in samples):.1f} CPU µs a request, p99 {median(sample.p99 for sample in samples) / 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()
