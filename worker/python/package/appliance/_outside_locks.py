"""Locks where no server runs: those of this process."""

import select
import socket
import threading
import time

__all__ = ["LockTurn", "lock_acquire", "lock_is_held", "lock_release", "lock_turn"]

_mutex = threading.Lock()
_held: set[str | int] = set()
_waiting: dict[str | int, list["LockTurn"]] = {}


class LockTurn:
    """A place among those who wait for a lock."""

    def __init__(self, key: str | int) -> None:
        self._key = key
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        with _mutex:
            _waiting.setdefault(key, []).append(self)

    def fileno(self) -> int:
        """Readable when it is worth to try again."""
        return self._here.fileno()

    def take(self) -> bool:
        """Takes the lock, if it is free and this is the next one."""
        try:
            self._here.recv(4096)
        except BlockingIOError:
            pass
        with _mutex:
            is_next = _waiting[self._key][0] is self and self._key not in _held
            if is_next:
                _held.add(self._key)
            return is_next

    def leave(self) -> None:
        """Waits no more."""
        with _mutex:
            _waiting[self._key].remove(self)
            _call_next(self._key)
        self._here.close()
        self._there.close()

    def ring(self) -> None:
        try:
            self._there.send(b"!")
        except BlockingIOError:
            pass  # it has been rung often enough


def _call_next(key: str | int) -> None:
    for turn in _waiting.get(key, [])[:1]:
        turn.ring()


def lock_turn(key: str | int, /) -> LockTurn:
    """Joins those who wait for a lock."""
    return LockTurn(key)


def lock_acquire(key: str | int, timeout: float | None = None, /) -> bool:
    """Takes a lock by its number or name; false if it has not come within `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    turn = LockTurn(key)
    try:
        while not turn.take():
            pause = None if deadline is None else deadline - time.monotonic()
            if pause is not None and pause <= 0:
                return False
            select.select([turn], [], [], pause)
        return True
    finally:
        turn.leave()


def lock_release(key: str | int, /) -> None:
    """Gives a lock back."""
    with _mutex:
        _held.discard(key)
        _call_next(key)


def lock_is_held(key: str | int, /) -> bool:
    """Whether anybody holds a lock."""
    with _mutex:
        return key in _held
