"""Locks that all workers share. Whoever waits for one is suspended, and the others go on:

    with appliance.lock("report"):
        ...
    async with appliance.lock("report", timeout=5):
        ...
    @appliance.lock("report")                   # every call of it; also of an `async def`
    def write(): ...

A lock belongs to the request that took it: only once at a time, and it is free again when the request ends. What dies with
its worker is free again too. Locks have names of 64 bytes at most, which are never forgotten, so let there be few of them; or
numbers, which are uWSGI's.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from appliance._engine import lock_acquire, lock_is_held, lock_release, lock_turn

__all__ = ["lock"]

F = TypeVar("F", bound=Callable[..., Any])


class lock:
    """The lock with this name; with `timeout`, `with` raises `TimeoutError` when it has not come in so many seconds."""

    __slots__ = ("_key", "_timeout")

    def __init__(self, name: str | int, timeout: float | None = None) -> None:
        self._key = name
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"appliance.lock({self._key!r})"

    def acquire(self, timeout: float | None = None) -> bool:
        """Waits for it, in a request or a thread; false if it has not come within `timeout` seconds (0: at once)."""
        return lock_acquire(self._key, timeout)

    def release(self) -> None:
        """Gives it back."""
        lock_release(self._key)

    def locked(self) -> bool:
        """Whether anybody holds it, in any worker."""
        return lock_is_held(self._key)

    async def aacquire(self, timeout: float | None = None) -> bool:
        """The same for tasks of asyncio and callbacks of Tornado. It belongs to nobody then: release it whatever happens."""
        if lock_acquire(self._key, 0):
            return True
        loop, turn = asyncio.get_running_loop(), lock_turn(self._key)
        deadline = None if timeout is None else loop.time() + timeout
        rung = asyncio.Event()
        loop.add_reader(turn.fileno(), rung.set)
        try:
            while not turn.take():
                pause = 1.0 if deadline is None else min(1.0, deadline - loop.time())
                if pause <= 0:
                    return False
                rung.clear()
                try:
                    await asyncio.wait_for(rung.wait(), pause)
                except (TimeoutError, asyncio.TimeoutError):
                    pass
            return True
        finally:
            loop.remove_reader(turn.fileno())
            turn.leave()

    def __enter__(self) -> None:
        if not self.acquire(self._timeout):
            raise self._late()

    async def __aenter__(self) -> None:
        if not await self.aacquire(self._timeout):
            raise self._late()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __call__(self, function: F) -> F:
        """As a decorator: every call holds the lock, of an `async def` as long as it runs."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def locked_task(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return cast(F, locked_task)

        @functools.wraps(function)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast(F, locked)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{self!r} was not free within {self._timeout} s")
