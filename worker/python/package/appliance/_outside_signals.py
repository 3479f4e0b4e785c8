"""Signals where no server runs: their handlers run at once, in whoever raises them; timers and files never do."""

from collections.abc import Callable
from typing import Any

__all__ = ["add_crontab", "add_file_monitor", "add_ms_timer", "register_signal", "signal", "signal_free"]

_handlers: dict[int, Callable[[int], Any]] = {}


def register_signal(number: int, target: str, function: Callable[[int], Any], /) -> None:
    """Has `function(number)` called when a signal is raised."""
    _handlers[number] = function


def signal(number: int, /) -> None:
    """Raises a signal."""
    if number in _handlers:
        _handlers[number](number)


def signal_known(number: int, /) -> bool:
    """Whether a signal has a handler; for uWSGI's calls."""
    return number in _handlers


def signal_free() -> int:
    """The first number that has no handler."""
    for number in range(256):
        if number not in _handlers:
            return number
    raise ValueError("all 256 signals have a handler already")


def add_ms_timer(number: int, milliseconds: float, /) -> None:
    """Raises a signal every so many milliseconds; no time passes here."""


def add_crontab(number: int, line: str, /) -> None:
    """Raises a signal in certain minutes; no time passes here."""


def add_file_monitor(number: int, path: str, /) -> None:
    """Raises a signal when a file changes; nobody watches it here."""
