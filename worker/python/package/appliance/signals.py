"""What runs again and again, at certain times, or when something happens, in the workers:

    @appliance.every("30s")
    def refresh(): ...
    @appliance.cron("*/5 8-18 * * mon-fri")
    async def report(): ...
    @signals.on_change("/etc/app/flags.json", workers="all")
    def reread(): ...
    news = signals.handler(publish, workers="all"); news.send()

Each runs on a core like a request, and may wait like one. The appliance keeps the time, so whatever the number of its workers
it is one run, in any worker that has a core to spare; or one in each with `workers="all"`, or one in worker 3 with
`workers=3`. A run that is still going on is not joined by another one in the same worker; one more waits at most.
Register while the application is imported, so that every worker knows of it.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from appliance import _engine

__all__ = ["Signal", "cron", "every", "handler", "on_change"]

F = TypeVar("F", bound=Callable[[], Any])

#: Who runs it: any one worker, all of them, or the worker with this number.
Workers = Literal["any", "all"] | int

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


class Signal:
    """Calls a function in workers: `send()` has it run."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        #: uWSGI's number of it.
        self.number = number

    def send(self) -> None:
        """Has the function run, in whichever workers it is for. From any worker and any thread."""
        _engine.signal(self.number)


def handler(function: Callable[[], Any], *, workers: Workers = "any") -> Signal:
    """A signal, with the first number that is free, for which the function runs."""
    number = _engine.signal_free()
    _engine.register_signal(number, _target(workers), lambda _: function())
    return Signal(number)


def every(time: str | float, *, workers: Workers = "any") -> Callable[[F], F]:
    """Runs a function again and again: `@every("500ms")`, `@every("1h")`; a number is in seconds."""
    milliseconds = _milliseconds(time)

    def register(function: F) -> F:
        _engine.add_ms_timer(handler(function, workers=workers).number, milliseconds)
        return function

    return register


def cron(line: str, *, workers: Workers = "any") -> Callable[[F], F]:
    """Runs a function in the minutes that a line of a crontab means, in local time: minute, hour, day, month, weekday."""

    def register(function: F) -> F:
        _engine.add_crontab(handler(function, workers=workers).number, line)
        return function

    return register


def on_change(path: str, *, workers: Workers = "any") -> Callable[[F], F]:
    """Runs a function when a file is written, or another one takes its place."""

    def register(function: F) -> F:
        _engine.add_file_monitor(handler(function, workers=workers).number, path)
        return function

    return register


def _target(workers: Workers) -> str:
    if isinstance(workers, int):
        return f"worker{workers}"
    words = {"any": "worker", "all": "workers"}
    if workers not in words:
        raise ValueError(f'{workers!r} is no choice of workers: write "any", "all" or a number')
    return words[workers]


def _milliseconds(time: str | float) -> float:
    if not isinstance(time, str):
        return time * 1000
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f'{time!r} is no time: write a number with ms, s, m or h, such as "30s"')
    return float(match[1]) * _UNITS[match[2]]
