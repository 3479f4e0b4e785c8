"""Awaitable forms of calls that wait: for asyncio and Tornado code, which must not keep the loop.

Each call runs on a core of its own, like a request, and suspends as it would in one. The modules beside this one give their
functions a second, awaitable form with `awaitable`, under the same name with an `a` before it: `rpc.call`, `rpc.acall`.
"""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from appliance import _engine

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def on_core(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
    """Calls `function` on a core of its own, and gives a future of its result: `await on_core(uwsgi.rpc, node, "f")`.

    It counts as a request: it waits for a free core and is bounded by `timeouts.request` (`TimeoutError`). If the future is
    cancelled, the call is ended where it waits.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    settle = functools.partial(_settle, future)
    context = contextvars.copy_context()

    def call() -> T | None:
        # Its task is told of a cancellation only in the loop's next turn.
        return None if future.cancelled() else context.run(function, *args, **kwargs)

    def deliver(result: Any, error: BaseException | None) -> None:
        if asyncio._get_running_loop() is loop:
            return settle(result, error)
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # that loop is closed, so nobody awaits it

    name = getattr(function, "__qualname__", None) or type(function).__name__
    task = _engine.begin(name, call, deliver)
    future.add_done_callback(lambda future: task.cancel() if future.cancelled() else None)
    return future


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, _engine.RequestTimeout):
        future.set_exception(TimeoutError(*error.args))
    elif isinstance(error, (_engine.ClientDisconnected, StopIteration)):
        # Neither may come out of an await as it is: the one ends a request, the other cannot be raised into a coroutine.
        late = RuntimeError(f"the call ended with {type(error).__name__}")
        late.__cause__ = error
        future.set_exception(late)
    else:
        future.set_exception(error)


def awaitable(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The awaitable form of a function or a method: `aget = awaitable(get)`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return on_core(function, *args, **kwargs)

    return named_after(function, call)


async def at_once_or_on_core(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """For a call that seldom has to wait, and raises `BlockingIOError` then on the loop; of the loop of another thread it is an
    error at once."""
    try:
        return call(*args, **kwargs)
    except (BlockingIOError, RuntimeError):
        return await on_core(call, *args, **kwargs)


def named_after(function: Callable[..., Any], call: F) -> F:
    """Gives an awaitable form its name and its words."""
    call.__name__ = f"a{function.__name__}"
    call.__qualname__ = f"{function.__qualname__.removesuffix(function.__name__)}{call.__name__}"
    call.__doc__ = f"The same as `{function.__name__}()`, to be awaited on the loop."
    return call
