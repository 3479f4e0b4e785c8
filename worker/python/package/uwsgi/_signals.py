"""Signals, timers, procedures and locks of this process: a signal calls its handler at once, and what would fire later is
only written down, in `scheduled`."""

from typing import Any

from appliance._outside import RpcError, register_rpc, rpc_call, rpc_list
from appliance._outside_locks import lock_acquire, lock_is_held, lock_release
from appliance._outside_signals import register_signal, signal_known
from appliance._outside_signals import signal as raise_signal
from uwsgi._values import Data, as_bytes

__all__ = [
    "add_cron", "add_file_monitor", "add_ms_timer", "add_rb_timer", "add_timer", "call", "is_locked", "lock", "register_rpc",
    "register_signal", "rpc", "rpc_list", "scheduled", "signal", "signal_received", "signal_registered", "signal_wait",
    "unlock",
]  # fmt: skip

#: What was asked for with the calls add_...(): their arguments, and what was added first is first.
scheduled: list[tuple[Any, ...]] = []

_received = -1


def signal_registered(number: int, /) -> bool | None:
    """True or None."""
    return True if signal_known(number) else None


def signal(number: int, remote: str | None = None, /) -> None:
    """Calls the handler of a signal, if there is one."""
    global _received
    if remote is not None:
        raise OSError(f"{remote} can be signalled only in the server")
    _received = number
    raise_signal(number)


def signal_wait(number: int | None = None, /) -> bytes:
    """Waits for a signal: here all have come already."""
    return b""


def signal_received() -> int:
    """The signal that came last; -1 if none did."""
    return _received


def add_timer(number: int, seconds: float, /) -> None:
    """Raises a signal every so many seconds."""
    scheduled.append(("timer", number, seconds))


def add_rb_timer(number: int, seconds: float, iterations: int = 0, /) -> None:
    """The same, for so many times."""
    scheduled.append(("rb_timer", number, seconds, iterations))


def add_ms_timer(number: int, milliseconds: float, /) -> None:
    """The same by milliseconds."""
    scheduled.append(("ms_timer", number, milliseconds))


def add_cron(number: int, minute: int, hour: int, day: int, month: int, weekday: int, /) -> bool:
    """Raises a signal at these times; -1 is any, -N every N."""
    scheduled.append(("cron", number, minute, hour, day, month, weekday))
    return True


def add_file_monitor(number: int, path: str, /) -> None:
    """Raises a signal when a file changes."""
    scheduled.append(("file_monitor", number, path))


def call(name: Data, /, *args: bytes | str) -> bytes | None:
    """Calls a procedure of this process; None if there is no such, or if it gives nothing."""
    try:
        return rpc_call("", as_bytes(name).decode(), args) or None
    except RpcError:
        return None


def rpc(node: Data | None, name: Data, /, *args: bytes | str) -> bytes | None:
    """The same elsewhere: nobody can be reached from here."""
    return None if node else call(name, *args)


def lock(number: int = 0, /) -> None:
    """Waits for a lock, and takes it."""
    lock_acquire(number)


def unlock(number: int = 0, /) -> None:
    """Gives it back."""
    lock_release(number)


def is_locked(number: int = 0, /) -> bool:
    """Whether anybody has it."""
    return lock_is_held(number)
