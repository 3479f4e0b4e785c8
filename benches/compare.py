#!/usr/bin/env python3
"""Measures the CPU time that servers spend on a hello-world request, side by side, and prints a markdown table.

    make bench
    benches/.venv/bin/python benches/compare.py --binary target/release/appliance [--only nginx] [--rounds 5]

How it measures is told in measure.py, whom it measures in servers.py.
"""
from statistics import median

import servers
from measure import Load, parser, run, setting

PACKAGES = ("bjoern", "granian", "gunicorn", "uwsgi", "tornado")


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


def main():
    options = parser(__doc__.split("\n")[0], seconds=3)
    options.add_argument("--connections", type=int, default=32, help="kept busy at once (default: %(default)s)")
    options = options.parse_args()
    load = Load(options.connections)
    samples = run(servers.CONTENDERS, "hello", lambda route: options.only.lower() in route.name.lower(), [load], options)
    print(
        f"{setting(PACKAGES, ['nginx'])}; one worker each, {options.connections} connections, {options.rounds} rounds of about "
        f"{options.seconds:g} s."
    )
    print("", table({route: found for (_, route), found in samples.items()}), sep="\n")


if __name__ == "__main__":
    main()
