"""The engine's functions where no server runs: in tests, shells, `manage.py`. Everything happens in this process, at once.

Whatever is written here has the name, the arguments and the results of the function in the server's module `_appliance`.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from appliance import _outside_cache, _outside_locks, _outside_metrics, _outside_signals, _outside_websocket
from appliance._outside_cache import *
from appliance._outside_locks import *
from appliance._outside_metrics import *
from appliance._outside_signals import *
from appliance._outside_websocket import *

__all__ = [
    "ClientDisconnected",
    "RequestTimeout",
    "RpcError",
    "begin",
    "early_hints",
    "register_rpc",
    "rpc_call",
    "rpc_list",
    "sleep",
    "version",
    "wait",
]
__all__ += _outside_cache.__all__
__all__ += _outside_locks.__all__
__all__ += _outside_metrics.__all__
__all__ += _outside_signals.__all__
__all__ += _outside_websocket.__all__

T = TypeVar("T")

#: Of the server that this came with.
version = "0.1.0"


class ClientDisconnected(BaseException):
    """The client has left before it had its answer. Raised where a request waits, to end it."""


class RequestTimeout(BaseException):
    """The request has taken longer than it may. Raised wherever it is at that moment, to end it."""


def sleep(seconds: float, /) -> None:
    """This request waits; the others go on."""
    time.sleep(max(seconds, 0.0))


def wait(awaitable: Awaitable[T] | concurrent.futures.Future[T], timeout: float | None = None) -> T:
    """Waits for a coroutine or a future as for a blocking call; `TimeoutError` when `timeout` seconds have passed."""
    if isinstance(awaitable, concurrent.futures.Future):
        return _wait_for_pool(awaitable, timeout)

    async def limited() -> T:
        return await asyncio.wait_for(awaitable, timeout)

    try:
        return asyncio.run(limited())
    except asyncio.TimeoutError as error:
        raise TimeoutError(_late(timeout)) from error


def _wait_for_pool(future: concurrent.futures.Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except concurrent.futures.TimeoutError as error:
        if future.done():
            raise
        future.cancel()
        raise TimeoutError(_late(timeout)) from error


def _late(timeout: float | None) -> str:
    return f"what appliance.wait() waited for was not done after {timeout} s"


class Task:
    """A call that somebody awaits; here it runs on a thread."""

    def cancel(self) -> None:
        """Nobody waits for it any more; a thread cannot be ended."""


def begin(name: str, function: Callable[[], Any], deliver: Callable[[Any, BaseException | None], None]) -> Task:
    """Has `function()` called, and `deliver(result, exception)` with what came of it."""

    def run() -> None:
        try:
            result = function()
        except BaseException as error:
            deliver(None, error)
        else:
            deliver(result, None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return Task()


def early_hints(headers: Iterable[tuple[str, str]], /) -> None:
    """Sends `103 Early Hints`; there is nobody to send them to here."""
    list(headers)


class RpcError(Exception):
    """A procedure is not there, has failed, or cannot be reached."""


_procedures: dict[str, Callable[..., bytes | str]] = {}


def register_rpc(name: str | bytes, function: Callable[..., bytes | str], argc: int = 0, /) -> bool:
    """A function that others may call; here only this process can."""
    _procedures[_text(name)] = function
    return True


def rpc_list() -> tuple[bytes, ...]:
    """The names of all procedures."""
    return tuple(name.encode() for name in _procedures)


def rpc_call(node: str, name: str, args: tuple[bytes | str, ...]) -> bytes:
    """Calls a procedure; there are no other workers and servers here."""
    if node:
        raise RpcError(f"{node} can be called only in the server")
    if name not in _procedures:
        raise RpcError(f"there is no procedure {name!r} in this process")
    result = _procedures[name](*map(_bytes, args))
    if not isinstance(result, bytes | str):
        raise RpcError(f"the procedure {name!r} gave neither bytes nor text")
    return _bytes(result)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else memoryview(value).tobytes()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
